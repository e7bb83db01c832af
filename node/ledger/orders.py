"""What a participant orders about its own payments and accounts: cancel, hold, release or
reprioritise a payment that waits; set a limit or a policy.

An order about a payment has no outcome of its own: the payment's change is it. One that is rejected
has, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import (
    Grouped,
    LimitsKey,
    LimitsRecord,
    PaymentKey,
    PaymentRecord,
    Queued,
    Reserved,
)
from node.chain.types import (
    Cancel,
    Hold,
    Priority,
    Release,
    Reprioritise,
    SetLimit,
    SetPolicy,
    Sweep,
)
from node.ledger import limits, reservations, waiting
from node.ledger.reasons import (
    BY_CUSTOMER,
    CANCELLED,
    CLOSED_PARTICIPANT,
    HELD,
    LIMIT_BELOW_USE,
    LIMIT_REACHED,
    NO_ACCESS_RIGHT,
    NOT_CHANGEABLE,
    NOT_THE_PARTY,
    NOTHING_TO_CHANGE,
    SAME_ACCOUNT,
    UNKNOWN_ACCOUNT,
    UNKNOWN_ASSET,
    UNKNOWN_PARTICIPANT,
    UNKNOWN_REFERENCE,
    WRONG_ROLE,
)
from node.ledger.state import Participant
from node.ledger.tables import LIMITS, PAYMENTS
from node.ledger.work import Work

OrderBody = Cancel | Hold | Release | Reprioritise


# --- about a payment ------------------------------------------------------------------------------


def order_payment(work: Work, index: int, checked: CheckedInstruction, body: OrderBody) -> None:
    """Carry out a debtor's order about one of its queued payments, or reject it.

    Any payment of an entry names the whole entry."""
    found = _entry(work, checked.instruction.envelope.sender, body.uetr)
    reason = found if isinstance(found, str) else _carry_out(work, index, found, body)
    if reason is not None:
        work.note(index, reason)


def _entry(work: Work, sender: str, uetr: bytes) -> Queued | str:
    """The queue entry of the sender's that this payment is (part of), or why there is none."""
    record = work.get(PAYMENTS, PaymentKey(uetr))
    if record is None or record.live is None:
        # Decided, or in a clearing cycle: only the UETR is remembered, not whose it was.
        return UNKNOWN_REFERENCE if work.standing(uetr) is None else NOT_CHANGEABLE
    live = record.live
    if isinstance(live, Grouped):
        live = waiting.queued_of(waiting.row(work, live.leader))
    payment = live.payments[0] if isinstance(live, Queued) else live.payment
    if payment.debtor != sender:
        return NOT_THE_PARTY
    return live if isinstance(live, Queued) else NOT_CHANGEABLE


def _carry_out(work: Work, index: int, queued: Queued, body: OrderBody) -> str | None:
    match body:
        case Cancel():
            waiting.alter(work, queued, None, CANCELLED, BY_CUSTOMER, instruction=index)
        case Hold():
            if queued.held:
                return NOTHING_TO_CHANGE
            held = replace(queued, held=True)
            waiting.alter(work, queued, held, HELD, BY_CUSTOMER, instruction=index)
        case Release():
            if not queued.held:
                return NOTHING_TO_CHANGE
            waiting.requeue(work, queued, instruction=index)
        case Reprioritise():
            if queued.priority == body.priority:
                return NOTHING_TO_CHANGE
            _reprioritise(work, index, queued, body.priority)
        case _:
            assert_never(body)
    return None


def _reprioritise(work: Work, index: int, queued: Queued, priority: Priority) -> None:
    if not (queued.held or queued.restricted):
        waiting.requeue(work, queued, priority=priority, instruction=index)
        return
    order = queued.order if queued.early else work.next_order()
    changed = replace(queued, priority=priority, order=order)
    # It stays as it is, at another place.
    last = work.standing(queued.payments[0].uetr)
    if last is not None:
        reason = last.reason
    else:  # the window has passed, and the block has more that is due than it can do
        reason = BY_CUSTOMER if queued.held else waiting.barred(work, queued.payments)
    waiting.alter(work, queued, changed, HELD, reason, instruction=index)


