"""An operator's repair of a damaged database: a new one in its place, and nothing taken on trust.

What is final is the same at every node, so nothing final is worth saving out of damaged files: the
new database is empty, and the node fetches the chain from its peers, verifying each block from the
genesis file on. Two things are this node's own. Its journal and signer's record stay as they are:
they are newer than an empty database, which is a case that the core knows. And instructions that
it accepted and that are not final yet, for which clients hold receipts, are taken over one by one
where they can still be read: each proves itself by its sender's signature.

The damaged files are kept beside the new ones, unchanged, for whoever looks into the damage.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import plyvel

from node.chain.instruction import InstructionRefused, check_instruction
from node.engine.pool_store import KEPT_PREFIX
from node.engine.statesync import settle_replacement
from node.storage.chain_store import ChainStore
from node.storage.disk import FileDisk
from node.storage.errors import HomeError, StoreCorrupt, StoreMissing, unwritable
from node.storage.home import Home, open_home
from node.storage.kv import prefix_end
from node.storage.level import LevelStore

log = logging.getLogger("nostro.repair")

MAX_DAMAGED = 100
"""Damaged databases that may lie in one home: more say that the device, not the file, is broken."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did."""

    damage: str
    """What was wrong."""
    kept: Path | None
    """Where the damaged files are now; None if there were none."""
    salvaged: int
    """Accepted instructions, not final as far as could be read, that were taken over. There may
    have been more: what is damaged does not say what it was."""


def repair_database(path: Path) -> Repaired:
    """Put a new, empty database into the home of a node that does not run, if its own is damaged
    or missing.

    Raises HomeError if nothing is damaged (a sound database is never thrown away), StoreLocked if
    the node runs, StoreUnwritable."""
    home = open_home(path)
    home.acquire()
    try:
        # A crash while a snapshot's database took the place of the empty one lost nothing.
        settle_replacement(home)
        return _repair(home)
    finally:
        home.release()


def _repair(home: Home) -> Repaired:
    damage = find_damage(home)
    if damage is None:
        raise HomeError(
            "nothing is damaged: every entry of the database was read, with its checksum",
            home.data,
            "If the node does not start, nostro doctor says why",
        )
    instructions: dict[bytes, bytes] = {}
    # Without a database, a repair may have died after it had moved the damaged one aside.
    damaged = home.data if home.data.exists() else _last_damaged(home)
    if damaged is not None:
        _salvage(home, damaged, instructions)
    new = home.building
    shutil.rmtree(new, ignore_errors=True)
    store = LevelStore(new, create=True)
    try:
        if instructions:
            store.write([(KEPT_PREFIX + digest, raw) for digest, raw in instructions.items()])
    finally:
        store.close()
    kept = _swap(home, new)
    return Repaired(damage, kept, len(instructions))


def find_damage(home: Home) -> str | None:
    """What is wrong with the database: every entry of it is read, so this takes a while; None if
    nothing is. Raises StoreLocked, StoreUnwritable."""
    try:
        store = home.open_database()
        try:
            ChainStore(store)
            for _ in store.iterate():
                pass
        finally:
            store.close()
    except (StoreCorrupt, StoreMissing) as error:
        return f"{error.where}: {error.what}"
    return None


def _last_damaged(home: Home) -> Path | None:
    """What the repair before this one kept."""
    names = (home.path / f"data.damaged-{n}" for n in range(1, MAX_DAMAGED))
    return next((name for name in reversed(list(names)) if name.exists()), None)


def _salvage(home: Home, damaged: Path, found: dict[bytes, bytes]) -> None:
    """Take accepted instructions out of damaged files, through links, so that those stay as they
    are: LevelDB writes new tables and removes old names, it does not change what is there."""
    links = home.path / "data.salvage"
    shutil.rmtree(links, ignore_errors=True)
    try:
        shutil.copytree(damaged / "db", links, copy_function=_link)
        database = plyvel.DB(str(links), create_if_missing=False)
        try:
            with database.iterator(
                start=KEPT_PREFIX, stop=prefix_end(KEPT_PREFIX), verify_checksums=True
            ) as pairs:
                for key, raw in pairs:
                    digest = key[len(KEPT_PREFIX) :]
                    if _proves_itself(home, digest, raw):
                        found[digest] = raw
        finally:
            database.close()
    except (plyvel.Error, OSError) as error:
        log.warning("not everything could be read of %s: %s", damaged, error)
    finally:
        shutil.rmtree(links, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """Small files that LevelDB may write to in place are copied."""
    if source.endswith((".ldb", ".log")):
        os.link(source, target)
    else:
        shutil.copyfile(source, target)


def _proves_itself(home: Home, digest: bytes, raw: bytes) -> bool:
    try:
        return check_instruction(raw, home.chain_id).digest == digest
    except InstructionRefused:
        return False


def _swap(home: Home, new: Path) -> Path | None:
    """Move the damaged database aside and the new one, which is whole, into its place. Dying in
    between leaves a home without a database, which is refused by name and repaired again."""
    disk = FileDisk()
    disk.sync_directory(str(new))
    kept: Path | None = None
    try:
        if home.data.exists():
            kept = next(
                (
                    name
                    for name in (home.path / f"data.damaged-{n}" for n in range(1, MAX_DAMAGED))
                    if not name.exists()
                ),
                None,
            )
            if kept is None:
                raise HomeError(
                    f"{MAX_DAMAGED - 1} damaged databases lie here already",
                    home.path,
                    "Replace the device before anything else, then remove them",
                )
            os.rename(home.data, kept)
        os.rename(new, home.data)
    except OSError as error:
        raise unwritable(error, home.data, "put the new database into place") from error
    disk.sync_directory(str(home.path))
    return kept
