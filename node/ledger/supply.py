"""Issue and redeem: the only ways in which an asset's supply changes."""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import AssetRecord
from node.chain.types import MAX_AMOUNT, MAX_BALANCE, AccountKind, Issue, Redeem
from node.ledger.movements import body_digest
from node.ledger.reasons import (
    AMOUNT_TOO_LARGE,
    DUPLICATE,
    INSUFFICIENT_FUNDS,
    NO_ACCESS_RIGHT,
    NOT_THE_ISSUER,
    SUPPLY_LIMIT,
    UNKNOWN_ACCOUNT,
    UNKNOWN_ASSET,
    UNKNOWN_CREDITOR,
    ZERO_AMOUNT,
)
from node.ledger.work import Work


def issue(work: Work, index: int, checked: CheckedInstruction, body: Issue) -> None:
    """Create money on a creditor's settlement account, if the sender is the asset's issuer."""
    content = body_digest(body)
    standing = work.standing(body.uetr)
    asset = work.asset(body.asset)
    reason = _authority(work, checked, asset)
    balance: int | None = None
    if reason is None and standing is not None:
        reason = None if standing.digest == content else DUPLICATE
    elif reason is None:
        reason, balance = _issue(work, asset, body)
    work.record(
        index, body.uetr, content, reason=reason, standing=standing, creditor_balance=balance
    )


def _issue(work: Work, asset: AssetRecord | None, body: Issue) -> tuple[str | None, int | None]:
    """(reason, creditor's balance after)."""
    if asset is None:
        return UNKNOWN_ASSET, None
    if body.amount == 0:
        return ZERO_AMOUNT, None
    may_hold = work.may_hold(body.creditor)
    if not may_hold:
        return UNKNOWN_CREDITOR if may_hold is None else UNKNOWN_ACCOUNT, None
    book = work.book(body.asset, AccountKind.SETTLEMENT.value)
    balance = (book.load(body.creditor) or 0) + body.amount
    if balance > MAX_BALANCE:
        return AMOUNT_TOO_LARGE, None
    if asset.issued + body.amount > MAX_AMOUNT:
        return SUPPLY_LIMIT, None
    book.balances[body.creditor] = balance
    work.put_asset(replace(asset, issued=asset.issued + body.amount))
    return None, balance


def redeem(work: Work, index: int, checked: CheckedInstruction, body: Redeem) -> None:
    """Destroy money on the settlement account of the sender, if it is the asset's issuer."""
    content = body_digest(body)
    standing = work.standing(body.uetr)
    asset = work.asset(body.asset)
    reason = _authority(work, checked, asset)
    balance: int | None = None
    if reason is None and standing is not None:
        reason = None if standing.digest == content else DUPLICATE
    elif reason is None:
        reason, balance = _redeem(work, asset, checked.instruction.envelope.sender, body)
    work.record(index, body.uetr, content, reason=reason, standing=standing, debtor_balance=balance)


def _redeem(
    work: Work, asset: AssetRecord | None, sender: str, body: Redeem
) -> tuple[str | None, int | None]:
    """(reason, debtor's balance after)."""
    if asset is None:
        return UNKNOWN_ASSET, None
    if body.amount == 0:
        return ZERO_AMOUNT, None
    if body.amount > MAX_BALANCE:
        return AMOUNT_TOO_LARGE, None
    book = work.book(body.asset, AccountKind.SETTLEMENT.value)
    balance = (book.load(sender) or 0) - body.amount
    if balance < 0:
        return INSUFFICIENT_FUNDS, None
    book.balances[sender] = balance
    work.put_asset(replace(asset, redeemed=asset.redeemed + body.amount))
    return None, balance


def _authority(work: Work, checked: CheckedInstruction, asset: AssetRecord | None) -> str | None:
    sender = checked.instruction.envelope.sender
    if asset is not None and asset.issuer != sender:
        return NOT_THE_ISSUER
    return None if work.may_hold(sender) else NO_ACCESS_RIGHT
