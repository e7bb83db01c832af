"""A participant moves money between its own accounts: settlement, margin, default fund, and an
operator's capital.

Margin and fund secure a net system. What its rules require stays on them, and a member takes
nothing out of either while a cycle that it is in is undecided: it might be the one that is short.
Nor does an operator take capital out while a closed cycle waits for money.
"""

from __future__ import annotations

from node.chain.instruction import CheckedInstruction
from node.chain.records import MemberKey, NettingKey, ParticipantRecord
from node.chain.types import MAX_BALANCE, AccountKind, MoveOwn
from node.ledger import netting
from node.ledger.cycles import OPERATOR
from node.ledger.movements import movement_digest
from node.ledger.reasons import (
    AMOUNT_TOO_LARGE,
    CLOSED_PARTICIPANT,
    COLLATERAL_IN_USE,
    CYCLE_STATE,
    DUPLICATE,
    FROZEN,
    INSUFFICIENT_FUNDS,
    NO_ACCESS_RIGHT,
    NO_NETTING,
    SAME_ACCOUNT,
    SUSPENDED,
    UNKNOWN_ASSET,
    WRONG_ACCOUNT_KIND,
    WRONG_ASSET_TYPE,
    ZERO_AMOUNT,
)
from node.ledger.tables import MEMBERS, NETTING
from node.ledger.work import Work

SECURING = (AccountKind.MARGIN, AccountKind.FUND)
"""Accounts that a member of a net system has for it."""


def move_own(work: Work, index: int, checked: CheckedInstruction, body: MoveOwn) -> None:
    """Move money between two accounts of the sender's. It never waits: it passes the sender's own
    queue, or is rejected."""
    sender = checked.instruction.envelope.sender
    content = movement_digest(sender, body)
    standing = work.standing(body.uetr)
    source = target = None
    reason: str | None = None
    if not work.may_hold(sender):
        reason = NO_ACCESS_RIGHT
    elif standing is not None:
        reason = None if standing.digest == content else DUPLICATE
    else:
        reason = _refusal(work, sender, body)
        if reason is None:
            source, target = _move(work, sender, body)
    work.record(
        index,
        body.uetr,
        content,
        reason=reason,
        standing=standing,
        debtor_balance=source,
        creditor_balance=target,
    )


def _refusal(work: Work, lei: str, body: MoveOwn) -> str | None:
    sender = work.participant(lei)
    assert sender is not None
    reason = (
        _restriction(sender.record)
        or _unsound(work, body)
        or _forbidden_kinds(work, sender.record, body)
    )
    if reason is not None:
        return reason
    available = work.book(body.asset, int(body.source)).available(lei)
    if available < body.amount:
        return INSUFFICIENT_FUNDS
    reason = _bound(work, lei, body, available - body.amount)
    if reason is not None:
        return reason
    held = work.book(body.asset, int(body.target)).load(lei) or 0
    return AMOUNT_TOO_LARGE if held + body.amount > MAX_BALANCE else None


def _restriction(record: ParticipantRecord) -> str | None:
    if record.suspended:
        return SUSPENDED
    # One account is debited and another credited: either freeze forbids it.
    if record.debit_frozen or record.credit_frozen:
        return FROZEN
    return CLOSED_PARTICIPANT if record.closed else None


def _unsound(work: Work, body: MoveOwn) -> str | None:
    asset = work.asset(body.asset)
    if asset is None:
        return UNKNOWN_ASSET
    if asset.security:
        return WRONG_ASSET_TYPE
    if body.amount == 0:
        return ZERO_AMOUNT
    if body.amount > MAX_BALANCE:
        return AMOUNT_TOO_LARGE
    return SAME_ACCOUNT if body.source is body.target else None


def _forbidden_kinds(work: Work, sender: ParticipantRecord, body: MoveOwn) -> str | None:
    """Why the sender may not have one of these accounts."""
    for kind in (body.source, body.target):
        if kind is AccountKind.SETTLEMENT or kind in SECURING:
            continue
        if kind is not AccountKind.CAPITAL or OPERATOR not in sender.roles:
            return WRONG_ACCOUNT_KIND
    for kind in (body.source, body.target):
        if kind in SECURING and work.get(MEMBERS, MemberKey(sender.lei, body.asset)) is None:
            return NO_NETTING
        if kind is AccountKind.CAPITAL and work.get(NETTING, NettingKey(body.asset)) is None:
            return NO_NETTING
    return None


def _bound(work: Work, lei: str, body: MoveOwn, left: int) -> str | None:
    """Why money that secures a net system has to stay where it is; `left`: what would be left."""
    if body.source is AccountKind.SETTLEMENT:
        return None
    if netting.is_bound(work, lei, body.asset):
        return CYCLE_STATE
    if body.source is AccountKind.CAPITAL:
        waiting = any(each.status != "open" for each in netting.undecided(work, body.asset))
        return CYCLE_STATE if waiting else None
    member = work.get(MEMBERS, MemberKey(lei, body.asset))
    assert member is not None
    least = member.margin if body.source is AccountKind.MARGIN else member.contribution
    return COLLATERAL_IN_USE if left < least else None


def _move(work: Work, lei: str, body: MoveOwn) -> tuple[int, int]:
    """Both balances after."""
    source = work.book(body.asset, int(body.source))
    target = work.book(body.asset, int(body.target))
    left = source.balances[lei] = (source.load(lei) or 0) - body.amount
    held = target.balances[lei] = (target.load(lei) or 0) + body.amount
    work.credited(lei, body.asset, int(body.target))
    return left, held
