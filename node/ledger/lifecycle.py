"""The life of a payment, in one place: its first outcome, every later one, and what the ledger
keeps of it in between.

Three things move together here and nowhere else: the outcome in the block, the row of the
`PAYMENTS` table with its chain of changes, and the entry that uses up the UETR. A payment that is
decided in the block of its first outcome leaves no row; one that is undecided, or decided later, or
given back, has one for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import NamedTuple

from msgspec.structs import replace

from node.chain.encoding import encode
from node.chain.merkle import OUTCOME_LEAF
from node.chain.records import CycleKey, Live, PaymentKey, PaymentRecord
from node.chain.types import Carried, Event, Outcome, OutcomePlace, Payment, Returns
from node.ledger.due import payment_due
from node.ledger.entries import JoinedEntry, UetrEntry
from node.ledger.reasons import (
    ACCEPTED,
    CANCELLED,
    DUPLICATE,
    FINAL_SETTLED,
    REJECTED,
    SETTLED,
    UNWOUND,
    WITHOUT_AUTHORITY,
)
from node.ledger.tables import CYCLES, PAYMENTS
from node.ledger.work import Work

NO_CHANGES = bytes(32)
"""Where the chain of a payment's changes starts."""
NOT_SETTLED = frozenset({REJECTED, CANCELLED})
"""Statuses of decided payments with which no money moved. That of a net payment stays ACCEPTED; its
row is put once its cycle settled."""


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
    _first(work, origin, REJECTED, reason)
    if standing is None and reason != DUPLICATE and reason not in WITHOUT_AUTHORITY:
        _use_up(work, origin, REJECTED, reason, None)


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
    _first(
        work,
        origin,
        status,
        reason,
        debtor_balance=debtor_balance,
        creditor_balance=creditor_balance,
        event=event,
    )
    _use_up(work, origin, status, reason, None)


def join(work: Work, origin: Origin, cycle: int, event: Event) -> None:
    """Record that a payment is in a clearing cycle, whose row decides it: it needs none itself."""
    _first(work, origin, ACCEPTED, None, event=event)
    _use_up(work, origin, ACCEPTED, None, cycle)
    asset, place = origin.payment.asset, (work.context.height, origin.instruction, origin.number)
    work.joined.append(JoinedEntry(asset, cycle, origin.content, *place))


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
    _first(work, origin, status, reason, event=event)
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
        posted=None,
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
    posted: int | None = None,
) -> None:
    """Record a later outcome of a payment. `live`: what it is from now on; None: decided.

    `instruction`: the one that brought it about; None: the block did. `posted`: how much of a
    reservation settled."""
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
    changes, chain = record.changes, record.chain
    if record.first.height == height:
        if live is None and posted is None:
            work.forget(PAYMENTS, key)
            return
    else:
        changes += 1
        chain = sha256(chain + sha256(OUTCOME_LEAF + outcome).digest()).digest()
    changed = PaymentRecord(
        record.uetr,
        record.content,
        record.first,
        record.since,
        changes,
        chain,
        status,
        live,
        record.returned,
        record.returning,
        record.recall,
        posted,
    )
    work.put(PAYMENTS, key, changed)
    if live is not None:
        # What it was before put the rest there: an order that is given again and again, a hold and
        # a release, must not make the agenda longer.
        known = set(payment_due(record, work.window))
        work.remind(item for item in payment_due(changed, work.window) if item not in known)


