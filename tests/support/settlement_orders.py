"""What participants of the settlement world do beside paying: limits, credit, cycles, links,
reservations, and what they say about payments."""

from __future__ import annotations

from hashlib import sha256

from msgspec.structs import replace

from node.chain import types as t
from node.chain.build import gross_payment
from node.chain.instruction import payment_digest
from node.chain.types import AccountKind, PaymentClass, Priority
from tests.support.settlement_actions import (
    ALL,
    ASSETS,
    BANKS,
    CURRENCIES,
    MOSTLY_PLAIN,
    ODD_AMOUNTS,
    ODDITIES,
    OPERATORS,
    PARTIES,
    SETTLEMENT,
    SOON,
    Actions,
    Choice,
)
from tests.support.settlement_model.rows import (
    SetAside,
)
from tests.support.settlement_world import BOND

PREIMAGES = tuple(bytes([n]) * 32 for n in range(3))


class Orders(Actions):
    """Limits, policies, credit, own accounts."""

    def set_limit(self, choice: Choice) -> None:
        holder = choice.pick(BANKS)
        counterparty = choice.pick((None, *PARTIES))
        limit = choice.pick((None, *range(0, 120, 7)))
        sender = choice.pick((holder,) * 8 + ("CENTRALBANK", "BANKB", "WATCHDOG"))
        party = None if counterparty is None else self.lei(counterparty)
        asset = choice.pick(CURRENCIES)
        self.send(sender, t.SetLimit(self.lei(holder), asset, party, limit))

    def set_policy(self, choice: Choice) -> None:
        sender = choice.pick((*BANKS * 3, "PAYCO", "WATCHDOG"))
        sweeps = {choice.pick(ASSETS): self.lei(choice.pick(PARTIES)) for _ in range(2)}
        listed = tuple(t.Sweep(asset, to) for asset, to in sorted(sweeps.items()))
        kept = listed[: choice.number(0, 2)]
        self.send(sender, t.SetPolicy(choice.pick((False, True)), kept))

    def post_price(self, choice: Choice) -> None:
        security = choice.pick((BOND,) * 8 + ("EUR", "XXX"))
        currency = choice.pick(("EUR",) * 8 + ("CNY", BOND))
        price, lot = choice.number(0, 6), choice.number(1, 3)
        haircut = choice.pick((0, 500, 3_333, 10_000))
        body = t.PostPrice(security, currency, price, lot, haircut)
        self.send(choice.pick(OPERATORS), body)

    def pledge_or_release(self, choice: Choice) -> None:
        body = choice.pick((t.Pledge, t.ReleaseCollateral))
        security = choice.pick((BOND,) * 12 + ("EUR",))
        currency = choice.pick(("EUR",) * 8 + ("CNY",))
        sender = choice.pick((*BANKS * 6, "WATCHDOG"))
        self.send(sender, body(security, currency, choice.number(0, 60)))

    def move_own(self, choice: Choice) -> None:
        sender = choice.pick((*BANKS * 3, "CENTRALBANK", "CENTRALBANK", "WATCHDOG"))
        kinds = [AccountKind.FUND, AccountKind.MARGIN]
        if sender == "CENTRALBANK":
            kinds = [AccountKind.CAPITAL]
        pair = [SETTLEMENT, choice.pick(kinds)]
        if choice.pick((False, True)):
            pair.reverse()
        if not choice.number(0, 4):
            pair = [choice.pick(tuple(AccountKind)) for _ in range(2)]
        asset = "EUR" if choice.number(0, 6) else choice.pick(ASSETS)
        amount = choice.number(1, 15) if choice.number(0, 9) else choice.pick(ODD_AMOUNTS)
        self.send(sender, t.MoveOwn(self.driver.uetr(), asset, pair[0], pair[1], amount))


