"""Proofs of a balance and of an absence: what they show, and that nothing else passes for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from node.audit.build_chain import EvidenceTooLarge, EvidenceUnavailable
from node.audit.build_state import NotCovered, UetrUsed, build_absence, build_balance
from node.audit.dossier import ProvenBlock
from node.audit.note import Checkpoint, origin_of
from node.audit.proofs import tag_of
from node.audit.report import FAIL, INVALID, UNDECIDED, VALID, AbsenceFacts, BalanceFacts, Report
from node.audit.state_proofs import (
    AbsenceProof,
    BalanceProof,
    StateProof,
    decode_state_proof,
    encode_state_proof,
)
from node.audit.verify import KINDS, check_dossier, verify_file
from node.audit.verify_checkpoint import Pin
from node.chain.block import header_digest
from node.chain.types import AccountKind
from node.chain.uetr_tree import PAGE_UETRS, sorted_uetrs
from tests.support import days, world
from tests.support.forge_state import absent
from tests.support.ledger_world import DAY_MS, HOUR_MS
from tests.support.mutations import exchanged, mutants
from tests.support.small_chain import sample
from tests.support.state_forgeries import (
    FORGED_ABSENCES,
    FORGED_BALANCES,
    FORGED_FINALITY,
    header_at,
    page,
    paged,
    sets,
)
from tests.support.state_world import (
    ABSENCES,
    BALANCES,
    UNUSED,
    StateWorld,
    absence,
    absence_bytes,
    balance,
    balance_bytes,
    state_world,
)

FLIPS = 800
"""Flipped bits of each file."""


def checked(proof: StateProof | bytes, pin: Pin | None = None) -> Report:
    data = proof if isinstance(proof, bytes) else encode_state_proof(proof)
    return KINDS.get(tag_of(data), check_dossier)(data, state_world().members.genesis, pin)


def failures(report: Report) -> set[str]:
    return {line.check for line in report.lines if line.result == FAIL}


# --- what they show ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", BALANCES)
def test_a_balance_is_the_ledgers_at_that_height(name: str) -> None:
    made, (participant, asset, kind, height) = state_world(), BALANCES[name]
    report = verify_file(balance_bytes(name), made.members.genesis_bytes)
    assert (report.verdict, report.kind, report.status) == (VALID, "balance", None), report.text()
    facts = report.state
    assert isinstance(facts, BalanceFacts)
    assert facts.height == (made.chain.state.height if height is None else height)
    assert (facts.participant, facts.currency) == (made.lei(participant), asset)
    assert facts.checkpoint_height == made.chain.state.height
    assert facts.exists is (not name.startswith(("none", "at the beginning")))
    if height is None and facts.exists:
        assert facts.balance_minor == made.chain.state.balance(made.lei(participant), asset, kind)


@pytest.mark.parametrize("name", ABSENCES)
def test_an_absence_covers_at_least_the_period(name: str) -> None:
    report = verify_file(absence_bytes(name), state_world().members.genesis_bytes)
    assert (report.verdict, report.kind, report.status) == (VALID, "absence", None), report.text()
    facts, (_, start, end) = report.state, ABSENCES[name]
    assert isinstance(facts, AbsenceFacts)
    assert start is None or facts.after_time < start
    assert end is None or facts.through_time >= end - 1
    assert facts.last_height > facts.first_height > 0
    assert any(line.check == "cycles" for line in report.lines)


def test_the_sets_of_the_sample_have_many_pages_one_and_none() -> None:
    counts = [tree.count for tree in state_world().trees]
    assert counts == [200, 0, 30]
    assert counts[0] > 3 * PAGE_UETRS


def test_every_uetr_of_the_ledger_is_found_and_none_beside_them() -> None:
    made = state_world()
    for record in made.trees:
        used = sorted_uetrs(made.chain.uetrs_between(record.after, record.through))
        for each in used[::17]:
            with pytest.raises(UetrUsed, match="an outcome of block"):
                build_absence(made.store, each)
            beside = (int.from_bytes(each, "big") + 1).to_bytes(16, "big")
            assert checked(build_absence(made.store, beside)).verdict == VALID


# --- what cannot be shown -----------------------------------------------------------------------

LAST_CLOSE = days.opening(2) + 11 * HOUR_MS


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        (None, LAST_CLOSE + 2, "the rest of the period, up to .* is in none yet"),
        (None, days.opening(9), "reach to block 22 at"),
        (days.opening(9), None, "reach to block 22 at"),
        (days.opening(0) - HOUR_MS, None, "what was before, from .* no set shows"),
        (days.opening(1), days.opening(1), "ends before it begins"),
        (days.opening(2), days.opening(1), "ends before it begins"),
    ],
)
def test_what_no_set_covers_is_named(start: int | None, end: int | None, why: str) -> None:
    with pytest.raises(NotCovered, match=why):
        build_absence(state_world().store, UNUSED, start, end)


def test_a_period_takes_the_sets_that_it_touches_and_no_others() -> None:
    def numbers(start: int | None, end: int | None) -> list[int]:
        made = build_absence(state_world().store, UNUSED, start, end)
        report = checked(made)
        assert isinstance(report.state, AbsenceFacts)
        records = state_world().trees
        first = next(n for n, r in enumerate(records) if r.after + 1 == report.state.first_height)
        last = next(n for n, r in enumerate(records) if r.through == report.state.last_height)
        return list(range(first, last + 1))

    close = [tree.through_time for tree in state_world().trees]
    assert numbers(None, LAST_CLOSE + 1) == [0, 1, 2]
    assert numbers(close[0], close[0] + 1) == [0]
    assert numbers(close[0] + 1, close[1] + 1) == [1]
    assert numbers(close[0], close[1] + 2) == [0, 1, 2]
    assert numbers(close[1] + 1, None) == [2]
    assert numbers(days.opening(1), days.opening(1) + DAY_MS) == [1, 2]


def test_a_ledger_without_days_commits_no_sets() -> None:
    with pytest.raises(NotCovered, match="no schedule was in force"):
        build_absence(sample(), UNUSED)


def test_a_node_that_lacks_a_state_or_outcomes_says_so() -> None:
    made = StateWorld()
    made.chain.add(made.issue("issue", "BANKA", 1))
    made.chain.add(made.issue("more", "BANKA", 1))
    lei, old = made.lei("BANKA"), made.chain.header(1)
    assert old is not None
    made.chain.nodes.pop(old.state_root)
    with pytest.raises(EvidenceUnavailable, match="the state of height 1 is not whole here"):
        build_balance(made.chain, lei, "EUR", AccountKind.SETTLEMENT, 1)
    assert build_balance(made.chain, lei, "EUR", AccountKind.SETTLEMENT)
    made.chain.blocks.pop(1)
    with pytest.raises(EvidenceUnavailable, match="header 1 is not stored here"):
        build_balance(made.chain, lei, "EUR", AccountKind.SETTLEMENT, 1)


class Lacking:
    """A chain's store that lost the outcomes of a block, or has others."""

    def __init__(self, height: int, instead: list[bytes] | None) -> None:
        self._height, self._instead = height, instead

    def outcomes(self, height: int) -> list[bytes] | None:
        return self._instead if height == self._height else state_world().chain.outcomes(height)

    def __getattr__(self, name: str) -> object:
        return getattr(state_world().chain, name)


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        (None, "the outcomes of block 4 is not stored here"),
        ([], "name other UETRs than the state says"),
        ([b"\x90"], "the outcomes of block 4 are stored damaged"),
    ],
)
def test_outcomes_that_are_lost_or_damaged_prove_nothing(
    instead: list[bytes] | None, why: str
) -> None:
    store: object = Lacking(4, instead)
    with pytest.raises(EvidenceUnavailable, match=why):
        build_absence(store, UNUSED)  # type: ignore[arg-type]


