"""`init`, `genesis`, `keystore`, `config check`, `doctor`, `start`: founding and running a node."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.chain.genesis import load_genesis
from node.storage.config import Address
from node.storage.home import open_home
from node.storage.keystore import read_key_info
from tests.support import world
from tests.support.command import Ran, run
from tests.support.homes import make_home

LEI = world.BANKA.lei
ROOT = Path(__file__).parents[2]


def write_passphrase(directory: Path) -> Path:
    path = directory / "passphrase"
    path.write_text("correct horse battery\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    return write_passphrase(tmp_path)


def make_keys(home: Path, passphrase: Path, name: str, network: str = "t") -> Ran:
    return run(
        "init", "--home", home, "--name", name, "--operator", LEI, "--network", network,
        "--passphrase-file", passphrase,
    )  # fmt: skip


def spec(tmp_path: Path, passphrase: Path) -> Path:
    made = run(
        "keystore", "create", "--name", "BANKA", "--lei", LEI, "-o", tmp_path / "bank.key",
        "--network", "t", "--passphrase-file", passphrase, "--json",
    )  # fmt: skip
    participant = {
        "name": "BANKA",
        "lei": LEI,
        "bic": "BNKADEFF",
        "roles": ["issuer", "validator"],
        "threshold": 1,
        "keys": [made.json["genesis_key"]],
    }
    path = tmp_path / "spec.json"
    asset = {"code": "EUR", "exponent": 2, "issuer": LEI}
    path.write_text(json.dumps({"assets": [asset], "participants": [participant]}))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of node0 and node1 and the genesis file of their network. Production keys are slow
    to make, so they are made once."""
    directory = tmp_path_factory.mktemp("network")
    passphrase = write_passphrase(directory)
    for name in ("node0", "node1"):
        assert make_keys(directory / name, passphrase, name).code == 0
    ran = run(
        "genesis", "build", "--network", "t", "--spec", spec(directory, passphrase),
        "--validator", *(directory / name / "validator.json" for name in ("node0", "node1")),
        "-o", directory / "genesis.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return directory


@pytest.fixture
def founded(network: Path, tmp_path: Path) -> Path:
    """A copy of `network` to work on."""
    shutil.copytree(network, tmp_path, dirs_exist_ok=True)
    return tmp_path


# --- founding -------------------------------------------------------------------------------------


def test_a_network_is_founded_from_public_records_alone(founded: Path) -> None:
    genesis = load_genesis((founded / "genesis.json").read_bytes())
    assert not genesis.devnet
    assert [v.name for v in genesis.validator_set.validators] == ["node0", "node1"]
    before = (founded / "node0" / "keys" / "vote.json").read_bytes()
    ran = run(
        "init", "--home", founded / "node0", "--genesis", founded / "genesis.json",
        "--peer", "node1=127.0.0.1:4200", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    home = open_home(founded / "node0")
    assert ran.json["chain_id"] == genesis.chain_id.hex()
    assert home.config.peers == {"node1": Address("127.0.0.1", 4200)}
    assert home.vote_key is not None
    assert home.vote_key.read_bytes() == before
    # The keys are in one place only: two homes with one vote key could sign against each other.
    assert not [p for p in founded.iterdir() if p.name.startswith(".")]
    again = run("init", "--home", founded / "node0", "--genesis", founded / "genesis.json")
    assert again.code == 1
    assert "never overwritten" in again.err


def test_keys_are_private_and_never_overwritten(tmp_path: Path, passphrase: Path) -> None:
    home = tmp_path / "node0"
    assert make_keys(home, passphrase, "node0").code == 0
    for path in (home, home / "keys"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (home / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not read_key_info(path).devnet
    ran = make_keys(home, passphrase, "node0")
    assert ran.code == 1
    assert "never overwritten" in ran.err


def test_an_install_that_was_cut_off_after_moving_the_keys_aside_goes_on(founded: Path) -> None:
    (founded / "node0").rename(founded / ".node0.before-genesis")
    install = ("init", "--home", founded / "node0", "--genesis", founded / "genesis.json")
    assert run(*install).code == 0
    open_home(founded / "node0")


def test_an_install_that_fails_leaves_the_keys_where_they_were(founded: Path) -> None:
    ran = run(
        "init", "--home", founded / "node0", "--genesis", founded / "genesis.json",
        "--p2p", "nonsense",
    )  # fmt: skip
    assert ran.code == 64
    assert (founded / "node0" / "keys" / "vote.json").exists()
    (founded / "node0" / "keys" / "node.json").rename(founded / "x")
    (founded / "node1" / "keys" / "node.json").rename(founded / "node0" / "keys" / "node.json")
    ran = run("init", "--home", founded / "node0", "--genesis", founded / "genesis.json")
    assert ran.code == 1
    assert "not the node key" in ran.err
    assert (founded / "node0" / "keys" / "vote.json").exists()


def test_production_keys_do_not_join_a_devnet(founded: Path) -> None:
    path = founded / "devnet-genesis.json"
    path.write_bytes(world.genesis_bytes())
    ran = run("init", "--home", founded / "node0", "--genesis", path)
    assert ran.code == 1
    assert "devnet" in ran.err


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: r.update(network="other"), "made for network 'other'"),
        (lambda r: r.update(format="nostro-validator/2"), "reads nostro-validator/1"),
        (lambda r: r.update(more=1), "not a validator's record"),
        (lambda r: r["validator"].update(vote_possession="00" * 64), "proof of possession"),
    ],
)
def test_a_bad_validator_record_is_refused(founded: Path, change: object, why: str) -> None:
    path = founded / "node0" / "validator.json"
    record = json.loads(path.read_text())
    assert callable(change)
    change(record)
    path.write_text(json.dumps(record))
    ran = run(
        "genesis", "build", "--network", "t", "--spec", founded / "spec.json",
        "--validator", path, "-o", founded / "new.json",
    )  # fmt: skip
    assert ran.code == 1
    assert why in ran.err
    assert not (founded / "new.json").exists()


def test_a_spec_with_a_wrong_check_digit_is_refused(founded: Path) -> None:
    path = founded / "spec.json"
    path.write_text(path.read_text().replace('"BNKADEFF"', '"BNKAXXFF"'))
    ran = run(
        "genesis", "build", "--network", "t", "--spec", path,
        "--validator", founded / "node0" / "validator.json", "-o", founded / "new.json",
    )  # fmt: skip
    assert ran.code == 1
    assert "participants[0] (BANKA)" in ran.err


def with_schedule(founded: Path, dates: tuple[int, ...]) -> Path:
    """The spec with a clearing currency and these business days, one after the other."""
    path = founded / "spec.json"
    document = json.loads(path.read_text())
    hour = 3_600_000
    document["schedule"] = [
        {"date": date, "begins": [(index * 24 + n) * hour for n in range(1, 6)]}
        for index, date in enumerate(dates)
    ]
    document["netting"] = [{"asset": "EUR", "funding_ms": hour}]
    path.write_text(json.dumps(document))
    return path


def test_a_genesis_file_founds_a_schedule_and_clearing_where_the_spec_says_so(
    founded: Path,
) -> None:
    ran = run(
        "genesis", "build", "--network", "t", "--time", "0",
        "--spec", with_schedule(founded, (20_250_616, 20_250_617)),
        "--validator", founded / "node0" / "validator.json", "-o", founded / "new.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    shown = run("genesis", "show", founded / "new.json", "--json").json
    assert (shown["netting"], shown["business_days"]) == (["EUR"], [20_250_616, 20_250_617])
    assert "2025-06-16 to 2025-06-17" in run("genesis", "show", founded / "new.json").out


def test_no_genesis_file_is_built_whose_days_do_not_follow_on_each_other(founded: Path) -> None:
    ran = run(
        "genesis", "build", "--network", "t", "--time", "0",
        "--spec", with_schedule(founded, (20_250_617, 20_250_616)),
        "--validator", founded / "node0" / "validator.json", "-o", founded / "new.json",
    )  # fmt: skip
    assert ran.code == 1
    assert "schedule (2025-06-16): the date is not after" in ran.err
    assert not (founded / "new.json").exists()


def test_genesis_show_names_the_chain(founded: Path) -> None:
    ran = run("genesis", "show", founded / "genesis.json", "--json")
    genesis = load_genesis((founded / "genesis.json").read_bytes())
    assert ran.json["chain_id"] == genesis.chain_id.hex()
    (founded / "genesis.json").write_text("{}")
    assert run("genesis", "show", founded / "genesis.json").code == 1


def test_a_short_passphrase_and_a_wrong_lei_are_refused(tmp_path: Path, passphrase: Path) -> None:
    ran = run(
        "init", "--home", tmp_path / "n", "--name", "n", "--operator", LEI[:-1] + "0",
        "--network", "t", "--passphrase-file", passphrase,
    )  # fmt: skip
    assert ran.code == 1
    assert "check digits" in ran.err
    passphrase.write_text("short")
    ran = run(
        "keystore", "create", "--name", "A", "--lei", LEI, "-o", tmp_path / "k",
        "--passphrase-file", passphrase,
    )  # fmt: skip
    assert ran.code == 1
    assert "characters" in ran.err
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("init",),
        ("init", "--home", "x"),
        ("init", "--home", "x", "--name", "n"),
        ("init", "--home", "x", "--name", "n", "--genesis", "g"),
        ("genesis",),
        ("genesis", "build"),
        ("keystore", "create"),
        ("config",),
        ("doctor",),
        ("start",),
    ],
)
def test_wrong_usage_exits_64(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).code == 64


