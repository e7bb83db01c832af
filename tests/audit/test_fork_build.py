"""Two nodes' stores give the proof of their fork, and of who made it, also when much is gone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from consensus.messages import Content, Equivocation, Kind
from node.audit.build_chain import EvidenceUnavailable
from node.audit.fork import ForkSource, NoFork, build_equivocation, build_fork, find_fork
from node.audit.proofs import ForkProof, decode_proof
from node.audit.report import UNDECIDED, VALID, Report
from node.audit.verify_accountability import check_equivocation_proof, check_fork
from node.chain.build import build_report
from node.engine.prune import make_pruner
from node.storage.chain_store import ChainStore
from node.storage.config import Retention
from node.storage.horizon import load_horizon
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.epoch_chain import end_epoch, paid
from tests.support.epoch_links import vote
from tests.support.small_chain import VALID_UNTIL, SmallChain, issue
from tests.support.stored_chain import stored

ONE, OTHER = (0, 1, 2), (0, 1, 3)
"""Validators 0 and 1 lie: each side has one honest validator more, which makes a quorum of four."""
LIARS = [0, 1]
DAY_MS = 24 * 3600 * 1000


def common(epochs: int) -> SmallChain:
    chain = SmallChain()
    chain.add(issue(chain, 1000))
    for _ in range(epochs):
        end_epoch(chain, carriers=1)
    chain.add(paid(chain, 1))
    return chain


def same_view(one: SmallChain, other: SmallChain) -> None:
    one.add(paid(one, 2), signers=ONE)
    other.add(paid(other, 3), signers=OTHER)


def by_nullification(one: SmallChain, other: SmallChain) -> None:
    one.add(paid(one, 2), signers=ONE)
    other.add(paid(other, 3), skip_views=1, signers=OTHER)


def by_notarizations(one: SmallChain, other: SmallChain) -> None:
    one.add(paid(one, 2), signers=ONE)
    other.add(paid(other, 3), signers=OTHER, final=False)
    other.add(signers=OTHER)


def late_finality(one: SmallChain, other: SmallChain) -> None:
    """Neither side finalizes where they part, but some blocks later."""
    one.add(paid(one, 2), signers=ONE, final=False)
    one.add(signers=ONE, final=False)
    one.add(signers=ONE)
    other.add(paid(other, 3), skip_views=4, signers=OTHER, final=False)
    other.add(signers=OTHER)


def at_a_seal(one: SmallChain, other: SmallChain) -> None:
    """One side goes over into the next epoch, the other goes on in this one."""
    end_epoch(one, carriers=2, signers=ONE)
    one.add(paid(one, 2))
    for number in range(5):
        other.add(paid(other, 3 + number), signers=OTHER, skip_views=number)


CASES: dict[str, Callable[[SmallChain, SmallChain], None]] = {
    "same view": same_view,
    "nullification": by_nullification,
    "notarizations": by_notarizations,
    "late finality": late_finality,
    "seal": at_a_seal,
}


def parted(case: str, epochs: int) -> tuple[SmallChain, SmallChain]:
    one, other = common(epochs), common(epochs)
    CASES[case](one, other)
    return one, other


@cache
def parted_stores(case: str, epochs: int, blocks: int = 0) -> tuple[ChainStore, ChainStore]:
    """The same, in real stores. Each side goes on for so many blocks: its floor is far above."""
    one, other = parted(case, epochs)
    for chain, signers in ((one, ONE), (other, OTHER)):
        for _ in range(blocks):
            chain.add(signers=signers)
    return stored(one, MemoryStore()), stored(other, MemoryStore())


def proven(*sources: ForkSource) -> Report:
    genesis = world.genesis()
    return check_fork(build_fork(sources, genesis), genesis)


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("case", CASES)
def test_the_proof_names_the_liars_and_nobody_else(case: str, epochs: int) -> None:
    for sources in (parted_stores(case, epochs), parted_stores(case, epochs)[::-1]):
        report = proven(*sources)
        assert report.verdict == VALID, report.text()
        assert [culprit.validator for culprit in report.culprits] == LIARS
        assert {culprit.epoch for culprit in report.culprits} == {epochs}


@pytest.mark.parametrize("case", ["same view", "nullification", "notarizations", "late finality"])
def test_it_is_found_with_floors_far_above(case: str) -> None:
    one, other = parted_stores(case, 1, 40)
    floor = one.floor()
    assert floor is not None
    assert floor.info.height - (find_fork(one, other) or 0) >= 40
    report = proven(one, other)
    assert [culprit.validator for culprit in report.culprits] == LIARS, report.text()


@pytest.mark.parametrize("case", ["nullification", "notarizations"])
def test_it_is_found_after_pruning(case: str) -> None:
    """Blocks, outcomes and states are gone; headers, history and certificates never go."""
    stores = []
    for chain, signers in zip(parted(case, 1), (ONE, OTHER), strict=True):
        height = chain.tip.height
        chain.add(signers=signers, after_ms=400 * DAY_MS)
        chain.add(signers=signers)
        kv = MemoryStore()
        store = stored(chain, kv)
        pruner = make_pruner(Retention("pruned", 100), store, kv)
        assert pruner is not None
        while pruner.step():
            pass
        assert load_horizon(kv).blocks > height
        assert store.block(height) is None
        stores.append(store)
    report = proven(*stores)
    assert [culprit.validator for culprit in report.culprits] == LIARS, report.text()


def test_where_chains_part_is_found_wherever_it_is() -> None:
    for common_blocks in range(9):
        for more in (1, 2, 5):
            one, other = SmallChain(), SmallChain()
            for chain in (one, other):
                for _ in range(common_blocks):
                    chain.add()
            for _ in range(more):
                one.add()
            other.add(skip_views=1)
            assert find_fork(one, other) == find_fork(other, one) == common_blocks + 1


def test_chains_that_agree_have_no_fork() -> None:
    one, other = common(1), common(1)
    other.add()
    assert find_fork(one, other) is None
    with pytest.raises(NoFork, match="agree up to height 4"):
        build_fork([one, other, common(1)], world.genesis())
    with pytest.raises(EvidenceUnavailable, match="two chains"):
        build_fork([one, SmallChain(world.genesis(7))], world.genesis())


def test_what_one_store_lacks_another_one_gives() -> None:
    one, other = parted("nullification", 0)
    other.passed.clear()
    report = proven(one, other)
    assert (report.verdict, report.culprits) == (UNDECIDED, [])
    assert "Lacking are those of the lower view" in report.text()
    _, third = parted("nullification", 0)
    report = proven(one, other, third)
    assert [culprit.validator for culprit in report.culprits] == LIARS, report.text()


def test_where_the_first_views_certificates_are_lost_those_of_a_later_one_serve() -> None:
    one, other = common(0), common(0)
    by_nullification(one, other)
    for chain, signers in ((one, ONE), (other, OTHER)):
        chain.add(signers=signers)
        chain.add(signers=signers)
    other.passed = {
        place: each for place, each in other.passed.items() if place[2] is not Kind.NULLIFY
    }
    report = proven(one, other)
    assert [culprit.validator for culprit in report.culprits] == LIARS, report.text()


def test_a_proof_has_no_certificate_that_it_does_not_need() -> None:
    one, other = parted_stores("nullification", 0, 40)
    proof = decode_proof(build_fork([one, other], world.genesis()), ForkProof)
    assert [each.kind for each in proof.certificates] == [Kind.NULLIFY]
    same = decode_proof(build_fork(parted_stores("same view", 0), world.genesis()), ForkProof)
    assert same.certificates == ()


def test_the_same_stores_give_the_same_bytes() -> None:
    for case in CASES:
        sources = parted_stores(case, 0)
        assert build_fork(sources, world.genesis()) == build_fork(sources, world.genesis())


def without_header(chain: SmallChain) -> None:
    chain.add(signers=OTHER)
    chain.blocks.pop(3)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without_header, "header 3 is not stored here"),
        (lambda c: c.history.pop((0, 2)), "the history leaf of block 2 is not stored here"),
        (lambda c: c.finalizations.clear(), "a finalization of block 3 or above"),
        (lambda c: c.blocks.clear(), "the store holds no chain"),
    ],
)
def test_a_missing_part_of_a_store_is_named(
    damage: Callable[[SmallChain], object], words: str
) -> None:
    one, other = parted("same view", 0)
    damage(other)
    with pytest.raises(EvidenceUnavailable, match=words):
        build_fork([one, other], world.genesis())


# --- one validator's equivocation -------------------------------------------------------------


def pair(epoch: int, voter: int) -> Equivocation:
    return Equivocation(
        vote(voter, 9, Kind.FINALIZE, Content(1, bytes(32)), epoch=epoch),
        vote(voter, 9, Kind.NULLIFY, epoch=epoch),
    )


def test_what_the_ledger_or_the_node_holds_against_a_validator_is_made_a_proof() -> None:
    chain = common(1)
    chain.witnessed.append(pair(1, 3))
    chain.add(
        build_report(
            chain.genesis.chain_id,
            world.CENTRALBANK.lei,
            "EQ-1",
            VALID_UNTIL,
            first=pair(1, 2).first,
            second=pair(1, 2).second,
            node=world.node_signer(0),
        )
    )
    store = stored(chain, MemoryStore())
    for voter in (2, 3):
        report = check_equivocation_proof(build_equivocation(store, 1, 9, voter), chain.genesis)
        assert report.verdict == VALID, report.text()
        assert [culprit.name for culprit in report.culprits] == [f"node{voter}"]
    with pytest.raises(EvidenceUnavailable, match="no equivocation of validator 1"):
        build_equivocation(store, 1, 9, 1)
