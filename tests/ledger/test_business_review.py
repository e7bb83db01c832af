"""What an attacker, a supervisor or an auditor would try on links, limits, days, cycles and
governance: each test is a suspicion that was followed up."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from node.chain.types import MAX_BALANCE, BusinessDay, Phase, ProceedDay
from tests.support.auditor import Auditor
from tests.support.days import (
    FIRST_DATE,
    assert_rejected,
    day,
    days,
    opening,
    phase,
    publication,
    publish,
    settling_world,
    standing,
)
from tests.support.ledger_world import HOUR_MS, Chain, MadeBlock
from tests.support.settlement_actions import Chance
from tests.support.settlement_machine import DECK, World
from tests.support.settlement_world import Driver
from tests.support.steps import Stage, restarted

SEEDS = 40
STEPS = 100
"""Of one history."""


# --- everything together --------------------------------------------------------------------------


class Audited(Driver):
    """Starts the node anew after every block, and has the block audited from what it says alone."""

    def __init__(self) -> None:
        super().__init__()
        self.auditor = Auditor()

    def block(self, step: int) -> MadeBlock:
        made = super().block(step)
        running = self.chain.state
        self.restart()
        loaded = self.chain.state
        assert loaded.map.root == running.map.root
        assert loaded.next_due() == running.next_due()
        self.auditor.read(made)
        assert self.auditor.held() == {
            (each.participant, each.asset, int(each.kind)): balance
            for each in loaded.accounts()
            if (balance := loaded.balance(each.participant, each.asset, each.kind))
        }
        return made


def test_a_node_that_starts_anew_after_every_block_goes_on_alike_and_all_ties_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Histories of everything that can happen, in which no block is executed on a state that was
    not read from storage: the machine's model says what must come of each. An auditor who only
    reads instructions and outcomes comes to every balance and to every statement."""
    blocks = statements = 0
    for seed in range(SEEDS):
        world, choice = World(), Chance(Random(9_000_000 + seed))
        driver = world.driver = Audited()
        world.begin(choice)
        for _ in range(STEPS):
            getattr(world, choice.pick(DECK))(choice)
        driver.block(1_000)
        blocks += len(driver.chain.blocks)
        statements += driver.auditor.statements
    assert statements > SEEDS
    with capsys.disabled():
        print(f"\n{blocks:,} blocks, {statements:,} statements")


# --- links and what limits count ------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [1, 2, 8])
@pytest.mark.parametrize("counterparty", ["B", "all"])
def test_legs_there_and_back_count_by_their_difference_however_large(
    pairs: int, counterparty: str
) -> None:
    """Counted leg by leg, eight of them went beyond what a record can hold: no node could have
    executed the block."""
    stage = Stage()
    stage.chain.block(*stage.limit("A", counterparty, "10"))
    names = []
    for debtor, creditor in (("B", "A"), ("A", "B")):
        for number in range(pairs):
            names.append(f"{debtor}{number}".lower())
            stage.leg(names[-1], debtor, creditor, str(MAX_BALANCE))
    stage.chain.block(*stage.agree("l", "A", "+".join(names)))
    block = stage.chain.block(*stage.agree("l", "B"))
    assert stage.told(block)[-1] == "link-settled"
    assert stage.used("A", None if counterparty == "all" else "B") == 0
    stage.check()


def test_a_ring_of_legs_counts_by_its_difference_in_a_multilateral_limit() -> None:
    stage = Stage()
    for holder in "ABC":
        stage.chain.block(*stage.limit(holder, "all", "10"))
    names = []
    for debtor, creditor in (("B", "A"), ("A", "C"), ("C", "B")):
        for number in range(5):
            names.append(f"{debtor}{number}".lower())
            stage.leg(names[-1], debtor, creditor, str(MAX_BALANCE))
    stage.chain.block(*stage.agree("l", "A", "+".join(names)))
    stage.chain.block(*stage.agree("l", "B"))
    block = stage.chain.block(*stage.agree("l", "C"))
    assert stage.told(block)[-1] == "link-settled"
    assert [stage.used(holder, None) for holder in "ABC"] == [0, 0, 0]
    assert restarted(stage.chain).map.root == stage.chain.state.map.root


