"""The narrow file interface under the journal and the signer's log, and its real implementation.

Only what an append-only log needs: append, fsync, rename, unlink, list, one in-place mark, one
lock. `simulated_disk.SimulatedDisk` is the twin that loses and tears what was not synced.

POSIX facts this rests on: a new, renamed or removed name is durable only once its *directory* is
fsynced; a failed fsync may have dropped the data for good and reports success the next time
(so nobody here retries one); flock belongs to the open file, so it goes with the process.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from node.storage.errors import StoreLocked, StoreMissing, unwritable

MARK_BYTES = 16
"""Size of a mark: far below a sector, so that overwriting it in place is atomic."""
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
_IOV_MAX = 512
"""Buffers per writev; Linux allows 1,024."""


class AppendFile(Protocol):
    """A file open for appending. Every method raises StoreUnwritable when the system refuses."""

    def append(self, parts: Sequence[bytes]) -> None:
        """Add `parts` at the end. Not durable before `sync`; a crash may keep any part of it."""

    def sync(self) -> None:
        """Make all that was appended durable (fdatasync)."""

    def close(self) -> None: ...


class Mark(Protocol):
    """A number kept in place, overwritten without fsync: it may lag after a power cut, but
    whatever it says was true when it was written."""

    def read(self) -> bytes: ...

    def write(self, data: bytes) -> None:
        """Overwrite; `data` is MARK_BYTES long. Raises StoreUnwritable."""

    def close(self) -> None: ...


class Lock(Protocol):
    def release(self) -> None: ...


class Disk(Protocol):
    """Names are paths as text; directories are made by whoever makes the home."""

    def list(self, directory: str) -> list[str]:
        """Names in `directory`, sorted. Raises StoreMissing."""

    def read(self, name: str) -> bytes:
        """The whole file. Raises StoreMissing, StoreUnwritable (device error)."""

    def make_directory(self, name: str) -> None:
        """Make it durable; no error if it is there."""

    def create(self, name: str) -> AppendFile:
        """A new empty file; `name` must not exist."""

    def identity(self, name: str) -> int:
        """Which file this is: a copy is another file, also under the same name and in the place
        of the deleted one. An image of a whole device is not told apart."""

    def rename(self, old: str, new: str) -> None:
        """Atomic, replaces `new`; durable after `sync_directory`."""

    def unlink(self, name: str) -> None:
        """Remove; durable after `sync_directory`."""

    def sync_directory(self, name: str) -> None: ...

    def open_mark(self, name: str) -> Mark:
        """An existing mark. Raises StoreMissing."""

    def create_mark(self, name: str, data: bytes) -> Mark:
        """A new mark, synced; durable after `sync_directory`."""

    def lock(self, name: str) -> Lock:
        """Take the exclusive lock of file `name` (made if missing). Raises StoreLocked."""

    def entropy(self, size: int) -> bytes:
        """Unpredictable bytes: what keeps a peer from planting fake log frames in a block."""


class FileDisk:
    """`Disk` on the real file system."""

    def list(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            raise StoreMissing("the directory is gone", directory, _RESTORE) from None

    def read(self, name: str) -> bytes:
        try:
            return Path(name).read_bytes()
        except FileNotFoundError:
            raise StoreMissing("the file is gone", name, _RESTORE) from None
        except OSError as error:
            raise unwritable(error, name, "read") from error

    def make_directory(self, name: str) -> None:
        try:
            os.makedirs(name, DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            raise unwritable(error, name, "make the directory") from error
        self.sync_directory(os.path.dirname(os.path.abspath(name)))

    def create(self, name: str) -> AppendFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return _FileAppend(name, _open(name, flags, "create"))

    def identity(self, name: str) -> int:
        try:
            seen = f"{os.stat(name).st_ino} {birth(name)}"
        except FileNotFoundError:
            raise StoreMissing("the file is gone", name, _RESTORE) from None
        return int.from_bytes(hashlib.sha256(seen.encode("ascii")).digest()[:8], "big")

    def rename(self, old: str, new: str) -> None:
        try:
            os.rename(old, new)
        except OSError as error:
            raise unwritable(error, new, "rename into place") from error

    def unlink(self, name: str) -> None:
        try:
            os.unlink(name)
        except OSError as error:
            raise unwritable(error, name, "remove") from error

    def sync_directory(self, name: str) -> None:
        descriptor = _open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, "open")
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise unwritable(error, name, "fsync the directory") from error
        finally:
            os.close(descriptor)

    def open_mark(self, name: str) -> Mark:
        return _FileMark(name, _open(name, os.O_RDWR | os.O_CLOEXEC, "open"))

    def create_mark(self, name: str, data: bytes) -> Mark:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        mark = _FileMark(name, _open(name, flags, "create"))
        mark.write(data)
        mark.sync()
        return mark

    def lock(self, name: str) -> Lock:
        return FileLock(name)

    def entropy(self, size: int) -> bytes:
        return os.urandom(size)


_RESTORE = "If it was moved, put it back"


def _open(name: str, flags: int, doing: str) -> int:
    try:
        return os.open(name, flags, FILE_MODE)
    except FileNotFoundError:
        raise StoreMissing("the file or its directory is gone", name, _RESTORE) from None
    except OSError as error:
        raise unwritable(error, name, doing) from error


class _FileAppend:
    def __init__(self, name: str, descriptor: int) -> None:
        self._name = name
        self._descriptor = descriptor

    def append(self, parts: Sequence[bytes]) -> None:
        pending = [memoryview(part) for part in parts if part]
        try:
            while pending:
                written = os.writev(self._descriptor, pending[:_IOV_MAX])
                # A short write is how a file system that is just filling up answers.
                while pending and written >= len(pending[0]):
                    written -= len(pending[0])
                    del pending[0]
                if written:
                    pending[0] = pending[0][written:]
        except OSError as error:
            raise unwritable(error, self._name, "append") from error

    def sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise unwritable(error, self._name, "fsync") from error

    def close(self) -> None:
        os.close(self._descriptor)


class _FileMark:
    def __init__(self, name: str, descriptor: int) -> None:
        self._name = name
        self._descriptor = descriptor

    def read(self) -> bytes:
        try:
            return os.pread(self._descriptor, MARK_BYTES + 1, 0)
        except OSError as error:
            raise unwritable(error, self._name, "read") from error

    def write(self, data: bytes) -> None:
        assert len(data) == MARK_BYTES
        try:
            written = os.pwrite(self._descriptor, data, 0)
        except OSError as error:
            raise unwritable(error, self._name, "write") from error
        assert written == MARK_BYTES, "a 16-byte write cannot be short"

    def sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise unwritable(error, self._name, "fsync") from error

    def close(self) -> None:
        os.close(self._descriptor)


def birth(name: str) -> int:
    """When a file came into being, in ns since the epoch, by statx(2); 0 where the system does not
    say. File systems give the inode number of a deleted file to the next one, so that the number
    alone does not tell a restored file from the original. Python has no statx of its own yet."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "statx"):
        return 0
    found = ctypes.create_string_buffer(_STATX_BYTES)
    if libc.statx(_AT_FDCWD, os.fsencode(name), 0, _STATX_BTIME, found) != 0:
        return 0
    (mask,) = struct.unpack_from("=I", found, 0)
    seconds, nanoseconds = struct.unpack_from("=qI", found, _STATX_BTIME_OFFSET)
    return int(seconds) * 1_000_000_000 + int(nanoseconds) if mask & _STATX_BTIME else 0


_AT_FDCWD = -100
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_STATX_BTIME_OFFSET = 80
"""Linux, include/uapi/linux/stat.h: the same on all architectures."""


class FileLock:
    """flock on a file that names its holder's process id, for the message of whoever is late."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._descriptor = _open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, "open")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StoreLocked(
                f"in use by process {holder or 'unknown'}",
                name,
                "Only one process may use these files: stop that one first",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Idempotent. The file stays: removing it would let two processes lock two files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def write_file(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Write a small file so that after a crash the old one or the new one is there, whole.

    Raises StoreUnwritable."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError as error:
        raise unwritable(error, path, "write") from error
    FileDisk().sync_directory(str(path.parent))
