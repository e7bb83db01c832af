"""Accepted instructions: one write at a time, in order, one sync for all that wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from node.engine.pool_store import PoolStore
from node.storage.errors import StoreUnwritable
from node.storage.kv import Batch
from node.storage.memory import MemoryStore

Write = tuple[list[tuple[bytes, bytes | None]], bool]


class SlowStore(MemoryStore):
    """Each write waits for the test's permission."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = threading.Semaphore(0)
        self.writes: list[Write] = []
        self.failure: StoreUnwritable | None = None

    def write(self, batch: Batch, sync: bool = True) -> None:
        assert self.may_write.acquire(timeout=30)
        if self.failure is not None:
            raise self.failure
        self.writes.append((list(batch), sync))
        super().write(batch, sync)


@pytest.fixture
def io() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def begin(store: PoolStore, *numbers: int) -> asyncio.Task[None]:
    task = asyncio.create_task(store.keep([(digest(n), b"raw%d" % n) for n in numbers]))
    await asyncio.sleep(0)
    return task


async def test_what_comes_during_a_write_shares_the_next_sync(io: ThreadPoolExecutor) -> None:
    kv = SlowStore()
    store = PoolStore(kv, io)
    first = await begin(store, 1)
    others = [await begin(store, number) for number in range(2, 50)]
    kv.may_write.release()
    await first
    assert not any(other.done() for other in others), "kept, not said to be"
    kv.may_write.release()
    await asyncio.gather(*others)
    assert [(len(batch), sync) for batch, sync in kv.writes] == [(1, True), (48, True)]
    assert kv.unsynced == 0
    assert len(list(store.load())) == 49


async def test_forgotten_and_accepted_again_is_kept(io: ThreadPoolExecutor) -> None:
    kv = SlowStore()
    store = PoolStore(kv, io)
    for _ in range(5):
        kv.may_write.release()
    await store.keep([(digest(1), b"raw")])
    store.forget([digest(1)])
    await store.keep([(digest(1), b"raw")])
    assert list(store.load()) == [(digest(1), b"raw")]


async def test_forgetting_alone_costs_no_sync(io: ThreadPoolExecutor) -> None:
    kv = SlowStore()
    store = PoolStore(kv, io)
    kv.may_write.release(2)
    store.forget([digest(1)])
    store.forget([])
    await store.keep([(digest(2), b"raw")])
    assert [sync for _, sync in kv.writes][-1]
    assert list(store.load()) == [(digest(2), b"raw")]


async def test_all_who_wait_for_a_failed_write_are_told_and_those_who_gave_up_lose_nothing(
    io: ThreadPoolExecutor,
) -> None:
    kv = SlowStore()
    store = PoolStore(kv, io)
    gone, waiting = await begin(store, 1), await begin(store, 2)
    gone.cancel()
    kv.may_write.release(2)
    await waiting
    assert [d for d, _ in store.load()] == [digest(1), digest(2)]
    kv.failure = StoreUnwritable("no space", "data", "free some")
    lost = [await begin(store, 3), await begin(store, 4)]
    kv.may_write.release(2)
    results = await asyncio.gather(*lost, return_exceptions=True)
    assert all(isinstance(result, StoreUnwritable) for result in results)
