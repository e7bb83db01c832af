"""What becomes of a closed clearing cycle: settlement, funding, waterfall, orders, old age."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest

from node.chain.instruction import CheckedInstruction
from node.chain.types import (
    MAX_FUNDING_MS,
    AccountKind,
    CoverSource,
    CycleAction,
    CycleClosed,
    CycleSettled,
    CycleShort,
    CycleUnwound,
    Event,
    Moved,
    NetPosition,
    Pledge,
    PostPrice,
    Propose,
    Shortfall,
    SurvivorShare,
    SuspendParticipant,
)
from node.ledger.due import CYCLE_GRACE_MS
from node.ledger.ledger import Ledger, load_state
from node.ledger.tables import CYCLES, POSITIONS
from tests.support.ledger_world import DAY_MS, MadeBlock
from tests.support.netting_world import (
    BOND,
    CAPITAL,
    FUND,
    FUNDING_MS,
    MARGIN,
    Clearing,
    balances,
    check_settled,
    events,
    named,
    netting_world,
)

CLOSE, EXTEND, UNWIND = CycleAction
SETTLEMENT = AccountKind.SETTLEMENT


@pytest.fixture
def chain() -> Clearing:
    return Clearing(netting_world())


def triangle(chain: Clearing) -> None:
    """A block after which BANKA owes 600 net, BANKB is owed 500 and BANKC 100."""
    chain.block(
        chain.net("BANKA", "BANKB", 700),
        chain.net("BANKB", "BANKC", 200),
        chain.net("BANKC", "BANKA", 100),
    )


def short_by(chain: Clearing, block: MadeBlock) -> dict[str, int]:
    """What the block's one CycleShort says is lacking."""
    (short,) = (each for each in events(block) if isinstance(each, CycleShort))
    return {chain.name(lei): amount for lei, amount in short.lacking}


# --- settled at once ------------------------------------------------------------------------------


def test_a_covered_cycle_settles_in_the_step_that_closes_it(chain: Clearing) -> None:
    chain.endow("BANKA", settlement=600)
    triangle(chain)
    before = balances(chain)
    block = chain.close()
    assert named(block) == ["CycleClosed", "CycleSettled"]
    closed, settled = events(block)
    a, b, c = (chain.world.lei(each) for each in ("BANKA", "BANKB", "BANKC"))
    assert isinstance(closed, CycleClosed)
    assert closed.positions == (
        NetPosition(a, 700, 100),
        NetPosition(b, 200, 700),
        NetPosition(c, 100, 200),
    )
    assert settled == CycleSettled("EUR", 1, (), ())
    assert {(each.instruction, each.status) for each in block.outcomes} == {(0, "ACSC")}
    assert [chain.on(each) for each in ("BANKA", "BANKB", "BANKC")] == [0, 500, 100]
    assert chain.reserved("BANKA") == 0
    assert not chain.state.rows(POSITIONS)
    cycle = chain.cycle()
    assert (cycle.status, cycle.decided, cycle.until) == ("settled", block.header.height, None)
    check_settled(chain, before)


def test_payments_after_the_close_join_the_next_cycle(chain: Clearing) -> None:
    triangle(chain)
    block = chain.block(
        chain.cycle_order(CLOSE),
        chain.net("BANKB", "BANKA", 5),
        chain.cycle_order(CLOSE, 2),
        chain.net("BANKB", "BANKA", 6),
    )
    cycles = [each.event.cycle for each in block.outcomes if each.uetr is not None]  # type: ignore[union-attr]
    assert cycles == [2, 3]
    assert [chain.cycle(n).status for n in (1, 2, 3)] == ["funding", "funding", "open"]
    assert [chain.cycle(n).value for n in (1, 2, 3)] == [1_000, 5, 6]


def test_positions_that_cancel_out_settle_without_any_money(chain: Clearing) -> None:
    chain.block(chain.net("BANKA", "BANKB", 9), chain.net("BANKB", "BANKA", 9))
    assert named(chain.close()) == ["CycleClosed", "CycleSettled"]
    assert not balances(chain)


