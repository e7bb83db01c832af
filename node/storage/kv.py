"""The key-value interface that everything by height or key is stored behind.

Two implementations: `level.LevelStore` (LevelDB) and its twin `memory.MemoryStore`, which can
crash between any two writes. What both promise:

- A batch is atomic: after a crash all of it is there or nothing.
- After `write(batch, sync=True)` returned, the batch survives a power cut, as does everything
  written before it. An unsynced batch may be lost, but never one before it that is kept out of
  order: what survives is a prefix of the writes.
- Bytes that fail their checksum raise `StoreCorrupt`; they are never skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

Batch = Sequence[tuple[bytes, bytes | None]]
"""(key, value) to put, (key, None) to delete; a later entry for a key wins."""


class KeyValueView(Protocol):
    """An ordered map of bytes to bytes, to be read. From several threads at once, if need be."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None. Raises StoreCorrupt."""

    def iterate(
        self,
        prefix: bytes = b"",
        start: bytes | None = None,
        stop: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys with `prefix`, from `start` (inclusive) up to `stop` (exclusive), in key order.

        `start` and `stop` are whole keys. A snapshot: writes made meanwhile do not show. Raises
        StoreCorrupt."""

    def close(self) -> None:
        """Let go of it. Nothing may be called afterwards."""


class KeyValue(KeyValueView, Protocol):
    """The map itself."""

    def snapshot(self) -> KeyValueView:
        """The map as it is now, whatever is written later; to be closed before the map is."""

    def write(self, batch: Batch, sync: bool = True) -> None:
        """Apply all of `batch` or nothing. Raises StoreUnwritable, and then StorePoisoned."""

    def close(self) -> None:
        """Release the lock. Nothing may be called afterwards."""


def prefix_end(prefix: bytes) -> bytes | None:
    """The smallest key above all keys with `prefix`; None if there is none (all 0xff)."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])
