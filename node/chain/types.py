"""The chain's signed and hashed types: instructions, payments, outcomes, headers, validators.

All are canonical MessagePack (see `encoding`). Identifiers are ASCII, text is NFC, amounts are
unsigned integers of minor units; MessagePack bounds every integer to 64 bits.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, NewType

import msgspec
from msgspec import Meta

from consensus.messages import MAX_VALIDATORS, Vote

Amount = NewType("Amount", int)
"""Minor units of an asset, 0 … 2⁶⁴−1."""
Lei = NewType("Lei", str)
"""Legal Entity Identifier, ISO 17442: 20 characters."""

MAX_PAYMENTS = 10_000
"""Payments in one instruction."""
MAX_SIGNATURES = 32
"""Signatures on one instruction."""
MAX_VALIDITY_MS = 7 * 24 * 3600 * 1000
"""How far ahead of a block's time an instruction's `valid_until` may lie."""
MAX_AMOUNT = 2**64 - 1
MAX_BALANCE = 2**63 - 1
"""Balances are signed 64-bit integers."""
MAX_CHANGES = 32
"""Changes in one proposal."""
MAX_LEGS = 16
"""Legs of one linked settlement."""
MAX_SWEEPS = 16
"""Assets swept at close of day for one participant."""
MAX_CYCLES_A_DAY = 96
"""Scheduled closes of clearing cycles in one business day, over all assets."""
MAX_SCHEDULE_DAYS = 400
"""Business days published at once."""
MAX_FUNDING_MS = 24 * 3600 * 1000
"""Longest funding window of a clearing cycle."""

Unsigned = Annotated[int, Meta(ge=0)]
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
LeiText = Annotated[str, Meta(min_length=20, max_length=20)]
AssetCode = Annotated[str, Meta(min_length=3, max_length=12)]
Amount64 = Annotated[int, Meta(ge=0, le=MAX_BALANCE)]
"""Minor units that an account can hold."""
BicText = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?\Z")]
ShortName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")]
RoleText = Annotated[str, Meta(pattern=r"\A[a-z][a-z-]{0,31}\Z")]
ReasonCode = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{4}\Z")]
"""ISO 20022 external reason code, as the sender states it."""
PartyText = Annotated[str, Meta(min_length=1, max_length=140)]
InstructionId = Annotated[str, Meta(min_length=1, max_length=35, pattern=r"\A[!-~]+\Z")]
ValidatorName = Annotated[
    str, Meta(min_length=1, max_length=32, pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z")
]
_HOST = r"(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
ADDRESS_PATTERN = rf"\A(?:{_HOST}:{_PORT})?\Z"
"""host:port or nothing. As narrow as what a node can use: once it is in the validator set, every
node reads it, and one that no node could read would stop them all."""
AddressText = Annotated[str, Meta(max_length=260, pattern=ADDRESS_PATTERN)]


class _Canonical(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Options shared by all hashed and signed types."""


class AccountKind(IntEnum):
    """What an account is for; (participant, asset, kind) names one."""

    SETTLEMENT = 0
    CLIENT_RESERVE = 1
    """A payment institution's segregated client money."""
    COLLATERAL = 2
    """Pledged securities."""
    MARGIN = 3
    """First to cover its holder's shortfall in a net cycle."""
    FUND = 4
    """Its holder's share of the mutual default fund of a net system."""
    CAPITAL = 5
    """The operator's own capital in the waterfall of a net system."""


class PaymentClass(IntEnum):
    CUSTOMER = 0
    INTERBANK = 1


class Priority(IntEnum):
    """Order in the debtor's queue, the most urgent first."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2


class Mode(IntEnum):
    GROSS = 0
    """Alone, at entry or from the queue."""
    NET = 1
    """With the other payments of the asset's open clearing cycle."""


