"""What the authenticated state holds: one canonical record under one typed key.

`state_root` commits to exactly these, so an auditor can decode and check any of them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from node.chain.types import (
    AccountKind,
    AssetCode,
    Bytes32,
    LeiText,
    Unsigned,
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


StateKey = ParametersKey | ParticipantKey | AssetKey | AccountKey


class ParametersRecord(_Canonical, frozen=True, tag="parameters/1"):
    uetr_window_ms: Unsigned
    """How long a UETR stays used up after its terminal outcome (35 days by default)."""


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
