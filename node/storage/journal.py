"""The consensus journal: what this node promised, durable before it leaves the process.

One live segment holds everything; a rotation writes a new one with what is still live, and only
when that is durable under its name is the old one removed. So there is never a choice between
two half journals: the highest-numbered segment is complete.

What recovery does, and which crash or attack each step is for:
- An incomplete last frame is cut: its fsync never returned, so nothing in it was promised.
- Damage anywhere else, or a journal that ends before its mark (`mark`), is refused by file and
  offset: a node that forgot votes could contradict them.
- What was read is written again to a new segment and synced before anything builds on it. After
  a failed fsync the page cache can show bytes that the disk does not have.
- After any failed write or fsync this object is poisoned: stop the process, recover from disk.

`append` and `rotate` belong to the driver's thread and never block; `sync` does the work and may
run in another thread. One `sync` covers what was appended before it was called.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from node.storage.disk import AppendFile, Disk
from node.storage.errors import (
    JournalCorrupt,
    StorageError,
    StoreCorrupt,
    StoreMissing,
    StorePoisoned,
)
from node.storage.framing import (
    BINDING_BYTES,
    HEADER_BYTES,
    SALT_BYTES,
    FrameDamage,
    Scan,
    SegmentHeader,
    encode_frame,
    scan,
)
from node.storage.mark import HighWaterMark

SEGMENT_BYTES = 32 * 2**20
"""A segment above this asks for rotation."""
MAX_PENDING_BYTES = 512 * 2**20
"""Bound on what waits for one fsync; the core's own bounds keep it far below."""

