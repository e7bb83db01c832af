"""Whatever file `nostro verify` is given: a plain sentence, the right exit code, bounded time and
memory, and never a traceback."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from node.audit.dossier import MAX_DOSSIER_BYTES, Netted, encode_dossier
from node.chain.types import NetPosition
from tests.support.evidence_world import case, case_bytes, evidence_world

GIB = 1 << 30
MEMORY = GIB
"""Bytes of address space that a verifier may have, whatever it reads."""
SECONDS = 60
"""Of processor time: many times what the worst file takes."""
SOUND = case_bytes("alone")
GENESIS = evidence_world().members.genesis_bytes


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def verify(evidence: Path, genesis: Path, *options: str) -> Ran:
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", "verify", evidence, "--genesis", genesis, *options],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=bounded,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(GENESIS)
    return path


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.dossier"
    path.write_bytes(SOUND)
    return path


def test_a_sound_dossier_is_verified_within_these_bounds(sound: Path, genesis: Path) -> None:
    ran = verify(sound, genesis, "--expect", "settled")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "VALID  settled")


def crowded() -> bytes:
    """As large as a dossier may be, of nothing but small parts: the most that can be held."""
    sound = case("net-settled")
    assert isinstance(sound.together, Netted)
    crowd = (NetPosition("A" * 20, 300, 300),) * ((MAX_DOSSIER_BYTES - 20_000) // 28)
    record = replace(sound.together.record, positions=crowd)
    return encode_dossier(replace(sound, together=replace(sound.together, record=record)))


FILES = {
    "empty": (b"", "the file is empty"),
    "cut": (SOUND[:-1], "truncated"),
    "nested": (b"\x91" * 10_000_000, "not a Dossier"),
    "nested inside": (SOUND[:11] + b"\x92" * 10_000_000, "not a Dossier"),
    "JSON": (b'{"uetr": 1}', "It looks like JSON"),
    "a PDF": (b"%PDF-1.7\n" + bytes(1_000), "It looks like a PDF"),
    "a genesis file": (GENESIS, "It looks like a genesis file"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_evidence_is_invalid(name: str, tmp_path: Path, genesis: Path) -> None:
    data, words = FILES[name]
    path = tmp_path / "file"
    path.write_bytes(data)
    ran = verify(path, genesis)
    assert (ran.code, ran.out.splitlines()[-1], ran.err) == (1, "INVALID", "")
    assert words in ran.out


def test_a_dossier_of_a_million_parts_is_refused_in_bounded_memory(
    tmp_path: Path, genesis: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(crowded())
    ran = verify(path, genesis)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "INVALID")
    assert len(ran.out) < 20_000


def test_a_file_of_a_gigabyte_is_not_read_whole(tmp_path: Path, sound: Path, genesis: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write(SOUND)
        file.truncate(GIB)
    ran = verify(path, genesis)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "INVALID")
    assert "no dossier has more than 67,108,864 bytes" in ran.out
    ran = verify(sound, path)
    assert (ran.code, ran.out.splitlines()[-1]) == (2, "UNDECIDED")
    assert "at most 4,194,304" in ran.out
    # Without an end, too.
    assert verify(Path("/dev/zero"), genesis).code == 1


def test_the_two_files_swapped_are_told_apart(sound: Path, genesis: Path) -> None:
    ran = verify(genesis, sound)
    assert (ran.code, ran.out.splitlines()[-1]) == (2, "UNDECIDED")
    assert "It looks like a dossier: were the two files swapped?" in ran.out


def test_a_genesis_file_of_another_chain_makes_it_invalid(sound: Path, genesis: Path) -> None:
    genesis.write_bytes(GENESIS.replace(b'"test"', b'"tess"'))
    assert verify(sound, genesis).code == 2  # the possession of its keys is not proven any more
    genesis.write_bytes(GENESIS + b"\n")
    ran = verify(sound, genesis)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "INVALID")
    assert "This is evidence about another chain than the genesis file describes" in ran.out


def test_a_file_that_cannot_be_read_is_wrong_usage(
    tmp_path: Path, sound: Path, genesis: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        where = tmp_path / "socket"
        listening.bind(str(where))
        for path in (tmp_path / "absent", tmp_path, sound / "below", where):
            for files in ((path, genesis), (sound, path)):
                ran = verify(*files)
                assert (ran.code, ran.out) == (64, "")
                assert ran.err.startswith("nostro: cannot read the ")
                assert str(path) in ran.err


def test_json_is_one_document_whatever_the_file(tmp_path: Path, genesis: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x00")
    ran = verify(path, genesis, "--json")
    assert ran.code == 1
    assert '"verdict": "INVALID"' in ran.out
    assert '"payment": null' in ran.out
