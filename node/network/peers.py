"""Links to all other validators: who dials whom, and what happens when one fails.

One link a pair; the validator with the lower index dials. Each peer has its own dialing task,
queues, rate and watch, and there is no queue that two peers share: whatever one does, the others
do not notice. Connections are accepted by a loop of our own rather than by a ready-made server,
so that every refused handshake is counted with its reason and strangers are bounded in number.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from node.chain.types import ValidatorSet
from node.network.frames import LINK_FORMAT, MAX_FRAME_BYTES, Channel, Hello
from node.network.link import Link, LinkLost, WebSocket, dial_failure, sever
from node.network.links import (
    Limits,
    LinkStatus,
    OnLink,
    OnMessage,
    OnRefusal,
    Refusal,
    backoff_seconds,
)
from node.network.sockets import listen, tune
from node.network.transport import Identity, PinnedContext, classify, peer_index

log = logging.getLogger(__name__)

LINK_PATH = "/peer"
ACCEPT_PAUSE_SECONDS = 0.5
"""After the system refused to accept (out of descriptors), before trying again."""
SHUTDOWN_SECONDS = 1.0
"""What one end gives the other to close a connection in good order."""
Address = tuple[str, int]


@dataclass(slots=True)
class _Peer:
    """One other validator, over all its links."""

    index: int
    name: str
    address: Address | None
    since: int
    """When the link came up or went down, ms since the epoch."""
    link: Link | None = None
    opening: asyncio.Transport | None = None
    """An accepted connection of this peer that is not a link yet; at most one."""
    expiry: asyncio.TimerHandle | None = None
    """Ends `opening` when it asks for no link in time."""
    asked: asyncio.Transport | None = None
    """The connection that last asked for a link."""
    sent_bytes: int = 0
    received_bytes: int = 0
    sent_payloads: int = 0
    received_payloads: int = 0
    dropped_payloads: int = 0
    last_refusal: str = ""
    may_link: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set while the link is held down."""

    def opens(self, transport: asyncio.Transport) -> None:
        """A connection of this peer that may become a link; the one before it never will."""
        if self.opening is not None and self.opening is not transport:
            sever(self.opening)
        self.opened(self.opening)
        self.opening = transport

    def opened(self, transport: asyncio.Transport | None) -> None:
        """The connection became a link, or nothing."""
        if self.opening is transport:
            self.opening = None
            if self.expiry is not None:
                self.expiry.cancel()
                self.expiry = None

    def absorb(self, link: Link) -> None:
        """Add the counts of a link that ended."""
        self.sent_bytes += link.sent_bytes
        self.received_bytes += link.received_bytes
        self.sent_payloads += link.sent_payloads
        self.received_payloads += link.received_payloads


class _DialedSocket(aiohttp.ClientWebSocketResponse):
    """A client WebSocket that keeps hold of its transport, so that a link can cut it at once."""

    def __init__(self, reader: Any, writer: Any, *args: Any, **options: Any) -> None:
        super().__init__(reader, writer, *args, **options)
        self.transport: asyncio.Transport = writer.transport


