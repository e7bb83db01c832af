"""One other validator, over all its links: counts, what is open to it now, and what it showed.

A peer is known by its node key. Its index is that of the present validator set and may change
with an epoch while the link stays.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from node.network.impairment import Impairment
from node.network.link import Link, LinkLost, sever
from node.network.links import LinkFault, LinkStatus, Refusal

Address = tuple[str, int]
MAX_EARLIER = 8
"""Processes of a peer that are remembered after their link ended."""


@dataclass(slots=True, eq=False)
class Peer:
    """See the module."""

    key: bytes
    index: int
    name: str
    address: Address | None
    since: int
    """When the link came up or went down, ms since the epoch."""
    impairment: Impairment
    dials_first: bool
    """Whether this node dials it, and waits for the other to dial only after that."""
    link: Link | None = None
    opening: asyncio.Transport | None = None
    """An accepted connection of this peer that is not a link yet; at most one."""
    expiry: asyncio.TimerHandle | None = None
    """Ends `opening` when it asks for no link in time."""
    asked: asyncio.Transport | None = None
    """The connection that last asked for a link."""
    dialing: asyncio.Task[None] | None = None
    gone: bool = False
    """It left the validator set: nothing of it may open any more."""
    sent_bytes: int = 0
    received_bytes: int = 0
    sent_payloads: int = 0
    received_payloads: int = 0
    dropped_payloads: int = 0
    last_refusal: str = ""
    vacant: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while there is no link and there may be one."""
    earlier: deque[bytes] = field(default_factory=lambda: deque(maxlen=MAX_EARLIER))
    """Instances (`Hello.instance`) that had a link which ended."""

    def __post_init__(self) -> None:
        self.judge_vacancy()

    @property
    def held(self) -> bool:
        """Whether the link is held down on purpose."""
        return self.impairment.fault.held

    def impair(self, fault: LinkFault) -> None:
        """Change what is wrong with the link on purpose."""
        self.impairment.change(fault)
        self.judge_vacancy()

    def judge_vacancy(self) -> None:
        """To be called after whatever `vacant` depends on has changed."""
        if self.link is None and not self.held:
            self.vacant.set()
        else:
            self.vacant.clear()

    def opens(self, transport: asyncio.Transport) -> None:
        """A connection of this peer that may become a link; the one before it never will."""
        if self.opening is not None and self.opening is not transport:
            sever(self.opening)
        self.opened(self.opening)
        self.opening = transport

    def opened(self, transport: asyncio.Transport | None) -> None:
        """The connection became a link, or nothing."""
        if self.opening is transport:
            self.opening = None
            if self.expiry is not None:
                self.expiry.cancel()
                self.expiry = None

    def abandon_opening(self) -> None:
        """Cut a connection that is not a link yet."""
        if self.opening is not None:
            sever(self.opening)
            self.opened(self.opening)

    def settle(self, new: Link, own_key: bytes) -> LinkLost | None:
        """Which of two links stays: None if the new one takes the old one's place, else why not.

        Both ends come to the same answer. Two links between the same two processes were dialed
        by both ends at once: the one dialed by the lower node key stays. (By one end twice: the
        first is a ghost.) A link of another process of the peer takes the place of the old, for
        the peer restarted; unless that process was seen before the present one: then both run.
        """
        old = self.link
        assert old is not None
        if new.instance != old.instance:
            if new.instance not in self.earlier:
                return None
            return LinkLost(
                Refusal.TWO_NODES,
                f"{new.address} and {old.address} both have the node key of {self.name}; "
                "stop one of them",
            )
        ours_stays = own_key < self.key
        if old.dialed == ours_stays and new.dialed != ours_stays:
            return LinkLost(Refusal.DUPLICATE)
        return None

    def linked(self, link: Link, now: int) -> None:
        """The link is up."""
        assert self.link is None
        link.peer = self.index
        self.link = link
        self.since = now
        self.last_refusal = ""
        self.judge_vacancy()

    def unlinked(self, link: Link, now: int) -> None:
        """The link is no more."""
        assert self.link is link
        if link.instance not in self.earlier:
            self.earlier.append(link.instance)
        self.link = None
        self.since = now
        self.sent_bytes += link.sent_bytes
        self.received_bytes += link.received_bytes
        self.sent_payloads += link.sent_payloads
        self.received_payloads += link.received_payloads
        self.judge_vacancy()

    def status(self) -> LinkStatus:
        """The peer as the operator sees it."""
        link = self.link
        address = "{}:{}".format(*self.address) if self.address else ""
        return LinkStatus(
            index=self.index,
            name=self.name,
            connected=link is not None,
            since=self.since,
            dialed_by_us=link.dialed if link else self.dials_first,
            address=link.address if link else address,
            sent_bytes=self.sent_bytes + (link.sent_bytes if link else 0),
            received_bytes=self.received_bytes + (link.received_bytes if link else 0),
            sent_payloads=self.sent_payloads + (link.sent_payloads if link else 0),
            received_payloads=self.received_payloads + (link.received_payloads if link else 0),
            dropped_payloads=self.dropped_payloads,
            queued_bytes=link.outbox.queued_bytes if link else 0,
            last_refusal=self.last_refusal,
            unfinished_bytes=link.unfinished_bytes if link else 0,
        )