def test_a_members_suspension_does_not_undo_what_it_promised(chain: Clearing) -> None:
    chain.endow("BANKA", settlement=600)
    triangle(chain)
    suspend = Propose((SuspendParticipant(chain.world.lei("BANKA")),), chain.state.time + DAY_MS)
    chain.block(chain.world.order("CENTRALBANK", suspend))
    assert named(chain.close()) == ["CycleClosed", "CycleSettled"]
    assert chain.on("BANKB") == 500


# --- the funding window ---------------------------------------------------------------------------


def test_what_there_is_is_set_aside_and_the_rest_awaited(chain: Clearing) -> None:
    chain.endow("BANKA", settlement=450)
    triangle(chain)
    block = chain.close()
    assert named(block) == ["CycleClosed", "CycleShort"]
    short = events(block)[1]
    assert isinstance(short, CycleShort)
    assert short.until == block.header.timestamp + FUNDING_MS
    assert short_by(chain, block) == {"BANKA": 150}
    assert (chain.on("BANKA"), chain.reserved("BANKA")) == (450, 450)
    assert chain.on("BANKB") == 0
    assert chain.cycle().reserved == ((chain.world.lei("BANKA"), 450),)
    # What is set aside pays nothing else.
    (outcome,) = chain.block(chain.gross("BANKA", "BANKC", 1)).outcomes
    assert (outcome.status, outcome.reason) == ("PDNG", "AM04")


def test_a_net_debit_is_set_aside_ahead_of_the_queue(chain: Clearing) -> None:
    """A closes the cycle owing 600 while 500 wait in its queue: what comes in goes to the cycle
    first, and what is left then settles the queue in the same block."""
    triangle(chain)
    chain.block(chain.gross("BANKA", "BANKD", 500))
    chain.close()
    block = chain.fund(400, "BANKA")
    assert named(block) == []
    assert (chain.on("BANKA"), chain.reserved("BANKA")) == (400, 400)
    block = chain.fund(700, "BANKA")
    assert named(block)[0] == "CycleSettled"
    assert (chain.on("BANKA"), chain.on("BANKB"), chain.on("BANKD")) == (0, 500, 500)


def test_a_cycle_settles_in_the_block_that_covers_it_and_its_window_is_void(
    chain: Clearing,
) -> None:
    triangle(chain)
    chain.close()
    before = balances(chain) | {(chain.world.lei("BANKA"), 0): 600}
    block = chain.fund(600, "BANKA")
    assert named(block) == ["CycleSettled"]
    assert block.outcomes[-1].instruction is None
    check_settled(chain, before)
    assert named(chain.wait(FUNDING_MS)) == []
    assert chain.state.next_due() is None


def test_money_that_a_debtor_has_in_excess_is_not_touched(chain: Clearing) -> None:
    triangle(chain)
    chain.close()
    chain.fund(1_000, "BANKA")
    assert (chain.on("BANKA"), chain.reserved("BANKA")) == (400, 0)


def test_two_windows_are_served_the_older_cycle_first(chain: Clearing) -> None:
    triangle(chain)
    chain.close()
    triangle(chain)
    chain.close(2)
    chain.fund(700, "BANKA")
    assert [chain.cycle(n).status for n in (1, 2)] == ["settled", "funding"]
    assert chain.reserved("BANKA") == 100


def test_a_net_debit_may_be_set_aside_on_a_credit_line_and_stands_when_that_falls(
    chain: Clearing,
) -> None:
    """A's debit is covered by its line; B is short. While B looks for money A's collateral loses
    all its worth: what was set aside was accepted before, and A ends up overdrawn."""
    bank_a = chain.world.lei("BANKA")
    chain.block(chain.world.issue("DEPOSITORY", "BANKA", 600, BOND))
    chain.block(chain.world.order("CENTRALBANK", PostPrice(BOND, "EUR", 1, 1, 0)))
    chain.block(chain.world.order("BANKA", Pledge(BOND, "EUR", 600)))
    chain.block(chain.net("BANKA", "BANKC", 600), chain.net("BANKB", "BANKC", 50))
    block = chain.close()
    assert short_by(chain, block) == {"BANKB": 50}
    assert chain.state.holding(bank_a, "EUR", 0) == (600, 600)
    chain.block(chain.world.order("CENTRALBANK", PostPrice(BOND, "EUR", 0, 1, 0)))
    assert chain.state.holding(bank_a, "EUR", 0) == (600, 0)
    chain.fund(50, "BANKB")
    assert chain.cycle().status == "settled"
    assert (chain.on("BANKA"), chain.on("BANKC")) == (-600, 650)


