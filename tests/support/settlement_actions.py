"""What participants of the settlement world do, drawn from whatever gives choices: payments, money,
and what they do with their queues.

Mostly what is allowed, so that things collide: few banks, little money, small amounts. Each oddity
is rare, but of every kind there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from node.chain import types as t
from node.chain.build import gross_payment
from node.chain.instruction import CheckedInstruction
from node.chain.types import AccountKind, Mode, Payment, PaymentClass, Priority
from tests.support.ledger_world import DAY_MS, HOUR_MS, lei
from tests.support.settlement_model.rows import (
    Bounds,
    SetAside,
    Tracked,
)
from tests.support.settlement_world import BOND, Driver

T = TypeVar("T")

NOBODY = "00000000000000000098"
"""A LEI of no participant."""
BANKS = ("BANKA", "BANKB", "BANKC")
ALL = ("CENTRALBANK", "DEPOSITORY", *BANKS, "PAYCO", "VILLAGE", "WATCHDOG")
ADMITTED = ("NEWBANK", "NEWINST")
PARTIES = (*BANKS * 6, "PAYCO", "CENTRALBANK", "VILLAGE", *ADMITTED, NOBODY)
OPERATORS = ("CENTRALBANK",) * 9 + ("BANKA", "BANKA", "BANKB")
CURRENCIES = ("EUR",) * 7 + ("CNY",)
ASSETS = ("EUR",) * 12 + ("CNY", BOND, "XXX")
ODD_AMOUNTS = (0, 1, 1_000, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
SETTLEMENT = AccountKind.SETTLEMENT
MINUTE_MS = 60_000
SOON = (MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, HOUR_MS, DAY_MS) * 3 + (1, 8 * DAY_MS, -1)
"""How far ahead of the last block an expiry lies; mostly it may."""
STEPS = (1, 1, 1_000, 1_000, 1_000, MINUTE_MS, MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, 2 * HOUR_MS)
LONG_STEPS = (HOUR_MS, 6 * HOUR_MS, DAY_MS, DAY_MS + 1, 4 * DAY_MS, 11 * DAY_MS, 11 * DAY_MS)
"""Milliseconds from block to block."""
LATEST = 16
"""Payments that later actions are about."""
ODDITIES = (
    "earliest",
    "earliest and latest",
    "latest",
    "latest",
    "from reserve",
    "to reserve",
    "reserves",
    "indirect debtor",
    "indirect creditor",
    "previous",
    "another's",
    "asset",
    "amount",
    "creditor",
)
MOSTLY_PLAIN = ("",) * 60 + ODDITIES


class Choice(Protocol):
    """Where choices come from: chance, or Hypothesis."""

    def pick(self, options: Sequence[T]) -> T:
        """One of them."""

    def number(self, least: int, most: int) -> int:
        """One from `least` to `most`."""


class Chance:
    """Choices by a seeded generator."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def pick(self, options: Sequence[T]) -> T:
        return options[self._random.randrange(len(options))]

    def number(self, least: int, most: int) -> int:
        return self._random.randint(least, most)


