"""Executed ids and used UETRs during a replay, on disk: a year of payments fits no memory.

A replay must not trust the indexes of the store that it audits, so it keeps its own, in an SQLite
database without a name, which the system deletes when it is closed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from node.ledger.entries import InstructionEntry, UetrEntry

CACHE_KIB = 64 * 1024
"""KiB of the database's pages that are kept in memory."""


class ReplayIndex:
    """The ledger's `RecentIndex` for one replay. May raise sqlite3.Error (a full disk)."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            f"""
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{CACHE_KIB};
            CREATE TABLE uetr (uetr BLOB PRIMARY KEY, digest BLOB, time BLOB, height INTEGER,
                instruction INTEGER, payment INTEGER, status TEXT, reason TEXT,
                changed INTEGER, cycle INTEGER) WITHOUT ROWID;
            CREATE TABLE instruction (sender TEXT, id TEXT, valid_until BLOB, digest BLOB,
                height INTEGER, instruction INTEGER, PRIMARY KEY (sender, id)) WITHOUT ROWID;
            """
        )

    def close(self) -> None:
        self._db.close()

    def add(self, ids: Iterable[InstructionEntry], uetrs: Iterable[UetrEntry]) -> None:
        """Remember what a block executed and used up."""
        self._db.execute("BEGIN")
        # SQLite's integers are signed; a time may use all 64 bits.
        self._db.executemany(
            "INSERT OR REPLACE INTO uetr VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((e.uetr, e.digest, e.time.to_bytes(8, "big"), *e[3:]) for e in uetrs),
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO instruction VALUES (?, ?, ?, ?, ?, ?)",
            ((e.sender, e.id, e.valid_until.to_bytes(8, "big"), *e[3:]) for e in ids),
        )
        self._db.execute("COMMIT")

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        """The latest executed instruction under (sender, id)."""
        row = self._db.execute(
            "SELECT * FROM instruction WHERE sender = ? AND id = ?", (sender, id)
        ).fetchone()
        if row is None:
            return None
        return InstructionEntry(row[0], row[1], int.from_bytes(row[2], "big"), *row[3:])

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        """The latest outcome under this UETR."""
        row = self._db.execute("SELECT * FROM uetr WHERE uetr = ?", (uetr,)).fetchone()
        if row is None:
            return None
        return UetrEntry(row[0], row[1], int.from_bytes(row[2], "big"), *row[3:])
