"""Net payments join a clearing cycle: who may, up to which cap, what the ledger keeps of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from node.chain import merkle
from node.chain.instruction import CheckedInstruction, payment_digest
from node.chain.records import CycleRecord, PaymentKey, PositionKey, PositionRecord
from node.chain.types import (
    AccountKind,
    CloseParticipant,
    CycleClosed,
    Freeze,
    Joined,
    NetPosition,
    Payment,
    Propose,
    SetMember,
    SetNetting,
    SuspendParticipant,
)
from node.ledger.reasons import sentence
from node.ledger.tables import CYCLES, NETTING, PAYMENTS, POSITIONS, AnyTable
from tests.support.ledger_world import DAY_MS, MadeBlock
from tests.support.netting_world import BOND, TERMS, Clearing, events, netting_world


@pytest.fixture
def chain() -> Clearing:
    return Clearing(netting_world())


def propose(chain: Clearing, *changes: object) -> CheckedInstruction:
    expires = chain.state.time + DAY_MS
    return chain.world.order(
        "CENTRALBANK",
        Propose(changes, expires),  # type: ignore[arg-type]
        valid_until=expires,
    )


def only(block: MadeBlock) -> tuple[str, str | None]:
    """Status and reason of the block's one outcome."""
    (outcome,) = block.outcomes
    return outcome.status, outcome.reason


def test_a_net_payment_is_accepted_into_the_open_cycle_and_moves_nothing(chain: Clearing) -> None:
    payment = chain.net_payment("BANKA", "BANKB", 700)
    block = chain.block(chain.world.pay("BANKA", payment))
    (outcome,) = block.outcomes
    assert (outcome.status, outcome.event) == ("ACSP", Joined(1))
    assert (outcome.debtor_balance, outcome.creditor_balance) == (None, None)
    assert chain.on("BANKA") == chain.on("BANKB") == chain.reserved("BANKA") == 0
    assert chain.state.get(PAYMENTS, PaymentKey(payment.uetr)) is None
    assert chain.cycle() == CycleRecord(
        status="open",
        opened=chain.state.time,
        payments=1,
        value=700,
        frontier=(payment_digest(payment),),
        positions=(),
        reserved=(),
        until=None,
        decided=None,
    )
    sides = {key.participant: row for key, row in chain.state.rows(POSITIONS)}
    assert sides == {
        chain.world.lei("BANKA"): PositionRecord(700, 0),
        chain.world.lei("BANKB"): PositionRecord(0, 700),
    }


def test_the_root_of_a_cycle_is_that_of_its_payments_in_order_of_joining(chain: Clearing) -> None:
    """Over several instructions and blocks, with rejected ones in between."""
    joined: list[Payment] = []
    for size in (1, 2, 5, 9):
        orders = []
        for debtor, creditor in (("BANKA", "BANKB"), ("BANKB", "BANKC")):
            batch = [chain.net_payment(debtor, creditor, 10 + n) for n in range(size)]
            joined += batch
            no_member = chain.net_payment(debtor, "OUTSIDER", 1)
            orders.append(chain.world.pay(debtor, *batch[:1], no_member, *batch[1:]))
        chain.block(*orders)
    closed = events(chain.close())[0]
    assert isinstance(closed, CycleClosed)
    assert closed.payments == len(joined) == 34
    assert closed.payments_root == merkle.root([payment_digest(each) for each in joined])


def test_a_batch_comes_to_the_same_rows_as_its_payments_one_by_one() -> None:
    world = netting_world()
    one, many = Clearing(world), Clearing(world)
    payments = [
        one.net_payment("BANKA", creditor, amount)
        for amount in range(1, 12)
        for creditor in ("BANKB", "BANKC")
    ]
    time = one.state.time + 60_000
    many.block(world.pay("BANKA", *payments), time=time)
    one.block(*(world.pay("BANKA", each) for each in payments), time=time)
    tables: tuple[AnyTable, ...] = (CYCLES, POSITIONS, NETTING)
    for table in tables:
        assert one.state.rows(table) == many.state.rows(table)


def test_thousands_of_payments_leave_as_many_records_as_two(chain: Clearing) -> None:
    """One of the cycle, one of each party. The close changes these and the number of the next."""
    two = chain.block(chain.net("BANKA", "BANKB", 1), chain.net("BANKB", "BANKA", 1))
    batch = [chain.net_payment("BANKA", "BANKB", 1) for _ in range(2_000)]
    many = chain.block(chain.world.pay("BANKA", *batch))
    assert len(many.outcomes) == 2_000
    assert len(many.applied.records) == len(two.applied.records) == 3
    assert len(chain.close().applied.records) == 4


