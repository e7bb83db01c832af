"""Every byte of every file: flipped or cut off there, what is left is refused by file, or is what
was written. Never something else."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from consensus.interface import SigningRefused
from consensus.messages import Content, Epoch, Kind, View
from node.chain.signature import Ed25519Signer
from node.storage.errors import JournalCorrupt, SignerUnusable, StoreCorrupt
from node.storage.framing import HEADER_BYTES
from node.storage.journal import Journal
from node.storage.level import LevelStore
from node.storage.signer import GuardedSigner
from node.storage.simulated_disk import SimulatedDisk

CHAIN = b"c" * 32
SEGMENT = "journal/00000001.segment"
MARK = "journal/mark"

Records = list[bytes]


def bits(data: bytes) -> list[bytes]:
    """The same bytes with one bit turned, for each bit."""
    return [
        data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        for bit in range(8 * len(data))
    ]


def cuts(data: bytes) -> list[bytes]:
    """Every proper prefix."""
    return [data[:length] for length in range(len(data))]


# --- the journal --------------------------------------------------------------------------------


def journal() -> tuple[SimulatedDisk, Records, list[int]]:
    """Three frames, all synced; and where each of them ends in the segment."""
    disk, written, ends = SimulatedDisk(), Records(), list[int]()
    log = Journal.create(disk, "journal", binding=CHAIN)
    for batch in ([b"one", b"two"], [b"three" * 4], [b"", b"five"]):
        log.append(batch)
        log.sync()
        written += batch
        ends.append(len(disk.read(SEGMENT)))
    return disk, written, ends


def reopened(file: str, data: bytes, mark: bytes | None = None) -> Records:
    disk, _, _ = journal()
    disk.crash(random.Random(0), power=False)
    disk.overwrite(file, data)
    if mark is not None:
        disk.overwrite(MARK, mark)
    return Journal.open(disk, "journal", binding=CHAIN)[1]


@pytest.mark.parametrize("file", [SEGMENT, MARK])
@pytest.mark.parametrize("damage", [bits, cuts])
def test_any_damage_to_a_journal_whose_mark_is_exact_is_refused_by_file(
    file: str, damage: Callable[[bytes], Sequence[bytes]]
) -> None:
    disk, _, _ = journal()
    for damaged in damage(disk.read(file)):
        with pytest.raises(StoreCorrupt, match=file):
            reopened(file, damaged)


def test_behind_a_lagging_mark_only_the_end_can_be_lost_and_only_from_the_mark_on() -> None:
    """After a power cut the mark may name an earlier frame: a cut behind that frame looks like
    the crash itself, which is what it is unless the medium lost synced bytes at the same time."""
    disk, written, ends = journal()
    whole = disk.read(SEGMENT)
    earlier = SimulatedDisk()
    log = Journal.create(earlier, "journal", binding=CHAIN)
    log.append(written[:2])
    log.sync()
    mark = earlier.read(MARK)
    per_end = {ends[0]: written[:2], ends[1]: written[:3], ends[2]: written}
    for length in range(len(whole)):
        if length < ends[0]:
            with pytest.raises(JournalCorrupt, match=SEGMENT):
                reopened(SEGMENT, whole[:length], mark)
        else:
            last = max(end for end in ends if end <= length)
            assert reopened(SEGMENT, whole[:length], mark) == per_end[last]


def test_behind_a_lagging_mark_a_bit_in_the_last_frame_cuts_it_and_any_other_is_refused() -> None:
    disk, written, ends = journal()
    whole = disk.read(SEGMENT)
    fresh = SimulatedDisk()
    Journal.create(fresh, "journal", binding=CHAIN)
    mark = fresh.read(MARK)
    for bit, damaged in enumerate(bits(whole)):
        if bit // 8 < ends[1]:
            with pytest.raises(JournalCorrupt, match=SEGMENT):
                reopened(SEGMENT, damaged, mark)
        else:
            assert reopened(SEGMENT, damaged, mark) == written[:3]


@pytest.mark.parametrize("size", [1, HEADER_BYTES, 700])
def test_bytes_added_behind_the_end_are_cut_whatever_they_are(size: int) -> None:
    """A torn write may leave anything, also a piece of an older frame of this very file."""
    disk, written, ends = journal()
    whole = disk.read(SEGMENT)
    for tail in (bytes(size), b"\xff" * size, random.Random(size).randbytes(size)):
        assert reopened(SEGMENT, whole + tail) == written
    repeated = whole + whole[ends[0] : ends[1]]
    with pytest.raises(JournalCorrupt, match="a valid frame follows"):
        reopened(SEGMENT, repeated)


# --- the signer's record ------------------------------------------------------------------------

KEY = Ed25519Signer(b"k" * 32)
SIGNED = Content(0, b"1" * 32)
OTHER = Content(0, b"2" * 32)


def signer_disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    guard = GuardedSigner(KEY, CHAIN, disk, "signer", create=True)
    guard.sign_vote(Epoch(0), View(3), Kind.NOTARIZE, SIGNED)
    guard.sync()
    guard.sign_vote(Epoch(0), View(4), Kind.NULLIFY, None)
    guard.sync()
    disk.crash(random.Random(0), power=False)
    return disk


@pytest.mark.parametrize("file", ["signer/00000001.segment", "signer/mark"])
@pytest.mark.parametrize("damage", [bits, cuts])
def test_any_damage_to_the_signers_record_ends_the_key(
    file: str, damage: Callable[[bytes], Sequence[bytes]]
) -> None:
    pristine = signer_disk().read(file)
    for damaged in damage(pristine):
        disk = signer_disk()
        disk.overwrite(file, damaged)
        with pytest.raises(SignerUnusable, match="never sign again") as refused:
            GuardedSigner(KEY, CHAIN, disk, "signer")
        assert file in str(refused.value)


def test_an_undamaged_record_still_knows_what_it_signed() -> None:
    guard = GuardedSigner(KEY, CHAIN, signer_disk(), "signer")
    guard.sign_vote(Epoch(0), View(3), Kind.NOTARIZE, SIGNED)
    with pytest.raises(SigningRefused):
        guard.sign_vote(Epoch(0), View(3), Kind.NOTARIZE, OTHER)


# --- the database -------------------------------------------------------------------------------

Pairs = dict[bytes, bytes]


def fill(path: Path) -> None:
    store = LevelStore(path, create=True)
    for number in range(10):
        store.write([(b"k%03d" % number, b"value %d" % number * 3), (b"last", b"%d" % number)])
    store.close()


def read(path: Path) -> Pairs:
    """By iterating and by asking for every key: damage to a filter shows in the second only."""
    store = LevelStore(path)
    try:
        found = dict(store.iterate())
        for key in [b"last", *(b"k%03d" % number for number in range(10))]:
            value = store.get(key)
            assert value == found.get(key)
        return found
    finally:
        store.close()


def outcomes(pristine: Path, file: Path, damaged: Sequence[bytes], scratch: Path) -> Counter[str]:
    """How often the database was refused, and how often it read as if nothing had happened."""
    shutil.copytree(pristine, scratch)
    expected = read(scratch)
    shutil.rmtree(scratch)
    counts: Counter[str] = Counter()
    for data in damaged:
        shutil.copytree(pristine, scratch)
        (scratch / file.relative_to(pristine)).write_bytes(data)
        try:
            assert read(scratch) == expected, "a silently different database"
            counts["as written"] += 1
        except StoreCorrupt as refused:
            counts["refused" if str(scratch) in str(refused) else "refused without a name"] += 1
        shutil.rmtree(scratch)
    return counts


HARMLESS = 160
"""Bytes of a table that no read depends on: its filter, the index of it, padding in its footer.
LevelDB does without a filter that fails its checksum."""


@pytest.mark.parametrize("kind", ["*.log", "*.ldb", "MANIFEST-*", "CURRENT", "mark"])
def test_a_flipped_byte_or_a_cut_anywhere_in_the_database_is_refused_or_harmless(
    tmp_path: Path, kind: str
) -> None:
    pristine = tmp_path / "pristine"
    fill(pristine)
    if kind != "*.log":
        LevelStore(pristine).close()  # what was in LevelDB's log is a table now
    file = max(pristine.rglob(kind), key=lambda found: found.stat().st_size)
    data = file.read_bytes()
    assert data
    flipped = [
        data[:at] + bytes([data[at] ^ (0xFF if at % 2 else 1 << at // 2 % 8)]) + data[at + 1 :]
        for at in range(len(data))
    ]
    counts = outcomes(pristine, file, flipped, tmp_path / "scratch")
    assert counts["as written"] <= (HARMLESS if kind == "*.ldb" else 0)
    assert counts["refused"] == len(data) - counts["as written"] > 0
    counts = outcomes(pristine, file, cuts(data), tmp_path / "scratch")
    assert counts == {"refused": len(data)}
