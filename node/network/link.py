"""One open link: a WebSocket over a pinned TLS connection, after both hellos.

Reading and writing run side by side and share nothing, so a peer that does not read cannot keep
us from reading it. Nothing here waits for anything but this one peer. Incoming payloads are
handed over by a plain call, without a task or a queue in between: when a peer sends more than its
rate we stop reading its socket, and TCP makes it wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
from aiohttp import WSMessage, WSMsgType

from node.network.frames import (
    KEEP_ALIVE,
    MAX_PARTIAL_BYTES,
    Assembler,
    Channel,
    Hello,
    MalformedFrame,
    decode_hello,
    encode_hello,
)
from node.network.impairment import Impairment
from node.network.links import NO_FAULT, Limits, OnMessage, Refusal
from node.network.outbox import MAX_OUTBOX_BYTES, Outbox
from node.network.rate import TokenBucket
from node.network.transport import classify

RELEASE_TICK_SECONDS = 0.001
"""Delayed payloads that are due within this time leave together: however they jitter, a link
wakes no more often."""


MAX_LINK_BYTES = MAX_OUTBOX_BYTES + MAX_PARTIAL_BYTES
"""What one peer can make us keep: what it does not take, and what it does not finish. Buffers of
its socket come on top: a few frames."""


class WebSocket(Protocol):
    """What aiohttp's client and server WebSockets have in common, as far as a link needs it."""

    async def receive(self) -> WSMessage: ...

    async def send_bytes(self, data: bytes) -> None: ...


