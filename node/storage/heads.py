"""The heads of a verified chain as a flat file, for whoever must look one up beside the owner.

The database of a running follower is its own alone. A witness that cosigns checkpoints is another
process, with a key that no process with a network has; it needs one thing of the copy, and here it
is: per height the digest of the header and its `history_root`.

    64 bytes     FORMAT, padded with zeros to 32 bytes, and the chain id
    64 bytes     header digest and history_root of height 0; then of height 1, and so on

Only what the database holds durably is appended, so a reader never learns too much; a tail that a
power cut took or tore is written again from the database. A record that rotted names no block:
whoever compares it refuses.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from node.storage.errors import StoreCorrupt, StoreMissing, unwritable

FORMAT = b"nostro-heads/1"
RECORD_BYTES = 64

_REMEDY = "Remove the file; the follower writes it anew when it starts"


class Head(NamedTuple):
    """The header of a final block, as far as a checkpoint names it."""

    digest: bytes
    root: bytes
    """Its `history_root`."""


class HeadsFile:
    """The file, to be read."""

    def __init__(self, path: Path, chain_id: bytes) -> None:
        """Raises StoreMissing, StoreCorrupt (of another chain or format)."""
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StoreMissing(
                "there are no heads of a verified copy", path, "Run nostro audit follow"
            ) from None
        if os.pread(self._descriptor, RECORD_BYTES, 0) != _title(chain_id):
            os.close(self._descriptor)
            raise StoreCorrupt("it is of another chain, or no file of heads", path, _REMEDY)

    def close(self) -> None:
        os.close(self._descriptor)

    def height(self) -> int | None:
        """Of the last record; None: there is none."""
        records = os.fstat(self._descriptor).st_size // RECORD_BYTES - 1
        return records - 1 if records > 0 else None

    def head(self, height: int) -> Head | None:
        """The record of a height; None where there is none."""
        raw = os.pread(self._descriptor, RECORD_BYTES, (height + 1) * RECORD_BYTES)
        return Head(raw[:32], raw[32:]) if len(raw) == RECORD_BYTES else None


class HeadsWriter:
    """The file, to be appended to by the one who has the database."""

    def __init__(
        self, path: Path, chain_id: bytes, height: int, stored: Callable[[int], Head]
    ) -> None:
        """Make it, or bring it to what the database holds. Raises StoreUnwritable, StoreCorrupt."""
        self._path = path
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o600)
            if os.pread(self._descriptor, RECORD_BYTES, 0) != _title(chain_id):
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, _title(chain_id), 0)
        except OSError as error:
            raise unwritable(error, path, "open") from error
        self._next = self._sound(height, stored)
        for missing in range(self._next, height + 1):
            self.append(missing, stored(missing))
        self.sync()

    def close(self) -> None:
        os.close(self._descriptor)

    def append(self, height: int, head: Head) -> None:
        """The next height's. Raises StoreUnwritable."""
        assert height == self._next, "heights are contiguous"
        record = head.digest + head.root
        try:
            if os.pwrite(self._descriptor, record, (height + 1) * RECORD_BYTES) < RECORD_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise unwritable(error, self._path, "write") from error
        self._next += 1

    def sync(self) -> None:
        """Make what was appended durable, so that only the last of it can ever be torn. Raises
        StoreUnwritable."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise unwritable(error, self._path, "sync") from error

    def _sound(self, height: int, stored: Callable[[int], Head]) -> int:
        """The height after the last record that is right; what is beyond it is cut off."""
        records = os.fstat(self._descriptor).st_size // RECORD_BYTES - 1
        sound = max(0, min(records, height + 1))
        last = sound
        for at in range(sound - 1, -1, -1):
            raw = os.pread(self._descriptor, RECORD_BYTES, (at + 1) * RECORD_BYTES)
            if raw == b"".join(stored(at)):
                break
            last = at
        try:
            os.ftruncate(self._descriptor, (last + 1) * RECORD_BYTES)
        except OSError as error:
            raise unwritable(error, self._path, "cut") from error
        return last


def _title(chain_id: bytes) -> bytes:
    return FORMAT.ljust(32, b"\0") + chain_id
