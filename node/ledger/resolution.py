"""Step 4 of a block: which queued payments settle together, asset by asset.

A resolution runs only in assets where something happened that may let a queued payment settle
(`Work.stir`). It looks at the first so many payments that wait at each account, finds the greatest
set of them that can settle (`gridlock`) and settles it, all at once. One pass: what it newly makes
possible is for the next block, which is then due at once. That can only be more of queues longer
than the bound, or a link that waited for money: the rest was looked at.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, islice
from operator import attrgetter
from typing import NamedTuple

from node.chain.encoding import RESOLUTION, digest, encode
from node.chain.merkle import root
from node.chain.types import MAX_BALANCE, AccountKind, AccountPosition, Resolved, Together
from node.ledger import limits
from node.ledger.gridlock import Account, Debtor, Resolution, resolve_queues
from node.ledger.lifecycle import settle_together
from node.ledger.queue import Entry
from node.ledger.reasons import SETTLED
from node.ledger.rules import candidates
from node.ledger.tables import LIMITS, LINKS
from node.ledger.waiting import return_decided
from node.ledger.work import Work

MAX_LOOKED_AT = 100_000
"""Payments that the resolutions of one block look at, shared evenly by assets and then by accounts,
at least one entry an account. What settles leaves an outcome each, and a block's outcomes have to
fit one answer to whoever fetches them."""
MAX_VALUE = 2**64 - 1
"""Minor units that an account may pay or be paid in one resolution: more could not be written down.
It is twice all the money there can be, but payments in a ring may come to more."""

KINDS = (int(AccountKind.SETTLEMENT), int(AccountKind.CLIENT_RESERVE))
"""Kinds of accounts between which payments go."""

_amount = attrgetter("amount")


class Waiting(NamedTuple):
    """What waits in an asset."""

    first: dict[Account, list[Entry]]
    """The first entries of every account where anything does, accounts ascending."""
    debtors: dict[Account, Debtor]
    """The same accounts, and those that only have limits."""
    truncated: bool
    """Whether some account has more."""


def resolve(work: Work) -> None:
    """Settle what can settle, in each stirred asset, in order of code."""
    stirred = sorted(work.stirred)
    again = [each for each in stirred if _resolve_asset(work, each, MAX_LOOKED_AT // len(stirred))]
    if again:
        work.put_stirred({*work.ledger_record.stirred, *again})


def _resolve_asset(work: Work, asset: str, share: int) -> bool:
    """Resolve the queues of one asset; whether the next block has to look again."""
    found = waiting(work, asset, share)
    if not found.first:
        return False
    work.resolutions += 1
    resolution = resolve_queues(found.debtors)
    settled = _settled(found, resolution)
    positions = _positions(resolution, settled)
    if any(max(each.debits, each.credits) > MAX_VALUE for each in positions):
        found = _worth_less(found)
        resolution = resolve_queues(found.debtors)
        settled = _settled(found, resolution)
        positions = _positions(resolution, settled)
    if not settled:
        return False
    _move(work, asset, resolution)
    contents = _record(work, asset, settled)
    work.emit(None, SETTLED, event=Resolved(asset, positions, len(contents), root(contents)))
    _count_returns(work, settled)
    return found.truncated or _link_waits(work, asset)


def waiting(work: Work, asset: str, share: int = MAX_LOOKED_AT) -> Waiting:
    """The candidates of an asset, of about `share` payments."""
    bound, phase = candidates(work), work.phase
    queues = {
        (lei, kind): queue
        for lei, kind in sorted(work.queued_in(asset))
        if (queue := work.queue((lei, asset, kind))) is not None
        and next(queue.waiting(phase), None) is not None
    }
    first: dict[Account, list[Entry]] = {}
    debtors: dict[Account, Debtor] = {}
    truncated = False
    for (lei, kind), queue in queues.items():
        entries = list(islice(queue.waiting(phase), bound + 1))
        kept = entries[:bound]
        if queue.payments > share // len(queues):
            kept = _as_many(kept, share // len(queues))
        truncated |= len(entries) > len(kept)
        first[lei, kind] = kept
        debtors[lei, kind] = Debtor(work.book(asset, kind).available(lei), kept)
    if first:
        for key, record in work.rows(LIMITS):
            if key.asset == asset:
                account = key.participant, limits.SETTLEMENT
                debtor = debtors.setdefault(account, Debtor(0, ()))
                debtor.room = limits.room_of(record)
    return Waiting(first, debtors, truncated)


def _as_many(entries: list[Entry], payments: int) -> list[Entry]:
    """The first entries that together have so many payments; at least one."""
    counts = accumulate(len(entry.credits) for entry in entries)
    return entries[: max(1, sum(1 for count in counts if count <= payments))]


def _value(entries: list[Entry]) -> int:
    return sum(map(_amount, entries))


def _worth_less(found: Waiting) -> Waiting:
    """Candidates of at most `MAX_VALUE` in all: of each account an even share, at least one entry;
    where that is still too much, those with the most stay out. So nobody keeps others from settling
    by queueing what nobody could ever pay."""
    share = MAX_VALUE // len(found.first)
    cut = {}
    for account, entries in found.first.items():
        sums = accumulate(map(_amount, entries))
        cut[account] = entries[: max(1, sum(1 for value in sums if value <= share))]
    left = MAX_VALUE
    for value, account in sorted((_value(entries), account) for account, entries in cut.items()):
        left -= value
        if left < 0:
            cut[account] = []
    debtors = {
        account: replace(debtor, candidates=cut.get(account, ()))
        for account, debtor in found.debtors.items()
    }
    return Waiting({account: kept for account, kept in cut.items() if kept}, debtors, True)


def _settled(found: Waiting, resolution: Resolution) -> dict[Account, list[Entry]]:
    """The entries that a resolution includes."""
    return {account: found.first[account][:count] for account, count in resolution.included.items()}


def _link_waits(work: Work, asset: str) -> bool:
    """Whether a complete linked settlement in this asset waits, for money that may be there now."""
    return any(
        link.complete is not None and any(leg.asset == asset for leg in link.legs)
        for _, link in work.rows(LINKS)
    )


def _move(work: Work, asset: str, resolution: Resolution) -> None:
    for (lei, kind), gained in resolution.gained.items():
        book = work.book(asset, kind)
        after = (book.load(lei) or 0) + gained
        assert after <= MAX_BALANCE, "supply is capped below what an account can hold"
        book.balances[lei] = after
    for (lei, _), used in resolution.used.items():
        limits.use(work, lei, asset, used)


def _positions(
    resolution: Resolution, settled: dict[Account, list[Entry]]
) -> tuple[AccountPosition, ...]:
    """What each account paid and was paid."""
    positions = []
    for account, gained in sorted(resolution.gained.items()):
        (lei, kind), debits = account, _value(settled.get(account, []))
        positions.append(AccountPosition(lei, AccountKind(kind), debits, debits + gained))
    return tuple(positions)


def _record(work: Work, asset: str, settled: dict[Account, list[Entry]]) -> list[bytes]:
    """Take what settled out of the queues and record its outcomes: by account, in queue order.
    Returns the leaf hashes of the payments, in that order."""
    balances = {kind: work.book(asset, kind).balances for kind in KINDS}
    changes: list[tuple[bytes, int, int]] = []
    for (lei, kind), entries in sorted(settled.items()):
        work.own_queue((lei, asset, kind)).remove_all([entry.uetr for entry in entries])
        balance = balances[kind][lei]
        for entry in entries:
            if len(entry.credits) == 1:
                [(creditor, creditor_kind, _)] = entry.credits
                changes.append((entry.uetr, balance, balances[creditor_kind][creditor]))
                continue
            paid = zip(entry.queued.payments, entry.credits, strict=True)
            changes += [
                (payment.uetr, balance, balances[creditor_kind][creditor])
                for payment, (creditor, creditor_kind, _) in paid
            ]
    return settle_together(work, changes, Together(digest(RESOLUTION, encode(asset))))


def _count_returns(work: Work, settled: dict[Account, list[Entry]]) -> None:
    """What was given back is given back for good."""
    for entries in settled.values():
        for entry in entries:
            if entry.queued.returns is not None:
                return_decided(work, entry.queued, settled=True)
