"""Restrictions, proposals, approvals, and each change they decide on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date as calendar_date
from typing import Any

from stdnum import lei as stdnum_lei

from node.chain.instruction import CheckedInstruction
from node.chain.isin import is_isin
from node.chain.records import ROLES
from node.chain.types import (
    MAX_SCHEDULE_DAYS,
    ActivateRules,
    AddAsset,
    AdmitParticipant,
    Approve,
    BusinessDay,
    Change,
    CloseParticipant,
    Freeze,
    LiftSuspension,
    Phase,
    Propose,
    ProvenKey,
    PublishSchedule,
    ReplaceKeys,
    RestrictionChanged,
    RulesActivated,
    SetMember,
    SetNetting,
    SetParameters,
    SuspendParticipant,
)

from .book import (
    Book,
)
from .queue import restrict
from .rows import (
    ACCOUNT_ROLES,
    DAY_MS,
    MONTH_MS,
    SETTLED,
    Asset,
    Key,
    Membership,
    Netting,
    Open,
    Party,
    Refused,
    SetAside,
)
from .supply import key_used, proven

MAX_AHEAD = 1_000_000


# --- restriction ----------------------------------------------------------------------------------


def freeze(book: Book, index: int, sender: str, body: Freeze) -> None:
    if not book.supervisor(sender):
        raise Refused("DS20")
    party = book.party(body.participant)
    if party.closed:
        raise Refused("AC04")
    if (party.debit_frozen, party.credit_frozen) == (body.debit, body.credit):
        raise Refused("DU05")
    book.change(party.lei, debit_frozen=body.debit, credit_frozen=body.credit)
    follow(book, index, party.lei)


def follow(book: Book, index: int, lei: str) -> None:
    """Tell a participant's new standing, and what it does to queued payments."""
    party = book.parties[lei]
    event = RestrictionChanged(lei, party.suspended, party.debit_frozen, party.credit_frozen)
    book.say(index, SETTLED, event=event)
    restrict(book, lei, index)


def suspend(book: Book, change: SuspendParticipant | LiftSuspension) -> None:
    party = book.party(change.lei)
    wanted = isinstance(change, SuspendParticipant)
    if party.closed:
        raise Refused("AC04")
    if party.suspended == wanted:
        raise Refused("DU05")
    book.change(party.lei, suspended=wanted)


# --- participants and assets ----------------------------------------------------------------------


def _check_keys(book: Book, keys: tuple[ProvenKey, ...]) -> None:
    named = [each.public_key for each in keys]
    if named != sorted(set(named)):
        raise Refused("FF03")
    if any(key_used(book, each) for each in named):
        raise Refused("DS15")


def admit(book: Book, change: AdmitParticipant) -> None:
    if not stdnum_lei.is_valid(change.lei):
        raise Refused("FF03")
    for party in book.parties.values():
        if {party.lei, party.bic, party.name} & {change.lei, change.bic, change.name}:
            raise Refused("DU01")
    roles = set(change.roles)
    if not roles or len(roles) < len(change.roles) or not roles <= set(ROLES):
        raise Refused("FF03")
    if (change.approvals > 0) != ("operator" in roles):
        raise Refused("FF03")
    if max(change.threshold, change.approvals) > len(change.keys):
        raise Refused("FF03")
    if (change.sponsor is not None) != ("indirect-participant" in roles):
        raise Refused("FF03")
    if change.sponsor is not None:
        if roles & ACCOUNT_ROLES:
            raise Refused("FF03")
        sponsor = book.party(change.sponsor)
        if "direct-participant" not in sponsor.roles or sponsor.suspended or sponsor.closed:
            raise Refused("FF03")
    _check_keys(book, change.keys)
    book.parties[change.lei] = Party(
        change.lei,
        change.bic,
        change.name,
        tuple(sorted(change.roles)),
        tuple(Key(each.public_key, book.height + 1) for each in change.keys),
        change.threshold,
        change.approvals,
        change.sponsor,
    )


def close(book: Book, change: CloseParticipant) -> None:
    party = book.party(change.lei)
    if party.closed:
        raise Refused("DU05")
    if _in_use(book, party.lei):
        raise Refused("AC05")
    revoked = tuple(
        replace(key, revoked_from=book.height + 1) if key.revoked_from is None else key
        for key in party.keys
    )
    book.change(party.lei, closed=True, keys=revoked)


def _in_use(book: Book, lei: str) -> bool:
    """Money, obligations, others that depend on it."""
    accounts = [each for each in book.accounts() if each.party == lei]
    return (
        lei in book.validators
        or any(asset.issuer == lei for asset in book.assets.values())
        or any(each.sponsor == lei and not each.closed for each in book.parties.values())
        or any(book.balance(each) or book.reserved(each) or book.line(each) for each in accounts)
        or any(holder == lei for holder, _, _ in book.pledges)
        or any(
            holder == lei and (terms.cap or terms.margin or terms.contribution)
            for (holder, _), terms in book.members.items()
        )
        or any(
            lei in (payment.debtor, payment.creditor)
            for cycle in book.cycles.values()
            if cycle.decided is None
            for payment in cycle.payments
        )
        or any(
            lei in (leg.debtor, leg.creditor)
            for link in book.links.values()
            for leg in link.link.legs
        )
        or any(
            lei in (each.payment.debtor, each.payment.creditor)
            for each in book.payments.values()
            if each.place is not None and each.payment is not None
        )
        or any(
            isinstance(each.place, SetAside) and each.place.poster == lei
            for each in book.payments.values()
        )
    )


