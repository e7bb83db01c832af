"""Validators change while real node processes serve load, one of them down at the switch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.api.client import ApiClient
from node.chain.types import RemoveValidator
from tests.support.devnet import Devnet, nostro
from tests.support.governance import Operators

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

PAY = ("pay", "--from", "BANKA", "--to", "BANKB", "--amount", "5.00", "--currency", "EUR")
PAYMENTS = 300
RATE = 100


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    running = Devnet(tmp_path_factory.mktemp("epochs") / "devnet", "--validators", "5")
    running.up()
    yield running
    running.down()


def load(devnet: Devnet, seed: int) -> dict[str, Any]:
    done = nostro(
        "devnet", "load", "--dir", str(devnet.directory), "--json", "--seed", str(seed),
        "--count", str(PAYMENTS), "--rate", str(RATE),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + devnet.logs()
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def vote_keys(devnet: Devnet, node: str) -> list[str]:
    return sorted(p.name for p in (devnet.directory / "nodes" / node / "keys").glob("vote*"))


def log(devnet: Devnet, node: str) -> str:
    return (devnet.directory / "logs" / f"{node}.log").read_text()


async def test_validators_change_under_load_with_a_member_down_at_the_switch(
    devnet: Devnet, tmp_path: Path
) -> None:
    operators = Operators(devnet)
    first = await asyncio.to_thread(devnet.json, *PAY)
    running = asyncio.create_task(asyncio.to_thread(load, devnet, 1))
    await asyncio.to_thread(devnet.order, "kill", "node2")
    await operators.change("node0")  # a new epoch with fresh keys, and nothing else
    await operators.epoch(1, "node0", "node1", "node3", "node4")
    result = await running
    assert (result["settled"], result["rejected"]) == (PAYMENTS, 0)

    # Who was away keeps its key, catches up over the switch and takes part again.
    await asyncio.to_thread(devnet.order, "restart", "node2")
    await operators.epoch(1, "node2")
    await devnet.healthy()
    assert vote_keys(devnet, "node2") == ["vote.json"]
    for node in ("node0", "node1", "node3", "node4"):
        assert "vote-1.json" in vote_keys(devnet, node)

    # A member that is down when it is removed: its peers know it no more when it is back.
    await asyncio.to_thread(devnet.order, "kill", "node4")
    config = devnet.directory / "nodes" / "node4" / "config.toml"
    config.write_text(config.read_text() + f'\n[join]\nurls = ["{devnet.api("node0")}"]\n')
    running = asyncio.create_task(asyncio.to_thread(load, devnet, 2))
    await operators.change("node1", RemoveValidator("node4"))
    await operators.epoch(2, "node0", "node1", "node2", "node3")
    result = await running
    assert (result["settled"], result["rejected"]) == (PAYMENTS, 0)
    paid = await asyncio.to_thread(devnet.json, *PAY)
    for node in ("node0", "node1", "node2", "node3"):
        await devnet.final(node, paid["uetr"])
        async with ApiClient([devnet.api(node)]) as client:
            status = await client.status()
        assert [peer.name for peer in status.peers if peer.connected] == [
            name for name in ("node0", "node1", "node2", "node3") if name != node
        ]
        assert vote_keys(devnet, node) == ["vote-2.json"], "an old epoch's key is still there"
    await devnet.restart(["node4"])
    await operators.epoch(2, "node4")
    async with ApiClient([devnet.api("node4")]) as client:
        removed = await client.status()
    assert removed.validator is None
    assert not removed.signing
    assert "begins without this node" in log(devnet, "node4")

    # Proofs of every epoch, with nothing but the genesis file; and the whole chain once more.
    for uetr in (first["uetr"], paid["uetr"]):
        file = tmp_path / f"{uetr}.dossier"
        done = nostro("evidence", uetr, "-o", str(file), "--devnet", str(devnet.directory))
        assert done.returncode == 0, done.stderr
        done = nostro("verify", str(file), "--genesis", devnet.description["genesis"])
        assert done.returncode == 0, done.stdout + done.stderr
    home = devnet.directory / "nodes" / "node3"
    await asyncio.to_thread(devnet.order, "kill", "node3")
    done = nostro("audit", "chain", "--home", str(home), "--genesis", devnet.description["genesis"])
    assert done.returncode == 0, done.stdout + done.stderr
