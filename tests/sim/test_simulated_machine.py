"""The simulator's parts do what their docstrings promise: clocks, links, disks, application."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from consensus.interface import BodyMismatch, Build, SigningRefused
from consensus.messages import (
    Certificate,
    Content,
    Epoch,
    Kind,
    Milliseconds,
    ValidatorIndex,
    View,
)
from devnet.sim.application import (
    GENESIS,
    SYNC_BLOCKS,
    Application,
    Database,
    SimCodec,
    decode_block,
    info_of,
)
from devnet.sim.disk import ModelDisk, NodeDisk, StorageDisk
from devnet.sim.members import genesis_set
from devnet.sim.network import Conditions, Gossip, Network, Packet
from devnet.sim.world import MILLISECOND, Violation, World

ONE, TWO = Content(0, b"1" * 32), Content(0, b"2" * 32)

DISKS: list[Callable[[], NodeDisk]] = [lambda: ModelDisk(0), lambda: StorageDisk(0, 7)]
either_disk = pytest.mark.parametrize("make", DISKS, ids=["model", "storage"])


# --- virtual time -------------------------------------------------------------------------------


def test_events_run_in_order_of_time_then_of_scheduling() -> None:
    world, seen = World(0), list[str]()
    world.at(20, seen.append, "late")
    world.at(10, seen.append, "first")
    world.at(10, seen.append, "second")
    world.run(15)
    assert (seen, world.now) == (["first", "second"], 15)


def test_a_loop_that_takes_no_virtual_time_is_caught() -> None:
    world = World(0)

    def again() -> None:
        world.after(0, again)

    again()
    with pytest.raises(Violation, match="bounded-work"):
        world.run(1)


# --- links --------------------------------------------------------------------------------------


class Listener:
    def __init__(self, index: int, network: Network) -> None:
        self.index = index
        self.heard: list[Packet] = []
        self.links: list[int] = []
        network.attach(self)

    def start(self) -> None: ...

    def deliver(self, sender: int, packet: Packet, data: bytes) -> None:
        self.heard.append(packet)

    def linked(self, peer: int) -> None:
        self.links.append(peer)


def network(conditions: Conditions) -> tuple[World, Network, list[Listener]]:
    world = World(0)
    links = Network(world, 3, conditions)
    return world, links, [Listener(index, links) for index in range(3)]


def numbers(listener: Listener) -> list[int]:
    return [p.numbers[0] for p in listener.heard if isinstance(p, Gossip)]


def test_a_calm_link_delivers_once_and_an_ordered_one_in_order() -> None:
    world, links, listeners = network(Conditions(ordered=True))
    for number in range(50):
        links.broadcast(0, Gossip((number,)))
    world.run(1_000 * MILLISECOND)
    assert [numbers(listener) for listener in listeners] == [[], [*range(50)], [*range(50)]]


def test_links_lose_repeat_and_reorder_as_told() -> None:
    world, links, listeners = network(Conditions(loss=0.3, duplicate=0.3))
    for number in range(200):
        links.send(0, 1, Gossip((number,)))
    world.run(1_000 * MILLISECOND)
    heard = numbers(listeners[1])
    assert heard != sorted(heard)
    assert len(set(heard)) == 200 - world.faults["lost"] < 200
    assert len(heard) - len(set(heard)) == world.faults["duplicated"] > 0


def test_a_partition_is_one_sided_and_takes_what_is_under_way() -> None:
    world, links, listeners = network(Conditions())
    links.send(0, 1, Gossip((1,)))
    links.send(1, 0, Gossip((2,)))
    links.blocked.add((0, 1))
    links.send(0, 1, Gossip((3,)))
    world.run(1_000 * MILLISECOND)
    assert (numbers(listeners[1]), numbers(listeners[0])) == ([], [2])


def test_members_find_each_other_again_once_nothing_keeps_them_apart() -> None:
    world, links, listeners = network(Conditions())
    links.blocked |= {(0, 1), (1, 0), (2, 0)}
    links.unblock(frozenset({(0, 1), (2, 0)}))
    world.run(1_000 * MILLISECOND)
    assert [listener.links for listener in listeners] == [[2], [], [0]]


# --- disks --------------------------------------------------------------------------------------


@either_disk
def test_what_was_synced_survives_every_crash(make: Callable[[], NodeDisk]) -> None:
    rng = random.Random(1)
    disk = make()
    durable: list[bytes] = []
    disk.open()
    for turn in range(60):
        disk.append([b"durable %d" % turn])
        disk.begin_sync()
        if rng.random() < 0.5:
            disk.append([b"too late for this sync %d" % turn])
        disk.end_sync()
        durable.append(b"durable %d" % turn)
        if rng.random() < 0.5:
            disk.begin_sync()
        disk.crash(rng, inside=rng.random() < 0.5)
        _, found = disk.open()
        assert [record for record in found if record in set(durable)] == durable
        assert found == disk.journal()


@either_disk
def test_what_was_not_synced_is_lost_sometimes(make: Callable[[], NodeDisk]) -> None:
    lost = 0
    for seed in range(20):
        disk = make()
        disk.open()
        disk.append([b"one", b"two", b"three"])
        disk.begin_sync()
        lost += disk.crash(random.Random(seed), inside=True)
    assert 0 < lost < 60


@either_disk
def test_a_crash_inside_a_rotation_leaves_the_old_or_the_new(make: Callable[[], NodeDisk]) -> None:
    old, new = [b"old 1", b"old 2"], [b"new"]
    seen = set()
    for seed in range(40):
        disk = make()
        disk.open()
        disk.append(old)
        disk.begin_sync()
        disk.end_sync()
        disk.begin_rotation(new)
        disk.crash(random.Random(seed), inside=True)
        assert disk.journal() in (old, new)
        seen.add(tuple(disk.journal()))
    assert len(seen) == 2


@either_disk
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((Kind.NOTARIZE, ONE), (Kind.NOTARIZE, TWO)),
        ((Kind.FINALIZE, ONE), (Kind.FINALIZE, TWO)),
        ((Kind.FINALIZE, ONE), (Kind.NULLIFY, None)),
        ((Kind.NULLIFY, None), (Kind.FINALIZE, ONE)),
        ((Kind.NULLIFY, None), (Kind.NOTARIZE, ONE)),
    ],
)
def test_the_guard_refuses_conflicting_votes_after_a_crash_too(
    make: Callable[[], NodeDisk],
    first: tuple[Kind, Content | None],
    second: tuple[Kind, Content | None],
) -> None:
    disk = make()
    guard, _ = disk.open()
    signature = guard.sign_vote(Epoch(0), View(1), *first)
    disk.begin_sync()
    disk.end_sync()
    disk.crash(random.Random(0), inside=False)
    guard, _ = disk.open()
    assert guard.sign_vote(Epoch(0), View(1), *first) == signature
    with pytest.raises(SigningRefused):
        guard.sign_vote(Epoch(0), View(1), *second)
    assert guard.sign_vote(Epoch(0), View(2), *second)


@either_disk
def test_the_guard_never_remembers_a_vote_that_the_journal_lost(
    make: Callable[[], NodeDisk],
) -> None:
    """Else a node could come back to a view that it may neither finalize nor give up."""
    lost = 0
    for seed in range(40):
        disk = make()
        guard, _ = disk.open()
        guard.sign_vote(Epoch(0), View(1), Kind.FINALIZE, ONE)
        disk.append([b"other", b"finalize"])
        disk.begin_sync()
        disk.crash(random.Random(seed), inside=True)
        guard, found = disk.open()
        if b"finalize" not in found:
            lost += 1
            assert guard.sign_vote(Epoch(0), View(1), Kind.NULLIFY, None)
    assert 0 < lost < 40


# --- application --------------------------------------------------------------------------------


def application(database: Database | None = None) -> Application:
    return Application(database or Database(), genesis_set(4), ())


def build(on: Application, view: int, empty: bool = False) -> bytes:
    return on.build(
        Build(
            Epoch(0),
            View(view),
            GENESIS,
            Milliseconds(GENESIS.timestamp + 1),
            ValidatorIndex(view % 4),
            empty,
        )
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 1},
        {"view": 0},
        {"height": 2},
        {"timestamp": GENESIS.timestamp},
        {"proposer": 3},
        {"state": bytes(32)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_block_with_one_wrong_field_is_bad(wrong: dict[str, object]) -> None:
    good = decode_block(build(application(), 1))
    assert application().execute(msgspec.msgpack.encode(good)) == ""
    bad = msgspec.structs.replace(good, header=msgspec.structs.replace(good.header, **wrong))
    assert application().execute(msgspec.msgpack.encode(bad)) != ""


def test_a_body_that_is_not_its_headers_is_no_block() -> None:
    good = decode_block(build(application(), 1))
    other = msgspec.msgpack.encode(msgspec.structs.replace(good, payload=(1,)))
    for raw in (other, b"", msgspec.msgpack.encode(good) + b"x"):
        with pytest.raises(BodyMismatch):
            SimCodec().inspect(raw)


def test_an_instruction_is_pending_until_a_live_block_has_it() -> None:
    made = application()
    assert not made.pending()
    assert made.learn((5,))
    assert not made.learn((5,))
    assert made.pending()
    raw = build(made, 1)
    made.execute(raw)
    assert not made.pending()
    other = build(made, 2, empty=True)
    made.execute(other)
    made.committed([info_of(decode_block(other).header)], [other])
    assert made.pending(), "the block that had it lost its place"


def test_storage_answers_end_at_a_certified_height() -> None:
    database = Database()
    finalization = Certificate(0, 1, Kind.FINALIZE, ONE, ())
    made = application(database)
    parent = GENESIS
    for height in range(1, 2 * SYNC_BLOCKS + 1):
        raw = made.build(
            Build(
                Epoch(0),
                View(height),
                parent,
                Milliseconds(parent.timestamp + 1),
                ValidatorIndex(height % 4),
                True,
            )
        )
        assert made.execute(raw) == ""
        parent = info_of(decode_block(raw).header)
        database.commit([parent], [raw], finalization)
        made.committed([parent], [raw])
    answer = database.serve(3)
    assert answer is not None
    assert len(answer.blocks) == SYNC_BLOCKS
    assert decode_block(answer.blocks[0]).header.height == 3
    assert database.serve(0) is None
    assert database.serve(2 * SYNC_BLOCKS + 1) is None
    assert application(database).has_executed(parent.digest)
