"""A devnet of real processes for tests: every wait is for an event and bounded."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from devnet import control
from devnet.network import Network, open_existing
from node.api.client import ApiClient
from node.api.service import PaymentView

COMMAND_SECONDS = 90.0
FINAL_SECONDS = 45.0
GONE_SECONDS = 15.0


def nostro(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        cwd=cwd,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


class Processes:
    """Handles on processes, which stay these processes whoever gets their pids later."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.handles = {pid: os.pidfd_open(pid) for pid in pids}

    def still_there(self, seconds: float = GONE_SECONDS) -> list[int]:
        """Pids of those that have not ended after `seconds`."""
        return [pid for pid, handle in self.handles.items() if not _ended(handle, seconds)]

    def close(self) -> None:
        for handle in self.handles.values():
            os.close(handle)


def _ended(handle: int, seconds: float) -> bool:
    watch = select.poll()
    watch.register(handle, select.POLLIN)
    return bool(watch.poll(seconds * 1000))


class Devnet:
    """A running devnet in a directory."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.options = options
        self.supervisor = 0

    def up(self) -> None:
        done = nostro(
            "devnet", "up", "--detach", "--json", "--dir", str(self.directory), *self.options
        )
        assert done.returncode == 0, done.stderr + self.logs()
        self.supervisor = int(json.loads(done.stdout)["supervisor"])

    def down(self) -> None:
        done = nostro("devnet", "down", "--dir", str(self.directory))
        assert done.returncode == 0, done.stderr

    def logs(self) -> str:
        """The ends of all logs, for a failure message."""
        texts = []
        for path in sorted((self.directory / "logs").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-20:]
            texts.append(f"\n--- {path.name}\n" + "\n".join(lines))
        return "".join(texts)

    @property
    def network(self) -> Network:
        return open_existing(self.directory)

    @property
    def description(self) -> Any:
        return json.loads((self.directory / "devnet.json").read_text())

    def pids(self) -> dict[str, int]:
        """Pids of the nodes that run."""
        return {node["name"]: node["pid"] for node in self.description["nodes"] if node["pid"]}

    def api(self, node: str) -> str:
        return self.network.api(node)

    def order(self, operation: str, *nodes: str) -> None:
        """kill, pause, resume or restart nodes, through the supervisor as the commands do."""
        for node in nodes:
            control.ask(self.directory, operation, node=node)

    async def restart(self, nodes: Sequence[str]) -> None:
        """Restart several at once: alone, a node of a halted network could not be ready."""
        await asyncio.gather(*(asyncio.to_thread(self.order, "restart", node) for node in nodes))

    def kill_at_once(self) -> None:
        """kill -9 all nodes, without anything in between."""
        pids = self.pids().values()
        ended = Processes(pids)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        left = ended.still_there()
        ended.close()
        assert not left, f"{left} survived SIGKILL"

    def json(self, *arguments: str, expect: int = 0) -> Any:
        """A participant's or auditor's command against this devnet; its document."""
        done = nostro(*arguments, "--json", "--devnet", str(self.directory))
        assert done.returncode == expect, (
            f"{arguments} exited with {done.returncode}, not {expect}: {done.stdout} {done.stderr}"
            + self.logs()
        )
        return json.loads(done.stdout) if done.stdout else None

    def balance(self, participant: str, currency: str = "EUR") -> int:
        """Minor units."""
        rows = self.json("balance", participant)["balances"]
        [amount] = [row["amount"] for row in rows if row["asset"] == currency]
        return int(amount.replace(".", ""))

    async def final(self, node: str, uetr: str) -> PaymentView:
        """The payment as this node tells it, once it is final there."""
        async with ApiClient([self.api(node)]) as client:
            view = await client.payment(uetr, wait=FINAL_SECONDS)
        assert view is not None, (
            f"{uetr} is not final at {node} after {FINAL_SECONDS:.0f} s{self.logs()}"
        )
        return view

    async def agree(self) -> int:
        """Check that all nodes have the same chain, up to the height that all have; that height."""
        names = self.network.node_names
        chains = await asyncio.gather(*(self._digests(name) for name in names))
        common = min(len(chain) for chain in chains)
        for name, chain in zip(names, chains, strict=True):
            differing = [h for h in range(common) if chain[h] != chains[0][h]]
            assert not differing, f"{name} has other blocks than node0 at {differing[:5]}"
        return common - 1

    async def healthy(self) -> None:
        """Check that every node signs and none has raised an alarm."""
        for name in self.network.node_names:
            async with ApiClient([self.api(name)]) as client:
                status = await client.status()
            assert status.signing, f"{name}: {status.alarm}"
            assert status.alarm is None, f"{name}: {status.alarm}"

    async def outcomes(self, node: str) -> list[tuple[str | None, str]]:
        """(UETR, status) of every outcome from the beginning to the present height."""
        seen: list[tuple[str | None, str]] = []
        async with ApiClient([self.api(node)]) as client:
            last = await self._last_outcome(client)
            async with asyncio.timeout(FINAL_SECONDS):
                async for event in client.events((0, 2**31)):
                    seen.append((event.uetr, event.status))
                    if (event.height, event.index) == last:
                        break
        return seen

    async def _last_outcome(self, client: ApiClient) -> tuple[int, int]:
        height = (await client.status()).height
        while True:
            block = await client.block(height)
            if block.outcomes_count:
                return height, block.outcomes_count - 1
            height -= 1

    async def _digests(self, node: str) -> list[str]:
        async with ApiClient([self.api(node)]) as client:
            height = (await client.status()).height
            blocks = [await client.block(h) for h in range(height + 1)]
        return [block.digest for block in blocks]
