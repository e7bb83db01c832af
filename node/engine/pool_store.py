"""Keeps accepted instructions through a crash: what a receipt promises.

Writes that come in while one is under way share the next sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor as ThreadPool

from node.storage.kv import KeyValue

_PREFIX = b"p"


class PoolStore:
    """Accepted, not yet final instructions by digest, in the node's database."""

    def __init__(self, kv: KeyValue, io: ThreadPool) -> None:
        self._kv = kv
        self._io = io
        self._waiting: list[tuple[bytes, bytes]] = []
        self._current: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None

    async def keep(self, instructions: Sequence[tuple[bytes, bytes]]) -> None:
        """Make (digest, bytes) durable; returns when they are. Raises what storage raises."""
        if not instructions:
            return
        self._waiting.extend(instructions)
        if self._next is None:
            self._next = asyncio.ensure_future(self._write(self._current))
        await asyncio.shield(self._next)

    async def _write(self, before: asyncio.Future[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._current, self._next = self._next, None
        waiting, self._waiting = self._waiting, []
        batch = [(_PREFIX + digest, raw) for digest, raw in waiting]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._io, lambda: self._kv.write(batch, sync=True))

    def forget(self, digests: Sequence[bytes]) -> None:
        """These are final or can never be. Unsynced and not waited for: forgetting late is
        harmless, and a full disk shows where something must be kept."""
        if digests:
            batch = [(_PREFIX + digest, None) for digest in digests]
            self._io.submit(self._kv.write, batch, False)

    def load(self) -> Iterator[tuple[bytes, bytes]]:
        """What is kept, as (digest, bytes)."""
        for key, raw in self._kv.iterate(prefix=_PREFIX):
            yield key[len(_PREFIX) :], raw
