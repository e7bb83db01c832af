"""The archive on a Python that has nothing installed says what `nostro verify` says: of a shared
sample of evidence, sound and not, and of what no file of evidence is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.chain.block import header_digest
from tests.support.command import run as run_command
from tests.support.evidence_cases import Case, cases
from tests.support.standalone import BARE, Standalone, standalone, write_archive
from tests.support.state_world import absence_bytes, state_world

pytestmark = pytest.mark.xdist_group("page")
"""With the others who need the sample: it takes some seconds to make."""


SAMPLE = 510
"""Cases of the shared sample: one in pure Python takes some hundredths of a second."""
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
    """So many, evenly, so that every kind of case is in it."""
    return [cases()[at * len(cases()) // SAMPLE] for at in range(SAMPLE)]


def test_the_shared_sample_is_judged_alike(archive: Standalone) -> None:
    chosen = sample()
    assert len({each.name for each in chosen}) == SAMPLE
    for start in range(0, len(chosen), AT_ONCE):
        some = chosen[start : start + AT_ONCE]
        answers = archive.ask([("verify", each.data.hex(), each.genesis.hex()) for each in some])
        for each, answer in zip(some, answers, strict=True):
            assert answer == [each.verdict, each.status, sorted(each.failed)], each.name
    verdicts = [each.verdict for each in chosen]
    assert all(verdicts.count(each) >= 15 for each in ("VALID", "INVALID", "UNDECIDED"))


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


@pytest.mark.parametrize("digest", ["own", "ab" * 32])
def test_a_checkpoint_of_the_reader_is_compared_alike(
    program: Path, tmp_path: Path, digest: str
) -> None:
    made, proof = state_world(), absence_bytes("ever")
    evidence, genesis = tmp_path / "evidence", tmp_path / "genesis.json"
    evidence.write_bytes(proof)
    genesis.write_bytes(made.members.genesis_bytes)
    tip = made.chain.tip
    pin = f"{tip.height}:{header_digest(tip).hex() if digest == 'own' else digest}"
    arguments = (str(evidence), "--genesis", str(genesis), "--checkpoint", pin)
    own = subprocess.run(
        [*BARE, str(program), *arguments], env={}, capture_output=True, text=True, check=False
    )
    command = run_command("verify", *arguments)
    assert (own.returncode, own.stdout, own.stderr) == (command.code, command.out, command.err)
    assert own.returncode == (0 if digest == "own" else 1)


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
