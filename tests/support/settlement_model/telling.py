"""What is said about payments: what uses up a UETR, first outcomes and later ones."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from node.chain.instruction import payment_digest
from node.chain.types import (
    Carried,
    Event,
    Outcome,
    OutcomePlace,
    Payment,
)

from .book import (
    Book,
)
from .rows import (
    REJECTED,
    SETTLED,
    Place,
    Tracked,
)

WITHOUT_AUTHORITY = {"AG08", "DS0G", "DS0H"}


class Retry(Exception):
    """The UETR is used up by the same content."""

    def __init__(self, standing: Tracked) -> None:
        super().__init__()
        self.standing = standing


class Origin(NamedTuple):
    """A payment as an instruction carries it."""

    instruction: int
    number: int
    payment: Payment
    returns: bytes | None = None

    @property
    def content(self) -> bytes:
        return payment_digest(self.payment)


# --- UETRs and outcomes -------------------------------------------------------------------------


def standing(book: Book, uetr: bytes) -> Tracked | None:
    """What uses up this UETR now."""
    found = book.payments.get(uetr)
    if found is None or book.time > found.time + book.parameters.window:
        return None
    return found


def word(book: Book, tracked: Tracked) -> tuple[str, str | None]:
    """Status and reason now: a net payment's are its cycle's."""
    if tracked.cycle is not None:
        assert tracked.payment is not None
        cycle = book.cycles[tracked.payment.asset, tracked.cycle]
        if cycle.status == "settled":
            return SETTLED, None
        if cycle.status == "unwound":
            return REJECTED, "AB02"
    return tracked.status, tracked.reason


def speak(
    book: Book,
    place: tuple[int, int],
    uetr: bytes,
    status: str,
    reason: str | None,
    *,
    debtor: int | None = None,
    creditor: int | None = None,
    original: OutcomePlace | None = None,
    event: Event | None = None,
) -> None:
    """An outcome at the place of a payment: index of the instruction, and in it."""
    book.outcomes.append(
        Outcome(
            book.height,
            book.time,
            *place,
            uetr,
            status,
            reason,
            debtor,
            creditor,
            original,
            None,
            event,
        )
    )


def repeat(book: Book, instruction: int, number: int, uetr: bytes, found: Tracked) -> None:
    """Tell a retry what has become of the first."""
    speak(book, (instruction, number), uetr, *word(book, found), original=found.first)


def begin(
    book: Book,
    origin: Origin,
    status: str,
    reason: str | None = None,
    *,
    place: Place | None = None,
    cycle: int | None = None,
    debtor: int | None = None,
    creditor: int | None = None,
    event: Event | None = None,
) -> None:
    """The first outcome of a payment; it uses up the UETR, unless the sender had no authority or
    it is used up already."""
    payment = origin.payment
    if event is None and status != REJECTED and payment.previous is not None:
        event = Carried(payment.previous)
    speak(
        book,
        (origin.instruction, origin.number),
        payment.uetr,
        status,
        reason,
        debtor=debtor,
        creditor=creditor,
        event=event,
    )
    if reason in WITHOUT_AUTHORITY or standing(book, payment.uetr) is not None:
        return
    forget_past(book, payment.uetr)
    book.payments[payment.uetr] = Tracked(
        origin.content,
        payment,
        OutcomePlace(book.height, origin.instruction, origin.number),
        book.time,
        status,
        reason,
        book.time,
        place=place,
        cycle=cycle,
    )
    if place is not None:
        book.kept.add(payment.uetr)


def change(
    book: Book,
    uetr: bytes,
    status: str,
    reason: str | None = None,
    *,
    place: Place | None = None,
    instruction: int | None = None,
    debtor: int | None = None,
    creditor: int | None = None,
    event: Event | None = None,
    posted: int | None = None,
) -> None:
    """A later outcome of a payment."""
    found = book.payments[uetr]
    outcome = Outcome(
        book.height,
        book.time,
        instruction,
        found.first.payment,
        uetr,
        status,
        reason,
        debtor,
        creditor,
        found.first,
        found.content,
        event,
    )
    book.outcomes.append(outcome)
    later = found.first.height < book.height
    book.payments[uetr] = replace(
        found,
        status=status,
        reason=reason,
        time=book.time,
        changes=(*found.changes, outcome) if later else found.changes,
        place=place,
        posted=posted,
    )
    if not later and place is None and posted is None:
        book.kept.discard(uetr)


def forget_past(book: Book, uetr: bytes) -> None:
    """The UETR names another payment from now on; the record of the one before stays."""
    if uetr in book.kept:
        book.past[uetr] = book.payments[uetr]
        book.kept.discard(uetr)
