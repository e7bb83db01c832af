"""A chain starts only from a genesis file in which every name, key and reference holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from node.chain.genesis import BadGenesis, dump_genesis, genesis_key, load_genesis
from tests.support import world

GOOD = world.genesis_bytes()
Change = Callable[[dict[str, Any]], None]


def broken(change: Change) -> str:
    """What `load_genesis` says about the file after this change."""
    document = json.loads(GOOD)
    change(document)
    with pytest.raises(BadGenesis) as caught:
        load_genesis(json.dumps(document).encode())
    return str(caught.value)


def put(*path: Any, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def same_as(path: tuple[Any, ...], source: tuple[Any, ...]) -> Change:
    def change(document: dict[str, Any]) -> None:
        value: Any = document
        for step in source:
            value = value[step]
        put(*path, value=value)(document)

    return change


def test_the_chain_id_binds_every_byte_of_the_file() -> None:
    genesis = load_genesis(GOOD)
    assert genesis.network == "test"
    assert genesis.devnet
    assert genesis.parameters.uetr_window_ms == 35 * 24 * 3600 * 1000
    assert len(genesis.validator_set.validators) == 4
    assert genesis.validator_set.epoch == 0
    assert load_genesis(GOOD + b"\n").chain_id != genesis.chain_id
    assert load_genesis(GOOD.replace(b'"test",', b'"test" ,')).chain_id != genesis.chain_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("format", value="nostro-genesis/2"), "nostro-genesis/1"),
        (put("surprise", value=1), "unknown field `surprise`"),
        (put("participants", 0, "surprise", value=1), "unknown field `surprise`"),
        (put("time", value=-1), "$.time"),
        (put("time", value="now"), "$.time"),
        # More than 64 bits fit no header; and blocks must be able to follow.
        (put("time", value=2**64), "$.time"),
        (put("time", value=2**64 - 1), "$.time"),
        (put("devnet", value=0), "$.devnet"),
        (put("network", value="two words"), "$.network"),
        (put("network", value="test\n"), "$.network"),
        (put("parameters", "uetr_window_days", value=0), "$.parameters.uetr_window_days"),
        (put("parameters", "governance_threshold", value=0), "$.parameters.governance_threshold"),
        (put("parameters", "governance_threshold", value=2), "2 approvals of 1 operator keys"),
        (put("parameters", "readiness_ms", value=-1), "$.parameters.readiness_ms"),
        (put("parameters", "readiness_ms", value=2**40), "$.parameters.readiness_ms"),
        (put("assets", value=[]), "$.assets"),
        (put("assets", 0, "exponent", value=9), "$.assets[0].exponent"),
        (put("assets", 0, "code", value="eur"), "$.assets[0].code"),
        (put("assets", 1, "code", value="EUR"), "code EUR stands twice"),
        (put("assets", 0, "issuer", value=world.lei(77)), "no participant has the LEI"),
        (put("assets", 0, "issuer", value=world.BANKA.lei), "does not have the role 'issuer'"),
        (put("participants", 1, "lei", value="short"), "$.participants[1].lei"),
        (put("participants", 1, "bic", value="BNKADEFFXX"), "$.participants[1].bic"),
        (put("participants", 1, "roles", value=["king"]), "'king' is none of auditor"),
        (put("participants", 1, "roles", value=["validator"] * 2), "a role stands twice"),
        (put("participants", 1, "threshold", value=2), "can never be had"),
        (put("participants", 1, "keys", value=[]), "$.participants[1].keys"),
        (put("validators", value=[]), "$.validators"),
        (put("validators", 0, "operator", value=world.lei(77)), "no participant has the LEI"),
        (put("validators", 1, "name", value="node0"), "name node0 stands twice"),
        (put("validators", 1, "address", value="node1"), "$.validators[1].address"),
        (put("validators", 1, "address", value="node1:70000"), "$.validators[1].address"),
        (put("validators", 0, "vote_key", value="00" * 32), "vote_key: 0000"),
        (put("validators", 0, "vote_key", value="AA" * 32), "$.validators[0].vote_key"),
        (put("validators", 0, "vote_key", value="aa"), "$.validators[0].vote_key"),
        (put("validators", 0, "vote_possession", value="00" * 64), "proof of possession"),
        (same_as(("participants", 1, "name"), ("participants", 2, "name")), "name BANKB"),
        (same_as(("participants", 1, "lei"), ("participants", 2, "lei")), "stands twice"),
        (same_as(("participants", 1, "bic"), ("participants", 2, "bic")), "stands twice"),
        # A payment to "BNKBCNSH" must not depend on which of two participants is found first.
        (
            same_as(("participants", 1, "name"), ("participants", 2, "bic")),
            "participants[1] (BNKBCNSH).name: the same as participants[2] (BANKB).bic",
        ),
        (
            same_as(("participants", 3, "name"), ("participants", 2, "lei")),
            "the same as participants[2] (BANKB).lei",
        ),
        (
            same_as(("validators", 1, "vote_key"), ("validators", 0, "vote_key")),
            "the same key as validators[0]",
        ),
        (
            same_as(("validators", 0, "node_key"), ("validators", 0, "vote_key")),
            "the same key as validators[0] (node0).vote_key",
        ),
        (
            same_as(("validators", 0, "vote_key"), ("participants", 1, "keys", 0, "public_key")),
            "the same key as participants[1].keys[0] (BANKA)",
        ),
        (
            # A proof made for another role: somebody's vote key passed off as a node key.
            same_as(("validators", 0, "node_possession"), ("validators", 0, "vote_possession")),
            "proof of possession as node key",
        ),
    ],
)
def test_a_file_that_does_not_hold_together_is_refused_by_field(
    change: Change, message: str
) -> None:
    assert message in broken(change)


def test_a_missing_field_is_named() -> None:
    assert "participants" in broken(lambda document: document.pop("participants"))


def test_a_proof_of_possession_for_another_network_is_refused() -> None:
    foreign = genesis_key(world.BANKA.key, "production", world.BANKA.lei)
    assert "proof of possession" in broken(
        put("participants", 1, "keys", 0, "possession", value=foreign.possession)
    )


def test_a_repeated_field_is_refused_since_readers_differ_in_which_they_keep() -> None:
    twice = GOOD.replace(b'"devnet": true', b'"devnet": false, "devnet": true')
    with pytest.raises(BadGenesis, match="'devnet' stands twice"):
        load_genesis(twice)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", GOOD[:-10], b"\xff\xfe", b"\x1f\x8b gzip", b"[" * 200_000],
    ids=["empty", "object", "array", "null", "cut", "utf-16", "gzip", "nested"],
)
def test_what_is_no_genesis_file_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(BadGenesis, match=r"not JSON|not a genesis file"):
        load_genesis(data)


def test_a_huge_file_is_refused_unread() -> None:
    with pytest.raises(BadGenesis, match="at most"):
        load_genesis(b" " * (4 * 2**20 + 1))


def test_no_file_is_written_that_would_be_refused() -> None:
    with pytest.raises(BadGenesis):
        dump_genesis(network="test", devnet=True, time=0, assets=[], participants=[], validators=[])


def test_the_parameters_of_governance_are_the_files_or_the_default() -> None:
    parameters = load_genesis(GOOD).parameters
    assert (parameters.governance_threshold, parameters.readiness_ms) == (1, 60_000)
    document = json.loads(GOOD)
    del document["parameters"]["governance_threshold"], document["parameters"]["readiness_ms"]
    assert load_genesis(json.dumps(document).encode()).parameters == parameters


def test_a_network_without_operators_keeps_its_validators_and_may_say_so() -> None:
    document = json.loads(GOOD)
    document["participants"][0]["roles"].remove("operator")
    load_genesis(json.dumps(document).encode())


def test_validators_may_have_addresses_that_all_nodes_learn_from_the_file() -> None:
    document = json.loads(GOOD)
    assert "address" not in document["validators"][0]
    document["validators"][0]["address"] = "node0.banka.example:4100"
    validators = load_genesis(json.dumps(document).encode()).validator_set.validators
    assert [v.address for v in validators] == ["node0.banka.example:4100", "", "", ""]
