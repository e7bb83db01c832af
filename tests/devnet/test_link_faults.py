"""Four real node processes whose links are cut halt or go on as they must, and never fork."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from devnet import control
from node.api.client import ApiClient
from tests.support.devnet import Devnet, nostro

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

ALL = ["node0", "node1", "node2", "node3"]
PAY = ("pay", "--from", "BANKA", "--to", "BANKB", "--amount", "5.00", "--currency", "EUR")
HALT_SECONDS = "1"
"""How long `pay` waits where nothing can become final: many times what finality takes."""


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    running = Devnet(tmp_path_factory.mktemp("links") / "devnet")
    running.up()
    yield running
    running.down()


def command(devnet: Devnet, *arguments: str, expect: int = 0) -> str:
    done = nostro("devnet", *arguments, "--dir", str(devnet.directory))
    assert done.returncode == expect, done.stdout + done.stderr + devnet.logs()
    return done.stdout if expect == 0 else done.stderr


def status(devnet: Devnet) -> dict[str, Any]:
    nodes = control.ask(devnet.directory, "status")["nodes"]
    return {node["name"]: node for node in nodes}


def linked(node: Any) -> set[str]:
    return {peer["name"] for peer in node["status"]["peers"] if peer["connected"]}


async def digests(devnet: Devnet, height: int) -> list[str]:
    async with ApiClient([devnet.api("node0")]) as client:
        return [(await client.block(h)).digest for h in range(height + 1)]


async def test_a_network_split_in_half_halts_also_over_a_restart_and_heals_into_one_chain(
    devnet: Devnet,
) -> None:
    paid = await asyncio.to_thread(devnet.json, *PAY)
    for name in ALL:
        await devnet.final(name, paid["uetr"])
    height = await devnet.agree()
    assert height >= paid["height"]
    before = await digests(devnet, height)
    told = json.loads(await asyncio.to_thread(command, devnet, "partition", "0,1|2,3", "--json"))
    assert told["groups"] == [["node0", "node1"], ["node2", "node3"]]
    assert told["held"]["node0"] == ["node2", "node3"]
    split = await asyncio.to_thread(status, devnet)
    assert not any(linked(split[name]) & set(split[name]["held"]) for name in ALL)
    assert split["node2"]["held"] == ["node0", "node1"]

    uetr = str(uuid.uuid4())
    pay = (*PAY, "--uetr", uetr)

    def cannot_be_paid() -> None:
        devnet.json(*pay, "--timeout", HALT_SECONDS, expect=2)

    await asyncio.to_thread(cannot_be_paid)
    # A node that starts knows of the partition from its first moment.
    await devnet.restart(["node0", "node2"])
    await asyncio.to_thread(cannot_be_paid)
    halted = await asyncio.to_thread(status, devnet)
    assert not any(linked(halted[name]) & set(halted[name]["held"]) for name in ALL)
    heights = [[at[name]["status"]["height"] for name in ALL] for at in (split, halted)]
    assert heights[0] == heights[1]

    said = await asyncio.to_thread(command, devnet, "heal")
    assert said == "links held down: none\n"
    settled = {(await devnet.final(name, uetr)).height for name in ALL}
    assert len(settled) == 1
    assert await devnet.agree() >= max(settled)
    assert await digests(devnet, height) == before
    assert [u for u, _ in await devnet.outcomes("node3")].count(uetr) == 1
    await devnet.healthy()


async def test_a_disconnected_node_is_left_behind_and_catches_up(devnet: Devnet) -> None:
    await asyncio.to_thread(command, devnet, "disconnect", "3")
    paid = await asyncio.to_thread(devnet.json, *PAY)
    assert paid["status"] == "settled"
    alone = (await asyncio.to_thread(status, devnet))["node3"]
    assert linked(alone) == set()
    assert alone["held"] == ["node0", "node1", "node2"]
    assert alone["status"]["height"] < paid["height"]
    shown = await asyncio.to_thread(command, devnet, "status")
    assert "links held down: node0–node3, node1–node3, node2–node3" in shown

    await asyncio.to_thread(command, devnet, "reconnect", "node3")
    assert (await devnet.final("node3", paid["uetr"])).height == paid["height"]
    await devnet.agree()
    await devnet.healthy()


def test_a_node_asleep_when_the_network_was_split_wakes_up_on_its_side(devnet: Devnet) -> None:
    devnet.order("pause", "node2")
    command(devnet, "partition", "2,3")
    devnet.order("resume", "node2")
    nodes = status(devnet)
    assert not linked(nodes["node2"]) & {"node0", "node1"}
    # Another partition takes the place of this one, and cuts and lets up what differs.
    command(devnet, "partition", "node3")
    assert [node["held"] for node in status(devnet).values()] == [
        ["node3"], ["node3"], ["node3"], ["node0", "node1", "node2"],
    ]  # fmt: skip
    command(devnet, "heal")


def test_what_cannot_be_done_is_refused_and_changes_nothing(devnet: Devnet) -> None:
    assert "no node 'node9'" in command(devnet, "disconnect", "node9", expect=1)
    for operation, given, why in (
        ("reconnect", {"node": "node1"}, "node1 is not disconnected"),
        ("partition", {"groups": "0,1|1,2"}, "node1 is named twice"),
        ("partition", {"groups": "0,1,2,3"}, "splits nothing"),
    ):
        with pytest.raises(control.Refused, match=why):
            control.ask(devnet.directory, operation, **given)
    assert all(node["held"] == [] for node in status(devnet).values())
