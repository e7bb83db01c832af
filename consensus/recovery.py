"""Coming back after a crash: from the database's floor and every journal record.

Owned here: a restarted node is the one that crashed, as far as anyone can tell. Records may come
in any order and more than once; those at or below the floor, or of another epoch, are not
replayed. Votes come back as the bytes that were sent, are counted once, and bar what they barred
before. The view resumed is the highest that any record justifies, not that of the last record.
Verdicts do not come back: blocks are executed again from the floor.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.certificate import BadCertificate, check, verify_vote
from consensus.interface import BodyMismatch
from consensus.messages import (
    Body,
    Certificate,
    Certified,
    Equivocation,
    Kind,
    OwnProposal,
    OwnVote,
    Proposal,
    Record,
    View,
    Vote,
    Witnessed,
)
from consensus.state import State

LAST_VIEW = View(2**64 - 1)
"""No view is above it: messages carry 64 bits."""


class RecordRefused(ValueError):
    """A journal record that this node cannot have written: another chain's, another node's or a
    damaged one. The node must not start on it."""


def epoch_of(record: Record) -> int:
    """The epoch that a record is of."""
    match record:
        case OwnVote(vote=vote) | OwnProposal(proposal=Proposal(vote=vote)):
            return vote.epoch
        case Body(epoch=epoch):
            return epoch
        case Certified(certificate=certificate):
            return certificate.epoch
        case Witnessed(equivocation=equivocation):
            return equivocation.first.epoch


def restore(state: State, records: Iterable[Record]) -> None:
    """Bring back what the records hold. Raises RecordRefused."""
    floor = state.floor.info.view
    later = False
    for record in records:
        later = later or epoch_of(record) > state.epoch
        match record:
            case Certified(certificate):
                if certificate.epoch == state.epoch and certificate.view > floor:
                    _certificate(state, certificate)
            case OwnVote(vote):
                if vote.epoch == state.epoch and vote.view > floor:
                    _own_vote(state, vote)
            case OwnProposal(proposal):
                if proposal.vote.epoch == state.epoch and proposal.vote.view > floor:
                    _own_proposal(state, proposal)
            case Body(epoch, view, block):
                if epoch == state.epoch and view > floor:
                    _body(state, block)
            case Witnessed(equivocation):
                if equivocation.first.epoch == state.epoch:
                    _evidence(state, equivocation)
    state.recorded_view = state.final_view
    if later:
        # The database was replaced by an older copy: this node has seen the whole epoch final.
        state.sealed = True
        state.recorded_view = LAST_VIEW


def _certificate(state: State, certificate: Certificate) -> None:
    at = state.open(certificate.view)
    if at.certificates[certificate.kind] is not None:
        return
    try:
        check(certificate, state.validators, state.verify)
    except BadCertificate as bad:
        raise RecordRefused(
            f"the journal holds a certificate of view {certificate.view} that proves nothing "
            f"({bad.reason}): it is damaged, or another chain's"
        ) from bad
    at.certificates[certificate.kind] = certificate
    state.tally.absorb(at, certificate)
    if certificate.kind is not Kind.NULLIFY:
        state.certified_view = max(state.certified_view, at.view)
    if certificate.kind is Kind.FINALIZE and at.view > state.final_view:
        state.final_view = at.view
        state.latest_finalization = certificate
    state.view = max(state.view, View(certificate.view + 1))


def _own_vote(state: State, vote: Vote) -> None:
    if state.index is None:
        return  # votes from when this node was a validator bind its key, not an observer
    at = state.open(vote.view)
    if at.own[vote.kind] is not None:
        return
    if vote.voter != state.index or not verify_vote(vote, state.validators, state.verify):
        raise RecordRefused(
            f"the journal holds a vote of view {vote.view} that is not by this node's key: "
            "it is damaged, or another node's or chain's"
        )
    at.own[vote.kind] = vote
    if vote.voter not in at.votes[vote.kind]:
        certificate = state.tally.count(at, vote)
        if certificate is not None:
            state.hold(at, certificate)
    entered = vote.view + 1 if vote.kind is Kind.FINALIZE else vote.view
    state.view = max(state.view, View(entered))


def _own_proposal(state: State, proposal: Proposal) -> None:
    _body(state, proposal.block)
    if state.index is None:
        return
    _own_vote(state, proposal.vote)
    at = state.open(proposal.vote.view)
    at.own_proposal = proposal
    at.proposal = proposal.vote


def _body(state: State, raw: bytes) -> None:
    try:
        info = state.codec.inspect(raw)
    except BodyMismatch as bad:
        raise RecordRefused(f"the journal holds a damaged block: {bad}") from bad
    state.blocks.add(info, raw).durable = True


def _evidence(state: State, evidence: Equivocation) -> None:
    if evidence in state.evidence:
        return
    state.evidence.append(evidence)
    if evidence.first.view > state.floor.info.view:
        state.open(evidence.first.view).accused.add(evidence.first.voter)


def live_records(state: State) -> list[Record]:
    """What a rotated journal must keep: everything above the floor, and the floor's proof.

    Only to be called when the database durably holds this floor: below it nothing is kept.
    """
    records: list[Record] = []
    if state.floor.finalization is not None:
        records.append(Certified(state.floor.finalization))
    records += [Witnessed(evidence) for evidence in state.evidence]
    for view in sorted(state.views):
        at = state.views[view]
        records += [Certified(c) for c in at.certificates if c is not None]
        records += [OwnVote(vote) for vote in at.own if vote is not None]
        if at.own_proposal is not None:
            records.append(OwnProposal(at.own_proposal))
    for block in state.blocks.all():
        at_view = state.views.get(block.info.view)
        proposal = None if at_view is None else at_view.own_proposal
        held_by_proposal = proposal is not None and proposal.block == block.raw
        if block.durable and not held_by_proposal:
            records.append(Body(state.epoch, block.info.view, block.raw))
    return records
