"""A home in one file: everything but what must never exist twice.

    nostro-backup/1 LF, then frames: length (4 bytes) ‖ payload ‖ digest (32 bytes)
    digest = SHA-256(domain ‖ digest before ‖ payload), the first one after zeros

The first payload is the head, the last one the end, which counts the entries; between them are
the database's entries in key order. So a file that is cut, or has a bit or a frame changed, says
so, and where.

A vote key, its record and the consensus journal are not in it, on purpose: a copy of them is older
than the key's last vote, and a key that votes twice in a view has committed the one crime that
consensus cannot forgive. What is restored follows the chain and never signs; to sign again, it is
given a fresh vote key by governance.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec

from node.chain.encoding import Malformed, decode, encode, framed
from node.storage.chain_store import ChainStore
from node.storage.config import NodeConfig, load_config
from node.storage.disk import FileDisk
from node.storage.errors import HomeError, StorageError, unwritable
from node.storage.home import Home, create_home
from node.storage.kv import KeyValue, KeyValueView

MAGIC = b"nostro-backup/1\n"
DOMAIN = framed("nostro.backup/1")
BATCH_BYTES = 1024 * 1024
"""Of entries in one frame, about."""
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""A block of the largest size fits; a longer frame is damage."""
_DIGEST_BYTES = 32


class BackupHead(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="backup-head/1"
):
    """Whose home it was, and when."""

    chain_id: bytes
    height: int
    """Of the last final block in it."""
    block: bytes
    """Its digest."""
    made_at: int
    """Milliseconds since the Unix epoch, by the clock of the machine."""
    genesis: bytes
    config: bytes
    node_key: bytes
    """The sealed key file."""


class BackupEntries(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="backup-entries/1"
):
    """Keys and values of the database, ascending."""

    entries: tuple[tuple[bytes, bytes], ...]


class BackupEnd(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="backup-end/1"
):
    """Nothing was cut off."""

    entries: int


class BackupDamaged(StorageError):
    """The file is not a backup, or not all of one."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written or read."""

    head: BackupHead
    entries: int
    bytes: int


def write_backup(home: Home, file: Path, now: int) -> Backup:
    """Back up a home whose lock this process holds. Raises StorageError; `file` must not exist."""
    kv = home.open_database()
    try:
        return _write_whole(home, kv, file, now)
    finally:
        kv.close()


