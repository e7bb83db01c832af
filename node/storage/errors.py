"""What can go wrong with what a node keeps on disk: what, where, and what the operator can do.

Every error here is one that an operator may have to read at three in the morning: its text names
the file, says what was found, and what to do. None of them is our own bug (those are asserts).
"""

from __future__ import annotations

import errno
from pathlib import Path


class StorageError(Exception):
    """Base: `what` happened, `where` (a path, with offset, line or field), and `remedy`."""

    def __init__(self, what: str, where: str | Path, remedy: str) -> None:
        super().__init__(what, str(where), remedy)
        self.what = what
        self.where = str(where)
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.remedy}"


class StoreLocked(StorageError):
    """Another process (or another part of this one) holds the lock of these files."""


class StoreMissing(StorageError):
    """Files that must be there are gone."""


class StoreCorrupt(StorageError):
    """Bytes on disk fail their checksum, or something that was made durable is no longer there.

    Never skipped: a settlement record that silently disappears is worse than a stopped node."""


class StoreUnwritable(StorageError):
    """A write or fsync failed: full disk, read-only file system, file size limit, device error.

    After a failed fsync the kernel may drop the very pages it could not write and report success
    the next time, so nothing may be written to this file again by this process: stop, and let
    recovery read what really is on the disk."""


class StorePoisoned(StoreUnwritable):
    """An earlier write failed; nothing can be promised any more until a restart."""


class JournalCorrupt(StoreCorrupt):
    """The consensus journal is damaged; `offset` in bytes from the start of the file."""

    def __init__(self, what: str, where: str | Path, remedy: str, offset: int) -> None:
        super().__init__(what, where, remedy)
        self.offset = offset

    def __str__(self) -> str:
        return f"{self.where} at offset {self.offset}: {self.what}. {self.remedy}"


class SignerUnusable(StorageError):
    """This key must not sign (again): its record is gone, cut, copied, or belongs to another."""


class HomeError(StorageError):
    """The home directory cannot be used as it is."""


class ConfigError(StorageError):
    """A value in config.toml is missing, unknown or out of range; `where` names file and key."""


class KeystoreError(StorageError):
    """A key file cannot be used."""


class WrongPassphrase(KeystoreError):
    """The key file is intact, but the passphrase does not open it."""


_REMEDIES = {
    errno.ENOSPC: "Free some space on this file system, then start again",
    errno.EDQUOT: "Raise the quota or free some space, then start again",
    errno.EROFS: "Mount the file system read-write, then start again",
    errno.EACCES: "Give the node's user write permission, then start again",
    errno.EPERM: "Give the node's user write permission, then start again",
    errno.EFBIG: "Raise the file size limit (ulimit -f), then start again",
    errno.EIO: "Check the device (kernel log, SMART), then start again",
}


def unwritable(error: OSError, where: str | Path, doing: str) -> StoreUnwritable:
    """The typed error of an OSError that hit while `doing` something to `where`."""
    code = error.errno or 0
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(code, "Look at the file system, then start again")
    return StoreUnwritable(f"cannot {doing}: {reason}", where, remedy)