def settle_together(
    work: Work, settled: Iterable[tuple[bytes, int, int]], event: Event
) -> list[bytes]:
    """Record that queued payments settled, all at once: `change` for thousands of them.

    `settled`: (UETR, debtor's balance, creditor's balance after all of them). Returns their leaf
    hashes."""
    height, time = work.context.height, work.context.time
    contents: list[bytes] = []
    outcomes, leaves = work.outcomes, work.leaves
    changes, uetrs, name = work.changes, work.uetrs, work.named.append
    payments, new = work.own_rows(PAYMENTS), tuple.__new__
    finders: list[Callable[[PaymentKey], PaymentRecord | None]]
    finders = [payments.get, *work.parent.row_finders(PAYMENTS)]
    for uetr, debtor_balance, creditor_balance in settled:
        key = PaymentKey(uetr)
        record = None
        for find in finders:
            record = find(key)
            if record is not None:
                break
        assert record is not None, "a queued payment has no row"
        first, content = record.first, record.content
        contents.append(content)
        outcome = encode(
            Outcome(
                height,
                time,
                None,
                first.payment,
                uetr,
                SETTLED,
                None,
                debtor_balance,
                creditor_balance,
                first,
                content,
                event,
            )
        )
        leaf = sha256(OUTCOME_LEAF + outcome).digest()
        leaves[len(outcomes)] = leaf
        changes.append((uetr, len(outcomes)))
        outcomes.append(outcome)
        name(uetr)
        # As UetrEntry(…), without the call of its own that it would make.
        uetrs[uetr] = new(
            UetrEntry,
            (
                uetr,
                content,
                time,
                first.height,
                first.instruction,
                first.payment,
                SETTLED,
                None,
                height,
                None,
            ),
        )
        if first.height == height:
            del payments[key]
            continue
        payments[key] = PaymentRecord(
            uetr,
            content,
            first,
            record.since,
            record.changes + 1,
            sha256(record.chain + leaf).digest(),
            SETTLED,
            None,
            record.returned,
            record.returning,
            record.recall,
            record.posted,
        )
    return contents


def settled_row(work: Work, payment: Payment, content: bytes) -> PaymentRecord | None:
    """The row of a settled payment that somebody shows in clear, to be put once something refers
    to it; None: no such payment settled, as far as the ledger remembers.

    `content`: the payment's leaf hash. A payment with a row is remembered for ever, one without as
    long as it uses up its UETR."""
    row = work.get(PAYMENTS, PaymentKey(payment.uetr))
    standing = work.standing(payment.uetr)
    if standing is None:
        settled = (
            row is not None
            and row.content == content
            and row.live is None
            and row.status not in NOT_SETTLED
        )
        return row if settled else None
    if (
        standing.digest != content
        or standing_status(work, standing, payment.asset)[0] not in FINAL_SETTLED
    ):
        return None
    first = OutcomePlace(standing.height, standing.instruction, standing.payment)
    if row is not None and row.first == first:
        return row
    # None, or that of a payment which the UETR named before, longer ago than the window.
    return PaymentRecord(
        uetr=payment.uetr,
        content=content,
        first=first,
        since=standing.time,
        changes=0,
        chain=NO_CHANGES,
        status=standing.status,
        live=None,
        returned=0,
        returning=0,
        recall=None,
        posted=None,
    )


def standing_status(work: Work, standing: UetrEntry, asset: str) -> tuple[str, str | None]:
    """(status, reason) now of the payment under a used UETR: one in a clearing cycle has its
    cycle's."""
    if standing.cycle is None:
        return standing.status, standing.reason
    cycle = work.get(CYCLES, CycleKey(asset, standing.cycle))
    assert cycle is not None, "a payment joined a cycle that is not there"
    if cycle.status == "settled":
        return SETTLED, None
    return (REJECTED, UNWOUND) if cycle.status == "unwound" else (ACCEPTED, None)


def relive(work: Work, record: PaymentRecord, live: Live) -> None:
    """Replace what an undecided payment is, without an outcome: nothing that its parties could see
    changed."""
    work.put(PAYMENTS, PaymentKey(record.uetr), replace(record, live=live))


def _first(
    work: Work,
    origin: Origin,
    status: str,
    reason: str | None,
    *,
    debtor_balance: int | None = None,
    creditor_balance: int | None = None,
    event: Event | None = None,
) -> None:
    if event is None and status != REJECTED and origin.payment.previous is not None:
        event = Carried(origin.payment.previous)
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
    if status == REJECTED:
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
