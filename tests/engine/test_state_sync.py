"""A node that starts from a snapshot holds what one that executed everything holds, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from node.audit.epochs import EpochLink
from node.audit.fault import Fault
from node.chain.encoding import decode, encode
from node.chain.state_map import StateMap, key_hash
from node.engine.metrics import Metrics
from node.engine.node import load_chain
from node.engine.snapshot import (
    BadSnapshot,
    HistoryChunkRef,
    Manifest,
    StateChunk,
    chunk_digest,
    fold,
    make_snapshot,
    subtree,
    top_nodes,
)
from node.engine.sources import SourceLied, Sources, SourceUnavailable
from node.engine.statesync import StateSync, settle_replacement, start_from_snapshot
from node.engine.sync import sync_response
from node.engine.window import BadWindow, WindowAnswer, rebuild, window_answer
from node.storage.chain_store import ChainStore
from node.storage.config import Address, Join, NodeConfig
from node.storage.home import Home, create_home
from node.storage.horizon import Horizon, load_horizon
from node.storage.keystore import seal_key
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.epoch_chain import sample_of_epochs
from tests.support.stored_chain import stored
from tests.support.sync_source import SyncSourceServer, sync_source
from tests.support.window_chain import WindowChain, many_days

CHAIN = many_days()
"""Shared and only read."""
GENESIS = world.genesis()
Entries = dict[bytes, bytes]


def held(kv: MemoryStore, letters: bytes) -> Entries:
    return {key: value for key, value in kv.iterate() if key[:1] in [bytes([x]) for x in letters]}


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[SyncSourceServer]:
    async with sync_source(CHAIN.kv, GENESIS, tmp_path) as told:
        yield told


async def load(*served: SyncSourceServer) -> MemoryStore:
    """State sync from the first source, with nothing around it that forgives."""
    kv = MemoryStore()
    async with Sources([each.url for each in served]) as sources:
        await StateSync(GENESIS, kv, sources, sources.all[0], Metrics()).run()
    return kv


# --- what arrives ---------------------------------------------------------------------------------


async def test_it_equals_a_node_that_executed_everything_byte_for_byte(
    source: SyncSourceServer,
) -> None:
    kv = await load(source)
    executed = CHAIN.kv
    assert isinstance(executed, MemoryStore)
    first = load_horizon(kv).blocks
    assert 1 < first < 6, "35 days of blocks five days apart"
    floor = ChainStore(kv).floor()
    assert floor == CHAIN.store.floor()
    for letters in (b"s", b"t"):
        assert held(kv, letters) == held(executed, letters)
    for letter in (b"b", b"o", b"h"):
        ours, theirs = held(kv, letter), held(executed, letter)
        assert theirs.items() >= ours.items()
        assert {k for k in theirs if int.from_bytes(k[1:], "big") >= first} <= ours.keys()


async def test_every_id_and_uetr_that_can_still_count_is_rebuilt_to_the_byte(
    source: SyncSourceServer,
) -> None:
    kv = await load(source)
    executed = CHAIN.kv
    assert isinstance(executed, MemoryStore)
    store, first = ChainStore(kv), load_horizon(kv).blocks
    for letter in (b"u", b"i"):
        ours, theirs = held(kv, letter), held(executed, letter)
        assert ours, "something was rebuilt"
        assert theirs.items() >= ours.items()
        for key in theirs.keys() - ours.keys():
            entry = CHAIN.store.uetr(key[1:]) if letter == b"u" else None
            if letter == b"u":
                assert entry is not None
                assert entry.height < first, "only what is too old is missing"
    kinds = {e.status for n in range(1200) if (e := store.uetr(world.uetr(n)))}
    assert kinds == {"ACSC", "CANC", "PDNG", "RJCT"}


async def test_its_ledger_goes_on_where_the_executed_one_stands(source: SyncSourceServer) -> None:
    kv = await load(source)
    state, floor = load_chain(GENESIS, ChainStore(kv))
    assert floor.info.height == CHAIN.tip.height
    assert state.map.root == CHAIN.ledger.final.map.root
    assert list(state.accounts()) == list(CHAIN.ledger.final.accounts())
    account = next(key for key, _ in CHAIN.store.state_records())
    assert state.map.get(account) == CHAIN.store.state_record(account), "its nodes are all there"


async def test_others_can_sync_from_it(source: SyncSourceServer) -> None:
    store = ChainStore(await load(source))
    first = CHAIN.tip.height - 1
    response = sync_response(store, first)
    assert response is not None
    assert response == sync_response(CHAIN.store, first)


async def test_a_short_chain_is_loaded_from_its_first_block_on(tmp_path: Path) -> None:
    chain = WindowChain()
    chain.add(chain.issue(1), days=1)
    async with sync_source(chain.kv, GENESIS, tmp_path) as served:
        kv = await load(served)
    assert load_horizon(kv) == Horizon(states=1, swept_states=1)
    assert ChainStore(kv).block(0) == chain.store.block(0)


# --- epochs ---------------------------------------------------------------------------------------


@asynccontextmanager
async def epochs(directory: Path) -> AsyncIterator[tuple[SyncSourceServer, ChainStore]]:
    """A source whose chain has four epochs, two of them ended through carriers."""
    chain, kv = sample_of_epochs(), MemoryStore()
    store = stored(chain, kv)
    async with sync_source(kv, GENESIS, directory, chain.state.validator_set_of) as served:
        yield served, store


async def test_validators_are_followed_from_genesis_through_every_epoch(tmp_path: Path) -> None:
    async with epochs(tmp_path) as (served, archive):
        kv = await load(served)
    store = ChainStore(kv)
    assert store.floor() == archive.floor()
    assert store.epoch() == archive.epoch() == 3
    for epoch in range(3):
        seal = archive.seal(epoch)
        assert seal is not None
        assert store.seal(epoch) == seal
        # Whoever syncs from here gets answers that end with the epoch, as anywhere.
        assert sync_response(store, seal.height) == sync_response(archive, seal.height)


@pytest.mark.parametrize("lie", ["none", "one too few", "of other validators", "cut"])
async def test_links_that_do_not_lead_to_the_epoch_are_refused(tmp_path: Path, lie: str) -> None:
    def links(data: bytes) -> bytes:
        found = list(decode(data, tuple[EpochLink, ...]))
        if lie == "cut":
            return data[:-1]
        if lie == "of other validators" and found:
            swapped = msgspec.structs.replace(
                found[0].validators, validators=found[0].validators.validators[::-1]
            )
            found[0] = msgspec.structs.replace(found[0], validators=swapped)
        return encode(tuple(found[:-1] if lie == "one too few" else [] if lie == "none" else found))

    async with epochs(tmp_path) as (served, _):
        served.tamper = on("/v1/epochs", links)
        with pytest.raises((SourceLied, Fault)):
            await load(served)


# --- lies -----------------------------------------------------------------------------------------


def on(path: str, change: Callable[[bytes], bytes]) -> Callable[[str, bytes], bytes]:
    return lambda asked, data: change(data) if asked.startswith(path) else data


def of_manifest(change: Callable[[Manifest], Manifest]) -> Callable[[str, bytes], bytes]:
    return lambda asked, data: (
        encode(change(decode(data, Manifest))) if asked == "/v1/snapshot" else data
    )


def replaced(**fields: object) -> Callable[[Manifest], Manifest]:
    return lambda manifest: msgspec.structs.replace(manifest, **fields)


def with_header(**fields: object) -> Callable[[Manifest], Manifest]:
    return lambda m: msgspec.structs.replace(m, header=msgspec.structs.replace(m.header, **fields))


def of_window(change: Callable[[WindowAnswer], WindowAnswer]) -> Callable[[str, bytes], bytes]:
    return on("/v1/window", lambda data: encode(change(decode(data, WindowAnswer))))


def without_an_outcome(answer: WindowAnswer) -> WindowAnswer:
    first, *rest = answer.blocks
    changed = msgspec.structs.replace(first, outcomes=first.outcomes[1:])
    return msgspec.structs.replace(answer, blocks=(changed, *rest))


def with_swapped_outcomes(answer: WindowAnswer) -> WindowAnswer:
    blocks = tuple(
        msgspec.structs.replace(each, outcomes=each.outcomes[::-1]) for each in answer.blocks
    )
    return msgspec.structs.replace(answer, blocks=blocks)


LIES: dict[str, Callable[[str, bytes], bytes]] = {
    "a poisoned chunk": on("/v1/snapshot/chunks/", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "a truncated chunk": on("/v1/snapshot/chunks/", lambda data: data[:-1]),
    "no manifest at all": on("/v1/snapshot", lambda data: b"\x93\x01"),
    "another state root": of_manifest(with_header(state_root=bytes(32))),
    "another chain": of_manifest(with_header(chain_id=bytes(32))),
    "other validators": of_manifest(with_header(validator_set=bytes(32))),
    "an epoch that never began": of_manifest(with_header(epoch=1)),
    "a later time": of_manifest(with_header(timestamp=2**50)),
    "a window that starts too late": of_manifest(
        replaced(window_first=CHAIN.tip.height, before=CHAIN.store.header(CHAIN.tip.height - 1))
    ),
    "a window without the header below it": of_manifest(replaced(before=None)),
    "a header below the window that is none of the chain": of_manifest(
        lambda m: msgspec.structs.replace(
            m, before=msgspec.structs.replace(m.before, proposer=9) if m.before else None
        )
    ),
    "no history": of_manifest(replaced(history=())),
    "a finalization with a signature too few": of_manifest(
        lambda m: msgspec.structs.replace(
            m,
            finalization=msgspec.structs.replace(
                m.finalization, signatures=m.finalization.signatures[:2]
            ),
        )
    ),
    "more subtrees than the depth has": of_manifest(
        lambda m: msgspec.structs.replace(m, state=m.state * 2)
    ),
    "blocks that are none": on("/v1/window", lambda data: data[:-3]),
    "too few outcomes": of_window(without_an_outcome),
    "outcomes in another order": of_window(with_swapped_outcomes),
    "blocks in another order": of_window(
        lambda a: msgspec.structs.replace(a, blocks=a.blocks[::-1])
    ),
    "no blocks": of_window(lambda a: msgspec.structs.replace(a, blocks=())),
    "a finalization of another block": of_window(
        lambda a: msgspec.structs.replace(a, finalized=a.finalized - 1)
    ),
}


@pytest.mark.parametrize("lie", LIES, ids=str)
async def test_a_lie_is_refused_and_leaves_no_chain(source: SyncSourceServer, lie: str) -> None:
    source.tamper = LIES[lie]
    kv = MemoryStore()
    async with Sources([source.url]) as sources:
        attempt = StateSync(GENESIS, kv, sources, sources.all[0], Metrics())
        with pytest.raises((SourceLied, BadSnapshot, BadWindow, Fault)):
            await attempt.run()
    assert ChainStore(kv).floor() is None


async def test_records_that_are_not_the_states_are_refused_whatever_the_manifest_says(
    source: SyncSourceServer,
) -> None:
    """The chunk's digest fits the manifest, the manifest's root fits the header: its records do
    not fit the root."""
    forged: dict[str, bytes] = {}

    def lie(asked: str, data: bytes) -> bytes:
        if asked == "/v1/snapshot":
            manifest = decode(data, Manifest)
            assert source.server is not None
            chunk = StateChunk(tuple(sorted((b"key", b"rich") for _ in range(1))))
            raw = encode(chunk)
            ref = msgspec.structs.replace(
                manifest.state[0], digest=chunk_digest(raw), size=len(raw)
            )
            forged[ref.digest.hex()] = raw
            return encode(msgspec.structs.replace(manifest, state=(ref, *manifest.state[1:])))
        return forged.get(asked.rpartition("/")[2], data)

    async def answer(digest: bytes) -> bytes | None:
        return forged.get(digest.hex()) or await honest(digest)

    assert source.server is not None
    honest = source.server.chunk
    source.server.chunk = answer  # type: ignore[method-assign]
    source.tamper = lie
    with pytest.raises(BadSnapshot, match="poisoned: its records do not have the root"):
        await load(source)


async def test_history_leaves_that_are_not_the_chains_are_refused(
    source: SyncSourceServer,
) -> None:
    raw = bytes(32) * CHAIN.tip.height
    ref = HistoryChunkRef(chunk_digest(raw), len(raw))
    assert source.server is not None
    honest = source.server.chunk

    async def answer(digest: bytes) -> bytes | None:
        return raw if digest == ref.digest else await honest(digest)

    source.server.chunk = answer  # type: ignore[method-assign]
    source.tamper = of_manifest(replaced(history=(ref,)))
    with pytest.raises(BadSnapshot, match="does not have the history root"):
        await load(source)


async def test_a_source_that_sends_without_end_is_cut_off(source: SyncSourceServer) -> None:
    source.flood = lambda path: path == "/v1/snapshot"
    with pytest.raises(SourceLied, match="more than"):
        await load(source)


# --- the home -------------------------------------------------------------------------------------


def observer(path: Path, *urls: str) -> Home:
    here = Address("127.0.0.1", 0)
    home = create_home(
        path,
        genesis=world.genesis_bytes(),
        config=NodeConfig("watcher", here, here, here, join=Join(urls)),
        node_key=seal_key(
            role="node", name="watcher", lei="", seed=bytes(32), passphrase="devnet", devnet=True
        ),
        vote_key=None,
    )
    home.acquire()
    return home


def stands_at(home: Home) -> int | None:
    kv = home.open_database()
    try:
        return ChainStore(kv).height()
    finally:
        kv.close()


async def test_a_lying_source_is_dropped_and_named_and_the_next_one_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(sync_source(CHAIN.kv, GENESIS, tmp_path / "a"))
        honest = await stack.enter_async_context(sync_source(CHAIN.kv, GENESIS, tmp_path / "b"))
        liar.tamper = LIES["a poisoned chunk"]
        home = observer(tmp_path / "home", liar.url, honest.url)
        assert await start_from_snapshot(home, Metrics())
    assert stands_at(home) == CHAIN.tip.height
    assert not home.building.exists()
    assert not home.replaced.exists()
    [line] = [r.getMessage() for r in caplog.records if "is dropped" in r.getMessage()]
    assert liar.url in line
    assert "poisoned" in line


async def test_with_no_good_source_the_node_starts_from_the_first_block(tmp_path: Path) -> None:
    async with sync_source(CHAIN.kv, GENESIS, tmp_path) as liar:
        liar.tamper = LIES["another state root"]
        home = observer(tmp_path / "home", liar.url, "http://127.0.0.1:1")
        assert not await start_from_snapshot(home, Metrics())
    assert stands_at(home) is None


async def test_a_home_that_has_a_chain_is_left_alone(tmp_path: Path) -> None:
    async with sync_source(CHAIN.kv, GENESIS, tmp_path) as served:
        home = observer(tmp_path / "home", served.url)
        assert await start_from_snapshot(home, Metrics())
        served.asked.clear()
        assert not await start_from_snapshot(home, Metrics())
    assert served.asked == []


async def test_interrupted_while_loading_it_starts_anew(tmp_path: Path) -> None:
    async with sync_source(CHAIN.kv, GENESIS, tmp_path) as served:
        home = observer(tmp_path / "home", served.url)
        served.stall = lambda path: path.startswith("/v1/window")
        first = asyncio.create_task(start_from_snapshot(home, Metrics()))
        await served.stalled.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert home.building.exists()
        assert stands_at(home) is None
        served.stall = lambda _: False
        assert await start_from_snapshot(home, Metrics())
    assert stands_at(home) == CHAIN.tip.height


async def test_a_crash_between_the_two_renames_is_finished_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with sync_source(CHAIN.kv, GENESIS, tmp_path) as served:
        home = observer(tmp_path / "home", served.url)
        assert await start_from_snapshot(home, Metrics())
    home.data.rename(home.building)
    home.replaced.mkdir()
    settle_replacement(home)
    assert stands_at(home) == CHAIN.tip.height
    assert not home.replaced.exists()


async def test_a_source_that_answers_with_a_problem_is_no_liar(tmp_path: Path) -> None:
    async with sync_source(WindowChain().kv, GENESIS, tmp_path) as served:
        with pytest.raises(SourceUnavailable, match="no-snapshot"):
            await load(served)


# --- snapshots themselves -------------------------------------------------------------------------


def test_subtrees_of_any_depth_fold_up_to_the_state_root() -> None:
    records = {b"key %d" % n: b"record %d" % n for n in range(500)}
    whole = StateMap.empty().update(dict(records))
    nodes = dict(whole.nodes_since(StateMap.empty()))
    for depth in (0, 1, 3, 5):
        roots: list[bytes] = []
        found: dict[bytes, bytes] = {}
        for index in range(1 << depth):
            ordered = sorted((key_hash(k), k, r) for k, r in records.items())
            mine = tuple(
                (k, r) for h, k, r in ordered if int.from_bytes(h[:4], "big") >> 32 - depth == index
            )
            part = subtree(StateChunk(mine), depth, index)
            roots.append(part.root)
            found |= dict(part.nodes_since(StateMap.empty()))
        assert fold(roots) == whole.root
        assert found | dict(top_nodes(roots)) == nodes


@pytest.mark.parametrize("wrong", ["order", "place", "twice"])
def test_a_chunk_with_records_that_do_not_belong_is_refused(wrong: str) -> None:
    keys = sorted((b"key %d" % n for n in range(8)), key=key_hash)
    if wrong == "order":
        keys[0], keys[1] = keys[1], keys[0]
    if wrong == "twice":
        keys[1] = keys[0]
    depth, index = (0, 0) if wrong != "place" else (1, 0)
    with pytest.raises(BadSnapshot):
        subtree(StateChunk(tuple((key, b"") for key in keys)), depth, index)


def test_a_snapshot_is_of_one_moment_though_commits_go_on(tmp_path: Path) -> None:
    chain = many_days(blocks=3)
    view = chain.kv.snapshot()
    before = chain.tip
    chain.add(chain.issue(77))
    manifest = make_snapshot(view, tmp_path, GENESIS.parameters.uetr_window_ms)
    assert manifest is not None
    assert manifest.header == before


def test_a_block_that_is_not_what_its_header_says_makes_no_entries() -> None:
    answer = window_answer(CHAIN.store, CHAIN.tip.height)
    [last] = answer.blocks
    assert rebuild(last).block.header == CHAIN.tip
    with pytest.raises(BadWindow):
        rebuild(msgspec.structs.replace(last, block=last.block[:-1]))
