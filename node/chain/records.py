"""What the authenticated state holds: one canonical record under one typed key.

`state_root` commits to exactly these, so an auditor can decode and check any of them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from consensus.messages import MAX_VALIDATORS, Vote
from node.chain.types import (
    AccountKind,
    AssetCode,
    Bytes16,
    Bytes32,
    Changes,
    CloseRule,
    LeiText,
    NetPosition,
    OutcomePlace,
    Payment,
    Phase,
    Priority,
    ReasonCode,
    Sweep,
    Unsigned,
    Validator,
    ValidatorName,
    Verdict,
    _Canonical,
)

ROLES = (
    "auditor",
    "depository",
    "direct-participant",
    "indirect-participant",
    "issuer",
    "operator",
    "payment-institution",
    "supervisor",
    "validator",
)
"""Roles of a participant."""
MAX_ROLES = 16
"""Of one participant: nothing small may fill the memory of whoever reads a record."""
ACCOUNT_ROLES = frozenset({"depository", "direct-participant", "issuer", "payment-institution"})
"""Roles that may hold settlement accounts."""


class ParametersKey(_Canonical, frozen=True, tag="parameters"):
    pass


class ParticipantKey(_Canonical, frozen=True, tag="participant"):
    lei: LeiText


class AssetKey(_Canonical, frozen=True, tag="asset"):
    code: AssetCode


class AccountKey(_Canonical, frozen=True, tag="account"):
    participant: LeiText
    asset: AssetCode
    kind: AccountKind


class EpochKey(_Canonical, frozen=True, tag="epoch"):
    pass


class ValidatorSetKey(_Canonical, frozen=True, tag="validator-set"):
    """Holds the `ValidatorSet` of this epoch, for ever: votes of any epoch can be judged."""

    epoch: Unsigned


class ValidatorKeyKey(_Canonical, frozen=True, tag="validator-key"):
    public_key: Bytes32


class ProposalKey(_Canonical, frozen=True, tag="proposal"):
    id: Bytes32


class EquivocationKey(_Canonical, frozen=True, tag="equivocation"):
    epoch: Unsigned
    view: Unsigned
    voter: Unsigned


class LedgerKey(_Canonical, frozen=True, tag="ledger"):
    pass


class DayKey(_Canonical, frozen=True, tag="day"):
    pass


class BusinessDayKey(_Canonical, frozen=True, tag="business-day"):
    """Holds the `BusinessDay`."""

    date: Unsigned


class PaymentKey(_Canonical, frozen=True, tag="payment"):
    uetr: Bytes16


class LimitsKey(_Canonical, frozen=True, tag="limits"):
    participant: LeiText
    asset: AssetCode


class PriceKey(_Canonical, frozen=True, tag="price"):
    security: AssetCode
    currency: AssetCode


class PledgeKey(_Canonical, frozen=True, tag="pledge"):
    participant: LeiText
    currency: AssetCode
    security: AssetCode


class LoanKey(_Canonical, frozen=True, tag="overnight-loan"):
    participant: LeiText
    asset: AssetCode
    date: Unsigned


class StatementKey(_Canonical, frozen=True, tag="statement"):
    """Holds the account's latest `Statement`."""

    participant: LeiText
    asset: AssetCode
    kind: AccountKind


class NettingKey(_Canonical, frozen=True, tag="netting"):
    asset: AssetCode


class MemberKey(_Canonical, frozen=True, tag="net-member"):
    participant: LeiText
    asset: AssetCode


class CycleKey(_Canonical, frozen=True, tag="cycle"):
    asset: AssetCode
    cycle: Unsigned


class PositionKey(_Canonical, frozen=True, tag="net-position"):
    """A participant's side of the asset's open cycle."""

    asset: AssetCode
    participant: LeiText


class LinkKey(_Canonical, frozen=True, tag="link"):
    id: Bytes32


class DisputeKey(_Canonical, frozen=True, tag="dispute"):
    uetr: Bytes16


class AcknowledgementKey(_Canonical, frozen=True, tag="acknowledgement"):
    uetr: Bytes16
    outcome: Bytes32


class ConsentKey(_Canonical, frozen=True, tag="consent"):
    payment: Bytes32


class RulesKey(_Canonical, frozen=True, tag="rules"):
    pass


class UetrsKey(_Canonical, frozen=True, tag="uetrs"):
    pass


class UetrTreeKey(_Canonical, frozen=True, tag="uetr-tree"):
    number: Unsigned


