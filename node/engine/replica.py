"""The driver of the consensus core: performs its effects against disk, ledger and peers.

A *turn* takes the events at hand through the core, executing and building blocks on the way
(their verdicts join the same turn), then makes everything durable with one sync, then publishes.
What arrives during the sync waits for the next turn, so load makes turns larger, not more. No vote
is sent before the sync that covers it: a vote that a crash could make us forget is a vote that we
might contradict.

Final blocks go to the database in order, in a thread, one synced batch for all that wait. Only
when that is done are clients told, and only then does the in-memory state let go of what the
database now answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor as ThreadPool
from typing import Protocol

from consensus.epochs import Epochs
from consensus.interface import (
    Alarm,
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
    Floor,
    Linked,
    Now,
    Pending,
    Persist,
    Received,
    Rejected,
    ReportEquivocation,
    Send,
    Straggler,
    Tick,
)
from consensus.messages import (
    BlockResponse,
    Body,
    Certificate,
    Certified,
    Epoch,
    EpochSealed,
    Equivocation,
    Kind,
    MalformedMessage,
    Message,
    OwnProposal,
    OwnVote,
    Proposal,
    Record,
    SyncRequest,
    SyncResponse,
    ValidatorIndex,
    View,
    Witnessed,
    decode_message,
    encode,
)
from node.engine.clock import WallClock
from node.engine.executor import CommitPlan, Executor
from node.engine.fork_watch import contradiction
from node.engine.mempool import Mempool, PassedOver
from node.engine.metrics import Metrics
from node.engine.peer_log import PeerLog
from node.engine.sync import sync_response
from node.engine.view_log import ViewLog
from node.network.frames import Channel
from node.network.links import PeerLinks
from node.storage.chain_store import ChainStore
from node.storage.errors import StorageError
from node.storage.journal import Journal

log = logging.getLogger("nostro.replica")

MAX_EVENTS_PER_TURN = 512
"""Events taken into one turn: bounds how long the first waits for the last one's sync."""
MAX_INBOX_PER_PEER = 2_048
"""Undelivered messages of one peer; beyond it they are dropped, as a lossy network would."""
MAX_INBOX_BYTES_PER_PEER = 64 * 1024 * 1024
"""… and their bytes: the largest sync answer fits, while a slow disk and a peer that sends one
body after another do not fill the memory."""
MAX_BODIES_BYTES = 24 * 1024 * 1024
"""Bytes that may wait for a peer when it asks for a block's body, about all that may stand above
the floor: a request costs it little, an answer costs us megabytes."""
PROMISES = (OwnVote, OwnProposal, Body, Witnessed)
"""Records of what others may rely on: they are durable before anything of their turn leaves. So is
evidence: who signed twice shows nobody the second vote again, and what is logged or counted of it
must not be gone with the next crash."""
MAX_UNSYNCED_BYTES = 1024 * 1024
"""Certificates that may wait for a turn with promises to sync them."""
MAX_DUE_WAIT_SECONDS = 3_600.0
"""Before the clock is looked at again for what the ledger has on its agenda: it may be set."""
MAX_WAITING_COMMITS = 64
"""Commits not yet in the database before turns pause for the disk."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""… and the bytes of their blocks. What one step stores ends there too."""


class VoteGuard(Protocol):
    """The record that stands beside the vote keys: see `node.storage.signer`."""

    @property
    def dirty(self) -> bool:
        """Whether a signature was given whose record is not durable yet."""

    def sync(self) -> None:
        """Make every record so far durable."""

    def prune(self, epoch: Epoch, view: View) -> None:
        """Forget votes below this view of this epoch, and refuse any there."""

    def condemn(self, reason: str) -> None:
        """Never sign again with the current key."""


class Member(Protocol):
    """This node's place in the validator set: see `node.engine.membership`."""

    @property
    def retired(self) -> str | None:
        """Why it does not sign though it is a member; None while it does, or is none."""

    def next_epoch(self, floor: Floor) -> EpochStarted:
        """The sealing block is stored. Sets up links and keys for the next set: from its return
        on messages come with that set's indexes."""

    def witnessed(self, evidence: Equivocation) -> None:
        """A validator signed twice."""