# --- the waterfall --------------------------------------------------------------------------------


def test_at_the_end_of_the_window_the_waterfall_pays_and_all_settles(chain: Clearing) -> None:
    chain.endow("BANKA", settlement=50, margin=100, fund=70)
    chain.endow("CENTRALBANK", capital=30)
    chain.endow("CLEARER", capital=50)
    for name in ("BANKB", "BANKC", "BANKD"):
        chain.endow(name, fund=300)
    triangle(chain)
    chain.close()
    before = balances(chain)
    block = chain.wait(FUNDING_MS)
    settled = events(block)[-1]
    assert isinstance(settled, CycleSettled)
    (shortfall,) = settled.shortfalls
    assert (shortfall.owed, shortfall.own) == (600, 50)
    paid = [(each.source, chain.name(each.participant), each.amount) for each in shortfall.covers]
    assert paid == [
        (CoverSource.MARGIN, "BANKA", 100),
        (CoverSource.FUND, "BANKA", 70),
        (CoverSource.CAPITAL, "CENTRALBANK", 30),
        (CoverSource.CAPITAL, "CLEARER", 50),
        (CoverSource.SURVIVOR, "BANKB", 100),
        (CoverSource.SURVIVOR, "BANKC", 100),
        (CoverSource.SURVIVOR, "BANKD", 100),
    ]
    assert settled.survivors == tuple(
        SurvivorShare(chain.world.lei(name), 300, 300) for name in ("BANKB", "BANKC", "BANKD")
    )
    assert chain.on("BANKA") == chain.on("BANKA", MARGIN) == chain.on("CLEARER", CAPITAL) == 0
    assert (chain.on("BANKB"), chain.on("BANKB", FUND)) == (500, 200)
    check_settled(chain, before)


def test_each_step_of_the_waterfall_is_told_with_both_balances_after(chain: Clearing) -> None:
    chain.endow("BANKA", settlement=500, margin=150)
    triangle(chain)
    chain.close()
    block = chain.wait(FUNDING_MS)
    outcome = block.outcomes[0]
    lei = chain.world.lei("BANKA")
    assert outcome.event == Moved("EUR", lei, MARGIN, lei, SETTLEMENT, 100)
    assert (outcome.debtor_balance, outcome.creditor_balance) == (50, 600)
    assert (outcome.status, outcome.instruction, outcome.uetr) == ("ACSC", None, None)


def test_without_a_window_the_waterfall_pays_at_the_close() -> None:
    chain = Clearing(netting_world(funding_ms=0))
    chain.endow("BANKA", margin=1_000)
    triangle(chain)
    assert named(chain.close()) == ["CycleClosed", "Moved", "CycleSettled"]


def test_a_survivor_pays_no_more_than_it_must_contribute_nor_than_it_has() -> None:
    terms = {
        "BANKA": (1_000, 0, 0),
        "BANKB": (1_000, 0, 100),
        "BANKC": (1_000, 0, 300),
        "BANKD": (1_000, 0, 200),
    }
    chain = Clearing(netting_world(terms=terms))
    chain.endow("BANKB", fund=5_000)
    chain.endow("BANKC", fund=300)
    chain.endow("BANKD", fund=10)
    chain.block(chain.net("BANKA", "BANKB", 402))
    chain.close()
    before = balances(chain)
    settled = events(chain.wait(FUNDING_MS))[-1]
    # D has 10, and B and C share 392 as 1 to 3: 98 and 294.
    assert isinstance(settled, CycleSettled)
    assert [each.amount for each in settled.shortfalls[0].covers] == [98, 294, 10]
    check_settled(chain, before)


