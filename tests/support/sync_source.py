"""A node's sync resources on a real socket, over any store, that can be made to lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from node.api.problems import Refused
from node.api.requests import Handler, problem_response
from node.api.sync_routes import SyncRoutes
from node.chain.genesis import Genesis
from node.chain.types import ValidatorSet
from node.engine.snapshot import Snapshots
from node.engine.sync import SyncServer
from node.storage.chain_store import ChainStore
from node.storage.horizon import load_horizon
from node.storage.kv import KeyValue

Tamper = Callable[[str, bytes], bytes]
"""tamper(path and query, the honest answer) → the answer that is sent."""


@dataclass
class SyncSourceServer:
    """What a test sees of the source."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    """Path and query of every request."""
    tamper: Tamper | None = None
    stall: Callable[[str], bool] = lambda _: False
    """For which requests the answer begins and then stops."""
    flood: Callable[[str], bool] = lambda _: False
    """Which requests are answered without end."""
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once an answer has stopped."""
    server: SyncServer | None = None
    genesis_file: bytes = b""
    """What `GET /v1/genesis` gives."""


@asynccontextmanager
async def sync_source(
    kv: KeyValue,
    genesis: Genesis,
    directory: Path,
    validator_set_of: Callable[[int], ValidatorSet | None] | None = None,
) -> AsyncIterator[SyncSourceServer]:
    """Serve a store; ended with everything that waits. `validator_set_of`: of a chain that has
    more than one epoch."""
    told = SyncSourceServer()
    store = ChainStore(kv)

    def height() -> int:
        return store.height() or 0

    def set_of(epoch: int) -> ValidatorSet | None:
        return genesis.validator_set if epoch == 0 else None

    snapshots = Snapshots(
        kv,
        directory / "snapshots",
        uetr_window_ms=genesis.parameters.uetr_window_ms,
        height=height,
        every=0.0,
    )
    readers = ThreadPoolExecutor(1)
    told.server = SyncServer(
        store,
        height=height,
        horizon=lambda: load_horizon(kv),
        validator_set_of=validator_set_of or set_of,
        snapshots=snapshots,
        readers=readers,
    )
    routes = SyncRoutes(told.server)

    @web.middleware
    async def lying(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path_qs
        told.asked.append(path)
        if told.flood(path):
            return await _flood(request)
        if told.stall(path):
            return await _stall(request, told.stalled)
        try:
            if told.tamper is None:
                return await handler(request)
            return await _tampered(told, request)
        except Refused as refused:
            return problem_response(refused.problem)

    app = web.Application(middlewares=[lying])
    routes.add_to(app)

    async def genesis_file(_: web.Request) -> web.Response:
        return web.Response(body=told.genesis_file)

    app.router.add_get("/v1/genesis", genesis_file)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    told.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield told
    finally:
        routes.end_waits()
        await runner.cleanup()
        await snapshots.stop()
        readers.shutdown()


async def _tampered(told: SyncSourceServer, request: web.Request) -> web.StreamResponse:
    """What the source would say, changed."""
    source, path = told.server, request.path
    assert source is not None
    assert told.tamper is not None
    first = int(request.query.get("first", "0"))
    data: bytes | None
    if path == "/v1/sync":
        if first > source.height():
            return web.Response(status=204)
        data = await source.blocks(first)
    elif path == "/v1/genesis":
        data = told.genesis_file
    elif path == "/v1/epochs":
        data = await source.epochs(first)
    elif path == "/v1/window":
        data = await source.window(first)
    elif path == "/v1/snapshot":
        data = await source.manifest()
    else:
        data = await source.chunk(bytes.fromhex(path.rpartition("/")[2]))
    assert data is not None
    return web.Response(body=told.tamper(request.path_qs, data))


async def _flood(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(1 << 20))


async def _stall(request: web.Request, stalled: asyncio.Event) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 1_000
    await response.prepare(request)
    await response.write(b"x")
    stalled.set()
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
