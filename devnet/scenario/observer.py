"""Watches the nodes during a run, as their clients do: event streams, balances, statuses.

Every node is followed on its own, through kills and pauses: what it does not answer is not
observed, and asked for again. At the end the whole chain is read once more from every node, so
that what was told during the run can be held against what is there now.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.request
from collections.abc import AsyncIterator, Iterable

from devnet.network import Network
from devnet.ports import HOST
from devnet.scenario.observed import BlockSeen, Claim, Observations, Outcome, Read
from node.api.client import ApiClient, ApiError
from node.api.service import AccountsView, AssetView, EventView

RETRY_SECONDS = 0.2
"""Before a node that did not answer is asked again."""
READ_SECONDS = 1.0
"""Between two reads of all balances at one node."""
COLLECT_SECONDS = 300.0
"""For reading a node's whole chain again."""
METRICS_SECONDS = 5.0
MAX_METRICS_BYTES = 4 * 1024 * 1024
EQUIVOCATIONS = "nostro_equivocations_total"
AFTER_ALL = 2**31
"""An outcome's position beyond any that a block can hold."""


class NotObserved(Exception):
    """What the judge needs cannot be read from a node; the text says what and why."""


class Observer:
    """Collects observations from the nodes of one devnet."""

    def __init__(self, network: Network, seen: Observations) -> None:
        self._network = network
        self.seen = seen
        self._known: dict[Outcome, Outcome] = {}
        """What every node tells is kept once."""

    @classmethod
    async def begin(cls, network: Network) -> Observer:
        """Look at what there is before the run. Raises ApiError if no node tells."""
        async with ApiClient([network.api(name) for name in network.node_names]) as client:
            supply = _supply(await client.assets())
            begun = (await client.status()).height
        seen = Observations(nodes=list(network.node_names), supply=supply, begun=begun)
        return cls(network, seen)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch all nodes until the block is left."""
        tasks = []
        for name in self._network.node_names:
            self.seen.told[name] = []
            # From before the first payment is sent: nothing told of it may be missed.
            tasks.append(asyncio.create_task(self._follow(name, await self._height(name))))
            tasks.append(asyncio.create_task(self._read_on(name)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _outcome(self, event: EventView) -> Outcome:
        outcome = Outcome(
            event.uetr or "", event.height, event.instruction, event.payment, event.status
        )
        return self._known.setdefault(outcome, outcome)

    async def _height(self, name: str) -> int | None:
        async with ApiClient([self._network.api(name)]) as client:
            with contextlib.suppress(ApiError):
                return (await client.status()).height
        return None

    async def _follow(self, name: str, height: int | None) -> None:
        """Note what a node tells to be final, in order, going on where it was lost."""
        after = None if height is None else (height, AFTER_ALL)
        while True:
            if after is None and (height := await self._height(name)) is not None:
                after = (height, AFTER_ALL)
            async with ApiClient([self._network.api(name)]) as client:
                # Also where a node that was restarted is still behind what it told before.
                with contextlib.suppress(ApiError):
                    if after is not None:
                        async for event in client.events(after):
                            after = (event.height, event.index)
                            self.seen.told[name].append(self._outcome(event))
            await asyncio.sleep(RETRY_SECONDS)

    async def _read_on(self, name: str) -> None:
        async with ApiClient([self._network.api(name)]) as client:
            while True:
                with contextlib.suppress(ApiError):
                    await self._read(name, client)
                await asyncio.sleep(READ_SECONDS)

    async def _read(self, name: str, client: ApiClient) -> Read | None:
        status = await client.status()
        self.seen.claims.append(Claim(name, status.height, status.block))
        before = _supply(await client.assets())
        accounts = await client.accounts()
        # What was issued is told without its height: only if it stood still is it that of the read.
        if _supply(await client.assets()) != before:
            return None
        read = Read(name, accounts.height, _balances(accounts), before)
        self.seen.reads.append(read)
        return read

    # --- at the end -------------------------------------------------------------------------

    async def collect(self, nodes: Iterable[str]) -> None:
        """Read the balances, the chain and all its outcomes from each of these nodes.

        What cannot be read is a complaint.
        """
        self.seen.nodes = list(nodes)
        for name in self.seen.nodes:
            try:
                async with asyncio.timeout(COLLECT_SECONDS):
                    await self._collect(name)
                    await self._incriminated(name)
            except (ApiError, NotObserved) as error:
                self.seen.complaints.append(f"the chain of {name} cannot be read: {error}")
            except TimeoutError:
                self.seen.complaints.append(
                    f"the chain of {name} could not be read within {COLLECT_SECONDS:.0f} s"
                )

    async def _incriminated(self, name: str) -> None:
        """No node of a scenario lies, so none may look as if it did."""
        ports = self._network.settings.ports[self._network.node_names.index(name)]
        try:
            text = await asyncio.to_thread(_metrics, f"http://{HOST}:{ports.operator}/metrics")
        except OSError as error:
            raise NotObserved(f"its metrics cannot be read: {error}") from error
        if EQUIVOCATIONS not in text:
            # Renamed: to go on would be to judge nothing.
            raise NotObserved(f"its metrics do not tell {EQUIVOCATIONS}")
        counts = re.findall(rf"^{EQUIVOCATIONS}(?:{{.*}})? ([0-9.e+]+)$", text, re.MULTILINE)
        if any(map(float, counts)):
            self.seen.complaints.append(f"{name} has seen an equivocation, where no node lied")

    async def _collect(self, name: str) -> None:
        async with ApiClient([self._network.api(name)]) as client:
            await self._read(name, client)
            blocks = await client.blocks()
            chain = [BlockSeen(b.height, b.digest, b.parent, b.outcomes_count) for b in blocks]
            chain.reverse()
            self.seen.chains[name] = chain
            expected = sum(block.outcomes for block in chain)
            outcomes = self.seen.outcomes[name] = []
            if not expected:
                return
            async for event in client.events((0, AFTER_ALL)):
                if event.height > chain[-1].height:
                    break
                outcomes.append(self._outcome(event))
                if len(outcomes) == expected:
                    return
            raise NotObserved(
                f"its headers count {expected} outcomes, its event stream has {len(outcomes)}"
            )


def _metrics(url: str) -> str:
    with urllib.request.urlopen(url, timeout=METRICS_SECONDS) as answer:
        text: bytes = answer.read(MAX_METRICS_BYTES)
    return text.decode()


def _minor(text: str) -> int:
    """Minor units: amounts have all of the asset's decimals."""
    return int(text.replace(".", ""))


def _supply(assets: Iterable[AssetView]) -> dict[str, int]:
    return {asset.code: _minor(asset.issued) - _minor(asset.redeemed) for asset in assets}


def _balances(accounts: AccountsView) -> dict[tuple[str, str, str], int]:
    return {(b.lei, b.account, b.asset): _minor(b.amount) for b in accounts.balances}
