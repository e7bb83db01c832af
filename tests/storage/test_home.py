"""A home is whole or not there, private, of one format, one chain and one process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from node.chain.signature import Ed25519Signer
from node.storage.chain_store import ChainStore
from node.storage.config import Address, NodeConfig
from node.storage.errors import ConfigError, HomeError, KeystoreError, SignerUnusable, StoreLocked
from node.storage.home import Home, create_home, open_home
from node.storage.keystore import open_keystore, seal_key
from tests.support import world

ANYWHERE = Address("127.0.0.1", 0)
CONFIG = NodeConfig("node0", ANYWHERE, ANYWHERE, ANYWHERE)
GENESIS = world.genesis_bytes()


def seed_of(name: str) -> bytes:
    """The seed behind the test world's keys."""
    return sha256(b"nostro test key " + name.encode()).digest()


def sealed(role: str, name: str, *, devnet: bool = True) -> bytes:
    passphrase = "devnet" if devnet else "a long passphrase"
    return seal_key(
        role=role, name="node0", lei="", seed=seed_of(name), passphrase=passphrase, devnet=devnet
    )


NODE_KEY = sealed("node", "node 0")
VOTE_KEY = sealed("vote", "vote 0")


def make(path: Path) -> Home:
    return create_home(path, genesis=GENESIS, config=CONFIG, node_key=NODE_KEY, vote_key=VOTE_KEY)


def test_the_keys_of_these_tests_are_the_worlds() -> None:
    assert Ed25519Signer(seed_of("vote 0")).public_key == world.vote_signer(0).public_key


def test_a_new_home_opens_with_everything_a_node_needs(tmp_path: Path) -> None:
    home = make(tmp_path / "deep" / "home")
    assert home.config == CONFIG
    assert home.genesis_bytes == GENESIS
    assert home.chain_id == world.genesis().chain_id
    assert home.index == 0
    home.acquire()
    database = home.open_database()
    assert ChainStore(database).floor() is None
    journal, records = home.open_journal()
    assert records == []
    assert home.vote_key is not None
    guard = home.open_signer(open_keystore(home.vote_key, "devnet", role="vote", devnet=True))
    for part in (database, journal, guard):
        part.close()
    home.release()
    again = open_home(home.path)
    assert (again.config, again.genesis_bytes) == (home.config, home.genesis_bytes)


def test_an_observer_has_no_vote_key_and_no_index(tmp_path: Path) -> None:
    config = replace(CONFIG, name="watcher")
    home = create_home(
        tmp_path / "home",
        genesis=GENESIS,
        config=config,
        node_key=sealed("node", "watcher"),
        vote_key=None,
    )
    assert (home.vote_key, home.index) == (None, None)
    assert not home.signer.exists()


def test_everything_in_a_home_is_its_owners_alone(tmp_path: Path) -> None:
    home = make(tmp_path / "home")
    for path in home.path.rglob("*"):
        if home.data in path.parents and path.parent != home.data:
            continue  # LevelDB's own files, in a directory that nobody else may enter
        expected = 0o700 if path.is_dir() else 0o600
        assert path.stat().st_mode & 0o777 == expected, path
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert (home.data / "db").stat().st_mode & 0o777 == 0o700


def test_a_home_is_never_made_over_something(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    make(tmp_path / "home")
    with pytest.raises(HomeError, match="never overwritten"):
        make(tmp_path / "home")
    (tmp_path / "file").write_text("x")
    with pytest.raises(HomeError, match="never overwritten"):
        make(tmp_path / "file")


def test_a_home_that_could_not_be_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="genesis"):
        create_home(
            tmp_path / "home",
            genesis=GENESIS,
            config=CONFIG,
            node_key=sealed("node", "node 1"),
            vote_key=VOTE_KEY,
        )
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_refused_by_name(tmp_path: Path) -> None:
    home = make(tmp_path / "home")
    path = home.path / "format"
    path.write_text(path.read_text().replace("nostro-home/1", "nostro-home/2"))
    with pytest.raises(HomeError, match="'nostro-home/2', this program reads nostro-home/1"):
        open_home(home.path)
    path.write_text("nostro-home/1\n")
    with pytest.raises(HomeError, match="damaged"):
        open_home(home.path)


def test_what_is_no_home_says_so(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="no such directory"):
        open_home(tmp_path / "none")
    with pytest.raises(HomeError, match="not a node's home"):
        open_home(tmp_path)