# --- looking at a home ----------------------------------------------------------------------------


def results(ran: Ran) -> dict[str, str]:
    """Check → the worst result."""
    found: dict[str, str] = {}
    for line in ran.json:
        worst = max(
            found.get(line["check"], "ok"), line["result"], key=["ok", "warn", "fail"].index
        )
        found[line["check"]] = worst
    return found


def test_doctor_finds_a_stopped_node_sound(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    ran = run("doctor", "--home", home.path, "--json")
    assert ran.code == 0
    found = results(ran)
    assert found["home"] == found["keys"] == found["height"] == found["clock"] == "ok"
    assert found["node"] == "warn"
    assert found["peers"] == "ok"
    assert found["peer"] == "warn"
    assert "fail" not in run("doctor", "--home", home.path).out


def test_doctor_names_a_port_in_use(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = home.path / "config.toml"
        config.write_text(config.read_text().replace("port = 0", f"port = {port}", 1))
        ran = run("doctor", "--home", home.path, "--json")
    assert ran.code == 1
    assert results(ran)["ports"] == "fail"


def test_doctor_names_what_is_wrong_with_a_home(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    (home / "keys" / "vote.json").chmod(0o644)
    ran = run("doctor", "--home", home)
    assert ran.code == 1
    assert "chmod 600" in ran.out
    assert run("doctor", "--home", tmp_path / "absent").code == 1
    (home / "keys" / "vote.json").chmod(0o600)
    (home / "format").write_text("nostro-home/9\nchain 00\n")
    assert "nostro-home/9" in run("doctor", "--home", home).out


def test_config_check_names_file_and_key(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    assert run("config", "check", "--home", home).code == 0
    config = home / "config.toml"
    sound = config.read_text()
    for bad, named in (
        (sound.replace("[api]\nhost", "[api]\nhots"), "api.hots"),
        (sound.replace('[api]\nhost = "127.0.0.1"', '[api]\nhost = "0.0.0.0"'), "api.host"),
        (sound + "[extra]\n", "extra"),
        ("nonsense", "not TOML"),
    ):
        config.write_text(bad)
        ran = run("config", "check", "--home", home)
        assert ran.code == 1
        assert str(config) in ran.out
        assert named in ran.out


def test_a_peer_to_dial_without_an_address_is_named(tmp_path: Path) -> None:
    peers = {"node1": Address("127.0.0.1", 1), "nobody": Address("127.0.0.1", 1)}
    home = make_home(tmp_path / "home", peers=peers).path
    for command in (("config", "check"), ("doctor",)):
        ran = run(*command, "--home", home)
        # They may dial this node: it starts all the same.
        assert ran.code == 0
        assert "no address of node2, node3: this node can only wait" in ran.out
        assert "nobody" in ran.out
    # The last one is the first to dial for nobody.
    last = make_home(tmp_path / "last", 3, peers={}).path
    assert run("config", "check", "--home", last).code == 0


# --- start ----------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A node that runs by itself: alone it finalizes nothing, but serves."""
    home = make_home(tmp_path / "home")
    command = [sys.executable, "-m", "node.cli", "start", "--home", str(home.path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_ends_cleanly_when_it_is_asked_to(
    node: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert node.stderr is not None
    for line in node.stderr:
        if "serves test at http://127.0.0.1:" in line:
            break
    node.send_signal(number)
    rest = node.stderr.read()
    assert node.wait() == 0
    assert "Traceback" not in rest
    assert "nostro: stopped" in rest


def start(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node.cli", "start", "--home", str(home)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_a_node_that_cannot_start_says_why_without_a_traceback(
    tmp_path: Path, founded: Path
) -> None:
    absent = start(tmp_path / "absent")
    assert (absent.returncode, absent.stdout) == (1, "")
    assert "there is no such directory" in absent.stderr
    made = run(
        "init", "--home", founded / "node0", "--genesis", founded / "genesis.json",
        "--peer", "node1=127.0.0.1:1",
    )  # fmt: skip
    assert made.code == 0
    wrong = start(founded / "node0", NOSTRO_PASSPHRASE="not the one")
    assert wrong.returncode == 1
    assert "wrong passphrase" in wrong.stderr
    none = start(founded / "node0")
    assert none.returncode == 1
    assert "NOSTRO_PASSPHRASE" in none.stderr
    for done in (absent, wrong, none):
        assert "Traceback" not in done.stderr


def test_a_port_in_use_stops_the_start_with_its_address(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home").path
    config = home / "config.toml"
    sound = config.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for section in ("p2p", "api", "operator"):
            before, _, after = sound.partition(f"[{section}]")
            after = after.replace("port = 0", f"port = {port}", 1)
            config.write_text(f"{before}[{section}]{after}")
            done = start(home)
            assert done.returncode == 1
            assert f"127.0.0.1:{port}" in done.stderr
            assert "Traceback" not in done.stderr
