"""Gross settlement of a `Pay` instruction: every payment at once, settled or rejected.

First every payment is decided, in order, on the balances as the ones before it left them; then
the outcomes are recorded. With `all_or_none`, one that cannot settle takes back the moves of
the others in between. This is the ledger's hot path: thousands of payments in one instruction
run through two loops with neither a function call nor an object for each beyond its outcome.
"""

from __future__ import annotations

from node.chain.encoding import encode
from node.chain.instruction import CheckedInstruction
from node.chain.types import MAX_BALANCE, Outcome, OutcomePlace, Pay
from node.ledger.entries import UetrEntry
from node.ledger.reasons import (
    AMOUNT_TOO_LARGE,
    DUPLICATE,
    GROUP_FAILED,
    INSUFFICIENT_FUNDS,
    NO_ACCESS_RIGHT,
    NOT_OWN_ACCOUNT,
    REJECTED,
    SAME_ACCOUNT,
    SETTLED,
    SETTLEMENT_TIMEOUT,
    UNKNOWN_ACCOUNT,
    UNKNOWN_ASSET,
    UNKNOWN_CREDITOR,
    WITHOUT_AUTHORITY,
    ZERO_AMOUNT,
)
from node.ledger.work import Book, Undo, Work, take_back

Verdict = tuple[str | None, int | None, int | None, UetrEntry | None]
"""(reason, debtor's balance after, creditor's balance after, the outcome that uses up its UETR).

No reason and no such outcome: settles now. No reason but an outcome: a retry of the same
payment, which gets that outcome again. A reason: rejected, whether the UETR is fresh or not.
"""


def pay(work: Work, index: int, checked: CheckedInstruction, body: Pay) -> None:
    """Settle or reject each payment of the instruction at `index` of the block."""
    moves: Undo | None = [] if body.all_or_none else None
    verdicts = _decide(work, checked, moves)
    if moves is not None and any(_fails(verdict) for verdict in verdicts):
        take_back(moves)
        verdicts = [
            (GROUP_FAILED, None, None, None) if reason is None and standing is None else verdict
            for verdict in verdicts
            for reason, _, _, standing in (verdict,)
        ]
    _record(work, index, checked, verdicts)


def _fails(verdict: Verdict) -> bool:
    """Whether a payment keeps an all-or-none instruction from settling.

    A retry of one that has settled does not: it is where the sender wants it.
    """
    reason, _, _, standing = verdict
    return reason is not None or (standing is not None and standing.status != SETTLED)


def _decide(work: Work, checked: CheckedInstruction, moves: Undo | None) -> list[Verdict]:
    """Move the money of every payment that can settle; note each move in `moves`, if given."""
    sender = checked.instruction.envelope.sender
    no_access = None if work.may_hold(sender) else NO_ACCESS_RIGHT
    time = work.context.time
    finders = work.uetr_finders()
    asset: str | None = None
    book: Book | None = None
    verdicts: list[Verdict] = []
    decided = verdicts.append
    for payment, digest in zip(checked.instruction.payments, checked.payment_digests, strict=True):
        uetr = payment.uetr
        standing = None
        for find in finders:
            standing = find(uetr)
            if standing is not None:
                if not work.stands(standing):
                    standing = None
                break
        # Authority comes first: nobody learns or uses up anything about others' payments.
        if payment.debtor != sender:
            decided((NOT_OWN_ACCOUNT, None, None, standing))
            continue
        if no_access is not None:
            decided((no_access, None, None, standing))
            continue
        if standing is not None:
            same = standing.digest == digest
            decided((None if same else DUPLICATE, None, None, standing))
            continue
        if payment.asset != asset:
            asset = payment.asset
            book = (
                None if work.asset(asset) is None else work.book(asset, int(payment.debtor_account))
            )
        amount, creditor, latest = payment.amount, payment.creditor, payment.latest
        if book is None:
            reason = UNKNOWN_ASSET
        elif amount == 0:
            reason = ZERO_AMOUNT
        elif amount > MAX_BALANCE:
            reason = AMOUNT_TOO_LARGE
        elif latest is not None and latest < time:
            reason = SETTLEMENT_TIMEOUT
        elif creditor == sender:
            reason = SAME_ACCOUNT
        elif not (may_hold := work.may_hold(creditor)):
            reason = UNKNOWN_CREDITOR if may_hold is None else UNKNOWN_ACCOUNT
        else:
            balances = book.balances
            debtor_balance = balances.get(sender)
            if debtor_balance is None:
                debtor_balance = book.load(sender)
            before = balances.get(creditor)
            if before is None:
                before = book.load(creditor)
            creditor_balance = amount if before is None else before + amount
            if debtor_balance is None or debtor_balance < amount:
                reason = INSUFFICIENT_FUNDS
            elif creditor_balance > MAX_BALANCE:
                reason = AMOUNT_TOO_LARGE
            else:
                if moves is not None:
                    moves.append((balances, sender, debtor_balance))
                    moves.append((balances, creditor, before))
                debtor_balance -= amount
                balances[sender] = debtor_balance
                balances[creditor] = creditor_balance
                decided((None, debtor_balance, creditor_balance, None))
                continue
        decided((reason, None, None, None))
    return verdicts


def _record(work: Work, index: int, checked: CheckedInstruction, verdicts: list[Verdict]) -> None:
    """Record an outcome for every verdict, and what it says about the UETR."""
    height, time = work.context.height, work.context.time
    outcomes, uetrs = work.outcomes, work.uetrs
    decided = zip(checked.instruction.payments, checked.payment_digests, verdicts, strict=True)
    for number, (payment, digest, verdict) in enumerate(decided):
        reason, debtor_balance, creditor_balance, standing = verdict
        uetr = payment.uetr
        status = SETTLED if reason is None else REJECTED
        original = None
        if standing is None:
            if reason not in WITHOUT_AUTHORITY:
                uetrs[uetr] = UetrEntry(uetr, digest, time, height, index, number, status, reason)
        elif reason is None:
            status, reason = standing.status, standing.reason
            original = OutcomePlace(standing.height, standing.instruction, standing.payment)
        outcome = Outcome(
            height,
            time,
            index,
            number,
            uetr,
            status,
            reason,
            debtor_balance,
            creditor_balance,
            original,
        )
        outcomes.append(encode(outcome))