class Payment(_Canonical, frozen=True, tag="payment/2", gc=False):
    """One payment of an instruction (ISO 20022 pacs.008 / pacs.009 in substance)."""

    uetr: Bytes16
    """Unique End-to-end Transaction Reference: a UUID version 4, as 16 bytes."""
    debtor: LeiText
    debtor_account: AccountKind
    creditor: LeiText
    creditor_account: AccountKind
    asset: AssetCode
    amount: Unsigned
    """Minor units."""
    payment_class: PaymentClass
    priority: Priority
    mode: Mode
    ultimate_debtor: PartyText | None
    ultimate_creditor: PartyText | None
    debtor_agent: PartyText | None
    creditor_agent: PartyText | None
    earliest: Unsigned | None
    """Milliseconds since the Unix epoch; before it the payment does not settle and delays none."""
    latest: Unsigned | None
    """Milliseconds since the Unix epoch; a block after it rejects the payment or lets it expire."""
    remittance_digest: Bytes32 | None
    """Digest of remittance data that debtor and creditor keep to themselves."""
    debtor_indirect: LeiText | None
    """The indirect participant for which the debtor pays."""
    creditor_indirect: LeiText | None
    """The indirect participant for which the creditor receives."""
    previous: Bytes16 | None
    """UETR of the payment that this one carries on, for who passes money through."""


class Pay(_Canonical, frozen=True, tag="pay/1"):
    """Body: pay all payments under `payments_root`, each with its own outcome.

    With `all_or_none` all settle at once or none does: they queue as one entry, so they must agree
    in account, asset, priority, class, mode and times."""

    payments_count: Annotated[int, Meta(ge=1, le=MAX_PAYMENTS)]
    payments_root: Bytes32
    """RFC 6962 root of the payments, so that one of them is provable alone."""
    all_or_none: bool


class Issue(_Canonical, frozen=True, tag="issue/1"):
    """Body: the asset's issuer creates `amount` on a settlement account."""

    uetr: Bytes16
    asset: AssetCode
    creditor: LeiText
    amount: Unsigned


class Redeem(_Canonical, frozen=True, tag="redeem/1"):
    """Body: the asset's issuer destroys `amount` from its own settlement account."""

    uetr: Bytes16
    asset: AssetCode
    amount: Unsigned


class RegisterKey(_Canonical, frozen=True, tag="register-key/1"):
    """Body: add a signing key to the sender, valid from the next height.

    `possession` is the new key's own signature over its registration (`signature.possession`)."""

    public_key: Bytes32
    possession: Bytes64


class RevokeKey(_Canonical, frozen=True, tag="revoke-key/1"):
    """Body: a key of the sender's stops being valid from the next height."""

    public_key: Bytes32


# --- queue, limits, policy ------------------------------------------------------------------------


class Cancel(_Canonical, frozen=True, tag="cancel/1"):
    """Body: the debtor takes back a payment that is queued or held."""

    uetr: Bytes16


class Hold(_Canonical, frozen=True, tag="hold/1"):
    """Body: the debtor keeps a queued payment from settling until it is released."""

    uetr: Bytes16


class Release(_Canonical, frozen=True, tag="release/1"):
    """Body: the debtor lets a payment that it held wait again, at the end of its priority."""

    uetr: Bytes16


class Reprioritise(_Canonical, frozen=True, tag="reprioritise/1"):
    """Body: the debtor moves a queued payment to the end of another priority."""

    uetr: Bytes16
    priority: Priority


class SetLimit(_Canonical, frozen=True, tag="set-limit/1"):
    """Body: how much more an account may pay out than it takes in, since the start of the day (or
    since the limit was first set, if that was later). By its holder or an operator."""

    participant: LeiText
    """Whose settlement account."""
    asset: AssetCode
    counterparty: LeiText | None
    """Towards whom; None: towards all that have no limit of their own."""
    limit: Amount64 | None
    """Minor units; None: no limit any longer."""


class Sweep(_Canonical, frozen=True):
    """At close of day all that is available of `asset` goes to `to`."""

    asset: AssetCode
    to: LeiText


class SetPolicy(_Canonical, frozen=True, tag="set-policy/1"):
    """Body: how the sender's own accounts are run, from the next height."""

    fifo_bypass: bool
    """A payment that can settle at entry does, even where others of its class wait."""
    sweeps: Annotated[tuple[Sweep, ...], Meta(max_length=MAX_SWEEPS)]
    """Ascending by asset, one an asset."""


# --- intraday credit ------------------------------------------------------------------------------


class PostPrice(_Canonical, frozen=True, tag="post-price/1"):
    """Body: an operator values a security as collateral for credit in a currency.

    `quantity` minor units of it are worth quantity · price · (10,000 − haircut) / (lot · 10,000)
    minor units of the currency, rounded down."""

    security: AssetCode
    currency: AssetCode
    price: Amount64
    """Minor units of the currency for `lot` minor units of the security."""
    lot: Annotated[int, Meta(ge=1)]
    haircut: Annotated[int, Meta(ge=0, le=10_000)]
    """Basis points."""


