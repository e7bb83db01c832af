"""`nostro evidence --balance` and `--absence`: from a running node or a stopped one's home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.audit.build_state import build_balance
from node.chain.types import AccountKind
from node.chain.uetr import uetr_text
from tests.support import world
from tests.support.command import Net, devnet, run
from tests.support.homes import make_home
from tests.support.small_chain import sample
from tests.support.state_world import (
    UNUSED,
    absence_bytes,
    balance_bytes,
    state_world,
)
from tests.support.stored_chain import stored

UETR = uetr_text(UNUSED)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    made = state_world()
    with devnet(tmp_path / "net") as running:
        running.first.node.genesis_file = made.members.genesis_bytes
        running.first.node.proven = (made.store, made.chain.state)
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = make_home(tmp_path / "home")
    database = made.open_database()
    stored(sample(), database)
    database.close()
    return tmp_path / "home"


def test_a_balance_is_written_and_told(net: Net, tmp_path: Path) -> None:
    written = tmp_path / "x.balance"
    ran = net.run("evidence", "--balance", "BANKA:EUR", "-o", written)
    assert ran.code == 0, ran.err
    first, second = ran.out.splitlines()
    assert first.startswith("the settlement account of BANKA (")
    assert "held 97.69 EUR after block 24 at 2025-06-18T16:06:40.500+00:00" in first
    assert f"nostro verify {written} --genesis genesis.json" in second
    assert written.read_bytes() == balance_bytes("settlement")
    told = net.run("evidence", "--balance", "BANKA:EUR", "-o", written, "--json").json
    assert (told["kind"], told["verdict"]) == ("balance", "VALID")
    assert told["state"]["balance"] == "97.69"


def test_a_balance_of_a_height_or_another_kind_is_asked_for(net: Net, tmp_path: Path) -> None:
    written = tmp_path / "x.balance"
    bic = state_world().members.banks["BANKB"].bic
    ran = net.run("evidence", "--balance", f"{bic}:EUR", "--height", "4", "-o", written)
    assert ran.code == 0, ran.err
    assert written.read_bytes() == balance_bytes("of an ended epoch")
    ran = net.run("evidence", "--balance", "BANKC:CNY:fund", "--height", "3", "-o", written)
    assert (ran.code, written.read_bytes()) == (0, balance_bytes("none in an ended epoch"))
    assert "the CNY fund account of BANKC (" in ran.out
    assert "did not exist after block 3" in ran.out
    ran = net.run("evidence", "--balance", "BANKA:EUR", "--height", "25", "-o", written)
    assert ran.code == 2
    assert "no block 25 is final here; the last one that is has height 24" in ran.err


def test_an_absence_is_written_and_told(net: Net, tmp_path: Path) -> None:
    written = tmp_path / "x.absence"
    ran = net.run("evidence", "--absence", UETR, "-o", written)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("no outcome of the blocks 2 to 22, after ")
    assert written.read_bytes() == absence_bytes("ever")
    period = ("--from", "2025-06-16", "--to", "2025-06-16T02:00:00Z")
    assert net.run("evidence", "--absence", UETR, *period, "-o", written).code == 0
    assert written.read_bytes() == absence_bytes("a day")


def test_what_is_in_no_set_yet_and_what_was_used_is_told(net: Net, tmp_path: Path) -> None:
    written = tmp_path / "x.absence"
    ran = net.run("evidence", "--absence", UETR, "--to", "2025-06-18", "-o", written)
    assert ran.code == 2
    assert "reach to block 22 at 2025-06-18T03:06:40.000+00:00" in ran.err
    assert "is in none yet" in ran.err
    made = state_world()
    used = next(iter(made.chain.uetrs_between(2, 22)))
    ran = net.run("evidence", "--absence", uetr_text(used), "-o", written)
    assert ran.code == 1
    assert "an outcome of block 3 names UETR" in ran.err
    assert not written.exists()


def test_what_a_lying_node_gives_is_not_written(net: Net, tmp_path: Path) -> None:
    net.first.node.genesis_file = world.genesis_bytes()
    ran = net.run("evidence", "--balance", "BANKA:EUR", "-o", tmp_path / "x")
    assert ran.code == 1
    assert "proves nothing" in ran.err
    assert not (tmp_path / "x").exists()


def test_a_stopped_nodes_home_gives_the_same(home: Path, tmp_path: Path) -> None:
    written = tmp_path / "x.balance"
    ran = run("evidence", "--balance", "BANKB:EUR", "--home", home, "--height", "3", "-o", written)
    assert ran.code == 0, ran.err
    expected = build_balance(sample(), world.BANKB.lei, "EUR", AccountKind.SETTLEMENT, 3)
    assert written.read_bytes() == expected
    ran = run("evidence", "--balance", "BANKB:EUR", "--home", home, "--height", "9", "-o", written)
    assert (ran.code, "no block 9 is final" in ran.err) == (2, True)
    ran = run("evidence", "--absence", UETR, "--home", home, "-o", written)
    assert (ran.code, "no schedule was in force yet" in ran.err) == (2, True)
    ran = run("evidence", "--balance", "NOBODY:EUR", "--home", home, "-o", written)
    assert (ran.code, "NOBODY" in ran.err) == (64, True)


@pytest.mark.parametrize(
    "options",
    [
        ("--balance", "BANKA"),
        ("--balance", "BANKA:"),
        ("--balance", "BANKA:EUR:savings"),
        ("--balance", "BANKA:eur"),
        ("--balance", "BANKA:EUR:settlement:1"),
        ("--balance", "BANKA:EUR", "--height", "-1"),
        ("--balance", "BANKA:EUR", "--from", "2025-06-16"),
        ("--balance", "BANKA:EUR", "--absence", UETR),
        ("--balance", "BANKA:EUR", UETR),
        ("--balance", "BANKA:EUR", "--in-clear", "all"),
        ("--absence", UETR, "--height", "1"),
        ("--absence", UETR, "--from", "yesterday"),
        ("--absence", UETR, "--from", "2025-06-17", "--to", "2025-06-16"),
        ("--absence", UETR, "--equivocation", "0:1:node0"),
        ("--height", "1"),
        ("--to", "2025-06-16"),
        (UETR, "--height", "1"),
    ],
)
def test_wrong_usage_is_64(net: Net, tmp_path: Path, options: tuple[str, ...]) -> None:
    ran = net.run("evidence", *options, "-o", tmp_path / "x")
    assert (ran.code, ran.out) == (64, "")
    assert ran.err.startswith("nostro: ")
