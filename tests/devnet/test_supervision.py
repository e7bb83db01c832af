"""A devnet leaves no process behind, whatever ends it, and starts again from what is on disk."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devnet.bootstrap import OPENING, SAMPLE_AMOUNT
from devnet.ports import HOST, choose
from tests.support.devnet import COMMAND_SECONDS, Devnet, Processes, nostro

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

SMALL = ("--validators", "2", "--banks", "2", "--seed", "5")


@pytest.fixture
def devnet(tmp_path: Path) -> Iterator[Devnet]:
    running = Devnet(tmp_path / "devnet", *SMALL)
    running.up()
    yield running
    running.down()


def test_down_leaves_no_process_and_up_goes_on_with_the_same_chain(devnet: Devnet) -> None:
    assert devnet.balance("BANKA") == OPENING
    paid = devnet.json(
        "pay", "--from", "BANKA", "--to", "BANKB", "--amount", "3.00", "--currency", "EUR"
    )
    chain = devnet.description["chain_id"]
    devnet.order("pause", "node1")
    running = Processes([devnet.supervisor, *devnet.pids().values()])
    devnet.down()
    assert running.still_there(seconds=0) == []
    running.close()
    assert devnet.pids() == {}
    assert nostro("devnet", "status", "--dir", str(devnet.directory)).returncode == 1
    # Down is down: said again, it is no error.
    devnet.down()

    devnet.up()
    assert devnet.description["chain_id"] == chain
    assert devnet.json("payment", paid["uetr"])["height"] == paid["height"]
    assert devnet.balance("BANKA") == OPENING - 300


def test_a_killed_supervisor_leaves_no_process_and_its_directory_can_be_used(
    devnet: Devnet,
) -> None:
    devnet.order("pause", "node0")
    nodes = Processes(devnet.pids().values())
    os.kill(devnet.supervisor, signal.SIGKILL)
    assert nodes.still_there() == [], "nodes outlived their killed supervisor"
    nodes.close()

    stale = devnet.pids()
    assert stale, "devnet.json still names the processes: nobody could write it"
    for command in (["status"], ["kill", "node0"]):
        done = nostro("devnet", *command, "--dir", str(devnet.directory))
        assert done.returncode == 1
        assert "no devnet runs" in done.stderr
    devnet.up()
    assert set(devnet.pids().values()).isdisjoint(stale.values())
    assert devnet.balance("BANKA") == OPENING


def test_a_node_can_be_named_by_number_and_what_cannot_be_done_is_refused(devnet: Devnet) -> None:
    where = ("--dir", str(devnet.directory))
    assert nostro("devnet", "kill", "1", *where).returncode == 0
    found = json.loads(nostro("devnet", "status", "--json", *where).stdout)["nodes"]
    assert [node["state"] for node in found] == ["running", "down"]
    assert list(devnet.pids()) == ["node0"]
    for command, why in (
        (("kill", "node1"), "is down"),
        (("resume", "node0"), "not paused"),
        (("kill", "node7"), "its nodes are node0, node1"),
    ):
        done = nostro("devnet", *command, *where)
        assert done.returncode == 1
        assert why in done.stderr
    assert nostro("devnet", "restart", "node1", *where).returncode == 0
    again = nostro("devnet", "up", "--detach", *where)
    assert again.returncode == 1
    assert "runs in" in again.stderr


def test_a_port_in_use_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    base = choose(2, 0)[0].api
    with socket.socket() as other:
        other.bind((HOST, base + 4))
        other.listen()
        done = nostro(
            "devnet", "up", "--detach", "--dir", str(tmp_path / "devnet"),
            *("--validators", "2", "--banks", "2", "--base-port", str(base)),
        )  # fmt: skip
    assert done.returncode == 1
    assert f"port {base + 4}" in done.stderr
    assert nostro("devnet", "status", "--dir", str(tmp_path / "devnet")).returncode == 1


def test_in_the_foreground_it_settles_a_sample_and_ends_everything_on_ctrl_c(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "devnet"
    command = [sys.executable, "-m", "node.cli", "devnet", "up", "--dir", str(directory), *SMALL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None
        try:
            lines = []
            for line in shown.stdout:
                lines.append(line)
                if line.strip().startswith("stop "):
                    break
            text = "".join(lines)
            assert "BANKA paid BANKB 1250.00 EUR: settled" in text
            assert "\x1b" not in text, "cursor movement where there is no terminal"
            devnet = Devnet(directory)
            assert devnet.balance("BANKA") == OPENING - SAMPLE_AMOUNT
            nodes = Processes(devnet.pids().values())
            shown.send_signal(signal.SIGINT)
            assert shown.wait(COMMAND_SECONDS) == 0
            assert nodes.still_there(seconds=0) == []
            nodes.close()
        finally:
            shown.kill()


async def test_load_reports_what_settled_and_how_fast(devnet: Devnet) -> None:
    done = await asyncio.to_thread(
        nostro, "devnet", "load", "--count", "600", "--batch", "100", "--json",
        "--dir", str(devnet.directory),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + devnet.logs()
    told = json.loads(done.stdout)
    assert (told["payments"], told["settled"], told["rejected"]) == (600, 600, 0)
    assert told["payments_per_s"] > 0
    assert 0 < told["finality_ms"]["p50"] <= told["finality_ms"]["p99"]
    outcomes = await devnet.outcomes("node1")
    # The opening balances of two banks in two currencies, and the load.
    assert len(outcomes) == 4 + 600
    assert {status for _, status in outcomes} == {"settled"}
