"""A devnet's directory is made whole or not at all, and is opened again with what it had."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from devnet import identity, network
from devnet.ports import HOST
from node.chain.genesis import Genesis
from node.storage.config import load_config
from node.storage.errors import KeystoreError
from node.storage.home import open_home
from node.storage.keystore import open_keystore

NOW = 1_750_000_000_000


def create(directory: Path, seed: int = 7, now: int = NOW) -> network.Network:
    return network.create(directory, validators=2, banks=2, seed=seed, base_port=0, now=now)


def keys(genesis: Genesis) -> list[bytes]:
    own = [bytes.fromhex(key.public_key) for p in genesis.participants for key in p.keys]
    validators = genesis.validator_set.validators
    return own + [key for v in validators for key in (v.vote_key, v.node_key)]


def test_the_same_seed_gives_the_same_keys_on_another_chain(tmp_path: Path) -> None:
    first, later = create(tmp_path / "a"), create(tmp_path / "b", now=NOW + 1)
    other = create(tmp_path / "c", seed=8)
    assert keys(first.genesis) == keys(later.genesis)
    assert first.genesis.chain_id != later.genesis.chain_id
    assert not set(keys(first.genesis)) & set(keys(other.genesis))


def test_keys_and_genesis_are_marked_and_a_production_node_refuses_them(tmp_path: Path) -> None:
    made = create(tmp_path)
    assert made.genesis.devnet
    paths = [made.keystore(name) for name in identity.participant_names(2)]
    paths += [made.home("node0") / "keys" / name for name in ("node.json", "vote.json")]
    for path in paths:
        assert open_keystore(path, identity.PASSPHRASE, devnet=True).info.devnet
        with pytest.raises(KeystoreError, match="devnet key"):
            open_keystore(path, identity.PASSPHRASE, devnet=False)


def test_devnet_json_names_what_scripts_need(tmp_path: Path) -> None:
    made = create(tmp_path)
    found = json.loads((tmp_path / "devnet.json").read_text())
    assert list(found) == ["chain_id", "genesis", "nodes", "participants", "currencies"]
    assert found["chain_id"] == made.genesis.chain_id.hex()
    assert [list(node) for node in found["nodes"]] == [["name", "home", "api", "p2p", "pid"]] * 2
    names = [participant["name"] for participant in found["participants"]]
    assert names == ["CENTRALBANK", "BANKA", "BANKB"]
    assert list(found["participants"][0]) == ["name", "lei", "bic", "keystore", "api"]
    assert {"code": "EUR", "exponent": 2} in found["currencies"]
    for node in found["nodes"]:
        assert open_home(Path(node["home"])).index is not None
        assert node["api"].startswith("http://127.0.0.1:")
    assert all(Path(p["keystore"]).exists() for p in found["participants"])


def test_a_devnet_that_was_left_half_made_is_made_anew(tmp_path: Path) -> None:
    create(tmp_path)
    # As a crash leaves it: begun, some of it there, its settings not.
    (tmp_path / network.SETTINGS).unlink()
    (tmp_path / network.BEGUN).touch()
    assert not network.exists(tmp_path)
    made = create(tmp_path, seed=9)
    assert network.open_existing(tmp_path).settings == made.settings


def test_a_directory_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(network.DevnetUnusable, match=r"thesis\.txt"):
        create(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_devnet_of_another_format_or_a_damaged_one_is_refused_by_name(tmp_path: Path) -> None:
    create(tmp_path)
    settings = tmp_path / network.SETTINGS
    whole = settings.read_text()
    settings.write_text(whole.replace("nostro-devnet/1", "nostro-devnet/9"))
    with pytest.raises(network.DevnetUnusable, match="nostro-devnet/9"):
        network.open_existing(tmp_path)
    settings.write_text(whole[: len(whole) // 2])
    with pytest.raises(network.DevnetUnusable, match="damaged"):
        network.open_existing(tmp_path)


def test_freely_chosen_ports_move_when_another_process_took_one(tmp_path: Path) -> None:
    made = create(tmp_path)
    assert network.with_usable_ports(made) is made
    with socket.socket() as other:
        other.bind((HOST, made.settings.ports[1].api))
        other.listen()
        moved = network.with_usable_ports(made)
        assert moved.settings.ports[1].api != made.settings.ports[1].api
        assert network.open_existing(tmp_path).settings == moved.settings
        for index, name in enumerate(moved.node_names):
            config = load_config(moved.home(name) / "config.toml")
            assert config.api.port == moved.settings.ports[index].api
            other_name = moved.node_names[1 - index]
            assert config.peers[other_name].port == moved.settings.ports[1 - index].p2p
