"""How an observer follows the chain: another node's HTTP API in the place of peer links.

An observer is in no validator set, so no validator links to it. It asks for what became final
(`GET /v1/sync`, a long poll) and hands that to its core as if a validator had sent it: first the
finalization, then, when the core asks for the blocks below it, the answer whole. So the core's own
rules decide what is committed, and the sources are trusted for nothing: what is looked at here is
looked at again there. It is looked at here because only here is known which source lied.

One answer is held at a time; the next is asked for once the database holds this one.

The other way, instructions that this node took in are passed on to a source's API until they are
final: what a mempool pushes and offers to peers, a feed posts, to one source after the other. So a
source that swallows them only delays them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from consensus.certificate import BadCertificate
from consensus.interface import BlockInfo
from consensus.messages import (
    BlockRequest,
    Certificate,
    Kind,
    MalformedMessage,
    SyncRequest,
    SyncResponse,
    decode_message,
    encode,
)
from node.api.documents import BATCH_TYPE
from node.api.service import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, FollowsView, SourceView
from node.chain.block import BodyMismatch, inspect_block
from node.chain.types import Header
from node.engine.gossip import Offer, Push, Want, decode_gossip
from node.engine.metrics import Metrics
from node.engine.sources import Source, SourceLied, Sources, SourceUnavailable
from node.network.frames import CHANNEL_LIMIT, Channel
from node.network.links import LinkStatus, OnLink, OnMessage, PeerLinks, Refusal

log = logging.getLogger("nostro.feed")

LOOK_SECONDS = 5.0
"""Between two looks whether a member has come to need its sources."""
WAIT_SECONDS = 20.0
"""One long poll."""
LOOK_AROUND_SECONDS = 20.0
"""How often another source is asked, whatever the one that is followed says."""
TAKE_SECONDS = 120.0
"""Until the database must hold an answer's blocks: executing the largest takes a tenth of it."""
BATCH_OVERHEAD_BYTES = 8
"""Of one instruction in a batch."""
MAX_FORWARDED_BYTES = 16 * 1024 * 1024
"""Instructions waiting to be passed on; more are offered again later by the mempool."""
NEAR_BLOCKS = 4
"""Behind by more, a node counts as syncing: fewer are on their way at any time."""
MAX_DELIVERIES = 4
"""How often one answer is given to the core. Asking again means that it refused it, or was slow."""

CheckFinalization = Callable[[Certificate], None]
"""Raises BadCertificate unless a quorum of the present epoch's validators signed it."""


@dataclass(slots=True)
class _Answer:
    """What the core may take."""

    source: Source
    first: int
    last: int
    raw: bytes
    finalization: bytes
    deliveries: int = 0


