"""Issue, redeem, moves between own accounts, keys, intraday credit."""

from __future__ import annotations

from dataclasses import replace

from node.chain.encoding import INSTRUCTION, digest, encode
from node.chain.signature import ROLE_PARTICIPANT, BadKey, check_possession
from node.chain.types import (
    AccountKind,
    Issue,
    LineChanged,
    MarginCall,
    MoveOwn,
    OutcomePlace,
    Pledge,
    PostPrice,
    Redeem,
    RegisterKey,
    ReleaseCollateral,
    RevokeKey,
)

from .book import (
    Book,
)
from .rows import (
    LARGEST,
    REJECTED,
    SETTLED,
    SETTLEMENT,
    AccountId,
    Key,
    Price,
    Refused,
    Tracked,
)
from .telling import (
    WITHOUT_AUTHORITY,
    forget_past,
    repeat,
    speak,
    standing,
)

MAX_SUPPLY = 2**62
MAX_LINE = 2**50
COLLATERAL, CAPITAL = AccountKind.COLLATERAL, AccountKind.CAPITAL
MARGIN, FUND = AccountKind.MARGIN, AccountKind.FUND


def with_uetr(book: Book, index: int, sender: str, body: Issue | Redeem | MoveOwn) -> None:
    """A body that is its own payment: refused, repeated or carried out."""
    content = digest(INSTRUCTION, encode((sender, body) if isinstance(body, MoveOwn) else body))
    debtor = creditor = None
    status, reason = SETTLED, None
    found = standing(book, body.uetr)
    try:
        asset = book.assets.get(body.asset)
        if not isinstance(body, MoveOwn) and asset is not None and asset.issuer != sender:
            raise Refused("DS0G")
        if not book.parties[sender].holds_accounts():
            raise Refused("AG08")
        if found is not None:
            if found.content != content:
                raise Refused("AM05")
            repeat(book, index, 0, body.uetr, found)
            return
        if book.parties[sender].suspended:
            raise Refused("AG01")
        if book.parties[sender].closed:
            raise Refused("AC04")
        if isinstance(body, Issue):
            creditor = issue(book, body)
        elif isinstance(body, Redeem):
            debtor = redeem(book, sender, body)
        else:
            debtor, creditor = move_own(book, sender, body)
    except Refused as refused:
        status, reason = REJECTED, refused.reason
    speak(book, (index, 0), body.uetr, status, reason, debtor=debtor, creditor=creditor)
    if found is None and reason not in WITHOUT_AUTHORITY:
        forget_past(book, body.uetr)
        book.payments[body.uetr] = Tracked(
            content,
            None,
            OutcomePlace(book.height, index, 0),
            book.time,
            status,
            reason,
            book.time,
        )


def issue(book: Book, body: Issue) -> int:
    """The creditor's balance after."""
    if body.asset not in book.assets:
        raise Refused("AM03")
    if body.amount == 0:
        raise Refused("AM01")
    creditor = book.parties.get(body.creditor)
    if creditor is None:
        raise Refused("CNOR")
    if not creditor.holds_accounts():
        raise Refused("AC03")
    if creditor.closed:
        raise Refused("AC04")
    if creditor.suspended:
        raise Refused("AG01")
    if creditor.credit_frozen:
        raise Refused("AC06")
    account = AccountId(body.creditor, body.asset, SETTLEMENT)
    if book.balance(account) + body.amount > LARGEST:
        raise Refused("AM02")
    asset = book.assets[body.asset]
    outstanding = asset.issued - asset.redeemed + body.amount
    if outstanding > MAX_SUPPLY or asset.issued + body.amount >= 2**64:
        raise Refused("AM13")
    book.move(None, account, body.amount)
    book.assets[body.asset] = replace(asset, issued=asset.issued + body.amount)
    return book.balance(account)