def test_two_short_debtors_are_served_by_lei_and_are_no_survivors(chain: Clearing) -> None:
    chain.endow("CLEARER", capital=130)
    chain.endow("BANKB", fund=300)
    chain.endow("BANKD", fund=300)
    chain.block(chain.net("BANKA", "BANKD", 100), chain.net("BANKB", "BANKD", 350))
    chain.close()
    before = balances(chain)
    settled = events(chain.wait(FUNDING_MS))[-1]
    assert isinstance(settled, CycleSettled)
    first, second = settled.shortfalls
    assert isinstance(second, Shortfall)
    assert [(each.source, each.amount) for each in first.covers] == [(CoverSource.CAPITAL, 100)]
    assert [(each.source, each.available, each.amount) for each in second.covers] == [
        (CoverSource.FUND, 300, 300),
        (CoverSource.CAPITAL, 30, 30),
        (CoverSource.SURVIVOR, 300, 20),
    ]
    assert [chain.name(each.participant) for each in settled.survivors] == ["BANKC", "BANKD"]
    check_settled(chain, before)


# --- not enough -----------------------------------------------------------------------------------


def unsettled(chain: Clearing) -> MadeBlock:
    """A cycle that lacks 600 − 50 − 100 − 40 after the waterfall; the block that says so."""
    chain.endow("BANKA", settlement=50, margin=100)
    chain.endow("BANKB", fund=40)
    triangle(chain)
    chain.close()
    return chain.wait(FUNDING_MS)


def test_if_the_waterfall_does_not_suffice_nothing_moves(chain: Clearing) -> None:
    block = unsettled(chain)
    assert named(block) == ["CycleShort"]
    assert short_by(chain, block) == {"BANKA": 410}
    assert (chain.on("BANKA"), chain.on("BANKA", MARGIN)) == (50, 100)
    assert (chain.on("BANKB"), chain.on("BANKB", FUND)) == (0, 40)
    assert chain.reserved("BANKA") == 50
    cycle = chain.cycle()
    assert (cycle.status, cycle.until, cycle.decided) == ("unsettled", None, None)


def test_an_unsettled_cycle_takes_no_money_until_it_is_extended(chain: Clearing) -> None:
    unsettled(chain)
    chain.fund(1_000, "BANKA")
    assert chain.reserved("BANKA") == 50
    before = balances(chain)
    until = chain.state.time + DAY_MS
    block = chain.block(chain.cycle_order(EXTEND, until=until))
    assert events(block)[0] == CycleShort("EUR", 1, ((chain.world.lei("BANKA"), 550),), until)
    assert named(block) == ["CycleShort", "CycleSettled"]
    assert (chain.on("BANKA"), chain.on("BANKB")) == (450, 500)
    assert chain.on("BANKA", MARGIN) == 100
    check_settled(chain, before)


def test_an_extended_cycle_may_fail_again_and_be_unwound(chain: Clearing) -> None:
    unsettled(chain)
    until = chain.state.time + 10_000
    chain.block(chain.cycle_order(EXTEND, until=until))
    assert chain.cycle().until == until
    assert named(chain.wait(10_000)) == ["CycleShort"]
    chain.block(chain.gross("BANKA", "BANKD", 50))
    block = chain.block(chain.cycle_order(UNWIND))
    assert events(block)[0] == CycleUnwound("EUR", 1)
    assert block.outcomes[0].instruction == 0
    # What was set aside settles the queue in the same block.
    assert (chain.on("BANKA"), chain.reserved("BANKA"), chain.on("BANKD")) == (0, 0, 50)
    cycle = chain.cycle()
    assert (cycle.status, cycle.decided) == ("unwound", block.header.height)
    assert chain.on("BANKA", MARGIN) == 100


def test_a_payment_of_an_unwound_cycle_is_rejected(chain: Clearing) -> None:
    payment = chain.net_payment("BANKA", "BANKB", 700)
    chain.block(chain.world.pay("BANKA", payment))
    chain.close()
    chain.wait(FUNDING_MS)
    chain.block(chain.cycle_order(UNWIND))
    again = chain.world.pay("BANKA", payment, valid_until=chain.state.time + DAY_MS)
    (outcome,) = chain.block(again).outcomes
    assert (outcome.status, outcome.reason) == ("RJCT", "AB02")


def test_the_next_cycle_goes_on_while_one_is_unsettled(chain: Clearing) -> None:
    unsettled(chain)
    chain.endow("BANKC", settlement=80)
    chain.block(chain.net("BANKC", "BANKD", 80))
    assert named(chain.close(2)) == ["CycleClosed", "CycleSettled"]
    assert (chain.on("BANKD"), chain.cycle().status) == (80, "unsettled")


# --- time -----------------------------------------------------------------------------------------


