"""The archive on a Python that has nothing installed says what `nostro verify` says: of a shared
sample of evidence, sound and not, and of what no file of evidence is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import run as run_command
from tests.support.evidence_cases import Case, cases
from tests.support.standalone import BARE, Standalone, standalone, write_archive

pytestmark = pytest.mark.xdist_group("page")
"""With the others who need the sample: it takes some seconds to make."""


AT_ONCE = 20
HUGE = 1 << 30
"""Bytes of a file that is far larger than any evidence."""
MEMORY = 512 << 20
"""Bytes that the program may use at most, whatever it is given."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def archive(program: Path) -> Iterator[Standalone]:
    with standalone(program) as process:
        yield process


def sample() -> list[Case]:
    """Five of nine, so that every kind of case is in it."""
    return [each for number, each in enumerate(cases()) if number % 9 % 2 == 0]


def test_the_shared_sample_is_judged_alike(archive: Standalone) -> None:
    chosen = sample()
    assert len(chosen) >= 500
    for start in range(0, len(chosen), AT_ONCE):
        some = chosen[start : start + AT_ONCE]
        answers = archive.ask([("verify", each.data.hex(), each.genesis.hex()) for each in some])
        for each, answer in zip(some, answers, strict=True):
            assert answer == [each.verdict, each.status, sorted(each.failed)], each.name
    verdicts = [each.verdict for each in chosen]
    assert all(verdicts.count(each) >= 20 for each in ("VALID", "INVALID", "UNDECIDED"))


@pytest.mark.parametrize("verdict", ["VALID", "INVALID", "UNDECIDED"])
@pytest.mark.parametrize("options", [(), ("--json",), ("--expect", "rejected")])
def test_output_and_exit_code_are_those_of_the_command(
    program: Path, tmp_path: Path, verdict: str, options: tuple[str, ...]
) -> None:
    chosen = next(each for each in cases() if each.verdict == verdict)
    evidence, genesis = tmp_path / "evidence", tmp_path / "genesis.json"
    evidence.write_bytes(chosen.data)
    genesis.write_bytes(chosen.genesis)
    arguments = (str(evidence), "--genesis", str(genesis), *options)
    own = subprocess.run(
        [*BARE, str(program), *arguments], env={}, capture_output=True, text=True, check=False
    )
    command = run_command("verify", *arguments)
    assert (own.returncode, own.stdout, own.stderr) == (command.code, command.out, command.err)
    if "--json" in options:
        assert json.loads(own.stdout)["verdict"] == verdict


BOUNDED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
sys.argv[:2] = []
sys.path.insert(0, sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def bounded(program: Path, evidence: Path, genesis: Path) -> subprocess.CompletedProcess[str]:
    """A run that may use no more than `MEMORY`."""
    command = [*BARE, "-c", BOUNDED, str(MEMORY), str(program), str(evidence)]
    return subprocess.run(
        [*command, "--genesis", str(genesis)],
        env={},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_file_of_a_gibibyte_is_refused_in_bounded_memory(program: Path, tmp_path: Path) -> None:
    huge, genesis = tmp_path / "huge", tmp_path / "genesis.json"
    sound = next(each for each in cases() if each.verdict == "VALID")
    genesis.write_bytes(sound.genesis)
    with huge.open("wb") as file:
        file.write(sound.data[:11])  # it says that it is a dossier
        file.truncate(HUGE)
    told = bounded(program, huge, genesis)
    assert (told.returncode, told.stderr) == (1, "")
    assert "FAIL  file: this is not a dossier: no dossier has more than " in told.stdout
    told = bounded(program, genesis, huge)
    assert (told.returncode, told.stderr) == (2, "")
    assert "NOTE  genesis: nothing can be checked: " in told.stdout
