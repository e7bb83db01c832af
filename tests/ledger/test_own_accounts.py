"""Own money moves between own accounts, and what secures a net system stays while it must."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from node.chain.instruction import CheckedInstruction
from node.chain.types import (
    AccountKind,
    CycleAction,
    Freeze,
    MoveOwn,
    Propose,
    SetMember,
    SetNetting,
    SuspendParticipant,
)
from node.engine.window import used
from node.ledger.reasons import sentence
from tests.support.ledger_world import DAY_MS, uetr
from tests.support.netting_world import (
    BOND,
    CAPITAL,
    FUND,
    FUNDING_MS,
    MARGIN,
    Clearing,
    netting_world,
)

SETTLEMENT = AccountKind.SETTLEMENT
OWN = 1_000


@pytest.fixture
def chain() -> Clearing:
    """BANKA has 1,000 on its settlement account, 150 of margin, of which 100 are required, and 310
    in the fund, of which 300 are; CLEARER has 50 of capital."""
    chain = Clearing(netting_world())
    chain.endow("BANKA", settlement=OWN, margin=150, fund=310)
    chain.endow("CLEARER", capital=50)
    return chain


def propose(chain: Clearing, change: object) -> CheckedInstruction:
    expires = chain.state.time + DAY_MS
    return chain.world.order("CENTRALBANK", Propose((change,), expires))  # type: ignore[arg-type]


def test_money_moves_to_margin_fund_and_back_with_both_balances_told(chain: Clearing) -> None:
    block = chain.block(
        chain.move("BANKA", 200, SETTLEMENT, MARGIN),
        chain.move("BANKA", 300, SETTLEMENT, FUND),
        chain.move("BANKA", 250, MARGIN, SETTLEMENT),
        chain.move("BANKA", 60, FUND, MARGIN),
    )
    assert [
        (each.status, each.debtor_balance, each.creditor_balance) for each in block.outcomes
    ] == [
        ("ACSC", 800, 350),
        ("ACSC", 500, 610),
        ("ACSC", 100, 750),
        ("ACSC", 550, 160),
    ]
    assert [chain.on("BANKA", each) for each in (SETTLEMENT, MARGIN, FUND)] == [750, 160, 550]


def test_an_operator_moves_its_capital(chain: Clearing) -> None:
    block = chain.block(chain.move("CLEARER", 20, CAPITAL, SETTLEMENT))
    assert block.outcomes[0].status == "ACSC"
    assert (chain.on("CLEARER"), chain.on("CLEARER", CAPITAL)) == (20, 30)


def test_money_that_comes_back_settles_what_waits_for_it(chain: Clearing) -> None:
    chain.block(chain.gross("BANKA", "BANKB", OWN + 40))
    chain.block(chain.move("BANKA", 50, MARGIN, SETTLEMENT))
    assert (chain.on("BANKA"), chain.on("BANKB")) == (10, OWN + 40)


def test_a_move_passes_the_own_queue(chain: Clearing) -> None:
    """It is no payment: whoever runs the account decides what its money is for."""
    chain.block(chain.gross("BANKA", "BANKB", OWN + 40))
    block = chain.block(chain.move("BANKA", 500, SETTLEMENT, MARGIN))
    assert block.outcomes[0].status == "ACSC"


def test_a_retry_gets_the_first_outcome_and_moves_nothing(chain: Clearing) -> None:
    first = chain.block(chain.move("BANKA", 5, SETTLEMENT, MARGIN, number=7))
    again = chain.block(chain.move("BANKA", 5, SETTLEMENT, MARGIN, number=7))
    (outcome,) = again.outcomes
    assert (outcome.status, outcome.debtor_balance) == ("ACSC", None)
    assert outcome.original is not None
    assert outcome.original.height == first.header.height
    assert not again.applied.records


def test_a_rejected_move_uses_up_its_uetr(chain: Clearing) -> None:
    chain.block(chain.move("BANKA", OWN + 1, SETTLEMENT, MARGIN, number=7))
    chain.fund(5, "BANKA")
    (outcome,) = chain.block(chain.move("BANKA", OWN + 1, SETTLEMENT, MARGIN, number=7)).outcomes
    assert (outcome.status, outcome.reason) == ("RJCT", "AM04")
    assert outcome.original is not None


def test_the_same_order_of_another_sender_is_another_one(chain: Clearing) -> None:
    """Else whoever copies an order and is faster has its author told that its money moved."""
    chain.endow("BANKB", settlement=100)
    chain.block(chain.move("BANKB", 5, SETTLEMENT, MARGIN, number=7))
    (outcome,) = chain.block(chain.move("BANKA", 5, SETTLEMENT, MARGIN, number=7)).outcomes
    assert (outcome.status, outcome.reason) == ("RJCT", "AM05")
    assert chain.on("BANKA", MARGIN) == 150


def test_what_a_joining_node_rebuilds_of_a_move_is_what_the_ledger_remembers(
    chain: Clearing,
) -> None:
    block = chain.block(chain.move("BANKA", 5, SETTLEMENT, MARGIN), chain.net("BANKA", "BANKB", 10))
    rebuilt = used(block.header, block.instructions, block.applied.outcomes)
    assert sorted(rebuilt.uetrs) == sorted(block.applied.uetrs)


# --- what stays -----------------------------------------------------------------------------------


def test_margin_goes_down_to_what_is_required_and_no_further(chain: Clearing) -> None:
    for amount, reason in ((51, "AM07"), (50, None), (1, "AM07")):
        (outcome,) = chain.block(chain.move("BANKA", amount, MARGIN, SETTLEMENT)).outcomes
        assert outcome.reason == reason
    assert chain.on("BANKA", MARGIN) == 100


def test_the_fund_goes_down_to_the_contribution_and_no_further(chain: Clearing) -> None:
    for amount, reason in ((11, "AM07"), (10, None), (1, "AM07")):
        (outcome,) = chain.block(chain.move("BANKA", amount, FUND, SETTLEMENT)).outcomes
        assert outcome.reason == reason
    assert chain.on("BANKA", FUND) == 300


def test_a_member_that_leaves_takes_everything_out(chain: Clearing) -> None:
    chain.block(propose(chain, SetMember(chain.world.lei("BANKA"), "EUR", 0, 0, 0)))
    chain.block(
        chain.move("BANKA", 150, MARGIN, SETTLEMENT), chain.move("BANKA", 310, FUND, SETTLEMENT)
    )
    assert chain.on("BANKA") == OWN + 460


def test_a_net_system_that_is_switched_off_keeps_nobodys_money(chain: Clearing) -> None:
    chain.block(propose(chain, SetNetting("EUR", False, 0)))
    (outcome,) = chain.block(chain.move("BANKA", 10, FUND, SETTLEMENT)).outcomes
    assert outcome.status == "ACSC"


def test_who_is_in_an_undecided_cycle_takes_nothing_out_and_may_put_in(chain: Clearing) -> None:
    def takes_out() -> str | None:
        (outcome,) = chain.block(chain.move("BANKA", 1, MARGIN, SETTLEMENT)).outcomes
        return outcome.reason

    block = chain.block(
        chain.net("BANKB", "BANKA", 400),
        chain.move("BANKA", 1, FUND, SETTLEMENT),
        chain.move("BANKA", 1, FUND, MARGIN),
        chain.move("BANKA", 1, SETTLEMENT, MARGIN),
    )
    assert [each.reason for each in block.outcomes] == [None, "ED06", "ED06", None]
    assert takes_out() == "ED06"
    chain.close()
    assert takes_out() == "ED06"
    chain.wait(FUNDING_MS)
    assert chain.cycle().status == "unsettled"
    assert takes_out() == "ED06"
    chain.block(chain.cycle_order(CycleAction.UNWIND))
    assert takes_out() is None


def test_who_is_in_no_cycle_takes_out_what_it_has_in_excess(chain: Clearing) -> None:
    chain.block(chain.net("BANKB", "BANKC", 400))
    chain.close()
    (outcome,) = chain.block(chain.move("BANKA", 50, MARGIN, SETTLEMENT)).outcomes
    assert outcome.status == "ACSC"


def test_capital_stays_while_a_closed_cycle_waits_for_money(chain: Clearing) -> None:
    chain.block(chain.net("BANKB", "BANKC", 400))
    (outcome,) = chain.block(chain.move("CLEARER", 1, CAPITAL, SETTLEMENT)).outcomes
    assert outcome.status == "ACSC"
    chain.close()
    (outcome,) = chain.block(chain.move("CLEARER", 1, CAPITAL, SETTLEMENT)).outcomes
    assert outcome.reason == "ED06"
    chain.fund(400, "BANKB")
    (outcome,) = chain.block(chain.move("CLEARER", 1, CAPITAL, SETTLEMENT)).outcomes
    assert outcome.status == "ACSC"


def test_what_a_cycle_set_aside_moves_nowhere(chain: Clearing) -> None:
    chain.block(chain.net("BANKA", "BANKB", OWN - 10), chain.net("BANKC", "BANKB", 5))
    chain.close()
    assert chain.reserved("BANKA") == OWN - 10
    (outcome,) = chain.block(chain.move("BANKA", 11, SETTLEMENT, MARGIN)).outcomes
    assert outcome.reason == "AM04"
    (outcome,) = chain.block(chain.move("BANKA", 10, SETTLEMENT, MARGIN)).outcomes
    assert outcome.status == "ACSC"


# --- refusals -------------------------------------------------------------------------------------


class Case(NamedTuple):
    name: str
    reason: str
    make: Callable[[Clearing], CheckedInstruction]


def moving(
    source: AccountKind,
    target: AccountKind,
    amount: int = 1,
    sender: str = "BANKA",
    asset: str = "EUR",
) -> Callable[[Clearing], CheckedInstruction]:
    return lambda chain: chain.move(sender, amount, source, target, asset=asset)


def barred(
    change: Callable[[Clearing], CheckedInstruction],
) -> Callable[[Clearing], CheckedInstruction]:
    def make(chain: Clearing) -> CheckedInstruction:
        chain.block(change(chain))
        return chain.move("BANKA", 1, SETTLEMENT, MARGIN)

    return make


def frozen(*, debit: bool, credit: bool) -> Callable[[Clearing], CheckedInstruction]:
    return barred(
        lambda c: c.world.order("WATCHDOG", Freeze(c.world.lei("BANKA"), debit, credit, "FRAD"))
    )


def bonds(chain: Clearing) -> CheckedInstruction:
    chain.block(chain.world.issue("DEPOSITORY", "BANKA", 10, BOND))
    return chain.move("BANKA", 1, SETTLEMENT, MARGIN, asset=BOND)


def used_for_a_payment(chain: Clearing) -> CheckedInstruction:
    payment = chain.world.payment("BANKA", "BANKB", 1, uetr=uetr(7))
    chain.block(chain.world.pay("BANKA", payment))
    return chain.move("BANKA", 1, SETTLEMENT, MARGIN, number=7)


KINDS = AccountKind
CASES = [
    Case("one without accounts", "AG08", moving(SETTLEMENT, MARGIN, sender="WATCHDOG")),
    Case("UETR of a payment", "AM05", used_for_a_payment),
    Case(
        "suspended",
        "AG01",
        barred(lambda c: propose(c, SuspendParticipant(c.world.lei("BANKA")))),
    ),
    Case("debits frozen", "AC06", frozen(debit=True, credit=False)),
    Case("credits frozen", "AC06", frozen(debit=False, credit=True)),
    Case("unknown currency", "AM03", moving(SETTLEMENT, MARGIN, asset="USD")),
    Case("a security", "FF05", bonds),
    Case("nothing", "AM01", moving(SETTLEMENT, MARGIN, 0)),
    Case("more than any account holds", "AM02", moving(SETTLEMENT, MARGIN, 2**63)),
    Case("the largest amount there is", "AM02", moving(SETTLEMENT, MARGIN, 2**64 - 1)),
    Case("from an account to itself", "AG12", moving(MARGIN, MARGIN)),
    Case("to client reserve", "AC14", moving(SETTLEMENT, KINDS.CLIENT_RESERVE)),
    Case("out of client reserve", "AC14", moving(KINDS.CLIENT_RESERVE, SETTLEMENT)),
    Case("to collateral", "AC14", moving(SETTLEMENT, KINDS.COLLATERAL)),
    Case("capital of one that is no operator", "AC14", moving(SETTLEMENT, CAPITAL)),
    Case("margin of one that is no member", "AG02", moving(SETTLEMENT, MARGIN, sender="OUTSIDER")),
    Case("fund of one that is no member", "AG02", moving(SETTLEMENT, FUND, sender="CLEARER")),
    Case("margin where nothing is netted", "AG02", moving(SETTLEMENT, MARGIN, asset="CNY")),
    Case(
        "capital where nothing is netted",
        "AG02",
        moving(SETTLEMENT, CAPITAL, sender="CLEARER", asset="CNY"),
    ),
    Case("more than there is", "AM04", moving(SETTLEMENT, MARGIN, OWN + 1)),
    Case("more margin than there is", "AM04", moving(MARGIN, SETTLEMENT, 151)),
    Case("required margin", "AM07", moving(MARGIN, SETTLEMENT, 51)),
    Case("required contribution", "AM07", moving(FUND, MARGIN, 11)),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_rejected_move_says_why_and_changes_nothing(case: Case, chain: Clearing) -> None:
    instruction = case.make(chain)
    before = chain.state
    block = chain.block(instruction)
    (outcome,) = block.outcomes
    assert (outcome.status, outcome.reason) == ("RJCT", case.reason)
    body = instruction.instruction.envelope.body
    assert isinstance(body, MoveOwn)
    assert outcome.uetr == body.uetr
    assert sentence(case.reason).endswith(".")
    assert block.header.state_root == before.map.root
    assert not block.applied.records
