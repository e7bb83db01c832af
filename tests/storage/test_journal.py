"""What was synced is found; what was torn is cut; everything else is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from node.storage import journal as module
from node.storage.disk import Disk, FileDisk
from node.storage.errors import (
    JournalCorrupt,
    StoreCorrupt,
    StoreMissing,
    StorePoisoned,
    StoreUnwritable,
)
from node.storage.framing import HEADER_BYTES
from node.storage.journal import Journal
from node.storage.simulated_disk import SimulatedCrash, SimulatedDisk

HERE = "journal"
SEEDS = 150


def write(disk: Disk, directory: str, batches: list[list[bytes]]) -> None:
    """Each batch with a sync of its own, then an orderly end."""
    journal, _ = Journal.open(disk, directory, create=True)
    for batch in batches:
        journal.append(batch)
        journal.sync()
    journal.close()


def segment(directory: str | Path) -> Path:
    (found,) = Path(directory).glob("*.segment")
    return found


def test_records_are_found_again_in_order_on_both_disks(tmp_path: Path) -> None:
    disks: list[tuple[Disk, str]] = [(SimulatedDisk(), HERE), (FileDisk(), str(tmp_path / HERE))]
    for disk, directory in disks:
        write(disk, directory, [[b"a", b""], [b"b"], [os.urandom(100_000)]])
        journal, records = Journal.open(disk, directory)
        assert records[:3] == [b"a", b"", b"b"]
        assert len(records[3]) == 100_000
        assert journal.recovered == module.Recovered()
        journal.close()


def test_nothing_pending_costs_no_fsync() -> None:
    disk = SimulatedDisk()
    journal = Journal.create(disk, HERE)
    before = disk.syncs
    journal.sync()
    assert disk.syncs == before
    journal.append([b"a", b"b"])
    journal.append([b"c"])
    assert journal.dirty
    journal.sync()
    assert disk.syncs == before + 1
    assert not journal.dirty


def test_unsynced_records_may_be_lost_but_never_change() -> None:
    disk = SimulatedDisk()
    journal = Journal.create(disk, HERE)
    journal.append([b"durable"])
    journal.sync()
    journal.append([b"never synced"])
    disk.crash(random.Random(1))
    assert Journal.open(disk, HERE)[1] == [b"durable"]


def test_a_rotation_keeps_what_is_live_and_what_came_since_and_drops_the_rest() -> None:
    disk = SimulatedDisk()
    journal, _ = Journal.open(disk, HERE, create=True)
    journal.append([b"old", b"live"])
    journal.sync()
    journal.append([b"before"])
    journal.rotate([b"live"])
    journal.append([b"after"])
    journal.sync()
    journal.append([b"later"])
    journal.sync()
    journal.close()
    assert Journal.open(disk, HERE)[1] == [b"live", b"before", b"after", b"later"]
    assert len([name for name in disk.list(HERE) if name.endswith(".segment")]) == 1


def test_rotation_is_asked_for_by_size_and_not_again_before_what_is_live_doubled() -> None:
    journal = Journal.create(SimulatedDisk(), HERE)
    assert not journal.needs_rotation
    large = bytes(module.SEGMENT_BYTES // 2)
    for _ in range(3):
        journal.append([large])
        journal.sync()
    assert journal.needs_rotation
    journal.rotate([large, large, large])
    assert not journal.needs_rotation
    journal.sync()
    assert not journal.needs_rotation
    for _ in range(4):
        journal.append([large])
        journal.sync()
    assert journal.needs_rotation


def test_appending_while_a_sync_is_under_way_waits_for_the_next() -> None:
    disk = SimulatedDisk()
    journal = Journal.create(disk, HERE)
    stop = threading.Event()

    def sync() -> None:
        while not stop.is_set():
            journal.sync()

    thread = threading.Thread(target=sync)
    thread.start()
    for number in range(500):
        journal.append([b"%d" % number])
    stop.set()
    thread.join()
    journal.sync()
    disk.crash(random.Random(3))
    assert Journal.open(disk, HERE)[1] == [b"%d" % number for number in range(500)]


# --- crashes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [True, False], ids=["power-cut", "kill-9"])
def test_a_crash_at_any_operation_keeps_what_was_synced_and_at_most_what_was_written(
    power: bool,
) -> None:
    """Every persistence point of appending, syncing, rotating and recovering, many times over."""
    for seed in range(SEEDS):
        rng = random.Random(seed)
        disk = SimulatedDisk(seed)
        durable: list[bytes] = []
        written: list[bytes] = []
        counter = 0
        for _ in range(6):
            disk.crash_after = rng.randint(0, 30)
            try:
                journal, found = Journal.open(disk, HERE, create=True)
                assert set(durable) <= set(found) <= set(written), f"seed {seed}"
                durable = list(found)
                while True:
                    batch = [
                        b"%d:" % (counter + i) + rng.randbytes(rng.randint(0, 1500))
                        for i in range(rng.randint(1, 3))
                    ]
                    counter += len(batch)
                    if rng.random() < 0.2:
                        journal.rotate(durable)
                    journal.append(batch)
                    written += batch
                    journal.sync()
                    durable += batch
            except SimulatedCrash:
                disk.crash(rng, power)
        journal, found = Journal.open(disk, HERE, create=True)
        assert set(durable) <= set(found) <= set(written), f"seed {seed}"


def test_cut_at_any_byte_of_the_last_frame_the_tail_is_cut_and_reported() -> None:
    disk = SimulatedDisk()
    journal = Journal.create(disk, HERE)
    journal.append([b"first", b"second"])
    journal.sync()
    before = disk.read(f"{HERE}/mark")
    start = len(disk.read(f"{HERE}/00000001.segment"))
    journal.append([b"third"])
    journal.sync()
    whole = disk.read(f"{HERE}/00000001.segment")
    for cut in range(start, len(whole)):
        torn = SimulatedDisk()
        Journal.create(torn, HERE)
        torn.overwrite(f"{HERE}/00000001.segment", whole[:cut])
        torn.overwrite(f"{HERE}/mark", before)
        journal, records = Journal.open(torn, HERE)
        assert records == [b"first", b"second"]
        assert journal.recovered.torn_bytes == cut - start


def test_reading_beside_a_node_that_stopped_changes_nothing_and_leaves_out_a_torn_frame() -> None:
    disk = SimulatedDisk()
    journal = Journal.create(disk, HERE, binding=bytes(32))
    journal.append([b"first", b"second"])
    journal.sync()
    journal.append([b"third"])
    journal.sync()
    journal.close()
    path = f"{HERE}/00000001.segment"
    whole = disk.read(path)
    files = {name: disk.read(f"{HERE}/{name}") for name in disk.list(HERE)}
    assert module.read_records(disk, HERE, binding=bytes(32)) == [b"first", b"second", b"third"]
    assert {name: disk.read(f"{HERE}/{name}") for name in disk.list(HERE)} == files
    disk.overwrite(path, whole[:-1])
    assert module.read_records(disk, HERE, binding=bytes(32)) == [b"first", b"second"]
    with pytest.raises(StoreCorrupt, match="another chain"):
        module.read_records(disk, HERE, binding=bytes([1]) * 32)
    disk.unlink(path)
    with pytest.raises(StoreMissing):
        module.read_records(disk, HERE, binding=bytes(32))


def test_after_a_failed_fsync_nothing_is_promised_any_more() -> None:
    disk = SimulatedDisk()
    journal = Journal.create(disk, HERE)
    journal.append([b"a"])
    disk.fail_next_sync = True
    with pytest.raises(StoreUnwritable, match="Input/output error"):
        journal.sync()
    for again in (journal.sync, lambda: journal.append([b"b"]), lambda: journal.rotate([])):
        with pytest.raises(StorePoisoned, match="an earlier write failed"):
            again()


def test_what_only_the_page_cache_holds_after_a_failed_fsync_is_written_again() -> None:
    """The restarted process reads records that the disk lost; once it builds on them, a power
    cut must not take them away."""
    disk = SimulatedDisk()
    journal = Journal.create(disk, HERE)
    journal.append([b"a"])
    disk.fail_next_sync = True
    with pytest.raises(StoreUnwritable):
        journal.sync()
    disk.crash(random.Random(0), power=False)
    journal, records = Journal.open(disk, HERE)
    assert records == [b"a"]
    disk.crash(random.Random(0), power=True)
    assert Journal.open(disk, HERE)[1] == [b"a"]


def test_a_full_disk_is_named_and_after_it_has_room_again_nothing_synced_is_missing() -> None:
    disk = SimulatedDisk()
    journal = Journal.create(disk, HERE)
    journal.append([b"kept"])
    journal.sync()
    disk.capacity = len(disk.read(f"{HERE}/00000001.segment")) + 16 + 50
    journal.append([bytes(1_000)])
    with pytest.raises(StoreUnwritable, match="Free some space"):
        journal.sync()
    disk.crash(random.Random(0), power=False)
    disk.capacity = None
    journal, records = Journal.open(disk, HERE)
    assert records == [b"kept"]
    assert journal.recovered.torn_bytes > 0


LIMITED = """
import resource, sys
from node.storage.disk import FileDisk
from node.storage.errors import StorePoisoned, StoreUnwritable
from node.storage.journal import Journal
journal = Journal.create(FileDisk(), sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
synced = 0
try:
    while True:
        journal.append([b"%d:" % synced + bytes(700)])
        journal.sync()
        synced += 1
except StoreUnwritable as error:
    assert "ulimit -f" in str(error), error
try:
    journal.sync()
except StorePoisoned:
    print(synced)
"""


def test_a_real_file_that_may_not_grow_any_more_is_named_and_recovers(tmp_path: Path) -> None:
    directory = str(tmp_path / HERE)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, directory], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    journal, records = Journal.open(FileDisk(), directory)
    assert len(records) == int(done.stdout) > 2
    assert journal.recovered.torn_bytes > 0
    journal.close()


# --- damage -------------------------------------------------------------------------------------


def test_a_flipped_byte_in_what_was_synced_is_refused_by_file_and_offset(tmp_path: Path) -> None:
    directory = str(tmp_path)
    write(FileDisk(), directory, [[b"first" * 5], [b"second" * 5], [b"third" * 5]])
    pristine = segment(directory).read_bytes()
    for offset in range(0, len(pristine), 3):
        changed = bytearray(pristine)
        changed[offset] ^= 1
        segment(directory).write_bytes(changed)
        with pytest.raises(JournalCorrupt) as error:
            Journal.open(FileDisk(), directory)
        assert str(segment(directory)) in str(error.value)
        assert f"offset {error.value.offset}" in str(error.value)
        assert error.value.offset <= max(offset, HEADER_BYTES)
    segment(directory).write_bytes(pristine)
    journal, records = Journal.open(FileDisk(), directory)
    assert len(records) == 3
    journal.close()


@pytest.mark.parametrize("cut", [1, 40, 150])
def test_a_journal_that_was_cut_below_what_was_synced_is_refused(tmp_path: Path, cut: int) -> None:
    directory = str(tmp_path)
    write(FileDisk(), directory, [[b"x" * 50] for _ in range(5)])
    path = segment(directory)
    os.truncate(path, path.stat().st_size - cut)
    with pytest.raises(JournalCorrupt, match="had been made durable"):
        Journal.open(FileDisk(), directory)


@pytest.mark.parametrize("gone", ["*.segment", "mark"])
def test_a_missing_file_is_refused_and_never_made_anew(tmp_path: Path, gone: str) -> None:
    directory = str(tmp_path)
    write(FileDisk(), directory, [[b"x"]])
    (path,) = tmp_path.glob(gone)
    path.unlink()
    for create in (False, True):
        with pytest.raises(StoreMissing, match="gone"):
            Journal.open(FileDisk(), directory, create=create)


def test_a_journal_of_another_chain_is_refused() -> None:
    disk = SimulatedDisk()
    Journal.create(disk, HERE, binding=b"a" * 32).close()
    with pytest.raises(StoreCorrupt, match="another chain"):
        Journal.open(disk, HERE, binding=b"b" * 32)


def test_an_older_segment_left_by_a_crash_is_superseded_not_read() -> None:
    disk = SimulatedDisk()
    journal = Journal.create(disk, HERE)
    journal.append([b"old"])
    journal.sync()
    disk.copy_file(f"{HERE}/00000001.segment", f"{HERE}/keep")
    journal.rotate([b"new"])
    journal.sync()
    disk.copy_file(f"{HERE}/keep", f"{HERE}/00000001.segment")
    journal, records = Journal.open(disk, HERE)
    assert records == [b"new"]
    assert "00000001.segment" not in disk.list(HERE)


def test_every_file_of_a_journal_is_its_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / HERE
    write(FileDisk(), str(directory), [[b"x"]])
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
