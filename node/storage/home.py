"""A node's home directory: one place for everything that makes it this node.

    format         "nostro-home/1" and the chain id; another version is refused by name
    genesis.json   the exact bytes the chain id is the digest of
    config.toml    see `config`
    keys/          node.json, and vote.json if it validates (see `keystore`)
    data/          the database (see `level`)
    snapshots/     pieces of it that others load (see `node.engine.snapshot`)
    journal/       the consensus journal (see `journal`)
    signer/        the signer guard's record, made with the vote key (see `signer`)
    lock           held by the running node

A home is made under another name and renamed when it is complete and synced: after a crash in
the middle there is no half home that looks like one. Directories are 0700, files 0600.
"""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from node.chain.genesis import BadGenesis, Genesis, load_genesis
from node.chain.signature import Signer
from node.storage.config import NodeConfig, load_config, render_config
from node.storage.disk import DIRECTORY_MODE, FileDisk, FileLock, write_file
from node.storage.errors import ConfigError, HomeError, unwritable
from node.storage.journal import Journal
from node.storage.keystore import KeyInfo, read_key_info
from node.storage.level import LevelStore
from node.storage.signer import GuardedSigner, create_signer_log

FORMAT = "nostro-home/1"


@dataclass(slots=True)
class Home:
    """An opened home. Reading it needs no lock; running the node does (`acquire`)."""

    path: Path
    config: NodeConfig
    genesis_bytes: bytes
    genesis: Genesis
    _lock: FileLock | None = field(default=None, repr=False)

    @property
    def chain_id(self) -> bytes:
        return self.genesis.chain_id

    @property
    def node_key(self) -> Path:
        """Key file of the node: transport and receipts."""
        return self.path / "keys" / "node.json"

    @property
    def vote_key(self) -> Path | None:
        """Key file of the validator; None for an observer."""
        path = self.path / "keys" / "vote.json"
        return path if path.exists() else None

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def signer(self) -> Path:
        return self.path / "signer"

    @property
    def building(self) -> Path:
        """Where a new database is filled from others; it takes the place of `data` when whole."""
        return self.path / "data.building"

    @property
    def replaced(self) -> Path:
        """Where the empty `data` goes for the moment in which `building` takes its place."""
        return self.path / "data.replaced"

    @property
    def snapshots(self) -> Path:
        """What is served to nodes that start; made anew by each process."""
        return self.path / "snapshots"

    @property
    def index(self) -> int | None:
        """This node's index in the genesis validator set; None for an observer."""
        return _index(self.genesis, self.config.name)

    def open_database(self) -> LevelStore:
        """Raises StoreLocked, StoreMissing, StoreCorrupt, StoreUnwritable."""
        return LevelStore(self.data)

    def open_journal(self) -> tuple[Journal, list[bytes]]:
        """The journal and all its records. Raises what `Journal.open` raises."""
        return Journal.open(FileDisk(), str(self.journal), binding=self.chain_id)

    def open_signer(self, key: Signer) -> GuardedSigner:
        """The guard of the vote key. Raises SignerUnusable, StoreLocked, StoreUnwritable."""
        return GuardedSigner(key, self.chain_id, FileDisk(), str(self.signer))

    def acquire(self) -> None:
        """Take the home's lock for this process, until `release` or its end.

        Raises StoreLocked with the holder's process id."""
        assert self._lock is None, "already held"
        self._lock = FileLock(str(self.path / "lock"))

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def create_home(
    path: Path,
    *,
    genesis: bytes,
    config: NodeConfig,
    node_key: bytes,
    vote_key: bytes | None,
) -> Home:
    """Make a home from a genesis file's exact bytes, a config and sealed keys (`seal_key`).

    `path` must not exist, or be an empty directory. With a vote key come the signer's record and
    everything else that must never be made a second time. Raises HomeError, KeystoreError,
    StoreUnwritable."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise HomeError(
            "it exists and is not an empty directory", path, "A home is never overwritten"
        )
    decoded = _genesis(genesis, path / "genesis.json")
    building = path.absolute().with_name(f".{path.name}.{os.getpid()}.new")
    try:
        if building.exists():
            shutil.rmtree(building)
        _build(
            building,
            genesis_bytes=genesis,
            genesis=decoded,
            config=config,
            node_key=node_key,
            vote_key=vote_key,
        )
        os.rename(building, path)
        FileDisk().sync_directory(str(path.absolute().parent))
    except OSError as error:
        raise unwritable(error, path, "make the home") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return open_home(path)


def open_home(path: Path) -> Home:
    """Read and check a home: format, permissions, genesis, config, keys against the genesis.

    Raises HomeError, ConfigError, KeystoreError."""
    if not path.is_dir():
        raise HomeError("there is no such directory", path, "nostro init makes a home")
    chain = _check_format(path)
    _check_private(path)
    genesis_path = path / "genesis.json"
    genesis_bytes = _read(genesis_path)
    genesis = _genesis(genesis_bytes, genesis_path)
    if genesis.chain_id.hex() != chain:
        raise HomeError(
            f"its chain id is {genesis.chain_id.hex()}, but this home was made for chain {chain}",
            genesis_path,
            "Put back the genesis file the home was made with",
        )
    home = Home(path, load_config(path / "config.toml"), genesis_bytes, genesis)
    if home.config.devnet_rules is not None and not genesis.devnet:
        raise ConfigError(
            f"network {genesis.network} is no devnet, and only there may a node play old software",
            f"{path / 'config.toml'}, key devnet.rules",
            "Remove the section devnet",
        )
    for file, role in ((home.node_key, "node"), (home.vote_key, "vote")):
        if file is not None:
            _check_key(home, file, role, read_key_info(file))
    return home


# --- own ----------------------------------------------------------------------------------------


def _build(
    path: Path,
    *,
    genesis_bytes: bytes,
    genesis: Genesis,
    config: NodeConfig,
    node_key: bytes,
    vote_key: bytes | None,
) -> None:
    disk = FileDisk()
    path.parent.mkdir(parents=True, exist_ok=True)
    for directory in (path, path / "keys"):
        directory.mkdir(DIRECTORY_MODE)
        os.chmod(directory, DIRECTORY_MODE)
    write_file(path / "genesis.json", genesis_bytes)
    write_file(path / "config.toml", render_config(config).encode("utf-8"))
    write_file(path / "keys" / "node.json", node_key)
    if vote_key is not None:
        vote_path = path / "keys" / "vote.json"
        write_file(vote_path, vote_key)
        public_key = read_key_info(vote_path).public_key
        disk.make_directory(str(path / "signer"))
        create_signer_log(disk, str(path / "signer"), genesis.chain_id, public_key)
    Journal.create(disk, str(path / "journal"), binding=genesis.chain_id).close()
    LevelStore(path / "data", create=True).close()
    write_file(path / "format", f"{FORMAT}\nchain {genesis.chain_id.hex()}\n".encode("ascii"))
    _check_founding_keys(Home(path, config, genesis_bytes, genesis))


def _check_format(path: Path) -> str:
    """The chain id, in hex, that the home was made for. Raises HomeError."""
    format_path = path / "format"
    if not format_path.exists():
        raise HomeError(
            "this is not a node's home (it has no file named format)",
            path,
            "nostro init makes one; or name the right directory",
        )
    lines = _read(format_path).decode("utf-8", "replace").splitlines()
    found = lines[0] if lines else ""
    if found != FORMAT:
        raise HomeError(
            f"the home has format {found!r}, this program reads {FORMAT}",
            format_path,
            "Use the version of nostro that made it",
        )
    if len(lines) != 2 or not lines[1].startswith("chain "):
        raise HomeError("the file is damaged", format_path, "Restore it from a backup")
    return lines[1].removeprefix("chain ")


def _check_private(path: Path) -> None:
    for directory in (path, path / "keys"):
        try:
            status = directory.stat()
        except OSError as error:
            raise HomeError(f"cannot look at it: {error.strerror}", directory, "Check it") from None
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise HomeError(
                f"the directory has mode {mode:04o}: others may look into it",
                directory,
                f"chmod 700 {directory}",
            )


def _genesis(data: bytes, path: Path) -> Genesis:
    try:
        return load_genesis(data)
    except BadGenesis as error:
        raise HomeError(str(error), path, "Use the genesis file the network agreed on") from None


def _index(genesis: Genesis, name: str) -> int | None:
    names = [validator.name for validator in genesis.validator_set.validators]
    return names.index(name) if name in names else None


def _check_founding_keys(home: Home) -> None:
    """The key files of a new home are those that the genesis file names for this node, and of its
    kind. Later ones are the ledger's to name: a validator's keys change with the epochs."""
    index = _index(home.genesis, home.config.name)
    vote = home.vote_key
    if vote is not None and index is None and not home.config.join.urls:
        raise HomeError(
            f"it holds a vote key, but the genesis file names no validator {home.config.name!r}",
            home.path / "config.toml",
            "Correct node.name, or use the genesis file that names it",
        )
    for path, role in ((home.node_key, "node"), (vote, "vote")):
        if path is None:
            continue
        info = read_key_info(path)
        _check_key(home, path, role, info)
        # A home that joined a running network goes by the ledger's set: a validator that got new
        # keys by governance is still called what genesis called it.
        if index is not None and not home.config.join.urls:
            validator = home.genesis.validator_set.validators[index]
            expected = validator.node_key if role == "node" else validator.vote_key
            if info.public_key != expected:
                raise HomeError(
                    f"its key {info.public_key.hex()} is not the {role} key that the genesis file "
                    f"names for {home.config.name} ({expected.hex()})",
                    path,
                    "Put the right key file there",
                )


def _check_key(home: Home, path: Path, role: str, info: KeyInfo) -> None:
    if info.role != role:
        raise HomeError(f"this is a {info.role} key, not a {role} key", path, "Swap the files")
    if info.devnet and not home.genesis.devnet:
        raise HomeError(
            "this is a devnet key, and the chain is not a devnet: its passphrase is public",
            path,
            "Make a production key with nostro init",
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise HomeError("the file is missing", path, "Restore it from a backup") from None
    except OSError as error:
        raise HomeError(f"cannot read it: {error.strerror}", path, "Check its owner") from None