def _write_whole(home: Home, kv: KeyValue, file: Path, now: int) -> Backup:
    floor = ChainStore(kv).floor()
    if floor is None:
        raise HomeError("its database holds no chain yet", home.path, "Start the node once")
    head = BackupHead(
        chain_id=home.chain_id,
        height=floor.info.height,
        block=floor.info.digest,
        made_at=now,
        genesis=home.genesis_bytes,
        config=(home.path / "config.toml").read_bytes(),
        node_key=home.node_key.read_bytes(),
    )
    building = file.with_name(f".{file.name}.{os.getpid()}.new")
    view = kv.snapshot()
    try:
        # Under another name until it is whole: a crash leaves no half backup that looks like one.
        with open(os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            entries = _write(out, head, view)
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        os.link(building, file)  # fails if there is one: a backup is never overwritten
        FileDisk().sync_directory(str(file.absolute().parent))
    except FileExistsError:
        raise HomeError(
            "there already is a file", file, "A backup is never overwritten: choose another name"
        ) from None
    except OSError as error:
        raise unwritable(error, file, "write the backup") from error
    finally:
        view.close()
        building.unlink(missing_ok=True)
    return Backup(head, entries, size)


def _write(out: BinaryIO, head: BackupHead, view: KeyValueView) -> int:
    out.write(MAGIC)
    before = _frame(out, bytes(_DIGEST_BYTES), encode(head))
    batch: list[tuple[bytes, bytes]] = []
    size = entries = 0
    for key, value in view.iterate():
        batch.append((key, value))
        size += len(key) + len(value)
        entries += 1
        if size >= BATCH_BYTES:
            before = _frame(out, before, encode(BackupEntries(tuple(batch))))
            batch, size = [], 0
    if batch:
        before = _frame(out, before, encode(BackupEntries(tuple(batch))))
    _frame(out, before, encode(BackupEnd(entries)))
    return entries


def _frame(out: BinaryIO, before: bytes, payload: bytes) -> bytes:
    assert len(payload) <= MAX_FRAME_BYTES
    digest = sha256(DOMAIN + before + payload).digest()
    out.write(len(payload).to_bytes(4, "big") + payload + digest)
    return digest


# --- reading --------------------------------------------------------------------------------------


def read_head(file: Path) -> BackupHead:
    """Whose backup it is. Raises BackupDamaged."""
    with _opened(file) as source:
        return _head(file, next(_payloads(file, source), b""))


def restore_home(
    file: Path, path: Path, *, genesis: bytes | None = None, join: tuple[str, ...] = ()
) -> Home:
    """Make the home at `path` from a backup; it has no vote key.

    `genesis`: the bytes that its own must equal; None: they are taken from the backup. `join`:
    sources to follow, in the place of those in its configuration. The caller audits what the
    database says. Raises StorageError; then there is no home at `path`."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise HomeError(
            "it exists and is not an empty directory", path, "A home is never overwritten"
        )
    building = path.absolute().with_name(f".{path.name}.{os.getpid()}.restoring")
    shutil.rmtree(building, ignore_errors=True)
    try:
        with _opened(file) as source:
            payloads = _payloads(file, source)
            head = _head(file, next(payloads, b""))
            if genesis is not None and genesis != head.genesis:
                raise HomeError(
                    f"it is of chain {head.chain_id.hex()}, not of the genesis file given",
                    file,
                    "Use the backup of that chain, or its own genesis file",
                )
            home = create_home(
                building,
                genesis=head.genesis,
                config=_config(building, head, join),
                node_key=head.node_key,
                vote_key=None,
            )
            _fill(file, home, payloads, head)
        os.rename(building, path)
        FileDisk().sync_directory(str(path.absolute().parent))
    except OSError as error:
        raise unwritable(error, path, "make the home") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    home.path = path
    return home


def _config(building: Path, head: BackupHead, join: tuple[str, ...]) -> NodeConfig:
    scratch = building.with_name(f"{building.name}.toml")
    try:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(head.config)
        config = load_config(scratch)
    finally:
        scratch.unlink(missing_ok=True)
    return replace(config, join=replace(config.join, urls=join)) if join else config


def _fill(file: Path, home: Home, payloads: Iterator[bytes], head: BackupHead) -> None:
    kv = home.open_database()
    try:
        entries = 0
        end: BackupEnd | None = None
        for payload in payloads:
            try:
                part: BackupEntries | BackupEnd = decode(payload, BackupEntries | BackupEnd)  # type: ignore[arg-type]
            except Malformed as error:
                raise _damaged(file, f"a frame that is none: {error}") from None
            if end is not None:
                raise _damaged(file, "something stands behind its end")
            if isinstance(part, BackupEnd):
                end = part
                continue
            entries += len(part.entries)
            kv.write(part.entries, sync=False)
        if end is None or end.entries != entries:
            raise _damaged(file, f"it ends after {entries} entries, before its end: it was cut")
        kv.write([], sync=True)
        floor = ChainStore(kv).floor()
        if floor is None or (floor.info.height, floor.info.digest) != (head.height, head.block):
            raise _damaged(file, "its database does not end with the block that its head names")
    finally:
        kv.close()


def _opened(file: Path) -> BinaryIO:
    try:
        return open(file, "rb")
    except OSError as error:
        raise HomeError(f"cannot read it: {error.strerror}", file, "Name the right file") from None


def _payloads(file: Path, source: BinaryIO) -> Iterator[bytes]:
    if source.read(len(MAGIC)) != MAGIC:
        raise _damaged(file, "it is no backup of this version")
    before = bytes(_DIGEST_BYTES)
    while length := source.read(4):
        at = source.tell() - len(length)
        size = int.from_bytes(length, "big")
        if len(length) < 4 or size > MAX_FRAME_BYTES:
            raise _damaged(file, f"no frame stands at offset {at}")
        payload, digest = source.read(size), source.read(_DIGEST_BYTES)
        if len(payload) != size or sha256(DOMAIN + before + payload).digest() != digest:
            raise _damaged(file, f"the frame at offset {at} is damaged or cut")
        before = digest
        yield payload


def _head(file: Path, payload: bytes) -> BackupHead:
    try:
        return decode(payload, BackupHead)
    except Malformed as error:
        raise _damaged(file, f"its head: {error}") from None


def _damaged(file: Path, what: str) -> BackupDamaged:
    return BackupDamaged(what, file, "Use another backup, or start from a snapshot of a node")