def test_cycles_close_by_the_schedule_if_anybody_joined() -> None:
    chain = Clearing(netting_world(closes=(60_000, 120_000, 180_000)))
    chain.block(time=chain.genesis.header.timestamp + 1_000)
    chain.endow("BANKA", settlement=600)
    assert chain.state.next_due() == chain.genesis.header.timestamp + 60_000
    assert "CycleClosed" not in named(chain.wait(60_000))
    triangle(chain)
    block = chain.wait(60_000)
    assert named(block) == ["CycleClosed", "CycleSettled"]
    assert {each.instruction for each in block.outcomes} == {None}
    assert named(chain.wait(60_000)) == []


def test_after_an_outage_over_several_closes_a_cycle_closes_once() -> None:
    chain = Clearing(netting_world(closes=(60_000, 120_000, 180_000)))
    chain.block(time=chain.genesis.header.timestamp + 1_000)
    triangle(chain)
    block = chain.wait(600_000)
    assert named(block) == ["CycleClosed", "CycleShort"]
    short = events(block)[1]
    assert isinstance(short, CycleShort)
    assert short.until == block.header.timestamp + FUNDING_MS
    assert named(chain.wait(FUNDING_MS)) == ["CycleShort"]


def age(chain: Clearing) -> int:
    """When the first cycle is too old, by the genesis window."""
    return chain.cycle().opened + chain.state.parameters.uetr_window_ms - CYCLE_GRACE_MS


def test_a_closed_cycle_that_gets_too_old_is_unwound(chain: Clearing) -> None:
    unsettled(chain)
    last = age(chain)
    assert chain.state.next_due() == last
    assert named(chain.block(time=last - 1)) == []
    block = chain.block(time=last)
    assert events(block) == [CycleUnwound("EUR", 1)]
    assert block.outcomes[0].instruction is None
    assert chain.reserved("BANKA") == 0


def test_a_cycle_that_nobody_closed_is_closed_when_it_is_too_old(chain: Clearing) -> None:
    chain.endow("BANKA", settlement=600)
    triangle(chain)
    assert named(chain.block(time=age(chain))) == ["CycleClosed", "CycleSettled"]


def test_a_cycle_closed_for_its_age_has_one_window_and_is_then_unwound(chain: Clearing) -> None:
    triangle(chain)
    assert named(chain.block(time=age(chain))) == ["CycleClosed", "CycleShort"]
    assert named(chain.wait(FUNDING_MS)) == ["CycleUnwound"]


@pytest.mark.parametrize("days", [1, 7, 8])
def test_a_cycle_is_decided_within_however_short_a_window_of_uetrs(days: int) -> None:
    chain = Clearing(netting_world(uetr_window_days=days))
    triangle(chain)
    assert chain.cycle().status == "open"
    due = chain.state.next_due()
    assert due is not None
    assert chain.cycle().opened < due < chain.cycle().opened + days * DAY_MS
    assert named(chain.block(time=due)) == ["CycleClosed", "CycleShort"]


# --- a node that starts anew ----------------------------------------------------------------------


class Restarted(Clearing):
    """A chain that loads its state anew, from what storage holds, before every block."""

    def make(self, *instructions: CheckedInstruction, **options: object) -> MadeBlock:
        if self.blocks and "parent" not in options:
            state = load_state(
                self.records.items(),
                self.blocks[-1].header,
                self.state.history,
                self.index,
                self.nodes.__getitem__,
            )
            assert state.map.root == self.state.map.root
            self.ledger = Ledger(state)
        return super().make(*instructions, **options)  # type: ignore[arg-type]


def test_a_node_that_restarts_at_every_block_comes_to_the_same_blocks() -> None:
    def story(chain: Clearing) -> list[bytes]:
        unsettled(chain)
        chain.block(chain.cycle_order(EXTEND, until=chain.state.time + 10_000))
        triangle(chain)
        chain.wait(10_000)
        chain.block(chain.cycle_order(UNWIND), chain.cycle_order(CLOSE, 2))
        chain.fund(2_000, "BANKA")
        assert [chain.cycle(n).status for n in (1, 2)] == ["unwound", "settled"]
        return [block.digest for block in chain.blocks]

    world = netting_world()
    assert story(Clearing(world)) == story(Restarted(replace(world, _count=0)))


