"""The settlement rules once more, slow and obvious, to hold the ledger against.

Everything is a list that is searched from its start; nothing is shared with the ledger but the
message types. A block is played on a copy, so that a model can be forked like a state.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from node.chain.types import (
    Instruction,
    Issue,
    Outcome,
    OutcomePlace,
    Pay,
    Payment,
    Redeem,
    RegisterKey,
    RevokeKey,
)

WEEK_MS = 7 * 24 * 3600 * 1000
LARGEST = 2**63 - 1

Content = Payment | Issue | Redeem


@dataclass
class Key:
    holder: str
    public_key: bytes
    valid_from: int
    revoked_from: int | None = None


@dataclass
class Used:
    """An outcome that uses up its UETR."""

    content: Content
    outcome: Outcome


class At(NamedTuple):
    """Where and when something happens: height, block time, index in block and instruction."""

    height: int
    time: int
    instruction: int
    payment: int = 0


@dataclass
class Model:
    """The whole state as lists."""

    roles: dict[str, tuple[str, ...]]
    """By LEI."""
    threshold: dict[str, int]
    issuer: dict[str, str]
    """By asset code."""
    keys: list[Key]
    window: int
    """Milliseconds that a UETR stays used up."""
    proven: set[tuple[str, bytes]]
    """(LEI, public key) for which a right proof of possession exists."""
    balances: dict[tuple[str, str], int] = field(default_factory=dict)
    """By (LEI, asset)."""
    supply: dict[str, int] = field(default_factory=dict)
    used: list[Used] = field(default_factory=list)
    executed: list[tuple[str, str, int]] = field(default_factory=list)
    """(sender, id, valid until)."""

    def fork(self) -> Model:
        return copy.deepcopy(self)

    def may_stand(self, instruction: Instruction, height: int, time: int) -> bool:
        envelope = instruction.envelope
        signing = [signature.public_key for signature in instruction.signatures]
        valid = [
            key
            for key in self.keys
            if key.holder == envelope.sender
            and key.public_key in signing
            and self._valid(key, height)
        ]
        return (
            envelope.sender in self.roles
            and time <= envelope.valid_until <= time + WEEK_MS
            and len(valid) == len(signing)
            and len(signing) >= self.threshold[envelope.sender]
            and not any(
                sender == envelope.sender and id == envelope.id and valid_until >= time
                for sender, id, valid_until in self.executed
            )
        )

    @staticmethod
    def _valid(key: Key, height: int) -> bool:
        return key.valid_from <= height and not (
            key.revoked_from is not None and key.revoked_from <= height
        )

    def execute(
        self, instruction: Instruction, index: int, height: int, time: int
    ) -> list[Outcome]:
        """The outcomes of an instruction that may stand."""
        envelope = instruction.envelope
        self.executed.append((envelope.sender, envelope.id, envelope.valid_until))
        at = At(height, time, index)
        body = envelope.body
        if isinstance(body, Pay):
            return self._pay(instruction, body, at)
        if isinstance(body, Issue | Redeem):
            outcome = self._supply(envelope.sender, body, at)
            return [self._remember(body, body.uetr, outcome)]
        if isinstance(body, RegisterKey):
            return [_outcome(at, None, self._register(envelope.sender, body, height))]
        assert isinstance(body, RevokeKey), "governance has a model of its own"
        return [_outcome(at, None, self._revoke(envelope.sender, body, height))]

    # --- payments -------------------------------------------------------------------------------

    def _pay(self, instruction: Instruction, body: Pay, at: At) -> list[Outcome]:
        sender = instruction.envelope.sender
        before = dict(self.balances)
        outcomes = [
            self._payment(sender, payment, at._replace(payment=number))
            for number, payment in enumerate(instruction.payments)
        ]
        if body.all_or_none and any(outcome.status != "ACSC" for outcome in outcomes):
            self.balances = before
            outcomes = [
                _outcome(at._replace(payment=number), outcome.uetr, "ED05")
                if outcome.status == "ACSC" and outcome.original is None
                else outcome
                for number, outcome in enumerate(outcomes)
            ]
        return [
            self._remember(payment, payment.uetr, outcome)
            for payment, outcome in zip(instruction.payments, outcomes, strict=True)
        ]

    def _payment(self, sender: str, payment: Payment, at: At) -> Outcome:
        def rejected(reason: str) -> Outcome:
            return _outcome(at, payment.uetr, reason)

        if payment.debtor != sender:
            return rejected("DS0H")
        if not self._holds_accounts(sender):
            return rejected("AG08")
        used = self._using(payment.uetr, at.time)
        if used is not None:
            if used.content != payment:
                return rejected("AM05")
            return _again(used.outcome, at)
        if payment.asset not in self.issuer:
            return rejected("AM03")
        if payment.amount == 0:
            return rejected("AM01")
        if payment.amount > LARGEST:
            return rejected("AM02")
        if payment.latest is not None and at.time > payment.latest:
            return rejected("AB03")
        if payment.creditor == payment.debtor:
            return rejected("AG12")
        if payment.creditor not in self.roles:
            return rejected("CNOR")
        if not self._holds_accounts(payment.creditor):
            return rejected("AC03")
        debtor, creditor = (payment.debtor, payment.asset), (payment.creditor, payment.asset)
        if self.balances.get(debtor, 0) < payment.amount:
            return rejected("AM04")
        if self.balances.get(creditor, 0) + payment.amount > LARGEST:
            return rejected("AM02")
        self.balances[debtor] -= payment.amount
        self.balances[creditor] = self.balances.get(creditor, 0) + payment.amount
        return _outcome(
            at,
            payment.uetr,
            None,
            debtor_balance=self.balances[debtor],
            creditor_balance=self.balances[creditor],
        )

    def _holds_accounts(self, lei: str) -> bool:
        return "direct-participant" in self.roles[lei] or "issuer" in self.roles[lei]

    def _using(self, uetr: bytes, time: int) -> Used | None:
        for used in self.used:
            if used.outcome.uetr == uetr and time <= used.outcome.time + self.window:
                return used
        return None

    def _remember(self, content: Content, uetr: bytes, outcome: Outcome) -> Outcome:
        if (
            outcome.reason not in ("DS0H", "DS0G", "AG08")
            and self._using(uetr, outcome.time) is None
        ):
            self.used.append(Used(content, outcome))
        return outcome

    # --- supply ---------------------------------------------------------------------------------

    def _supply(self, sender: str, body: Issue | Redeem, at: At) -> Outcome:
        def rejected(reason: str) -> Outcome:
            return _outcome(at, body.uetr, reason)

        if body.asset in self.issuer and self.issuer[body.asset] != sender:
            return rejected("DS0G")
        if not self._holds_accounts(sender):
            return rejected("AG08")
        used = self._using(body.uetr, at.time)
        if used is not None:
            if used.content != body:
                return rejected("AM05")
            return _again(used.outcome, at)
        if body.asset not in self.issuer:
            return rejected("AM03")
        if body.amount == 0:
            return rejected("AM01")
        if isinstance(body, Issue):
            if body.creditor not in self.roles:
                return rejected("CNOR")
            if not self._holds_accounts(body.creditor):
                return rejected("AC03")
            account = (body.creditor, body.asset)
            if self.balances.get(account, 0) + body.amount > LARGEST:
                return rejected("AM02")
            self.balances[account] = self.balances.get(account, 0) + body.amount
            self.supply[body.asset] = self.supply.get(body.asset, 0) + body.amount
            balance = self.balances[account]
            return _outcome(at, body.uetr, None, creditor_balance=balance)
        if body.amount > LARGEST:
            return rejected("AM02")
        account = (sender, body.asset)
        if self.balances.get(account, 0) < body.amount:
            return rejected("AM04")
        self.balances[account] -= body.amount
        self.supply[body.asset] -= body.amount
        balance = self.balances[account]
        return _outcome(at, body.uetr, None, debtor_balance=balance)

    # --- keys -----------------------------------------------------------------------------------

    def _register(self, sender: str, body: RegisterKey, height: int) -> str | None:
        if any(key.public_key == body.public_key for key in self.keys):
            return "DS15"
        if (sender, body.public_key) not in self.proven:
            return "DS0D"
        self.keys.append(Key(sender, body.public_key, height + 1))
        return None

    def _revoke(self, sender: str, body: RevokeKey, height: int) -> str | None:
        own = [key for key in self.keys if key.holder == sender]
        for key in own:
            if key.public_key == body.public_key:
                if key.revoked_from is not None:
                    return "DS0C"
                left = [each for each in own if each is not key and self._valid(each, height + 1)]
                if len(left) < self.threshold[sender]:
                    return "DS0A"
                key.revoked_from = height + 1
                return None
        return "DS0E"


def _outcome(
    at: At,
    uetr: bytes | None,
    reason: str | None,
    *,
    debtor_balance: int | None = None,
    creditor_balance: int | None = None,
) -> Outcome:
    return Outcome(
        height=at.height,
        time=at.time,
        instruction=at.instruction,
        payment=at.payment,
        uetr=uetr,
        status="ACSC" if reason is None else "RJCT",
        reason=reason,
        debtor_balance=debtor_balance,
        creditor_balance=creditor_balance,
        original=None,
    )


def _again(original: Outcome, at: At) -> Outcome:
    return Outcome(
        height=at.height,
        time=at.time,
        instruction=at.instruction,
        payment=at.payment,
        uetr=original.uetr,
        status=original.status,
        reason=original.reason,
        debtor_balance=None,
        creditor_balance=None,
        original=OutcomePlace(original.height, original.instruction, original.payment),
    )
