"""Rates, backoff, and the twin without sockets."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from node.network.frames import Channel
from node.network.links import Limits, PeerLinks, backoff_seconds
from node.network.memory import MemoryLinks, MemoryNetwork
from node.network.outbox import MAX_QUEUED
from node.network.peers import PeerNetwork
from node.network.rate import TokenBucket


def test_a_bucket_lends_but_never_gives_more_than_its_rate() -> None:
    bucket = TokenBucket(rate=10.0, burst=20.0)
    assert bucket.take(20.0, now=100.0) == 0.0
    assert bucket.take(5.0, now=100.0) == 0.5
    assert bucket.take(5.0, now=100.5) == 0.5
    # A long rest fills it to the burst, no further.
    assert bucket.take(20.0, now=1000.0) == 0.0
    assert bucket.take(1.0, now=1000.0) == 0.1
    # A clock that goes back earns nothing.
    assert bucket.take(1.0, now=0.0) == 0.2


@given(st.integers(0, 10_000), st.floats(0.0, 1.0, exclude_max=True))
def test_backoff_grows_within_its_bounds(attempt: int, jitter: float) -> None:
    limits = Limits()
    wait = backoff_seconds(attempt, jitter, limits)
    assert limits.backoff_first_seconds / 2 <= wait <= limits.backoff_cap_seconds
    assert wait <= backoff_seconds(attempt + 1, jitter, limits)
    assert wait <= backoff_seconds(attempt, 0.0, limits)


class Recorder:
    def __init__(self) -> None:
        self.received: list[tuple[int, Channel, bytes]] = []
        self.events: list[tuple[int, bool]] = []

    def on_message(self, peer: int, channel: Channel, payload: bytes) -> None:
        self.received.append((peer, channel, payload))

    def on_link(self, peer: int, up: bool) -> None:
        self.events.append((peer, up))


def end(network: MemoryNetwork, index: int) -> tuple[MemoryLinks, Recorder]:
    recorder = Recorder()
    return network.links(index, recorder.on_message, recorder.on_link), recorder


def both_kinds(memory: MemoryLinks, sockets: PeerNetwork) -> tuple[PeerLinks, PeerLinks]:
    """Both are `PeerLinks`: checked by mypy."""
    return memory, sockets


async def turn() -> None:
    """One turn of the loop: what is due is delivered."""
    await asyncio.sleep(0)


async def test_memory_links_deliver_in_order_and_report_up_and_down() -> None:
    network = MemoryNetwork(["a", "b", "c"])
    (zero, at0), (one, at1), (two, at2) = (end(network, index) for index in range(3))
    for links in (zero, one, two):
        await links.start()
    assert sorted(at0.events) == [(1, True), (2, True)]
    assert zero.send(1, Channel.CONSENSUS, b"x")
    assert zero.broadcast(Channel.MEMPOOL, b"y") == 2
    assert at1.received == []
    await turn()
    assert at1.received == [(0, Channel.CONSENSUS, b"x"), (0, Channel.MEMPOOL, b"y")]
    assert at2.received == [(0, Channel.MEMPOOL, b"y")]

    # What is on its way when the link is cut is lost, as with a real one.
    zero.send(1, Channel.SYNC, b"lost")
    network.cut(0, 1)
    assert not zero.send(1, Channel.SYNC, b"dropped")
    network.mend(0, 1)
    zero.send(1, Channel.SYNC, b"z")
    await turn()
    assert at1.received[2:] == [(0, Channel.SYNC, b"z")]
    assert at1.events[-2:] == [(0, False), (0, True)]

    await one.stop()
    zero.send(1, Channel.SYNC, b"nobody there")
    await turn()
    assert at0.events[-1] == (1, False)
    assert at1.events[-1] == (0, True)
    assert [link.connected for link in zero.links()] == [False, True]
    assert zero.links()[0].dropped_payloads == 2

    again, at1 = end(network, 1)
    await again.start()
    zero.send(1, Channel.SYNC, b"back")
    await turn()
    assert at1.received == [(0, Channel.SYNC, b"back")]


async def test_memory_links_have_the_bounds_of_real_ones() -> None:
    network = MemoryNetwork(["a", "b"])
    (zero, _), (one, at1) = (end(network, index) for index in range(2))
    await zero.start()
    await one.start()
    taken = sum(zero.send(1, Channel.SYNC, b"x") for _ in range(MAX_QUEUED[Channel.SYNC] + 3))
    assert taken == MAX_QUEUED[Channel.SYNC]
    assert zero.queued(1, Channel.SYNC) == zero.links()[0].queued_bytes == taken
    await turn()
    assert zero.queued(1, Channel.SYNC) == 0
    assert len(at1.received) == taken
    assert zero.send(1, Channel.SYNC, b"x")