class Pledge(_Canonical, frozen=True, tag="pledge/1"):
    """Body: move securities of the sender's to its collateral account; the line grows by them."""

    security: AssetCode
    currency: AssetCode
    """Of the credit that they secure."""
    quantity: Amount64


class ReleaseCollateral(_Canonical, frozen=True, tag="release-collateral/1"):
    """Body: move pledged securities back, if the line left covers what is drawn."""

    security: AssetCode
    currency: AssetCode
    quantity: Amount64


# --- deferred net settlement ----------------------------------------------------------------------


class CycleAction(IntEnum):
    CLOSE = 0
    """No more payments join; positions are settled or a funding window begins."""
    EXTEND = 1
    """Another funding window, until `until`."""
    UNWIND = 2
    """Reject every payment of a cycle that could not be settled."""


class OrderCycle(_Canonical, frozen=True, tag="order-cycle/1"):
    """Body: an operator's order about a clearing cycle."""

    asset: AssetCode
    cycle: Unsigned
    action: CycleAction
    until: Unsigned | None
    """Milliseconds since the Unix epoch; for EXTEND alone."""


class MoveOwn(_Canonical, frozen=True, tag="move-own/1"):
    """Body: move money between two of the sender's own accounts of an asset (ISO 20022 camt.050).

    Between settlement, margin, fund and, for an operator, capital."""

    uetr: Bytes16
    asset: AssetCode
    source: AccountKind
    target: AccountKind
    amount: Unsigned


# --- linked and conditional settlement ------------------------------------------------------------


class Link(_Canonical, frozen=True, tag="link/1"):
    """Body: the sender agrees to its own legs of a linked settlement, all of which it signs here.

    The link is complete once every leg's debtor sent the same legs and expiry. Legs are gross
    payments; their priorities mean nothing."""

    legs: Annotated[tuple[Payment, ...], Meta(min_length=2, max_length=MAX_LEGS)]
    expires: Unsigned
    """Milliseconds since the Unix epoch: from this block time on it is off."""


class Reserve(_Canonical, frozen=True, tag="reserve/1"):
    """Body: set a payment's amount aside, to be posted later in full or in part."""

    payment: Payment
    poster: LeiText | None
    """Who may post it; None: only who shows the preimage."""
    hash_lock: Bytes32 | None
    """SHA-256 of a 32-byte preimage; who shows it may post the whole amount."""
    expires: Unsigned
    """Milliseconds since the Unix epoch: from this block time on the reservation is void."""


class Post(_Canonical, frozen=True, tag="post/1"):
    """Body: settle a reservation; what is not posted goes back to the debtor."""

    uetr: Bytes16
    amount: Unsigned | None
    """Minor units; None: all of it."""
    preimage: Bytes32 | None


class Void(_Canonical, frozen=True, tag="void/1"):
    """Body: the creditor lets a reservation go."""

    uetr: Bytes16


# --- returns and disputes -------------------------------------------------------------------------


class Recall(_Canonical, frozen=True, tag="recall/1"):
    """Body: the debtor of a settled payment asks for it back (camt.056)."""

    original: Payment
    """In clear; must be the one that settled."""
    reason: ReasonCode


class RefuseRecall(_Canonical, frozen=True, tag="refuse-recall/1"):
    """Body: the creditor answers a recall with no (camt.029)."""

    original: Payment
    """The recalled payment in clear: the ledger keeps only its digest."""
    reason: ReasonCode


class Return(_Canonical, frozen=True, tag="return/1"):
    """Body: the creditor of a settled payment gives back all or part of it (pacs.004).

    `payment` is a payment like any other, from the original's creditor to its debtor, which may
    wait in the queue; while it does, its amount counts as returned."""

    payment: Payment
    original: Payment
    reason: ReasonCode


class OpenDispute(_Canonical, frozen=True, tag="open-dispute/1"):
    """Body: debtor or creditor contests a settled payment."""

    original: Payment
    reason: ReasonCode


class SubmitEvidence(_Canonical, frozen=True, tag="submit-evidence/1"):
    """Body: a party of a disputed payment puts the digest of a document on record."""

    uetr: Bytes16
    document: Bytes32


class Verdict(IntEnum):
    UPHELD = 0
    DISMISSED = 1


