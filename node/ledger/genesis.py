"""The state of height 0, as the genesis file describes it."""

from __future__ import annotations

from typing import NamedTuple

from node.chain import merkle
from node.chain.block import genesis_header, header_digest
from node.chain.encoding import encode
from node.chain.genesis import BadGenesis, Genesis
from node.chain.genesis_file import GenesisParticipant
from node.chain.records import (
    AssetRecord,
    BusinessDayKey,
    EpochRecord,
    KeyRecord,
    MemberKey,
    MemberRecord,
    NettingKey,
    NettingRecord,
    ParametersRecord,
    ParticipantRecord,
)
from node.chain.state_map import StateMap
from node.chain.types import Header, SetPolicy
from node.ledger import netting, schedule
from node.ledger.entries import RecentIndex
from node.ledger.governed import Governed
from node.ledger.identifiers import BadIdentifier, check_bic, check_lei
from node.ledger.state import (
    PARAMETERS_KEY,
    Base,
    Layer,
    Participant,
    State,
    asset_key,
    participant_key,
)
from node.ledger.tables import BUSINESS_DAYS, MEMBERS, NETTING, AnyTable, Rows
from node.ledger.validators import key_records
from node.ledger.work import Applied, BlockContext

OPERATOR = "operator"
NO_POLICY = SetPolicy(fifo_bypass=False, sweeps=())


class GenesisBlock(NamedTuple):
    """Height 0: final by definition, computed by everybody from the file."""

    header: Header
    applied: Applied
    """Sealed; its state is the committed one."""


def genesis_state(genesis: Genesis, recent: RecentIndex) -> GenesisBlock:
    """The first state and its header. Raises BadGenesis for a LEI or BIC that names nobody, and
    for a schedule whose days do not follow on each other.

    `recent` is where executed ids and used UETRs of final blocks are looked up from then on.
    """
    participants = _participants(genesis)
    parameters = ParametersRecord(
        genesis.parameters.uetr_window_ms,
        genesis.parameters.governance_threshold,
        genesis.parameters.readiness_ms,
        genesis.close_rule,
    )
    governed = Governed()
    governed.epoch = EpochRecord(epoch=0, pending=None)
    governed.sets[0] = genesis.validator_set
    for validator in genesis.validator_set.validators:
        governed.keys |= {use.public_key: use for use in key_records(validator)}
    assets = {
        asset.code: AssetRecord(
            asset.code,
            asset.exponent,
            asset.issuer,
            security=asset.code in genesis.securities,
            issued=0,
            redeemed=0,
        )
        for asset in genesis.assets
    }
    records: dict[bytes, bytes | None] = {PARAMETERS_KEY: encode(parameters)}
    records |= {asset_key(code): encode(asset) for code, asset in assets.items()}
    records |= {participant_key(lei): encode(each.record) for lei, each in participants.items()}
    records |= governed.records()
    tables = _tables(genesis)
    records |= {encode(key): encode(row) for rows in tables.values() for key, row in rows.items()}
    empty = StateMap.empty()
    state_map = empty.update(records)
    header = genesis_header(genesis, state_map.root)
    state = State(
        Base(parameters, participants, assets, {}, governed=governed, recent=recent, tables=tables),
        None,
        Layer(),
        chain_id=genesis.chain_id,
        height=0,
        time=genesis.time,
        map=state_map,
    )
    applied = Applied(
        context=BlockContext(0, genesis.time),
        outcomes=[],
        outcomes_root=merkle.EMPTY_ROOT,
        state_root=state_map.root,
        history_root=merkle.EMPTY_ROOT,
        state=state,
        records=records,
        nodes=list(state_map.nodes_since(empty)),
        ids=[],
        uetrs=[],
    )
    applied.seal(header_digest(header))
    state.commit()
    return GenesisBlock(header, applied)


def _tables(genesis: Genesis) -> dict[AnyTable, Rows]:
    """The rows that the file founds: the schedule, net systems and their members."""
    for fault in schedule.faults(genesis.schedule):
        raise BadGenesis(f"schedule ({schedule.dashed(fault.date)}): {fault.text}")
    return {
        BUSINESS_DAYS: {BusinessDayKey(day.date): day for day in genesis.schedule},
        NETTING: {
            NettingKey(each.asset): NettingRecord(
                each.enabled, each.funding_ms, netting.FIRST_CYCLE
            )
            for each in genesis.netting
        },
        MEMBERS: {
            MemberKey(each.participant, each.asset): MemberRecord(
                each.cap, each.margin, each.contribution
            )
            for each in genesis.members
        },
    }


def _participants(genesis: Genesis) -> dict[str, Participant]:
    policies = dict(genesis.policies)
    participants: dict[str, Participant] = {}
    for index, described in enumerate(genesis.participants):
        where = f"participants[{index}] ({described.name})"
        try:
            check_lei(described.lei)
            check_bic(described.bic)
        except BadIdentifier as error:
            raise BadGenesis(f"{where}: {error}") from error
        participants[described.lei] = Participant(
            _record(described, policies.get(described.lei, NO_POLICY))
        )
    return participants


def _record(described: GenesisParticipant, policy: SetPolicy) -> ParticipantRecord:
    keys = sorted(bytes.fromhex(key.public_key) for key in described.keys)
    return ParticipantRecord(
        lei=described.lei,
        bic=described.bic,
        name=described.name,
        roles=tuple(sorted(described.roles)),
        keys=tuple(KeyRecord(key, valid_from=0, revoked_from=None) for key in keys),
        threshold=described.threshold,
        approvals=len(keys) if OPERATOR in described.roles else 0,
        sponsor=described.sponsor,
        suspended=False,
        closed=False,
        debit_frozen=False,
        credit_frozen=False,
        fifo_bypass=policy.fifo_bypass,
        sweeps=policy.sweeps,
    )
