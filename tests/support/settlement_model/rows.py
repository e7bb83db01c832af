"""The rows of the model's tables. They are replaced, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from node.chain.types import (
    AccountKind,
    Change,
    CloseRule,
    Link,
    NetPosition,
    Outcome,
    OutcomePlace,
    Payment,
    Phase,
    Priority,
    Sweep,
    Verdict,
)

LARGEST = 2**63 - 1
DAY_MS = 24 * 3600 * 1000
WEEK_MS = 7 * DAY_MS
MONTH_MS = 30 * DAY_MS

SETTLED, REJECTED, QUEUED, HELD = "ACSC", "RJCT", "PDNG", "BLCK"
ACCEPTED, RESERVED, POSTED, CANCELLED = "ACSP", "ACWP", "ACCC", "CANC"

SETTLEMENT = AccountKind.SETTLEMENT
ACCOUNT_ROLES = {"direct-participant", "issuer", "depository", "payment-institution"}


@dataclass(frozen=True)
class Bounds:
    """How much there may be of things. A test may make them small, so that they are met."""

    candidates: tuple[int, int] = (1_000, 10_000)
    """Entries of one queue that resolution looks at, by versions 1 and 2 of the rules."""
    queued: int = 100_000
    bilateral: int = 256
    open_links: int = 1_000
    evidence: int = 64
    consents: int = 10_000
    proposals: int = 8
    keys: int = 256
    named: int = 131_072
    """Outcomes with a UETR after which a tree is made."""


class Refused(Exception):
    """The instruction is rejected for this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AccountId(NamedTuple):
    party: str
    asset: str
    kind: AccountKind


@dataclass(frozen=True)
class Key:
    public_key: bytes
    valid_from: int
    revoked_from: int | None = None

    def valid(self, height: int) -> bool:
        return self.valid_from <= height and not (
            self.revoked_from is not None and self.revoked_from <= height
        )


@dataclass(frozen=True)
class Party:
    lei: str
    bic: str
    name: str
    roles: tuple[str, ...]
    keys: tuple[Key, ...]
    threshold: int
    approvals: int
    sponsor: str | None = None
    suspended: bool = False
    closed: bool = False
    debit_frozen: bool = False
    credit_frozen: bool = False
    fifo_bypass: bool = False
    sweeps: tuple[Sweep, ...] = ()

    def holds_accounts(self) -> bool:
        return any(role in ACCOUNT_ROLES for role in self.roles)


@dataclass(frozen=True)
class Asset:
    code: str
    exponent: int
    issuer: str
    security: bool
    issued: int = 0
    redeemed: int = 0


# --- where an undecided payment is ------------------------------------------------------------


@dataclass(frozen=True)
class Waiting:
    """A queue entry: one payment, or all of a group."""

    payments: tuple[Payment, ...]
    priority: Priority
    order: int
    held: bool = False
    restricted: bool = False
    early: bool = False
    returns: bytes | None = None


@dataclass(frozen=True)
class Member:
    """Part of another payment's queue entry."""

    leader: bytes


@dataclass(frozen=True)
class SetAside:
    """A reservation."""

    payment: Payment
    poster: str | None
    hash_lock: bytes | None
    expires: int


@dataclass(frozen=True)
class Leg:
    payment: Payment
    link: bytes


Place = Waiting | Member | SetAside | Leg


@dataclass(frozen=True)
class Tracked:
    """What became of a UETR."""

    content: bytes
    """Leaf hash of the payment, or digest of the body that moves money without one."""
    payment: Payment | None
    first: OutcomePlace
    since: int
    status: str
    reason: str | None
    time: int
    """Of its last outcome."""
    changes: tuple[Outcome, ...] = ()
    """In later blocks than the first."""
    place: Place | None = None
    cycle: int | None = None
    posted: int | None = None
    """What settled of a reservation."""
    returned: int = 0
    returning: int = 0
    recall: str | None = None


@dataclass(frozen=True)
class Flow:
    """Something that limits count: money from one settlement account to another party."""

    account: AccountId
    """Whose limits."""
    counterparty: str
    amount: int
    """Out positive, in negative."""
    bilateral: bool
    """Whether there was a bilateral limit for this counterparty then."""


@dataclass(frozen=True)
class Limit:
    amount: int
    since: int
    """How many flows there had been when it began to count."""


@dataclass(frozen=True)
class Price:
    price: int
    lot: int
    haircut: int


@dataclass(frozen=True)
class Loan:
    amount: int
    height: int


@dataclass(frozen=True)
class Netting:
    enabled: bool
    funding_ms: int
    open_cycle: int


@dataclass(frozen=True)
class Membership:
    cap: int
    margin: int
    contribution: int


@dataclass(frozen=True)
class Cycle:
    status: str
    opened: int
    payments: tuple[Payment, ...]
    positions: tuple[NetPosition, ...] = ()
    reserved: tuple[tuple[str, int], ...] = ()
    until: int | None = None
    decided: int | None = None


@dataclass(frozen=True)
class OpenLink:
    link: Link
    opened_by: str
    signed: tuple[str, ...]
    complete: int | None
    new: bool = False


@dataclass(frozen=True)
class Dispute:
    debtor: str
    creditor: str
    opened_by: str
    opened: int
    reason: str
    evidence: tuple[tuple[str, bytes], ...] = ()
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Day:
    date: int
    phase: Phase
    waits_for: Phase | None = None
    delays: tuple[tuple[Phase, int], ...] = ()
    closed_at: int = 0


@dataclass(frozen=True)
class Parameters:
    window: int
    threshold: int
    readiness_ms: int
    close_rule: CloseRule


@dataclass(frozen=True)
class Open:
    """An open proposal."""

    id: bytes
    proposer: str
    changes: tuple[Change, ...]
    expires: int
    approvals: tuple[bytes, ...]


# --- used UETRs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Since:
    """What outcomes named since the tree before."""

    tree: int
    """Number of the one to come."""
    after: int
    time: int
    named: tuple[bytes, ...]


@dataclass(frozen=True)
class UsedTree:
    after: tuple[int, int]
    """(height, time)."""
    through: tuple[int, int]
    date: int
    count: int
    root: bytes


def debit_account(payment: Payment) -> AccountId:
    return AccountId(payment.debtor, payment.asset, payment.debtor_account)


def credit_account(payment: Payment) -> AccountId:
    return AccountId(payment.creditor, payment.asset, payment.creditor_account)
