"""Snapshots of a running node: what a request may cost it, and how old what it is given may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node.api.problems import Refused
from node.engine.metrics import Metrics
from node.engine.snapshot import Snapshots, decode_manifest
from node.engine.sources import Sources
from node.engine.statesync import StateSync
from node.storage.chain_store import ChainStore
from node.storage.errors import StoreUnwritable
from node.storage.horizon import Horizon, put_horizon
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.epoch_chain import sample_of_epochs
from tests.support.stored_chain import stored
from tests.support.sync_source import sync_source
from tests.support.window_chain import WindowChain

GENESIS = world.genesis()


class FullDisk(MemoryStore):
    """Its snapshots cannot be written out: the file system is full before the history is."""

    tried = 0
    full = True

    def snapshot(self) -> MemoryStore:
        self.tried += 1
        view = super().snapshot()
        if self.full:
            iterate = view.iterate

            def until_full(
                prefix: bytes = b"",
                start: bytes | None = None,
                stop: bytes | None = None,
                reverse: bool = False,
            ) -> Iterator[tuple[bytes, bytes]]:
                if prefix.startswith(b"t"):
                    raise StoreUnwritable("no space left", Path("snapshots"), "free some")
                return iterate(prefix, start, stop, reverse)

            view.iterate = until_full  # type: ignore[method-assign]
        return view


def grown(kv: MemoryStore | None = None) -> WindowChain:
    chain = WindowChain(kv or MemoryStore())
    chain.add(chain.issue(1), days=1)
    return chain


@asynccontextmanager
async def snapshots_of(
    chain: WindowChain, directory: Path, **options: float
) -> AsyncIterator[Snapshots]:
    made = Snapshots(
        chain.kv,
        directory,
        uetr_window_ms=GENESIS.parameters.uetr_window_ms,
        height=lambda: chain.tip.height,
        **options,
    )
    try:
        yield made
    finally:
        await made.stop()


def bytes_in(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


async def test_half_a_snapshot_leaves_its_space_to_the_node(tmp_path: Path) -> None:
    chain = grown(FullDisk())
    async with snapshots_of(chain, tmp_path, every=0.0) as snapshots:
        assert await snapshots.manifest() is None
        assert bytes_in(tmp_path) == 0
        assert isinstance(chain.kv, FullDisk)
        chain.kv.full = False
        assert await snapshots.manifest() is not None, "it is tried again when it is time"


async def test_a_full_disk_is_not_filled_anew_for_every_request(tmp_path: Path) -> None:
    chain = grown(FullDisk())
    assert isinstance(chain.kv, FullDisk)
    async with snapshots_of(chain, tmp_path, every=600.0) as snapshots:
        for _ in range(5):
            assert await snapshots.manifest() is None
    assert chain.kv.tried == 1


@pytest.mark.parametrize("fresh", [0.0, 3600.0])
async def test_a_snapshot_that_is_old_is_given_only_until_a_new_one_is_made(
    tmp_path: Path, fresh: float
) -> None:
    """An old one needs blocks of a window that a pruned node has let go of meanwhile."""
    chain = grown()
    async with snapshots_of(chain, tmp_path, every=0.0, fresh=fresh) as snapshots:
        first = await snapshots.manifest()
        chain.add(chain.issue(2), days=5)
        second = await snapshots.manifest()
    assert first is not None
    assert second is not None
    assert decode_manifest(first).header.height == 1
    assert decode_manifest(second).header.height == (2 if fresh == 0.0 else 1)


async def test_a_source_may_take_its_time_to_make_a_snapshot(tmp_path: Path) -> None:
    chain = grown()
    async with sync_source(chain.kv, GENESIS, tmp_path) as served:
        server = served.server
        assert server is not None
        give = server.manifest

        async def slowly() -> bytes:
            await asyncio.sleep(0.5)  # a large state, of which not a byte is sent meanwhile
            return await give()

        server.manifest = slowly  # type: ignore[method-assign]
        kv = MemoryStore()
        async with Sources([served.url], stall=0.1) as sources:
            await StateSync(GENESIS, kv, sources, sources.all[0], Metrics()).run()
    assert ChainStore(kv).floor() == chain.store.floor()


@pytest.mark.parametrize("path", ["/v1/epochs", "/v1/snapshot/chunks/", "/v1/window"])
async def test_a_source_that_is_busy_for_a_moment_does_not_cost_what_was_loaded(
    tmp_path: Path, path: str
) -> None:
    chain, kv = sample_of_epochs(), MemoryStore()
    archive = stored(chain, kv)
    async with sync_source(kv, GENESIS, tmp_path, chain.state.validator_set_of) as served:

        def busy_at_first(asked: str, data: bytes) -> bytes:
            if asked.startswith(path) and served.asked.count(asked) == 1:
                raise Refused("busy", "too many answers of this kind are under way; ask again")
            return data

        served.tamper = busy_at_first
        loaded = MemoryStore()
        async with Sources([served.url]) as sources:
            await StateSync(GENESIS, loaded, sources, sources.all[0], Metrics()).run()
        assert served.asked.count("/v1/snapshot") == 1
    assert ChainStore(loaded).floor() == archive.floor()


@pytest.mark.parametrize("what", ["blocks", "window"])
async def test_what_is_pruned_while_it_is_read_is_called_pruned(tmp_path: Path, what: str) -> None:
    """An answer without the blocks asked for is what a liar gives, and he is dropped for it."""
    chain = grown()
    async with sync_source(chain.kv, GENESIS, tmp_path) as served:
        server = served.server
        assert server is not None
        horizon = server._horizon

        def then_pruned() -> Horizon:
            found = horizon()
            key = b"\0\0\0\0\0\0\0\1"
            chain.kv.write([*put_horizon(Horizon(blocks=2)), (b"b" + key, None)])
            return found

        server._horizon = then_pruned
        with pytest.raises(Refused) as refused:
            await getattr(server, what)(1)
        assert refused.value.problem.type.endswith("pruned")
