"""What Byzantine members are made of: a real key, the real messages, a node without shame.

A `Liar` is the driver of one core like every node, so it is as far as the others and knows what
they know. What its core wants to send passes `say`, and it may speak at any time with `post`. Its
core is patched to go on where an honest one stops signing; its disk has no guard.

`Lies` is what a run knows of them all. Each honest core is watched by a `Witness`: an attack
counts only once such a core has handled it, since one that never arrives proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from consensus.interface import Broadcast as BroadcastEffect
from consensus.interface import (
    Effect,
    EnteredView,
    EpochStarted,
    Event,
    Floor,
    Now,
    Received,
    ReportEquivocation,
    Send,
    Timing,
)
from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Epoch,
    Equivocation,
    Kind,
    Message,
    Proposal,
    Record,
    SyncResponse,
    Vote,
    vote_payload,
)
from devnet.sim.actor import CoreFactory, CoreLike, Habits
from devnet.sim.application import GENESIS, SimCodec, instructions_of
from devnet.sim.crypto import sign, verify_memoised
from devnet.sim.disk import ModelDisk
from devnet.sim.members import generation_of
from devnet.sim.network import Network, Packet
from devnet.sim.node import HonestNode
from devnet.sim.oracle import Oracle
from devnet.sim.patched import Patched
from devnet.sim.world import MILLISECOND, World

SHAMELESS = Patched(
    "a core that never stops signing",
    (
        ("state", "        if self.stopped is None:\n", "        if False:\n"),
        ("state", "        self.confirmed = False\n", "        self.confirmed = True\n"),
        (
            "votes",
            'assert vote.voter not in state.votes[vote.kind], "own vote counted twice"',
            "if vote.voter in state.votes[vote.kind]:\n            return None",
        ),
    ),
)
"""What a liar runs: others show it votes that its own core knows nothing of, and it asks nobody
before it signs."""
STRIKE = (50, 600)
"""Shortest and longest virtual ms between two acts of a liar that come from nothing it sends."""


@cache
def _shameless() -> CoreFactory:
    return SHAMELESS.load()


@dataclass(frozen=True, slots=True)
class Common:
    """What every member of a run is given."""

    index: int
    validators: Sequence[bytes]
    timing: Timing
    habits: Habits
    world: World
    network: Network


def votes_in(message: Message) -> Iterator[Vote]:
    """The votes that a message shows, one by one."""
    match message:
        case Vote():
            yield message
        case Proposal(vote=vote):
            yield vote
        case Certificate() as certificate:
            for voter, signature in certificate.signatures:
                yield Vote(
                    certificate.epoch,
                    certificate.view,
                    certificate.kind,
                    certificate.content,
                    voter,
                    signature,
                )
        case SyncResponse(finalization=finalization):
            yield from votes_in(finalization)


def is_valid(vote: Vote, oracle: Oracle) -> bool:
    """Whether a vote is its voter's, in an epoch that has begun."""
    keys = oracle.keys_of(vote.epoch)
    if vote.voter >= len(keys):
        return False
    payload = vote_payload(vote.epoch, vote.view, vote.kind, vote.content)
    return verify_memoised(keys[vote.voter], VOTE_DOMAIN, payload, vote.signature)


def incriminates(one: Vote, other: Vote) -> bool:
    """Whether no correct signer makes both votes; of one key, in one view."""
    if one.kind is other.kind:
        return one.kind is not Kind.NULLIFY and one.content != other.content
    return {one.kind, other.kind} == {Kind.NULLIFY, Kind.FINALIZE}


