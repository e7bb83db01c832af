"""From what is recorded of a UETR to the document of its payment.

What became of it comes from the outcomes themselves, in their order; the ledger's state adds what
only it knows: what was given back, a recall, and for a payment in a clearing cycle the cycle's
decision, which is the payment's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from node.api.problems import Refused
from node.api.service import ChangeView, PaymentView
from node.chain.encoding import encode
from node.chain.merkle import OUTCOME_LEAF
from node.chain.records import AcknowledgementKey, CycleKey, CycleRecord, PaymentKey, PaymentRecord
from node.chain.types import (
    CycleSettled,
    CycleUnwound,
    InstructionBody,
    Issue,
    MoveOwn,
    Outcome,
    Post,
    Posted,
    Redeem,
    Reserve,
)
from node.chain.uetr import uetr_text
from node.engine.recorded import Carried, Recorded
from node.engine.views import outcome_word
from node.engine.wording import Wording, account_word
from node.ledger.entries import UetrEntry
from node.ledger.reasons import (
    ACCEPTED,
    FINAL_SETTLED,
    REJECTED,
    SETTLED,
    UNWOUND,
    sentence,
    status_word,
)
from node.ledger.state import State
from node.ledger.tables import ACKNOWLEDGEMENTS, CYCLES, NETTING, PAYMENTS

SETTLEMENT = "settlement"


@dataclass(frozen=True, slots=True)
class Sides:
    """Who pays whom what, whatever the instruction is."""

    debtor: str | None
    debtor_account: str | None
    creditor: str | None
    creditor_account: str | None
    asset: str
    amount: int


def sides_of(carried: Carried) -> Sides:
    """The two sides of what a UETR names."""
    payment = carried.payment
    if payment is not None:
        return Sides(
            payment.debtor,
            account_word(payment.debtor_account),
            payment.creditor,
            account_word(payment.creditor_account),
            payment.asset,
            payment.amount,
        )
    body = carried.body
    match body:
        case Issue():
            return Sides(None, None, body.creditor, SETTLEMENT, body.asset, body.amount)
        case Redeem():
            return Sides(carried.sender, SETTLEMENT, None, None, body.asset, body.amount)
        case MoveOwn():
            own = carried.sender
            source, target = account_word(body.source), account_word(body.target)
            return Sides(own, source, own, target, body.asset, body.amount)
        case None:
            raise AssertionError("a UETR names a payment or a body")


def brief_view(entry: UetrEntry) -> PaymentView:
    """What the UETR index alone tells; not for a payment in a clearing cycle."""
    word = status_word(entry.status, entry.reason)
    first = entry.changed == entry.height
    return PaymentView(
        uetr=uetr_text(entry.uetr),
        status=word,
        reason=entry.reason,
        height=entry.changed,
        index=(entry.instruction, entry.payment) if first else None,
        settled_at=entry.time if entry.status in FINAL_SETTLED else None,
        digest=entry.digest.hex(),
    )


class Payments:
    """Documents of payments, over one state and the records below it."""

    def __init__(self, state: State, recorded: Recorded) -> None:
        self._state = state
        self._recorded = recorded
        self._wording = Wording(state)

    def brief(self, entry: UetrEntry) -> PaymentView | None:
        """Without what only blocks tell, where that is possible. None: what became of it cannot be
        told here; among many, that is no reason to tell nothing of the others."""
        if entry.cycle is None:
            return brief_view(entry)
        try:
            return self.full(entry)
        except Refused:
            return None

    def full(self, entry: UetrEntry) -> PaymentView:
        """Everything that is held here about it. Raises Refused (pruned)."""
        carried = self._recorded.carried(entry)
        sides = None if carried is None else sides_of(carried)
        asset = self._cycle_asset(entry) if sides is None else sides.asset
        changes = self._changes(entry, asset)
        view = brief_view(entry)
        if entry.cycle is not None and asset is not None:
            view = self._in_cycle(entry, view, changes, asset)
        if changes:
            last = changes[-1]
            view = msgspec.structs.replace(view, index=last.index, changes=changes)
        if carried is None or sides is None:
            return view  # pruned: the index still tells what became of it
        return self._with_money(view, carried, sides)

    # --- outcomes -------------------------------------------------------------------------------

    def _changes(self, entry: UetrEntry, asset: str | None) -> list[ChangeView]:
        found = []
        for height, index in self._recorded.records.changes(entry.uetr):
            read = self._recorded.outcome(height, index)
            if read is not None:
                raw, outcome = read
                found.append(self._change(entry.uetr, index, raw, outcome, asset))
        return found

    def _change(
        self, uetr: bytes, position: int, raw: bytes, outcome: Outcome, asset: str | None
    ) -> ChangeView:
        leaf = sha256(OUTCOME_LEAF + raw).digest()
        said = self._state.get(ACKNOWLEDGEMENTS, AcknowledgementKey(uetr, leaf))
        event, index = outcome.event, outcome.instruction
        return ChangeView(
            status=outcome_word(outcome),
            iso_status=outcome.status,
            reason=outcome.reason,
            because=None if outcome.reason is None else sentence(outcome.reason),
            height=outcome.height,
            index=None if index is None else (index, outcome.payment),
            time=outcome.time,
            position=position,
            outcome=leaf.hex(),
            debtor_balance=self._balance(outcome.debtor_balance, asset),
            creditor_balance=self._balance(outcome.creditor_balance, asset),
            event=None if event is None else self._wording.event(event, asset),
            acknowledged=None if said is None else said.height,
            preimage=self._preimage(outcome),
        )

    def _preimage(self, outcome: Outcome) -> str | None:
        """What was shown to post a reservation, if it opens its hash lock."""
        if outcome.instruction is None or outcome.original is None:
            return None
        if not isinstance(outcome.event, Posted):
            return None
        reserved, posted = (
            self._body(outcome.original.height, outcome.original.instruction),
            self._body(outcome.height, outcome.instruction),
        )
        if not isinstance(reserved, Reserve) or not isinstance(posted, Post):
            return None
        shown = posted.preimage
        # A poster that is named may show anything: it needs no preimage.
        if shown is None or sha256(shown).digest() != reserved.hash_lock:
            return None
        return shown.hex()

    def _body(self, height: int, instruction: int) -> InstructionBody | None:
        """The body of an instruction; None: its block is not held."""
        block = self._recorded.block(height)
        return None if block is None else block.instruction(instruction).envelope.body

    def _balance(self, minor: int | None, asset: str | None) -> str | None:
        return None if minor is None or asset is None else self._wording.amount(minor, asset)

    # --- clearing cycles ------------------------------------------------------------------------

    def _cycle_asset(self, entry: UetrEntry) -> str | None:
        """The asset of a net payment whose block was pruned, which alone names it: the only one
        whose cycle of that number had begun by then. Raises Refused (pruned) if there are several:
        nobody must be told of another cycle's decision."""
        if entry.cycle is None:
            return None
        found = []
        for key, _ in self._state.rows(NETTING):
            cycle = self._state.get(CYCLES, CycleKey(key.asset, entry.cycle))
            if cycle is not None and cycle.opened <= entry.time:
                found.append(key.asset)
        if len(found) == 1:
            return str(found[0])
        raise Refused(
            "pruned",
            f"the payment joined clearing cycle {entry.cycle} in block {entry.height}, which this "
            "node no longer holds; an archive node tells of which currency, and what became of it",
            "final",
        )

    def _in_cycle(
        self, entry: UetrEntry, view: PaymentView, changes: list[ChangeView], asset: str
    ) -> PaymentView:
        """The cycle's decision is the payment's: one more change, which names no payment."""
        assert entry.cycle is not None
        cycle = self._state.get(CYCLES, CycleKey(asset, entry.cycle))
        assert cycle is not None, "a payment joined a cycle that is not there"
        status, reason = cycle_status(cycle)
        view = msgspec.structs.replace(
            view, cycle=entry.cycle, status=status_word(status, reason), reason=reason
        )
        if cycle.decided is None:
            return view
        change = self._decision(entry, asset, cycle.decided, (status, reason))
        if change is None:
            return msgspec.structs.replace(view, height=cycle.decided, index=None)
        changes.append(change)
        return msgspec.structs.replace(
            view,
            height=change.height,
            settled_at=change.time if status == SETTLED else None,
        )

    def _decision(
        self, entry: UetrEntry, asset: str, height: int, decided: tuple[str, str | None]
    ) -> ChangeView | None:
        assert entry.cycle is not None
        found = cycle_outcome(self._recorded, entry.cycle, asset, height)
        if found is None:
            return None
        position, outcome = found
        status, reason = decided
        change = self._change(entry.uetr, position, encode(outcome), outcome, asset)
        return msgspec.structs.replace(
            change,
            status=status_word(status, reason),
            iso_status=status,
            reason=reason,
            because=None if reason is None else sentence(reason),
        )

    # --- what the blocks and the state add -------------------------------------------------------

    def _with_money(self, view: PaymentView, carried: Carried, sides: Sides) -> PaymentView:
        payment = carried.payment
        exponent = self._wording.exponent(sides.asset)
        previous = None if payment is None else payment.previous
        if carried.kind == "return":
            previous = self._given_back(view.changes)
        view = msgspec.structs.replace(
            view,
            kind=carried.kind,
            debtor=sides.debtor,
            debtor_account=sides.debtor_account,
            creditor=sides.creditor,
            creditor_account=sides.creditor_account,
            currency=sides.asset,
            amount=None if exponent is None else self._wording.amount(sides.amount, sides.asset),
            payment=None if payment is None else encode(payment).hex(),
            previous=None if previous is None else uetr_text(previous),
        )
        return view if payment is None else self._with_returns(view, payment.uetr, sides)

    def _given_back(self, changes: Sequence[ChangeView]) -> bytes | None:
        """What a return names as its original, from its first outcome."""
        for change in changes:
            original = (change.event or {}).get("original")
            if original is not None:
                return bytes.fromhex(original.replace("-", ""))
        return None

    def _with_returns(self, view: PaymentView, uetr: bytes, sides: Sides) -> PaymentView:
        record = self._state.get(PAYMENTS, PaymentKey(uetr))
        if view.status not in {"settled", "posted"}:
            return view
        total = self._posted(view, sides)
        left = total - (0 if record is None else record.returned + record.returning)
        return msgspec.structs.replace(
            view,
            returnable=self._wording.amount(left, sides.asset),
            returned=self._returned(record, sides.asset),
            recall=None if record is None else record.recall,
        )

    def _returned(self, record: PaymentRecord | None, asset: str) -> str | None:
        if record is None or not record.returned:
            return None
        return self._wording.amount(record.returned, asset)

    def _posted(self, view: PaymentView, sides: Sides) -> int:
        """What settled: of a reservation what was posted."""
        if view.status != "posted" or not view.changes:
            return sides.amount
        last = view.changes[-1]
        assert last.position is not None
        read = self._recorded.outcome(last.height, last.position)
        if read is None or not isinstance(read[1].event, Posted):
            return sides.amount
        return read[1].event.amount


def cycle_status(cycle: CycleRecord) -> tuple[str, str | None]:
    """(status, reason) of every payment of a cycle."""
    if cycle.status == "settled":
        return SETTLED, None
    return (REJECTED, UNWOUND) if cycle.status == "unwound" else (ACCEPTED, None)


def cycle_outcome(
    recorded: Recorded, cycle: int, asset: str, height: int
) -> tuple[int, Outcome] | None:
    """(position, outcome) that settled or unwound a cycle in the block of this height; None: that
    block is no longer held."""
    for position, outcome in enumerate(recorded.outcomes(height) or ()):
        event = outcome.event
        if isinstance(event, CycleSettled | CycleUnwound) and (event.asset, event.cycle) == (
            asset,
            cycle,
        ):
            return position, outcome
    return None