_SUFFIX = ".segment"
_MARK = "mark"
_UNBOUND = bytes(BINDING_BYTES)
_RESTORE = (
    "This is not the work of a crash. Do not edit or remove it: a node that forgot its votes "
    "could contradict them. Check the device; the node can only come back as an observer, "
    "with a new vote key"
)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What opening a journal found."""

    torn_bytes: int = 0
    """Length of the incomplete last frame that was cut; 0 if none."""
    copied: bool = False
    """The file is not the one that was written: it is a copy, or restored from one."""
    created: bool = False


class Journal:
    """An append-only log of records with one fsync a turn."""

    def __init__(
        self, disk: Disk, directory: str, mark: HighWaterMark, binding: bytes, recovered: Recovered
    ) -> None:
        """Use `create` or `open`."""
        self._disk = disk
        self._directory = directory
        self._mark = mark
        self._binding = binding
        self.recovered = recovered
        self._swap = threading.Lock()
        self._syncing = threading.Lock()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._keep: list[bytes] | None = None
        self._in_sync = False
        self._poison: BaseException | None = None
        self._segment = 0
        self._file: AppendFile | None = None
        self._header: SegmentHeader | None = None
        self._number = mark.value
        self._size = 0
        self._limit = SEGMENT_BYTES

    # --- opening ------------------------------------------------------------------------------

    @classmethod
    def create(cls, disk: Disk, directory: str, *, binding: bytes = _UNBOUND) -> Journal:
        """A new, empty journal in an empty directory (made if missing). Raises StoreUnwritable."""
        disk.make_directory(directory)
        assert not _segments(disk, directory), "an existing journal is opened, never overwritten"
        if _MARK in disk.list(directory):
            # Left by a crash while creating: the mark is made first and vouches for nothing yet.
            mark = HighWaterMark.open(disk, f"{directory}/{_MARK}")
            if mark.value:
                mark.close()
                raise StoreMissing("the journal's segment is gone", directory, _RESTORE)
        else:
            mark = HighWaterMark.create(disk, f"{directory}/{_MARK}")
            disk.sync_directory(directory)
        journal = cls(disk, directory, mark, binding, Recovered(created=True))
        journal._start_segment([])
        return journal

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        *,
        create: bool = False,
        binding: bytes = _UNBOUND,
        only_original: bool = False,
    ) -> tuple[Journal, list[bytes]]:
        """Recover the journal; returns it with all its records, oldest first.

        `create` makes one where there never was one (for simulations; a home's journal is made
        with the home, so that a missing one is noticed). `only_original` refuses a copy that holds
        records. `journal.recovered` says what was cut.
        Raises StoreMissing, JournalCorrupt, StoreCorrupt, StoreUnwritable."""
        if create:
            disk.make_directory(directory)
            if not _segments(disk, directory):
                return cls.create(disk, directory, binding=binding), []
        segments = _segments(disk, directory)
        if not segments:
            raise StoreMissing("the journal's segment is gone", directory, _RESTORE)
        number, name = segments[-1]
        path = f"{directory}/{name}"
        mark = HighWaterMark.open(disk, f"{directory}/{_MARK}")
        found = _read(disk, path, mark.value, binding)
        copied = found.header.identity != disk.identity(path)
        if copied and only_original and found.records:
            raise StoreCorrupt("it is a copy, or was restored from one", path, _RESTORE)
        journal = cls(disk, directory, mark, binding, Recovered(found.torn, copied))
        journal._number = max(found.last, mark.value)
        journal._segment = number
        journal._start_segment(found.records)
        return journal, found.records

    # --- the driver's thread --------------------------------------------------------------------

    def append(self, records: Sequence[bytes]) -> None:
        """Queue records for the next `sync`."""
        self._check_poison()
        with self._swap:
            self._pending += records
            self._pending_bytes += sum(map(len, records))
            assert self._pending_bytes <= MAX_PENDING_BYTES, "more pending than the core may hold"

    @property
    def dirty(self) -> bool:
        """Whether something was appended that is not durable yet."""
        return bool(self._pending) or self._in_sync

    @property
    def needs_rotation(self) -> bool:
        """Whether the segment has outgrown its limit."""
        return self._size > self._limit and self._keep is None

    @property
    def overgrown(self) -> bool:
        """Whether the segment has passed twice its limit: its rotation must not wait longer."""
        return self._size > 2 * self._limit and self._keep is None

    def rotate(self, keep: Sequence[bytes]) -> None:
        """Let the next `sync` start a new segment with `keep` and whatever is pending then.

        `keep` is everything live *now*: call it in the same turn in which it was computed, and
        only with the floor it is relative to already durable in the database."""
        self._check_poison()
        with self._swap:
            self._keep = list(keep)

    # --- any thread -----------------------------------------------------------------------------

    def sync(self) -> None:
        """Make everything appended so far durable. Nothing pending: no fsync.

        Raises StoreUnwritable, and StorePoisoned ever after."""
        with self._syncing:
            self._check_poison()
            with self._swap:
                records, self._pending, self._pending_bytes = self._pending, [], 0
                keep, self._keep = self._keep, None
                self._in_sync = bool(records)
            try:
                if keep is not None:
                    self._start_segment(keep + records)
                elif records:
                    self._write_frame(records)
                self._in_sync = False
            except BaseException as error:
                self._poison = error
                raise

    def close(self) -> None:
        """Release the files; what is pending and was never synced is not written."""
        with self._syncing:
            if self._file is not None:
                self._file.close()
                self._file = None
                self._mark.close()

    @property
    def size(self) -> int:
        """Bytes in the live segment."""
        return self._size

    # --- own ------------------------------------------------------------------------------------

    def _write_frame(self, records: list[bytes]) -> None:
        assert self._file is not None, "used after close"
        assert self._header is not None
        number = self._number + 1
        parts = encode_frame(self._header, number, records)
        self._file.append(parts)
        self._file.sync()
        self._number = number
        self._size += sum(map(len, parts))
        self._mark.raise_to(number)

    def _start_segment(self, records: list[bytes]) -> None:
        """A new segment with `records`, durable under its name before older ones go."""
        disk, directory = self._disk, self._directory
        old = self._file
        for name in disk.list(directory):
            if name.endswith(_SUFFIX + ".tmp"):
                disk.unlink(f"{directory}/{name}")
        segment = self._segment + 1
        path = f"{directory}/{segment:08d}{_SUFFIX}"
        temporary = path + ".tmp"
        number = self._number + 1
        file = disk.create(temporary)
        header = SegmentHeader(
            disk.entropy(SALT_BYTES), self._binding, number, disk.identity(temporary)
        )
        parts = [header.encode(), *encode_frame(header, number, records)]
        file.append(parts)
        file.sync()
        disk.rename(temporary, path)
        disk.sync_directory(directory)
        self._mark.raise_to(number)
        self._file, self._header, self._segment, self._number = file, header, segment, number
        self._size = sum(map(len, parts))
        # What is live may itself be large: do not rotate again before it has doubled.
        self._limit = max(SEGMENT_BYTES, 2 * self._size)
        if old is not None:
            old.close()
        for older, name in _segments(disk, directory):
            if older < segment:
                disk.unlink(f"{directory}/{name}")

    def _check_poison(self) -> None:
        if self._poison is not None:
            what = self._poison.what if isinstance(self._poison, StorageError) else "a crash"
            raise StorePoisoned(
                f"an earlier write failed ({what})",
                self._directory,
                "Stop this process; the next start recovers what is on the disk",
            )


def read_records(disk: Disk, directory: str, *, binding: bytes) -> list[bytes]:
    """The records of a journal that no process has open, oldest first; nothing is changed, and an
    incomplete last frame is left out. Raises StoreMissing, JournalCorrupt, StoreCorrupt."""
    segments = _segments(disk, directory)
    if not segments:
        raise StoreMissing("the journal's segment is gone", directory, _RESTORE)
    return _read(disk, f"{directory}/{segments[-1][1]}", 0, binding).records


def _segments(disk: Disk, directory: str) -> list[tuple[int, str]]:
    """(number, name), ascending."""
    return sorted(
        (int(name.removesuffix(_SUFFIX)), name)
        for name in disk.list(directory)
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX).isdecimal()
    )


def _read(disk: Disk, path: str, durable: int, binding: bytes) -> Scan:
    """Raises JournalCorrupt, StoreCorrupt."""
    try:
        found = scan(disk.read(path))
    except FrameDamage as damage:
        raise JournalCorrupt(damage.what, path, _RESTORE, damage.offset) from None
    if found.header.binding != binding:
        raise StoreCorrupt("this log belongs to another chain or key", path, _RESTORE)
    if found.last < durable:
        raise JournalCorrupt(
            f"it ends with frame {found.last}, but frame {durable} had been made durable",
            path,
            _RESTORE,
            found.end,
        )
    assert found.end >= HEADER_BYTES
    return found
