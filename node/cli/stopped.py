"""The chain of a node that does not run, for commands that read its home; or of an auditor's
follower that does not, from its directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from node.cli.errors import CommandError, Exit

if TYPE_CHECKING:
    from node.storage.chain_store import ChainStore
    from node.storage.home import Home


class Stopped(NamedTuple):
    """A node that does not run, opened to be read."""

    home: Home
    store: ChainStore
    lowest: int
    """Height from which on it holds blocks."""


@contextmanager
def stopped(path: Path) -> Iterator[Stopped]:
    """The chain of a node or follower that does not run. Raises CommandError."""
    from node.storage.chain_store import ChainStore  # noqa: PLC0415
    from node.storage.copies import is_copy, open_copy  # noqa: PLC0415
    from node.storage.errors import StoreCorrupt, StoreLocked  # noqa: PLC0415
    from node.storage.home import open_home  # noqa: PLC0415
    from node.storage.horizon import load_horizon  # noqa: PLC0415

    home = open_copy(path) if is_copy(path) else open_home(path)
    try:
        home.acquire()
        database = home.open_database()
        try:
            lowest = load_horizon(database).blocks
            yield Stopped(home, ChainStore(database), lowest)
        finally:
            database.close()
    except StoreLocked as error:
        raise CommandError(
            f"the node of {path} is running, so its database cannot be read; stop it first, or "
            f"take the home of another node ({error.what})",
            Exit.UNKNOWN,
        ) from error
    except StoreCorrupt as error:
        raise CommandError(f"{path} cannot be read on: {error}", Exit.UNKNOWN) from error
    finally:
        home.release()