def test_competing_blocks_never_see_each_others_payments(chain: Clearing) -> None:
    chain.block(chain.net("BANKA", "BANKB", 5))
    left = chain.make(chain.net("BANKA", "BANKB", 10))
    right = chain.make(chain.net("BANKA", "BANKC", 20))
    position = PositionKey("EUR", chain.world.lei("BANKA"))
    assert left.state.get(POSITIONS, position) == PositionRecord(15, 0)
    assert right.state.get(POSITIONS, position) == PositionRecord(25, 0)
    chain.commit(right)
    assert chain.cycle().value == 25


# --- caps -----------------------------------------------------------------------------------------


def test_a_debtor_may_owe_net_as_much_as_its_cap_and_no_unit_more(chain: Clearing) -> None:
    cap = TERMS["BANKA"][0]
    assert only(chain.block(chain.net("BANKA", "BANKB", cap))) == ("ACSP", None)
    assert only(chain.block(chain.net("BANKA", "BANKB", 1))) == ("RJCT", "AM23")


def test_what_a_debtor_receives_in_the_cycle_makes_room_under_its_cap(chain: Clearing) -> None:
    cap = TERMS["BANKA"][0]
    block = chain.block(
        chain.net("BANKA", "BANKB", cap),
        chain.net("BANKA", "BANKB", 1),
        chain.net("BANKC", "BANKA", 50),
        chain.net("BANKA", "BANKB", 51),
        chain.net("BANKA", "BANKB", 50),
    )
    assert [each.reason for each in block.outcomes] == [None, "AM23", None, "AM23", None]


def test_a_payment_that_the_cap_rejects_uses_up_its_uetr_and_no_room(chain: Clearing) -> None:
    cap = TERMS["BANKA"][0]
    big = chain.net_payment("BANKA", "BANKB", cap + 1)
    block = chain.block(chain.world.pay("BANKA", big), chain.net("BANKA", "BANKB", cap))
    assert [each.status for each in block.outcomes] == ["RJCT", "ACSP"]
    again = chain.block(chain.world.pay("BANKA", big))
    assert only(again) == ("RJCT", "AM23")
    assert again.outcomes[0].original is not None


def test_a_cap_may_be_set_below_what_is_owed_and_then_nothing_more_joins(chain: Clearing) -> None:
    chain.block(chain.net("BANKA", "BANKB", 500))
    lowered = SetMember(chain.world.lei("BANKA"), "EUR", 100, 0, 0)
    block = chain.block(
        propose(chain, lowered),
        chain.net("BANKA", "BANKB", 1),
        chain.net("BANKB", "BANKA", 450),
        chain.net("BANKA", "BANKB", 50),
        chain.net("BANKA", "BANKB", 1),
    )
    assert [each.reason for each in block.outcomes] == [None, "AM23", None, None, "AM23"]


def test_a_cap_raised_in_the_same_block_counts_for_what_follows(chain: Clearing) -> None:
    cap = TERMS["BANKA"][0]
    raised = SetMember(chain.world.lei("BANKA"), "EUR", cap + 1, 0, 0)
    block = chain.block(
        chain.net("BANKA", "BANKB", cap), propose(chain, raised), chain.net("BANKA", "BANKB", 1)
    )
    assert [each.reason for each in block.outcomes] == [None, None, None]


# --- sent again -----------------------------------------------------------------------------------


def test_a_retry_is_told_what_its_cycle_has_become(chain: Clearing) -> None:
    payment = chain.net_payment("BANKA", "BANKB", 700)

    def retry() -> tuple[str, str | None]:
        order = chain.world.pay("BANKA", payment, valid_until=chain.state.time + DAY_MS)
        return only(chain.block(order))

    first = chain.block(chain.world.pay("BANKA", payment), chain.world.pay("BANKA", payment))
    assert [each.status for each in first.outcomes] == ["ACSP", "ACSP"]
    assert first.outcomes[1].original is not None
    assert chain.cycle().payments == 1
    assert retry() == ("ACSP", None)
    chain.close()
    assert retry() == ("ACSP", None)
    chain.fund(700, "BANKA")
    assert chain.cycle().status == "settled"
    assert retry() == ("ACSC", None)