StateKey = (
    LedgerKey
    | DayKey
    | BusinessDayKey
    | PaymentKey
    | LimitsKey
    | PriceKey
    | PledgeKey
    | LoanKey
    | StatementKey
    | NettingKey
    | MemberKey
    | CycleKey
    | PositionKey
    | LinkKey
    | DisputeKey
    | AcknowledgementKey
    | ConsentKey
    | RulesKey
    | UetrsKey
    | UetrTreeKey
    | ParametersKey
    | ParticipantKey
    | AssetKey
    | AccountKey
    | EpochKey
    | ValidatorSetKey
    | ValidatorKeyKey
    | ProposalKey
    | EquivocationKey
)


class ParametersRecord(_Canonical, frozen=True, tag="parameters/3"):
    uetr_window_ms: Unsigned
    """How long a UETR stays used up after its terminal outcome (35 days by default)."""
    governance_threshold: Annotated[int, Meta(ge=1)]
    """How many distinct valid operator keys approve a proposal."""
    readiness_ms: Unsigned
    """How long an epoch waits for the last members of the next set to be ready."""
    close_rule: CloseRule
    """What becomes of queues at close of day."""


class KeyRecord(_Canonical, frozen=True):
    """A signing key of a participant, valid at heights valid_from ≤ h < revoked_from."""

    public_key: Bytes32
    valid_from: Unsigned
    revoked_from: Unsigned | None

    def is_valid(self, height: int) -> bool:
        """Whether the key may sign at this height."""
        return self.valid_from <= height and (
            self.revoked_from is None or height < self.revoked_from
        )


class ParticipantRecord(_Canonical, frozen=True, tag="participant/2"):
    lei: LeiText
    bic: Annotated[str, Meta(min_length=8, max_length=11)]
    name: Annotated[str, Meta(min_length=1, max_length=32)]
    """Short name, unique on the chain."""
    roles: Annotated[tuple[str, ...], Meta(max_length=MAX_ROLES)]
    """Sorted."""
    keys: tuple[KeyRecord, ...]
    """Ascending by public key."""
    threshold: Annotated[int, Meta(ge=1, le=32)]
    """How many distinct valid keys must sign an instruction."""
    approvals: Unsigned
    """Of an operator: how many of its keys count for one proposal (its share of the m of n)."""
    sponsor: LeiText | None
    """Of an indirect participant: who pays and queues for it."""
    suspended: bool
    closed: bool
    debit_frozen: bool
    credit_frozen: bool
    fifo_bypass: bool
    """A payment that can settle at entry passes waiting ones."""
    sweeps: tuple[Sweep, ...]
    """Ascending by asset."""


class AssetRecord(_Canonical, frozen=True, tag="asset/2"):
    code: AssetCode
    exponent: Annotated[int, Meta(ge=0, le=8)]
    """Decimal places of the minor unit (ISO 4217)."""
    issuer: LeiText
    security: bool
    """Issued by a depository under its ISIN; else a currency."""
    issued: Unsigned
    """Minor units issued since genesis; issued − redeemed = sum of all balances."""
    redeemed: Unsigned


class AccountRecord(_Canonical, frozen=True, tag="account/2"):
    """Available = balance − reserved + line."""

    balance: int
    """Minor units, signed 64-bit; negative: drawn intraday credit."""
    reserved: Unsigned
    """Set aside for reservations and for a closed cycle's net debit."""
    line: Unsigned
    """Intraday credit line; the balance's floor is −line."""


class LedgerRecord(_Canonical, frozen=True, tag="ledger/1"):
    """What the queue needs beyond its payments."""

    next_order: Unsigned
    """The order that the next queue entry gets."""
    stirred: tuple[AssetCode, ...]
    """Assets, ascending, in which the last block's resolution may have enabled more: the next
    block, which is due at once, looks again."""
    reached: tuple[Unsigned, Unsigned, bytes] | None = None
    """(time, kind, id) up to which the last block did what was due, if it could not do all: the
    next block, which is due at once, goes on."""
    expiring: tuple[Unsigned, Unsigned] | None = None
    """(height, instruction) of a close that lets the queues expire, until all that entered before
    it has."""
    caught_up: Unsigned | None = None
    """While `reached` says so: time of the last block after which nothing was left that was due,
    milliseconds. What time jumped over since, it jumped over."""


