"""A commit is there whole or not at all, whatever dies when."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consensus.interface import Floor
from node.chain.encoding import encode
from node.storage.chain_store import ChainStore
from node.storage.errors import StoreCorrupt
from node.storage.level import LevelStore
from node.storage.memory import MemoryStore
from node.storage.simulated_disk import SimulatedCrash
from tests.support.storage import assert_whole, commit_each, floor_of, make_block, make_chain


def test_a_new_store_has_no_floor_and_no_block() -> None:
    store = ChainStore(MemoryStore())
    assert store.floor() is None
    assert store.height() is None
    assert (store.block(0), store.outcomes(0), store.info(0), store.header(0)) == (None,) * 4
    assert store.finalization_at_or_above(0) is None


def test_everything_committed_is_read_back_on_both_stores(tmp_path: Path) -> None:
    blocks = make_chain(20)
    level = LevelStore(tmp_path / "data", create=True)
    for kv in (MemoryStore(), level):
        commit_each(ChainStore(kv), blocks)
        assert assert_whole(kv, blocks) == 20
    level.close()
    level = LevelStore(tmp_path / "data")
    assert assert_whole(level, blocks) == 20
    level.close()


def test_ancestors_of_a_finalized_block_are_proved_by_the_next_finalization_above() -> None:
    blocks = make_chain(8)
    store = ChainStore(MemoryStore())
    store.commit(blocks[:1], floor_of(blocks[0]))
    store.commit(blocks[1:4], floor_of(blocks[3]))
    store.commit(blocks[4:8], floor_of(blocks[7]))
    assert store.finalization(2) is None
    third = floor_of(blocks[3]).finalization
    last = floor_of(blocks[7]).finalization
    assert third is not None
    assert last is not None
    assert [store.finalization_at_or_above(height) for height in (1, 3, 4, 7, 8)] == [
        (3, third),
        (3, third),
        (7, last),
        (7, last),
        None,
    ]


def test_state_records_iterate_by_key_without_their_storage_prefix() -> None:
    blocks = make_chain(3)
    store = ChainStore(MemoryStore())
    commit_each(store, blocks)
    records = dict(store.state_records())
    assert records[b"account"] == (2).to_bytes(8, "big")
    assert len(records) == 4
    assert list(records) == sorted(records)


@pytest.mark.parametrize("durable", [False, True])
def test_dying_inside_a_commit_leaves_all_of_it_or_nothing(durable: bool) -> None:
    blocks = make_chain(6)
    for height in range(6):
        kv = MemoryStore()
        store = ChainStore(kv)
        commit_each(store, blocks[:height])
        kv.interrupt_next_write(durable)
        with pytest.raises(SimulatedCrash):
            store.commit([blocks[height]], floor_of(blocks[height]))
        assert assert_whole(kv.crash(), blocks) == height + durable


def test_several_blocks_of_one_commit_come_together() -> None:
    blocks = make_chain(6)
    kv = MemoryStore()
    store = ChainStore(kv)
    commit_each(store, blocks[:2])
    kv.interrupt_next_write(durable=False)
    with pytest.raises(SimulatedCrash):
        store.commit(blocks[2:], floor_of(blocks[5]))
    assert assert_whole(kv.crash(), blocks) == 2


def test_the_floor_only_rises_and_heights_have_no_gap() -> None:
    blocks = make_chain(5)
    store = ChainStore(MemoryStore())
    with pytest.raises(AssertionError, match="genesis"):
        store.commit([blocks[1]], floor_of(blocks[1]))
    commit_each(store, blocks[:3])
    for wrong in (blocks[1], blocks[2], blocks[4]):
        with pytest.raises(AssertionError, match="contiguous"):
            store.commit([wrong], floor_of(wrong))
    stranger = make_block(3, bytes(32))
    with pytest.raises(AssertionError, match="chained"):
        store.commit([stranger], floor_of(stranger))
    with pytest.raises(AssertionError, match="the floor is the last block"):
        store.commit([blocks[3]], floor_of(blocks[4]))
    with pytest.raises(AssertionError, match="proof"):
        store.commit([blocks[3]], Floor(blocks[3].info, None))
    commit_each(store, blocks[3:])


def test_a_database_of_another_format_is_refused_by_name() -> None:
    kv = MemoryStore()
    kv.write([(b"mformat", b"nostro-chain-store/9")])
    with pytest.raises(StoreCorrupt, match="nostro-chain-store/9"):
        ChainStore(kv)


def test_a_floor_whose_block_is_not_stored_is_refused() -> None:
    kv = MemoryStore()
    blocks = make_chain(3)
    commit_each(ChainStore(kv), blocks)
    kv.write([(b"d" + blocks[2].info.digest, None)])
    with pytest.raises(StoreCorrupt, match="names block 2"):
        ChainStore(kv)


@pytest.mark.parametrize("key", [b"h", b"o", b"f"])
def test_a_stored_value_that_was_never_written_is_named(key: bytes) -> None:
    kv = MemoryStore()
    blocks = make_chain(3)
    store = ChainStore(kv)
    commit_each(store, blocks)
    kv.write([(key + (1).to_bytes(8, "big"), encode("something else"))])
    with pytest.raises(StoreCorrupt, match=r"(header|outcomes|finalization) 1"):
        _ = (store.header(1), store.outcomes(1), store.finalization(1))


WRITER = """
import sys, pathlib
from node.storage.chain_store import ChainStore
from node.storage.level import LevelStore
from tests.support.storage import commit_each, make_chain
kv = LevelStore(pathlib.Path(sys.argv[1]))
store = ChainStore(kv)
height = store.height()
start = 0 if height is None else height + 1
for block in make_chain(start + 150, padding=20_000)[start:]:
    commit_each(store, [block])
    print(block.info.height, flush=True)
"""
ROUNDS = 6


def test_after_kill_9_in_the_middle_of_commits_every_told_height_is_there_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data"
    LevelStore(path, create=True).close()
    rng = random.Random(7)
    blocks = make_chain(ROUNDS * 150, padding=20_000)
    count = 0
    for _ in range(ROUNDS):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(rng.randint(1, 60))]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        heights = [int(line) for line in told if line.endswith("\n")]
        kv = LevelStore(path)
        count = assert_whole(kv, blocks)
        kv.close()
        assert heights
        assert count >= heights[-1] + 1
    assert count > ROUNDS
