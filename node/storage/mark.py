"""A high-water mark: how much was made durable, kept beside what it watches.

A log whose last frames are missing looks exactly like one that was never longer, and LevelDB
takes a damaged length field in its log for a torn tail and goes on without the rest. The mark
tells the difference: it is raised after the fsync it vouches for and never before, so what is on
disk must reach at least as far. It costs one 16-byte write without fsync: after kill -9 it is
exact, after a power cut it may lag, which only makes the check weaker, never wrong.
"""

from __future__ import annotations

import hashlib

from node.storage.disk import MARK_BYTES, Disk, Mark
from node.storage.errors import StoreCorrupt

_CHECK_BYTES = 8
assert MARK_BYTES == 8 + _CHECK_BYTES


def _encode(value: int) -> bytes:
    number = value.to_bytes(8, "big")
    return number + hashlib.sha256(b"nostro-mark/1" + number).digest()[:_CHECK_BYTES]


class HighWaterMark:
    """A number that only rises."""

    def __init__(self, mark: Mark, value: int) -> None:
        self._mark = mark
        self.value = value

    @classmethod
    def create(cls, disk: Disk, name: str, value: int = 0) -> HighWaterMark:
        """A new mark; the caller syncs the directory. Raises StoreUnwritable."""
        return cls(disk.create_mark(name, _encode(value)), value)

    @classmethod
    def open(cls, disk: Disk, name: str) -> HighWaterMark:
        """Raises StoreMissing, StoreCorrupt."""
        mark = disk.open_mark(name)
        data = mark.read()
        value = int.from_bytes(data[:8], "big")
        if data != _encode(value):
            mark.close()
            raise StoreCorrupt(
                "the mark of what was made durable is damaged",
                name,
                "This is not the work of a crash; check the device before anything else",
            )
        return cls(mark, value)

    def raise_to(self, value: int) -> None:
        """Call only after everything up to `value` was synced. Raises StoreUnwritable."""
        assert value >= self.value, "a mark never sinks"
        if value > self.value:
            self._mark.write(_encode(value))
            self.value = value

    def close(self) -> None:
        self._mark.close()
