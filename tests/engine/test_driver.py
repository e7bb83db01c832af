"""The driver's own duties, with a core that says what the test wants: order, bounds, failures."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

import pytest

from consensus.epochs import Epochs
from consensus.interface import (
    Broadcast,
    Build,
    Commit,
    Effect,
    EnteredView,
    Event,
    Floor,
    Now,
    Persist,
    Received,
    ReportEquivocation,
    Send,
)
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Body,
    Content,
    Epoch,
    Equivocation,
    Kind,
    Milliseconds,
    OwnVote,
    Record,
    ValidatorIndex,
    View,
    Vote,
    Witnessed,
    decode_message,
    decode_record,
    encode,
)
from node.engine.clock import WallClock
from node.engine.replica import (
    MAX_BODIES_BYTES,
    MAX_INBOX_BYTES_PER_PEER,
    MAX_INBOX_PER_PEER,
    MAX_WAITING_COMMITS,
    Replica,
)
from node.engine.view_log import ViewLog
from node.network.frames import Channel
from node.storage.errors import StorageError
from node.storage.journal import SEGMENT_BYTES, Journal
from node.storage.kv import Batch
from node.storage.memory import MemoryStore
from node.storage.signer import GuardedSigner
from node.storage.simulated_disk import SimulatedCrash, SimulatedDisk
from tests.support.cluster import FixedPlace
from tests.support.desk import BLOCK_MS, Desk
from tests.support.ledger_world import World

WAIT_SECONDS = 30.0
VIEWS = 4
"""Views that the scripted core votes in."""


@dataclass
class Script:
    """A core that answers every message with what `reply` gives, and has no timers."""

    reply: Callable[[Event], list[Effect]]
    handled: list[Event] = field(default_factory=list)
    turned: asyncio.Event = field(default_factory=asyncio.Event)
    floor: Floor | None = None

    def start(self, now: Now) -> list[Effect]:
        return []

    def handle(self, event: Event, now: Now) -> list[Effect]:
        if not isinstance(event, Received):
            return []
        self.handled.append(event)
        self.turned.set()
        return self.reply(event)

    def next_deadline(self) -> int | None:
        return None

    @property
    def stopped(self) -> str | None:
        return None

    def live_records(self) -> list[Record]:
        return []


class Driven:
    """A replica on a simulated disk; what it sends is in `desk.links.sent`."""

    def __init__(
        self,
        reply: Callable[[Event], list[Effect]] = lambda _: [],
        *,
        database: MemoryStore | None = None,
    ) -> None:
        self.desk = Desk(World.make(), database)
        self.disk = SimulatedDisk()
        self.disk.make_directory("home")
        self.script = Script(reply)
        self.journal, _ = Journal.open(self.disk, "home/journal", create=True)
        self.signer = GuardedSigner(
            self.desk.world.votes[0],
            self.desk.world.chain_id,
            self.disk,
            "home/signer",
            create=True,
        )
        self.io = ThreadPoolExecutor(2)
        self.place = FixedPlace(self.desk.world.genesis.validator_set, 0)
        self.replica = Replica(
            core=cast(Epochs, self.script),
            executor=self.desk.executor,
            journal=self.journal,
            signer=self.signer,
            clock=WallClock(),
            membership=self.place,
            links=self.desk.links,
            pool=self.desk.pool,
            store=self.desk.store,
            metrics=self.desk.metrics,
            view_log=ViewLog([f"node{i}" for i in range(4)], self.desk.metrics),
            io=self.io,
            readers=self.io,
            on_final=lambda plan: None,
            on_view=lambda view, leader, passed_over: None,
            on_dropped=lambda digests: None,
        )

    def vote(self, view: int) -> Vote:
        content = Content(view - 1, bytes(32))
        signature = self.signer.sign_vote(Epoch(0), View(view), Kind.NOTARIZE, content)
        return Vote(0, view, Kind.NOTARIZE, content, ValidatorIndex(0), signature)

    def close(self) -> None:
        self.io.shutdown()
        self.desk.io.shutdown()


@pytest.fixture
def driven() -> Iterator[Driven]:
    made = Driven()
    yield made
    made.close()


def message(view: int = 1) -> bytes:
    return encode(BlockRequest(0, view, bytes(32)))


async def run_until(driven: Driven, done: Callable[[], bool]) -> None:
    """Run the driver until a condition holds after one of the core's turns, or it fails."""
    running = asyncio.create_task(driven.replica.run())
    try:
        await turns_until(driven, running, done)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def turns_until(
    driven: Driven, running: asyncio.Task[None], done: Callable[[], bool]
) -> None:
    """Wait until a condition holds after one of the core's turns; raises what ends the driver."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not done() and not running.done():
            driven.script.turned.clear()
            turned = asyncio.create_task(driven.script.turned.wait())
            await asyncio.wait({running, turned}, return_when=asyncio.FIRST_COMPLETED)
            turned.cancel()
    if running.done():
        running.result()


# --- persist before send --------------------------------------------------------------------------


def voting() -> Driven:
    """A driver whose core votes in the view that each message names."""
    made = Driven()

    def reply(event: Event) -> list[Effect]:
        assert isinstance(event, Received)
        assert isinstance(event.message, BlockRequest)
        vote = made.vote(event.message.view)
        return [Persist(OwnVote(vote)), Broadcast(vote)]

    made.script.reply = reply
    return made


async def vote_until_the_crash(driven: Driven, operations: int) -> bool:
    """Vote in some views on a disk that dies after so many operations; whether it died."""
    running = asyncio.create_task(driven.replica.run())
    driven.disk.crash_after = operations
    try:
        for view in range(1, VIEWS + 1):
            driven.desk.links.woken.clear()
            driven.replica.on_message(1, message(view))
            left = asyncio.create_task(driven.desk.links.woken.wait())
            await asyncio.wait(
                {running, left}, timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            left.cancel()
            if running.done():
                break
        return running.done()
    finally:
        running.cancel()
        (result,) = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(result, SimulatedCrash | asyncio.CancelledError), result


async def test_no_vote_has_left_that_any_power_cut_could_make_the_node_forget() -> None:
    died, operations = True, 0
    while died:
        driven = voting()
        died = await vote_until_the_crash(driven, operations)
        sent = {decode_message(payload) for _, _, payload in driven.desk.links.sent}
        driven.disk.crash(random.Random(operations))
        _, records = Journal.open(driven.disk, "home/journal")
        kept = {
            record.vote for record in map(decode_record, records) if isinstance(record, OwnVote)
        }
        assert sent <= kept, f"forgot a vote that was sent, at operation {operations}"
        guard = GuardedSigner(
            driven.desk.world.votes[0], driven.desk.world.chain_id, driven.disk, "home/signer"
        )
        assert all(guard.remembers(vote) for vote in sent if isinstance(vote, Vote))
        driven.close()
        operations += 1
    assert operations > 2 * VIEWS, "every persistence point was visited"
    assert len(sent) == VIEWS


def witnessing() -> Driven:
    """A driver whose core sees a validator sign twice in the view that each message names."""
    made = Driven()

    def reply(event: Event) -> list[Effect]:
        assert isinstance(event, Received)
        assert isinstance(event.message, BlockRequest)
        view = event.message.view
        pair = Equivocation(
            Vote(0, view, Kind.NULLIFY, None, 3, bytes(64)),
            Vote(0, view, Kind.FINALIZE, Content(0, bytes(32)), 3, bytes(64)),
        )
        return [Persist(Witnessed(pair)), ReportEquivocation(pair), Broadcast(pair.first)]

    made.script.reply = reply
    return made


async def test_no_equivocation_was_told_of_that_any_power_cut_could_make_the_node_forget() -> None:
    died, operations = True, 0
    while died:
        driven = witnessing()
        died = await vote_until_the_crash(driven, operations)
        driven.disk.crash(random.Random(operations))
        _, records = Journal.open(driven.disk, "home/journal")
        kept = [
            record.equivocation
            for record in map(decode_record, records)
            if isinstance(record, Witnessed)
        ]
        told = driven.place.evidence
        assert all(each in kept for each in told), f"forgot evidence, at operation {operations}"
        driven.close()
        operations += 1
    assert len(told) == VIEWS


@pytest.mark.parametrize("fault", ["full", "fsync"])
async def test_a_disk_that_fails_ends_the_driver_with_its_reason_and_nothing_leaves(
    fault: str,
) -> None:
    driven = voting()
    if fault == "full":
        driven.disk.capacity = 0
    else:
        driven.disk.fail_next_sync = True
    driven.replica.on_message(1, message())
    with pytest.raises(StorageError, match=r"No space left|Input/output"):
        await run_until(driven, lambda: False)
    assert not driven.desk.links.sent
    driven.close()


# --- bounds on peers ------------------------------------------------------------------------------


async def test_the_inbox_of_a_peer_is_bounded_in_messages_and_its_own(driven: Driven) -> None:
    for _ in range(MAX_INBOX_PER_PEER + 5):
        driven.replica.on_message(1, message())
    assert driven.desk.refused("inbox-full") == 5
    driven.replica.on_message(2, message())
    assert driven.desk.refused("inbox-full") == 5, "another peer's is its own"
    await run_until(driven, lambda: len(driven.script.handled) == MAX_INBOX_PER_PEER + 1)
    driven.replica.on_message(1, message())
    assert driven.desk.refused("inbox-full") == 5, "there is room again"


async def test_the_inbox_of_a_peer_is_bounded_in_bytes(driven: Driven) -> None:
    large = encode(BlockResponse(0, bytes(4 * 1024 * 1024)))
    fit = MAX_INBOX_BYTES_PER_PEER // len(large)
    for _ in range(fit + 2):
        driven.replica.on_message(1, large)
    assert driven.desk.refused("inbox-full") == 2
    await run_until(driven, lambda: len(driven.script.handled) == fit)
    driven.replica.on_message(1, large)
    assert driven.desk.refused("inbox-full") == 2


async def test_malformed_frames_are_counted_and_go_no_further(driven: Driven) -> None:
    frames = [b"", b"\xc1", b"\x91" * 10_000, message() + b"\0", encode(OwnVote(driven.vote(1)))]
    for frame in frames:
        driven.replica.on_message(1, frame)
    driven.replica.on_message(1, message())
    await run_until(driven, lambda: bool(driven.script.handled))
    assert driven.desk.refused("malformed") == len(frames)
    assert len(driven.script.handled) == 1


async def test_bodies_asked_for_again_and_again_are_sent_within_a_bound() -> None:
    body = BlockResponse(0, bytes(4 * 1024 * 1024))
    driven = Driven(lambda _: [Send(ValidatorIndex(1), body)])
    for _ in range(64):
        driven.replica.on_message(1, message())
    await run_until(driven, lambda: len(driven.script.handled) == 64)
    assert driven.desk.links.queued(1, Channel.SYNC) <= MAX_BODIES_BYTES + len(encode(body))
    driven.close()


async def test_what_a_given_up_block_held_stands_in_the_very_next_block(driven: Driven) -> None:
    desk = driven.desk
    payment = desk.world.issue("CENTRALBANK", "BANKA", 1_000)
    desk.pool.add(payment, view=1, local=False)
    desk.pool.mark_in_flight([payment.digest])  # in the block of view 1, which is given up
    view, leader = View(2), ValidatorIndex(0)
    timestamp = Milliseconds(desk.floor.timestamp + BLOCK_MS)
    driven.script.reply = lambda _: [
        EnteredView(view, leader, Kind.NULLIFY),
        Build(Epoch(0), view, desk.floor, timestamp, leader, empty=False),
    ]
    driven.replica.on_message(1, message())
    await run_until(driven, lambda: bool(desk.executor.unfinalized_instructions()))
    assert desk.executor.unfinalized_instructions() == [payment.digest]
    assert not desk.pool.pending, "it waits for nothing but that block's finality"


# --- pauses ---------------------------------------------------------------------------------------


class SlowDatabase(MemoryStore):
    """Writes only while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def write(self, batch: Batch, sync: bool = True) -> None:
        assert self.gate.wait(WAIT_SECONDS)
        super().write(batch, sync)