class Lies:
    """The liars of a run, and what of their doing has arrived."""

    def __init__(self, world: World, oracle: Oracle, liars: Collection[int]) -> None:
        self.oracle = oracle
        self.liars = frozenset(liars)
        self.reached: Counter[str] = Counter()
        """Acts that an honest core has handled, or that were kept from one, by kind."""
        self.reported = 0
        """Equivocations that honest cores have reported, each with valid evidence."""
        self.members: Sequence[HonestNode] = ()
        self._world = world
        self._acts: dict[tuple[int, int, Message], str] = {}

    def act(self, liar: int, to: int, message: Message, kind: str) -> None:
        """A message about to be sent is part of an attack."""
        self._acts[(liar, to, message)] = kind

    def withheld(self, to: int, kind: str) -> None:
        """An honest member that is up did not get what it would have got from an honest one."""
        if to not in self.liars and self.members[to].up:
            self.reached[kind] += 1

    def handled(self, sender: int, by: int | None, message: Message) -> None:
        """An honest core is about to handle a message of a liar; both by their places, which are
        their numbers in runs with liars."""
        if by is None:
            return
        kind = self._acts.get((sender, by, message))
        if kind is not None:
            self.reached[kind] += 1

    def witnessing(self, core: CoreFactory) -> CoreFactory:
        """The same cores, watched."""

        def make(**arguments: Any) -> CoreLike:
            return Witness(core(**arguments), arguments, self)

        return make


@dataclass(slots=True)
class _Known:
    """A liar's votes in one view, as one honest core has handled them since its start."""

    votes: list[Vote] = field(default_factory=list)
    reported: bool = False


