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
    Bytes32,
    Changes,
    LeiText,
    Unsigned,
    Validator,
    ValidatorName,
    _Canonical,
)

ROLES = (
    "auditor",
    "depository",
    "direct-participant",
    "issuer",
    "operator",
    "payment-institution",
    "supervisor",
    "validator",
)
"""Roles of a participant, as settlement.md names them."""


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


StateKey = (
    ParametersKey
    | ParticipantKey
    | AssetKey
    | AccountKey
    | EpochKey
    | ValidatorSetKey
    | ValidatorKeyKey
    | ProposalKey
    | EquivocationKey
)


class ParametersRecord(_Canonical, frozen=True, tag="parameters/2"):
    uetr_window_ms: Unsigned
    """How long a UETR stays used up after its terminal outcome (35 days by default)."""
    governance_threshold: Annotated[int, Meta(ge=1)]
    """How many distinct valid operator keys approve a proposal."""
    readiness_ms: Unsigned
    """How long an epoch waits for the last members of the next set to be ready."""


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


class ParticipantRecord(_Canonical, frozen=True, tag="participant/1"):
    lei: LeiText
    bic: Annotated[str, Meta(min_length=8, max_length=11)]
    name: Annotated[str, Meta(min_length=1, max_length=32)]
    """Short name, unique on the chain."""
    roles: tuple[str, ...]
    """Sorted."""
    keys: tuple[KeyRecord, ...]
    """Ascending by public key."""
    threshold: Annotated[int, Meta(ge=1, le=32)]
    """How many distinct valid keys must sign an instruction."""


class AssetRecord(_Canonical, frozen=True, tag="asset/1"):
    code: AssetCode
    exponent: Annotated[int, Meta(ge=0, le=8)]
    """Decimal places of the minor unit (ISO 4217)."""
    issuer: LeiText
    issued: Unsigned
    """Minor units issued since genesis; issued − redeemed = sum of all balances."""
    redeemed: Unsigned


class AccountRecord(_Canonical, frozen=True, tag="account/1"):
    balance: int
    """Minor units, signed 64-bit."""


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
