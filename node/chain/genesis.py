"""The genesis file: the trust root that is handed over out of band.

The chain id is the digest of its exact bytes, so every signature on the chain is bound to every
byte of the file. It is JSON because people must read it before they trust it; nothing of it is
ever encoded again.

`load_genesis` checks all that follows from the file itself: shapes, references, repeated names
and keys, and that each key's holder has it. Check digits of LEIs and BICs are the ledger's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from node.chain.encoding import GENESIS, UNDECODABLE, digest
from node.chain.records import ROLES
from node.chain.signature import (
    NO_CHAIN,
    ROLE_NODE,
    ROLE_PARTICIPANT,
    ROLE_VOTE,
    BadKey,
    Signer,
    check_possession,
    genesis_holder,
    prove_possession,
)
from node.chain.types import ADDRESS_PATTERN, Validator, ValidatorSet

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

_Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")]
_LeiText = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{18}[0-9]{2}\Z")]
_BicText = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?\Z")]
_AssetText = Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9]{2,11}\Z")]
_KeyHex = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_SignatureHex = Annotated[str, Meta(pattern=r"\A[0-9a-f]{128}\Z")]


class _Json(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options shared by the parts of the file."""


class GenesisParameters(_Json, frozen=True):
    uetr_window_days: Annotated[int, Meta(ge=1, le=3650)] = DEFAULT_UETR_WINDOW_DAYS
    """Days that a UETR stays used up after its terminal outcome."""
    governance_threshold: Annotated[int, Meta(ge=1, le=MAX_GOVERNANCE_THRESHOLD)] = 1
    """Distinct operator keys that approve a proposal."""
    readiness_ms: Annotated[int, Meta(ge=0, le=MAX_READINESS_MS)] = DEFAULT_READINESS_MS
    """Milliseconds that an approved epoch waits for the last of its members to be ready."""

    @property
    def uetr_window_ms(self) -> int:
        """The same in milliseconds, as the ledger keeps it."""
        return self.uetr_window_days * DAY_MS


class GenesisAsset(_Json, frozen=True):
    code: _AssetText
    exponent: Annotated[int, Meta(ge=0, le=8)]
    issuer: _LeiText


class GenesisKey(_Json, frozen=True):
    public_key: _KeyHex
    possession: _SignatureHex


class GenesisParticipant(_Json, frozen=True):
    name: _Name
    lei: _LeiText
    bic: _BicText
    roles: Annotated[tuple[str, ...], Meta(max_length=len(ROLES))]
    threshold: Annotated[int, Meta(ge=1, le=32)]
    keys: Annotated[tuple[GenesisKey, ...], Meta(min_length=1, max_length=32)]


class GenesisValidator(_Json, frozen=True, omit_defaults=True):
    name: _Name
    operator: _LeiText
    vote_key: _KeyHex
    vote_possession: _SignatureHex
    node_key: _KeyHex
    node_possession: _SignatureHex
    address: Annotated[str, Meta(max_length=260, pattern=ADDRESS_PATTERN)] = ""
    """host:port of its peer listener; empty: from each node's own configuration."""


class _File(_Json, frozen=True):
    format: Literal["nostro-genesis/1"]
    network: _Name
    devnet: bool
    time: Annotated[int, Meta(ge=0, le=MAX_TIME)]
    parameters: GenesisParameters
    assets: Annotated[tuple[GenesisAsset, ...], Meta(min_length=1)]
    participants: Annotated[tuple[GenesisParticipant, ...], Meta(min_length=1)]
    validators: Annotated[tuple[GenesisValidator, ...], Meta(min_length=1, max_length=256)]


class BadGenesis(ValueError):
    """A genesis file that no chain may start from; the text names the field."""


