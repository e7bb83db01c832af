"""What a command prints: one JSON document, or text for people. Never both on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

BAR_WIDTH = 30


def _harmless(text: str) -> str:
    """A JSON document in which escapes stand for what would move a terminal's cursor or turn its
    writing round: the same to a program."""
    if text.isascii():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


class Output:
    """The three channels of a command."""

    def __init__(
        self, as_json: bool, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.as_json = as_json
        self._out = stdout or sys.stdout
        self._err = stderr or sys.stderr
        self._bar_drawn = False

    def line(self, text: str = "") -> None:
        """A line for people; nothing with --json."""
        if not self.as_json:
            self.clear_progress()
            print(text, file=self._out, flush=True)

    def document(self, value: Any) -> None:
        """The one JSON document; nothing without --json."""
        if self.as_json:
            text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
            print(_harmless(text), file=self._out, flush=True)

    def note(self, text: str) -> None:
        """For people in either mode, on standard error: warnings, what to remember."""
        self.clear_progress()
        print(text, file=self._err, flush=True)

    def error(self, text: str) -> None:
        self.note(f"nostro: {text}")

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
        """Aligned columns; `right` names the heads of columns aligned to the right."""
        if self.as_json:
            return
        widths = [
            max(len(head), *(len(row[i]) for row in rows)) if rows else len(head)
            for i, head in enumerate(heads)
        ]
        for row in [list(heads), *rows]:
            cells = [
                cell.rjust(width) if head in right.split() else cell.ljust(width)
                for head, cell, width in zip(heads, row, widths, strict=True)
            ]
            self.line("  ".join(cells).rstrip())

    # --- progress, on a terminal only -----------------------------------------------------------

    def progress(self, done: int, total: int, what: str) -> None:
        """Redraw the bar in place; nothing where standard error is no terminal."""
        if not self._err.isatty() or total == 0:
            return
        filled = BAR_WIDTH * done // total
        bar = "#" * filled + "." * (BAR_WIDTH - filled)
        self._err.write(f"\r[{bar}] {done:,} of {total:,} {what} \x1b[K")
        self._err.flush()
        self._bar_drawn = True

    def clear_progress(self) -> None:
        if self._bar_drawn:
            self._err.write("\r\x1b[K")
            self._err.flush()
            self._bar_drawn = False


def instant(milliseconds: int | None) -> str:
    """A time for people: UTC, to the millisecond."""
    if milliseconds is None:
        return "-"
    seconds, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{rest:03d} UTC"
