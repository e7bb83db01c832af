"""The database: LevelDB (plyvel) with its habit of hiding damage taken away.

By default LevelDB drops what fails a checksum and goes on. Hence paranoid checks at open,
checksums verified at every read, and two checks of our own for what even those let pass:

- A damaged *length* in LevelDB's log reads as a torn tail: everything behind it is silently
  dropped. So each batch carries a number, and a mark beside the database (`mark`) remembers the
  last one that was synced; a database that ends before its mark is refused.
- A *zeroed* record in that log is skipped as padding, while later ones are kept. So the numbers
  of the last `NUMBERED_BATCHES` batches stay in the database and must be without a gap. That is
  more batches than a log can hold before it becomes checksummed tables.

Both stay refused at every later start: LevelDB itself would have forgotten the loss by then.

LevelDB is not fork-safe: open after spawning, never before.

Layout: `path/db` is LevelDB's own directory, `path/mark` the mark.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plyvel

from node.storage.disk import DIRECTORY_MODE, FileDisk
from node.storage.errors import (
    StorageError,
    StoreCorrupt,
    StoreLocked,
    StoreMissing,
    StorePoisoned,
    StoreUnwritable,
)
from node.storage.kv import Batch, prefix_end
from node.storage.mark import HighWaterMark

BLOCK_CACHE_BYTES = 8 * 2**20
WRITE_BUFFER_BYTES = 4 * 2**20
"""LevelDB's log and memory table; two may exist at a time."""
OPEN_FILES = 74
"""LevelDB's minimum: tables are mapped into memory, 2 MiB each, so this bounds what they add to
the process's resident size (128 MiB, reclaimable)."""
BLOOM_BITS = 10
"""Per key: about 1 % of lookups of an absent UETR read a table in vain."""
NUMBERED_BATCHES = 65_536
"""Batches whose numbers are kept: even the smallest batch takes more than 64 bytes of
`WRITE_BUFFER_BYTES`, so LevelDB's log holds fewer than this."""

_NUMBER = b"\x00number"
_LOWEST_KEY = b"\x01"
"""Keys below it are this module's own."""

_RECOVER = (
    "Nothing is served from it. Keep it for analysis and check the device, then put a copy of "
    "another node's data/ in its place and audit it (docs/how-to/recover.md)"
)


