"""Asking peers for what is missing: one peer at a time, one timeout each, round and round.

Owned here: nobody is asked twice within a timeout, the number of open questions is bounded, and
an answer is only taken from a peer that was asked (so an unsolicited body costs no hashing).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from consensus.interface import Effect, Send
from consensus.messages import (
    BlockRequest,
    CertificateRequest,
    Digest,
    SyncRequest,
    ValidatorIndex,
    View,
)

MAX_IN_FLIGHT = 16
"""Bodies asked for at one time; the others wait their turn. Besides them at most one question
for certificates and one for a chunk is open, and neither ever waits behind bodies."""
CERTIFICATE_WINDOW = 32
"""Views asked for in one `CertificateRequest`."""

Request = BlockRequest | CertificateRequest | SyncRequest


@dataclass(slots=True)
class Want:
    """One thing that is missing."""

    request: Request
    peers: tuple[ValidatorIndex, ...]
    next_peer: int = 0
    asked: set[ValidatorIndex] = field(default_factory=set)
    """Everyone asked so far: a late answer is as good as a prompt one."""
    deadline: int | None = None
    """Monotonic ms at which the next peer is asked; None while waiting for its turn."""


class Fetcher:
    """Open questions of this node, by request."""

    def __init__(self, index: ValidatorIndex | None, validators: int, timeout: int) -> None:
        self._index = index
        self._timeout = timeout
        self._others = tuple(ValidatorIndex(i) for i in range(validators) if i != index)
        self._wants: dict[Request, Want] = {}
        self._waiting: deque[Request] = deque()
        self._in_flight = 0
        self._bodies: dict[Digest, list[BlockRequest]] = {}
        """The open questions for a body. More than one if it is wanted as the block of several
        views, as a guess at its view, or a leader who signs for another view's block, can make
        it: each is answered, and dropped, by the one body."""

    def want(
        self,
        request: Request,
        now: int,
        peers: Sequence[int] | None = None,
        first: int | None = None,
    ) -> list[Effect]:
        """Ask for it unless it is being asked for. `peers` are who should have it (default: all
        others); `first` is whom to ask first, else the own index spreads the load."""
        if request in self._wants:
            return []
        order = self._order(peers, first)
        if not order:
            return []
        want = self._wants[request] = Want(request, order)
        if isinstance(request, BlockRequest):
            self._bodies.setdefault(Digest(request.block), []).append(request)
            if self._in_flight >= MAX_IN_FLIGHT:
                self._waiting.append(request)
                return []
            self._in_flight += 1
        return [self._ask(want, now)]

    def _order(self, peers: Sequence[int] | None, first: int | None) -> tuple[ValidatorIndex, ...]:
        order = tuple(ValidatorIndex(p) for p in (peers or ()) if p != self._index) or self._others
        if not order:
            return ()
        start = order.index(ValidatorIndex(first)) if first in order else 0
        if first is None:
            start = (self._index or 0) % len(order)
        return order[start:] + order[:start]

    def _ask(self, want: Want, now: int) -> Effect:
        peer = want.peers[want.next_peer % len(want.peers)]
        want.next_peer += 1
        want.asked.add(peer)
        want.deadline = now + self._timeout
        return Send(peer, want.request)

    def body_wanted(self, digest: bytes) -> tuple[BlockRequest, ...]:
        """The open questions for this block's body."""
        return tuple(self._bodies.get(Digest(digest), ()))

    def was_asked(self, request: Request, peer: int) -> bool:
        """Whether this peer was asked for it and it has not come from anyone."""
        want = self._wants.get(request)
        return want is not None and peer in want.asked

    def asked_for_body(self, peer: int) -> list[BlockRequest]:
        """The bodies that this peer was asked for and that are still missing."""
        return [
            want.request
            for want in self._wants.values()
            if isinstance(want.request, BlockRequest) and peer in want.asked
        ]

    def peers_for(self, request: Request) -> tuple[ValidatorIndex, ...]:
        """Who is being asked for this."""
        want = self._wants.get(request)
        return () if want is None else want.peers

    def next_peer(self, request: Request, useless: int, now: int) -> list[Effect]:
        """A peer gave a useless answer: if it was the one asked last, ask the next one now."""
        want = self._wants.get(request)
        if want is None or want.deadline is None:
            return []
        asked_last = want.peers[(want.next_peer - 1) % len(want.peers)]
        return [self._ask(want, now)] if asked_last == useless else []

    def drop(self, request: Request | None, now: int) -> list[Effect]:
        """It arrived or is not needed any more. Lets the next waiting question go out."""
        want = self._wants.pop(request, None) if request is not None else None
        if want is None:
            return []
        if not isinstance(want.request, BlockRequest):
            return []
        digest = Digest(want.request.block)
        self._bodies[digest].remove(want.request)
        if not self._bodies[digest]:
            del self._bodies[digest]
        if want.deadline is None:
            self._waiting.remove(want.request)
            return []
        self._in_flight -= 1
        return self._next_waiting(now)

    def drop_bodies_below(self, view: View, now: int) -> list[Effect]:
        """Bodies of views up to this one are not needed any more, or come another way."""
        effects: list[Effect] = []
        bodies = self._bodies.values()
        below = [request for each in bodies for request in each if request.view <= view]
        # Those still waiting first, so that none of them is asked for on its way out.
        for request in sorted(below, key=lambda r: self._wants[r].deadline is not None):
            effects += self.drop(request, now)
        return effects

    def _next_waiting(self, now: int) -> list[Effect]:
        if not self._waiting or self._in_flight >= MAX_IN_FLIGHT:
            return []
        self._in_flight += 1
        return [self._ask(self._wants[self._waiting.popleft()], now)]

    def tick(self, now: int) -> list[Effect]:
        """Ask the next peer wherever one let its time pass."""
        return [
            self._ask(want, now)
            for want in self._wants.values()
            if want.deadline is not None and want.deadline <= now
        ]

    def next_deadline(self) -> int | None:
        """Monotonic ms at which `tick` has something to do."""
        return min(
            (want.deadline for want in self._wants.values() if want.deadline is not None),
            default=None,
        )
