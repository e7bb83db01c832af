"""A version of the rules comes into force while one node of four still runs older software."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.api.client import ApiClient
from node.chain.types import ActivateRules
from tests.support.devnet import Devnet, nostro
from tests.support.governance import Operators

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

PAY = ("pay", "--from", "BANKA", "--to", "BANKB", "--amount", "5.00", "--currency", "EUR")
OTHERS = ("node0", "node1", "node2")
AHEAD = 12
"""Blocks to the activation: the proposal and its approval stand in some of them."""
WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.05


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    running = Devnet(tmp_path_factory.mktemp("rules") / "devnet")
    running.up()
    yield running
    running.down()


def config(devnet: Devnet) -> Path:
    return devnet.directory / "nodes" / "node3" / "config.toml"


def log(devnet: Devnet, node: str) -> str:
    return (devnet.directory / "logs" / f"{node}.log").read_text()


async def height(devnet: Devnet, node: str) -> int:
    async with ApiClient([devnet.api(node)]) as client:
        return (await client.status()).height


async def version_at(devnet: Devnet, node: str, at: int) -> int:
    async with ApiClient([devnet.api(node)]) as client:
        return (await client.block(at)).version


async def until(condition: Any, devnet: Devnet, what: str) -> None:
    """Wait for something that no event tells."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not after {WAIT_SECONDS} s: {what}{devnet.logs()}") from None


async def test_old_software_stops_before_rules_it_does_not_know_and_the_others_go_on(
    devnet: Devnet, tmp_path: Path
) -> None:
    new_config = config(devnet).read_text()
    await asyncio.to_thread(devnet.order, "kill", "node3")
    config(devnet).write_text(new_config + "\n[devnet]\nrules = 1\n")
    await devnet.restart(["node3"])
    await devnet.healthy()

    begins = await height(devnet, "node0") + AHEAD
    await Operators(devnet).change("node0", ActivateRules(2, begins))
    before = await asyncio.to_thread(devnet.json, *PAY)
    for _ in range(AHEAD):
        last = await asyncio.to_thread(devnet.json, *PAY)
        if last["height"] >= begins:
            break
    assert before["height"] < begins <= last["height"], "the three went on over the activation"
    for node in OTHERS:
        await devnet.final(node, last["uetr"])
        assert await version_at(devnet, node, begins - 1) == 1
        assert await version_at(devnet, node, begins) == 2

    # The old one says why it stopped; started again, it says so again and touches nothing.
    async def stopped() -> bool:
        return "node3" not in devnet.pids()

    await until(stopped, devnet, "node3 stops by itself")
    sentence = f"block {begins} is executed by version 2 of the rules, and this software knows"
    assert sentence in log(devnet, "node3")
    assert "Traceback" not in log(devnet, "node3")
    home = config(devnet).parent
    done = await asyncio.to_thread(nostro, "start", "--home", str(home))
    assert done.returncode == 1
    assert sentence in done.stderr
    audited = await asyncio.to_thread(
        nostro, "audit", "chain", "--home", str(home), "--json",
        "--genesis", devnet.description["genesis"],
    )  # fmt: skip
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert json.loads(audited.stdout)["height"] == begins - 1

    # New software: the same home catches up, executes by the new rules and signs.
    config(devnet).write_text(new_config)
    await devnet.restart(["node3"])
    await devnet.final("node3", last["uetr"])
    assert await version_at(devnet, "node3", begins) == 2
    await devnet.healthy()
    assert await devnet.agree() >= begins

    # What was paid under the new rules is proven to whoever has new software.
    file = tmp_path / "after.dossier"
    done = await asyncio.to_thread(
        nostro, "evidence", last["uetr"], "-o", str(file), "--devnet", str(devnet.directory)
    )
    assert done.returncode == 0, done.stderr
    done = await asyncio.to_thread(
        nostro, "verify", str(file), "--genesis", devnet.description["genesis"]
    )
    assert done.returncode == 0, done.stdout + done.stderr
