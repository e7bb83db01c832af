"""What LevelDB would hide is named: damage, loss, locks, and disks that take no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest

from node.storage.errors import (
    StorageError,
    StoreCorrupt,
    StoreLocked,
    StoreMissing,
    StoreUnwritable,
)
from node.storage.level import LevelStore

BATCHES = 200


def fill(path: Path, batches: int = BATCHES, size: int = 2_000) -> None:
    store = LevelStore(path, create=True)
    for number in range(batches):
        store.write([(b"k%06d" % number, os.urandom(size))])
    store.close()


def settle(path: Path) -> None:
    """Reopening turns LevelDB's log into a table."""
    LevelStore(path).close()


def read_all(path: Path) -> int:
    store = LevelStore(path)
    try:
        return len(list(store.iterate()))
    finally:
        store.close()


def only(path: Path, pattern: str) -> Path:
    """The largest file of that kind."""
    return max((path / "db").glob(pattern), key=lambda file: file.stat().st_size)


def flip(file: Path, offset: int, length: int = 1) -> None:
    data = bytearray(file.read_bytes())
    for at in range(offset, offset + length):
        data[at] ^= 0xFF
    file.write_bytes(data)


def test_an_undamaged_database_reads_back(tmp_path: Path) -> None:
    fill(tmp_path)
    assert read_all(tmp_path) == BATCHES


@pytest.mark.parametrize("tenth", range(10))
def test_a_flipped_byte_anywhere_in_the_log_is_refused(tmp_path: Path, tenth: int) -> None:
    fill(tmp_path)
    log = only(tmp_path, "*.log")
    flip(log, (log.stat().st_size - 1) * tenth // 9)
    with pytest.raises(StoreCorrupt, match="db"):
        read_all(tmp_path)


@pytest.mark.parametrize("from_end", [40, 3_000, 20_000])
def test_a_zeroed_stretch_of_the_log_is_refused_though_leveldb_skips_it(
    tmp_path: Path, from_end: int
) -> None:
    fill(tmp_path)
    log = only(tmp_path, "*.log")
    data = bytearray(log.read_bytes())
    start = len(data) - from_end
    data[start : start + 2_500] = bytes(len(data[start : start + 2_500]))
    log.write_bytes(data)
    with pytest.raises(StoreCorrupt):
        read_all(tmp_path)


def test_a_zeroed_log_block_in_the_middle_is_refused_though_later_ones_are_kept(
    tmp_path: Path,
) -> None:
    # Two batches to a block of LevelDB's log, exactly, so that no fragment betrays the loss.
    record = 32_768 // 2
    fill(tmp_path, batches=20, size=record - 7 - 12 - 11 - 18)
    log = only(tmp_path, "*.log")
    data = bytearray(log.read_bytes())
    assert len(data) == 20 * record
    data[5 * record : 6 * record] = bytes(record)
    log.write_bytes(data)
    for _ in range(2):  # LevelDB has now dropped its log: the second start must refuse as well
        with pytest.raises(StoreCorrupt, match="batch 6 of 20 is missing"):
            read_all(tmp_path)


@pytest.mark.parametrize("cut", [1, 500, 50_000])
def test_a_log_that_lost_synced_batches_at_its_end_is_refused(tmp_path: Path, cut: int) -> None:
    fill(tmp_path)
    log = only(tmp_path, "*.log")
    os.truncate(log, log.stat().st_size - cut)
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match=f"batch {BATCHES} had been made durable"):
            read_all(tmp_path)


