"""Links follow the validator set while the process runs: who stays keeps the link, nobody else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import cast

import pytest
from msgspec import structs

from node.chain.encoding import decode, encode
from node.chain.types import ValidatorSet
from node.cli.doctor import check_certificate
from node.network.frames import Channel
from node.network.impairment import Impairment
from node.network.link import Link, WebSocket
from node.network.links import Limits, LinkFault, Refusal
from node.network.memory import MemoryLinks, MemoryNetwork
from node.network.peer import Peer
from node.network.sockets import published_address
from node.network.transport import CERTIFICATE_VALIDITY, RENEW_BEFORE, WrongNodeKey
from node.storage.config import Address
from tests.support.peers import (
    LOOPBACK,
    Member,
    client_context,
    cluster,
    hello,
    impostor,
    member,
    node_key,
    running,
    set_of,
)

EAGER = Limits(
    backoff_first_seconds=0.001, backoff_cap_seconds=0.01, patience_seconds=0.01, watch_seconds=0.2
)


def move(one: Member, *nodes: int, addresses: dict[int, tuple[str, int]] | None = None) -> None:
    """Have a member follow the set of these nodes; `addresses` by index."""
    own = nodes.index(one.index) if one.index in nodes else None
    one.network.reconfigure(set_of(*nodes, epoch=1), own, addresses or {})


# --- who stays --------------------------------------------------------------------------------


async def test_a_link_stays_and_comes_with_the_new_index() -> None:
    async with cluster(3) as members:
        before = [list(one.events) for one in members]
        for one in members:
            move(one, 2, 0, 1)
        for one in members:
            assert [link.index for link in one.network.links() if link.connected] == [
                index for index, node in enumerate((2, 0, 1)) if node != one.index
            ]
        assert members[2].network.send(1, Channel.CONSENSUS, b"to node 0")
        assert members[1].network.broadcast(Channel.CONSENSUS, b"to all") == 2
        await members[0].until_received(2)
        assert sorted(members[0].received) == [
            (0, Channel.CONSENSUS, b"to node 0"),
            (2, Channel.CONSENSUS, b"to all"),
        ]
        assert [one.events for one in members] == before, "no link went down or up"
        assert not any(one.refused for one in members)
        assert [link.name for link in members[0].network.links()] == ["node2", "node1"]


async def test_nothing_is_lost_or_reordered_while_the_set_changes() -> None:
    """The change falls between two payloads of one frame."""
    async with cluster(3) as (first, second, third):
        came: list[tuple[int, int]] = []

        def on_message(peer: int, channel: Channel, payload: bytes) -> None:
            came.append((peer, int.from_bytes(payload, "big")))
            if len(came) == 500:
                move(second, 1, 2, 0)

        second.answer = on_message
        for number in range(1000):
            assert first.network.send(1, Channel.CONSENSUS, number.to_bytes(2, "big"))
        await second.until(lambda: len(came) == 1000)
        assert [number for _, number in came] == list(range(1000))
        assert [peer for peer, _ in came] == [0] * 500 + [2] * 500
        assert third.connected() == {0, 1}


async def test_queued_payloads_survive_a_change() -> None:
    async with cluster(2) as (first, second):
        for number in range(2000):
            assert first.network.send(1, Channel.MEMPOOL, number.to_bytes(2, "big"))
        move(first, 1, 0)
        await second.until_received(2000)
        assert [int.from_bytes(payload, "big") for _, _, payload in second.received] == (
            list(range(2000))
        )


async def test_an_index_of_an_earlier_set_reaches_nobody() -> None:
    async with cluster(3) as (first, *_):
        move(first, 0, 1)
        assert not first.network.send(2, Channel.CONSENSUS, b"x")
        assert first.network.queued(2, Channel.CONSENSUS) == 0


async def test_another_nodes_place_is_refused_and_nothing_changes() -> None:
    async with cluster(3) as (first, second, _):
        with pytest.raises(WrongNodeKey, match="validator 1"):
            first.network.reconfigure(set_of(0, 1), 1, {})
        assert first.connected() == {1, 2}
        assert first.network.send(1, Channel.SYNC, b"x")
        await second.until_received(1)


# --- who leaves -------------------------------------------------------------------------------


async def test_a_removed_member_is_dropped_by_name_and_kept_out() -> None:
    async with cluster(3, limits=EAGER) as (first, second, third):
        addresses = {0: first.network.listening, 1: second.network.listening}
        third.network.send(0, Channel.CONSENSUS, b"on its way")
        for one in (first, second):
            move(one, 1, 0)
            assert one.events[-1] == (2, False), "the index it had"
            assert one.network.refusals == {Refusal.REMOVED: 1}
            assert one.refused == [(Refusal.REMOVED, "node2: no longer in the validator set")]
            assert not any(payload == b"on its way" for _, _, payload in one.received)
        # It does not know yet, and goes on dialing.
        third.network.reconfigure(set_of(0, 1, 2), 2, addresses)
        await third.until_refused(Refusal.REJECTED, times=2)
        await first.until_refused(Refusal.UNKNOWN_KEY)
        move(third, 0, 1)
        assert third.network.links() == []
        assert third.connected() == set()
        assert first.network.send(0, Channel.CONSENSUS, b"go on")
        await second.until_received(1)
        assert second.received == [(1, Channel.CONSENSUS, b"go on")]
        for one in (first, second):
            assert one.network.refusals[Refusal.REMOVED] == 1
            assert one.events.count((2, False)) == 1


async def test_a_removed_member_that_comes_back_is_linked_again() -> None:
    async with cluster(3, limits=EAGER) as (first, second, third):
        addresses = {2: third.network.listening}
        for one in (first, second, third):
            move(one, 0, 1)
        await third.until(lambda: not third.connected())
        for one in (first, second, third):
            move(one, 0, 1, 2, addresses=addresses)
            await asyncio.sleep(0)
        await third.until_linked(0, 1)
        assert third.network.send(0, Channel.SYNC, b"back")
        await first.until_received(1)
        assert first.received == [(2, Channel.SYNC, b"back")]


async def test_a_node_that_is_removed_drops_all_links_and_dials_nobody() -> None:
    tasks = asyncio.all_tasks()
    async with cluster(3, limits=EAGER) as (first, second, third):
        move(first, 1, 2)
        assert sorted(first.events[-2:]) == [(1, False), (2, False)]
        assert first.network.links() == []
        assert first.network.broadcast(Channel.CONSENSUS, b"x") == 0
        await second.until(lambda: (0, False) in second.events)
        await third.until(lambda: (0, False) in third.events)
        assert second.connected() == {2}
        dials = {task.get_name() for task in asyncio.all_tasks() - tasks}
        await asyncio.sleep(0)
        assert first.network.refusals == {Refusal.OBSERVER: 2}
        assert "dial node2" in dials, "the others' links are none of its business"


# --- connections under way --------------------------------------------------------------------


async def test_a_connection_that_was_opening_is_judged_by_the_new_set() -> None:
    victim = member(2, {})
    async with running(victim):
        async with impostor(0, victim) as peer:
            # Linked but for the hello.
            move(victim, 1, 2, 3)
            await peer.until_dropped()
        await victim.until_refused(Refusal.REMOVED)

        context = client_context(3, 2)
        reader, writer = await asyncio.open_connection(
            *victim.network.listening, ssl=context, server_hostname=""
        )
        # Its key was fine in the handshake; it asks for the link when it is not any more.
        move(victim, 1, 2)
        writer.write(b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.read()
        assert not answer.startswith(b"HTTP/1.1 101")
        writer.close()
        assert victim.events == []
        assert not victim.network.links()[0].connected


async def test_ends_that_are_an_epoch_apart_are_linked() -> None:
    """Each counts its validators differently, and neither would be the first to dial."""
    early = member(0, {}, count=2, limits=EAGER)
    async with running(early):
        late = member(
            1,
            {1: early.network.listening},
            limits=EAGER,
            validator_set=set_of(1, 0, epoch=1),
            own_index=0,
        )
        async with running(late):
            await late.until_linked(1)
            await early.until_linked(1)
            assert early.network.send(1, Channel.SYNC, b"epoch sealed")
            await late.until_received(1)
            assert late.received == [(1, Channel.SYNC, b"epoch sealed")]


# --- who joins --------------------------------------------------------------------------------


async def test_an_observer_turns_everybody_away_until_it_is_a_member() -> None:
    observer = member(2, {}, own_index=None, validator_set=set_of(0, 1))
    async with running(observer):
        assert observer.network.links() == []
        address = {2: observer.network.listening}
        first = member(0, address, count=3, limits=EAGER)
        async with running(first):
            # The rest of the network is an epoch ahead.
            await observer.until_refused(Refusal.OBSERVER, times=2)
            assert not observer.events
            move(observer, 0, 1, 2)
            await observer.until_linked(0)
            await first.until_linked(2)


async def test_a_newcomer_that_nobody_has_an_address_of_dials() -> None:
    async with cluster(2, limits=EAGER) as (first, second):
        known = {0: first.network.listening, 1: second.network.listening}
        newcomer = member(2, known, own_index=None, limits=EAGER)
        async with running(newcomer):
            for one in (first, second):
                move(one, 0, 1, 2)
            assert not newcomer.connected(), "an observer dials nobody"
            move(newcomer, 0, 1, 2, addresses=known)
            await newcomer.until_linked(0, 1)
            assert all(link.dialed_by_us for link in newcomer.network.links())
            for one in (first, second):
                await one.until_linked(2)
                assert not one.network.links()[-1].dialed_by_us


def with_address(nodes: ValidatorSet, index: int, address: str) -> ValidatorSet:
    validators = list(nodes.validators)
    validators[index] = structs.replace(validators[index], address=address)
    return structs.replace(nodes, validators=tuple(validators))


@pytest.mark.parametrize("configured", [False, True])
async def test_the_address_in_the_set_counts_unless_one_is_configured(configured: bool) -> None:
    newcomer = member(1, {}, count=2)
    async with running(newcomer):
        host, port = newcomer.network.listening
        published = f"{host}:{1 if configured else port}"
        first = member(
            0,
            {1: (host, port)} if configured else {},
            validator_set=with_address(set_of(0, 1), 1, published),
            limits=EAGER,
        )
        async with running(first):
            await first.until_linked(1)
            assert first.network.refusals == {}


@pytest.mark.parametrize("address", ["", "nowhere", "host:", "host:99999", "::1:80", ":80"])
def test_an_unusable_address_in_the_set_stops_nobody(address: str) -> None:
    [validator] = with_address(set_of(0), 0, address).validators
    assert published_address(validator) is None


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.example", "[::::]"])
async def test_a_host_on_the_ledger_that_nobody_can_dial_does_not_outlive_its_correction(
    host: str,
) -> None:
    published = with_address(set_of(0, 1), 1, f"{host}:80")
    decode(encode(published), ValidatorSet)  # the ledger takes it
    newcomer = member(1, {}, count=2)
    first = member(0, {}, validator_set=published, limits=EAGER)
    async with running(newcomer, first):
        assert "host name" in await first.until_refused(Refusal.UNREACHABLE, times=2)
        move(first, 0, 1, addresses={1: newcomer.network.listening})
        await first.until_linked(1)


async def test_faults_ordered_for_a_name_hold_from_the_epoch_in_which_it_is_a_member() -> None:
    newcomer = member(1, {}, own_index=None, limits=EAGER)
    async with running(newcomer):
        first = member(0, {}, count=1, limits=EAGER)
        async with running(first):
            first.network.impair({"node1": LinkFault(held=True)})
            move(newcomer, 0, 1, addresses={0: first.network.listening})
            move(first, 0, 1)
            await first.until_refused(Refusal.HELD_DOWN, times=2)
            first.network.impair({})
            await first.until_linked(1)


async def test_a_new_address_is_dialed() -> None:
    second = member(1, {}, count=2)
    async with running(second):
        first = member(0, {1: (LOOPBACK, 1)}, count=2, limits=EAGER)
        async with running(first):
            await first.until_refused(Refusal.UNREACHABLE)
            move(first, 0, 1)
            assert not first.network.links()[0].address
            move(first, 0, 1, addresses={1: second.network.listening})
            await first.until_linked(1)


# --- one link a pair --------------------------------------------------------------------------


async def test_two_dials_at_once_settle_on_one_link() -> None:
    """Each end knows the other's address and waits for nothing."""
    hasty = Limits(backoff_first_seconds=0.001, backoff_cap_seconds=0.01, patience_seconds=0.0)
    for _ in range(5):
        first, second = (member(index, {}, count=2, limits=hasty) for index in (0, 1))
        async with running(first, second):
            addresses = {0: first.network.listening, 1: second.network.listening}
            for one in (first, second):
                move(one, 0, 1, addresses=addresses)
            await first.until_linked(1)
            await second.until_linked(0)
            for _ in range(20):
                for one, other in ((first, second), (second, first)):
                    await ask(one, other)
            [ours], [theirs] = first.network.links(), second.network.links()
            assert ours.dialed_by_us != theirs.dialed_by_us, "the same link at both ends"