class DecideDispute(_Canonical, frozen=True, tag="decide-dispute/1"):
    """Body: a supervisor, or an operator that is no party, decides. Moves no money."""

    uetr: Bytes16
    verdict: Verdict
    reason: ReasonCode


class Acknowledge(_Canonical, frozen=True, tag="acknowledge/1"):
    """Body: the creditor of a payment states that it has seen its outcome (non-repudiation of
    delivery, ISO/IEC 13888)."""

    payment: Payment
    """In clear: the ledger keeps only its digest."""
    outcome: Bytes32
    """Leaf hash of the outcome."""
    block: Bytes32
    """Digest of the header of its block."""


# --- operating day, supervision -------------------------------------------------------------------


class Phase(IntEnum):
    """Phases of a business day, in order; each lasts until the next begins."""

    OPEN = 0
    CUSTOMER_CUTOFF = 1
    """Customer payments enter no longer; those that wait may still settle."""
    INTERBANK = 2
    """Only interbank payments settle."""
    CLEARING = 3
    """No payment enters; net cycles, resolution and links still settle."""
    CLOSED = 4


class DelayPhase(_Canonical, frozen=True, tag="delay-phase/1"):
    """Body: an operator puts off the beginning of a phase of this business day, and with it those
    that would begin before `until`."""

    date: Unsigned
    """Business date, yyyymmdd."""
    phase: Phase
    until: Unsigned
    """Milliseconds since the Unix epoch."""


class ProceedDay(_Canonical, frozen=True, tag="proceed-day/1"):
    """Body: an operator lets a day go on that waits because block time jumped over a phase."""

    date: Unsigned
    phase: Phase
    """The one to begin now."""


class Consent(_Canonical, frozen=True, tag="consent/1"):
    """Body: a supervisor agrees to one payment out of client reserve that rules do not allow."""

    payment: Bytes32
    """Leaf hash of the payment."""
    expires: Unsigned


class Freeze(_Canonical, frozen=True, tag="freeze/1"):
    """Body: a supervisor freezes a participant's debits, credits or both; neither: lifts it."""

    participant: LeiText
    debit: bool
    credit: bool
    reason: ReasonCode


# --- governance -----------------------------------------------------------------------------------


class Validator(_Canonical, frozen=True, tag="validator/2"):
    """A member of the validator set."""

    name: ValidatorName
    operator: LeiText
    """The participant that answers for this node."""
    vote_key: Bytes32
    """Ed25519 key that signs votes, a fresh one in every epoch."""
    node_key: Bytes32
    """Ed25519 key of the node: its transport certificate is pinned to it, receipts are signed
    with it."""
    address: AddressText = ""
    """host:port of its peer listener; empty: from each node's own configuration."""


class ValidatorSet(_Canonical, frozen=True, tag="validator-set/1"):
    """The validators of an epoch; their order gives their index."""

    epoch: Unsigned
    validators: Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=MAX_VALIDATORS)]


class AddValidator(_Canonical, frozen=True, tag="add-validator/1"):
    """Change: a new member, last in the order of the next set.

    Possession of each key is proven for the validator's operator (`signature.possession`)."""

    validator: Validator
    vote_possession: Bytes64
    node_possession: Bytes64


class RemoveValidator(_Canonical, frozen=True, tag="remove-validator/1"):
    """Change: a member leaves."""

    name: ValidatorName


class RekeyValidator(_Canonical, frozen=True, tag="rekey-validator/1"):
    """Change: the member of the same name gets these keys, operator and address. A key that stays
    is given again."""

    validator: Validator
    vote_possession: Bytes64
    node_possession: Bytes64


ValidatorChange = AddValidator | RemoveValidator | RekeyValidator


class ProvenKey(_Canonical, frozen=True):
    """A participant's signing key with its proof of possession, for its LEI."""

    public_key: Bytes32
    possession: Bytes64


class AdmitParticipant(_Canonical, frozen=True, tag="admit-participant/1"):
    """Change: a new participant."""

    lei: LeiText
    bic: BicText
    name: ShortName
    roles: Annotated[tuple[RoleText, ...], Meta(max_length=16)]
    """Sorted."""
    keys: Annotated[tuple[ProvenKey, ...], Meta(min_length=1, max_length=32)]
    """Ascending by public key."""
    threshold: Annotated[int, Meta(ge=1, le=32)]
    sponsor: LeiText | None
    """For an indirect participant: its direct participant."""
    approvals: Annotated[int, Meta(ge=0, le=32)]
    """For an operator: how many of its keys may approve one proposal. Else 0."""