class DayRecord(_Canonical, frozen=True, tag="day/1"):
    """Where the operating day stands. Absent while no schedule ever was in force: always open."""

    date: Unsigned
    phase: Phase
    waits_for: Phase | None
    """A phase that block time jumped over; it begins by the operator's order."""
    delays: tuple[tuple[Phase, Unsigned], ...]
    """Phases put off until then, ascending."""
    closed_at: Unsigned
    """Height of the last close; 0: none yet."""


class Queued(_Canonical, frozen=True, tag="queued/1"):
    """An entry of its debtor's queue: one payment, or the first of those that settle only
    together."""

    payments: tuple[Payment, ...]
    priority: Priority
    order: Unsigned
    """Its place within the priority: ascending."""
    held: bool
    """By its debtor."""
    restricted: bool
    """A party is suspended or frozen."""
    early: bool
    """Its earliest time has not come."""
    returns: Bytes16 | None
    """UETR of the payment that it gives back."""


class Grouped(_Canonical, frozen=True, tag="grouped/1"):
    """A payment that is part of another one's queue entry."""

    leader: Bytes16


class Reserved(_Canonical, frozen=True, tag="reserved/1"):
    """An amount set aside."""

    payment: Payment
    poster: LeiText | None
    hash_lock: Bytes32 | None
    expires: Unsigned


class Legged(_Canonical, frozen=True, tag="legged/1"):
    """A leg that its debtor agreed to."""

    payment: Payment
    link: Bytes32


Live = Queued | Grouped | Reserved | Legged


class PaymentRecord(_Canonical, frozen=True, tag="payment-record/1"):
    """A payment that is not decided, or that changed after the block of its first outcome, or that
    others refer to. A payment without one never changed after its first outcome."""

    uetr: Bytes16
    content: Bytes32
    """Leaf hash of the payment."""
    first: OutcomePlace
    """Its first outcome."""
    since: Unsigned
    """Block time of its first outcome, milliseconds."""
    changes: Unsigned
    """Outcomes in later blocks than the first: those beside it stand in the same tree."""
    chain: Bytes32
    """Hash chain of those outcomes: c₀ = zeros, cᵢ = SHA-256(cᵢ₋₁ ‖ leaf hash of the outcome)."""
    status: str
    """Of its last outcome."""
    live: Live | None
    """None: decided."""
    returned: Unsigned
    """Minor units given back for good."""
    returning: Unsigned
    """Minor units in returns that wait."""
    recall: str | None
    """`asked`, `refused` or `returned`."""
    posted: Unsigned | None
    """Of a reservation that settled: how much of it. At most so much can be given back."""


class BilateralLimit(_Canonical, frozen=True):
    counterparty: LeiText
    limit: Unsigned
    used: int
    """Out − in towards it since the start of the day."""


class MultilateralLimit(_Canonical, frozen=True):
    limit: Unsigned
    used: int
    """Out − in towards all without a bilateral limit since the start of the day."""


class LimitsRecord(_Canonical, frozen=True, tag="limits/1"):
    """All limits of one settlement account."""

    multilateral: MultilateralLimit | None
    bilateral: tuple[BilateralLimit, ...]
    """Ascending by counterparty."""


class PriceRecord(_Canonical, frozen=True, tag="price/1"):
    price: Unsigned
    lot: Annotated[int, Meta(ge=1)]
    haircut: Unsigned
    """Basis points."""


class PledgeRecord(_Canonical, frozen=True, tag="pledge-record/1"):
    quantity: Unsigned


class LoanRecord(_Canonical, frozen=True, tag="loan-record/1"):
    amount: Unsigned
    height: Unsigned
    """Of the close that recorded it."""


class NettingRecord(_Canonical, frozen=True, tag="netting/1"):
    enabled: bool
    funding_ms: Unsigned
    open_cycle: Unsigned
    """Number of the cycle that payments join now."""


class MemberRecord(_Canonical, frozen=True, tag="net-member/1"):
    cap: Unsigned
    margin: Unsigned
    contribution: Unsigned


class CycleRecord(_Canonical, frozen=True, tag="cycle/1"):
    """A clearing cycle, kept for ever: its status is that of each of its payments."""

    status: str
    """`open`, `funding`, `unsettled`, `settled` or `unwound`."""
    opened: Unsigned
    """Block time of its first payment, milliseconds."""
    payments: Unsigned
    value: Unsigned
    """Sum of its payments, minor units."""
    frontier: tuple[Bytes32, ...]
    """Of the tree over the leaf hashes of its payments, in order of joining."""
    positions: tuple[NetPosition, ...]
    """From the close on, ascending by LEI."""
    reserved: tuple[tuple[LeiText, Unsigned], ...]
    """What short debtors' settlement accounts already set aside, ascending; only while undecided.
    """
    until: Unsigned | None
    """End of the funding window, milliseconds."""
    decided: Unsigned | None
    """Height of the block that settled or unwound it."""


