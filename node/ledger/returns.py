"""After settlement: the debtor asks for its money back, the creditor returns it or refuses.

A settled payment is final, so a return is a payment of its own, from the original's creditor to its
debtor, and may wait in the queue like any other. What all returns of a payment give back, those
that wait included, is never more than what settled of it.

Original payments are shown in clear, since the ledger keeps only their digest: one without a row is
known as long as it uses up its UETR, one with a row (it waited, or somebody came back to it) for
ever.
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction, payment_digest
from node.chain.records import PaymentKey, PaymentRecord
from node.chain.types import Mode, Payment, Recall, RefuseRecall, Return
from node.ledger.entry import answered, refusal, settle_or_queue
from node.ledger.lifecycle import Origin, reject, settled_row
from node.ledger.reasons import (
    FINAL_SETTLED,
    NO_NETTING,
    NOT_ASKED,
    NOT_THE_PARTY,
    OVER_AMOUNT,
    PARTIES_MISMATCH,
    SAID_ALREADY,
    UNKNOWN_REFERENCE,
)
from node.ledger.tables import PAYMENTS
from node.ledger.work import Work

ASKED, REFUSED, RETURNED = "asked", "refused", "returned"
"""States of a recall."""


def original_row(work: Work, payment: Payment) -> PaymentRecord | None:
    """The row of a settled payment that is shown in clear; None: the ledger knows no such one."""
    return settled_row(work, payment, payment_digest(payment))


def returnable(row: PaymentRecord, payment: Payment) -> int:
    """Minor units of a settled payment that can still be given back."""
    settled = payment.amount if row.posted is None else row.posted
    return settled - row.returned - row.returning


# --- recall ---------------------------------------------------------------------------------------


def recall(work: Work, index: int, checked: CheckedInstruction, body: Recall) -> None:
    """Note that the debtor asks for a settled payment back, or reject it. Moves nothing."""
    row = original_row(work, body.original)
    reason: str | None = None
    if row is None:
        reason = UNKNOWN_REFERENCE
    elif checked.instruction.envelope.sender != body.original.debtor:
        reason = NOT_THE_PARTY
    elif row.recall == ASKED:
        reason = SAID_ALREADY
    elif returnable(row, body.original) <= 0:
        reason = OVER_AMOUNT
    else:
        _put(work, replace(row, recall=ASKED))
    work.note(index, reason)


def refuse_recall(work: Work, index: int, checked: CheckedInstruction, body: RefuseRecall) -> None:
    """Note that the creditor answers a recall with no, or reject it. The debtor may ask again."""
    row = original_row(work, body.original)
    reason: str | None = None
    if row is None:
        reason = UNKNOWN_REFERENCE
    elif checked.instruction.envelope.sender != body.original.creditor:
        reason = NOT_THE_PARTY
    elif row.recall != ASKED:
        reason = NOT_ASKED
    else:
        _put(work, replace(row, recall=REFUSED))
    work.note(index, reason)


# --- return ---------------------------------------------------------------------------------------


def give_back(work: Work, index: int, checked: CheckedInstruction, body: Return) -> None:
    """Settle, queue or reject a payment that gives back all or part of another one."""
    payment, original = body.payment, body.original
    origin = Origin(index, 0, payment, payment_digest(payment))
    sender = checked.instruction.envelope.sender
    if answered(work, sender, origin, work.standing(payment.uetr)):
        return
    row = original_row(work, original)
    reason = refusal(work, origin, returns=True) or _mismatch(payment, original, row)
    if reason is not None:
        reject(work, origin, reason)
        return
    assert row is not None
    if not settle_or_queue(work, [origin], original.uetr):
        return
    if work.uetrs[payment.uetr].status in FINAL_SETTLED:
        row = replace(row, returned=row.returned + payment.amount, recall=RETURNED)
    else:
        # Until it is decided; then `waiting.return_decided` settles the account.
        row = replace(row, returning=row.returning + payment.amount, recall=RETURNED)
    _put(work, row)


def _mismatch(payment: Payment, original: Payment, row: PaymentRecord | None) -> str | None:
    """Why a payment does not give back (part of) that original, whose row this is."""
    if row is None:
        return UNKNOWN_REFERENCE
    if payment.debtor != original.creditor:
        return NOT_THE_PARTY
    back = (payment.debtor_account, payment.creditor, payment.creditor_account, payment.asset)
    if back != (
        original.creditor_account,
        original.debtor,
        original.debtor_account,
        original.asset,
    ):
        return PARTIES_MISMATCH
    if payment.mode is not Mode.GROSS:
        return NO_NETTING
    return OVER_AMOUNT if payment.amount > returnable(row, original) else None


def _put(work: Work, row: PaymentRecord) -> None:
    work.put(PAYMENTS, PaymentKey(row.uetr), row)
