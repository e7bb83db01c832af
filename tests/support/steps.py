"""Tables of steps: what is done, what becomes of it, what stands on the accounts then.

One line is one block. Left what happens, in the middle every outcome of the block, right the
accounts that differ from the line before: all others must not have changed.

    fund A 100                     |                   | A 100
    reserve r A B 40 poster=C      | r reserved        | A 100/40
    post r C 15                    | r posted=15       | A 85 B 15

A, B and C are banks, D is the depository. `A 100/40` is a balance of 100 of which 40 are set aside;
`A.CNY` another asset than EUR, `A.BOND` a security. What is named by small letters (payments, legs,
links) is known by that name in later lines. An outcome is `name status` or `name posted=amount`,
with the reason after a slash; an order that is no payment is `ok`, or `rejected/REASON`. After
what a resolution settled stands `resolved=` and how many payments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from node.chain.build import gross_payment
from node.chain.instruction import CheckedInstruction
from node.chain.records import LimitsKey, PaymentKey, PaymentRecord, Reserved
from node.chain.types import (
    AccountKind,
    Link,
    LinkClosed,
    Outcome,
    Payment,
    PaymentClass,
    Post,
    Posted,
    Priority,
    Recall,
    RefuseRecall,
    Reserve,
    Resolved,
    Return,
    SetLimit,
    Void,
)
from node.ledger.ledger import load_state
from node.ledger.reasons import SENTENCES, status_word
from node.ledger.state import State, recount
from node.ledger.tables import LIMITS, PAYMENTS
from tests.support.days import BOND, settling_world
from tests.support.ledger_world import DAY_MS, HOUR_MS, Chain, MadeBlock, World

NAMES = {"A": "BANKA", "B": "BANKB", "C": "BANKC", "D": "DEPOSITORY", "Z": "CENTRALBANK"}
ASSETS = {"BOND": BOND}
PREIMAGES = {name: sha256(name.encode()).digest() for name in ("x", "y")}
Account = tuple[str, str]
Holding = tuple[int, int]


@dataclass
class Stage:
    """A chain on which a table is played, and what its names stand for."""

    world: World = field(default_factory=settling_world)
    payments: dict[str, Payment] = field(default_factory=dict)
    links: dict[str, tuple[tuple[str, ...], int]] = field(default_factory=dict)
    """(legs, expiry)."""
    expected: dict[Account, Holding] = field(default_factory=dict)
    chain: Chain = field(init=False)

    def __post_init__(self) -> None:
        self.chain = Chain(self.world)

    # --- what the columns mean ------------------------------------------------------------------

    def lei(self, letter: str) -> str:
        return self.world.lei(NAMES[letter])

    def soon(self, hours: str = "1") -> int:
        """So many hours after the last block, in milliseconds."""
        return self.chain.state.time + round(float(hours) * HOUR_MS)

    def send(self, sender: str, body: object) -> CheckedInstruction:
        return self.world.order(
            NAMES[sender],
            body,  # type: ignore[arg-type]
            valid_until=self.chain.state.time + DAY_MS,
        )

    def draft(
        self, name: str, debtor: str, creditor: str, amount: str, asset: str = "EUR", **more: object
    ) -> Payment:
        """A payment, known by its name from now on."""
        made = gross_payment(
            self.world.payment("BANKA", "BANKB", 1).uetr,
            self.lei(debtor),
            self.lei(creditor),
            ASSETS.get(asset, asset),
            int(amount),
            payment_class=PaymentClass.INTERBANK,
            **more,  # type: ignore[arg-type]
        )
        self.payments[name] = made
        return made

    def holding(self, account: Account) -> Holding:
        """(balance, reserved) now."""
        letter, asset = account
        state, lei = self.chain.state, self.lei(letter)
        kind = AccountKind.SETTLEMENT.value
        asset = ASSETS.get(asset, asset)
        return state.balance(lei, asset, kind) or 0, state.holding(lei, asset, kind)[0]

    # --- what happens ---------------------------------------------------------------------------

    def fund(self, letter: str, amount: str, asset: str = "EUR") -> list[CheckedInstruction]:
        issuer = "DEPOSITORY" if asset in ASSETS else "CENTRALBANK"
        return [
            self.world.issue(
                issuer,
                NAMES[letter],
                int(amount),
                ASSETS.get(asset, asset),
                valid_until=self.chain.state.time + DAY_MS,
            )
        ]

    def pay(
        self, name: str, debtor: str, creditor: str, amount: str, *options: str
    ) -> list[CheckedInstruction]:
        given = _options(options)
        made = self.draft(
            name,
            debtor,
            creditor,
            amount,
            given.get("asset", "EUR"),
            priority=Priority[given.get("priority", "NORMAL")],
        )
        return [self.world.pay(NAMES[debtor], made, valid_until=self.chain.state.time + DAY_MS)]

    def again(self, name: str) -> list[CheckedInstruction]:
        """The same payment once more, in an instruction of its own."""
        made = self.payments[name]
        sender = next(each for each in NAMES if self.lei(each) == made.debtor)
        return [self.world.pay(NAMES[sender], made, valid_until=self.chain.state.time + DAY_MS)]

    def reserve(
        self, name: str, debtor: str, creditor: str, amount: str, *options: str
    ) -> list[CheckedInstruction]:
        given = _options(options)
        made = self.draft(name, debtor, creditor, amount, given.get("asset", "EUR"))
        poster = self.lei(given["poster"]) if "poster" in given else None
        lock = sha256(PREIMAGES[given["lock"]]).digest() if "lock" in given else None
        return [self.send(debtor, Reserve(made, poster, lock, self.soon(given.get("hours", "1"))))]

    def post(self, name: str, sender: str, *options: str) -> list[CheckedInstruction]:
        given = _options(each for each in options if "=" in each)
        amount = next((int(each) for each in options if "=" not in each), None)
        shown = PREIMAGES[given["show"]] if "show" in given else None
        return [self.send(sender, Post(self.payments[name].uetr, amount, shown))]

    def void(self, name: str, sender: str) -> list[CheckedInstruction]:
        return [self.send(sender, Void(self.payments[name].uetr))]

    def limit(self, holder: str, counterparty: str, amount: str) -> list[CheckedInstruction]:
        other = None if counterparty == "all" else self.lei(counterparty)
        return [self.send(holder, SetLimit(self.lei(holder), "EUR", other, int(amount)))]

    def leg(
        self, name: str, debtor: str, creditor: str, amount: str, asset: str = "EUR"
    ) -> list[CheckedInstruction]:
        """Only writes it down."""
        self.draft(name, debtor, creditor, amount, asset)
        return []

    def agree(self, name: str, sender: str, *more: str) -> list[CheckedInstruction]:
        """To a link; at its first mention with its legs, and for so many hours."""
        if name not in self.links:
            legs, hours = more[0], more[1] if len(more) > 1 else "1"
            self.links[name] = tuple(legs.split("+")), self.soon(hours)
        named, expires = self.links[name]
        return [self.send(sender, Link(tuple(self.payments[each] for each in named), expires))]

    def recall(self, name: str, sender: str) -> list[CheckedInstruction]:
        return [self.send(sender, Recall(self.payments[name], "DUPL"))]

    def refuse(self, name: str, sender: str) -> list[CheckedInstruction]:
        return [self.send(sender, RefuseRecall(self.payments[name], "LEGL"))]

    def giveback(self, name: str, original: str, amount: str) -> list[CheckedInstruction]:
        """A return by the original's creditor."""
        whole = self.payments[original]
        letter = {self.lei(each): each for each in NAMES}
        creditor = letter[whole.creditor]
        made = self.draft(name, creditor, letter[whole.debtor], amount, whole.asset)
        return [self.send(creditor, Return(made, whole, "DUPL"))]

    def wait(self, hours: str) -> list[CheckedInstruction]:
        """Nothing but time."""
        return []

    # --- a table --------------------------------------------------------------------------------

    def play(self, table: str) -> None:
        """Play every line and compare."""
        for number, line in enumerate(table.strip().splitlines(), start=1):
            if not line.strip():
                continue
            action, outcomes, accounts = (part.strip() for part in line.split("|"))
            verb, *words = action.split()
            made: Callable[..., list[CheckedInstruction]] = getattr(self, verb)
            instructions = made(*words)
            if verb == "leg":
                continue
            time = self.soon(words[0]) if verb == "wait" else None
            block = self.chain.block(*instructions, time=time)
            where = f"line {number}, {action}"
            told = [] if verb == "fund" else self.told(block)
            assert told == outcomes.split(), f"{where}: {told}"
            self._expect(accounts)
            found = {account: self.holding(account) for account in self.expected}
            assert found == self.expected, where
            self.check()

    def told(self, block: MadeBlock) -> list[str]:
        """Every outcome of a block, as tables write them."""
        return [text for each in block.outcomes for text in self._told(each)]

    def _told(self, outcome: Outcome) -> list[str]:
        assert outcome.reason is None or outcome.reason in SENTENCES
        reason = "" if outcome.reason is None else f"/{outcome.reason}"
        if isinstance(outcome.event, LinkClosed):
            return ["link-settled" if outcome.event.settled else "link-expired"]
        if isinstance(outcome.event, Resolved):
            return [f"resolved={outcome.event.payments}"]
        if outcome.uetr is None:
            return ["ok" if outcome.status == "ACSC" else f"rejected{reason}"]
        name = next(k for k, payment in self.payments.items() if payment.uetr == outcome.uetr)
        posted = f"={outcome.event.amount}" if isinstance(outcome.event, Posted) else ""
        word = status_word(outcome.status, outcome.reason)
        if word in ("expired", "voided"):
            reason = ""
        return [name, f"{word}{posted}{reason}"]

    def _expect(self, accounts: str) -> None:
        words = accounts.split()
        for name, text in zip(words[::2], words[1::2], strict=True):
            letter, _, asset = name.partition(".")
            balance, _, reserved = text.partition("/")
            self.expected[letter, asset or "EUR"] = int(balance), int(reserved or 0)

    def record(self, name: str) -> PaymentRecord | None:
        """The row of a payment."""
        return self.chain.state.get(PAYMENTS, PaymentKey(self.payments[name].uetr))

    def used(self, holder: str, counterparty: str | None) -> int:
        """What a limit has counted."""
        limits = self.chain.state.get(LIMITS, LimitsKey(self.lei(holder), "EUR"))
        assert limits is not None
        if counterparty is None:
            assert limits.multilateral is not None
            return limits.multilateral.used
        (found,) = (x.used for x in limits.bilateral if x.counterparty == self.lei(counterparty))
        return found

    def check(self) -> None:
        """No money appeared, and what accounts set aside is what reservations hold."""
        recount(self.chain.state)
        held: dict[Account, int] = {}
        for _, row in self.chain.state.rows(PAYMENTS):
            if isinstance(row.live, Reserved):
                account = row.live.payment.debtor, row.live.payment.asset
                held[account] = held.get(account, 0) + row.live.payment.amount
        for letter in NAMES:
            for asset in ("EUR", "CNY", BOND):
                expected = held.get((self.lei(letter), asset), 0)
                assert self.holding((letter, asset))[1] == expected


def _options(words: object) -> dict[str, str]:
    return dict(each.split("=") for each in words)  # type: ignore[attr-defined]


def play(table: str) -> Stage:
    """Play a table on a chain of its own."""
    stage = Stage()
    stage.play(table)
    return stage


def restarted(chain: Chain) -> State:
    """The committed state as a node that starts anew builds it from what it stored."""
    return load_state(
        chain.records.items(),
        chain.blocks[-1].header,
        chain.state.history,
        chain.index,
        chain.nodes.__getitem__,
    )
