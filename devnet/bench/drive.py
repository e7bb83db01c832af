"""Load whose own cost stays small beside the nodes': signed before the clock starts, sent in
requests of several instructions, and told final by one long poll a request.

All four nodes are given an equal share, as four institutions would.
"""

from __future__ import annotations

import asyncio
import random
import time

from devnet.network import Network
from devnet.orders import Order, sign_order
from node.api.client import ApiClient
from node.api.problems import Problem

REQUESTS_UNDER_WAY = 4
"""To each node."""
FINAL_SECONDS = 60.0


class BenchFailed(Exception):
    """A figure could not be taken: something was refused, rejected or not final."""


async def light(network: Network, count: int, rng: random.Random) -> list[float]:
    """One payment at a time at the first bank's node: milliseconds from before the submission to
    the client's knowledge of finality, ascending."""
    bank = network.genesis.participants[1]
    signer = network.signer(bank.name)
    times = []
    async with ApiClient([network.participant_api(1)]) as client:
        for _ in range(count):
            order = sign_order(network.genesis, bank, signer, 1, rng)
            started = time.perf_counter()
            await client.submit(order.raw)
            await _final(client, order.uetrs[-1])
            times.append((time.perf_counter() - started) * 1000)
    return sorted(times)


async def throughput(
    network: Network, payments: int, size: int, request: int, rng: random.Random
) -> float:
    """Finalized payments per second for instructions of `size` payments, `request` of them in one
    HTTP request. All must settle."""
    banks = network.banks
    shares = []
    for bank in banks:
        signer = network.signer(bank.name)
        count = payments // size // len(banks)
        shares.append([sign_order(network.genesis, bank, signer, size, rng) for _ in range(count)])
    started = time.perf_counter()
    await asyncio.gather(
        *(
            _send_share(network.participant_api(index + 1), share, request)
            for index, share in enumerate(shares)
        )
    )
    seconds = time.perf_counter() - started
    await _all_settled(network, [uetr for share in shares for o in share for uetr in o.uetrs])
    return sum(len(order.uetrs) for share in shares for order in share) / seconds


async def _send_share(url: str, share: list[Order], request: int) -> None:
    under_way = asyncio.Semaphore(REQUESTS_UNDER_WAY)
    async with ApiClient([url]) as client:

        async def send(orders: list[Order]) -> None:
            async with under_way:
                for answer in await client.submit_batch([order.raw for order in orders]):
                    if isinstance(answer, Problem):
                        raise BenchFailed(f"{answer.code}: {answer.detail}")
                # Instructions of one sender become final in order.
                await _final(client, orders[-1].uetrs[-1])

        async with asyncio.TaskGroup() as tasks:
            for start in range(0, len(share), request):
                tasks.create_task(send(share[start : start + request]))


async def _final(client: ApiClient, uetr: str) -> None:
    if await client.payment(uetr, wait=FINAL_SECONDS) is None:
        raise BenchFailed(f"a payment was not final within {FINAL_SECONDS:.0f} s")


async def _all_settled(network: Network, uetrs: list[str]) -> None:
    async with ApiClient([network.api(name) for name in network.node_names]) as client:
        views = await client.lookup(uetrs)
    unsettled = sum(view is None or view.status != "settled" for view in views)
    if unsettled:
        raise BenchFailed(f"{unsettled} of {len(uetrs)} payments did not settle")
