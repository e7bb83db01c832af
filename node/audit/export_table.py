"""The columns of an export as a table, and CSV.

Every field is drawn from a narrow alphabet: numbers, identifiers and words of the ledger. None can
begin with a character that makes a spreadsheet take it for a formula, since the ledger admits no
such name; `Formula` is raised if one ever does. Free text of payments is not exported.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import IO

from node.audit.export import Balances, Names, Point, by_account, instant_text
from node.audit.movements import ISSUED, Account, Movement
from node.chain.amounts import format_amount
from node.chain.uetr import uetr_text

COLUMNS = (
    "height",
    "index",
    "line",
    "time",
    "kind",
    "uetr",
    "related",
    "debtor",
    "debtor_name",
    "debtor_account",
    "creditor",
    "creditor_name",
    "creditor_account",
    "asset",
    "exponent",
    "amount",
    "minor_units",
    "cycle",
    "proof",
    "outcome",
)
"""In this order; docs/reference/exports.md says what each is."""
OPENING = "opening"
"""Kind of the rows that carry in what there was before the first block."""
_PLAIN = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._:-]*)?", re.ASCII)
_BATCH = 4096
"""Rows that are written at once."""


class Formula(Exception):
    """A name that a spreadsheet might run, or that would need quotes."""


def openings(at: Point, balances: Balances) -> Iterator[tuple[Account, Account, str, int]]:
    """(debtor, creditor, asset, amount) of what there was before: each account against `issued`,
    which thereby comes to its own balance."""
    for (account, asset), balance in sorted(balances.items(), key=by_account):
        if account.holder is not None and balance > 0:
            yield ISSUED, account, asset, balance
        elif account.holder is not None:
            yield account, ISSUED, asset, -balance


class CsvWriter:
    """RFC 4180 with a header line, in UTF-8. May raise OSError, Formula."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._text = io.StringIO(newline="")
        self._rows = csv.writer(self._text)
        self._waiting = 0
        self._sound: set[str] = set()
        self._sides: dict[Account, tuple[str, str, str]] = {}
        self._instant = (-1, "")

    def begin(self, chain_id: bytes, at: Point, balances: Balances, names: Names) -> None:
        """The header, and a row of kind `opening` for each balance."""
        self._names = names
        self._rows.writerow(COLUMNS)
        for debtor, creditor, asset, amount in openings(at, balances):
            row = (at.height, "", "", instant_text(at.time), OPENING, "", "")
            self._row(row, (debtor, creditor), asset, amount, ("", "", ""))

    def movement(self, time: int, height: int, movement: Movement) -> None:
        """A row."""
        position = movement.position
        if self._instant[0] != time:
            self._instant = time, instant_text(time)
        uetr, related = movement.uetr, movement.related
        self._row(
            (
                height,
                position,
                movement.line,
                self._instant[1],
                movement.kind,
                "" if uetr is None else uetr_text(uetr),
                "" if related is None else uetr_text(related),
            ),
            (movement.debtor, movement.creditor),
            movement.asset,
            movement.amount,
            (
                "" if movement.cycle is None else movement.cycle,
                f"{height}:{position}",
                movement.outcome.hex(),
            ),
        )

    def checkpoint(self, at: Point, balances: Balances) -> None:
        """Nothing: a table has movements alone."""

    def day(self, at: Point, balances: Balances) -> None:
        """Nothing."""

    def end(self, at: Point) -> None:
        """What is left."""
        self._flush()

    def abandon(self) -> None:
        """Nothing is owed."""

    def _row(
        self,
        before: Sequence[object],
        sides: tuple[Account, Account],
        asset: str,
        amount: int,
        after: Sequence[object],
    ) -> None:
        exponent = self._names.exponent(asset)
        self._rows.writerow(
            (
                *before,
                *self._side(sides[0]),
                *self._side(sides[1]),
                self._checked(asset),
                exponent,
                format_amount(amount, exponent),
                amount,
                *after,
            )
        )
        self._waiting += 1
        if self._waiting == _BATCH:
            self._flush()

    def _side(self, account: Account) -> tuple[str, str, str]:
        side = self._sides.get(account)
        if side is None:
            holder, name = account.holder or "", self._names.name(account)
            side = self._sides[account] = self._checked(holder), self._checked(name), account.kind
        return side

    def _checked(self, text: str) -> str:
        if text not in self._sound:
            if _PLAIN.fullmatch(text) is None:
                raise Formula(f"the name {text!a} is not one that the ledger admits")
            self._sound.add(text)
        return text

    def _flush(self) -> None:
        self._file.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()
        self._waiting = 0
