"""`nostro devnet up` in the foreground: the sample payment, what to try, and a live status."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

from devnet import table
from devnet.bootstrap import Sample, sample_payment
from devnet.control import Lock
from devnet.network import DESCRIPTION, GENESIS, Network
from devnet.supervisor import Supervisor, make_usable
from node.api.client import ApiClient
from node.api.service import StatusView
from node.cli.output import Output

REFRESH_SECONDS = 1.0
"""Between two looks at the nodes for the status on a terminal."""
LOG_SECONDS = 30.0
"""The same where lines are logged."""


async def run_in_foreground(
    network: Network, lock: Lock, output: Output, directory: Path, *, plain: bool
) -> None:
    """Run a devnet until Ctrl-C, SIGTERM or `nostro devnet down`.

    `directory` is named in what to try. Raises what `detached.FAULTS` lists.
    """
    screen = Screen(in_place=not plain and not output.as_json and _is_terminal())
    shown: asyncio.Task[None] | None = None

    def say(text: str) -> None:
        if not output.as_json:
            screen.say(text)

    async def ready(supervisor: Supervisor) -> None:
        nonlocal shown
        await make_usable(supervisor)
        async with ApiClient([network.participant_api(1)]) as client:
            sample = await sample_payment(client, network)
        output.document(_document(network, sample))
        if not output.as_json:
            screen.say_all(_introduction(network, sample, directory))
            shown = asyncio.create_task(_show(supervisor, screen))

    say(f"starting {network.settings.validators} nodes in {directory} …")
    supervisor = Supervisor(network, say)
    try:
        await supervisor.run(lock, ready)
    finally:
        if shown is not None:
            shown.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await shown
    say("all nodes have ended; what they settled stays on disk")


class Screen:
    """Lines that stay and, on a terminal, a block below them that is drawn over in place."""

    def __init__(self, in_place: bool) -> None:
        self.in_place = in_place
        self._drawn = 0

    def say(self, text: str) -> None:
        """Print a line that stays."""
        stamp = "" if self.in_place else time.strftime("%H:%M:%S ")
        sys.stdout.write(f"{self._back()}{stamp}{text}\n")
        sys.stdout.flush()

    def say_all(self, lines: list[str]) -> None:
        """Print lines that stay, as they are."""
        sys.stdout.write(self._back() + "".join(f"{line}\n" for line in lines))
        sys.stdout.flush()

    def show(self, lines: list[str]) -> None:
        """Draw a block over the previous one."""
        # A line that wrapped would count as two, and the cursor would go up too few.
        columns = shutil.get_terminal_size().columns
        sys.stdout.write(self._back() + "".join(f"{line[: columns - 1]}\n" for line in lines))
        sys.stdout.flush()
        self._drawn = len(lines)

    def _back(self) -> str:
        """To the start of the drawn block, which is cleared."""
        drawn, self._drawn = self._drawn, 0
        return f"\x1b[{drawn}A\r\x1b[J" if drawn else ""


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


async def _show(supervisor: Supervisor, screen: Screen) -> None:
    last = ""
    while not supervisor.stopping:
        statuses = await supervisor.statuses()
        if screen.in_place:
            screen.show(["", *_table(supervisor, statuses)])
            await asyncio.sleep(REFRESH_SECONDS)
            continue
        seen = [status for status in statuses if status is not None]
        if seen:
            height = max(status.height for status in seen)
            line = f"height {height}, {len(seen)} of {len(statuses)} nodes answer"
            if line != last:
                screen.say(line)
            last = line
        await asyncio.sleep(LOG_SECONDS)


def _table(supervisor: Supervisor, statuses: list[StatusView | None]) -> list[str]:
    api = supervisor.network.api
    return table.lines([
        table.node_row(node.name, node.state, node.pid, api(node.name), status)
        for node, status in zip(supervisor.nodes, statuses, strict=True)
    ])  # fmt: skip


def _document(network: Network, sample: Sample) -> dict[str, object]:
    return {
        "directory": str(network.directory),
        "devnet": str(network.directory / DESCRIPTION),
        "chain_id": network.genesis.chain_id.hex(),
        "supervisor": os.getpid(),
        "sample": {
            "uetr": sample.view.uetr,
            "status": sample.view.status,
            "height": sample.view.height,
            "index": sample.view.index,
            "latency_ms": round(sample.latency_ms, 1),
        },
    }


def _introduction(network: Network, sample: Sample, directory: Path) -> list[str]:
    program = Path(sys.argv[0])
    nostro = os.path.relpath(program) if program.name == "nostro" else "nostro"
    other = directory != Path(".devnet")
    option = f" --devnet {directory}" if other else ""
    own = f" --dir {directory}" if other else ""
    uetr = sample.view.uetr
    return [
        "",
        f"{sample.debtor} paid {sample.creditor} {sample.text}: {sample.view.status}, final at "
        f"height {sample.view.height} after {sample.latency_ms:.0f} ms",
        f"  UETR {uetr}",
        "",
        "In another terminal",
        f"  pay     {nostro} pay --from BANKA --to BANKB --amount 1250.00 --currency EUR{option}",
        f"  look    {nostro} payment {uetr}{option}",
        f"          {nostro} balance{option}",
        f"  prove   {nostro} evidence {uetr} -o payment.dossier{option}",
        f"  verify  {nostro} verify payment.dossier --genesis {directory / GENESIS}",
        f"  break   {nostro} devnet kill node2{own}",
        f"          {nostro} devnet restart node2{own}",
        f"  load    {nostro} devnet load --count 10000 --batch 100{own}",
        f"  stop    Ctrl-C here, or {nostro} devnet down{own}",
    ]