def test_another_payment_under_the_uetr_of_one_in_a_cycle_is_rejected(chain: Clearing) -> None:
    payment = chain.net_payment("BANKA", "BANKB", 700)
    chain.block(chain.world.pay("BANKA", payment))
    other = chain.net_payment("BANKA", "BANKB", 701, uetr=payment.uetr)
    assert only(chain.block(chain.world.pay("BANKA", other))) == ("RJCT", "AM05")
    assert chain.cycle().value == 700


# --- refusals -------------------------------------------------------------------------------------


Make = Callable[[Clearing], CheckedInstruction]


class Case(NamedTuple):
    name: str
    reason: str
    make: Make


def paying(debtor: str, creditor: str, amount: int = 1, **changed: object) -> Make:
    return lambda chain: chain.net(debtor, creditor, amount, **changed)


def all_or_none(chain: Clearing) -> CheckedInstruction:
    payments = [chain.net_payment("BANKA", "BANKB", n) for n in (1, 2)]
    return chain.world.pay("BANKA", *payments, all_or_none=True)


def early(chain: Clearing) -> CheckedInstruction:
    return chain.net("BANKA", "BANKB", 1, earliest=chain.state.time + 2_000)


def late(chain: Clearing) -> CheckedInstruction:
    return chain.net("BANKA", "BANKB", 1, latest=chain.state.time)


def over_the_cap(chain: Clearing) -> CheckedInstruction:
    chain.block(chain.net("BANKA", "BANKB", TERMS["BANKA"][0]))
    return chain.net("BANKA", "BANKC", 1)


def sum_of_a_cycle(chain: Clearing) -> CheckedInstruction:
    """Each debtor stays within its cap; all together is more than can be counted."""
    most = 2**63 - 1
    terms = [SetMember(chain.world.lei(name), "EUR", most, 0, 0) for name in ("BANKA", "BANKB")]
    chain.block(propose(chain, *terms), chain.net("BANKA", "BANKB", most))
    return chain.net("BANKB", "BANKA", 1)


def suspended(chain: Clearing) -> CheckedInstruction:
    chain.block(propose(chain, SuspendParticipant(chain.world.lei("BANKB"))))
    return chain.net("BANKA", "BANKB", 1)


def frozen(*, debit: bool) -> Make:
    def make(chain: Clearing) -> CheckedInstruction:
        whom = "BANKA" if debit else "BANKB"
        freeze = Freeze(chain.world.lei(whom), debit, not debit, "FRAD")
        chain.block(chain.world.order("WATCHDOG", freeze))
        return chain.net("BANKA", "BANKB", 1)

    return make


def switched_off(chain: Clearing) -> CheckedInstruction:
    chain.block(propose(chain, SetNetting("EUR", False, 0)))
    return chain.net("BANKA", "BANKB", 1)


def with_bonds(chain: Clearing) -> CheckedInstruction:
    chain.block(chain.world.issue("DEPOSITORY", "BANKA", 10, BOND))
    return chain.net("BANKA", "BANKB", 1, asset=BOND)