# --- a checkpoint of the reader's own -----------------------------------------------------------


def pin(height: int, digest: bytes | None = None, root: bytes | None = None) -> Pin:
    genesis, header = state_world().members.genesis, header_at(height)
    origin = origin_of(genesis.network, genesis.chain_id)
    checkpoint = Checkpoint(
        origin, height, root or header.history_root, digest or header_digest(header)
    )
    return Pin(checkpoint, (), 0)


def test_a_checkpoint_of_the_reader_is_compared() -> None:
    made = state_world()
    top = made.chain.state.height
    for proof in (balance("of an ended epoch"), absence("ever")):
        assert checked(proof, pin(top)).verdict == VALID
        assert failures(checked(proof, pin(top, digest=bytes(32)))) == {"pinned"}
        assert failures(checked(proof, pin(top, root=bytes(32)))) == {"pinned"}
        assert checked(proof, pin(7)).verdict == UNDECIDED
    assert checked(balance("of an ended epoch"), pin(4)).verdict == VALID
    assert checked(absence("ever"), pin(6)).verdict == VALID  # the sealing block


# --- forgeries: each with the one check that refuses it -----------------------------------------


@pytest.mark.parametrize("what", FORGED_ABSENCES)
def test_a_forged_absence_fails_the_one_check(what: str) -> None:
    report = checked(FORGED_ABSENCES[what]())
    assert (report.verdict, failures(report)) == (INVALID, {"absence"}), report.text()
    assert report.state is None


