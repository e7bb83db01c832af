"""Choosing the instructions of a new block: by construction never a bad one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from node.chain import types as t
from node.chain.instruction import CheckedInstruction
from node.ledger.apply import begin, conclude, execute
from node.ledger.check import NotAdmissible, may_stand
from node.ledger.state import State
from node.ledger.work import Applied, BlockContext

TOO_LARGE = "too-large"
"""Code of the refusal of an instruction that fits into no block."""

FRAME_BYTES = 5
"""What MessagePack adds to an instruction's bytes in a block, at most."""


SIGNATURE_WEIGHT = 6
"""What checking one signature while executing costs, in payments. Admission checks those that
sign an instruction; these are inside it, and a block full of them must not take longer to execute
than one full of payments."""
PRICE_WEIGHT = 200
"""What a new price costs, in payments: it changes the line of everybody who pledged the security,
at the cost of two payments each."""
PHASE_WEIGHT = 1_000
"""What an order to go on with the day costs, in payments: it may close the day."""
CHANGE_WEIGHT = 50
"""What judging a change costs, in payments: it is held against all participants."""


class Proposal(NamedTuple):
    """A block's instructions, already executed."""

    chosen: list[CheckedInstruction]
    applied: Applied
    dropped: list[tuple[CheckedInstruction, NotAdmissible]]
    """Candidates that may not stand, now or ever on this parent, and why."""


def propose(
    parent: State,
    context: BlockContext,
    candidates: Iterable[CheckedInstruction],
    max_bytes: int,
    max_payments: int,
) -> Proposal:
    """Execute as many candidates as fit, in their order, on the parent's state.

    The block ends before the first one that does not fit, so that nothing small overtakes it
    for ever; an instruction without payments counts by its `weight`. What may not stand, or is
    larger than a whole block, is left out and named in `dropped`. `context.time` is above the
    parent's.
    """
    work = begin(parent, context)
    chosen: list[CheckedInstruction] = []
    dropped: list[tuple[CheckedInstruction, NotAdmissible]] = []
    bytes_left, payments_left = max_bytes, max_payments
    for checked in candidates:
        size = len(checked.raw) + FRAME_BYTES
        payments = weight(checked, max_payments)
        if size > max_bytes or payments > max_payments:
            detail = f"{size} bytes and {payments} payments; a block takes {max_bytes} and "
            dropped.append((checked, NotAdmissible(TOO_LARGE, f"{detail}{max_payments}")))
            continue
        if size > bytes_left or payments > payments_left:
            break
        try:
            may_stand(work, checked, context.height, context.time)
        except NotAdmissible as refusal:
            dropped.append((checked, refusal))
            continue
        execute(work, len(chosen), checked)
        chosen.append(checked)
        bytes_left -= size
        payments_left -= payments
    return Proposal(chosen, conclude(work), dropped)


def weight(checked: CheckedInstruction, max_payments: int) -> int:
    """How much of a block's execution an instruction takes, in payments."""
    payments = len(checked.payment_digests)
    if payments:
        return payments
    body = checked.instruction.envelope.body
    match body:
        case t.Propose():
            cost = 1 + sum(map(_change_weight, body.changes))
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
