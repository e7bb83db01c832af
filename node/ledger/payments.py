"""Payments at entry: settled at once, queued, taken into a clearing cycle, or rejected.

`pay` is the ledger's hot path: a gross payment of the plain kind (settlement accounts, no limits,
no queue, an open day) runs through one loop with neither a function call nor an object beyond its
outcome and its UETR entry. Whatever is not plain goes through `enter`, which knows all rules; the
loop only ever does what `enter` would have done.
"""

from __future__ import annotations

from node.chain.encoding import encode
from node.chain.instruction import CheckedInstruction
from node.chain.types import MAX_BALANCE, AccountKind, Mode, Outcome, Pay, Phase
from node.ledger import limits
from node.ledger.entries import UetrEntry
from node.ledger.entry import enter, owner_refusal, refusal, settle_or_queue
from node.ledger.lifecycle import Origin, reject, repeat, standing_status
from node.ledger.reasons import (
    DUPLICATE,
    FINAL_SETTLED,
    GROUP_FAILED,
    GROUP_MISMATCH,
    SETTLED,
)
from node.ledger.work import STIRRING, Book, Work

SETTLEMENT = int(AccountKind.SETTLEMENT)


def pay(work: Work, index: int, checked: CheckedInstruction, body: Pay) -> None:
    """Settle, queue or reject each payment of the instruction at `index` of the block."""
    sender = checked.instruction.envelope.sender
    payments = checked.instruction.payments
    if body.all_or_none:
        origins = [
            Origin(index, number, payment, content)
            for number, (payment, content) in enumerate(
                zip(payments, checked.payment_digests, strict=True)
            )
        ]
        _pay_all_or_none(work, sender, origins)
        return
    height, time = work.context.height, work.context.time
    finders, emit, uetrs = work.uetr_finders(), work.outcomes.append, work.uetrs
    name = work.named.append
    new = tuple.__new__
    asset: str | None = None
    book: Book | None = None
    balances: dict[str, int] = {}
    creditors: dict[str, int] = {}
    floor = 0
    for number, (payment, content) in enumerate(
        zip(payments, checked.payment_digests, strict=True)
    ):
        uetr, amount = payment.uetr, payment.amount
        standing = None
        for find in finders:
            standing = find(uetr)
            if standing is not None:
                if not work.stands(standing):
                    standing = None
                break
        if payment.asset != asset:
            asset = payment.asset
            book = _plain_book(work, sender, asset)
            creditors = work.creditors(asset)
            if book is not None:
                balances = book.balances
                reserved, line = book.holding(sender)
                floor = reserved - line
        creditor = payment.creditor
        if (
            book is not None
            and standing is None
            # A plain payment: what `enter` would find nothing to say about but the money.
            and not payment.mode
            and not payment.debtor_account
            and not payment.creditor_account
            and payment.earliest is None
            and (payment.latest is None or payment.latest >= time)
            and payment.debtor_indirect is None
            and payment.creditor_indirect is None
            and payment.previous is None
            and payment.debtor == sender
            and creditor != sender
        ):
            treatment = creditors.get(creditor)
            if treatment is None:
                treatment = work.creditor(creditor, asset)
            if treatment and 0 < amount <= MAX_BALANCE:
                left = balances[sender] - amount
                before = balances.get(creditor)
                if before is None:
                    before = book.load(creditor) or 0
                after = before + amount
                if left >= floor and after <= MAX_BALANCE:
                    balances[sender] = left
                    balances[creditor] = after
                    if treatment == STIRRING:
                        work.stir(asset)
                    emit(
                        encode(
                            Outcome(
                                height,
                                time,
                                index,
                                number,
                                uetr,
                                SETTLED,
                                None,
                                left,
                                after,
                                None,
                                None,
                                None,
                            )
                        )
                    )
                    name(uetr)
                    # As UetrEntry(…), without the call of its own that it would make.
                    uetrs[uetr] = new(
                        UetrEntry,
                        (uetr, content, time, height, index, number, SETTLED, None, height, None),
                    )
                    continue
        enter(work, sender, Origin(index, number, payment, content), standing)
        if not payment.mode:
            asset = None  # the account, its limits or its queue may have changed


def _plain_book(work: Work, sender: str, asset: str) -> Book | None:
    """The settlement accounts of an asset, if plain payments of the sender's may settle now by
    what they cost alone; None: `enter` has to look at each."""
    debtor = work.participant(sender)
    if debtor is None or not debtor.holds_accounts or not debtor.is_unrestricted:
        return None
    if work.is_behind:
        return None
    if work.phase not in (None, Phase.OPEN) or work.asset(asset) is None:
        return None
    if limits.has_limits(work, sender, asset):
        return None
    queue = work.queue((sender, asset, SETTLEMENT))
    if queue is not None and any(queue.lines):
        return None
    book = work.book(asset, SETTLEMENT)
    return None if book.load(sender) is None else book


# --- all or none ----------------------------------------------------------------------------------


def _pay_all_or_none(work: Work, sender: str, origins: list[Origin]) -> None:
    """One queue entry of all payments, or none of them.

    Payments that were sent before and settled do not keep the others from settling: they are where
    the sender wants them. Those that still wait are told how they stand, if all of them do."""
    fresh: list[Origin] = []
    fails = False
    again: dict[int, UetrEntry] = {}
    reasons: dict[int, str | None] = {}
    for origin in origins:
        standing = work.standing(origin.payment.uetr)
        reason = owner_refusal(work, sender, origin, standing)
        if reason is None and standing is not None:
            again[origin.number] = standing
        elif reason is None:
            reason = refusal(work, origin)
            fresh.append(origin)
        reasons[origin.number] = reason
        fails |= reason is not None
    statuses = [
        standing_status(work, each, origins[number].payment.asset)[0]
        for number, each in again.items()
    ]
    fails |= bool(fresh) and any(status not in FINAL_SETTLED for status in statuses)
    mismatch = not fails and not _agree(fresh)
    if not fails and not mismatch:
        for origin in origins:
            standing = again.get(origin.number)
            if standing is not None:
                status = standing_status(work, standing, origin.payment.asset)
                repeat(work, origin, standing, *status)
            elif origin is fresh[0]:
                settle_or_queue(work, fresh, None)
        return
    for origin in origins:
        standing = again.get(origin.number)
        if standing is not None:
            repeat(work, origin, standing, *standing_status(work, standing, origin.payment.asset))
        else:
            reason = reasons[origin.number]
            used = work.standing(origin.payment.uetr) if reason == DUPLICATE else None
            reject(work, origin, reason or (GROUP_MISMATCH if mismatch else GROUP_FAILED), used)


def _agree(origins: list[Origin]) -> bool:
    """Whether the payments can be one entry of the queue."""
    return (
        len(
            {
                (
                    p.debtor_account,
                    p.asset,
                    p.priority,
                    p.payment_class,
                    p.mode,
                    p.earliest,
                    p.latest,
                )
                for p in (origin.payment for origin in origins)
            }
        )
        <= 1
        and all(origin.payment.mode is Mode.GROSS for origin in origins)
        and sum(origin.payment.amount for origin in origins) <= MAX_BALANCE
    )
