"""The directory of an auditor's verified copy, told from a node's home.

It holds the same database, so what reads a stopped node's chain reads a stopped follower's, too;
but no keys, no configuration and no journal: nothing can be started from it.

    format         "nostro-copy/1" and the chain id
    genesis.json   the exact bytes the chain id is the digest of
    data/          the database, as a node's (see `level`)
    heads          what a witness reads beside the running follower (see `heads`)
    finds/         what was found wrong: proofs of forks, answers that do not verify
    lock           held by the running follower
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from node.chain.genesis import BadGenesis, Genesis, load_genesis
from node.storage.config import Address, NodeConfig
from node.storage.disk import DIRECTORY_MODE, FileDisk, write_file
from node.storage.errors import HomeError, unwritable
from node.storage.home import Home
from node.storage.level import LevelStore

FORMAT = "nostro-copy/1"
_NOWHERE = Address("127.0.0.1", 0)


def is_copy(path: Path) -> bool:
    """Whether this is the directory of a copy, and not a node's home."""
    try:
        return (path / "format").read_bytes().startswith(FORMAT.encode() + b"\n")
    except OSError:
        return False


def open_copy(path: Path) -> Home:
    """A stopped follower's directory, as a home that can be read and not started. Raises
    HomeError."""
    try:
        data = (path / "genesis.json").read_bytes()
        genesis = load_genesis(data)
    except (OSError, BadGenesis) as error:
        raise HomeError(f"its genesis file cannot be used: {error}", path, "Begin anew") from None
    _require(path, genesis)
    return Home(path, NodeConfig("auditor", _NOWHERE, _NOWHERE, _NOWHERE), data, genesis)


def make_copy(path: Path, genesis_bytes: bytes, genesis: Genesis) -> None:
    """The directory of a copy of this chain: a new one where there is none yet.

    Made under another name and renamed, so that a crash leaves no half of one. Raises HomeError
    where there is something else; StoreUnwritable."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        _require(path, genesis)
        return
    building = path.absolute().with_name(f".{path.name}.{os.getpid()}.new")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(DIRECTORY_MODE, parents=True)
        write_file(building / "genesis.json", genesis_bytes)
        LevelStore(building / "data", create=True).close()
        title = f"{FORMAT}\nchain {genesis.chain_id.hex()}\n"
        write_file(building / "format", title.encode("ascii"))
        os.rename(building, path)
        FileDisk().sync_directory(str(path.absolute().parent))
    except OSError as error:
        raise unwritable(error, path, "make the copy's directory") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _require(path: Path, genesis: Genesis) -> None:
    """Raise HomeError unless it is a copy of this chain."""
    try:
        lines = (path / "format").read_bytes()[:256].decode("ascii", "replace").splitlines()
    except OSError:
        lines = []
    if len(lines) != 2 or lines[0] != FORMAT or not lines[1].startswith("chain "):
        raise HomeError(
            "this is not the directory of a verified copy",
            path,
            "Name an empty directory, or one that does not exist, to begin a copy",
        )
    found = lines[1].removeprefix("chain ")
    if found != genesis.chain_id.hex():
        raise HomeError(
            f"it holds a copy of chain {found}, the genesis file is of {genesis.chain_id.hex()}",
            path,
            "Name another directory, or the genesis file of its chain",
        )