def test_decided_cycles_are_kept_in_storage_and_not_in_memory(chain: Clearing) -> None:
    chain.endow("BANKA", settlement=600)
    triangle(chain)
    chain.close()
    assert chain.cycle().status == "settled"
    assert chain.state.rows(CYCLES) == []


# --- orders that make no sense --------------------------------------------------------------------


class Case(NamedTuple):
    name: str
    reason: str
    make: Callable[[Clearing], CheckedInstruction]


def settled(chain: Clearing) -> None:
    chain.endow("BANKA", settlement=600)
    triangle(chain)
    chain.close()


def after(
    prepare: Callable[[Clearing], object],
    action: CycleAction,
    *,
    cycle: int = 1,
    until: int | None = None,
    sender: str = "CENTRALBANK",
    asset: str = "EUR",
) -> Callable[[Clearing], CheckedInstruction]:
    """`until`: milliseconds after the next block's time."""

    def make(chain: Clearing) -> CheckedInstruction:
        prepare(chain)
        ends = None if until is None else chain.state.time + 1_000 + until
        return chain.cycle_order(action, cycle, until=ends, sender=sender, asset=asset)

    return make


def closed(chain: Clearing) -> None:
    triangle(chain)
    chain.close()


CASES = [
    Case("closed by a member", "DS20", after(triangle, CLOSE, sender="BANKA")),
    Case("unwound by the supervisor", "DS20", after(unsettled, UNWIND, sender="WATCHDOG")),
    Case("a cycle nobody joined", "NOOR", after(lambda c: None, CLOSE)),
    Case("a cycle that is to come", "NOOR", after(triangle, CLOSE, cycle=2)),
    Case("a cycle of no net system", "NOOR", after(triangle, CLOSE, asset="CNY")),
    Case("a cycle of no currency", "NOOR", after(triangle, CLOSE, asset="USD")),
    Case("closed twice", "ED06", after(closed, CLOSE)),
    Case("closed after it settled", "ED06", after(settled, CLOSE)),
    Case("extended while it is open", "ED06", after(triangle, EXTEND, until=5)),
    Case("extended while its window lasts", "ED06", after(closed, EXTEND, until=5)),
    Case("extended after it settled", "ED06", after(settled, EXTEND, until=5)),
    Case("unwound while it is open", "ED06", after(triangle, UNWIND)),
    Case("unwound while its window lasts", "ED06", after(closed, UNWIND)),
    Case("unwound after it settled", "ED06", after(settled, UNWIND)),
    Case("closed until some time", "DT02", after(triangle, CLOSE, until=5)),
    Case("unwound until some time", "DT02", after(unsettled, UNWIND, until=5)),
    Case("extended without an end", "DT02", after(unsettled, EXTEND)),
    Case("extended until now", "DT02", after(unsettled, EXTEND, until=0)),
    Case("extended for too long", "DT02", after(unsettled, EXTEND, until=MAX_FUNDING_MS + 1)),
    Case("extended until the end of time", "DT02", after(unsettled, EXTEND, until=2**63)),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_rejected_order_says_why_and_changes_nothing(case: Case, chain: Clearing) -> None:
    instruction = case.make(chain)
    before = chain.state
    block = chain.block(instruction)
    (outcome,) = block.outcomes
    assert (outcome.status, outcome.reason, outcome.event) == ("RJCT", case.reason, None)
    assert block.header.state_root == before.map.root
    assert not block.applied.records


def test_an_extension_may_be_as_long_as_a_window_may(chain: Clearing) -> None:
    unsettled(chain)
    until = chain.state.time + 1_000 + MAX_FUNDING_MS
    assert named(chain.block(chain.cycle_order(EXTEND, until=until))) == ["CycleShort"]


def test_orders_and_events_of_a_cycle_name_it() -> None:
    """Whoever reads one event finds the others: all carry the asset and the cycle's number."""
    chain = Clearing(netting_world())
    unsettled(chain)
    chain.block(chain.cycle_order(UNWIND))
    found: list[Event] = [event for block in chain.blocks for event in events(block)]
    named_ = [each for each in found if isinstance(each, CycleClosed | CycleShort | CycleUnwound)]
    assert {(each.asset, each.cycle) for each in named_} == {("EUR", 1)}
