"""`pay --file`: the CSV, and the file with its UETRs that makes a second run pay nothing twice.

`FILE.uetr.csv` holds the rows with a UETR each and the time at which they were given. It is
written and synced before anything is sent, and appears in one step by a link that fails if it is
there: of two runs at once, one gives the UETRs and both use them. A later run uses them again.

Validity is derived, not chosen: `valid_until` falls on a whole number of days after `created`, 24
to 48 hours ahead. Within a day a second run therefore makes the very same signed bytes; after it,
a new signature over the same (sender, id) and the same UETRs. The ledger forgets a UETR after its
window, so a file older than the window is refused: that is the only time when running it again
could pay twice.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from node.chain.uetr import parse_uetr, uetr_text
from node.cli.connection import read_input
from node.cli.errors import CommandError
from node.cli.orders import VALIDITY_MS, new_uetr

COLUMNS = ("uetr", "debtor", "creditor", "amount", "currency", "priority")
OPTIONAL = frozenset({"uetr", "priority"})
CREATED = "created"
"""Last column of FILE.uetr.csv: when the UETRs were given, UTC."""
SUFFIX = ".uetr.csv"
MAX_ROWS = 1_000_000
MAX_BYTES = 256 * 1024 * 1024
MAX_CELL = 256
"""Characters of a cell."""
MAX_NAMED_ERRORS = 10
WINDOW_MARGIN_MS = 24 * 3600 * 1000
"""A file is refused this long before the ledger may forget its UETRs."""


@dataclass(frozen=True, slots=True)
class Row:
    line: int
    """Of the row's first character in its file; the header is line 1."""
    uetr: str
    debtor: str
    creditor: str
    amount: str
    currency: str
    priority: str

    @property
    def content(self) -> tuple[str, ...]:
        return (self.debtor, self.creditor, self.amount, self.currency, self.priority)


