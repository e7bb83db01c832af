"""Client reserve and indirect participants: what may go in and out, and on whose account.

A payment institution's client reserve is its customers' money. It leaves for customers, as a refund
or to other client reserve, and else only with the supervisor's consent to that one payment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from node.chain.build import gross_payment
from node.chain.instruction import CheckedInstruction, payment_digest
from node.chain.types import (
    AccountKind,
    AccountPosition,
    Consent,
    InstructionBody,
    Link,
    MoveOwn,
    Payment,
    PaymentClass,
    Recall,
    Reserve,
    Resolved,
    Return,
    SetLimit,
)
from node.ledger.tables import CONSENTS
from tests.support.days import assert_rejected
from tests.support.ledger_world import DAY_MS, HOUR_MS, Chain, MadeBlock, lei, uetr
from tests.support.settlement_world import settlement_world

OWN, CLIENTS = AccountKind.SETTLEMENT, AccountKind.CLIENT_RESERVE


class Town:
    """BANKA has 1,000; PAYCO 100 of its own and 500 of its clients, which BANKA paid in."""

    def __init__(self) -> None:
        self.world = settlement_world.__wrapped__()
        self.chain = Chain(self.world)
        self.count = 20_000
        self.chain.fund(1_500, "BANKA")
        self.chain.fund(100, "PAYCO")
        self.into = self.draft("BANKA", "PAYCO", 500, to=CLIENTS)
        self.block(self.pay(self.into))
        assert self.clients == 500

    def draft(
        self,
        debtor: str,
        creditor: str,
        amount: int,
        *,
        source: AccountKind = OWN,
        to: AccountKind = OWN,
        kind: PaymentClass = PaymentClass.INTERBANK,
        **more: Any,
    ) -> Payment:
        self.count += 1
        return gross_payment(
            uetr(self.count),
            self.world.lei(debtor),
            self.world.lei(creditor),
            "EUR",
            amount,
            debtor_account=source,
            creditor_account=to,
            payment_class=kind,
            **more,
        )

    def out(self, creditor: str = "BANKB", amount: int = 40, **more: Any) -> Payment:
        """A payment from client reserve."""
        return self.draft("PAYCO", creditor, amount, source=CLIENTS, **more)

    def to_customer(self, amount: int = 40, creditor: str = "BANKB") -> Payment:
        return self.out(creditor, amount, kind=PaymentClass.CUSTOMER, ultimate_debtor="Wang Min")

    def name(self, lei: str) -> str:
        return next(each.name for each in self.world.banks.values() if each.lei == lei)

    def pay(self, *payments: Payment, sender: str | None = None) -> CheckedInstruction:
        name = sender or self.name(payments[0].debtor)
        return self.world.pay(name, *payments, valid_until=self.chain.state.time + DAY_MS)

    def send(self, sender: str, body: InstructionBody) -> CheckedInstruction:
        return self.world.order(sender, body, valid_until=self.chain.state.time + DAY_MS)

    def consent(self, payment: Payment, hours: int = 1) -> CheckedInstruction:
        until = self.chain.state.time + hours * HOUR_MS
        return self.send("WATCHDOG", Consent(payment_digest(payment), until))

    def block(self, *instructions: CheckedInstruction, time: int | None = None) -> MadeBlock:
        return self.chain.block(*instructions, time=time)

    def status(self, *instructions: CheckedInstruction) -> list[tuple[str, str | None]]:
        return [(each.status, each.reason) for each in self.block(*instructions).outcomes]

    def on(self, name: str, kind: AccountKind = OWN) -> int:
        return self.chain.state.balance(self.world.lei(name), "EUR", kind.value) or 0

    @property
    def clients(self) -> int:
        return self.on("PAYCO", CLIENTS)


@pytest.fixture
def town() -> Town:
    return Town()


# --- in and out -----------------------------------------------------------------------------------


def test_client_reserve_is_apart_from_the_institutions_own_money(town: Town) -> None:
    assert (town.on("PAYCO"), town.clients) == (100, 500)
    assert town.status(town.pay(town.draft("PAYCO", "BANKB", 101))) == [("PDNG", "AM04")]
    assert town.status(town.pay(town.to_customer(501))) == [("PDNG", "AM04")]
    assert (town.on("PAYCO"), town.clients) == (100, 500)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda t: t.to_customer(), None),
        (lambda t: t.out(), "AG03"),
        (lambda t: t.out(ultimate_debtor="Wang Min"), "AG03"),
        (lambda t: t.out(kind=PaymentClass.CUSTOMER), "AG03"),
        (lambda t: t.to_customer(creditor="PAYCO"), "AG03"),
        (lambda t: t.out("PAYCO"), "AG03"),
        (lambda t: t.out("BANKB", to=CLIENTS), "AC14"),
        (lambda t: t.draft("BANKA", "BANKB", 1, to=CLIENTS), "AC14"),
        (lambda t: t.draft("BANKA", "BANKB", 1, source=CLIENTS), "AC14"),
        (lambda t: t.draft("PAYCO", "BANKB", 1, source=AccountKind.MARGIN), "AC14"),
        (lambda t: t.draft("PAYCO", "BANKB", 1, to=AccountKind.FUND), "AC14"),
        (lambda t: t.draft("PAYCO", "PAYCO", 1, to=CLIENTS), None),
        (lambda t: t.out("PAYCO", to=CLIENTS), "AG12"),
    ],
    ids=[
        "to a customer",
        "to a bank",
        "to a bank, as if for a customer",
        "for no customer in particular",
        "to its own account, as if for a customer",
        "to its own account",
        "to another's client reserve where there can be none",
        "into client reserve of a bank",
        "from client reserve of a bank",
        "from margin",
        "to the fund",
        "its own money to its clients",
        "to itself",
    ],
)
def test_what_may_leave_and_enter_client_reserve(
    town: Town, make: Callable[[Town], Payment], reason: str | None
) -> None:
    order = town.pay(make(town))
    if reason is None:
        assert town.status(order) == [("ACSC", None)]
    else:
        assert_rejected(town.chain, order, reason)


def test_client_reserve_has_no_line_no_limit_and_is_moved_by_no_order_of_its_own(
    town: Town,
) -> None:
    own = town.world.lei("PAYCO")
    assert town.chain.state.holding(own, "EUR", CLIENTS.value) == (0, 0)
    for source, target in ((CLIENTS, OWN), (OWN, CLIENTS)):
        body = MoveOwn(uetr(99_000 + source), "EUR", source, target, 1)
        assert_rejected(town.chain, town.send("PAYCO", body), "AC14")
    town.block(town.send("PAYCO", SetLimit(own, "EUR", None, 0)))
    assert town.status(town.pay(town.to_customer())) == [("ACSC", None)]


def test_a_payment_of_client_reserve_waits_in_a_queue_of_its_own(town: Town) -> None:
    first, own = town.to_customer(600), town.draft("PAYCO", "BANKB", 90)
    assert town.status(town.pay(first)) == [("PDNG", "AM04")]
    assert town.status(town.pay(own)) == [("ACSC", None)]
    more = town.draft("BANKA", "PAYCO", 150, to=CLIENTS)
    [*both, summary] = town.block(town.pay(more)).outcomes
    assert [(each.status, each.reason) for each in both] == [("ACSC", None), ("ACSC", None)]
    assert isinstance(summary.event, Resolved)
    assert summary.event.positions == (
        AccountPosition(town.world.lei("BANKB"), OWN, 0, 600),
        AccountPosition(town.world.lei("PAYCO"), CLIENTS, 600, 0),
    )
    assert (town.clients, town.on("BANKB")) == (50, 690)


# --- consent --------------------------------------------------------------------------------------


def test_a_consent_lets_that_one_payment_out_once(town: Town) -> None:
    allowed, other = town.out("PAYCO", 40), town.out("PAYCO", 40)
    town.block(town.consent(allowed))
    assert_rejected(town.chain, town.pay(other), "AG03")
    assert town.status(town.pay(allowed)) == [("ACSC", None)]
    assert (town.on("PAYCO"), town.clients) == (140, 460)
    assert not town.chain.state.rows(CONSENTS)
    assert town.block(town.pay(allowed)).outcomes[0].original is not None
    assert (town.on("PAYCO"), town.clients) == (140, 460)


def test_a_consent_binds_every_word_of_the_payment(town: Town) -> None:
    allowed = town.out("PAYCO", 40)
    town.block(town.consent(allowed))
    assert_rejected(town.chain, town.pay(replace(allowed, amount=41)), "AG03")
    turned = replace(allowed, creditor=town.world.lei("BANKB"))
    assert_rejected(town.chain, town.pay(turned), "AG03")


def test_a_consent_lapses(town: Town) -> None:
    allowed = town.out("PAYCO", 40)
    town.block(town.consent(allowed, hours=1))
    town.block(time=town.chain.state.time + 2 * HOUR_MS)
    assert not town.chain.state.rows(CONSENTS)
    assert_rejected(town.chain, town.pay(allowed), "AG03")


def test_a_payment_let_out_by_consent_may_wait_and_has_used_it_up(town: Town) -> None:
    allowed = town.out("BANKB", 600)
    town.block(town.consent(allowed))
    assert town.status(town.pay(allowed)) == [("PDNG", "AM04")]
    assert not town.chain.state.rows(CONSENTS)
    town.block(town.pay(town.draft("BANKA", "PAYCO", 100, to=CLIENTS)))
    assert (town.clients, town.on("BANKB")) == (0, 600)


def test_a_reservation_of_client_reserve_obeys_the_same_rules(town: Town) -> None:
    until = town.chain.state.time + HOUR_MS
    bank = town.world.lei("BANKB")
    assert_rejected(town.chain, town.send("PAYCO", Reserve(town.out(), bank, None, until)), "AG03")
    allowed = town.out()
    town.block(town.consent(allowed))
    assert town.status(town.send("PAYCO", Reserve(allowed, bank, None, until))) == [("ACWP", None)]
    assert not town.chain.state.rows(CONSENTS)
    held = town.chain.state.holding(town.world.lei("PAYCO"), "EUR", CLIENTS.value)
    assert held == (40, 0)
    order = town.send("PAYCO", Reserve(town.to_customer(), bank, None, until))
    assert town.status(order) == [("ACWP", None)]


def test_no_leg_of_a_link_touches_client_reserve(town: Town) -> None:
    """Not even by consent: what a customer gets for it would not be the customer's."""
    for leg in (town.to_customer(), town.draft("PAYCO", "PAYCO", 1, to=CLIENTS)):
        legs = leg, town.draft("BANKB", "PAYCO", 1)
        order = town.send("PAYCO", Link(legs, town.chain.state.time + HOUR_MS))
        assert_rejected(town.chain, order, "AC14")


