"""What an attacker who is a participant, or a member that leads, can make the others' nodes do."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import Queued
from node.chain.types import (
    Cancel,
    Hold,
    Payment,
    PaymentClass,
    Phase,
    Post,
    Priority,
    Release,
    Reprioritise,
    Reserve,
)
from node.engine.window import WindowBlock, rebuild
from node.ledger.agenda import MAX_DUE
from node.ledger.apply import BadBlock, BlockContext
from node.ledger.ledger import load_state
from node.ledger.queue import MAX_QUEUED, Queue, entry_of
from node.ledger.reasons import LIMIT_REACHED, NOT_CHANGEABLE
from node.ledger.weight import weight
from tests.support.days import begun, day, days, phase, publish, settling_world
from tests.support.ledger_world import HOUR_MS, Chain, MemoryIndex, World, uetr
from tests.support.queueing import Queueing


@pytest.fixture
def world() -> World:
    return World.make()


@pytest.fixture
def chain(world: World) -> Chain:
    chain = Chain(world)
    chain.fund(1_000)
    return chain


def group(world: World, size: int, amount: int = 2_000) -> tuple[CheckedInstruction, bytes]:
    """Payments of BANKA's that settle only together, which waits for money, and the first's UETR.

    The instruction and the name of the entry."""
    payments = [world.payment("BANKA", "BANKB", amount) for _ in range(size)]
    return world.pay("BANKA", *payments, all_or_none=True), payments[0].uetr


def queued(payment: Payment, order: int, *, held: bool = False) -> Queued:
    return Queued(
        (payment,), payment.priority, order, held=held, restricted=False, early=False, returns=None
    )


# --- a block's execution is bounded ---------------------------------------------------------------


def test_an_order_about_an_entry_weighs_as_much_as_the_entry_has_payments(
    world: World, chain: Chain
) -> None:
    order, uetr = group(world, 30)
    others = order.instruction.payments
    chain.block(order)
    for each in (uetr, others[7].uetr):
        assert weight(chain.state, world.order("BANKA", Hold(each)), 1_000) == 30
        assert weight(chain.state, world.order("BANKA", Cancel(each)), 20) == 20
    unknown = world.payment("BANKA", "BANKB", 1).uetr
    assert weight(chain.state, world.order("BANKA", Hold(unknown)), 1_000) == 1


def test_a_block_ends_before_the_order_that_would_change_too_many_payments(
    world: World, chain: Chain
) -> None:
    order, uetr = group(world, 30)
    chain.block(order)
    bodies = (Hold(uetr), Release(uetr), Hold(uetr), Release(uetr))
    orders = [world.order("BANKA", body) for body in bodies]
    context = BlockContext(chain.state.height + 1, chain.state.time + 1)
    proposal = chain.ledger.propose(chain.state, context, orders, 1 << 20, 100)
    assert proposal.chosen == orders[:3]
    assert len(proposal.applied.outcomes) == 90


def test_a_block_that_takes_more_than_it_may_is_bad_whoever_proposed_it(
    world: World, chain: Chain
) -> None:
    order, uetr = group(world, 30)
    chain.block(order)
    bodies = (Hold(uetr), Release(uetr), Hold(uetr), Release(uetr))
    block = chain.make(*(world.order("BANKA", body) for body in bodies))
    with pytest.raises(BadBlock, match="instruction 3: up to here it takes 120 of 119 payments"):
        chain.ledger.verify(chain.state, block.header, block.instructions, 119)
    verified = chain.ledger.verify(chain.state, block.header, block.instructions, 120)
    assert verified.state_root == block.applied.state_root


def test_who_waits_before_a_payment_is_known_without_looking_through_the_queue(
    world: World,
) -> None:
    """By the numbers that a queue keeps, which always are those of its entries."""
    queue, payments = Queue(), []
    for number in range(24):
        payment = replace(
            world.payment("BANKA", "BANKB", 1),
            payment_class=PaymentClass(number % 2),
            priority=Priority(number % 3),
        )
        payments.append(payment)
        queue.add(entry_of(queued(payment, number, held=number % 5 == 0)))
    while payments:
        for now in (None, *Phase):
            for priority in Priority:
                waits = any(each.priority <= priority for each in queue.waiting(now))
                assert queue.waits_before(priority, now) is waits
                assert queue.copy().waits_before(priority, now) is waits
        assert queue.payments == len(queue.entries)
        if len(payments) % 2:
            queue.remove(payments.pop(0).uetr)
        else:
            queue.remove_all([payments.pop(0).uetr, payments.pop().uetr])


def test_orders_that_are_given_again_and_again_leave_nothing_behind(
    world: World, chain: Chain
) -> None:
    payment = world.payment("BANKA", "BANKB", 2_000, latest=chain.state.time + 3_600_000)
    early = replace(world.payment("BANKA", "BANKB", 2_000), earliest=chain.state.time + 3_600_000)
    chain.block(world.pay("BANKA", payment, early))
    before = list(chain.state._base.due)
    for _ in range(3):
        for body in (Hold, Release):
            chain.block(*(world.order("BANKA", body(each.uetr)) for each in (payment, early)))
    assert chain.state._base.due == before


def test_a_queue_is_full_by_its_payments_not_by_its_entries(world: World, chain: Chain) -> None:
    order, _ = group(world, 30)
    chain.block(order)
    queue = chain.state.queue((world.lei("BANKA"), "EUR", 0))
    assert queue is not None
    assert (len(queue.entries), queue.payments) == (1, 30)
    queue.payments = MAX_QUEUED - 29  # as if so many more were in it
    too_many, _ = group(world, 30)
    as_many, _ = group(world, 29)
    block = chain.block(too_many, as_many)
    assert [each.reason for each in block.outcomes] == [LIMIT_REACHED] * 30 + ["AM19"] * 29


# --- nothing that could settle is left lying ------------------------------------------------------


def test_a_first_bilateral_limit_frees_what_the_multilateral_one_kept_back() -> None:
    chain = Queueing()
    chain.fund(1_000)
    chain.block(chain.limit("BANKA", None, 100))
    assert chain.said(chain.pay("to B", "BANKA", "BANKB", 130)) == [("to B", "PDNG AM14")]
    block = chain.block(chain.limit("BANKA", "BANKB", 200))
    assert chain.said(block)[-1] == ("to B", "ACSC")


# --- nodes agree, whatever they did before --------------------------------------------------------


def test_a_sibling_does_not_see_how_a_payment_changes_in_the_block_being_committed(
    world: World, chain: Chain
) -> None:
    """Its entry is overwritten in storage; a retry in the sibling is told how it stood before."""
    payment = world.payment("BANKA", "BANKB", 2_000)
    chain.block(world.pay("BANKA", payment))
    held = chain.make(world.order("BANKA", Hold(payment.uetr)))
    cancelled = chain.make(world.order("BANKA", Cancel(payment.uetr)), parent=held.state)
    retry = world.pay("BANKA", payment)
    siblings = [chain.make(retry, parent=each) for each in (chain.state, held.state)]
    assert [each.outcomes[0].status for each in siblings] == ["PDNG", "BLCK"]
    for made in (held, cancelled):
        made.state.prepare()
    for made in (held, cancelled):
        chain.index.store(made.applied)  # durable, while the ledger is still behind
    for made, sibling in zip((held, cancelled), siblings, strict=True):
        assert chain.make(retry).digest == sibling.digest
        chain.commit(made)
    assert chain.make(retry).outcomes[0].status == "CANC"


# --- more is due than a block can do --------------------------------------------------------------


def behind(world: World, chain: Chain, *others: CheckedInstruction, latest: int | None) -> None:
    """A block after which a group is queued that alone is as much as one block lets expire, and
    what `others` bring."""
    payments = [
        world.payment("BANKC", "BANKB", 2_000, latest=latest, uetr=bytes([0]) * 6 + uetr(n)[6:])
        for n in range(MAX_DUE)
    ]
    chain.block(world.pay("BANKC", *payments, all_or_none=True), *others)


def test_nobody_posts_a_reservation_whose_time_is_over_though_the_block_could_not_let_it_expire(
    world: World, chain: Chain
) -> None:
    expires = chain.state.time + HOUR_MS
    payment = world.payment("BANKA", "BANKB", 100)
    reserve = Reserve(payment, world.lei("BANKB"), None, expires)
    behind(world, chain, world.order("BANKA", reserve), latest=expires - 2)
    post = world.order("BANKB", Post(payment.uetr, None, None))
    block = chain.block(post, time=expires)
    assert block.state.has_work
    assert [each.reason for each in block.outcomes[MAX_DUE:]] == [NOT_CHANGEABLE]
    after = chain.block().outcomes
    assert [(each.uetr, each.reason) for each in after] == [(payment.uetr, "AB03")]
    assert chain.state.holding(world.lei("BANKA"), "EUR", 0) == (0, 0)


def test_what_is_undecided_past_the_window_is_neither_paid_again_nor_lost(
    world: World, chain: Chain
) -> None:
    held, other = world.payment("BANKA", "BANKB", 2_000), world.payment("BANKA", "BANKB", 2_000)
    behind(world, chain, world.pay("BANKA", held, other), latest=None)
    chain.block(world.order("BANKA", Hold(held.uetr)), time=chain.state.time + 1)
    loaded = load_state(
        chain.records.items(),
        chain.blocks[-1].header,
        chain.state.history,
        MemoryIndex(),  # what a node has that began with a snapshot of a later height
        chain.nodes.__getitem__,
    )
    time = chain.state.time + world.genesis.parameters.uetr_window_ms + 1
    until = time + HOUR_MS
    fresh = world.payment("BANKA", "BANKB", 1)
    orders = [
        world.issue("CENTRALBANK", "BANKA", 9_000, valid_until=until),
        world.order("BANKA", Reprioritise(held.uetr, Priority.URGENT), valid_until=until),
        world.pay("BANKA", other, valid_until=until),
        world.pay("BANKA", replace(other, amount=1), valid_until=until),
        world.pay("BANKA", other, fresh, all_or_none=True, valid_until=until),
    ]
    block = chain.make(*orders, time=time)
    assert [(each.status, each.reason) for each in block.outcomes[MAX_DUE:]] == [
        ("ACSC", None),
        ("BLCK", "CUST"),
        ("RJCT", "AM05"),
        ("RJCT", "AM05"),
        ("RJCT", "AM05"),
        ("RJCT", "ED05"),
    ]
    assert chain.make(*orders, parent=loaded, time=time).digest == block.digest
    window = rebuild(WindowBlock(block.raw, tuple(block.applied.outcomes)))
    assert window.used.uetrs == block.applied.uetrs
    chain.commit(block)
    after = chain.block().outcomes
    assert {(each.uetr, each.reason) for each in after} == {
        (held.uetr, "AB03"),
        (other.uetr, "AB03"),
    }
    assert chain.balance("BANKA") == 10_000
    assert chain.state.queued_accounts() == []


def test_a_day_waits_after_an_outage_however_much_is_due_then() -> None:
    """Between a block and its parent time jumped over phases; those that begin some blocks later,
    behind all that expired meanwhile, were jumped over all the same."""
    world = settling_world()
    chain = Chain(world)
    publish(chain, days(2))
    chain.block(time=day(0).begins[Phase.OPEN])
    stays = world.pay("BANKA", world.payment("BANKA", "BANKB", 1))
    for begins in (Phase.CUSTOMER_CUTOFF, Phase.INTERBANK):
        latest = day(0).begins[begins] - 1_000
        payments = [world.payment("BANKC", "BANKB", 1, latest=latest) for _ in range(MAX_DUE)]
        chain.block(world.pay("BANKC", *payments))
    chain.block(stays)
    time = day(1).begins[Phase.OPEN] - 1
    assert begun(chain.block(time=time)) == []
    assert begun(chain.block(time=time + 1)) == [(0, Phase.CUSTOMER_CUTOFF, False)]
    assert begun(chain.block(time=time + 2)) == [(0, Phase.INTERBANK, True)]
    assert phase(chain) == (0, Phase.CUSTOMER_CUTOFF)
    assert len(chain.state.queued_accounts()) == 1
