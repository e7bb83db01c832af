"""An audit that ends midway goes on from its last checkpoint, or begins anew and says why."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from node.audit.archive import ArchiveReader
from node.audit.audit_report import AuditReport
from node.audit.chain_audit import CannotResume, Pace, audit_chain
from node.audit.report import INVALID, UNDECIDED, VALID
from node.audit.workdir import WorkDirectory, WorkRefused
from node.audit.workspace import Checkpoint, Workspace
from node.chain.block import encode_block, inspect_block
from node.chain.encoding import decode, encode
from node.ledger.entries import InstructionEntry, UetrEntry
from node.storage.chain_store import ChainStore
from node.storage.errors import StoreLocked, StoreUnwritable
from node.storage.kv import Batch
from node.storage.level import LevelStore
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.archives import archive
from tests.support.epoch_chain import sample_of_epochs
from tests.support.evidence_world import evidence_world
from tests.support.played import played
from tests.support.small_chain import SmallChain, sample
from tests.support.stored_chain import stored

ROOT = Path(__file__).parents[2]
EACH_BLOCK = Pace(blocks=1, entries=1, seconds=0)


class Killed(Exception):
    """Stands for the end of the process."""


def run(
    chain: SmallChain,
    kv: MemoryStore,
    genesis: bytes | None = None,
    *,
    until: int | None = None,
    pace: Pace = EACH_BLOCK,
) -> AuditReport:
    """Audit with the work in `kv`; killed after the block at height `until`."""

    def progress(so_far: AuditReport, tip: int) -> None:
        if so_far.height == until:
            raise Killed

    work = Workspace(lambda: kv)
    return audit_chain(chain, genesis or world.genesis_bytes(), progress, work=work, pace=pace)


def whole(chain: SmallChain, genesis: bytes | None = None) -> AuditReport:
    return audit_chain(chain, genesis or world.genesis_bytes())


@pytest.mark.parametrize("make", [sample, sample_of_epochs])
def test_from_every_height_an_audit_goes_on_to_the_same_report(
    make: Callable[[], SmallChain],
) -> None:
    chain = make()
    for height in range(1, chain.tip.height + 1):
        kv = MemoryStore()
        with pytest.raises(Killed):
            run(chain, kv, until=height)
        report = run(chain, kv.crash())
        assert (report.verdict, report.resumed) == (VALID, height)
        assert f"went on from height {height}" in report.text()
        report.resumed = None
        assert report == whole(chain)


@pytest.mark.parametrize("seed", [7_000_000, 7_000_001])
def test_so_does_one_of_everything_that_the_ledger_does(seed: int) -> None:
    """Queues, links, reservations, cycles, business days: state, books and what waits come back."""
    chain, genesis = played(seed)
    expected = whole(chain, genesis)
    assert expected.verdict == VALID, expected.text()
    assert expected.statements > 0
    assert "statements of business days tie out" in expected.text()
    kv = MemoryStore()
    for height in range(3, chain.tip.height, 7):
        with pytest.raises(Killed):
            run(chain, kv, genesis, until=height)
        kv = kv.crash()
    report = run(chain, kv, genesis)
    assert report.resumed is not None
    report.resumed = None
    assert report == expected


def test_an_archive_of_every_kind_of_payment_is_valid() -> None:
    made = evidence_world()
    genesis = made.members.genesis_bytes
    reader = ArchiveReader(io.BytesIO(archive(made.chain)))
    report = audit_chain(reader, genesis, state=False)
    assert report.verdict == VALID, report.text()
    assert report == whole(made.chain, genesis)


def test_a_crash_between_checkpoints_loses_what_came_after_the_last_one() -> None:
    kv = MemoryStore()
    with pytest.raises(Killed):
        run(sample(), kv, until=5, pace=Pace(blocks=3))
    report = run(sample(), kv.crash())
    assert (report.verdict, report.resumed) == (VALID, 3)


def test_an_audit_that_is_complete_goes_on_with_what_came_after() -> None:
    chain, kv = copy.copy(sample()), MemoryStore()
    chain.blocks = {height: raw for height, raw in chain.blocks.items() if height <= 4}
    chain.records = {}
    first = audit_chain(chain, world.genesis_bytes(), state=False, work=Workspace(lambda: kv))
    assert (first.verdict, first.height) == (VALID, 4)
    second = run(sample(), kv.crash())
    assert (second.verdict, second.resumed, second.height) == (VALID, 4, 6)
    kv = kv.crash()
    run(sample(), kv)
    again = run(sample(), kv.crash())
    assert (again.verdict, again.resumed, again.height) == (VALID, 6, 6)


def test_a_finding_stays_one_after_going_on() -> None:
    """What is bad is never part of a checkpoint."""
    chain = copy.copy(sample())
    chain.stored_outcomes = {**chain.stored_outcomes, 5: []}
    kv = MemoryStore()
    for resumed in (None, 4, 4):
        report = run(chain, kv)
        assert report.verdict == INVALID
        assert report.finding is not None
        assert (report.finding.height, report.resumed) == (5, resumed)
        kv = kv.crash()


def test_used_uetrs_and_ids_are_remembered_across_a_kill() -> None:
    """A replay that had forgotten them would let a payment settle twice."""
    kv = MemoryStore()
    index = Workspace(lambda: kv)
    used = UetrEntry(world.uetr(1), b"d" * 32, 2**64 - 1, 5, 1, 2, "ACSC", None, 5, None)
    executed = InstructionEntry("LEI", "id", 2**64 - 1, b"e" * 32, 5, 1)
    assert index.uetr(used.uetr) is None
    assert index.instruction("LEI", "id") is None
    applied = copy.copy(sample().applied[1])
    applied.ids, applied.uetrs = [executed], [used]
    index.add(applied)
    state = sample().state
    tip = sample().tip
    checkpoint = Checkpoint(tip.chain_id, tip, state.history.peaks, 6, 0, 0, 0, 0, 1, 0)
    for kept in (index, Workspace(kv.crash)):
        if kept is index:
            assert kept.uetr(used.uetr) == used
            index.save(checkpoint, (), ())
        else:
            kept = Workspace(lambda: kv)  # noqa: PLW2901
            assert kept.resume() == checkpoint
        assert kept.uetr(used.uetr) == used
        assert kept.uetr(world.uetr(2)) is None
        assert kept.instruction("LEI", "id") == executed


# --- work that does not fit -----------------------------------------------------------------------


def half_done() -> MemoryStore:
    kv = MemoryStore()
    with pytest.raises(Killed):
        run(sample(), kv, until=4)
    return kv.crash()


def refused(chain: SmallChain, kv: MemoryStore, genesis: bytes | None = None) -> str:
    with pytest.raises(CannotResume) as caught:
        run(chain, kv, genesis)
    return str(caught.value)


def test_work_on_another_chain_is_not_gone_on_with() -> None:
    made = evidence_world()
    assert "is about chain" in refused(made.chain, half_done(), made.members.genesis_bytes)


def test_a_chain_that_lost_blocks_is_told_apart() -> None:
    shorter = copy.copy(sample())
    shorter.blocks = {height: raw for height, raw in shorter.blocks.items() if height < 4}
    assert "blocks are missing" in refused(shorter, half_done())


def test_a_chain_with_another_block_at_the_checkpoint_is_told_apart() -> None:
    other = copy.copy(sample())
    block = inspect_block(other.blocks[4])
    other.blocks = {**other.blocks, 4: encode_block(block.header, block.instructions[:0])}
    # Its header counts instructions that are not there: it is no block at all.
    report = run(other, half_done())
    assert report.finding is not None
    assert report.finding.height == 4
    third = inspect_block(sample().blocks[3])
    other.blocks[4] = encode_block(third.header, third.instructions)
    assert "its block 4 was" in refused(other, half_done())


@pytest.mark.parametrize("kind", [b"s", b"ka", b"m"])
def test_work_that_contradicts_itself_is_not_gone_on_with(kind: bytes) -> None:
    """A record of the state, an account of the books, the checkpoint."""
    kv = half_done()
    key, value = next(
        (key, value) for key, value in kv.iterate(kind) if key != b"muntreed" and value
    )
    kv.write([(key, value[:1] + bytes([value[1] ^ 1]) + value[2:])])
    assert refused(sample(), kv)


def test_less_money_in_the_books_than_in_the_state_is_not_gone_on_with() -> None:
    kv = half_done()
    key, value = next(kv.iterate(b"ka"))
    balance, stated = decode(value, tuple)
    kv.write([(key, encode((balance - 1, stated)))])
    assert "balance of" in refused(sample(), kv)


# --- the directory --------------------------------------------------------------------------------


def test_a_directory_is_made_and_taken_up_again(tmp_path: Path) -> None:
    directory = WorkDirectory(tmp_path / "a" / "work", "home x")
    for first in (True, False):
        work, note = directory.open()
        assert note is None
        checkpoint = work.resume()
        assert (checkpoint is None) is first
        report = audit_chain(sample(), world.genesis_bytes(), work=work)
        assert (report.verdict, report.resumed) == (VALID, None if first else 6)
        work.close()
    assert (tmp_path / "a" / "work").stat().st_mode & 0o777 == 0o700
    directory.remove()
    assert not (tmp_path / "a" / "work").exists()


def test_work_on_another_source_is_begun_anew(tmp_path: Path) -> None:
    work, _ = WorkDirectory(tmp_path / "work", "home x").open()
    audit_chain(sample(), world.genesis_bytes(), work=work)
    work.close()
    work, note = WorkDirectory(tmp_path / "work", "home y").open()
    assert note is not None
    assert "another source (home x)" in note
    assert work.resume() is None
    work.close()


def test_damaged_work_is_begun_anew(tmp_path: Path) -> None:
    directory = WorkDirectory(tmp_path / "work", "home x")
    work, _ = directory.open()
    audit_chain(sample(), world.genesis_bytes(), work=work)
    work.close()
    (tmp_path / "work" / "data" / "mark").write_bytes(b"x")
    work, note = directory.open()
    assert note is not None
    assert "is damaged" in note
    assert work.resume() is None
    work.close()


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    for name, content in (("letter", "dear"), ("format", "nostro-home/1\n")):
        path = tmp_path / name / "work"
        path.mkdir(parents=True)
        (path / name).write_text(content)
        with pytest.raises(WorkRefused, match="something else"):
            WorkDirectory(path, "home x").open()
        assert (path / name).read_text() == content
    (tmp_path / "file").touch()
    with pytest.raises(WorkRefused, match="no directory"):
        WorkDirectory(tmp_path / "file", "home x").open()


def test_a_directory_that_others_may_write_into_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "work"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(WorkRefused, match="others may write"):
        WorkDirectory(path, "home x").open()


def test_two_audits_do_not_share_a_directory(tmp_path: Path) -> None:
    directory = WorkDirectory(tmp_path / "work", "home x")
    work, _ = directory.open()
    work.resume()
    with pytest.raises(StoreLocked):
        directory.open()
    work.close()


class Full(MemoryStore):
    """A disk with room for so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def write(self, batch: Batch, sync: bool = True) -> None:
        if not self.left:
            raise StoreUnwritable("cannot write: No space left", "work", "Free some space")
        self.left -= 1
        super().write(batch, sync)