def redeem(book: Book, sender: str, body: Redeem) -> int:
    """The issuer's balance after."""
    if book.parties[sender].debit_frozen:
        raise Refused("AC06")
    if body.asset not in book.assets:
        raise Refused("AM03")
    if body.amount == 0:
        raise Refused("AM01")
    if body.amount > LARGEST:
        raise Refused("AM02")
    account = AccountId(sender, body.asset, SETTLEMENT)
    if book.available(account) < body.amount:
        raise Refused("AM04")
    asset = book.assets[body.asset]
    book.move(account, None, body.amount)
    book.assets[body.asset] = replace(asset, redeemed=asset.redeemed + body.amount)
    return book.balance(account)


def move_own(book: Book, sender: str, body: MoveOwn) -> tuple[int, int]:
    """Both balances after."""
    party = book.parties[sender]
    if party.debit_frozen or party.credit_frozen:
        raise Refused("AC06")
    if body.asset not in book.assets:
        raise Refused("AM03")
    if book.assets[body.asset].security:
        raise Refused("FF05")
    if body.amount == 0:
        raise Refused("AM01")
    if body.amount > LARGEST:
        raise Refused("AM02")
    if body.source == body.target:
        raise Refused("AG12")
    _check_own_kinds(book, sender, body)
    source = AccountId(sender, body.asset, body.source)
    target = AccountId(sender, body.asset, body.target)
    if book.available(source) < body.amount:
        raise Refused("AM04")
    if body.source != SETTLEMENT:
        _check_bound(book, sender, body, book.available(source) - body.amount)
    if book.balance(target) + body.amount > LARGEST:
        raise Refused("AM02")
    book.move(source, target, body.amount)
    return book.balance(source), book.balance(target)


def _check_own_kinds(book: Book, sender: str, body: MoveOwn) -> None:
    """Margin and fund are for members of the net system, capital is for its operators."""
    kinds = (body.source, body.target)
    allowed = {SETTLEMENT, MARGIN, FUND} | ({CAPITAL} if book.operator(sender) else set())
    if not set(kinds) <= allowed:
        raise Refused("AC14")
    member = (sender, body.asset) in book.members
    for kind in kinds:
        if kind in (MARGIN, FUND) and not member:
            raise Refused("AG02")
        if kind == CAPITAL and body.asset not in book.netting:
            raise Refused("AG02")


def _check_bound(book: Book, sender: str, body: MoveOwn, left: int) -> None:
    """What secures a net system stays while it may be needed."""
    undecided = [
        cycle
        for (asset, _), cycle in book.cycles.items()
        if asset == body.asset and cycle.decided is None
    ]
    if any(sender in (p.debtor, p.creditor) for cycle in undecided for p in cycle.payments):
        raise Refused("ED06")
    if body.source == CAPITAL:
        if any(cycle.status != "open" for cycle in undecided):
            raise Refused("ED06")
        return
    member = book.members[sender, body.asset]
    if left < (member.margin if body.source == MARGIN else member.contribution):
        raise Refused("AM07")


# --- keys -----------------------------------------------------------------------------------------


def key_used(book: Book, public_key: bytes) -> bool:
    return public_key in book.other_keys or any(
        key.public_key == public_key for party in book.parties.values() for key in party.keys
    )


def proven(book: Book, public_key: bytes, lei: str, possession: bytes) -> bool:
    try:
        check_possession(public_key, ROLE_PARTICIPANT, lei, book.chain_id, possession)
    except BadKey:
        return False
    return True


def register_key(book: Book, index: int, sender: str, body: RegisterKey) -> None:
    keys = book.parties[sender].keys
    if len(keys) >= book.bounds.keys:
        raise Refused("DS0K")
    if key_used(book, body.public_key):
        raise Refused("DS15")
    if not proven(book, body.public_key, sender, body.possession):
        raise Refused("DS0D")
    book.change(sender, keys=(*keys, Key(body.public_key, book.height + 1)))
    book.say(index, SETTLED)


def revoke_key(book: Book, index: int, sender: str, body: RevokeKey) -> None:
    party = book.parties[sender]
    found = [key for key in party.keys if key.public_key == body.public_key]
    if not found:
        raise Refused("DS0E")
    if found[0].revoked_from is not None:
        raise Refused("DS0C")
    left = [k for k in party.keys if k is not found[0] and k.valid(book.height + 1)]
    if len(left) < party.threshold:
        raise Refused("DS0A")
    revoked = replace(found[0], revoked_from=book.height + 1)
    book.change(sender, keys=tuple(revoked if k is found[0] else k for k in party.keys))
    book.say(index, SETTLED)


