"""The debtor's orders about payments that wait: what each does, and what it is refused for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.types import (
    Cancel,
    Freeze,
    Hold,
    Issue,
    Link,
    Release,
    Reprioritise,
    Reserve,
    Together,
)
from tests.support.ledger_world import HOUR_MS, uetr
from tests.support.netting_world import Clearing, netting_world
from tests.support.queueing import HIGH, NORMAL, URGENT, Queueing, assert_refused, words


@pytest.fixture
def chain() -> Queueing:
    """BANKA waits with three payments of different amounts; the others have nothing."""
    made = Queueing()
    made.fund(100, "BANKA")
    for name, amount in (("large", 500), ("small", 40), ("tiny", 5)):
        made.pay(name, "BANKA", "BANKB", amount)
    assert made.queue("BANKA") == ["large", "small", "tiny"]
    return made


# --- what orders do -------------------------------------------------------------------------------


def test_a_cancelled_payment_is_over_and_lets_those_behind_it_settle(chain: Queueing) -> None:
    block = chain.block(chain.cancel("large"))
    assert chain.said(block) == [("large", "CANC CUST"), ("small", "ACSC"), ("tiny", "ACSC")]
    by_order, settled, *_ = block.outcomes
    assert by_order.instruction == 0
    assert settled.instruction is None
    assert isinstance(settled.event, Together)
    assert chain.row("large").live is None
    assert chain.queue("BANKA") == []
    assert (chain.balance("BANKA"), chain.balance("BANKB")) == (55, 45)


def test_a_held_payment_lets_others_pass_until_it_is_released_behind_them(chain: Queueing) -> None:
    chain.pay("more", "BANKA", "BANKB", 300)
    block = chain.block(chain.hold("large"))
    assert chain.said(block) == [("large", "BLCK CUST"), ("small", "ACSC"), ("tiny", "ACSC")]
    assert chain.queue("BANKA") == ["more"]
    assert chain.queued("large").held
    block = chain.block(chain.release("large"))
    assert chain.said(block) == [("large", "PDNG AM19")]
    assert chain.queue("BANKA") == ["more", "large"]


def test_a_released_payment_that_can_settle_does_so_in_the_same_block(chain: Queueing) -> None:
    chain.block(chain.cancel("large"), chain.hold("small"))
    assert chain.queued("small").held
    block = chain.block(chain.release("small"))
    assert chain.said(block) == [("small", "PDNG AM19"), ("small", "ACSC")]
    assert chain.balance("BANKB") == 45


def test_reprioritised_is_last_of_its_new_priority(chain: Queueing) -> None:
    chain.pay("first", "BANKA", "BANKB", 700, priority=URGENT)
    block = chain.block(chain.reprioritise("tiny", URGENT))
    assert chain.said(block) == [("tiny", "PDNG AM19")]
    assert chain.queue("BANKA") == ["first", "tiny", "large", "small"]
    chain.block(chain.reprioritise("tiny", HIGH))
    assert chain.queue("BANKA") == ["first", "tiny", "large", "small"]
    chain.block(chain.reprioritise("tiny", NORMAL))
    assert chain.queue("BANKA") == ["first", "large", "small", "tiny"]


def test_priority_over_what_blocks_lets_a_payment_settle(chain: Queueing) -> None:
    block = chain.block(chain.reprioritise("tiny", URGENT))
    assert chain.said(block) == [("tiny", "PDNG AM19"), ("tiny", "ACSC")]
    assert chain.queue("BANKA") == ["large", "small"]


def test_a_held_payment_may_be_reprioritised_and_stays_held(chain: Queueing) -> None:
    chain.block(chain.hold("tiny"))
    block = chain.block(chain.reprioritise("tiny", URGENT))
    assert chain.said(block) == [("tiny", "BLCK CUST")]
    assert chain.queued("tiny").priority is URGENT
    assert chain.queue("BANKA") == ["large", "small"]
    assert chain.said(chain.block(chain.release("tiny"))) == [
        ("tiny", "PDNG AM19"),
        ("tiny", "ACSC"),
    ]


def test_an_early_payment_keeps_nobody_waiting_and_can_be_held_and_released(
    chain: Queueing,
) -> None:
    chain.block(chain.cancel("large"))
    later = chain.state.time + HOUR_MS
    block = chain.pay("early", "BANKA", "BANKB", 50, earliest=later)
    assert chain.said(block) == [("early", "PDNG DT06")]
    assert chain.said(chain.pay("now", "BANKA", "BANKB", 5)) == [("now", "ACSC")]
    chain.block(chain.hold("early"))
    assert chain.said(chain.block(chain.release("early"))) == [("early", "PDNG DT06")]
    assert chain.state.next_due() == later
    assert chain.said(chain.block(time=later - 1)) == []
    assert chain.said(chain.block(time=later)) == [("early", "ACSC")]


def test_held_when_its_time_comes_it_waits_only_once_released(chain: Queueing) -> None:
    chain.block(chain.cancel("large"))
    later = chain.state.time + HOUR_MS
    chain.pay("early", "BANKA", "BANKB", 50, earliest=later)
    chain.block(chain.hold("early"))
    assert chain.said(chain.block(time=later)) == []
    assert chain.queue("BANKA") == []
    assert chain.said(chain.block(chain.release("early")))[-1] == ("early", "ACSC")


def test_what_is_too_late_expires_and_lets_those_behind_it_settle(chain: Queueing) -> None:
    latest = chain.state.time + HOUR_MS
    chain.pay("ahead", "BANKA", "BANKB", 600, priority=URGENT, latest=latest)
    chain.block(chain.reprioritise("small", HIGH))
    assert chain.said(chain.block(time=latest)) == []
    assert chain.said(chain.block(time=latest + 1)) == [("ahead", "CANC AB03"), ("small", "ACSC")]
    assert chain.queue("BANKA") == ["large", "tiny"]


@pytest.mark.parametrize("named", ["one", "two", "three"])
def test_any_payment_of_an_entry_names_all_of_it(chain: Queueing, named: str) -> None:
    group = [
        chain.payment(name, "BANKA", creditor, amount)
        for name, creditor, amount in (
            ("one", "BANKB", 30),
            ("two", "BANKC", 30),
            ("three", "BANKB", 41),
        )
    ]
    chain.block(chain.cancel("large"))
    chain.block(chain.send(*group, all_or_none=True))
    assert chain.queue("BANKA") == ["one"]
    for order, said in (
        (chain.hold(named), "BLCK CUST"),
        (chain.release(named), "PDNG AM04"),
        (chain.reprioritise(named, URGENT), "PDNG AM04"),
        (chain.cancel(named), "CANC CUST"),
    ):
        block = chain.block(order)
        assert chain.said(block) == [(name, said) for name in ("one", "two", "three")]
        assert {each.instruction for each in block.outcomes} == {0}
    assert chain.queue("BANKA") == []
    assert all(chain.row(name).live is None for name in ("one", "two", "three"))


def test_an_entry_of_several_settles_whole_and_pays_each_creditor(chain: Queueing) -> None:
    chain.block(chain.cancel("large"))
    group = [
        chain.payment("one", "BANKA", "BANKB", 30),
        chain.payment("two", "BANKA", "BANKC", 30),
    ]
    chain.block(chain.send(*group, all_or_none=True))
    block = chain.fund(5, "BANKA")
    assert chain.said(block) == [("one", "ACSC"), ("two", "ACSC")]
    assert [chain.balance(name) for name in ("BANKA", "BANKB", "BANKC")] == [0, 75, 30]


def test_orders_of_one_block_act_one_after_another(chain: Queueing) -> None:
    block = chain.block(
        chain.hold("large"), chain.release("large"), chain.cancel("small"), chain.cancel("small")
    )
    assert [words(each) for each in block.outcomes] == [
        "BLCK CUST",
        "PDNG AM19",
        "CANC CUST",
        "RJCT ARDT",
        "ACSC",
        "ACSC",
    ]


def test_every_change_is_in_the_payments_chain(chain: Queueing) -> None:
    for order in (chain.hold("large"), chain.release("large"), chain.cancel("large")):
        before = chain.row("large")
        chain.block(order)
        assert chain.row("large").changes == before.changes + 1
        assert chain.row("large").chain != before.chain
        assert chain.row("large").first == before.first


def test_a_policy_lets_payments_pass_from_the_next_height_on(chain: Queueing) -> None:
    passing = chain.payment("passing", "BANKA", "BANKB", 60)
    block = chain.block(chain.bypass(), chain.send(passing))
    assert chain.said(block) == [("passing", "PDNG AM19")]
    assert chain.said(chain.pay("again", "BANKA", "BANKB", 60)) == [("again", "ACSC")]
    assert chain.queue("BANKA") == ["large", "small", "tiny", "passing"]


# --- what they are refused for --------------------------------------------------------------------

Prepare = Callable[[Queueing], None]


class Case(NamedTuple):
    name: str
    reason: str
    prepare: Prepare
    order: Callable[[Queueing], CheckedInstruction]


def nothing(chain: Queueing) -> None:
    pass


def settled(chain: Queueing) -> None:
    chain.fund(1_000, "BANKB")
    chain.pay("settled", "BANKB", "BANKC", 10)


def decided(status: str) -> Prepare:
    def prepare(chain: Queueing) -> None:
        if status == "cancelled":
            chain.block(chain.cancel("tiny"))
        elif status == "settled":
            chain.fund(1_000, "BANKA")
        elif status == "expired":
            chain.pay("late", "BANKA", "BANKB", 900, latest=chain.state.time + 2_000)
            chain.block(time=chain.state.time + HOUR_MS)
        elif status == "rejected":
            chain.pay("late", "BANKA", "BANKB", 0)

    return prepare


def held(chain: Queueing) -> None:
    chain.block(chain.hold("tiny"))


def reserved(chain: Queueing) -> None:
    chain.fund(1_000, "BANKB")
    payment = chain.payment("aside", "BANKB", "BANKC", 10)
    body = Reserve(payment, chain.world.lei("BANKC"), None, chain.state.time + HOUR_MS)
    assert [words(each) for each in chain.block(chain.order("BANKB", body)).outcomes] == ["ACWP"]


def issued(chain: Queueing) -> None:
    body = Issue(uetr(4_242), "EUR", chain.world.lei("BANKC"), 5)
    chain.block(chain.order("CENTRALBANK", body))


CASES = [
    Case("a UETR that nobody used", "NOOR", nothing, lambda c: c.order("BANKA", Cancel(uetr(99)))),
    Case("another's payment", "DS0F", nothing, lambda c: c.cancel("tiny", "BANKB")),
    Case("another's, by an operator", "DS0F", nothing, lambda c: c.cancel("tiny", "CENTRALBANK")),
    Case("another's, by a supervisor", "DS0F", nothing, lambda c: c.hold("tiny", "WATCHDOG")),
    Case("a release of another's", "DS0F", held, lambda c: c.release("tiny", "BANKB")),
    Case("the creditor's say", "DS0F", nothing, lambda c: c.reprioritise("tiny", HIGH, "BANKB")),
    Case("settled at entry", "ARDT", settled, lambda c: c.cancel("settled", "BANKB")),
    Case("settled from the queue", "ARDT", decided("settled"), lambda c: c.cancel("tiny")),
    Case("cancelled before", "ARDT", decided("cancelled"), lambda c: c.cancel("tiny")),
    Case("a hold of a cancelled one", "ARDT", decided("cancelled"), lambda c: c.hold("tiny")),
    Case("a release of a settled one", "ARDT", decided("settled"), lambda c: c.release("tiny")),
    Case("expired", "ARDT", decided("expired"), lambda c: c.reprioritise("late", URGENT)),
    Case("rejected", "ARDT", decided("rejected"), lambda c: c.cancel("late")),
    Case("set aside", "ARDT", reserved, lambda c: c.cancel("aside", "BANKB")),
    Case("another's, set aside", "DS0F", reserved, lambda c: c.cancel("aside")),
    Case("money that was issued", "ARDT", issued, lambda c: c.order("BANKA", Cancel(uetr(4_242)))),
    Case("held already", "DU05", held, lambda c: c.hold("tiny")),
    Case("not held", "DU05", nothing, lambda c: c.release("tiny")),
    Case("has this priority", "DU05", nothing, lambda c: c.reprioritise("tiny", NORMAL)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_refused_order_names_its_reason_and_leaves_the_state_untouched(
    chain: Queueing, case: Case
) -> None:
    case.prepare(chain)
    assert_refused(chain, case.order(chain), case.reason)


def test_a_refused_order_is_used_up_all_the_same(chain: Queueing) -> None:
    order = chain.order("BANKA", Hold(uetr(99)))
    [outcome] = chain.block(order).outcomes
    assert outcome.status == "RJCT"
    entry = chain.state.instruction(chain.world.lei("BANKA"), order.instruction.envelope.id)
    assert entry is not None


def test_one_that_a_freeze_holds_can_be_cancelled_but_not_let_go(chain: Queueing) -> None:
    watch = Freeze(chain.world.lei("BANKA"), debit=True, credit=False, reason="AC06")
    block = chain.block(chain.order("WATCHDOG", watch))
    assert chain.said(block) == [(name, "BLCK AC06") for name in ("large", "small", "tiny")]
    assert_refused(chain, chain.release("large"), "DU05")
    assert chain.said(chain.block(chain.hold("tiny"))) == [("tiny", "BLCK CUST")]
    assert chain.said(chain.block(chain.release("tiny"))) == [("tiny", "BLCK AC06")]
    assert chain.said(chain.block(chain.cancel("large"))) == [("large", "CANC CUST")]
    assert chain.queue("BANKA") == []
    lifted = replace(watch, debit=False)
    block = chain.block(chain.order("WATCHDOG", lifted))
    assert chain.said(block)[-2:] == [("small", "ACSC"), ("tiny", "ACSC")]


# --- in a cycle or a link -------------------------------------------------------------------------


def orders_about(named: bytes) -> list[Cancel | Hold | Release | Reprioritise]:
    return [Cancel(named), Hold(named), Release(named), Reprioritise(named, URGENT)]


def test_a_payment_in_a_clearing_cycle_can_no_longer_be_changed() -> None:
    chain = Clearing(netting_world())
    payment = chain.net_payment("BANKA", "BANKB", 10)
    [outcome] = chain.block(chain.world.pay("BANKA", payment)).outcomes
    assert outcome.status == "ACSP"
    for body in orders_about(payment.uetr):
        assert_refused(chain, chain.world.order("BANKA", body), "ARDT")


def test_a_leg_of_an_open_link_can_no_longer_be_changed(chain: Queueing) -> None:
    legs = (chain.payment("leg", "BANKA", "BANKB", 10), chain.payment("other", "BANKB", "BANKA", 9))
    chain.block(chain.order("BANKA", Link(legs, chain.state.time + HOUR_MS)))
    for body in orders_about(legs[0].uetr):
        assert_refused(chain, chain.order("BANKA", body), "ARDT")
        assert_refused(chain, chain.order("BANKB", body), "DS0F")
    # The other debtor has not agreed: its leg is no payment of this ledger yet.
    assert_refused(chain, chain.order("BANKB", Cancel(legs[1].uetr)), "NOOR")
