"""Queues in tests: payments with every option, orders about them, and what stands in a queue."""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.encoding import encode
from node.chain.instruction import CheckedInstruction
from node.chain.records import LimitsKey, LimitsRecord, PaymentKey, PaymentRecord, Queued
from node.chain.types import (
    AccountKind,
    Cancel,
    Hold,
    InstructionBody,
    Outcome,
    Payment,
    Priority,
    Release,
    Reprioritise,
    SetLimit,
    SetPolicy,
)
from node.ledger.ledger import load_state
from node.ledger.reasons import SENTENCES, WITHOUT_AUTHORITY
from node.ledger.state import State
from node.ledger.tables import LIMITS, PAYMENTS
from tests.support.ledger_world import HOUR_MS, Chain, MadeBlock, World

BANKS = {
    "CENTRALBANK": ("issuer", "operator", "validator"),
    "BANKA": ("direct-participant",),
    "BANKB": ("direct-participant",),
    "BANKC": ("direct-participant",),
    "PAYCO": ("payment-institution",),
    "WATCHDOG": ("supervisor",),
}
URGENT, HIGH, NORMAL = Priority.URGENT, Priority.HIGH, Priority.NORMAL


class Queueing(Chain):
    """A ledger with banks that pay each other more than they have."""

    def __init__(self, world: World | None = None) -> None:
        super().__init__(world or World.make(banks=BANKS))
        self.names: dict[bytes, str] = {}
        """What a test calls its payments."""
        self.made: dict[bytes, Payment] = {}

    # --- payments and orders --------------------------------------------------------------------

    def payment(
        self, name: str, debtor: str, creditor: str, amount: int, **changed: object
    ) -> Payment:
        """A payment that a test calls `name`."""
        made = replace(self.world.payment(debtor, creditor, amount), **changed)
        self.names[made.uetr] = name
        self.made[made.uetr] = made
        return made

    def uetr(self, name: str) -> bytes:
        return next(uetr for uetr, each in self.names.items() if each == name)

    def send(self, *payments: Payment, all_or_none: bool = False) -> CheckedInstruction:
        """Payments of one debtor, in an instruction of theirs."""
        sender = next(b.name for b in self.world.banks.values() if b.lei == payments[0].debtor)
        until = self.state.time + HOUR_MS
        return self.world.pay(sender, *payments, all_or_none=all_or_none, valid_until=until)

    def pay(
        self, name: str, debtor: str, creditor: str, amount: int, **changed: object
    ) -> MadeBlock:
        """A block with one payment."""
        return self.block(self.send(self.payment(name, debtor, creditor, amount, **changed)))

    def order(self, sender: str, body: InstructionBody) -> CheckedInstruction:
        return self.world.order(sender, body, valid_until=self.state.time + HOUR_MS)

    def cancel(self, name: str, sender: str = "BANKA") -> CheckedInstruction:
        return self.order(sender, Cancel(self.uetr(name)))

    def hold(self, name: str, sender: str = "BANKA") -> CheckedInstruction:
        return self.order(sender, Hold(self.uetr(name)))

    def release(self, name: str, sender: str = "BANKA") -> CheckedInstruction:
        return self.order(sender, Release(self.uetr(name)))

    def reprioritise(
        self, name: str, priority: Priority, sender: str = "BANKA"
    ) -> CheckedInstruction:
        return self.order(sender, Reprioritise(self.uetr(name), priority))

    def limit(
        self,
        holder: str,
        towards: str | None,
        limit: int | None,
        *,
        sender: str | None = None,
        asset: str = "EUR",
    ) -> CheckedInstruction:
        counterparty = None if towards is None else self.world.lei(towards)
        body = SetLimit(self.world.lei(holder), asset, counterparty, limit)
        return self.order(sender or holder, body)

    def bypass(self, sender: str = "BANKA") -> CheckedInstruction:
        return self.order(sender, SetPolicy(fifo_bypass=True, sweeps=()))

    # --- what there is --------------------------------------------------------------------------

    def queue(self, name: str, kind: AccountKind = AccountKind.SETTLEMENT) -> list[str]:
        """The payments that wait at a bank's account, in order."""
        found = self.state.queue((self.world.lei(name), "EUR", int(kind)))
        if found is None:
            return []
        return [self.names[entry.uetr] for entry in found.waiting(self.state.phase)]

    def row(self, name: str) -> PaymentRecord:
        found = self.state.get(PAYMENTS, PaymentKey(self.uetr(name)))
        assert found is not None
        return found

    def queued(self, name: str) -> Queued:
        live = self.row(name).live
        assert isinstance(live, Queued)
        return live

    def limits(self, holder: str) -> LimitsRecord | None:
        return self.state.get(LIMITS, LimitsKey(self.world.lei(holder), "EUR"))

    def used(self, holder: str, towards: str | None) -> int:
        """What is used of a limit."""
        record = self.limits(holder)
        assert record is not None
        if towards is None:
            assert record.multilateral is not None
            return record.multilateral.used
        party = self.world.lei(towards)
        return next(each.used for each in record.bilateral if each.counterparty == party)

    def said(self, block: MadeBlock) -> list[tuple[str, str]]:
        """(payment, status and reason) of a block's outcomes that are a payment's, in order."""
        return [
            (self.names[each.uetr], words(each))
            for each in block.outcomes
            if each.uetr is not None and each.uetr in self.names
        ]


def words(outcome: Outcome) -> str:
    return " ".join(filter(None, (outcome.status, outcome.reason)))


def assert_refused(chain: Chain, instruction: CheckedInstruction, reason: str) -> None:
    """The instruction is rejected for this reason, which has a plain sentence, and leaves the state
    as the block would without it, to the byte."""
    block, without = chain.make(instruction), chain.make()
    [outcome] = block.outcomes[: len(block.outcomes) - len(without.outcomes)]
    assert (outcome.status, outcome.reason) == ("RJCT", reason)
    assert (outcome.uetr, outcome.original, outcome.content) == (None, None, None)
    assert reason in SENTENCES
    assert reason not in WITHOUT_AUTHORITY or not block.applied.uetrs
    assert block.applied.state_root == without.applied.state_root
    assert block.applied.records == without.applied.records
    assert [encode(each) for each in block.outcomes[1:]] == without.applied.outcomes


def reloaded(chain: Chain) -> State:
    """The state as a node that starts reads it from storage."""
    return load_state(
        chain.records.items(),
        chain.blocks[-1].header,
        chain.state.history,
        chain.index,
        chain.nodes.get,
    )
