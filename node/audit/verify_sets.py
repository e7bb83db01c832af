"""Payments that settled together, as one set: that the payment is in it, that the positions of all
accounts balance, and that what of it is in clear fits into them.

Resolutions and clearing cycles alike; a linked settlement shows all its legs by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from node.audit.dossier import Members, Place
from node.audit.fault import Fault, Missing, same
from node.audit.verify_finality import included
from node.chain.instruction import payment_digest
from node.chain.merkle import root
from node.chain.types import AccountPosition, Mode, NetPosition, Payment

Account = tuple[str, int]
"""(LEI, account kind)."""
Sides = dict[Account, tuple[int, int]]
"""(debits, credits) by account, minor units."""


def sides_of(listed: Sequence[tuple[Account, AccountPosition | NetPosition]], where: str) -> Sides:
    """Positions by account, which ascend and sum to zero. Raises Fault."""
    meaning = "Positions that do not balance make or destroy money."
    for one, other in pairwise(account for account, _ in listed):
        if one >= other:
            raise Fault(where, "each account once, ascending", other, meaning)
    total = sum(each.credits - each.debits for _, each in listed)
    same(where, "a sum of 0", f"a sum of {total}", meaning)
    return {account: (each.debits, each.credits) for account, each in listed}


def _accounts(payment: Payment) -> tuple[Account, Account]:
    """(debtor's, creditor's)."""
    return (
        (payment.debtor, int(payment.debtor_account)),
        (payment.creditor, int(payment.creditor_account)),
    )


def check_own(payment: Payment, sides: Mapping[Account, tuple[int, int]]) -> None:
    """That the payment fits into the positions of its own accounts. Raises Fault."""
    for account, which in zip(_accounts(payment), (0, 1), strict=True):
        found = sides.get(account, (0, 0))[which]
        if found < payment.amount:
            side = "credits" if which else "debits"
            meaning = "The positions cannot have this payment in them."
            raise Fault(
                f"together.positions of {account[0]}", f"{side} of {payment.amount}", found, meaning
            )


def check_members(
    place: Place | None, members: Members, payment: Payment, count: int, expected: bytes
) -> str:
    """That the payment is in the set of `count` payments with this root; how that is shown. Raises
    Fault, Missing."""
    own, meaning = payment_digest(payment), "The set that settled does not have this payment here."
    if place is not None:
        found = f"{len(members)} members" if members else None
        same("together.members", None, found, "Its place in the set is shown already.")
        included("together.place", own, place, size=count, root=expected, meaning=meaning)
        return f"it is payment {place.index} of the set"
    if not members:
        raise Missing("its place among the payments that settled together is not shown")
    same("together.members", count, len(members), "The set has another number of payments.")
    leaves = [each if isinstance(each, bytes) else payment_digest(each) for each in members]
    same("together.members", expected, root(leaves), "These are not the payments of the set.")
    same("together.members", 1, leaves.count(own), meaning)
    clear = sum(isinstance(each, Payment) for each in members)
    return f"all members shown, {clear} of them in clear"


def check_sums(members: Members, payment: Payment, sides: Sides) -> None:
    """That the positions can have the members that are in clear in them, and have nothing else if
    all are. Raises Fault."""
    clear = [each for each in members if isinstance(each, Payment)]
    if not clear:
        return
    sums: dict[Account, list[int]] = {}
    for number, each in enumerate(clear):
        meaning = "It cannot have settled together with this payment."
        where = f"together.members, clear {number}"
        same(f"{where}.asset", payment.asset, each.asset, meaning)
        same(f"{where}.mode", Mode(payment.mode).name, Mode(each.mode).name, meaning)
        for account, which in zip(_accounts(each), (0, 1), strict=True):
            sums.setdefault(account, [0, 0])[which] += each.amount
    fits: Callable[[int, int], bool] = _equal if len(clear) == len(members) else _at_most
    for account in sorted({*sums, *sides}):
        found, stated = sums.get(account, [0, 0]), sides.get(account, (0, 0))
        if not all(fits(one, other) for one, other in zip(found, stated, strict=True)):
            meaning = "The positions are not those of the payments."
            raise Fault(f"together.positions of {account[0]}", tuple(found), stated, meaning)


def _equal(found: int, stated: int) -> bool:
    return found == stated


def _at_most(found: int, stated: int) -> bool:
    return found <= stated
