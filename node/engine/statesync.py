"""Starting from a snapshot: the ledger at a recent height instead of all blocks since genesis.

What comes from a source is checked, piece by piece, against what is known already:

    genesis file → links of ended epochs → validators → finalization → header of the snapshot
    header.history_root → leaves of the history tree → headers of the blocks of the window
    header.state_root   → roots of the subtrees → state chunks
    headers             → bodies (instructions_root) and outcomes (outcomes_root)
    bodies and outcomes → executed ids and used UETRs (`window.entries`)

No block of the window is executed and no sender's signature verified: a quorum of validators did
that before it finalized the header above them. Evidence of payments below the snapshot's height
cannot be made here, as their states are not held; an archive node has it.

The new database is filled under another name (`Home.building`), which nothing else opens, and takes
the place of the empty one when it is whole and durable. A crash before that leaves the empty one;
`settle_replacement` finishes a crash between the two renames. A source that lies is dropped; where
no source has a good snapshot the node starts from the first block.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from consensus.interface import Floor
from node.audit.epochs import EpochLink, ValidatorHistory, check_finalization
from node.audit.fault import Fault
from node.chain.block import (
    InspectedBlock,
    encode_block,
    header_digest,
    validator_set_digest,
)
from node.chain.encoding import Malformed, decode
from node.chain.genesis import Genesis
from node.chain.merkle import Frontier, history_leaf
from node.chain.state_map import StateMap
from node.engine.executor import block_info
from node.engine.metrics import Metrics
from node.engine.snapshot import (
    HISTORY_LEAVES,
    MAX_CHUNK_BYTES,
    MAX_MANIFEST_BYTES,
    BadSnapshot,
    HistoryChunkRef,
    Manifest,
    StateChunkRef,
    chunk_digest,
    decode_manifest,
    decode_state_chunk,
    fold,
    subtree,
    top_nodes,
)
from node.engine.sources import Source, SourceLacks, SourceLied, Sources, SourceUnavailable
from node.engine.window import (
    MAX_WINDOW_ANSWER_BYTES,
    BadWindow,
    WindowAnswer,
    WindowBlock,
    decode_window,
    rebuild,
    remembered_ms,
)
from node.ledger.genesis import genesis_state
from node.storage.chain_loader import ChainLoader
from node.storage.chain_store import ChainStore, SealRecord
from node.storage.disk import FileDisk
from node.storage.errors import unwritable
from node.storage.home import Home
from node.storage.horizon import Horizon
from node.storage.kv import KeyValue
from node.storage.level import LevelStore
from node.storage.memory import MemoryStore

log = logging.getLogger("nostro.statesync")

ROUNDS = 3
"""How often each source is tried before the node starts from the first block."""
PAUSE_SECONDS = 1.0
"""Between two rounds."""
ATTEMPTS = 5
"""How often one piece is asked for: an answer that is lost, or a source that has too many readers
for a moment, must not cost everything that was loaded before."""
RETRY_SECONDS = 0.5
"""Before a piece is asked for again, twice as long each time."""
MANIFEST_WAIT_SECONDS = 120.0
"""How long a source may take to make its snapshot before it says a byte."""
MAX_LINKS_BYTES = 16 * 1024 * 1024
"""Of one answer with links of epochs."""
TELL_SECONDS = 5.0
"""Between two lines of the log about progress."""
T = TypeVar("T")


async def start_from_snapshot(home: Home, metrics: Metrics) -> bool:
    """Fill the home's database from a source's snapshot, if it is empty and the home is set up so;
    whether that was done. The home's lock is held, its database closed.

    Raises StorageError. A source's faults are no errors: without a good one the database stays
    empty, and the node follows from the first block."""
    settle_replacement(home)
    join = home.config.join
    if not join.urls or not join.snapshot or not _is_empty(home):
        return False
    async with Sources(join.urls) as sources:
        for number in range(ROUNDS):
            if number:
                await asyncio.sleep(PAUSE_SECONDS)
            for source in sources.all:
                if not source.dropped and await _try(home, sources, source, metrics):
                    return True
    log.warning("no source has a good snapshot: starting from the first block")
    return False


async def _try(home: Home, sources: Sources, source: Source, metrics: Metrics) -> bool:
    started = time.monotonic()
    log.info("loading a snapshot from %s", source.url)
    shutil.rmtree(home.building, ignore_errors=True)
    kv = LevelStore(home.building, create=True)
    try:
        height = await StateSync(home.genesis, kv, sources, source, metrics).run()
        _keep_pool(home, kv)
    except SourceUnavailable as error:
        sources.failed(source, str(error))
        return False
    except (SourceLied, BadSnapshot, BadWindow, Fault) as error:
        metrics.refused.labels("source").inc()
        sources.drop(source, str(error))
        return False
    finally:
        kv.close()
    _replace(home)
    log.info(
        "the ledger of height %d is here after %.1f s, %d bytes from %s",
        height, time.monotonic() - started, source.received_bytes, source.url,
    )  # fmt: skip
    return True


# --- the place on disk ----------------------------------------------------------------------------


def _is_empty(home: Home) -> bool:
    kv = home.open_database()
    try:
        floor = ChainStore(kv).floor()
    finally:
        kv.close()
    return floor is None or floor.info.height == 0


def _keep_pool(home: Home, kv: KeyValue) -> None:
    """What receipts were given for is kept, whatever database holds the chain."""
    old = home.open_database()
    try:
        kept: list[tuple[bytes, bytes | None]] = list(old.iterate(b"p"))
    finally:
        old.close()
    if kept:
        kv.write(kept, sync=True)


def _replace(home: Home) -> None:
    """The new database takes the place of the empty one."""
    disk = FileDisk()
    try:
        disk.sync_directory(str(home.building))
        os.rename(home.data, home.replaced)
        os.rename(home.building, home.data)
        disk.sync_directory(str(home.path))
    except OSError as error:
        raise unwritable(error, home.data, "put the new database in place") from error
    shutil.rmtree(home.replaced, ignore_errors=True)


def settle_replacement(home: Home) -> None:
    """After a crash: `data` is moved aside only when `building` is whole, so where it is missing
    the replacement is finished, and where it is there what was being built is thrown away."""
    try:
        if not home.data.exists() and home.replaced.exists():
            whole = home.building if home.building.exists() else home.replaced
            os.rename(whole, home.data)
            FileDisk().sync_directory(str(home.path))
    except OSError as error:
        raise unwritable(error, home.data, "put the new database in place") from error
    if home.data.exists():
        for leftover in (home.building, home.replaced):
            shutil.rmtree(leftover, ignore_errors=True)


# --- loading --------------------------------------------------------------------------------------


class StateSync:
    """One attempt with one source, into an empty database."""

    def __init__(
        self,
        genesis: Genesis,
        kv: KeyValue,
        sources: Sources,
        source: Source,
        metrics: Metrics,
    ) -> None:
        self._genesis = genesis
        self._loader = ChainLoader(kv)
        self._sources = sources
        self._source = source
        self._metrics = metrics
        self._links: list[EpochLink] = []
        self._told = time.monotonic()

    async def run(self) -> int:
        """Load it all; the height at which the database then stands. Raises SourceUnavailable and,
        where the source is at fault, SourceLied, BadSnapshot, BadWindow or Fault."""
        data = await self._get("/v1/snapshot", MAX_MANIFEST_BYTES, wait=MANIFEST_WAIT_SECONDS)
        manifest = decode_manifest(data)
        history = await self._validators(manifest.header.epoch)
        self._check_manifest(manifest, history)
        height = manifest.header.height
        self._metrics.sync_target.set(height)
        with ThreadPoolExecutor(1, thread_name_prefix="state sync") as thread:
            self._thread = thread
            await self._history(manifest)
            await self._state(manifest)
            await self._window(manifest, history)
            await self._in_thread(lambda: self._finish(manifest))
        return height

    async def _get(
        self, path: str, limit: int, query: dict[str, str] | None = None, wait: float = 0.0
    ) -> bytes:
        data = await self._sources.get(self._source, path, limit=limit, query=query, wait=wait)
        if data is None:
            raise SourceUnavailable(f"{path} answered with nothing")
        metrics, url = self._metrics, self._source.url
        metrics.sync_bytes.labels(url).set(self._source.received_bytes)
        metrics.sync_source.labels(url).set(1)
        return data

    async def _piece(self, path: str, limit: int, query: dict[str, str] | None = None) -> bytes:
        """What a source that gave its manifest should have."""
        for attempt in range(ATTEMPTS - 1):
            try:
                return await self._get(path, limit, query)
            except SourceLacks:
                raise
            except SourceUnavailable as error:
                log.info("%s: %s; asking again", self._source.url, error)
                await asyncio.sleep(RETRY_SECONDS * 2**attempt)
        return await self._get(path, limit, query)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _tell(self, what: str, done: int, of: int) -> None:
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._told = time.monotonic()
            log.info("%s: %d of %d", what, done, of)

    # --- who signed ---------------------------------------------------------------------------

    async def _validators(self, epoch: int) -> ValidatorHistory:
        """The validator sets up to this epoch, each proven by the one before."""
        history = ValidatorHistory(self._genesis)
        while len(history.sets) <= epoch:
            query = {"first": str(len(history.sets) - 1)}
            data = await self._piece("/v1/epochs", MAX_LINKS_BYTES, query)
            try:
                links = decode(data, tuple[EpochLink, ...])
            except Malformed as error:
                raise SourceLied(f"its links of epochs: {error}") from None
            if not links:
                raise SourceLied(
                    f"its snapshot is of epoch {epoch}, but it shows how only "
                    f"{len(history.sets) - 1} ended"
                )
            for link in links[: epoch + 1 - len(history.sets)]:
                history.add(link)
                self._links.append(link)
        return history

    def _check_manifest(self, manifest: Manifest, history: ValidatorHistory) -> None:
        """That a quorum finalized the header, and that all else the manifest says follows from
        it. Raises BadSnapshot, Fault."""
        header = manifest.header
        if header.chain_id != self._genesis.chain_id:
            raise BadSnapshot(f"it is of another chain, {header.chain_id.hex()}")
        validators = history.sets[header.epoch]
        if header.validator_set != validator_set_digest(validators):
            raise BadSnapshot("its header names other validators than its epoch has")
        check_finalization(
            manifest.finalization,
            header,
            None,
            validators,
            chain_id=self._genesis.chain_id,
            where="snapshot.finalization",
        )
        if header.height < history.first_height or header.next_validator_set != (
            header.validator_set
        ):
            raise BadSnapshot("its header is not one of an ordinary block of its epoch")
        roots = [each.root for each in manifest.state]
        if len(roots) != 1 << manifest.depth or fold(roots) != header.state_root:
            raise BadSnapshot("its subtrees do not make the state root of its header")
        if len(manifest.history) != -(-header.height // HISTORY_LEAVES):
            raise BadSnapshot("it has more or fewer history chunks than its height asks for")
        self._check_window(manifest)

    def _check_window(self, manifest: Manifest) -> None:
        """That no block below the window can matter to exactly-once any more."""
        header, before, first = manifest.header, manifest.before, manifest.window_first
        if first > header.height or (before is None) != (first == 1):
            raise BadSnapshot(f"its window starts at {first}, which does not fit its height")
        if before is None:
            return
        oldest = header.timestamp - remembered_ms(self._genesis.parameters.uetr_window_ms)
        if before.height != first - 1 or before.timestamp >= oldest:
            raise BadSnapshot(
                f"its window starts at {first}, which leaves out blocks that still matter"
            )

    # --- chunks -------------------------------------------------------------------------------

    async def _chunk(self, ref: StateChunkRef | HistoryChunkRef) -> bytes:
        data = await self._piece(f"/v1/snapshot/chunks/{ref.digest.hex()}", MAX_CHUNK_BYTES)
        if len(data) != ref.size or chunk_digest(data) != ref.digest:
            raise BadSnapshot(f"chunk {ref.digest.hex()} is poisoned: its bytes are not its name's")
        return data

    async def _chunks(
        self,
        refs: Sequence[StateChunkRef | HistoryChunkRef],
        take: Callable[[int, bytes], None],
        what: str,
    ) -> None:
        """Take them in order, each in the thread while the next one comes."""
        pending = asyncio.create_task(self._chunk(refs[0])) if refs else None
        try:
            for index in range(len(refs)):
                assert pending is not None
                data = await pending
                following = index + 1 < len(refs)
                pending = asyncio.create_task(self._chunk(refs[index + 1])) if following else None
                await self._in_thread(lambda i=index, d=data: take(i, d))  # type: ignore[misc]
                self._tell(what, index + 1, len(refs))
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.gather(pending, return_exceptions=True)

    async def _history(self, manifest: Manifest) -> None:
        """All leaves below the snapshot's height; together they have the header's history root."""
        height = manifest.header.height
        frontier = Frontier()

        def take(index: int, data: bytes) -> None:
            nonlocal frontier
            leaves = min(HISTORY_LEAVES, height - index * HISTORY_LEAVES)
            if len(data) != leaves * 32:
                raise BadSnapshot(f"history chunk {index} does not have {leaves} leaves")
            for start in range(0, len(data), 32):
                frontier, nodes = frontier.append(data[start : start + 32])
                self._loader.history(nodes)

        await self._chunks(manifest.history, take, "history chunks")
        if frontier.root() != manifest.header.history_root:
            raise BadSnapshot("its history does not have the history root of its header")
        _, nodes = frontier.append(history_leaf(header_digest(manifest.header)))
        self._loader.history(nodes)
        await self._in_thread(lambda: self._headers(manifest))

    def _headers(self, manifest: Manifest) -> None:
        """Those outside the window that are held: each stands in the history."""
        for header in (manifest.before, *(link.seal for link in self._links)):
            if header is None:
                continue
            digest = header_digest(header)
            if self._loader.leaf(header.height) != history_leaf(digest):
                raise BadSnapshot(f"header {header.height} is not in the history of its header")
            self._loader.header(header, digest)
        for link in self._links:
            carriers = tuple(encode_block(header, ()) for header in link.carriers)
            record = SealRecord(link.seal.height, carriers, link.finalization)
            self._loader.seal(link.seal.epoch, record)
            # Where it stands, an answer to who syncs from here ends: with the epoch.
            self._loader.finalization(link.seal.height, link.finalization)

    async def _state(self, manifest: Manifest) -> None:
        height, empty = manifest.header.height, StateMap.empty()

        def take(index: int, data: bytes) -> None:
            chunk = decode_state_chunk(data)
            part = subtree(chunk, manifest.depth, index)
            if part.root != manifest.state[index].root:
                raise BadSnapshot(
                    f"state chunk {index} is poisoned: its records do not have the root that the "
                    "header commits to"
                )
            self._loader.state(chunk.records)
            self._loader.state_nodes(part.nodes_since(empty), height)

        await self._chunks(manifest.state, take, "state chunks")
        roots = [each.root for each in manifest.state]
        self._loader.state_nodes(top_nodes(roots), height)

    # --- the window ---------------------------------------------------------------------------

    async def _window(self, manifest: Manifest, history: ValidatorHistory) -> None:
        """The blocks from which ids and UETRs are rebuilt, each answer while the next comes."""
        first, tip = manifest.window_first, manifest.header.height
        pending: asyncio.Task[bytes] | None = self._ask_window(first)
        try:
            while pending is not None:
                data, asked = await pending, first
                answer = await self._in_thread(lambda d=data: _decoded(d))  # type: ignore[misc]
                blocks = answer.blocks[: tip + 1 - asked]
                if not blocks:
                    raise SourceLied(f"it gives no block {asked}, which its snapshot needs")
                first = asked + len(blocks)
                pending = self._ask_window(first) if first <= tip else None
                await self._in_thread(
                    lambda a=asked, b=blocks, w=answer: self._take(a, b, w, manifest, history)  # type: ignore[misc]
                )
                self._metrics.sync_height.set(first - 1)
                self._tell("blocks of the window", first - 1, tip)
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.gather(pending, return_exceptions=True)

    def _ask_window(self, first: int) -> asyncio.Task[bytes]:
        return asyncio.create_task(
            self._piece("/v1/window", MAX_WINDOW_ANSWER_BYTES, {"first": str(first)})
        )

    def _take(
        self,
        first: int,
        blocks: Sequence[WindowBlock],
        answer: WindowAnswer,
        manifest: Manifest,
        history: ValidatorHistory,
    ) -> None:
        leaves = self._loader.leaves(first, first + len(blocks))
        for height, (each, leaf) in enumerate(zip(blocks, leaves, strict=True), first):
            rebuilt = rebuild(each)
            block = rebuilt.block
            if block.header.height != height or history_leaf(block.digest) != leaf:
                raise BadWindow(f"block {height} is not the one in the chain's history")
            self._loader.block(
                block_info(block.header),
                each.block,
                each.outcomes,
                rebuilt.ids,
                rebuilt.used.uetrs,
                changes=rebuilt.used.changes,
                following=rebuilt.used.following,
                about=rebuilt.about,
                joined=rebuilt.used.joined,
                closed=rebuilt.used.closed,
            )
            if height == answer.finalized and height < manifest.header.height:
                self._keep_finalization(block, answer, history)

    def _keep_finalization(
        self, block: InspectedBlock, answer: WindowAnswer, history: ValidatorHistory
    ) -> None:
        """One an answer: others then sync from this node as from any other."""
        certificate = answer.finalization
        if certificate is None or block.header.next_validator_set != block.header.validator_set:
            return  # how an epoch ended was proven with its link
        check_finalization(
            certificate,
            block.header,
            None,
            history.sets[block.header.epoch],
            chain_id=self._genesis.chain_id,
            where=f"window.finalization[{block.header.height}]",
        )
        self._loader.finalization(block.header.height, certificate)

    def _finish(self, manifest: Manifest) -> None:
        header = manifest.header
        first = manifest.window_first
        start = genesis_state(self._genesis, ChainStore(MemoryStore())).header
        if self._loader.leaf(0) != history_leaf(header_digest(start)):
            raise BadSnapshot("its history does not begin with the genesis block")
        if first == 1:
            self._loader.block(block_info(start), encode_block(start, ()), (), (), ())
        lowest = 0 if first == 1 else first
        horizon = Horizon(
            blocks=lowest,
            states=header.height,
            headers=first - 1,
            swept_blocks=lowest,
            swept_states=header.height,
        )
        self._loader.finish(Floor(block_info(header), manifest.finalization), horizon)


def _decoded(data: bytes) -> WindowAnswer:
    try:
        return decode_window(data)
    except Malformed as error:
        raise SourceLied(f"its answer is no blocks with outcomes: {error}") from None
