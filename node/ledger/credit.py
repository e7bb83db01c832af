"""Intraday credit: lines secured by pledged securities.

    line(participant, currency) = Σ over its pledges for that currency of
        floor(quantity · price · (10,000 − haircut) / (lot · 10,000))

Each term is rounded down on its own. The line stands in the account's record and is always this
sum: a pledge, a release and a new price change it by the difference of their own term.

A new price that leaves a line below what is drawn is a margin call and never refused: the value is
a fact. Nothing is sold and nothing queued is touched; the account just pays out nothing until it is
covered again.
"""

from __future__ import annotations

from node.chain.instruction import CheckedInstruction
from node.chain.records import LoanKey, LoanRecord, PledgeKey, PledgeRecord, PriceKey, PriceRecord
from node.chain.types import (
    AccountKind,
    LineChanged,
    MarginCall,
    OvernightLoan,
    Pledge,
    PostPrice,
    ReleaseCollateral,
)
from node.ledger.reasons import (
    AMOUNT_TOO_LARGE,
    COLLATERAL_IN_USE,
    FROZEN,
    INSUFFICIENT_FUNDS,
    NO_ACCESS_RIGHT,
    NO_PRICE,
    SETTLED,
    UNKNOWN_ASSET,
    WRONG_ASSET_TYPE,
    WRONG_ROLE,
    ZERO_AMOUNT,
)
from node.ledger.tables import LOANS, PLEDGES, PRICES
from node.ledger.work import Work

MAX_LINE = 2**50
"""Minor units, about 11 trillion of a currency with cents. Drawn lines add to the sum of what all
other accounts hold; this keeps it countable."""
UNIT = 10_000
"""Basis points of a whole."""
SETTLEMENT = int(AccountKind.SETTLEMENT)
COLLATERAL = int(AccountKind.COLLATERAL)
OPERATOR = "operator"


def value(quantity: int, price: PriceRecord) -> int:
    """What pledged securities are worth as collateral, minor units of the currency."""
    return quantity * price.price * (UNIT - price.haircut) // (price.lot * UNIT)


# --- prices ---------------------------------------------------------------------------------------


def post_price(work: Work, index: int, checked: CheckedInstruction, body: PostPrice) -> None:
    """Value a security, and with it every line that it secures, by LEI of their holders."""
    sender = work.participant(checked.instruction.envelope.sender)
    assert sender is not None, "an unknown sender's instruction may not stand"
    reason = None if OPERATOR in sender.record.roles else WRONG_ROLE
    reason = reason or _wrong_assets(work, body.security, body.currency)
    if reason is not None:
        work.note(index, reason)
        return
    key = PriceKey(body.security, body.currency)
    old, new = work.get(PRICES, key), PriceRecord(body.price, body.lot, body.haircut)
    lines: list[tuple[str, int]] = []
    for lei, quantity in _pledged(work, body.security, body.currency):
        assert old is not None, "nothing is pledged without a price"
        line = _line(work, lei, body.currency) - value(quantity, old) + value(quantity, new)
        if line > MAX_LINE:
            work.note(index, AMOUNT_TOO_LARGE)
            return
        lines.append((lei, line))
    work.put(PRICES, key, new)
    work.note(index, None)
    for lei, line in lines:
        _revalue(work, index, lei, body.currency, line)


def _revalue(work: Work, index: int, lei: str, currency: str, line: int) -> None:
    """Change a line and say so; below what is drawn, that is a margin call."""
    book = work.book(currency, SETTLEMENT)
    reserved, before = book.holding(lei)
    if line == before:
        return
    book.hold(lei, reserved, line)
    if line > before:
        work.credited(lei, currency, SETTLEMENT)
    work.emit(index, SETTLED, event=LineChanged(lei, currency, line))
    drawn = -(book.load(lei) or 0)
    if drawn > line:
        work.emit(index, SETTLED, event=MarginCall(lei, currency, drawn, line))


def _pledged(work: Work, security: str, currency: str) -> list[tuple[str, int]]:
    """(participant, quantity) of who pledged this for that, by LEI."""
    held = work.pledgers(security, currency)
    rows = ((lei, work.get(PLEDGES, PledgeKey(lei, currency, security))) for lei in sorted(held))
    return [(lei, row.quantity) for lei, row in rows if row is not None]


# --- pledges --------------------------------------------------------------------------------------


