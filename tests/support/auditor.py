"""An auditor with nothing but a chain's instructions and outcomes: keeps every account's balance by
what they say alone, and holds statements against it."""

from __future__ import annotations

from collections import Counter

from node.chain import types as t
from node.chain.instruction import payment_digest
from node.chain.types import AccountKind, Outcome, Payment
from tests.support.ledger_world import MadeBlock

Account = tuple[str, str, int]
SETTLED, POSTED = "ACSC", "ACCC"


class Auditor:
    """Reads block after block."""

    def __init__(self) -> None:
        self.balances: Counter[Account] = Counter()
        self.statements = 0
        """Checked so far."""
        self._stated: Counter[Account] = Counter()
        self._last_close = 0
        self._payments: dict[tuple[bytes, bytes], Payment] = {}
        """By (UETR, leaf hash)."""
        self._cycles: dict[tuple[str, int], tuple[t.NetPosition, ...]] = {}

    def read(self, block: MadeBlock) -> None:
        """The next block. Raises AssertionError where a statement does not tie out."""
        for checked in block.instructions:
            body = checked.instruction.envelope.body
            carried = list(checked.instruction.payments)
            if isinstance(body, t.Reserve | t.Return):
                carried.append(body.payment)
            elif isinstance(body, t.Link):
                carried += body.legs
            self._payments |= {(each.uetr, payment_digest(each)): each for each in carried}
        closes = False
        for outcome in block.outcomes:
            closes |= self._read_event(outcome, block.header.height)
            if outcome.status in (SETTLED, POSTED) and (
                outcome.original is None or outcome.content is not None
            ):
                self._read_movement(block, outcome)
        if closes:
            self._last_close = block.header.height

    def held(self) -> dict[Account, int]:
        """Every balance that is not zero."""
        return {account: balance for account, balance in self.balances.items() if balance}

    def _move(self, debtor: Account | None, creditor: Account | None, amount: int) -> None:
        if debtor is not None:
            self.balances[debtor] -= amount
        if creditor is not None:
            self.balances[creditor] += amount

    def _read_movement(self, block: MadeBlock, outcome: Outcome) -> None:
        if outcome.content is not None:
            assert outcome.uetr is not None
            self._pay(self._payments[outcome.uetr, outcome.content], outcome)
            return
        told_by_event = not isinstance(outcome.event, t.Returns | t.Carried | None)
        if outcome.instruction is None or told_by_event:
            return
        instruction = block.instructions[outcome.instruction].instruction
        sender, body = instruction.envelope.sender, instruction.envelope.body
        settlement = int(AccountKind.SETTLEMENT)
        match body:
            case t.Pay():
                self._pay(instruction.payments[outcome.payment], outcome)
            case t.Return():
                self._pay(body.payment, outcome)
            case t.Issue():
                self._move(None, (body.creditor, body.asset, settlement), body.amount)
            case t.Redeem():
                self._move((sender, body.asset, settlement), None, body.amount)
            case t.MoveOwn():
                source, target = int(body.source), int(body.target)
                self._move((sender, body.asset, source), (sender, body.asset, target), body.amount)
            case t.Pledge() | t.ReleaseCollateral():
                free = sender, body.security, settlement
                pledged = sender, body.security, int(AccountKind.COLLATERAL)
                way = (free, pledged) if isinstance(body, t.Pledge) else (pledged, free)
                self._move(*way, body.quantity)

    def _pay(self, payment: Payment, outcome: Outcome) -> None:
        event = outcome.event
        amount = event.amount if isinstance(event, t.Posted) else payment.amount
        self._move(
            (payment.debtor, payment.asset, int(payment.debtor_account)),
            (payment.creditor, payment.asset, int(payment.creditor_account)),
            amount,
        )

    def _read_event(self, outcome: Outcome, height: int) -> bool:
        """Whether it is a statement."""
        match outcome.event:
            case t.Moved() as moved:
                self._move(
                    (moved.debtor, moved.asset, int(moved.debtor_account)),
                    (moved.creditor, moved.asset, int(moved.creditor_account)),
                    moved.amount,
                )
            case t.CycleClosed() as closed:
                self._cycles[closed.asset, closed.cycle] = closed.positions
            case t.CycleSettled() as settled:
                for each in self._cycles.pop((settled.asset, settled.cycle)):
                    account = each.participant, settled.asset, int(AccountKind.SETTLEMENT)
                    self._move(None, account, each.credits - each.debits)
            case t.CycleUnwound() as unwound:
                del self._cycles[unwound.asset, unwound.cycle]
            case t.Statement() as told:
                account = told.participant, told.asset, int(told.account)
                assert told.opening == self._stated[account], told
                assert told.closing == self.balances[account], told
                assert told.since == self._last_close < height, told
                self._stated[account] = told.closing
                self.statements += 1
                return True
        return False
