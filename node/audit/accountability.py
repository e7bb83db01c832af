"""Whom votes and certificates incriminate, and that two final blocks are a fork.

What contradicts what is consensus's rule and stands in `consensus.certificate`: two notarize or
two finalize votes with different contents, or nullify with finalize, by one key in one view.
Nothing else is held against anybody: notarize with nullify, or finalize of one block after
notarize of another, is what a correct validator may do. So no correct validator is ever named,
however many others lie; docs/explanation/accountability.md shows why a fork always names f+1.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.certificate import contradict, verify_vote, votes_of
from consensus.messages import Certificate, Equivocation, Kind, Vote
from node.audit.epochs import check_signatures
from node.audit.fault import Fault, same
from node.audit.proofs import ForkProof
from node.audit.report import Culprit
from node.chain.block import header_digest
from node.chain.encoding import encode
from node.chain.merkle import ProofError, history_leaf, verify_inclusion
from node.chain.signature import Verify, verify
from node.chain.types import ValidatorSet

OTHER_EPOCH = "The votes of one epoch's validators count in that epoch only."
Statement = tuple[int, int, bytes]


def culprits(
    certificates: Iterable[Certificate],
    votes: Iterable[Vote],
    validators: ValidatorSet,
    *,
    chain_id: bytes,
) -> dict[int, Equivocation]:
    """Validator index → the first two votes that contradict each other, by view and kind.

    The certificates and single votes may come in any order and number, and say the same thing
    twice. Raises Fault if one of them is not signed by whom it says, or is of another epoch."""
    signed: list[Vote] = []
    for certificate in certificates:
        check_certificate(certificate, validators, chain_id)
        signed += votes_of(certificate)
    for vote in votes:
        check_vote(vote, validators, chain_id, "vote")
        signed.append(vote)
    held: dict[tuple[int, int], dict[Statement, Vote]] = {}
    found: dict[int, Equivocation] = {}
    for vote in sorted(signed, key=lambda vote: (vote.voter, *_statement(vote))):
        said = held.setdefault((vote.voter, vote.view), {})
        for other in said.values():
            if vote.voter not in found and contradict(other, vote):
                found[vote.voter] = Equivocation(other, vote)
        said.setdefault(_statement(vote), vote)
    return found


def _statement(vote: Vote | Certificate) -> Statement:
    return vote.view, int(vote.kind), encode(vote.content)


def check_certificate(
    certificate: Certificate,
    validators: ValidatorSet,
    chain_id: bytes,
    where: str = "certificate",
    verify: Verify = verify,
) -> None:
    """Check that a quorum of this epoch's validators signed it. Raises Fault."""
    same(f"{where}.epoch", validators.epoch, certificate.epoch, OTHER_EPOCH)
    check_signatures(certificate, validators, chain_id, where, verify)


def check_vote(vote: Vote, validators: ValidatorSet, chain_id: bytes, where: str) -> None:
    """Check that the vote is by the validator that it names. Raises Fault."""
    same(f"{where}.epoch", validators.epoch, vote.epoch, OTHER_EPOCH)
    keys = [validator.vote_key for validator in validators.validators]
    if not verify_vote(vote, keys, lambda k, d, p, s: verify(k, d, chain_id, p, s)):
        raise Fault(
            f"{where}.signature",
            f"one of validator {vote.voter} of {len(keys)}",
            vote.signature,
            "Nobody can be held to this vote.",
        )


def check_equivocation(
    equivocation: Equivocation, validators: ValidatorSet, chain_id: bytes, where: str
) -> None:
    """Check that both votes are by one key, and that no correct validator signs both. Raises
    Fault."""
    first, second = equivocation.first, equivocation.second
    check_vote(first, validators, chain_id, f"{where}.first")
    check_vote(second, validators, chain_id, f"{where}.second")
    if not contradict(first, second):
        raise Fault(
            f"{where}.second",
            f"a vote of validator {first.voter} that contradicts its {told(first)}",
            f"{told(second)} of validator {second.voter}",
            "A correct validator may have signed both.",
        )


def accused(index: int, equivocation: Equivocation, validators: ValidatorSet) -> Culprit:
    """The validator whose two votes these are, for people."""
    validator, first = validators.validators[index], equivocation.first
    return Culprit(
        epoch=validators.epoch,
        validator=index,
        name=validator.name,
        operator=validator.operator,
        vote_key=validator.vote_key,
        view=first.view,
        fault=f"{told(first)} and {told(equivocation.second)}",
    )


def told(vote: Vote) -> str:
    """What a vote says, in words."""
    where = f"in view {vote.view}"
    if vote.kind is Kind.NULLIFY or vote.content is None:
        return f"nullify {where}"
    return f"{vote.kind.name.lower()} of {vote.content.block.hex()[:16]}… {where}"


def enough_culprits(validators: ValidatorSet) -> int:
    """f+1: so many validators must have contradicted themselves for a fork to be possible."""
    return (len(validators.validators) - 1) // 3 + 1


def check_conflict(proof: ForkProof) -> str:
    """Check that neither block of a fork has the other in its history. Raises Fault."""
    lower, higher = proof.lower.block, proof.higher.block
    names = header_digest(lower), header_digest(higher)
    if (lower.height, names[0]) >= (higher.height, names[1]):
        raise Fault(
            "higher.block",
            "another block, above the lower one",
            f"block {higher.height}, {names[1].hex()}",
            "One block, or a chain in the wrong order, is no fork.",
        )
    if lower.height == higher.height:
        same("rival", None, proof.rival, "Two blocks of one height need no path.")
        if lower.history_root == higher.history_root:
            # A carrier has its sealing block's height and history, but not its parent.
            meaning = "One may carry the other, and both be final without a fork."
            same("higher.block.parent", lower.parent, higher.parent, meaning)
        return f"two final blocks of height {lower.height}"
    rival = proof.rival
    if rival is None:
        raise Fault(
            "rival",
            f"the block that block {higher.height} has below it at {lower.height}",
            "none",
            "The lower block may be in the history of the higher one.",
        )
    if rival.digest == names[0]:
        raise Fault("rival.digest", "another block", rival.digest, "One chain is no fork.")
    try:
        verify_inclusion(
            history_leaf(rival.digest), lower.height, higher.height, rival.path, higher.history_root
        )
    except ProofError as error:
        expected = f"a path from leaf {lower.height} of {higher.height} to the history root"
        meaning = "The higher block does not have this one in its history."
        raise Fault("rival.path", expected, error, meaning) from error
    return (
        f"block {lower.height} is final, and so is block {higher.height}, which has another one "
        f"at height {lower.height}"
    )