def pledge(work: Work, index: int, checked: CheckedInstruction, body: Pledge) -> None:
    """Move the sender's securities to its collateral account; its line grows by their value."""
    sender = checked.instruction.envelope.sender
    price = work.get(PRICES, PriceKey(body.security, body.currency))
    reason = _pledge_refusal(work, sender, body, price)
    if reason is None:
        assert price is not None
        held = _quantity(work, sender, body)
        line = _line(work, sender, body.currency)
        line += value(held + body.quantity, price) - value(held, price)
        if line > MAX_LINE:
            reason = AMOUNT_TOO_LARGE
        else:
            _move(work, index, sender, body, line=line, quantity=held + body.quantity)
    if reason is not None:
        work.note(index, reason)


def _pledge_refusal(work: Work, sender: str, body: Pledge, price: PriceRecord | None) -> str | None:
    reason = _wrong_order(work, sender, body)
    if reason is not None:
        return reason
    if price is None:
        return NO_PRICE
    if work.book(body.security, SETTLEMENT).available(sender) < body.quantity:
        return INSUFFICIENT_FUNDS
    return None


def release_collateral(
    work: Work, index: int, checked: CheckedInstruction, body: ReleaseCollateral
) -> None:
    """Move pledged securities back to the sender's settlement account, if what is drawn and set
    aside stays covered without them."""
    sender = checked.instruction.envelope.sender
    reason = _wrong_order(work, sender, body)
    held = 0 if reason is not None else _quantity(work, sender, body)
    if reason is None and held < body.quantity:
        reason = INSUFFICIENT_FUNDS
    if reason is not None:
        work.note(index, reason)
        return
    price = work.get(PRICES, PriceKey(body.security, body.currency))
    assert price is not None, "nothing is pledged without a price"
    old = _line(work, sender, body.currency)
    line = old + value(held - body.quantity, price) - value(held, price)
    if work.book(body.currency, SETTLEMENT).available(sender) - old + line < 0:
        work.note(index, COLLATERAL_IN_USE)
        return
    _move(work, index, sender, body, line=line, quantity=held - body.quantity)


def _wrong_order(work: Work, sender: str, body: Pledge | ReleaseCollateral) -> str | None:
    holder = work.participant(sender)
    assert holder is not None, "an unknown sender's instruction may not stand"
    if not holder.holds_accounts:
        return NO_ACCESS_RIGHT
    if holder.record.debit_frozen:
        return FROZEN
    return _wrong_assets(work, body.security, body.currency) or (
        ZERO_AMOUNT if body.quantity == 0 else None
    )


def _wrong_assets(work: Work, security: str, currency: str) -> str | None:
    for code, is_security in ((security, True), (currency, False)):
        asset = work.asset(code)
        if asset is None:
            return UNKNOWN_ASSET
        if asset.security is not is_security:
            return WRONG_ASSET_TYPE
    return None


def _move(
    work: Work,
    index: int,
    sender: str,
    body: Pledge | ReleaseCollateral,
    *,
    line: int,
    quantity: int,
) -> None:
    """Bring the pledge to `quantity` and the line to `line`."""
    settlement = work.book(body.security, SETTLEMENT)
    collateral = work.book(body.security, COLLATERAL)
    key = PledgeKey(sender, body.currency, body.security)
    grows = isinstance(body, Pledge)
    moved = body.quantity if grows else -body.quantity
    free = settlement.balances[sender] = (settlement.load(sender) or 0) - moved
    pledged = collateral.balances[sender] = (collateral.load(sender) or 0) + moved
    work.put(PLEDGES, key, PledgeRecord(quantity) if quantity else None)
    if grows:
        work.note_pledger(body.security, body.currency, sender)
    else:
        work.credited(sender, body.security, SETTLEMENT)
    work.emit(
        index,
        SETTLED,
        debtor_balance=free if grows else pledged,
        creditor_balance=pledged if grows else free,
    )
    _revalue(work, index, sender, body.currency, line)


def _quantity(work: Work, lei: str, body: Pledge | ReleaseCollateral) -> int:
    row = work.get(PLEDGES, PledgeKey(lei, body.currency, body.security))
    return 0 if row is None else row.quantity


def _line(work: Work, lei: str, currency: str) -> int:
    return work.book(currency, SETTLEMENT).holding(lei)[1]


# --- close of day ---------------------------------------------------------------------------------


def record_loans(work: Work, index: int | None, date: int) -> None:
    """Record every debit balance at the close of this date as an overnight loan. The balance stays
    as it is, and covered."""
    for lei, asset, kind in work.accounts():
        balance = work.book(asset, kind).load(lei) or 0
        if kind == SETTLEMENT and balance < 0:
            work.put(LOANS, LoanKey(lei, asset, date), LoanRecord(-balance, work.context.height))
            work.emit(index, SETTLED, event=OvernightLoan(lei, asset, date, -balance))
