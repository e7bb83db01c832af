"""Load: many payments between the banks of a devnet, each followed until it is final.

Each bank signs and sends to its own node, in its own task, as many banks would. Finality is told
by the event stream of one node, which goes on at another where that one is lost: what counts as
settled here is only what some node has told to be final. Whatever a node answers or fails to
answer, the same signed bytes are sent again until their outcome is known: they cannot pay twice.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from devnet.network import Network
from devnet.orders import Order, sign_order
from node.api.client import ApiClient, ApiError, ApiProblem
from node.api.problems import Problem
from node.api.service import EventView
from node.chain.genesis_file import GenesisParticipant
from node.chain.signature import Signer

MAX_REQUEST_INSTRUCTIONS = 200
MAX_REQUEST_PAYMENTS = 10_000
"""Of one HTTP request."""
MAX_WAITING_PAYMENTS = 40_000
"""Sent and not yet final, in all: the nodes' pools hold more."""
MAX_WAITING_INSTRUCTIONS = 4_000
STALL_SECONDS = 60.0
"""Without any finality for this long, what is waiting counts as unknown."""
RETRY_SECONDS = 0.2
"""Before a request is sent again, or another node is asked for events."""

OnFinal = Callable[[EventView], None]
"""Told of each payment of the load as soon as a node has told that it is final."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send."""

    count: int
    """Payments."""
    batch: int = 1
    """Payments in one instruction."""
    rate: float = 0.0
    """Payments per second; 0 is as many as the nodes take."""
    seed: int = 0
    """Decides who pays whom how much. UETRs are always new."""


@dataclass(slots=True)
class Result:
    """What became of it."""

    payments: int = 0
    """Sent."""
    instructions: int = 0
    settled: int = 0
    rejected: int = 0
    refused: int = 0
    """Not taken in by any node."""
    unknown: int = 0
    """Sent, and no node has told an outcome."""
    seconds: float = 0.0
    """From the first submission to the last finality."""
    problem: str | None = None
    """Why the first refused one was refused."""
    latencies: array[float] = field(default_factory=lambda: array("d"))
    """Milliseconds from submission to known finality, of each payment."""

    @property
    def final(self) -> int:
        return self.settled + self.rejected

    def percentile(self, percent: int) -> float | None:
        """Of the latencies, by nearest rank; None if nothing became final."""
        if not self.latencies:
            return None
        rank = math.ceil(percent / 100 * len(self.latencies))
        return round(sorted(self.latencies)[max(0, rank - 1)], 1)

    def document(self) -> dict[str, Any]:
        """As `load --json` prints it."""
        return {
            "payments": self.payments,
            "settled": self.settled,
            "rejected": self.rejected,
            "refused": self.refused,
            "unknown": self.unknown,
            "instructions": self.instructions,
            "seconds": round(self.seconds, 3),
            "payments_per_s": round(self.final / self.seconds, 1) if self.seconds else 0.0,
            "finality_ms": {"p50": self.percentile(50), "p99": self.percentile(99)},
            "problem": self.problem,
        }


