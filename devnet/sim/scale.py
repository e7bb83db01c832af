"""Many validators in simulated time, each with one core that is as fast as this machine's.

`make bench ARGS=--scale` first measures what each step costs here (`devnet.bench.costs`), then runs
n = 4, 10, 31 and 100 real cores (`consensus.core.Core`, real messages and signatures) without
faults and under full load. Time passes only where something costs it: a node does one thing at a
time, each message has to be sent, travel, and be received.

- A *turn* is as in a node: what has arrived is decoded and handled, blocks are built and executed,
  then, if anything was promised, the journal is synced, then everything is sent, one peer after
  the other. What arrives meanwhile waits.
- A link has a latency; each node has one line of a given bandwidth in each direction, which its
  messages to all peers share.
- What the core itself takes of the processor is measured in a first run with this very n, message
  kind by message kind: a loop in it that grows with n shows.

Not simulated: loss and retransmission, jitter, the gossip of instructions (each node is charged
for checking them, not for moving them), HTTP clients, a second processor core.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from consensus.core import Core
from consensus.interface import (
    BlockInfo,
    Broadcast,
    Build,
    Built,
    Commit,
    Effect,
    EnteredView,
    Event,
    Execute,
    Executed,
    Floor,
    Now,
    Pending,
    Persist,
    Received,
    Rejected,
    Send,
    Tick,
    Timing,
)
from consensus.messages import (
    Body,
    Certificate,
    Content,
    Digest,
    Epoch,
    Height,
    Kind,
    Message,
    Milliseconds,
    OwnProposal,
    OwnVote,
    Proposal,
    ValidatorIndex,
    View,
    Vote,
    encode,
)
from devnet.bench.costs import Costs
from devnet.sim.crypto import sign, verify_memoised, vote_keys

MAX_EVENTS_PER_TURN = 512
"""As in a node."""
WARM_UP = 4
"""Blocks before those that are measured: the first ones wait for the start check."""
MAX_EVENTS = 4_000_000
"""Of one run; more is a loop that takes no time."""
NANOSECONDS = 1_000
"""In a microsecond. Simulated time is counted in integer nanoseconds."""
GENESIS_TIME = 1_750_000_000_000
PROMISES = (OwnVote, OwnProposal, Body)
CERTIFICATE_OF = {
    Kind.NOTARIZE: "notarization",
    Kind.NULLIFY: "nullification",
    Kind.FINALIZE: "finalization",
}
CERTIFICATE_BYTES = 80
"""Of a certificate without its signatures; about a vote's size, too."""
SIGNATURE_BYTES = 68
"""That a certificate grows by for each signer."""
PARTS = ("signatures", "links", "encoding", "core", "instructions", "blocks")
"""Where the processor's time goes."""


def label(message: Message) -> str:
    """The kind of a message, as it is counted."""
    match message:
        case Proposal():
            return "proposal"
        case Vote(kind=kind):
            return kind.name.lower()
        case Certificate(kind=kind):
            return CERTIFICATE_OF[Kind(kind)]
        case _:
            return "other"


def view_of(message: Message) -> int:
    """The view a message belongs to; 0 if to none."""
    match message:
        case Proposal(vote=vote):
            return vote.view
        case Vote() | Certificate():
            return message.view
        case _:
            return 0


class _Block(msgspec.Struct, frozen=True, array_like=True, tag="scale-block/1"):
    epoch: int
    view: int
    height: int
    parent: bytes
    timestamp: int
    proposer: int
    filler: bytes


_decoder = msgspec.msgpack.Decoder(_Block)


class _Codec:
    """The core's view into blocks; each is looked into once for all nodes."""

    def __init__(self) -> None:
        self._known: dict[bytes, BlockInfo] = {}

    def inspect(self, block: bytes) -> BlockInfo:
        info = self._known.get(block)
        if info is None:
            header = _decoder.decode(block)
            info = self._known[block] = BlockInfo(
                Digest(hashlib.sha256(block).digest()),
                Digest(header.parent),
                Epoch(header.epoch),
                View(header.view),
                Height(header.height),
                Milliseconds(header.timestamp),
                ValidatorIndex(header.proposer),
            )
        return info


GENESIS = BlockInfo(
    Digest(bytes(32)),
    Digest(bytes(32)),
    Epoch(0),
    View(0),
    Height(0),
    Milliseconds(GENESIS_TIME),
    ValidatorIndex(0),
)


