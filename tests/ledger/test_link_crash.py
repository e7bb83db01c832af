"""A node that dies at any moment of the blocks of a linked settlement has both legs or neither.

Journal, executor, ledger and database as a node uses them. The process dies at every disk operation
and database write, the disk keeps every combination of what it may keep, and the next start dies in
its turn at each operation of recovery. Whatever is found is the state of one whole block: both
balances moved, both outcomes indexed and the link gone, or nothing of it; then the node goes on to
the same end.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from consensus.interface import Commit
from consensus.messages import Certificate, Content, Kind
from devnet.sim.points import Fate, next_plan
from node.chain.block import inspect_block
from node.chain.build import link_id
from node.chain.records import LinkKey, PaymentKey
from node.engine.executor import Executor
from node.engine.mempool import Mempool
from node.engine.node import load_chain
from node.ledger.state import State, recount
from node.ledger.tables import LINKS, PAYMENTS
from node.storage.chain_store import ChainStore
from node.storage.journal import Journal
from node.storage.memory import MemoryStore
from node.storage.simulated_disk import SimulatedCrash, SimulatedDisk
from tests.support.steps import Stage

MAX_FATES = 24
"""Outcomes of one crash that are tried, spread over all of them where there are more."""
MAX_RECOVERY = 60
"""Operations of one recovery, at most."""


class Script(NamedTuple):
    """What happens, and what it must come to."""

    stage: Stage
    blocks: list[bytes]
    """From height 1 on."""
    roots: list[bytes]
    """State roots from height 0 on."""
    agreed: tuple[int, int]
    """Heights of the two agreements."""
    settled: int
    """Height of the block in which both legs, and a payment that waited for them, settle."""


@cache
def script() -> Script:
    """Euros against yuan, short at first."""
    s = Stage()
    s.play("""
        fund A 100                   |                      | A 100
        fund B 899 CNY               |                      | B.CNY 899
        leg e A B 40                 |                      |
        leg y B A 900 CNY            |                      |
        agree k A e+y                | e accepted           |
        pay p B C 30                 | p queued/AM04        |
        agree k B                    | y accepted           |
        fund C 5                     |                      | C 5
    """)
    agreed = s.chain.state.height - 3, s.chain.state.height - 1
    s.play("""
        fund B 1 CNY   |                      | A 60 B 10 C 35 B.CNY 0 A.CNY 900
        pay q A C 10   | q settled            | A 50 C 45
    """)
    genesis = s.chain.genesis.applied.state_root
    return Script(
        s,
        [block.raw for block in s.chain.blocks],
        [genesis, *(block.header.state_root for block in s.chain.blocks)],
        agreed,
        s.chain.state.height - 1,
    )


class Machine:
    """A node's disk and database, and what it told on the strength of what is in them."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk(1)
        self.kv = MemoryStore()
        self.told = 0
        """Height up to which blocks were told to be final."""
        self.durable = 0
        """Height up to which blocks were synced to the journal."""

    def open(self) -> None:
        """A start of the process: what the journal has and the database not is executed again."""
        world = script().stage.world
        self.journal, found = Journal.open(
            self.disk, "journal", create=True, binding=world.chain_id
        )
        self.store = ChainStore(self.kv)
        state, _ = load_chain(world.genesis, self.store)
        self.executor = Executor(world.genesis, state, Mempool())
        for raw in found:
            if inspect_block(raw).header.height == self.height + 1:
                self.commit(raw)

    @property
    def height(self) -> int:
        return self.executor.final_state.height

    def take(self, raw: bytes) -> None:
        """A block comes and is final."""
        self.journal.append([raw])
        self.journal.sync()
        self.durable = max(self.durable, inspect_block(raw).header.height)
        self.disk.step()
        self.commit(raw)
        if self.height % 3 == 0:
            self.journal.rotate([])
            self.journal.sync()

    def commit(self, raw: bytes) -> None:
        info = self.executor.inspect(raw)
        assert self.executor.execute(info, raw) is None
        self.disk.step()
        signatures = tuple((index, bytes(64)) for index in range(3))
        content = Content(info.view - 1, info.digest)
        final = Certificate(0, info.view, Kind.FINALIZE, content, signatures)
        plan = self.executor.plan([Commit((info,), (raw,), final)])
        self.store.commit(plan.blocks, plan.floor)
        self.disk.step()
        self.executor.committed(plan)
        self.told = max(self.told, info.height)
        self.disk.step()

    def life(self) -> None:
        self.open()
        for raw in script().blocks[self.height :]:
            self.take(raw)

    def crash(self, fate: Fate) -> None:
        """What the process had open is gone; the disk keeps what the fate lets it."""
        for handle in ("journal", "store", "executor"):
            self.__dict__.pop(handle, None)
        power = fate.random() < 0.5
        survivors = fate.randint(0, self.kv.unsynced) if power else self.kv.unsynced
        self.kv = self.kv.crash(survivors)
        self.disk.crash(fate, power)

    def judge(self) -> None:
        """What a start finds is a whole block, no older than what was told or journalled."""
        state = self.executor.final_state
        assert state.height >= max(self.told, self.durable)
        assert state.map.root == script().roots[state.height]
        recount(state)
        _both_or_neither(state, self.store)


