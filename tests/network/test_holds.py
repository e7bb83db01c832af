"""Links that are held down carry nothing until they are let up, and only a devnet can do it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from msgspec import structs

from node.chain.genesis import Genesis
from node.network.frames import Channel
from node.network.holds import (
    ENV_HELD,
    SOCKET_NAME,
    BadOrder,
    Holds,
    NotObeyed,
    devnet_holds,
    order,
)
from node.network.links import Limits, Refusal
from node.network.memory import MemoryNetwork
from node.storage.errors import HomeError
from tests.support import world
from tests.support.desk import SentLinks
from tests.support.peers import cluster, member, running

EAGER = Limits(backoff_first_seconds=0.001, backoff_cap_seconds=0.01)


@pytest.mark.parametrize(("holder", "other"), [(0, 1), (1, 0)])
async def test_a_held_link_is_cut_refused_from_both_ends_and_comes_back(
    holder: int, other: int
) -> None:
    async with cluster(3, limits=EAGER) as members:
        own, peer = members[holder], members[other]
        peer.network.send(holder, Channel.CONSENSUS, b"on its way")
        own.network.hold_down(other)
        assert own.events[-1] == (other, False)
        assert not own.network.send(other, Channel.CONSENSUS, b"x")
        await own.until_refused(Refusal.HELD_DOWN)
        await peer.until(lambda: peer.events[-1] == (holder, False))
        if other < holder:
            # It dials on, and is turned away.
            await own.until_refused(Refusal.HELD_DOWN, times=3)
            await peer.until_refused(Refusal.REJECTED, times=2)
        assert own.connected() == peer.connected() == {2}
        assert own.payloads(other) == 0, "delivered after the link was to be held down"
        own.network.hold_down(other)

        own.network.let_up(other)
        await own.until_linked(other)
        await peer.until_linked(holder)
        assert peer.network.send(holder, Channel.CONSENSUS, b"back")
        await own.until_received(1)
        assert own.received == [(other, Channel.CONSENSUS, b"back")]


async def test_a_link_held_down_by_both_ends_comes_back_when_both_let_it_up() -> None:
    async with cluster(2, limits=EAGER) as (first, second):
        first.network.hold_down(1)
        second.network.hold_down(0)
        first.network.let_up(1)
        await first.until_refused(Refusal.REJECTED, times=2)
        assert not first.connected()
        second.network.let_up(0)
        await first.until_linked(1)
        await second.until_linked(0)


async def test_a_link_held_down_before_the_start_never_opens() -> None:
    second = member(1, {}, count=2)
    async with running(second):
        first = member(0, {1: second.network.listening}, count=2, limits=EAGER)
        second.network.hold_down(0)
        async with running(first):
            await second.until_refused(Refusal.HELD_DOWN, times=2)
            assert not first.events
            assert not second.events


async def test_memory_links_are_held_down_by_either_end() -> None:
    network = MemoryNetwork(["a", "b"])
    events: list[tuple[int, bool]] = []
    zero = network.links(0, lambda *_: None, lambda peer, up: events.append((peer, up)))
    one = network.links(1, lambda *_: None, lambda *_: None)
    one.hold_down(0)
    await zero.start()
    await one.start()
    assert events == []
    zero.hold_down(1)
    one.let_up(0)
    assert not one.send(0, Channel.SYNC, b"x")
    zero.let_up(1)
    zero.hold_down(1)
    assert events == [(1, True), (1, False)]


# --- the control ------------------------------------------------------------------------------


class Switched(SentLinks):
    """Links that remember what is held down."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[int] = set()

    def hold_down(self, peer: int) -> None:
        assert peer not in self.held
        self.held.add(peer)

    def let_up(self, peer: int) -> None:
        self.held.remove(peer)


@pytest.fixture
def genesis() -> Genesis:
    return world.genesis()


def files(home: Path) -> list[Path]:
    return list(home.iterdir())


def names(genesis: Genesis, *indexes: int) -> list[str]:
    return [genesis.validator_set.validators[index].name for index in indexes]


async def test_an_order_names_all_links_that_are_to_be_held_down(
    genesis: Genesis, tmp_path: Path
) -> None:
    links = Switched()
    devnet = structs.replace(genesis, devnet=True)
    async with devnet_holds(devnet, links, 0, tmp_path, {}):
        for wanted in ((1, 2), (2, 3), (2, 3), ()):
            await order(tmp_path, names(genesis, *wanted))
            assert links.held == set(wanted)
    with pytest.raises(NotObeyed, match="cannot be reached"):
        await order(tmp_path, [])
    assert files(tmp_path) == []


async def test_links_are_held_down_from_the_start_by_the_environment(
    genesis: Genesis, tmp_path: Path
) -> None:
    links = Switched()
    devnet = structs.replace(genesis, devnet=True)
    environment = {ENV_HELD: ",".join(names(genesis, 1, 3))}
    async with devnet_holds(devnet, links, 0, tmp_path, environment):
        assert links.held == {1, 3}
    with pytest.raises(HomeError, match="'nobody' is not a peer"):
        async with devnet_holds(devnet, links, 0, tmp_path, {ENV_HELD: "nobody"}):
            pass


@pytest.mark.parametrize("stranger", ["own", "nobody"])
def test_an_order_that_names_no_peer_changes_nothing(genesis: Genesis, stranger: str) -> None:
    links = Switched()
    everyone = names(genesis, 0, 1, 2, 3)
    holds = Holds(links, everyone, own_index=0)
    holds.order([everyone[1]])
    with pytest.raises(BadOrder, match="is not a peer"):
        holds.order([everyone[2], everyone[0] if stranger == "own" else stranger])
    assert links.held == {1}


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"[]\n", b'{"hold": "node1"}\n', b'{"hold": [1]}\n', b"\xff\n"]
)
async def test_what_is_no_order_is_refused(genesis: Genesis, tmp_path: Path, line: bytes) -> None:
    links = Switched()
    async with devnet_holds(structs.replace(genesis, devnet=True), links, 0, tmp_path, {}):
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        writer.write(line)
        answer = json.loads(await asyncio.wait_for(reader.readline(), 10))
        writer.close()
    assert "not an order" in answer["error"]
    assert not links.held


async def test_a_production_node_has_no_such_control(genesis: Genesis, tmp_path: Path) -> None:
    links = Switched()
    production = structs.replace(genesis, devnet=False)
    environment = {ENV_HELD: ",".join(names(genesis, 1, 2))}
    async with devnet_holds(production, links, 0, tmp_path, environment) as holds:
        assert holds is None
        assert files(tmp_path) == []
        assert not links.held
        with pytest.raises(NotObeyed, match="cannot be reached"):
            await order(tmp_path, [])