class Witness:
    """One honest core in one incarnation: what of the liars reaches it, and what it makes of it.

    Rules: `evidence-reported`: once it has handled two votes that incriminate a liar, each in a
    view that it was in or about to enter, it has reported the liar. `evidence-proves`: what it
    reports are two valid votes that no correct signer makes.
    """

    def __init__(self, core: CoreLike, arguments: dict[str, Any], lies: Lies) -> None:
        self._core = core
        self._index: int | None = arguments["index"]
        self._keys: Sequence[bytes] = arguments["validators"]
        self._lies = lies
        self._epoch: int = arguments["epoch"]
        self._view = 0
        self._known: dict[tuple[int, int], _Known] = {}

    @property
    def floor(self) -> Floor:
        return self._core.floor

    @property
    def ended(self) -> bool:
        return self._core.ended

    def next_deadline(self) -> int | None:
        return self._core.next_deadline()

    def live_records(self) -> list[Record]:
        return self._core.live_records()

    def start(self, now: Now) -> list[Effect]:
        return self._watch(self._core.start(now))

    def handle(self, event: Event, now: Now) -> list[Effect]:
        heard: list[_Known] = []
        if isinstance(event, Received):
            if event.sender in self._lies.liars:
                self._lies.handled(event.sender, self._index, event.message)
            if isinstance(event.message, Vote | Proposal):
                heard = self._hear(event.message)
        elif isinstance(event, EpochStarted):
            self._index, self._epoch, self._keys = event.index, event.epoch, event.validators
            self._view = 0
            self._known.clear()
        effects = self._watch(self._core.handle(event, now))
        for known in heard:
            self._judge(known)
        return effects

    def _hear(self, message: Vote | Proposal) -> list[_Known]:
        vote = message if isinstance(message, Vote) else message.vote
        leader = (vote.epoch + vote.view) % len(self._keys)
        leads = leader == vote.voter and vote.kind is Kind.NOTARIZE
        if (
            vote.voter not in self._lies.liars
            or vote.epoch != self._epoch
            or self._core.ended
            or vote.view not in (self._view, self._view + 1)
            or (isinstance(message, Proposal) and not leads)
            or (vote.content is None) is not (vote.kind is Kind.NULLIFY)
            or (vote.content is not None and vote.content.parent_view >= vote.view)
            or not is_valid(vote, self._lies.oracle)
        ):
            return []
        known = self._known.setdefault((vote.voter, vote.view), _Known())
        known.votes.append(vote)
        return [known]

    def _judge(self, known: _Known) -> None:
        last = known.votes[-1]
        if not known.reported and any(incriminates(vote, last) for vote in known.votes):
            raise self._lies.oracle.fail(
                "evidence-reported",
                f"node {self._index} says nothing of validator {last.voter} in view {last.view}",
            )

    def _watch(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            match effect:
                case EnteredView(view=view):
                    self._view = view
                    # Only of the present and the next view is anything expected.
                    for key in [key for key in self._known if key[1] < view]:
                        del self._known[key]
                case ReportEquivocation(equivocation=found):
                    self._report(found)
        return effects

    def _report(self, found: Equivocation) -> None:
        first, second = found.first, found.second
        proves = (
            (first.epoch, first.view, first.voter) == (second.epoch, second.view, second.voter)
            and incriminates(first, second)
            and is_valid(first, self._lies.oracle)
            and is_valid(second, self._lies.oracle)
        )
        if not proves:
            raise self._lies.oracle.fail("evidence-proves", f"node {self._index}: {found}")
        self._known.setdefault((first.voter, first.view), _Known()).reported = True
        self._lies.reported += 1


class _Blind(Oracle):
    """Judges nothing: a liar keeps no rules."""

    def started(self, *_: object) -> None: ...

    def epoch_started(self, *_: object) -> None: ...

    def rotated(self, *_: object) -> None: ...

    def turn(self, *_: object) -> None: ...

    def recovered(self, *_: object) -> None: ...

    def durable(self, *_: object) -> None: ...

    def sent(self, *_: object) -> None: ...

    def committed(self, *_: object) -> None: ...

    def told(self, *_: object) -> None: ...


def _blind(world: World, validators: Sequence[bytes]) -> Oracle:
    return _Blind(
        world=world,
        validators=validators,
        honest=(),
        genesis=GENESIS,
        inspect=SimCodec().inspect,
        instructions=lambda raw: instructions_of([raw]),
    )


class Liar(HonestNode):
    """A Byzantine member that so far behaves well; attacks override the first four methods."""

    def say(self, message: Message, targets: Iterable[int]) -> None:
        """The core wants this sent to these members."""
        for to in targets:
            self.post(to, message)

    def heard(self, sender: int, message: Message) -> None:
        """This has come, and the core is about to handle it."""

    def entered(self, view: int) -> None:
        """The core is in a new view."""

    def strike(self) -> None:
        """Once in a while, whatever else happens."""

    # --- machinery ---------------------------------------------------------------------------

    def __init__(self, common: Common, lies: Lies) -> None:
        self.lies = lies
        self.rng = common.world.random
        self.size = len(common.validators)
        self.others = [index for index in range(self.size) if index != common.index]
        self.view = 1
        super().__init__(
            index=common.index,
            validators=common.validators,
            timing=common.timing,
            habits=common.habits,
            core=_shameless(),
            disk=ModelDisk(common.index),
            guarded=False,
            world=common.world,
            network=common.network,
            oracle=_blind(common.world, common.validators),
        )

    def vote(self, view: int, kind: Kind, content: Content | None = None) -> Vote:
        """A valid vote of this liar's key, in the epoch that it is in."""
        key = generation_of(self._members, self.index)
        signature = sign(self.index, self.epoch, view, kind, content, generation=key)
        return Vote(self.epoch, view, kind, content, self.index, signature)

    def leads(self, view: int) -> bool:
        return self._leader(self.epoch, view) == self.index

    def _join(self, epoch: Epoch) -> None:
        super()._join(epoch)
        self.others, self.size, self.view = self._machines(), len(self._members), 1

    def noise(self, size: int = 32) -> bytes:
        """Bytes that mean nothing."""
        return self.rng.randbytes(size)

    def post(self, to: int, message: Message, kind: str = "") -> None:
        """Send a message over this liar's own link; with `kind`, as part of an attack."""
        for vote in votes_in(message):
            if vote.voter == self.index:
                self.lies.oracle.shown(vote)
        if kind:
            self.lies.act(self.index, to, message, kind)
        self._network.send(self.index, to, message)

    def start(self) -> None:
        super().start()
        if self.up:
            self._later(self._latency(STRIKE), self._strike_again)

    def _strike_again(self) -> None:
        self.strike()
        if self.up:
            self._later(self._latency(STRIKE), self._strike_again)

    def deliver(self, sender: int, packet: Packet, data: bytes) -> None:
        if self.up and isinstance(packet, Message):
            self.heard(sender, packet)
        super().deliver(sender, packet, data)

    def _perform(self, effects: Sequence[Effect]) -> None:
        super()._perform(effects)
        for effect in effects:
            if isinstance(effect, EnteredView):
                self.view = effect.view
                # After this turn: an attack may speak, and so may the core.
                self._later(MILLISECOND, self.entered, int(effect.view))

    def _leave(self, effect: Send | BroadcastEffect, machines: Sequence[int]) -> None:
        message = effect.message
        self._world.record(self.index, "liar", b"", message)
        self.say(message, [machine for machine in machines if machine != self.index])