def _both_or_neither(state: State, store: ChainStore) -> None:
    """Said once more in terms of the two legs: balances, rows, and what the indexes tell."""
    s, (first, second), settled = script().stage, script().agreed, script().settled
    legs = [s.payments[name] for name in ("e", "y")]
    after = state.height >= settled
    moved = [
        (state.balance(s.lei("B"), "EUR", 0) or 0) > 0,
        (state.balance(s.lei("A"), "CNY", 0) or 0) > 0,
    ]
    assert moved == [after] * 2
    entries = [store.uetr(leg.uetr) for leg in legs]
    statuses = [None if each is None else each.status for each in entries]
    agreed = [first, second]
    expected = [None if state.height < height else "ACSC" if after else "ACSP" for height in agreed]
    assert statuses == expected
    assert [len(store.changes(leg.uetr)) for leg in legs] == [
        (state.height >= height) + after for height in agreed
    ]
    rows = [state.get(PAYMENTS, PaymentKey(leg.uetr)) for leg in legs]
    undecided = [row is not None and row.live is not None for row in rows]
    assert undecided == [not after and state.height >= height for height in agreed]
    named, expires = s.links["k"]
    link = state.get(LINKS, LinkKey(link_id([s.payments[each] for each in named], expires)))
    assert (link is not None) == (first <= state.height < settled)


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
        for handle in ("journal", "store", "executor"):
            machine.__dict__.pop(handle, None)
        return True
    return False


def test_the_script_settles_both_legs_in_one_block() -> None:
    whole = Machine()
    assert not died(whole, 1_000_000)
    whole.judge()
    assert whole.height == len(script().blocks)


def test_a_crash_at_any_persistence_point_leaves_both_legs_or_neither() -> None:
    points, runs = 0, 0
    heights = set[int]()
    while died(at_death := Machine(), points):
        for fate in fates():
            machine = copy.deepcopy(at_death)
            machine.crash(fate)
            machine.open()
            machine.judge()
            heights.add(machine.height)
            runs += 1
        machine.life()
        machine.judge()
        assert machine.height == len(script().blocks)
        points += 1
    print(f"{points} persistence points, {runs} outcomes")
    assert points >= 5 * len(script().blocks)
    assert heights >= {*range(len(script().blocks) + 1)}


def test_a_crash_at_any_point_of_the_recovery_of_the_settling_block_does_too() -> None:
    """The journal has the block, the database not yet: recovery executes it, and dies meanwhile."""
    runs, operation = 0, 0
    while died(at_death := Machine(), operation):
        operation += 1
        if at_death.durable != script().settled or at_death.told == script().settled:
            continue
        for inner in range(MAX_RECOVERY):
            machine = copy.deepcopy(at_death)
            machine.crash(Fate([], random.Random(operation)))
            machine.disk.crash_after = inner
            try:
                machine.open()
            except SimulatedCrash:
                machine.crash(Fate([], random.Random(f"{operation} {inner}")))
                machine.open()
                machine.judge()
                runs += 1
            else:
                break
        else:
            raise AssertionError("recovery takes more operations than were tried")
    print(f"{runs} crashes of recovery")
    assert runs >= 20
