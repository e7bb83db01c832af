"""`nostro evidence UETR`: from a running node or a stopped one's home, for a reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.audit.dossier import decode_dossier
from node.audit.note import Checkpoint, origin_of
from node.chain.block import header_digest
from node.chain.types import Header
from node.chain.uetr import uetr_text
from tests.support import world
from tests.support.command import Net, Ran, devnet, run
from tests.support.dossiers import dossier_bytes
from tests.support.homes import make_home
from tests.support.small_chain import sample
from tests.support.stored_chain import stored

UETR = uetr_text(world.uetr(6))
UNUSED = "eb6305c9-1f7f-49de-aed0-16487c27b42d"


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with devnet(tmp_path / "net") as made:
        made.first.node.genesis_file = world.genesis_bytes()
        made.first.node.dossier = dossier_bytes(6)
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = make_home(tmp_path / "home")
    database = made.open_database()
    stored(sample(), database)
    database.close()
    return tmp_path / "home"


def header(height: int) -> Header:
    found = sample().header(height)
    assert found is not None
    return found


def evidence(home: Path, *options: object, uetr: str = UETR) -> Ran:
    return run("evidence", uetr, "--home", home, "-o", home.parent / "x.dossier", *options)


def test_it_says_what_the_dossier_proves_and_how_to_check_it(net: Net, tmp_path: Path) -> None:
    written = tmp_path / "x.dossier"
    ran = net.run("evidence", UETR, "-o", written)
    assert ran.code == 0, ran.err
    first, second = ran.out.splitlines()
    assert first.startswith(f"{UETR}: settled, 1250.00 EUR from {world.BANKA.lei} to ")
    assert first.endswith("as of block 6 (epoch 0)")
    assert f"nostro verify {written} --genesis genesis.json" in second
    assert written.read_bytes() == dossier_bytes(6)
    told = net.run("evidence", UETR, "-o", written, "--json").json
    assert told["verdict"] == "VALID"
    assert (told["status"], told["checkpoint"]) == ("settled", 6)
    assert told["bytes"] == len(dossier_bytes(6))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"dossier of nothing", "proves nothing"),
        (dossier_bytes(6)[:-1], "proves nothing"),
        (dossier_bytes(5), "another payment"),
    ],
)
def test_what_a_lying_node_gives_is_not_written(
    net: Net, tmp_path: Path, given: bytes, words: str
) -> None:
    net.first.node.dossier = given
    ran = net.run("evidence", UETR, "-o", tmp_path / "x.dossier")
    assert ran.code == 1
    assert words in ran.err
    assert not (tmp_path / "x.dossier").exists()


def test_a_stopped_nodes_home_gives_the_same(home: Path) -> None:
    assert evidence(home).code == 0
    assert (home.parent / "x.dossier").read_bytes() == dossier_bytes(6)
    assert evidence(home, uetr=UNUSED).code == 2
    assert evidence(home, "--api", "http://127.0.0.1:1").code == 64


def test_a_reader_is_a_participant_or_all(home: Path) -> None:
    for reader in ("all", "BANKA", world.BANKB.lei, world.BANKC.bic):
        assert evidence(home, "--in-clear", reader).code == 0
    ran = evidence(home, "--in-clear", "NOBODY")
    assert ran.code == 64
    assert "NOBODY" in ran.err


def test_a_block_that_the_reader_knows_goes_in(home: Path) -> None:
    known = header_digest(header(3))
    assert evidence(home, "--checkpoint", f"3:{known.hex()}").code == 0
    pinned = decode_dossier((home.parent / "x.dossier").read_bytes()).pinned
    assert pinned is not None
    assert (pinned.height, pinned.digest) == (3, known)


def test_a_checkpoint_file_is_read(home: Path, tmp_path: Path) -> None:
    genesis, at = world.genesis(), header(4)
    origin = origin_of(genesis.network, genesis.chain_id)
    text = Checkpoint(origin, 4, at.history_root, header_digest(at)).text
    note = tmp_path / "checkpoint"
    note.write_bytes(text + b"\n\xe2\x80\x94 somebody " + b"A" * 92 + b"AA==\n")
    ran = evidence(home, "--checkpoint", note)
    assert ran.code == 0, ran.err
    pinned = decode_dossier((home.parent / "x.dossier").read_bytes()).pinned
    assert pinned is not None
    assert pinned.height == 4


@pytest.mark.parametrize("height", [2, 3, 6])
def test_another_history_than_the_known_one_is_told_and_kept(home: Path, height: int) -> None:
    """Height 2 is the payment's own block, 6 the dossier's checkpoint."""
    ran = evidence(home, "--checkpoint", f"{height}:{'ab' * 32}")
    assert ran.code == 1
    assert f"another block at height {height}" in ran.err
    assert (home.parent / "x.dossier").exists()


def test_a_height_that_is_not_final_here_is_told(home: Path) -> None:
    ran = evidence(home, "--checkpoint", f"7:{'ab' * 32}")
    assert ran.code == 2
    assert "block 7 is not final here: the last one that is has height 6" in ran.err


@pytest.mark.parametrize("given", ["7", "x:y", f"-1:{'ab' * 32}", f"{10**18}:{'ab' * 32}"])
def test_what_is_no_checkpoint_is_wrong_usage(home: Path, given: str) -> None:
    assert evidence(home, f"--checkpoint={given}").code == 64


def test_a_file_that_is_no_checkpoint_is_wrong_usage(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\x00" * 100)
    ran = evidence(home, "--checkpoint", path)
    assert ran.code == 64
    assert "is no checkpoint" in ran.err
