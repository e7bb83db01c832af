"""The pool is bounded, keeps order, forgets what is final, names who passed instructions over."""

from __future__ import annotations

import pytest

from node.chain.instruction import CheckedInstruction
from node.engine.mempool import MAX_REPORTS, PATIENCE_VIEWS, Mempool, PoolRefused
from node.storage.config import MempoolLimits
from tests.support.ledger_world import DAY_MS, GENESIS_TIME, World

NOW = GENESIS_TIME + 1_000


def pay(world: World, sender: str = "BANKA", **options: object) -> CheckedInstruction:
    return world.pay(sender, world.payment(sender, "BANKC", 100), **options)  # type: ignore[arg-type]


def test_candidates_come_in_order_of_arrival_and_leave_out_what_is_in_flight() -> None:
    world, pool = World.make(), Mempool()
    waiting = [pay(world) for _ in range(5)]
    for each in waiting:
        assert pool.add(each, view=1, local=False)
    pool.mark_in_flight([waiting[1].digest])
    assert list(pool.candidates()) == [waiting[0], *waiting[2:]]
    assert pool.pending


def test_nothing_is_pending_while_all_of_it_stands_in_a_block() -> None:
    world, pool = World.make(), Mempool()
    one = pay(world)
    pool.add(one, view=1, local=False)
    pool.mark_in_flight([one.digest])
    assert not pool.pending
    pool.clear_in_flight()
    assert pool.pending
    assert list(pool.candidates()) == [one]


def test_what_is_in_flight_but_unknown_here_does_not_count() -> None:
    world, pool = World.make(), Mempool()
    pool.add(pay(world), view=1, local=False)
    pool.mark_in_flight([pay(world).digest])
    assert pool.pending


def test_an_instruction_is_pooled_once_and_stays_the_nodes_own() -> None:
    world, pool = World.make(), Mempool()
    one = pay(world)
    assert pool.add(one, view=1, local=False)
    assert not pool.add(one, view=2, local=True)
    assert len(pool) == 1
    assert pool.settle([one], NOW) == [one.digest], "it was kept durably for its receipt"


def test_a_second_instruction_under_a_waiting_id_is_refused() -> None:
    world, pool = World.make(), Mempool()
    pool.add(pay(world, id="order-1"), view=1, local=True)
    with pytest.raises(PoolRefused) as refused:
        pool.add(pay(world, id="order-1"), view=1, local=True)
    assert refused.value.code == "duplicate-id"
    assert pool.add(pay(world, "BANKB", id="order-1"), view=1, local=True), "ids are per sender"


def test_one_sender_cannot_fill_the_pool() -> None:
    world = World.make()
    pool = Mempool(MempoolLimits(max_instructions=10, max_bytes=1 << 20, per_sender=3))
    for _ in range(3):
        pool.add(pay(world), view=1, local=True)
    with pytest.raises(PoolRefused) as refused:
        pool.add(pay(world), view=1, local=True)
    assert refused.value.code == "sender-quota"
    assert pool.add(pay(world, "BANKB"), view=1, local=True)


@pytest.mark.parametrize("limit", ["count", "bytes"])
def test_a_full_pool_refuses_and_takes_again_when_something_is_final(limit: str) -> None:
    world = World.make()
    first = pay(world)
    pool = Mempool(
        MempoolLimits(2, 1 << 20, 10) if limit == "count" else MempoolLimits(9, len(first.raw), 10)
    )
    pool.add(first, view=1, local=True)
    if limit == "count":
        pool.add(pay(world), view=1, local=True)
    with pytest.raises(PoolRefused) as refused:
        pool.add(pay(world), view=1, local=True)
    assert refused.value.code == "mempool-full"
    pool.settle([first], NOW)
    assert pool.add(first, view=1, local=True)


def test_finality_forgets_what_shares_the_id_and_what_expired() -> None:
    world, pool = World.make(), Mempool()
    rival, executed = pay(world, id="same"), pay(world, id="same")
    expired = pay(world, valid_until=NOW)
    alive = pay(world, valid_until=NOW + DAY_MS)
    for each in (rival, expired, alive):
        pool.add(each, view=1, local=True)
    assert set(pool.settle([executed], NOW + 1)) == {rival.digest, expired.digest}
    assert pool.digests() == [alive.digest]
    assert pool.total_bytes == len(alive.raw)
    assert pool.settle([], alive.instruction.envelope.valid_until + 1) == [alive.digest]
    assert (len(pool), pool.total_bytes) == (0, 0)


def test_an_instruction_passed_over_for_too_long_is_reported_once_with_the_leaders() -> None:
    world, pool = World.make(), Mempool()
    one = pay(world)
    pool.add(one, view=5, local=False)
    reports = []
    for view in range(6, 6 + PATIENCE_VIEWS + 5):
        reports += pool.entered_view(view, leader=view % 4)
    assert [report.instruction for report in reports] == [one.digest]
    assert reports[0].views == PATIENCE_VIEWS + 1
    assert reports[0].leaders == tuple((view, view % 4) for view in range(6, 6 + PATIENCE_VIEWS))


def test_what_stands_in_a_block_is_not_passed_over() -> None:
    world, pool = World.make(), Mempool()
    one = pay(world)
    pool.add(one, view=1, local=False)
    pool.mark_in_flight([one.digest])
    assert not [r for view in range(2, 30) for r in pool.entered_view(view, 0)]


def test_reports_at_one_view_are_bounded_and_none_is_lost() -> None:
    world, pool = World.make(), Mempool()
    waiting = [pay(world) for _ in range(MAX_REPORTS + 5)]
    for each in waiting:
        pool.add(each, view=1, local=False)
    late = 2 + PATIENCE_VIEWS
    first, second = (pool.entered_view(view, leader=0) for view in (late, late + 1))
    assert (len(first), len(second)) == (MAX_REPORTS, 5)
    assert [r.instruction for r in first + second] == [each.digest for each in waiting]


def test_a_waiting_instruction_is_offered_again_ever_more_rarely() -> None:
    world, pool = World.make(), Mempool()
    one = pay(world)
    pool.add(one, view=1, local=False)
    offered = [view for view in range(1, 200) if pool.to_reoffer(view) == [one.digest]]
    assert offered == [4, 10, 28, 82]
