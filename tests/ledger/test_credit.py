"""Intraday credit: lines, prices, haircuts, pledge and release, margin calls."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from node.chain.instruction import CheckedInstruction
from node.chain.records import PledgeKey, PriceKey, PriceRecord
from node.chain.types import (
    MAX_BALANCE,
    AccountKind,
    InstructionBody,
    LineChanged,
    MarginCall,
    Pledge,
    PostPrice,
    ReleaseCollateral,
    Resolved,
)
from node.ledger.credit import MAX_LINE, value
from node.ledger.ledger import load_state
from node.ledger.tables import PLEDGES, PRICES
from tests.support.days import BOND, NOTE, assert_rejected, events, settling_world
from tests.support.ledger_world import DAY_MS, Chain, MadeBlock

SETTLEMENT = AccountKind.SETTLEMENT.value
COLLATERAL = AccountKind.COLLATERAL.value


class Bank:
    """A chain on which BANKA, B and C have 1,000 bonds and 1,000 notes each and no money."""

    def __init__(self, **options: object) -> None:
        self.chain = Chain(settling_world(**options))
        self.chain.fund(1_000, asset="EUR")  # so that whoever is paid has an account
        for asset in (BOND, NOTE):
            self.chain.block(
                *(
                    self.chain.world.issue("DEPOSITORY", name, 1_000, asset)
                    for name in ("BANKA", "BANKB", "BANKC")
                )
            )

    def order(self, sender: str, body: InstructionBody) -> CheckedInstruction:
        return self.chain.world.order(sender, body, valid_until=self.chain.state.time + DAY_MS)

    def price(
        self, price: int, *, lot: int = 1, haircut: int = 0, of: str = BOND, currency: str = "EUR"
    ) -> CheckedInstruction:
        return self.order("CENTRALBANK", PostPrice(of, currency, price, lot, haircut))

    def pledge(
        self, quantity: int, sender: str = "BANKA", *, of: str = BOND, currency: str = "EUR"
    ) -> CheckedInstruction:
        return self.order(sender, Pledge(of, currency, quantity))

    def release(
        self, quantity: int, sender: str = "BANKA", *, of: str = BOND, currency: str = "EUR"
    ) -> CheckedInstruction:
        return self.order(sender, ReleaseCollateral(of, currency, quantity))

    def pay(self, amount: int, sender: str = "BANKA", to: str = "BANKB") -> CheckedInstruction:
        payment = self.chain.world.payment(sender, to, amount)
        return self.chain.world.pay(sender, payment, valid_until=self.chain.state.time + DAY_MS)

    def block(self, *instructions: CheckedInstruction) -> MadeBlock:
        made = self.chain.block(*instructions)
        assert all(outcome.status != "RJCT" for outcome in made.outcomes)
        return made

    def line(self, name: str = "BANKA", currency: str = "EUR") -> int:
        return self.chain.state.holding(self.chain.world.lei(name), currency, SETTLEMENT)[1]

    def has(self, asset: str, kind: int = SETTLEMENT, name: str = "BANKA") -> int | None:
        return self.chain.state.balance(self.chain.world.lei(name), asset, kind)


@pytest.fixture
def bank() -> Bank:
    return Bank()


def test_the_value_of_a_pledge_is_rounded_down() -> None:
    assert value(1_000, PriceRecord(99, 100, 550)) == 1_000 * 99 * 9_450 // (100 * 10_000) == 935
    assert value(1, PriceRecord(99, 100, 0)) == 0
    assert value(MAX_BALANCE, PriceRecord(MAX_BALANCE, 1, 10_000)) == 0


def test_every_pledge_is_rounded_on_its_own(bank: Bank) -> None:
    bank.block(bank.price(99, lot=10), bank.price(99, lot=10, of=NOTE))
    bank.block(bank.pledge(1), bank.pledge(1, of=NOTE))
    assert bank.line() == 9 + 9


def test_a_pledge_moves_the_securities_and_gives_a_line(bank: Bank) -> None:
    bank.block(bank.price(250, lot=100, haircut=1_000))
    made = bank.block(bank.pledge(400))
    assert (bank.has(BOND), bank.has(BOND, COLLATERAL)) == (600, 400)
    assert bank.line() == 400 * 250 * 9_000 // 1_000_000 == 900
    own, changed = made.outcomes
    assert (own.instruction, own.debtor_balance, own.creditor_balance) == (0, 600, 400)
    assert changed.instruction == 0
    assert changed.event == LineChanged(bank.chain.world.lei("BANKA"), "EUR", 900)


def test_a_line_is_drawn_as_a_negative_balance_down_to_it_and_no_further(bank: Bank) -> None:
    bank.block(bank.price(2))
    bank.block(bank.pledge(100))
    [paid] = bank.block(bank.pay(1_200)).outcomes
    assert (paid.status, paid.debtor_balance) == ("ACSC", -200)
    [waits] = bank.block(bank.pay(1)).outcomes
    assert (waits.status, waits.reason) == ("PDNG", "AM04")


def test_credit_of_one_currency_is_none_in_another(bank: Bank) -> None:
    bank.block(bank.price(2))
    bank.block(bank.pledge(100))
    assert bank.line(currency="CNY") == 0


def test_released_securities_come_back_and_the_line_shrinks(bank: Bank) -> None:
    bank.block(bank.price(2))
    bank.block(bank.pledge(100))
    made = bank.block(bank.release(40))
    assert (bank.has(BOND), bank.has(BOND, COLLATERAL), bank.line()) == (940, 60, 120)
    own, _ = made.outcomes
    assert (own.debtor_balance, own.creditor_balance) == (60, 940)
    bank.block(bank.release(60))
    assert (bank.has(BOND), bank.line()) == (1_000, 0)
    key = PledgeKey(bank.chain.world.lei("BANKA"), "EUR", BOND)
    assert bank.chain.state.get(PLEDGES, key) is None


def test_a_new_price_changes_every_line_by_lei_and_calls_where_more_is_drawn(bank: Bank) -> None:
    bank.block(bank.price(10))
    bank.block(bank.pledge(100, "BANKC"), bank.pledge(100), bank.pledge(100, "BANKB"))
    bank.block(bank.pay(1_900))
    made = bank.block(bank.price(5))
    lei = bank.chain.world.lei
    assert [each.event for each in made.outcomes] == [
        None,
        LineChanged(lei("BANKA"), "EUR", 500),
        MarginCall(lei("BANKA"), "EUR", 900, 500),
        LineChanged(lei("BANKB"), "EUR", 500),
        LineChanged(lei("BANKC"), "EUR", 500),
    ]
    assert {each.instruction for each in made.outcomes} == {0}
    [waits] = bank.block(bank.pay(1)).outcomes
    assert waits.reason == "AM04"


def test_the_same_price_again_changes_nothing(bank: Bank) -> None:
    bank.block(bank.price(10))
    bank.block(bank.pledge(100))
    [outcome] = bank.block(bank.price(10)).outcomes
    assert outcome.event is None


def test_a_price_in_another_currency_leaves_the_line_alone(bank: Bank) -> None:
    bank.block(bank.price(10))
    bank.block(bank.pledge(100))
    bank.block(bank.price(1, currency="CNY"), bank.price(1, of=NOTE))
    assert bank.line() == 1_000


def test_a_line_may_be_drawn_and_lowered_in_one_block(bank: Bank) -> None:
    bank.block(bank.price(10))
    made = bank.block(bank.pledge(100), bank.pay(1_800), bank.price(1))
    assert events(made, MarginCall)
    assert (bank.has("EUR"), bank.line()) == (-800, 100)


def test_a_pledge_of_the_same_block_is_revalued(bank: Bank) -> None:
    bank.block(bank.price(10), bank.pledge(5), bank.price(20), bank.pledge(5), bank.price(30))
    assert bank.line() == 300


def test_a_higher_line_lets_a_queued_payment_settle_in_the_same_block(bank: Bank) -> None:
    bank.block(bank.price(10))
    [waits] = bank.block(bank.pay(1_500)).outcomes
    assert waits.status == "PDNG"
    made = bank.block(bank.pledge(50))
    *_, settled, summary = made.outcomes
    assert (settled.status, settled.debtor_balance) == ("ACSC", -500)
    assert isinstance(summary.event, Resolved)


def test_released_securities_let_a_queued_delivery_settle(bank: Bank) -> None:
    bank.block(bank.price(10))
    bank.block(bank.pledge(1_000))
    delivery = bank.chain.world.payment("BANKA", "BANKB", 300, BOND)
    [waits] = bank.block(bank.chain.world.pay("BANKA", delivery)).outcomes
    assert waits.status == "PDNG"
    made = bank.block(bank.release(300))
    assert made.outcomes[-1].status == "ACSC"
    assert bank.has(BOND, name="BANKB") == 1_300


def test_a_node_that_starts_anew_goes_on_with_the_same_lines(bank: Bank) -> None:
    bank.block(bank.price(10))
    bank.block(bank.pledge(100), bank.pay(1_500))
    order = bank.price(7)
    went_on = bank.chain.make(order).applied.state_root
    chain = bank.chain
    loaded = load_state(
        chain.records.items(),
        chain.blocks[-1].header,
        chain.state.history,
        chain.index,
        chain.nodes.__getitem__,
    )
    chain.ledger = type(chain.ledger)(loaded)
    assert chain.make(order).applied.state_root == went_on


def test_a_line_is_always_the_sum_of_its_pledges_at_their_prices() -> None:
    bank, rng = Bank(), random.Random(4)
    bank.block(*(bank.price(7, of=of, currency=c) for of in (BOND, NOTE) for c in ("EUR", "CNY")))
    for _ in range(40):
        orders = []
        for _ in range(rng.randrange(1, 6)):
            of, currency = rng.choice((BOND, NOTE)), rng.choice(("EUR", "CNY"))
            name, quantity = rng.choice(("BANKA", "BANKB")), rng.randrange(1, 300)
            orders.append(
                rng.choice(
                    [
                        bank.pledge(quantity, name, of=of, currency=currency),
                        bank.release(quantity, name, of=of, currency=currency),
                        bank.price(
                            rng.randrange(1_000),
                            lot=rng.randrange(1, 20),
                            haircut=rng.randrange(10_001),
                            of=of,
                            currency=currency,
                        ),
                    ]
                )
            )
        bank.chain.block(*orders)
        state = bank.chain.state
        for name in ("BANKA", "BANKB"):
            for currency in ("EUR", "CNY"):
                expected = sum(
                    value(row.quantity, price)
                    for key, row in state.rows(PLEDGES)
                    if key.participant == bank.chain.world.lei(name)
                    and key.currency == currency
                    and (price := state.get(PRICES, PriceKey(key.security, currency)))
                )
                assert bank.line(name, currency) == expected


# --- refusals -----------------------------------------------------------------------------------


def priced(bank: Bank) -> None:
    bank.block(bank.price(10))
    bank.block(bank.pledge(100))


def drawn(bank: Bank) -> None:
    priced(bank)
    bank.block(bank.pay(1_500))


def rich(bank: Bank) -> None:
    priced(bank)
    bank.block(bank.chain.world.issue("DEPOSITORY", "BANKA", 2**61, BOND))


def worthless(bank: Bank) -> None:
    drawn(bank)
    bank.block(bank.pledge(10))
    bank.block(bank.price(0))


def order(sender: str, body: InstructionBody) -> Callable[[Bank], CheckedInstruction]:
    return lambda bank: bank.order(sender, body)


REFUSED: dict[str, tuple[Callable[[Bank], None], Callable[[Bank], CheckedInstruction], str]] = {
    "price by no operator": (priced, order("BANKA", PostPrice(BOND, "EUR", 1, 1, 0)), "DS20"),
    "price by a depository": (priced, order("DEPOSITORY", PostPrice(BOND, "EUR", 1, 1, 0)), "DS20"),
    "price of an unknown security": (
        priced, order("CENTRALBANK", PostPrice("DE000TEST025", "EUR", 1, 1, 0)), "AM03",
    ),
    "price in an unknown currency": (
        priced, order("CENTRALBANK", PostPrice(BOND, "USD", 1, 1, 0)), "AM03",
    ),
    "price of a currency": (priced, order("CENTRALBANK", PostPrice("CNY", "EUR", 1, 1, 0)), "FF05"),
    "price in a security": (priced, order("CENTRALBANK", PostPrice(BOND, NOTE, 1, 1, 0)), "FF05"),
    "price that makes a line too large": (
        priced, order("CENTRALBANK", PostPrice(BOND, "EUR", MAX_LINE // 100 + 1, 1, 0)), "AM02",
    ),
    "pledge without an account": (priced, order("WATCHDOG", Pledge(BOND, "EUR", 1)), "AG08"),
    "pledge of an unknown security": (
        priced, order("BANKA", Pledge("DE000TEST025", "EUR", 1)), "AM03",
    ),
    "pledge for an unknown currency": (priced, order("BANKA", Pledge(BOND, "USD", 1)), "AM03"),
    "pledge of a currency": (priced, order("BANKA", Pledge("EUR", "CNY", 1)), "FF05"),
    "pledge for a security": (priced, order("BANKA", Pledge(BOND, NOTE, 1)), "FF05"),
    "pledge of nothing": (priced, order("BANKA", Pledge(BOND, "EUR", 0)), "AM01"),
    "pledge without a price": (priced, order("BANKA", Pledge(NOTE, "EUR", 1)), "CURR"),
    "pledge without a price in this currency": (
        priced, order("BANKA", Pledge(BOND, "CNY", 1)), "CURR",
    ),
    "pledge of more than there is": (priced, order("BANKA", Pledge(BOND, "EUR", 901)), "AM04"),
    "pledge that makes the line too large": (
        rich, order("BANKA", Pledge(BOND, "EUR", MAX_LINE // 10)), "AM02",
    ),
    "pledge of more than can be held": (
        rich, order("BANKA", Pledge(BOND, "EUR", MAX_BALANCE)), "AM04",
    ),
    "release without an account": (
        priced, order("WATCHDOG", ReleaseCollateral(BOND, "EUR", 1)), "AG08",
    ),
    "release of an unknown security": (
        priced, order("BANKA", ReleaseCollateral("DE000TEST025", "EUR", 1)), "AM03",
    ),
    "release of a currency": (priced, order("BANKA", ReleaseCollateral("EUR", "EUR", 1)), "FF05"),
    "release of nothing": (priced, order("BANKA", ReleaseCollateral(BOND, "EUR", 0)), "AM01"),
    "release of more than is pledged": (
        priced, order("BANKA", ReleaseCollateral(BOND, "EUR", 101)), "AM04",
    ),
    "release of what is pledged for another currency": (
        priced, order("BANKA", ReleaseCollateral(BOND, "CNY", 1)), "AM04",
    ),
    "release of another's": (priced, order("BANKB", ReleaseCollateral(BOND, "EUR", 1)), "AM04"),
    "release of collateral in use": (
        drawn, order("BANKA", ReleaseCollateral(BOND, "EUR", 51)), "AM07",
    ),
    "release under a margin call": (
        worthless, order("BANKA", ReleaseCollateral(BOND, "EUR", 1)), "AM07",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_the_state_untouched(bank: Bank, name: str) -> None:
    prepare, instruction, reason = REFUSED[name]
    prepare(bank)
    assert_rejected(bank.chain, instruction(bank), reason)


def test_just_as_much_as_allowed_is_not_refused(bank: Bank) -> None:
    drawn(bank)
    bank.block(bank.release(50))
    assert (bank.has("EUR"), bank.line()) == (-500, 500)
    bank.block(bank.price(MAX_LINE // 50))
    assert bank.line() <= MAX_LINE