class CloseParticipant(_Canonical, frozen=True, tag="close-participant/1"):
    """Change: a participant without money, obligations or open business leaves for ever."""

    lei: LeiText


class SuspendParticipant(_Canonical, frozen=True, tag="suspend-participant/1"):
    """Change: a participant's instructions are refused until the suspension is lifted."""

    lei: LeiText


class LiftSuspension(_Canonical, frozen=True, tag="lift-suspension/1"):
    """Change: a suspended participant is active again."""

    lei: LeiText


class ReplaceKeys(_Canonical, frozen=True, tag="replace-keys/1"):
    """Change: a participant's keys are revoked and others registered, from the next height: for one
    that lost its keys."""

    lei: LeiText
    revoke: Annotated[tuple[Bytes32, ...], Meta(max_length=256)]
    register: Annotated[tuple[ProvenKey, ...], Meta(max_length=32)]
    threshold: Annotated[int, Meta(ge=1, le=32)]


class AddAsset(_Canonical, frozen=True, tag="add-asset/1"):
    """Change: a currency (by an issuer) or a security (by a depository, under its ISIN)."""

    code: AssetCode
    exponent: Annotated[int, Meta(ge=0, le=8)]
    issuer: LeiText


class SetNetting(_Canonical, frozen=True, tag="set-netting/1"):
    """Change: how a currency's clearing cycles run."""

    asset: AssetCode
    enabled: bool
    funding_ms: Annotated[int, Meta(ge=0, le=MAX_FUNDING_MS)]
    """How long a short debtor may bring money after the close, before the waterfall."""


class SetMember(_Canonical, frozen=True, tag="set-member/1"):
    """Change: what a participant is to a net system."""

    participant: LeiText
    asset: AssetCode
    cap: Amount64
    """Largest projected net debit, minor units."""
    margin: Amount64
    """Least that stays on its margin account."""
    contribution: Amount64
    """Required on its fund account; survivors share losses by it."""


class CloseRule(IntEnum):
    """What becomes of a queue at close of day."""

    EXPIRE = 0
    ROLL_OVER = 1
    """Order kept."""


class SetParameters(_Canonical, frozen=True, tag="set-parameters/1"):
    """Change: parameters, from the next height."""

    governance_threshold: Annotated[int, Meta(ge=1, le=1_000)]
    readiness_ms: Annotated[int, Meta(ge=0, le=MAX_VALIDITY_MS)]
    close_rule: CloseRule


class CycleClose(_Canonical, frozen=True):
    """When a clearing cycle of an asset closes."""

    time: Unsigned
    """Milliseconds since the Unix epoch."""
    asset: AssetCode


class BusinessDay(_Canonical, frozen=True, tag="business-day/1"):
    """One day of the published schedule."""

    date: Annotated[int, Meta(ge=19_700_101, le=99_991_231)]
    """yyyymmdd."""
    begins: Annotated[tuple[Unsigned, ...], Meta(min_length=5, max_length=5)]
    """When each `Phase` begins, milliseconds since the Unix epoch, ascending."""
    closes: Annotated[tuple[CycleClose, ...], Meta(max_length=MAX_CYCLES_A_DAY)]
    """Ascending by time, then asset."""


class PublishSchedule(_Canonical, frozen=True, tag="publish-schedule/1"):
    """Change: business days, each beginning where the one before ends; days not yet begun are
    replaced from the first of these on."""

    days: Annotated[tuple[BusinessDay, ...], Meta(min_length=1, max_length=MAX_SCHEDULE_DAYS)]


class ActivateRules(_Canonical, frozen=True, tag="activate-rules/1"):
    """Change: from this height on blocks are executed by this version of the rules."""

    version: Unsigned
    height: Unsigned


Change = (
    ValidatorChange
    | AdmitParticipant
    | CloseParticipant
    | SuspendParticipant
    | LiftSuspension
    | ReplaceKeys
    | AddAsset
    | SetNetting
    | SetMember
    | SetParameters
    | PublishSchedule
    | ActivateRules
)
Changes = Annotated[tuple[Change, ...], Meta(max_length=MAX_CHANGES)]


class Propose(_Canonical, frozen=True, tag="propose/1"):
    """Body: an operator proposes changes; its own signatures approve them.

    The digest of the envelope names the proposal."""

    changes: Changes
    """In order. Those of validators make the set of the next epoch; none at all: only a new epoch
    with fresh vote keys."""
    expires: Unsigned
    """Milliseconds since the Unix epoch; a block after it approves no longer."""


