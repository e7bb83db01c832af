"""From the ledger's final state to what the API tells of validators and those who govern them.

Pure functions, so the API's test twin gives the very same documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consensus.messages import quorum
from node.api.governance import (
    ApprovalView,
    ChangeProposedView,
    EquivocationView,
    InstructionView,
    PendingEpochView,
    PendingMemberView,
    ProposalView,
    ValidatorsView,
    ValidatorView,
)
from node.chain.block import validator_set_digest
from node.chain.encoding import decode, encode
from node.chain.records import EquivocationRecord, PendingEpoch, ProposalRecord
from node.chain.types import (
    AddAsset,
    AddValidator,
    AdmitParticipant,
    Change,
    CloseParticipant,
    LiftSuspension,
    Outcome,
    PublishSchedule,
    RekeyValidator,
    RemoveValidator,
    ReplaceKeys,
    SetMember,
    SetNetting,
    SuspendParticipant,
    Validator,
)
from node.engine.views import outcome_word
from node.engine.wording import Wording
from node.ledger.governance import count_approvals, counts_now
from node.ledger.state import State


def validators_view(state: State) -> ValidatorsView:
    """The set in force, and the one to come."""
    validators, pending = state.validator_set, state.pending_epoch
    return ValidatorsView(
        height=state.height,
        epoch=validators.epoch,
        digest=validator_set_digest(validators).hex(),
        quorum=quorum(len(validators.validators)),
        validators=[_validator(state, each) for each in validators.validators],
        pending=None if pending is None else _pending(state, pending, validators.epoch + 1),
    )


def _pending(state: State, pending: PendingEpoch, epoch: int) -> PendingEpochView:
    return PendingEpochView(
        epoch=epoch,
        deadline=pending.deadline,
        ready=len(pending.ready),
        quorum=quorum(len(pending.members)),
        members=[
            PendingMemberView(validator=_validator(state, each), ready=each.name in pending.ready)
            for each in pending.members
        ],
    )


def _validator(state: State, validator: Validator) -> ValidatorView:
    return ValidatorView(
        name=validator.name,
        operator=validator.operator,
        operator_name=_name(state, validator.operator),
        vote_key=validator.vote_key.hex(),
        node_key=validator.node_key.hex(),
        address=validator.address,
    )


def _name(state: State, lei: str) -> str:
    found = state.participant(lei)
    return lei if found is None else found.record.name


def proposals_view(state: State) -> list[ProposalView]:
    """The open proposals, by id."""
    return [_proposal(state, each) for each in state.proposals()]


def _proposal(state: State, proposal: ProposalRecord) -> ProposalView:
    approvals = [_approval(state, key) for key in proposal.approvals]
    return ProposalView(
        id=proposal.id.hex(),
        proposer=proposal.proposer,
        proposer_name=_name(state, proposal.proposer),
        changes=[_change(state, each) for each in proposal.changes],
        expires=proposal.expires,
        approvals=approvals,
        approved=count_approvals(state, proposal.approvals, state.height + 1),
        needed=state.parameters.governance_threshold,
    )


def _approval(state: State, key: bytes) -> ApprovalView:
    holder = state.key_holder(key)
    assert holder is not None, "only registered keys sign, and none is ever forgotten"
    participant = state.participant(holder)
    assert participant is not None
    counts = counts_now(state, key, state.height + 1)
    return ApprovalView(public_key=key.hex(), participant=participant.record.name, counts=counts)


def _change(state: State, change: Change) -> ChangeProposedView:
    match change:
        case RemoveValidator():
            return ChangeProposedView(kind="remove", name=change.name, validator=None)
        case AddValidator() | RekeyValidator():
            return ChangeProposedView(
                kind="add" if isinstance(change, AddValidator) else "rekey",
                name=change.validator.name,
                validator=_validator(state, change.validator),
            )
    detail = Wording(state).event(change)
    kind = detail.pop("kind")
    if isinstance(change, PublishSchedule):
        # Hundreds of days: what a person compares, not every one of them.
        detail = {"first": change.days[0].date, "last": change.days[-1].date} | detail
    return ChangeProposedView(
        kind=kind, name=_subject(state, change), validator=None, detail=detail
    )


def _subject(state: State, change: Change) -> str:
    """Whom or what a change concerns; empty where it is the ledger itself."""
    match change:
        case AdmitParticipant():
            return change.name
        case CloseParticipant() | SuspendParticipant() | LiftSuspension() | ReplaceKeys():
            return _name(state, change.lei)
        case SetMember():
            return _name(state, change.participant)
        case AddAsset():
            return change.code
        case SetNetting():
            return change.asset
    return ""


def equivocations_view(state: State) -> list[EquivocationView]:
    """Every proven equivocation, by epoch, view and validator."""
    return [_equivocation(state, each) for each in state.equivocations()]


def _equivocation(state: State, proven: EquivocationRecord) -> EquivocationView:
    first, second = proven.first, proven.second
    validators = state.validator_set_of(first.epoch)
    assert validators is not None, "a report is judged by the set of its epoch"
    validator = validators.validators[first.voter]
    return EquivocationView(
        epoch=first.epoch,
        view=first.view,
        validator=first.voter,
        name=validator.name,
        operator=validator.operator,
        vote_key=validator.vote_key.hex(),
        kinds=[vote.kind.name.lower() for vote in (first, second)],
        first=encode(first).hex(),
        second=encode(second).hex(),
        height=proven.height,
        reporter=proven.reporter,
    )


def instruction_view(
    state: State, outcomes: Callable[[int], Sequence[bytes] | None], sender: str, id: str
) -> InstructionView | None:
    """What became of an instruction that the ledger still remembers, and whose block it holds.

    `outcomes`: those of the block at a height, in their order."""
    entry = state.instruction(sender, id)
    if entry is None:
        return None
    for raw in outcomes(entry.height) or ():
        outcome = decode(raw, Outcome)
        if outcome.instruction == entry.instruction:
            return InstructionView(
                sender=sender,
                id=id,
                digest=entry.digest.hex(),
                height=entry.height,
                index=entry.instruction,
                time=outcome.time,
                # A change that it brought about tells of another payment, not of itself.
                status="done" if outcome.content is not None else outcome_word(outcome),
                reason=None if outcome.content is not None else outcome.reason,
            )
    return None
