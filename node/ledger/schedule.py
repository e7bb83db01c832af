"""The published schedule of business days: what makes one sound, and how one is published.

Times are milliseconds of block time. Which days there are and when their phases begin was worked
out from a calendar and a time zone when the schedule was made (`nostro schedule make`): no node
ever reads either.

A business day lasts from its OPEN to the next day's OPEN, its last phase being CLOSED, so days
without a gap need no more than their order. *Gap* means whatever breaks it:

- a phase that begins before the one in front of it, or a day that closes when it opens;
- a date that is not above the one before;
- a day that opens before the day before is closed (at the same instant it may: a system that
  never rests changes its business date there);
- more than `MAX_CLOSED_MS` from a close to the next OPEN. No payment system rests for so long;
  days are missing from the list.

Phases that begin at the same instant are allowed: all but the last of them are left out that day,
as in a system without a customer cut-off. OPEN is before CLOSED.

Publishing replaces every day that is dated at or after the first published one; the day that runs
and days that stand before it stay. The first published day must not have opened yet, and joins
what stays without a gap. Where the schedule had ended, the ledger rested longer than it should: the
gap is then counted from the block that publishes. If the ledger waits for an operator to open a day
whose opening was jumped over, and that day is replaced, it waits no longer: the new one opens by
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple

from msgspec.structs import replace

from node.chain.records import BusinessDayKey, DayKey, DayRecord
from node.chain.types import MAX_SCHEDULE_DAYS, BusinessDay, Phase, PublishSchedule
from node.ledger.due import day_due
from node.ledger.reasons import (
    BAD_PARAMETER,
    LIMIT_REACHED,
    SCHEDULE_GAP,
    UNKNOWN_ASSET,
    WRONG_ASSET_TYPE,
)
from node.ledger.tables import BUSINESS_DAYS, DAY
from node.ledger.work import Work

MAX_CLOSED_MS = 14 * 24 * 3600 * 1000
"""Longest time between a close and the next OPEN. The longest rest of a large-value system, over
Chinese New Year, is 10 days."""
PHASE_NAMES = {
    Phase.OPEN: "open",
    Phase.CUSTOMER_CUTOFF: "customer-cutoff",
    Phase.INTERBANK: "interbank",
    Phase.CLEARING: "clearing",
    Phase.CLOSED: "closed",
}
"""As people write them."""


class Fault(NamedTuple):
    """What is wrong with a day of a schedule."""

    reason: str
    """`SCHEDULE_GAP` or `BAD_PARAMETER`."""
    date: int
    """yyyymmdd."""
    text: str


def faults(days: Sequence[BusinessDay]) -> Iterator[Fault]:
    """Everything that is wrong with days that are to follow on each other, in their order."""
    before: BusinessDay | None = None
    for day in days:
        yield from _faults_within(day)
        if before is not None:
            yield from _faults_between(before, day)
        before = day


def is_date(number: int) -> bool:
    """Whether yyyymmdd names a day of the Gregorian calendar."""
    try:
        date(number // 10_000, number // 100 % 100, number % 100)
    except ValueError:
        return False
    return True


def dashed(number: int) -> str:
    """A date yyyymmdd for people: yyyy-mm-dd."""
    text = f"{number:08d}"
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def _faults_within(day: BusinessDay) -> Iterator[Fault]:
    if not is_date(day.date):
        yield Fault(BAD_PARAMETER, day.date, "there is no such date")
    begins = day.begins
    for phase in list(Phase)[1:]:
        if begins[phase] < begins[phase - 1]:
            name, earlier = PHASE_NAMES[phase], PHASE_NAMES[Phase(phase - 1)]
            yield Fault(SCHEDULE_GAP, day.date, f"{name} begins before {earlier}")
    if begins[Phase.CLOSED] == begins[Phase.OPEN]:
        yield Fault(SCHEDULE_GAP, day.date, "it closes at the instant at which it opens")
    closes = [(each.time, each.asset) for each in day.closes]
    if closes != sorted(set(closes)):
        yield Fault(
            BAD_PARAMETER, day.date, "its cycles do not ascend by time and currency, or repeat"
        )
    for time, asset in closes:
        if not begins[Phase.OPEN] <= time <= begins[Phase.CLOSED]:
            yield Fault(
                BAD_PARAMETER, day.date, f"a cycle of {asset} closes outside of open to closed"
            )


def _faults_between(before: BusinessDay, day: BusinessDay) -> Iterator[Fault]:
    if day.date <= before.date:
        yield Fault(SCHEDULE_GAP, day.date, f"the date is not after {dashed(before.date)}")
    rest = day.begins[Phase.OPEN] - before.begins[Phase.CLOSED]
    if rest < 0:
        yield Fault(SCHEDULE_GAP, day.date, f"it opens before {dashed(before.date)} is closed")
    if rest > MAX_CLOSED_MS:
        yield Fault(
            SCHEDULE_GAP,
            day.date,
            f"it opens more than {MAX_CLOSED_MS // 86_400_000} days after "
            f"{dashed(before.date)} closed: days are missing",
        )


# --- publishing -----------------------------------------------------------------------------------


def refusal(work: Work, change: PublishSchedule) -> str | None:
    """Why these days cannot be published now; None: they can."""
    days = change.days
    fault = next(faults(days), None)
    if fault is not None:
        return fault.reason
    for code in sorted({close.asset for day in days for close in day.closes}):
        asset = work.asset(code)
        if asset is None:
            return UNKNOWN_ASSET
        if asset.security:
            return WRONG_ASSET_TYPE
    return _joining_refusal(work, days)


def _joining_refusal(work: Work, days: Sequence[BusinessDay]) -> str | None:
    first = days[0]
    if first.begins[Phase.OPEN] <= work.context.time:
        return SCHEDULE_GAP
    running = work.get(DAY, DayKey())
    if running is not None and first.date <= running.date:
        return SCHEDULE_GAP
    standing = [day for key, day in work.rows(BUSINESS_DAYS) if key.date < first.date]
    if not standing:
        return None
    if len(standing) + len(days) > MAX_SCHEDULE_DAYS:
        return LIMIT_REACHED
    last = with_delays(standing[-1], running)
    ended = max(last.begins[Phase.CLOSED], work.context.time)
    rested = replace(last, begins=(*last.begins[: Phase.CLOSED], ended))
    return None if next(_faults_between(rested, first), None) is None else SCHEDULE_GAP


def publish(work: Work, change: PublishSchedule) -> None:
    """Let these days follow on those before them. The caller has seen that nothing speaks against
    it (`refusal`)."""
    for key, _ in work.rows(BUSINESS_DAYS):
        if key.date >= change.days[0].date:
            work.put(BUSINESS_DAYS, key, None)
    for day in change.days:
        work.put(BUSINESS_DAYS, BusinessDayKey(day.date), day)
        work.remind(day_due(day))
    running = work.get(DAY, DayKey())
    if running is None or running.phase is not Phase.CLOSED or running.waits_for is None:
        return
    following = next(key.date for key, _ in work.rows(BUSINESS_DAYS) if key.date > running.date)
    if following == change.days[0].date:
        # The opening that was missed is off: nobody may open the new day before its time.
        work.put(DAY, DayKey(), replace(running, waits_for=None))


def with_delays(day: BusinessDay, running: DayRecord | None) -> BusinessDay:
    """A published day with what operators put off, if it is the one that runs."""
    if running is None or running.date != day.date or not running.delays:
        return day
    begins = list(day.begins)
    for phase, until in running.delays:
        begins[phase] = until
    return replace(day, begins=tuple(begins))
