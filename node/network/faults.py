"""Faults that a devnet gives a node that runs: never there on a chain with real money.

A node whose genesis is marked `devnet` listens on a Unix socket in its home, which only its user
can enter, and there takes orders. With any other genesis nothing here is opened or read, so there
is no option, port or variable that could cut off or slow down a production node: the genesis is
part of the chain id, and cannot be changed under a chain.

An order is one line of JSON, and the answer is one:

    {"held": ["node1"],                      links held down: cut, and refused from either end
     "delay_ms": {"node2": 50},              each payload to node2 leaves so much later (0..60000)
     "jitter_ms": {"node2": 10},             and up to so much more, drawn evenly (0..60000)
     "loss": {"node3": 0.05},                each payload to node3 is not sent, so probably (0..1)
     "seed": 7,                              of the draws for jitter and loss
     "clock_offset_ms": -1500}               how far the node's wall clock is off (at most a year)

    {"faults": {…the whole order, as now in force…}, "lost": {"node3": 12}}    or
    {"error": "…why nothing was changed…"}

An order is absolute: it says all that is to be wrong with the node, so it may be repeated, and
what it leaves out is not wrong (no link held, no delay, no loss, seed 0, the clock right). `{}`
heals everything. `lost` counts, since the node's start, the payloads not sent on purpose.

Faults of a link are one-way: they concern what this node sends. For a slow or lossy link both
ways, order it at both ends. They concern payloads of all channels (consensus, mempool, sync), not
the hello and keep-alive of the link itself, so a link that loses everything stays up. Payloads
of one channel keep their order whatever the jitter. Peers are named as in the validator set; a
name that is no validator (yet) has no effect until it is one, since the set changes with epochs.

Nothing outlives the process; whoever starts a node that is to come up with faults gives the order
in its environment (`NOSTRO_DEVNET_FAULTS`, the same JSON), since an order after the start would
come too late: for a moment two nodes that start on both sides of a partition would be linked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, structs

from node.chain.genesis import Genesis
from node.network.links import Impairable, LinkFault
from node.storage.errors import HomeError

log = logging.getLogger(__name__)

SOCKET_NAME = "devnet-faults.sock"
"""In the node's home."""
ENV_FAULTS = "NOSTRO_DEVNET_FAULTS"
"""An order that holds from the start."""
ORDER_SECONDS = 5.0
"""How long either end may take over one order."""
MAX_ORDER_BYTES = 64 * 1024
MAX_NAMES = 256
"""Peers in each part of an order: as many as a validator set may have."""
MAX_DELAY_MS = 60_000
MAX_CLOCK_OFFSET_MS = 366 * 24 * 3600 * 1000

