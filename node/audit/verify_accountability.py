"""Offline verification of what accuses: proofs of a fork, and of one validator's equivocation.

As for a dossier, the genesis file is all that is trusted, each check stands alone, and what fails
is INVALID. A fork that is shown but does not name f+1 validators is UNDECIDED: certificates that
would name them exist, but are not in the file. It proves that *keys* signed twice; whose fault
that is, an operator's or a thief's, no signature can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from consensus.certificate import opposed
from consensus.messages import Certificate, Equivocation
from node.audit.accountability import (
    accused,
    check_certificate,
    check_conflict,
    check_equivocation,
    culprits,
    enough_culprits,
)
from node.audit.epochs import EpochLink, check_carriers, check_finalization, follow
from node.audit.fault import Fault, Missing, known, same
from node.audit.proofs import BadProof, Branch, EquivocationProof, ForkProof, decode_proof
from node.audit.report import FAIL, NOTE, VALID, Culprit, Line, Report
from node.chain.block import validator_set_digest
from node.chain.encoding import encode
from node.chain.genesis import Genesis
from node.chain.types import ValidatorSet

KEYS_NOTE = (
    "what is proven is that keys signed contradicting votes: by their operators' doing, by two "
    "copies of one node, or by whoever stole a key. Two copies and a restored backup are the "
    "usual causes"
)


def check_fork(data: bytes, genesis: Genesis) -> Report:
    """What the proof of a fork proves. Raises nothing."""
    report = Report()
    try:
        proof = decode_proof(data, ForkProof)
    except BadProof as error:
        report.lines.append(Line(FAIL, "file", f"this is not the proof of a fork: {error}"))
        return report
    report.kind = "fork"
    named: list[Culprit] = []
    for name, check in FORK_CHECKS:
        report.run(name, partial(check, proof, genesis))
    report.run("culprits", partial(_name_culprits, proof, genesis, named))
    return _concluded(report, named)


def check_equivocation_proof(data: bytes, genesis: Genesis) -> Report:
    """What the proof of an equivocation proves. Raises nothing."""
    report = Report()
    try:
        proof = decode_proof(data, EquivocationProof)
    except BadProof as error:
        report.lines.append(
            Line(FAIL, "file", f"this is not the proof of an equivocation: {error}")
        )
        return report
    report.kind = "equivocation"
    named: list[Culprit] = []
    report.run("validators", partial(_check_votes_epoch, proof, genesis))
    report.run("votes", partial(_check_votes, proof, genesis, named))
    return _concluded(report, named)


def _concluded(report: Report, named: list[Culprit]) -> Report:
    report.lines.append(Line(NOTE, "keys", KEYS_NOTE))
    if report.verdict == VALID:
        report.culprits = named
    return report


# --- a fork -----------------------------------------------------------------------------------


def _check_chain(proof: ForkProof, genesis: Genesis) -> str:
    meaning = "This is evidence about another chain than the genesis file describes."
    for name, block in _blocks(proof):
        same(f"{name}.chain_id", genesis.chain_id, block.block.chain_id, meaning)
        known(f"{name}.version", block.block.version)
    return f"network {genesis.network}, chain {genesis.chain_id.hex()}"


def _check_validators(proof: ForkProof, genesis: Genesis) -> str:
    validators = follow(genesis, proof.epochs)[-1]
    digest = validator_set_digest(validators)
    for name, branch in _blocks(proof):
        meaning = "The block is of another epoch than the links lead to, so of other validators."
        same(f"{name}.epoch", validators.epoch, branch.block.epoch, meaning)
        same(f"{name}.validator_set", digest, branch.block.validator_set, meaning)
    return f"the {len(validators.validators)} validators of epoch {validators.epoch}"


def _check_finalizations(proof: ForkProof, genesis: Genesis) -> str:
    validators = _declared(proof.epochs, genesis)
    said = []
    for name, branch in _blocks(proof):
        check_carriers(branch.block, branch.carriers, validators, f"{name}.carriers")
        chain = (branch.block, *branch.carriers)
        check_finalization(
            branch.finalization,
            chain[-1],
            chain[-2] if branch.carriers else None,
            validators,
            chain_id=genesis.chain_id,
            where=f"{name}.finalization",
        )
        signers = len(branch.finalization.signatures)
        said.append(f"block {branch.block.height} by {signers} in view {chain[-1].view}")
    return f"finalized are {' and '.join(said)}, of {len(validators.validators)} validators"


def _check_conflict(proof: ForkProof, genesis: Genesis) -> str:
    return check_conflict(proof)


def _check_certificates(proof: ForkProof, genesis: Genesis) -> str:
    validators = _declared(proof.epochs, genesis)
    for number, each in enumerate(proof.certificates):
        check_certificate(each, validators, genesis.chain_id, f"certificates[{number}]")
    for number, (one, other) in enumerate(pairwise(proof.certificates), 1):
        if _order(one) >= _order(other):
            raise Fault(
                f"certificates[{number}]",
                "one that stands above the one before it",
                f"view {other.view}",
                "A certificate stands twice or in the wrong place.",
            )
    pile = _pile(proof)
    for number, each in enumerate(proof.certificates):
        if not any(opposed(each, other) for other in pile):
            raise Fault(
                f"certificates[{number}]",
                "one that contradicts another",
                f"the {each.kind.name.lower()} certificate of view {each.view}",
                "It accuses nobody and does not belong here.",
            )
    return f"{len(proof.certificates)} besides the finalizations, each contradicting another"


FORK_CHECKS: tuple[tuple[str, Callable[[ForkProof, Genesis], str]], ...] = (
    ("chain", _check_chain),
    ("validators", _check_validators),
    ("finalizations", _check_finalizations),
    ("conflict", _check_conflict),
    ("certificates", _check_certificates),
)


def _name_culprits(proof: ForkProof, genesis: Genesis, named: list[Culprit]) -> str:
    """Needs sound certificates: whether they are is for the other checks to say."""
    validators = _declared(proof.epochs, genesis)
    try:
        found = culprits(_pile(proof), (), validators, chain_id=genesis.chain_id)
    except Fault as fault:
        raise Missing(f"a certificate does not hold ({fault.where})") from fault
    named += [accused(index, found[index], validators) for index in sorted(found)]
    told = "; ".join(f"{c.name} ({c.operator}): {c.fault}" for c in named)
    least = enough_culprits(validators)
    if len(named) < least:
        raise Missing(
            f"a fork has {least} culprits or more, these certificates name {len(named)}. Lacking "
            "are those of the lower view: its nullification, or the notarizations of both blocks"
            + (f". Named: {told}" if told else "")
        )
    return f"{len(named)} of {len(validators.validators)}, where {least} must be: {told}"


def _order(certificate: Certificate) -> tuple[int, int, bytes]:
    return certificate.view, int(certificate.kind), encode(certificate)


def _pile(proof: ForkProof) -> list[Certificate]:
    return [proof.lower.finalization, proof.higher.finalization, *proof.certificates]


def _blocks(proof: ForkProof) -> tuple[tuple[str, Branch], tuple[str, Branch]]:
    return ("lower", proof.lower), ("higher", proof.higher)


def _declared(epochs: tuple[EpochLink, ...], genesis: Genesis) -> ValidatorSet:
    """The set that the last link names; the check "validators" says whether it is true."""
    return epochs[-1].validators if epochs else genesis.validator_set


# --- an equivocation --------------------------------------------------------------------------


def _check_votes_epoch(proof: EquivocationProof, genesis: Genesis) -> str:
    validators = follow(genesis, proof.epochs)[-1]
    meaning = "The votes are of another epoch than the links lead to, so of other validators."
    same("first.epoch", validators.epoch, proof.equivocation.first.epoch, meaning)
    return f"the {len(validators.validators)} validators of epoch {validators.epoch}"


def _check_votes(proof: EquivocationProof, genesis: Genesis, named: list[Culprit]) -> str:
    equivocation: Equivocation = proof.equivocation
    validators = _declared(proof.epochs, genesis)
    check_equivocation(equivocation, validators, genesis.chain_id, "equivocation")
    culprit = accused(equivocation.first.voter, equivocation, validators)
    named.append(culprit)
    return f"{culprit.name} ({culprit.operator}) signed {culprit.fault}"
