"""The shipped scenarios pass on real node processes, and the command says what it found."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devnet import control
from devnet.scenario.script import shipped
from tests.support.devnet import Devnet, Processes, nostro

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

OWN = "rolling-restart"
"""Runs on a devnet of its own; the others share one, to save its start."""
SMALL = """
[devnet]
validators = 4
banks = 4
[load]
rate = 50
count = 40
"""


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    running = Devnet(tmp_path_factory.mktemp("scenarios") / "devnet")
    running.up()
    yield running
    running.down()


def run(*arguments: str, expect: int, logs: str = "") -> Any:
    done = nostro("devnet", "scenario", *arguments, "--json")
    assert done.returncode == expect, done.stdout + done.stderr + logs
    return json.loads(done.stdout) if done.stdout else done.stderr


def entries(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def pids(devnet: Path) -> list[int]:
    """Of the nodes that run."""
    nodes = json.loads((devnet / "devnet.json").read_text())["nodes"]
    return [node["pid"] for node in nodes if node["pid"]]


def passed(document: Any) -> None:
    assert document["passed"], document["findings"]
    assert document["findings"] == []
    assert document["load"]["settled"] == document["load"]["payments"] > 0
    judged = document["judged"]
    # What was sent and the fresh payments, told by three nodes at least.
    assert judged["payments"] == document["load"]["payments"] + len(document["recoveries"])
    assert judged["told"] >= 3 * judged["payments"]
    assert judged["reads"] >= 4
    assert judged["blocks"] > 2
    assert all(recovery["seconds"] <= 20 for recovery in document["recoveries"])
    assert len(document["steps"]) > 1


@pytest.mark.parametrize("name", [name for name in shipped() if name != OWN])
def test_a_shipped_scenario_passes_in_short(devnet: Devnet, name: str) -> None:
    document = run(name, "--short", "--dir", str(devnet.directory), expect=0, logs=devnet.logs())
    passed(document)
    assert document["scenario"] == name
    # Nothing stays broken for the next one, and a devnet that was there is left running.
    assert document["directory"] == str(devnet.directory)
    answer = control.ask(devnet.directory, "status")
    assert answer["links"] == []
    for node in answer["nodes"]:
        assert (node["state"], node["held"], node["clock_offset_ms"]) == ("running", [], 0)


def test_without_a_directory_it_runs_on_a_devnet_of_its_own_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    document = run(OWN, "--short", expect=0)
    passed(document)
    assert document["directory"] is None
    assert entries(tmp_path) == []


def test_a_failed_judgement_names_the_rule_and_keeps_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = tmp_path / "too-fast.toml"
    # No process starts in so short a time.
    script.write_text(
        SMALL + '[judge]\nrecovery_seconds = 0.1\n[[step]]\nat = 0.2\ndo = "restart node1"\n'
    )
    done = nostro("devnet", "scenario", str(script))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "too-fast: FAILED recovery: not recovered after 'restart node1'" in done.stderr
    [kept] = re.findall(r"everything is kept in (\S+);", done.stderr)
    directory = Path(kept)
    assert directory.parent == tmp_path
    assert (directory / "logs" / "node0.log").stat().st_size > 0
    assert "restart node1" in (directory / "scenario.log").read_text()
    # Its processes have ended all the same.
    assert pids(directory) == []
    assert not control.is_running(directory)
    shutil.rmtree(directory)


async def test_an_interrupted_run_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "node.cli", "devnet", "scenario", OWN, "--short"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        async for line in process.stdout:
            if b"restart node0" in line:
                break
        running = Processes(pids(*entries(tmp_path)))
        process.send_signal(signal.SIGINT)
        _, told = await process.communicate()
    assert process.returncode == 130, told
    assert b"interrupted" in told
    assert running.still_there() == []
    running.close()
    assert entries(tmp_path) == []


def test_a_step_that_cannot_be_done_ends_without_a_judgement(
    devnet: Devnet, tmp_path: Path
) -> None:
    script = tmp_path / "impossible.toml"
    script.write_text(SMALL + '[[step]]\nat = 0.1\ndo = "resume node1"\n')
    told = run(str(script), "--dir", str(devnet.directory), expect=2)
    assert "the step 'resume node1' cannot be done: node1 is not paused" in told


def test_wrong_files_and_wrong_usage_are_refused(devnet: Devnet, tmp_path: Path) -> None:
    script = tmp_path / "wrong.toml"
    script.write_text(SMALL + "sped = 3\n")
    assert "line 8, [load]: unknown key 'sped'" in run(str(script), expect=64)
    assert "no scenario 'no-such'" in run("no-such", expect=64)
    assert "name one scenario" in run(expect=64)
    assert "name one scenario" in run("--all", OWN, expect=64)
    script.write_text(SMALL.replace("validators = 4", "validators = 7"))
    told = run(str(script), "--dir", str(devnet.directory), expect=64)
    assert "for 7 validators, this devnet has 4" in told


def test_the_shipped_ones_are_listed() -> None:
    listed = run("--list", expect=0)
    assert [entry["name"] for entry in listed] == shipped()
    assert len(listed) >= 6


def test_links_and_clocks_are_set_shown_and_healed_also_over_a_restart(devnet: Devnet) -> None:
    def command(*arguments: str, expect: int = 0) -> str:
        done = nostro("devnet", *arguments, "--dir", str(devnet.directory))
        assert done.returncode == expect, done.stdout + done.stderr + devnet.logs()
        return done.stdout if expect == 0 else done.stderr

    told = command("link", "0", "node1", "--delay", "20", "--jitter", "5", "--loss", "0.01")
    assert "links slow or lossy: node0–node1: 20 ms to 25 ms, 1 % lost\n" in told
    told = command("clock", "3", "--offset", "-1500")
    assert "clocks off: node3 -1500 ms" in told
    devnet.order("restart", "node0", "node3")
    shown = command("status")
    assert "links slow or lossy: node0–node1: 20 ms to 25 ms, 1 % lost\n" in shown
    assert "clocks off: node3 -1500 ms\n" in shown
    document = json.loads(command("links", "--delay", "1", "--json"))
    assert len(document["links"]) == 6
    assert document["clocks"] == {"node3": -1500}
    # Payments settle meanwhile.
    paid = devnet.json(
        "pay", "--from", "BANKA", "--to", "BANKB", "--amount", "5.00", "--currency", "EUR"
    )
    assert paid["status"] == "settled"
    assert command("heal") == "links held down: none\n"
    for arguments, why in (
        (("link", "0", "1"), "give --delay, --jitter or --loss"),
        (("links", "--loss", "5%"), "loss '5%' is not a share"),
        (("clock", "1", "--offset", "soon"), "offset 'soon' is not a whole number"),
    ):
        assert why in command(*arguments, expect=64)
    assert "node1 has no link to itself" in command("link", "1", "1", "--delay", "5", expect=1)
    assert "no node 'node9'" in command("clock", "node9", "--offset", "5", expect=1)
