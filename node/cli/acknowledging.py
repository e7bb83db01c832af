"""`nostro acknowledge --watch`: the receiver's own process that acknowledges what settled.

It follows a node's event stream with its participant's own key. Of each payment that settled in
favour of its participant it fetches the dossier and verifies it against the genesis file that it
was given; what it signs, outcome and block, is read from the verified dossier and never from what a
node says. A dossier that does not verify is refused, logged, and passed over.

Exactly once: the instruction's id follows from payment, outcome and block, so whatever was sent
before a crash is the same instruction; the ledger takes each acknowledgement once besides. The
position file moves on only when everything up to it is final, so nothing is left out either.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from node.cli.acknowledged import Position, Refused, proven
from node.cli.common import keys_of, now_ms, run
from node.cli.connection import read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.service import EventView
    from node.chain.genesis import Genesis
    from node.cli.acknowledged import Proven
    from node.cli.connection import Connection
    from node.cli.orders import Order

MAX_EVENTS = 1_000
"""Events that are looked at together; after them the position moves on."""
QUIET_SECONDS = 0.2
"""Without an event, what came so far is looked at."""
BACK_OFF_SECONDS = (1.0, 60.0)
"""Before asking again where nobody answered: at first, doubled up to at most."""
FINAL_SECONDS = 60.0
"""How long an acknowledgement may take to be final before it is sent again."""
CREDITS = frozenset({"pay", "reserve", "return", "link"})
"""Kinds of movements that a payment makes."""


def add_watching(parser: argparse.ArgumentParser) -> None:
    """The options of the watching form."""
    group = parser.add_argument_group("watching")
    group.add_argument(
        "--watch",
        action="store_true",
        help="acknowledge every payment to this participant that settles, from its verified "
        "dossier, until it is stopped",
    )
    group.add_argument("--once", action="store_true", help="with --watch: catch up and end")
    group.add_argument(
        "--genesis", metavar="FILE", type=Path, help="what dossiers are verified against"
    )
    group.add_argument(
        "--position",
        metavar="FILE",
        type=Path,
        help="where it keeps how far it came (it begins with the first block without one)",
    )


def watch(args: argparse.Namespace, output: Output) -> int:
    """Run the watching form."""
    from node.chain.genesis import BadGenesis, load_genesis  # noqa: PLC0415

    for name in ("genesis", "position"):
        if getattr(args, name) is None:
            raise usage(f"--watch needs --{name} FILE")
    if args.json and not args.once:
        raise usage("--json with --watch is for --once: one document at the end")
    data = read_input(args.genesis, "the genesis file")
    try:
        genesis = load_genesis(data)
    except BadGenesis as error:
        raise usage(f"{args.genesis}: {error}") from error

    async def work(connection: Connection, client: ApiClient) -> int:
        watcher = _Watcher(args, output, connection, client, genesis=genesis, genesis_file=data)
        return await watcher.run()

    return run(args, args.sender, work)


@dataclass
class _Seen:
    """What one look at a stretch of events found."""

    last: tuple[int, int] | None = None
    events: int = 0
    moved: bool = False
    """Whether a payment settled in it."""
    joined: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Cycle that payments joined, as CODE:number → place before the first."""
    settled: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Cycle that settled → place."""


class _Later(Exception):
    """Something is not to be had now; the text says what."""


class _Watcher:
    """One run."""

    def __init__(
        self,
        args: argparse.Namespace,
        output: Output,
        connection: Connection,
        client: ApiClient,
        *,
        genesis: Genesis,
        genesis_file: bytes,
    ) -> None:
        self._args = args
        self._output = output
        self._connection = connection
        self._client = client
        self._genesis = genesis
        self._genesis_file = genesis_file
        self._position = Position(genesis.chain_id, "")
        self._counts = {"acknowledged": 0, "known": 0, "refused": 0}
        self._refused: list[str] = []

    async def run(self) -> int:
        """Until it is stopped, or has caught up. Raises CommandError."""
        from node.api.client import ApiError, ApiProblem  # noqa: PLC0415
        from node.cli.settle import no_answer  # noqa: PLC0415

        wait, place = BACK_OFF_SECONDS[0], self._position.place
        while True:
            try:
                await self._open()
                if await self._follow():
                    return self._report()
                why = "the node ended the stream of events"
            except ApiError as error:
                if self._args.once or (isinstance(error, ApiProblem) and error.code == "pruned"):
                    raise no_answer(error) from error
                why = str(error)
            except _Later as later:
                if self._args.once:
                    raise CommandError(f"{later}; run it again", Exit.UNKNOWN) from later
                why = str(later)
            if self._position.place != place:
                wait, place = BACK_OFF_SECONDS[0], self._position.place
            self._output.note(f"nostro: {why}; asking again in {wait:.0f} s")
            await asyncio.sleep(wait)
            wait = min(wait * 2, BACK_OFF_SECONDS[1])

    async def _open(self) -> None:
        """Whose acknowledgements these are, and how far they came. Raises ApiError, CommandError:
        another chain, a position of somebody else."""
        from node.cli.orders import Book  # noqa: PLC0415

        status = await self._client.status()
        if status.chain_id != self._genesis.chain_id.hex():
            raise CommandError(
                f"the node {status.node} is of another chain ({status.chain_id}) than the genesis "
                f"file ({self._genesis.chain_id.hex()}); nothing was signed"
            )
        book = Book(await self._client.participants(), ())
        given = self._args.sender
        sender = None if given is None else book.participant(given)
        holder, keys = keys_of(self._args, self._connection, book, sender)
        self._lei, self._keys = holder.lei, keys
        path = self._args.position
        self._position = Position.load(path, self._genesis.chain_id, holder.lei)
        if self._position.place[0] > status.height:
            # A node may lag; but one that lied of heights must not have payments skipped for good.
            raise _Later(
                f"{path} has come to height {self._position.place[0]}, the node {status.node} to "
                f"{status.height} only; if no node is ahead of it, a node misled it: remove it, "
                "and all payments are gone through anew, none of which is acknowledged twice"
            )

    # --- following --------------------------------------------------------------------------------

    async def _follow(self) -> bool:
        """Read events until the stream ends (False) or, with --once, all that was final at the
        beginning is done (True). Raises ApiError."""
        until = await self._last_event() if self._args.once else None
        if until is not None and until <= self._position.place:
            return True
        stream = self._client.events(self._position.place)
        seen = _Seen()
        async for event in _pauses(stream):
            if event is not None:
                self._look(seen, event)
            reached = until is not None and seen.last is not None and seen.last >= until
            full = seen.events >= MAX_EVENTS
            if seen.last is not None and (event is None or reached or full):
                await self._deal(seen)
                seen = _Seen()
            if reached:
                return True
        if seen.last is not None:
            await self._deal(seen)
        return False

    async def _last_event(self) -> tuple[int, int]:
        """Place of the last outcome that is final now."""
        height = (await self._client.status()).height
        while height > self._position.place[0]:
            block = await self._client.block(height)
            if block.outcomes_count:
                return height, block.outcomes_count - 1
            height -= 1
        return self._position.place

    def _look(self, seen: _Seen, event: EventView) -> None:
        place = event.height, event.index
        before = self._position.place if seen.last is None else seen.last
        seen.last = place
        seen.events += 1
        told = event.event or {}
        if event.uetr is not None and event.status in {"settled", "posted"}:
            seen.moved = True
        elif told.get("kind") == "joined":
            # The event does not tell the cycle's asset; numbers of several may coincide.
            seen.joined.setdefault(str(told["cycle"]), before)
        elif told.get("kind") == "cycle-settled":
            seen.settled[str(told["cycle"])] = place

    async def _deal(self, seen: _Seen) -> None:
        """Acknowledge what is ours in a stretch, then move on. Raises ApiError."""
        assert seen.last is not None
        for cycle, place in seen.joined.items():
            self._position.cycles.setdefault(cycle, place)
        found = await self._credited(seen.last) if seen.moved else []
        for cycle, place in seen.settled.items():
            begun = self._position.cycles.get(cycle)
            if begun is not None:
                found += await self._netted(cycle, begun, place)
        await self._acknowledge(list(dict.fromkeys(found)))
        self._position.place = seen.last
        self._position.save(self._args.position)

    async def _credited(self, last: tuple[int, int]) -> list[str]:
        """UETRs of the payments that credited one of our accounts up to here."""
        height, index = self._position.place
        begins = f"{max(height, 1)}:{index + 1 if height else 0}"
        ends = f"{last[0]}:{last[1] + 1}"
        found = []
        for account in await self._client.statements(self._lei, None):
            moved = await self._client.movements_between(
                self._lei, (account.asset, account.account), begins, ends
            )
            found += [
                each.uetr
                for each in moved
                if each.uetr is not None and each.kind in CREDITS and each.amount[0] != "-"
            ]
        return found

    async def _netted(
        self, cycle: str, begun: tuple[int, int], settled: tuple[int, int]
    ) -> list[str]:
        """UETRs of the payments to us that joined a cycle of this number. The cycle's outcome names
        none, so the stretch in which it was open is read again."""
        found = []
        async for event in self._client.events(begun):
            if (event.height, event.index) >= settled:
                break
            told = event.event or {}
            if event.uetr is None or told.get("kind") != "joined" or str(told["cycle"]) != cycle:
                continue
            view = await self._client.payment(event.uetr)
            if view is not None and view.creditor == self._lei and view.status == "settled":
                found.append(event.uetr)
        return found

    # --- acknowledging ----------------------------------------------------------------------------

    async def _acknowledge(self, uetrs: list[str]) -> None:
        """Send for each what is proven of it, and wait until all are final. Raises ApiError."""
        sent: list[tuple[str, Order]] = []
        for uetr in uetrs:
            try:
                found = await self._proven(uetr)
            except Refused as refused:
                self._refuse(uetr, str(refused))
                continue
            if found.acknowledged:
                self._counts["known"] += 1
                continue
            order = await self._send(uetr, found)
            if order is not None:
                sent.append((uetr, order))
        for uetr, order in sent:
            await self._final(uetr, order)

    async def _proven(self, uetr: str) -> Proven:
        """From the first node whose dossier verifies. Raises Refused where all have none that does,
        and ApiError where one of those that may have it did not answer."""
        from node.api.client import ApiClient, ApiError, ApiProblem  # noqa: PLC0415

        refused: Refused | None = None
        silent: ApiError | None = None
        for url in tuple(self._client.urls):
            async with ApiClient([url]) as client:
                try:
                    data = await client.evidence(uetr)
                except ApiProblem as error:
                    # One that does not know it lags; one that cannot show it never will.
                    if error.code == "unknown-payment" or error.problem.temporary:
                        silent = error
                    else:
                        refused = Refused(f"{url}: {error}")
                    continue
                except ApiError as error:
                    silent = error
                    continue
            try:
                return await asyncio.to_thread(proven, data, self._genesis_file, uetr, self._lei)
            except Refused as error:
                digest = sha256(data).hexdigest()
                refused = Refused(f"{url} gave a dossier (sha256 {digest}) that {error}")
        if silent is not None:
            raise silent
        assert refused is not None
        raise refused

    async def _send(self, uetr: str, found: Proven) -> Order | None:
        """None: a node refused it for good. Raises _Later."""
        from node.chain.types import Acknowledge  # noqa: PLC0415
        from node.cli.orders import VALIDITY_MS, plain_order  # noqa: PLC0415
        from node.cli.settle import submit  # noqa: PLC0415

        order = plain_order(
            self._genesis.chain_id,
            self._lei,
            Acknowledge(found.payment, found.outcome, found.block),
            now_ms() + VALIDITY_MS,
            self._keys,
            reference=found.outcome.hex(),
        )
        try:
            await submit(self._client, order)
        except CommandError as error:
            if error.code == Exit.UNKNOWN:
                raise _Later(str(error)) from error
            self._refuse(uetr, str(error))
            return None
        return order

    async def _final(self, uetr: str, order: Order) -> None:
        from node.ledger.reasons import SAID_ALREADY, sentence  # noqa: PLC0415

        view = await self._client.instruction(order.sender, order.id, wait=FINAL_SECONDS)
        if view is None:
            raise _Later(f"the acknowledgement of {uetr} is not final")
        if view.status != "rejected":
            self._counts["acknowledged"] += 1
            self._output.line(f"{uetr}  acknowledged in block {view.height}")
        elif view.reason == SAID_ALREADY:
            self._counts["known"] += 1
        else:
            reason = "" if view.reason is None else f" ({view.reason}, {sentence(view.reason)})"
            self._refuse(uetr, f"the ledger rejected the acknowledgement{reason}")

    def _refuse(self, uetr: str, why: str) -> None:
        self._counts["refused"] += 1
        self._refused.append(uetr)
        del self._refused[:-MAX_EVENTS]
        self._output.note(f"nostro: {uetr} is not acknowledged: {why}")

    def _report(self) -> int:
        self._output.document({**self._counts, "not_acknowledged": self._refused})
        self._output.line(
            f"{self._counts['acknowledged']} acknowledged, {self._counts['known']} were already, "
            f"{self._counts['refused']} refused"
        )
        return Exit.REFUSED if self._counts["refused"] else Exit.DONE


async def _pauses(stream: AsyncIterator[EventView]) -> AsyncIterator[EventView | None]:
    """The events of a stream, and None whenever none came for a while."""
    upcoming = asyncio.ensure_future(_step(stream))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=QUIET_SECONDS)
            if not done:
                yield None
                continue
            event = upcoming.result()
            if event is None:
                return
            yield event
            upcoming = asyncio.ensure_future(_step(stream))
    finally:
        upcoming.cancel()
        await asyncio.wait({upcoming})


async def _step(stream: AsyncIterator[EventView]) -> EventView | None:
    """The next event; None: there is no other."""
    return await anext(stream, None)
