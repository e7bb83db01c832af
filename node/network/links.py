"""What the engine sees of the network, whether it is made of sockets or of memory.

`PeerLinks` gives and takes payloads by validator index. It promises little, and the protocol
above is built for that: a payload may be lost whenever a link is down or a queue is full, and
small and large ones may overtake each other. It does promise who a payload came from, that one
arrives whole, and that no peer's slowness or flood delays another's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from node.network.frames import Channel

OnMessage = Callable[[int, Channel, bytes], None]
"""on_message(peer index, channel, payload): called in the event loop, once a payload. It must
return quickly and must not raise: an exception is reported to the loop's handler and costs the
link that the payload came from."""
OnLink = Callable[[int, bool], None]
"""on_link(peer index, up): called once when a link can carry payloads and once when it no
longer does, strictly alternating for each peer. A link that stays up while its peer gets another
index, because the validator set changes, is not reported."""


class Refusal(StrEnum):
    """Why a connection or link was refused or dropped; the words that metrics and logs use."""

    # In the handshake, before anything that the peer sent is decoded.
    NOT_TLS = "not a TLS 1.3 handshake"
    HANDSHAKE_BROKEN = "connection ended during the handshake"
    HANDSHAKE_TIMEOUT = "handshake not completed in time"
    CROWDED = "too many handshakes at once, oldest dropped"
    NO_CERTIFICATE = "no certificate"
    BAD_CERTIFICATE = "certificate not acceptable"
    NOT_ED25519 = "certificate key is not Ed25519"
    WRONG_CHAIN = "certificate of another chain or authority"
    UNKNOWN_KEY = "key is not in the validator set"
    SWAPPED_KEY = "key of another validator than the one dialed"
    OWN_KEY = "this node's own key at the other end"
    OBSERVER = "this node is no validator and has no links"
    # While the link opens.
    BAD_REQUEST = "not a request for a peer link"
    BAD_HELLO = "hello of another chain or format"
    DUPLICATE = "both ends dialed at once, the other link is kept"
    TWO_NODES = "two nodes use one node key"
    # On an open link.
    MALFORMED = "malformed frame"
    SILENT = "nothing received for too long"
    STUCK = "peer does not read"
    FLOOD = "peer sends above its rate, read no faster than that"
    REPLACED = "peer opened a new link"
    CLOSED = "closed by the peer"
    OWN_FAULT = "this node failed to process a payload"
    # Dialing.
    UNREACHABLE = "cannot connect"
    REJECTED = "peer refused this node"
    # The validator set changed.
    REMOVED = "no longer in the validator set"
    # Asked for.
    HELD_DOWN = "held down on purpose"


OnRefusal = Callable[[Refusal, str], None]
"""on_refusal(reason, detail): the detail is for people."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One peer as the operator sees it."""

    index: int
    name: str
    connected: bool
    since: int
    """When `connected` became what it is, ms since the epoch by this node's clock; its start, if
    the link was never up."""
    dialed_by_us: bool
    """Of the link; while there is none, whether this node is the one to dial first: the validator
    with the lower index is."""
    address: str
    """Where we dial it, or where it came from; empty when not known."""
    sent_bytes: int
    """Since start, over all links to this peer; likewise the next four."""
    received_bytes: int
    sent_payloads: int
    received_payloads: int
    dropped_payloads: int
    """Not sent since the queue was full or the link down."""
    queued_bytes: int
    last_refusal: str
    """Why the last attempt failed or the last link ended; empty if none did."""
    unfinished_bytes: int = 0
    """Received of payloads whose last chunk is missing."""


