"""Proposals and approvals: m of n operator keys decide.

The `Propose` instruction's envelope digest names its proposal, so an approval signs exactly what
it approves. Approvals are collected from operators' signing keys and counted when one more comes
in, over the distinct ones that are valid at that height: a key that was revoked in between counts
no more, nor does one of an operator that is suspended, and no operator has more approvals than its
share. The changes are judged twice (`changes`), when proposed and when decided on; a decision that
cannot be carried out any more is rejected and the proposal stays open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import ProposalRecord
from node.chain.types import Approve, Propose
from node.ledger.changes import OPERATOR, carry_out, judge
from node.ledger.reasons import (
    APPROVED_ALREADY,
    EXPIRY_OUT_OF_RANGE,
    LIMIT_REACHED,
    NO_SUCH_PROPOSAL,
    NOT_AN_OPERATOR,
    PROPOSAL_EXPIRED,
)
from node.ledger.state import Participant
from node.ledger.validators import ChangeRejected
from node.ledger.work import Work

MAX_OPEN_PROPOSALS = 8
"""Open proposals of one operator: each has its own share, so that none can crowd out the others."""
MAX_OPEN_MS = 30 * 24 * 3600 * 1000
"""How far ahead of its block's time a proposal's `expires` may lie."""


def propose_changes(work: Work, index: int, checked: CheckedInstruction, body: Propose) -> None:
    """Open a proposal with the approvals of the keys that signed it, or carry it out if those are
    enough."""
    try:
        _propose(work, index, checked, body)
    except ChangeRejected as rejected:
        work.note(index, rejected.reason)


def _propose(work: Work, index: int, checked: CheckedInstruction, body: Propose) -> None:
    sender = checked.instruction.envelope.sender
    _check_operator(work, sender)
    if not work.context.time < body.expires <= work.context.time + MAX_OPEN_MS:
        raise ChangeRejected(EXPIRY_OUT_OF_RANGE)
    stored = work.stored_proposals()
    expired = [each.id for each in stored if each.expires < work.context.time]
    mine = sum(each.proposer == sender for each in stored if each.id not in expired)
    if mine >= MAX_OPEN_PROPOSALS:
        raise ChangeRejected(LIMIT_REACHED)
    judge(work, body.changes, proofs=True)
    # Only now, with nothing left to reject it: a rejection changes nothing.
    work.note(index, None)
    for id in expired:
        work.close_proposal(id)
    approvals = _ascending(key.public_key for key in checked.instruction.signatures)
    if _is_approved(work, approvals):
        carry_out(work, index, body.changes)
        return
    work.put_proposal(ProposalRecord(checked.digest, sender, body.changes, body.expires, approvals))


def approve(work: Work, index: int, checked: CheckedInstruction, body: Approve) -> None:
    """Add the approvals of the keys that signed, and carry the proposal out if it has enough."""
    try:
        _approve(work, index, checked, body)
    except ChangeRejected as rejected:
        work.note(index, rejected.reason)


def _approve(work: Work, index: int, checked: CheckedInstruction, body: Approve) -> None:
    _check_operator(work, checked.instruction.envelope.sender)
    proposal = work.proposal(body.proposal)
    if proposal is None:
        raise ChangeRejected(NO_SUCH_PROPOSAL)
    if proposal.expires < work.context.time:
        raise ChangeRejected(PROPOSAL_EXPIRED)
    signing = [key.public_key for key in checked.instruction.signatures]
    if set(signing) <= set(proposal.approvals):
        raise ChangeRejected(APPROVED_ALREADY)
    approvals = _ascending((*proposal.approvals, *signing))
    if not _is_approved(work, approvals):
        work.note(index, None)
        work.put_proposal(replace(proposal, approvals=approvals))
        return
    judge(work, proposal.changes, proofs=False)
    work.note(index, None)
    work.close_proposal(proposal.id)
    carry_out(work, index, proposal.changes)


def _check_operator(work: Work, lei: str) -> None:
    sender = work.participant(lei)
    assert sender is not None, "an unknown sender's instruction may not stand"
    if OPERATOR not in sender.record.roles:
        raise ChangeRejected(NOT_AN_OPERATOR)


def _is_approved(work: Work, approvals: Iterable[bytes]) -> bool:
    counted = count_approvals(work, approvals, work.context.height)
    return counted >= work.parent.parameters.governance_threshold


class KeyView(Protocol):
    """Whose keys are whose: a `State`, or the working state within a block."""

    def key_holder(self, public_key: bytes) -> str | None:
        """LEI of the participant under which this key is or was registered."""

    def participant(self, lei: str) -> Participant | None:
        """The participant with this LEI."""


def count_approvals(view: KeyView, approvals: Iterable[bytes], height: int) -> int:
    """How many approvals these distinct keys are at this height: of each operator's valid keys at
    most as many as it was given, by the genesis file or when it was admitted.

    A participant registers keys by itself. One that is registered may take the place of another,
    never add to them: else whoever stole a single key makes as many as the threshold asks for."""
    valid: Counter[str] = Counter()
    for key in approvals:
        holder = view.key_holder(key)
        if holder is not None and counts_now(view, key, height):
            valid[holder] += 1
    return sum(min(count, _seats(view, holder)) for holder, count in valid.items())


def counts_now(view: KeyView, key: bytes, height: int) -> bool:
    """Whether the key is an active operator's and valid at this height."""
    holder = view.key_holder(key)
    held = None if holder is None else view.participant(holder)
    if held is None or OPERATOR not in held.record.roles:
        return False
    if held.record.suspended or held.record.closed:
        return False
    record = held.keys.get(key)
    return record is not None and record.is_valid(height)


def _seats(view: KeyView, lei: str) -> int:
    held = view.participant(lei)
    return 0 if held is None else held.record.approvals


def _ascending(keys: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(sorted(set(keys)))