class Approve(_Canonical, frozen=True, tag="approve/1"):
    """Body: an operator's keys approve an open proposal."""

    proposal: Bytes32


class ReadyValidator(_Canonical, frozen=True, tag="ready-validator/1"):
    """Body: a member of the next epoch's set has made its vote key for it. Signed by its node key
    alone.

    `vote_possession` is the vote key's own signature, for the validator's operator."""

    name: ValidatorName
    epoch: Unsigned
    """The next one: readiness for one epoch must never count for another."""
    vote_key: Bytes32
    vote_possession: Bytes64


class ReportEquivocation(_Canonical, frozen=True, tag="report-equivocation/1"):
    """Body: two votes of one validator that no correct signer makes. Signed by a validator's node
    key alone."""

    first: Vote
    second: Vote


InstructionBody = (
    Pay
    | Issue
    | Redeem
    | RegisterKey
    | RevokeKey
    | Propose
    | Approve
    | ReadyValidator
    | ReportEquivocation
    | Cancel
    | Hold
    | Release
    | Reprioritise
    | SetLimit
    | SetPolicy
    | PostPrice
    | Pledge
    | ReleaseCollateral
    | OrderCycle
    | MoveOwn
    | Link
    | Reserve
    | Post
    | Void
    | Recall
    | RefuseRecall
    | Return
    | OpenDispute
    | SubmitEvidence
    | DecideDispute
    | Acknowledge
    | DelayPhase
    | ProceedDay
    | Consent
    | Freeze
)

NODE_SIGNED = (ReadyValidator, ReportEquivocation)
"""Bodies signed by one key, the node key of a validator, and sent in its operator's name. A node
must be able to say these by itself: its operator's keys are not on the machine. To be asked with
`type(body) in`, once an instruction: `isinstance` of a msgspec type takes eight times as long."""
NODE_ID_PREFIX = "~"
"""Ids of such instructions start with it and no other ids do: a node, or whoever stole its key,
could otherwise use up the id of an order that its operator is about to send."""


class Envelope(_Canonical, frozen=True, tag="envelope/1"):
    """What a sender signs."""

    chain_id: Bytes32
    sender: LeiText
    id: InstructionId
    """Scoped to the sender; (sender, id) executes at most once."""
    valid_until: Unsigned
    """Milliseconds since the Unix epoch; at most 7 days after the block that includes it."""
    body: InstructionBody


class KeySignature(_Canonical, frozen=True):
    public_key: Bytes32
    signature: Bytes64


Signatures = Annotated[tuple[KeySignature, ...], Meta(min_length=1, max_length=MAX_SIGNATURES)]
"""Strictly ascending by public key."""


class SignedEnvelope(_Canonical, frozen=True, tag="signed-envelope/1"):
    """The leaf of a block's instruction tree: the envelope carries the root of its payments."""

    envelope: Envelope
    signatures: Signatures


class Instruction(_Canonical, frozen=True, tag="instruction/1"):
    """What travels and stands in a block: a signed envelope with its payments in clear."""

    envelope: Envelope
    signatures: Signatures
    payments: Annotated[tuple[Payment, ...], Meta(max_length=MAX_PAYMENTS)]
    """Those of a `Pay` body, in the order of its root; empty for any other body."""


class OutcomePlace(_Canonical, frozen=True, gc=False):
    """Where an instruction's outcome stands."""

    height: Unsigned
    instruction: Unsigned
    payment: Unsigned


# What an outcome tells besides its status: why a payment changed, or what else happened.


class Joined(_Canonical, frozen=True, tag="joined/1"):
    """The payment is in this clearing cycle of its asset; the cycle decides it."""

    cycle: Unsigned


class Together(_Canonical, frozen=True, tag="together/1"):
    """It settled with all others of the block that say the same; in a resolution, with those up to
    the next `Resolved` of the asset: a block that closes a day may have two."""

    group: Bytes32
    """Of a resolution: the digest of the asset's code; of a link: its id."""


class Returns(_Canonical, frozen=True, tag="returns/1"):
    """It gives back (part of) another payment."""

    original: Bytes16


class Carried(_Canonical, frozen=True, tag="carried/1"):
    """It carries on another payment (`Payment.previous`)."""

    previous: Bytes16