class PositionRecord(_Canonical, frozen=True, tag="net-position/1"):
    debits: Unsigned
    credits: Unsigned


class LinkRecord(_Canonical, frozen=True, tag="open-link/1"):
    """A linked settlement that is not decided."""

    legs: tuple[Payment, ...]
    expires: Unsigned
    opened_by: LeiText
    signed: tuple[LeiText, ...]
    """Debtors that agreed, ascending."""
    complete: Unsigned | None
    """Its order among complete links; None: a debtor's agreement lacks."""


class DisputeRecord(_Canonical, frozen=True, tag="dispute/1"):
    debtor: LeiText
    creditor: LeiText
    opened_by: LeiText
    opened: Unsigned
    """Height."""
    reason: ReasonCode
    evidence: tuple[tuple[LeiText, Bytes32], ...]
    """In order of submission."""
    verdict: Verdict | None


class AcknowledgementRecord(_Canonical, frozen=True, tag="acknowledgement-record/1"):
    by: LeiText
    block: Bytes32
    height: Unsigned


class ConsentRecord(_Canonical, frozen=True, tag="consent-record/1"):
    by: LeiText
    expires: Unsigned


class RulesRecord(_Canonical, frozen=True, tag="rules/1"):
    version: Unsigned
    """Of the next block."""
    pending: tuple[Unsigned, Unsigned] | None
    """(version, height) approved for later."""


class UetrsRecord(_Canonical, frozen=True, tag="uetrs/1"):
    """The UETRs that no tree has yet (`uetr_tree`). Present once a schedule was in force."""

    next_tree: Unsigned
    """Number of the tree to come."""
    after: Unsigned
    """Height: it begins with the next block."""
    time: Unsigned
    """Timestamp of that height's block, milliseconds."""
    named: Unsigned
    """Outcomes since then that name a UETR; one may be named several times."""


class UetrTreeRecord(_Canonical, frozen=True, tag="uetr-tree/1"):
    """The UETRs that the outcomes of blocks `after` + 1 to `through` name. Kept for ever."""

    after: Unsigned
    after_time: Unsigned
    """Timestamp of the block at height `after`, milliseconds."""
    through: Unsigned
    through_time: Unsigned
    date: Unsigned
    """yyyymmdd of the business day that ended with it; 0: the day went on."""
    count: Unsigned
    """Different UETRs."""
    root: Bytes32
    """`uetr_tree.uetr_root`."""


class PendingEpoch(_Canonical, frozen=True):
    """The approved next epoch, whose members get ready for it."""

    members: Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=MAX_VALIDATORS)]
    """Those that are ready with the vote key they are ready with, the others with their last."""
    ready: tuple[ValidatorName, ...]
    """Names of the members that are ready, sorted."""
    deadline: Unsigned
    """Milliseconds since the Unix epoch. From this block time on a quorum of them is enough."""


class EpochRecord(_Canonical, frozen=True, tag="epoch/1"):
    epoch: Unsigned
    """The one that the next block belongs to."""
    pending: PendingEpoch | None


class ValidatorKeyRecord(_Canonical, frozen=True, tag="validator-key/1"):
    """A key that is, was or was to be a validator's. Never removed: no key serves twice."""

    public_key: Bytes32
    operator: LeiText
    role: str
    """`vote` or `node`."""


class ProposalRecord(_Canonical, frozen=True, tag="open-proposal/1"):
    """A proposal that still lacks approvals."""

    id: Bytes32
    """Digest of the envelope of its `Propose` instruction."""
    proposer: LeiText
    changes: Changes
    expires: Unsigned
    """Milliseconds since the Unix epoch."""
    approvals: tuple[Bytes32, ...]
    """Keys that approved it, ascending. Those valid when it is decided on count."""


class EquivocationRecord(_Canonical, frozen=True, tag="equivocation-record/1"):
    """Two votes by one key, checked when they were reported. Kept for ever."""

    first: Vote
    second: Vote
    height: Unsigned
    """Of the block that reported it."""
    reporter: LeiText
    """Operator of the node that did."""