def test_the_forgers_own_sets_would_pass() -> None:
    assert checked(sets()).verdict == VALID
    assert checked(paged(page(0), page(1))).verdict == VALID
    assert checked(paged(page(3), asked=absent(500))).verdict == VALID
    assert checked(paged(page(0), asked=bytes(16))).verdict == VALID


@pytest.mark.parametrize("what", FORGED_BALANCES)
def test_a_forged_balance_fails_the_one_check(what: str) -> None:
    report = checked(FORGED_BALANCES[what]())
    assert (report.verdict, failures(report)) == (INVALID, {"balance"}), report.text()


@pytest.mark.parametrize("what", FORGED_FINALITY)
def test_blocks_that_are_not_shown_to_be_final_are_refused(what: str) -> None:
    check, make = FORGED_FINALITY[what]
    report = checked(make())
    assert (report.verdict, failures(report)) == (INVALID, {check}), report.text()


def test_an_absence_stands_in_the_checkpoint_alone() -> None:
    older = ProvenBlock(header_at(23), None, ())
    report = checked(replace(absence("ever"), blocks=(older, *absence("ever").blocks)))
    assert failures(report) == {"history"}


def test_another_chains_genesis_and_lacking_epochs_are_refused() -> None:
    for data in (balance_bytes("settlement"), absence_bytes("ever")):
        assert "chain" in failures(verify_file(data, world.genesis_bytes()))
    without = replace(balance("settlement"), epochs=())
    assert "validators" in failures(checked(without))


@pytest.mark.parametrize("name", ["settlement", "none"])
def test_without_finality_nothing_is_decided(name: str) -> None:
    report = checked(replace(balance(name), finality=None))
    assert (report.verdict, failures(report), report.state) == (UNDECIDED, set(), None)
    report = checked(replace(absence("ever"), finality=None))
    assert report.verdict == UNDECIDED


# --- anything else ------------------------------------------------------------------------------


def claim(data: bytes) -> object:
    """What a file is about. A proof of absence holds for all that would stand in the same place,
    and with fewer trees for fewer blocks: true, and the verifier says of what."""
    tag = data[2 : 2 + (data[1] & 0x1F)]
    if tag.startswith(b"absence"):
        proof = decode_state_proof(data, AbsenceProof)
        return proof.uetr, proof.trees[0].number, proof.trees[-1].number
    made = decode_state_proof(data, BalanceProof)
    return made.participant, made.asset, made.account


FILES: dict[str, Callable[[], bytes]] = {
    "a balance": lambda: balance_bytes("settlement"),
    "an old balance": lambda: balance_bytes("of an ended epoch"),
    "no account": lambda: balance_bytes("none in an ended epoch"),
    "an absence": lambda: absence_bytes("ever"),
    "an idle day": lambda: absence_bytes("an idle day"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_or_speaks_of_something_else_that_is_true(name: str) -> None:
    data = FILES[name]()
    step = len(data) * 8 // FLIPS
    others = 0
    for position in range(3, len(data) * 8, step):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        report = checked(bytes(flipped))
        if report.verdict != INVALID:
            assert report.verdict == VALID
            assert claim(bytes(flipped)) != claim(data)
            others += 1
    assert others <= FLIPS // 10


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_element_is_refused_or_speaks_of_something_else_that_is_true(name: str) -> None:
    data = FILES[name]()
    seen = 0
    for each in mutants(data):
        if each.data == data:
            continue
        report = checked(each.data)
        seen += 1
        if report.verdict == VALID:
            assert claim(each.data) != claim(data), each
        elif report.verdict == UNDECIDED:
            assert each.at in {(3,), ()}, each  # without the finality
    assert seen > 300


def test_a_period_with_too_many_uetrs_is_refused_before_they_are_read() -> None:
    with pytest.raises(EvidenceTooLarge, match=r"230 UETRs were used, .* from at most 200 here"):
        build_absence(state_world().store, UNUSED, most=200)
    assert build_absence(state_world().store, UNUSED, most=230) == absence_bytes("ever")


def test_a_field_of_another_proof_is_refused_or_makes_it_that_proof() -> None:
    balances, absences = map(balance_bytes, BALANCES), map(absence_bytes, ABSENCES)
    seen = 0
    for files in (tuple(balances), tuple(absences)):
        for data in files:
            for other in files:
                for each in exchanged(data, other):
                    seen += 1
                    if checked(each.data).verdict == VALID:
                        assert claim(each.data) != claim(data), each
    assert seen > 60
