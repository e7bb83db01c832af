"""The resources that other nodes sync from: long polls without polling, bounds for each client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from node.api.problems import Refused
from node.api.server import ApiServer
from node.api.sync_routes import HEIGHT_HEADER, MAX_ANSWERS_OF_CLIENT, SYNC_TYPE
from tests.support.fake_node import FakeNode
from tests.support.ledger_world import World

BOUND_SECONDS = 20.0


@dataclass
class Source:
    """A `SyncSource` whose answers a test holds back."""

    tip: int = 3
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    reads: int = 0

    def height(self) -> int:
        return self.tip

    async def wait(self, height: int, seconds: float) -> bool:
        self.waiting += 1
        await self.grown.wait()
        return self.tip >= height

    async def blocks(self, first: int) -> bytes | None:
        self.reads += 1
        return None if first > self.tip else b"blocks from %d" % first

    async def epochs(self, first: int) -> bytes:
        return b"\x90"

    async def window(self, first: int) -> bytes:
        raise Refused("pruned", "not kept here")

    async def manifest(self) -> bytes:
        self.reads += 1
        await self.gate.wait()
        return b"manifest"

    async def chunk(self, digest: bytes) -> bytes | None:
        return b"chunk" if digest == bytes(32) else None


@dataclass
class Served:
    source: Source
    session: aiohttp.ClientSession
    url: str

    async def get(self, path: str) -> tuple[int, bytes]:
        async with self.session.get(self.url + path) as response:
            return response.status, await response.read()

    async def problem(self, path: str) -> str:
        async with self.session.get(self.url + path) as response:
            assert response.content_type == "application/problem+json"
            return str((await response.json())["type"]).rpartition(":")[2]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    source = Source()
    server = ApiServer(FakeNode(World.make()), sync=source)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Served(source, session, server.url)
    finally:
        await server.stop()


async def test_what_is_final_is_given_at_once_and_says_how_far_the_node_is(
    served: Served,
) -> None:
    async with served.session.get(served.url + "/v1/sync?first=2&wait=60") as response:
        assert await response.read() == b"blocks from 2"
        assert response.content_type == SYNC_TYPE
        assert response.headers[HEIGHT_HEADER] == "3"
    assert await served.get("/v1/epochs") == (200, b"\x90")
    assert await served.get(f"/v1/snapshot/chunks/{'00' * 32}") == (200, b"chunk")


async def test_a_long_poll_reads_nothing_until_its_height_is_final(served: Served) -> None:
    asked = asyncio.create_task(served.get("/v1/sync?first=4&wait=60"))
    async with asyncio.timeout(BOUND_SECONDS):
        while not served.source.waiting:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
    assert served.source.reads == 0
    served.source.tip = 4
    served.source.grown.set()
    assert await asked == (200, b"blocks from 4")


async def test_without_a_wait_nothing_yet_is_no_content(served: Served) -> None:
    assert await served.get("/v1/sync?first=4") == (204, b"")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/sync", "bad-parameter"),
        ("/v1/sync?first=0", "bad-parameter"),
        ("/v1/sync?first=-1", "bad-parameter"),
        ("/v1/sync?first=1&wait=61", "bad-parameter"),
        ("/v1/sync?first=1&wate=1", "bad-parameter"),
        ("/v1/window?first=1", "pruned"),
        ("/v1/snapshot/chunks/xyz", "bad-parameter"),
        (f"/v1/snapshot/chunks/{'11' * 32}", "not-found"),
    ],
)
async def test_bad_requests_are_refused_by_name(served: Served, path: str, code: str) -> None:
    assert await served.problem(path) == code


async def test_a_client_has_few_large_answers_under_way_at_a_time(served: Served) -> None:
    asked = [asyncio.create_task(served.get("/v1/snapshot")) for _ in range(MAX_ANSWERS_OF_CLIENT)]
    async with asyncio.timeout(BOUND_SECONDS):
        while served.source.reads < MAX_ANSWERS_OF_CLIENT:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert await served.problem("/v1/snapshot") == "busy"
    served.source.gate.set()
    assert {await task for task in asked} == {(200, b"manifest")}
    assert await served.get("/v1/snapshot") == (200, b"manifest")


async def test_a_node_that_offers_no_chain_says_so() -> None:
    server = ApiServer(FakeNode(World.make()))
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            assert await Served(Source(), session, server.url).problem(
                "/v1/snapshot"
            ) == "not-found"  # fmt: skip
    finally:
        await server.stop()
