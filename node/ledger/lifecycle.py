"""The life of a payment, in one place: its first outcome, every later one, and what the ledger
keeps of it in between.

Three things move together here and nowhere else: the outcome in the block, the row of the
`PAYMENTS` table with its chain of changes, and the entry that uses up the UETR. A payment that is
decided in the block of its first outcome leaves no row; one that is undecided, or decided later, or
given back, has one for ever.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from msgspec.structs import replace

from node.chain.merkle import OUTCOME_LEAF
from node.chain.records import Live, PaymentKey, PaymentRecord
from node.chain.types import Event, OutcomePlace, Payment, Returns
from node.ledger.due import payment_due
from node.ledger.entries import UetrEntry
from node.ledger.reasons import WITHOUT_AUTHORITY
from node.ledger.tables import PAYMENTS
from node.ledger.work import Work

NO_CHANGES = bytes(32)
"""Where the chain of a payment's changes starts."""


class Origin(NamedTuple):
    """A payment as an instruction of this block carries it."""

    instruction: int
    number: int
    """Among the instruction's payments."""
    payment: Payment
    content: bytes
    """Its leaf hash."""


def repeat(
    work: Work, origin: Origin, standing: UetrEntry, status: str, reason: str | None
) -> None:
    """Tell the sender of a retry what has become of the payment that stands."""
    work.emit(
        origin.instruction,
        status,
        reason,
        payment=origin.number,
        uetr=origin.payment.uetr,
        original=OutcomePlace(standing.height, standing.instruction, standing.payment),
    )


def reject(work: Work, origin: Origin, reason: str, standing: UetrEntry | None = None) -> None:
    """Record a rejection. It uses up the UETR unless that is used already, or the sender had no
    authority over the payment."""
    _first(work, origin, "RJCT", reason, None, None, None)
    if standing is None and reason not in WITHOUT_AUTHORITY:
        _use_up(work, origin, "RJCT", reason, None)


def decide(
    work: Work,
    origin: Origin,
    status: str,
    reason: str | None = None,
    *,
    debtor_balance: int | None = None,
    creditor_balance: int | None = None,
    event: Event | None = None,
) -> None:
    """Record the first outcome of a payment that nothing will change any more."""
    _first(work, origin, status, reason, debtor_balance, creditor_balance, event)
    _use_up(work, origin, status, reason, None)


def join(work: Work, origin: Origin, cycle: int, event: Event) -> None:
    """Record that a payment is in a clearing cycle, whose row decides it: it needs none itself."""
    _first(work, origin, "ACSP", None, None, None, event)
    _use_up(work, origin, "ACSP", None, cycle)


def begin(
    work: Work,
    origin: Origin,
    status: str,
    reason: str | None,
    live: Live,
    *,
    event: Event | None = None,
) -> None:
    """Record the first outcome of a payment that waits for another, and put it on the books."""
    work.changes.append((origin.payment.uetr, len(work.outcomes)))
    _first(work, origin, status, reason, None, None, event)
    _use_up(work, origin, status, reason, None)
    record = PaymentRecord(
        uetr=origin.payment.uetr,
        content=origin.content,
        first=OutcomePlace(work.context.height, origin.instruction, origin.number),
        since=work.context.time,
        changes=0,
        chain=NO_CHANGES,
        status=status,
        live=live,
        returned=0,
        returning=0,
        recall=None,
    )
    work.put(PAYMENTS, PaymentKey(record.uetr), record)
    work.remind(payment_due(record, work.window))


def change(
    work: Work,
    record: PaymentRecord,
    status: str,
    reason: str | None,
    live: Live | None,
    *,
    instruction: int | None = None,
    debtor_balance: int | None = None,
    creditor_balance: int | None = None,
    event: Event | None = None,
) -> None:
    """Record a later outcome of a payment. `live`: what it is from now on; None: decided.

    `instruction`: the one that brought it about; None: the block did."""
    work.changes.append((record.uetr, len(work.outcomes)))
    outcome = work.emit(
        instruction,
        status,
        reason,
        payment=record.first.payment,
        uetr=record.uetr,
        debtor_balance=debtor_balance,
        creditor_balance=creditor_balance,
        original=record.first,
        content=record.content,
        event=event,
    )
    height = work.context.height
    work.uetrs[record.uetr] = UetrEntry(
        record.uetr,
        record.content,
        work.context.time,
        record.first.height,
        record.first.instruction,
        record.first.payment,
        status,
        reason,
        height,
        None,
    )
    key = PaymentKey(record.uetr)
    if live is None and record.first.height == height and not (record.returned or record.returning):
        work.forget(PAYMENTS, key)
        return
    chain = sha256(record.chain + sha256(OUTCOME_LEAF + outcome).digest()).digest()
    changed = PaymentRecord(
        record.uetr,
        record.content,
        record.first,
        record.since,
        record.changes + 1,
        chain,
        status,
        live,
        record.returned,
        record.returning,
        record.recall,
    )
    work.put(PAYMENTS, key, changed)
    if live is not None:
        work.remind(payment_due(changed, work.window))


def relive(work: Work, record: PaymentRecord, live: Live) -> None:
    """Replace what an undecided payment is, without an outcome: nothing that its parties could see
    changed."""
    work.put(PAYMENTS, PaymentKey(record.uetr), replace(record, live=live))


def _first(
    work: Work,
    origin: Origin,
    status: str,
    reason: str | None,
    debtor_balance: int | None,
    creditor_balance: int | None,
    event: Event | None,
) -> None:
    work.emit(
        origin.instruction,
        status,
        reason,
        payment=origin.number,
        uetr=origin.payment.uetr,
        debtor_balance=debtor_balance,
        creditor_balance=creditor_balance,
        event=event,
    )
    if reason in WITHOUT_AUTHORITY or status == "RJCT":
        return
    if origin.payment.previous is not None:
        work.following.append((origin.payment.previous, origin.payment.uetr))
    if isinstance(event, Returns):
        work.following.append((event.original, origin.payment.uetr))


def _use_up(work: Work, origin: Origin, status: str, reason: str | None, cycle: int | None) -> None:
    height, uetr = work.context.height, origin.payment.uetr
    work.uetrs[uetr] = UetrEntry(
        uetr,
        origin.content,
        work.context.time,
        height,
        origin.instruction,
        origin.number,
        status,
        reason,
        height,
        cycle,
    )
