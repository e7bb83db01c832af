"""Sending orders and waiting for finality: what is known at each moment of what was sent.

The same signed bytes may go to several nodes and be sent again: they execute once. So whenever
an answer is lost the order counts as sent, and only the ledger's outcome, or a refusal that says
*not submitted*, ends the doubt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from node.api.client import ApiClient, ApiError, ApiProblem, BadAnswer, Unreachable
from node.api.documents import ReceiptDocument
from node.cli.errors import CommandError, Exit
from node.cli.orders import Book, Order, Result, result_of

KNOWN_ALREADY = frozenset({"already-executed", "duplicate-id"})
"""Codes by which a node says that an order with this id is there: ids follow from content, so it
is this one, from an earlier try."""
MAX_BATCH_ITEMS = 1_000
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Of the orders of one submission; the API takes twice as much."""
RETRY_SECONDS = 0.5
"""Before orders are sent again that no node had room for."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of sending one order."""

    receipt: ReceiptDocument | None
    doubt: str | None = None
    """Why it is not known whether a node has the order."""


async def load_book(client: ApiClient) -> Book:
    """Raises CommandError where no node answers."""
    try:
        return Book(await client.participants(), await client.assets())
    except ApiError as error:
        raise no_answer(error) from error


async def agreed_chain(client: ApiClient, expected: bytes | None) -> bytes:
    """The chain id to sign for; the node's must be the one expected. Raises CommandError."""
    try:
        status = await client.status()
        chain_id = bytes.fromhex(status.chain_id)
    except ApiError as error:
        raise no_answer(error) from error
    except ValueError as error:
        raise CommandError(f"the node's chain id is not hexadecimal: {error}") from error
    if expected is not None and chain_id != expected:
        raise CommandError(
            f"the node {status.node} is of another chain ({status.chain_id}) than the one "
            f"configured here ({expected.hex()}); nothing was signed. Check the API's address"
        )
    return chain_id


def no_answer(error: ApiError) -> CommandError:
    """The report of a question that was not answered."""
    if isinstance(error, ApiProblem) and not error.problem.temporary:
        return CommandError(str(error))
    if isinstance(error, Unreachable):
        return CommandError(
            f"no node answered ({error}). See that a node runs there and try again; nothing was "
            "sent",
            Exit.UNKNOWN,
        )
    return CommandError(f"{error}; nothing was sent", Exit.UNKNOWN)


async def submit(client: ApiClient, order: Order) -> Submitted:
    """Send one order. Raises CommandError if it certainly was not taken in."""
    try:
        return Submitted(await client.submit(order.raw))
    except ApiProblem as error:
        if error.code in KNOWN_ALREADY:
            return Submitted(None)
        if error.outcome == "unknown":
            return Submitted(None, str(error))
        again = "" if not error.problem.temporary else "; sending it again is safe"
        code = Exit.UNKNOWN if error.problem.temporary else Exit.REFUSED
        raise CommandError(f"not submitted: {error} [{error.code}]{again}", code) from error
    except (Unreachable, BadAnswer) as error:
        if error.outcome == "not submitted":
            raise CommandError(
                f"not submitted, no node answered ({error}); sending it again is safe",
                Exit.UNKNOWN,
            ) from error
        return Submitted(None, str(error))


async def wait_final(client: ApiClient, order: Order, seconds: float, started: float) -> Result:
    """The outcome of an order with one payment, or status *unknown* after `seconds`.

    `started`: when it was submitted, on the monotonic clock.
    """
    [uetr] = order.uetrs
    try:
        view = await client.payment(uetr, wait=seconds)
    except ApiError:
        view = None
    if view is None:
        return Result(uetr, "unknown")
    latency = round((time.monotonic() - started) * 1000)
    return result_of(view, order.digests[0], latency)


# --- many orders --------------------------------------------------------------------------------


def batches(orders: Sequence[Order]) -> Iterator[list[Order]]:
    """Orders in their order, in portions that one submission may hold."""
    portion: list[Order] = []
    size = 0
    for order in orders:
        if portion and (len(portion) >= MAX_BATCH_ITEMS or size + len(order.raw) > MAX_BATCH_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(order)
        size += len(order.raw)
    if portion:
        yield portion


class Settlement:
    """Takes a batch of orders to finality; `results` by UETR grows as outcomes become known."""

    def __init__(
        self,
        client: ApiClient,
        patience: float,
        *,
        on_receipt: Callable[[Order, ReceiptDocument], None],
        on_progress: Callable[[int], None],
    ) -> None:
        """`patience`: seconds without any progress after which the rest is left as unknown."""
        self._client = client
        self._patience = patience
        self._on_receipt = on_receipt
        self._on_progress = on_progress
        self.results: dict[str, Result] = {}
        self.doubt: str | None = None
        """The last thing that kept an outcome from being known."""

    async def look_up(self, orders: Sequence[Order]) -> list[Order]:
        """Take what is final already; the orders of which something is not."""
        uetrs = [uetr for order in orders for uetr in order.uetrs]
        views = await self._client.lookup(uetrs)
        digests = {
            uetr: digest
            for order in orders
            for uetr, digest in zip(order.uetrs, order.digests, strict=True)
        }
        for uetr, view in zip(uetrs, views, strict=True):
            if view is not None and uetr not in self.results:
                self.results[uetr] = result_of(view, digests[uetr])
        self._on_progress(len(self.results))
        return [order for order in orders if not all(uetr in self.results for uetr in order.uetrs)]

    async def settle(self, orders: Sequence[Order]) -> None:
        """Send, wait, look up, until all is final or nothing moves any more.

        Never raises ApiError: what stays open is not in `results`.
        """
        loop = asyncio.get_running_loop()
        unsent, sent = list(orders), list[Order]()
        deadline = loop.time() + self._patience
        while (unsent or sent) and loop.time() < deadline:
            before = len(self.results)
            try:
                if unsent:
                    taken, unsent = await self._send(unsent)
                    sent += taken
                if sent:
                    left = max(deadline - loop.time(), 0.0)
                    await self._client.payment(_open_uetr(sent[0], self.results), wait=left)
                    sent = await self.look_up(sent)
                elif unsent:
                    await asyncio.sleep(RETRY_SECONDS)
            except ApiError as error:
                self.doubt = str(error)
                await asyncio.sleep(RETRY_SECONDS)
            if len(self.results) > before:
                deadline = loop.time() + self._patience

    async def _send(self, orders: Sequence[Order]) -> tuple[list[Order], list[Order]]:
        """Send orders: those that now wait for finality, and those to be sent again."""
        answers = await self._client.submit_batch([order.raw for order in orders])
        taken, again = [], []
        for order, answer in zip(orders, answers, strict=True):
            if isinstance(answer, ReceiptDocument):
                self._on_receipt(order, answer)
                taken.append(order)
            elif answer.code in KNOWN_ALREADY or answer.outcome == "unknown":
                taken.append(order)
            elif answer.temporary:
                self.doubt = answer.detail
                again.append(order)
            else:
                for uetr in order.uetrs:
                    self.results.setdefault(uetr, Result(uetr, "refused", answer.code))
        return taken, again


def _open_uetr(order: Order, results: dict[str, Result]) -> str:
    """A payment of the order whose outcome is not known yet."""
    return next(uetr for uetr in order.uetrs if uetr not in results)
