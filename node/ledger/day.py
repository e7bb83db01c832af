"""The operating day: its phases begin by block time, or by the operator's order.

A ledger for which no schedule was ever published, or whose first day has not come, has no day and
is always open. Otherwise a phase begins in the first block at or after its time.

**An outage.** A phase is *jumped over* if the beginnings of it and of the next one, at different
times, both fall between a block and its parent. Then the first begins and the day waits: nobody
could send, release or cancel in the phase that was lost, so nobody's queue may expire by it. Each
`ProceedDay` begins the phase that the day waits for; the next one begins by time if that is still
to come, and is waited for otherwise. Meanwhile payments settle by the rules of the phase that has
begun, and what has a time of its own (a latest time, a cycle's close) goes on.
Where more was due than a block does, the blocks that catch up count as one.

**Phases without a length.** Of several phases of a day that begin at the same instant, the last
begins and the others are left out that day.

**Delays** concern phases of the day that runs, which have not begun; while the day waits there is
nothing to put off. Later phases that would begin before the new time begin then, too. The next
day's OPEN cannot be passed: what comes after the close is changed by publishing days anew.

**Business date.** It changes at OPEN, or with the first phase that is not left out. What moves
between a close and the next OPEN, or in the same block after the close, belongs to the next date.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import BusinessDayKey, DayKey, DayRecord
from node.chain.types import (
    MAX_VALIDITY_MS,
    BusinessDay,
    DelayPhase,
    Phase,
    PhaseBegan,
    ProceedDay,
)
from node.ledger import limits
from node.ledger.close import close_day, expire_queues, settle_for_the_last_time
from node.ledger.due import delays_due
from node.ledger.reasons import (
    BAD_EXPIRY,
    NOT_THIS_PHASE,
    SCHEDULE_GAP,
    SETTLED,
    WRONG_ROLE,
)
from node.ledger.schedule import with_delays
from node.ledger.tables import BUSINESS_DAYS, DAY
from node.ledger.work import Work

OPERATOR = "operator"
MAX_DELAY_MS = MAX_VALIDITY_MS
"""How far ahead of a block's time a phase can be put off."""


class Beginning(NamedTuple):
    """When a phase begins."""

    date: int
    """yyyymmdd."""
    phase: Phase
    time: int
    """Milliseconds since the Unix epoch, delays included."""


# --- by time ------------------------------------------------------------------------------------


def phase_due(work: Work, beginning: Beginning) -> None:
    """A reminder that this phase is due. It begins, if it is the next one and was not put off
    since; where block time jumped over the phase before it, the day waits instead."""
    following = upcoming(work)
    if following != beginning:
        return
    running = work.get(DAY, DayKey())
    if running is None:
        _begin(work, following, None)
    elif running.waits_for is None:
        since = _began(work, running)
        if work.caught_up < since < following.time:
            _wait(work, running, following, None)
        else:
            _begin(work, following, None)


def upcoming(work: Work) -> Beginning | None:
    """The phase that is to begin next; None: the schedule has ended, or there never was one."""
    running = work.get(DAY, DayKey())
    if running is not None and running.phase is not Phase.CLOSED:
        return _first_after(_current(work, running), running.phase)
    past = -1 if running is None else running.date
    day = next((day for key, day in work.rows(BUSINESS_DAYS) if key.date > past), None)
    return None if day is None else _first_after(day, None)


def _first_after(day: BusinessDay, phase: Phase | None) -> Beginning:
    """The first beginning after that of a phase; None: of the day. Where several begin at the same
    instant, the last of them."""
    left = day.begins[0 if phase is None else phase + 1 :]
    time = left[0]
    number = max(each for each in Phase if day.begins[each] == time)
    return Beginning(day.date, number, time)


def _current(work: Work, running: DayRecord) -> BusinessDay:
    """The day that runs, delays included."""
    published = work.get(BUSINESS_DAYS, BusinessDayKey(running.date))
    assert published is not None, "the day that runs stays in the schedule"
    return with_delays(published, running)


def _began(work: Work, running: DayRecord) -> int:
    """When the phase that runs was to begin."""
    return _current(work, running).begins[running.phase]


def _wait(work: Work, running: DayRecord, following: Beginning, index: int | None) -> None:
    work.put(DAY, DayKey(), replace(running, waits_for=following.phase))
    event = PhaseBegan(following.date, following.phase, waits=True)
    work.emit(index, SETTLED, event=event)


