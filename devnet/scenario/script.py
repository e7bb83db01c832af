"""A scenario as a file: TOML, read strictly.

An unknown key is refused by name and line, since a mistyped one would quietly judge less than was
meant. The format is documented in docs/reference/scenario.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devnet import identity
from devnet.network import MAX_VALIDATORS
from devnet.partition import BadFault
from devnet.scenario.actions import Action, parse_action

SHIPPED = Path(__file__).parents[1] / "scenarios"
"""The scenarios that come with the program."""
MAX_FILE_BYTES = 256 * 1024
MAX_STEPS = 1_000
"""After repetition."""
MAX_SECONDS = 24 * 3600.0
MAX_RATE = 100_000
MAX_PAYMENTS = 200_000
"""Of one run: every one is followed at every node and kept for the judge."""
MAX_BATCH = 10_000
RECOVERY_SECONDS = 20.0
"""Bound of the recovery, unless the file asks for another."""
SHORT_SCALE = 0.25
"""What `--short` multiplies times with, unless the file has its own."""


class BadScript(Exception):
    """A scenario file that cannot be run; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happens when."""

    at: float
    """Seconds after the load began."""
    action: Action


@dataclass(frozen=True, slots=True)
class Traffic:
    """The load beneath the faults."""

    count: int
    rate: float
    """Payments per second; 0 is as many as the nodes take."""
    batch: int


@dataclass(frozen=True, slots=True)
class Script:
    """A scenario, checked."""

    name: str
    title: str
    validators: int
    banks: int
    seed: int
    traffic: Traffic
    steps: tuple[Step, ...]
    """Ascending by time."""
    recovery_seconds: float


def shipped() -> list[str]:
    """Names of the scenarios that come with the program."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def find_script(given: str) -> Path:
    """The file of a scenario given by path or by name. Raises BadScript."""
    path = Path(given)
    if path.suffix == ".toml" or path.exists():
        return path
    if given in shipped():
        return SHIPPED / f"{given}.toml"
    raise BadScript(
        f"there is no scenario {given!r} and no such file; those that come with nostro are "
        f"{', '.join(shipped())}"
    )


def load_script(path: Path, *, short: bool = False) -> Script:
    """Read a scenario file; `short` for its short version. Raises BadScript."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadScript(f"{path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise BadScript(f"{path} has more than {MAX_FILE_BYTES} bytes; that is no scenario")
    try:
        return parse_script(path.stem, data.decode("utf-8"), short=short)
    except UnicodeDecodeError as error:
        raise BadScript(f"{path} is not UTF-8 text: {error}") from error
    except BadScript as error:
        raise BadScript(f"{path}: {error}") from None


def parse_script(name: str, text: str, *, short: bool = False) -> Script:
    """A scenario from its text. Raises BadScript."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadScript(f"not TOML: {error}") from error
    lines = _Lines(text)
    top = _Table("", document, lines)
    devnet, load = top.table("devnet"), top.table("load")
    judge, cut = top.table("judge"), top.table("short")
    validators = devnet.whole("validators", 1, MAX_VALIDATORS, 4)
    names = [identity.node_name(index) for index in range(validators)]
    scale = cut.number("scale", 0.001, 1.0, SHORT_SCALE) if short else 1.0
    times = cut.whole("times", 1, MAX_STEPS, MAX_STEPS) if short else MAX_STEPS
    script = Script(
        name=name,
        title=top.text("title", name),
        validators=validators,
        banks=devnet.whole("banks", 2, identity.MAX_BANKS, 4),
        seed=devnet.whole("seed", 0, 2**63 - 1, 1),
        traffic=_traffic(load, scale),
        steps=_steps(top.tables("step"), names, scale, times),
        recovery_seconds=judge.number("recovery_seconds", 0.1, 3600.0, RECOVERY_SECONDS),
    )
    if not short:
        # Read all the same, so that a slip there shows at once.
        cut.number("scale", 0.001, 1.0, SHORT_SCALE)
        cut.whole("times", 1, MAX_STEPS, MAX_STEPS)
    for table in (devnet, load, judge, cut, top):
        table.nothing_else()
    return script


def _traffic(load: _Table, scale: float) -> Traffic:
    rate = load.number("rate", 0.0, MAX_RATE, 0.0)
    batch = load.whole("batch", 1, MAX_BATCH, 1)
    seconds = load.number("seconds", 0.0, MAX_SECONDS, 0.0)
    count = load.whole("count", 0, MAX_PAYMENTS, 0)
    if bool(seconds) == bool(count):
        raise load.error(
            "seconds", "a load has either seconds (with a rate) or a count of payments"
        )
    if seconds and not rate:
        raise load.error("seconds", "seconds need a rate; without one, give a count of payments")
    count = int((seconds * rate or count) * scale)
    if not 1 <= count <= MAX_PAYMENTS:
        raise load.error(
            "seconds", f"this makes {count:,} payments; there may be 1 to {MAX_PAYMENTS:,}"
        )
    return Traffic(count, rate, batch)


