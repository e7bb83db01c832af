"""Serving final blocks to a node that is behind, from the database, one bounded answer each.

An answer ends at a height whose finalization is stored, so it proves itself: the asker checks one
certificate and the chain of parent digests. It never goes beyond the block that seals an epoch:
who signs from there on, the asker learns by executing that block. Between two stored
finalizations honest leaders put at most `Timing.max_unfinalized` blocks with instructions, so that
one always fits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor as ThreadPool
from typing import TypeVar

from consensus.messages import SyncResponse
from consensus.messages import encode as encode_message
from node.api.problems import Refused
from node.audit.epochs import EpochLink
from node.chain.block import inspect_block
from node.chain.encoding import encode
from node.chain.types import ValidatorSet
from node.engine.snapshot import Snapshots
from node.engine.window import encode_window, window_answer
from node.network.frames import CHANNEL_LIMIT, Channel
from node.storage.chain_store import ChainStore
from node.storage.horizon import Horizon

SYNC_ANSWER_BYTES = 1024 * 1024
"""An answer ends at the first certified height at or above this many bytes of blocks. The asker
executes all of an answer before it commits any, and every lookup goes through the state of each
block that waits: with eight times as much, it takes several times its memory and no less CPU."""
SYNC_ANSWER_BLOCKS = 64
"""… or this many blocks."""
MAX_ANSWER_BYTES = CHANNEL_LIMIT[Channel.SYNC] - 1024 * 1024
"""No answer is larger; the difference is room for framing and the certificate."""

LINKS_PER_ANSWER = 64
"""Ended epochs told of in one answer: each has a validator set and a certificate."""
T = TypeVar("T")


def sync_response(store: ChainStore, first: int) -> SyncResponse | None:
    """Final blocks from height `first` on; None where this node has none."""
    blocks: list[bytes] = []
    size = 0
    answer: SyncResponse | None = None
    height = first
    while first > 0:
        block = store.block(height)
        if block is None:
            break
        blocks.append(block)
        size += len(block)
        if size > MAX_ANSWER_BYTES:
            break
        certificate = store.finalization(height)
        if certificate is not None:
            info = store.info(height)
            seal = store.seal(info.epoch) if info is not None and info.seals else None
            carriers = () if seal is None else seal.carriers
            answer = SyncResponse(tuple(blocks), carriers, certificate)
            if seal is not None or size >= SYNC_ANSWER_BYTES or len(blocks) >= SYNC_ANSWER_BLOCKS:
                break
        height += 1
    return answer


class SyncServer:
    """What this node gives to others over HTTP. Implements `node.api.sync_routes.SyncSource`.

    The database is read in `readers`' thread, one answer after the other; waiting reads nothing."""

    def __init__(
        self,
        store: ChainStore,
        *,
        height: Callable[[], int],
        horizon: Callable[[], Horizon],
        validator_set_of: Callable[[int], ValidatorSet | None],
        snapshots: Snapshots,
        readers: ThreadPool,
    ) -> None:
        """`validator_set_of`: of an epoch, from the final state."""
        self._store = store
        self._height = height
        self._horizon = horizon
        self._validator_set_of = validator_set_of
        self._snapshots = snapshots
        self._readers = readers
        self._grown = asyncio.Event()

    def final(self) -> None:
        """The database holds more: whoever waits looks again."""
        self._grown.set()
        self._grown = asyncio.Event()

    def height(self) -> int:
        """See `SyncSource.height`."""
        return self._height()

    async def wait(self, height: int, seconds: float) -> bool:
        """See `SyncSource.wait`."""
        try:
            async with asyncio.timeout(seconds):
                while self._height() < height:
                    await self._grown.wait()
        except TimeoutError:
            return False
        return True

    async def blocks(self, first: int) -> bytes | None:
        """See `SyncSource.blocks`."""
        self._require(first)

        def read() -> bytes | None:
            response = sync_response(self._store, first)
            self._require(first)
            return None if response is None else encode_message(response)

        return await self._in_thread(read)

    async def window(self, first: int) -> bytes:
        """See `SyncSource.window`."""
        self._require(first)

        def read() -> bytes:
            answer = window_answer(self._store, first)
            self._require(first)
            return encode_window(answer)

        return await self._in_thread(read)

    def _require(self, first: int) -> None:
        """Asked again after reading: what was pruned in between would be taken for a lie."""
        horizon = self._horizon()
        if first < horizon.blocks:
            raise Refused(
                "pruned",
                f"blocks below height {horizon.blocks} are not kept here, and {first} was asked "
                "for; an archive node has them",
            )

    async def epochs(self, first: int) -> bytes:
        """See `SyncSource.epochs`."""
        sets: list[tuple[int, ValidatorSet]] = []
        for epoch in range(first, first + LINKS_PER_ANSWER):
            following = self._validator_set_of(epoch + 1)
            if following is None:
                break
            sets.append((epoch, following))
        return await self._in_thread(
            lambda: encode(tuple(self._link(epoch, following) for epoch, following in sets))
        )

    def _link(self, epoch: int, following: ValidatorSet) -> EpochLink:
        seal = self._store.seal(epoch)
        assert seal is not None, "an epoch that has a successor has ended"
        header = self._store.header(seal.height)
        assert header is not None, "headers are kept for ever"
        carriers = tuple(inspect_block(raw).header for raw in seal.carriers)
        return EpochLink(header, carriers, seal.finalization, following)

    async def manifest(self) -> bytes:
        """See `SyncSource.manifest`."""
        data = await self._snapshots.manifest()
        if data is None:
            raise Refused(
                "no-snapshot",
                "this node has no snapshot and cannot make one of its present height; ask again "
                "once another block is final, or start from the first block",
            )
        return data

    async def chunk(self, digest: bytes) -> bytes | None:
        """See `SyncSource.chunk`."""
        return await self._snapshots.chunk(digest)

    async def _in_thread(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)
