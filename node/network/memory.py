"""Links without sockets, for tests of what stands on them: same border, same bounds, no I/O.

Payloads are delivered by the event loop in the order they were sent. Tests cut and mend links
instead of pulling cables.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from node.network.frames import CHANNEL_LIMIT, Channel
from node.network.links import LinkStatus, OnLink, OnMessage, Refusal
from node.network.outbox import MAX_QUEUED


class MemoryNetwork:
    """The medium that the links of one test share."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: the validators, by index."""
        self.names = tuple(names)
        self._members: dict[int, MemoryLinks] = {}
        self._cut: set[frozenset[int]] = set()
        self._held: set[tuple[int, int]] = set()
        """(who holds it down, to whom): each end lets up only its own hold."""

    def links(self, index: int, on_message: OnMessage, on_link: OnLink) -> MemoryLinks:
        """The end of validator `index`; one that stopped may be replaced by a new one."""
        return MemoryLinks(self, index, on_message, on_link)

    def cut(self, first: int, second: int) -> None:
        """Take the link between two validators down. What is on its way is lost."""
        before = self.connected(first, second)
        self._cut.add(frozenset((first, second)))
        self._changed(first, second, before)

    def mend(self, first: int, second: int) -> None:
        """Undo `cut`."""
        before = self.connected(first, second)
        self._cut.discard(frozenset((first, second)))
        self._changed(first, second, before)

    def connected(self, first: int, second: int) -> bool:
        """Whether both ends are started and the link is not cut."""
        return (
            first in self._members
            and second in self._members
            and first != second
            and frozenset((first, second)) not in self._cut
            and self._held.isdisjoint(((first, second), (second, first)))
        )

    def _changed(self, first: int, second: int, before: bool) -> None:
        now = self.connected(first, second)
        if now != before:
            self._members[first]._link_changed(second, now)
            self._members[second]._link_changed(first, now)


class MemoryLinks:
    """`PeerLinks` over a `MemoryNetwork`."""

    def __init__(
        self, network: MemoryNetwork, index: int, on_message: OnMessage, on_link: OnLink
    ) -> None:
        self.refusals: dict[Refusal, int] = {}
        self._network = network
        self._index = index
        self._on_message = on_message
        self._on_link = on_link
        self._waiting: dict[tuple[int, Channel], int] = {}
        self._waiting_bytes: dict[tuple[int, Channel], int] = {}
        self._sent = dict.fromkeys(range(len(network.names)), 0)
        self._received = dict(self._sent)
        self._dropped = dict(self._sent)
        self._generation = dict(self._sent)
        """Grows when a link goes down, so that what was on its way is not delivered later."""
        self._since = dict.fromkeys(self._sent, _wall_clock())

    async def start(self) -> None:
        """Join; links to all started members come up."""
        members = self._network._members
        assert self._index not in members, "started twice"
        members[self._index] = self
        for other in list(members):
            if self._network.connected(self._index, other):
                self._link_changed(other, True)
                members[other]._link_changed(self._index, True)

    async def stop(self) -> None:
        """Leave. No callback is called from here on."""
        members = self._network._members
        if members.get(self._index) is not self:
            return
        connected = [other for other in members if self._network.connected(self._index, other)]
        del members[self._index]
        for other in connected:
            members[other]._link_changed(self._index, False)

    def send(self, to: int, channel: Channel, payload: bytes) -> bool:
        """See `PeerLinks.send`."""
        assert 0 < len(payload) <= CHANNEL_LIMIT[channel]
        key = (to, channel)
        waiting = self._waiting.get(key, 0)
        if not self._network.connected(self._index, to) or waiting >= MAX_QUEUED[channel]:
            self._dropped[to] += 1
            return False
        self._waiting[key] = waiting + 1
        self._waiting_bytes[key] = self.queued(to, channel) + len(payload)
        self._sent[to] += 1
        loop = asyncio.get_running_loop()
        loop.call_soon(self._deliver, to, channel, payload, self._generation[to])
        return True

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """See `PeerLinks.broadcast`."""
        others = range(len(self._network.names))
        return sum(self.send(to, channel, payload) for to in others if to != self._index)

    def queued(self, to: int, channel: Channel) -> int:
        """See `PeerLinks.queued`."""
        return self._waiting_bytes.get((to, channel), 0)

    def links(self) -> list[LinkStatus]:
        """See `PeerLinks.links`."""
        return [
            LinkStatus(
                index=other,
                name=name,
                connected=self._network.connected(self._index, other),
                since=self._since[other],
                dialed_by_us=other > self._index,
                address="memory",
                sent_bytes=0,
                received_bytes=0,
                sent_payloads=self._sent[other],
                received_payloads=self._received[other],
                dropped_payloads=self._dropped[other],
                queued_bytes=sum(self.queued(other, channel) for channel in Channel),
                last_refusal="",
            )
            for other, name in enumerate(self._network.names)
            if other != self._index
        ]

    def hold_down(self, peer: int) -> None:
        """See `PeerLinks.hold_down`."""
        before = self._network.connected(self._index, peer)
        self._network._held.add((self._index, peer))
        self._network._changed(self._index, peer, before)

    def let_up(self, peer: int) -> None:
        """See `PeerLinks.let_up`."""
        before = self._network.connected(self._index, peer)
        self._network._held.discard((self._index, peer))
        self._network._changed(self._index, peer, before)

    def _deliver(self, to: int, channel: Channel, payload: bytes, generation: int) -> None:
        self._waiting[to, channel] -= 1
        self._waiting_bytes[to, channel] -= len(payload)
        members = self._network._members
        if generation != self._generation[to] or members.get(self._index) is not self:
            return
        receiver = members[to]
        receiver._received[self._index] += 1
        receiver._on_message(self._index, channel, payload)

    def _link_changed(self, other: int, up: bool) -> None:
        if not up:
            self._generation[other] += 1
        self._since[other] = _wall_clock()
        self._on_link(other, up)


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000
