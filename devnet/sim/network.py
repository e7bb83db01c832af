"""The simulated network: lossy, slow, reordering, partitioned, in one place and by one seed.

A message is encoded once, travels as bytes' worth of delay and loss, and is decoded once by the
codec that real peers use. Partitions are sets of blocked (from, to) pairs, so they can be
one-sided; a filter can lose one kind of message on chosen links, which reaches states that even
loss does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from consensus.messages import Message, decode_message, encode
from devnet.sim.world import MILLISECOND, World

TAIL_FACTOR = 30
"""A message in the slow tail takes up to this many times the longest usual delay."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How links behave; probabilities per message, delays in virtual milliseconds."""

    delay_min: int = 5
    delay_max: int = 40
    loss: float = 0.0
    duplicate: float = 0.0
    tail: float = 0.0
    """Probability of a delay from the slow tail, which reorders across views."""
    ordered: bool = False
    """Links deliver in order, as TCP does; otherwise every message finds its own way."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """Instructions that a mempool passes on; the core never sees it."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Poll:
    """Asked by who has no links with the validators: what became final after this height, or what
    ended this epoch? Answered from storage."""

    epoch: int
    height: int


Packet = Message | Gossip | Poll


class Actor(Protocol):
    """A member of a run. `node.HonestNode` follows the protocol; another kind joins in its place,
    and is told to the oracle by its absence from the `honest` set."""

    index: int

    def start(self) -> None:
        """Begin, at the world's present time."""

    def deliver(self, sender: int, packet: Packet, data: bytes) -> None:
        """A packet has arrived over the authenticated link from `sender`; `data` are its bytes."""

    def linked(self, peer: int) -> None:
        """The link with `peer` has come up."""


class Network:
    """All links between `size` members; each is made known with `attach`."""

    def __init__(self, world: World, size: int, conditions: Conditions) -> None:
        self._world = world
        self.size = size
        self.conditions = conditions
        self.blocked: set[tuple[int, int]] = set()
        """(from, to) pairs that lose everything, also what is under way."""
        self.filters: dict[tuple[int, int], str] = {}
        """(from, to) → label of the messages that this link loses (see `label`)."""
        self._actors: dict[int, Actor] = {}
        self._last_arrival: dict[tuple[int, int], int] = {}
        self.delivered = 0

    def attach(self, actor: Actor) -> None:
        self._actors[actor.index] = actor

    def heal(self, conditions: Conditions) -> None:
        """No partition, no filter, these conditions from now on."""
        self.unblock(frozenset(self.blocked))
        self.filters.clear()
        self.conditions = conditions

    def unblock(self, links: frozenset[tuple[int, int]]) -> None:
        """These links carry again."""
        self.blocked -= links
        for one, other in sorted({(min(link), max(link)) for link in links}):
            self.link(one, other)

    def link(self, one: int, other: int) -> None:
        """Two members find each other, after a while and if nothing keeps them apart then."""
        rules = self.conditions
        delay = self._world.random.randint(rules.delay_min, rules.delay_max) * MILLISECOND
        self._world.after(delay, self._linked, one, other)

    def _linked(self, one: int, other: int) -> None:
        if not self.blocked & {(one, other), (other, one)}:
            self._actors[one].linked(other)
            self._actors[other].linked(one)

    def broadcast(self, sender: int, packet: Packet, targets: Iterable[int] | None = None) -> None:
        """To these nodes (by default all others), each copy with its own fate."""
        checked, data = self._encoded(packet)
        for to in range(self.size) if targets is None else targets:
            if to != sender:
                self._post(sender, to, checked, data)

    def send(self, sender: int, to: int, packet: Packet) -> None:
        """To one node; to itself is a bug of the sender."""
        assert to in {*range(self.size)} - {sender}, "a message to itself or to nobody"
        checked, data = self._encoded(packet)
        self._post(sender, to, checked, data)

    @staticmethod
    def _encoded(packet: Packet) -> tuple[Packet, bytes]:
        if isinstance(packet, Gossip):
            return packet, repr(packet.numbers).encode()
        if isinstance(packet, Poll):
            return packet, repr((packet.epoch, packet.height)).encode()
        data = encode(packet)
        return decode_message(data), data

    def _post(self, sender: int, to: int, packet: Packet, data: bytes) -> None:
        world, rules, link = self._world, self.conditions, (sender, to)
        if link in self.blocked:
            world.faults["lost to partition"] += 1
            return
        if self.filters and self.filters.get(link) == label(packet):
            world.faults["lost by kind"] += 1
            return
        if world.chance(rules.loss):
            world.faults["lost"] += 1
            return
        copies = 1
        if world.chance(rules.duplicate):
            world.faults["duplicated"] += 1
            copies = 2
        for _ in range(copies):
            longest = rules.delay_max
            if world.chance(rules.tail):
                world.faults["delayed"] += 1
                longest *= TAIL_FACTOR
            delay = world.random.randint(rules.delay_min * MILLISECOND, longest * MILLISECOND)
            arrival = world.now + delay
            if rules.ordered:
                arrival = max(arrival, self._last_arrival.get(link, 0))
                self._last_arrival[link] = arrival
            world.at(arrival, self._arrive, sender, to, packet, data)

    def _arrive(self, sender: int, to: int, packet: Packet, data: bytes) -> None:
        if (sender, to) in self.blocked:
            self._world.faults["lost to partition"] += 1
            return
        self.delivered += 1
        self._actors[to].deliver(sender, packet, data)


def label(packet: Packet) -> str:
    """The kind of a packet, finer than its type: what a filter selects by."""
    kind = getattr(packet, "kind", None)
    return type(packet).__name__ + (f" {kind.name}" if kind is not None else "")