class Conditions(Actions):
    """Cycles, links and reservations."""

    def order_cycle(self, choice: Choice) -> None:
        book = self.driver.book
        undecided = [key for key, each in book.cycles.items() if each.decided is None]
        if not book.cycles or (not undecided and choice.number(0, 5)):
            return
        asset, number = choice.pick(undecided or list(book.cycles))
        status = book.cycles[asset, number].status
        action = t.CycleAction.CLOSE
        if status != "open":
            action = choice.pick((t.CycleAction.EXTEND, t.CycleAction.UNWIND))
        if not choice.number(0, 6):
            action, number = choice.pick(tuple(t.CycleAction)), choice.number(0, 5)
        has_time = (action == t.CycleAction.EXTEND) is bool(choice.number(0, 12))
        until = self.at(choice.pick(SOON)) if has_time else None
        self.send(choice.pick(OPERATORS), t.OrderCycle(asset, number, action, until))

    def link(self, choice: Choice) -> None:
        """Two to four legs in a ring of two or three banks; mostly agreed to by all."""
        ring = BANKS[: choice.number(2, 3)] if choice.pick((False, True)) else BANKS[:0:-1]
        legs = []
        for number in range(choice.number(2, 4)):
            asset = choice.pick((*CURRENCIES, "CNY", "CNY", BOND))
            debtor, creditor = ring[number % len(ring)], ring[(number + 1) % len(ring)]
            legs.append(self.plain(debtor, creditor, choice.number(1, 90), asset))
        if not choice.number(0, 6):
            legs[-1] = self.sketch(choice, ring[0], choice.pick(ODDITIES))
        body = t.Link(tuple(legs), self.at(choice.pick(SOON)))
        self.links.append(body)
        self.driver.payments += legs
        for debtor in ring:
            if choice.number(0, 5):
                self.send(debtor, body)

    def agree_to_a_link(self, choice: Choice) -> None:
        if self.links:
            self.send(choice.pick((*BANKS * 3, "PAYCO")), choice.pick(self.links[-4:]))

    def reserve(self, choice: Choice) -> None:
        sender = choice.pick(BANKS)
        payment = self.sketch(choice, sender, choice.pick(MOSTLY_PLAIN))
        if choice.number(0, 9):
            payment = replace(payment, amount=choice.number(1, 40), priority=Priority.URGENT)
        lock = choice.pick((None, *PREIMAGES))
        hash_lock = None if lock is None else sha256(lock).digest()
        poster = choice.pick((None, payment.creditor, payment.debtor, self.lei(NAMED)))
        if not choice.number(0, 12):
            poster = self.lei(choice.pick(PARTIES))
        body = t.Reserve(payment, poster, hash_lock, self.at(choice.pick(SOON)))
        self.send(sender, body)
        self.driver.payments.append(payment)

    def post_or_void(self, choice: Choice) -> None:
        payment = self.set_aside(choice)
        if payment is None:
            return
        other = choice.pick((*BANKS, "WATCHDOG")) if not choice.number(0, 7) else None
        if not choice.number(0, 3):
            self.send(other or payment.creditor, t.Void(payment.uetr))
            return
        found = self.driver.book.payments.get(payment.uetr)
        place = None if found is None else found.place
        poster = place.poster if isinstance(place, SetAside) else None
        part = choice.number(0, payment.amount + 1) if payment.amount < 1_000 else 1
        amount = choice.pick((None, payment.amount, part, part))
        shown = choice.pick((None, None, *PREIMAGES))
        self.send(other or poster or payment.creditor, t.Post(payment.uetr, amount, shown))


NAMED = "BANKC"