async def ask(one: Member, other: Member) -> None:
    """Send until it arrives: a link that is settled on loses nothing, one given up may."""
    before = len(other.received)
    async with asyncio.timeout(30):
        while len(other.received) == before:
            one.network.send(other.index, Channel.CONSENSUS, b"?")
            for _ in range(20):
                await asyncio.sleep(0)


class Nowhere:
    """A transport that leads to nobody."""

    def get_extra_info(self, name: str) -> None: ...


def settled(own: int, other: int, *dialed_by: int, instances: tuple[int, int] = (1, 1)) -> int:
    """Node `own` gets two links to `other`, dialed by these: the number of the one that stays."""
    peer = Peer(node_key(other), 0, "other", None, 0, Impairment(""), dials_first=False)
    links = []
    for dialer, instance in zip(dialed_by, instances, strict=True):
        link = Link(
            0,
            cast(WebSocket, None),
            cast(asyncio.Transport, Nowhere()),
            Limits(),
            lambda *_: None,
            dialed=dialer == own,
        )
        link.instance = bytes([instance])
        links.append(link)
    peer.linked(links[0], now=0)
    return 0 if peer.settle(links[1], node_key(own)) else 1


async def test_both_ends_settle_on_the_same_of_two_links_whatever_comes_first() -> None:
    lower, higher = sorted((0, 1), key=node_key)
    for own, other in ((lower, higher), (higher, lower)):
        assert settled(own, other, lower, higher) == 0
        assert settled(own, other, higher, lower) == 1
        # One end twice: its first connection is a ghost.
        assert settled(own, other, lower, lower) == settled(own, other, higher, higher) == 1
        # Another process: the peer was restarted, whoever dialed.
        for dialed_by in product((lower, higher), repeat=2):
            assert settled(own, other, *dialed_by, instances=(1, 2)) == 1