@dataclass(frozen=True, slots=True)
class PaymentFile:
    """A file of payments whose rows all have their UETR."""

    path: Path
    rows: list[Row]
    created: int
    """When the UETRs were given, ms since the Unix epoch."""
    resumed: bool
    """The file with the UETRs was there already: rows may have been sent before."""

    def valid_until(self, now: int) -> int:
        """The same for every run within the same day after `created`."""
        return self.created + (max(now - self.created, 0) // VALIDITY_MS + 2) * VALIDITY_MS


def filled_path(path: Path) -> Path:
    """Where the rows with their UETRs are kept."""
    return path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file. Raises CommandError naming every bad line, ten at most."""
    return _parse(path, _text(path))[0]


def prepare(path: Path, rows: Sequence[Row], now: int, uetr_window_ms: int) -> PaymentFile:
    """Give the rows their UETRs, durably, or take those that an earlier run gave.

    Raises CommandError if the file has changed since, or is too old to be run again; OSError.
    """
    target = filled_path(path)
    resumed = True
    if not target.exists():
        filled = [replace(row, uetr=row.uetr or uetr_text(new_uetr())) for row in rows]
        resumed = not _write_new(target, _dump(filled, now))
    # Also when it was there: whoever wrote it may have died before its name was durable.
    _sync(target)
    found, created = _parse(target, _text(target))
    if created is None:
        raise CommandError(
            f"{target} has no column {CREATED!r}, so it was not written by this command; move it "
            "away if no payment of it was ever sent"
        )
    _check_same(path, rows, target, found)
    if now - created > uetr_window_ms - WINDOW_MARGIN_MS:
        raise CommandError(
            f"{target} gave its UETRs {(now - created) // 86_400_000} days ago, and the ledger "
            f"remembers a UETR for {uetr_window_ms // 86_400_000} days: running it again could pay "
            "twice. Look up each row with `nostro payment UETR`; put rows that must still be paid "
            "into a new file"
        )
    merged = [replace(row, line=source.line) for row, source in zip(found, rows, strict=True)]
    return PaymentFile(target, merged, created, resumed)


def _check_same(path: Path, rows: Sequence[Row], target: Path, found: Sequence[Row]) -> None:
    remedy = (
        f"restore {path.name} as it was; or, for new payments, use a new file name, so that what "
        "was sent before keeps its UETRs"
    )
    if len(rows) != len(found):
        raise CommandError(
            f"{path} has {len(rows):,} rows, but {target} was written for {len(found):,}; {remedy}"
        )
    for row, kept in zip(rows, found, strict=True):
        if row.content != kept.content or (row.uetr and row.uetr != kept.uetr):
            raise CommandError(
                f"{path}:{row.line}: the row has changed since {target} was written; {remedy}"
            )


# --- reading ------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    data = read_input(path, "the payments file")
    if len(data) > MAX_BYTES:
        raise CommandError(f"{path} has {len(data):,} bytes; at most {MAX_BYTES:,} are taken")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CommandError(
            f"{path}:{line}: not UTF-8 text; save the file as CSV in UTF-8"
        ) from error


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line that it starts on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CommandError(f"{path}:{start}: not CSV: {error}") from error
        yield start, record
        start = reader.line_num + 1


def _parse(path: Path, text: str) -> tuple[list[Row], int | None]:
    records = _records(path, text)
    _, header = next(records, (1, []))
    names = [name.strip().lower() for name in header]
    _check_header(path, names)
    rows: list[Row] = []
    created: int | None = None
    errors: list[str] = []
    seen: dict[str, int] = {}
    for line, cells in records:
        if not cells:
            continue
        try:
            row, stamp = _row(line, names, cells)
            if row.uetr:
                first = seen.setdefault(row.uetr, line)
                if first != line:
                    raise ValueError(f"the UETR {row.uetr} stands on line {first} already")
            created = stamp if created is None else created
            rows.append(row)
        except ValueError as error:
            errors.append(f"{path}:{line}: {error}")
            if len(errors) >= MAX_NAMED_ERRORS:
                break
        if len(rows) > MAX_ROWS:
            raise CommandError(f"{path} has more than {MAX_ROWS:,} rows; split it")
    if errors:
        raise CommandError("nothing was sent, the file is not well-formed:\n" + "\n".join(errors))
    if not rows:
        raise CommandError(f"{path} has no payments below its header")
    return rows, created


def _check_header(path: Path, names: list[str]) -> None:
    expected = ",".join(COLUMNS)
    unknown = [name for name in names if name not in {*COLUMNS, CREATED}]
    missing = [name for name in COLUMNS if name not in names and name not in OPTIONAL]
    if not names or missing or unknown or len(set(names)) != len(names):
        wrong = (
            f"column {missing[0]!r} is missing"
            if missing
            else f"column {unknown[0]!r} is not known"
            if unknown
            else "a column stands twice"
        )
        raise CommandError(f"{path}:1: {wrong}; the first line must be {expected}")


def _row(line: int, names: list[str], cells: list[str]) -> tuple[Row, int | None]:
    if len(cells) != len(names):
        raise ValueError(f"{len(cells)} cells, but the header has {len(names)} columns")
    values = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
    for name, value in values.items():
        if len(value) > MAX_CELL:
            raise ValueError(f"{name} has {len(value)} characters; at most {MAX_CELL} are taken")
        if not value and name not in {"uetr", "priority", CREATED}:
            raise ValueError(f"{name} is empty")
    uetr = values.get("uetr", "")
    if uetr:
        parse_uetr(uetr)
    stamp = values.get(CREATED, "")
    return Row(
        line,
        uetr,
        values["debtor"],
        values["creditor"],
        values["amount"],
        values["currency"],
        values.get("priority", "") or "normal",
    ), _parse_instant(stamp) if stamp else None


def _parse_instant(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{CREATED} is {text[:40]!r}; it must be as this command wrote it")
    return round(moment.timestamp() * 1000)


# --- writing ------------------------------------------------------------------------------------


def _dump(rows: Sequence[Row], created: int) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*COLUMNS, CREATED))
    stamp = datetime.fromtimestamp(created / 1000, UTC).isoformat(timespec="milliseconds")
    for row in rows:
        writer.writerow((row.uetr, *row.content, stamp))
    return out.getvalue().encode()


def _write_new(target: Path, data: bytes) -> bool:
    """Create a file in one step; False if another process has created it first.

    A link, not a rename: a rename would replace the UETRs that a run beside this one has just
    written and may already have sent.
    """
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            # Before the name is given: after a crash it must not name an empty file.
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, target)
        except FileExistsError:
            return False
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
    return True


def _sync(target: Path) -> None:
    """Make a file's bytes and its name durable."""
    for path in (target, target.parent):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
