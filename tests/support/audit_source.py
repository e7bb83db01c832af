"""A node as an auditor's follower sees it, on a real socket: over any store, and able to lie."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from consensus.messages import encode as encode_message
from node.api.requests import Handler
from node.chain.block import header_digest
from node.chain.genesis import Genesis
from node.engine.sync import sync_response
from node.storage.chain_store import ChainStore
from tests.support import world

Tamper = Callable[[str, bytes], bytes]
"""tamper(path and query, the honest answer) → the answer that is sent."""
LONGEST_WAIT_SECONDS = 0.2
"""Of a long poll, whatever was asked for: tests end soon."""
START_SECONDS = 20.0


@dataclass
class AuditSource:
    """What a test sets of a source, and sees of it."""

    store: ChainStore
    genesis: Genesis = field(default_factory=world.genesis)
    top: int | None = None
    """The height that it shows as its last, if not its store's."""
    tamper: Tamper | None = None
    hang: Callable[[str], bool] = lambda _: False
    """Which answers begin and then stop."""
    flood: Callable[[str], bool] = lambda _: False
    """Which are answered without end."""
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def height(self) -> int:
        height = self.store.height() or 0
        return height if self.top is None else min(self.top, height)

    # --- what a node answers ------------------------------------------------------------------

    async def sync(self, request: web.Request) -> web.Response:
        first, wait = int(request.query["first"]), float(request.query["wait"])
        if first > self.height():
            await asyncio.sleep(min(wait, LONGEST_WAIT_SECONDS))
        answer = sync_response(_UpTo(self.store, self.height()), first)
        return self._answer(request, None if answer is None else encode_message(answer))

    async def blocks(self, request: web.Request) -> web.Response:
        page = {"blocks": [self._view(self.height())], "next": None}
        return self._answer(request, msgspec.json.encode(page))

    async def block(self, request: web.Request) -> web.Response:
        height = int(request.match_info["height"])
        if height > self.height():
            return web.Response(status=404)
        return self._answer(request, msgspec.json.encode(self._view(height)))

    def _view(self, height: int) -> dict[str, object]:
        header = self.store.header(height)
        assert header is not None
        return {
            "height": height,
            "digest": header_digest(header).hex(),
            "chain_id": self.genesis.chain_id.hex(),
            "certificate": self._certificate(height),
        }

    def _certificate(self, height: int) -> dict[str, object] | None:
        found = self.store.finalization_at_or_above(height)
        if found is None or found[1].content is None:
            return None
        at, certificate = found
        content = certificate.content
        assert content is not None
        return {
            "epoch": certificate.epoch,
            "view": certificate.view,
            "kind": "finalization",
            "parent_view": content.parent_view,
            "block": content.block.hex(),
            "height": at,
            "signatures": [
                {"validator": voter, "signature": each.hex()}
                for voter, each in certificate.signatures
            ],
        }

    def _answer(self, request: web.Request, body: bytes | None) -> web.Response:
        if body is None:
            return web.Response(status=204)
        return web.Response(
            body=body if self.tamper is None else self.tamper(request.path_qs, body)
        )


class _UpTo(ChainStore):
    """A store that has nothing above a height."""

    def __init__(self, store: ChainStore, top: int) -> None:
        self.__dict__.update(store.__dict__)
        self._top = top

    def block(self, height: int) -> bytes | None:
        return super().block(height) if height <= self._top else None


@asynccontextmanager
async def serving(source: AuditSource) -> AsyncIterator[AuditSource]:
    """Serve it; ended with everything that waits."""

    @web.middleware
    async def lying(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path_qs
        source.asked.append(path)
        if source.flood(path) or source.hang(path):
            response = web.StreamResponse()
            await response.prepare(request)
            while source.flood(path):
                await response.write(bytes(1 << 20))
            await response.write(b"x")
            await asyncio.Event().wait()
        return await handler(request)

    app = web.Application(middlewares=[lying])
    app.add_routes(
        [
            web.get("/v1/sync", source.sync),
            web.get("/v1/blocks", source.blocks),
            web.get("/v1/blocks/{height}", source.block),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    source.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield source
    finally:
        await runner.cleanup()


@contextmanager
def threaded(*sources: AuditSource) -> Iterator[None]:
    """Serve them from a thread, for a test that runs a command."""
    loop = asyncio.new_event_loop()
    stop, ready = asyncio.Event(), threading.Event()

    async def run() -> None:
        async with AsyncExitStack() as stack:
            for source in sources:
                await stack.enter_async_context(serving(source))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert ready.wait(START_SECONDS)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@asynccontextmanager
async def webhook(
    statuses: list[int],
) -> AsyncIterator[tuple[str, asyncio.Queue[dict[str, object]]]]:
    """Where alarms are posted to: its URL and what came. `statuses`: its next answers, then 200."""
    came: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        if statuses:
            return web.Response(status=statuses.pop(0))
        came.put_nowait(await request.json())
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/hook", take)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", came
    finally:
        await runner.cleanup()