IDLE_ROUNDS = 50
"""Rounds of the event loop in which a driver that does not pause takes its next turn."""


async def feed(driven: Driven, messages: int) -> None:
    """One message after the other, each in a turn of its own if the driver takes one."""
    for view in range(1, messages + 1):
        driven.replica.on_message(1, message(view))
        for _ in range(IDLE_ROUNDS):
            await asyncio.sleep(0)


async def test_turns_pause_while_too_many_commits_wait_for_the_database() -> None:
    database = SlowDatabase()
    driven = Driven(database=database)
    desk, parent, commits = driven.desk, driven.desk.floor, deque[Commit]()
    for _ in range(MAX_WAITING_COMMITS + 20):
        info, raw = desk.build(parent=parent)
        commits.append(desk.commit(info, raw, parent.view))
        parent = info
    wanted = len(commits)
    driven.script.reply = lambda _: [commits.popleft()]
    database.gate.clear()
    running = asyncio.create_task(driven.replica.run())
    try:
        await feed(driven, wanted)
        assert len(driven.script.handled) == MAX_WAITING_COMMITS + 1
        assert desk.floor.height < parent.height
        database.gate.set()
        await turns_until(driven, running, lambda: len(driven.script.handled) == wanted)
    finally:
        database.gate.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    driven.close()


async def test_turns_pause_for_the_database_when_the_journal_beside_it_is_overgrown() -> None:
    """It may not be rotated while a commit is under way: with one always under way it would grow
    for ever."""
    database = SlowDatabase()
    driven = Driven(database=database)
    desk = driven.desk
    info, raw = desk.build()
    commit = desk.commit(info, raw, desk.floor.view)
    body = Body(0, 1, bytes(SEGMENT_BYTES // 2 + 1))
    handled = driven.script.handled
    driven.script.floor = Floor(info, commit.finalization)
    driven.script.reply = lambda _: [Persist(body), *([commit] if len(handled) == 1 else ())]
    database.gate.clear()
    running = asyncio.create_task(driven.replica.run())
    given = 0
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not driven.journal.overgrown:
                if given == len(handled):
                    given += 1
                    driven.replica.on_message(1, message(given))
                await asyncio.sleep(0)
            paused_after = len(handled)
            await feed(driven, 1)
            assert len(handled) == paused_after
            database.gate.set()
        await turns_until(driven, running, lambda: len(handled) > paused_after)
        assert desk.floor.height == info.height
    finally:
        database.gate.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    driven.close()