# --- refunds --------------------------------------------------------------------------------------


def test_a_refund_needs_neither_customer_nor_consent(town: Town) -> None:
    refund = town.out("BANKA", 200)
    order = town.send("PAYCO", Return(refund, town.into, "CUST"))
    assert town.status(order) == [("ACSC", None)]
    assert town.clients == 300
    over = town.send("PAYCO", Return(town.out("BANKA", 301), town.into, "CUST"))
    assert_rejected(town.chain, over, "AM09")


def test_a_refund_to_itself_is_none(town: Town) -> None:
    """What the institution paid in for its clients is theirs, whoever calls it back."""
    gift = town.draft("PAYCO", "PAYCO", 60, to=CLIENTS)
    town.block(town.pay(gift))
    town.block(town.send("PAYCO", Recall(gift, "DUPL")))
    back = town.out("PAYCO", 60)
    assert_rejected(town.chain, town.send("PAYCO", Return(back, gift, "DUPL")), "AG03")
    town.block(town.consent(back))
    assert town.status(town.send("PAYCO", Return(back, gift, "DUPL"))) == [("ACSC", None)]
    assert (town.on("PAYCO"), town.clients) == (100, 500)


# --- indirect participants ------------------------------------------------------------------------


def test_a_direct_participant_pays_and_receives_for_its_indirect_one(town: Town) -> None:
    village = town.world.lei("VILLAGE")
    out = town.draft("BANKA", "BANKB", 5, debtor_indirect=village)
    into = town.draft("BANKB", "BANKA", 2, creditor_indirect=village)
    assert town.status(town.pay(out), town.pay(into)) == [("ACSC", None)] * 2
    assert town.chain.state.balance(village, "EUR", OWN.value) is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda t, v: t.draft("BANKB", "BANKA", 5, debtor_indirect=v), "BE05"),
        (lambda t, v: t.draft("BANKA", "BANKB", 5, creditor_indirect=v), "BE05"),
        (
            lambda t, v: t.draft("BANKA", "BANKB", 5, debtor_indirect=t.world.lei("BANKA")),
            "BE05",
        ),
        (
            lambda t, v: t.draft("BANKA", "BANKB", 5, debtor_indirect=t.world.lei("BANKC")),
            "BE05",
        ),
        (lambda t, v: t.draft("BANKA", "BANKB", 5, debtor_indirect=lei(999)), "BE05"),
        (lambda t, v: t.draft("BANKA", "VILLAGE", 5), "AC03"),
        (lambda t, v: t.draft("BANKA", "VILLAGE", 5, to=CLIENTS), "AC03"),
    ],
    ids=[
        "not its sponsor's debit",
        "not its sponsor's credit",
        "the direct one itself",
        "another direct one",
        "a stranger",
        "it has no account",
        "nor any other",
    ],
)
def test_nobody_else_pays_for_an_indirect_participant(
    town: Town, make: Callable[[Town, str], Payment], reason: str
) -> None:
    town.chain.fund(10, "BANKB")
    assert_rejected(town.chain, town.pay(make(town, town.world.lei("VILLAGE"))), reason)


def test_an_indirect_participant_sends_no_payments_itself(town: Town) -> None:
    village = town.world.lei("VILLAGE")
    own = town.draft("VILLAGE", "BANKB", 5)
    assert_rejected(town.chain, town.pay(own), "AG08")
    sponsors = town.draft("BANKA", "BANKB", 5, debtor_indirect=village)
    assert_rejected(town.chain, town.pay(sponsors, sender="VILLAGE"), "DS0H")
