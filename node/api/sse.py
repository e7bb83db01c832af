"""The event stream: every outcome, in order, as server-sent events (WHATWG HTML, section 9.2).

An event's id is `height:index`. A client that reconnects sends the last one as `Last-Event-ID`
and gets everything after it: nothing is lost or told twice while a client is away. The stream
keeps no queue: it reads on from the ledger as fast as the client takes, and a client that takes
nothing for `WRITE_SECONDS` is dropped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from node.api.problems import Refused
from node.api.service import EventsUnavailable, EventView, NodeService

MAX_STREAMS = 64
"""Streams open at once at one node."""
HEARTBEAT_SECONDS = 10.0
"""A comment this often keeps proxies from closing a quiet stream and finds dead clients."""
WRITE_SECONDS = 20.0
"""How long a client may leave the socket full."""
_POSITION = re.compile(r"([0-9]{1,19}):([0-9]{1,10})", re.ASCII)


def parse_position(text: str | None) -> tuple[int, int] | None:
    """The (height, index) of a `Last-Event-ID`. Raises Refused (bad-parameter)."""
    if text is None:
        return None
    match = _POSITION.fullmatch(text)
    if match is None:
        raise Refused(
            "bad-parameter", f"Last-Event-ID is {text[:40]!r}; it is height:index, such as 17:0"
        )
    return int(match[1]), int(match[2])


def frame(event: EventView) -> bytes:
    """The bytes of one event."""
    return b"id: %d:%d\nevent: outcome\ndata: %b\n\n" % (
        event.height,
        event.index,
        msgspec.json.encode(event),
    )


class Streams:
    """Serves event streams, at most MAX_STREAMS of them."""

    def __init__(self, service: NodeService) -> None:
        self._service = service
        self._open = 0

    async def serve(
        self, request: web.Request, after: tuple[int, int] | None
    ) -> web.StreamResponse:
        """Answer one request with a stream that ends when the client or the node does."""
        if self._open >= MAX_STREAMS:
            raise Refused(
                "too-many-streams", f"{MAX_STREAMS} event streams are open at this node already"
            )
        if after is not None and after[0] > self._service.height():
            raise Refused(
                "future-event",
                f"height {after[0]} is not final here yet; the last final height is "
                f"{self._service.height()}",
            )
        kept_from = self._service.kept_from()
        if after is not None and after[0] < kept_from:
            raise Refused(
                "pruned",
                f"outcomes below height {kept_from} are not kept here, and those after height "
                f"{after[0]} were asked for; an archive node has them",
            )
        self._open += 1
        events = self._service.events(after)
        try:
            response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
            )
            await response.prepare(request)
            await _pump(events, response)
            return response
        finally:
            self._open -= 1
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()


async def _pump(events: AsyncIterator[EventView], response: web.StreamResponse) -> None:
    await _write(response, b": outcomes in order\n\n")
    upcoming = asyncio.ensure_future(_step(events))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=HEARTBEAT_SECONDS)
            if not done:
                await _write(response, b": quiet\n\n")
                continue
            event = upcoming.result()
            if event is None:
                return
            upcoming = asyncio.ensure_future(_step(events))
            await _write(response, frame(event))
    except (ConnectionError, TimeoutError):
        return
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)


async def _step(events: AsyncIterator[EventView]) -> EventView | None:
    """The next event; None at the end (StopAsyncIteration cannot leave a task)."""
    try:
        return await anext(events)
    except (StopAsyncIteration, EventsUnavailable):
        return None


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(data)
