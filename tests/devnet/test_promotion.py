"""A new institution joins: its node observes, is made a validator by governance, and votes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devnet.ports import choose
from node.api.client import ApiClient
from node.storage.keystore import read_key_info
from tests.support.devnet import FINAL_SECONDS, Devnet, nostro
from tests.support.governance import LOOK_SECONDS, Operators

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

PAY = ("pay", "--from", "BANKA", "--to", "BANKB", "--amount", "5.00", "--currency", "EUR")
GENESIS_NODES = ("node0", "node1", "node2", "node3")


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    running = Devnet(tmp_path_factory.mktemp("promotion") / "devnet")
    running.up()
    yield running
    running.down()


class Newcomer:
    """The home of a node that joins, and its process."""

    def __init__(self, devnet: Devnet, home: Path) -> None:
        self.home = home
        [ports] = choose(1, 0)
        self.api = f"http://127.0.0.1:{ports.api}"
        operator = next(
            p["lei"] for p in devnet.description["participants"] if p["name"] == "BANKC"
        )
        done = nostro(
            "init", "--home", str(home), "--genesis", devnet.description["genesis"],
            "--join", devnet.api("node0"), "--join", devnet.api("node1"),
            "--validator", "newcomer", "--operator", operator,
            "--address", f"127.0.0.1:{ports.p2p}", "--p2p", f"127.0.0.1:{ports.p2p}",
            "--api", f"127.0.0.1:{ports.api}",
            "--operator-listener", f"127.0.0.1:{ports.operator}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with home.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node.cli", "start", "--home", str(home)], stderr=log
            )

    def vote_keys(self) -> dict[str, bytes]:
        paths = (self.home / "keys").glob("vote*.json")
        return {path.name: read_key_info(path).public_key for path in paths}

    async def votes_in(self, epoch: int) -> None:
        """Wait until it signs in this epoch."""
        async with ApiClient([self.api]) as client:
            try:
                async with asyncio.timeout(FINAL_SECONDS):
                    while True:
                        status = await client.status()
                        if status.epoch == epoch and status.signing:
                            return
                        await asyncio.sleep(LOOK_SECONDS)
            except TimeoutError:
                log = self.home.with_suffix(".log").read_text()[-4000:]
                raise AssertionError(
                    f"the newcomer does not sign in epoch {epoch}\n{log}"
                ) from None


@pytest.fixture
def newcomer(devnet: Devnet, tmp_path: Path) -> Iterator[Newcomer]:
    made = Newcomer(devnet, tmp_path / "newcomer")
    yield made
    made.process.kill()
    made.process.wait()


def operators_agree(devnet: Devnet, *change: str) -> None:
    where = ("--devnet", str(devnet.directory))
    proposed = nostro("propose", *change, "--from", "CENTRALBANK", "--json", *where)
    assert proposed.returncode in (0, 3), proposed.stderr
    proposal = json.loads(proposed.stdout)["proposal"]
    approved = nostro("approve", proposal, "--from", "BANKA", "--json", *where)
    assert approved.returncode == 0, approved.stderr


async def test_an_observer_becomes_a_validator_and_is_needed_for_the_quorum(
    devnet: Devnet, newcomer: Newcomer
) -> None:
    operators = Operators(devnet)
    candidate = newcomer.vote_keys()
    await asyncio.to_thread(operators_agree, devnet, "--add", str(newcomer.home / "candidate.json"))
    await operators.epoch(1, *GENESIS_NODES)
    await newcomer.votes_in(1)
    # Five validators, four certify: with one of the old ones dead the newcomer's vote decides.
    await asyncio.to_thread(devnet.order, "kill", "node3")
    paid = await asyncio.to_thread(devnet.json, *PAY)
    async with ApiClient([newcomer.api]) as client:
        view = await client.payment(paid["uetr"], wait=FINAL_SECONDS)
        assert view is not None
        block = await client.block(paid["height"])
    assert block.certificate is not None
    assert "newcomer" in {each.name for each in block.certificate.signatures}
    # It votes with a key of its own making; the one it was proposed with is destroyed.
    async with asyncio.timeout(FINAL_SECONDS):
        while not set(newcomer.vote_keys().values()).isdisjoint(candidate.values()):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
    assert len(newcomer.vote_keys()) == 1