def test_another_genesis_file_is_refused(tmp_path: Path) -> None:
    home = make(tmp_path / "home")
    (home.path / "genesis.json").write_bytes(world.genesis_bytes(7))
    with pytest.raises(HomeError, match="was made for chain"):
        open_home(home.path)
    (home.path / "genesis.json").write_bytes(GENESIS[:-10])
    with pytest.raises(HomeError, match=r"genesis\.json"):
        open_home(home.path)
    (home.path / "genesis.json").unlink()
    with pytest.raises(HomeError, match="missing"):
        open_home(home.path)


@pytest.mark.parametrize("directory", ["", "keys"])
def test_a_directory_that_others_may_enter_is_refused_by_its_mode(
    tmp_path: Path, directory: str
) -> None:
    home = make(tmp_path / "home")
    (home.path / directory).chmod(0o755)
    with pytest.raises(HomeError, match=r"mode 0755.*chmod 700"):
        open_home(home.path)


@pytest.mark.parametrize("key", ["node.json", "vote.json"])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, key: str) -> None:
    home = make(tmp_path / "home")
    (home.path / "keys" / key).chmod(0o640)
    with pytest.raises(KeystoreError, match="mode 0640"):
        open_home(home.path)


def test_no_home_is_made_with_keys_of_another_node_or_holder(tmp_path: Path) -> None:
    def make_with(vote_key: bytes, config: NodeConfig = CONFIG) -> Home:
        path = tmp_path / "home"
        return create_home(
            path, genesis=GENESIS, config=config, node_key=NODE_KEY, vote_key=vote_key
        )

    with pytest.raises(HomeError, match="not the vote key that the genesis file names"):
        make_with(sealed("vote", "vote 1"))
    with pytest.raises(HomeError, match="names no validator 'stranger'"):
        make_with(VOTE_KEY, replace(CONFIG, name="stranger"))
    assert not (tmp_path / "home").exists()


def test_a_key_in_the_place_of_another_role_is_refused(tmp_path: Path) -> None:
    home = make(tmp_path / "home")
    (home.path / "keys" / "vote.json").write_bytes(NODE_KEY)
    with pytest.raises(HomeError, match="this is a node key, not a vote key"):
        open_home(home.path)


def test_devnet_keys_are_refused_on_a_chain_that_is_no_devnet(tmp_path: Path) -> None:
    document = json.loads(GENESIS)
    document["devnet"] = False
    production = json.dumps(document).encode()
    keys = {"node_key": NODE_KEY, "vote_key": VOTE_KEY}
    with pytest.raises(HomeError, match="devnet key"):
        create_home(tmp_path / "home", genesis=production, config=CONFIG, **keys)


def test_one_process_runs_a_home_and_the_other_is_told_which(tmp_path: Path) -> None:
    home = make(tmp_path / "home")
    script = (
        "import os, pathlib, sys\n"
        "from node.storage.home import open_home\n"
        "home = open_home(pathlib.Path(sys.argv[1]))\n"
        "home.acquire()\n"
        "print(os.getpid(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        with pytest.raises(StoreLocked, match=f"in use by process {pid}"):
            home.acquire()
        process.kill()
    home.acquire()
    home.release()


def test_a_lost_signer_record_is_not_made_anew_by_opening(tmp_path: Path) -> None:
    home = make(tmp_path / "home")
    for path in home.signer.iterdir():
        path.unlink()
    assert home.vote_key is not None
    with pytest.raises(SignerUnusable, match="never sign again"):
        open_home(home.path).open_signer(open_keystore(home.vote_key, "devnet"))


def test_only_on_a_devnet_may_a_node_play_old_software(tmp_path: Path) -> None:
    old = replace(CONFIG, devnet_rules=1)
    (tmp_path / "devnet").mkdir()
    made = create_home(
        tmp_path / "devnet" / "home",
        genesis=GENESIS,
        config=old,
        node_key=NODE_KEY,
        vote_key=VOTE_KEY,
    )
    assert made.config.devnet_rules == 1
    document = json.loads(GENESIS)
    document["devnet"] = False
    with pytest.raises(ConfigError, match=r"devnet\.rules: network .* is no devnet"):
        create_home(
            tmp_path / "home",
            genesis=json.dumps(document).encode(),
            config=old,
            node_key=sealed("node", "node 0", devnet=False),
            vote_key=sealed("vote", "vote 0", devnet=False),
        )