CASES = [
    Case("a currency without a net system", "AG02", paying("BANKA", "BANKB", asset="CNY")),
    Case("a security", "AG02", with_bonds),
    Case("the debtor is no member", "AG02", paying("OUTSIDER", "BANKB")),
    Case("the creditor is no member", "AG02", paying("BANKA", "OUTSIDER")),
    Case("the net system is switched off", "AG02", switched_off),
    Case("more than the cap at once", "AM23", paying("BANKA", "BANKB", TERMS["BANKA"][0] + 1)),
    Case("more than the cap with what joined before", "AM23", over_the_cap),
    Case("the cycle's sum would overflow", "AM02", sum_of_a_cycle),
    Case("amount zero", "AM01", paying("BANKA", "BANKB", 0)),
    Case("amount beyond any account", "AM02", paying("BANKA", "BANKB", 2**63)),
    Case("its earliest time has not come", "DT06", early),
    Case("its latest time has passed", "AB03", late),
    Case("the creditor is suspended", "AG01", suspended),
    Case("the creditor's credits are frozen", "AC06", frozen(debit=False)),
    Case("the debtor's debits are frozen", "AC06", frozen(debit=True)),
    Case(
        "another's account",
        "DS0H",
        lambda c: c.world.pay("BANKB", c.net_payment("BANKA", "BANKC", 1)),
    ),
    Case("debtor and creditor are one", "AG12", paying("BANKA", "BANKA")),
    Case("from margin", "AC14", paying("BANKA", "BANKB", debtor_account=AccountKind.MARGIN)),
    Case("all or none", "FF02", all_or_none),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_rejected_net_payment_says_why_and_changes_nothing(case: Case, chain: Clearing) -> None:
    instruction = case.make(chain)
    before = chain.state
    block = chain.block(instruction)
    assert {(each.status, each.reason) for each in block.outcomes} == {("RJCT", case.reason)}
    assert sentence(case.reason).endswith(".")
    assert block.header.state_root == before.map.root
    assert not block.applied.records


# --- changes of the net system --------------------------------------------------------------------


CHANGES: list[tuple[str, str, Callable[[Clearing], object]]] = [
    ("of an unknown currency", "AM03", lambda c: SetNetting("USD", True, 0)),
    ("of a security", "FF05", lambda c: SetNetting(BOND, True, 0)),
    ("a member nobody knows", "BE06", lambda c: SetMember("N" * 20, "EUR", 1, 1, 1)),
    ("a member of nothing", "AG02", lambda c: SetMember(c.world.lei("BANKA"), "CNY", 1, 1, 1)),
    ("a member for a security", "FF05", lambda c: SetMember(c.world.lei("BANKA"), BOND, 1, 1, 1)),
    (
        "a member without accounts",
        "AC03",
        lambda c: SetMember(c.world.lei("WATCHDOG"), "EUR", 1, 1, 1),
    ),
]


@pytest.mark.parametrize(("name", "reason", "make"), CHANGES, ids=[each[0] for each in CHANGES])
def test_a_change_that_makes_no_sense_is_rejected(
    name: str, reason: str, make: Callable[[Clearing], object], chain: Clearing
) -> None:
    block = chain.block(propose(chain, make(chain)))
    assert only(block) == ("RJCT", reason)
    assert not block.applied.records


@pytest.mark.parametrize("closed", [False, True])
def test_a_net_system_is_not_switched_off_while_a_cycle_is_undecided(
    closed: bool, chain: Clearing
) -> None:
    chain.block(chain.net("BANKA", "BANKB", 1))
    if closed:
        chain.close()
    assert only(chain.block(propose(chain, SetNetting("EUR", False, 0)))) == ("RJCT", "ED06")
    if not closed:
        chain.close()
    chain.fund(1, "BANKA")
    assert only(chain.block(propose(chain, SetNetting("EUR", False, 0)))) == ("ACSC", None)


def test_a_net_system_is_founded_with_its_members_in_one_decision(chain: Clearing) -> None:
    terms = [SetMember(chain.world.lei(name), "CNY", 10, 0, 0) for name in ("BANKA", "BANKB")]
    block = chain.block(
        propose(chain, SetNetting("CNY", True, 0), *terms),
        chain.net("BANKA", "BANKB", 10, asset="CNY"),
    )
    assert [each.reason for each in block.outcomes] == [None, None]
    assert chain.cycle(asset="CNY").payments == 1


def test_positions_of_two_currencies_are_kept_apart(chain: Clearing) -> None:
    terms = [SetMember(chain.world.lei(name), "CNY", 10, 0, 0) for name in ("BANKA", "BANKB")]
    chain.block(propose(chain, SetNetting("CNY", True, 0), *terms))
    chain.block(chain.net("BANKA", "BANKB", 10, asset="CNY"), chain.net("BANKB", "BANKA", 7))
    closed = events(chain.close())[0]
    assert isinstance(closed, CycleClosed)
    assert closed.positions == (
        NetPosition(chain.world.lei("BANKA"), 0, 7),
        NetPosition(chain.world.lei("BANKB"), 7, 0),
    )
    assert chain.cycle(asset="CNY").status == "open"
    assert len(chain.state.rows(POSITIONS)) == 2


def test_a_member_does_not_leave_the_ledger_out_of_a_cycle(chain: Clearing) -> None:
    lei = chain.world.lei("BANKD")
    leave = CloseParticipant(lei)
    block = chain.block(
        chain.net("BANKD", "BANKA", 5),
        propose(chain, SetMember(lei, "EUR", 0, 0, 0)),
        propose(chain, leave),
        chain.net("BANKA", "BANKD", 5),
    )
    assert [each.reason for each in block.outcomes] == [None, None, "AC05", None]
    assert only(chain.block(propose(chain, leave))) == ("RJCT", "AC05")
    chain.close()
    assert chain.cycle().status == "settled"
    assert only(chain.block(propose(chain, leave))) == ("ACSC", None)
