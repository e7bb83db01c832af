"""What time makes due: an agenda of (block time, kind, id), ascending.

An entry is a reminder, not a fact: when its time comes its subject is asked whether it still holds
(the payment may have settled since), so nothing ever needs to be taken off the agenda. It is not
under `state_root`: it follows from the rows that are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from typing import Any

from node.chain.records import (
    BusinessDayKey,
    ConsentKey,
    CycleKey,
    DayKey,
    DayRecord,
    LinkKey,
    PaymentKey,
    PaymentRecord,
    Queued,
    Reserved,
)
from node.chain.types import BusinessDay, Phase
from node.ledger.tables import (
    BUSINESS_DAYS,
    CONSENTS,
    CYCLES,
    DAY,
    LINKS,
    PAYMENTS,
    AnyTable,
    Rows,
)


class DueKind(IntEnum):
    """Order of what is due at the same time."""

    PHASE = 0
    """A phase of the operating day begins. Id: date and phase."""
    CYCLE_CLOSE = 1
    """A scheduled close of a clearing cycle. Id: `close_id`."""
    FUNDING_END = 2
    """A funding window ends. Id: `cycle_id`."""
    CYCLE_AGE = 3
    """An undecided cycle is too old. Id: `cycle_id`."""
    RELEASE = 4
    """A payment's earliest time comes. Id: UETR."""
    EXPIRE = 5
    """A queued payment or a reservation expires. Id: UETR."""
    LINK = 6
    """An open link expires. Id: its id."""
    CONSENT = 7
    """A supervisor's consent lapses. Id: the payment's leaf hash."""


Due = tuple[int, int, bytes]
"""(block time from which it is due, milliseconds; `DueKind`; id)."""

MAX_DUE_KIND = 1 << 8
"""Above every kind: (t, MAX_DUE_KIND, b"") stands after all that is due at t."""

CYCLE_GRACE_MS = 7 * 24 * 3600 * 1000
"""An undecided cycle is unwound so long before the UETR window of its payments ends."""


def cycle_age(opened: int, window_ms: int) -> int:
    """From when on a clearing cycle is too old to stay undecided; milliseconds. In a ledger that
    remembers UETRs for no longer than the grace itself: after half of that."""
    return opened + (window_ms - CYCLE_GRACE_MS if window_ms > CYCLE_GRACE_MS else window_ms // 2)


def payment_due(record: PaymentRecord, window_ms: int) -> Iterator[Due]:
    """What an undecided payment puts on the agenda. `window_ms`: the ledger's UETR window, for
    longer than which nothing stays undecided."""
    live = record.live
    if isinstance(live, Queued):
        first = live.payments[0]
        if live.early and first.earliest is not None:
            yield first.earliest, DueKind.RELEASE, record.uetr
        last = record.since + window_ms
        if first.latest is not None:
            last = min(last, first.latest + 1)
        yield last, DueKind.EXPIRE, record.uetr
    elif isinstance(live, Reserved):
        yield live.expires, DueKind.EXPIRE, record.uetr


def phase_id(date: int, phase: Phase) -> bytes:
    """Id of the beginning of a phase."""
    return date.to_bytes(4, "big") + bytes((phase,))


def close_id(date: int, asset: str) -> bytes:
    """Id of a scheduled close of the asset's open cycle."""
    return date.to_bytes(4, "big") + asset.encode()


def cycle_id(asset: str, cycle: int) -> bytes:
    """Id of a clearing cycle."""
    return asset.encode() + b"\0" + cycle.to_bytes(8, "big")


def cycle_of(id: bytes) -> tuple[str, int]:
    """(asset, cycle) of a `cycle_id`."""
    asset, _, number = id.partition(b"\0")
    return asset.decode(), int.from_bytes(number, "big")


def day_due(day: BusinessDay) -> Iterator[Due]:
    """What a published business day puts on the agenda. Delays put more there."""
    for phase, begins in zip(Phase, day.begins, strict=True):
        yield begins, DueKind.PHASE, phase_id(day.date, phase)
    for close in day.closes:
        yield close.time, DueKind.CYCLE_CLOSE, close_id(day.date, close.asset)


def delays_due(day: DayRecord) -> Iterator[Due]:
    """What the delays of the day that runs put on the agenda."""
    for phase, until in day.delays:
        yield until, DueKind.PHASE, phase_id(day.date, phase)


Resident = Callable[[AnyTable, Any], Any]
"""resident(table, key): the row, if it is kept in memory."""


def holds(item: Due, resident: Resident, window_ms: int) -> bool:
    """Whether an entry's subject still says so."""
    time, kind, id = item
    match kind:
        case DueKind.PHASE | DueKind.CYCLE_CLOSE:
            return _is_scheduled(item, resident)
        case DueKind.RELEASE | DueKind.EXPIRE:
            record = resident(PAYMENTS, PaymentKey(id))
            return record is not None and item in payment_due(record, window_ms)
        case DueKind.LINK:
            return resident(LINKS, LinkKey(id)) is not None
        case DueKind.CONSENT:
            consent = resident(CONSENTS, ConsentKey(id))
            return consent is not None and consent.expires == time
        case DueKind.FUNDING_END:
            cycle = resident(CYCLES, CycleKey(*cycle_of(id)))
            return cycle is not None and cycle.decided is None and cycle.until == time
        case DueKind.CYCLE_AGE:
            cycle = resident(CYCLES, CycleKey(*cycle_of(id)))
            return cycle is not None and cycle.decided is None
    raise AssertionError(f"no kind {kind} is put on the agenda")


def _is_scheduled(item: Due, resident: Resident) -> bool:
    """Whether the schedule has this now: a day may have been published anew, a phase put off."""
    date = int.from_bytes(item[2][:4], "big")
    published = resident(BUSINESS_DAYS, BusinessDayKey(date))
    if published is None:
        return False
    running = resident(DAY, DayKey())
    return item in day_due(published) or (
        running is not None and running.date == date and item in delays_due(running)
    )


def due_items(tables: Mapping[AnyTable, Rows], window_ms: int) -> Iterator[Due]:
    """The whole agenda of these rows: what a node that starts builds it from. Entries whose time
    has passed may be among them; they are void."""
    for record in tables[PAYMENTS].values():
        yield from payment_due(record, window_ms)
    for key, link in tables[LINKS].items():
        assert isinstance(key, LinkKey)
        yield link.expires, DueKind.LINK, key.id
    for key, consent in tables[CONSENTS].items():
        yield consent.expires, DueKind.CONSENT, key.payment
    for key, cycle in tables[CYCLES].items():
        if cycle.decided is None:
            if cycle.until is not None:
                yield cycle.until, DueKind.FUNDING_END, cycle_id(key.asset, key.cycle)
            age = cycle_age(cycle.opened, window_ms)
            yield age, DueKind.CYCLE_AGE, cycle_id(key.asset, key.cycle)
    for published in tables[BUSINESS_DAYS].values():
        yield from day_due(published)
    day = tables[DAY].get(DayKey())
    if day is not None:
        yield from delays_due(day)