# --- intraday credit ------------------------------------------------------------------------------


def _pair(book: Book, security: str, currency: str) -> None:
    for code, is_security in ((security, True), (currency, False)):
        if code not in book.assets:
            raise Refused("AM03")
        if book.assets[code].security != is_security:
            raise Refused("FF05")


def _move_collateral(book: Book, index: int, sender: str, security: str, quantity: int) -> None:
    """To the collateral account, or back if negative."""
    free = AccountId(sender, security, SETTLEMENT)
    pledged = AccountId(sender, security, COLLATERAL)
    source, into = (free, pledged) if quantity > 0 else (pledged, free)
    book.move(source, into, abs(quantity))
    debtor, creditor = book.balance(source), book.balance(into)
    book.say(index, SETTLED, debtor=debtor, creditor=creditor)


def _line_changed(book: Book, index: int, account: AccountId, before: int) -> None:
    """Say how a line changed, and call for margin if it is below what is drawn."""
    line = book.line(account)
    if line == before:
        return
    book.lined.add(account)
    book.say(index, SETTLED, event=LineChanged(account.party, account.asset, line))
    drawn = -book.balance(account)
    if drawn > line:
        book.say(index, SETTLED, event=MarginCall(account.party, account.asset, drawn, line))


def post_price(book: Book, index: int, sender: str, body: PostPrice) -> None:
    if not book.operator(sender):
        raise Refused("DS20")
    _pair(book, body.security, body.currency)
    holders = sorted(
        lei
        for lei, currency, security in book.pledges
        if (security, currency) == (body.security, body.currency)
    )
    accounts = [AccountId(lei, body.currency, SETTLEMENT) for lei in holders]
    before = [book.line(account) for account in accounts]
    book.prices[body.security, body.currency] = Price(body.price, body.lot, body.haircut)
    if any(book.line(account) > MAX_LINE for account in accounts):
        raise Refused("AM02")
    book.say(index, SETTLED)
    for account, line in zip(accounts, before, strict=True):
        _line_changed(book, index, account, line)


def pledge(book: Book, index: int, sender: str, body: Pledge) -> None:
    if not book.parties[sender].holds_accounts():
        raise Refused("AG08")
    if book.parties[sender].debit_frozen:
        raise Refused("AC06")
    _pair(book, body.security, body.currency)
    if body.quantity == 0:
        raise Refused("AM01")
    if (body.security, body.currency) not in book.prices:
        raise Refused("CURR")
    source = AccountId(sender, body.security, SETTLEMENT)
    if book.available(source) < body.quantity:
        raise Refused("AM04")
    account = AccountId(sender, body.currency, SETTLEMENT)
    before = book.line(account)
    key = sender, body.currency, body.security
    book.pledges[key] = book.pledges.get(key, 0) + body.quantity
    if book.line(account) > MAX_LINE:
        raise Refused("AM02")
    _move_collateral(book, index, sender, body.security, body.quantity)
    _line_changed(book, index, account, before)


def release_collateral(book: Book, index: int, sender: str, body: ReleaseCollateral) -> None:
    if not book.parties[sender].holds_accounts():
        raise Refused("AG08")
    if book.parties[sender].debit_frozen:
        raise Refused("AC06")
    _pair(book, body.security, body.currency)
    if body.quantity == 0:
        raise Refused("AM01")
    key = sender, body.currency, body.security
    if book.pledges.get(key, 0) < body.quantity:
        raise Refused("AM04")
    account = AccountId(sender, body.currency, SETTLEMENT)
    before = book.line(account)
    book.pledges[key] -= body.quantity
    if book.pledges[key] == 0:
        del book.pledges[key]
    if book.available(account) < 0:
        raise Refused("AM07")
    _move_collateral(book, index, sender, body.security, -body.quantity)
    _line_changed(book, index, account, before)
