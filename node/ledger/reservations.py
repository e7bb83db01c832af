"""Two-phase payments: an amount is set aside first, and settles later, in full or in part, or not.

A reservation is never queued: it obeys the rule that a payment obeys at entry, or is rejected with
what it would have to wait for. What is set aside is its debtor's, but nothing else can use it:
whoever is named to post it, or whoever shows the preimage of its hash lock, can rely on it until it
expires, whatever the phase of the day and whether or not a party is restricted by then. Two ledgers
that lock under the same hash exchange money without trusting each other.

Limits count a reservation when it is made; what is not posted makes room again on the same day.
"""

from __future__ import annotations

from hashlib import sha256

from node.chain.instruction import CheckedInstruction, payment_digest
from node.chain.records import BusinessDayKey, DayKey, PaymentKey, PaymentRecord, Queued, Reserved
from node.chain.types import (
    MAX_BALANCE,
    MAX_VALIDITY_MS,
    Mode,
    Payment,
    Phase,
    Post,
    Posted,
    Reserve,
    Void,
)
from node.ledger import limits
from node.ledger.entry import answered, blocked, refusal, restriction, use_consents
from node.ledger.lifecycle import Origin, begin, change, reject
from node.ledger.queue import entry_of
from node.ledger.reasons import (
    AMOUNT_TOO_LARGE,
    BAD_EXPIRY,
    BAD_PREIMAGE,
    CANCELLED,
    NO_NETTING,
    NOT_CHANGEABLE,
    NOT_THE_PARTY,
    OVER_AMOUNT,
    POSTED,
    RESERVED,
    SETTLEMENT_TIMEOUT,
    UNKNOWN_PARTICIPANT,
    UNKNOWN_REFERENCE,
    VOIDED,
    ZERO_AMOUNT,
)
from node.ledger.tables import BUSINESS_DAYS, DAY, PAYMENTS
from node.ledger.work import Work

MAX_EXPIRY_MS = MAX_VALIDITY_MS
"""How far ahead of a block's time a reservation or a link that it opens may expire."""


def good_expiry(work: Work, expires: int) -> bool:
    """Whether something that this block opens may expire then: after the block, within reach, and
    while the UETRs that it uses up are remembered."""
    return 0 < expires - work.context.time <= min(MAX_EXPIRY_MS, work.window)


# --- reserve --------------------------------------------------------------------------------------


def reserve(work: Work, index: int, checked: CheckedInstruction, body: Reserve) -> None:
    """Set a payment's amount aside, or reject it."""
    payment = body.payment
    origin = Origin(index, 0, payment, payment_digest(payment))
    sender = checked.instruction.envelope.sender
    if answered(work, sender, origin, work.standing(payment.uetr)):
        return
    reason = refusal(work, origin) or _terms_refusal(work, body) or _obstacle(work, payment)
    if reason is not None:
        reject(work, origin, reason)
        return
    use_consents(work, [origin])
    _set_aside(work, payment, payment.amount)
    _count(work, payment, payment.amount)
    live = Reserved(payment, body.poster, body.hash_lock, body.expires)
    begin(work, origin, RESERVED, None, live)


def _terms_refusal(work: Work, body: Reserve) -> str | None:
    """What is wrong with the terms on which it could be posted."""
    if body.payment.mode is not Mode.GROSS:
        return NO_NETTING
    if body.poster is None and body.hash_lock is None:
        return NOT_THE_PARTY
    if body.poster is not None and work.participant(body.poster) is None:
        return UNKNOWN_PARTICIPANT
    latest = body.payment.latest
    if not good_expiry(work, body.expires) or (latest is not None and body.expires > latest + 1):
        return BAD_EXPIRY
    return None


def _obstacle(work: Work, payment: Payment) -> str | None:
    """What a payment like this would have to wait for."""
    restricted = restriction(work, [payment])
    early = payment.earliest is not None and payment.earliest > work.context.time
    entry = entry_of(
        Queued(
            (payment,), payment.priority, 0, held=False, restricted=False, early=early, returns=None
        )
    )
    wait = blocked(work, entry, restricted=restricted)
    return None if wait is None else wait[1]


# --- post, void, expire ---------------------------------------------------------------------------