class Posted(_Canonical, frozen=True, tag="posted/1"):
    """How much of a reservation settled; the rest went back."""

    amount: Unsigned


class PhaseBegan(_Canonical, frozen=True, tag="phase-began/1"):
    """A phase of a business day began, or waits for the operator because time jumped over it."""

    date: Unsigned
    phase: Phase
    waits: bool


class LineChanged(_Canonical, frozen=True, tag="line-changed/1"):
    """A credit line after a pledge, a release or a new price."""

    participant: LeiText
    asset: AssetCode
    line: Unsigned


class MarginCall(_Canonical, frozen=True, tag="margin-call/1"):
    """The line fell below what is drawn."""

    participant: LeiText
    asset: AssetCode
    drawn: Unsigned
    line: Unsigned


class OvernightLoan(_Canonical, frozen=True, tag="overnight-loan/1"):
    """A debit balance at close of day."""

    participant: LeiText
    asset: AssetCode
    date: Unsigned
    amount: Unsigned


class Moved(_Canonical, frozen=True, tag="moved/1"):
    """The ledger itself moved money: a sweep at close of day, a step of a waterfall."""

    asset: AssetCode
    debtor: LeiText
    debtor_account: AccountKind
    creditor: LeiText
    creditor_account: AccountKind
    amount: Unsigned


class Statement(_Canonical, frozen=True, tag="statement/1"):
    """An account's business day. Its movements are those of the blocks after the day before's
    close, up to this one; opening + credits − debits = closing."""

    participant: LeiText
    asset: AssetCode
    account: AccountKind
    date: Unsigned
    opening: int
    closing: int
    since: Unsigned
    """Height of the close before, 0 if none: the first block of the day is the next."""


class NetPosition(_Canonical, frozen=True):
    """A participant's side of a clearing cycle."""

    participant: LeiText
    debits: Unsigned
    credits: Unsigned


class CycleClosed(_Canonical, frozen=True, tag="cycle-closed/1"):
    """A cycle takes no more payments; these are its positions."""

    asset: AssetCode
    cycle: Unsigned
    positions: tuple[NetPosition, ...]
    """Ascending by LEI; their nets sum to zero."""
    payments: Unsigned
    payments_root: Bytes32
    """RFC 6962 root over the leaf hashes of its payments, in order of joining."""


class CoverSource(IntEnum):
    """Where the money for a short debtor comes from, in the order of the waterfall."""

    MARGIN = 0
    FUND = 1
    CAPITAL = 2
    SURVIVOR = 3


class Cover(_Canonical, frozen=True):
    """One step of a waterfall."""

    source: CoverSource
    participant: LeiText
    """Whose account pays."""
    available: Unsigned
    """What it could have paid."""
    amount: Unsigned


class Shortfall(_Canonical, frozen=True):
    """What a debtor lacked, and who paid it."""

    participant: LeiText
    owed: Unsigned
    own: Unsigned
    """What its settlement account gave."""
    covers: tuple[Cover, ...]


class SurvivorShare(_Canonical, frozen=True):
    """What survivors' losses are split by."""

    participant: LeiText
    contribution: Unsigned
    """Required, minor units."""
    held: Unsigned
    """On its fund account."""


class CycleSettled(_Canonical, frozen=True, tag="cycle-settled/1"):
    """A cycle's positions settled, all at once. With it every payment of the cycle did."""

    asset: AssetCode
    cycle: Unsigned
    shortfalls: tuple[Shortfall, ...]
    survivors: tuple[SurvivorShare, ...]
    """Ascending by LEI; empty where nobody was short."""


class CycleShort(_Canonical, frozen=True, tag="cycle-short/1"):
    """A cycle could not settle: these debtors lack so much (before any waterfall if `until` is
    set: the end of the funding window)."""

    asset: AssetCode
    cycle: Unsigned
    lacking: tuple[tuple[LeiText, Unsigned], ...]
    """Ascending by LEI."""
    until: Unsigned | None


class CycleUnwound(_Canonical, frozen=True, tag="cycle-unwound/1"):
    """A cycle was given up by order: with it every payment of the cycle was rejected."""

    asset: AssetCode
    cycle: Unsigned


class AccountPosition(_Canonical, frozen=True):
    """An account's side of what settled together."""

    participant: LeiText
    account: AccountKind
    debits: Unsigned
    credits: Unsigned