class Replica:
    """One validator's consensus at work."""

    def __init__(
        self,
        *,
        core: Epochs,
        executor: Executor,
        journal: Journal,
        signer: VoteGuard | None,
        clock: WallClock,
        membership: Member,
        links: PeerLinks,
        pool: Mempool,
        store: ChainStore,
        metrics: Metrics,
        view_log: ViewLog,
        io: ThreadPool,
        readers: ThreadPool,
        on_final: Callable[[CommitPlan], None],
        on_view: Callable[[int, int, list[PassedOver]], None],
        on_dropped: Callable[[list[bytes]], None],
    ) -> None:
        """`signer`: the record beside the keys that the core signs with, if it signs.

        `io` has a thread for each that may wait for the disk: journal, signer, database, mempool.
        `readers` serves what other validators ask for, and never keeps those waiting."""
        self.core = core
        self.last_commit_monotonic = time.monotonic()
        self.finalized_at: int | None = None
        """Wall clock of the last commit, ms; None if there was none since the start."""
        self.view_log = view_log
        self._executor = executor
        self._journal = journal
        self._signer = signer
        self._clock = clock
        self._links = links
        self._pool = pool
        self._store = store
        self._metrics = metrics
        self._io = io
        self._readers = readers
        self._on_final = on_final
        self._on_view = on_view
        self._on_dropped = on_dropped
        self._membership = membership
        self._generation = 0
        """Epochs begun since the start. A validator's index means nothing in another one."""
        self._peer_log = PeerLog(log)
        self._inbox: deque[tuple[Event, int]] = deque()
        """Events with the bytes of the message that they came as."""
        self._queued_of: dict[int, int] = {}
        self._queued_bytes_of: dict[int, int] = {}
        self._records: list[Record] = []
        self._outbox: list[Effect] = []
        self._unsynced = 0
        """Bytes of certificates in the journal's buffer."""
        self._wake = asyncio.Event()
        self._commits: deque[Commit] = deque()
        self._commit_bytes = 0
        self._commit_wake = asyncio.Event()
        self._commit_done = asyncio.Event()
        self._told_pending: bool | None = None
        self._has_built = False
        """Whether this turn has built a block."""
        self._next_build: Build | None = None
        """What the core asked for beyond that: the next turn's."""
        self._serving: dict[int, asyncio.Task[None]] = {}
        """Answers to sync requests that are being read, by peer."""

    @property
    def alarm(self) -> str | None:
        """Why this node does not sign, though it is a validator; None while it does."""
        return self.core.stopped or self._membership.retired

    # --- inputs ------------------------------------------------------------------------------

    def on_message(self, sender: int, payload: bytes) -> None:
        """A consensus or sync frame from an authenticated validator. Never raises."""
        try:
            message = decode_message(payload)
        except MalformedMessage as error:
            self._metrics.refused.labels("malformed").inc()
            self._peer_log.write(logging.WARNING, sender, "sent a malformed message: %s", error)
            return
        if isinstance(message, SyncRequest):
            self._serve_sync(sender, message)
            return
        queued = self._queued_of.get(sender, 0)
        size = self._queued_bytes_of.get(sender, 0) + len(payload)
        if queued >= MAX_INBOX_PER_PEER or size > MAX_INBOX_BYTES_PER_PEER:
            self._metrics.refused.labels("inbox-full").inc()
            return
        if isinstance(message, Proposal):
            self.view_log.proposal(sender, message.vote.view)
        if isinstance(message, Certificate):
            self._look_for_fork(message)
        self._queued_of[sender] = queued + 1
        self._queued_bytes_of[sender] = size
        self._give(Received(ValidatorIndex(sender), message), len(payload))

    def _look_for_fork(self, certificate: Certificate) -> None:
        if self.core.stopped is not None:
            return
        reason = contradiction(certificate, self._store, self._executor.final_state)
        if reason is not None:
            self.core.stop(reason)
            self._metrics.alarms.inc()
            log.error("this node stopped signing: %s", reason)

    def pool_changed(self) -> None:
        """The pool gained or lost instructions, or time passed: tell the core whether a block has
        something to do."""
        event = self._pending_event()
        if event is not None:
            self._give(event)

    def _pending_event(self) -> Pending | None:
        """What the core has to be told, if it does not know it."""
        pending = self._pending()
        if pending:
            self.view_log.pending()
        if pending == self._told_pending:
            return None
        self._told_pending = pending
        return Pending(pending)

    def _pending(self) -> bool:
        due = self._executor.next_due()
        return self._pool.pending or (due is not None and due <= self._clock.now_ms())

    def link_up(self, peer: int) -> None:
        """A validator that was away may be told what it missed."""
        self._give(Linked(ValidatorIndex(peer)))

    def _give(self, event: Event, size: int = 0) -> None:
        self._inbox.append((event, size))
        self._wake.set()

    def _serve_sync(self, sender: int, request: SyncRequest) -> None:
        """One answer a peer at a time, read in a thread: thirty bytes of request cost megabytes."""
        if sender not in self._serving and not self._links.queued(sender, Channel.SYNC):
            self._serving[sender] = asyncio.create_task(self._send_blocks(sender, request.first))

    async def _send_blocks(self, sender: int, first: int) -> None:
        def answer() -> bytes | None:
            response = sync_response(self._store, first)
            return None if response is None else encode(response)

        generation = self._generation
        try:
            data = await asyncio.get_running_loop().run_in_executor(self._readers, answer)
            if data is not None and generation == self._generation:
                self._links.send(sender, Channel.SYNC, data)
        except StorageError as error:
            # The asker turns to the next peer; this node's operator has to know.
            log.error("cannot serve blocks from height %d: %s", first, error)
        finally:
            if generation == self._generation:
                del self._serving[sender]

    # --- turns -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive the core until cancelled. Raises what storage raises when it cannot write."""
        commits = asyncio.create_task(self._commit_loop(), name="commits")
        turns = asyncio.create_task(self._turn_loop(), name="turns")
        try:
            done, _ = await asyncio.wait({commits, turns}, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            tasks = (commits, turns, *self._serving.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _turn_loop(self) -> None:
        self._absorb(self.core.start(self._now()))
        self.pool_changed()
        while True:
            self._has_built = False
            self._take_events()
            self._build_next()
            await self._flush()
            while self._database_lags():
                self._commit_done.clear()
                await self._commit_done.wait()
            self._rotate_journal()
            if not self._inbox and self._next_build is None:
                await self._wait()
                self.pool_changed()

    def _database_lags(self) -> bool:
        """Whether turns pause for it. Also when there always is a commit under way at the end of a
        turn: then the journal, which may not be rotated beside one, would grow for ever."""
        return bool(self._commits) and (
            len(self._commits) > MAX_WAITING_COMMITS
            or self._commit_bytes > MAX_WAITING_BYTES
            or self._journal.overgrown
        )

    async def _wait(self) -> None:
        delay = self._until_something()
        timer = None
        if delay is not None:
            timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._wake.clear()

    def _build_next(self) -> None:
        """Build what the turn before left to this one, unless its view is over by now."""
        effect, self._next_build = self._next_build, None
        if effect is None or (effect.epoch, effect.view) != (self.core.epoch, self.core.view):
            return
        self._absorb([effect])

    def _until_something(self) -> float | None:
        """Seconds until the core's next deadline, or until the ledger has something to do."""
        waits = []
        deadline = self.core.next_deadline()
        if deadline is not None:
            waits.append(max(0.0, deadline / 1000 - time.monotonic()))
        due = self._executor.next_due()
        if due is not None and not self._told_pending:
            # Not over a day: the wall clock may be set meanwhile.
            wait = (due - self._clock.now_ms()) / 1000
            waits.append(min(max(0.0, wait), MAX_DUE_WAIT_SECONDS))
        return min(waits, default=None)

    def _take_events(self) -> None:
        inbox = self._inbox
        for _ in range(min(len(inbox), MAX_EVENTS_PER_TURN)):
            event, size = inbox.popleft()
            if isinstance(event, Received):
                self._queued_of[event.sender] -= 1
                self._queued_bytes_of[event.sender] -= size
            elif isinstance(event, EpochStarted):
                # Only now: what came in since the seal was stored counts from the old core's view.
                self._pool.begin_epoch()
            self._absorb(self.core.handle(event, self._now()))
        deadline = self.core.next_deadline()
        now = self._now()
        if deadline is not None and now.monotonic >= deadline:
            self._absorb(self.core.handle(Tick(), now))

    def _absorb(self, effects: list[Effect]) -> None:
        """Take effects into the turn. Execution and building answer at once, in the same turn, but
        only one block is built in each: a member that is a quorum by itself could go on building
        for ever, and nothing else would get to run."""
        queue = deque(effects)
        while queue:
            effect = queue.popleft()
            if isinstance(effect, Persist):
                self._records.append(effect.record)
                if isinstance(effect.record, Certified):
                    self.view_log.certified(effect.record.certificate)
            elif isinstance(effect, Execute):
                executed = self._execute(effect)
                queue.extend(self._tell_pending())  # a bad block, too, may bring instructions
                queue.extend(self.core.handle(executed, self._now()))
            elif isinstance(effect, Build):
                if self._has_built:
                    self._next_build = effect
                    continue
                self._has_built = True
                built = self._build(effect)
                queue.extend(self._tell_pending())
                queue.extend(self.core.handle(built, self._now()))
            else:
                if isinstance(effect, EnteredView):
                    self._entering(effect)
                self._outbox.append(effect)
        self.pool_changed()

    def _tell_pending(self) -> list[Effect]:
        """Tell the core at once whether a block has something to do, before it decides by that."""
        event = self._pending_event()
        return [] if event is None else self.core.handle(event, self._now())

    def _entering(self, effect: EnteredView) -> None:
        """What a given up block held is pending again *before* the next block is built: done after
        it, that block would be without it, and would itself count as given up."""
        if effect.cause is Kind.NULLIFY:
            self._pool.clear_in_flight()
        self.view_log.entered(effect.view, effect.leader, effect.cause, pending=self._pending())

    def _execute(self, effect: Execute) -> Executed:
        started = time.perf_counter()
        reason = self._executor.execute(effect.info, effect.block)
        self._executed(effect.info.view, time.perf_counter() - started)
        if reason is None:
            self._pool.mark_in_flight(self._executor.instruction_digests(effect.info.digest))
        if reason is None:
            return Executed(effect.info.digest, valid=True)
        log.warning("block of view %d is bad: %s", effect.info.view, reason)
        return Executed(effect.info.digest, valid=False, reason=reason)

    def _build(self, effect: Build) -> Built:
        started = time.perf_counter()
        candidates = iter(()) if effect.empty else self._pool.candidates()
        block, standing, never = self._executor.build(effect, candidates)
        self._executed(effect.view, time.perf_counter() - started)
        if never:
            log.info("%d waiting instructions can never stand: %s, …", len(never), never[0].hex())
            self._on_dropped(self._pool.drop(never))
        self._pool.mark_in_flight(standing)
        return Built(effect.view, block)

    def _executed(self, view: int, seconds: float) -> None:
        self._metrics.execution.observe(seconds)
        self.view_log.executed(view, seconds)

    async def _flush(self) -> None:
        """End the turn: durable, then public. A turn that promises nothing is public at once: its
        records are certificates, which prove themselves to whoever lost them, and the next sync
        covers them."""
        generation = self._generation
        records, self._records = self._records, []
        promises = any(isinstance(record, PROMISES) for record in records)
        if records:
            encoded = [encode(record) for record in records]
            self._journal.append(encoded)
            self._unsynced += sum(map(len, encoded))
        if promises or self._unsynced > MAX_UNSYNCED_BYTES:
            await self._sync(records)
        outbox, self._outbox = self._outbox, []
        if generation != self._generation:
            outbox = _unaddressed(outbox)  # an epoch began during the sync
        assert not (promises and self._journal.dirty), "a promise would leave before it is durable"
        assert self._signer is None or not self._signer.dirty, "a vote would leave before its sync"
        for effect in outbox:
            self._publish(effect)
        self.view_log.tell_left()

    async def _sync(self, records: list[Record]) -> None:
        """Make what was appended durable. The event loop goes on meanwhile."""
        self._unsynced = 0
        started = time.perf_counter()
        await asyncio.get_running_loop().run_in_executor(self._io, self._sync_in_order)
        seconds = time.perf_counter() - started
        self._metrics.fsync.labels("journal").observe(seconds)
        self.view_log.synced(records, seconds)

    def _sync_in_order(self) -> None:
        """The journal first. Were the guard to keep a vote that the journal lost in a crash, this
        node could in that view neither repeat the vote nor give the view up, and with one more
        member down the chain would stand still. (What the journal alone kept is given to the guard
        at the next start.)"""
        self._journal.sync()
        if self._signer is not None:
            self._signer.sync()

    def _publish(self, effect: Effect) -> None:
        match effect:
            case Send(to, BlockResponse()) if (
                self._links.queued(to, Channel.SYNC) > MAX_BODIES_BYTES
            ):
                self._metrics.refused.labels("bodies-too-much").inc()
            case Send(to, message):
                self._links.send(to, _channel(message), encode(message))
            case Broadcast(message):
                self._links.broadcast(_channel(message), encode(message))
            case Commit():
                self._commits.append(effect)
                self._commit_bytes += _size(effect)
                self._commit_wake.set()
            case EnteredView(view, leader, cause):
                self._entered(view, leader, cause)
            case Rejected(sender, reason):
                self._metrics.refused.labels(reason).inc()
                self._peer_log.write(logging.INFO, sender, "sent what is refused: %s", reason)
            case Alarm(reason, retire_key):
                self._metrics.alarms.inc()
                if retire_key and self._signer is not None:
                    self._signer.condemn(reason)
                if self.core.stopped is not None:
                    log.error("this node stopped signing: %s", reason)
                else:
                    log.warning("%s", reason)
            case ReportEquivocation(equivocation):
                self._metrics.equivocations.inc()
                self._membership.witnessed(equivocation)
            case Straggler(peer, epoch):
                self._tell_straggler(peer, epoch)
            case _:
                raise AssertionError(f"not a publishable effect: {effect!r}")

    def _tell_straggler(self, peer: ValidatorIndex, epoch: Epoch) -> None:
        seal = self._store.seal(epoch)
        if seal is not None:
            sealed = EpochSealed(epoch, seal.carriers, seal.finalization)
            self._links.send(peer, Channel.SYNC, encode(sealed))

    def _entered(self, view: int, leader: int, cause: Kind | None) -> None:
        self._metrics.view.set(view)
        if cause is not None:
            self._metrics.views.labels(cause.name.lower()).inc()
        self._on_view(view, leader, self._pool.entered_view(view, leader))

    def _rotate_journal(self) -> None:
        """Have the next sync cut off what is final; only when the database holds the core's floor:
        a body or certificate above the *durable* floor must never be gone from the journal."""
        if self._commits or not self._journal.needs_rotation:
            return
        self._journal.rotate([encode(record) for record in self.core.live_records()])
        if self._signer is not None:
            floor = self.core.floor.info
            self._signer.prune(floor.epoch, floor.view)

    # --- commits -----------------------------------------------------------------------------

    async def _commit_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._commits:
                self._commit_done.set()
                self._commit_wake.clear()
                await self._commit_wake.wait()
            commits = self._next_commits()
            plan = self._executor.plan(commits)
            started = time.perf_counter()
            await loop.run_in_executor(
                self._io, self._store.commit, plan.blocks, plan.floor, plan.certificates
            )
            self._metrics.fsync.labels("database").observe(time.perf_counter() - started)
            for _ in commits:
                self._commit_bytes -= _size(self._commits.popleft())
            self._commit_done.set()
            self._executor.committed(plan)
            plan.forgotten = self._pool.settle(plan.instructions, plan.time)
            self._pool.replace_in_flight(self._executor.unfinalized_instructions())
            self.last_commit_monotonic = time.monotonic()
            self.finalized_at = self._clock.now_ms()
            self._on_final(plan)
            self.view_log.stored(plan.blocks, plan.floor.finalization)
            if plan.floor.info.seals:
                self._begin_epoch(plan.floor)
            self._told_pending = None  # the core asks to be told after every commit
            self.pool_changed()

    def _begin_epoch(self, floor: Floor) -> None:
        """The next validator set takes over. In one go: what came under an index of the old set
        is re-addressed, and goes to the core behind the event that tells it of the new one."""
        started = self._membership.next_epoch(floor)
        self._generation += 1
        self._serving = {}
        self._outbox = _unaddressed(self._outbox)
        waiting, self._inbox = self._inbox, deque([(started, 0)])
        self._queued_of, self._queued_bytes_of = {}, {}
        for event, size in waiting:
            if not isinstance(event, Received | Linked):
                self._inbox.append((event, size))
            elif isinstance(event, Received) and event.sender in started.moved:
                sender = started.moved[event.sender]
                self._queued_of[sender] = self._queued_of.get(sender, 0) + 1
                self._queued_bytes_of[sender] = self._queued_bytes_of.get(sender, 0) + size
                self._inbox.append((Received(sender, event.message), size))
        self._metrics.epoch.set(started.epoch)
        self._wake.set()

    def _now(self) -> Now:
        return Now(monotonic=int(time.monotonic() * 1000), wall=self._clock.now_ms())

    def _next_commits(self) -> list[Commit]:
        """Those that wait, in order, as far as one step may store them."""
        commits: list[Commit] = []
        size = 0
        for commit in self._commits:
            size += _size(commit)
            if commits and size > MAX_WAITING_BYTES:
                break
            commits.append(commit)
        return commits


def _size(commit: Commit) -> int:
    return sum(map(len, commit.bodies))


def _unaddressed(outbox: list[Effect]) -> list[Effect]:
    """Without what was for one validator of a set that is gone: the index is another's by now."""
    return [effect for effect in outbox if not isinstance(effect, Send | Straggler)]


def _channel(message: Message) -> Channel:
    if isinstance(message, BlockResponse | SyncResponse | SyncRequest):
        return Channel.SYNC
    return Channel.CONSENSUS
