"""The client: which node it asks, what it concludes from silence, and what it never does twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from node.api.client import ApiClient, ApiProblem, BadAnswer, Unreachable
from node.api.server import ApiServer
from node.api.service import SubmissionRefused
from tests.support.fake_node import FakeNode, wall
from tests.support.ledger_world import DAY_MS, World

UNUSED = "eb6305c9-1f7f-49de-aed0-16487c27b42d"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def node() -> FakeNode:
    made = FakeNode(World.make())
    made.chain.fund()
    return made


@pytest.fixture
async def server(node: FakeNode) -> AsyncIterator[ApiServer]:
    made = ApiServer(node)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Starts a server that answers everything with one handler, and gives its URL."""
    runners = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def cut(request: web.Request) -> web.StreamResponse:
    """Takes the request and closes the connection without an answer."""
    await request.read()
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def pay(node: FakeNode) -> bytes:
    payment = node.world.payment("BANKA", "BANKB", 100)
    return node.world.pay("BANKA", payment, valid_until=wall() + DAY_MS).raw


DEAD = "http://127.0.0.1:1"


async def test_no_connection_means_not_submitted() -> None:
    async with ApiClient([DEAD]) as client:
        with pytest.raises(Unreachable) as caught:
            await client.submit(b"x")
    assert caught.value.outcome == "not submitted"


async def test_a_lost_answer_means_unknown(
    serve: Callable[[Handler], Awaitable[str]],
) -> None:
    async with ApiClient([await serve(cut), DEAD]) as client:
        with pytest.raises(Unreachable) as caught:
            await client.submit(b"x")
    assert caught.value.outcome == "unknown"


async def test_a_submission_whose_answer_was_lost_goes_to_the_next_node(
    node: FakeNode, server: ApiServer, serve: Callable[[Handler], Awaitable[str]]
) -> None:
    raw = pay(node)
    async with ApiClient([DEAD, await serve(cut), server.url]) as client:
        receipt = await client.submit(raw)
        assert receipt.height == 1
        # Those that did not answer are asked last from now on.
        assert client.urls[0] == server.url
    assert node.submissions == [raw]


async def test_a_full_node_is_passed_over_but_a_refusal_is_final(
    node: FakeNode, server: ApiServer
) -> None:
    other = FakeNode(node.world)
    other.refusal = SubmissionRefused("mempool-full", "no room")
    second = ApiServer(other)
    await second.start()
    try:
        async with ApiClient([second.url, server.url]) as client:
            await client.submit(pay(node))
            other.refusal = SubmissionRefused("unknown-key", "no such key")
            with pytest.raises(ApiProblem) as caught:
                await client.submit(pay(node))
    finally:
        await second.stop()
    assert caught.value.code == "unknown-key"
    assert len(node.submissions) == 1


async def test_a_refusal_after_a_lost_answer_leaves_the_outcome_unknown(
    node: FakeNode, server: ApiServer, serve: Callable[[Handler], Awaitable[str]]
) -> None:
    node.refusal = SubmissionRefused("mempool-full", "no room")
    async with ApiClient([await serve(cut), server.url]) as client:
        with pytest.raises(ApiProblem) as caught:
            await client.submit(pay(node))
    assert caught.value.outcome == "unknown"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"hello"),
        (200, b"{}"),
        (404, b"not here"),
        (500, b'{"type":"about:blank","title":"","status":500,"detail":"","outcome":"final"}'),
        (500, b'{"type":"urn:nostro:problem:x"}'),
    ],
)
async def test_what_is_no_node_is_told_apart(
    serve: Callable[[Handler], Awaitable[str]], status: int, body: bytes
) -> None:
    async def nonsense(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    async with ApiClient([await serve(nonsense)]) as client:
        with pytest.raises(BadAnswer, match="nostro"):
            await client.status()


async def test_waiting_goes_on_at_another_node_when_one_dies(
    node: FakeNode, server: ApiServer
) -> None:
    node.finalizing = False
    dying = FakeNode(node.world, finalizing=False)
    first = ApiServer(dying)
    await first.start()
    raw = pay(node)
    async with ApiClient([first.url, server.url]) as client:
        await client.submit(raw)
        await node.submit([raw])
        uetr = str(_uetr(node))
        waiting = asyncio.create_task(client.payment(uetr, wait=30))
        await dying.until_watchers(1)
        await first.stop()
        await node.until_watchers(1)
        node.finalize()
        view = await waiting
    assert view is not None
    assert view.status == "settled"


def _uetr(node: FakeNode) -> str:
    from node.chain.uetr import uetr_text  # noqa: PLC0415

    return uetr_text(node.waiting[0].instruction.payments[0].uetr)


async def test_lists_are_read_to_their_end(node: FakeNode, server: ApiServer) -> None:
    async with ApiClient([server.url]) as client:
        assert len(await client.participants()) == len(node.world.banks)
        assert [asset.code for asset in await client.assets()] == ["CNY", "EUR"]
        assert (await client.accounts()).height == 1
        assert (await client.accounts("BANKA")).balances[0].amount == "10000.00"
        assert (await client.block(1)).height == 1
        assert await client.genesis() == node.genesis_bytes
        assert await client.payment(UNUSED) is None
        assert await client.lookup([UNUSED] * 1500) == [None] * 1500


async def test_events_are_told_in_order_from_where_the_client_left(
    node: FakeNode, server: ApiServer
) -> None:
    async with ApiClient([server.url]) as client:
        seen = []
        async for event in client.events((0, 0)):
            seen.append((event.height, event.index))
            if len(seen) == 3:
                break
    assert seen == [(1, 0), (1, 1), (1, 2)]
