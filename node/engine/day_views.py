"""The operating day and its schedule, from the ledger's state to documents."""

from __future__ import annotations

from node.api.settlement import DayView, PhaseView, ScheduledCloseView, ScheduledDayView
from node.chain.records import BusinessDayKey, DayKey, RulesKey
from node.chain.types import BusinessDay, Phase
from node.engine.wording import word
from node.ledger.state import State
from node.ledger.tables import BUSINESS_DAYS, DAY, RULES


def day_view(state: State) -> DayView:
    """Where the operating day stands after the last final block."""
    day = state.get(DAY, DayKey())
    published = None if day is None else state.get(BUSINESS_DAYS, BusinessDayKey(day.date))
    delays = {} if day is None else dict(day.delays)
    rules = state.get(RULES, RulesKey())
    pending = None if rules is None else rules.pending
    if pending is not None and pending[0] == state.rules_version:
        pending = None  # the next block begins it
    waits = None if day is None else day.waits_for
    return DayView(
        height=state.height,
        time=state.time,
        date=None if day is None else day.date,
        phase=None if day is None else word(day.phase),
        waits_for=None if waits is None else word(waits),
        phases=[] if published is None else _phases(published, delays),
        closed_at=0 if day is None else day.closed_at,
        close_rule=word(state.parameters.close_rule),
        rules=state.rules_version,
        pending_rules=None if pending is None else pending[0],
        pending_height=None if pending is None else pending[1],
    )


def days_ahead(state: State) -> int:
    """How many published business days come after the one that runs. After the last one's close the
    ledger stays closed. -1: there is no schedule, it is always open."""
    day = state.get(DAY, DayKey())
    rows = [key.date for key, _ in state.each_row(BUSINESS_DAYS)]
    if day is None and not rows:
        return -1
    return sum(day is None or date > day.date for date in rows)


def day_waits(state: State) -> bool:
    """Whether the operating day waits for the operator, since time jumped over a phase."""
    day = state.get(DAY, DayKey())
    return day is not None and day.waits_for is not None


def _phases(day: BusinessDay, delays: dict[Phase, int]) -> list[PhaseView]:
    return [
        PhaseView(
            phase=word(phase),
            begins=delays.get(phase, day.begins[phase]),
            delayed=phase in delays,
        )
        for phase in Phase
    ]


def schedule_view(state: State) -> list[ScheduledDayView]:
    """The business days that the ledger knows, by date."""
    return [
        ScheduledDayView(
            date=key.date,
            phases=_phases(day, {}),
            closes=[ScheduledCloseView(time=each.time, asset=each.asset) for each in day.closes],
        )
        for key, day in state.rows(BUSINESS_DAYS)
    ]