class Claims(Actions):
    """What is said about payments, and client money."""

    def recall_or_refuse(self, choice: Choice) -> None:
        original = self.settled(choice)
        if original is None:
            return
        stated = original
        if not choice.number(0, 9):
            stated = replace(original, priority=Priority((original.priority + 1) % 3))
        other = choice.pick(BANKS) if not choice.number(0, 9) else None
        if choice.pick((False, True)):
            self.send(other or original.debtor, t.Recall(stated, "DUPL"))
        else:
            asked = self.like(choice, lambda each: each.recall == "asked") or stated
            self.send(other or asked.creditor, t.RefuseRecall(asked, "LEGL"))

    def give_back(self, choice: Choice) -> None:
        original = self.settled(choice)
        if original is None:
            return
        flaw = choice.pick((None,) * 8 + ("original", "debtor", "accounts", "asset"))
        back = gross_payment(
            self.driver.uetr(),
            original.creditor,
            self.lei(choice.pick(BANKS)) if flaw == "debtor" else original.debtor,
            "CNY" if flaw == "asset" else original.asset,
            choice.pick((original.amount, max(1, original.amount // 2), choice.number(0, 60))),
            debtor_account=original.creditor_account,
            creditor_account=AccountKind.CLIENT_RESERVE
            if flaw == "accounts"
            else original.debtor_account,
            payment_class=original.payment_class,
        )
        stated = replace(original, amount=original.amount + 1) if flaw == "original" else original
        sender = choice.pick(BANKS) if not choice.number(0, 9) else original.creditor
        self.send(sender, t.Return(back, stated, "DUPL"))
        self.driver.payments.append(back)

    def dispute(self, choice: Choice) -> None:
        disputes = self.driver.book.disputes
        original = self.settled(choice)
        if original is None:
            return
        if not disputes or choice.pick((False, True)):
            sender = choice.pick((original.debtor, original.creditor, *ALL[-6:]))
            self.send(sender, t.OpenDispute(original, "FRAD"))
            return
        uetr = choice.pick(list(disputes)) if choice.number(0, 9) else original.uetr
        found = disputes.get(uetr)
        party = original.debtor if found is None else found.debtor
        number = choice.number(0, 1)
        if choice.number(0, 2):
            sender = choice.pick((party, party, party, *ALL))
            self.send(sender, t.SubmitEvidence(uetr, bytes([number]) * 32))
        else:
            sender = choice.pick(("WATCHDOG",) * 3 + ALL)
            self.send(sender, t.DecideDispute(uetr, t.Verdict(number), "DUPL"))

    def acknowledge(self, choice: Choice) -> None:
        payment = self.latest(choice)
        if payment is None:
            return
        if not choice.number(0, 7):
            payment = replace(payment, amount=payment.amount ^ 1)
        sender = choice.pick(BANKS) if not choice.number(0, 7) else payment.creditor
        outcome = bytes([choice.number(0, 1)]) * 32
        self.send(sender, t.Acknowledge(payment, outcome, bytes(32)))

    def consent(self, choice: Choice) -> None:
        payment = gross_payment(
            self.driver.uetr(),
            self.lei("PAYCO"),
            self.lei(choice.pick((*BANKS, "PAYCO"))),
            "EUR",
            choice.number(1, 40),
            debtor_account=AccountKind.CLIENT_RESERVE,
        )
        sender = choice.pick(("WATCHDOG",) * 6 + ("CENTRALBANK",))
        self.send(sender, t.Consent(payment_digest(payment), self.at(choice.pick(SOON))))
        if choice.number(0, 2):
            self.pay("PAYCO", payment)
        else:
            self.driver.payments.append(payment)

    def use_client_reserve(self, choice: Choice) -> None:
        to = choice.pick((*BANKS, "PAYCO"))
        out = choice.pick((False, True))
        debtor, creditor = ("PAYCO", to) if out else (to, "PAYCO")
        payment = gross_payment(
            self.driver.uetr(),
            self.lei(debtor),
            self.lei(creditor),
            "EUR",
            choice.number(1, 40),
            debtor_account=AccountKind(out),
            creditor_account=AccountKind(not out),
            payment_class=PaymentClass.CUSTOMER,
            ultimate_debtor=choice.pick(("A customer", "A customer", None)),
        )
        self.pay(debtor, payment)
