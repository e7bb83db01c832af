"""Snapshots: the ledger at a final height in pieces that each prove themselves.

A snapshot is a *manifest* and *chunks*, named by the digest of their bytes. The manifest holds
the header of a final block with its finalization, and the roots of the subtrees into which the
state map falls at some depth: they fold up to the header's `state_root`. Each state chunk holds all
records of one subtree, each history chunk a run of the history tree's leaves. So whoever has
checked the finalization can refuse a poisoned chunk when it comes, and needs no more memory than
a chunk.

What is not under `state_root` (executed ids, used UETRs) is not in a snapshot: it is rebuilt from
the blocks from `window_first` on (`window`). `before` is the header below them, to show that what
lies below is too old to matter.

A snapshot is made when somebody asks, from a view of the database at one moment, in a thread, at
most every `EVERY_SECONDS`; `KEPT` are kept. It is complete before it is seen: it is written under
another name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Annotated, cast

import msgspec
from msgspec import Meta

from consensus.messages import Certificate
from node.chain.block import header_digest
from node.chain.encoding import STATE_NODE, Malformed, decode, encode, framed
from node.chain.state_map import StateMap, key_hash
from node.chain.types import Bytes32, Header
from node.engine.window import window_start
from node.storage.chain_store import ChainStore
from node.storage.errors import StorageError
from node.storage.horizon import load_horizon
from node.storage.kv import KeyValue, KeyValueView

log = logging.getLogger("nostro.snapshot")

CHUNK = framed("nostro.snapshot-chunk/1")
EVERY_SECONDS = 600.0
"""Between the starts of two snapshots."""
FRESH_SECONDS = 3600.0
"""A snapshot older than this is given only if no newer one can be made: who loads it needs blocks
that a pruned node lets go of a day later, and has the longer way from there."""
KEPT = 2
"""Snapshots on disk: who loads one may go on while the next one is made."""
CHUNK_BYTES = 512 * 1024
"""What a state chunk is meant to have."""
MAX_CHUNK_BYTES = 8 * 1024 * 1024
"""No chunk is larger."""
MAX_DEPTH = 14
"""Of the subtrees: at most 16,384 state chunks."""
HISTORY_LEAVES = 16_384
"""In one history chunk."""
MAX_HISTORY_CHUNKS = 65_536
"""A thousand million blocks."""
MAX_MANIFEST_BYTES = 8 * 1024 * 1024
PASS_BYTES = 64 * 1024 * 1024
"""Records held in memory while a snapshot is made; larger states are read in several passes."""
HASH_BYTES = 32


class StateChunkRef(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A state chunk, by its content and by what it must add up to."""

    digest: Bytes32
    size: Annotated[int, Meta(ge=1, le=MAX_CHUNK_BYTES)]
    root: Bytes32
    """Hash of the subtree of the state map that its records make."""


