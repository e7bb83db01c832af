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
"""Validator changes in one proposal."""

Unsigned = Annotated[int, Meta(ge=0)]
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
LeiText = Annotated[str, Meta(min_length=20, max_length=20)]
AssetCode = Annotated[str, Meta(min_length=3, max_length=12)]
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


class PaymentClass(IntEnum):
    CUSTOMER = 0
    INTERBANK = 1


class Priority(IntEnum):
    """Order in the debtor's queue; recorded now, it decides once payments can queue."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2


class Mode(IntEnum):
    GROSS = 0


class Payment(_Canonical, frozen=True, tag="payment/1", gc=False):
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
    latest: Unsigned | None
    """Milliseconds since the Unix epoch; a block after it rejects the payment."""
    remittance_digest: Bytes32 | None
    """Digest of remittance data that debtor and creditor keep to themselves."""


class Pay(_Canonical, frozen=True, tag="pay/1"):
    """Body: pay all payments under `payments_root`, each with its own outcome.

    With `all_or_none`, either every one settles or every one is rejected."""

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
Changes = Annotated[tuple[ValidatorChange, ...], Meta(max_length=MAX_CHANGES)]


class Propose(_Canonical, frozen=True, tag="propose/1"):
    """Body: an operator proposes the next epoch; its own signatures approve it.

    The digest of the envelope names the proposal."""

    changes: Changes
    """In order, to the set of the next epoch. None: only a new epoch with fresh vote keys."""
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


class OriginalOutcome(_Canonical, frozen=True, gc=False):
    """Where the outcome stands that a retried payment gets again."""

    height: Unsigned
    instruction: Unsigned
    payment: Unsigned


class Outcome(_Canonical, frozen=True, tag="outcome/1", gc=False):
    """What became of one payment (or of an instruction without payments) in one block."""

    height: Unsigned
    time: Unsigned
    """The block's timestamp, milliseconds since the Unix epoch."""
    instruction: Unsigned
    """Index of the instruction in the block."""
    payment: Unsigned
    """Index of the payment in the instruction; 0 where there are no payments."""
    uetr: Bytes16 | None
    """None only for instructions that move no money."""
    status: str
    """ISO 20022 ExternalPaymentTransactionStatus: ACSC settled, RJCT rejected."""
    reason: str | None
    """ISO 20022 ExternalStatusReason of a rejection."""
    debtor_balance: int | None
    """Balance after, minor units; None where no account was debited."""
    creditor_balance: int | None
    original: OriginalOutcome | None
    """For a retry with the same content under a used UETR: the outcome that stands."""


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