# --- the beginning of a phase -------------------------------------------------------------------


def _begin(work: Work, beginning: Beginning, index: int | None) -> None:
    """`index`: of the operator's order; None: by time."""
    running = work.get(DAY, DayKey())
    event = PhaseBegan(beginning.date, beginning.phase, waits=False)
    if running is None or running.date != beginning.date:
        _open(work, running, beginning)
        work.emit(index, SETTLED, event=event)
    else:
        if beginning.phase is Phase.CLOSED:
            settle_for_the_last_time(work, _current(work, running))
            running = work.get(DAY, DayKey())
            assert running is not None
        changed = replace(running, phase=beginning.phase, waits_for=None)
        work.put(DAY, DayKey(), changed)
        work.emit(index, SETTLED, event=event)
        if beginning.phase is Phase.CLOSED:
            close_day(work, changed, index)
    # Other classes may settle than before.
    for _, asset, _ in work.queued_accounts():
        work.stir(asset)


def _open(work: Work, before: DayRecord | None, beginning: Beginning) -> None:
    """The business date changes, with OPEN or, where that has no length, a later phase: limits are
    unused, and the day before leaves the schedule."""
    expire_queues(work, None)  # what is left from the close: it must not settle in another day
    closed_at = 0
    if before is not None:
        closed_at = before.closed_at
        work.put(BUSINESS_DAYS, BusinessDayKey(before.date), None)
    record = DayRecord(beginning.date, beginning.phase, None, (), closed_at)
    work.put(DAY, DayKey(), record)
    limits.reset(work)


# --- the operator's orders ----------------------------------------------------------------------


def delay_phase(work: Work, index: int, checked: CheckedInstruction, body: DelayPhase) -> None:
    """Put off a phase of the day that runs, and later ones up to then."""
    running = work.get(DAY, DayKey())
    reason = _role_refusal(work, checked) or _delay_refusal(work, running, body)
    if reason is None:
        assert running is not None
        begins = _current(work, running).begins
        delays = dict(running.delays)
        late = (each for each in Phase if each >= body.phase and begins[each] < body.until)
        delays.update((each, body.until) for each in late)
        changed = replace(running, delays=tuple(sorted(delays.items())))
        work.put(DAY, DayKey(), changed)
        work.remind(item for item in delays_due(changed) if item[0] == body.until)
    work.note(index, reason)


def _delay_refusal(work: Work, running: DayRecord | None, body: DelayPhase) -> str | None:
    if running is None or running.waits_for is not None:
        return NOT_THIS_PHASE
    if body.date != running.date or body.phase <= running.phase:
        return NOT_THIS_PHASE
    now = work.context.time
    planned = _current(work, running).begins[body.phase]
    if not max(now, planned) < body.until <= now + MAX_DELAY_MS:
        return BAD_EXPIRY
    later = (day for key, day in work.rows(BUSINESS_DAYS) if key.date > running.date)
    tomorrow = next(later, None)
    if tomorrow is not None and body.until > tomorrow.begins[Phase.OPEN]:
        return SCHEDULE_GAP
    return None


def proceed_day(work: Work, index: int, checked: CheckedInstruction, body: ProceedDay) -> None:
    """Begin the phase that the day waits for."""
    running, following = work.get(DAY, DayKey()), upcoming(work)
    reason = _role_refusal(work, checked)
    if reason is None and (
        running is None
        or running.waits_for is None
        or following is None
        or following[:2] != (body.date, body.phase)
    ):
        reason = NOT_THIS_PHASE
    if reason is not None:
        work.note(index, reason)
        return
    assert following is not None
    _begin(work, following, index)
    after = upcoming(work)
    # A day that opens at the instant of the last one's close begins with it.
    while after is not None and after.time == following.time:
        _begin(work, after, index)
        after = upcoming(work)
    if after is not None and after.time <= work.context.time:
        running = work.get(DAY, DayKey())
        assert running is not None
        _wait(work, running, after, index)


def _role_refusal(work: Work, checked: CheckedInstruction) -> str | None:
    sender = work.participant(checked.instruction.envelope.sender)
    assert sender is not None, "an unknown sender's instruction may not stand"
    return None if OPERATOR in sender.record.roles else WRONG_ROLE