async def test_a_connection_of_the_same_process_replaces_its_ghost() -> None:
    victim = member(2, {})
    async with running(victim), impostor(0, victim) as ghost:
        await ghost.greet(hello(1))
        await victim.until_linked(0)
        async with impostor(0, victim) as again:
            await again.greet(hello(1))
            await victim.until_refused(Refusal.REPLACED)
            await ghost.until_dropped()
            assert victim.network.refusals == {Refusal.REPLACED: 1}


async def test_two_nodes_with_one_node_key_are_named_and_one_is_turned_away() -> None:
    victim = member(2, {})
    async with running(victim):
        async with AsyncExitStack() as stack:
            original = await stack.enter_async_context(impostor(0, victim))
            await original.greet(hello(1))
            await victim.until_linked(0)
            copy = await stack.enter_async_context(impostor(0, victim))
            await copy.greet(hello(2))
            await victim.until_refused(Refusal.REPLACED)
            for times in range(1, 4):
                # A restarted process never comes back: both run.
                async with impostor(0, victim) as back:
                    await back.greet(hello(1))
                    detail = await victim.until_refused(Refusal.TWO_NODES, times=times)
                    assert "both have the node key of node0; stop one of them" in detail
            assert victim.network.refusals[Refusal.REPLACED] == 1
            assert victim.events == [(0, True), (0, False), (0, True)]
        # Either is welcome alone.
        await victim.until(lambda: not victim.connected())
        async with impostor(0, victim) as back:
            await back.greet(hello(1))
            await victim.until_linked(0)


