"""`nostro audit chain`: from a home, an archive or an API to a verdict and an exit code."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.audit.audit_report import AuditReport
from node.cli.audit_chain import Progress
from node.cli.output import Output
from node.storage.home import Home
from tests.support import world
from tests.support.archives import archive
from tests.support.command import Ran, run
from tests.support.homes import make_home
from tests.support.rewriting import rewritten
from tests.support.small_chain import SmallChain, sample
from tests.support.stored_chain import stored
from tests.support.sync_source import SyncSourceServer, sync_source
from tests.support.world import BANKB


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(world.genesis_bytes())
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path) -> Iterator[Path]:
    """Where the work lies unless --work says so."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    yield tmp_path / "cache" / "nostro" / "audit"
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "chain.archive"
    path.write_bytes(archive(sample()))
    return path


def home_of(path: Path, chain: SmallChain) -> Home:
    home = make_home(path)
    database = home.open_database()
    stored(chain, database)
    database.close()
    return home


def audit(genesis: Path, *options: object) -> Ran:
    return run("audit", "chain", "--genesis", genesis, "--json", *options)


def test_a_home_and_its_archive_come_to_the_same(tmp_path: Path, genesis: Path, file: Path) -> None:
    home = home_of(tmp_path / "node0", sample())
    ran = [audit(genesis, "--home", home.path), audit(genesis, "--archive", file)]
    assert [each.code for each in ran] == [0, 0]
    assert ran[0].json == ran[1].json
    assert (ran[0].json["verdict"], ran[0].json["height"]) == ("VALID", 6)
    assert ran[0].json["totals"] == {"EUR": 10**9 - 100, "CNY": 10**9}
    assert (ran[0].json["resumed"], ran[0].json["compared_outcomes"]) == (None, True)
    told = run("audit", "chain", "--genesis", genesis, "--archive", file)
    assert told.out.splitlines()[-1] == "VALID"


@pytest.mark.parametrize("processes", [0, 1])
def test_signatures_may_be_verified_beside(genesis: Path, file: Path, processes: int) -> None:
    assert audit(genesis, "--archive", file, "--processes", processes).code == 0


def test_a_home_that_was_written_anew_is_invalid(tmp_path: Path, genesis: Path) -> None:
    forged = rewritten(sample(), gift=(4, BANKB.lei, "EUR", 700), certificates=False)
    path = tmp_path / "forged.archive"
    path.write_bytes(archive(forged))
    ran = audit(genesis, "--archive", path)
    assert (ran.code, ran.json["verdict"], ran.json["height"]) == (1, "INVALID", 3)
    assert (ran.json["finding"]["height"], ran.json["finding"]["where"]) == (4, "execution")


def test_an_archive_is_exported_from_a_home_and_audited_without_it(
    tmp_path: Path, genesis: Path
) -> None:
    home, path = home_of(tmp_path / "node0", sample()), tmp_path / "out.archive"
    options = ("--genesis", genesis, "--format", "archive", "-o", path)
    ran = run("audit", "export", "--home", home.path, *options, "--json")
    assert (ran.code, ran.json["to"], ran.json["outcomes"]) == (0, 6, True)
    assert path.read_bytes() == archive(sample())
    assert ran.json["sha256"] == path.read_bytes()[-32:].hex()
    assert audit(genesis, "--archive", path).json["verdict"] == "VALID"
    assert run("audit", "export", "--home", home.path, *options, "--from", 2).code == 64
    genesis.write_bytes(world.genesis_bytes() + b"\n")
    path.unlink()
    ran = run("audit", "export", "--home", home.path, *options)
    assert (ran.code, path.exists()) == (1, False)
    assert "the genesis file is of" in ran.err


class Terminal(io.StringIO):
    """What a bar is drawn on."""

    def isatty(self) -> bool:
        return True


def test_the_bar_tells_rate_and_time_left() -> None:
    terminal, now = Terminal(), [100.0]
    progress = Progress(Output(False, terminal, terminal), lambda: now[0])

    def drawn(seconds: float, height: int, payments: int) -> str:
        now[0] += seconds
        terminal.truncate(terminal.seek(0))
        progress(AuditReport(height=height, payments=payments), 100_000)
        return terminal.getvalue()

    assert "0 of 100,000 blocks " in drawn(0, 0, 0)
    assert drawn(0.05, 10, 10) == ""  # too soon to be drawn again
    assert "left" not in drawn(1, 100, 100)
    drawn_once = drawn(8.95, 10_000, 20_000)
    assert "10,000 of 100,000 blocks, 2,000 outcomes/s, 1 min 30 s left" in drawn_once
    assert "500 outcomes/s, 2 min 50 s left" in drawn(10, 15_000, 25_000)
    assert "100,000 of 100,000" in drawn(0.01, 100_000, 90_000)
    assert "3 h 58 min left" in drawn(10_000, 50_000, 90_000)


# --- the work -------------------------------------------------------------------------------------


def test_the_work_goes_when_the_audit_has_ended(genesis: Path, file: Path, cache: Path) -> None:
    assert audit(genesis, "--archive", file).code == 0
    assert list(cache.iterdir()) == []


def test_work_that_is_kept_is_gone_on_with(tmp_path: Path, genesis: Path, file: Path) -> None:
    work = tmp_path / "work"
    assert audit(genesis, "--archive", file, "--work", work).json["resumed"] is None
    ran = audit(genesis, "--archive", file, "--work", work)
    assert (ran.code, ran.json["verdict"], ran.json["resumed"]) == (0, "VALID", 6)


