"""A feed gives the core what became final, and only that; who lies is dropped, who stalls left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from consensus.certificate import BadCertificate, check
from consensus.messages import (
    BlockRequest,
    Certificate,
    Message,
    SyncRequest,
    SyncResponse,
    decode_message,
)
from consensus.messages import encode as encode_message
from node.chain.block import inspect_block
from node.chain.encoding import encode
from node.chain.signature import verify
from node.engine.feed import FeedLinks
from node.engine.gossip import Offer, Push, Want, decode_gossip
from node.engine.metrics import Metrics
from node.engine.sources import Sources
from node.network.frames import Channel
from node.storage.chain_store import ChainStore
from tests.support import world
from tests.support.sync_source import SyncSourceServer, sync_source
from tests.support.window_chain import WindowChain

GENESIS = world.genesis()
KEYS = [v.vote_key for v in GENESIS.validator_set.validators]
BOUND_SECONDS = 20.0


def check_here(certificate: Certificate) -> None:
    if certificate.epoch:
        raise BadCertificate("of another epoch")
    check(certificate, KEYS, lambda k, d, p, s: verify(k, d, GENESIS.chain_id, p, s))


@dataclass
class Observer:
    """A store that takes what the feed delivers as the core would: it asks for the blocks of a
    finalization and commits them, unless told to refuse."""

    chain: WindowChain
    """Its own copy, grown by what arrives."""
    archive: WindowChain
    feed: FeedLinks = field(init=False)
    got: list[Message] = field(default_factory=list)
    pushed: list[object] = field(default_factory=list)
    linked: int = 0
    refuses: bool = False
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def on_message(self, sender: int, channel: Channel, payload: bytes) -> None:
        self.moved.set()
        if channel is Channel.MEMPOOL:
            self.pushed.append(decode_gossip(payload))
            return
        message = decode_message(payload)
        self.got.append(message)
        height = self.chain.store.height()
        assert height is not None
        if isinstance(message, Certificate) and len(self.got) == 1:
            self.ask(BlockRequest(0, message.view, bytes(32)))
        elif isinstance(message, Certificate) or (
            isinstance(message, SyncResponse) and self.refuses
        ):
            self.ask(SyncRequest(height + 1))
        elif isinstance(message, SyncResponse):
            for _ in message.blocks:
                copy_next(self.archive, self.chain)
            self.feed.final()

    def ask(self, request: BlockRequest | SyncRequest) -> None:
        self.feed.send(2, Channel.SYNC, encode_message(request))

    def on_link(self, peer: int, up: bool) -> None:
        self.linked += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            while not condition():  # noqa: ASYNC110 - no event tells of all of them
                await asyncio.sleep(0)


def copy_next(archive: WindowChain, chain: WindowChain) -> None:
    """Commit the archive's next block, as executing it would."""
    height = chain.tip.height + 1
    raw = archive.store.block(height)
    assert raw is not None
    block = inspect_block(raw)
    days = (block.header.timestamp - chain.tip.timestamp) / (24 * 3600 * 1000)
    assert chain.add(*block.instructions, days=days) == block.header


def grown(blocks: int) -> WindowChain:
    chain = WindowChain()
    for number in range(blocks):
        chain.add(chain.issue(number), days=1)
    return chain


@asynccontextmanager
async def observing(
    *servers: SyncSourceServer,
    archive: WindowChain,
    observes: bool = True,
    stall: float = 10.0,
    look_around: float = 20.0,
) -> AsyncIterator[Observer]:
    chain = WindowChain()
    observer = Observer(chain, archive)

    def tip() -> object:
        floor = chain.store.floor()
        assert floor is not None
        return floor.info

    observer.feed = FeedLinks(
        sources=Sources([each.url for each in servers], stall=stall),
        chain_id=GENESIS.chain_id,
        tip=tip,  # type: ignore[arg-type]
        check=check_here,
        observes=lambda: observes,
        on_message=observer.on_message,
        on_link=observer.on_link,
        metrics=Metrics(),
        look_around=look_around,
    )
    await observer.feed.start()
    try:
        yield observer
    finally:
        await observer.feed.stop()


@pytest.fixture
def archive() -> WindowChain:
    return grown(3)


def height(observer: Observer) -> int | None:
    return observer.chain.store.height()


async def test_what_is_final_reaches_the_core_and_then_what_becomes_final(
    archive: WindowChain, tmp_path: Path
) -> None:
    async with (
        sync_source(archive.kv, GENESIS, tmp_path) as served,
        observing(served, archive=archive) as observer,
    ):
        await observer.until(lambda: height(observer) == 3)
        assert observer.linked == 1
        assert isinstance(observer.got[0], Certificate), "the finalization comes first"
        await observer.until(lambda: served.asked[-1].startswith("/v1/sync?first=4"))
        asked = len(served.asked)
        archive.store = ChainStore(archive.kv)
        archive.add(archive.issue(50), days=1)
        assert served.server is not None
        served.server._store = archive.store
        served.server._height = lambda: 4
        served.server.final()
        await observer.until(lambda: height(observer) == 4)
        assert len(served.asked) - asked <= 1, "it was told by the answer it waited for"
        assert not observer.feed.view().syncing
        assert observer.feed.view().source == served.url


def forged_block(data: bytes) -> bytes:
    message = decode_message(data)
    assert isinstance(message, SyncResponse)
    return encode_message(msgspec.structs.replace(message, blocks=message.blocks[::-1]))


def forged_certificate(data: bytes) -> bytes:
    message = decode_message(data)
    assert isinstance(message, SyncResponse)
    certificate = message.finalization
    signatures = tuple((i, bytes(64)) for i, _ in certificate.signatures)
    forged = msgspec.structs.replace(certificate, signatures=signatures)
    return encode_message(msgspec.structs.replace(message, finalization=forged))


