"""Everything a node keeps on disk, together, through a crash at every persistence point.

Journal, signer's record and database as a node uses them for a few views: vote, sync, commit,
rotate, prune, an orderly restart. At every disk operation and database write the process dies, the
disk keeps every combination of what it may keep (prefixes by byte, torn sectors, renames, the
mark, unsynced batches), and the next start dies in its turn at each operation of recovery.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator

import pytest

from consensus.interface import SigningRefused
from consensus.messages import Content, Epoch, Kind, View
from devnet.sim.points import Fate, next_plan
from node.chain.signature import Ed25519Signer
from node.storage import signer as signer_module
from node.storage.chain_store import ChainStore
from node.storage.journal import Journal
from node.storage.memory import MemoryStore
from node.storage.signer import GuardedSigner
from node.storage.simulated_disk import SimulatedCrash, SimulatedDisk
from tests.support.storage import assert_whole, floor_of, make_chain

VIEWS = 6
CHAIN = bytes(32)
KEY = Ed25519Signer(b"k" * 32)
BLOCKS = make_chain(VIEWS + 4, padding=64)
LARGE_VIEW = 3
"""The view whose record takes several sectors, so that they can be torn one by one."""
MAX_FATES = 200
"""Outcomes of one crash that are tried, spread over all of them where there are more."""

Ballot = tuple[int, Kind, Content | None]


def ballot_of(view: int) -> Ballot:
    """What this node votes: every third view it gives up."""
    if view % 3 == 0:
        return view, Kind.NULLIFY, None
    return view, Kind.NOTARIZE, Content(view - 1, bytes([view]) * 32)


def record_of(view: int) -> bytes:
    return b"vote of view %d" % view + bytes([view]) * (1_300 if view == LARGE_VIEW else 20)


class Machine:
    """The disk, and what was promised on the strength of what is on it."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk(1)
        self.kv = MemoryStore()
        self.durable: set[int] = set()
        """Views whose journal record was synced."""
        self.published: set[int] = set()
        """Views whose vote may have left."""
        self.written = 0
        self.committed = 0
        """Blocks that were told to be committed; the genesis block is one."""
        self.floor = 0
        """The view below which the journal was rotated."""

    def open(self) -> None:
        """A start of the process."""
        self.guard = GuardedSigner(KEY, CHAIN, self.disk, "signer", create=True)
        self.journal, self.found = Journal.open(self.disk, "journal", create=True, binding=CHAIN)
        self.store = ChainStore(self.kv)

    def view(self, view: int) -> None:
        """Vote, and commit the block of the view."""
        self.guard.sign_vote(Epoch(0), View(view), *ballot_of(view)[1:])
        self.written = view
        self.journal.append([record_of(view)])
        self.journal.sync()
        self.durable.add(view)
        self.guard.sync()
        self.published.add(view)
        self.disk.step()
        self.store.commit([BLOCKS[self.committed]], floor_of(BLOCKS[self.committed]))
        self.committed += 1
        self.disk.step()
        self.kv.write([(b"pforgotten%d" % view, b"")], sync=False)
        self.disk.step()

    def rotate(self, floor: int) -> None:
        """With the floor durable in the database, as the journal demands."""
        live = [record_of(view) for view in sorted(self.durable) if view > floor]
        self.journal.rotate(live)
        self.floor = floor  # from here on older records may be gone, or still there
        self.journal.sync()
        self.guard.prune(Epoch(0), View(floor))
        self.guard.sync()

    def life(self) -> None:
        """All of it, once."""
        self.open()
        for view in range(1, VIEWS + 1):
            self.view(view)
            if view % 2 == 0:
                self.rotate(view - 1)
            if view == VIEWS - 1:
                self.journal.close()
                self.guard.close()
                self.open()

    def forget(self) -> None:
        """What the process had open goes with it."""
        for handle in ("guard", "journal", "store"):
            self.__dict__.pop(handle, None)

    def crash(self, fate: Fate) -> None:
        power = fate.random() < 0.5
        survivors = fate.randint(0, self.kv.unsynced) if power else self.kv.unsynced
        self.kv = self.kv.crash(survivors)
        self.disk.crash(fate, power)

    def judge(self) -> None:
        """What a start finds is what it must."""
        views = [int(record.split(b" ")[3][:1]) for record in self.found]
        assert self.found == [record_of(view) for view in views]
        assert {view for view in self.durable if view > self.floor} <= set(views)
        assert set(views) <= set(range(1, self.written + 1))
        assert views == sorted(set(views))
        assert assert_whole(self.kv, BLOCKS) == self.committed
        for view in self.published:
            kind, content = ballot_of(view)[1:]
            if view < self.floor:
                continue
            other = Content(0, b"other" + bytes(27))
            with pytest.raises(SigningRefused):
                self.guard.sign_vote(Epoch(0), View(view), Kind.NOTARIZE, other)
            if view > self.floor:
                self.guard.sign_vote(Epoch(0), View(view), kind, content)


def fates() -> Iterator[Fate]:
    """Every outcome of a crash, in order; then, where they are too many, a sample of all."""
    plan: list[int] | None = []
    for number in range(MAX_FATES):
        if plan is None:
            return
        fate = Fate(plan) if number < MAX_FATES // 2 else Fate([], random.Random(number))
        yield fate
        plan = next_plan(fate) if number < MAX_FATES // 2 else []


def died(machine: Machine, operation: int) -> bool:
    """Live until this operation; whether it came to that."""
    machine.disk.crash_after = operation
    try:
        machine.life()
    except SimulatedCrash:
        machine.forget()
        return True
    return False


@pytest.fixture(autouse=True)
def early_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the signer's record is rewritten within a few votes."""
    monkeypatch.setattr(signer_module, "PRUNE_RECORDS", 2)


PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_a_crash_at_any_persistence_point_keeps_every_promise(part: int) -> None:
    points, runs, operation = 0, 0, part
    while True:
        at_death = Machine()
        if not died(at_death, operation):
            break
        points += 1
        for fate in fates():
            machine = copy.deepcopy(at_death)
            machine.crash(fate)
            machine.open()
            machine.judge()
            runs += 1
        operation += PARTS
    print(f"{points} persistence points, {runs} outcomes")
    assert points >= 20
    assert runs >= 10 * points


def test_a_crash_at_any_point_of_recovery_from_any_crash_keeps_every_promise() -> None:
    points, operation = 0, 0
    while True:
        at_death = Machine()
        if not died(at_death, operation):
            break
        for number in range(3):
            first = copy.deepcopy(at_death)
            first.crash(Fate([], random.Random(f"{operation} {number}")))
            for inner in range(40):
                machine = copy.deepcopy(first)
                machine.disk.crash_after = inner
                try:
                    machine.open()
                except SimulatedCrash:
                    points += 1
                    machine.forget()
                    machine.crash(Fate([], random.Random(f"{operation} {number} {inner}")))
                    machine.open()
                    machine.judge()
                else:
                    break
        operation += 1
    print(f"{points} persistence points of recovery")
    assert points >= 500


def test_after_any_crash_the_node_goes_on() -> None:
    operation = 0
    while True:
        machine = Machine()
        if not died(machine, operation):
            break
        machine.crash(Fate([], random.Random(operation)))
        machine.open()
        machine.judge()
        for view in (VIEWS + 1, VIEWS + 2):
            machine.view(view)
            machine.rotate(view)
        machine.crash(Fate([], random.Random(-operation)))
        machine.open()
        machine.judge()
        operation += 1
    assert operation >= 80