@pytest.mark.parametrize("tenth", range(10))
def test_a_flipped_byte_anywhere_in_a_table_is_refused(tmp_path: Path, tenth: int) -> None:
    fill(tmp_path)
    settle(tmp_path)
    table = only(tmp_path, "*.ldb")
    # The last bytes of a table are padding in its footer and a magic number.
    flip(table, (table.stat().st_size - 60) * tenth // 9)
    with pytest.raises(StoreCorrupt):
        read_all(tmp_path)


def test_a_damaged_value_is_refused_at_get_and_names_its_key(tmp_path: Path) -> None:
    fill(tmp_path)
    settle(tmp_path)
    table = only(tmp_path, "*.ldb")
    flip(table, table.stat().st_size // 2, 3)
    store = LevelStore(tmp_path)
    key = b"k%06d" % (BATCHES // 2)
    with pytest.raises(StoreCorrupt, match=key.hex()):
        store.get(key)
    assert store.get(b"k000000") is not None
    store.close()


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*"])
def test_a_damaged_index_of_files_is_refused(tmp_path: Path, pattern: str) -> None:
    fill(tmp_path)
    settle(tmp_path)
    file = only(tmp_path, pattern)
    for offset in range(0, file.stat().st_size, 7):
        pristine = file.read_bytes()
        flip(file, offset)
        with pytest.raises((StoreCorrupt, StoreMissing)):
            read_all(tmp_path)
        file.write_bytes(pristine)
    assert read_all(tmp_path) == BATCHES


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    settle(tmp_path)
    only(tmp_path, "*.ldb").unlink()
    with pytest.raises(StoreCorrupt, match="missing"):
        read_all(tmp_path)


def test_an_older_copy_of_the_database_under_a_newer_mark_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a", batches=10)
    shutil.copytree(tmp_path / "a" / "db", tmp_path / "old")
    store = LevelStore(tmp_path / "a")
    store.write([(b"later", b"1")])
    store.close()
    shutil.rmtree(tmp_path / "a" / "db")
    shutil.copytree(tmp_path / "old", tmp_path / "a" / "db")
    with pytest.raises(StoreCorrupt, match="batch 11 had been made durable"):
        LevelStore(tmp_path / "a")


def test_a_damaged_mark_is_refused_and_named(tmp_path: Path) -> None:
    fill(tmp_path, batches=3)
    flip(tmp_path / "mark", 7)
    with pytest.raises(StoreCorrupt, match="mark"):
        LevelStore(tmp_path)


def test_a_database_open_elsewhere_says_so_in_plain_words(tmp_path: Path) -> None:
    store = LevelStore(tmp_path, create=True)
    with pytest.raises(StoreLocked, match="another process has this database open"):
        LevelStore(tmp_path)
    store.close()
    LevelStore(tmp_path).close()


def test_a_database_open_in_another_process_says_so(tmp_path: Path) -> None:
    store = LevelStore(tmp_path, create=True)
    script = (
        "import sys, pathlib\n"
        "from node.storage.level import LevelStore\n"
        "from node.storage.errors import StoreLocked\n"
        "try:\n    LevelStore(pathlib.Path(sys.argv[1]))\n"
        "except StoreLocked as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    store.close()
    assert "another process has this database open" in done.stdout


def test_a_missing_database_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="there is no database"):
        LevelStore(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_existing_database_is_not_overwritten(tmp_path: Path) -> None:
    fill(tmp_path, batches=1)
    with pytest.raises(StoreUnwritable, match="already is a database"):
        LevelStore(tmp_path, create=True)
    assert read_all(tmp_path) == 1


FULL = """
import pathlib, resource, sys
from node.storage.errors import StorePoisoned, StoreUnwritable
from node.storage.level import LevelStore
store = LevelStore(pathlib.Path(sys.argv[1]), create=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
written = 0
try:
    while True:
        store.write([(b"k%d" % written, bytes(10_000))])
        written += 1
except StoreUnwritable as error:
    assert "ulimit -f" in str(error), error
try:
    store.write([(b"more", b"1")])
except StorePoisoned as error:
    assert "an earlier write failed" in str(error), error
    print(written)
"""


def test_a_disk_that_takes_no_more_stops_all_writing_and_loses_nothing_synced(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    written = int(done.stdout)
    assert written > 10
    assert read_all(tmp_path) >= written


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("IO error: x.log: No space left on device", StoreUnwritable, "Free some space"),
        ("IO error: x.log: Read-only file system", StoreUnwritable, "read-write"),
        ("IO error: x.log: Input/output error", StoreUnwritable, "Check the device"),
    ],
)
def test_what_leveldb_says_of_a_failed_write_becomes_what_to_do(
    tmp_path: Path, text: str, kind: type[StorageError], says: str
) -> None:
    store = LevelStore(tmp_path, create=True)
    error = store._failed_write(plyvel.IOError(text.encode()))
    store.close()
    assert isinstance(error, kind)
    assert says in str(error)
