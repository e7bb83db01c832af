"""Links over real sockets: they carry, refuse, come back, and one peer never costs another."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from node.network.frames import (
    CHANNEL_LIMIT,
    LINK_FORMAT,
    MAX_FRAME_BYTES,
    SMALL_BYTES,
    Channel,
    Hello,
    pack,
)
from node.network.links import Limits, ListenFailed, Refusal
from node.network.outbox import MAX_QUEUED_BYTES
from node.network.transport import WrongNodeKey
from tests.support.peers import (
    LOOPBACK,
    OTHER_CHAIN_ID,
    Member,
    client_context,
    cluster,
    hello,
    impostor,
    member,
    running,
    seed,
)

EAGER = Limits(backoff_first_seconds=0.001, backoff_cap_seconds=0.01)
"""Dials again at once, so that tests of refusal and recovery need not wait."""


async def rounds(first: Member, second: Member, count: int) -> None:
    """`count` questions and answers between two members, one at a time."""
    done = asyncio.get_running_loop().create_future()
    left = count

    def answered(peer: int, channel: Channel, payload: bytes) -> None:
        nonlocal left
        left -= 1
        if left:
            first.network.send(peer, channel, payload)
        else:
            done.set_result(None)

    first.answer = answered
    second.answer = second.network.send  # type: ignore[assignment]
    assert first.network.send(second.index, Channel.CONSENSUS, b"?")
    async with asyncio.timeout(60):
        await done
    first.answer = second.answer = None


async def test_payloads_of_all_sizes_and_channels_reach_everyone() -> None:
    async with cluster(4) as members:
        sender, others = members[1], (members[0], members[2], members[3])
        payloads = [
            (channel, bytes([channel]) * size)
            for channel in Channel
            for size in (1, SMALL_BYTES, SMALL_BYTES + 1, CHANNEL_LIMIT[channel])
        ]
        for channel, payload in payloads:
            assert sender.network.broadcast(channel, payload) == 3
        for other in others:
            await other.until_received(len(payloads))
            assert {peer for peer, _, _ in other.received} == {1}
            arrived = [(channel, payload) for _, channel, payload in other.received]
            assert sorted(arrived) == sorted(payloads)
        for link in sender.network.links():
            assert link.connected
            assert link.sent_payloads == len(payloads)
            assert link.dialed_by_us == (link.index > 1)
            assert link.dropped_payloads == link.queued_bytes == 0


async def test_small_payloads_arrive_in_order() -> None:
    async with cluster(2) as (first, second):
        for number in range(5000):
            assert first.network.send(1, Channel.MEMPOOL, number.to_bytes(4, "big"))
        await second.until_received(5000)
        assert [int.from_bytes(payload, "big") for _, _, payload in second.received] == (
            list(range(5000))
        )


# --- refused before anything is decoded -------------------------------------------------------


async def refusing(victim: Member, **wrong: Any) -> Member:
    """A validator 0 that differs from what `victim` expects and dials it."""
    dialer = member(0, {victim.index: victim.network.listening}, limits=EAGER, **wrong)
    await dialer.network.start()
    return dialer


async def test_a_node_of_another_chain_is_refused() -> None:
    victim = member(2, {})
    async with running(victim):
        stranger = member(0, {2: victim.network.listening}, limits=EAGER, chain_id=OTHER_CHAIN_ID)
        async with running(stranger):
            # The dialing end is the first to see a certificate, and hangs up.
            await stranger.until_refused(Refusal.WRONG_CHAIN)
            await victim.until_refused(Refusal.HANDSHAKE_BROKEN)
            assert not victim.events
            assert not stranger.events


async def test_the_dialing_end_refuses_a_swapped_validator() -> None:
    """Validator 3 answers where 2 should be: say, its host was entered for both."""
    third = member(3, {})
    async with running(third):
        dialer = member(0, {2: third.network.listening}, limits=EAGER)
        async with running(dialer):
            detail = await dialer.until_refused(Refusal.SWAPPED_KEY)
            assert "validator 3" in detail
            assert dialer.events == third.events == []


async def test_the_dialing_end_refuses_an_unknown_key() -> None:
    outsider = member(4, {}, count=5)
    async with running(outsider):
        dialer = member(0, {3: outsider.network.listening}, limits=EAGER)
        async with running(dialer):
            await dialer.until_refused(Refusal.UNKNOWN_KEY)
            assert dialer.events == outsider.events == []


async def test_a_stranger_never_reaches_the_http_parser() -> None:
    victim = member(2, {})
    async with running(victim):
        host, port = victim.network.listening
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n")
        # What comes back, if anything, is a TLS alert; then the connection ends.
        answer = await reader.read()
        assert b"HTTP" not in answer
        writer.close()
        await victim.until_refused(Refusal.NOT_TLS)
        anonymous = ssl.create_default_context()
        anonymous.check_hostname = False
        anonymous.verify_mode = ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(host, port, ssl=anonymous)
        with suppress(ssl.SSLError, ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await victim.until_refused(Refusal.NO_CERTIFICATE)


async def test_silent_strangers_do_not_keep_validators_out() -> None:
    limits = Limits(handshakes=4)
    victim = member(1, {}, count=2, limits=limits)
    async with running(victim):
        strangers = [
            await asyncio.open_connection(*victim.network.listening)
            for _ in range(3 * limits.handshakes)
        ]
        dialer = member(0, {1: victim.network.listening}, count=2)
        async with running(dialer):
            await victim.until_linked(0)
            assert victim.network.refusals[Refusal.CROWDED] >= 2 * limits.handshakes
        for _, writer in strangers:
            writer.close()


HASTY = Limits(handshake_seconds=0.5, backoff_first_seconds=0.001, backoff_cap_seconds=0.01)


async def test_handshakes_that_do_not_get_on_are_ended() -> None:
    victim = member(2, {}, limits=HASTY)
    async with running(victim):
        reader, writer = await asyncio.open_connection(*victim.network.listening)
        assert await reader.read() == b""
        writer.close()
        await victim.until_refused(Refusal.HANDSHAKE_TIMEOUT)

        # A validator that shows its key and then asks for nothing, twice at a time.
        context = client_context(0, 2)
        quiet = [
            await asyncio.open_connection(
                *victim.network.listening, ssl=context, server_hostname=""
            )
            for _ in range(2)
        ]
        for reader, writer in quiet:
            assert await reader.read() == b""
            writer.close()
        assert await victim.until_refused(Refusal.HANDSHAKE_TIMEOUT, times=2) == (
            "no request for a link"
        )

        async with impostor(0, victim) as mute:
            await mute.until_dropped()
        assert "no hello" in await victim.until_refused(Refusal.HANDSHAKE_TIMEOUT, times=3)
        assert not victim.events


async def test_dialing_does_not_wait_for_a_host_that_never_answers() -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        dialer = member(0, {1: silent.getsockname()[:2]}, count=2, limits=HASTY)
        async with running(dialer):
            await dialer.until_refused(Refusal.HANDSHAKE_TIMEOUT, times=2)


# --- peers that are who they say, and do what they should not ---------------------------------


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (hello(format=LINK_FORMAT + 1), "link format 3, expected 2"),
        (hello(chain_id=OTHER_CHAIN_ID), "chain 0000"),
    ],
)
async def test_a_hello_that_does_not_fit_is_named(said: Hello, what: str) -> None:
    victim = member(2, {})
    async with running(victim), impostor(0, victim) as peer:
        await peer.greet(said)
        assert what in await victim.until_refused(Refusal.BAD_HELLO)
        await peer.until_dropped()
        assert victim.events == []


async def test_payloads_before_the_hello_are_not_taken() -> None:
    victim = member(2, {})
    async with running(victim), impostor(0, victim) as peer:
        await peer.socket.send_bytes(pack([(Channel.CONSENSUS, b"x")]))
        await victim.until_refused(Refusal.BAD_HELLO)
        assert not victim.events
        assert not victim.received


async def test_malformed_frames_cost_the_link_and_nothing_else() -> None:
    victim = member(2, {})
    async with running(victim):
        for number, bad in enumerate(
            (b"", b"\xff", pack([(9, b"x")]), bytes(MAX_FRAME_BYTES + 1)), start=1
        ):
            async with impostor(0, victim) as peer:
                await peer.greet(hello())
                await peer.socket.send_bytes(bad)
                await peer.until_dropped()
            await victim.until_refused(Refusal.MALFORMED, times=number)
        async with impostor(0, victim) as peer:
            await peer.greet(hello())
            await peer.socket.send_str("text")
            await peer.until_dropped()
        async with impostor(0, victim) as peer:
            await peer.greet(hello())
            await peer.socket.ping()
            await peer.until_dropped()
        await victim.until_refused(Refusal.MALFORMED, times=6)
        assert victim.received == []
        await victim.until(lambda: victim.events == [(0, True), (0, False)] * 6)


async def test_another_path_is_not_a_link() -> None:
    victim = member(2, {})
    async with running(victim):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with impostor(0, victim, path="/v1/status"):
                raise AssertionError("upgraded")
        await victim.until_refused(Refusal.BAD_REQUEST)


async def test_a_newer_link_replaces_the_older() -> None:
    """A peer that was killed and restarted, before its old connection was seen to be dead."""
    victim = member(2, {})
    async with running(victim), impostor(0, victim) as old:
        await old.greet(hello())
        await victim.until_linked(0)
        async with impostor(0, victim) as new:
            await new.greet(hello())
            await old.until_dropped()
            await victim.until_refused(Refusal.REPLACED)
            assert victim.events == [(0, True), (0, False), (0, True)]
            await new.socket.send_bytes(pack([(Channel.SYNC, b"x")]))
            await victim.until(lambda: victim.received == [(0, Channel.SYNC, b"x")])


async def test_a_peer_that_never_reads_stalls_nobody_and_is_dropped() -> None:
    victim = member(2, {}, limits=Limits(watch_seconds=3600.0))
    async with running(victim):
        helper = member(1, {2: victim.network.listening})
        async with running(helper), impostor(0, victim) as deaf:
            await deaf.greet(hello())
            await victim.until_linked(0, 1)
            # Nobody reads at the other end: sockets and queue fill, and then it stays full.
            block = bytes(CHANNEL_LIMIT[Channel.CONSENSUS])
            while True:
                await rounds(helper, victim, 5)
                if not victim.network.send(0, Channel.CONSENSUS, block):
                    break
            for _ in range(100):
                assert not victim.network.send(0, Channel.CONSENSUS, block)
                await rounds(helper, victim, 10)
            status = victim.network.links()[0]
            assert status.dropped_payloads == 101
            assert status.queued_bytes == victim.network.queued(0, Channel.CONSENSUS)
            assert victim.network.queued(1, Channel.CONSENSUS) == 0
            assert status.queued_bytes <= MAX_QUEUED_BYTES[Channel.CONSENSUS]
            assert status.connected


async def test_the_watch_drops_a_peer_that_never_reads() -> None:
    victim = member(2, {}, limits=Limits(watch_seconds=0.1, silent_watches=3))
    async with running(victim), impostor(0, victim) as deaf:
        await deaf.greet(hello())
        await victim.until_linked(0)
        # It goes on talking, so silence is not what it is dropped for.
        talk = asyncio.create_task(keep_talking(deaf.socket))
        await victim.fill(0, Channel.SYNC)
        await victim.until_refused(Refusal.STUCK)
        assert victim.events == [(0, True), (0, False)]
        talk.cancel()
        await asyncio.wait([talk])


async def keep_talking(socket_: aiohttp.ClientWebSocketResponse) -> None:
    while not socket_.closed:
        await socket_.send_bytes(pack([(Channel.MEMPOOL, b"x")]))
        await asyncio.sleep(0.001)


async def test_the_watch_drops_a_peer_that_says_nothing() -> None:
    victim = member(2, {}, limits=Limits(watch_seconds=0.01, silent_watches=3))
    async with running(victim), impostor(0, victim) as mute:
        await mute.greet(hello())
        await mute.until_dropped()
        await victim.until_refused(Refusal.SILENT)
        assert victim.events == [(0, True), (0, False)]


async def test_idle_links_stay_up() -> None:
    """Keep-alives alone carry a link over many more watches than silence would be allowed."""
    async with cluster(2, limits=Limits(watch_seconds=0.05, silent_watches=5)) as (first, second):
        before = first.network.links()[0].received_bytes
        watched = asyncio.get_running_loop().create_future()

        def look() -> None:
            # 20 keep-alives, five bytes each.
            if first.network.links()[0].received_bytes >= before + 100:
                watched.set_result(None)
            else:
                asyncio.get_running_loop().call_later(0.05, look)

        look()
        async with asyncio.timeout(60):
            await watched
        assert first.events == [(1, True)]
        assert second.events == [(0, True)]


async def test_a_flooding_peer_is_held_to_its_rate_and_stalls_nobody() -> None:
    # A rate at which nothing is earned back during the test: what is taken is the burst, and the
    # frame with which it went into debt.
    limits = Limits(payloads_per_second=1e-3, burst_payloads=1000.0)
    victim = member(2, {}, limits=limits)
    async with running(victim):
        helper = member(1, {2: victim.network.listening})
        async with running(helper), impostor(0, victim) as flooder:
            await flooder.greet(hello())
            await victim.until_linked(0, 1)
            flood = asyncio.create_task(keep_flooding(flooder.socket))
            await victim.until(lambda: victim.payloads(0) == 1000)
            # The helper has a burst of its own.
            await rounds(helper, victim, 900)
            assert victim.payloads(0) == 1000
            assert victim.connected() == {0, 1}
            assert not flood.done()
            flood.cancel()
            await asyncio.wait([flood])


async def keep_flooding(socket_: aiohttp.ClientWebSocketResponse) -> None:
    frame = pack([(Channel.MEMPOOL, bytes(500))] * 100)
    while True:
        await socket_.send_bytes(frame)
        await asyncio.sleep(0)


async def test_a_failure_of_our_own_costs_one_link_and_is_reported() -> None:
    reported: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    victim = member(2, {})

    def fail(peer: int, channel: Channel, payload: bytes) -> None:
        raise RuntimeError("our bug")

    victim.answer = fail
    async with running(victim), impostor(0, victim) as peer:
        await peer.greet(hello())
        await peer.socket.send_bytes(pack([(Channel.SYNC, b"x"), (Channel.SYNC, b"y")]))
        await peer.until_dropped()
        await victim.until_refused(Refusal.OWN_FAULT)
    assert [str(error) for error in reported] == ["our bug"]


# --- coming and going -------------------------------------------------------------------------


async def test_a_restarted_validator_is_linked_again() -> None:
    async with cluster(2, limits=EAGER) as (first, second):
        port = second.network.listening[1]
        for _ in range(3):
            await second.network.stop()
            await first.until(lambda: not first.connected())
            assert not first.network.send(1, Channel.CONSENSUS, b"nobody there")
            fresh = member(1, {}, count=2, port=port, limits=EAGER)
            second.network = fresh.network
            await fresh.network.start()
            await first.until_linked(1)
            await fresh.until_linked(0)
            assert first.network.send(1, Channel.CONSENSUS, b"again")
            await fresh.until_received(1)
        assert first.events == [(1, True), *[(1, False), (1, True)] * 3]
        assert first.network.links()[0].last_refusal == ""


async def test_a_link_tells_since_when_it_is_up_or_down() -> None:
    start = datetime.now(UTC)
    clock = [start]

    def since() -> tuple[bool, int]:
        [link] = first.network.links()
        return link.connected, link.since - int(start.timestamp() * 1000)

    second = member(1, {}, count=2, limits=EAGER)
    async with running(second):
        addresses = {1: second.network.listening}
        first = member(0, addresses, count=2, limits=EAGER, now=lambda: clock[0])
        assert since() == (False, 0)
        clock[0] += timedelta(seconds=2)
        async with running(first):
            await first.until_linked(1)
            assert since() == (True, 2_000)
            clock[0] += timedelta(seconds=3)
            await second.network.stop()
            await first.until(lambda: not first.connected())
            clock[0] += timedelta(seconds=3)
            await first.until_refused(Refusal.UNREACHABLE)
            assert since() == (False, 5_000), "what fails later does not begin it anew"


async def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        blocked = member(1, {}, port=port)
        with pytest.raises(ListenFailed, match="in use: stop the other process") as caught:
            await blocked.network.start()
        assert str(port) in str(caught.value)
        assert caught.value.port == port
    # The failed start left nothing: now that the port is free, it works.
    async with running(blocked):
        assert blocked.network.listening == (LOOPBACK, port)


@pytest.mark.parametrize(
    ("host", "advice"),
    [("192.0.2.1", "no such address"), ("no.such.host.invalid", "check the host")],
)
async def test_an_address_that_cannot_be_listened_on_is_named(host: str, advice: str) -> None:
    with pytest.raises(ListenFailed, match=advice):
        await member(1, {}, listen=(host, 0)).network.start()


async def test_a_wrong_key_is_found_before_start() -> None:
    with pytest.raises(WrongNodeKey):
        member(1, {}, node_seed=seed(2))


@pytest.mark.parametrize("busy", [False, True])
async def test_stop_leaves_no_task_no_socket_and_no_callback(busy: bool) -> None:
    asyncio.get_running_loop().set_debug(True)
    tasks, descriptors = asyncio.all_tasks(), len(os.listdir("/proc/self/fd"))
    events: list[int] = []
    received: list[int] = []
    async with cluster(4) as members:
        stranger = await asyncio.open_connection(*members[3].network.listening)
        if busy:
            for one in members:
                for channel in Channel:
                    one.network.broadcast(channel, bytes(CHANNEL_LIMIT[channel]))
        for one in members:
            await one.network.stop()
            events.append(len(one.events))
            received.append(len(one.received))
        assert asyncio.all_tasks() == tasks
        stranger[1].close()
        await stranger[1].wait_closed()
        assert [len(one.events) for one in members] == events
        assert [len(one.received) for one in members] == received
    assert asyncio.all_tasks() == tasks
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_stop_does_not_wait_for_a_peer_that_never_reads() -> None:
    tasks = asyncio.all_tasks()
    victim = member(2, {})
    async with running(victim), impostor(0, victim) as deaf:
        await deaf.greet(hello())
        await victim.until_linked(0)
        await victim.fill(0, Channel.SYNC)
        await victim.network.stop()
        assert victim.events == [(0, True)]
    assert asyncio.all_tasks() == tasks
