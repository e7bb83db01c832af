"""The in-memory twin of the database: same promises, and crashes on demand.

A crash loses unsynced batches from the end, whole (LevelDB's log is replayed up to the first
incomplete record). `interrupt_next_write` crashes *inside* a write, which is where a commit that
is not one batch would show half of itself.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Iterator

from node.storage.kv import Batch, prefix_end
from node.storage.simulated_disk import SimulatedCrash

_whole = threading.Lock()
"""Held while values and keys are changed or walked through: threads read beside a write. One for
all stores, so that a test can copy a store deeply."""


class MemoryStore:
    """`KeyValue` in memory."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._durable: dict[bytes, bytes] = {}
        self._unsynced: list[Batch] = []
        self._interrupt: bool | None = None
        self._dead = False

    def get(self, key: bytes) -> bytes | None:
        self._check_open()
        return self._values.get(key)

    def iterate(
        self,
        prefix: bytes = b"",
        start: bytes | None = None,
        stop: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        self._check_open()
        low = max(prefix, start) if start is not None else prefix
        high = prefix_end(prefix)
        if stop is not None and (high is None or stop < high):
            high = stop
        with _whole:
            first = bisect_left(self._keys, low)
            last = len(self._keys) if high is None else bisect_left(self._keys, high)
            pairs = [(key, self._values[key]) for key in self._keys[first:last]]
        return iter(pairs[::-1] if reverse else pairs)

    def write(self, batch: Batch, sync: bool = True) -> None:
        self._check_open()
        batch = tuple(batch)
        if self._interrupt is not None:
            if self._interrupt:
                self._unsynced.append(batch)
                self._settle(len(self._unsynced))
            self._dead = True
            raise SimulatedCrash("in the middle of a write")
        with _whole:
            self._apply(batch)
        self._unsynced.append(batch)
        if sync:
            self._settle(len(self._unsynced))

    def _apply(self, batch: Batch) -> None:
        for key, value in batch:
            if value is None:
                if self._values.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._values:
                    insort(self._keys, key)
                self._values[key] = value

    def snapshot(self) -> MemoryStore:
        """See `KeyValue.snapshot`."""
        self._check_open()
        copy = MemoryStore()
        with _whole:
            copy._values, copy._keys = dict(self._values), list(self._keys)
        return copy

    def close(self) -> None:
        """Like the real one, closing syncs nothing."""
        self._dead = True

    # --- the crash side -----------------------------------------------------------------------

    @property
    def unsynced(self) -> int:
        """Batches that a crash may lose."""
        return len(self._unsynced)

    def interrupt_next_write(self, durable: bool) -> None:
        """Die inside the next write, with its batch just durable or just not."""
        self._interrupt = durable

    def crash(self, survivors: int = 0) -> MemoryStore:
        """Die; the store as found at the next start, with the first `survivors` unsynced
        batches on disk."""
        self._settle(min(survivors, len(self._unsynced)))
        self._dead = True
        found = MemoryStore()
        found._durable = dict(self._durable)
        found._values = dict(self._durable)
        found._keys = sorted(found._values)
        return found

    def _settle(self, count: int) -> None:
        for batch in self._unsynced[:count]:
            for key, value in batch:
                if value is None:
                    self._durable.pop(key, None)
                else:
                    self._durable[key] = value
        del self._unsynced[:count]

    def _check_open(self) -> None:
        assert not self._dead, "used after close or crash"