class HistoryChunkRef(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A history chunk."""

    digest: Bytes32
    size: Annotated[int, Meta(ge=1, le=MAX_CHUNK_BYTES)]


class Manifest(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    forbid_unknown_fields=True,
    tag="snapshot-manifest/1",
):
    """What a snapshot is of, and its chunks."""

    header: Header
    """Of the block after which this is the state. It seals no epoch."""
    finalization: Certificate
    """Of that very block."""
    window_first: Annotated[int, Meta(ge=1)]
    """The lowest height whose block still matters to exactly-once."""
    before: Header | None
    """Of the height below; None if that is genesis."""
    depth: Annotated[int, Meta(ge=0, le=MAX_DEPTH)]
    state: Annotated[tuple[StateChunkRef, ...], Meta(min_length=1, max_length=1 << MAX_DEPTH)]
    """2^depth subtrees, in the order of the key hashes."""
    history: Annotated[tuple[HistoryChunkRef, ...], Meta(max_length=MAX_HISTORY_CHUNKS)]
    """The leaves of the heights below the header's, `HISTORY_LEAVES` a chunk."""


class StateChunk(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="snapshot-state/1"
):
    """(state key, record) of one subtree, ascending by key hash."""

    records: tuple[tuple[bytes, bytes], ...]


class BadSnapshot(ValueError):
    """A manifest or chunk that does not show what it should; the text says what."""


def chunk_digest(data: bytes) -> bytes:
    """What names a chunk."""
    return sha256(CHUNK + data).digest()


def fold(roots: list[bytes]) -> bytes:
    """The root of a state map from all its subtrees at one depth, each of them a branch unless
    there is only one."""
    while len(roots) > 1:
        roots = [
            sha256(STATE_NODE + roots[i] + roots[i + 1]).digest() for i in range(0, len(roots), 2)
        ]
    return roots[0]


def top_nodes(roots: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """(hash, bytes) of the branches above the subtrees, as `StateMap` stores them."""
    while len(roots) > 1:
        above = []
        for i in range(0, len(roots), 2):
            pair = roots[i] + roots[i + 1]
            hash = sha256(STATE_NODE + pair).digest()
            yield hash, b"\x01" + pair
            above.append(hash)
        roots = above


def subtree(chunk: StateChunk, depth: int, index: int) -> StateMap:
    """The map of a chunk's records as subtree `index` at `depth`. Raises BadSnapshot."""
    previous = b""
    for key, _ in chunk.records:
        hash = key_hash(key)
        if hash <= previous:
            raise BadSnapshot("its records do not ascend by key hash")
        if prefix(hash, depth) != index:
            raise BadSnapshot("it has a record of another subtree")
        previous = hash
    if depth and len(chunk.records) < 2:
        raise BadSnapshot("it has fewer than two records")
    return StateMap.subtree(chunk.records, depth)


def prefix(hash: bytes, depth: int) -> int:
    """The subtree at this depth that a key hash lies in."""
    return int.from_bytes(hash[:4], "big") >> (32 - depth)


# --- making one -----------------------------------------------------------------------------------


def make_snapshot(view: KeyValueView, directory: Path, uetr_window_ms: int) -> Manifest | None:
    """Write the chunks and the manifest of what `view` holds into an empty directory; None where
    no snapshot can be made of it now. Takes long, little memory, and syncs nothing: a snapshot
    that a crash damages is thrown away at the next start."""
    store = ChainStore(cast(KeyValue, view))  # nothing is written: it has its format already
    floor = store.floor()
    if floor is None or floor.finalization is None or floor.info.seals:
        return None
    height = floor.info.height
    header = store.header(height)
    assert header is not None, "the floor's header is stored with it"
    horizon = load_horizon(view)
    first = window_start(store, header, uetr_window_ms, max(1, horizon.headers))
    if first < horizon.blocks:
        return None
    depth = _depth(store)
    manifest = Manifest(
        header=header,
        finalization=floor.finalization,
        window_first=first,
        before=store.header(first - 1) if first > 1 else None,
        depth=depth,
        state=tuple(_state_chunks(store, directory, depth)),
        history=tuple(_history_chunks(view, directory, height)),
    )
    assert fold([each.root for each in manifest.state]) == header.state_root
    (directory / "manifest").write_bytes(encode(manifest))
    return manifest


def _depth(store: ChainStore) -> int:
    """Deep enough for chunks of the size meant, and no subtree so sparse that it is no branch."""
    size = 0
    counts = [0] * (1 << MAX_DEPTH)
    for key, record in store.state_records():
        size += len(key) + len(record)
        counts[prefix(key_hash(key), MAX_DEPTH)] += 1
    depth = MAX_DEPTH
    while depth and (size >> depth < CHUNK_BYTES or min(counts) < 2):
        counts = [counts[i] + counts[i + 1] for i in range(0, len(counts), 2)]
        depth -= 1
    return depth


def _state_chunks(store: ChainStore, directory: Path, depth: int) -> Iterator[StateChunkRef]:
    """In as many passes over the records as memory asks for."""
    subtrees = 1 << depth
    at_once = max(1, PASS_BYTES // CHUNK_BYTES)
    for start in range(0, subtrees, at_once):
        buckets: list[list[tuple[bytes, bytes, bytes]]]
        buckets = [[] for _ in range(start, min(start + at_once, subtrees))]
        for key, record in store.state_records():
            hash = key_hash(key)
            at = prefix(hash, depth) - start
            if 0 <= at < len(buckets):
                buckets[at].append((hash, key, record))
        for number, bucket in enumerate(buckets):
            bucket.sort()
            chunk = StateChunk(tuple((key, record) for _, key, record in bucket))
            data = encode(chunk)
            root = subtree(chunk, depth, start + number).root
            yield StateChunkRef(_write(directory, data), len(data), root)
            bucket.clear()


def _history_chunks(view: KeyValueView, directory: Path, stop: int) -> Iterator[HistoryChunkRef]:
    pieces: list[bytes] = []
    low, high = b"t\x00", b"t\x00" + stop.to_bytes(8, "big")
    for _, leaf in view.iterate(low, stop=high):
        pieces.append(leaf)
        if len(pieces) == HISTORY_LEAVES:
            yield _history_chunk(directory, pieces)
            pieces = []
    if pieces:
        yield _history_chunk(directory, pieces)


def _history_chunk(directory: Path, pieces: list[bytes]) -> HistoryChunkRef:
    data = b"".join(pieces)
    return HistoryChunkRef(_write(directory, data), len(data))


def _write(directory: Path, data: bytes) -> bytes:
    assert len(data) <= MAX_CHUNK_BYTES, "a chunk larger than any reader takes"
    digest = chunk_digest(data)
    (directory / digest.hex()).write_bytes(data)
    return digest


# --- keeping and giving ---------------------------------------------------------------------------


class Snapshots:
    """The snapshots of a running node, in a directory of its home."""

    def __init__(
        self,
        kv: KeyValue,
        directory: Path,
        *,
        uetr_window_ms: int,
        height: Callable[[], int],
        every: float = EVERY_SECONDS,
        fresh: float = FRESH_SECONDS,
    ) -> None:
        self._kv = kv
        self._directory = directory
        self._window = uetr_window_ms
        self._height = height
        self._every = every
        self._fresh = fresh
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._making: asyncio.Task[None] | None = None
        self._made_at: float | None = None
        """Monotonic seconds of the last start."""
        self._failed = False
        """Whether the last one could not be written: all its work was for nothing."""
        self._kept: list[tuple[int, Path, float]] = []
        """(height, directory, monotonic seconds of its start), oldest first."""
        # What an earlier process left may be damaged, and tells nothing that is not here.
        shutil.rmtree(directory, ignore_errors=True)

    async def manifest(self) -> bytes | None:
        """The latest snapshot's; makes one first where there is none or only one that is no more
        fresh, or begins the next one where it is time. None: it cannot be made now."""
        if self._making is None and self._is_due():
            self._made_at = time.monotonic()
            self._making = asyncio.create_task(self._make(), name="snapshot")
        if self._making is not None and not self._has_fresh():
            await asyncio.shield(self._making)
        return await self._read(self._kept[-1][1] / "manifest") if self._kept else None

    def _has_fresh(self) -> bool:
        return bool(self._kept) and time.monotonic() - self._kept[-1][2] < self._fresh

    def _is_due(self) -> bool:
        if self._kept and self._kept[-1][0] >= self._height():
            return False
        if self._made_at is None or time.monotonic() - self._made_at >= self._every:
            return True
        # Where none could be made the reason may be gone with the next block; but a full disk must
        # not be filled, and a large database not be read, for every request.
        return not self._kept and not self._failed

    async def chunk(self, digest: bytes) -> bytes | None:
        """A chunk of a kept snapshot."""
        for _, directory, _ in reversed(self._kept):
            path = directory / digest.hex()
            if path.exists():
                return await self._read(path)
        return None

    async def stop(self) -> None:
        """Wait until nothing reads the database any more."""
        if self._making is not None:
            await asyncio.gather(self._making, return_exceptions=True)
        self._thread.shutdown()

    async def _read(self, path: Path) -> bytes | None:
        def read() -> bytes | None:
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None  # it was just thrown away

        return await asyncio.get_running_loop().run_in_executor(None, read)

    async def _make(self) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(self._thread, self._make_one)
            self._failed = False
        except (OSError, StorageError) as error:
            log.error("cannot make a snapshot: %s", error)
            made, self._failed = None, True
        finally:
            self._making = None
        if made is None:
            return
        height, directory = made
        self._kept.append((height, directory, started))
        for _, path, _ in self._kept[:-KEPT]:
            shutil.rmtree(path, ignore_errors=True)
        del self._kept[:-KEPT]
        log.info("made a snapshot of height %d in %.1f s", height, time.monotonic() - started)

    def _make_one(self) -> tuple[int, Path] | None:
        building = self._directory / "building"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True, mode=0o700)
        try:
            view = self._kv.snapshot()
            try:
                manifest = make_snapshot(view, building, self._window)
            finally:
                view.close()
            if manifest is None:
                return None
            done = self._directory / header_digest(manifest.header).hex()
            shutil.rmtree(done, ignore_errors=True)
            os.rename(building, done)
        finally:
            # On a full disk the node needs for its own blocks what half a snapshot takes.
            shutil.rmtree(building, ignore_errors=True)
        return manifest.header.height, done


def decode_manifest(data: bytes) -> Manifest:
    """Raises BadSnapshot."""
    try:
        return decode(data, Manifest)
    except Malformed as error:
        raise BadSnapshot(f"the manifest: {error}") from error


def decode_state_chunk(data: bytes) -> StateChunk:
    """Raises BadSnapshot."""
    try:
        return decode(data, StateChunk)
    except Malformed as error:
        raise BadSnapshot(str(error)) from error