Name = Annotated[str, Meta(min_length=1, max_length=32)]
DelayMs = Annotated[float, Meta(ge=0, le=MAX_DELAY_MS)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class BadOrder(Exception):
    """An order that cannot be carried out, or is none; the text says why."""


class NotObeyed(Exception):
    """A node did not carry out an order; the text says why."""


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An order: all that is to be wrong with one node. See the module."""

    held: Annotated[tuple[Name, ...], Meta(max_length=MAX_NAMES)] = ()
    delay_ms: Annotated[dict[Name, DelayMs], Meta(max_length=MAX_NAMES)] = {}
    jitter_ms: Annotated[dict[Name, DelayMs], Meta(max_length=MAX_NAMES)] = {}
    loss: Annotated[dict[Name, Probability], Meta(max_length=MAX_NAMES)] = {}
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    clock_offset_ms: Annotated[int, Meta(ge=-MAX_CLOCK_OFFSET_MS, le=MAX_CLOCK_OFFSET_MS)] = 0

    def encoded(self) -> str:
        """As one line of JSON, for `ENV_FAULTS`."""
        return json.dumps(structs.asdict(self))

    def links(self) -> dict[str, LinkFault]:
        """What is to be wrong with which link."""
        names = sorted({*self.held, *self.delay_ms, *self.jitter_ms, *self.loss})
        return {
            name: LinkFault(
                held=name in self.held,
                delay_ms=self.delay_ms.get(name, 0),
                jitter_ms=self.jitter_ms.get(name, 0),
                loss=self.loss.get(name, 0),
                seed=self.seed,
            )
            for name in names
        }


def decode_faults(line: bytes | str) -> Faults:
    """Raises BadOrder."""
    try:
        return msgspec.json.decode(line, type=Faults)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadOrder(f'not an order: {error}; one reads {{"held": ["NAME", …], …}}') from None


class FaultControl:
    """Carries out orders at one node."""

    def __init__(
        self, links: Impairable, set_clock_offset: Callable[[int], None], own_name: str
    ) -> None:
        """`set_clock_offset`: sets by how many ms the node's wall clock is off."""
        self._links = links
        self._set_clock_offset = set_clock_offset
        self._own_name = own_name
        self.faults = Faults()
        """As now in force."""

    def order(self, faults: Faults) -> None:
        """Have exactly these faults. Raises BadOrder, and then has changed nothing."""
        links = faults.links()
        if self._own_name in links:
            raise BadOrder(f"{self._own_name} is this node, which has no link to itself")
        self._links.impair(links)
        self._set_clock_offset(faults.clock_offset_ms)
        if faults != self.faults:
            log.warning("devnet faults now: %s", faults.encoded())
        self.faults = faults

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one order from a connection, answer it and close."""
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                answer = self._answer(await reader.readline())
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, TimeoutError, asyncio.CancelledError):
            pass  # gone, silent, or sent an over-long line, or the node stops
        finally:
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            self.order(decode_faults(line))
        except BadOrder as error:
            return {"error": str(error)}
        return {"faults": structs.asdict(self.faults), "lost": self._links.lost()}


@contextlib.asynccontextmanager
async def devnet_faults(
    genesis: Genesis,
    links: Impairable,
    set_clock_offset: Callable[[int], None],
    *,
    own_name: str,
    home: Path,
    environment: Mapping[str, str],
) -> AsyncIterator[FaultControl | None]:
    """Take orders for a devnet's node; yields None, and does nothing, on any other.

    To be entered before the links are started. Raises HomeError if the order in `environment`
    cannot be followed, OSError if the socket cannot be opened.
    """
    if not genesis.devnet:
        yield None
        return
    control = FaultControl(links, set_clock_offset, own_name)
    try:
        control.order(decode_faults(environment.get(ENV_FAULTS) or "{}"))
    except BadOrder as error:
        remedy = f"Correct or unset {ENV_FAULTS}"
        raise HomeError(f"{ENV_FAULTS} cannot be followed: {error}", home, remedy) from error
    serving: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(control.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    # What a killed node left; the lock of the home says that none is there.
    (home / SOCKET_NAME).unlink(missing_ok=True)
    with _short_path(home) as path:
        server = await asyncio.start_unix_server(accepted, path, limit=MAX_ORDER_BYTES)
    try:
        yield control
    finally:
        server.close()
        for task in serving:
            task.cancel()
        (home / SOCKET_NAME).unlink(missing_ok=True)


async def order(home: Path, wanted: Mapping[str, Any]) -> dict[str, int]:
    """Have the devnet node of a home have exactly these faults; `wanted`: see the module.

    Returns once they hold: how many payloads the node has lost on purpose so far, by peer.
    Raises NotObeyed.
    """
    try:
        async with asyncio.timeout(ORDER_SECONDS):
            with _short_path(home) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ORDER_BYTES)
            try:
                writer.write(json.dumps(wanted).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
        answer = json.loads(line)
    except TimeoutError:
        raise NotObeyed(f"it did not answer within {ORDER_SECONDS:.0f} s") from None
    except OSError as error:
        raise NotObeyed(f"it cannot be reached: {error.strerror or error}") from error
    except ValueError as error:
        raise NotObeyed("it went away before it answered") from error
    if "error" in answer:
        raise NotObeyed(str(answer["error"]))
    lost: dict[str, int] = answer["lost"]
    return lost


@contextlib.contextmanager
def _short_path(home: Path) -> Iterator[str]:
    """A path of the socket that fits sockaddr_un, which takes 107 bytes, from any home."""
    handle = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET_NAME}"
    finally:
        os.close(handle)
