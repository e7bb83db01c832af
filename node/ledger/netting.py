"""Deferred net settlement: who may join a clearing cycle, and who orders what becomes of it.

A net payment is accepted into the open cycle of its currency if its debtor's projected net debit
stays within its cap, and then only counted: it can no longer be changed, waits in no queue, and has
no row of its own. The cycle decides all its payments at once (`cycles`).
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import (
    CycleKey,
    CycleRecord,
    MemberKey,
    MemberRecord,
    NettingKey,
    NettingRecord,
    PositionKey,
)
from node.chain.types import (
    MAX_BALANCE,
    MAX_FUNDING_MS,
    CycleAction,
    Joined,
    OrderCycle,
    Payment,
    SetMember,
    SetNetting,
)
from node.ledger import cycles
from node.ledger.due import DueKind, cycle_age, cycle_id
from node.ledger.lifecycle import Origin, join, reject
from node.ledger.open_cycle import OpenCycle
from node.ledger.reasons import (
    AMOUNT_TOO_LARGE,
    BAD_EXPIRY,
    CAP_EXCEEDED,
    CLOSED_PARTICIPANT,
    CYCLE_STATE,
    EARLY,
    FROZEN,
    NO_NETTING,
    SUSPENDED,
    UNKNOWN_ACCOUNT,
    UNKNOWN_ASSET,
    UNKNOWN_PARTICIPANT,
    UNKNOWN_REFERENCE,
    WRONG_ACCOUNT_KIND,
    WRONG_ASSET_TYPE,
    WRONG_ROLE,
)
from node.ledger.tables import CYCLES, MEMBERS, NETTING, POSITIONS
from node.ledger.work import Work

FIRST_CYCLE = 1
"""Number of an asset's first cycle."""

top_up = cycles.top_up


def close_due(work: Work, asset: str) -> None:
    """The schedule closes the asset's open cycle."""
    cycles.close(work, asset, None)


def funding_due(work: Work, asset: str, cycle: int) -> None:
    """The funding window of a cycle is over."""
    cycles.end_funding(work, CycleKey(asset, cycle), None)


def too_old(work: Work, asset: str, cycle: int) -> None:
    """A cycle is still not decided when the UETRs of its payments are about to be forgotten."""
    cycles.too_old(work, CycleKey(asset, cycle))


# --- joining --------------------------------------------------------------------------------------


def join_cycle(work: Work, origin: Origin) -> bool:
    """Take a sound net payment into the open cycle of its asset; False: it is rejected."""
    payment = origin.payment
    cycle = work.open_cycles.get(payment.asset) or _open_cycle(work, payment.asset)
    reason = NO_NETTING if cycle is None else _joining_refusal(work, cycle, payment)
    if reason is not None:
        reject(work, origin, reason)
        return False
    assert cycle is not None
    cycle.add(payment.debtor, payment.creditor, payment.amount, origin.content)
    if cycle.payments == 1:
        age = cycle_age(cycle.opened, work.window)
        work.remind([(age, DueKind.CYCLE_AGE, cycle_id(cycle.asset, cycle.number))])
    join(work, origin, cycle.number, Joined(cycle.number))
    return True


def _open_cycle(work: Work, asset: str) -> OpenCycle | None:
    """The asset's open cycle for this block; None: it has no net system, or that takes nothing."""
    netting = work.get(NETTING, NettingKey(asset))
    if netting is None or not netting.enabled:
        return None
    number = netting.open_cycle
    record = work.get(CYCLES, CycleKey(asset, number))
    cycle = OpenCycle(asset, number, record, work, work.context.time)
    work.open_cycles[asset] = cycle
    return cycle


def _joining_refusal(work: Work, cycle: OpenCycle, payment: Payment) -> str | None:
    """Why a payment may not join; its parties and amount are known to be sound."""
    cap = _cap(work, cycle, payment.debtor)
    if cap is None or _cap(work, cycle, payment.creditor) is None:
        return NO_NETTING
    if payment.debtor_account or payment.creditor_account:
        return WRONG_ACCOUNT_KIND
    creditor = work.participant(payment.creditor)
    assert creditor is not None
    # It cannot be held until the restriction is lifted: a cycle holds nothing back.
    if creditor.record.suspended:
        return SUSPENDED
    if creditor.record.credit_frozen:
        return FROZEN
    if payment.earliest is not None and payment.earliest > work.context.time:
        return EARLY  # nobody knows when its cycle will settle
    if cycle.value + payment.amount > MAX_BALANCE:
        return AMOUNT_TOO_LARGE
    if cycle.net_debit(payment.debtor) + payment.amount > cap:
        return CAP_EXCEEDED
    return None


