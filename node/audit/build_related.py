"""What was said about a payment that changed nothing of it: recalls, returns, disputes,
acknowledgements."""

from __future__ import annotations

from node.audit.build_chain import EvidenceTooLarge, EvidenceUnavailable
from node.audit.build_parts import Parts
from node.audit.dossier import MAX_STEPS, DisputeRow, Related
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


def related(parts: Parts, entry: UetrEntry, payment: Payment) -> tuple[Related, ...]:
    """Every accepted instruction about the payment, up to the checkpoint. Raises
    EvidenceUnavailable."""
    found: list[Related] = []
    for height, index in parts.source.about(entry.uetr, entry.height):
        if height > parts.checkpoint.height:
            break
        body = parts.block(height).signed(index).envelope.body
        if not names(body, payment):
            continue  # another payment, under the same UETR long before or after
        if len(found) == MAX_STEPS:
            raise EvidenceTooLarge(f"there are more than {MAX_STEPS:,} instructions about it")
        placed = parts.placed(height, _accepted(parts, height, index, body))
        found.append(Related(parts.act(height, index), placed.outcome, placed.place))
    return tuple(found)


def names(body: InstructionBody, payment: Payment) -> bool:
    """Whether it is an instruction about this payment of others."""
    match body:
        case Recall(original=shown) | RefuseRecall(original=shown) | Return(original=shown):
            return payment_digest(shown) == payment_digest(payment)
        case OpenDispute(original=shown) | Acknowledge(payment=shown):
            return payment_digest(shown) == payment_digest(payment)
        case SubmitEvidence(uetr=uetr) | DecideDispute(uetr=uetr):
            return uetr == payment.uetr
    return False


def _accepted(parts: Parts, height: int, instruction: int, body: InstructionBody) -> int:
    """Index of the outcome that says that the instruction was accepted."""
    if isinstance(body, Return):
        marks = body.payment.uetr
    else:  # how the outcome of an instruction that is no payment begins
        time = parts.header(height).timestamp
        marks = b"".join(map(encode, ("outcome/2", height, time, instruction, 0, None)))
    for index, outcome in parts.outcomes_where(height, marks):
        if is_acceptance(outcome, instruction, body):
            return index
    raise EvidenceUnavailable(
        f"block {height} has no outcome that accepts instruction {instruction}: the index and the "
        "block disagree"
    )


def is_acceptance(outcome: Outcome, instruction: int, body: InstructionBody) -> bool:
    """Whether this outcome of the block says that its instruction was accepted."""
    return (
        outcome.instruction == instruction
        and outcome.content is None
        and outcome.original is None
        and outcome.status != REJECTED
        and outcome.uetr == (body.payment.uetr if isinstance(body, Return) else None)
    )


def dispute_row(parts: Parts, entry: UetrEntry, payment: Payment) -> DisputeRow | None:
    """The dispute of the payment as it stands; None: there is none. Raises EvidenceUnavailable."""
    key = DisputeKey(entry.uetr)
    record, proof = parts.proven(parts.checkpoint.height, key, DisputeRecord)
    if record is None or record.opened < entry.height:
        return None  # of a payment that the UETR named before
    return DisputeRow(record, proof)
