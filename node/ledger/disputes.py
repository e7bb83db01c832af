"""Disputes about settled payments: opened, evidenced, decided. They move no money.

A payment is disputed once. Its two parties put digests of documents on record; a supervisor or an
operator decides, never a party of the payment.
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import DisputeKey, DisputeRecord
from node.chain.types import DecideDispute, OpenDispute, SubmitEvidence
from node.ledger.reasons import (
    LIMIT_REACHED,
    NOT_ASKED,
    NOT_THE_PARTY,
    SAID_ALREADY,
    UNKNOWN_REFERENCE,
    WRONG_ROLE,
)
from node.ledger.returns import original_row
from node.ledger.tables import DISPUTES
from node.ledger.work import Work

MAX_EVIDENCE = 64
"""Documents of one dispute, of both parties together."""
JUDGES = frozenset({"operator", "supervisor"})
"""Roles that decide."""


def open_dispute(work: Work, index: int, checked: CheckedInstruction, body: OpenDispute) -> None:
    """Note that a party contests a settled payment, or reject it."""
    work.note(index, _open(work, checked.instruction.envelope.sender, body))


def _open(work: Work, sender: str, body: OpenDispute) -> str | None:
    payment = body.original
    if original_row(work, payment) is None:
        return UNKNOWN_REFERENCE
    if sender not in (payment.debtor, payment.creditor):
        return NOT_THE_PARTY
    key = DisputeKey(payment.uetr)
    if work.get(DISPUTES, key) is not None:
        return SAID_ALREADY
    opened = DisputeRecord(
        debtor=payment.debtor,
        creditor=payment.creditor,
        opened_by=sender,
        opened=work.context.height,
        reason=body.reason,
        evidence=(),
        verdict=None,
    )
    work.put(DISPUTES, key, opened)
    return None


def submit_evidence(
    work: Work, index: int, checked: CheckedInstruction, body: SubmitEvidence
) -> None:
    """Put the digest of a party's document on record, or reject it."""
    work.note(index, _submit(work, checked.instruction.envelope.sender, body))


def _submit(work: Work, sender: str, body: SubmitEvidence) -> str | None:
    dispute = work.get(DISPUTES, DisputeKey(body.uetr))
    if dispute is None:
        return NOT_ASKED
    if sender not in (dispute.debtor, dispute.creditor):
        return NOT_THE_PARTY
    if dispute.verdict is not None:
        return NOT_ASKED
    piece = sender, body.document
    if piece in dispute.evidence:
        return SAID_ALREADY
    if len(dispute.evidence) >= MAX_EVIDENCE:
        return LIMIT_REACHED
    work.put(DISPUTES, DisputeKey(body.uetr), replace(dispute, evidence=(*dispute.evidence, piece)))
    return None


def decide_dispute(
    work: Work, index: int, checked: CheckedInstruction, body: DecideDispute
) -> None:
    """Note a verdict, or reject it."""
    work.note(index, _decide(work, checked.instruction.envelope.sender, body))


def _decide(work: Work, sender: str, body: DecideDispute) -> str | None:
    judge = work.participant(sender)
    assert judge is not None, "an unknown sender's instruction may not stand"
    if JUDGES.isdisjoint(judge.record.roles):
        return WRONG_ROLE
    dispute = work.get(DISPUTES, DisputeKey(body.uetr))
    if dispute is None or dispute.verdict is not None:
        return NOT_ASKED
    if sender in (dispute.debtor, dispute.creditor):
        return NOT_THE_PARTY
    work.put(DISPUTES, DisputeKey(body.uetr), replace(dispute, verdict=body.verdict))
    return None