class Genesis(msgspec.Struct, frozen=True, eq=False):
    """A checked genesis file."""

    chain_id: bytes
    network: str
    devnet: bool
    """Keys of a devnet are known to everybody; production software refuses them."""
    time: int
    """Timestamp of the genesis block, milliseconds since the Unix epoch."""
    parameters: GenesisParameters
    assets: tuple[GenesisAsset, ...]
    participants: tuple[GenesisParticipant, ...]
    validator_set: ValidatorSet


def load_genesis(data: bytes) -> Genesis:
    """Check a genesis file. Raises BadGenesis naming field and reason."""
    if len(data) > MAX_GENESIS_BYTES:
        raise BadGenesis(f"genesis file of {len(data):,} bytes; at most {MAX_GENESIS_BYTES:,}")
    _refuse_repeated_fields(data)
    try:
        file = msgspec.json.decode(data, type=_File)
    except UNDECODABLE as error:
        raise BadGenesis(f"not a genesis file of format {FORMAT}: {error}") from error
    _check_participants(file)
    _check_assets(file)
    _check_validators(file)
    _check_governance(file)
    _check_keys(file)
    return Genesis(
        chain_id=digest(GENESIS, data),
        network=file.network,
        devnet=file.devnet,
        time=file.time,
        parameters=file.parameters,
        assets=file.assets,
        participants=file.participants,
        validator_set=ValidatorSet(
            0,
            tuple(
                Validator(
                    v.name,
                    v.operator,
                    bytes.fromhex(v.vote_key),
                    bytes.fromhex(v.node_key),
                    v.address,
                )
                for v in file.validators
            ),
        ),
    )