def test_a_chain_that_lost_blocks_since_is_told_of_and_audited_anew(
    tmp_path: Path, genesis: Path, file: Path
) -> None:
    work = tmp_path / "work"
    audit(genesis, "--archive", file, "--work", work)
    shorter = SmallChain()
    file.write_bytes(archive(shorter))
    ran = audit(genesis, "--archive", file, "--work", work)
    assert "begun anew" in ran.err
    assert "blocks are missing that were there" in ran.err
    assert (ran.code, ran.json["height"], ran.json["resumed"]) == (0, 0, None)


def test_a_directory_of_something_else_is_left_alone(
    tmp_path: Path, genesis: Path, file: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    ran = audit(genesis, "--archive", file, "--work", tmp_path / "mine")
    assert ran.code == 64
    assert "left alone" in ran.err
    assert (tmp_path / "mine" / "letter").read_text() == "dear"


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", 1, "the file ends at byte 0"),
        (b"nonsense", 1, "archive, byte 0"),
        (bytes(100_000), 1, "archive, byte 0"),
        (b"\x91" * 100_000, 1, "archive, byte 0"),
        (archive(SmallChain())[:-1], 1, "the file ends at byte"),
        (archive(SmallChain()) + b"x", 1, "more bytes"),
    ],
)
def test_what_is_no_archive_is_named_in_a_sentence(
    tmp_path: Path, genesis: Path, data: bytes, code: int, words: str
) -> None:
    path = tmp_path / "x.archive"
    path.write_bytes(data)
    ran = run("audit", "chain", "--genesis", genesis, "--archive", path)
    assert ran.code == code
    assert words in ran.out
    assert ran.out.splitlines()[-1] == "INVALID"


def test_a_file_of_a_gibibyte_of_nothing_is_refused_at_once(tmp_path: Path, genesis: Path) -> None:
    path = tmp_path / "hole"
    with path.open("wb") as hole:
        hole.truncate(2**30)
    assert audit(genesis, "--archive", path).code == 1


def test_another_chain_s_archive_is_invalid(tmp_path: Path, genesis: Path, file: Path) -> None:
    genesis.write_bytes(world.genesis_bytes() + b"\n")
    ran = audit(genesis, "--archive", file)
    assert ran.code == 1
    assert ran.json["finding"]["where"] == "archive, chain id"


def test_missing_files_and_contradicting_options_are_wrong_usage(
    tmp_path: Path, genesis: Path, file: Path
) -> None:
    assert audit(genesis).code == 64
    assert audit(genesis, "--archive", tmp_path / "absent").code == 64
    assert audit(genesis, "--archive", tmp_path).code == 64
    assert audit(tmp_path / "absent", "--archive", file).code == 64
    assert audit(genesis, "--archive", file, "--home", tmp_path).code == 64
    assert audit(genesis, "--api", "ftp://x").code == 64
    assert audit(genesis, "--archive", file, "--processes", "many").code == 64
    assert audit(genesis, "--archive", file, "--processes", 65).code == 64


def test_with_a_bad_genesis_file_nothing_can_be_told(genesis: Path, file: Path) -> None:
    genesis.write_bytes(b"{}")
    ran = audit(genesis, "--archive", file)
    assert (ran.code, ran.json["verdict"]) == (2, "UNDECIDED")


# --- a node that runs -----------------------------------------------------------------------------


@contextmanager
def served(directory: Path, chain: SmallChain) -> Iterator[SyncSourceServer]:
    """A node's API on a thread of its own."""
    from node.storage.memory import MemoryStore  # noqa: PLC0415

    loop, ready, done = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[SyncSourceServer] = []

    async def serve() -> None:
        kv = MemoryStore()
        stored(chain, kv)
        async with sync_source(kv, chain.genesis, directory) as server:
            server.genesis_file = world.genesis_bytes()
            found.append(server)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def test_a_node_s_api_is_audited(tmp_path: Path, genesis: Path) -> None:
    with served(tmp_path, sample()) as node:
        ran = audit(genesis, "--api", node.url)
    assert (ran.code, ran.json["verdict"], ran.json["height"]) == (0, "VALID", 6)
    assert ran.json["compared_outcomes"] is False


def test_the_home_of_a_running_node_is_read_over_its_api(tmp_path: Path, genesis: Path) -> None:
    home = home_of(tmp_path / "node0", sample())
    with served(tmp_path / "served", sample()) as node:
        _listen_at(home, node.url)
        home.acquire()
        try:
            ran = audit(genesis, "--home", home.path)
        finally:
            home.release()
    assert (ran.code, ran.json["height"], ran.json["compared_outcomes"]) == (0, 6, False)
    home.acquire()
    try:
        ran = audit(genesis, "--home", home.path)
    finally:
        home.release()
    assert ran.code == 2
    assert "is running" in ran.err


def _listen_at(home: Home, url: str) -> None:
    """Put the API's address into the home's configuration."""
    port = int(url.rpartition(":")[2])
    path = home.path / "config.toml"
    lines = path.read_text().splitlines()
    at = next(i for i in range(lines.index("[api]"), len(lines)) if lines[i].startswith("port"))
    lines[at] = f"port = {port}"
    path.write_text("\n".join(lines) + "\n")
