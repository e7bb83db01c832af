"""Keeps accepted instructions through a crash: what a receipt promises.

One write at a time, in the order in which things were asked for: an instruction that is forgotten
and accepted again must not be forgotten last. What comes in while a write is under way shares the
next one, and its sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor as ThreadPool

from node.storage.errors import StorageError
from node.storage.kv import KeyValue

KEPT_PREFIX = b"p"
"""Of the keys of accepted instructions; the digest follows."""


class PoolStore:
    """Accepted, not yet final instructions by digest, in the node's database."""

    def __init__(self, kv: KeyValue, io: ThreadPool) -> None:
        self._kv = kv
        self._io = io
        self._waiting: list[tuple[bytes, bytes | None]] = []
        self._durable: asyncio.Future[None] | None = None
        """Done when what waits is durable; None if nobody has to know."""
        self._writer: asyncio.Task[None] | None = None

    async def keep(self, instructions: Sequence[tuple[bytes, bytes]]) -> None:
        """Make (digest, bytes) durable; returns when they are. Raises what storage raises."""
        if not instructions:
            return
        if self._durable is None:
            self._durable = asyncio.get_running_loop().create_future()
        durable = self._durable
        self._queue([(KEPT_PREFIX + digest, raw) for digest, raw in instructions])
        # Several wait for it: one that gives up must not take it from the others.
        await asyncio.shield(durable)

    def forget(self, digests: Sequence[bytes]) -> None:
        """These are final or can never be. Unsynced and not waited for: forgetting late is
        harmless, and a full disk shows where something must be kept."""
        if digests:
            self._queue([(KEPT_PREFIX + digest, None) for digest in digests])

    def load(self) -> Iterator[tuple[bytes, bytes]]:
        """What is kept, as (digest, bytes)."""
        for key, raw in self._kv.iterate(prefix=KEPT_PREFIX):
            yield key[len(KEPT_PREFIX) :], raw

    def _queue(self, batch: Sequence[tuple[bytes, bytes | None]]) -> None:
        self._waiting += batch
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="accepted instructions")

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                durable, self._durable = self._durable, None
                sync = durable is not None
                try:
                    await loop.run_in_executor(self._io, self._kv.write, batch, sync)
                except StorageError as error:
                    # Every later write fails too: whoever next needs one, at the latest the next
                    # commit, ends the node.
                    if durable is not None:
                        durable.set_exception(error)
                        durable.exception()  # also where nobody waits any more
                else:
                    if durable is not None:
                        durable.set_result(None)
        finally:
            self._writer = None