def release_due(work: Work, record: PaymentRecord) -> None:
    """The earliest settlement time of a queued payment has come."""
    waiting.release(work, waiting.queued_of(record))


def expire(work: Work, record: PaymentRecord) -> None:
    """A queued payment's latest settlement time, or the UETR window, or a reservation's expiry has
    passed."""
    if isinstance(record.live, Reserved):
        reservations.expire(work, record)
    else:
        waiting.expire(work, waiting.queued_of(record))


# --- about accounts -------------------------------------------------------------------------------


def set_limit(work: Work, index: int, checked: CheckedInstruction, body: SetLimit) -> None:
    """Set, change or remove a limit of a settlement account, or reject the order."""
    work.note(index, _set_limit(work, checked.instruction.envelope.sender, body))


def _set_limit(work: Work, sender: str, body: SetLimit) -> str | None:
    reason = _limit_refusal(work, sender, body)
    if reason is not None:
        return reason
    key = LimitsKey(body.participant, body.asset)
    record = work.get(LIMITS, key) or LimitsRecord(None, ())
    before = limits.limit_of(record, body.counterparty)
    if before is None and body.limit is None:
        return NOTHING_TO_CHANGE
    if before is not None and body.limit is not None and body.limit < before.used:
        return LIMIT_BELOW_USE
    if (
        before is None
        and body.counterparty is not None
        and len(record.bilateral) >= limits.MAX_BILATERAL
    ):
        return LIMIT_REACHED
    work.put(LIMITS, key, limits.with_limit(record, body.counterparty, body.limit))
    if before is None:
        # Its counterparty no longer counts under the multilateral one.
        makes_room = body.counterparty is not None and record.multilateral is not None
    else:
        makes_room = body.limit is None or body.limit > before.limit
    if makes_room:
        work.credited(body.participant, body.asset, limits.SETTLEMENT)
    return None


def _limit_refusal(work: Work, sender: str, body: SetLimit) -> str | None:
    """Why nobody could set this limit, or the sender could not."""
    if sender != body.participant and not _is_operator(work, sender):
        return WRONG_ROLE
    holder = work.participant(body.participant)
    if holder is None:
        return UNKNOWN_PARTICIPANT
    if not holder.holds_accounts:
        return UNKNOWN_ACCOUNT
    if work.asset(body.asset) is None:
        return UNKNOWN_ASSET
    if body.counterparty == body.participant:
        return SAME_ACCOUNT
    if body.counterparty is not None and work.participant(body.counterparty) is None:
        return UNKNOWN_PARTICIPANT
    return None


def _is_operator(work: Work, lei: str) -> bool:
    found = work.participant(lei)
    return found is not None and "operator" in found.record.roles


def set_policy(work: Work, index: int, checked: CheckedInstruction, body: SetPolicy) -> None:
    """Replace how the sender's accounts are run, from the next height, or reject the order."""
    sender = work.participant(checked.instruction.envelope.sender)
    assert sender is not None, "an unknown sender's instruction may not stand"
    reason = _policy_refusal(work, sender, body.sweeps)
    if reason is None:
        record = replace(sender.record, fifo_bypass=body.fifo_bypass, sweeps=body.sweeps)
        work.put_participant(Participant(record))
    work.note(index, reason)


def _policy_refusal(work: Work, sender: Participant, sweeps: Iterable[Sweep]) -> str | None:
    if not sender.holds_accounts:
        return NO_ACCESS_RIGHT
    for sweep in sweeps:
        target = work.participant(sweep.to)
        if work.asset(sweep.asset) is None:
            return UNKNOWN_ASSET
        if target is None:
            return UNKNOWN_PARTICIPANT
        if sweep.to == sender.record.lei:
            return SAME_ACCOUNT
        if not target.holds_accounts:
            return UNKNOWN_ACCOUNT
        if target.record.closed:
            return CLOSED_PARTICIPANT
    return None
