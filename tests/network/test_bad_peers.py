"""Whatever a peer or a stranger does at a link: refused with a reason, counted, within a bound."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientError

from node.engine.metrics import Metrics
from node.network.frames import (
    CHANNEL_LIMIT,
    CHUNK_BYTES,
    MAX_FRAME_BYTES,
    MAX_PARTIAL_BYTES,
    MORE_CHUNKS,
    Channel,
    pack,
)
from node.network.link import MAX_LINK_BYTES
from node.network.links import Limits, Refusal
from node.network.outbox import MAX_OUTBOX_BYTES
from tests.support.peers import (
    CHAIN_ID,
    OTHER_CHAIN_ID,
    Impostor,
    Member,
    hello,
    identity,
    impostor,
    member,
    node_key,
    pins,
    running,
)

LIMITS = Limits(
    watch_seconds=0.05, silent_watches=1000, handshakes=3, payloads_per_second=1e-3,
    burst_payloads=2000.0,
)  # fmt: skip
"""At this rate nothing is earned back during a test."""
DEAF = Limits(watch_seconds=0.1, silent_watches=8)
MAX_HELD_BYTES = MAX_LINK_BYTES
"""Of all that a peer does here; the flood and the deaf peer come near it, in their channel."""


@dataclass
class Case:
    """What somebody does, and what it is called."""

    name: str
    act: Callable[[Member], Awaitable[None]]
    reason: Refusal
    detail: str
    limits: Limits = LIMITS


def linked(
    act: Callable[[Member, Impostor], Awaitable[None]],
) -> Callable[[Member], Awaitable[None]]:
    """What validator 0 does on an open link."""

    async def run(victim: Member) -> None:
        async with impostor(0, victim) as peer:
            await peer.greet(hello())
            await victim.until_linked(0)
            await act(victim, peer)

    return run


def sends(*frames: bytes) -> Callable[[Member], Awaitable[None]]:
    async def act(victim: Member, peer: Impostor) -> None:
        for frame in frames:
            await peer.socket.send_bytes(frame)
        await peer.until_dropped()

    return linked(act)


async def never_finishes(victim: Member, peer: Impostor) -> None:
    """Every payload of every channel is begun, none ends; then one chunk more."""
    for channel in Channel:
        chunk = pack([(MORE_CHUNKS + channel, bytes(CHUNK_BYTES))])
        for _ in range(CHANNEL_LIMIT[channel] // CHUNK_BYTES):
            await peer.socket.send_bytes(chunk)
    full = sum(limit // CHUNK_BYTES * CHUNK_BYTES for limit in CHANNEL_LIMIT.values())
    await victim.until_idle(lambda: victim.network.links()[0].unfinished_bytes == full)
    assert full <= MAX_PARTIAL_BYTES
    await peer.socket.send_bytes(pack([(MORE_CHUNKS + Channel.SYNC, bytes(CHUNK_BYTES))]))
    await peer.until_dropped()


async def floods(victim: Member, peer: Impostor) -> None:
    frame = pack([(Channel.MEMPOOL, bytes(500))] * 100)
    flood = asyncio.create_task(send_for_ever(peer, frame))
    await victim.until_refused(Refusal.FLOOD)
    [status] = (link for link in victim.network.links() if link.index == 0)
    assert status.connected, "held back, not cut off: it may be busy and honest"
    # The burst, and the frame with which it went into debt; one is read before it is charged.
    assert status.received_payloads <= LIMITS.burst_payloads + 100
    assert status.received_bytes < (LIMITS.burst_payloads + 200) * 600
    flood.cancel()
    await asyncio.wait([flood])


async def send_for_ever(peer: Impostor, frame: bytes) -> None:
    with suppress(ClientError, OSError):
        while True:
            await peer.socket.send_bytes(frame)
            await asyncio.sleep(0)


async def reads_nothing(victim: Member, peer: Impostor) -> None:
    talk = asyncio.create_task(send_for_ever(peer, pack([(Channel.SYNC, b"x")])))
    for channel in Channel:
        await victim.fill(0, channel)
    status = victim.network.links()[0]
    assert status.dropped_payloads >= 3
    assert MAX_OUTBOX_BYTES / 2 < status.queued_bytes <= MAX_OUTBOX_BYTES
    await victim.until_refused(Refusal.STUCK)
    talk.cancel()
    await asyncio.wait([talk])


async def two_nodes(victim: Member) -> None:
    async with AsyncExitStack() as stack:
        for instance in (1, 2, 1):
            peer = await stack.enter_async_context(impostor(0, victim))
            await peer.greet(hello(instance))
            await victim.until(lambda: victim.network.links()[0].connected)
        await peer.until_dropped()


async def other_chain(victim: Member) -> None:
    await dials(victim, own=0, chain_id=OTHER_CHAIN_ID)


async def unknown_key(victim: Member) -> None:
    await dials(victim, own=7)


async def dials(victim: Member, own: int, chain_id: bytes = CHAIN_ID) -> None:
    """A handshake in which the dialing end checks nothing, more often than any may be under way."""
    context = identity(own, chain_id).client_context(pins(own, 8), node_key(victim.index))
    context.verify_mode = ssl.CERT_NONE
    for _ in range(2 * LIMITS.handshakes):
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(
                *victim.network.listening, ssl=context, server_hostname=""
            )
            await reader.read()
            writer.close()
        assert victim.network.handshakes <= LIMITS.handshakes


CASES = [
    Case(
        "frame too large", sends(bytes(MAX_FRAME_BYTES + 1)), Refusal.MALFORMED,
        f"exceeds limit {MAX_FRAME_BYTES + 1}",
    ),
    Case(
        "truncated frame", sends(pack([(Channel.SYNC, b"abc")])[:-1]), Refusal.MALFORMED,
        "part of 3 bytes in 2 bytes",
    ),
    Case("unknown channel", sends(pack([(9, b"x")])), Refusal.MALFORMED, "unknown tag 9"),
    Case(
        "payload that never ends", linked(never_finishes), Refusal.MALFORMED,
        f"payload above {CHANNEL_LIMIT[Channel.SYNC]} bytes on SYNC",
    ),
    Case("flood", linked(floods), Refusal.FLOOD, "above its rate"),
    Case("reads nothing", linked(reads_nothing), Refusal.STUCK, "does not read", DEAF),
    Case("other chain", other_chain, Refusal.WRONG_CHAIN, "certificate verify failed"),
    Case("unknown key", unknown_key, Refusal.UNKNOWN_KEY, node_key(7).hex()),
    Case("two nodes with one key", two_nodes, Refusal.TWO_NODES, "stop one of them"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_it_is_refused_with_a_reason_counted_and_held_within_a_bound(case: Case) -> None:
    metrics = Metrics()
    victim = member(2, {}, limits=case.limits)
    report = victim.on_refusal

    def on_refusal(refusal: Refusal, detail: str) -> None:
        # As the node does it.
        metrics.refused_links.labels(refusal.value).inc()
        report(refusal, detail)

    victim.network = member(
        2, {}, limits=case.limits, on_refusal=on_refusal,
        on_message=victim.on_message, on_link=victim.on_link,
    ).network  # fmt: skip
    async with running(victim):
        # An honest validator is served meanwhile.
        honest = member(1, {2: victim.network.listening}, limits=LIMITS)
        async with running(honest):
            await honest.until_linked(2)
            most = Most(victim)
            await case.act(victim)
            detail = await victim.until_refused(case.reason)
            assert case.detail in detail
            assert victim.network.refusals[case.reason] >= 1
            count = f'nostro_refused_links_total{{reason="{case.reason.value}"}}'
            assert count in metrics.text()
            assert most.stop() <= MAX_HELD_BYTES
            assert honest.network.send(2, Channel.CONSENSUS, b"vote")
            await victim.until(lambda: (1, Channel.CONSENSUS, b"vote") in victim.received)
            assert not honest.refused


class Most:
    """The most that a member held for its peers at any turn of the loop."""

    def __init__(self, one: Member) -> None:
        self._one = one
        self._most = 0
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            held = sum(s.queued_bytes + s.unfinished_bytes for s in self._one.network.links())
            self._most = max(self._most, held)
            await asyncio.sleep(0.001)

    def stop(self) -> int:
        self._task.cancel()
        return self._most


def test_the_bound_is_the_one_that_the_documentation_states() -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md").read_text()
    assert f"at most {MAX_OUTBOX_BYTES >> 20} MiB that" in page
    assert f"and {MAX_PARTIAL_BYTES >> 20} MiB that it does not finish" in page