def _refuse_repeated_fields(data: bytes) -> None:
    """JSON parsers differ in which of two equal fields they keep: a reader could see another
    chain than the one that runs."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            names = [name for name, _ in items]
            raise BadGenesis(f"field {_first_repeated(names)!r} stands twice in one object")
        return found

    try:
        json.loads(data, object_pairs_hook=pairs)
    except BadGenesis:
        raise
    except (ValueError, RecursionError) as error:
        raise BadGenesis(f"not JSON: {error}") from error


def _first_repeated(values: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _check_participants(file: _File) -> None:
    for field in ("name", "lei", "bic"):
        repeated = _first_repeated(getattr(p, field) for p in file.participants)
        if repeated is not None:
            raise BadGenesis(f"participants: {field} {repeated} stands twice")
    _check_names(file)
    for index, participant in enumerate(file.participants):
        where = f"participants[{index}] ({participant.name})"
        for role in participant.roles:
            if role not in ROLES:
                raise BadGenesis(f"{where}.roles: {role!r} is none of {', '.join(ROLES)}")
        if _first_repeated(participant.roles) is not None:
            raise BadGenesis(f"{where}.roles: a role stands twice")
        if participant.threshold > len(participant.keys):
            raise BadGenesis(
                f"{where}.threshold: {participant.threshold} signatures of "
                f"{len(participant.keys)} keys can never be had"
            )


def _check_names(file: _File) -> None:
    # People name a participant by any of the three: were one's short name another's BIC, a
    # payment could reach the wrong one.
    codes = {
        code: (index, field)
        for index, participant in enumerate(file.participants)
        for field, code in (("lei", participant.lei), ("bic", participant.bic))
    }
    for index, participant in enumerate(file.participants):
        other, field = codes.get(participant.name, (index, ""))
        if other != index:
            raise BadGenesis(
                f"participants[{index}] ({participant.name}).name: the same as "
                f"participants[{other}] ({file.participants[other].name}).{field}"
            )


def _check_assets(file: _File) -> None:
    repeated = _first_repeated(asset.code for asset in file.assets)
    if repeated is not None:
        raise BadGenesis(f"assets: code {repeated} stands twice")
    for index, asset in enumerate(file.assets):
        _check_holds_role(file, f"assets[{index}] ({asset.code}).issuer", asset.issuer, "issuer")


def _check_validators(file: _File) -> None:
    repeated = _first_repeated(validator.name for validator in file.validators)
    if repeated is not None:
        raise BadGenesis(f"validators: name {repeated} stands twice")
    for index, validator in enumerate(file.validators):
        where = f"validators[{index}] ({validator.name}).operator"
        _check_holds_role(file, where, validator.operator, "validator")


def _check_governance(file: _File) -> None:
    # A threshold out of reach would leave the validators as they are for ever. Without operators
    # that is what the file says; its threshold is then the default and decides nothing.
    threshold = file.parameters.governance_threshold
    keys = sum(len(p.keys) for p in file.participants if "operator" in p.roles)
    if threshold > max(keys, 1):
        raise BadGenesis(
            f"parameters.governance_threshold: {threshold} approvals of {keys} operator keys can "
            "never be had"
        )


def _check_holds_role(file: _File, where: str, lei: str, role: str) -> None:
    participant = next((p for p in file.participants if p.lei == lei), None)
    if participant is None:
        raise BadGenesis(f"{where}: no participant has the LEI {lei}")
    if role not in participant.roles:
        raise BadGenesis(f"{where}: {participant.name} does not have the role {role!r}")


def _check_keys(file: _File) -> None:
    # One key in two places would let a quorum be met by fewer holders than it counts, and make
    # one signature ambiguous between two.
    places: dict[str, str] = {}

    def check(where: str, key: str, possession: str, role: str, lei: str) -> None:
        if key in places:
            raise BadGenesis(f"{where}: the same key as {places[key]}")
        places[key] = where
        holder = genesis_holder(file.network, lei)
        try:
            check_possession(bytes.fromhex(key), role, holder, NO_CHAIN, bytes.fromhex(possession))
        except BadKey as error:
            raise BadGenesis(f"{where}: {error}") from error

    for i, participant in enumerate(file.participants):
        for j, key in enumerate(participant.keys):
            where = f"participants[{i}].keys[{j}] ({participant.name})"
            check(where, key.public_key, key.possession, ROLE_PARTICIPANT, participant.lei)
    for i, v in enumerate(file.validators):
        where = f"validators[{i}] ({v.name})"
        check(f"{where}.vote_key", v.vote_key, v.vote_possession, ROLE_VOTE, v.operator)
        check(f"{where}.node_key", v.node_key, v.node_possession, ROLE_NODE, v.operator)


# --- writing ----------------------------------------------------------------------------------


def genesis_key(signer: Signer, network: str, lei: str) -> GenesisKey:
    """A participant's key for the file, with its proof of possession."""
    possession = prove_possession(signer, ROLE_PARTICIPANT, genesis_holder(network, lei), NO_CHAIN)
    return GenesisKey(signer.public_key.hex(), possession.hex())


def genesis_validator(
    name: str, operator: str, *, network: str, vote: Signer, node: Signer, address: str = ""
) -> GenesisValidator:
    """A validator for the file. `operator`: LEI of the participant that answers for it;
    `address`: host:port of its peer listener, if all nodes shall know it from here."""
    holder = genesis_holder(network, operator)
    return GenesisValidator(
        name,
        operator,
        vote.public_key.hex(),
        prove_possession(vote, ROLE_VOTE, holder, NO_CHAIN).hex(),
        node.public_key.hex(),
        prove_possession(node, ROLE_NODE, holder, NO_CHAIN).hex(),
        address,
    )


def dump_genesis(
    *,
    network: str,
    devnet: bool,
    time: int,
    assets: Iterable[GenesisAsset],
    participants: Iterable[GenesisParticipant],
    validators: Iterable[GenesisValidator],
    parameters: GenesisParameters | None = None,
) -> bytes:
    """The bytes of a genesis file, checked by `load_genesis`. `time`: ms since the Unix epoch.

    Raises BadGenesis.
    """
    file = _File(
        FORMAT,
        network,
        devnet,
        time,
        parameters or GenesisParameters(),
        tuple(assets),
        tuple(participants),
        tuple(validators),
    )
    data = msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
    load_genesis(data)
    return data
