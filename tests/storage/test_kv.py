"""The database and its twin keep the same promises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.storage.kv import KeyValue, prefix_end
from node.storage.level import LevelStore
from node.storage.memory import MemoryStore
from node.storage.simulated_disk import SimulatedCrash


@pytest.fixture(params=["level", "memory"])
def kv(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyValue]:
    store: KeyValue
    store = (
        LevelStore(tmp_path / "data", create=True) if request.param == "level" else (MemoryStore())
    )
    yield store
    store.close()


def test_what_was_put_is_got_and_what_was_deleted_is_not(kv: KeyValue) -> None:
    kv.write([(b"a", b"1"), (b"b", b""), (b"c", b"3")])
    kv.write([(b"c", None), (b"d", None), (b"a", b"4")])
    assert [kv.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"4", b"", None, None]


def test_the_last_entry_of_a_batch_for_a_key_wins(kv: KeyValue) -> None:
    kv.write([(b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2")])
    assert (kv.get(b"a"), kv.get(b"b")) == (None, b"2")


def test_iteration_is_in_key_order_within_prefix_and_bounds(kv: KeyValue) -> None:
    keys = [b"a", b"b", b"b\x00", b"b\x01x", b"b\xff", b"b\xff\xff", b"c"]
    kv.write([(key, key) for key in reversed(keys)])
    assert [key for key, _ in kv.iterate()] == keys
    assert [key for key, _ in kv.iterate(b"b")] == keys[1:6]
    assert [key for key, _ in kv.iterate(b"b", reverse=True)] == keys[5:0:-1]
    assert [key for key, _ in kv.iterate(b"b", start=b"b\x01")] == keys[3:6]
    assert [key for key, _ in kv.iterate(b"b", start=b"a", stop=b"b\xff")] == keys[1:4]
    assert [key for key, _ in kv.iterate(start=b"b\xff")] == keys[4:]
    assert list(kv.iterate(b"b", stop=b"a")) == []
    assert list(kv.iterate(b"b", start=b"c")) == []


def test_iteration_does_not_see_later_writes(kv: KeyValue) -> None:
    kv.write([(b"a", b"1"), (b"b", b"2")])
    pairs = kv.iterate()
    first = next(pairs)
    kv.write([(b"b", None), (b"c", b"3")])
    assert [first, *pairs] == [(b"a", b"1"), (b"b", b"2")]


def test_the_end_of_a_prefix_is_the_first_key_behind_it() -> None:
    assert prefix_end(b"a") == b"b"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") is None
    assert prefix_end(b"") is None


def test_what_was_written_is_found_after_reopening(tmp_path: Path) -> None:
    store = LevelStore(tmp_path / "data", create=True)
    for number in range(300):
        store.write([(b"k%d" % number, b"v%d" % number)], sync=number % 3 == 0)
    store.close()
    store = LevelStore(tmp_path / "data")
    assert all(store.get(b"k%d" % number) == b"v%d" % number for number in range(300))
    store.close()


def test_writers_on_several_threads_leave_a_database_without_a_gap(tmp_path: Path) -> None:
    store = LevelStore(tmp_path / "data", create=True)

    def write(thread: int) -> None:
        for number in range(50):
            store.write([(b"%d/%d" % (thread, number), b"v")], sync=number % 10 == 0)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    store = LevelStore(tmp_path / "data")
    assert len(list(store.iterate())) == 200
    store.close()


def test_the_twin_loses_unsynced_batches_from_the_end_whole() -> None:
    for survivors in range(4):
        store = MemoryStore()
        store.write([(b"synced", b"1")])
        for number in range(3):
            store.write([(b"a%d" % number, b"1"), (b"b%d" % number, b"1")], sync=False)
        found = store.crash(survivors)
        expected = [b"%s%d" % (letter, n) for letter in (b"a", b"b") for n in range(survivors)]
        assert [key for key, _ in found.iterate()] == [*expected, b"synced"]


def test_a_synced_batch_of_the_twin_takes_earlier_ones_with_it() -> None:
    store = MemoryStore()
    store.write([(b"a", b"1")], sync=False)
    store.write([(b"b", b"1")])
    assert store.unsynced == 0
    assert [key for key, _ in store.crash().iterate()] == [b"a", b"b"]


@pytest.mark.parametrize("durable", [False, True])
def test_the_twin_dies_inside_a_write_with_all_of_it_or_nothing(durable: bool) -> None:
    store = MemoryStore()
    store.interrupt_next_write(durable)
    with pytest.raises(SimulatedCrash):
        store.write([(b"a", b"1"), (b"b", b"2")])
    assert len(list(store.crash().iterate())) == (2 if durable else 0)
