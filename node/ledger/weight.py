"""How much of a block's execution an instruction takes, in payments.

Whoever proposes a block and whoever judges one weighs alike, before each instruction on the block
as it stands: one order can change ten thousand payments that settle only together. What a block may
take in all bounds its execution, which the timers of consensus have to cover; a block above that is
bad, or a single member could stop the chain with blocks that nobody finishes.
"""

from __future__ import annotations

from typing import Any, Protocol

from node.chain import types as t
from node.chain.instruction import CheckedInstruction
from node.chain.records import Grouped, PaymentKey, ProposalRecord, Queued
from node.ledger.tables import PAYMENTS, AnyTable

SIGNATURE_WEIGHT = 6
"""What checking one signature while executing costs, in payments. Admission checks those that
sign an instruction; these are inside it, and a block full of them must not take longer to execute
than one full of payments."""
PRICE_WEIGHT = 200
"""What a new price costs, in payments: it changes the line of everybody who pledged the security,
at the cost of two payments each."""
PHASE_WEIGHT = 1_000
"""What an order to go on with the day costs, in payments: it may close the day."""
FREEZE_WEIGHT = 1_000
"""What a freeze costs, in payments: it looks at every queued payment."""
CHANGE_WEIGHT = 50
"""What judging a change costs, in payments: it is held against all participants."""


class View(Protocol):
    """What weighing reads: a `State`, or the working state within a block."""

    def resident(self, table: AnyTable, key: Any) -> Any:
        """The row under this key, if it is kept in memory."""

    def proposal(self, id: bytes) -> ProposalRecord | None:
        """The open proposal with this id."""


def weight(view: View, checked: CheckedInstruction, max_payments: int) -> int:
    """How much of a block that may take `max_payments` the instruction takes, if it is next."""
    payments = len(checked.payment_digests)
    if payments:
        return payments
    body = checked.instruction.envelope.body
    match body:
        case t.Propose():
            cost = 1 + sum(map(_change_weight, body.changes))
        case t.Approve():
            # The proofs of possession in it were checked when it was proposed.
            proposal = view.proposal(body.proposal)
            changes = () if proposal is None else proposal.changes
            cost = 1 + CHANGE_WEIGHT * len(changes)
        case t.Cancel() | t.Hold() | t.Release() | t.Reprioritise():
            cost = _entry_size(view, body.uetr)
        case t.Freeze():
            cost = FREEZE_WEIGHT
        case t.Link():
            cost = len(body.legs)
        case t.Return() | t.Recall() | t.OpenDispute():
            cost = 2  # the payment that it is about is hashed, too
        case t.ReportEquivocation():
            cost = 1 + 2 * SIGNATURE_WEIGHT
        case t.RegisterKey() | t.ReadyValidator():
            cost = 1 + SIGNATURE_WEIGHT
        case t.PostPrice():
            cost = PRICE_WEIGHT
        case t.ProceedDay():
            cost = PHASE_WEIGHT
        case _:
            cost = 1
    # Whatever a block's size, one of these must fit.
    return min(cost, max_payments)


def _entry_size(view: View, uetr: bytes) -> int:
    """How many payments the queue entry has that this one is in."""
    record = view.resident(PAYMENTS, PaymentKey(uetr))
    if record is not None and isinstance(record.live, Grouped):
        record = view.resident(PAYMENTS, PaymentKey(record.live.leader))
    if record is None or not isinstance(record.live, Queued):
        return 1
    return len(record.live.payments)


def _change_weight(change: t.Change) -> int:
    """What judging a change takes, and putting it if the proposal is approved at once."""
    match change:
        case t.AddValidator() | t.RekeyValidator():
            return 2 * SIGNATURE_WEIGHT
        case t.AdmitParticipant():
            return CHANGE_WEIGHT + len(change.keys) * SIGNATURE_WEIGHT
        case t.ReplaceKeys():
            return CHANGE_WEIGHT + len(change.register) * SIGNATURE_WEIGHT
        case t.PublishSchedule():
            return CHANGE_WEIGHT + len(change.days)
        case _:
            return CHANGE_WEIGHT
