"""Histories of the settlement machine as an export sees them: every kind of movement, and a model
that says what the ledger must have made of each."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from io import BytesIO, StringIO
from pathlib import Path
from random import Random
from typing import IO

from node.audit.chain_audit import Replayed
from node.audit.export import EVERYTHING, Exporter, Names, Span, Summary, Writer
from node.audit.export_beancount import BeancountWriter
from node.audit.export_parquet import ParquetWriter
from node.audit.export_table import CsvWriter
from node.audit.movements import KINDS, Account
from node.chain.types import AccountKind
from node.ledger.state import State
from tests.support.ledger_world import MadeBlock
from tests.support.settlement_actions import Chance
from tests.support.settlement_machine import DECK, World
from tests.support.settlement_world import Driver, settlement_world

STEPS = 100
"""Of one history."""
RICH_SEED, RICH_STEPS, RICH_TRIES = 31, 800, 40
"""Where a history is found in which money moves in every way there is."""
CHECKED_SECONDS = 60


class Watched(Driver):
    """Shows every block to exports, as a replay would."""

    def __init__(self, *exporters: Exporter) -> None:
        super().__init__()
        self.exporters = exporters

    def block(self, step: int) -> MadeBlock:
        made = super().block(step)
        replayed = Replayed(made.header, made.digest, made.instructions, made.applied)
        for each in self.exporters:
            each.watch(replayed)
        return made


class Export:
    """One export of a history, in some format."""

    def __init__(
        self,
        form: str,
        span: Span = EVERYTHING,
        holder: str | None = None,
        every: int | None = None,
    ) -> None:
        self.file = BytesIO()
        whole, stretches = holder is None, every is not None
        self.exporter = Exporter(
            made_writer(form, self.file, whole=whole, stretches=stretches),
            settlement_world().genesis,
            span=span,
            holder=holder,
            every=every,
        )
        self.summary = Summary()

    @property
    def text(self) -> str:
        return self.file.getvalue().decode()

    @property
    def rows(self) -> list[dict[str, str]]:
        """Of a CSV export."""
        return list(csv.DictReader(StringIO(self.text, newline="")))


def made_writer(
    form: str, file: IO[bytes], *, whole: bool = True, stretches: bool = False
) -> Writer:
    """What writes a format."""
    if form == "beancount":
        return BeancountWriter(file, whole=whole, stretches=stretches)
    return CsvWriter(file) if form == "csv" else ParquetWriter(file)


class History:
    """What the machine played with this seed, and its exports."""

    def __init__(self, seed: int, steps: int, exports: list[Export]) -> None:
        self.driver = Watched(*(each.exporter for each in exports))
        world, choice = World(), Chance(Random(seed))
        world.driver = self.driver
        world.begin(choice)
        for _ in range(steps):
            getattr(world, choice.pick(DECK))(choice)
        self.driver.block(1_000)
        self.exports = exports
        for each in exports:
            each.summary = each.exporter.finish()

    @property
    def state(self) -> State:
        return self.driver.chain.state

    @property
    def blocks(self) -> list[MadeBlock]:
        return self.driver.chain.blocks

    def balances(self, at: State | None = None) -> dict[tuple[Account, str], int]:
        """Every account's balance that is not zero, as the ledger has it."""
        return {
            (Account(each.participant, word(each.kind)), each.asset): each.balance
            for each in (at or self.state).accounts()
            if each.balance
        }


def word(kind: int) -> str:
    """A kind of account as exports write it."""
    return AccountKind(kind).name.lower().replace("_", "-")


def sums(rows: list[dict[str, str]]) -> dict[tuple[Account, str], int]:
    """Every balance that is not zero, by the rows of a CSV export alone."""
    found: Counter[tuple[Account, str]] = Counter()
    for row in rows:
        amount = int(row["minor_units"])
        for side, signed in (("debtor", -amount), ("creditor", amount)):
            account = Account(row[side] or None, row[f"{side}_account"])
            found[account, row["asset"]] += signed
    return {key: value for key, value in found.items() if value}


PART = Span(first=40, last=90)
HOLDER = "BANKA"


@cache
def rich() -> History:
    """A history with every kind of movement, in all the exports of `RICH`. Shared: read only."""
    for seed in range(RICH_SEED, RICH_SEED + RICH_TRIES):
        history = History(seed, RICH_STEPS, [make() for make in RICH.values()])
        if {row["kind"] for row in history.exports[0].rows} == set(KINDS):
            return history
    raise AssertionError("no seed shows every kind of movement; try more of them")


RICH: dict[str, Callable[[], Export]] = {
    "csv": lambda: Export("csv"),
    "beancount": lambda: Export("beancount"),
    "parquet": lambda: Export("parquet"),
    "stretches": lambda: Export("beancount", every=3),
    "csv part": lambda: Export("csv", PART),
    "beancount part": lambda: Export("beancount", PART),
    "csv holder": lambda: Export("csv", PART, HOLDER),
    "beancount holder": lambda: Export("beancount", PART, HOLDER),
    "stretches holder": lambda: Export("beancount", PART, HOLDER, every=3),
}


def rich_export(name: str) -> Export:
    """One of `RICH`."""
    return rich().exports[list(RICH).index(name)]


def bean_check(text: str, directory: Path) -> list[str]:
    """What beancount's own `bean-check` says of a file: its complaints; none: it passed."""
    path = directory / "books.beancount"
    path.write_text(text, "utf-8")
    ran = subprocess.run(
        [Path(sys.executable).with_name("bean-check"), "--no-cache", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=CHECKED_SECONDS,
    )
    said = [line for line in ran.stderr.splitlines() if line.startswith(str(path))]
    assert (ran.returncode == 0) is (not said), ran.stderr
    return said


class Plain(Names):
    """Everybody is called the same; three assets are known."""

    def name(self, account: Account) -> str:
        return "" if account.holder is None else "BANKA"

    def exponent(self, asset: str) -> int:
        return {"EUR": 2, "XBT": 8, "JPY": 0}[asset]
