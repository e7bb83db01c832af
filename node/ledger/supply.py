"""Issue and redeem: the only ways in which an asset's supply changes.

Currencies and securities alike: who issues is the asset's issuer, a security's its depository.
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import AssetRecord
from node.chain.types import MAX_AMOUNT, MAX_BALANCE, AccountKind, Issue, Redeem
from node.ledger.movements import body_digest
from node.ledger.reasons import (
    AMOUNT_TOO_LARGE,
    CLOSED_PARTICIPANT,
    DUPLICATE,
    FROZEN,
    INSUFFICIENT_FUNDS,
    NO_ACCESS_RIGHT,
    NOT_THE_ISSUER,
    SUPPLY_LIMIT,
    SUSPENDED,
    UNKNOWN_ACCOUNT,
    UNKNOWN_ASSET,
    UNKNOWN_CREDITOR,
    ZERO_AMOUNT,
)
from node.ledger.restriction import barred
from node.ledger.state import Participant
from node.ledger.work import Work

SETTLEMENT = int(AccountKind.SETTLEMENT)
MAX_SUPPLY = 2**62
"""Minor units of an asset outstanding at a time: half of what a balance can hold, so that credit
lines as large again overflow no account."""


def issue(work: Work, index: int, checked: CheckedInstruction, body: Issue) -> None:
    """Create money on a creditor's settlement account, if the sender is the asset's issuer."""
    content = body_digest(body)
    standing = work.standing(body.uetr)
    asset = work.asset(body.asset)
    sender = _sender(work, checked)
    reason = _authority(sender, asset)
    balance: int | None = None
    if reason is None and standing is not None:
        reason = None if standing.digest == content else DUPLICATE
    elif reason is None:
        reason = barred(sender.record) or _issue_refusal(work, asset, body)
        if reason is None:
            balance = _issue(work, body)
    work.record(
        index, body.uetr, content, reason=reason, standing=standing, creditor_balance=balance
    )


def _issue_refusal(work: Work, asset: AssetRecord | None, body: Issue) -> str | None:
    if asset is None:
        return UNKNOWN_ASSET
    if body.amount == 0:
        return ZERO_AMOUNT
    reason = _creditor_refusal(work.participant(body.creditor))
    if reason is not None:
        return reason
    book = work.book(body.asset, SETTLEMENT)
    if (book.load(body.creditor) or 0) + body.amount > MAX_BALANCE:
        return AMOUNT_TOO_LARGE
    outstanding = asset.issued - asset.redeemed
    # The total ever issued is a counter of its own.
    if outstanding + body.amount > MAX_SUPPLY or asset.issued + body.amount > MAX_AMOUNT:
        return SUPPLY_LIMIT
    return None


def _creditor_refusal(creditor: Participant | None) -> str | None:
    if creditor is None:
        return UNKNOWN_CREDITOR
    if not creditor.holds_accounts:
        return UNKNOWN_ACCOUNT
    record = creditor.record
    if record.closed:
        return CLOSED_PARTICIPANT
    if record.suspended:
        return SUSPENDED
    return FROZEN if record.credit_frozen else None


def _issue(work: Work, body: Issue) -> int:
    """The creditor's balance after."""
    asset = work.asset(body.asset)
    assert asset is not None
    book = work.book(body.asset, SETTLEMENT)
    balance = (book.load(body.creditor) or 0) + body.amount
    book.balances[body.creditor] = balance
    work.credited(body.creditor, body.asset, SETTLEMENT)
    work.put_asset(replace(asset, issued=asset.issued + body.amount))
    return balance


def redeem(work: Work, index: int, checked: CheckedInstruction, body: Redeem) -> None:
    """Destroy money on the settlement account of the sender, if it is the asset's issuer."""
    content = body_digest(body)
    standing = work.standing(body.uetr)
    asset = work.asset(body.asset)
    sender = _sender(work, checked)
    reason = _authority(sender, asset)
    balance: int | None = None
    if reason is None and standing is not None:
        reason = None if standing.digest == content else DUPLICATE
    elif reason is None:
        reason = barred(sender.record) or _redeem_refusal(work, asset, sender, body)
        if reason is None:
            balance = _redeem(work, sender.record.lei, body)
    work.record(index, body.uetr, content, reason=reason, standing=standing, debtor_balance=balance)


def _redeem_refusal(
    work: Work, asset: AssetRecord | None, sender: Participant, body: Redeem
) -> str | None:
    if sender.record.debit_frozen:
        return FROZEN
    if asset is None:
        return UNKNOWN_ASSET
    if body.amount == 0:
        return ZERO_AMOUNT
    if body.amount > MAX_BALANCE:
        return AMOUNT_TOO_LARGE
    available = work.book(body.asset, SETTLEMENT).available(sender.record.lei)
    return INSUFFICIENT_FUNDS if available < body.amount else None


def _redeem(work: Work, sender: str, body: Redeem) -> int:
    """The debtor's balance after."""
    asset = work.asset(body.asset)
    assert asset is not None
    book = work.book(body.asset, SETTLEMENT)
    balance = (book.load(sender) or 0) - body.amount
    book.balances[sender] = balance
    work.put_asset(replace(asset, redeemed=asset.redeemed + body.amount))
    return balance


def _sender(work: Work, checked: CheckedInstruction) -> Participant:
    sender = work.participant(checked.instruction.envelope.sender)
    assert sender is not None, "an unknown sender's instruction may not stand"
    return sender


def _authority(sender: Participant, asset: AssetRecord | None) -> str | None:
    if asset is not None and asset.issuer != sender.record.lei:
        return NOT_THE_ISSUER
    return None if sender.holds_accounts else NO_ACCESS_RIGHT
