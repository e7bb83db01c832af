"""The directory in which an audit keeps its work, so that a killed one goes on where it was.

    format      "nostro-audit-work/1" and what is audited (a home, a file, a URL)
    data/       the replay's database (see `workspace`, `node.storage.level`)

Whoever can write there can have the audit say anything: the directory belongs to its user alone.
Work on another chain or of another source is begun anew, and so is what is damaged; a directory
that holds something else is never touched.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from node.audit.workspace import Workspace
from node.storage.disk import DIRECTORY_MODE, write_file
from node.storage.errors import StoreCorrupt, StoreMissing, unwritable
from node.storage.kv import KeyValue
from node.storage.level import LevelStore

FORMAT = "nostro-audit-work/1"
_UNFINISHED = ".format.tmp"
"""What a crash may leave of the first file that is written (`write_file`)."""


class WorkRefused(Exception):
    """The directory cannot be used for an audit's work; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class WorkDirectory:
    """Where one audit's work is kept."""

    path: Path
    source: str
    """What is audited, in one line: its blocks were read up to the checkpoint, no other's."""

    def open(self) -> tuple[Workspace, str | None]:
        """The workspace, and why earlier work is not gone on with, if there was any.

        Raises WorkRefused, StoreLocked, StoreUnwritable."""
        try:
            return self._open()
        except OSError as error:
            raise unwritable(error, self.path, "keep the audit's work") from error

    def _open(self) -> tuple[Workspace, str | None]:
        note = self._prepare()
        data = self.path / "data"
        if note is None and data.exists():
            try:
                store = LevelStore(data)
            except (StoreCorrupt, StoreMissing) as error:
                note = f"{self.path} is damaged ({error.what})"
            else:
                return Workspace(lambda: store), None
        self._clear()
        self.path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        write_file(self.path / "format", f"{FORMAT}\n{self.source}\n".encode())
        made = LevelStore(data, create=True)
        return Workspace(lambda: made), note

    def holds(self, path: str) -> bool:
        """Whether a path, as an error names it, lies in this directory."""
        return Path(path).is_relative_to(self.path)

    def remove(self) -> None:
        """Let go of the work: the audit came to its end."""
        self._clear()
        shutil.rmtree(self.path, ignore_errors=True)

    def _prepare(self) -> str | None:
        """Why what is there is not gone on with; None if it is, or nothing is there."""
        if not self.path.exists():
            return None
        if not self.path.is_dir():
            raise WorkRefused(f"{self.path} is no directory; name another one with --work")
        status = self.path.stat()
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
            raise WorkRefused(
                f"others may write into {self.path}, and so into what the audit rests on; name "
                "a directory of your own with --work (mode 0700)"
            )
        if all(each.name == _UNFINISHED for each in self.path.iterdir()):
            return None
        try:
            kind, source = (self.path / "format").read_text("utf-8").split("\n", 1)
        except (OSError, ValueError):
            kind, source = "", ""
        if kind != FORMAT:
            raise WorkRefused(
                f"{self.path} holds something else than the work of an audit: it is left alone. "
                "Name another directory with --work"
            )
        if source != f"{self.source}\n":
            return f"{self.path} is about another source ({source.strip()[:200]})"
        return None

    def _clear(self) -> None:
        shutil.rmtree(self.path / "data", ignore_errors=True)
        (self.path / "format").unlink(missing_ok=True)


def temporary_workspace() -> Workspace:
    """A workspace that keeps nothing: its database, if it needs one, goes with it."""
    return Workspace(_temporary)


class _Temporary(LevelStore):
    """A database that is removed when it is closed."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="nostro-audit-")
        super().__init__(Path(self._directory) / "data", create=True)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._directory, ignore_errors=True)


def _temporary() -> KeyValue:
    return _Temporary()