async def test_two_running_copies_of_a_node_do_not_take_turns_for_ever() -> None:
    victim = member(2, {}, limits=EAGER)
    async with running(victim):
        addresses = {2: victim.network.listening}
        one, copy = member(0, addresses, limits=EAGER), member(0, addresses, limits=EAGER)
        async with running(one, copy):
            await victim.until_refused(Refusal.TWO_NODES, times=3)
            downs = victim.events.count((0, False))
            await victim.until_refused(Refusal.TWO_NODES, times=10)
            assert victim.events.count((0, False)) == downs
            assert victim.connected() == {0}


# --- certificates -----------------------------------------------------------------------------


async def test_a_node_that_outlives_its_certificate_renews_it_in_time() -> None:
    clock = [datetime.now(UTC).replace(microsecond=0)]
    node = member(1, {}, count=2, limits=EAGER, now=lambda: clock[0])
    first = node.network.certificate_expires
    assert first - clock[0] == CERTIFICATE_VALIDITY
    async with running(node):
        for _ in range(6):
            clock[0] += timedelta(days=100)
            assert node.network.certificate_expires - clock[0] >= RENEW_BEFORE
            async with impostor(0, node) as peer:
                await peer.greet(hello(clock[0].toordinal()))
                await node.until_linked(0)
            await node.until(lambda: not node.connected())
        assert node.network.certificate_expires > first + CERTIFICATE_VALIDITY