@dataclass(frozen=True, slots=True)
class Line:
    """What lies between two nodes."""

    latency_ms: float
    """One way."""
    gigabits: float = 1.0
    """Per second, in each direction, of each node; 0: no bound."""

    def nanoseconds(self, size: int) -> int:
        """How long `size` bytes occupy a line."""
        return int(size * 8 / self.gigabits) if self.gigabits else 0


@dataclass(slots=True)
class Run:
    """What a run showed, over its measured blocks."""

    validators: int
    line: Line
    blocks: int
    messages: Counter[str] = field(default_factory=Counter)
    """Sent by all nodes together, by kind."""
    sent_bytes: Counter[str] = field(default_factory=Counter)
    finality_ms: list[float] = field(default_factory=list)
    """From the leader's turn that builds a block to its finality, at each node; ascending."""
    seconds: float = 0.0
    """From the first measured block's finality to the last one's, at validator 0."""
    cpu_us: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    """Of all nodes, by `PARTS`, within `seconds`."""
    verified: int = 0
    """Signatures, by all nodes, within `seconds`."""
    abandoned: int = 0
    """Views that were nullified."""
    core_us: dict[str, float] = field(default_factory=dict)
    """What the core took for one event, by kind."""

    @property
    def blocks_per_s(self) -> float:
        return self.blocks / self.seconds

    def per_node(self, total: float) -> float:
        """A total per node and block."""
        return total / self.validators / self.blocks

    @property
    def cpu_ms(self) -> float:
        """Processor time of a node for a block."""
        return self.per_node(sum(self.cpu_us.values())) / 1000

    def percentile(self, share: float) -> float:
        """Of finality, milliseconds."""
        return self.finality_ms[int(share * (len(self.finality_ms) - 1))]