def replace_keys(book: Book, change: ReplaceKeys) -> None:
    party = book.party(change.lei)
    if party.closed:
        raise Refused("AC04")
    effective = book.height + 1
    own = {key.public_key: key for key in party.keys}
    for public_key in change.revoke:
        if public_key not in own:
            raise Refused("DS0E")
        if own[public_key].revoked_from is not None:
            raise Refused("DS0C")
        own[public_key] = replace(own[public_key], revoked_from=effective)
    _check_keys(book, change.register)
    for each in change.register:
        own[each.public_key] = Key(each.public_key, effective)
    if len(own) > book.bounds.keys:
        raise Refused("DS0K")
    if sum(key.valid(effective) for key in own.values()) < change.threshold:
        raise Refused("DS0A")
    book.change(party.lei, keys=tuple(own.values()), threshold=change.threshold)


def add_asset(book: Book, change: AddAsset) -> None:
    if not change.code.isupper() or not change.code[0].isalpha():
        raise Refused("FF03")
    if change.code in book.assets:
        raise Refused("DU01")
    issuer = book.party(change.issuer)
    if issuer.closed:
        raise Refused("AC04")
    security = "depository" in issuer.roles
    if security and not is_isin(change.code):
        raise Refused("FF03")
    if not security and "issuer" not in issuer.roles:
        raise Refused("FF03")
    book.assets[change.code] = Asset(change.code, change.exponent, change.issuer, security)


def _currency(book: Book, code: str) -> None:
    if code not in book.assets:
        raise Refused("AM03")
    if book.assets[code].security:
        raise Refused("FF05")


def set_netting(book: Book, change: SetNetting) -> None:
    _currency(book, change.asset)
    if not change.enabled and any(
        asset == change.asset and cycle.decided is None for (asset, _), cycle in book.cycles.items()
    ):
        raise Refused("ED06")
    before = book.netting.get(change.asset)
    cycle = 1 if before is None else before.open_cycle
    book.netting[change.asset] = Netting(change.enabled, change.funding_ms, cycle)


def set_member(book: Book, change: SetMember) -> None:
    party = book.party(change.participant)
    if party.closed:
        raise Refused("AC04")
    _currency(book, change.asset)
    if change.asset not in book.netting:
        raise Refused("AG02")
    if not party.holds_accounts():
        raise Refused("AC03")
    book.members[party.lei, change.asset] = Membership(
        change.cap, change.margin, change.contribution
    )


def set_parameters(book: Book, change: SetParameters) -> None:
    book.next_parameters = replace(
        book.next_parameters or book.parameters,
        threshold=change.governance_threshold,
        readiness_ms=change.readiness_ms,
        close_rule=change.close_rule,
    )


def publish(book: Book, change: PublishSchedule) -> None:
    before: BusinessDay | None = None
    for day in change.days:
        _check_day(day, before)
        before = day
    for close_ in sorted({each.asset for day in change.days for each in day.closes}):
        _currency(book, close_)
    first = change.days[0]
    if first.begins[0] <= book.time:
        raise Refused("DT03")
    if book.day is not None and first.date <= book.day.date:
        raise Refused("DT03")
    standing = {date: day for date, day in book.days.items() if date < first.date}
    if standing:
        if len(standing) + len(change.days) > MAX_SCHEDULE_DAYS:
            raise Refused("AM21")
        last = standing[max(standing)]
        closed = last.begins[Phase.CLOSED]
        if book.day is not None and book.day.date == last.date:
            closed = dict(book.day.delays).get(Phase.CLOSED, closed)
        if not 0 <= first.begins[0] - max(closed, book.time) <= 14 * DAY_MS:
            raise Refused("DT03")
    book.days = standing | {day.date: day for day in change.days}
    if book.day is not None and book.day.phase == Phase.CLOSED and max(standing) == book.day.date:
        book.day = replace(book.day, waits_for=None)


