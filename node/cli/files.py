"""Writing the files that commands make."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom, FileIO
from pathlib import Path
from typing import Any

from node.cli.errors import CommandError


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file in one step: what is there is the old or the new one, whole.

    Raises CommandError.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error


class _Plain(FileIO):
    """Says in a sentence what cannot be written: nobody who reads something else meanwhile takes
    it for an error of his own."""

    def __init__(self, handle: int, path: Path) -> None:
        super().__init__(handle, "w+")
        self._path = path

    def write(self, data: Any) -> int:
        with _plainly(self._path):
            return super().write(data)


@contextmanager
def writing(path: Path) -> Iterator[BufferedRandom]:
    """A file that is too large to be made in memory: it takes the name in one step, complete and on
    the disk, once the block is left without an error. Until then it grows beside it under a name
    that begins with a dot; one that a killed command left there is overwritten by the next.

    Raises CommandError, from every write too: a disk that is full.
    """
    partial = path.absolute().with_name(f".{path.name}.part")
    with _plainly(path):
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise CommandError(f"cannot write {path}: it is there, and no regular file")
        # Read too: what is written is digested at the end.
        handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    raw = _Plain(handle, path)
    try:
        _own(raw, partial, path)
        try:
            with _plainly(path):
                raw.truncate(0)
            file = BufferedRandom(raw)
            yield file
            file.flush()
            with _plainly(path):
                os.fsync(handle)
                os.replace(partial, path)
                _sync_directory(partial.parent)
        except BaseException:
            partial.unlink(missing_ok=True)  # gone if all but the directory is durable
            raise
    finally:
        raw.close()  # what is still buffered after an error goes nowhere


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error


def _own(file: FileIO, partial: Path, path: Path) -> None:
    """Be the only one that writes it. Raises CommandError, OSError."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it may have finished in between: then this is its file, under its own name.
        own, named = os.fstat(file.fileno()), os.stat(partial)
        busy = (own.st_dev, own.st_ino) != (named.st_dev, named.st_ino)
    except (BlockingIOError, FileNotFoundError):
        busy = True
    if busy:
        raise CommandError(f"another command is writing {path}; wait for it, or name another file")


def _sync_directory(path: Path) -> None:
    """Make the name durable as well. Some file systems cannot, and say so."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
