"""What is due for very many payments at once is done over several blocks, each bounded: no block
takes so long that the members of the network give it up."""

from __future__ import annotations

from collections import Counter

import pytest

from node.chain.records import UetrTreeKey
from node.chain.types import MAX_PAYMENTS, Cancel, Phase
from node.ledger.agenda import MAX_DUE
from node.ledger.close import MAX_EXPIRED
from node.ledger.ledger import load_state
from node.ledger.reasons import CANCELLED, QUEUED, SETTLED, SETTLEMENT_TIMEOUT
from node.ledger.resolution import waiting
from node.ledger.rules import candidates
from node.ledger.state import State
from node.ledger.tables import UETR_TREES
from node.ledger.work import BlockContext, Work
from tests.support.days import day, days, publish, settling_world
from tests.support.ledger_world import DAY_MS, HOUR_MS, Chain, MadeBlock, World

REST = 500
"""Queued payments beyond what one block does."""


def queue_up(chain: Chain, count: int, latest: int | None) -> None:
    """Payments of BANKA, which has nothing, in one block."""
    payments = [chain.world.payment("BANKA", "BANKB", 1, latest=latest) for _ in range(count)]
    orders = [
        chain.world.pay(
            "BANKA",
            *payments[start : start + MAX_PAYMENTS],
            valid_until=chain.state.time + DAY_MS,
        )
        for start in range(0, count, MAX_PAYMENTS)
    ]
    block = chain.block(*orders)
    assert Counter(each.status for each in block.outcomes) == {QUEUED: count}


def expired(block: MadeBlock) -> int:
    return sum(
        (each.status, each.reason) == (CANCELLED, SETTLEMENT_TIMEOUT) for each in block.outcomes
    )


def restarted(chain: Chain) -> State:
    """The committed state as a node loads it that was stopped here."""
    tip = chain.blocks[-1]
    return load_state(
        chain.records.items(),
        tip.header,
        chain.state.history,
        chain.index,
        chain.nodes.get,
    )


def assert_a_restarted_node_goes_on_alike(chain: Chain, time: int) -> None:
    loaded = restarted(chain)
    assert loaded.next_due() == chain.state.next_due()
    here = chain.make(time=time)
    there = chain.make(time=time, parent=loaded)
    assert (here.header, here.outcomes) == (there.header, there.outcomes)


def test_very_many_payments_that_expire_at_once_do_so_over_blocks() -> None:
    world = World.make()
    chain = Chain(world)
    latest = chain.state.time + HOUR_MS
    queue_up(chain, MAX_DUE + REST, latest)
    assert chain.state.next_due() == latest + 1
    fund = world.issue("CENTRALBANK", "BANKA", 1, valid_until=latest + DAY_MS)
    first = chain.block(fund, time=latest + 1)
    assert expired(first) == MAX_DUE
    # The money that came in meanwhile settles none of those that should have expired.
    assert Counter(each.status for each in first.outcomes) == {CANCELLED: MAX_DUE, SETTLED: 1}
    assert chain.balance("BANKA") == 1
    # The next block is due at once, on whatever node.
    assert chain.state.next_due() == chain.state.time
    assert_a_restarted_node_goes_on_alike(chain, latest + 2)
    second = chain.block(time=latest + 2)
    assert expired(second) == REST
    assert chain.state.next_due() is None
    assert chain.state.queued_accounts() == []
    assert_a_restarted_node_goes_on_alike(chain, latest + 3)


def test_a_node_that_still_has_void_reminders_goes_on_like_one_that_never_had_them() -> None:
    """As many as one block does are due, and after them only what a cancelled payment had put on
    the agenda: a node that started since does not know of it."""
    world = World.make()
    chain = Chain(world)
    latest = chain.state.time + HOUR_MS
    queue_up(chain, MAX_DUE, latest)
    gone = world.payment("BANKC", "BANKA", 1, latest=latest + 1)
    chain.block(world.pay("BANKC", gone))
    chain.block(world.order("BANKC", Cancel(gone.uetr)))
    assert_a_restarted_node_goes_on_alike(chain, latest + 5)


def test_competing_blocks_go_on_from_the_same_place() -> None:
    world = World.make()
    chain = Chain(world)
    latest = chain.state.time + HOUR_MS
    queue_up(chain, MAX_DUE + REST, latest)
    one, other = chain.make(time=latest + 1), chain.make(time=latest + 5)
    assert expired(one) == expired(other) == MAX_DUE
    child = chain.make(parent=other.state, time=latest + 6)
    assert expired(child) == REST
    chain.commit(one)
    assert expired(chain.block(time=latest + 2)) == REST


@pytest.mark.parametrize("drained", [True, False], ids=["over blocks", "by the next day"])
def test_a_close_lets_very_long_queues_expire_over_blocks(drained: bool) -> None:
    chain = Chain(settling_world())
    publish(chain, days(2))
    chain.block(time=day(0).begins[Phase.OPEN])
    queue_up(chain, MAX_EXPIRED + REST, None)
    closing = day(0).begins[Phase.CLOSED]
    for phase in (Phase.CUSTOMER_CUTOFF, Phase.INTERBANK, Phase.CLEARING):
        chain.block(time=day(0).begins[phase])
    first = chain.block(time=closing)
    assert expired(first) == MAX_EXPIRED
    assert chain.state.next_due() == chain.state.time
    assert_a_restarted_node_goes_on_alike(chain, closing + 1)
    assert chain.state.get(UETR_TREES, UetrTreeKey(0)) is None, "the close is not over"
    if drained:
        # A payment for the next day is none of those.
        late = chain.world.pay(
            "BANKA",
            chain.world.payment("BANKA", "BANKB", 1),
            valid_until=closing + DAY_MS,
        )
        second = chain.block(late, time=closing + 1)
        assert expired(second) == REST
        assert len(chain.state.queued_accounts()) == 1
        assert chain.state.next_due() == day(1).begins[Phase.OPEN]
    else:
        assert expired(chain.block(time=day(1).begins[Phase.OPEN])) == REST
        assert chain.state.queued_accounts() == []
    tree = chain.state.get(UETR_TREES, UetrTreeKey(0))
    assert tree is not None
    assert (tree.date, tree.through) == (day(0).date, chain.state.height)
    assert tree.count == MAX_EXPIRED + REST + drained


def test_a_resolution_looks_at_a_share_of_long_queues_and_the_next_block_at_more() -> None:
    world = World.make()
    chain = Chain(world)
    queue_up(chain, MAX_PAYMENTS, None)
    state = chain.state
    work = Work(state, BlockContext(state.height + 1, state.time + 1))
    found = waiting(work, "EUR", 40)
    [entries] = found.first.values()
    assert len(entries) == 40
    assert found.truncated
    # The first entry counts even where it alone is more than the share.
    [entries] = waiting(work, "EUR", 0).first.values()
    assert len(entries) == 1
    assert len(waiting(work, "EUR").first[world.lei("BANKA"), 0]) == candidates(work)
