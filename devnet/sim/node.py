"""A simulated honest node: the driver of one real core over simulated clock, disk and links.

It performs effects as `consensus.interface` demands of every driver: each turn's records go to the
journal, one sync covers all turns written since the last, and what leaves the node leaves in
order, after the sync of everything written before it. Between any two of these steps the node can
crash. A crash loses all memory; the next start has the database's floor, what the crash left of
the journal, in any order and partly twice, and the signer guard's own log.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from consensus.interface import (
    Broadcast,
    Build,
    Built,
    Commit,
    Effect,
    EnteredView,
    EpochStarted,
    Event,
    Execute,
    Executed,
    Linked,
    Now,
    Pending,
    Persist,
    Received,
    Rejected,
    Send,
    Straggler,
    Tick,
    Timing,
)
from consensus.messages import (
    BlockRequest,
    Body,
    CertificateRequest,
    Epoch,
    EpochSealed,
    Message,
    OwnProposal,
    OwnVote,
    Record,
    SyncRequest,
    ValidatorIndex,
    View,
    decode_record,
    encode,
)
from devnet.sim.actor import CoreFactory, Habits
from devnet.sim.application import (
    GENESIS_TIME,
    Application,
    Database,
    SimCodec,
    instructions_of,
)
from devnet.sim.crypto import verify_memoised
from devnet.sim.disk import NodeDisk, WatchedSigner
from devnet.sim.members import generation_of, genesis_set, keys_of, moved, place_of
from devnet.sim.network import Gossip, Network, Packet, Poll
from devnet.sim.oracle import Oracle
from devnet.sim.points import PersistencePoints
from devnet.sim.views import own_votes
from devnet.sim.world import MILLISECOND, World
from node.storage.errors import StorageError

GOSSIP_INTERVAL = 700 * MILLISECOND
"""Virtual microseconds between repetitions of an instruction that is not final yet."""
POLL = (400, 600)
"""Shortest and longest virtual ms between two polls of who has no links."""
MAX_GOSSIP = 64
"""Instructions in one gossip packet."""
PROMISES = (OwnVote, OwnProposal, Body)
"""Records that others may rely on: durable before anything of their turn leaves."""
MAX_OVERDUE_TICKS = 20
"""Ticks in a row after which a deadline is still due: more is a timer that never advances."""


def true_wall(world: World) -> int:
    """What a clock without skew shows, in ms."""
    return GENESIS_TIME + 1_000 + world.now // MILLISECOND


@dataclass(frozen=True, slots=True)
class _From:
    """A consensus message and the machine it came from."""

    machine: int
    message: Message


@dataclass(frozen=True, slots=True)
class _LinkedTo:
    machine: int


class HonestNode:
    """One node that follows the protocol, through all its crashes."""

    application = Application
    """What executes and builds its blocks."""

    def __init__(
        self,
        *,
        index: int,
        validators: Sequence[bytes],
        timing: Timing,
        habits: Habits,
        core: CoreFactory,
        disk: NodeDisk,
        guarded: bool,
        world: World,
        network: Network,
        oracle: Oracle,
    ) -> None:
        self.index = index
        self.up = False
        self.database = Database()
        self._genesis = genesis_set(len(validators))
        self._timing = timing
        self._habits = habits
        self._factory = core
        self._disk = disk
        self._guarded = guarded
        self.points: PersistencePoints | None = None
        """Counts this node's persistence points, and crashes it at one (see `points`)."""
        self.polls = False
        """Whether sets of validators change in this run, so that it may have to ask as a client."""
        self.epoch = Epoch(0)
        self._members = self._genesis
        self._place = place_of(self._genesis, index)
        self.retired = False
        """The key is given up, and the node follows as an observer."""
        self._kept: dict[int, None] = {}
        """Instructions durably accepted from clients and not final: on disk."""
        self._world = world
        self._network = network
        self._oracle = oracle
        self._incarnation = 0
        self._skew = world.random.randint(-habits.skew, habits.skew)
        network.attach(self)

    @property
    def height(self) -> int:
        """Height of the last block that this node's database durably has."""
        return len(self.database.blocks)

    # --- life and death ------------------------------------------------------------------------

    def start(self) -> None:
        """Start, or start again, from what is on disk."""
        assert not self.up
        rng, habits = self._world.random, self._habits
        self.up = True
        self._boot = self._world.now
        self._base = rng.randint(0, 1_000_000_000)
        self._rate = 1_000_000 + rng.randint(-habits.rate_ppm, habits.rate_ppm)
        self._outbox: deque[tuple[int, Effect, Sequence[int]]] = deque()
        """(records written before it, effect, machines that it is for)."""
        self._written = self._synced = 0
        self._unsynced: list[Record] = []
        self._syncing = False
        self._waiting: list[Event | _From | _LinkedTo] = []
        """Events that came during a sync; a simulated sync is short, so they are few."""
        self._commits: deque[Commit] = deque()
        self._storing = False
        self._since_rotation = 0
        self._tick_at: int | None = None
        self._overdue, self._ticked_for = 0, -1
        self._told_pending = False
        self._gossiping = False
        self._application = self.application(self.database, self._genesis, self._kept)
        guard, found = self._disk.open()
        records = [decode_record(data) for data in found]
        self._signer = WatchedSigner(self.index, guard if self._guarded else None)
        self._join(self.database.epoch)
        self._oracle.started(self.index, self.database.floor.info, records, self.epoch)
        self._complete_guard(records)
        if not self.up:
            return
        self._oracle.recovered(self.index, records)
        shuffled = records + [r for r in records if self._world.chance(0.1)]
        rng.shuffle(shuffled)
        self._world.record(self.index, "start", b"%d" % len(records))
        self._core = self._factory(
            index=self._place,
            validators=keys_of(self._members),
            epoch=self.epoch,
            floor=self.database.floor,
            timing=self._timing,
            codec=SimCodec(),
            verify=verify_memoised,
            signer=self._signer,
            records=shuffled,
        )
        self._perform(self._core.start(self._now()))
        self._pump()
        if self.up:
            self._arm()
            self._later(0, self._tell_pending)
            self._keep_gossiping()
            self._find_peers()
            if self.polls:
                self._later(self._latency(POLL), self._poll)

    # --- epochs --------------------------------------------------------------------------------

    def _join(self, epoch: Epoch) -> None:
        """Be what this machine is in this epoch, as the database says."""
        self.epoch = epoch
        self._members = self.database.members(self._genesis)
        self._place = None if self.retired else place_of(self._members, self.index)
        if self._place is not None:
            generation = generation_of(self._members, self.index)
            guard = self._disk.key(generation) if self._guarded and generation else None
            if generation:
                self._signer.use(generation, guard)
        self._destroy_old_keys()

    def _destroy_old_keys(self) -> None:
        """Once this epoch has finalized a block, no earlier one's key is worth a theft."""
        last = self.database.blocks[-1].info if self.database.blocks else None
        if self.epoch and last is not None and last.epoch == self.epoch and self._place is not None:
            self._disk.destroy(generation_of(self._members, self.index))

    def _end_epoch(self) -> None:
        """The sealing block is stored and applied: the next epoch begins."""
        after = self.database.members(self._genesis)
        place = None if self.retired else place_of(after, self.index)
        self._turn(
            EpochStarted(
                self.database.epoch,
                keys_of(after),
                place,
                self.database.floor,
                moved(self._members, after),
            )
        )

    def _machines(self) -> list[int]:
        """The other members' machines."""
        return [machine for machine, _ in self._members if machine != self.index]

    def _find_peers(self) -> None:
        for peer in self._machines():
            self._network.link(self.index, peer)

    def _poll(self) -> None:
        """Who is no validator has no links, and asks one as any client does. One that was removed
        without knowing it is refused everywhere, and its operator has it ask, too."""
        if self._place is None or self._oracle.is_removed(self.index):
            machine = self._world.random.choice(self._machines())
            self._network.send(self.index, machine, Poll(self.epoch, self.height))
        self._later(self._latency(POLL), self._poll)

    def _answer_outsider(self, machine: int, epoch: int, height: int) -> None:
        """From storage: what ended its epoch, or what is final above its height in ours."""
        answer: Message | None = self.database.sealed(epoch)
        if answer is None and epoch == self.epoch and self.height > height:
            answer = self.database.blocks[-1].finalization if self._last_epoch() == epoch else None
        if answer is not None:
            self._leave(Send(ValidatorIndex(0), answer), (machine,))

    def _last_epoch(self) -> int:
        return self.database.blocks[-1].info.epoch if self.database.blocks else 0

    # --- the end of a life ---------------------------------------------------------------------

    def _complete_guard(self, records: Sequence[Record]) -> None:
        """A crash between the two logs' syncs: the guard learns what only the journal has."""
        floor = self.database.floor.info.view
        for vote in own_votes(records):
            if vote.epoch == self.epoch and vote.view > floor:
                self._signer.sign_vote(self.epoch, View(vote.view), vote.kind, vote.content)
        self._disk.begin_sync()
        if not self._visit("during recovery", inside=True):
            self._disk.end_sync()

    def crash(self, point: str, inside: bool = False, fate: random.Random | None = None) -> None:
        """kill -9, or a power cut, at a named point; restarts by itself after a while.

        `inside`: in the middle of a rotation of the journal. `fate` decides what the disk keeps;
        without one the seed does."""
        world, rng = self._world, fate or self._world.random
        assert self.up
        self.up = False
        self._incarnation += 1
        world.faults[point] += 1
        world.record(self.index, "crash", point.encode())
        if self._storing and rng.random() < 0.5:
            # The batch was on its way: it is atomic, so it is there in whole or not at all.
            self._store(self._commits.popleft())
        world.faults["lost records"] += self._disk.crash(rng, inside or self._syncing)
        delay = self._latency(self._habits.downtime)
        world.after(delay, self._restart, self._incarnation)

    def _restart(self, incarnation: int) -> None:
        if not self.up and incarnation == self._incarnation:
            self.start()

    def away(self, microseconds: int) -> None:
        """Down for a while."""
        self.crash("crash for a while")
        self._incarnation += 1  # so that the restart under way does not find it
        self._world.after(microseconds, self._restart, self._incarnation)

    # --- the operator -------------------------------------------------------------------------

    def retire(self) -> None:
        """Journal or signer's record damaged, and refused: nobody knows any more what this key
        has signed. New files, no key; only while it is down."""
        assert not self.up
        self.retired = True
        self._disk = self._disk.replaced()

    def restore(self, database: Database) -> None:
        """Another node's database in the place of this one's; only while it is down. It may be
        older than what the journal was rotated for."""
        assert not self.up
        self.database = database
        for number in instructions_of(stored.body for stored in database.blocks):
            self._kept.pop(number, None)

    def rot(self, rng: random.Random, journal: bool) -> StorageError | None:
        """The medium damages journal or database of a node that is down: what its start says."""
        assert not self.up
        if journal:
            return self._disk.rot(rng)
        if not self.database.blocks:
            return None
        self.database.rot(rng)
        found = self.database.damage()
        if found is None:
            raise self._oracle.fail("damage-refused", f"node {self.index} starts on a damaged one")
        return found

    def heal(self) -> None:
        """The machine behaves from now on, and is up shortly."""
        self._habits = self._habits.healed()
        if not self.up:
            delay = self._latency(self._habits.downtime)
            self._world.after(delay, self._restart, self._incarnation)

    def stay_down(self) -> None:
        """The machine is gone until it heals."""
        if self.up:
            self.crash("crash for long")
        self._incarnation += 1  # so that no restart under way finds it

    def _point(self, name: str, inside: bool = False) -> bool:
        """A place where a crash may strike; True if it did."""
        if self._world.chance(self._habits.hazard):
            self.crash(f"crash {name}", inside)
            return True
        return self._visit(name, inside)

    def _visit(self, name: str, inside: bool = False) -> bool:
        """A persistence point; True if this is the one at which to crash."""
        if self.points is None or not self.up or not self.points.passed(name):
            return False
        self.crash(f"crash {name}", inside, self.points.fate)
        return True

    def step_clock(self) -> None:
        """The wall clock is set: anywhere within the permitted skew."""
        self._skew = self._world.random.randint(-self._habits.skew, self._habits.skew)
        self._world.faults["clock step"] += 1

    # --- time ----------------------------------------------------------------------------------

    def _later(self, delay: int, action: Callable[..., None], *arguments: Any) -> None:
        self._world.after(delay, self._if_same, self._incarnation, action, arguments)

    def _if_same(
        self, incarnation: int, action: Callable[..., None], arguments: tuple[Any, ...]
    ) -> None:
        if incarnation == self._incarnation:
            action(*arguments)

    def _latency(self, bounds: tuple[int, int]) -> int:
        return self._world.random.randint(bounds[0] * MILLISECOND, bounds[1] * MILLISECOND)

    def _monotonic(self) -> int:
        return self._base + (self._world.now - self._boot) * self._rate // 1_000_000_000

    def _now(self) -> Now:
        return Now(self._monotonic(), true_wall(self._world) + self._skew)

    def _arm(self) -> None:
        """Have a tick at the core's next deadline; one that is due earlier re-arms."""
        deadline = self._core.next_deadline()
        if deadline is None:
            return
        ahead = deadline - self._base
        due = max(self._boot - (-ahead * 1_000_000_000 // self._rate), self._world.now)
        if self._tick_at is None or due < self._tick_at:
            self._tick_at = due
            self._world.at(due, self._if_same, self._incarnation, self._tick, (due,))

    def _tick(self, due: int) -> None:
        if due != self._tick_at:
            return
        self._tick_at = None
        deadline = self._core.next_deadline()
        if deadline is None or deadline > self._monotonic():
            self._arm()
            return
        self._overdue = self._overdue + 1 if deadline == self._ticked_for else 0
        self._ticked_for = deadline
        if self._overdue > MAX_OVERDUE_TICKS:
            raise self._oracle.fail("timer-progress", f"node {self.index}: deadline stays due")
        self._turn(Tick())

    # --- turns -----------------------------------------------------------------------------------

    def deliver(self, sender: int, packet: Packet, data: bytes) -> None:
        """A packet has arrived over the authenticated link from `sender`."""
        if not self.up:
            self._world.faults["lost to dead node"] += 1
            return
        self._world.record(self.index, "receive", b"%d " % sender + data, packet)
        if isinstance(packet, Gossip):
            if self._application.learn(packet.numbers):
                self._tell_pending()
        elif isinstance(packet, SyncRequest):
            answer = self.database.serve(packet.first)
            if answer is not None:
                self._leave(Send(ValidatorIndex(0), answer), (sender,))
        elif isinstance(packet, Poll):
            self._answer_outsider(sender, packet.epoch, packet.height)
        else:
            self._turn(_From(sender, packet))

    def linked(self, peer: int) -> None:
        """The link with `peer` has come up, or come up again."""
        if self.up:
            self._world.record(self.index, "linked", b"%d" % peer)
            self._turn(_LinkedTo(peer))

    def _turn(self, event: Event | _From | _LinkedTo) -> None:
        if self._syncing and self._habits.waits_for_sync:
            self._waiting.append(event)
        else:
            self._handle(event)
            self._pump()
            if self.up:
                self._arm()

    def _take_waiting(self) -> None:
        """What came during the sync: all of it in one turn, under one sync."""
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            if self.up:
                self._handle(event)
        self._pump()
        if self.up:
            self._arm()

    def _handle(self, event: Event | _From | _LinkedTo) -> None:
        """One turn; who has spoken is known by the place in the epoch that the turn is in."""
        if isinstance(event, _From | _LinkedTo):
            place = place_of(self._members, event.machine)
            if place is None or event.machine == self.index:
                if isinstance(event, _From):
                    self._hear_outsider(event)
                return
            event = Received(place, event.message) if isinstance(event, _From) else Linked(place)
            if isinstance(event, Received) and isinstance(event.message, EpochSealed):
                self._oracle.told(self.index, event.message)
        elif isinstance(event, EpochStarted):
            self._join(event.epoch)
            self._oracle.epoch_started(self.index, event.epoch, event.floor.info)
            self._world.record(self.index, "epoch", b"%d" % event.epoch, self._members)
        self._perform(self._core.handle(event, self._now()))
        if isinstance(event, EpochStarted):
            self._find_peers()

    def _hear_outsider(self, heard: _From) -> None:
        """An observer asks for a block or certificate: it is told what is final instead."""
        if isinstance(heard.message, BlockRequest | CertificateRequest):
            self._answer_outsider(heard.machine, heard.message.epoch, 0)

    def _perform(self, effects: Sequence[Effect]) -> None:
        for _, _, view, kind, _ in self._signer.refused:
            raise self._oracle.fail("no-refusal", f"node {self.index}: {kind.name} in view {view}")
        self._oracle.turn(self.index, effects)
        written: list[bytes] = []
        promises = not self._habits.certificates_wait
        for effect in effects:
            match effect:
                case Persist(record=record):
                    data = encode(record)
                    self._world.record(self.index, "persist", data, record)
                    written.append(data)
                    self._unsynced.append(record)
                    promises |= isinstance(record, PROMISES)
                case Execute():
                    self._execute(effect)
                case Build():
                    self._build(effect)
                case EnteredView(view=view, cause=cause):
                    self._world.record(self.index, "enter", b"%d" % view, (view, cause))
                case Rejected(reason=reason):
                    self._world.record(self.index, "reject", reason.encode(), effect)
        if written:
            self._disk.append(written)
            self._written += promises
            if self._visit("after append"):
                return
        for effect in effects:
            match effect:
                case Send(to=to):
                    self._outbox.append((self._written, effect, (self._members[to][0],)))
                case Broadcast():
                    self._outbox.append((self._written, effect, self._machines()))
                case Commit():
                    self._outbox.append((self._written, effect, ()))
                case Straggler(peer=peer, epoch=epoch):
                    told = self.database.sealed(epoch)
                    if told is not None:
                        machines = (self._members[peer][0],)
                        self._outbox.append((self._written, Send(peer, told), machines))

    def _execute(self, request: Execute) -> None:
        info = request.info
        self._world.record(self.index, "execute", info.digest)
        if not self._application.has_executed(info.parent):
            raise self._oracle.fail(
                "execute-on-executed-parent", f"node {self.index}, height {info.height}"
            )
        reason = self._application.execute(request.block)
        verdict = Executed(info.digest, not reason, reason)
        self._later(self._latency(self._habits.execute), self._answer, verdict)

    def _build(self, request: Build) -> None:
        self._world.record(self.index, "build", request.parent.digest + b"%d" % request.view)
        if not self._application.has_executed(request.parent.digest):
            raise self._oracle.fail(
                "execute-on-executed-parent", f"node {self.index}, build of view {request.view}"
            )
        block = self._application.build(request)
        reason = self._application.execute(block)
        assert not reason, reason
        self._later(self._latency(self._habits.execute), self._answer, Built(request.view, block))

    def _answer(self, event: Built | Executed) -> None:
        self._world.record(self.index, "answer", b"", event)
        self._turn(event)
        if self.up:
            self._tell_pending()

    # --- one coalesced sync, then publish ------------------------------------------------------

    def _pump(self) -> None:
        if self.up and self._written > self._synced and not self._syncing:
            if self._point("before sync"):
                return
            self._syncing = True
            records, self._unsynced = self._unsynced, []
            self._disk.begin_sync()
            self._later(self._latency(self._habits.sync), self._sync_done, self._written, records)
        self._publish()

    def _sync_done(self, written: int, records: list[Record]) -> None:
        if self._point("during sync"):
            return
        self._disk.end_sync()
        self._synced, self._syncing = written, False
        self._world.record(self.index, "synced", b"%d" % written)
        self._oracle.durable(self.index, records)
        if not self._point("after sync"):
            self._publish()
        if self.up:
            self._take_waiting()

    def _publish(self) -> None:
        while self.up and self._outbox and self._outbox[0][0] <= self._synced:
            if self._storing and self._habits.commit_blocks_sends:
                return
            written, effect, machines = self._outbox.popleft()
            assert written <= self._synced, "persist before send"
            if isinstance(effect, Commit):
                self._commits.append(effect)
                self._store_next()
            else:
                assert isinstance(effect, Send | Broadcast)
                self._leave(effect, machines)
                self._point("between sends")

    def _leave(self, effect: Send | Broadcast, machines: Sequence[int]) -> None:
        if self.index in machines:
            return  # its core is no validator any more, and asks for what its own place has
        self._oracle.sent(self.index, effect.message)
        if isinstance(effect, Broadcast):
            self._world.record(self.index, "broadcast", b"", effect.message)
            self._network.broadcast(self.index, effect.message, machines)
        else:
            self._world.record(self.index, "send", b"%d" % machines[0], effect)
            self._network.send(self.index, machines[0], effect.message)

    # --- the database --------------------------------------------------------------------------

    def _store_next(self) -> None:
        if self._commits and not self._storing and not self._point("before commit"):
            self._storing = True
            self._later(self._latency(self._habits.store), self._stored)

    def _stored(self) -> None:
        if self._visit("during commit"):
            return
        commit = self._commits.popleft()
        self._storing = False
        self._oracle.committed(self.index, commit)
        self._store(commit)
        self._application.committed(commit.blocks, commit.bodies)
        if self._point("after commit"):
            return
        if commit.blocks[-1].seals:
            self._end_epoch()
        else:
            self._destroy_old_keys()
        self._tell_pending(always=True)
        self._since_rotation += 1
        if self.up and self._since_rotation >= self._habits.rotate_every:
            self._rotate()
        if self.up:
            self._store_next()
        if self.up:
            self._publish()

    def _store(self, commit: Commit) -> None:
        self.database.commit(commit.blocks, commit.bodies, commit.finalization, commit.carriers)
        last = commit.blocks[-1]
        self._world.record(self.index, "commit", last.digest, last)
        for number in instructions_of(commit.bodies):
            self._kept.pop(number, None)

    def _rotate(self) -> None:
        """Drop from the journal what the database's floor has made superfluous.

        Only with every commit stored: the core's floor runs ahead of the database's, and what it
        no longer counts as live is still needed to get there again after a crash.
        """
        quiet = self._written == self._synced and not self._storing and not self._commits
        if not quiet or self._core.floor.info.digest != self.database.floor.info.digest:
            return
        if self._core.ended or self.epoch != self.database.epoch:
            return  # the next epoch is about to begin
        keep = self._core.live_records()
        self._oracle.rotated(self.index, keep)
        self._disk.begin_rotation([encode(record) for record in keep])
        if self._point("during rotation", inside=True):
            return
        self._disk.end_rotation(self.epoch, self.database.floor.info.view)
        # What had not been synced is live, and so durable now, or superfluous.
        self._oracle.durable(self.index, self._unsynced)
        self._unsynced = []
        self._since_rotation = 0
        self._world.record(self.index, "rotate", b"%d" % len(keep))
        self._point("after rotation")

    # --- instructions --------------------------------------------------------------------------

    def submit(self, number: int) -> None:
        """A client hands an instruction in; it is told so once that is durable here."""
        if self.up:
            self._later(self._latency(self._habits.sync), self._accepted, number)

    def _accepted(self, number: int) -> None:
        if self._visit("before accepting"):
            return
        self._kept[number] = None
        self._oracle.accepted.add(number)
        self._world.record(self.index, "accept", b"%d" % number)
        if self._visit("after accepting"):
            return
        self._application.learn((number,))
        self._keep_gossiping()
        self._tell_pending()

    def _keep_gossiping(self) -> None:
        if not self._gossiping and self._kept:
            self._gossiping = True
            self._gossip()

    def _gossip(self) -> None:
        if not self._kept:
            self._gossiping = False
            return
        self._network.broadcast(
            self.index, Gossip(tuple(self._kept)[:MAX_GOSSIP]), self._machines()
        )
        self._later(GOSSIP_INTERVAL, self._gossip)

    def _tell_pending(self, always: bool = False) -> None:
        pending = self._application.pending()
        if always or pending is not self._told_pending:
            self._told_pending = pending
            self._turn(Pending(pending))

    def _leader(self, epoch: int, view: int) -> int:
        return (epoch + view) % len(self._members)
