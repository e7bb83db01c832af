"""Height 0 follows from the genesis file alone, and from a sound one only."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from node.chain.block import header_digest
from node.chain.encoding import encode
from node.chain.genesis import BadGenesis, genesis_key, load_genesis
from node.chain.records import BusinessDayKey, MemberKey, MemberRecord, NettingKey, NettingRecord
from node.chain.state_map import verify_absent, verify_present
from node.chain.types import CloseRule, Sweep
from node.ledger.genesis import GenesisBlock, genesis_state
from node.ledger.governed import EPOCH_KEY, validator_key_key, validator_set_key
from node.ledger.netting import FIRST_CYCLE
from node.ledger.state import PARAMETERS_KEY, account_key, asset_key, participant_key
from node.ledger.tables import BUSINESS_DAYS, MEMBERS, NETTING
from tests.support.ledger_world import (
    BANKS,
    DAY_MS,
    HOUR_MS,
    Chain,
    MemoryIndex,
    World,
    lei,
    signer,
)

ISIN = "DE0001102309"

Document = dict[str, Any]


def test_everything_in_the_file_is_under_the_state_root() -> None:
    world = World.make(keys={"BANKB": (3, 2)})
    header, applied = genesis_state(world.genesis, MemoryIndex())
    keys = [
        PARAMETERS_KEY,
        asset_key("EUR"),
        asset_key("CNY"),
        *(participant_key(bank.lei) for bank in world.banks.values()),
        EPOCH_KEY,
        validator_set_key(0),
        *(validator_key_key(key.public_key) for key in (*world.votes, *world.nodes)),
    ]
    assert sorted(applied.records) == sorted(keys)
    for key in keys:
        record, proof = applied.state.map.prove(key)
        assert record == applied.records[key]
        assert record is not None
        verify_present(header.state_root, key, record, proof)
    no_account = account_key(world.lei("BANKA"), "EUR", 0)
    verify_absent(header.state_root, no_account, applied.state.map.prove(no_account)[1])
    bank = applied.state.participant(world.lei("BANKB"))
    assert bank is not None
    assert bank.record.threshold == 2
    assert [key.public_key for key in bank.record.keys] == sorted(
        each.public_key for each in world.banks["BANKB"].signers
    )


def test_the_genesis_block_is_height_0_and_already_committed() -> None:
    chain = Chain(World.make())
    header, applied = chain.genesis
    assert (header.height, header.view, header.epoch, header.proposer) == (0, 0, 0, 0)
    assert header.parent == bytes(32)
    assert chain.ledger.info() == (0, header_digest(header), header.timestamp, header.state_root)
    assert applied.history_nodes[0][0] == (0, 0)
    assert chain.make().header.parent == header_digest(header)


def test_participants_are_found_by_name_lei_and_bic() -> None:
    world = World.make()
    state = Chain(world).state
    bank = world.banks["BANKB"]
    for text in (bank.name, bank.lei, bank.bic):
        found = state.find_participant(text)
        assert found is not None
        assert found.record.name == "BANKB"
    assert state.find_participant("BANKZ") is None


def with_settlement(document: Document) -> Document:
    """The file with everything that founds days, net systems and policies."""
    a, b = (document["participants"][n] for n in (1, 2))
    start = document["time"] + HOUR_MS
    document["assets"].append({"code": ISIN, "exponent": 0, "issuer": lei(20)})
    for number, name, role in ((20, "DEPOT", "depository"), (21, "SMALL", "indirect-participant")):
        made = genesis_key(signer(name), document["network"], lei(number))
        key = {"public_key": made.public_key, "possession": made.possession}
        document["participants"].append(
            {
                "name": name,
                "lei": lei(number),
                "bic": f"NOSZDE{name[0]}X",
                "roles": [role],
                "threshold": 1,
                "keys": [key],
                **({"sponsor": a["lei"]} if name == "SMALL" else {}),
            }
        )
    document["parameters"]["close_rule"] = "roll-over"
    document["schedule"] = [
        {
            "date": 20300101 + day,
            "begins": [start + day * DAY_MS + n * HOUR_MS for n in range(5)],
            "closes": [{"time": start + day * DAY_MS + HOUR_MS, "asset": "EUR"}],
        }
        for day in range(2)
    ]
    document["netting"] = [{"asset": "EUR", "funding_ms": 60_000}]
    document["members"] = [
        {"participant": a["lei"], "asset": "EUR", "cap": 5, "margin": 1, "contribution": 2}
    ]
    document["policies"] = [
        {
            "participant": b["lei"],
            "fifo_bypass": True,
            "sweeps": [{"asset": "EUR", "to": a["lei"]}],
        }
    ]
    return document


def founded(document: Document) -> GenesisBlock:
    return genesis_state(load_genesis(json.dumps(document).encode()), MemoryIndex())


def test_days_net_systems_members_and_policies_of_the_file_are_in_the_state() -> None:
    document = with_settlement(json.loads(World.make().genesis_bytes))
    header, applied = founded(document)
    state = applied.state
    assert state.parameters.close_rule is CloseRule.ROLL_OVER
    assert [(asset.code, asset.security) for asset in state.assets()] == [
        ("CNY", False),
        (ISIN, True),
        ("EUR", False),
    ]
    days = [day for _, day in state.rows(BUSINESS_DAYS)]
    assert [day.date for day in days] == [20300101, 20300102]
    assert state.rows(NETTING) == [(NettingKey("EUR"), NettingRecord(True, 60_000, FIRST_CYCLE))]
    assert state.rows(MEMBERS) == [(MemberKey(lei(1), "EUR"), MemberRecord(5, 1, 2))]
    policy, small = state.participant(lei(2)), state.participant(lei(21))
    assert policy is not None
    assert (policy.record.fifo_bypass, policy.record.sweeps) == (True, (Sweep("EUR", lei(1)),))
    assert small is not None
    assert small.record.sponsor == lei(1)
    assert state.phase is None, "the first day has not begun"
    assert state.next_due() == days[0].begins[0]
    for key in (encode(NettingKey("EUR")), encode(BusinessDayKey(20300101))):
        record, proof = state.map.prove(key)
        assert record is not None
        verify_present(header.state_root, key, record, proof)


def test_operators_of_the_file_have_as_many_approvals_as_keys() -> None:
    world = World.make(
        banks={**BANKS, "BANKA": ("direct-participant", "operator")}, keys={"CENTRALBANK": (3, 2)}
    )
    state = genesis_state(world.genesis, MemoryIndex()).applied.state
    records = [each.record for each in state.participants()]
    assert [(each.name, each.approvals) for each in records if each.approvals] == [
        ("CENTRALBANK", 3),
        ("BANKA", 1),
    ]


def gap(document: Document) -> None:
    with_settlement(document)["schedule"][1]["date"] = 20300101 - 1


def day_without_length(document: Document) -> None:
    day = with_settlement(document)["schedule"][0]
    day["begins"] = [day["begins"][4]] * 5
    day["closes"] = []


def begins_at_once(document: Document) -> None:
    with_settlement(document)["schedule"][0]["begins"][0] = document["time"]


def wrong_lei(document: Document) -> None:
    document["participants"][1]["lei"] = lei(1)[:-1] + "0"


def wrong_country(document: Document) -> None:
    document["participants"][2]["bic"] = "NOSAZZBX"


def digit_in_bank_code(document: Document) -> None:
    document["participants"][2]["bic"] = "N0SADEBX"


def repeated(field: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["participants"][1][field] = document["participants"][2][field]

    return change


def unknown_issuer(document: Document) -> None:
    document["assets"][0]["issuer"] = lei(999)


def unknown_role(document: Document) -> None:
    document["participants"][0]["roles"].append("king")


def threshold_out_of_reach(document: Document) -> None:
    document["participants"][0]["threshold"] = 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (wrong_lei, "participants"),
        (wrong_country, r"participants\[2\] \(BANKB\): .*names no country: ZZ"),
        (digit_in_bank_code, r"participants\[2\] \(BANKB\): .*not a BIC"),
        (repeated("name"), "name BANKB stands twice"),
        (repeated("lei"), "lei .* stands twice"),
        (repeated("bic"), "bic .* stands twice"),
        (unknown_issuer, "issuer"),
        (unknown_role, "king"),
        (threshold_out_of_reach, "threshold"),
        (gap, r"schedule \(2030-01-00\): there is no such date"),
        (day_without_length, r"schedule \(2030-01-01\): it closes at the instant"),
        (begins_at_once, "begins at the genesis time"),
    ],
)
def test_no_chain_starts_from_an_unsound_file(
    change: Callable[[Document], None], match: str
) -> None:
    document = json.loads(World.make().genesis_bytes)
    change(document)
    with pytest.raises(BadGenesis, match=match):
        founded(document)


def test_wrong_check_digits_of_a_lei_are_named() -> None:
    banks = {"CENTRALBANK": ("issuer", "validator"), "BANKA": ("direct-participant",)}
    world = World.make(banks=banks)
    genesis = world.genesis
    wrong = replace(genesis.participants[1], lei=lei(1)[:-2] + "00")
    with pytest.raises(BadGenesis, match=r"participants\[1\] \(BANKA\): the check digits of LEI"):
        genesis_state(
            replace(genesis, participants=(genesis.participants[0], wrong)), MemoryIndex()
        )
