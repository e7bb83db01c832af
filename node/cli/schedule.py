"""`nostro schedule`: make the business days of a ledger from a calendar and a time zone, and check
such a list before operators approve it.

    nostro schedule make --calendar ECB --zone Europe/Berlin --from 2026-11-23 --days 60 \\
        --open 07:00 --customer-cutoff 17:00 --interbank 17:45 --clearing 18:00 --close 18:30 \\
        --cycle EUR@12:00 --cycle EUR@16:00 -o schedule.json
    nostro schedule check schedule.json

The file shows every time as the clock of the zone does, with its distance from UTC: people compare
it with the published calendar. What goes on the ledger are the instants alone.
"""

from __future__ import annotations

import argparse
import re
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from node.chain.types import MAX_CYCLES_A_DAY, MAX_SCHEDULE_DAYS, BusinessDay, CycleClose, Phase
from node.cli.connection import read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.files import write_whole
from node.cli.output import Output

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from node.cli.calendars import Calendars

FORMAT = "nostro-schedule/1"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
SHORT_PHASE = timedelta(minutes=1)
"""Shorter than this, a leader that fails can make block time jump over a whole phase, and the day
then waits for the operator."""
FAR_FROM_DATE = timedelta(days=2)
"""No open of a business day lies further from its date than this, if the date is right."""
MAX_SEARCHED_DAYS = 2 * MAX_SCHEDULE_DAYS
"""Calendar days looked through for business days."""
MAX_SHOWN_FAULTS = 20


class CycleEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a clearing cycle closes."""

    asset: str
    time: datetime


class DayEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True
):
    """A business day as the file has it."""

    date: date
    open: datetime
    customer_cutoff: datetime
    interbank: datetime
    clearing: datetime
    closed: datetime
    cycles: tuple[CycleEntry, ...] = ()

    @property
    def begins(self) -> tuple[datetime, ...]:
        """When each phase begins, in the order of `Phase`."""
        return self.open, self.customer_cutoff, self.interbank, self.clearing, self.closed

    def business_day(self) -> BusinessDay:
        """What goes on the ledger."""
        return BusinessDay(
            self.date.year * 10_000 + self.date.month * 100 + self.date.day,
            tuple(map(_milliseconds, self.begins)),
            tuple(CycleClose(_milliseconds(each.time), each.asset) for each in self.cycles),
        )


class ScheduleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """A list of business days with what it was made from."""

    format: str
    zone: str
    calendars: tuple[str, ...]
    made_with: dict[str, str]
    """Versions of the libraries that know calendars and clocks."""
    days: tuple[DayEntry, ...]


class ClockTime(NamedTuple):
    """A time of day, on the date of the business day or beside it."""

    shift: int
    """Calendar days after the business date; negative: before."""
    at: time

    def on(self, day: date, zone: ZoneInfo) -> datetime:
        """Raises CommandError where the clock does not show it once."""
        from node.cli.calendars import NoSuchTime, moment  # noqa: PLC0415

        try:
            return moment(day + timedelta(days=self.shift), self.at, zone)
        except NoSuchTime as error:
            raise CommandError(str(error)) from error


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    schedule = subparsers.add_parser(
        "schedule",
        help="make or check a schedule of business days",
        description="Business days for the ledger. make works them out from calendars and a time "
        "zone; check looks for what the ledger would refuse.",
    )
    commands = schedule.add_subparsers(metavar="COMMAND", required=True)
    _add_make(commands)
    check = commands.add_parser("check", help="gaps, order, clock changes of a schedule file")
    check.add_argument("file", metavar="FILE", type=Path)
    check.add_argument("--json", action="store_true", help="one JSON document on stdout")
    check.set_defaults(handler=_check)


def _add_make(commands: Any) -> None:
    make = commands.add_parser(
        "make",
        help="work out business days",
        description="A time is HH:MM on the clock of the zone; HH:MM-1 is on the calendar day "
        "before the business date, HH:MM+1 on the one after. A phase for which no time is given is "
        "left out.",
    )
    make.add_argument(
        "--calendar",
        dest="calendars",
        metavar="NAME",
        action="append",
        required=True,
        help="a market (ECB), a country (CN) or part of one (DE-HE), weekdays or daily; if "
        "repeated, a business day is one of all of them",
    )
    make.add_argument("--zone", required=True, help="IANA time zone, such as Europe/Berlin")
    make.add_argument("--from", dest="first", metavar="DATE", type=_date, required=True)
    make.add_argument("--days", metavar="N", type=_days, required=True, help="business days")
    for flag, required, help in (
        ("--open", True, "every payment enters and settles"),
        ("--customer-cutoff", False, "customer payments enter no longer"),
        ("--interbank", False, "only interbank payments settle"),
        ("--clearing", False, "no payment enters any longer"),
        ("--close", True, "end of the business day"),
    ):
        make.add_argument(flag, metavar="HH:MM", type=_clock_time, required=required, help=help)
    make.add_argument(
        "--cycle",
        dest="cycles",
        metavar="CURRENCY@HH:MM",
        type=_cycle,
        action="append",
        default=[],
        help="a clearing cycle of this currency closes; may be repeated",
    )
    for flag, help in (
        ("--holiday", "no business day, whatever the calendar says; may be repeated"),
        ("--workday", "a business day, whatever the calendar says; may be repeated"),
    ):
        make.add_argument(flag, metavar="DATE", type=_date, action="append", default=[], help=help)
    make.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    make.add_argument("--json", action="store_true", help="one JSON document on stdout")
    make.set_defaults(handler=_make)


# --- what is typed ------------------------------------------------------------------------------


def _date(text: str) -> date:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise argparse.ArgumentTypeError(f"{text} is no date such as 2026-11-23")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no day of the calendar") from error


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_SCHEDULE_DAYS:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 to {MAX_SCHEDULE_DAYS}")
    return int(text)


def _clock_time(text: str) -> ClockTime:
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])([+-]1)?", text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text} is no time such as 07:00, or 23:30-1 on the day before"
        )
    return ClockTime(int(found[3] or 0), time(int(found[1]), int(found[2])))


def _cycle(text: str) -> tuple[str, ClockTime]:
    asset, at, clock = text.partition("@")
    if not at or not re.fullmatch(r"[A-Z]{3}", asset):
        raise argparse.ArgumentTypeError(f"{text} is no currency and time such as EUR@12:00")
    return asset, _clock_time(clock)


# --- make ---------------------------------------------------------------------------------------


def _make(args: argparse.Namespace, output: Output) -> int:
    calendars, zone = _known(args)
    _require_order(args)
    chosen, skipped = _business_days(calendars, args.first, args.days)
    entries = tuple(_entry(args, day, zone) for day in chosen)
    from node.cli.calendars import library_versions  # noqa: PLC0415

    made = ScheduleFile(FORMAT, zone.key, tuple(args.calendars), library_versions(), entries)
    wrong = _faults(made)
    if wrong:
        raise CommandError(f"such days would be refused: {wrong[0]}. Nothing was written")
    data = msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"
    write_whole(args.output, data)
    notes = _doubts(calendars, chosen) + _warnings(made)
    output.document(
        {
            "file": str(args.output),
            "days": len(entries),
            "first": chosen[0].isoformat(),
            "last": chosen[-1].isoformat(),
            "left_out": [{"date": day.isoformat(), "why": why} for day, why in skipped],
            "warnings": notes,
        }
    )
    for day, why in skipped:
        if why != "weekend":
            output.line(f"{day} is left out: {why}")
    output.line(f"{args.output}: {len(entries)} business days, {chosen[0]} to {chosen[-1]}")
    for note in notes:
        output.note(f"warning: {note}")
    return Exit.DONE


def _known(args: argparse.Namespace) -> tuple[Calendars, ZoneInfo]:
    from node.cli.calendars import Calendars, UnknownCalendar, calendar, time_zone  # noqa: PLC0415

    both = set(args.holiday) & set(args.workday)
    if both:
        raise usage(f"{min(both)} cannot be a holiday and a working day")
    try:
        found = tuple(calendar(name) for name in args.calendars)
        zone = time_zone(args.zone)
    except UnknownCalendar as error:
        raise usage(str(error)) from error
    return Calendars(found, frozenset(args.holiday), frozenset(args.workday)), zone


def _require_order(args: argparse.Namespace) -> None:
    """Raises CommandError where the phases do not follow on each other on the clock."""
    given = [
        (flag, at)
        for flag, at in (
            ("--open", args.open),
            ("--customer-cutoff", args.customer_cutoff),
            ("--interbank", args.interbank),
            ("--clearing", args.clearing),
            ("--close", args.close),
        )
        if at is not None
    ]
    for (earlier, first), (later, second) in pairwise(given):
        if second <= first:
            raise CommandError(
                f"{later} is not after {earlier}: phases follow on each other. A time on the day "
                "before the business date is written HH:MM-1, on the day after it HH:MM+1"
            )
    for asset, at in args.cycles:
        if not args.open <= at <= args.close:
            raise CommandError(
                f"the cycle {asset}@{at.at:%H:%M} closes outside of the business day, which lasts "
                f"from {args.open.at:%H:%M} to {args.close.at:%H:%M}"
            )
    if len(args.cycles) > MAX_CYCLES_A_DAY:
        raise CommandError(
            f"{len(args.cycles)} cycles a day are more than the ledger takes ({MAX_CYCLES_A_DAY})"
        )
    if len(set(args.cycles)) < len(args.cycles):
        raise CommandError("a cycle is given twice")


def _business_days(
    calendars: Calendars, first: date, count: int
) -> tuple[list[date], list[tuple[date, str]]]:
    """(the business days, the days left out between them with the reason)."""
    chosen: list[date] = []
    skipped: list[tuple[date, str]] = []
    try:
        days = [first + timedelta(days=each) for each in range(MAX_SEARCHED_DAYS)]
    except OverflowError as error:
        raise CommandError(f"{first} is too far in the future") from error
    for day in days:
        _require_known(calendars, day)
        why = calendars.closed_for(day)
        if why is None:
            chosen.append(day)
            if len(chosen) == count:
                return chosen, skipped
        else:
            skipped.append((day, why))
    raise CommandError(
        f"there are only {len(chosen)} business days in the {MAX_SEARCHED_DAYS} days from {first}"
    )


def _require_known(calendars: Calendars, day: date) -> None:
    for each in calendars.calendars:
        last = each.last_year
        if last is not None and day.year > last:
            raise CommandError(f"the calendar {each.name} ends with the year {last}")


def _entry(args: argparse.Namespace, day: date, zone: ZoneInfo) -> DayEntry:
    closed = args.close
    clearing = args.clearing or closed
    interbank = args.interbank or clearing
    cutoff = args.customer_cutoff or interbank
    cycles = sorted((at.on(day, zone), asset) for asset, at in args.cycles)
    return DayEntry(
        day,
        open=args.open.on(day, zone),
        customer_cutoff=cutoff.on(day, zone),
        interbank=interbank.on(day, zone),
        clearing=clearing.on(day, zone),
        closed=closed.on(day, zone),
        cycles=tuple(CycleEntry(asset, at) for at, asset in cycles),
    )


def _doubts(calendars: Calendars, days: list[date]) -> list[str]:
    """Where the calendars themselves may be out of date."""
    notes = []
    for each in calendars.calendars:
        years = each.lacks(days[0], days[-1])
        if years:
            notes.append(
                f"the calendar {each.name} has no exchanged working days for "
                f"{', '.join(map(str, years))}: they may have been announced after this version of "
                "the library. Compare with the announcement and correct with --holiday and "
                "--workday"
            )
    return notes


# --- check --------------------------------------------------------------------------------------


def _check(args: argparse.Namespace, output: Output) -> int:
    found = read_schedule(args.file)
    wrong, notes = _faults(found), _warnings(found)
    output.document(
        {
            "file": str(args.file),
            "zone": found.zone,
            "days": len(found.days),
            "first": found.days[0].date.isoformat(),
            "last": found.days[-1].date.isoformat(),
            "faults": wrong,
            "warnings": notes,
        }
    )
    for text in wrong[:MAX_SHOWN_FAULTS]:
        output.error(text)
    if len(wrong) > MAX_SHOWN_FAULTS:
        output.error(f"and {len(wrong) - MAX_SHOWN_FAULTS} faults more")
    for note in notes:
        output.note(f"warning: {note}")
    verdict = "sound" if not wrong else f"{len(wrong)} faults: the ledger would refuse it"
    output.line(
        f"{args.file}: {len(found.days)} business days, {found.days[0].date} to "
        f"{found.days[-1].date}, {found.zone}: {verdict}"
    )
    return Exit.REFUSED if wrong else Exit.DONE


def read_schedule(path: Path) -> ScheduleFile:
    """The schedule in a file, which may still have faults. Raises CommandError."""
    data = read_input(path, "the schedule")
    try:
        found = msgspec.json.decode(data, type=ScheduleFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"{path} is no schedule: {error}") from error
    if found.format != FORMAT:
        raise CommandError(
            f"{path} is no schedule: its format is {found.format!r}, expected {FORMAT!r}"
        )
    if not 1 <= len(found.days) <= MAX_SCHEDULE_DAYS:
        raise CommandError(
            f"{path} has {len(found.days)} days; a schedule has 1 to {MAX_SCHEDULE_DAYS}"
        )
    for day in found.days:
        times = (*day.begins, *(each.time for each in day.cycles))
        if any(each.tzinfo is None for each in times):
            raise CommandError(
                f"{path}: {day.date} has a time without its distance from UTC; write it like "
                "2026-11-23T07:00:00+01:00"
            )
        if any(each < EPOCH for each in times):
            raise CommandError(f"{path}: {day.date} has a time before 1970")
        if len(day.cycles) > MAX_CYCLES_A_DAY:
            raise CommandError(f"{path}: {day.date} has more than {MAX_CYCLES_A_DAY} cycles")
    return found


def read_days(path: Path) -> tuple[BusinessDay, ...]:
    """The business days of a sound schedule, as a `PublishSchedule` takes them.

    Raises CommandError that names the first fault."""
    found = read_schedule(path)
    wrong = _faults(found)
    if wrong:
        raise CommandError(
            f"{path}: {wrong[0]}. nostro schedule check {path} shows everything that is wrong"
        )
    return tuple(day.business_day() for day in found.days)


def _faults(schedule: ScheduleFile) -> list[str]:
    """What the ledger would refuse, and times that the zone's clock does not show."""
    from node.ledger.schedule import dashed, faults  # noqa: PLC0415

    days = [day.business_day() for day in schedule.days]
    return [f"{dashed(each.date)}: {each.text}" for each in faults(days)] + _wrong_offsets(schedule)


