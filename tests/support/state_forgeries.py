"""Forged proofs of states, each with what is wrong with it, and the check that refuses it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from node.audit.dossier import Finality, ProvenBlock
from node.audit.state_proofs import AbsenceProof, BalanceProof
from node.chain.merkle import EMPTY_ROOT
from node.chain.types import AccountKind, Header
from node.chain.uetr_tree import PAGE_UETRS, Page, prove_uetr
from tests.support.forge_state import absence_of, absent, finalized, tree, uetr
from tests.support.state_world import absence, balance, state_world


def header_at(height: int) -> Header:
    found = state_world().chain.header(height)
    assert found is not None
    return found


SET = [uetr(each) for each in range(200)]
"""Four pages, the last of eight UETRs."""
FEW = [uetr(each) for each in range(1_000, 1_010)]
BETWEEN = absent(64)
"""Stands between the first two pages of `SET`."""


def with_trees(proof: AbsenceProof, number: int, /, **fields: object) -> AbsenceProof:
    trees = list(proof.trees)
    trees[number] = replace(trees[number], **fields)
    return replace(proof, trees=tuple(trees))


def with_record(proof: AbsenceProof, /, **fields: object) -> AbsenceProof:
    return with_trees(proof, 0, record=replace(proof.trees[0].record, **fields))


def sets() -> AbsenceProof:
    """By the forger, sound."""
    return absence_of(absence("ever"), BETWEEN, {0: SET, 1: FEW, 2: []})


def paged(*pages: Page, asked: bytes = BETWEEN) -> AbsenceProof:
    """The same with these pages of the first set."""
    return with_trees(absence_of(absence("ever"), asked, {0: SET}), 0, pages=pages)


def page(at: int, uetrs: list[bytes] = SET) -> Page:
    [found] = [each for each in prove_uetr(uetrs, uetrs[at * PAGE_UETRS]) if each.index == at]
    return found


def lying(at: int) -> Page:
    """A page without its last UETR but one, which the forger wants absent."""
    found = page(at)
    return replace(found, uetrs=found.uetrs[:-32] + found.uetrs[-16:])


FORGED_ABSENCES: dict[str, Callable[[], AbsenceProof]] = {
    "a tree left out": lambda: replace(
        absence("ever"), trees=(absence("ever").trees[0], absence("ever").trees[2])
    ),
    "a tree twice": lambda: replace(absence("ever"), trees=2 * absence("ever").trees[:1]),
    "trees in another order": lambda: replace(absence("ever"), trees=absence("ever").trees[::-1]),
    "a number left out": lambda: absence_of(absence("ever"), BETWEEN, {0: SET, 2: FEW}),
    "blocks left out": lambda: absence_of(absence("ever"), BETWEEN, {0: SET, 1: FEW}, gap=1),
    "blocks twice": lambda: absence_of(absence("ever"), BETWEEN, {0: SET, 1: FEW}, gap=-1),
    "another number": lambda: with_trees(absence("ever"), 0, number=3),
    "another count": lambda: with_record(absence("ever"), count=201),
    "another root": lambda: with_record(absence("ever"), root=EMPTY_ROOT),
    "an empty set instead": lambda: with_trees(
        with_record(absence("ever"), root=EMPTY_ROOT, count=0), 0, pages=()
    ),
    "an earlier begin": lambda: with_record(absence("ever"), after=0),
    "an earlier time": lambda: with_record(absence("ever"), after_time=0),
    "a later end": lambda: with_trees(
        absence("a day"), 0, record=replace(absence("a day").trees[0].record, through=24)
    ),
    "a later time": lambda: with_trees(
        absence("a day"), 0, record=replace(absence("a day").trees[0].record, through_time=10**13)
    ),
    "another day": lambda: with_record(absence("ever"), date=20250615),
    "a tree that the state does not hold": lambda: with_trees(
        absence("ever"), 0, record=tree(0, [], 1, 11), pages=()
    ),
    "the proof of another tree": lambda: with_trees(
        absence("ever"), 0, proof=absence("ever").trees[1].proof
    ),
    "no pages of a set": paged,
    "pages of an empty set": lambda: with_trees(absence("an idle day"), 0, pages=(page(0),)),
    "pages of another set": lambda: with_trees(sets(), 0, pages=sets().trees[1].pages),
    "the first page alone": lambda: paged(page(0)),
    "the second page alone": lambda: paged(page(1)),
    "the last page alone, for one below it": lambda: paged(page(3)),
    "the first page alone, for one above it": lambda: paged(page(0), asked=absent(500)),
    "pages that do not stand beside each other": lambda: paged(page(0), page(2)),
    "a page twice": lambda: paged(page(0), page(0)),
    "pages in another order": lambda: paged(page(1), page(0)),
    "a page too many": lambda: paged(page(0), page(1), asked=absent(3)),
    "a page under another index": lambda: paged(replace(page(0), index=1), page(1)),
    "the last page where it is not": lambda: paged(replace(page(2), index=3), asked=absent(500)),
    "a page without its path": lambda: paged(replace(page(0), path=()), page(1)),
    "a longer path": lambda: paged(replace(page(0), path=(*page(0).path, bytes(32))), page(1)),
    "a page cut short": lambda: paged(lying(0), page(1), asked=uetr(62)),
    "a UETR changed in its page": lambda: paged(
        replace(page(0), uetrs=page(0).uetrs[:-17] + b"\x7f" + page(0).uetrs[-16:]),
        page(1),
        asked=uetr(62),
    ),
    "a UETR that is there": lambda: paged(page(0), asked=uetr(3)),
    "a UETR that ends a page": lambda: paged(page(0), page(1), asked=uetr(63)),
    "a set that does not ascend": lambda: absence_of(
        absence("ever"), absent(7), {0: [SET[1], SET[0], *SET[2:]]}
    ),
}
"""By the check `absence` alone."""


def with_row(proof: BalanceProof, /, **fields: object) -> BalanceProof:
    return replace(proof, row=replace(proof.row, **fields))


def richer() -> BalanceProof:
    record = balance("settlement").row.record
    assert record is not None
    return with_row(balance("settlement"), record=replace(record, balance=record.balance + 1))


FORGED_BALANCES: dict[str, Callable[[], BalanceProof]] = {
    "another balance": richer,
    "an account denied": lambda: with_row(balance("settlement"), record=None),
    "an account invented": lambda: with_row(
        balance("none"), record=balance("settlement").row.record
    ),
    "another participant": lambda: replace(
        balance("settlement"), participant=state_world().lei("BANKB")
    ),
    "another asset": lambda: replace(balance("settlement"), asset="CNY"),
    "another kind": lambda: replace(balance("settlement"), account=AccountKind.MARGIN),
    "a path cut short": lambda: with_row(
        balance("settlement"),
        proof=replace(
            balance("settlement").row.proof,
            siblings=balance("settlement").row.proof.siblings[:-1],
        ),
    ),
    "a longer path": lambda: with_row(
        balance("settlement"),
        proof=replace(
            balance("settlement").row.proof,
            siblings=(*balance("settlement").row.proof.siblings, bytes(32)),
        ),
    ),
    "the row of another height": lambda: replace(
        balance("of an ended epoch"), row=balance("settlement").row
    ),
    "another height's block": lambda: replace(
        balance("of an ended epoch"),
        participant=state_world().lei("BANKA"),
        row=balance("settlement").row,
    ),
}
"""By the check `balance` alone."""


def blocks(proof: BalanceProof, *chosen: ProvenBlock) -> BalanceProof:
    return replace(proof, blocks=chosen)


def signers(proof: BalanceProof, *kept: int) -> BalanceProof:
    assert proof.finality is not None
    certificate = proof.finality.certificate
    chosen = tuple(certificate.signatures[index] for index in kept)
    return replace(
        proof,
        finality=replace(proof.finality, certificate=replace(certificate, signatures=chosen)),
    )


def _older_finality() -> Finality:
    made = state_world()
    return Finality(made.chain.finalizations[made.chain.state.height - 1], ())


OLD = balance
FORGED_FINALITY: dict[str, tuple[str, Callable[[], BalanceProof]]] = {
    "blocks in another order": (
        "history",
        lambda: finalized(
            blocks(OLD("none"), *(2 * OLD("none").blocks)), OLD("none").blocks[0].header
        ),
    ),
    "a block that nothing needs": (
        "history",
        lambda: blocks(
            OLD("none in an ended epoch"),
            OLD("none in an ended epoch").blocks[0],
            OLD("of an ended epoch").blocks[0],
            OLD("none").blocks[0],
        ),
    ),
    "a block's parent that nothing needs": (
        "history",
        lambda: blocks(
            OLD("of an ended epoch"),
            replace(OLD("of an ended epoch").blocks[0], parent=header_at(3)),
            OLD("of an ended epoch").blocks[1],
        ),
    ),
    "a block without its path": (
        "history",
        lambda: blocks(
            OLD("of an ended epoch"),
            replace(OLD("of an ended epoch").blocks[0], path=()),
            OLD("of an ended epoch").blocks[1],
        ),
    ),
    "a signature too few": ("finality", lambda: signers(OLD("settlement"), 0, 1)),
    "a signer twice": ("finality", lambda: signers(OLD("settlement"), 0, 1, 1)),
    "the checkpoint of another block": (
        "finality",
        lambda: replace(OLD("settlement"), finality=_older_finality()),
    ),
    "a seal without its path": (
        "seals",
        lambda: replace(OLD("settlement"), epochs=(replace(OLD("settlement").epochs[0], path=()),)),
    ),
}
"""What → the check that refuses it, and the forgery."""
