"""A clearing cycle that payments join, as one block works on it.

A batch brings ten thousand payments to a cycle at once. So a block adds them up in plain numbers
and writes them into the rows once, when it ends (`Work.seal`): a payment costs two additions and,
on average, one hash. Of a cycle there is one row with the right edge of the tree over its payments,
and one for each participant's side; nothing is kept of a single payment. The rows are there from
the first payment on, so that whoever asks in the same block finds the cycle and who is in it; what
they count is that of the block's end.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Protocol

from node.chain.merkle import NODE_PREFIX
from node.chain.records import CycleKey, CycleRecord, PositionKey, PositionRecord
from node.ledger.tables import CYCLES, POSITIONS, K, R, Table

_NOTHING = [0, 0]


class Rows(Protocol):
    """Where rows are read and written: a block in execution."""

    def get(self, table: Table[K, R], key: K) -> R | None:
        """The row under this key."""

    def put(self, table: Table[K, R], key: K, row: R | None) -> None:
        """Replace it."""


class OpenCycle:
    """The cycle of an asset that payments join now."""

    __slots__ = (
        "_changed",
        "_peaks",
        "_rows",
        "_sides",
        "asset",
        "caps",
        "number",
        "opened",
        "payments",
        "value",
    )

    def __init__(
        self, asset: str, number: int, record: CycleRecord | None, rows: Rows, time: int
    ) -> None:
        """`record`: its row; None: nobody joined yet, and it opens now. `time`: of the block,
        milliseconds."""
        self.asset = asset
        self.number = number
        self.opened = time if record is None else record.opened
        self.payments = 0 if record is None else record.payments
        self.value = 0 if record is None else record.value
        """Sum of its payments, minor units."""
        self.caps: dict[str, int | None] = {}
        """What each participant may owe net; None: it is no member. As far as looked up."""
        self._peaks: list[bytes] = [] if record is None else list(record.frontier)
        self._sides: dict[str, list[int]] = {}
        """[debits, credits] of each participant looked up so far."""
        self._rows = rows
        self._changed = False

    def _side(self, lei: str) -> list[int]:
        side = self._sides.get(lei)
        if side is None:
            row = self._rows.get(POSITIONS, PositionKey(self.asset, lei))
            side = self._sides[lei] = [0, 0] if row is None else [row.debits, row.credits]
        return side

    def net_debit(self, lei: str) -> int:
        """What a participant owes net so far; negative: it is owed."""
        debits, credits = self._side(lei)
        return debits - credits

    def add(self, debtor: str, creditor: str, amount: int, leaf: bytes) -> None:
        """Take a payment in. `leaf`: its leaf hash."""
        for lei, which in ((debtor, 0), (creditor, 1)):
            side = self._side(lei)
            is_new = side == _NOTHING
            side[which] += amount
            if is_new:
                self._write_side(lei)
        self.value += amount
        # RFC 6962: the tree of n leaves has one complete subtree for each set bit of n.
        size, peaks = self.payments, self._peaks
        while size & 1:
            leaf = sha256(NODE_PREFIX + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.payments += 1
        self._changed = True
        if self.payments == 1:
            self._write_sums()

    def record(self) -> CycleRecord:
        """Its row as it stands."""
        return CycleRecord(
            status="open",
            opened=self.opened,
            payments=self.payments,
            value=self.value,
            frontier=tuple(self._peaks),
            positions=(),
            reserved=(),
            until=None,
            decided=None,
        )

    def write(self) -> None:
        """Bring the rows up to date, if a payment joined in this block."""
        if self._changed:
            self._write_sums()
            for lei, side in self._sides.items():
                if side != _NOTHING:
                    self._write_side(lei)

    def _write_sums(self) -> None:
        self._rows.put(CYCLES, CycleKey(self.asset, self.number), self.record())

    def _write_side(self, lei: str) -> None:
        debits, credits = self._sides[lei]
        self._rows.put(POSITIONS, PositionKey(self.asset, lei), PositionRecord(debits, credits))
