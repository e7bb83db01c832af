"""A block that ends one business day and begins the next resolves an asset's queues twice: evidence
of a payment tells of the resolution in which it settled itself."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from node.audit.build import build_dossier
from node.audit.dossier import Gridlocked, decode_dossier
from node.audit.report import VALID
from node.audit.verify import check_dossier
from node.chain.build import build, build_pay
from node.chain.types import (
    BusinessDay,
    CloseRule,
    InstructionBody,
    Payment,
    PaymentClass,
    Propose,
    PublishSchedule,
    Reserve,
    Resolved,
    SetParameters,
)
from tests.support import world
from tests.support.small_chain import SmallChain, issue
from tests.support.world import BANKA, BANKB, BANKC, CENTRALBANK, Bank

HOUR_MS = 3_600_000
DATE = 20_260_105
HOURS = (1, 2, 3, 4, 4)
"""When phases begin: clearing has no length, and the next day opens with the close."""
MONEY = 10**9


class TwoResolutions:
    """In the last block a reservation of BANKA's money expires. At the close of the day its
    interbank payment settles by that, and once the next day is open the customer payment that
    waited for what it brought."""

    def __init__(self) -> None:
        chain = self.chain = SmallChain()
        self.ids = 0
        start = chain.state.time
        days = tuple(
            BusinessDay(DATE + n, tuple(start + (h + 3 * n) * HOUR_MS for h in HOURS), ())
            for n in range(2)
        )
        changes = (SetParameters(1, 60_000, CloseRule.ROLL_OVER), PublishSchedule(days))
        self.add(issue(chain, 1), self.order(CENTRALBANK, Propose(changes, start + HOUR_MS)))
        self.at(days[0].begins[0])
        aside = world.payment(2, creditor=BANKC, amount=MONEY)
        self.add(self.order(BANKA, Reserve(aside, BANKC.lei, None, days[1].begins[0] - 1)))
        self.interbank = replace(
            world.payment(3, amount=MONEY), payment_class=PaymentClass.INTERBANK
        )
        self.customer = world.payment(4, debtor=BANKB, creditor=BANKC, amount=MONEY)
        self.add(self.pay(BANKA, self.interbank), self.pay(BANKB, self.customer))
        for phase in (1, 2):
            self.at(days[0].begins[phase])
        self.last = self.at(days[1].begins[0])

    def head(self, sender: Bank) -> tuple[bytes, str, str, int]:
        self.ids += 1
        state = self.chain.state
        return self.chain.genesis.chain_id, sender.lei, f"T-{self.ids}", state.time + 5 * HOUR_MS

    def order(self, sender: Bank, body: InstructionBody) -> bytes:
        return build(*self.head(sender), body, [sender.key])

    def pay(self, sender: Bank, payment: Payment) -> bytes:
        return build_pay(*self.head(sender), payments=[payment], signers=[sender.key])

    def add(self, *instructions: bytes) -> int:
        return self.chain.add(*instructions).height

    def at(self, time: int) -> int:
        return self.chain.add(after_ms=time - self.chain.state.time).height


@pytest.fixture(scope="module")
def made() -> TwoResolutions:
    return TwoResolutions()


@pytest.mark.parametrize("name", ["interbank", "customer"])
@pytest.mark.parametrize("clear", [None, "all"])
def test_each_payment_is_shown_with_its_own_resolution(
    made: TwoResolutions, name: str, clear: str | None
) -> None:
    payment: Payment = getattr(made, name)
    entry = made.chain.uetr(payment.uetr)
    assert entry is not None
    assert (entry.status, entry.changed) == ("ACSC", made.last)
    data = build_dossier(made.chain, entry, clear=clear)
    report = check_dossier(data, made.chain.genesis)
    assert report.verdict == VALID, report.text()
    together = decode_dossier(data).together
    assert isinstance(together, Gridlocked)
    summary = together.summary.outcome.event
    assert isinstance(summary, Resolved)
    assert [each.participant for each in summary.positions] == sorted(
        (payment.debtor, payment.creditor)
    )