class _Node:
    """One validator: a core, a queue, a processor and a line."""

    def __init__(self, index: int, world: _World) -> None:
        self.index = index
        self._world = world
        self.inbox: deque[tuple[Event, str]] = deque()
        self.busy = True
        self.up_free = self.down_free = 0
        """When its line is free again, nanoseconds."""
        self._tick_at: int | None = None
        self._verified = self._signed = 0
        self._in_callbacks = 0.0
        self.core = Core(
            index=index,
            validators=world.keys,
            epoch=Epoch(0),
            floor=Floor(GENESIS, None),
            timing=Timing(),
            codec=world.codec,
            verify=self._verify,
            signer=self,
            records=(),
        )

    def _verify(self, key: bytes, domain: str, payload: bytes, signature: bytes) -> bool:
        started = self._world.clock()
        self._verified += 1
        good = verify_memoised(key, domain, payload, signature)
        self._in_callbacks += self._world.clock() - started
        return good

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        """The core's signer."""
        started = self._world.clock()
        self._signed += 1
        signature = sign(self.index, epoch, view, kind, content)
        self._in_callbacks += self._world.clock() - started
        return signature

    # --- turns ----------------------------------------------------------------------------------

    def begin(self) -> None:
        self._end_turn(*self._absorb(self.core.start(self._now())))
        self.give(Pending(True), "pending")

    def give(self, event: Event, kind: str) -> None:
        self.inbox.append((event, kind))
        if not self.busy:
            self.busy = True
            self._world.after(0, self.turn)

    def _now(self) -> Now:
        passed = self._world.now // (NANOSECONDS * 1000)
        return Now(monotonic=passed, wall=GENESIS_TIME + 1 + passed)

    def turn(self) -> None:
        """Handle what has arrived."""
        outbox: list[Effect] = []
        cost, promised = 0.0, False
        for _ in range(min(len(self.inbox), MAX_EVENTS_PER_TURN)):
            event, kind = self.inbox.popleft()
            if isinstance(event, Received):
                cost += self._world.receiving(event.message, kind)
            spent, promises, effects = self._absorb(self._handle(event, kind))
            cost += spent
            promised = promised or promises
            outbox += effects
        self._end_turn(cost, promised, outbox)

    def _handle(self, event: Event, kind: str) -> list[Effect]:
        world = self._world
        self._in_callbacks = 0.0
        started = world.clock()
        effects = self.core.handle(event, self._now())
        world.handled(kind, world.clock() - started - self._in_callbacks)
        return effects

    def _absorb(self, effects: list[Effect]) -> tuple[float, bool, list[Effect]]:
        """As a replica does: execution and building answer in the same turn."""
        world, queue = self._world, deque(effects)
        cost, promised = 0.0, False
        outbox: list[Effect] = []
        while queue:
            effect = queue.popleft()
            if isinstance(effect, Persist):
                promised = promised or isinstance(effect.record, PROMISES)
            elif isinstance(effect, Execute):
                cost += world.spend("blocks", world.costs.execute)
                queue.extend(self._handle(Executed(effect.info.digest, valid=True), "executed"))
            elif isinstance(effect, Build):
                cost += world.spend("blocks", world.costs.build)
                built = Built(effect.view, world.build(effect))
                queue.extend(self._handle(built, "built"))
            else:
                outbox.append(effect)
        return cost, promised, outbox

    def _end_turn(self, cost: float, promised: bool, outbox: list[Effect]) -> None:
        world = self._world
        cost += world.spend("signatures", self._verified * world.costs.verify)
        cost += world.spend("signatures", self._signed * world.costs.sign)
        world.run.verified += self._verified if world.measuring else 0
        self._verified = self._signed = 0
        cost += world.core_spent()
        if promised:
            cost += world.costs.sync
        world.after(int(cost * NANOSECONDS), self._publish, outbox)

    def _publish(self, outbox: list[Effect]) -> None:
        """Everything is durable: send, one peer after the other; then look what has arrived."""
        world, spent = self._world, 0.0
        again = False
        for effect in outbox:
            match effect:
                case Broadcast(message):
                    peers = [p for p in range(len(world.keys)) if p != self.index]
                    spent += self._send(message, peers, spent)
                case Send(to, message):
                    spent += self._send(message, [to], spent)
                case Commit():
                    again = True
                    for info in effect.blocks:
                        world.final(self.index, info)
                        spent += world.spend("blocks", world.costs.commit)
                        checks = world.costs.check * world.costs.payments
                        spent += world.spend("instructions", checks)
                case EnteredView(view, _, cause):
                    world.entered(self.index, view, cause)
                case Rejected():
                    pass  # a body that was fetched, and then came from its leader after all
                case _:
                    raise AssertionError(f"a run without faults has no {effect!r}")
        if again:
            self.inbox.append((Pending(True), "pending"))
        world.after(int(spent * NANOSECONDS), self._rest)

    def _rest(self) -> None:
        if self.inbox:
            self.turn()
            return
        self.busy = False
        deadline = self.core.next_deadline()
        if deadline is not None:
            at = max(deadline * NANOSECONDS * 1000, self._world.now + 1)
            if self._tick_at is None or at < self._tick_at:
                self._tick_at = at
                self._world.at(at, self._tick, at)

    def _tick(self, at: int) -> None:
        if self._tick_at == at:
            self._tick_at = None
            self.give(Tick(), "tick")

    # --- the line -------------------------------------------------------------------------------

    def _send(self, message: Message, peers: list[int], already: float) -> float:
        world, size = self._world, len(encode(message))
        each = world.costs.send + size * world.costs.transport_byte
        spent = world.spend("encoding", world.encoding(message))
        kind = label(message)
        for peer in peers:
            spent += world.spend("links", each)
            leaves = world.now + int((already + spent) * NANOSECONDS)
            start = max(leaves, self.up_free)
            self.up_free = start + world.line.nanoseconds(size)
            arrival = start + int(world.line.latency_ms * 1000 * NANOSECONDS)
            world.at(arrival, world.nodes[peer].arriving, self.index, message, kind, size)
        world.count(message, kind, size, len(peers))
        return spent

    def arriving(self, sender: int, message: Message, kind: str, size: int) -> None:
        """The first byte is here; the last one once the line has carried it."""
        self.down_free = max(self._world.now, self.down_free) + self._world.line.nanoseconds(size)
        event = Received(ValidatorIndex(sender), message)
        self._world.at(self.down_free, self.give, event, kind)


