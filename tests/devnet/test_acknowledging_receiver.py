"""A receiver's own process acknowledges every payment to it exactly once, whatever is killed."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.api.client import ApiClient
from node.audit.dossier import decode_dossier
from node.audit.report import VALID
from node.audit.verify import verify_file
from node.chain.types import Acknowledge
from tests.support.devnet import FINAL_SECONDS, Devnet, nostro

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

ROUNDS = 3
PAYMENTS = 2
"""In each round; the watcher is killed while it deals with them."""


@pytest.fixture
def devnet(tmp_path: Path) -> Iterator[Devnet]:
    running = Devnet(tmp_path / "devnet")
    running.up()
    yield running
    running.down()


def watching(devnet: Devnet, *options: str) -> list[str]:
    directory = devnet.directory
    return [
        "acknowledge", "--watch", "--from", "BANKB", "--devnet", str(directory),
        "--genesis", str(directory / "genesis.json"),
        "--position", str(directory / "position"), *options,
    ]  # fmt: skip


async def test_every_payment_is_acknowledged_once_across_kills_of_watcher_and_node(
    devnet: Devnet,
) -> None:
    paid: list[str] = []
    for number in range(ROUNDS):
        watcher = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-m", "node.cli", *watching(devnet),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            if number == 1:
                devnet.order("kill", "node0")
            for _ in range(PAYMENTS):
                terms = ("--from", "BANKA", "--to", "BANKB", "--amount", "1.00")
                made = devnet.json("pay", *terms, "--currency", "EUR")
                assert made["status"] == "settled"
                paid.append(made["uetr"])
            assert watcher.stdout is not None
            async with asyncio.timeout(FINAL_SECONDS):
                assert b"acknowledged in block" in await watcher.stdout.readline()
        finally:
            watcher.kill()
            await watcher.wait()
    devnet.order("restart", "node0")
    done = nostro(*watching(devnet, "--once", "--json"))
    assert done.returncode == 0, done.stderr + devnet.logs()
    (devnet.directory / "position").unlink()
    again = nostro(*watching(devnet, "--once"))
    assert again.stdout.splitlines()[-1] == f"0 acknowledged, {len(paid)} were already, 0 refused"
    genesis = (devnet.directory / "genesis.json").read_bytes()
    said: Counter[str] = Counter()
    async with ApiClient([devnet.api("node1")]) as client:
        for uetr in paid:
            data = await client.evidence(uetr)
            report = verify_file(data, genesis)
            assert report.verdict == VALID
            assert "its final outcome" in report.text()
            for related in decode_dossier(data).related:
                assert isinstance(related.act.signed.envelope.body, Acknowledge)
                said[uetr] += 1
    assert said == dict.fromkeys(paid, 1)
    statuses = Counter(status for uetr, status in await devnet.outcomes("node1") if uetr is None)
    assert statuses == {"done": len(paid)}
