"""The genesis file: the trust root that is handed over out of band.

The chain id is the digest of its exact bytes, so every signature on the chain is bound to every
byte of the file. It is JSON because people must read it before they trust it; nothing of it is
ever encoded again.

`load_genesis` checks all that follows from the file itself: shapes (`genesis_file`), references,
repeated names and keys, and that each key's holder has it (`genesis_checks`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from node.chain.encoding import GENESIS, UNDECODABLE, digest
from node.chain.genesis_checks import faults, repeated
from node.chain.genesis_file import (
    CLOSE_RULES,
    FORMAT,
    MAX_GENESIS_BYTES,
    GenesisAsset,
    GenesisDay,
    GenesisFile,
    GenesisKey,
    GenesisMember,
    GenesisNetting,
    GenesisParameters,
    GenesisParticipant,
    GenesisPolicy,
    GenesisValidator,
)
from node.chain.isin import is_security
from node.chain.signature import (
    NO_CHAIN,
    ROLE_NODE,
    ROLE_PARTICIPANT,
    ROLE_VOTE,
    Signer,
    genesis_holder,
    prove_possession,
)
from node.chain.types import (
    BusinessDay,
    CloseRule,
    CycleClose,
    SetMember,
    SetNetting,
    SetPolicy,
    Sweep,
    Validator,
    ValidatorSet,
)


class BadGenesis(ValueError):
    """A genesis file that no chain may start from; the text names the field."""


class Genesis(msgspec.Struct, frozen=True, eq=False):
    """A checked genesis file.

    What `load_genesis` leaves to the ledger's genesis step: check digits of LEIs and BICs, and
    whether the days of the schedule follow on each other.
    """

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
    close_rule: CloseRule
    """What `parameters.close_rule` says, or its default."""
    securities: frozenset[str]
    """Codes of the assets that are securities; all others are currencies."""
    schedule: tuple[BusinessDay, ...]
    """The first business days; none: always open. The first begins after `time`."""
    netting: tuple[SetNetting, ...]
    """Currencies with clearing cycles, all enabled."""
    members: tuple[SetMember, ...]
    """Of net systems, each with its asset in `netting`."""
    policies: tuple[tuple[str, SetPolicy], ...]
    """(LEI, policy) of participants whose policy is not the default; sweeps ascend by asset."""


def load_genesis(data: bytes) -> Genesis:
    """Check a genesis file. Raises BadGenesis naming field and reason."""
    if len(data) > MAX_GENESIS_BYTES:
        raise BadGenesis(f"genesis file of {len(data):,} bytes; at most {MAX_GENESIS_BYTES:,}")
    _refuse_repeated_fields(data)
    try:
        file = msgspec.json.decode(data, type=GenesisFile)
    except UNDECODABLE as error:
        raise BadGenesis(f"not a genesis file of format {FORMAT}: {error}") from error
    fault = next(faults(file), None)
    if fault is not None:
        raise BadGenesis(fault)
    roles = {participant.lei: participant.roles for participant in file.participants}
    return Genesis(
        chain_id=digest(GENESIS, data),
        network=file.network,
        devnet=file.devnet,
        time=file.time,
        parameters=file.parameters,
        assets=file.assets,
        participants=file.participants,
        validator_set=_validator_set(file),
        close_rule=CLOSE_RULES[file.parameters.close_rule or "expire"],
        securities=frozenset(
            asset.code for asset in file.assets if is_security(asset.code, roles[asset.issuer])
        ),
        schedule=tuple(map(_business_day, file.schedule)),
        netting=tuple(SetNetting(each.asset, True, each.funding_ms) for each in file.netting),
        members=tuple(
            SetMember(each.participant, each.asset, each.cap, each.margin, each.contribution)
            for each in file.members
        ),
        policies=tuple((each.participant, _policy(each)) for each in file.policies),
    )


def _validator_set(file: GenesisFile) -> ValidatorSet:
    validators = (
        Validator(
            v.name, v.operator, bytes.fromhex(v.vote_key), bytes.fromhex(v.node_key), v.address
        )
        for v in file.validators
    )
    return ValidatorSet(0, tuple(validators))


def _business_day(day: GenesisDay) -> BusinessDay:
    closes = tuple(CycleClose(close.time, close.asset) for close in day.closes)
    return BusinessDay(day.date, day.begins, closes)


def _policy(policy: GenesisPolicy) -> SetPolicy:
    sweeps = sorted((sweep.asset, sweep.to) for sweep in policy.sweeps)
    return SetPolicy(policy.fifo_bypass, tuple(Sweep(asset, to) for asset, to in sweeps))


def _refuse_repeated_fields(data: bytes) -> None:
    """JSON parsers differ in which of two equal fields they keep: a reader could see another
    chain than the one that runs."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            names = [name for name, _ in items]
            raise BadGenesis(f"field {repeated(names)!r} stands twice in one object")
        return found

    try:
        json.loads(data, object_pairs_hook=pairs)
    except BadGenesis:
        raise
    except (ValueError, RecursionError) as error:
        raise BadGenesis(f"not JSON: {error}") from error


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
    schedule: Iterable[GenesisDay] = (),
    netting: Iterable[GenesisNetting] = (),
    members: Iterable[GenesisMember] = (),
    policies: Iterable[GenesisPolicy] = (),
) -> bytes:
    """The bytes of a genesis file, checked by `load_genesis`. `time`: ms since the Unix epoch.

    Raises BadGenesis.
    """
    file = GenesisFile(
        FORMAT,
        network,
        devnet,
        time,
        parameters or GenesisParameters(),
        tuple(assets),
        tuple(participants),
        tuple(validators),
        tuple(schedule),
        tuple(netting),
        tuple(members),
        tuple(policies),
    )
    data = msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
    load_genesis(data)
    return data
