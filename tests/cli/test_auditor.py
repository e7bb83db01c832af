"""`nostro evidence`, `verify`, `audit chain`: files in, verdicts and exit codes out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.chain.encoding import encode
from node.chain.uetr import uetr_text
from node.storage.horizon import Horizon, put_horizon
from tests.support import world
from tests.support.command import Net, Ran, devnet, run
from tests.support.dossiers import dossier, dossier_bytes, receipt
from tests.support.homes import make_home

UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with devnet(tmp_path / "net") as made:
        yield made


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(world.genesis_bytes())
    return path


def verify(tmp_path: Path, genesis: Path, dossier: bytes, *options: object) -> Ran:
    path = tmp_path / "file.dossier"
    path.write_bytes(dossier)
    return run("verify", path, "--genesis", genesis, *options)


# --- verify ---------------------------------------------------------------------------------------


def test_a_sound_dossier_is_valid_whatever_its_status(tmp_path: Path, genesis: Path) -> None:
    settled = verify(tmp_path, genesis, dossier_bytes(0), "--json")
    assert (settled.code, settled.json["verdict"], settled.json["status"]) == (
        0, "VALID", "settled",
    )  # fmt: skip
    assert {check["result"] for check in settled.json["checks"]} == {"PASS", "NOTE"}
    rejected = verify(tmp_path, genesis, dossier_bytes(10), "--json")
    assert (rejected.code, rejected.json["status"]) == (0, "rejected")


def test_another_status_than_the_expected_one_exits_1(tmp_path: Path, genesis: Path) -> None:
    assert verify(tmp_path, genesis, dossier_bytes(0), "--expect", "settled").code == 0
    ran = verify(tmp_path, genesis, dossier_bytes(10), "--expect", "settled")
    assert ran.code == 1
    assert "proved is rejected" in ran.out


def test_a_tampered_dossier_is_invalid(tmp_path: Path, genesis: Path) -> None:
    data = bytearray(dossier_bytes(0))
    data[len(data) // 2] ^= 1
    ran = verify(tmp_path, genesis, bytes(data))
    assert ran.code == 1
    assert ran.out.splitlines()[-1] == "INVALID"
    assert "FAIL" in ran.out


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\xc1" * 100])
def test_what_is_no_dossier_is_invalid(tmp_path: Path, genesis: Path, data: bytes) -> None:
    assert verify(tmp_path, genesis, data).code == 1


def test_a_dossier_of_another_chain_is_invalid(tmp_path: Path, net: Net) -> None:
    ran = verify(tmp_path, net.directory / "genesis.json", dossier_bytes(0))
    assert ran.code == 1
    assert "another chain" in ran.out


def test_with_a_bad_genesis_file_nothing_can_be_told(tmp_path: Path, genesis: Path) -> None:
    genesis.write_bytes(b"{}")
    ran = verify(tmp_path, genesis, dossier_bytes(0))
    assert ran.code == 2
    assert ran.out.splitlines()[-1] == "UNDECIDED"


def test_missing_files_and_options_are_wrong_usage(tmp_path: Path, genesis: Path) -> None:
    assert run("verify", tmp_path / "absent", "--genesis", genesis).code == 64
    assert run("verify", genesis, "--genesis", tmp_path / "absent").code == 64
    assert run("verify", genesis).code == 64
    assert run("verify", genesis, "--genesis", genesis, "--expect", "lost").code == 64


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "aiohttp", "plyvel", "cryptography", "msgpack", "stdnum", "prometheus_client"
        }:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
from node.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def without_node_libraries(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_verify_needs_the_base_dependencies_only(tmp_path: Path, genesis: Path) -> None:
    path = tmp_path / "file.dossier"
    path.write_bytes(dossier_bytes(0))
    done = without_node_libraries("verify", path, "--genesis", genesis)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("VALID")


@pytest.mark.parametrize(
    "arguments",
    [("balance", "--api", "http://127.0.0.1:1"), ("start", "--home", "/tmp"), ("keystore", "show")],
)
def test_other_commands_say_which_extra_to_install(arguments: tuple[str, ...]) -> None:
    done = without_node_libraries(*arguments)
    assert done.returncode == 1
    assert "nostro[node]" in done.stderr
    assert "Traceback" not in done.stderr


# --- evidence -------------------------------------------------------------------------------------


def test_evidence_of_what_is_not_final_exits_2_and_writes_nothing(net: Net, tmp_path: Path) -> None:
    ran = net.run("evidence", UETR, "-o", tmp_path / "x.dossier")
    assert ran.code == 2
    assert not (tmp_path / "x.dossier").exists()


def test_a_receipt_that_is_none_is_refused(net: Net, tmp_path: Path) -> None:
    uetr = net.pay().json["uetr"]
    (tmp_path / "receipt").write_bytes(b"x")
    ran = net.run("evidence", uetr, "-o", tmp_path / "x", "--receipt", tmp_path / "receipt")
    assert ran.code == 1
    assert "receipt" in ran.err


@pytest.mark.parametrize(
    ("index", "digest", "code", "words"),
    [
        (2, None, 0, ""),
        (9, None, 1, "No validator set so far names this key"),
        (2, bytes(32), 1, "The receipt is for another instruction"),
    ],
)
def test_a_receipt_that_would_spoil_the_dossier_is_refused(
    net: Net,
    tmp_path: Path,
    genesis: Path,
    *,
    index: int,
    digest: bytes | None,
    code: int,
    words: str,
) -> None:
    """That of an observer, which no validator set names, or of another instruction."""
    uetr = uetr_text(world.uetr(6))
    net.first.node.dossier, net.first.node.genesis_file = dossier_bytes(6), genesis.read_bytes()
    node = world.node_signer(index)
    fields = {} if digest is None else {"instruction": digest}
    kept = receipt(dossier(6), signer=node, node=node.public_key, **fields)
    (tmp_path / "receipt").write_bytes(encode(kept))
    written = tmp_path / "x.dossier"
    ran = net.run("evidence", uetr, "-o", written, "--receipt", tmp_path / "receipt")
    assert ran.code == code, ran.err
    assert words in ran.err
    assert written.exists() == (code == 0)
    if code == 0:
        assert "stated to have it" in run("verify", written, "--genesis", genesis).out


def test_a_place_that_cannot_be_written_is_named(net: Net, tmp_path: Path) -> None:
    uetr = uetr_text(world.uetr(6))
    net.first.node.dossier, net.first.node.genesis_file = dossier_bytes(6), world.genesis_bytes()
    ran = net.run("evidence", uetr, "-o", tmp_path / "absent" / "x.dossier")
    assert ran.code == 1
    assert "cannot write" in ran.err


# --- audit ----------------------------------------------------------------------------------------


def test_a_home_that_does_not_hold_all_blocks_is_no_chain_to_replay(
    tmp_path: Path, genesis: Path
) -> None:
    home = make_home(tmp_path / "node0")
    database = home.open_database()
    database.write(put_horizon(Horizon(blocks=7, states=7)), sync=True)
    database.close()
    ran = run("audit", "chain", "--home", home.path, "--genesis", genesis)
    assert ran.code == 2
    assert "holds blocks from height 7 on only" in ran.err


def test_a_sound_home_is_valid_and_a_running_one_is_said_so(tmp_path: Path, genesis: Path) -> None:
    home = make_home(tmp_path / "home")
    ran = run("audit", "chain", "--home", home.path, "--genesis", genesis, "--json")
    assert (ran.code, ran.json["verdict"], ran.json["height"]) == (0, "VALID", 0)
    home.acquire()
    try:
        ran = run("audit", "chain", "--home", home.path, "--genesis", genesis)
    finally:
        home.release()
    assert ran.code == 2
    assert "is running" in ran.err


def test_a_home_is_not_valid_under_another_genesis(tmp_path: Path, net: Net) -> None:
    home = make_home(tmp_path / "home")
    other = net.directory / "genesis.json"
    assert run("audit", "chain", "--home", home.path, "--genesis", other).code == 1


def test_what_is_no_home_is_named(tmp_path: Path, genesis: Path) -> None:
    ran = run("audit", "chain", "--home", tmp_path, "--genesis", genesis)
    assert ran.code == 2
    assert "not a node's home" in ran.err
