"""The payments that an instruction brings onto the ledger, whichever body it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from node.chain.instruction import ParsedInstruction, payment_digest
from node.chain.types import Link, Pay, Payment, Reserve, Return


class CarriedPayment(NamedTuple):
    """A payment whose UETR its instruction takes up."""

    number: int
    """What outcomes call it (`Outcome.payment`): its place among the payments of a `Pay` or among
    all legs of a `Link`, else 0."""
    payment: Payment
    digest: bytes
    """Its leaf hash: equal for the same canonical payment."""


def carried_payments(parsed: ParsedInstruction) -> Iterator[CarriedPayment]:
    """The instruction's payments, ascending by number.

    Of a link those whose debtor is the sender: the other legs are brought by their own debtors.
    None for bodies without payments; `Issue`, `Redeem` and `MoveOwn` take up a UETR, but the body
    itself is what they move.
    """
    instruction = parsed.instruction
    body = instruction.envelope.body
    if isinstance(body, Pay):
        for number, payment in enumerate(instruction.payments):
            yield CarriedPayment(number, payment, parsed.payment_digests[number])
    elif isinstance(body, Link):
        for number, leg in enumerate(body.legs):
            if leg.debtor == instruction.envelope.sender:
                yield CarriedPayment(number, leg, payment_digest(leg))
    elif isinstance(body, Reserve | Return):
        yield CarriedPayment(0, body.payment, payment_digest(body.payment))


def carried_payment(parsed: ParsedInstruction, number: int) -> CarriedPayment | None:
    """The one that outcomes call so; None if the instruction has none."""
    instruction = parsed.instruction
    if instruction.payments:
        if number < len(instruction.payments):
            payment = instruction.payments[number]
            return CarriedPayment(number, payment, parsed.payment_digests[number])
        return None
    return next((each for each in carried_payments(parsed) if each.number == number), None)