class _LevelReader:
    """Reads of LevelDB, or of a snapshot of it."""

    _db: Any
    _database_path: Path

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise self._corrupt(error, f"reading key {key.hex()}") from error
        return value

    def iterate(
        self,
        prefix: bytes = b"",
        start: bytes | None = None,
        stop: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        low = max(prefix, start or b"", _LOWEST_KEY)
        high = prefix_end(prefix)
        if stop is not None and (high is None or stop < high):
            high = stop
        if high is not None and high <= low:
            return
        try:
            with self._db.iterator(
                start=low, stop=high, reverse=reverse, verify_checksums=True
            ) as pairs:
                yield from pairs
        except plyvel.Error as error:
            raise self._corrupt(error, f"iterating over {prefix.hex()}") from error

    def _corrupt(self, error: Exception, doing: str) -> StoreCorrupt:
        return StoreCorrupt(f"damaged ({doing}): {_text(error)}", self._database_path, _RECOVER)


class LevelSnapshot(_LevelReader):
    """`KeyValueView` of a `LevelStore` at one moment. To be closed before the store is."""

    def __init__(self, database: Any, path: Path) -> None:
        """`database`: plyvel's snapshot; `path`: of the database, for messages."""
        self._db = database
        self._database_path = path

    def close(self) -> None:
        self._db.close()


class LevelStore(_LevelReader):
    """`KeyValue` on LevelDB. One process at a time; reads from any thread."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the database under `path`; with `create`, a new one.

        Raises StoreLocked, StoreMissing, StoreCorrupt, StoreUnwritable."""
        self._path = path
        self._database_path = path / "db"
        self._poison: StorageError | None = None
        self._writing = threading.Lock()
        disk = FileDisk()
        if create:
            disk.make_directory(str(path))
            os.makedirs(self._database_path, DIRECTORY_MODE, exist_ok=True)
        elif not (self._database_path / "CURRENT").exists():
            raise StoreMissing(
                "there is no database",
                self._database_path,
                "If it was moved, put it back; if it is lost, put a copy of another node's data/ "
                "in its place and audit it (docs/how-to/recover.md)",
            )
        self._db = self._open(create)
        try:
            mark = str(path / "mark")
            if create:
                self._mark = HighWaterMark.create(disk, mark)
                disk.sync_directory(str(path))
            else:
                self._mark = HighWaterMark.open(disk, mark)
            self._number = self._check_numbers()
        except BaseException:
            self._db.close()
            raise

    def snapshot(self) -> LevelSnapshot:
        return LevelSnapshot(self._db.snapshot(), self._database_path)

    def write(self, batch: Batch, sync: bool = True) -> None:
        # One at a time, so that batches reach LevelDB's log in the order of their numbers.
        with self._writing:
            if self._poison is not None:
                raise StorePoisoned(
                    f"an earlier write failed ({self._poison.what})",
                    self._path,
                    self._poison.remedy,
                )
            try:
                self._write(batch, self._number + 1, sync)
            except plyvel.Error as error:
                # What LevelDB's log holds now is unknown; only recovery can tell.
                self._poison = self._failed_write(error)
                raise self._poison from error
            self._number += 1
            if sync:
                try:
                    self._mark.raise_to(self._number)
                except StorageError as error:
                    self._poison = error
                    raise

    def _write(self, batch: Batch, number: int, sync: bool) -> None:
        with self._db.write_batch(transaction=True, sync=sync) as writes:
            put, delete = writes.put, writes.delete
            for key, value in batch:
                if value is None:
                    delete(key)
                else:
                    put(key, value)
            put(_number_key(number), b"")
            if number > NUMBERED_BATCHES:
                delete(_number_key(number - NUMBERED_BATCHES))

    def close(self) -> None:
        self._db.close()
        self._mark.close()

    # --- opening ------------------------------------------------------------------------------

    def _open(self, create: bool) -> Any:
        where = self._database_path
        try:
            return plyvel.DB(
                str(where),
                create_if_missing=create,
                error_if_exists=create,
                paranoid_checks=True,
                write_buffer_size=WRITE_BUFFER_BYTES,
                max_open_files=OPEN_FILES,
                lru_cache_size=BLOCK_CACHE_BYTES,
                bloom_filter_bits=BLOOM_BITS,
                # Blocks are hashes, keys and signatures: compression finds nothing to do.
                compression=None,
            )
        except plyvel.CorruptionError as error:
            raise self._corrupt(error, "opening") from error
        except plyvel.Error as error:
            text = _text(error)
            if "lock" in text.lower():
                raise StoreLocked(
                    "another process has this database open",
                    where,
                    "If the node is running, ask it through its API, or stop it first",
                ) from None
            if "exists (error_if_exists is true)" in text:
                raise StoreUnwritable(
                    "there already is a database", where, "Choose an empty directory"
                ) from None
            if any(hint in text for hint in _UNWRITABLE):
                raise self._failed_write(error) from error
            raise self._corrupt(error, "opening") from error

    def _check_numbers(self) -> int:
        """The number of the last batch. Raises StoreCorrupt on a gap or an early end."""
        stop = prefix_end(_NUMBER)
        try:
            with self._db.iterator(
                start=_NUMBER, stop=stop, include_value=False, verify_checksums=True
            ) as keys:
                numbers = [int.from_bytes(key[len(_NUMBER) :], "big") for key in keys]
        except plyvel.Error as error:
            raise self._corrupt(error, "reading batch numbers") from error
        last = numbers[-1] if numbers else 0
        if last < self._mark.value:
            raise StoreCorrupt(
                f"the database ends with batch {last}, but batch {self._mark.value} had been "
                "made durable: its log or CURRENT file was cut, damaged or replaced",
                self._database_path,
                _RECOVER,
            )
        expected = list(range(max(1, last - NUMBERED_BATCHES + 1), last + 1))
        if numbers != expected:
            missing = min(set(expected) - set(numbers), default=0)
            raise StoreCorrupt(
                f"batch {missing} of {last} is missing: LevelDB's log is damaged in the middle",
                self._database_path,
                _RECOVER,
            )
        return last

    # --- errors -------------------------------------------------------------------------------

    def _failed_write(self, error: Exception) -> StorageError:
        text = _text(error)
        if isinstance(error, plyvel.CorruptionError):
            return self._corrupt(error, "writing")
        remedy = next(
            (remedy for hint, remedy in _UNWRITABLE.items() if hint in text),
            "Look at the file system and the device, then start again",
        )
        return StoreUnwritable(f"cannot write: {text}", self._database_path, remedy)


_UNWRITABLE = {
    "No space left": "Free some space on this file system, then start again",
    "quota": "Raise the quota or free some space, then start again",
    "Read-only file system": "Mount the file system read-write, then start again",
    "Permission denied": "Give the node's user write permission, then start again",
    "File too large": "Raise the file size limit (ulimit -f), then start again",
    "Input/output error": "Check the device (kernel log, SMART), then start again",
}


def _number_key(number: int) -> bytes:
    return _NUMBER + number.to_bytes(8, "big")


def _text(error: Exception) -> str:
    argument = error.args[0] if error.args else str(error)
    return argument.decode("utf-8", "replace") if isinstance(argument, bytes) else str(argument)
