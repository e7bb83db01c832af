"""The documents of the API that tell of queues, credit, netting, links, days and statements.

Participants are told by LEI, and by short name in a field that ends in `name`. Amounts are decimal
strings, times milliseconds since the Unix epoch, business dates yyyymmdd as a number.
"""

from __future__ import annotations

from typing import Any

import msgspec

EventDocument = dict[str, Any]
"""What an outcome tells besides its status: `kind`, and the fields of that kind of event."""


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """Options shared by all documents."""


# --- queues and limits ----------------------------------------------------------------------------


class MemberView(_View, frozen=True, kw_only=True):
    """One payment of a queue entry."""

    uetr: str
    creditor: str
    creditor_name: str
    amount: str


class WaitingView(_View, frozen=True, kw_only=True):
    """An entry of a queue: one payment, or several that settle only together."""

    uetr: str
    """Of its first payment."""
    asset: str
    account: str
    """Kind of the debtor's account."""
    amount: str
    """Of all its payments."""
    priority: str
    payment_class: str
    status: str
    """`queued` or `held`."""
    reason: str
    """ISO 20022 reason for which it waits now."""
    because: str
    """The same as a sentence."""
    ahead: int
    """Entries of this account that stand before it and wait."""
    since: int
    """Block time at which it entered."""
    earliest: int | None
    latest: int | None
    returns: str | None
    """UETR of the payment that it gives back."""
    payments: int
    members: list[MemberView]
    """Its first payments, at most 100."""


class PositionView(_View, frozen=True, kw_only=True):
    """An account with what its queue and those of others would make of it."""

    participant: str
    """Short name."""
    lei: str
    asset: str
    account: str
    balance: str
    reserved: str
    line: str
    available: str
    """balance − reserved + line."""
    queued_out: str
    """All that it has queued, held payments too."""
    queued_in: str
    """All that others have queued for it."""
    projected: str
    """available − queued_out + queued_in; negative where even all that is queued does not cover."""
    waiting: int
    """Entries of its queue."""


class QueuePage(_View, frozen=True, kw_only=True):
    """A participant's queues, by asset and account, in the order in which they are tried."""

    height: int
    participant: str
    lei: str
    phase: str | None
    """Of the operating day."""
    positions: list[PositionView]
    """All its accounts that can queue, also those without entries."""
    entries: list[WaitingView]
    next: str | None


class LimitView(_View, frozen=True, kw_only=True):
    counterparty: str | None
    """LEI; null: towards all that have no limit of their own."""
    counterparty_name: str | None
    limit: str
    used: str
    """Paid out less received since the start of the day; negative where more came in."""
    left: str


class LimitsView(_View, frozen=True, kw_only=True):
    """The limits of one settlement account."""

    participant: str
    lei: str
    asset: str
    limits: list[LimitView]


class LimitsPage(_View, frozen=True, kw_only=True):
    height: int
    accounts: list[LimitsView]
    next: str | None


# --- credit ---------------------------------------------------------------------------------------


class PriceView(_View, frozen=True, kw_only=True):
    security: str
    currency: str
    price: str
    """In the currency, for `lot` of the security."""
    lot: str
    haircut: int
    """Basis points."""


class PricesPage(_View, frozen=True, kw_only=True):
    height: int
    prices: list[PriceView]
    next: str | None


class PledgeView(_View, frozen=True, kw_only=True):
    participant: str
    lei: str
    security: str
    currency: str
    quantity: str
    value: str | None
    """What it adds to the line, after the haircut; null where no price is posted."""


class PledgesPage(_View, frozen=True, kw_only=True):
    height: int
    pledges: list[PledgeView]
    next: str | None


class LoanView(_View, frozen=True, kw_only=True):
    """A debit balance at the close of a business day."""

    participant: str
    lei: str
    asset: str
    date: int
    amount: str
    height: int


