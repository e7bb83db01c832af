"""How a devnet cuts the links of a node that runs: never there on a chain with real money.

A node whose genesis is marked `devnet` listens on a Unix socket in its home, which only its user
can enter, and there takes the names of the peers whose links are to be held down. With any other
genesis nothing here is opened or read, so there is no option, port or variable that could cut a
production node off: the genesis is part of the chain id, and cannot be changed under a chain.

An order is absolute (all peers to be held down, not one more or one less), so that it may be
repeated. Nothing outlives the process; whoever starts a node that is to come up with links held
down says so in its environment, since an order after the start would come too late: for a moment
two nodes that start on both sides of a partition would be linked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from node.chain.genesis import Genesis
from node.network.links import PeerLinks
from node.storage.errors import HomeError

log = logging.getLogger(__name__)

SOCKET_NAME = "devnet-links.sock"
"""In the node's home."""
ENV_HELD = "NOSTRO_DEVNET_HELD"
"""Names of peers, separated by commas, whose links are held down from the start."""
ORDER_SECONDS = 5.0
"""How long either end may take over one order."""
MAX_ORDER_BYTES = 64 * 1024


class BadOrder(Exception):
    """An order names what is no peer of this node, or is none at all; the text says which."""


class NotObeyed(Exception):
    """A node did not carry out an order; the text says why."""


class Holds:
    """The links of one node that are held down."""

    def __init__(self, links: PeerLinks, names: Sequence[str], own_index: int) -> None:
        """`names`: the validators, by index."""
        self._links = links
        self._peers = {name: i for i, name in enumerate(names) if i != own_index}
        self._held: set[str] = set()

    def order(self, names: Sequence[str]) -> list[str]:
        """Hold down the links to exactly these peers; the names of all that are held now.

        Raises BadOrder, and then has changed nothing.
        """
        for name in names:
            if name not in self._peers:
                raise BadOrder(f"{name!r} is not a peer; the peers are {', '.join(self._peers)}")
        wanted = set(names)
        for name, index in self._peers.items():
            if name in wanted and name not in self._held:
                self._links.hold_down(index)
                log.warning("the link to validator %d (%s) is held down", index, name)
            elif name in self._held and name not in wanted:
                self._links.let_up(index)
                log.warning("the link to validator %d (%s) is let up", index, name)
        self._held = wanted
        return sorted(wanted, key=self._peers.__getitem__)

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
            return {"held": self.order(_names(line))}
        except BadOrder as error:
            return {"error": str(error)}


def _names(line: bytes) -> list[str]:
    try:
        order = json.loads(line)
    except ValueError:
        order = None
    names = order.get("hold") if isinstance(order, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadOrder('not an order; one reads {"hold": ["NAME", …]}')
    return names


@contextlib.asynccontextmanager
async def devnet_holds(
    genesis: Genesis, links: PeerLinks, own_index: int, home: Path, environment: Mapping[str, str]
) -> AsyncIterator[Holds | None]:
    """Take orders for the links of a devnet's node; yields None, and does nothing, on any other.

    To be entered before the links are started. Raises HomeError if `environment` names a
    stranger, OSError if the socket cannot be opened.
    """
    if not genesis.devnet:
        yield None
        return
    names = [validator.name for validator in genesis.validator_set.validators]
    holds = Holds(links, names, own_index)
    try:
        holds.order([name for name in environment.get(ENV_HELD, "").split(",") if name])
    except BadOrder as error:
        remedy = f"Correct or unset {ENV_HELD}"
        raise HomeError(f"{ENV_HELD} cannot be followed: {error}", home, remedy) from error
    serving: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(holds.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    # What a killed node left; the lock of the home says that none is there.
    (home / SOCKET_NAME).unlink(missing_ok=True)
    with _short_path(home) as path:
        server = await asyncio.start_unix_server(accepted, path, limit=MAX_ORDER_BYTES)
    try:
        yield holds
    finally:
        server.close()
        for task in serving:
            task.cancel()
        (home / SOCKET_NAME).unlink(missing_ok=True)


async def order(home: Path, names: Sequence[str]) -> None:
    """Have the devnet node of a home hold down the links to exactly these peers.

    Returns once they are cut. Raises NotObeyed.
    """
    try:
        async with asyncio.timeout(ORDER_SECONDS):
            with _short_path(home) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ORDER_BYTES)
            try:
                writer.write(json.dumps({"hold": list(names)}).encode() + b"\n")
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


@contextlib.contextmanager
def _short_path(home: Path) -> Iterator[str]:
    """A path of the socket that fits sockaddr_un, which takes 107 bytes, from any home."""
    handle = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET_NAME}"
    finally:
        os.close(handle)
