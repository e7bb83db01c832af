"""What a block's outcomes tell, and that every order of the block has exactly one that is its own.

An instruction with payments has an outcome for each payment that it brings, at the payment's
number; refused as a whole, it has one rejection. An order that itself moves something has one
under its UETR. Any other instruction has what it brought about: one of its own, events, or later
outcomes of payments, which name their `content`. What the block itself did stands between.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from node.chain import types as t
from node.chain.carried import carried_payments
from node.chain.encoding import UNDECODABLE
from node.chain.instruction import ParsedInstruction
from node.chain.statuses import REJECTED
from node.chain.types import Outcome, Payment

_decoder = msgspec.msgpack.Decoder(list[Outcome])
_MOVEMENTS = (t.Issue, t.Redeem, t.MoveOwn)
"""Bodies that are a movement under a UETR of their own."""
_OF_PAYMENTS = (type(None), t.Joined, t.Together, t.Returns, t.Carried)
"""What the first outcome of a payment may tell beside its status."""


class BooksDisagree(Exception):
    """What a block tells does not follow from its orders: where, expected and found."""

    def __init__(self, where: str, expected: object, found: object) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.where = where
        self.expected = expected
        self.found = found


def decoded(outcomes: Sequence[bytes]) -> list[Outcome]:
    """A block's outcomes. Raises BooksDisagree."""
    joined = b"".join((b"\xdd", len(outcomes).to_bytes(4, "big"), *outcomes))
    try:
        return _decoder.decode(joined)
    except UNDECODABLE as error:
        raise BooksDisagree("outcomes", "canonical ones", error) from error


class _Orders:
    """What one instruction orders, and which of it has its outcome."""

    __slots__ = ("brings", "in_order", "others", "payments", "plain")

    def __init__(self, parsed: ParsedInstruction) -> None:
        body = parsed.instruction.envelope.body
        self.payments: tuple[Payment, ...] = parsed.instruction.payments
        self.brings: dict[int, bytes] = {}
        """Number → UETR, for bodies other than `Pay`."""
        if isinstance(body, _MOVEMENTS):
            self.brings = {0: body.uetr}
        elif not self.payments:
            self.brings = {each.number: each.payment.uetr for each in carried_payments(parsed)}
        self.in_order = 0
        """The first so many payments have their outcome …"""
        self.others: set[int] = set()
        """… and these."""
        self.plain = False
        """Whether the instruction has an outcome as a whole."""


class Told:
    """The orders of one block."""

    def __init__(self, instructions: Sequence[ParsedInstruction]) -> None:
        self._instructions = instructions
        self._orders: dict[int, _Orders] = {}

    def is_first(self, at: int, outcome: Outcome) -> bool:
        """Whether an outcome that some instruction brought about, and that is no later one of a
        payment, is that of an order; else it tells of an event. Raises BooksDisagree where it is
        neither, or that order has one already."""
        index = outcome.instruction
        assert index is not None
        orders = self._orders.get(index)
        if orders is None:
            orders = self._open(at, index)
        number, uetr = outcome.payment, outcome.uetr
        payments = orders.payments
        if uetr is None:
            return self._as_a_whole(at, outcome, orders)
        if payments:
            brought = payments[number].uetr if number < len(payments) else None
        else:
            brought = orders.brings.get(number)
        if brought != uetr:
            expected = "none" if brought is None else brought.hex()
            raise BooksDisagree(f"outcome {at}.uetr", expected, uetr.hex())
        if type(outcome.event) not in _OF_PAYMENTS:
            raise BooksDisagree(f"outcome {at}.event", "one of a payment", outcome.event)
        if number == orders.in_order and number not in orders.others:
            orders.in_order += 1
        elif number < orders.in_order or number in orders.others:
            raise BooksDisagree(
                f"outcome {at}", "no second one of an order", f"[{index}, {number}]"
            )
        else:
            orders.others.add(number)
        return True

    def _open(self, at: int, index: int) -> _Orders:
        if index >= len(self._instructions):
            expected = f"below {len(self._instructions)}"
            raise BooksDisagree(f"outcome {at}.instruction", expected, index)
        orders = self._orders[index] = _Orders(self._instructions[index])
        return orders

    def _as_a_whole(self, at: int, outcome: Outcome, orders: _Orders) -> bool:
        if outcome.event is not None:
            return False
        if (orders.payments or orders.brings) and outcome.status != REJECTED:
            raise BooksDisagree(f"outcome {at}.uetr", "that of a payment", "none")
        if orders.plain:
            found = f"[{outcome.instruction}, {outcome.payment}]"
            raise BooksDisagree(f"outcome {at}", "no second one of an order", found)
        orders.plain = True
        return True

    def complete(self) -> None:
        """Raise BooksDisagree unless every payment and every movement has its outcome."""
        for index in range(len(self._instructions)):
            orders = self._orders.get(index) or self._open(0, index)
            due = len(orders.payments) or len(orders.brings)
            told = orders.in_order + len(orders.others)
            if orders.plain and told:
                raise BooksDisagree(f"outcome of [{index}, 0]", "a rejection, or outcomes", "both")
            if due and not orders.plain and told != due:
                missing = next(
                    number
                    for number in (orders.brings or range(due))
                    if number not in orders.others and number >= orders.in_order
                )
                raise BooksDisagree(f"outcome of [{index}, {missing}]", "an outcome", "none")
