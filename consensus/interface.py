"""The core's border: events in, effects out, and the duties of whoever performs them.

`Core.handle(event, now) -> list[Effect]` is one *turn*. Duties of the caller, which the safety
of the protocol rests on:

1. Effects are performed in order. Every `Persist` of a turn is durable (one coalesced fsync)
   before any `Send`, `Broadcast`, `Commit` or `Alarm` of that turn is performed: nothing that
   was promised leaves the process before it would survive a crash. Several turns may share one
   fsync; their sends then all follow it. A turn that persists certificates and evidence only may
   be published at once and made durable with a later turn: they prove themselves, and whoever
   forgot one breaks no promise. (That later turn's fsync covers them, and so covers what its
   votes rest on.)
2. `Execute` and `Build` are requests to the application, answered by the `Executed` and `Built`
   events, in this turn's queue or later, in any order; an `Execute` is never dropped.
3. After a crash the core is built again from the floor that the database holds and *all*
   journal records, in any order and with duplicates; `start` then gives the effects to resume.
4. `next_deadline()` names the monotonic time at which `Tick` is due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from consensus.messages import (
    Certificate,
    Content,
    Digest,
    Epoch,
    Equivocation,
    Height,
    Kind,
    Message,
    Milliseconds,
    Record,
    ValidatorIndex,
    View,
)

Verify = Callable[[bytes, str, bytes, bytes], bool]
"""verify(public key, domain, payload, signature): the chain's one verify function, bound to a
chain id. The core never sees any other cryptography."""


@dataclass(frozen=True, slots=True)
class Now:
    """The two clocks of a turn."""

    monotonic: int
    """Milliseconds; timers only. Never goes back within a process, means nothing across one."""
    wall: int
    """Milliseconds since the Unix epoch; block timestamps only."""


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """What the protocol itself reads from a block's header."""

    digest: Digest
    parent: Digest
    epoch: Epoch
    view: View
    height: Height
    timestamp: Milliseconds
    proposer: ValidatorIndex
    seals: bool = False
    """It ends its epoch: a sealing block, whose height is its parent's plus one, or one of the
    carriers above it, which share its height and serve to finalize it."""


class BodyMismatch(ValueError):
    """Block bytes that decode to no header, or whose body is not the one the header commits to."""


class BlockCodec(Protocol):
    """How the core looks into opaque block bytes."""

    def inspect(self, block: bytes) -> BlockInfo:
        """Header fields of a block whose body matches its header. Raises BodyMismatch."""


class SigningRefused(Exception):
    """The signer guard refused: the vote conflicts with one this key has signed."""


class Signer(Protocol):
    """The voter's key behind its own guard, a second one beside the core's."""

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        """The 64-byte signature; an identical vote gets the identical signature.

        Raises SigningRefused when this key has signed a conflicting vote in this view.
        """


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations in milliseconds. Δ (`delta`) covers one message, execution, fsync and one fetch."""

    delta: int = 500
    idle_interval: int = 10_000
    """A leader with nothing to propose and a final tip waits this long before an empty block."""
    retry: int = 500
    """Between repetitions of a nullify vote with the certificate that let us enter the view."""
    fetch_timeout: int = 500
    """How long one peer may take to serve a body or certificate before the next is asked."""
    standstill: int = 2_000
    """T_s: without a finalization for this long, everything above the floor is sent again."""
    skip_timeout: int = 5_000
    """Silence of a leader, in ms, after which its views are given up at once; grows as timers do.
    Must exceed 3Δ and `retry`."""
    growth_percent: int = 150
    """Timers grow by this per view since the last finalization."""
    timer_cap: int = 30_000
    """Cap of a grown timer."""
    drift: int = 35_000
    """D: how far a proposal's timestamp may be from a voter's clock; ≥ timer_cap + 2 × skew."""
    max_unfinalized: int = 6
    """Blocks. With the tip this far above the floor a leader proposes empty blocks only: what is
    waiting for finality stays bounded, and one `SyncResponse` can always hold it."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The finalized block that the database durably holds; view 0 with no certificate is the
    epoch's starting block: genesis, or the sealing block of the epoch before."""

    info: BlockInfo
    finalization: Certificate | None
    carriers: tuple[bytes, ...] = ()
    """For a sealing block that became final through a carrier, which `finalization` then names:
    the carriers from the first to that one."""


