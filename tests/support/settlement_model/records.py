"""The state records that follow from the model: what `state_root` must commit to."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from node.chain import records as r
from node.chain.encoding import encode
from node.chain.instruction import payment_digest
from node.chain.merkle import OUTCOME_LEAF, Frontier

from .book import (
    Book,
)
from .rows import (
    POSTED,
    Cycle,
    Leg,
    Member,
    SetAside,
    Tracked,
    Waiting,
)

Records = dict[bytes, msgspec.Struct]


def records(book: Book) -> Records:
    """State key → record, of everything but validators."""
    found: dict[msgspec.Struct, msgspec.Struct] = {}
    _parties(book, found)
    _payments(book, found)
    _credit(book, found)
    _nets(book, found)
    _rest(book, found)
    return {encode(key): record for key, record in found.items()}


def _parties(book: Book, found: dict[msgspec.Struct, msgspec.Struct]) -> None:
    parameters = book.next_parameters or book.parameters
    found[r.ParametersKey()] = r.ParametersRecord(
        parameters.window, parameters.threshold, parameters.readiness_ms, parameters.close_rule
    )
    for party in book.parties.values():
        found[r.ParticipantKey(party.lei)] = r.ParticipantRecord(
            party.lei,
            party.bic,
            party.name,
            party.roles,
            tuple(
                r.KeyRecord(key.public_key, key.valid_from, key.revoked_from)
                for key in sorted(party.keys, key=lambda key: key.public_key)
            ),
            party.threshold,
            party.approvals,
            party.sponsor,
            party.suspended,
            party.closed,
            party.debit_frozen,
            party.credit_frozen,
            party.fifo_bypass,
            party.sweeps,
        )
    for a in book.assets.values():
        found[r.AssetKey(a.code)] = r.AssetRecord(
            a.code, a.exponent, a.issuer, a.security, a.issued, a.redeemed
        )
    for account in book.accounts():
        found[r.AccountKey(account.party, account.asset, account.kind)] = r.AccountRecord(
            book.balance(account), book.reserved(account), book.line(account)
        )


def _live(each: Tracked) -> r.Live | None:
    place = each.place
    if isinstance(place, Waiting):
        return r.Queued(
            place.payments,
            place.priority,
            place.order,
            place.held,
            place.restricted,
            place.early,
            place.returns,
        )
    if isinstance(place, Member):
        return r.Grouped(place.leader)
    if isinstance(place, SetAside):
        return r.Reserved(place.payment, place.poster, place.hash_lock, place.expires)
    if isinstance(place, Leg):
        return r.Legged(place.payment, place.link)
    return None


def _payments(book: Book, found: dict[msgspec.Struct, msgspec.Struct]) -> None:
    rows = book.past | {uetr: book.payments[uetr] for uetr in book.kept}
    for uetr, each in rows.items():
        chain = bytes(32)
        later = [outcome for outcome in each.changes if outcome.height > each.first.height]
        for outcome in later:
            leaf = sha256(OUTCOME_LEAF + encode(outcome)).digest()
            chain = sha256(chain + leaf).digest()
        found[r.PaymentKey(uetr)] = r.PaymentRecord(
            uetr,
            each.content,
            each.first,
            each.since,
            len(later),
            chain,
            each.status,
            _live(each),
            each.returned,
            each.returning,
            each.recall,
            each.posted if each.status == POSTED else None,
        )


def _credit(book: Book, found: dict[msgspec.Struct, msgspec.Struct]) -> None:
    for account in {holder for holder, _ in book.limits}:
        own = sorted(
            (party, limit)
            for (holder, party), limit in book.limits.items()
            if holder == account and party is not None
        )
        everyone = book.limits.get((account, None))
        found[r.LimitsKey(account.party, account.asset)] = r.LimitsRecord(
            None
            if everyone is None
            else r.MultilateralLimit(everyone.amount, book.used(account, None)),
            tuple(
                r.BilateralLimit(party, limit.amount, book.used(account, party))
                for party, limit in own
            ),
        )
    for (security, currency), price in book.prices.items():
        found[r.PriceKey(security, currency)] = r.PriceRecord(price.price, price.lot, price.haircut)
    for (lei, currency, security), quantity in book.pledges.items():
        found[r.PledgeKey(lei, currency, security)] = r.PledgeRecord(quantity)
    for (lei, asset, date), loan in book.loans.items():
        found[r.LoanKey(lei, asset, date)] = r.LoanRecord(loan.amount, loan.height)
    for account, statement in book.statements.items():
        found[r.StatementKey(account.party, account.asset, account.kind)] = statement


def _nets(book: Book, found: dict[msgspec.Struct, msgspec.Struct]) -> None:
    for asset, netting in book.netting.items():
        found[r.NettingKey(asset)] = r.NettingRecord(
            netting.enabled, netting.funding_ms, netting.open_cycle
        )
    for (lei, asset), member in book.members.items():
        found[r.MemberKey(lei, asset)] = r.MemberRecord(
            member.cap, member.margin, member.contribution
        )
    for (asset, number), cycle in book.cycles.items():
        found[r.CycleKey(asset, number)] = _cycle(cycle)
        if cycle.status == "open":
            for lei in {p.debtor for p in cycle.payments} | {p.creditor for p in cycle.payments}:
                found[r.PositionKey(asset, lei)] = r.PositionRecord(
                    sum(p.amount for p in cycle.payments if p.debtor == lei),
                    sum(p.amount for p in cycle.payments if p.creditor == lei),
                )


def _cycle(cycle: Cycle) -> r.CycleRecord:
    tree = Frontier()
    for payment in cycle.payments:
        tree, _ = tree.append(payment_digest(payment))
    return r.CycleRecord(
        cycle.status,
        cycle.opened,
        len(cycle.payments),
        sum(each.amount for each in cycle.payments),
        tree.peaks,
        cycle.positions,
        cycle.reserved,
        cycle.until,
        cycle.decided,
    )


def _rest(book: Book, found: dict[msgspec.Struct, msgspec.Struct]) -> None:
    if (book.next_order, book.stirred) != (0, ()):
        found[r.LedgerKey()] = r.LedgerRecord(book.next_order, book.stirred)
    for id, link in book.links.items():
        found[r.LinkKey(id)] = r.LinkRecord(
            link.link.legs, link.link.expires, link.opened_by, link.signed, link.complete
        )
    for uetr, d in book.disputes.items():
        found[r.DisputeKey(uetr)] = r.DisputeRecord(
            d.debtor, d.creditor, d.opened_by, d.opened, d.reason, d.evidence, d.verdict
        )
    for (uetr, outcome), (by, block, height) in book.acknowledgements.items():
        found[r.AcknowledgementKey(uetr, outcome)] = r.AcknowledgementRecord(by, block, height)
    for content, (by, expires) in book.consents.items():
        found[r.ConsentKey(content)] = r.ConsentRecord(by, expires)
    for id, open_ in book.proposals.items():
        found[r.ProposalKey(id)] = r.ProposalRecord(
            id, open_.proposer, open_.changes, open_.expires, open_.approvals
        )
    if book.day is not None:
        found[r.DayKey()] = r.DayRecord(
            book.day.date,
            book.day.phase,
            book.day.waits_for,
            book.day.delays,
            book.day.closed_at,
        )
    for date, day in book.days.items():
        found[r.BusinessDayKey(date)] = day
    if book.since is not None:
        since = book.since
        found[r.UetrsKey()] = r.UetrsRecord(since.tree, since.after, since.time, len(since.named))
    for number, tree in book.trees.items():
        found[r.UetrTreeKey(number)] = r.UetrTreeRecord(
            *tree.after, *tree.through, tree.date, tree.count, tree.root
        )
    if (book.version, book.pending_rules) != (1, None):
        found[r.RulesKey()] = r.RulesRecord(book.version, book.pending_rules)