class Resolved(_Canonical, frozen=True, tag="resolved/1"):
    """Queued payments of an asset settled together; their outcomes stand before this one."""

    asset: AssetCode
    positions: tuple[AccountPosition, ...]
    """Of every account that paid or was paid, ascending by LEI, then kind; their nets sum to zero.
    """
    payments: Unsigned
    payments_root: Bytes32
    """RFC 6962 root over the leaf hashes of the payments, in order of their outcomes."""


class LinkClosed(_Canonical, frozen=True, tag="link-closed/1"):
    """What became of a linked settlement; its legs' outcomes stand beside."""

    link: Bytes32
    settled: bool


class RulesActivated(_Canonical, frozen=True, tag="rules-activated/1"):
    """This block is the first of this version of the rules."""

    version: Unsigned


class RestrictionChanged(_Canonical, frozen=True, tag="restriction-changed/1"):
    """A participant's standing from this block on."""

    participant: LeiText
    suspended: bool
    debit_frozen: bool
    credit_frozen: bool


Event = (
    Joined
    | Together
    | Returns
    | Carried
    | Posted
    | PhaseBegan
    | LineChanged
    | MarginCall
    | OvernightLoan
    | Moved
    | Statement
    | CycleClosed
    | CycleSettled
    | CycleShort
    | CycleUnwound
    | Resolved
    | LinkClosed
    | RulesActivated
    | RestrictionChanged
)


class Outcome(_Canonical, frozen=True, tag="outcome/2", gc=False):
    """What became of a payment, or of an instruction without payments, or something else that
    happened, in one block.

    A payment's first outcome stands at its own place: (`instruction`, `payment`). Each later change
    is an outcome of its own that names the first as `original` and the payment by `content`.
    """

    height: Unsigned
    time: Unsigned
    """The block's timestamp, milliseconds since the Unix epoch."""
    instruction: Unsigned | None
    """Index in the block of the instruction that this is the outcome of or that brought it about;
    None: the block itself did (time, a link, resolution)."""
    payment: Unsigned
    """Index of the payment in the instruction; 0 where there are no payments."""
    uetr: Bytes16 | None
    """None where no payment is concerned."""
    status: str
    """ISO 20022 ExternalPaymentTransactionStatus (`node.ledger.reasons`)."""
    reason: str | None
    """ISO 20022 ExternalStatusReason: of a rejection, an expiry, a wait."""
    debtor_balance: int | None
    """Balance after, minor units; None where no account was debited."""
    creditor_balance: int | None
    original: OutcomePlace | None
    """For a retry with the same content under a used UETR, and for a change: the payment's first
    outcome."""
    content: Bytes32 | None
    """For a change: the leaf hash of the payment."""
    event: Event | None


class Header(_Canonical, frozen=True, tag="header/1"):
    """What validators notarize and finalize, by its digest. Roots are RFC 6962 roots."""

    version: Unsigned
    """Rule version; 1."""
    chain_id: Bytes32
    epoch: Unsigned
    view: Unsigned
    height: Unsigned
    parent: Bytes32
    """Digest of the parent's header; zeros at genesis."""
    timestamp: Unsigned
    """Milliseconds since the Unix epoch, above the parent's."""
    proposer: Unsigned
    """Validator index of the view's leader."""
    instructions_count: Unsigned
    instructions_root: Bytes32
    """Over signed envelopes. An RFC 6962 root binds no size, so the count stands beside it."""
    outcomes_count: Unsigned
    outcomes_root: Bytes32
    state_root: Bytes32
    """After this block (`state_map`)."""
    history_root: Bytes32
    """Over the header digests of heights 0 … height−1."""
    validator_set: Bytes32
    """Digest of the epoch's validator set."""
    next_validator_set: Bytes32


class Block(_Canonical, frozen=True, tag="block/1"):
    """A header and the canonical bytes of each of its instructions."""

    header: Header
    instructions: tuple[bytes, ...]


class ReceiptBody(_Canonical, frozen=True, tag="receipt-body/1"):
    """What an accepting node signs (ISO/IEC 13888 non-repudiation of submission)."""

    instruction: Bytes32
    """Digest of the envelope."""
    node: Bytes32
    """The node's key."""
    height: Unsigned
    """Latest block that the node knew final, and its digest: made no earlier than it."""
    block: Bytes32
    time: Unsigned
    """The node's own clock, claimed."""


class Receipt(_Canonical, frozen=True, tag="receipt/1"):
    body: ReceiptBody
    signature: Bytes64
