"""`nostro audit export`: a file of a sound chain, whole, or none at all and why."""

from __future__ import annotations

import asyncio
import copy
import csv
import dataclasses
import fcntl
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from node.audit.movements import Account
from node.chain.encoding import decode, encode
from node.chain.types import Outcome
from node.storage.home import Home, open_home
from node.storage.horizon import Horizon, put_horizon
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.command import Ran, run
from tests.support.exported import bean_check, sums
from tests.support.homes import make_home
from tests.support.small_chain import sample
from tests.support.stored_chain import stored
from tests.support.sync_source import sync_source

FORMATS = ("beancount", "csv", "parquet")
LITTLE = 1_000
"""Bytes that a file may have on a disk that is nearly full."""


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(world.genesis_bytes())
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a stopped node that holds `sample`."""
    home = make_home(tmp_path_factory.mktemp("made") / "home")
    database = home.open_database()
    stored(sample(), database)
    database.close()
    return home.path


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Home:
    """A copy of it."""
    return open_home(shutil.copytree(made, tmp_path / "home"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "books"


def export(home: Home, genesis: Path, out: Path, form: str = "csv", *options: object) -> Ran:
    return run(
        "audit", "export", "--format", form, "--home", home.path, "--genesis", genesis,
        "-o", out, *options,
    )  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(path.read_bytes().decode(), newline="")))


def unsound(tmp_path: Path) -> Home:
    """A stopped node whose store is in order, but for one outcome that says something else."""
    chain = copy.copy(sample())
    outcomes = list(chain.applied[2].outcomes)
    outcomes[0] = encode(replace(decode(outcomes[0], Outcome), debtor_balance=1))
    chain.applied = {**chain.applied, 2: dataclasses.replace(chain.applied[2], outcomes=outcomes)}
    home = make_home(tmp_path / "unsound")
    database = home.open_database()
    stored(chain, database)
    database.close()
    return home


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_the_books_of_a_stopped_node_are_written_whole(
    home: Home, genesis: Path, out: Path, form: str, tmp_path: Path
) -> None:
    ran = export(home, genesis, out, form, "--json")
    assert (ran.code, ran.json["verdict"], ran.json["format"]) == (0, "VALID", form)
    assert ran.json["sha256"] == sha256(out.read_bytes()).hexdigest()
    assert (ran.json["from"], ran.json["to"]) == (1, 6)
    assert ran.json["turnover"]["CNY"] == "10000000.01"
    assert os.listdir(out.parent) == ["books"]
    held = {
        (Account(each.participant, "settlement"), each.asset): each.balance
        for each in sample().state.accounts()
        if each.balance
    }
    if form == "csv":
        found = {key: n for key, n in sums(rows(out)).items() if key[0].holder}
        assert found == held
        assert len(rows(out)) == ran.json["movements"]
    elif form == "parquet":
        assert pq.read_metadata(out).num_rows == ran.json["movements"]
    else:
        assert bean_check(out.read_text("utf-8"), tmp_path) == []
        assert str(ran.json["block"]) in out.read_text("utf-8")


def test_a_part_of_one_participants_movements(home: Home, genesis: Path, out: Path) -> None:
    ran = export(home, genesis, out, "csv", "--from", 5, "--to", 6, "--account", "BANKB")
    assert ran.code == 0
    assert "movements of blocks 5 to 6" in ran.out
    kinds = [(row["height"], row["kind"], row["debtor_name"]) for row in rows(out)]
    assert ("4", "opening", "") in kinds
    assert ("6", "pay", "BANKB") in kinds
    by_bic = world.BANKB.bic
    assert export(home, genesis, out, "csv", "--from", 5, "--account", by_bic).code == 0


def test_dates_are_utc_and_both_ends_belong_to_the_stretch(
    home: Home, genesis: Path, out: Path
) -> None:
    day = rows_day(home, genesis, out)
    whole = out.read_bytes()
    assert export(home, genesis, out, "csv", "--from", day, "--to", day).code == 0
    assert out.read_bytes() == whole
    ran = export(home, genesis, out, "csv", "--from", "2999-01-01")
    assert ran.code == 1
    assert "no block lies between --from and --to" in ran.err


def rows_day(home: Home, genesis: Path, out: Path) -> str:
    assert export(home, genesis, out).code == 0
    [day] = {row["time"][:10] for row in rows(out)}
    return day


def test_the_same_chain_gives_the_same_bytes(home: Home, genesis: Path, out: Path) -> None:
    files = []
    for form in FORMATS * 2:
        assert export(home, genesis, out, form).code == 0
        files.append(out.read_bytes())
    assert files[:3] == files[3:]


@pytest.mark.parametrize("form", FORMATS)
def test_an_archive_of_the_chain_gives_the_same_bytes_as_the_home(
    home: Home, genesis: Path, out: Path, form: str, tmp_path: Path
) -> None:
    assert export(home, genesis, out, form).code == 0
    of_home = out.read_bytes()
    copied = tmp_path / "chain.archive"
    assert export(home, genesis, copied, "archive").code == 0
    ran = run(
        "audit", "export", "--format", form, "--archive", copied, "--genesis", genesis, "-o", out
    )
    assert (ran.code, out.read_bytes()) == (0, of_home)
    data = copied.read_bytes()
    for damaged in (data[:-1], data[: len(data) // 2], b"", b"\x00" * 100):
        copied.write_bytes(damaged)
        ran = run(
            "audit", "export", "--format", form, "--archive", copied, "--genesis", genesis,
            "-o", out, "--json",
        )  # fmt: skip
        assert (ran.code, ran.json["verdict"], out.read_bytes()) == (1, "INVALID", of_home)
        assert os.listdir(out.parent) == ["books"]


async def test_a_node_that_runs_gives_the_same_bytes_over_its_api(
    home: Home, genesis: Path, out: Path, tmp_path: Path
) -> None:
    assert export(home, genesis, out).code == 0
    of_home = taken(out)
    kv = MemoryStore()
    stored(sample(), kv)
    chain = sample()
    async with sync_source(kv, chain.genesis, tmp_path, chain.state.validator_set_of) as served:
        served.genesis_file = world.genesis_bytes()
        ran = await asyncio.to_thread(
            run, "audit", "export", "--format", "csv", "--api", served.url,
            "--genesis", genesis, "-o", out,
        )  # fmt: skip
    assert (ran.code, taken(out)) == (0, of_home)


def taken(path: Path) -> bytes:
    """What stands there, and no longer does."""
    data = path.read_bytes()
    path.unlink()
    return data


# --- nothing is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_chain_that_is_not_sound_gives_no_file(
    tmp_path: Path, genesis: Path, out: Path, form: str
) -> None:
    home = unsound(tmp_path)
    out.write_text("of last month")
    ran = export(home, genesis, out, form)
    assert (ran.code, out.read_text()) == (1, "of last month")
    assert "FAIL  block 2, " in ran.out
    assert ran.out.splitlines()[-1] == "INVALID"
    assert "was not written" in ran.err
    assert os.listdir(out.parent) == ["books"]
    chain = run("audit", "chain", "--home", home.path, "--genesis", genesis, "--json").json
    said = export(home, genesis, out, form, "--json").json
    assert said["finding"] == chain["finding"]


def test_another_chains_genesis_gives_no_file(home: Home, out: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(world.genesis_bytes() + b"\n")
    assert export(home, other, out).code == 1
    other.write_bytes(b"{}")
    assert export(home, other, out).code == 2
    assert os.listdir(out.parent) == []


def test_a_disk_that_is_full_is_said_in_a_sentence(out: Path) -> None:
    """The system lets no file of this process grow beyond a little, as a full disk would."""
    code = f"""