class LoansPage(_View, frozen=True, kw_only=True):
    height: int
    loans: list[LoanView]
    next: str | None


# --- netting --------------------------------------------------------------------------------------


class NetPositionView(_View, frozen=True, kw_only=True):
    participant: str
    lei: str
    debits: str
    credits: str
    net: str
    """credits − debits."""


class ShortView(_View, frozen=True, kw_only=True):
    participant: str
    lei: str
    amount: str


class CycleView(_View, frozen=True, kw_only=True):
    """A clearing cycle; its status is that of each of its payments."""

    asset: str
    cycle: int
    status: str
    """`open`, `funding`, `unsettled`, `settled` or `unwound`."""
    opened: int
    payments: int
    value: str
    positions: list[NetPositionView]
    """Of an open one: as they stand now."""
    reserved: list[ShortView]
    """What short debtors have set aside."""
    until: int | None
    """End of the funding window."""
    decided: int | None
    """Height of the block that settled or unwound it."""
    result: EventDocument | None
    """What that block says of it: shortfalls, covers and survivors; null if this node does not
    hold that block."""


class CyclesPage(_View, frozen=True, kw_only=True):
    """The newest of an asset first."""

    height: int
    cycles: list[CycleView]
    next: str | None


class NetMemberView(_View, frozen=True, kw_only=True):
    participant: str
    lei: str
    cap: str
    margin: str
    contribution: str
    net: str
    """Its position in the open cycle, credits − debits."""
    left: str
    """How much more it may owe: cap + net."""


class NettingView(_View, frozen=True, kw_only=True):
    asset: str
    enabled: bool
    funding_ms: int
    open_cycle: int
    members: list[NetMemberView]


class NettingPage(_View, frozen=True, kw_only=True):
    height: int
    systems: list[NettingView]
    next: str | None


# --- links ----------------------------------------------------------------------------------------


class LegView(_View, frozen=True, kw_only=True):
    uetr: str
    debtor: str
    debtor_name: str
    creditor: str
    creditor_name: str
    asset: str
    amount: str
    signed: bool
    payment: str
    """Canonical bytes of the payment: what its debtor signs."""


class LinkView(_View, frozen=True, kw_only=True):
    """A linked settlement that is not decided."""

    id: str
    """Digest of all its legs and its expiry."""
    legs: list[LegView]
    expires: int
    opened_by: str
    opened_by_name: str
    missing: list[str]
    """Short names of the debtors that have not agreed."""
    complete: bool


class LinksPage(_View, frozen=True, kw_only=True):
    height: int
    links: list[LinkView]
    next: str | None


# --- the operating day ----------------------------------------------------------------------------


class PhaseView(_View, frozen=True, kw_only=True):
    phase: str
    begins: int
    """As published, or as it was put off."""
    delayed: bool


class DayView(_View, frozen=True, kw_only=True):
    height: int
    time: int
    """Block time."""
    date: int | None
    """Business date; null while no schedule ever was in force: always open."""
    phase: str | None
    waits_for: str | None
    """A phase that block time jumped over: the day waits for an operator."""
    phases: list[PhaseView]
    """Of this business day."""
    closed_at: int
    """Height of the last close; 0: none yet."""
    close_rule: str
    """What becomes of queues at close: `expire` or `roll-over`."""
    rules: int
    """Version of the rules for the next block."""
    pending_rules: int | None
    pending_height: int | None


class ScheduledCloseView(_View, frozen=True, kw_only=True):
    time: int
    asset: str


class ScheduledDayView(_View, frozen=True, kw_only=True):
    date: int
    phases: list[PhaseView]
    closes: list[ScheduledCloseView]
    """Of clearing cycles."""


class SchedulePage(_View, frozen=True, kw_only=True):
    height: int
    days: list[ScheduledDayView]
    next: str | None


# --- statements -----------------------------------------------------------------------------------