class Actions:
    """Helpers, the beginning, and the blocks that are made of what the others send."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.driver = Driver(bounds)
        self.links: list[t.Link] = []
        self.proposals: list[bytes] = []

    def begin(self, choice: Choice) -> None:
        """Money for everybody; by chance days, a net system, credit."""
        rich = choice.number(40, 120)
        for name in (*BANKS, "PAYCO", "CENTRALBANK"):
            for asset in ("EUR", "CNY"):
                self.send("CENTRALBANK", t.Issue(self.driver.uetr(), asset, self.lei(name), rich))
        for name in BANKS:
            self.send("DEPOSITORY", t.Issue(self.driver.uetr(), BOND, self.lei(name), rich))
        changes: list[Any] = []
        is_netted = choice.pick((False, True))
        if is_netted:
            changes += self.net_system(choice, "EUR")
        length = choice.pick((0, 0, 10 * MINUTE_MS, HOUR_MS))
        if length:
            changes.append(self.schedule(length, length, 3))
        if changes:
            self.decide(*changes)
        if choice.pick((False, True)):
            self.send("CENTRALBANK", t.PostPrice(BOND, "EUR", choice.number(1, 4), 2, 1_000))
            for name in BANKS:
                self.send(name, t.Pledge(BOND, "EUR", rich // 2))
        self.driver.block(1_000)
        if is_netted:
            self._secure(rich)

    def _secure(self, rich: int) -> None:
        """Give a net system something to lose."""
        for name in (*BANKS, "CENTRALBANK"):
            kinds = [AccountKind.FUND, AccountKind.MARGIN]
            for kind in kinds if name in BANKS else [AccountKind.CAPITAL]:
                body = t.MoveOwn(self.driver.uetr(), "EUR", SETTLEMENT, kind, 1 + rich % 9)
                self.send(name, body)
        self.driver.block(1_000)

    # --- blocks ---------------------------------------------------------------------------------

    def next_block(self, choice: Choice) -> None:
        day = self.driver.book.day
        if day is not None and day.waits_for is not None and choice.number(0, 1):
            later = [each for each in self.driver.book.days if each > day.date]
            date = min(later) if later and day.waits_for <= day.phase else day.date
            self.send("CENTRALBANK", t.ProceedDay(date, day.waits_for))
        self.driver.block(choice.pick(STEPS))

    def block_much_later(self, choice: Choice) -> None:
        self.driver.block(choice.pick(LONG_STEPS))

    def restart(self, choice: Choice) -> None:
        self.driver.restart()

    # --- helpers --------------------------------------------------------------------------------

    def lei(self, name: str) -> str:
        if name in ADMITTED:
            return lei(90 + ADMITTED.index(name))
        return self.driver.lei(name)

    def send(self, sender: str, body: Any) -> CheckedInstruction | None:
        """None: the sender cannot sign, or it may stand in no block."""
        party = self.lei(sender)
        if party not in self.driver.book.parties or not self.driver.able(party):
            return None
        return self.driver.send(party, body)

    def pay(self, sender: str, *payments: Payment, all_or_none: bool = False) -> None:
        party = self.lei(sender)
        if party in self.driver.book.parties and self.driver.able(party):
            self.driver.pay(party, *payments, all_or_none=all_or_none)

    def at(self, life: int) -> int:
        return max(0, self.driver.time + life)

    def latest(self, choice: Choice) -> Payment | None:
        """One of the latest payments."""
        sent = self.driver.payments[-LATEST:]
        return choice.pick(sent) if sent else None

    def like(self, choice: Choice, like: Callable[[Tracked], bool]) -> Payment | None:
        """One of the later payments that are like that; mostly, if there is one."""
        tracked = self.driver.book.payments
        found = [
            each
            for each in self.driver.payments[-5 * LATEST :]
            if each.uetr in tracked and like(tracked[each.uetr])
        ]
        if found and choice.number(0, 19):
            return choice.pick(found)
        return None if choice.number(0, 5) else self.latest(choice)

    def settled(self, choice: Choice) -> Payment | None:
        return self.like(choice, lambda each: each.status in ("ACSC", "ACCC"))

    def waiting(self, choice: Choice) -> Payment | None:
        return self.like(choice, lambda each: each.status in ("PDNG", "BLCK"))

    def set_aside(self, choice: Choice) -> Payment | None:
        return self.like(choice, lambda each: isinstance(each.place, SetAside))

    def decide(self, *changes: Any) -> None:
        """Propose and approve in one block."""
        proposed = self.send("CENTRALBANK", t.Propose(tuple(changes), self.at(HOUR_MS)))
        if proposed is not None:
            self.proposals.append(proposed.digest)
            self.send("BANKA", t.Approve(proposed.digest))

    def net_system(self, choice: Choice, asset: str) -> list[Any]:
        """Changes that found one of the three banks."""
        funding = choice.pick((0, MINUTE_MS, HOUR_MS))
        members = (
            t.SetMember(self.lei(name), asset, choice.number(20, 120), cap % 5, 3 * cap)
            for name in BANKS
            for cap in (choice.number(0, 10),)
        )
        return [t.SetNetting(asset, True, funding), *members]

    def schedule(self, wait: int, length: int, count: int, flat: int = 0) -> t.PublishSchedule:
        """Days of five phases of this length each, the first after `wait`. `flat`: phases from the
        first on that have no length."""
        book = self.driver.book
        last = max([*book.days, 20_300_100 if book.day is None else book.day.date])
        begins = max([self.at(wait), *(day.begins[4] for day in book.days.values())])
        days = []
        for number in range(count):
            phases = tuple(begins + max(0, n - flat) * length for n in range(5))
            closes = (t.CycleClose(phases[3 + number % 2], "EUR"),)
            days.append(t.BusinessDay(last + 1 + number, phases, closes))
            begins = phases[4] + length * (number % 2)
        return t.PublishSchedule(tuple(days))

    # --- payments -------------------------------------------------------------------------------

    def plain(self, debtor: str, creditor: str, amount: int, asset: str) -> Payment:
        return gross_payment(
            self.driver.uetr(), self.lei(debtor), self.lei(creditor), asset, amount
        )

    def sketch(self, choice: Choice, sender: str, odd: str) -> Payment:
        """A payment of the sender's, plain but for one oddity."""
        time, village = self.at(choice.pick(SOON)) if odd else 0, self.lei("VILLAGE")
        ultimate = bool(odd) and choice.pick((False, True))
        other = self.lei(choice.pick(PARTIES)) if odd else ""
        previous = self.latest(choice) if odd == "previous" else None
        return gross_payment(
            self.driver.uetr(),
            other if odd == "another's" else self.lei(sender),
            other
            if odd == "creditor"
            else self.lei(choice.pick([name for name in BANKS if name != sender])),
            choice.pick(ASSETS if odd == "asset" else CURRENCIES),
            choice.pick(ODD_AMOUNTS) if odd == "amount" else choice.number(1, 80),
            debtor_account=AccountKind(odd in ("from reserve", "reserves")),
            creditor_account=AccountKind(odd in ("to reserve", "reserves")),
            payment_class=choice.pick(tuple(PaymentClass)),
            priority=choice.pick(tuple(Priority)),
            ultimate_debtor="A customer" if ultimate else None,
            earliest=time if "earliest" in odd else None,
            latest=time + MINUTE_MS * ultimate if "latest" in odd else None,
            debtor_indirect=village if odd == "indirect debtor" else None,
            creditor_indirect=village if odd == "indirect creditor" else None,
            previous=None if previous is None else previous.uetr,
        )

    def pay_plainly(self, choice: Choice) -> None:
        for _ in range(choice.number(1, 5)):
            sender = choice.pick(BANKS)
            self.pay(sender, self.sketch(choice, sender, ""))

    def pay_in_a_ring(self, choice: Choice) -> None:
        """A gridlock, if nobody has the amount."""
        amount, asset = choice.number(30, 200), choice.pick(CURRENCIES)
        ring = BANKS if choice.pick((False, True)) else BANKS[::-1]
        for debtor, creditor in zip(ring, (*ring[1:], ring[0]), strict=True):
            payment = self.plain(debtor, creditor, amount + choice.number(0, 5), asset)
            self.pay(debtor, replace(payment, priority=choice.pick(tuple(Priority))))

    def pay_oddly(self, choice: Choice) -> None:
        sender = choice.pick((*BANKS * 5, "PAYCO", "CENTRALBANK", ADMITTED[0]))
        count = choice.number(1, 3)
        odd = (choice.pick(("", *ODDITIES)) for _ in range(count))
        self.pay(sender, *(self.sketch(choice, sender, each) for each in odd))

    def pay_all_or_none(self, choice: Choice) -> None:
        sender = choice.pick(BANKS)
        payments = [
            self.sketch(choice, sender, choice.pick(MOSTLY_PLAIN))
            for _ in range(choice.number(1, 3))
        ]
        if choice.number(0, 9):
            first = payments[0]
            payments = [
                replace(
                    each,
                    asset=first.asset,
                    debtor_account=first.debtor_account,
                    priority=first.priority,
                    payment_class=first.payment_class,
                    earliest=first.earliest,
                    latest=first.latest,
                )
                for each in payments
            ]
        self.pay(sender, *payments, all_or_none=True)

    def retry(self, choice: Choice) -> None:
        """Payments once more, in another instruction; by chance with other content or by another
        sender."""
        first, second = self.latest(choice), self.latest(choice)
        if first is None or second is None:
            return
        if not choice.number(0, 2):
            first = choice.pick(self.driver.payments)
        chosen = list({each.uetr: each for each in (first, second)}.values())
        if not choice.number(0, 3):
            chosen[0] = replace(chosen[0], amount=chosen[0].amount // 2 + 1)
        sender = self.lei(choice.pick(BANKS)) if not choice.number(0, 4) else chosen[0].debtor
        if sender in self.driver.book.parties and self.driver.able(sender):
            sent = list(self.driver.payments)
            self.driver.pay(sender, *chosen, all_or_none=not choice.number(0, 4))
            self.driver.payments = sent

    def send_an_instruction_again(self, choice: Choice) -> None:
        if self.driver.last:
            self.driver.pending.append(choice.pick(self.driver.last))

    def issue(self, choice: Choice) -> None:
        sender = choice.pick(("CENTRALBANK",) * 6 + ("DEPOSITORY", "BANKA", "WATCHDOG"))
        used = self.latest(choice) if not choice.number(0, 5) else None
        uetr = self.driver.uetr() if used is None else used.uetr
        amount = choice.pick((*range(1, 40), *ODD_AMOUNTS))
        creditor = self.lei(choice.pick(PARTIES))
        self.send(sender, t.Issue(uetr, choice.pick(ASSETS), creditor, amount))

    def redeem(self, choice: Choice) -> None:
        sender = choice.pick(("CENTRALBANK",) * 6 + ("DEPOSITORY", "BANKA"))
        amount = choice.pick((*range(1, 40), *ODD_AMOUNTS))
        self.send(sender, t.Redeem(self.driver.uetr(), choice.pick(ASSETS), amount))

    # --- queues ---------------------------------------------------------------------------------

    def order(self, choice: Choice) -> None:
        """Cancel, hold, release or reprioritise."""
        payment = self.waiting(choice)
        if payment is None:
            return
        uetr = payment.uetr if choice.number(0, 20) else self.driver.uetr()
        body = choice.pick((t.Cancel, t.Hold, t.Hold, t.Release, t.Release, t.Reprioritise))
        sender = payment.debtor if choice.number(0, 12) else choice.pick(BANKS)
        if body is t.Reprioritise:
            self.send(sender, t.Reprioritise(uetr, choice.pick(tuple(Priority))))
        else:
            self.send(sender, body(uetr))

    def pay_net(self, choice: Choice) -> None:
        if not self.driver.book.netting and choice.number(0, 9):
            return
        sender = choice.pick(BANKS)
        payments = [
            replace(self.sketch(choice, sender, choice.pick(MOSTLY_PLAIN)), mode=Mode.NET)
            for _ in range(choice.number(1, 3))
        ]
        self.pay(sender, *payments)