import resource, signal, sys
from pathlib import Path
from node.audit.export import Names, Point
from node.audit.movements import CLEARING, ISSUED, Movement
from node.cli.errors import CommandError
from node.cli.files import writing
from tests.support.exported import made_writer, Plain

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({LITTLE}, {LITTLE}))
movement = Movement(0, 0, bytes(32), "net", None, None, ISSUED, CLEARING, "EUR", 5, None)
at = Point(0, 0, bytes(32))
for form in {FORMATS}:
    try:
        with writing(Path(sys.argv[1])) as file:
            writer = made_writer(form, file)
            try:
                writer.begin(bytes(32), at, {{}}, Plain())
                for _ in range(20_000):
                    writer.movement(0, 1, movement)
                writer.end(at)
            finally:
                writer.abandon()
    except CommandError as error:
        print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, out], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.stderr == ""
    assert ran.stdout == f"cannot write {out}: File too large\n" * len(FORMATS)
    assert os.listdir(out.parent) == []


def test_where_no_file_can_be_written_is_said(home: Home, genesis: Path, out: Path) -> None:
    for path in (out.parent, Path("/dev/null"), out.parent / "no" / "such" / "place"):
        ran = export(home, genesis, path)
        assert ran.code == 1
        assert f"cannot write {path}" in ran.err
    assert Path("/dev/null").is_char_device()