def post(work: Work, index: int, checked: CheckedInstruction, body: Post) -> None:
    """Settle a reservation, in full or in part, or reject the order."""
    found = _reservation(work, body.uetr)
    if isinstance(found, str):
        work.note(index, found)
        return
    record, live = found
    payment = live.payment
    amount = payment.amount if body.amount is None else body.amount
    sender = checked.instruction.envelope.sender
    reason = _may_not_post(sender, live, body) or _wrong_amount(work, sender, live, amount)
    if reason is not None:
        work.note(index, reason)
        return
    source = work.book(payment.asset, int(payment.debtor_account))
    target = work.book(payment.asset, int(payment.creditor_account))
    _set_aside(work, payment, -payment.amount)
    _count_back(work, record, payment, payment.amount - amount)
    if payment.creditor_account == limits.SETTLEMENT and payment.creditor != payment.debtor:
        limits.use(work, payment.creditor, payment.asset, {payment.debtor: -amount})
    left = (source.load(payment.debtor) or 0) - amount
    source.balances[payment.debtor] = left
    after = (target.load(payment.creditor) or 0) + amount
    target.balances[payment.creditor] = after
    work.credited(payment.creditor, payment.asset, int(payment.creditor_account))
    if amount < payment.amount:
        work.credited(payment.debtor, payment.asset, int(payment.debtor_account))
    change(
        work,
        record,
        POSTED,
        None,
        None,
        instruction=index,
        debtor_balance=left,
        creditor_balance=after,
        event=Posted(amount),
        posted=amount,
    )


def _may_not_post(sender: str, live: Reserved, body: Post) -> str | None:
    if sender == live.poster:
        return None
    if live.hash_lock is None or (body.preimage is None and live.poster is not None):
        return NOT_THE_PARTY
    if body.preimage is None or sha256(body.preimage).digest() != live.hash_lock:
        return BAD_PREIMAGE
    return None


def _wrong_amount(work: Work, sender: str, live: Reserved, amount: int) -> str | None:
    payment = live.payment
    if amount == 0:
        return ZERO_AMOUNT
    # Who only knows the preimage decides nothing about the amount: both sides of an exchange
    # counted on all of it.
    if amount > payment.amount or (sender != live.poster and amount != payment.amount):
        return OVER_AMOUNT
    book = work.book(payment.asset, int(payment.creditor_account))
    if (book.load(payment.creditor) or 0) + amount > MAX_BALANCE:
        return AMOUNT_TOO_LARGE
    return None


def void(work: Work, index: int, checked: CheckedInstruction, body: Void) -> None:
    """Give a reservation back to its debtor because the creditor lets it go, or reject the
    order."""
    found = _reservation(work, body.uetr)
    if isinstance(found, str):
        work.note(index, found)
        return
    record, live = found
    if checked.instruction.envelope.sender != live.payment.creditor:
        work.note(index, NOT_THE_PARTY)
        return
    _let_go(work, record, live.payment, VOIDED, index)


def expire(work: Work, record: PaymentRecord) -> None:
    """A reservation's time is over: its amount is its debtor's again."""
    assert isinstance(record.live, Reserved)
    _let_go(work, record, record.live.payment, SETTLEMENT_TIMEOUT, None)


def _let_go(
    work: Work, record: PaymentRecord, payment: Payment, reason: str, instruction: int | None
) -> None:
    _set_aside(work, payment, -payment.amount)
    _count_back(work, record, payment, payment.amount)
    work.credited(payment.debtor, payment.asset, int(payment.debtor_account))
    change(work, record, CANCELLED, reason, None, instruction=instruction)


def _reservation(work: Work, uetr: bytes) -> tuple[PaymentRecord, Reserved] | str:
    """The reservation under this UETR, or why there is none to be posted or voided. One whose time
    is over is none, also in a block with more that is due than it can do."""
    record = work.get(PAYMENTS, PaymentKey(uetr))
    if record is not None and isinstance(record.live, Reserved):
        if record.live.expires <= work.context.time:
            return NOT_CHANGEABLE
        return record, record.live
    return UNKNOWN_REFERENCE if work.standing(uetr) is None else NOT_CHANGEABLE


# --- the account ----------------------------------------------------------------------------------


def _set_aside(work: Work, payment: Payment, amount: int) -> None:
    """Hold back more (or, below zero, less) of the debtor's account."""
    book = work.book(payment.asset, int(payment.debtor_account))
    reserved, line = book.holding(payment.debtor)
    book.hold(payment.debtor, reserved + amount, line)


def _count_back(work: Work, record: PaymentRecord, payment: Payment, amount: int) -> None:
    """Let what the debtor did not pay after all make room under its limits again, unless it used
    those of a former day: today's did not count it, and would allow more than they say."""
    day = work.get(DAY, DayKey())
    if day is not None:
        today = work.get(BUSINESS_DAYS, BusinessDayKey(day.date))
        assert today is not None, "the day that runs stays in the schedule"
        if record.first.height <= day.closed_at or record.since < today.begins[Phase.OPEN]:
            return
    _count(work, payment, -amount)


def _count(work: Work, payment: Payment, amount: int) -> None:
    """Count what the debtor set aside, or (below zero) did not pay after all, in its limits."""
    if payment.debtor_account == limits.SETTLEMENT and payment.debtor != payment.creditor:
        limits.use(work, payment.debtor, payment.asset, {payment.creditor: amount})