def _check_day(day: BusinessDay, before: BusinessDay | None) -> None:
    try:
        calendar_date(day.date // 10_000, day.date // 100 % 100, day.date % 100)
    except ValueError:
        raise Refused("FF03") from None
    begins = list(day.begins)
    if begins != sorted(begins) or begins[0] == begins[-1]:
        raise Refused("DT03")
    closes = [(each.time, each.asset) for each in day.closes]
    if closes != sorted(set(closes)):
        raise Refused("FF03")
    if any(not begins[0] <= time <= begins[-1] for time, _ in closes):
        raise Refused("FF03")
    if before is not None:
        rest = begins[0] - before.begins[Phase.CLOSED]
        if day.date <= before.date or not 0 <= rest <= 14 * DAY_MS:
            raise Refused("DT03")


def activate(book: Book, change: ActivateRules) -> None:
    if change.version != book.version + 1 or book.pending_rules is not None:
        raise Refused("FF10")
    if not book.height < change.height <= book.height + MAX_AHEAD:
        raise Refused("FF10")
    book.pending_rules = (change.version, change.height)


def activate_due(book: Book) -> None:
    if book.pending_rules is not None and book.pending_rules[1] <= book.height:
        book.version = book.pending_rules[0]
        book.pending_rules = None
        book.say(None, SETTLED, event=RulesActivated(book.version))


PUT: dict[type, Callable[[Book, Any], None]] = {
    AdmitParticipant: admit,
    CloseParticipant: close,
    SuspendParticipant: suspend,
    LiftSuspension: suspend,
    ReplaceKeys: replace_keys,
    AddAsset: add_asset,
    SetNetting: set_netting,
    SetMember: set_member,
    SetParameters: set_parameters,
    PublishSchedule: publish,
    ActivateRules: activate,
}
POWER = (SetParameters, AdmitParticipant, CloseParticipant, SuspendParticipant, ReplaceKeys)
"""Changes that decide who can still govern."""


# --- proposals ------------------------------------------------------------------------------------


def carry_out(book: Book, index: int, changes: tuple[Change, ...]) -> None:
    """All changes, in order, with what follows from each."""
    for change in changes:
        PUT[type(change)](book, change)
        if isinstance(change, SuspendParticipant | LiftSuspension):
            follow(book, index, change.lei)


def judge(book: Book, changes: tuple[Change, ...]) -> None:
    """Refused if the changes could not be carried out now, or would end governance."""
    after = book.copy()
    for change in changes:
        PUT[type(change)](after, change)
    if any(isinstance(change, POWER) for change in changes):
        reachable = sum(
            min(each.approvals, sum(key.valid(book.height + 1) for key in each.keys))
            for each in after.parties.values()
            if "operator" in each.roles and not (each.suspended or each.closed)
        )
        if reachable < (after.next_parameters or after.parameters).threshold:
            raise Refused("FF03")


def check_possessions(book: Book, changes: tuple[Change, ...]) -> None:
    for change in changes:
        keys: tuple[ProvenKey, ...] = ()
        if isinstance(change, AdmitParticipant):
            keys = change.keys
        if isinstance(change, ReplaceKeys):
            keys = change.register
        for key in keys:
            assert isinstance(change, AdmitParticipant | ReplaceKeys)
            if not proven(book, key.public_key, change.lei, key.possession):
                raise Refused("DS0D")


def propose(
    book: Book, index: int, body: Propose, checked: CheckedInstruction, signing: set[bytes]
) -> None:
    sender, id = checked.instruction.envelope.sender, checked.digest
    if not book.operator(sender):
        raise Refused("DS19")
    if not book.time < body.expires <= book.time + MONTH_MS:
        raise Refused("DT01")
    still = {id: each for id, each in book.proposals.items() if each.expires >= book.time}
    if sum(each.proposer == sender for each in still.values()) >= book.bounds.proposals:
        raise Refused("AM21")
    judge(book, body.changes)
    check_possessions(book, body.changes)
    book.proposals = still
    approvals = tuple(sorted(signing))
    if count(book, approvals) >= book.parameters.threshold:
        book.say(index, SETTLED)
        carry_out(book, index, body.changes)
    else:
        book.proposals[id] = Open(id, sender, body.changes, body.expires, approvals)
        book.say(index, SETTLED)


def approve(book: Book, index: int, sender: str, body: Approve, signing: set[bytes]) -> None:
    if not book.operator(sender):
        raise Refused("DS19")
    proposal = book.proposals.get(body.proposal)
    if proposal is None:
        raise Refused("TD01")
    if proposal.expires < book.time:
        raise Refused("DS24")
    if signing <= set(proposal.approvals):
        raise Refused("DS26")
    approvals = tuple(sorted({*proposal.approvals, *signing}))
    if count(book, approvals) >= book.parameters.threshold:
        judge(book, proposal.changes)
        book.say(index, SETTLED)
        del book.proposals[body.proposal]
        carry_out(book, index, proposal.changes)
    else:
        book.say(index, SETTLED)
        book.proposals[body.proposal] = replace(proposal, approvals=approvals)


def count(book: Book, approvals: tuple[bytes, ...]) -> int:
    """Distinct keys valid now, of each operator at most as many as it has approvals."""
    total = 0
    for party in book.parties.values():
        if "operator" in party.roles and not (party.suspended or party.closed):
            valid = [k for k in party.keys if k.public_key in approvals and k.valid(book.height)]
            total += min(len(valid), party.approvals)
    return total