def test_what_a_killed_export_left_is_overwritten_and_two_do_not_mix(
    home: Home, genesis: Path, out: Path
) -> None:
    left = out.with_name(".books.part")
    left.write_bytes(b"x" * 100_000)
    with left.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        ran = export(home, genesis, out)
        assert ran.code == 1
        assert "another command is writing" in ran.err
        assert left.exists()
    assert export(home, genesis, out).code == 0
    assert os.listdir(out.parent) == ["books"]
    assert b"xx" not in out.read_bytes()


def test_a_running_node_and_one_that_pruned_are_said_so(
    home: Home, genesis: Path, out: Path
) -> None:
    home.acquire()
    try:
        ran = export(home, genesis, out)
    finally:
        home.release()
    assert ran.code == 2
    assert "is running" in ran.err
    database = home.open_database()
    database.write(put_horizon(Horizon(blocks=4, states=4)), sync=True)
    database.close()
    ran = export(home, genesis, out)
    assert ran.code == 2
    assert "from height 4 on only" in ran.err
    assert os.listdir(out.parent) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", "x"), "neither a height nor a date"),
        (("--to", "2026-02-30"), "is no date"),
        (("--from", "1" * 40), "neither a height nor a date"),
        (("--checkpoint-every", "0"), "is not a number from 1"),
        (("--checkpoint-every", "5"), "is for --format beancount"),
        (("--format", "xlsx"), "invalid choice"),
        (("--archive", "x"), "not allowed with argument"),
        (("--format", "archive", "--from", "3"), "an archive has the whole chain"),
        (("--key", "x"), "is for --format checkpoint"),
    ],
)
def test_wrong_usage_is_named(
    home: Home, genesis: Path, out: Path, options: tuple[str, str], said: str
) -> None:
    ran = export(home, genesis, out, "csv", *options)
    assert (ran.code, said in ran.err) == (64, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--account", "NOBODY"), "no participant 'NOBODY'"),
        (("--from", "7"), "the chain ends with block 6"),
        (("--from", "4", "--to", "3"), "no block lies between"),
    ],
)
def test_what_is_not_there_is_named(
    home: Home, genesis: Path, out: Path, options: tuple[str, ...], said: str
) -> None:
    ran = export(home, genesis, out, "csv", *options)
    assert (ran.code, said in ran.err) == (1, True)
    assert os.listdir(out.parent) == []


def test_without_pyarrow_it_is_said_how_to_have_it(home: Home, genesis: Path, out: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['pyarrow'] = None\n"
        "from node.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    ran = subprocess.run(
        [
            sys.executable, "-c", code, "audit", "export", "--format", "parquet",
            "--home", home.path, "--genesis", genesis, "-o", out,
        ],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "pip install 'nostro[export]'" in ran.stderr
    assert os.listdir(out.parent) == []