def test_a_full_disk_is_undecided_and_what_was_kept_stays_good() -> None:
    kv = Full(3)
    report = run(sample(), kv)
    assert (report.verdict, report.exit_code) == (UNDECIDED, 2)
    assert "No space left" in (report.undecided or "")
    assert run(sample(), kv.crash()).resumed == 3


# --- a real process, killed -----------------------------------------------------------------------

AUDIT = """
import sys
from pathlib import Path
from node.audit.archive import ArchiveReader
from node.audit.chain_audit import Pace, audit_chain
from node.audit.workdir import WorkDirectory
from tests.support import world

stop = int(sys.argv[3])

def progress(so_far, tip):
    if so_far.height == stop:
        print(stop, flush=True)
        sys.stdin.read()

work, note = WorkDirectory(Path(sys.argv[1]), "archive").open()
assert note is None, note
with open(sys.argv[2], "rb") as file:
    audit_chain(
        ArchiveReader(file), world.genesis_bytes(), progress, state=False, work=work,
        pace=Pace(blocks=2),
    )
"""


def test_an_audit_that_is_killed_goes_on_from_what_was_synced(tmp_path: Path) -> None:
    path, work = tmp_path / "chain.archive", tmp_path / "work"
    path.write_bytes(archive(sample_of_epochs()))
    for stop in (3, 8, 11):
        audit = subprocess.Popen(
            [sys.executable, "-c", AUDIT, str(work), str(path), str(stop)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert audit.stdout is not None
        assert audit.stdout.readline() == b"%d\n" % stop
        audit.kill()
        audit.communicate()
    resumed, _ = WorkDirectory(work, "archive").open()
    report = audit_chain(stored_chain(tmp_path), world.genesis_bytes(), work=resumed)
    resumed.close()
    assert (report.verdict, report.resumed) == (VALID, 10)
    report.resumed = None
    assert report == whole(sample_of_epochs())


def stored_chain(tmp_path: Path) -> ChainStore:
    return stored(sample_of_epochs(), LevelStore(tmp_path / "node", create=True))