def without_the_last(data: bytes) -> bytes:
    message = decode_message(data)
    assert isinstance(message, SyncResponse)
    return encode_message(msgspec.structs.replace(message, blocks=message.blocks[:-1]))


LIES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[:-1],
    "another message": lambda _: encode_message(SyncRequest(1)),
    "blocks in another order": forged_block,
    "a block too few": without_the_last,
    "a forged certificate": forged_certificate,
}


@pytest.mark.parametrize("lie", LIES, ids=str)
async def test_a_lying_source_is_dropped_and_the_next_one_followed(
    archive: WindowChain, tmp_path: Path, lie: str
) -> None:
    async with AsyncExitStack() as stack:
        liar, honest = [
            await stack.enter_async_context(sync_source(archive.kv, GENESIS, tmp_path / name))
            for name in ("liar", "honest")
        ]
        liar.tamper = lambda _, data: LIES[lie](data)
        observer = await stack.enter_async_context(observing(liar, honest, archive=archive))
        await observer.until(lambda: height(observer) == 3)
        first, second = observer.feed.links()
        assert not first.connected
        assert first.last_refusal
        assert second.connected
        assert len(liar.asked) == 1, "who lied is not asked again"


async def test_a_source_of_another_chain_is_dropped_by_its_chain_id(
    archive: WindowChain, tmp_path: Path
) -> None:
    other = WindowChain(genesis=world.genesis(5))
    other.add(days=1)
    async with (
        sync_source(other.kv, other.genesis, tmp_path) as served,
        observing(served, archive=archive) as observer,
    ):
        [link] = observer.feed.links()
        await observer.until(lambda: bool(observer.feed.links()[0].last_refusal))
        assert other.genesis.chain_id.hex()[:8] in observer.feed.links()[0].last_refusal
        assert not link.connected
        assert observer.got == []


async def test_a_source_that_stalls_is_left_for_the_next(
    archive: WindowChain, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        stuck, honest = [
            await stack.enter_async_context(sync_source(archive.kv, GENESIS, tmp_path / name))
            for name in ("stuck", "honest")
        ]
        stuck.stall = lambda _: True
        observer = await stack.enter_async_context(
            observing(stuck, honest, archive=archive, stall=0.3)
        )
        await observer.until(lambda: height(observer) == 3)
        assert "stopped sending" in observer.feed.links()[0].last_refusal


async def test_a_source_that_says_nothing_is_final_does_not_keep_what_another_has(
    archive: WindowChain, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        silent, honest = [
            await stack.enter_async_context(sync_source(chain.kv, GENESIS, tmp_path / name))
            for name, chain in (("silent", WindowChain()), ("honest", archive))
        ]
        observer = await stack.enter_async_context(
            observing(silent, honest, archive=archive, look_around=0.0)
        )
        await observer.until(lambda: height(observer) == 3)
        assert all(link.connected for link in observer.feed.links()), "neither has lied"


async def test_a_source_that_does_not_wait_is_not_asked_again_at_once(
    archive: WindowChain, tmp_path: Path
) -> None:
    async def at_once(height: int, seconds: float) -> bool:
        return False

    async with (
        sync_source(archive.kv, GENESIS, tmp_path) as served,
        observing(served, archive=archive) as observer,
    ):
        assert served.server is not None
        served.server.wait = at_once  # type: ignore[method-assign]
        await observer.until(lambda: "does not wait" in observer.feed.links()[0].last_refusal)
        assert height(observer) == 3


async def test_an_answer_that_the_core_refuses_is_not_given_to_it_for_ever(
    archive: WindowChain, tmp_path: Path
) -> None:
    async with (
        sync_source(archive.kv, GENESIS, tmp_path) as served,
        observing(served, archive=archive) as observer,
    ):
        observer.refuses = True
        await observer.until(lambda: "were not taken" in observer.feed.links()[0].last_refusal)
        observer.refuses = False
        await observer.until(lambda: height(observer) == 3)


async def test_a_validator_asks_no_source(archive: WindowChain, tmp_path: Path) -> None:
    async with (
        sync_source(archive.kv, GENESIS, tmp_path) as served,
        observing(served, archive=archive, observes=False) as observer,
    ):
        observer.feed.final()
        await asyncio.sleep(0)
        assert served.asked == []


async def test_what_the_mempool_offers_it_is_asked_for(
    archive: WindowChain, tmp_path: Path
) -> None:
    async with (
        sync_source(archive.kv, GENESIS, tmp_path) as served,
        observing(served, archive=archive) as observer,
    ):
        assert observer.feed.broadcast(Channel.MEMPOOL, encode(Offer((bytes(32),)))) == 1
        await observer.until(lambda: bool(observer.pushed))
        assert observer.pushed == [Want((bytes(32),))]
        pushed = encode(Push((b"an instruction",)))
        assert observer.feed.send(1, Channel.MEMPOOL, pushed)
        await observer.until(lambda: "/v1/instructions/batch" in served.asked)


async def test_a_source_that_swallows_instructions_is_not_the_only_one_to_get_them(
    archive: WindowChain, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        served = [
            await stack.enter_async_context(sync_source(archive.kv, GENESIS, tmp_path / name))
            for name in ("swallows", "honest")
        ]
        observer = await stack.enter_async_context(observing(*served, archive=archive))
        await observer.until(lambda: height(observer) == 3)
        swallows, honest = served
        for each in (swallows, honest):  # the second time because it did not become final
            observer.feed.send(1, Channel.MEMPOOL, encode(Push((b"an instruction",))))
            await observer.until(lambda: "/v1/instructions/batch" in each.asked)  # noqa: B023
