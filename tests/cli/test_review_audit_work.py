"""The work of an audit after a crash of its disk, at every place."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.audit.workdir import WorkDirectory
from tests.audit.test_signatures_beside import long_chain
from tests.cli.test_audit_chain_command import audit, home_of
from tests.support import world
from tests.support.archives import archive
from tests.support.small_chain import sample

PLACES = 8
"""Bytes that are damaged one after another, evenly over a table."""


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(world.genesis_bytes())
    return path


def test_work_whose_tables_rot_is_begun_anew_wherever_they_do(
    tmp_path: Path, genesis: Path
) -> None:
    home, work = home_of(tmp_path / "node0", long_chain()), tmp_path / "work"
    options = ("--home", home.path, "--work", work, "--processes", 0)

    def whole() -> None:
        assert audit(genesis, *options).code == 0

    anew = 0
    for place in range(PLACES):
        whole()
        for _ in range(2):  # LevelDB makes a table of its log when it is opened
            directory = WorkDirectory(work, f"home {home.path}")
            directory.open()[0].close()
            opened, note = directory.open()
            assert note is None
            opened.resume()
            opened.close()
        [table] = (work / "data" / "db").glob("*.ldb")
        data = bytearray(table.read_bytes())
        data[len(data) * (2 * place + 1) // (2 * PLACES)] ^= 0xFF
        table.write_bytes(data)
        ran = audit(genesis, *options)
        assert (ran.code, ran.json["verdict"]) == (0, "VALID")
        assert ("begun anew" in ran.err) is (ran.json["resumed"] is None)
        anew += ran.json["resumed"] is None
        for each in (work / "data" / "db").glob("*"):
            each.unlink()
    assert anew


def test_work_that_a_crash_left_before_it_began_is_begun(tmp_path: Path, genesis: Path) -> None:
    work, file = tmp_path / "work", tmp_path / "chain.archive"
    file.write_bytes(archive(sample()))
    work.mkdir(mode=0o700)
    (work / ".format.tmp").write_text("nostro-aud")
    assert audit(genesis, "--archive", file, "--work", work).code == 0


def test_where_nothing_is_known_of_a_chain_it_is_not_called_unsound(
    tmp_path: Path, genesis: Path
) -> None:
    for home in (tmp_path / "absent", tmp_path):
        ran = audit(genesis, "--home", home)
        assert (ran.code, ran.out) == (2, "")
        assert str(home) in ran.err


def test_work_that_cannot_lie_where_it_should_is_named(tmp_path: Path, genesis: Path) -> None:
    file = tmp_path / "chain.archive"
    file.write_bytes(archive(sample()))
    ran = audit(genesis, "--archive", file, "--work", file / "x")
    assert ran.code == 2
    assert "nowhere to work" in ran.err


def test_a_genesis_file_of_a_gibibyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    hole = tmp_path / "hole"
    with hole.open("wb") as file:
        file.truncate(2**30)
    ran = audit(hole, "--archive", hole)
    assert ran.code == 64
    assert "it is not the genesis file" in ran.err