def _steps(
    tables: list[_Table], names: list[str], scale: float, most_times: int
) -> tuple[Step, ...]:
    steps: list[Step] = []
    for table in tables:
        at = table.number("at", 0.0, MAX_SECONDS, None)
        times = table.whole("times", 1, MAX_STEPS, 1)
        every = table.number("every", 0.0, MAX_SECONDS, 0.0)
        text = table.text("do", None)
        table.nothing_else()
        if (times > 1) != (every > 0):
            given = "times" if times > 1 else "every"
            raise table.error(given, "times and every go together: so often, seconds apart")
        try:
            action = parse_action(text, names)
        except BadFault as error:
            raise table.error("do", str(error)) from error
        for turn in range(min(times, most_times)):
            steps.append(Step((at + turn * every) * scale, action))
        if len(steps) > MAX_STEPS:
            raise table.error(
                "times", f"a script may have {MAX_STEPS} steps, repeated ones counted"
            )
    # Stable: what comes at one time is done in the order of the file.
    return tuple(sorted(steps, key=lambda step: step.at))


def with_devnet(script: Script, *, validators: int, banks: int, seed: int) -> Script:
    """The script as run on a devnet that is there. Raises BadScript where they do not fit."""
    for what, wanted, has in (
        ("validators", script.validators, validators),
        ("banks", script.banks, banks),
    ):
        if wanted != has:
            raise BadScript(
                f"the scenario is for {wanted} {what}, this devnet has {has}; run it without "
                "--dir, on a devnet of its own"
            )
    return replace(script, seed=seed)


# --- reading tables -----------------------------------------------------------------------------


class _Lines:
    """Where keys stand in the text: tomllib tells only of values."""

    HEADER = re.compile(r"\s*\[{1,2}\s*([A-Za-z0-9_.-]+)\s*\]{1,2}")
    KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*[=.]""")

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, int, str], int] = {}
        seen: dict[str, int] = {}
        table, turn = "", 0
        for number, line in enumerate(text.splitlines(), 1):
            if header := self.HEADER.match(line):
                table = header[1]
                turn = seen[table] = seen.get(table, -1) + 1
                self._lines.setdefault(("", 0, table), number)
                self._lines.setdefault((table, turn, ""), number)
            elif key := self.KEY.match(line):
                self._lines.setdefault((table, turn, key[1]), number)

    def find(self, table: str, turn: int, key: str) -> int | None:
        return self._lines.get((table, turn, key)) or self._lines.get((table, turn, ""))


class _Table:
    """One table of the file, whose keys must all be asked for."""

    def __init__(self, name: str, values: Mapping[str, Any], lines: _Lines, turn: int = 0) -> None:
        self._name, self._values, self._lines, self._turn = name, values, lines, turn
        self._known: list[str] = []

    def error(self, key: str, why: str) -> BadScript:
        line = self._lines.find(self._name, self._turn, key)
        place = "" if line is None else f"line {line}, "
        return BadScript(f"{place}{f'[{self._name}]' if self._name else 'top level'}: {why}")

    def nothing_else(self) -> None:
        for key in self._values:
            if key not in self._known:
                raise self.error(
                    key, f"unknown key {key!r}; what may stand here: {', '.join(self._known)}"
                )

    def table(self, key: str) -> _Table:
        value = self._value(key, {})
        if not isinstance(value, dict):
            raise self.error(key, f"{key} must be a table, written [{key}]")
        return _Table(key, value, self._lines)

    def tables(self, key: str) -> list[_Table]:
        value = self._value(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"{key} must be tables, each written [[{key}]]")
        return [_Table(key, item, self._lines, turn) for turn, item in enumerate(value)]

    def text(self, key: str, default: str | None) -> str:
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"{key} must be text, not {value!r}")
        return value

    def whole(self, key: str, least: int, most: int, default: int) -> int:
        value = self._value(key, default)
        # In Python, and only there, true is a number.
        if type(value) is not int or not least <= value <= most:
            raise self.error(key, f"{key} must be a whole number from {least} to {most:,}")
        return value

    def number(self, key: str, least: float, most: float, default: float | None) -> float:
        value = self._value(key, default)
        if type(value) not in (int, float) or not least <= value <= most:
            raise self.error(key, f"{key} must be a number from {least:g} to {most:,.0f}")
        return float(value)

    def _value(self, key: str, default: Any) -> Any:
        self._known.append(key)
        if key not in self._values and default is None:
            raise self.error(key, f"{key} is missing")
        return self._values.get(key, default)