class MovementView(_View, frozen=True, kw_only=True):
    """One change of an account's balance."""

    height: int
    index: int
    """Position of its outcome in that block: with `height` it names the event."""
    time: int
    kind: str
    """`pay`, `issue`, `redeem`, `reserve`, `return`, `link`, `move`, `pledge`, `release`; `net`:
    the position in a clearing cycle; `moved`: by the ledger itself (sweep, step of a waterfall)."""
    uetr: str | None
    counterparty: str | None
    """LEI of the other side, where there is one."""
    amount: str
    """Positive: credited."""
    cycle: int | None = None


class AccountStatementView(_View, frozen=True, kw_only=True):
    """One account's business day: opening + credits − debits = closing, to the unit."""

    participant: str
    lei: str
    asset: str
    account: str
    date: int | None
    """Null: since the last close, not closed yet."""
    opening: str
    closing: str
    begins: str
    """height:index of the first outcome that it covers."""
    ends: str
    """height:index of the first one after it."""


class MovementsPage(_View, frozen=True, kw_only=True):
    """Movements of one account, in order. A page reads a bounded stretch of blocks, so it may be
    empty and still have a `next`."""

    movements: list[MovementView]
    next: str | None


class StatementsPage(_View, frozen=True, kw_only=True):
    """A participant's accounts on one business date."""

    height: int
    statements: list[AccountStatementView]
    next: str | None


# --- linked payments ------------------------------------------------------------------------------


class DocumentView(_View, frozen=True, kw_only=True):
    by: str
    by_name: str
    document: str
    """Digest, hex."""


class DisputeView(_View, frozen=True, kw_only=True):
    uetr: str
    debtor: str
    debtor_name: str
    creditor: str
    creditor_name: str
    opened_by: str
    opened_by_name: str
    opened: int
    """Height."""
    reason: str
    evidence: list[DocumentView]
    verdict: str | None
    """`upheld`, `dismissed`, or null while undecided."""


class DisputesPage(_View, frozen=True, kw_only=True):
    height: int
    disputes: list[DisputeView]
    next: str | None


class PartyView(_View, frozen=True, kw_only=True):
    """Somebody behind the debtor or the creditor, as the payment says."""

    role: str
    """`ultimate_debtor`, `debtor_agent`, `debtor_indirect` and the same of the creditor."""
    name: str


class TraceView(_View, frozen=True, kw_only=True):
    """A payment with all that follow from it."""

    uetr: str
    relation: str
    """To the one above: `source`, `carries-on` or `returns`."""
    known: bool
    """False: this node holds no outcome of it any more; then the rest is null."""
    kind: str | None = None
    status: str | None = None
    reason: str | None = None
    height: int | None = None
    debtor: str | None = None
    debtor_name: str | None = None
    creditor: str | None = None
    creditor_name: str | None = None
    currency: str | None = None
    amount: str | None = None
    returned: str | None = None
    """Given back for good."""
    recall: str | None = None
    """`asked`, `refused` or `returned`."""
    dispute: DisputeView | None = None
    settled_at: int | None = None
    """Block time of settlement; null if not settled."""
    parties: list[PartyView] = []
    """The ends behind the participants: ultimate and indirect parties, agents."""
    evidence: str | None = None
    """Where on this node its dossier is."""
    following: list[TraceView] = []


class TraceDocument(_View, frozen=True, kw_only=True):
    asked: str
    """The UETR asked for; somewhere in the tree."""
    source: TraceView
    payments: int
    """In the tree."""
    complete: bool
    """False: there are more than are told, or some are no longer held here."""


# --- supervision ----------------------------------------------------------------------------------


class ConsentView(_View, frozen=True, kw_only=True):
    payment: str
    """Leaf hash of the payment that is agreed to."""
    by: str
    by_name: str
    expires: int


class ConsentsPage(_View, frozen=True, kw_only=True):
    height: int
    consents: list[ConsentView]
    next: str | None