class FeedLinks:
    """`PeerLinks` of an observer. To the core, every source is validator 0."""

    def __init__(
        self,
        *,
        sources: Sources,
        chain_id: bytes,
        tip: Callable[[], BlockInfo],
        check: CheckFinalization,
        observes: Callable[[], bool],
        on_message: OnMessage,
        on_link: OnLink,
        metrics: Metrics,
        look_around: float = LOOK_AROUND_SECONDS,
    ) -> None:
        """`tip`: the last block that the database holds. `observes`: whether this node has nobody
        else to hear from; may change whenever `final` is called. `look_around`: seconds."""
        self.refusals: dict[Refusal, int] = {}
        self._sources = sources
        self._chain_id = chain_id
        self._tip = tip
        self._check = check
        self._observes = observes
        self._on_message = on_message
        self._on_link = on_link
        self._metrics = metrics
        self._look_around_seconds = look_around
        self._looked_around = 0.0
        """Seconds of the loop's clock."""
        self._turn_to_ask = self._turn_to_send = 0
        self._answer: _Answer | None = None
        self._moved = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._forwarded: deque[bytes] = deque()
        self._forwarded_bytes = 0
        self._to_forward = asyncio.Event()
        self._sent_payloads = 0
        self.target = 0
        """The highest height that a source has shown final."""
        self.behind = False
        """Whether a source has shown blocks that the database does not hold yet."""

    # --- PeerLinks ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to follow."""
        await self._sources.open()
        self._looked_around = asyncio.get_running_loop().time()
        self._tasks = [
            asyncio.create_task(self._follow(), name="feed"),
            asyncio.create_task(self._pass_on(), name="feed, the other way"),
        ]

    async def stop(self) -> None:
        """Stop following; no callback is called afterwards."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._answer = None
        await self._sources.close()

    def send(self, to: int, channel: Channel, payload: bytes) -> bool:
        """Answer what the core asks for, if it is at hand; anything else has nowhere to go."""
        assert 0 < len(payload) <= CHANNEL_LIMIT[channel]
        if channel is Channel.MEMPOOL:
            return self._forward(payload)
        answer = self._answer
        if answer is None:
            return False
        message = decode_message(payload)
        reply = None
        if isinstance(message, BlockRequest):
            # As from a peer that has this block below its floor: the core asks for the chunk.
            reply, reply_channel = answer.finalization, Channel.CONSENSUS
        elif isinstance(message, SyncRequest) and message.first == answer.first:
            reply, reply_channel = answer.raw, Channel.SYNC
            answer.deliveries += 1
            if answer.deliveries > MAX_DELIVERIES:
                self._answer = None
                self._moved.set()
                return False
        if reply is None:
            return False
        self._sent_payloads += 1
        asyncio.get_running_loop().call_soon(self._deliver, to, reply_channel, reply)
        return True

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """Instructions go to a source; nobody listens to anything else from an observer."""
        return int(channel is Channel.MEMPOOL and self._forward(payload))

    def queued(self, to: int, channel: Channel) -> int:
        """Bytes of instructions that wait to be passed on."""
        return self._forwarded_bytes if channel is Channel.MEMPOOL else 0

    def links(self) -> list[LinkStatus]:
        """The sources, each by its URL."""
        return [
            LinkStatus(
                index=index,
                name=source.url,
                connected=source.connected,
                since=source.since,
                dialed_by_us=True,
                address=source.url,
                sent_bytes=0,
                received_bytes=source.received_bytes,
                sent_payloads=self._sent_payloads,
                received_payloads=source.answers,
                dropped_payloads=0,
                queued_bytes=0,
                last_refusal=source.reason,
            )
            for index, source in enumerate(self._sources.all)
        ]

    # --- following ----------------------------------------------------------------------------

    def final(self) -> None:
        """The database holds more than before."""
        self._moved.set()

    @property
    def source(self) -> str:
        """URL of the source that is followed; empty if none answers."""
        return next((s.url for s in self._sources.all if s.connected), "")

    def view(self) -> FollowsView:
        """For `/v1/status`."""
        height = self._tip().height
        claimed = max((s.claimed for s in self._sources.all if s.connected), default=0)
        target = max(self.target, claimed, height)
        return FollowsView(
            syncing=target > height + NEAR_BLOCKS,
            target=target,
            source=self.source or None,
            sources=[
                SourceView(
                    url=source.url,
                    connected=source.connected,
                    since=source.since,
                    detail=source.reason,
                    received_bytes=source.received_bytes,
                )
                for source in self._sources.all
            ],
        )

    def _deliver(self, sender: int, channel: Channel, payload: bytes) -> None:
        if self._tasks:
            self._on_message(sender, channel, payload)

    async def _follow(self) -> None:
        while True:
            if not self._observes():
                self._moved.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._moved.wait(), LOOK_SECONDS)
                continue
            source = self._sources.best()
            if source is None:
                await self._sources.rest()
                continue
            # A source that is new here shows at once whether it answers.
            wait = WAIT_SECONDS if source.connected and not self.behind else 0.0
            if await self._take_from(source, wait):
                self._count(source)
                await self._look_around(source)

    async def _take_from(self, source: Source, wait: float) -> bool:
        """Ask a source and hand over what it says; whether it was of use."""
        try:
            answer = await self._ask(source, wait)
        except SourceUnavailable as error:
            self._sources.failed(source, str(error))
            return False
        except SourceLied as error:
            self._metrics.refused.labels("source").inc()
            self._sources.drop(source, str(error))
            return False
        is_new = not source.connected
        self._sources.worked(source)
        if is_new:
            self._on_link(0, True)
        if answer is None:
            self.behind = False
        else:
            await self._hand_over(answer)
        return True

    async def _look_around(self, followed: Source) -> None:
        """Let another source say what it has: one that says "nothing yet" for ever, or tells of a
        block now and then, would keep this node behind for good without a lie that shows."""
        now = asyncio.get_running_loop().time()
        if now < self._looked_around + self._look_around_seconds:
            return
        self._looked_around = now
        other, self._turn_to_ask = self._sources.in_turn(self._turn_to_ask, followed)
        if other is not None:
            await self._take_from(other, 0.0)

    def _count(self, source: Source) -> None:
        metrics = self._metrics
        metrics.sync_height.set(self._tip().height)
        metrics.sync_target.set(max(self.target, source.claimed))
        for each in self._sources.all:
            metrics.sync_source.labels(each.url).set(each is source and each.connected)
            metrics.sync_bytes.labels(each.url).set(each.received_bytes)

    async def _ask(self, source: Source, wait: float) -> _Answer | None:
        """What follows the database's tip, checked as far as needs no execution; None if nothing
        does yet. Raises SourceUnavailable, SourceLied."""
        tip = self._tip()
        first = tip.height + 1
        began = asyncio.get_running_loop().time()
        raw = await self._sources.get(
            source,
            "/v1/sync",
            limit=CHANNEL_LIMIT[Channel.SYNC],
            query={"first": str(first), "wait": f"{wait:.0f}"},
            wait=wait,
        )
        if raw is None:
            if asyncio.get_running_loop().time() - began < wait / 2:
                # To be asked again at once would be the whole of this node's work.
                raise SourceUnavailable(
                    "/v1/sync: it says that nothing is final, and does not wait"
                )
            return None
        try:
            message = decode_message(raw)
        except MalformedMessage as error:
            raise SourceLied(f"its answer is no blocks: {error}") from None
        if not isinstance(message, SyncResponse) or not message.blocks:
            raise SourceLied("its answer is no blocks")
        last = check_chunk(message, tip, self._chain_id)
        try:
            self._check(message.finalization)
        except BadCertificate as error:
            raise SourceLied(f"the finalization of height {last.height}: {error.reason}") from None
        self.target = max(self.target, last.height)
        self.behind = True
        return _Answer(source, first, last.height, raw, encode(message.finalization))

    async def _hand_over(self, answer: _Answer) -> None:
        """Give an answer to the core and wait until its blocks are in the database."""
        self._answer = answer
        self._moved.clear()
        self._deliver(0, Channel.CONSENSUS, answer.finalization)
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                while self._answer is not None and self._tip().height < answer.last:
                    await self._moved.wait()
                    self._moved.clear()
        except TimeoutError:
            pass
        refused = self._tip().height < answer.last
        self._answer = None
        self.behind = refused or self._tip().height < self.target
        if refused:
            self._sources.failed(
                answer.source,
                f"its blocks from height {answer.first} were not taken: a body does not match its "
                "header, or this node raised an alarm",
            )

    # --- the other way ------------------------------------------------------------------------

    def _forward(self, payload: bytes) -> bool:
        """A push goes out; an offer is answered as by a peer that has nothing of it."""
        message = decode_gossip(payload)
        if isinstance(message, Offer):
            want = encode(Want(message.digests))
            asyncio.get_running_loop().call_soon(self._deliver, 0, Channel.MEMPOOL, want)
            return True
        if not isinstance(message, Push):
            return False
        size = sum(map(len, message.instructions))
        if self._forwarded_bytes + size > MAX_FORWARDED_BYTES:
            return False
        self._forwarded.extend(message.instructions)
        self._forwarded_bytes += size
        self._to_forward.set()
        return True

    async def _pass_on(self) -> None:
        while True:
            if not self._forwarded:
                self._to_forward.clear()
                await self._to_forward.wait()
            batch: list[bytes] = []
            size = 0
            while self._forwarded and len(batch) < MAX_BATCH_ITEMS:
                size += len(self._forwarded[0]) + BATCH_OVERHEAD_BYTES
                if batch and size > MAX_BATCH_BYTES:
                    break
                batch.append(self._forwarded.popleft())
                self._forwarded_bytes -= len(batch[-1])
            # The mempool offers them again, and then it is another one's turn: a source that
            # swallows them must not be the only one that ever gets them.
            source, self._turn_to_send = self._sources.in_turn(self._turn_to_send)
            if source is None:
                continue
            try:
                await self._sources.post(
                    source, "/v1/instructions/batch", encode(batch), BATCH_TYPE
                )
            except SourceUnavailable as error:
                log.warning("cannot pass on %d instructions: %s", len(batch), error)


def check_chunk(answer: SyncResponse, tip: BlockInfo, chain_id: bytes) -> Header:
    """Check that the blocks chain up from `tip` to the one that the finalization names; the last
    block's header. Bodies and the finalization's signatures are still to be checked.

    Raises SourceLied."""
    parent: bytes = tip.digest
    height: int = tip.height
    last: Header | None = None
    for raw in (*answer.blocks, *answer.carriers):
        try:
            header, digest, _ = inspect_block(raw)
        except BodyMismatch as error:
            raise SourceLied(f"what follows height {height} is no block: {error}") from None
        if header.chain_id != chain_id:
            raise SourceLied(f"it serves another chain, {header.chain_id.hex()}")
        carrier = last is not None and header.height == last.height
        if header.parent != parent or (header.height != height + 1 and not carrier):
            raise SourceLied(f"its block {header.height} does not follow block {height}")
        parent, height, last = digest, header.height, header
    assert last is not None
    certificate = answer.finalization
    content = certificate.content
    if certificate.kind is not Kind.FINALIZE or content is None or content.block != parent:
        raise SourceLied(f"its finalization is not of block {height}, which it ends with")
    return last


class LinksByRole:
    """`PeerLinks` of a node that is a validator in one epoch and an observer in another: links
    while it is a member, its sources while it is none or no member takes it for one."""

    def __init__(
        self, peers: PeerLinks, feed: FeedLinks | None, observes: Callable[[], bool]
    ) -> None:
        """`feed`: None if no source is configured: such a node hears nothing as an observer."""
        self._peers = peers
        self._feed = feed
        self._observes = observes

    @property
    def _now(self) -> PeerLinks:
        return self._feed if self._feed is not None and self._observes() else self._peers

    @property
    def refusals(self) -> dict[Refusal, int]:
        return self._peers.refusals

    @refusals.setter
    def refusals(self, value: dict[Refusal, int]) -> None:
        self._peers.refusals = value

    async def start(self) -> None:
        """Listen, link, and follow where there is reason to."""
        await self._peers.start()
        if self._feed is not None:
            await self._feed.start()

    async def stop(self) -> None:
        """End both."""
        if self._feed is not None:
            await self._feed.stop()
        await self._peers.stop()

    def send(self, to: int, channel: Channel, payload: bytes) -> bool:
        """See `PeerLinks.send`."""
        return self._now.send(to, channel, payload)

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """See `PeerLinks.broadcast`."""
        return self._now.broadcast(channel, payload)

    def queued(self, to: int, channel: Channel) -> int:
        """See `PeerLinks.queued`."""
        return self._now.queued(to, channel)

    def links(self) -> list[LinkStatus]:
        """See `PeerLinks.links`."""
        return self._now.links()
