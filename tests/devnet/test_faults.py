"""Four real node processes survive what happens to processes, and never pay anything twice."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from devnet.bootstrap import OPENING
from devnet.load import Load, Plan, Result
from node.api.client import ApiClient
from node.api.service import EventView
from tests.support.devnet import FINAL_SECONDS, Devnet, nostro

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

LOAD = Plan(count=1_200, batch=1, rate=300)
BEGUN = 150
"""Payments that are final when the fault comes: in the middle of the load."""
ALL = ["node0", "node1", "node2", "node3"]


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    running = Devnet(tmp_path_factory.mktemp("faults") / "devnet")
    running.up()
    yield running
    running.down()


class UnderLoad:
    """A load in progress, and what it has been told to be final."""

    def __init__(self, devnet: Devnet) -> None:
        self.told: dict[str, tuple[int, str]] = {}
        """UETR → (height, status), as a node told it."""
        self._begun = asyncio.Event()
        self._devnet = devnet
        self._task = asyncio.create_task(Load(devnet.network, LOAD, self._on_final).run())

    def _on_final(self, event: EventView) -> None:
        assert event.uetr is not None
        self.told[event.uetr] = (event.height, event.status)
        if len(self.told) >= BEGUN:
            self._begun.set()

    async def begun(self) -> None:
        """Wait until BEGUN payments are final."""
        try:
            await asyncio.wait_for(self._begun.wait(), FINAL_SECONDS)
        except TimeoutError:
            pytest.fail(f"only {len(self.told)} payments became final{self._devnet.logs()}")

    async def finished(self) -> Result:
        """Wait until the load has its end; all of it must have settled."""
        result = await asyncio.wait_for(self._task, 90)
        assert result.settled == LOAD.count, f"{result.document()}{self._devnet.logs()}"
        return result

    def stop(self) -> None:
        self._task.cancel()


@asynccontextmanager
async def under_load(devnet: Devnet) -> AsyncIterator[UnderLoad]:
    load = UnderLoad(devnet)
    try:
        await load.begun()
        yield load
    finally:
        load.stop()


def test_a_payment_settles_and_can_be_looked_at_and_verified_offline(
    devnet: Devnet, tmp_path: Path
) -> None:
    before = devnet.balance("BANKA"), devnet.balance("BANKB")
    paid = devnet.json(
        "pay", "--from", "BANKA", "--to", "BANKB", "--amount", "1250.00", "--currency", "EUR"
    )
    assert paid["status"] == "settled"
    looked = devnet.json("payment", paid["uetr"])
    assert (looked["height"], looked["index"]) == (paid["height"], paid["index"])
    assert devnet.balance("BANKA") == before[0] - 125_000
    assert devnet.balance("BANKB") == before[1] + 125_000

    dossier = tmp_path / "payment.dossier"
    devnet.json("evidence", paid["uetr"], "-o", str(dossier))
    arguments = ("--genesis", devnet.description["genesis"], "--expect", "settled")
    assert nostro("verify", str(dossier), *arguments).returncode == 0
    data = bytearray(dossier.read_bytes())
    data[len(data) // 2] ^= 1
    dossier.write_bytes(data)
    assert nostro("verify", str(dossier), *arguments).returncode == 1


async def test_one_node_killed_under_load_stops_nobody_and_catches_up(devnet: Devnet) -> None:
    async with under_load(devnet) as load:
        await asyncio.to_thread(devnet.order, "kill", "node2")
        await load.finished()
        last = list(load.told)[-1]
        await devnet.restart(["node2"])
        assert (await devnet.final("node2", last)).status == "settled"
    await devnet.agree()
    await devnet.healthy()


async def test_a_paused_node_stops_nobody_and_goes_on_when_it_wakes(devnet: Devnet) -> None:
    await asyncio.to_thread(devnet.order, "pause", "node1")
    try:
        paid = await asyncio.to_thread(
            devnet.json,
            *("pay", "--from", "BANKA", "--to", "BANKC", "--amount", "1", "--currency", "CNY"),
        )
    finally:
        await asyncio.to_thread(devnet.order, "resume", "node1")
    assert (await devnet.final("node1", paid["uetr"])).height == paid["height"]
    await devnet.healthy()


def doctor_explains_two_of_four(devnet: Devnet) -> None:
    home = devnet.network.home("node0")
    done = nostro("doctor", "--json", "--home", str(home))
    assert done.returncode == 1, done.stdout + done.stderr
    [told] = [found for found in json.loads(done.stdout) if found["check"] == "settlement"]
    assert told["result"] == "fail"
    assert told["text"].startswith("2 of 4 validators connected, 3 are needed; ")
    for away in ("node1", "node2"):
        assert f"{away} unreachable since " in told["text"]
    assert "nothing final since " in told["text"]
    assert "1 instruction waits" in told["text"]
    done = nostro("devnet", "status", "--json", "--dir", str(devnet.directory))
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)["settlement"]
    assert seen["result"] == "fail"
    assert "2 of 4 validators connected, 3 are needed; node1 unreachable since " in seen["text"]


async def test_without_a_quorum_nothing_is_final_and_pay_says_so(devnet: Devnet) -> None:
    await asyncio.to_thread(devnet.order, "kill", "node1", "node2")
    uetr = str(uuid.uuid4())
    pay = ("pay", "--from", "BANKA", "--to", "BANKD", "--amount", "7.00", "--currency", "EUR")
    try:
        told = await asyncio.to_thread(
            lambda: devnet.json(*pay, "--uetr", uetr, "--timeout", "3", expect=2)
        )
        assert told["uetr"] == uetr
        assert await asyncio.to_thread(lambda: devnet.json("payment", uetr, expect=2)) is not None
        await asyncio.to_thread(doctor_explains_two_of_four, devnet)
    finally:
        await devnet.restart(["node1", "node2"])
    for node in ALL:
        assert (await devnet.final(node, uetr)).status == "settled"
    again = await asyncio.to_thread(devnet.json, *pay, "--uetr", uetr)
    assert again["status"] == "settled"
    assert [u for u, _ in await devnet.outcomes("node3")].count(uetr) == 1
    await devnet.agree()
    await devnet.healthy()


async def test_all_nodes_killed_at_once_lose_nothing_that_was_told_final(devnet: Devnet) -> None:
    async with under_load(devnet) as load:
        await asyncio.to_thread(devnet.kill_at_once)
        told = dict(load.told)
        await devnet.restart(ALL)
        await load.finished()
        last = list(load.told)[-1]
        for node in ALL:
            await devnet.final(node, last)
            async with ApiClient([devnet.api(node)]) as client:
                views = await client.lookup(list(told))
            known = {v.uetr: (v.height, v.status) for v in views if v is not None}
            assert known == told, f"{node} lost or changed what a client was told"
    for node in ALL:
        times = Counter(uetr for uetr, _ in await devnet.outcomes(node))
        assert all(times[uetr] == 1 for uetr in load.told), f"{node} has a payment twice or not"
    await devnet.agree()
    await devnet.healthy()


def write_payments(file: Path, rows: int) -> None:
    with open(file, "w", newline="", encoding="ascii") as text:
        writer = csv.writer(text)
        writer.writerow(["uetr", "debtor", "creditor", "amount", "currency", "priority"])
        writer.writerows(["", "BANKC", "BANKD", "1.00", "EUR", "normal"] for _ in range(rows))


async def test_a_file_of_payments_that_was_interrupted_and_run_again_pays_once(
    devnet: Devnet, tmp_path: Path
) -> None:
    rows = 3_000
    file = tmp_path / "payments.csv"
    write_payments(file, rows)
    before = await asyncio.to_thread(devnet.balance, "BANKC")
    command = ("-m", "node.cli", "pay", "--file", str(file), "--devnet", str(devnet.directory))
    async with ApiClient([devnet.api("node0")]) as client:
        height = (await client.status()).height
        first = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=subprocess.DEVNULL
        )
        async with asyncio.timeout(FINAL_SECONDS):
            async for event in client.events((height, 2**31)):
                if event.status == "settled":
                    break
        with suppress(ProcessLookupError):
            first.kill()
        await first.wait()
    paid = await asyncio.to_thread(devnet.json, "pay", "--file", str(file))
    assert [row["status"] for row in paid] == ["settled"] * rows
    assert await asyncio.to_thread(devnet.balance, "BANKC") == before - rows * 100


async def test_all_balances_tie_out_with_what_was_issued(devnet: Devnet) -> None:
    banks = len(devnet.description["participants"]) - 1
    async with ApiClient([devnet.api("node0")]) as client:
        balances = (await client.accounts()).balances
        issued = {asset.code: asset.issued for asset in await client.assets()}
    for currency in ("EUR", "CNY"):
        own = [int(b.amount.replace(".", "")) for b in balances if b.asset == currency]
        assert sum(own) == banks * OPENING == int(issued[currency].replace(".", ""))


async def test_the_program_of_the_developers_tutorial_pays(devnet: Devnet, tmp_path: Path) -> None:
    # It expects to be run where .devnet is.
    (tmp_path / ".devnet").symlink_to(devnet.directory)
    program = Path(__file__).parents[2] / "docs" / "tutorials" / "pay.py"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=FINAL_SECONDS,
        check=True,
    )
    assert "settled in block" in done.stdout