class PeerNetwork:
    """`PeerLinks` over mutual TLS 1.3."""

    def __init__(
        self,
        *,
        chain_id: bytes,
        validator_set: ValidatorSet,
        own_index: int,
        node_seed: bytes,
        listen: Address,
        addresses: Mapping[int, Address],
        on_message: OnMessage,
        on_link: OnLink,
        on_refusal: OnRefusal | None = None,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`node_seed`: the 32-byte seed of this node's `node_key`. `listen`: address and port
        (0: any). `addresses`: where to dial, by validator index. `on_refusal`: told of every
        entry in `refusals` with its detail, for logs and alarms; `now`: the wall clock, for
        certificates; `jitter`: a number in [0, 1), see `backoff_seconds`.

        Raises WrongNodeKey for another's key, ValueError when the address of a validator that
        this node must dial is missing.
        """
        self.refusals: dict[Refusal, int] = {}
        self.limits = limits or Limits()
        validators = validator_set.validators
        node_keys = tuple(validator.node_key for validator in validators)
        self._identity = Identity.create(
            chain_id, node_keys, own_index, node_seed=node_seed, now=now()
        )
        self._peers: dict[int, _Peer] = {}
        for index, validator in enumerate(validators):
            if index == own_index:
                continue
            address = addresses.get(index)
            if address is None and index > own_index:
                raise ValueError(
                    f"no address for validator {index} ({validator.name}), which this node dials: "
                    "add it to the configured peers"
                )
            self._peers[index] = _Peer(index, validator.name, address, _milliseconds(now()))
            self._peers[index].may_link.set()
        self._own_index = own_index
        self._hello = Hello(LINK_FORMAT, chain_id, own_index)
        self._listen = listen
        self._on_message = on_message
        self._on_link = on_link
        self._on_refusal = on_refusal
        self._now = now
        self._jitter = jitter
        self._running = False
        self._contexts: dict[int | None, PinnedContext] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._handshakes: dict[asyncio.Task[None], None] = {}
        """In order of arrival."""
        self._requests: set[asyncio.Task[None]] = set()
        """Tasks in which the HTTP server runs `_upgrade`; it forgets them when a connection is
        lost, and `stop` must not."""
        self._listener: socket.socket | None = None
        self._server: web.Server | None = None
        self._session: aiohttp.ClientSession | None = None

    # --- what the engine uses ------------------------------------------------------------------

    @property
    def listening(self) -> Address:
        """Where this node accepts links, with the actual port. Only while started."""
        assert self._listener is not None
        name = self._listener.getsockname()
        return name[0], name[1]

    @property
    def certificate_expires(self) -> datetime:
        """When peers would start to refuse this node's certificate; it is renewed in time."""
        return self._identity.expires

    async def start(self) -> None:
        """Listen, and begin to dial. Raises ListenFailed; OSError when there is no place for the
        moment in which the TLS library reads its key from a file."""
        assert not self._running, "started twice"
        self._use(self._identity)
        self._listener = await listen(*self._listen)
        self._running = True
        self._server = web.Server(self._upgrade, access_log=None, logger=log)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            ws_response_class=_DialedSocket,
        )
        self._tasks = [
            asyncio.create_task(self._accept(self._listener), name="accept peers"),
            *(
                asyncio.create_task(self._dial(peer, peer.address), name=f"dial {peer.name}")
                for peer in self._peers.values()
                if peer.index > self._own_index and peer.address is not None
            ),
        ]
        for task in self._tasks:
            task.add_done_callback(_report)

    async def stop(self) -> None:
        """Drop all links and close everything. No callback is called from here on."""
        if not self._running:
            return
        self._running = False
        assert self._listener is not None
        assert self._server is not None
        assert self._session is not None
        tasks = [*self._tasks, *self._handshakes]
        for task in tasks:
            task.cancel()
        for peer in self._peers.values():
            if peer.link is not None:
                peer.link.drop(LinkLost(Refusal.CLOSED, "this node stops"))
            if peer.opening is not None:
                sever(peer.opening)
                peer.opened(peer.opening)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        await self._server.shutdown(SHUTDOWN_SECONDS)
        if self._requests:
            _, late = await asyncio.wait(self._requests, timeout=SHUTDOWN_SECONDS)
            assert not late, f"peer links that did not end: {late}"
        await self._session.close()
        self._tasks = []

    def send(self, to: int, channel: Channel, payload: bytes) -> bool:
        """See `PeerLinks.send`."""
        peer = self._peers[to]
        if peer.link is not None and peer.link.send(channel, payload):
            return True
        peer.dropped_payloads += 1
        return False

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """See `PeerLinks.broadcast`."""
        return sum(self.send(index, channel, payload) for index in self._peers)

    def queued(self, to: int, channel: Channel) -> int:
        """See `PeerLinks.queued`."""
        link = self._peers[to].link
        return link.outbox.queued(channel) if link is not None else 0

    def links(self) -> list[LinkStatus]:
        """See `PeerLinks.links`."""
        return [self._status(peer) for peer in self._peers.values()]

    def hold_down(self, peer: int) -> None:
        """See `PeerLinks.hold_down`. May be called before `start`."""
        held = self._peers[peer]
        held.may_link.clear()
        if held.link is not None:
            link = held.link
            self._down(held, link)
            link.drop(LinkLost(Refusal.HELD_DOWN))
        if held.opening is not None:
            sever(held.opening)
            held.opened(held.opening)

    def let_up(self, peer: int) -> None:
        """See `PeerLinks.let_up`."""
        self._peers[peer].may_link.set()

    def _status(self, peer: _Peer) -> LinkStatus:
        link = peer.link
        address = "{}:{}".format(*peer.address) if peer.address else ""
        return LinkStatus(
            index=peer.index,
            name=peer.name,
            connected=link is not None,
            since=peer.since,
            dialed_by_us=peer.index > self._own_index,
            address=link.address if link else address,
            sent_bytes=peer.sent_bytes + (link.sent_bytes if link else 0),
            received_bytes=peer.received_bytes + (link.received_bytes if link else 0),
            sent_payloads=peer.sent_payloads + (link.sent_payloads if link else 0),
            received_payloads=peer.received_payloads + (link.received_payloads if link else 0),
            dropped_payloads=peer.dropped_payloads,
            queued_bytes=link.outbox.queued_bytes if link else 0,
            last_refusal=peer.last_refusal,
        )

    # --- one link ------------------------------------------------------------------------------

    async def _carry(self, peer: _Peer, ws: WebSocket, transport: asyncio.Transport) -> None:
        """Open a link on an authenticated connection and stay until it is lost."""
        link = Link(peer.index, ws, transport, self.limits, self._on_message)
        try:
            await link.greet(self._hello)
        except BaseException as error:
            sever(transport)
            if not isinstance(error, LinkLost):
                raise
            self._refuse(error.refusal, str(error), peer)
            return
        finally:
            peer.opened(transport)
        if not self._running:
            sever(transport)
            return
        if not peer.may_link.is_set():
            # It was opening when it was to be held down.
            sever(transport)
            self._refuse(Refusal.HELD_DOWN, Refusal.HELD_DOWN, peer)
            return
        if peer.link is not None:
            # The newer one wins: the peer restarted and the old connection is a ghost of it.
            old = peer.link
            self._down(peer, old)
            old.drop(LinkLost(Refusal.REPLACED))
        peer.link = link
        peer.since = _milliseconds(self._now())
        peer.last_refusal = ""
        log.info("link to validator %d (%s) is up", peer.index, peer.name)
        self._on_link(peer.index, True)
        try:
            lost = await link.run()
            self._refuse(lost.refusal, str(lost), peer)
        finally:
            self._down(peer, link)

    def _down(self, peer: _Peer, link: Link) -> None:
        if peer.link is not link:
            return
        peer.link = None
        peer.since = _milliseconds(self._now())
        peer.absorb(link)
        if self._running:
            self._on_link(peer.index, False)

    def _refuse(self, refusal: Refusal, detail: str, peer: _Peer | None = None) -> None:
        if not self._running:
            return
        self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
        if peer is not None and peer.last_refusal != detail:
            # Only when the reason changes: a peer that is away must not fill the log.
            peer.last_refusal = detail
            log.warning("link to validator %d (%s): %s", peer.index, peer.name, detail)
        if self._on_refusal is not None:
            self._on_refusal(refusal, detail)

    # --- accepting -----------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("cannot accept connections of peers: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if len(self._handshakes) >= self.limits.handshakes:
                next(iter(self._handshakes)).cancel()
                self._refuse(Refusal.CROWDED, "")
            task = asyncio.create_task(self._handshake(connection), name="peer handshake")
            self._handshakes[task] = None
            task.add_done_callback(partial(self._handshaken, connection))

    def _handshaken(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task)
        _report(task)
        if task.cancelled():
            # Also when it was cancelled before it ran, and so before anyone else owned the socket.
            connection.close()

    async def _handshake(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        assert self._server is not None
        context = self._context(None)
        try:
            tune(connection)
            transport, _ = await loop.connect_accepted_socket(
                self._server,
                connection,
                ssl=context,
                ssl_handshake_timeout=self.limits.handshake_seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except ssl.SSLError as error:
            self._refuse(classify(error), str(error))
            return
        except OSError as error:
            # asyncio reports a handshake that takes too long as an aborted connection.
            timed_out = isinstance(error, ConnectionAbortedError)
            reason = Refusal.HANDSHAKE_TIMEOUT if timed_out else Refusal.HANDSHAKE_BROKEN
            self._refuse(reason, str(error))
            return
        peer = self._peers[peer_index(transport.get_extra_info("ssl_object"), context)]
        if peer.asked is transport:
            return  # the request came with the last bytes of the handshake
        peer.opens(transport)
        peer.expiry = loop.call_later(self.limits.handshake_seconds, self._expire, peer, transport)

    def _expire(self, peer: _Peer, transport: asyncio.Transport) -> None:
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
        index = peer_index(transport.get_extra_info("ssl_object"), self._context(None))
        peer = self._peers[index]
        peer.asked = transport
        peer.opens(transport)
        ws = web.WebSocketResponse(
            timeout=SHUTDOWN_SECONDS, autoping=False, compress=False, max_msg_size=_MAX_MESSAGE
        )
        if request.path != LINK_PATH or not ws.can_prepare(request):
            detail = f"{request.method} {request.path[:64]!r}"
            return self._turn_away(peer, transport, Refusal.BAD_REQUEST, detail)
        if not peer.may_link.is_set():
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
        self, peer: _Peer, transport: asyncio.Transport, refusal: Refusal, detail: str
    ) -> web.Response:
        self._refuse(refusal, detail, peer)
        peer.opened(transport)
        response = web.Response(status=404)
        response.force_close()
        return response

    # --- dialing -------------------------------------------------------------------------------

    async def _dial(self, peer: _Peer, address: Address) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            if not peer.may_link.is_set():
                await peer.may_link.wait()
                attempt = 0
            began = loop.time()
            try:
                await self._dial_once(peer, address)
            except LinkLost as lost:
                self._refuse(lost.refusal, str(lost), peer)
            if loop.time() - began >= self.limits.held_seconds:
                attempt = 0
            if peer.may_link.is_set():
                await asyncio.sleep(backoff_seconds(attempt, self._jitter(), self.limits))
            attempt += 1

    async def _dial_once(self, peer: _Peer, address: Address) -> None:
        assert self._session is not None
        url = URL.build(scheme="wss", host=address[0], port=address[1], path=LINK_PATH)
        try:
            async with asyncio.timeout(self.limits.handshake_seconds):
                ws = await self._session.ws_connect(
                    url,
                    ssl=self._context(peer.index),
                    autoping=False,
                    compress=0,
                    max_msg_size=_MAX_MESSAGE,
                    timeout=aiohttp.ClientWSTimeout(ws_close=SHUTDOWN_SECONDS),
                )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise dial_failure(error) from error
        assert isinstance(ws, _DialedSocket)
        try:
            tune(ws.transport.get_extra_info("socket"))
            await self._carry(peer, ws, ws.transport)
        finally:
            # The connection is cut already: this only lets aiohttp forget it.
            await ws.close()

    def _context(self, dialed: int | None) -> PinnedContext:
        """The TLS context to dial a peer with, or to accept with (None)."""
        now = self._now()
        if self._identity.renewal_due(now):
            try:
                self._use(self._identity.renewed(now))
            except OSError as error:
                # There are days left to try again; the old certificate still serves.
                log.error("cannot renew the transport certificate: %s", error)
        return self._contexts[dialed]

    def _use(self, identity: Identity) -> None:
        contexts: dict[int | None, PinnedContext] = {None: identity.server_context()}
        for index in self._peers:
            if index > self._own_index:
                contexts[index] = identity.client_context(index)
        self._identity, self._contexts = identity, contexts


_MAX_MESSAGE = MAX_FRAME_BYTES + 1
"""aiohttp refuses messages of this size and above, before it buffers them."""


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _report(task: asyncio.Task[None]) -> None:
    """A background task that fails is our bug, and must not do so in silence."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        context = {"message": f"{task.get_name()} failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)