class Load:
    """One run of a plan against a devnet."""

    def __init__(self, network: Network, plan: Plan, on_final: OnFinal | None = None) -> None:
        assert plan.count > 0
        assert plan.batch > 0
        self.result = Result()
        self._network = network
        self._plan = plan
        self.on_final = on_final
        self.on_sent: Callable[[Order], None] | None = None
        """Told of each instruction before it is first sent."""
        self.on_refused: Callable[[Order, Problem], None] | None = None
        """Told of each that no node will take in, and so can have no outcome."""
        self._waiting: dict[str, float] = {}
        """UETR → time of submission (monotonic s), of what is not yet final."""
        self._waiting_instructions = 0
        self._lasts: set[str] = set()
        """UETR of each waiting instruction's last payment: with it the instruction is final."""
        self._progress = asyncio.Event()
        self._last_final = 0.0
        self._last_moved = 0.0
        """Monotonic s; the later of the last submission and the last finality."""
        self._following = asyncio.Event()

    async def run(self) -> Result:
        """Send everything and wait until it is final, or until nothing moves any more."""
        banks = self._network.banks
        urls = [self._network.api(name) for name in self._network.node_names]
        follower = asyncio.create_task(self._follow(urls))
        self._last_moved = time.monotonic()
        try:
            await self._reached(self._following.is_set)
            started = self._last_final = time.monotonic()
            instructions = math.ceil(self._plan.count / self._plan.batch)
            senders = []
            for index, bank in enumerate(banks):
                first = len(banks) - 1 - index
                share = (instructions + first) // len(banks)
                senders.append(self._send_all(index, bank, share))
            await asyncio.gather(*senders)
            await self._reached(lambda: not self._waiting)
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
        self.result.unknown = len(self._waiting)
        self.result.seconds = self._last_final - started
        return self.result

    # --- finality -------------------------------------------------------------------------------

    async def _follow(self, urls: list[str]) -> None:
        after: tuple[int, int] | None = None
        turn = 0
        while True:
            async with ApiClient([urls[turn % len(urls)]]) as client:
                try:
                    if after is None:
                        # Everything after the height that the node now has; an outcome index
                        # beyond any that a block can hold.
                        after = ((await client.status()).height, 2**31)
                    self._following.set()
                    async for event in client.events(after):
                        after = (event.height, event.index)
                        self._final(event)
                except ApiError:
                    pass
            turn += 1
            await asyncio.sleep(RETRY_SECONDS)

    def _final(self, event: EventView) -> None:
        uetr = event.uetr or ""
        submitted = self._waiting.pop(uetr, None)
        if submitted is None:
            return  # somebody else's
        now = time.monotonic()
        self.result.latencies.append((now - submitted) * 1000)
        if event.status == "settled":
            self.result.settled += 1
        else:
            self.result.rejected += 1
        self._forget_instruction(uetr)
        self._last_final = self._last_moved = now
        self._progress.set()
        if self.on_final is not None:
            self.on_final(event)

    def _forget_instruction(self, uetr: str) -> None:
        if uetr in self._lasts:
            self._lasts.remove(uetr)
            self._waiting_instructions -= 1

    async def _reached(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition that finality brings about; False after a stall."""
        while not condition():
            left = self._last_moved + STALL_SECONDS - time.monotonic()
            if left <= 0:
                return False
            self._progress.clear()
            try:
                await asyncio.wait_for(self._progress.wait(), min(left, 0.5))
            except TimeoutError:
                continue
        return True

    # --- sending --------------------------------------------------------------------------------

    async def _send_all(self, index: int, bank: GenesisParticipant, instructions: int) -> None:
        """Send one bank's share of the instructions."""
        own = self._network.participant_api(index + 1)
        others = [url for n in self._network.node_names if (url := self._network.api(n)) != own]
        signer = self._network.signer(bank.name)
        most = max(1, min(MAX_REQUEST_INSTRUCTIONS, MAX_REQUEST_PAYMENTS // self._plan.batch))
        rng = random.Random(f"{self._plan.seed}/{bank.name}")
        banks = len(self._network.banks)
        rate = self._plan.rate / self._plan.batch / banks
        begun = time.monotonic()
        sent = 0
        async with ApiClient([own, *others]) as client:
            while sent < instructions:
                due = instructions
                if rate:
                    await asyncio.sleep(max(0.0, begun + sent / rate - time.monotonic()))
                    due = int((time.monotonic() - begun) * rate) + 1
                if not await self._reached(self._has_room):
                    return
                chunk = min(max(1, min(due, instructions) - sent), most)
                await self._send(client, [self._order(bank, signer, rng) for _ in range(chunk)])
                sent += chunk

    def _has_room(self) -> bool:
        return (
            len(self._waiting) < MAX_WAITING_PAYMENTS
            and self._waiting_instructions < MAX_WAITING_INSTRUCTIONS
        )

    def _order(self, bank: GenesisParticipant, signer: Signer, rng: random.Random) -> Order:
        # The last instruction of all holds what is left over.
        size = min(self._plan.batch, self._plan.count - self.result.payments)
        assert size > 0, "the banks' shares are together as many instructions as are needed"
        self.result.payments += size
        self.result.instructions += 1
        return sign_order(self._network.genesis, bank, signer, size, rng)

    async def _send(self, client: ApiClient, orders: list[Order]) -> None:
        """Submit until every instruction is taken in or refused for good."""
        now = time.monotonic()
        for order in orders:
            if self.on_sent is not None:
                self.on_sent(order)
            self._waiting.update(dict.fromkeys(order.uetrs, now))
            self._lasts.add(order.uetrs[-1])
        self._waiting_instructions += len(orders)
        self._last_moved = now
        deadline = now + STALL_SECONDS
        while orders and time.monotonic() < deadline:
            try:
                answers = await client.submit_batch([order.raw for order in orders])
            except ApiProblem as error:
                if not error.problem.temporary:
                    for order in orders:
                        self._refuse(order, error.problem)
                    return
            except ApiError:
                pass
            else:
                again = []
                for order, answer in zip(orders, answers, strict=True):
                    if not isinstance(answer, Problem) or answer.outcome == "final":
                        continue
                    if answer.temporary:
                        again.append(order)
                    else:
                        self._refuse(order, answer)
                orders = again
            if orders:
                await asyncio.sleep(RETRY_SECONDS)

    def _refuse(self, order: Order, problem: Problem) -> None:
        for uetr in order.uetrs:
            if self._waiting.pop(uetr, None) is not None:
                self.result.refused += 1
        self._forget_instruction(order.uetrs[-1])
        if self.on_refused is not None:
            self.on_refused(order, problem)
        self.result.problem = self.result.problem or f"{problem.code}: {problem.detail}"
