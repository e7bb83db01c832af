"""Writing the files that commands make."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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
