"""Validators with real certificates and sockets on loopback, and peers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import aiohttp

from node.chain.signature import Ed25519Signer
from node.chain.types import Validator, ValidatorSet
from node.network.frames import (
    CHANNEL_LIMIT,
    INSTANCE_BYTES,
    LINK_FORMAT,
    Channel,
    Hello,
    decode_hello,
    encode_hello,
)
from node.network.links import Limits, Refusal
from node.network.peers import PeerNetwork
from node.network.reception import LINK_PATH
from node.network.transport import Identity, PinnedContext, Pins

CHAIN_ID = bytes(range(32))
OTHER_CHAIN_ID = bytes(32)
LOOPBACK = "127.0.0.1"
FAILSAFE_SECONDS = 60.0
"""No property of the network: only so that a broken one fails a test instead of hanging it."""


def seed(index: int) -> bytes:
    return bytes([index + 1]) * 32


@cache
def node_key(index: int) -> bytes:
    return Ed25519Signer(seed(index)).public_key


def validator_set(count: int) -> ValidatorSet:
    return set_of(*range(count))


def set_of(*nodes: int, epoch: int = 0) -> ValidatorSet:
    """The set in which node `nodes[i]` (by its seed) has index i."""
    return ValidatorSet(
        epoch=epoch,
        validators=tuple(
            Validator(
                name=f"node{node}",
                operator="0" * 20,
                vote_key=bytes([node]) * 32,
                node_key=node_key(node),
            )
            for node in nodes
        ),
    )


def pins(own: int, count: int = 4) -> Pins:
    return Pins(node_key(own), {node_key(i): i for i in range(count)})


def identity(index: int, chain_id: bytes = CHAIN_ID) -> Identity:
    return Identity.create(chain_id, node_seed=seed(index), now=datetime.now(UTC))


def client_context(own: int, peer: int) -> PinnedContext:
    """For a sound handshake as `own` with `peer`, whoever is in which set."""
    both = Pins(node_key(own), {node_key(own): own, node_key(peer): peer})
    return identity(own).client_context(both, node_key(peer))


Received = tuple[int, Channel, bytes]


@dataclass
class Member:
    """A validator's network with everything that it reported."""

    index: int
    network: PeerNetwork = field(init=False)
    received: list[Received] = field(default_factory=list)
    events: list[tuple[int, bool]] = field(default_factory=list)
    refused: list[tuple[Refusal, str]] = field(default_factory=list)
    answer: Callable[[int, Channel, bytes], None] | None = None
    """What to do with a payload instead of keeping it."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> bytes:
        """Its node key."""
        return node_key(self.index)

    def on_message(self, peer: int, channel: Channel, payload: bytes) -> None:
        if self.answer is not None:
            self.answer(peer, channel, payload)
        else:
            self.received.append((peer, channel, payload))
        self._changed.set()

    def on_link(self, peer: int, up: bool) -> None:
        self.events.append((peer, up))
        self._changed.set()

    def on_refusal(self, refusal: Refusal, detail: str) -> None:
        self.refused.append((refusal, detail))
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that this member reports."""
        async with asyncio.timeout(FAILSAFE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_idle(self, condition: Callable[[], bool]) -> None:
        """Wait for something that this member does not report."""
        async with asyncio.timeout(FAILSAFE_SECONDS):
            while not condition():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.001)

    async def until_refused(self, refusal: Refusal, times: int = 1) -> str:
        """Wait for a refusal; its latest detail."""

        def details() -> list[str]:
            return [detail for reason, detail in self.refused if reason is refusal]

        await self.until(lambda: len(details()) >= times)
        return details()[-1]

    async def until_received(self, payloads: int) -> None:
        await self.until(lambda: len(self.received) >= payloads)

    async def until_linked(self, *peers: int) -> None:
        await self.until(lambda: set(peers) <= self.connected())

    def connected(self) -> set[int]:
        return {link.index for link in self.network.links() if link.connected}

    async def fill(self, peer: int, channel: Channel) -> None:
        """Send to a peer until its queue takes no more."""
        block = bytes(CHANNEL_LIMIT[channel])
        while self.network.send(peer, channel, block):
            # Let the writer move as much as the sockets take.
            for _ in range(100):
                await asyncio.sleep(0)

    def payloads(self, peer: int) -> int:
        return sum(1 for sender, _, _ in self.received if sender == peer)


def member(
    index: int,
    addresses: Mapping[int, tuple[str, int]],
    *,
    count: int = 4,
    port: int = 0,
    limits: Limits | None = None,
    **options: Any,
) -> Member:
    """A validator that has not started. A peer without an address is not dialed."""
    result = Member(index)
    arguments: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "validator_set": validator_set(count),
        "own_index": index,
        "node_seed": seed(index),
        "listen": (LOOPBACK, port),
        "addresses": addresses,
        "on_message": result.on_message,
        "on_link": result.on_link,
        "on_refusal": result.on_refusal,
        "limits": limits,
    }
    result.network = PeerNetwork(**(arguments | options))
    return result


@asynccontextmanager
async def running(*members: Member) -> AsyncIterator[None]:
    """Started members, stopped at the end whatever happens."""
    try:
        for each in members:
            await each.network.start()
        yield
    finally:
        for each in members:
            await each.network.stop()


@asynccontextmanager
async def cluster(count: int, **options: Any) -> AsyncIterator[list[Member]]:
    """All validators of a set, linked."""
    addresses: dict[int, tuple[str, int]] = {}
    members: list[Member] = []
    try:
        # Downwards, since the lower index dials and has to know where.
        for index in reversed(range(count)):
            one = member(index, addresses, count=count, **options)
            members.insert(0, one)
            await one.network.start()
            addresses[index] = one.network.listening
        for one in members:
            await one.until_linked(*(set(range(count)) - {one.index}))
        yield members
    finally:
        for one in members:
            await one.network.stop()


class Impostor:
    """The dialing end of a link under a test's control: a sound handshake, then anything."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def greet(self, hello: Hello) -> Hello:
        await self.socket.send_bytes(encode_hello(hello))
        return decode_hello(await self.socket.receive_bytes())

    async def until_dropped(self) -> None:
        """Read and forget until the other end has closed the connection."""
        async with asyncio.timeout(FAILSAFE_SECONDS):
            while not self.socket.closed:
                await self.socket.receive()


@asynccontextmanager
async def impostor(own: int, victim: Member, path: str = LINK_PATH) -> AsyncIterator[Impostor]:
    """Validator `own`'s key in hands that do not follow the protocol, connected to `victim`."""
    host, port = victim.network.listening
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"wss://{host}:{port}{path}",
            ssl=client_context(own, victim.index),
            autoping=False,
            max_msg_size=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=0.1),
        ) as socket,
    ):
        yield Impostor(socket)


def hello(instance: int = 0, **wrong: Any) -> Hello:
    """What process number `instance` of a peer says first."""
    sound: dict[str, Any] = {
        "format": LINK_FORMAT,
        "chain_id": CHAIN_ID,
        "instance": instance.to_bytes(INSTANCE_BYTES, "big"),
    }
    return Hello(**(sound | wrong))
