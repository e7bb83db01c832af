"""Links to all other validators: who dials whom, and what happens when one fails or leaves.

One link a pair. The validator with the lower index dials; the other one waits a while for that
and then dials too, since the first may lack its address or be an epoch behind. Each peer has its
own dialing task, queues, rate and watch, and there is no queue that two peers share: whatever one
does, the others do not notice. `node.network.reception` accepts connections.

Peers are known by their node keys. When the validator set changes, the link of whoever is in both
sets stays and is given its new index. A node that is no validator has no links.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
from yarl import URL

from node.chain.types import Validator, ValidatorSet
from node.network.frames import INSTANCE_BYTES, LINK_FORMAT, Channel, Hello
from node.network.impairment import Impairment
from node.network.link import Link, LinkLost, WebSocket, dial_failure, sever
from node.network.links import (
    NO_FAULT,
    Limits,
    LinkFault,
    LinkStatus,
    OnLink,
    OnMessage,
    OnRefusal,
    Refusal,
    backoff_seconds,
)
from node.network.peer import Address, Peer
from node.network.reception import LINK_PATH, MAX_MESSAGE, SHUTDOWN_SECONDS, Reception, report
from node.network.sockets import listen, published_address, tune
from node.network.transport import (
    Identity,
    PinnedContext,
    Pins,
    WrongNodeKey,
)

log = logging.getLogger(__name__)


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
        own_index: int | None,
        node_seed: bytes,
        listen: Address,
        addresses: Mapping[int, Address],
        on_message: OnMessage,
        on_link: OnLink,
        on_refusal: OnRefusal | None = None,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
        instance: Callable[[], bytes] = lambda: secrets.token_bytes(INSTANCE_BYTES),
    ) -> None:
        """`own_index`: None for a node that is no validator (yet): it listens and turns everybody
        away. `node_seed`: the 32-byte seed of this node's `node_key`. `listen`: address and port
        (0: any). `addresses`: where to dial, by validator index; for others the address in the
        validator set counts, and who has none has to dial. `on_refusal`: told of every entry in
        `refusals` with its detail, for logs and alarms; `now`: the wall clock, for certificates;
        `jitter`: a number in [0, 1), see `backoff_seconds`; `instance`: see `Hello.instance`.

        Raises WrongNodeKey for another's key.
        """
        self.refusals: dict[Refusal, int] = {}
        self.limits = limits or Limits()
        self._identity = Identity.create(chain_id, node_seed=node_seed, now=now())
        self._own_key = self._identity.node_key
        self._pins = Pins(self._own_key)
        self._peers: dict[bytes, Peer] = {}
        """By node key."""
        self._by_index: dict[int, Peer] = {}
        self._faults: dict[str, LinkFault] = {}
        self._hello = Hello(LINK_FORMAT, chain_id, instance())
        self._listen = listen
        self._on_message = on_message
        self._on_link = on_link
        self._on_refusal = on_refusal
        self._now = now
        self._jitter = jitter
        self._running = False
        self._contexts: dict[bytes | None, PinnedContext] = {}
        """To dial a node key with, or to accept with (None)."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._reception: Reception | None = None
        self._session: aiohttp.ClientSession | None = None
        self.reconfigure(validator_set, own_index, addresses)

    # --- what the engine uses ------------------------------------------------------------------

    @property
    def listening(self) -> Address:
        """Where this node accepts links, with the actual port. Only while started."""
        assert self._listener is not None
        name = self._listener.getsockname()
        return name[0], name[1]

    @property
    def handshakes(self) -> int:
        """Accepted connections that have not shown a validator's key; at most as `Limits` has."""
        return self._reception.handshakes if self._reception is not None else 0

    @property
    def certificate_expires(self) -> datetime:
        """Until when this node's certificate says it is valid; it is renewed long before."""
        self._renew_if_due()
        return self._identity.expires

    async def start(self) -> None:
        """Listen, and begin to dial. Raises ListenFailed; OSError when there is no place for the
        moment in which the TLS library reads its key from a file."""
        assert not self._running, "started twice"
        self._use(self._identity)
        self._listener = await listen(*self._listen)
        self._running = True
        self._reception = Reception(
            limits=self.limits,
            peers=self._peers,
            context=self._accepting_context,
            carry=partial(self._carry, dialed=False),
            refuse=self._refuse,
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            ws_response_class=_DialedSocket,
        )
        self._begin(self._reception.accept(self._listener), "accept peers")
        for peer in self._peers.values():
            self._begin_dialing(peer)

    def reconfigure(
        self, validator_set: ValidatorSet, own_index: int | None, addresses: Mapping[int, Address]
    ) -> None:
        """Follow a change of the validator set; may be called at any time, also before the start.

        It holds at once: on return every payload comes with the peer's new index, who is in both
        sets under the same node key has kept its link, `on_link(old index, False)` has been
        called for linked peers that are gone, and no connection under way opens for them. Links
        that stay are not reported to `on_link`. `own_index` None: this node is no validator, and
        all its links are dropped. `addresses` as for the constructor.

        Raises WrongNodeKey, and then has changed nothing.
        """
        validators = validator_set.validators
        if own_index is None:
            wanted: dict[bytes, int] = {}
        else:
            named = validators[own_index].node_key
            if named != self._own_key:
                raise WrongNodeKey(own_index, self._own_key, named)
            wanted = {v.node_key: i for i, v in enumerate(validators)}
        self._pins.validators = wanted
        why = Refusal.OBSERVER if own_index is None else Refusal.REMOVED
        for peer in [peer for key, peer in self._peers.items() if key not in wanted]:
            self._expel(peer, why)
        for key, index in wanted.items():
            if key != self._own_key:
                assert own_index is not None
                self._admit(validators[index], index, own_index, addresses.get(index))
        self._by_index = {peer.index: peer for peer in self._peers.values()}

    def _admit(
        self, validator: Validator, index: int, own_index: int, address: Address | None
    ) -> None:
        """Have a member of the new set as a peer, with its link if it has one."""
        address = address or published_address(validator)
        peer = self._peers.get(validator.node_key)
        if peer is None:
            peer = self._peers[validator.node_key] = Peer(
                key=validator.node_key,
                index=index,
                name=validator.name,
                address=address,
                since=_milliseconds(self._now()),
                impairment=Impairment(f"{self._own_key.hex()} {validator.node_key.hex()}"),
                dials_first=own_index < index,
            )
        peer.index, peer.name, peer.address = index, validator.name, address
        peer.dials_first = own_index < index
        if peer.link is not None:
            peer.link.peer = index
        self._impair(peer)
        if self._running:
            self._begin_dialing(peer)

    def _expel(self, peer: Peer, why: Refusal) -> None:
        del self._peers[peer.key]
        self._contexts.pop(peer.key, None)
        peer.gone = True
        if peer.dialing is not None:
            peer.dialing.cancel()
        peer.abandon_opening()
        self._cut(peer, why)
        self._refuse(why, f"{peer.name}: {why}", peer)

    def _cut(self, peer: Peer, refusal: Refusal) -> None:
        """End a link at once: nothing more of the peer is delivered."""
        if peer.link is not None:
            link = peer.link
            self._down(peer, link)
            link.drop(LinkLost(refusal))

    async def stop(self) -> None:
        """Drop all links and close everything. No callback is called from here on."""
        if not self._running:
            return
        self._running = False
        assert self._listener is not None
        assert self._reception is not None
        assert self._session is not None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for peer in self._peers.values():
            if peer.link is not None:
                peer.link.drop(LinkLost(Refusal.CLOSED, "this node stops"))
            peer.abandon_opening()
            peer.dialing = None
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        await self._reception.close()
        await self._session.close()

    def send(self, to: int, channel: Channel, payload: bytes) -> bool:
        """See `PeerLinks.send`."""
        peer = self._by_index.get(to)
        if peer is None:
            return False  # an index of an earlier set
        if peer.link is not None and peer.link.send(channel, payload):
            return True
        peer.dropped_payloads += 1
        return False

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """See `PeerLinks.broadcast`."""
        return sum(self.send(index, channel, payload) for index in self._by_index)

    def queued(self, to: int, channel: Channel) -> int:
        """See `PeerLinks.queued`."""
        peer = self._by_index.get(to)
        return peer.link.outbox.queued(channel) if peer and peer.link else 0

    def links(self) -> list[LinkStatus]:
        """See `PeerLinks.links`."""
        return [self._by_index[index].status() for index in sorted(self._by_index)]

    def impair(self, faults: Mapping[str, LinkFault]) -> None:
        """See `Impairable.impair`."""
        self._faults = dict(faults)
        for peer in self._peers.values():
            self._impair(peer)

    def _impair(self, peer: Peer) -> None:
        fault = self._faults.get(peer.name, NO_FAULT)
        if fault.held and not peer.held:
            peer.abandon_opening()
            self._cut(peer, Refusal.HELD_DOWN)
        peer.impair(fault)

    def lost(self) -> dict[str, int]:
        """See `Impairable.lost`."""
        counts = {peer.name: peer.impairment.lost_payloads for peer in self._peers.values()}
        return {name: lost for name, lost in counts.items() if lost}

    # --- one link ------------------------------------------------------------------------------

    async def _carry(
        self, peer: Peer, ws: WebSocket, transport: asyncio.Transport, *, dialed: bool
    ) -> None:
        """Open a link on an authenticated connection and stay until it is lost."""
        link = Link(
            peer.index,
            ws,
            transport,
            self.limits,
            self._on_message,
            dialed=dialed,
            impairment=peer.impairment,
            on_flood=partial(self._refuse, Refusal.FLOOD, f"{peer.name}: {Refusal.FLOOD}"),
        )
        try:
            await link.greet(self._hello)
            self._let_in(peer, link)
        except BaseException as error:
            sever(transport)
            if not isinstance(error, LinkLost):
                raise
            self._refuse(error.refusal, str(error), peer)
            return
        finally:
            peer.opened(transport)
        log.info("link to validator %d (%s) is up", peer.index, peer.name)
        self._on_link(peer.index, True)
        try:
            lost = await link.run()
            if not peer.gone:
                self._refuse(lost.refusal, str(lost), peer)
        finally:
            self._down(peer, link)

    def _let_in(self, peer: Peer, link: Link) -> None:
        """Make an opened connection the peer's link. Raises LinkLost.

        Much may have changed while it was opening: it is judged by what holds now."""
        if not self._running:
            raise LinkLost(Refusal.CLOSED, "this node stops")
        if peer.gone:
            raise LinkLost(Refusal.REMOVED)
        if peer.held:
            raise LinkLost(Refusal.HELD_DOWN)
        if peer.link is not None:
            lost = peer.settle(link, self._own_key)
            if lost is not None:
                raise lost
            self._cut(peer, Refusal.REPLACED)
        peer.linked(link, _milliseconds(self._now()))

    def _down(self, peer: Peer, link: Link) -> None:
        if peer.link is not link:
            return
        index = peer.index
        peer.unlinked(link, _milliseconds(self._now()))
        if self._running:
            self._on_link(index, False)

    def _refuse(self, refusal: Refusal, detail: str, peer: Peer | None = None) -> None:
        if not self._running:
            return
        self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
        if peer is not None and peer.last_refusal != detail:
            # Only when the reason changes: a peer that is away must not fill the log.
            peer.last_refusal = detail
            log.warning("link to validator %d (%s): %s", peer.index, peer.name, detail)
        if self._on_refusal is not None:
            self._on_refusal(refusal, detail)

    # --- dialing -------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(report)
        return task

    def _begin_dialing(self, peer: Peer) -> None:
        if peer.dialing is None and peer.address is not None:
            peer.dialing = self._begin(self._dial(peer), f"dial {peer.name}")

    async def _dial(self, peer: Peer) -> None:
        """Dial whenever there is no link, until cancelled."""
        loop = asyncio.get_running_loop()
        attempt = 0
        """0: nothing failed and nothing ended so far, or not for long."""
        while True:
            began = loop.time()
            await peer.vacant.wait()
            if loop.time() - began >= self.limits.held_seconds:
                attempt = 0
            await asyncio.sleep(self._pause(peer, attempt))
            if peer.address is None:
                peer.dialing = None
                return  # begun anew when it has one
            if not peer.vacant.is_set():
                continue
            attempt += 1
            began = loop.time()
            try:
                await self._dial_once(peer, peer.address)
            except LinkLost as lost:
                self._refuse(lost.refusal, str(lost), peer)
            if loop.time() - began >= self.limits.held_seconds:
                attempt = 1

    def _pause(self, peer: Peer, attempt: int) -> float:
        """Seconds to wait before dialing; every wait is above zero, so that nothing spins."""
        pause = backoff_seconds(max(attempt - 1, 0), self._jitter(), self.limits)
        if peer.dials_first:
            return pause if attempt else 0.0
        return max(pause, self.limits.patience_seconds) if attempt <= 1 else pause

    async def _dial_once(self, peer: Peer, address: Address) -> None:
        assert self._session is not None
        try:
            context = self._dialing_context(peer.key)
        except OSError as error:
            raise LinkLost(Refusal.OWN_FAULT, f"cannot use the node key: {error}") from error
        try:
            url = URL.build(scheme="wss", host=address[0], port=address[1], path=LINK_PATH)
            async with asyncio.timeout(self.limits.handshake_seconds):
                ws = await self._session.ws_connect(
                    url,
                    ssl=context,
                    autoping=False,
                    compress=0,
                    max_msg_size=MAX_MESSAGE,
                    timeout=aiohttp.ClientWSTimeout(ws_close=SHUTDOWN_SECONDS),
                )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise dial_failure(error) from error
        except ValueError as error:
            # A host that no resolver takes ("a..b"). It may stand on the ledger: were this task to
            # end here, the address that replaces it would never be dialed.
            raise LinkLost(Refusal.UNREACHABLE, f"no usable host name: {error}") from error
        assert isinstance(ws, _DialedSocket)
        try:
            tune(ws.transport.get_extra_info("socket"))
            await self._carry(peer, ws, ws.transport, dialed=True)
        finally:
            # The connection is cut already: this only lets aiohttp forget it.
            await ws.close()

    # --- certificates --------------------------------------------------------------------------

    def _accepting_context(self) -> PinnedContext:
        self._renew_if_due()
        return self._contexts[None]

    def _dialing_context(self, key: bytes) -> PinnedContext:
        """The TLS context to dial a node key with. Raises OSError."""
        self._renew_if_due()
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = self._identity.client_context(self._pins, key)
        return context

    def _renew_if_due(self) -> None:
        now = self._now()
        if not self._identity.renewal_due(now):
            return
        try:
            self._use(self._identity.renewed(now))
        except OSError as error:
            # It is tried again at the next handshake; the old certificate still serves.
            log.error("cannot renew the transport certificate: %s", error)

    def _use(self, identity: Identity) -> None:
        context = identity.server_context(self._pins)
        self._identity, self._contexts = identity, {None: context}


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