class _World:
    """Time, all nodes, and what is counted."""

    def __init__(
        self,
        validators: int,
        line: Line,
        costs: Costs,
        blocks: int,
        core_us: Mapping[str, float] | None,
    ) -> None:
        """`core_us`: what the core takes of each kind of event; None: measure it."""
        self.now = 0
        self.line = line
        self.costs = costs
        self.codec = _Codec()
        self.keys = vote_keys(validators)
        self.run = Run(validators, line, blocks)
        self.clock: Callable[[], float] = _no_clock if core_us is not None else time.thread_time
        self._core_us = core_us
        self._core_spent = 0.0
        self._measured: dict[str, list[float]] = {}
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._proposed: dict[bytes, int] = {}
        self._final_at: dict[int, int] = {}
        """Height → when validator 0 had it final."""
        self._last = WARM_UP + blocks
        self._unfinished = validators
        self.nodes = [_Node(index, self) for index in range(validators)]

    @property
    def measuring(self) -> bool:
        """Between the first and the last measured finality of validator 0."""
        return WARM_UP in self._final_at and self._last not in self._final_at

    def at(self, moment: int, action: Callable[..., None], *arguments: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (moment, self._sequence, action, arguments))

    def after(self, delay: int, action: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + delay, action, *arguments)

    def finish(self) -> Run:
        """Run until every node has the last measured block final."""
        for node in self.nodes:
            self.at(0, node.begin)
        while self._unfinished:
            assert self._heap, "everybody waits for nobody"
            assert self._sequence < MAX_EVENTS, "a loop that takes no time"
            self.now, _, action, arguments = heapq.heappop(self._heap)
            action(*arguments)
        run = self.run
        run.finality_ms.sort()
        run.seconds = (self._final_at[self._last] - self._final_at[WARM_UP]) / NANOSECONDS / 1e6
        run.core_us = {
            kind: sum(times) / len(times) * 1e6 for kind, times in sorted(self._measured.items())
        }
        return run

    # --- costs ----------------------------------------------------------------------------------

    def spend(self, part: str, microseconds: float) -> float:
        if self.measuring:
            self.run.cpu_us[part] += microseconds
        return microseconds

    def handled(self, kind: str, seconds: float) -> None:
        """The core has handled one event."""
        if self._core_us is None:
            self._measured.setdefault(kind, []).append(seconds)
        else:
            self._core_spent += self._core_us.get(kind, 0.0)

    def core_spent(self) -> float:
        """What the core took since this was last asked."""
        spent, self._core_spent = self._core_spent, 0.0
        return self.spend("core", spent)

    def receiving(self, message: Message, kind: str) -> float:
        """Taking a message off the line and decoding it."""
        costs = self.costs
        match message:
            case Certificate(signatures=signatures):
                decoding = costs.decode_certificate + len(signatures) * costs.decode_signature
                size = CERTIFICATE_BYTES + len(signatures) * SIGNATURE_BYTES
            case Proposal(block=block):
                decoding = costs.decode_vote + len(block) * costs.decode_block_byte
                size = len(block)
            case _:
                decoding, size = costs.decode_vote, CERTIFICATE_BYTES
        spent = self.spend("encoding", decoding)
        return spent + self.spend("links", costs.receive + size * costs.transport_byte)

    def encoding(self, message: Message) -> float:
        costs = self.costs
        if isinstance(message, Certificate):
            return costs.encode_certificate + len(message.signatures) * costs.encode_signature
        return costs.encode_vote

    # --- what happens -----------------------------------------------------------------------------

    def build(self, request: Build) -> bytes:
        filler = b"" if request.empty else bytes(self.costs.block_bytes)
        parent = request.parent
        raw = encode(
            _Block(
                request.epoch,
                request.view,
                parent.height + 1,
                parent.digest,
                request.timestamp,
                request.proposer,
                filler,
            )
        )
        self._proposed[self.codec.inspect(raw).digest] = self.now
        return raw

    def count(self, message: Message, kind: str, size: int, copies: int) -> None:
        if WARM_UP < view_of(message) <= self._last:
            self.run.messages[kind] += copies
            self.run.sent_bytes[kind] += copies * size

    def entered(self, index: int, view: int, cause: Kind | None) -> None:
        if index == 0 and cause is Kind.NULLIFY:
            self.run.abandoned += 1

    def final(self, index: int, info: BlockInfo) -> None:
        if index == 0:
            self._final_at[info.height] = self.now
        if WARM_UP < info.height <= self._last:
            took = self.now - self._proposed[info.digest]
            self.run.finality_ms.append(took / NANOSECONDS / 1000)
        if info.height == self._last:
            self._unfinished -= 1


def _no_clock() -> float:
    return 0.0


def simulate(
    validators: int, line: Line, costs: Costs, blocks: int, core_us: Mapping[str, float] | None
) -> Run:
    """One run; the same arguments give the same run, unless `core_us` is None."""
    return _World(validators, line, costs, blocks, core_us).finish()