def _cap(work: Work, cycle: OpenCycle, lei: str) -> int | None:
    try:
        return cycle.caps[lei]
    except KeyError:
        member = work.get(MEMBERS, MemberKey(lei, cycle.asset))
        cap = cycle.caps[lei] = None if member is None else member.cap
        return cap


# --- orders ---------------------------------------------------------------------------------------


def order_cycle(work: Work, index: int, checked: CheckedInstruction, body: OrderCycle) -> None:
    """An operator closes the open cycle, or extends or unwinds one that could not be settled. What
    follows from it is the instruction's outcome, or several."""
    reason = _order_refusal(work, checked.instruction.envelope.sender, body)
    if reason is not None:
        work.note(index, reason)
        return
    match body.action:
        case CycleAction.CLOSE:
            cycles.close(work, body.asset, index)
        case CycleAction.EXTEND:
            assert body.until is not None
            cycles.wait(work, CycleKey(body.asset, body.cycle), body.until, index)
        case CycleAction.UNWIND:
            cycles.unwind(work, CycleKey(body.asset, body.cycle), index)


def _order_refusal(work: Work, sender: str, body: OrderCycle) -> str | None:
    operator = work.participant(sender)
    assert operator is not None, "an unknown sender's instruction may not stand"
    if cycles.OPERATOR not in operator.record.roles:
        return WRONG_ROLE
    cycle = work.get(CYCLES, CycleKey(body.asset, body.cycle))
    if cycle is None:
        return UNKNOWN_REFERENCE
    if (body.until is not None) != (body.action is CycleAction.EXTEND):
        return BAD_EXPIRY
    if cycle.status != ("open" if body.action is CycleAction.CLOSE else "unsettled"):
        return CYCLE_STATE
    now = work.context.time
    if body.until is not None and not now < body.until <= now + MAX_FUNDING_MS:
        return BAD_EXPIRY
    return None


# --- who is bound by a cycle ----------------------------------------------------------------------


def undecided(work: Work, asset: str) -> list[CycleRecord]:
    """The asset's cycles that are not decided, by number; the open one's sums may lack what this
    block added to them."""
    return [row for key, row in work.rows(CYCLES) if key.asset == asset and row.decided is None]


def is_bound(work: Work, lei: str, asset: str) -> bool:
    """Whether a participant is in a cycle of this asset that is not decided."""
    if work.get(POSITIONS, PositionKey(asset, lei)) is not None:
        return True
    return any(
        position.participant == lei
        for cycle in undecided(work, asset)
        for position in cycle.positions
    )


# --- governance -----------------------------------------------------------------------------------


def judge(work: Work, change: SetNetting | SetMember) -> str | None:
    """Why this change cannot be carried out now.

    A cap may fall below what its holder owes by now: then it pays nothing more into the cycle."""
    if isinstance(change, SetMember):
        return _member_refusal(work, change)
    reason = _asset_refusal(work, change.asset)
    if reason is None and not change.enabled and undecided(work, change.asset):
        return CYCLE_STATE
    return reason


def _member_refusal(work: Work, change: SetMember) -> str | None:
    found = work.participant(change.participant)
    if found is None:
        return UNKNOWN_PARTICIPANT
    if found.record.closed:
        return CLOSED_PARTICIPANT
    reason = _asset_refusal(work, change.asset)
    if reason is not None:
        return reason
    if work.get(NETTING, NettingKey(change.asset)) is None:
        return NO_NETTING
    return None if found.holds_accounts else UNKNOWN_ACCOUNT


def _asset_refusal(work: Work, code: str) -> str | None:
    asset = work.asset(code)
    if asset is None:
        return UNKNOWN_ASSET
    return WRONG_ASSET_TYPE if asset.security else None


def put(work: Work, change: SetNetting | SetMember) -> None:
    """Carry out a change that nothing speaks against (`judge`)."""
    form = work.open_cycles.get(change.asset)
    if isinstance(change, SetMember):
        row = MemberRecord(change.cap, change.margin, change.contribution)
        work.put(MEMBERS, MemberKey(change.participant, change.asset), row)
        if form is not None:
            form.caps.clear()
        return
    key = NettingKey(change.asset)
    before = work.get(NETTING, key) or NettingRecord(change.enabled, 0, FIRST_CYCLE)
    work.put(NETTING, key, replace(before, enabled=change.enabled, funding_ms=change.funding_ms))
    if form is not None and not change.enabled:
        assert not form.payments, "a net system with an undecided cycle is switched off"
        del work.open_cycles[change.asset]
