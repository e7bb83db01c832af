"""Which days are business days, and when a wall clock shows a time: from kept libraries.

`holidays` knows the calendars of markets and countries, `tzdata` the time zones of the IANA
database. Both change with what governments announce, and both are pinned in the lock file, so that
operators with the same version of the software make the same schedule. Only schedules are made
with them, before they are published: no node reads either while it runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from importlib.metadata import version
from importlib.resources import files
from zoneinfo import ZoneInfo

import holidays

LIBRARIES = ("holidays", "tzdata")
"""Distributions whose versions decide what a schedule comes out as."""
DAILY = "daily"
"""Calendar of a system that is open on every day."""
WEEKDAYS = "weekdays"
"""Calendar of a system that is open from Monday to Friday, holidays or not."""
SATURDAY = 5
ALIASES = {"TARGET": "ECB", "T2": "ECB"}
"""Names of payment systems for the calendar that they keep."""


class UnknownCalendar(Exception):
    """No calendar or time zone of this name; the text says what to give instead."""


class NoSuchTime(Exception):
    """A wall-clock time that this day does not have, or has twice."""


def library_versions() -> dict[str, str]:
    """Version of each library that a schedule depends on."""
    return {name: version(name) for name in LIBRARIES}


# --- calendars --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calendar:
    """One calendar: weekends, holidays, and working days on weekends."""

    name: str
    days_off: holidays.HolidayBase | None
    """None: no holidays."""
    weekends: bool = True

    @property
    def last_year(self) -> int | None:
        """The last one that the library has holidays for; None: there is no last one."""
        return None if self.days_off is None else self.days_off.end_year

    def closed_for(self, day: date) -> str | None:
        """Why it is no business day; None: it is one."""
        if self.days_off is None:
            return "weekend" if self.weekends and day.weekday() >= SATURDAY else None
        if self.days_off.is_working_day(day):
            return None
        named = self.days_off.get(day)
        return "weekend" if named is None else f"{named} ({self.name})"

    def lacks(self, first: date, last: date) -> list[int]:
        """Years for which working weekends are not known though they were for the year before.

        Such calendars are announced year by year (China's in November); where the library is older
        than the announcement, it has only the days that the law fixes."""
        if self.days_off is None:
            return []
        known = self._exchanged(range(first.year - 1, last.year + 1))
        if not known:
            return []
        return [year for year in range(first.year, last.year + 1) if year not in known]

    def _exchanged(self, years: Iterable[int]) -> set[int]:
        assert self.days_off is not None
        for year in years:
            _ = date(year, 1, 1) in self.days_off  # a year is worked out when it is first asked for
        return {day.year for day in self.days_off.weekend_workdays}


def calendar(name: str) -> Calendar:
    """The calendar of a market (`ECB`, `XNYS`), a country (`CN`) or a part of it (`DE-HE`).

    Raises UnknownCalendar."""
    if name in (DAILY, WEEKDAYS):
        return Calendar(name, None, weekends=name == WEEKDAYS)
    known = ALIASES.get(name, name)
    if known in holidays.list_supported_financial():
        return Calendar(name, holidays.financial_holidays(known))
    country, _, part = known.partition("-")
    parts = holidays.list_supported_countries().get(country)
    if parts is None:
        raise UnknownCalendar(
            f"there is no calendar {name}; give a market (ECB, XNYS, XSHG), a country (CN), a part "
            f"of one (DE-HE), {WEEKDAYS} or {DAILY}"
        )
    if part and part not in parts:
        raise UnknownCalendar(
            f"the calendar of {country} knows no part {part}; it has: {', '.join(parts) or 'none'}"
        )
    with warnings.catch_warnings():
        # It warns about languages that it cannot translate names of holidays into.
        warnings.simplefilter("ignore")
        return Calendar(name, holidays.country_holidays(country, subdiv=part or None))


@dataclass(frozen=True)
class Calendars:
    """Business days of a system: those that all its calendars have, corrected by hand."""

    calendars: tuple[Calendar, ...]
    closed: frozenset[date] = field(default_factory=frozenset)
    """Days off besides."""
    open: frozenset[date] = field(default_factory=frozenset)
    """Business days whatever the calendars say."""

    def closed_for(self, day: date) -> str | None:
        """Why it is no business day; None: it is one."""
        if day in self.open:
            return None
        if day in self.closed:
            return "closed by hand"
        reasons = (each.closed_for(day) for each in self.calendars)
        return next((reason for reason in reasons if reason is not None), None)


# --- time zones ---------------------------------------------------------------------------------


def time_zone(name: str) -> ZoneInfo:
    """The zone as the pinned library has it, whatever the machine's own database says.

    Raises UnknownCalendar."""
    data = files("tzdata")
    if name not in data.joinpath("zones").read_text(encoding="ascii").split():
        raise UnknownCalendar(
            f"there is no time zone {name}; give its name in the IANA database, such as "
            "Europe/Berlin, Asia/Shanghai or UTC"
        )
    with data.joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def moment(day: date, at: time, zone: ZoneInfo) -> datetime:
    """When the clock shows this time. Raises NoSuchTime where clocks are put forward past it, or
    back over it."""
    first = datetime.combine(day, at, zone)
    second = first.replace(fold=1)
    before, after = _offset(first), _offset(second)
    if before == after:
        return first
    what = "twice" if before > after else "not at all"
    raise NoSuchTime(
        f"{zone.key} changes its clocks on {day}: {at:%H:%M} comes {what} that day; choose "
        "another time for every day, or leave this day out with --holiday"
    )


def clock_change(day: date, zone: ZoneInfo) -> timedelta | None:
    """How far clocks are put forward on this day; None: not at all."""
    start, end = (datetime.combine(day + timedelta(days=n), time(), zone) for n in (0, 1))
    return _offset(end) - _offset(start) or None


def _offset(at: datetime) -> timedelta:
    """Distance from UTC."""
    found = at.utcoffset()
    assert found is not None, "a time in a zone has one"
    return found