def _wrong_offsets(schedule: ScheduleFile) -> list[str]:
    """Days with a time whose distance from UTC is not the zone's then, as when one day's times were
    copied over a change of clocks."""
    from node.cli.calendars import UnknownCalendar, time_zone  # noqa: PLC0415

    try:
        zone = time_zone(schedule.zone)
    except UnknownCalendar as error:
        return [str(error)]
    found = []
    for day in schedule.days:
        times = (*day.begins, *(each.time for each in day.cycles))
        wrong = next((each for each in times if _offset_differs(each, zone)), None)
        if wrong is not None:
            right = wrong.astimezone(zone)
            found.append(
                f"{day.date}: {wrong.isoformat()} is not the time of {schedule.zone}, whose clock "
                f"then shows {right.isoformat()}"
            )
    return found


def _offset_differs(at: datetime, zone: ZoneInfo) -> bool:
    return at.utcoffset() != at.astimezone(zone).utcoffset()


def _warnings(schedule: ScheduleFile) -> list[str]:
    """What is allowed but surprising: days whose clocks change, short phases, far dates."""
    notes = _clock_changes(schedule)
    for day in schedule.days:
        for phase, (begin, end) in zip(Phase, pairwise(day.begins), strict=False):
            if timedelta() < end - begin < SHORT_PHASE:
                notes.append(
                    f"{day.date}: phase {phase.name.lower()} lasts {end - begin}; when block time "
                    "jumps over a phase, the day waits for the operator"
                )
        if abs(day.open.replace(tzinfo=None) - datetime.combine(day.date, time())) > FAR_FROM_DATE:
            notes.append(f"{day.date} opens at {day.open.isoformat()}, days away from its date")
    return notes


def _clock_changes(schedule: ScheduleFile) -> list[str]:
    from node.cli.calendars import UnknownCalendar, clock_change, time_zone  # noqa: PLC0415

    try:
        zone = time_zone(schedule.zone)
    except UnknownCalendar:
        return []  # a fault already
    notes = []
    for before, day in zip((None, *schedule.days), schedule.days, strict=False):
        since = day.date if before is None else before.date + timedelta(days=1)
        for each in range(max(0, min((day.date - since).days, MAX_SEARCHED_DAYS)) + 1):
            changed = day.date - timedelta(days=each)
            step = clock_change(changed, zone)
            if step is not None:
                hours = abs(step) / timedelta(hours=1)
                way = "forward" if step > timedelta() else "back"
                notes.append(
                    f"{zone.key} puts its clocks {way} by {hours:g} h on {changed}: in UTC the "
                    f"times from {day.date} on differ from those before"
                )
    return notes


def _milliseconds(at: datetime) -> int:
    return (at - EPOCH) // MILLISECOND
