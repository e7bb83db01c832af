"""Recalls, returns, disputes, acknowledgements and consents: what is said about payments."""

from __future__ import annotations

from dataclasses import replace

from node.chain.instruction import payment_digest
from node.chain.types import (
    Acknowledge,
    Consent,
    DecideDispute,
    Mode,
    OpenDispute,
    Payment,
    Recall,
    RefuseRecall,
    Return,
    SubmitEvidence,
)

from .book import (
    Book,
)
from .entry import (
    admit,
    check,
    check_room,
)
from .rows import (
    POSTED,
    REJECTED,
    SETTLED,
    WEEK_MS,
    Dispute,
    Refused,
    Tracked,
)
from .telling import (
    Origin,
    Retry,
    begin,
    repeat,
    standing,
    word,
)


def known(book: Book, payment: Payment) -> Tracked:
    """The payment shown in clear: one that uses up its UETR, or has a record of its own."""
    found = standing(book, payment.uetr)
    if found is None:
        kept = book.payments[payment.uetr] if payment.uetr in book.kept else None
        found = kept or book.past.get(payment.uetr)
    if found is None or found.content != payment_digest(payment):
        raise Refused("NOOR")
    return found


def original_of(book: Book, payment: Payment) -> Tracked:
    """The settled payment that is meant."""
    found = known(book, payment)
    if word(book, found)[0] not in (SETTLED, POSTED):
        raise Refused("NOOR")
    return found


def put(book: Book, uetr: bytes, row: Tracked) -> None:
    """From now on the payment has a record of its own."""
    if book.payments[uetr].first != row.first:
        book.past[uetr] = row
        return
    book.payments[uetr] = row
    book.kept.add(uetr)


def returnable(found: Tracked) -> int:
    """What of it could still be given back; of a reservation, of what was posted."""
    assert found.payment is not None
    amount = found.payment.amount if found.posted is None else found.posted
    return amount - found.returned - found.returning


def recall(book: Book, index: int, sender: str, body: Recall) -> None:
    found = original_of(book, body.original)
    if sender != body.original.debtor:
        raise Refused("DS0F")
    if found.recall == "asked":
        raise Refused("DU02")
    if returnable(found) <= 0:
        raise Refused("AM09")
    put(book, body.original.uetr, replace(found, recall="asked"))
    book.say(index, SETTLED)


def refuse_recall(book: Book, index: int, sender: str, body: RefuseRecall) -> None:
    found = original_of(book, body.original)
    if sender != body.original.creditor:
        raise Refused("DS0F")
    if found.recall != "asked":
        raise Refused("NOAS")
    put(book, body.original.uetr, replace(found, recall="refused"))
    book.say(index, SETTLED)


def give_back(book: Book, index: int, sender: str, body: Return) -> None:
    """A payment from the original's creditor to its debtor, of at most what is left."""
    payment, original = body.payment, body.original
    origin = Origin(index, 0, payment, returns=original.uetr)
    try:
        check(book, sender, payment, returns=True)
        found = original_of(book, original)
        if payment.debtor != original.creditor:
            raise Refused("DS0F")
        if (
            (payment.debtor_account, payment.creditor_account)
            != (original.creditor_account, original.debtor_account)
            or payment.creditor != original.debtor
            or payment.asset != original.asset
        ):
            raise Refused("BE01")
        if payment.mode != Mode.GROSS:
            raise Refused("AG02")
        if payment.amount > returnable(found):
            raise Refused("AM09")
        check_room(book, [payment])
    except Refused as refused:
        begin(book, origin, REJECTED, refused.reason)
    except Retry as retry:
        repeat(book, index, 0, payment.uetr, retry.standing)
    else:
        put(book, original.uetr, replace(found, recall="returned"))
        admit(book, [origin])


# --- disputes -------------------------------------------------------------------------------------


def open_dispute(book: Book, index: int, sender: str, body: OpenDispute) -> None:
    original_of(book, body.original)
    if sender not in (body.original.debtor, body.original.creditor):
        raise Refused("DS0F")
    if body.original.uetr in book.disputes:
        raise Refused("DU02")
    book.disputes[body.original.uetr] = Dispute(
        body.original.debtor, body.original.creditor, sender, book.height, body.reason
    )
    book.say(index, SETTLED)


def submit_evidence(book: Book, index: int, sender: str, body: SubmitEvidence) -> None:
    dispute = book.disputes.get(body.uetr)
    if dispute is None:
        raise Refused("NOAS")
    if sender not in (dispute.debtor, dispute.creditor):
        raise Refused("DS0F")
    if dispute.verdict is not None:
        raise Refused("NOAS")
    if (sender, body.document) in dispute.evidence:
        raise Refused("DU02")
    if len(dispute.evidence) >= book.bounds.evidence:
        raise Refused("AM21")
    evidence = (*dispute.evidence, (sender, body.document))
    book.disputes[body.uetr] = replace(dispute, evidence=evidence)
    book.say(index, SETTLED)


def decide_dispute(book: Book, index: int, sender: str, body: DecideDispute) -> None:
    if not (book.supervisor(sender) or book.operator(sender)):
        raise Refused("DS20")
    dispute = book.disputes.get(body.uetr)
    if dispute is None or dispute.verdict is not None:
        raise Refused("NOAS")
    if sender in (dispute.debtor, dispute.creditor):
        raise Refused("DS0F")
    book.disputes[body.uetr] = replace(dispute, verdict=body.verdict)
    book.say(index, SETTLED)


# --- acknowledgement and consent ------------------------------------------------------------------


def acknowledge(book: Book, index: int, sender: str, body: Acknowledge) -> None:
    payment = body.payment
    known(book, payment)
    if sender != payment.creditor:
        raise Refused("DS0F")
    if (payment.uetr, body.outcome) in book.acknowledgements:
        raise Refused("DU02")
    book.acknowledgements[payment.uetr, body.outcome] = (sender, body.block, book.height)
    book.say(index, SETTLED)


def consent(book: Book, index: int, sender: str, body: Consent) -> None:
    if not book.supervisor(sender):
        raise Refused("DS20")
    if not book.time < body.expires <= book.time + WEEK_MS:
        raise Refused("DT02")
    if body.payment in book.consents:
        raise Refused("DU02")
    if len(book.consents) >= book.bounds.consents:
        raise Refused("AM21")
    book.consents[body.payment] = (sender, body.expires)
    book.say(index, SETTLED)