class PeerLinks(Protocol):
    """Links to the other validators of one set."""

    refusals: dict[Refusal, int]
    """How often each reason occurred since start, all peers and strangers together."""

    async def start(self) -> None:
        """Begin to accept and to dial. Returns once listening. Raises ListenFailed."""

    async def stop(self) -> None:
        """Drop all links. Leaves no task and no socket behind; calls no callback afterwards."""

    def send(self, to: int, channel: Channel, payload: bytes) -> bool:
        """Queue a payload for one peer; never waits. False: dropped, link down or queue full.

        The payload must be non-empty and within `frames.CHANNEL_LIMIT`: asserted."""

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """Queue a payload for every other validator; how many queues took it."""

    def queued(self, to: int, channel: Channel) -> int:
        """Bytes that wait to be sent to a peer in a channel. Whoever answers a peer's requests
        with much data asks this first: a request costs the peer less than an answer costs us."""

    def links(self) -> list[LinkStatus]:
        """All peers but this node, by index."""


@dataclass(frozen=True, slots=True)
class LinkFault:
    """What a devnet has wrong with the link to one peer; see `node.network.faults`."""

    held: bool = False
    """The link is cut, and refused from either end."""
    delay_ms: float = 0
    """By how much each payload leaves later."""
    jitter_ms: float = 0
    """Up to how much more; the order of payloads stays."""
    loss: float = 0
    """Probability that a payload is not sent."""
    seed: int = 0
    """Of the draws."""


NO_FAULT = LinkFault()


class Impairable(Protocol):
    """Links that can have faults on purpose. Only the control of a devnet has this handle."""

    def impair(self, faults: Mapping[str, LinkFault]) -> None:
        """Exactly these links are faulty from now on, by name of the peer; may be called before
        the start. Names of no validator are kept: one may be called so in a later epoch.

        A link that is held is cut at once: nothing more of the peer is delivered. What is on its
        way over a link that is delayed arrives when it would have."""

    def lost(self) -> dict[str, int]:
        """How many payloads were not sent on purpose since the start, by peer, if any."""


class ListenFailed(OSError):
    """The listening socket could not be opened; the text names the address, why, what to do."""

    def __init__(self, host: str, port: int, cause: OSError, advice: str) -> None:
        super().__init__(
            f"cannot listen for peers on {host}:{port}: {cause.strerror or cause}; {advice}"
        )
        self.host = host
        self.port = port
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one peer and on strangers. Bytes, seconds and counts as named."""

    bytes_per_second: float = 128 * 2**20
    """Inbound payload bytes a peer may send on average; above it, we stop reading *it*."""
    burst_bytes: float = 64 * 2**20
    payloads_per_second: float = 50_000
    """Inbound payloads a peer may send on average."""
    burst_payloads: float = 50_000
    handshake_seconds: float = 5.0
    """For TCP, TLS, the upgrade and the hello, each."""
    handshakes: int = 64
    """Accepted connections that are not links yet; a new one drops the oldest, so that strangers
    who connect and say nothing cannot keep validators out."""
    watch_seconds: float = 2.0
    """Interval of the watch on a link: it sends a keep-alive if nothing else left meanwhile."""
    silent_watches: int = 5
    """A link is dropped after this many watches in a row without a byte received, or with a
    frame that the peer does not take. Counted, not timed: a node that was itself suspended does
    not blame its peers."""
    backoff_first_seconds: float = 0.05
    backoff_cap_seconds: float = 2.0
    """A restarted validator is dialed again within this time."""
    held_seconds: float = 5.0
    """A link that lived so long resets the backoff."""
    patience_seconds: float = 1.0
    """How long the validator with the higher index waits for the other to dial before it dials
    too: the other may lack its address, or be an epoch behind."""


def backoff_seconds(attempt: int, jitter: float, limits: Limits) -> float:
    """How long to wait before dialing again after `attempt` failures in a row (from 0).

    Doubles up to the cap; `jitter` in [0, 1) takes off up to half, so that the nodes of a
    restarted network do not dial in step.
    """
    full = limits.backoff_first_seconds * 2.0 ** min(attempt, 16)
    return min(full, limits.backoff_cap_seconds) * (1.0 - jitter / 2.0)
