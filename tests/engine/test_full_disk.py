"""A real node process whose disk is full: it stops at once, says why, and the others go on."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.devnet import Devnet, Processes

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]


@pytest.fixture
def devnet(tmp_path: Path) -> Iterator[Devnet]:
    running = Devnet(tmp_path / "devnet")
    running.up()
    yield running
    running.down()


async def test_a_node_whose_disk_is_full_stops_with_the_reason_and_the_others_go_on(
    devnet: Devnet,
) -> None:
    pid = devnet.pids()["node3"]
    process = Processes([pid])
    # A file that may not grow answers EFBIG where a full disk answers ENOSPC. The log still fits.
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4_096, hard))
    payment = ("--from", "BANKA", "--to", "BANKB", "--amount", "1.00", "--currency", "EUR")
    paid = await asyncio.to_thread(devnet.json, "pay", *payment)
    assert paid["status"] == "settled"
    assert not process.still_there(), "stuck" + devnet.logs()
    process.close()
    log = (devnet.directory / "logs" / "node3.log").read_text()
    assert "Traceback" not in log, log
    last = log.splitlines()[-1]
    assert "File too large. Raise the file size limit" in last, log
    await devnet.restart(["node3"])
    view = await devnet.final("node3", paid["uetr"])
    assert view.status == "settled"
    await devnet.healthy()
    await devnet.agree()
