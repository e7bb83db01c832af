"""Links that are held carry nothing, slow ones carry late and in order, lossy ones lose what the
seed says; and only a devnet can have any of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from node.chain.genesis import Genesis
from node.engine.clock import WallClock
from node.network.faults import (
    ENV_FAULTS,
    SOCKET_NAME,
    BadOrder,
    FaultControl,
    Faults,
    NotObeyed,
    decode_faults,
    devnet_faults,
    order,
)
from node.network.frames import CHANNEL_LIMIT, Channel
from node.network.impairment import Impairment
from node.network.link import RELEASE_TICK_SECONDS
from node.network.links import Limits, LinkFault, Refusal
from node.network.memory import MemoryNetwork
from node.network.outbox import MAX_OUTBOX_BYTES, MAX_QUEUED, Outbox
from node.storage.errors import HomeError
from tests.support import world
from tests.support.peers import Member, cluster, member, running

EAGER = Limits(backoff_first_seconds=0.001, backoff_cap_seconds=0.01)
HELD = LinkFault(held=True)


def hold(one: Member, *peers: int) -> None:
    """Hold the links to exactly these peers down."""
    one.network.impair({f"node{peer}": HELD for peer in peers})


# --- held down --------------------------------------------------------------------------------


@pytest.mark.parametrize(("holder", "other"), [(0, 1), (1, 0)])
async def test_a_held_link_is_cut_refused_from_both_ends_and_comes_back(
    holder: int, other: int
) -> None:
    async with cluster(3, limits=EAGER) as members:
        own, peer = members[holder], members[other]
        peer.network.send(holder, Channel.CONSENSUS, b"on its way")
        hold(own, other)
        assert own.events[-1] == (other, False)
        assert not own.network.send(other, Channel.CONSENSUS, b"x")
        await own.until_refused(Refusal.HELD_DOWN)
        await peer.until(lambda: (holder, False) in peer.events)
        if other < holder:
            # It dials on, and is turned away.
            await own.until_refused(Refusal.HELD_DOWN, times=3)
            await peer.until_refused(Refusal.REJECTED, times=2)
        assert own.connected() == {2}
        assert own.payloads(other) == 0, "delivered after the link was to be held down"
        hold(own, other)

        hold(own)
        await own.until_linked(other)
        await peer.until_linked(holder)
        assert peer.network.send(holder, Channel.CONSENSUS, b"back")
        await own.until_received(1)
        assert own.received == [(other, Channel.CONSENSUS, b"back")]


async def test_a_link_held_down_by_both_ends_comes_back_when_both_let_it_up() -> None:
    async with cluster(2, limits=EAGER) as (first, second):
        hold(first, 1)
        hold(second, 0)
        hold(first)
        await first.until_refused(Refusal.REJECTED, times=2)
        assert not first.connected()
        hold(second)
        await first.until_linked(1)
        await second.until_linked(0)


async def test_a_link_held_down_before_the_start_never_opens() -> None:
    second = member(1, {}, count=2)
    async with running(second):
        first = member(0, {1: second.network.listening}, count=2, limits=EAGER)
        hold(second, 0)
        async with running(first):
            await second.until_refused(Refusal.HELD_DOWN, times=2)
            assert not first.events
            assert not second.events


async def test_memory_links_are_held_down_by_either_end() -> None:
    network = MemoryNetwork(["a", "b"])
    events: list[tuple[int, bool]] = []
    zero = network.links(0, lambda *_: None, lambda peer, up: events.append((peer, up)))
    one = network.links(1, lambda *_: None, lambda *_: None)
    one.impair({"a": HELD})
    await zero.start()
    await one.start()
    assert events == []
    zero.impair({"b": HELD})
    one.impair({})
    assert not one.send(0, Channel.SYNC, b"x")
    zero.impair({})
    zero.impair({"b": HELD})
    assert events == [(1, True), (1, False)]


# --- the control ------------------------------------------------------------------------------


class Faulty:
    """Links that remember what is to be wrong with them."""

    def __init__(self) -> None:
        self.faults: Mapping[str, LinkFault] = {}

    def impair(self, faults: Mapping[str, LinkFault]) -> None:
        self.faults = faults

    def lost(self) -> dict[str, int]:
        return {"node3": 12}


@pytest.fixture
def genesis() -> Genesis:
    return structs.replace(world.genesis(), devnet=True)


def files(home: Path) -> list[Path]:
    return list(home.iterdir())


def taking_orders(genesis: Genesis, links: Faulty, home: Path, **more: Any) -> Any:
    arguments: dict[str, Any] = {
        "set_clock_offset": WallClock().set_offset,
        "own_name": "node0",
        "home": home,
        "environment": {},
    }
    arguments |= more
    return devnet_faults(genesis, links, **arguments)


async def test_an_order_says_all_that_is_to_be_wrong(genesis: Genesis, tmp_path: Path) -> None:
    links, clock = Faulty(), WallClock()
    async with taking_orders(genesis, links, tmp_path, set_clock_offset=clock.set_offset):
        lost = await order(
            tmp_path,
            {
                "held": ["node1"],
                "delay_ms": {"node2": 50},
                "jitter_ms": {"node2": 10.5},
                "loss": {"node2": 0.25, "node3": 1},
                "seed": 7,
                "clock_offset_ms": -1500,
            },
        )
        assert lost == {"node3": 12}
        assert links.faults == {
            "node1": LinkFault(held=True, seed=7),
            "node2": LinkFault(delay_ms=50, jitter_ms=10.5, loss=0.25, seed=7),
            "node3": LinkFault(loss=1, seed=7),
        }
        assert clock.offset_ms == -1500
        await order(tmp_path, {"held": ["node1", "node2"]})
        assert links.faults == {"node1": HELD, "node2": HELD}
        assert clock.offset_ms == 0
        await order(tmp_path, {})
        assert links.faults == {}
    with pytest.raises(NotObeyed, match="cannot be reached"):
        await order(tmp_path, {})
    assert files(tmp_path) == []


async def test_faults_are_there_from_the_start_by_the_environment(
    genesis: Genesis, tmp_path: Path
) -> None:
    links = Faulty()
    wanted = Faults(held=("node1", "node3"), delay_ms={"node2": 5})
    async with taking_orders(
        genesis, links, tmp_path, environment={ENV_FAULTS: wanted.encoded()}
    ) as control:
        assert control.faults == wanted
        assert links.faults == wanted.links()
    with pytest.raises(HomeError, match=f"{ENV_FAULTS} cannot be followed"):
        async with taking_orders(
            genesis, links, tmp_path, environment={ENV_FAULTS: '{"held": ["node0"]}'}
        ):
            pass


def test_an_order_for_the_link_to_itself_changes_nothing() -> None:
    links = Faulty()
    control = FaultControl(links, WallClock().set_offset, "node0")
    control.order(Faults(held=("node1",)))
    with pytest.raises(BadOrder, match="node0 is this node"):
        control.order(Faults(held=("node2",), loss={"node0": 0.5}))
    assert links.faults == {"node1": HELD}


NO_ORDERS = [
    "",
    "[]",
    '{"hold": ["node1"]}',
    '{"held": "node1"}',
    '{"held": [1]}',
    '{"held": [""]}',
    '{"delay_ms": {"node1": -1}}',
    '{"delay_ms": {"node1": 60001}}',
    '{"jitter_ms": {"node1": "5"}}',
    '{"loss": {"node1": 1.01}}',
    '{"loss": {"node1": NaN}}',
    '{"loss": 0.5}',
    '{"seed": -1}',
    '{"clock_offset_ms": 1e99}',
    '{"clock_offset_ms": 31622400001}',
    json.dumps({"held": [f"node{n}" for n in range(257)]}),
]


@pytest.mark.parametrize("line", NO_ORDERS)
def test_what_is_no_order_is_refused(line: str) -> None:
    with pytest.raises(BadOrder, match="not an order"):
        decode_faults(line)


async def test_the_control_says_why_it_does_not_obey(genesis: Genesis, tmp_path: Path) -> None:
    links = Faulty()
    async with taking_orders(genesis, links, tmp_path):
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        writer.write(b"\xff\n")
        answer = json.loads(await asyncio.wait_for(reader.readline(), 10))
        writer.close()
        assert "not an order" in answer["error"]
        with pytest.raises(NotObeyed, match=r"loss"):
            await order(tmp_path, {"loss": {"node1": 2}})
    assert not links.faults


async def test_a_production_node_has_no_such_control(genesis: Genesis, tmp_path: Path) -> None:
    links, clock = Faulty(), WallClock()
    production = structs.replace(genesis, devnet=False)
    wanted = Faults(held=("node1",), clock_offset_ms=5)
    async with taking_orders(
        production,
        links,
        tmp_path,
        environment={ENV_FAULTS: wanted.encoded()},
        set_clock_offset=clock.set_offset,
    ) as control:
        assert control is None
        assert files(tmp_path) == []
        assert not links.faults
        assert clock.offset_ms == 0
        with pytest.raises(NotObeyed, match="cannot be reached"):
            await order(tmp_path, {})


# --- slow and lossy ---------------------------------------------------------------------------


def test_delayed_payloads_leave_when_due_in_order_and_within_the_bounds() -> None:
    outbox = Outbox()
    assert outbox.put(Channel.CONSENSUS, b"a", due=5.0)
    assert outbox.put(Channel.CONSENSUS, b"b", due=3.0), "due before an earlier one"
    assert outbox.put(Channel.CONSENSUS, b"c"), "due at once, behind two that are not"
    assert outbox.put(Channel.MEMPOOL, b"m", due=4.0)
    assert outbox.next_frame() is None
    assert outbox.queued_bytes == 4
    assert outbox.next_due() == 4.0
    outbox.release(4.0)
    assert outbox.next_frame() == b"\x02\x00\x00\x00\x01m"
    assert outbox.next_due() == 5.0
    outbox.release(5.0)
    assert not outbox.delayed
    assert outbox.next_frame() == b"".join(b"\x01\x00\x00\x00\x01" + c for c in (b"a", b"b", b"c"))
    assert outbox.queued_bytes == 0


@pytest.mark.parametrize("channel", list(Channel))
def test_what_is_delayed_counts_against_the_bounds(channel: Channel) -> None:
    many, large = Outbox(), Outbox()
    taken = sum(many.put(channel, b"x", due=1.0) for _ in range(MAX_QUEUED[channel] + 5))
    assert taken == MAX_QUEUED[channel]
    payload = bytes(CHANNEL_LIMIT[channel])
    while large.put(channel, payload, due=1.0):
        pass
    assert large.queued_bytes <= MAX_OUTBOX_BYTES
    large.release(1.0)
    assert not large.put(channel, payload)


def draws(fault: LinkFault, pair: str = "a b", count: int = 500) -> list[bool]:
    impairment = Impairment(pair)
    impairment.change(fault)
    return [impairment.loses() for _ in range(count)]


def test_loss_and_jitter_follow_from_the_seed_and_the_link() -> None:
    fault = LinkFault(loss=0.3, jitter_ms=10, delay_ms=5, seed=1)
    assert draws(fault) == draws(fault)
    assert draws(fault) != draws(structs_replace(fault, seed=2))
    assert draws(fault) != draws(fault, "b a")
    assert 100 < sum(draws(fault)) < 200
    assert all(draws(structs_replace(fault, loss=1)))
    assert not any(draws(structs_replace(fault, loss=0)))
    impairment = Impairment("a b")
    impairment.change(fault)
    delays = [impairment.delay() for _ in range(100)]
    assert all(0.005 <= delay <= 0.015 for delay in delays)
    assert len(set(delays)) > 50


def structs_replace(fault: LinkFault, **changes: Any) -> LinkFault:
    return LinkFault(**({name: getattr(fault, name) for name in fault.__slots__} | changes))


async def test_a_lossy_link_loses_what_the_seed_says_and_stays_up() -> None:
    fault = LinkFault(loss=0.3, seed=4)
    async with cluster(3) as (first, second, third):
        first.network.impair({"node1": fault})
        sent = [number.to_bytes(2, "big") for number in range(500)]
        for payload in sent:
            assert first.network.broadcast(Channel.CONSENSUS, payload) == 2
        first.network.impair({})
        assert first.network.send(1, Channel.CONSENSUS, b"end")
        await second.until(lambda: second.received[-1:] == [(0, Channel.CONSENSUS, b"end")])
        await third.until_received(500)
        lost = first.network.lost()["node1"]
        assert len(second.received) == 501 - lost
        arrived = [payload for _, _, payload in second.received[:-1]]
        assert arrived == [payload for payload in sent if payload in set(arrived)], "in order"
        pair = " ".join(peer_key.hex() for peer_key in (first.key, second.key))
        assert lost == sum(draws(fault, pair))
        assert [link.dropped_payloads for link in first.network.links()] == [0, 0]
        assert sorted(first.events) == [(1, True), (2, True)], "no link went down"


async def test_a_slow_link_keeps_order_and_costs_the_others_nothing() -> None:
    async with cluster(3) as (first, second, third):
        first.network.impair({"node1": LinkFault(delay_ms=20, jitter_ms=20)})
        sent = [number.to_bytes(2, "big") for number in range(300)]
        for payload in sent:
            assert first.network.broadcast(Channel.CONSENSUS, payload) == 2
        await third.until_received(300)
        first.network.impair({})
        assert first.network.send(1, Channel.CONSENSUS, b"no longer slow, but not ahead")
        await second.until_received(301)
        assert [payload for _, _, payload in second.received[:-1]] == sent
        assert first.network.queued(1, Channel.CONSENSUS) == 0


async def test_delay_wakes_a_link_at_most_once_a_tick() -> None:
    """However many payloads wait and however they jitter: no spinning."""
    async with cluster(2) as (first, second):
        loop = asyncio.get_running_loop()
        first.network.impair({"node1": LinkFault(delay_ms=20, jitter_ms=40)})
        link = first.network._peers[second.key].link
        assert link is not None
        release, calls = link.outbox.release, []

        def counted(now: float) -> None:
            calls.append(now)
            release(now)

        link.outbox.release = counted  # type: ignore[method-assign]
        began = loop.time()
        for number in range(2000):
            assert first.network.send(1, Channel.MEMPOOL, number.to_bytes(2, "big"))
        await second.until_received(2000)
        took = loop.time() - began
        assert len(calls) <= took / RELEASE_TICK_SECONDS + 1
        assert link.outbox.queued_bytes == 0


async def test_a_link_that_delays_and_loses_all_stays_up() -> None:
    """Keep-alives are not payloads, and what waits for its time is not left unread by the peer."""
    limits = Limits(watch_seconds=0.02, silent_watches=5)
    async with cluster(2, limits=limits) as (first, second):
        first.network.impair({"node1": LinkFault(delay_ms=60_000)})
        second.network.impair({"node0": LinkFault(loss=1)})
        assert first.network.send(1, Channel.SYNC, b"waits")
        assert second.network.send(0, Channel.SYNC, b"lost")
        before = second.network.links()[0].received_bytes
        # 20 keep-alives, five bytes each: many more watches than silence would be allowed.
        await second.until_idle(lambda: second.network.links()[0].received_bytes >= before + 100)
        assert first.events == [(1, True)]
        assert second.events == [(0, True)]
        assert not first.received
        assert not second.received


async def test_a_delayed_link_is_dropped_and_stopped_without_a_trace() -> None:
    tasks = asyncio.all_tasks()
    async with cluster(2, limits=EAGER) as (first, second):
        first.network.impair({"node1": LinkFault(delay_ms=60_000)})
        assert first.network.send(1, Channel.SYNC, b"late")
        assert first.network.queued(1, Channel.SYNC) == 4
        hold(first, 1)
        assert first.network.queued(1, Channel.SYNC) == 0
        await second.until(lambda: (0, False) in second.events)
        first.network.impair({"node1": LinkFault(delay_ms=60_000)})
        await first.until_linked(1)
        assert first.network.send(1, Channel.SYNC, b"late")
        await first.network.stop()
    assert asyncio.all_tasks() == tasks
