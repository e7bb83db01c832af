"""`nostro schedule make` and `check`: business days from calendars and clocks, and their faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import holidays
import pytest

from node.chain.types import BusinessDay, CycleClose, Phase
from node.cli.calendars import Calendar, calendar
from node.cli.schedule import read_days
from node.ledger.schedule import faults
from node.ledger.tables import BUSINESS_DAYS
from tests.support.command import Ran, run
from tests.support.days import publish, settling_world
from tests.support.ledger_world import Chain

TIMES = {
    "open": "07:00",
    "customer-cutoff": "17:00",
    "interbank": "17:45",
    "clearing": "18:00",
    "close": "18:30",
}


def make(path: Path, *more: object, **changed: object) -> Ran:
    """`schedule make`: five days of TARGET unless told otherwise."""
    options: dict[str, object] = {
        "calendar": "ECB",
        "zone": "Europe/Berlin",
        "from": "2026-11-23",
        "days": 5,
        **TIMES,
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    flags = [part for name, value in options.items() if value for part in (f"--{name}", value)]
    return run("schedule", "make", *flags, *more, "-o", path, "--json")


def milliseconds(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1000  # type: ignore[arg-type,misc]


def dates(path: Path) -> list[int]:
    return [day.date for day in read_days(path)]


def test_a_days_phases_are_instants_of_the_zones_clock(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    made = make(path, "--cycle", "EUR@16:00", "--cycle", "EUR@12:00", days=1)
    assert made.code == 0
    day = [2026, 11, 23]
    assert read_days(path) == (
        BusinessDay(
            20261123,
            (
                milliseconds(*day, 6),
                milliseconds(*day, 16),
                milliseconds(*day, 16, 45),
                milliseconds(*day, 17),
                milliseconds(*day, 17, 30),
            ),
            (
                CycleClose(milliseconds(*day, 11), "EUR"),
                CycleClose(milliseconds(*day, 15), "EUR"),
            ),
        ),
    )


def test_weekends_and_the_holidays_of_the_calendar_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    made = make(path, days=4, **{"from": "2026-12-23"})
    assert dates(path) == [20261223, 20261224, 20261228, 20261229]
    assert [each["date"] for each in made.json["left_out"]] == [
        "2026-12-25",
        "2026-12-26",
        "2026-12-27",
    ]


def test_working_weekends_of_chinas_calendar_are_business_days(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    make(path, calendar="CN", zone="Asia/Shanghai", days=3, **{"from": "2026-02-13"})
    # Saturday the 14th is worked; Spring Festival lasts from the 15th to the 23rd.
    assert dates(path) == [20260213, 20260214, 20260224]


def test_a_calendar_that_may_be_older_than_its_announcement_says_for_which_years() -> None:
    announced = holidays.HolidayBase()
    announced.weekend_workdays.add(date(2026, 2, 14))
    known = Calendar("X", announced)
    assert known.lacks(date(2026, 6, 1), date(2026, 12, 31)) == []
    assert known.lacks(date(2026, 6, 1), date(2027, 2, 1)) == [2027]
    assert known.lacks(date(2027, 2, 1), date(2028, 2, 1)) == [2027, 2028]
    assert calendar("ECB").lacks(date(2026, 6, 1), date(2028, 2, 1)) == []


def test_a_business_day_of_several_calendars_is_one_of_each(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    make(path, "--calendar", "CN", days=2, **{"from": "2026-09-30"})
    assert dates(path) == [20260930, 20261008]


def test_days_can_be_corrected_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    make(path, "--holiday", "2026-11-24", "--workday", "2026-11-28", days=5)
    assert dates(path) == [20261123, 20261125, 20261126, 20261127, 20261128]


def test_a_phase_without_a_time_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    make(path, days=1, customer_cutoff=None, interbank=None)
    [day] = read_days(path)
    begins = day.begins
    assert begins[Phase.CUSTOMER_CUTOFF] == begins[Phase.INTERBANK] == begins[Phase.CLEARING]


def test_a_day_may_begin_on_the_evening_before_its_date(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    made = make(path, days=2, open="23:30-1", zone="Asia/Shanghai")
    assert made.json["warnings"] == []
    assert read_days(path)[0].begins[Phase.OPEN] == milliseconds(2026, 11, 22, 15, 30)


def test_clocks_that_change_move_the_instants_and_are_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    made = make(path, days=2, **{"from": "2027-03-25"})
    before, after = read_days(path)
    assert before.begins[0] == milliseconds(2027, 3, 25, 6)
    assert after.begins[0] == milliseconds(2027, 3, 30, 5)
    [warning] = made.json["warnings"]
    assert "forward by 1 h on 2027-03-28" in warning


@pytest.mark.parametrize(
    ("at", "day", "expected"),
    [
        ("02:30", "2027-03-28", "02:30 comes not at all that day"),
        ("02:30", "2026-10-25", "02:30 comes twice that day"),
    ],
)
def test_a_time_that_the_clock_does_not_show_once_is_refused(
    tmp_path: Path, at: str, day: str, expected: str
) -> None:
    made = make(tmp_path / "s", calendar="daily", open=at, **{"from": day})
    assert made.code == 1
    assert expected in made.err
    assert not (tmp_path / "s").exists()


REFUSED: list[tuple[dict[str, object], tuple[object, ...], int, str]] = [
    ({"calendar": "NOWHERE"}, (), 64, "there is no calendar NOWHERE"),
    ({"calendar": "DE-ZZ"}, (), 64, "knows no part ZZ"),
    ({"zone": "Europe/Frankfurt"}, (), 64, "there is no time zone Europe/Frankfurt"),
    ({"zone": "../../etc/passwd"}, (), 64, "there is no time zone"),
    ({"from": "2026-02-30"}, (), 64, "no day of the calendar"),
    ({"from": "tomorrow"}, (), 64, "no date such as"),
    ({"from": "9999-12-01"}, (), 1, "too far in the future"),
    ({"from": "2200-01-01"}, (), 1, "ECB ends with the year 2100"),
    ({"days": 401}, (), 64, "no number from 1 to 400"),
    ({"days": "0"}, (), 64, "no number from 1 to 400"),
    ({"open": "7:00"}, (), 64, "no time such as 07:00"),
    ({"open": "25:00"}, (), 64, "no time such as 07:00"),
    ({"interbank": "16:59"}, (), 1, "--interbank is not after --customer-cutoff"),
    ({"close": "07:00+1", "days": 2}, (), 0, ""),
    ({"close": "07:01+1", "days": 2}, (), 1, "opens before 2026-11-23 is closed"),
    ({}, ("--cycle", "EUR@06:59"), 1, "closes outside of the business day"),
    ({}, ("--cycle", "EUR"), 64, "no currency and time"),
    ({}, ("--cycle", "EUR@12:00", "--cycle", "EUR@12:00"), 1, "a cycle is given twice"),
    (
        {},
        ("--holiday", "2026-11-24", "--workday", "2026-11-24"),
        64,
        "2026-11-24 cannot be a holiday and a working day",
    ),
    ({"calendar": "daily", "days": 2}, tuple(
        part for day in range(24, 31) for part in ("--holiday", f"2026-11-{day}")
    ) + tuple(
        part for day in range(1, 9) for part in ("--holiday", f"2026-12-{day:02d}")
    ), 1, "days are missing"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "more", "code", "expected"), REFUSED)
def test_what_cannot_be_made(
    tmp_path: Path, changed: dict[str, object], more: tuple[object, ...], code: int, expected: str
) -> None:
    made = make(tmp_path / "s", *more, **changed)
    assert made.code == code
    assert expected in made.err
    assert (tmp_path / "s").exists() == (code == 0)


def test_what_was_made_can_be_published(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    made = make(path, "--cycle", "EUR@12:00", **{"from": "2025-06-16"}, days=250)
    assert made.code == 0
    chain = Chain(settling_world())
    publish(chain, read_days(path))
    assert len(chain.state.rows(BUSINESS_DAYS)) == 250


# --- check --------------------------------------------------------------------------------------


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "schedule.json"
    assert make(path, "--cycle", "EUR@12:00", days=3).code == 0
    return path


def edit(path: Path, change: Callable[[Any], None]) -> Path:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_what_was_made_is_sound(sound: Path) -> None:
    checked = run("schedule", "check", sound, "--json")
    assert checked.code == 0
    assert checked.json["faults"] == []
    assert "sound" in run("schedule", "check", sound).out


def set_day(number: int, **fields: object) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["days"][number].update({k.replace("_", "-"): v for k, v in fields.items()})

    return change


def months_missing(document: Any) -> None:
    day = document["days"][2]
    for name, value in day.items():
        if isinstance(value, str):
            day[name] = value.replace("2026-11-25", "2026-12-25")
    day["cycles"] = []


FAULTS: list[tuple[Callable[[Any], None], str]] = [
    (set_day(1, interbank="2026-11-24T16:59:59+01:00"), "interbank begins before customer-cutoff"),
    (set_day(1, date="2026-11-23"), "the date is not after 2026-11-23"),
    (set_day(1, open="2026-11-23T18:29:00+01:00"), "it opens before 2026-11-23 is closed"),
    (months_missing, "days are missing"),
    (
        set_day(0, cycles=[{"asset": "EUR", "time": "2026-11-23T18:31:00+01:00"}]),
        "a cycle of EUR closes outside of open to closed",
    ),
    (
        set_day(0, cycles=[{"asset": "EUR", "time": "2026-11-23T12:00:00+01:00"}] * 2),
        "do not ascend by time and currency, or repeat",
    ),
    (
        set_day(2, open="2026-11-25T07:00:00+02:00"),
        "whose clock then shows 2026-11-25T06:00:00+01:00",
    ),
    (lambda document: document.update(zone="Europe/Frankfurt"), "there is no time zone"),
]


@pytest.mark.parametrize(("change", "expected"), FAULTS)
def test_every_fault_of_a_file_is_named(
    sound: Path, change: Callable[[Any], None], expected: str
) -> None:
    checked = run("schedule", "check", edit(sound, change), "--json")
    assert checked.code == 1
    assert any(expected in each for each in checked.json["faults"])
    assert expected in checked.err


def test_a_day_of_no_length_is_a_fault() -> None:
    found = [each.text for each in faults([BusinessDay(20261123, (1, 1, 1, 1, 1), ())])]
    assert found == ["it closes at the instant at which it opens"]


UNREADABLE: list[tuple[str, str]] = [
    ("", "is no schedule"),
    ("[]", "is no schedule"),
    ('{"format": 1}', "is no schedule"),
    ("\udcff", "is no schedule"),
    ("[" * 5000, "is no schedule"),
]


@pytest.mark.parametrize(("text", "expected"), UNREADABLE)
def test_a_file_that_is_no_schedule_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "s"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    checked = run("schedule", "check", path)
    assert checked.code == 1
    assert expected in checked.err


MALFORMED: list[tuple[Callable[[Any], None], str]] = [
    (lambda document: document.update(format="nostro-schedule/2"), "its format is"),
    (lambda document: document.update(days=[]), "has 0 days"),
    (lambda document: document.update(days=document["days"] * 134), "has 402 days"),
    (set_day(0, open="2026-11-23T07:00:00"), "without its distance from UTC"),
    (set_day(0, open="1969-11-23T07:00:00+01:00"), "a time before 1970"),
    (set_day(0, date="2026-02-30"), "is no schedule"),
    (set_day(0, lunch="2026-11-23T12:00:00+01:00"), "unknown field `lunch`"),
    (
        set_day(0, cycles=[{"asset": "EUR", "time": "2026-11-23T12:00:00+01:00"}] * 97),
        "more than 96 cycles",
    ),
]


@pytest.mark.parametrize(("change", "expected"), MALFORMED)
def test_a_malformed_schedule_is_refused(
    sound: Path, change: Callable[[Any], None], expected: str
) -> None:
    checked = run("schedule", "check", edit(sound, change))
    assert checked.code == 1
    assert expected in checked.err


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert run("schedule", "check", tmp_path / "none").code == 64


def test_short_phases_and_far_dates_are_pointed_out(sound: Path) -> None:
    edit(sound, set_day(1, clearing="2026-11-24T18:29:30+01:00"))
    edit(sound, set_day(2, date="2026-12-25"))
    checked = run("schedule", "check", sound, "--json")
    assert checked.code == 0
    assert any("phase clearing lasts 0:00:30" in each for each in checked.json["warnings"])
    assert any("days away from its date" in each for each in checked.json["warnings"])
