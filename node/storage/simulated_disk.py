"""A disk in memory that behaves as badly as a real one may, and no worse.

What a power cut does to it (`crash(rng)`):
- Of a file's unsynced bytes any prefix survives, and sectors within that prefix may read as
  zeros or garbage: the length reached the disk before the data did.
- Of a directory's unsynced changes (create, rename, unlink) any prefix survives: file systems
  journal names in order, but a name is not durable because its file is.
- A mark holds any value written to it since it was last known to be on disk.

What killing the process does (`crash(rng, power=False)`): nothing is lost, the lock goes.

Faults on demand: `capacity` (a full disk that takes part of a write), `fail_next_sync` (an fsync
that fails *and drops the data*, as Linux may), `crash_after` (the process dies inside the n-th
operation from now, which is how a test visits every persistence point).
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence

from node.storage.disk import MARK_BYTES, AppendFile, Lock, Mark
from node.storage.errors import StoreLocked, StoreMissing, unwritable

SECTOR_BYTES = 512


class SimulatedCrash(Exception):
    """The simulated process died inside an operation; only `crash()` may follow."""


class _Inode:
    def __init__(self, identity: int) -> None:
        self.identity = identity
        self.data = bytearray()
        self.synced = 0
        """Bytes known to be on disk (files only grow)."""
        self.lost: list[tuple[int, int]] = []
        """Ranges that a failed fsync dropped: readable until the next power cut."""
        self.history: list[bytes] | None = None
        """Marks: every value that a power cut may leave."""


_Change = list[tuple[str, _Inode | None]]
"""Names set or removed by one operation, which a crash keeps or loses together."""


class SimulatedDisk:
    """`Disk` in memory; one per simulated node."""

    def __init__(self, seed: int = 0) -> None:
        self._entropy = random.Random(seed)
        self._names: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._changes: dict[str, list[_Change]] = {}
        """Unsynced changes per directory, in order."""
        self._directories: set[str] = set()
        self._locked: set[str] = set()
        self._inodes = 0
        self.generation = 0
        self.operations = 0
        """Persistence points passed since the start, for tests that visit each."""
        self.syncs = 0
        self.capacity: int | None = None
        """Bytes that all files together may hold; None is unbounded."""
        self.fail_next_sync = False
        self.crash_after: int | None = None
        """Operations until the process dies; None: it does not."""
        self._dead = False

    # --- Disk -----------------------------------------------------------------------------------

    def list(self, directory: str) -> list[str]:
        self._check_alive()
        if directory not in self._directories:
            raise StoreMissing("the directory is gone", directory, "Simulated")
        prefix = directory + "/"
        return sorted(
            name.removeprefix(prefix)
            for name in self._names
            if name.startswith(prefix) and "/" not in name.removeprefix(prefix)
        )

    def read(self, name: str) -> bytes:
        self._check_alive()
        return bytes(self._inode(name).data)

    def make_directory(self, name: str) -> None:
        self._check_alive()
        self._directories.add(name)

    def create(self, name: str) -> AppendFile:
        assert name not in self._names, f"{name} exists"
        self._check_directory(name)
        self.step()
        self._inodes += 1
        inode = _Inode(self._inodes)
        self._change([(name, inode)])
        return _SimulatedFile(self, name, inode)

    def identity(self, name: str) -> int:
        return self._inode(name).identity

    def rename(self, old: str, new: str) -> None:
        inode = self._inode(old)
        assert os.path.dirname(old) == os.path.dirname(new), "renames stay in one directory"
        self.step()
        self._change([(old, None), (new, inode)])

    def unlink(self, name: str) -> None:
        self._inode(name)
        self.step()
        self._change([(name, None)])

    def sync_directory(self, name: str) -> None:
        self.step()
        for change in self._changes.pop(name, []):
            _apply(self._durable, change)

    def open_mark(self, name: str) -> Mark:
        self._check_alive()
        return _SimulatedMark(self, self._inode(name))

    def create_mark(self, name: str, data: bytes) -> Mark:
        assert name not in self._names, f"{name} exists"
        self._check_directory(name)
        self.step()
        self._inodes += 1
        inode = _Inode(self._inodes)
        inode.data[:] = data
        inode.history = [data]
        self._change([(name, inode)])
        return _SimulatedMark(self, inode)

    def lock(self, name: str) -> Lock:
        self._check_alive()
        if name in self._locked:
            raise StoreLocked("in use by process 1", name, "Stop that one first")
        self._locked.add(name)
        return _SimulatedLock(self, name)

    def entropy(self, size: int) -> bytes:
        return self._entropy.randbytes(size)

    # --- the crash side -------------------------------------------------------------------------

    def crash(self, rng: random.Random, power: bool = True) -> None:
        """Die and come back: the disk as the next process finds it. Open handles are dead.

        `power` false is kill -9: the kernel survives and writes everything back."""
        if power:
            for directory in sorted(self._changes):
                changes = self._changes[directory]
                for change in changes[: rng.randint(0, len(changes))]:
                    _apply(self._durable, change)
            self._names = dict(self._durable)
            for name in sorted(self._names):
                _lose_unsynced(self._names[name], rng)
        else:
            self._durable = dict(self._names)
        self._changes.clear()
        self._locked.clear()
        self.generation += 1
        self.crash_after = None
        self.fail_next_sync = False
        self._dead = False

    def overwrite(self, name: str, data: bytes) -> None:
        """Damage or replace a file's bytes behind the process's back, for tests."""
        inode = self._inode(name)
        inode.data[:] = data
        inode.synced = len(data)
        if inode.history is not None:
            inode.history = [bytes(data)]

    def copy_file(self, old: str, new: str) -> None:
        """What `cp` does: the same bytes in another file. For tests."""
        self._inodes += 1
        inode = _Inode(self._inodes)
        inode.data[:] = self._inode(old).data
        inode.synced = len(inode.data)
        if self._inode(old).history is not None:
            inode.history = [bytes(inode.data)]
        self._names[new] = self._durable[new] = inode

    def remove(self, name: str) -> None:
        """Make a file disappear, durably. For tests."""
        del self._names[name]
        self._durable.pop(name, None)

    # --- own, also for the handles --------------------------------------------------------------

    def step(self) -> None:
        """One persistence point: where a crash may hit."""
        self._check_alive()
        self.operations += 1
        if self.crash_after is not None:
            if self.crash_after == 0:
                self._dead = True
                raise SimulatedCrash(f"at operation {self.operations}")
            self.crash_after -= 1

    def cut(self, length: int) -> int:
        """How much of an interrupted write the kernel took."""
        return self._entropy.randint(0, length)

    def room(self) -> int | None:
        """Bytes until the disk is full."""
        if self.capacity is None:
            return None
        used = sum(len(inode.data) for inode in {id(i): i for i in self._names.values()}.values())
        return max(0, self.capacity - used)

    def _inode(self, name: str) -> _Inode:
        inode = self._names.get(name)
        if inode is None:
            raise StoreMissing("the file is gone", name, "Simulated")
        return inode

    def _change(self, change: _Change) -> None:
        _apply(self._names, change)
        self._changes.setdefault(os.path.dirname(change[0][0]), []).append(change)

    def _check_directory(self, name: str) -> None:
        if os.path.dirname(name) not in self._directories:
            raise StoreMissing("the directory is gone", name, "Simulated")

    def _check_alive(self) -> None:
        assert not self._dead, "used after a crash"


class _SimulatedFile:
    def __init__(self, disk: SimulatedDisk, name: str, inode: _Inode) -> None:
        self._disk = disk
        self._name = name
        self._inode = inode
        self._generation = disk.generation

    def append(self, parts: Sequence[bytes]) -> None:
        self._check()
        data = b"".join(parts)
        room = self._disk.room()
        try:
            self._disk.step()
        except SimulatedCrash:
            # Killed inside the write: the kernel took some of it.
            self._inode.data += data[: self._disk.cut(len(data))]
            raise
        if room is not None and len(data) > room:
            self._inode.data += data[:room]
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise unwritable(full, self._name, "append")
        self._inode.data += data

    def sync(self) -> None:
        self._check()
        self._disk.step()
        self._disk.syncs += 1
        if self._disk.fail_next_sync:
            self._disk.fail_next_sync = False
            self._inode.lost.append((self._inode.synced, len(self._inode.data)))
            self._inode.synced = len(self._inode.data)
            failed = OSError(errno.EIO, os.strerror(errno.EIO))
            raise unwritable(failed, self._name, "fsync")
        self._inode.synced = len(self._inode.data)

    def close(self) -> None:
        self._check()

    def _check(self) -> None:
        assert self._generation == self._disk.generation, "a handle from before the crash"


class _SimulatedMark:
    def __init__(self, disk: SimulatedDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._generation = disk.generation

    def read(self) -> bytes:
        return bytes(self._inode.data)

    def write(self, data: bytes) -> None:
        assert len(data) == MARK_BYTES
        assert self._generation == self._disk.generation, "a handle from before the crash"
        assert self._inode.history is not None
        self._disk.step()
        self._inode.data[:] = data
        self._inode.history.append(data)

    def close(self) -> None:
        pass


class _SimulatedLock:
    def __init__(self, disk: SimulatedDisk, name: str) -> None:
        self._disk = disk
        self._name = name
        self._generation = disk.generation

    def release(self) -> None:
        if self._generation == self._disk.generation:
            self._disk._locked.discard(self._name)


def _apply(names: dict[str, _Inode], change: _Change) -> None:
    for name, inode in change:
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


def _lose_unsynced(inode: _Inode, rng: random.Random) -> None:
    if inode.history is not None:
        inode.data[:] = rng.choice(inode.history)
        inode.history = [bytes(inode.data)]
        return
    for start, stop in inode.lost:
        inode.data[start:stop] = bytes(stop - start)
    inode.lost.clear()
    unsynced = len(inode.data) - inode.synced
    if unsynced <= 0:
        return
    kept = inode.synced + rng.randint(0, unsynced)
    del inode.data[kept:]
    for start in range(inode.synced, kept, SECTOR_BYTES):
        if rng.random() < 0.25:
            stop = min(start + SECTOR_BYTES, kept)
            garbage = rng.random() < 0.5
            inode.data[start:stop] = rng.randbytes(stop - start) if garbage else bytes(stop - start)
    inode.synced = len(inode.data)