def test_queued_payments_in_a_ring_count_by_their_difference_however_large() -> None:
    stage = Stage()
    stage.chain.block(*stage.limit("A", "all", "10"), *stage.limit("B", "A", "10"))
    for number in range(8):
        stage.chain.block(*stage.pay(f"b{number}", "B", "A", str(MAX_BALANCE)))
    for number in range(8):
        block = stage.chain.block(*stage.pay(f"a{number}", "A", "B", str(MAX_BALANCE)))
    assert stage.told(block)[-2:] == ["settled", "resolved=2"]
    assert (stage.used("A", None), stage.used("B", "A")) == (0, 0)
    stage.check()


# --- the day --------------------------------------------------------------------------------------


def waiting_to_open() -> Chain:
    """Block time jumped over the close of the first day and the opening of the second."""
    chain = Chain(settling_world())
    publish(chain, days(3))
    for which in Phase:
        if which is not Phase.CLOSED:
            chain.block(time=day(0).begins[which])
    chain.block(time=opening(1) + 1)
    record = standing(chain)
    assert record is not None
    assert record.waits_for is Phase.OPEN
    return chain


def test_nobody_opens_a_day_before_its_time_where_the_one_that_was_missed_is_replaced() -> None:
    chain = waiting_to_open()
    publish(chain, [BusinessDay(FIRST_DATE + 1, day(5).begins, ())])
    until = chain.state.time + HOUR_MS
    order = chain.world.order(
        "CENTRALBANK", ProceedDay(FIRST_DATE + 1, Phase.OPEN), valid_until=until
    )
    assert_rejected(chain, order, "DT04")
    assert restarted(chain).next_due() == chain.state.next_due() == opening(5)
    chain.block(time=opening(5))
    assert phase(chain) == (1, Phase.OPEN)


def test_the_opening_that_was_missed_is_still_waited_for_where_later_days_are_replaced() -> None:
    chain = waiting_to_open()
    [outcome] = chain.block(publication(chain, [day(4)])).outcomes
    assert outcome.reason is None
    until = chain.state.time + HOUR_MS
    chain.block(
        chain.world.order("CENTRALBANK", ProceedDay(FIRST_DATE + 1, Phase.OPEN), valid_until=until)
    )
    assert phase(chain) == (1, Phase.OPEN)


def test_a_leg_whose_uetr_is_used_up_in_between_ends_the_link_and_nothing_else() -> None:
    """A UETR is public once the first debtor signed: whoever uses it up keeps the link from
    completing, and no money moves by it."""
    stage = Stage()
    stage.play(
        """
        fund A 100             |             | A 100
        fund B 100             |             | B 100
        fund C 100             |             | C 100
        leg p A B 40           |             |
        leg q B A 30           |             |
        agree l A p+q          | p accepted  |
        """
    )
    stolen = stage.payments["q"]
    stage.draft("thief", "C", "B", "1")
    stage.payments["thief"] = replace(stage.payments["thief"], uetr=stolen.uetr)
    thief = stage.payments["thief"]
    until = stage.chain.state.time + HOUR_MS
    stage.chain.block(stage.world.pay("BANKC", thief, valid_until=until))
    assert [stage.holding((each, "EUR"))[0] for each in "ABC"] == [100, 101, 99]
    [refused] = stage.chain.block(*stage.agree("l", "B")).outcomes
    assert (refused.status, refused.reason) == ("RJCT", "AM05")
    ended = stage.chain.block(time=stage.soon("2")).outcomes
    assert [(each.status, each.reason) for each in ended] == [("CANC", "AB03")] * 2
    assert [stage.holding((each, "EUR"))[0] for each in "ABC"] == [100, 101, 99]
    stage.check()
