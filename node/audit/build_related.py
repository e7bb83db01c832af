"""What was said about a payment that changed nothing of it: recalls, returns, disputes,
acknowledgements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from node.audit.build_chain import EvidenceTooLarge, EvidenceUnavailable, required
from node.audit.build_parts import Parts
from node.audit.dossier import MAX_STEPS, DisputeRow, Related
from node.chain.block import outcome_leaf
from node.chain.encoding import encode
from node.chain.instruction import payment_digest
from node.chain.records import DisputeKey, DisputeRecord
from node.chain.statuses import REJECTED
from node.chain.types import (
    Acknowledge,
    DecideDispute,
    InstructionBody,
    OpenDispute,
    Outcome,
    Payment,
    Recall,
    RefuseRecall,
    Return,
    SubmitEvidence,
)
from node.ledger.entries import UetrEntry

MAX_OF_A_KIND = 1_000
"""Recalls, refusals, returns, and acknowledgements of other outcomes, of each kind, in one dossier:
nobody takes the other party's evidence away by saying something ten thousand times. What was given
back in all stands in the payment's record."""


class Said(NamedTuple):
    """What a dossier holds of it."""

    related: tuple[Related, ...]
    dispute: DisputeRow | None


NOTHING_SAID = Said((), None)


def what_was_said(
    parts: Parts,
    entry: UetrEntry,
    payment: Payment,
    outcomes: Iterable[Outcome],
    before: int | None = None,
) -> Said:
    """The accepted instructions about the payment, up to the checkpoint, and how its dispute
    stands: of each kind the first `MAX_OF_A_KIND`, but all of a dispute, and every acknowledgement
    of one of these outcomes. `before`: the height at which another payment took its UETR. Raises
    EvidenceUnavailable.

    The ledger knows disputes by UETR alone, and one of a payment that had it before, or has it
    since, is none of this one: what names no payment belongs to the opening before it."""
    found: list[Related] = []
    shown = {outcome_leaf(encode(each)) for each in outcomes}
    others: Counter[type] = Counter()
    disputed = False
    for height, index in parts.source.about(entry.uetr, entry.height):
        if height > parts.checkpoint.height or (before is not None and height >= before):
            break
        body = parts.signed(height, index).envelope.body
        if not _names(body, payment, disputed=disputed):
            continue
        disputed |= isinstance(body, OpenDispute)
        if not _matters(body, shown):
            others[type(body)] += 1
            if others[type(body)] > MAX_OF_A_KIND:
                continue
        if len(found) == MAX_STEPS:
            raise EvidenceTooLarge(f"there are more than {MAX_STEPS:,} instructions about it")
        placed = parts.placed(height, _accepted(parts, height, index, body))
        found.append(Related(parts.act(height, index), placed.outcome, placed.place))
    return Said(tuple(found), _dispute(parts, entry) if disputed else None)


def _matters(body: InstructionBody, shown: Collection[bytes]) -> bool:
    """Whether it has to be there however much was said. `shown`: leaf hashes of outcomes."""
    if isinstance(body, Acknowledge):
        return body.outcome in shown
    return isinstance(body, OpenDispute | SubmitEvidence | DecideDispute)


def _names(body: InstructionBody, payment: Payment, *, disputed: bool) -> bool:
    """Whether it is about this payment. `disputed`: by an instruction before it."""
    match body:
        case Recall(original=shown) | RefuseRecall(original=shown) | Return(original=shown):
            return payment_digest(shown) == payment_digest(payment)
        case OpenDispute(original=shown) | Acknowledge(payment=shown):
            return payment_digest(shown) == payment_digest(payment)
        case SubmitEvidence(uetr=uetr) | DecideDispute(uetr=uetr):
            return disputed and uetr == payment.uetr
    return False


def _accepted(parts: Parts, height: int, instruction: int, body: InstructionBody) -> int:
    """Index of the outcome that says that the instruction was accepted."""
    if isinstance(body, Return):
        marks = body.payment.uetr
    else:  # how the outcome of an instruction that is no payment begins
        time = parts.header(height).timestamp
        marks = b"".join(map(encode, ("outcome/2", height, time, instruction, 0, None)))
    for index, outcome in parts.outcomes_where(height, marks):
        if _is_acceptance(outcome, instruction, body):
            return index
    raise EvidenceUnavailable(
        f"block {height} has no outcome that accepts instruction {instruction}: the index and the "
        "block disagree"
    )


def _is_acceptance(outcome: Outcome, instruction: int, body: InstructionBody) -> bool:
    """Whether this outcome of the block says that its instruction was accepted."""
    return (
        outcome.instruction == instruction
        and outcome.content is None
        and outcome.original is None
        and outcome.status != REJECTED
        and outcome.uetr == (body.payment.uetr if isinstance(body, Return) else None)
    )


def _dispute(parts: Parts, entry: UetrEntry) -> DisputeRow:
    key = DisputeKey(entry.uetr)
    record, proof = parts.proven(parts.checkpoint.height, key, DisputeRecord)
    return DisputeRow(required(record, "the record of the dispute"), proof)
