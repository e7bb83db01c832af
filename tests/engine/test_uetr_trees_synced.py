"""A node from a snapshot and a replay make the trees of used UETRs that an executing node made."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.audit.chain_audit import audit_chain
from node.chain.build import build
from node.chain.records import UetrsKey, UetrTreeKey
from node.chain.types import BusinessDay, Phase, Propose, PublishSchedule
from node.chain.uetr_tree import sorted_uetrs, uetr_root
from node.engine.metrics import Metrics
from node.engine.node import load_chain
from node.engine.sources import Sources
from node.engine.statesync import StateSync
from node.engine.window import window_start
from node.ledger.apply import BlockContext
from node.ledger.entries import OutcomesGone
from node.ledger.ledger import Ledger
from node.ledger.state import State, StateDamaged
from node.ledger.tables import UETR_TREES, UETRS
from node.storage.chain_store import ChainStore
from node.storage.horizon import load_horizon
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.sync_source import sync_source
from tests.support.window_chain import DAY_MS, HOUR_MS, many_days
from tests.support.world import CENTRALBANK

DATE = 20_260_105
HOURS = (1, 9, 10, 11, 12)
"""When the phases of each day begin, after `WithDays.start` and whole days."""


class WithDays:
    """A chain in which a third business day has begun, and named UETRs that no tree has yet."""

    def __init__(self) -> None:
        chain = self.chain = many_days()
        self.start = chain.tip.timestamp
        change = PublishSchedule(tuple(self.day(number) for number in range(4)))
        body = Propose((change,), self.start + DAY_MS)
        until = self.start + 6 * DAY_MS
        head = chain.genesis.chain_id, CENTRALBANK.lei, "PUBLISH", until
        chain.add(build(*head, body, [CENTRALBANK.key]), days=1 / 1_000)
        for number in range(2):
            for phase in Phase:
                self.at(self.day(number).begins[phase], *chain.all_kinds(7_000 + 20 * number))
        self.at(self.day(2).begins[Phase.OPEN], *chain.all_kinds(7_100))
        self.at(self.day(2).begins[Phase.OPEN] + 1, *chain.all_kinds(7_120))

    def day(self, number: int) -> BusinessDay:
        begins = tuple(self.start + hour * HOUR_MS + number * DAY_MS for hour in HOURS)
        return BusinessDay(DATE + number, begins, ())

    def at(self, time: int, *instructions: bytes) -> None:
        self.chain.add(*instructions, days=(time - self.chain.tip.timestamp + 0.5) / DAY_MS)
        assert self.chain.tip.timestamp == time


@pytest.fixture(scope="module")
def days() -> WithDays:
    return WithDays()


def closing(ledger: Ledger, days: WithDays) -> State:
    """The state after the block that closes the third day."""
    for phase in list(Phase)[1:]:
        state = ledger.final
        context = BlockContext(state.height + 1, days.day(2).begins[phase])
        applied = ledger.apply(state, context, [])
        applied.seal(bytes([phase]) * 32)
        ledger.commit(applied.state)
    return ledger.final


async def test_a_node_from_a_snapshot_makes_the_tree_that_an_executing_one_makes(
    days: WithDays, tmp_path: Path
) -> None:
    executed = days.chain.ledger.final
    kv = MemoryStore()
    async with (
        sync_source(days.chain.kv, days.chain.genesis, tmp_path) as served,
        Sources([served.url]) as sources,
    ):
        await StateSync(days.chain.genesis, kv, sources, sources.all[0], Metrics()).run()
    assert load_horizon(kv).blocks > 1, "it does not hold every block"
    synced, _ = load_chain(days.chain.genesis, ChainStore(kv))
    record = synced.get(UETRS, UetrsKey())
    assert record is not None
    assert (record.next_tree, record.named > 0) == (2, True)
    assert sorted(synced.untreed()) == sorted(executed.untreed())
    restarted, _ = load_chain(days.chain.genesis, ChainStore(days.chain.kv))
    one, other = closing(Ledger(synced), days), closing(Ledger(restarted), days)
    assert one.map.root == other.map.root
    made = one.get(UETR_TREES, UetrTreeKey(2))
    assert made is not None
    uetrs = sorted_uetrs(executed.untreed())
    assert (made.date, made.count, made.root) == (DATE + 2, len(uetrs), uetr_root(uetrs))


def test_past_trees_are_made_again_from_what_is_stored_or_not_at_all(days: WithDays) -> None:
    store, state = days.chain.store, days.chain.ledger.final
    for number in range(2):
        tree = state.get(UETR_TREES, UetrTreeKey(number))
        assert tree is not None
        uetrs = sorted_uetrs(store.uetrs_between(tree.after, tree.through))
        assert (tree.count, tree.root) == (len(uetrs), uetr_root(uetrs))
    tip = days.chain.tip.height
    with pytest.raises(OutcomesGone) as gone:
        list(store.uetrs_between(tip, tip + 1))
    assert gone.value.height == tip + 1


def test_what_no_tree_has_yet_is_in_blocks_that_every_node_holds(days: WithDays) -> None:
    """Neither a pruned node nor one from a snapshot lets go of them: they are younger than what
    exactly-once needs."""
    store, window = days.chain.store, days.chain.genesis.parameters.uetr_window_ms
    record = days.chain.ledger.final.get(UETRS, UetrsKey())
    assert record is not None
    assert window_start(store, days.chain.tip, window, 1) <= record.after + 1


def test_a_store_that_lost_these_blocks_is_refused_in_words(days: WithDays) -> None:
    kv = MemoryStore()
    kv.write(list(days.chain.kv.iterate()))
    lost = days.chain.tip.height - 1
    kv.write([(b"o" + lost.to_bytes(8, "big"), None)])
    with pytest.raises(StateDamaged, match=rf"the outcomes of block {lost} are not held here"):
        load_chain(world.genesis(), ChainStore(kv))


def test_a_replay_that_believes_no_stored_outcome_comes_to_the_same_trees(days: WithDays) -> None:
    report = audit_chain(days.chain.store, world.genesis_bytes())
    assert (report.verdict, report.height) == ("VALID", days.chain.tip.height)
