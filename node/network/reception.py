"""The accepting end: from a TCP connection of anyone to a WebSocket of a validator.

Connections are accepted by a loop of our own rather than by a ready-made server, so that every
refused handshake is counted with its reason and strangers are bounded in number: at most
`Limits.handshakes` connections of anybody, then at most one of each validator, are not links yet.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aiohttp import web

from node.network.frames import MAX_FRAME_BYTES
from node.network.link import WebSocket, sever
from node.network.links import Limits, Refusal
from node.network.peer import Peer
from node.network.sockets import tune
from node.network.transport import PeerRefused, PinnedContext, classify, peer_key

log = logging.getLogger(__name__)

LINK_PATH = "/peer"
ACCEPT_PAUSE_SECONDS = 0.5
"""After the system refused to accept (out of descriptors), before trying again."""
SHUTDOWN_SECONDS = 1.0
"""What one end gives the other to close a connection in good order."""
MAX_MESSAGE = MAX_FRAME_BYTES + 1
"""aiohttp refuses messages of this size and above, before it buffers them."""


class Reception:
    """Accepts connections for a `PeerNetwork`."""

    def __init__(
        self,
        *,
        limits: Limits,
        peers: Mapping[bytes, Peer],
        context: Callable[[], PinnedContext],
        carry: Callable[[Peer, WebSocket, asyncio.Transport], Awaitable[None]],
        refuse: Callable[[Refusal, str, Peer | None], None],
    ) -> None:
        """`peers`: by node key, as they are at any time. `context`: to accept with. `carry`: opens
        a link on a WebSocket and returns when it is lost. `refuse`: is told of every refusal."""
        self._limits = limits
        self._peers = peers
        self._context = context
        self._carry = carry
        self._refuse = refuse
        self._server = web.Server(self._upgrade, access_log=None, logger=log)
        self._handshakes: dict[asyncio.Task[None], None] = {}
        """In order of arrival."""
        self._requests: set[asyncio.Task[None]] = set()
        """Tasks in which the HTTP server runs `_upgrade`; it forgets them when a connection is
        lost, and `close` must not."""

    @property
    def handshakes(self) -> int:
        """Connections that have not shown a validator's key yet."""
        return len(self._handshakes)

    async def close(self) -> None:
        """End all connections; those that carry links are already cut."""
        for task in self._handshakes:
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        await self._server.shutdown(SHUTDOWN_SECONDS)
        if self._requests:
            _, late = await asyncio.wait(self._requests, timeout=SHUTDOWN_SECONDS)
            assert not late, f"peer links that did not end: {late}"

    async def accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("cannot accept connections of peers: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if len(self._handshakes) >= self._limits.handshakes:
                next(iter(self._handshakes)).cancel()
                self._refuse(Refusal.CROWDED, "", None)
            task = asyncio.create_task(self._handshake(connection), name="peer handshake")
            self._handshakes[task] = None
            task.add_done_callback(partial(self._handshaken, connection))

    def _handshaken(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task)
        report(task)
        if task.cancelled():
            # Also when it was cancelled before it ran, and so before anyone else owned the socket.
            connection.close()

    async def _handshake(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        context = self._context()
        try:
            tune(connection)
            transport, _ = await loop.connect_accepted_socket(
                self._server,
                connection,
                ssl=context,
                ssl_handshake_timeout=self._limits.handshake_seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except ssl.SSLError as error:
            self._refuse(classify(error), str(error), None)
            return
        except OSError as error:
            # asyncio reports a handshake that takes too long as an aborted connection.
            timed_out = isinstance(error, ConnectionAbortedError)
            reason = Refusal.HANDSHAKE_TIMEOUT if timed_out else Refusal.HANDSHAKE_BROKEN
            self._refuse(reason, str(error), None)
            return
        peer = self._peer_at(transport)
        if peer is None:
            sever(transport)
            return
        if peer.asked is transport:
            return  # the request came with the last bytes of the handshake
        peer.opens(transport)
        peer.expiry = loop.call_later(self._limits.handshake_seconds, self._expire, peer, transport)

    def _peer_at(self, transport: asyncio.Transport) -> Peer | None:
        """Whose an accepted connection is; None, and counted, if by now it is nobody's."""
        try:
            key = peer_key(transport.get_extra_info("ssl_object"), self._context())
        except PeerRefused as error:
            self._refuse(error.refusal, str(error), None)
            return None
        return self._peers[key]

    def _expire(self, peer: Peer, transport: asyncio.Transport) -> None:
        """A peer that connected and then asked for nothing."""
        peer.opened(transport)
        sever(transport)
        self._refuse(Refusal.HANDSHAKE_TIMEOUT, "no request for a link", peer)

    async def _upgrade(self, request: web.BaseRequest) -> web.StreamResponse:
        task = request.task
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        transport = request.transport
        if transport is None:
            return web.Response(status=400)
        peer = self._peer_at(transport)
        if peer is None:
            response = web.Response(status=403)
            response.force_close()
            return response
        peer.asked = transport
        peer.opens(transport)
        ws = web.WebSocketResponse(
            timeout=SHUTDOWN_SECONDS, autoping=False, compress=False, max_msg_size=MAX_MESSAGE
        )
        if request.path != LINK_PATH or not ws.can_prepare(request):
            detail = f"{request.method} {request.path[:64]!r}"
            return self._turn_away(peer, transport, Refusal.BAD_REQUEST, detail)
        if peer.held:
            return self._turn_away(peer, transport, Refusal.HELD_DOWN, Refusal.HELD_DOWN)
        try:
            await ws.prepare(request)
        except OSError as error:
            peer.opened(transport)
            self._refuse(Refusal.CLOSED, str(error), peer)
            return ws
        await self._carry(peer, ws, transport)
        return ws

    def _turn_away(
        self, peer: Peer, transport: asyncio.Transport, refusal: Refusal, detail: str
    ) -> web.Response:
        self._refuse(refusal, detail, peer)
        peer.opened(transport)
        response = web.Response(status=404)
        response.force_close()
        return response


def report(task: asyncio.Task[None]) -> None:
    """A background task that fails is our bug, and must not do so in silence."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        context = {"message": f"{task.get_name()} failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)
