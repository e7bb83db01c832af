"""Links without sockets, for tests of what stands on them: same border, same bounds, no I/O.

Payloads are delivered by the event loop in the order they were sent. Tests cut and mend links
instead of pulling cables. A node is known by the name it has in the first validator set that it
stands in; a link is there while both ends count the other among their validators.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import permutations

from node.chain.types import ValidatorSet
from node.network.frames import CHANNEL_LIMIT, Channel
from node.network.links import NO_FAULT, LinkFault, LinkStatus, OnLink, OnMessage, Refusal
from node.network.outbox import MAX_QUEUED
from node.network.peer import Address


class MemoryNetwork:
    """The medium that the links of one test share."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: the first validators, by index."""
        self.names = tuple(names)
        self._members: dict[str, MemoryLinks] = {}
        """Those that are started."""
        self._cut: set[frozenset[str]] = set()

    def links(self, index: int, on_message: OnMessage, on_link: OnLink) -> MemoryLinks:
        """The end of validator `index`; one that stopped may be replaced by a new one."""
        return MemoryLinks(self, self.names[index], self.names, on_message, on_link)

    def observer(self, name: str, on_message: OnMessage, on_link: OnLink) -> MemoryLinks:
        """The end of a node that is no validator (yet): it has no links."""
        return MemoryLinks(self, name, (), on_message, on_link)

    def cut(self, first: int, second: int) -> None:
        """Take the link between two of the first validators down. What is on its way is lost."""
        with self._changing():
            self._cut.add(frozenset((self.names[first], self.names[second])))

    def mend(self, first: int, second: int) -> None:
        """Undo `cut`."""
        with self._changing():
            self._cut.discard(frozenset((self.names[first], self.names[second])))

    def connected(self, first: str, second: str) -> bool:
        """Whether both ends are started and see each other as validators, and nothing is cut."""
        one, other = self._members.get(first), self._members.get(second)
        return (
            one is not None
            and other is not None
            and first != second
            and {first, second} <= set(one.names) & set(other.names)
            and frozenset((first, second)) not in self._cut
            and not one._faults.get(second, NO_FAULT).held
            and not other._faults.get(first, NO_FAULT).held
        )

    def _pairs(self) -> set[tuple[str, str]]:
        return {pair for pair in permutations(self._members, 2) if self.connected(*pair)}

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Tell both ends of the links that the body takes down or up."""
        members, before = dict(self._members), self._pairs()
        indexes = {(a, b): members[a].names.index(b) for a, b in before}
        yield
        after = self._pairs()
        for pair in sorted(before - after):
            members[pair[0]]._down(pair[1], indexes[pair], told=pair[0] in self._members)
        for pair in sorted(after - before):
            self._members[pair[0]]._up(pair[1])


class MemoryLinks:
    """`PeerLinks` over a `MemoryNetwork`."""

    def __init__(
        self,
        network: MemoryNetwork,
        own_name: str,
        names: Sequence[str],
        on_message: OnMessage,
        on_link: OnLink,
    ) -> None:
        """`names`: the validators, by index; none for an observer."""
        self.refusals: dict[Refusal, int] = {}
        self.names = tuple(names)
        self._network = network
        self._own_name = own_name
        self._on_message = on_message
        self._on_link = on_link
        self._faults: dict[str, LinkFault] = {}
        self._waiting: Counter[tuple[str, Channel]] = Counter()
        self._waiting_bytes: Counter[tuple[str, Channel]] = Counter()
        self._sent: Counter[str] = Counter()
        self._received: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._generation: Counter[str] = Counter()
        """Grows when a link goes down, so that what was on its way is not delivered later."""
        self._since: dict[str, int] = {}

    def reconfigure(
        self, validator_set: ValidatorSet, own_index: int | None, addresses: Mapping[int, Address]
    ) -> None:
        """See `PeerNetwork.reconfigure`."""
        validators = validator_set.validators
        with self._network._changing():
            self.names = () if own_index is None else tuple(v.name for v in validators)

    async def start(self) -> None:
        """Join; links to all started members come up."""
        assert self._own_name not in self._network._members, "started twice"
        with self._network._changing():
            self._network._members[self._own_name] = self

    async def stop(self) -> None:
        """Leave. No callback is called from here on."""
        if self._network._members.get(self._own_name) is self:
            with self._network._changing():
                del self._network._members[self._own_name]

    def send(self, to: int, channel: Channel, payload: bytes) -> bool:
        """See `PeerLinks.send`."""
        assert 0 < len(payload) <= CHANNEL_LIMIT[channel]
        name = self._name(to)
        if name is None:
            return False
        key = (name, channel)
        if not self._connected(name) or self._waiting[key] >= MAX_QUEUED[channel]:
            self._dropped[name] += 1
            return False
        self._waiting[key] += 1
        self._waiting_bytes[key] += len(payload)
        self._sent[name] += 1
        loop = asyncio.get_running_loop()
        loop.call_soon(self._deliver, name, channel, payload, self._generation[name])
        return True

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """See `PeerLinks.broadcast`."""
        return sum(self.send(to, channel, payload) for to, _ in self._others())

    def queued(self, to: int, channel: Channel) -> int:
        """See `PeerLinks.queued`."""
        name = self._name(to)
        return 0 if name is None else self._waiting_bytes[name, channel]

    def links(self) -> list[LinkStatus]:
        """See `PeerLinks.links`."""
        return [
            LinkStatus(
                index=index,
                name=name,
                connected=self._connected(name),
                since=self._since.setdefault(name, _wall_clock()),
                dialed_by_us=index > self.names.index(self._own_name),
                address="memory",
                sent_bytes=0,
                received_bytes=0,
                sent_payloads=self._sent[name],
                received_payloads=self._received[name],
                dropped_payloads=self._dropped[name],
                queued_bytes=sum(self.queued(index, channel) for channel in Channel),
                last_refusal="",
            )
            for index, name in self._others()
        ]

    def impair(self, faults: Mapping[str, LinkFault]) -> None:
        """See `Impairable.impair`; of the faults, memory links have only `held`."""
        with self._network._changing():
            self._faults = dict(faults)

    def lost(self) -> dict[str, int]:
        """See `Impairable.lost`."""
        return {}

    def _others(self) -> list[tuple[int, str]]:
        return [(i, name) for i, name in enumerate(self.names) if name != self._own_name]

    def _name(self, index: int) -> str | None:
        return self.names[index] if index < len(self.names) else None

    def _connected(self, name: str) -> bool:
        return self._network.connected(self._own_name, name)

    def _deliver(self, name: str, channel: Channel, payload: bytes, generation: int) -> None:
        self._waiting[name, channel] -= 1
        self._waiting_bytes[name, channel] -= len(payload)
        members = self._network._members
        if generation != self._generation[name] or members.get(self._own_name) is not self:
            return
        receiver = members[name]
        receiver._received[self._own_name] += 1
        receiver._on_message(receiver.names.index(self._own_name), channel, payload)

    def _up(self, name: str) -> None:
        self._since[name] = _wall_clock()
        self._on_link(self.names.index(name), True)

    def _down(self, name: str, index: int, *, told: bool) -> None:
        self._generation[name] += 1
        self._since[name] = _wall_clock()
        if told:
            self._on_link(index, False)


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000
