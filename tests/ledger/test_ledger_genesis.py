"""Height 0 follows from the genesis file alone, and from a sound one only."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from node.chain.block import header_digest
from node.chain.genesis import BadGenesis, load_genesis
from node.chain.state_map import verify_absent, verify_present
from node.ledger.genesis import genesis_state
from node.ledger.governed import EPOCH_KEY, validator_key_key, validator_set_key
from node.ledger.state import PARAMETERS_KEY, account_key, asset_key, participant_key
from tests.support.ledger_world import Chain, MemoryIndex, World, lei

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
    ],
)
def test_no_chain_starts_from_an_unsound_file(
    change: Callable[[Document], None], match: str
) -> None:
    document = json.loads(World.make().genesis_bytes)
    change(document)
    with pytest.raises(BadGenesis, match=match):
        genesis_state(load_genesis(json.dumps(document).encode()), MemoryIndex())


def test_wrong_check_digits_of_a_lei_are_named() -> None:
    banks = {"CENTRALBANK": ("issuer", "validator"), "BANKA": ("direct-participant",)}
    world = World.make(banks=banks)
    genesis = world.genesis
    wrong = replace(genesis.participants[1], lei=lei(1)[:-2] + "00")
    with pytest.raises(BadGenesis, match=r"participants\[1\] \(BANKA\): the check digits of LEI"):
        genesis_state(
            replace(genesis, participants=(genesis.participants[0], wrong)), MemoryIndex()
        )
