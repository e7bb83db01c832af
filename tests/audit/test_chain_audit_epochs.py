"""A replay judges each block and certificate by the validators that the replay itself made."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from consensus.messages import Content, Equivocation, Kind
from node.audit.chain_audit import AuditReport, audit_chain
from node.audit.report import INVALID, VALID
from node.chain.block import encode_block, header_digest, inspect_block
from node.chain.build import build_report
from node.chain.types import ValidatorSet
from tests.support import world
from tests.support.epoch_chain import sample_of_epochs
from tests.support.epoch_links import vote
from tests.support.small_chain import VALID_UNTIL, Sealed, SmallChain
from tests.support.world import CENTRALBANK

FLIPPED = bytes((1,)) + bytes(31)
SEALS = {0: 4, 1: 7, 2: 10}
"""Epoch → height of its sealing block, in the sample chain of epochs."""


def audited(change: Callable[[SmallChain], object] = lambda _: None) -> AuditReport:
    chain = copy.copy(sample_of_epochs())
    for name in ("blocks", "finalizations", "passed", "seals", "witnessed"):
        setattr(chain, name, copy.copy(getattr(chain, name)))
    change(chain)
    return audit_chain(chain, world.genesis_bytes())


def found(change: Callable[[SmallChain], object]) -> tuple[int, str]:
    """(height, field) of the finding after this change."""
    report = audited(change)
    assert report.verdict == INVALID, report.text()
    assert report.finding is not None
    return report.finding.height, report.finding.where


def set_of(epoch: int) -> ValidatorSet:
    validators = sample_of_epochs().state.validator_set_of(epoch)
    assert validators is not None
    return validators


def test_a_chain_of_several_epochs_is_sound() -> None:
    report = audited()
    assert report.verdict == VALID, report.text()
    assert (report.height, report.epochs) == (12, 4)
    assert "4 epoch(s)" in report.text()
    assert {e: s.height for e, s in sample_of_epochs().seals.items()} == SEALS


# --- the end of an epoch ----------------------------------------------------------------------


def sealed(chain: SmallChain, epoch: int, **fields: object) -> None:
    seal = chain.seals[epoch]
    changed = {name: getattr(seal, name) for name in ("height", "carriers", "finalization")}
    chain.seals[epoch] = Sealed(**(changed | fields))


def carried(chain: SmallChain, epoch: int, number: int, **fields: object) -> None:
    """Another carrier, finalized if it is the last."""
    carriers = list(chain.seals[epoch].carriers)
    header = replace(inspect_block(carriers[number]).header, **fields)
    carriers[number] = encode_block(header, ())
    content = Content(header.view - 1, header_digest(header))
    certificate = chain.certificate(set_of(epoch), header.view, Kind.FINALIZE, content)
    chain.finalizations[SEALS[epoch]] = certificate
    sealed(chain, epoch, carriers=tuple(carriers), finalization=certificate)


def certified_by(chain: SmallChain, epoch: int, other: int) -> None:
    """The end of an epoch, signed for by the validators of another one."""
    own = chain.seals[epoch].finalization
    members = set_of(other)
    forged = chain.certificate(members, own.view, own.kind, own.content)
    votes = tuple(
        (i, vote(i, own.view, own.kind, own.content, epoch=epoch, signing_epoch=other).signature)
        for i, _ in forged.signatures
    )
    forged = replace(own, signatures=votes)
    chain.finalizations[SEALS[epoch]] = forged
    sealed(chain, epoch, finalization=forged)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda c: c.seals.pop(1), (7, "seal")),
        (lambda c: sealed(c, 1, height=6), (7, "seal.height")),
        (lambda c: sealed(c, 1, carriers=()), (7, "certificate.view")),
        (
            lambda c: sealed(c, 1, carriers=c.seals[1].carriers[::-1]),
            (7, "seal.carriers[0].parent"),
        ),
        (lambda c: sealed(c, 1, carriers=c.seals[1].carriers[1:]), (7, "seal.carriers[0].parent")),
        (lambda c: sealed(c, 1, carriers=(b"junk",)), (7, "seal.carriers[0]")),
        (
            lambda c: sealed(c, 2, carriers=(c.blocks[10],)),
            (10, "seal.carriers[0].parent"),
        ),
        (lambda c: carried(c, 2, 0, height=11), (10, "seal.carriers[0].height")),
        (lambda c: carried(c, 2, 0, timestamp=1), (10, "seal.carriers[0].timestamp")),
        (lambda c: carried(c, 1, 1, state_root=FLIPPED), (7, "seal.carriers[1].state_root")),
        (lambda c: certified_by(c, 1, 0), (7, "certificate.signatures")),
        (lambda c: certified_by(c, 0, 1), (4, "certificate.signatures")),
        (
            lambda c: c.finalizations.__setitem__(7, c.finalizations[4]),
            (7, "certificate"),
        ),
        (lambda c: c.seals.__setitem__(3, c.seals[2]), (12, "end of epoch 3")),
    ],
)
def test_how_an_epoch_ended_is_checked(
    change: Callable[[SmallChain], object], where: tuple[int, str]
) -> None:
    assert found(change) == where


@pytest.mark.parametrize(
    ("at", "fields", "where"),
    [
        (5, {"epoch": 0}, "header.epoch"),
        (5, {"validator_set": FLIPPED}, "header.validator_set"),
        (5, {"view": 0, "proposer": 1}, "header.view"),
        (7, {"next_validator_set": FLIPPED}, "header.next_validator_set"),
        (6, {"next_validator_set": FLIPPED}, "header.next_validator_set"),
    ],
)
def test_epoch_fields_of_every_header_are_recomputed(
    at: int, fields: dict[str, object], where: str
) -> None:
    def rewrite(chain: SmallChain) -> None:
        block = inspect_block(chain.blocks[at])
        chain.blocks[at] = encode_block(replace(block.header, **fields), block.instructions)

    assert found(rewrite) == (at, where)


def test_a_block_signed_for_by_the_old_validators_is_found() -> None:
    """Node 0 left with epoch 1: its vote is worth nothing in epoch 2, nor is its old index."""

    def sign(chain: SmallChain) -> None:
        own = chain.finalizations[12]
        votes = tuple(
            (i, vote(i, own.view, own.kind, own.content, epoch=3, signing_epoch=1).signature)
            for i, _ in own.signatures
        )
        chain.finalizations[12] = replace(own, signatures=votes)

    assert found(sign) == (12, "certificate.signatures")


# --- what is stored beside --------------------------------------------------------------------


def stored(chain: SmallChain, epoch: int, view: int, kind: Kind, block: bytes | None) -> None:
    content = None if block is None else Content(view - 1, block)
    chain.passed[epoch, view, kind] = chain.certificate(set_of(epoch), view, kind, content)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (
            lambda c: stored(c, 0, 1, Kind.NULLIFY, None),
            (1, "nullify certificate of view 1"),
        ),
        (
            lambda c: stored(c, 1, 5, Kind.NULLIFY, None),
            None,
        ),
        (
            lambda c: stored(c, 1, 6, Kind.NULLIFY, None),
            (7, "nullify certificate of view 6"),
        ),
        (
            lambda c: stored(c, 0, 2, Kind.NOTARIZE, FLIPPED),
            (2, "notarize certificate of view 2, block"),
        ),
        (
            lambda c: stored(c, 1, 5, Kind.NOTARIZE, FLIPPED),
            (7, "notarize certificate of view 5, block"),
        ),
        (
            lambda c: c.passed.__setitem__(
                (1, 1, Kind.NULLIFY),
                replace(
                    c.passed[1, 1, Kind.NULLIFY],
                    signatures=c.passed[1, 1, Kind.NULLIFY].signatures[:2],
                ),
            ),
            (5, "nullify certificate of view 1.signatures"),
        ),
        (
            lambda c: c.passed.__setitem__((1, 2, Kind.NOTARIZE), c.passed[0, 1, Kind.NOTARIZE]),
            (5, "notarize certificate of view 1.epoch"),
        ),
    ],
)
def test_stored_certificates_hold_and_contradict_nothing_that_is_final(
    change: Callable[[SmallChain], object], where: tuple[int, str] | None
) -> None:
    """A view that was left by nullification may have been notarized too: that is no fault."""
    if where is None:
        assert audited(change).verdict == VALID
    else:
        assert found(change) == where


def equivocation(epoch: int = 1, *, other: bytes = FLIPPED, voter: int = 2) -> Equivocation:
    return Equivocation(
        vote(voter, 9, Kind.FINALIZE, Content(1, bytes(32)), epoch=epoch),
        vote(voter, 9, Kind.FINALIZE, Content(1, other), epoch=epoch),
    )


@pytest.mark.parametrize(
    ("evidence", "where"),
    [
        (equivocation(other=bytes(32)), "equivocation 0 of the node.second"),
        (equivocation(epoch=7), "equivocation 0 of the node"),
        (
            replace(equivocation(), second=replace(equivocation().second, signature=bytes(64))),
            "equivocation 0 of the node.second.signature",
        ),
        (
            replace(equivocation(), first=replace(equivocation().first, voter=3)),
            "equivocation 0 of the node.first.signature",
        ),
    ],
)
def test_nobody_is_accused_without_proof(evidence: Equivocation, where: str) -> None:
    assert found(lambda c: c.witnessed.append(evidence)) == (12, where)


def test_equivocations_on_the_ledger_and_of_the_node_are_counted_once() -> None:
    chain = SmallChain()
    pair = equivocation(0)
    report = build_report(
        chain.genesis.chain_id,
        CENTRALBANK.lei,
        "EQ-1",
        VALID_UNTIL,
        first=pair.first,
        second=pair.second,
        node=world.node_signer(0),
    )
    chain.add(report)
    assert len(chain.state.equivocations()) == 1
    chain.witnessed += [pair, equivocation(0, voter=3)]
    audit = audit_chain(chain, world.genesis_bytes())
    assert (audit.verdict, audit.equivocations) == (VALID, 2), audit.text()