def starting_floor(seal: BlockInfo) -> Floor:
    """The floor that the epoch after this sealing block starts from: it is that epoch's view 0."""
    assert seal.seals, "an epoch starts from the sealing block of the one before"
    return Floor(replace(seal, epoch=Epoch(seal.epoch + 1), view=View(0), seals=False), None)


# --- events -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded message from a peer that the link authenticated as this validator."""

    sender: ValidatorIndex
    message: Message


@dataclass(frozen=True, slots=True)
class Linked:
    """The link to this peer came up: it may be told at once what it missed while it was down."""

    peer: ValidatorIndex


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline has come (or any time before: an early tick does nothing)."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Whether the mempool holds instructions not yet in a final or pending block.

    Given when it changes and after every commit."""

    pending: bool


@dataclass(frozen=True, slots=True)
class Built:
    """The application's block for a `Build`; its bytes are already executed here."""

    view: View
    block: bytes


@dataclass(frozen=True, slots=True)
class Executed:
    """The application's verdict on an `Execute`."""

    digest: Digest
    valid: bool
    reason: str = ""
    """For a bad block: which field is wrong and how."""


@dataclass(frozen=True, slots=True)
class EpochStarted:
    """The sealing block is durable and applied: the next epoch starts with these validators."""

    epoch: Epoch
    validators: tuple[bytes, ...]
    """Vote keys, by index."""
    index: ValidatorIndex | None
    """This node's place among them; None if it has none."""
    floor: Floor
    """`starting_floor` of the sealing block."""
    moved: Mapping[ValidatorIndex, ValidatorIndex]
    """Where the members that stay are now, by their index in the epoch before."""


Event = Received | Linked | Tick | Pending | Built | Executed | EpochStarted


# --- effects ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persist:
    record: Record


@dataclass(frozen=True, slots=True)
class Send:
    to: ValidatorIndex
    message: Message


@dataclass(frozen=True, slots=True)
class Broadcast:
    """To every other validator; the core has already counted it for itself."""

    message: Message


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute this block on its parent (already executed, or the floor); answer with `Executed`.

    The application checks every header field against what it computes itself."""

    info: BlockInfo
    block: bytes


@dataclass(frozen=True, slots=True)
class Build:
    """Make a block of `view` on `parent` with this timestamp, execute it, answer with `Built`.

    On a parent that `seals` the block is a carrier: of the parent's height, with its roots."""

    epoch: Epoch
    view: View
    parent: BlockInfo
    timestamp: Milliseconds
    proposer: ValidatorIndex
    empty: bool
    """Build without instructions even if some are pending."""


@dataclass(frozen=True, slots=True)
class Commit:
    """These executed blocks are final, in ascending height. Store them, their outcomes and state
    and the new floor in one durable step; only then tell clients. Where the last of them seals
    the epoch, answer with `EpochStarted` once it is stored."""

    blocks: tuple[BlockInfo, ...]
    bodies: tuple[bytes, ...]
    finalization: Certificate
    """Finalizes the last of `blocks`, or the last of `carriers`, and by ancestry all of them."""
    carriers: tuple[bytes, ...] = ()
    """Where the last block seals its epoch and became final through its descendants: these, up
    to the one that the finalization names. They are kept as its proof and never applied."""
    certificates: tuple[Certificate, ...] = ()
    """Every other certificate held of the views that the floor passes. Nothing here needs them
    any more; if more than f validators ever make a fork, they name who did."""


@dataclass(frozen=True, slots=True)
class Straggler:
    """A peer still talks in an epoch that has ended: send it that epoch's `EpochSealed`."""

    peer: ValidatorIndex
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class EnteredView:
    """For logs, metrics and the mempool's watch on passed-over instructions."""

    view: View
    leader: ValidatorIndex
    cause: Kind | None
    """The kind of certificate that ended the view before; None at start."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """This node stopped signing (or must not start): what was seen, for the operator."""

    reason: str
    retire_key: bool = False
    """The vote key must never sign again, in this process or any later one: its record is older
    than its votes."""


@dataclass(frozen=True, slots=True)
class ReportEquivocation:
    equivocation: Equivocation


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that was refused and why, for metrics and logs. Never changes state."""

    sender: ValidatorIndex
    reason: str


Effect = (
    Persist
    | Send
    | Broadcast
    | Execute
    | Build
    | Commit
    | EnteredView
    | Alarm
    | ReportEquivocation
    | Rejected
    | Straggler
)
