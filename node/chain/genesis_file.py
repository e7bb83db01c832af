"""The shape of the genesis file: what each of its fields is, and how much of it there may be.

Fields that came later are left out of the file where they have their default, so that a file
written today for the old ones is the same to the byte, and so is its chain.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from node.chain.records import ROLES
from node.chain.types import (
    ADDRESS_PATTERN,
    MAX_BALANCE,
    MAX_CYCLES_A_DAY,
    MAX_FUNDING_MS,
    MAX_SCHEDULE_DAYS,
    MAX_SWEEPS,
    CloseRule,
)

FORMAT: Final = "nostro-genesis/1"
MAX_GENESIS_BYTES = 4 << 20
"""Bytes; room for thousands of participants."""
DEFAULT_UETR_WINDOW_DAYS = 35
DEFAULT_READINESS_MS = 60_000
MAX_READINESS_MS = 7 * 24 * 3600 * 1000
MAX_GOVERNANCE_THRESHOLD = 1_000
"""Approvals of one proposal; they stand together in one state record."""
DAY_MS = 24 * 3600 * 1000
MAX_TIME = 253_402_300_799_999
"""The end of the year 9999, ms since the Unix epoch: JSON integers know no bound, headers do."""

Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")]
LeiText = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{18}[0-9]{2}\Z")]
BicText = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?\Z")]
AssetText = Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9]{2,11}\Z")]
KeyHex = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
SignatureHex = Annotated[str, Meta(pattern=r"\A[0-9a-f]{128}\Z")]
Time = Annotated[int, Meta(ge=0, le=MAX_TIME)]
Amount = Annotated[int, Meta(ge=0, le=MAX_BALANCE)]

CLOSE_RULES = {"expire": CloseRule.EXPIRE, "roll-over": CloseRule.ROLL_OVER}


class _Json(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options shared by the parts of the file."""


class GenesisParameters(_Json, frozen=True):
    uetr_window_days: Annotated[int, Meta(ge=1, le=3650)] = DEFAULT_UETR_WINDOW_DAYS
    """Days that a UETR stays used up after its terminal outcome."""
    governance_threshold: Annotated[int, Meta(ge=1, le=MAX_GOVERNANCE_THRESHOLD)] = 1
    """Distinct operator keys that approve a proposal."""
    readiness_ms: Annotated[int, Meta(ge=0, le=MAX_READINESS_MS)] = DEFAULT_READINESS_MS
    """Milliseconds that an approved epoch waits for the last of its members to be ready."""
    close_rule: Literal["expire", "roll-over"] | UnsetType = UNSET
    """What becomes of queues at close of day; `expire` unless the file says otherwise."""

    @property
    def uetr_window_ms(self) -> int:
        """The same in milliseconds, as the ledger keeps it."""
        return self.uetr_window_days * DAY_MS


class GenesisAsset(_Json, frozen=True):
    """A currency, or a security under its ISIN (`isin.is_security`)."""

    code: AssetText
    exponent: Annotated[int, Meta(ge=0, le=8)]
    issuer: LeiText
    """An issuer, or of a security its depository."""


class GenesisKey(_Json, frozen=True):
    public_key: KeyHex
    possession: SignatureHex


class GenesisParticipant(_Json, frozen=True, omit_defaults=True):
    name: Name
    lei: LeiText
    bic: BicText
    roles: Annotated[tuple[str, ...], Meta(max_length=len(ROLES))]
    threshold: Annotated[int, Meta(ge=1, le=32)]
    keys: Annotated[tuple[GenesisKey, ...], Meta(min_length=1, max_length=32)]
    sponsor: LeiText | None = None
    """Of an indirect participant, and of nobody else: its direct participant."""


class GenesisValidator(_Json, frozen=True, omit_defaults=True):
    name: Name
    operator: LeiText
    vote_key: KeyHex
    vote_possession: SignatureHex
    node_key: KeyHex
    node_possession: SignatureHex
    address: Annotated[str, Meta(max_length=260, pattern=ADDRESS_PATTERN)] = ""
    """host:port of its peer listener; empty: from each node's own configuration."""


class GenesisClose(_Json, frozen=True):
    """When a clearing cycle closes."""

    time: Time
    """Milliseconds since the Unix epoch."""
    asset: AssetText


class GenesisDay(_Json, frozen=True, omit_defaults=True):
    """A business day of the schedule (`types.BusinessDay`)."""

    date: Annotated[int, Meta(ge=19_700_101, le=99_991_231)]
    """yyyymmdd."""
    begins: Annotated[tuple[Time, ...], Meta(min_length=5, max_length=5)]
    """When each phase begins, milliseconds since the Unix epoch: open, customer cut-off,
    interbank, clearing, closed."""
    closes: Annotated[tuple[GenesisClose, ...], Meta(max_length=MAX_CYCLES_A_DAY)] = ()
    """Ascending by time, then asset."""


class GenesisNetting(_Json, frozen=True):
    """A currency with clearing cycles."""

    asset: AssetText
    funding_ms: Annotated[int, Meta(ge=0, le=MAX_FUNDING_MS)]
    """How long a short debtor may bring money after the close, before the waterfall."""


class GenesisMember(_Json, frozen=True):
    """What a participant is to a net system; amounts in minor units (`types.SetMember`)."""

    participant: LeiText
    asset: AssetText
    cap: Amount
    margin: Amount
    contribution: Amount


class GenesisSweep(_Json, frozen=True):
    """At close of day all that is available of `asset` goes to `to`."""

    asset: AssetText
    to: LeiText


class GenesisPolicy(_Json, frozen=True, omit_defaults=True):
    """How a participant's accounts are run (`types.SetPolicy`)."""

    participant: LeiText
    fifo_bypass: bool = False
    sweeps: Annotated[tuple[GenesisSweep, ...], Meta(max_length=MAX_SWEEPS)] = ()


class GenesisFile(_Json, frozen=True, omit_defaults=True):
    """The whole file, as JSON."""

    format: Literal["nostro-genesis/1"]
    network: Name
    devnet: bool
    time: Time
    parameters: GenesisParameters
    assets: Annotated[tuple[GenesisAsset, ...], Meta(min_length=1)]
    participants: Annotated[tuple[GenesisParticipant, ...], Meta(min_length=1)]
    validators: Annotated[tuple[GenesisValidator, ...], Meta(min_length=1, max_length=256)]
    schedule: Annotated[tuple[GenesisDay, ...], Meta(max_length=MAX_SCHEDULE_DAYS)] = ()
    """None: the system is always open."""
    netting: tuple[GenesisNetting, ...] = ()
    members: tuple[GenesisMember, ...] = ()
    policies: tuple[GenesisPolicy, ...] = ()