@pytest.mark.parametrize("days", [-20_000, -800, 800, 20_000])
async def test_a_clock_that_is_years_off_splits_no_chain(days: int) -> None:
    """Its certificate has expired for the others, or begins long after now, and it is linked."""
    late = member(
        1, {}, count=3, limits=EAGER, now=lambda: datetime.now(UTC) + timedelta(days=days)
    )
    third = member(2, {}, count=3, limits=EAGER)
    async with running(late, third):
        addresses = {1: late.network.listening, 2: third.network.listening}
        late.network.reconfigure(set_of(0, 1, 2), 1, addresses)
        first = member(0, addresses, count=3, limits=EAGER)
        async with running(first):
            for one, others in ((first, (1, 2)), (late, (0, 2)), (third, (0, 1))):
                await one.until_linked(*others)
            assert not any(one.refused for one in (first, late, third))


@pytest.mark.parametrize(("age", "result"), [(0, "ok"), (280, "warn"), (500, "warn")])
async def test_doctor_warns_months_before_a_certificate_expires(age: int, result: str) -> None:
    """A node whose clock stopped so many days ago, and with it the renewal."""
    stopped = datetime.now(UTC) - timedelta(days=age)
    node = member(1, {}, count=2, now=lambda: stopped)
    async with running(node):
        finding = await asyncio.to_thread(check_certificate, Address(*node.network.listening))
    assert finding.result == result
    assert f"valid until {stopped + CERTIFICATE_VALIDITY:%Y-%m-%d}" in finding.text
    assert ("Its links go on" in finding.text) == (result == "warn")


# --- the twin without sockets -----------------------------------------------------------------


async def test_memory_links_follow_the_set_as_real_ones_do() -> None:
    network = MemoryNetwork(["node0", "node1", "node2"])
    received: list[tuple[str, int, bytes]] = []
    events: dict[str, list[tuple[int, bool]]] = {}

    def end(name: str, links: MemoryLinks) -> MemoryLinks:
        events[name] = []
        links._on_message = lambda peer, _, payload: received.append((name, peer, payload))
        links._on_link = lambda peer, up: events[name].append((peer, up))
        return links

    ends = [end(f"node{i}", network.links(i, print, print)) for i in range(3)]
    newcomer = end("node3", network.observer("node3", print, print))
    for links in (*ends, newcomer):
        await links.start()
    assert newcomer.links() == []
    assert newcomer.broadcast(Channel.SYNC, b"x") == 0
    ends[0].send(2, Channel.SYNC, b"lost with the link")
    ends[0].send(1, Channel.SYNC, b"stays")
    after = set_of(1, 3, 0)
    for links, own in ((ends[0], 2), (ends[1], 0), (ends[2], None), (newcomer, 1)):
        links.reconfigure(after, own, {})
    await asyncio.sleep(0)
    assert received == [("node1", 2, b"stays")]
    assert events["node0"] == [(1, True), (2, True), (2, False), (1, True)]
    assert events["node1"] == [(0, True), (2, True), (2, False), (1, True)]
    assert events["node2"] == [(0, True), (1, True), (0, False), (1, False)]
    assert events["node3"] == [(2, True), (0, True)]
    assert ends[2].links() == []
    assert newcomer.send(0, Channel.SYNC, b"hello")
    await asyncio.sleep(0)
    assert received[-1] == ("node1", 1, b"hello")
