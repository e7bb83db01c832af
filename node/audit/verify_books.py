"""The part of a dossier that says what the payment did to the books: both accounts before and after
the block in which its money moved.

Balances are those of the whole block. Where nothing else happened in it, they differ by the amount.
"""

from __future__ import annotations

from node.audit.dossier import (
    AccountRow,
    Dossier,
    Netted,
)
from node.audit.fault import Absent, Fault, same
from node.audit.verify_changes import is_silent
from node.audit.verify_finality import BlocksByHeight, check_row
from node.audit.verify_order import Order, order_of, sender_of
from node.audit.wording import amount_text
from node.chain.encoding import encode
from node.chain.genesis import Genesis
from node.chain.records import AccountKey
from node.chain.statuses import FINAL_SETTLED
from node.chain.types import (
    AccountKind,
    CycleSettled,
    Issue,
    MoveOwn,
    Payment,
    Posted,
    Redeem,
)


def moved_at(dossier: Dossier) -> int | None:
    """Height of the block in which the payment's money moved; None: none did."""
    last, together = dossier.steps[-1].outcome, dossier.together
    if isinstance(together, Netted) and together.decided is not None:
        decided = together.decided.outcome
        return decided.height if isinstance(decided.event, CycleSettled) else None
    repeats = is_silent(dossier.steps[0].outcome)
    return last.height if last.status in FINAL_SETTLED and not repeats else None


def check_balances(dossier: Dossier, genesis: Genesis) -> str:
    """What the accounts held before and after the block in which the money moved."""
    shown = (dossier.debtor, dossier.creditor)
    height, order = moved_at(dossier), order_of(dossier)
    if height is None:
        meaning = "No money moved: no balance says anything of this payment."
        for name, balances in zip(("debtor", "creditor"), shown, strict=True):
            same(name, None, None if balances is None else "a balance", meaning)
        raise Absent("no money moved")
    block = BlocksByHeight(dossier).at(height, "debtor, creditor")
    told, alone = [], _moved_alone(dossier, height, block.header.outcomes_count)
    accounts = account_keys(order, sender_of(dossier))
    for name, sign, key, balances in zip(
        ("debtor", "creditor"), (-1, 1), accounts, shown, strict=True
    ):
        if key is None:
            found = None if balances is None else "a balance"
            same(name, None, found, "Such an order has no account of this side.")
            continue
        if balances is None:
            told.append(f"{name}'s account not shown")
            continue
        if block.parent is None:
            raise Fault(name, "the block below", None, "What was before stands in its state.")
        before = _balance(f"{name}.before", key, balances.before, block.parent.state_root)
        after = _balance(f"{name}.after", key, balances.after, block.header.state_root)
        if balances.after.record is None:
            meaning = "Money cannot have moved on an account that is not there."
            raise Fault(f"{name}.after", "an account", None, meaning)
        if alone is not None:
            meaning = "Nothing else happened in the block, and yet the balance is another."
            same(f"{name}.after.balance", before + sign * alone, after, meaning)
        change = " before, ".join(
            amount_text(balance, order.asset, genesis) for balance in (before, after)
        )
        told.append(f"{name}'s account {change} after")
    if dossier.debtor is None and dossier.creditor is None:
        raise Absent("what the accounts held before and after is not shown")
    return f"block {height}: {'; '.join(told)}"


def account_keys(order: Order, sender: str) -> tuple[AccountKey | None, AccountKey | None]:
    """Which account was debited, and which credited."""
    settlement = AccountKind.SETTLEMENT
    match order:
        case Payment():
            return (
                AccountKey(order.debtor, order.asset, order.debtor_account),
                AccountKey(order.creditor, order.asset, order.creditor_account),
            )
        case Issue():
            return None, AccountKey(order.creditor, order.asset, settlement)
        case Redeem():
            return AccountKey(sender, order.asset, settlement), None
        case MoveOwn():
            source = AccountKey(sender, order.asset, order.source)
            return source, AccountKey(sender, order.asset, order.target)


def _balance(where: str, key: AccountKey, row: AccountRow, root: bytes) -> int:
    """What a state has of an account: 0 if it is not there. Raises Fault."""
    record = None if row.record is None else encode(row.record)
    check_row(where, encode(key), record, row.proof, root)
    return 0 if row.record is None else row.record.balance


def _moved_alone(dossier: Dossier, height: int, outcomes: int) -> int | None:
    """How much moved, if nothing else happened in the block."""
    if outcomes != 1 or dossier.steps[-1].outcome.height != height:
        return None
    return moved_amount(dossier)


def moved_amount(dossier: Dossier) -> int | None:
    """Minor units that moved; None: none did."""
    if moved_at(dossier) is None:
        return None
    event = dossier.steps[-1].outcome.event
    return event.amount if isinstance(event, Posted) else order_of(dossier).amount
