"""The files that accuse prove themselves, and every change to one is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from consensus.messages import Content, Equivocation, Kind, Vote
from node.audit.proofs import Branch, EquivocationProof, ForkProof, encode_proof, tag_of
from node.audit.report import FAIL, INVALID, UNDECIDED, VALID, Report
from node.audit.verify import verify_file
from node.audit.verify_accountability import FORK_CHECKS, check_equivocation_proof, check_fork
from node.chain.block import header_digest, validator_set_digest
from tests.support import wire, world
from tests.support.dossiers import dossier_bytes
from tests.support.epoch_links import certificate, ended_epochs, validator_set, vote
from tests.support.forks import (
    CASES,
    Sides,
    by_notarizations,
    by_nullification,
    certified,
    forking_world,
    same_view,
    signed,
    through_a_carrier,
)
from tests.support.forks import proof as fork_of

FLIPPED = bytes((1,)) + bytes(31)
ALL = (0, 1, 2, 3)


def checked(proof: ForkProof, validators: int = 4) -> Report:
    return check_fork(encode_proof(proof), world.genesis(validators))


def failures(report: Report) -> list[str]:
    return [line.check for line in report.lines if line.result == FAIL]


# --- sound proofs -----------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("validators", [4, 7])
@pytest.mark.parametrize("case", CASES)
def test_a_fork_is_proven_and_its_culprits_named(case: str, validators: int, epochs: int) -> None:
    proof = CASES[case](validators, epochs)
    report = verify_file(encode_proof(proof), world.genesis_bytes(validators))
    assert (report.verdict, report.exit_code, report.kind) == (VALID, 0, "fork"), report.text()
    assert [c.validator for c in report.culprits] == list(Sides.of(validators).liars)
    assert all(c.epoch == epochs for c in report.culprits)
    for culprit in report.culprits:
        assert f"{culprit.name} ({culprit.operator}): {culprit.fault}" in report.text()


def test_a_long_branch_is_shown_by_its_history() -> None:
    report = checked(by_nullification(length=9))
    assert report.verdict == VALID, report.text()
    assert "block 1 is final, and so is block 9, which has another one at height 1" in report.text()


def test_the_note_says_what_a_key_that_signed_twice_proves() -> None:
    assert "NOTE  keys: what is proven is that keys signed" in checked(same_view()).text()


def test_a_fork_whose_culprits_cannot_be_named_yet_is_undecided() -> None:
    for proof in (by_nullification(), by_notarizations(), through_a_carrier()):
        report = checked(replace(proof, certificates=()))
        assert (report.verdict, report.exit_code, report.culprits) == (UNDECIDED, 2, [])
        assert "these certificates name 0" in report.text()


# --- forged proofs ----------------------------------------------------------------------------


def other_chain() -> ForkProof:
    """Votes of this chain's validators for blocks that say to be another's."""
    proof = same_view()
    lower = replace(proof.lower.block, chain_id=FLIPPED)
    return resigned(proof, "lower", lower)


def resigned(proof: ForkProof, side: str, block: Any, **options: Any) -> ForkProof:
    """The proof with another block on one side, finalized by all; ordered as it must be."""
    chosen: dict[str, Any] = {"view": block.view, "kind": Kind.FINALIZE, "voters": ALL} | options
    finalization = certificate(
        content=Content(0, header_digest(block)), chain_id=world.genesis().chain_id, **chosen
    )
    branch = replace(getattr(proof, side), block=block, finalization=finalization)
    sides = [branch, proof.higher if side == "lower" else proof.lower]
    sides.sort(key=lambda each: (each.block.height, header_digest(each.block)))
    return replace(proof, lower=sides[0], higher=sides[1])


def with_certificates(*certificates: Any) -> ForkProof:
    return replace(by_nullification(), certificates=certificates)


def long_with(**rival: Any) -> ForkProof:
    proof = by_nullification(length=3)
    assert proof.rival is not None
    return replace(proof, rival=replace(proof.rival, **rival))


def later_without_rival() -> ForkProof:
    return replace(by_nullification(length=3), rival=None)


def no_fork() -> ForkProof:
    """A block and its own descendant."""
    proof = long_with()
    made = header_digest(proof.lower.block)
    sound = by_notarizations()
    assert proof.rival is not None
    assert sound.rival is not None
    return replace(proof, rival=replace(proof.rival, digest=made))


def carried() -> ForkProof:
    """A sealing block and its own carrier, both final, as honest validators may make them; beside
    them two contradicting notarizations of a view that decided nothing."""
    made = forking_world(4, 0)
    seal = made.add(
        made.header(
            next_validator_set=validator_set_digest(validator_set(made.epoch + 1, made.members[-1]))
        )
    )
    carrier = made.carrier(seal, view=seal.view + 1)
    sides = Sides.of(4)
    return fork_of(
        Branch(seal, (), certified(made, seal, 0, Kind.FINALIZE, ALL)),
        Branch(carrier, (), certified(made, carrier, seal.view, Kind.FINALIZE, ALL)),
        [
            signed(made, 9, Kind.NOTARIZE, Content(0, FLIPPED), sides.one),
            signed(made, 9, Kind.NOTARIZE, Content(0, header_digest(seal)), sides.other),
        ],
        links=[],
    )


NULLIFIED = certificate(1, Kind.NULLIFY, None, (0, 1, 3))
UNRELATED = certificate(9, Kind.NULLIFY, None, (0, 1, 3))

SOLE: dict[str, tuple[str, Callable[[], ForkProof]]] = {
    "another chain's block": ("chain", other_chain),
    "rules of another version": (
        "chain",
        lambda: resigned(same_view(), "higher", replace(same_view().higher.block, version=9)),
    ),
    "a block of other validators": (
        "validators",
        lambda: resigned(
            same_view(), "lower", replace(same_view().lower.block, validator_set=FLIPPED)
        ),
    ),
    "a block of another epoch, by the keys of this one": (
        "validators",
        lambda: resigned(
            same_view(),
            "lower",
            replace(same_view().lower.block, epoch=1),
            epoch=1,
            signing_epoch=0,
        ),
    ),
    "a link of epochs too many": (
        "validators",
        lambda: replace(same_view(), epochs=(_same_set_link(),)),
    ),
    "a block that a quorum did not finalize": (
        "finalizations",
        lambda: resigned(same_view(), "lower", same_view().lower.block, voters=(0, 1)),
    ),
    "a notarization instead": (
        "finalizations",
        lambda: resigned(same_view(), "lower", same_view().lower.block, kind=Kind.NOTARIZE),
    ),
    "a carrier of a block that ends no epoch": (
        "finalizations",
        lambda: replace(
            same_view(),
            lower=replace(same_view().lower, carriers=(same_view().lower.block,)),
        ),
    ),
    "no path where one is needed": ("conflict", later_without_rival),
    "a path where none is needed": (
        "conflict",
        lambda: replace(same_view(), rival=by_notarizations().rival),
    ),
    "another rival": ("conflict", lambda: long_with(digest=FLIPPED)),
    "a path one over": (
        "conflict",
        lambda: long_with(path=(*_path(by_nullification(length=3)), FLIPPED)),
    ),
    "a block and its own descendant": ("conflict", no_fork),
    "a sealing block and its own carrier": ("conflict", carried),
    "branches in the wrong order": (
        "conflict",
        lambda: replace(same_view(), lower=same_view().higher, higher=same_view().lower),
    ),
    "one block twice": (
        "conflict",
        lambda: replace(by_nullification(), higher=by_nullification().lower),
    ),
    "a certificate twice": ("certificates", lambda: with_certificates(NULLIFIED, NULLIFIED)),
    "a certificate that accuses nobody": (
        "certificates",
        lambda: with_certificates(NULLIFIED, UNRELATED),
    ),
    "certificates in the wrong order": (
        "certificates",
        lambda: replace(by_notarizations(), certificates=by_notarizations().certificates[::-1]),
    ),
    "a quorum one short": (
        "certificates",
        lambda: with_certificates(certificate(1, Kind.NULLIFY, None, (0, 1))),
    ),
    "another epoch's certificate": (
        "certificates",
        lambda: with_certificates(NULLIFIED, certificate(2, Kind.NULLIFY, None, ALL, epoch=1)),
    ),
}


def _path(proof: ForkProof) -> tuple[bytes, ...]:
    assert proof.rival is not None
    return proof.rival.path


def _same_set_link() -> Any:
    link = ended_epochs(1).links[0]
    return replace(link, validators=world.genesis().validator_set)


@pytest.mark.parametrize("forgery", SOLE)
def test_a_forged_proof_is_caught_by_the_check_that_exists_for_it_and_by_no_other(
    forgery: str,
) -> None:
    check, make = SOLE[forgery]
    report = checked(make())
    assert failures(report) == [check], report.text()
    assert (report.verdict, report.culprits) == (INVALID, [])


def test_every_check_of_a_fork_is_the_only_one_to_catch_something() -> None:
    assert {check for check, _ in SOLE.values()} == {name for name, _ in FORK_CHECKS}


def test_links_of_epochs_are_followed_for_a_fork_too() -> None:
    proof = same_view(4, 2)
    for links in (proof.epochs[:1], proof.epochs[1:], proof.epochs[::-1], ()):
        assert "validators" in failures(checked(replace(proof, epochs=links)))


def test_no_sampled_flipped_bit_of_a_proof_is_valid() -> None:
    for make, start in ((by_nullification, 0), (by_notarizations, 7)):
        data = encode_proof(make(4, 1))
        for position, changed in enumerate(wire.flipped(data)):
            if position % 397 == start:
                report = verify_file(changed, world.genesis_bytes())
                assert report.verdict != VALID, report.text()
                assert not report.culprits


# --- an equivocation --------------------------------------------------------------------------


def equivocation(epochs: int = 1, **second: Any) -> EquivocationProof:
    made = ended_epochs(epochs)
    first = vote(2, 9, Kind.FINALIZE, Content(1, bytes(32)), epoch=epochs)
    other = vote(2, 9, Kind.NULLIFY, None, epoch=epochs)
    pair = Equivocation(first, replace(other, **second))
    return EquivocationProof(tuple(made.links), pair)


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_an_equivocation_of_any_epoch_is_proven(epochs: int) -> None:
    report = verify_file(encode_proof(equivocation(epochs)), world.genesis_bytes())
    assert (report.verdict, report.kind) == (VALID, "equivocation"), report.text()
    (culprit,) = report.culprits
    assert (culprit.name, culprit.epoch, culprit.view) == ("node2", epochs, 9)
    assert "node2" in report.text()
    assert "nullify in view 9" in report.text()


def of_votes(*votes: Vote) -> EquivocationProof:
    return replace(equivocation(), equivocation=Equivocation(*votes))


NULLIFY = vote(2, 9, Kind.NULLIFY, epoch=1)
FINALIZE = vote(2, 9, Kind.FINALIZE, Content(1, FLIPPED), epoch=1)


@pytest.mark.parametrize(
    ("proof", "check"),
    [
        (equivocation(view=8), "votes"),
        (equivocation(voter=1), "votes"),
        (equivocation(signature=bytes(64)), "votes"),
        (equivocation(epoch=0), "votes"),
        (of_votes(NULLIFY, NULLIFY), "votes"),
        (of_votes(replace(NULLIFY, signature=bytes(64)), FINALIZE), "votes"),
        (of_votes(NULLIFY, vote(3, 9, Kind.FINALIZE, Content(1, FLIPPED), epoch=1)), "votes"),
        (of_votes(NULLIFY, vote(2, 9, Kind.NOTARIZE, Content(1, FLIPPED), epoch=1)), "votes"),
        (replace(equivocation(2), epochs=equivocation(1).epochs), "validators"),
        (replace(equivocation(1), epochs=()), "validators"),
    ],
)
def test_a_forged_equivocation_accuses_nobody(proof: EquivocationProof, check: str) -> None:
    report = check_equivocation_proof(encode_proof(proof), world.genesis())
    assert check in failures(report), report.text()
    assert (report.verdict, report.culprits) == (INVALID, [])


# --- which file is which ----------------------------------------------------------------------


def test_files_are_told_apart_by_what_they_say_they_are() -> None:
    assert tag_of(encode_proof(same_view())) == "fork/1"
    assert tag_of(encode_proof(equivocation())) == "equivocation-proof/1"
    assert tag_of(dossier_bytes(6)) == "dossier/3"
    for junk in (b"", b"\x91", b"%PDF-1.7", b"\x95\xa3\xff\xff\xff", b"\x90\xa0"):
        assert tag_of(junk) is None
    assert verify_file(dossier_bytes(6), world.genesis_bytes()).kind == "dossier"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (encode_proof(same_view())[:-1], "this is not the proof of a fork: "),
        (encode_proof(same_view()) + b"\x00", "this is not the proof of a fork: "),
        (encode_proof(equivocation())[:-9], "this is not the proof of an equivocation: "),
        (b"\x95\xa6fork/2", "this is not a dossier"),
        (b"\x9a\xa9dossier/1\x01", "it has an old format, which no node makes any more"),
        (b"\x96\xa6fork/1" + bytes((64 << 20) + 1), "no proof has more than"),
    ],
    ids=["cut", "longer", "stub", "later format", "old dossier", "huge"],
)
def test_a_file_that_is_no_proof_is_called_so_in_a_sentence(data: bytes, sentence: str) -> None:
    report = verify_file(data, world.genesis_bytes())
    assert (report.verdict, failures(report)) == (INVALID, ["file"])
    assert sentence in report.text()
