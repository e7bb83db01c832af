"""The resources by which other nodes get the chain: blocks, epochs, snapshots.

All bodies are canonical bytes that prove themselves to whoever has the genesis file. They are
large, so a client has few of them under way at a time, all clients together not many more, and
who does not read is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiohttp import web

from node.api.problems import Refused

SYNC_TYPE = "application/vnd.nostro.sync+msgpack"
HEIGHT_HEADER = "Nostro-Height"
"""Of an answer: the last final height that the node claims. For people to see progress by."""
MAX_SYNC_WAIT_SECONDS = 60.0
"""Longest wait of one `GET /v1/sync`."""
MAX_ANSWERS = 8
"""Answers being read or sent at a time, of all clients: each may have tens of megabytes."""
MAX_ANSWERS_OF_CLIENT = 4
MAX_SYNC_WAITERS = 256
"""Long polls open at a time."""
SEND_SECONDS = 300.0
"""Until a client must have taken an answer."""
PIECE_BYTES = 256 * 1024


class SyncSource(Protocol):
    """What a node gives to others of its chain. All calls are made on its event loop."""

    def height(self) -> int:
        """Last final height."""

    async def wait(self, height: int, seconds: float) -> bool:
        """Whether this height is final, after at most so long."""

    async def blocks(self, first: int) -> bytes | None:
        """A canonical `SyncResponse` from this height on; None where nothing is final yet.

        Raises Refused (pruned)."""

    async def epochs(self, first: int) -> bytes:
        """Canonical `EpochLink`s of the ended epochs from this one on, a bounded number."""

    async def window(self, first: int) -> bytes:
        """A canonical `WindowAnswer` from this height on. Raises Refused (pruned)."""

    async def manifest(self) -> bytes:
        """The canonical manifest of the latest snapshot. Raises Refused (no-snapshot)."""

    async def chunk(self, digest: bytes) -> bytes | None:
        """A chunk of a snapshot that is still kept."""


class SyncRoutes:
    """Handlers over one node."""

    def __init__(self, source: SyncSource | None) -> None:
        """`source`: None where the chain is not offered; every request is then refused."""
        self._given = source
        self._answers: Counter[str] = Counter()
        self._waiters: set[asyncio.Task[object]] = set()

    def add_to(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.get("/v1/sync", self.sync),
                web.get("/v1/epochs", self.epochs),
                web.get("/v1/window", self.window),
                web.get("/v1/snapshot", self.manifest),
                web.get("/v1/snapshot/chunks/{digest}", self.chunk),
            ]
        )

    @property
    def _source(self) -> SyncSource:
        if self._given is None:
            raise Refused("not-found", "this listener does not offer the chain to other nodes")
        return self._given

    def end_waits(self) -> None:
        """Drop every long poll, so that a stopping node does not wait for them."""
        for task in self._waiters:
            task.cancel()

    async def sync(self, request: web.Request) -> web.StreamResponse:
        first, wait = _number(request.query, "first"), _seconds(request.query)
        _known(request.query, {"first", "wait"})
        if first < 1:
            raise Refused("bad-parameter", "first is 0: everybody has the genesis block already")
        if first > self._source.height() and not await self._final(first, wait):
            return web.Response(status=204, headers=self._claim())
        return await self._send(request, lambda: self._source.blocks(first))

    def _claim(self) -> dict[str, str]:
        return {HEIGHT_HEADER: str(self._source.height())}

    async def _final(self, height: int, wait: float) -> bool:
        if wait <= 0:
            return False
        if len(self._waiters) >= MAX_SYNC_WAITERS:
            raise Refused("busy", "too many nodes wait for blocks here; ask another node")
        task = asyncio.current_task()
        assert task is not None
        self._waiters.add(task)
        try:
            return await self._source.wait(height, wait)
        finally:
            self._waiters.discard(task)

    async def epochs(self, request: web.Request) -> web.StreamResponse:
        _known(request.query, {"first"})
        first = _number(request.query, "first", 0)
        return await self._send(request, lambda: self._source.epochs(first))

    async def window(self, request: web.Request) -> web.StreamResponse:
        _known(request.query, {"first"})
        first = _number(request.query, "first")
        return await self._send(request, lambda: self._source.window(first))

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        _known(request.query, set())
        return await self._send(request, self._source.manifest)

    async def chunk(self, request: web.Request) -> web.StreamResponse:
        _known(request.query, set())
        text = request.match_info["digest"]
        try:
            digest = bytes.fromhex(text) if len(text) == 64 else b""
        except ValueError:
            digest = b""
        if not digest:
            raise Refused("bad-parameter", f"{text[:80]!r} is no SHA-256 digest in hex")

        async def read() -> bytes:
            data = await self._source.chunk(digest)
            if data is None:
                raise Refused(
                    "not-found",
                    "no snapshot that is kept here has this chunk; ask for the manifest again",
                )
            return data

        return await self._send(request, read)

    async def _send(
        self, request: web.Request, read: Callable[[], Awaitable[bytes | None]]
    ) -> web.StreamResponse:
        client = request.remote or ""
        if self._answers.total() >= MAX_ANSWERS or self._answers[client] >= MAX_ANSWERS_OF_CLIENT:
            raise Refused("busy", "too many answers of this kind are under way; ask again")
        self._answers[client] += 1
        try:
            data = await read()
            if data is None:
                return web.Response(status=204)
            response = web.StreamResponse(headers={"Content-Type": SYNC_TYPE, **self._claim()})
            response.content_length = len(data)
            async with asyncio.timeout(SEND_SECONDS):
                await response.prepare(request)
                view = memoryview(data)
                for start in range(0, len(data), PIECE_BYTES):
                    await response.write(bytes(view[start : start + PIECE_BYTES]))
                await response.write_eof()
            return response
        finally:
            self._answers[client] -= 1
            if not self._answers[client]:
                del self._answers[client]


def _known(query: Mapping[str, str], allowed: set[str]) -> None:
    for name in query:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise Refused("bad-parameter", f"unknown parameter {name[:40]!r}; known here: {known}")


def _number(query: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = query.get(name)
    if text is None and default is not None:
        return default
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise Refused("bad-parameter", f"{name} is {(text or '')[:40]!r}; give a whole number")
    return int(text)


def _seconds(query: Mapping[str, str]) -> float:
    text = query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_SYNC_WAIT_SECONDS:
        raise Refused(
            "bad-parameter",
            f"wait is {text[:40]!r}; give seconds from 0 to {MAX_SYNC_WAIT_SECONDS:.0f}",
        )
    return seconds
