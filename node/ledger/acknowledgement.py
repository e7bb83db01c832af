"""The creditor's word that it has seen what became of a payment (ISO/IEC 13888, non-repudiation of
delivery).

The ledger knows who the creditor is, and records when it said so. It keeps no outcomes, so which
outcome and block the creditor names is recorded as stated: who verifies compares them with what the
block's header commits to.
"""

from __future__ import annotations

from node.chain.instruction import CheckedInstruction, payment_digest
from node.chain.records import AcknowledgementKey, AcknowledgementRecord, PaymentKey
from node.chain.types import Acknowledge, Payment
from node.ledger.reasons import NOT_THE_PARTY, SAID_ALREADY, UNKNOWN_REFERENCE
from node.ledger.tables import ACKNOWLEDGEMENTS, PAYMENTS
from node.ledger.work import Work


def acknowledge(work: Work, index: int, checked: CheckedInstruction, body: Acknowledge) -> None:
    """Record an acknowledgement, or reject it."""
    work.note(index, _acknowledge(work, checked.instruction.envelope.sender, body))


def _acknowledge(work: Work, sender: str, body: Acknowledge) -> str | None:
    if not _is_known(work, body.payment):
        return UNKNOWN_REFERENCE
    if sender != body.payment.creditor:
        return NOT_THE_PARTY
    key = AcknowledgementKey(body.payment.uetr, body.outcome)
    if work.get(ACKNOWLEDGEMENTS, key) is not None:
        return SAID_ALREADY
    work.put(ACKNOWLEDGEMENTS, key, AcknowledgementRecord(sender, body.block, work.context.height))
    return None


def _is_known(work: Work, payment: Payment) -> bool:
    """Whether the ledger ever said what became of this payment, as far as it remembers."""
    content = payment_digest(payment)
    standing = work.standing(payment.uetr)
    if standing is not None:
        return standing.digest == content
    row = work.get(PAYMENTS, PaymentKey(payment.uetr))
    return row is not None and row.content == content