class LinkLost(Exception):
    """The link cannot go on."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal}: {detail}" if detail else str(refusal))
        self.refusal = refusal


def dial_failure(error: Exception) -> LinkLost:
    """Why a peer could not be dialed, from what the HTTP client raised."""
    if isinstance(error, TimeoutError):
        return LinkLost(Refusal.HANDSHAKE_TIMEOUT)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return LinkLost(classify(cause), str(cause))
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return LinkLost(classify(error.os_error), str(error.os_error))
    if isinstance(error, aiohttp.ClientConnectorError):
        return LinkLost(Refusal.UNREACHABLE, str(error.os_error))
    # TLS 1.3 lets the dialing end finish first: the other's refusal shows as a broken connection.
    return LinkLost(Refusal.REJECTED, str(error) or type(error).__name__)


def sever(transport: asyncio.Transport) -> None:
    """Close a connection at once, without waiting for its buffers."""
    try:
        transport.abort()
    except AttributeError:
        # CPython before 3.11.5 (Debian 12 has 3.11.2): abort() of a TLS transport that was closed
        # twice finds its protocol gone. There is nothing left to close then.
        assert transport.is_closing(), "only a closed transport fails so"


class Link:
    """Carries payloads to and from one authenticated peer until it is lost."""

    def __init__(
        self,
        peer: int,
        socket: WebSocket,
        transport: asyncio.Transport,
        limits: Limits,
        on_message: OnMessage,
        *,
        dialed: bool,
        impairment: Impairment | None = None,
        on_flood: Callable[[], None] | None = None,
    ) -> None:
        """`dialed`: by this end. `on_flood`: called at most once a watch, when the peer sends
        above its rate."""
        self.peer = peer
        """Index that messages come with; it may change while the link is up."""
        self.dialed = dialed
        self.instance = b""
        """Of the process at the other end, from its hello."""
        self.outbox = Outbox()
        self.address = _address(transport)
        self.sent_bytes = 0
        self.received_bytes = 0
        self.sent_payloads = 0
        self.received_payloads = 0
        self.transport = transport
        self._socket = socket
        self._limits = limits
        self._on_message = on_message
        self._assembler = Assembler()
        self._loop = asyncio.get_running_loop()
        self._bytes = TokenBucket(limits.bytes_per_second, limits.burst_bytes)
        self._payloads = TokenBucket(limits.payloads_per_second, limits.burst_payloads)
        self._wake = asyncio.Event()
        self._cut = asyncio.Event()
        self._lost: LinkLost | None = None
        self._impairment = impairment
        self._release_handle: asyncio.TimerHandle | None = None
        self._on_flood = on_flood
        self._flooded = False
        self._holding_back = False
        self._keep_alive_due = False
        self._sent_frames = 0

    @property
    def unfinished_bytes(self) -> int:
        """Received of payloads whose last chunk is missing."""
        return self._assembler.partial_bytes

    # --- opening -------------------------------------------------------------------------------

    async def greet(self, own: Hello) -> None:
        """Exchange hellos. Raises LinkLost when the peer's is not the expected one."""
        try:
            async with asyncio.timeout(self._limits.handshake_seconds):
                await self._socket.send_bytes(encode_hello(own))
                hello = decode_hello(await self._receive())
        except TimeoutError:
            raise LinkLost(Refusal.HANDSHAKE_TIMEOUT, "no hello") from None
        except MalformedFrame as error:
            raise LinkLost(Refusal.BAD_HELLO, str(error)) from error
        except OSError as error:
            raise LinkLost(Refusal.CLOSED, str(error)) from error
        for what, theirs, ours in (
            ("link format", hello.format, own.format),
            ("chain", hello.chain_id.hex(), own.chain_id.hex()),
        ):
            if theirs != ours:
                raise LinkLost(Refusal.BAD_HELLO, f"{what} {theirs}, expected {ours}")
        self.instance = hello.instance

    # --- running -------------------------------------------------------------------------------

    def send(self, channel: Channel, payload: bytes) -> bool:
        """Queue a payload; False when its queue is full."""
        impairment = self._impairment
        if impairment is None or impairment.fault is NO_FAULT:
            due = 0.0
        elif impairment.loses():
            return True
        else:
            delay = impairment.delay()
            due = self._loop.time() + delay if delay else 0.0
        if not self.outbox.put(channel, payload, due):
            return False
        self.sent_payloads += 1
        if due:
            self._release_later()
        else:
            self._wake.set()
        return True

    def _release_later(self) -> None:
        """See to it that what is delayed leaves; one timer a link, at most one a tick."""
        if self._release_handle is None and self._lost is None:
            due = self.outbox.next_due()
            at = max(due, self._loop.time() + RELEASE_TICK_SECONDS)
            self._release_handle = self._loop.call_at(at, self._release)

    def _release(self) -> None:
        self._release_handle = None
        self.outbox.release(self._loop.time())
        self._wake.set()
        if self.outbox.delayed:
            self._release_later()

    async def run(self) -> LinkLost:
        """Carry payloads until the link is lost; returns why."""
        writer = asyncio.create_task(self._write(), name=f"link to {self.peer}: write")
        writer.add_done_callback(self._written)
        self._watch_handle = self._loop.call_later(
            self._limits.watch_seconds, self._watch, 0, 0, (0, 0)
        )
        try:
            await self._read()
        except LinkLost as lost:
            self.drop(lost)
        finally:
            self._watch_handle.cancel()
            if self._release_handle is not None:
                self._release_handle.cancel()
            sever(self.transport)
            writer.cancel()
            await asyncio.wait([writer])
        assert self._lost is not None
        return self._lost

    def drop(self, lost: LinkLost) -> None:
        """Cut the connection now; `run` returns soon, with the first reason given."""
        if self._lost is None:
            self._lost = lost
        self._cut.set()
        sever(self.transport)

    async def _receive(self) -> bytes:
        message: WSMessage = await self._socket.receive()
        if message.type is WSMsgType.BINARY:
            data: bytes = message.data
            return data
        if message.type is WSMsgType.ERROR:
            raise LinkLost(Refusal.MALFORMED, str(message.data))
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
            raise LinkLost(Refusal.CLOSED)
        # Peers of this format send no text and no ping: those would pass by the rate limit.
        raise LinkLost(Refusal.MALFORMED, f"{message.type.name} message")

    async def _read(self) -> None:
        on_message = self._on_message
        while True:
            frame = await self._receive()
            self.received_bytes += len(frame)
            try:
                payloads = self._assembler.feed(frame)
            except MalformedFrame as error:
                raise LinkLost(Refusal.MALFORMED, str(error)) from error
            await self._hold_back(len(payloads), len(frame))
            if self._lost is not None:
                raise self._lost
            self.received_payloads += len(payloads)
            for channel, payload in payloads:
                try:
                    on_message(self.peer, channel, payload)
                except Exception as error:
                    self._report(error)
                    raise LinkLost(Refusal.OWN_FAULT, repr(error)) from error
                if self._lost is not None:
                    raise self._lost

    async def _hold_back(self, payloads: int, size: int) -> None:
        now = self._loop.time()
        pause = max(self._payloads.take(max(payloads, 1), now), self._bytes.take(size, now))
        if pause > 0.0:
            self._flooded = self._holding_back = True
            try:
                async with asyncio.timeout(pause):
                    await self._cut.wait()
            except TimeoutError:
                pass
            finally:
                self._holding_back = False

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler(
            {"message": f"failure on the link to validator {self.peer}", "exception": error}
        )

    async def _write(self) -> None:
        outbox = self.outbox
        try:
            while True:
                frame = outbox.next_frame()
                if frame is None:
                    if self._keep_alive_due:
                        self._keep_alive_due = False
                        frame = KEEP_ALIVE
                    else:
                        self._wake.clear()
                        await self._wake.wait()
                        continue
                await self._socket.send_bytes(frame)
                self._sent_frames += 1
                self.sent_bytes += len(frame)
        except OSError as error:
            self.drop(LinkLost(Refusal.CLOSED, str(error)))

    def _written(self, writer: asyncio.Task[None]) -> None:
        error = None if writer.cancelled() else writer.exception()
        if isinstance(error, Exception):
            self._report(error)
            self.drop(LinkLost(Refusal.OWN_FAULT, repr(error)))

    def _watch(self, silent: int, stuck: int, before: tuple[int, int]) -> None:
        """Every `watch_seconds`: ask for a keep-alive, drop a peer that is dead or never reads."""
        received, sent = self.received_bytes, self._sent_frames
        if self._flooded and self._on_flood is not None:
            self._on_flood()
        self._flooded = self._holding_back
        # While we hold a peer back we do not read it: that is not its silence.
        silent = silent + 1 if received == before[0] and not self._holding_back else 0
        if sent == before[1]:
            # The keep-alive asked for at the last watch did not leave either.
            stuck = stuck + 1 if self._keep_alive_due or self.outbox.queued_bytes else 0
            self._keep_alive_due = True
            self._wake.set()
        else:
            stuck = 0
        if silent >= self._limits.silent_watches:
            self.drop(LinkLost(Refusal.SILENT))
        elif stuck >= self._limits.silent_watches:
            self.drop(LinkLost(Refusal.STUCK))
        else:
            self._watch_handle = self._loop.call_later(
                self._limits.watch_seconds, self._watch, silent, stuck, (received, sent)
            )


def _address(transport: asyncio.Transport) -> str:
    name: Any = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if name else ""
