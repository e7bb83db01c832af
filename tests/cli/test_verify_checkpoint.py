"""`nostro verify --checkpoint`: evidence is held against a block that its reader knows or that
auditors cosigned."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

from node.audit.build import build_dossier
from node.audit.dossier import decode_dossier
from node.chain.block import header_digest, inspect_block
from node.storage.memory import MemoryStore
from tests.support import notes, world
from tests.support.command import Ran, run
from tests.support.small_chain import SmallChain, issue, pay, sample
from tests.support.standalone import BARE, write_archive
from tests.support.stored_chain import stored

W1, W2, W3 = (notes.witness_key(f"auditor.example/w{n}")[0].text for n in (1, 2, 3))


@cache
def dossier(checkpoint: int | None = None) -> bytes:
    """Of a payment in block 2; it speaks as of block 6."""
    store = stored(sample(), MemoryStore())
    return build_dossier(store, sample().uetrs[world.uetr(0)], checkpoint=checkpoint)


@cache
def forked() -> SmallChain:
    """Another chain of the same validators."""
    chain = SmallChain()
    for number in range(8):
        chain.add(issue(chain, 3000 + number))
    return chain


@cache
def longer() -> SmallChain:
    """The sample chain, and blocks above."""
    chain = SmallChain()
    for height in range(1, 7):
        block = inspect_block(sample().blocks[height])
        chain.add(*block.instructions, final=height not in (2, 3), skip_views=2 * (height == 3))
    chain.add(pay(chain, "E2E-7", 70))
    return chain


def verify(tmp_path: Path, data: bytes, note: bytes | str | None, *options: object) -> Ran:
    (tmp_path / "genesis.json").write_bytes(world.genesis_bytes())
    (tmp_path / "dossier").write_bytes(data)
    given = note
    if isinstance(note, bytes):
        (tmp_path / "note").write_bytes(note)
        given = str(tmp_path / "note")
    chosen = [] if given is None else ["--checkpoint", given]
    return run(
        "verify", tmp_path / "dossier", "--genesis", tmp_path / "genesis.json", *chosen, *options
    )


def pinned(ran: Ran) -> str:
    [line] = [line for line in ran.out.splitlines() if "  pinned: " in line]
    return line


def plain(chain: SmallChain, height: int) -> str:
    return f"{height}:{header_digest(inspect_block(chain.blocks[height]).header).hex()}"


def test_the_longer_chain_is_the_sample_chain_and_more() -> None:
    assert plain(longer(), 6) == plain(sample(), 6)


@pytest.mark.parametrize("height", [6, 2])
def test_a_checkpoint_of_the_same_history_passes(tmp_path: Path, height: int) -> None:
    note = notes.signed_note(sample(), tmp_path, height)
    ran = verify(tmp_path, dossier(), note)
    assert ran.code == 0, ran.out
    assert pinned(ran).startswith("PASS")
    assert "nobody's signature on it was asked for" in pinned(ran)
    assert verify(tmp_path, dossier(), plain(sample(), height)).code == 0


def test_an_older_one_needs_its_place_in_the_dossier(tmp_path: Path) -> None:
    note = notes.signed_note(sample(), tmp_path, 4)
    without = verify(tmp_path, dossier(), note)
    assert without.code == 2
    assert "nostro evidence --checkpoint" in pinned(without)
    shown = decode_dossier(dossier(4))
    assert shown.pinned is not None
    assert verify(tmp_path, dossier(4), note).code == 0


def test_a_newer_one_cannot_be_decided(tmp_path: Path) -> None:
    ran = verify(tmp_path, dossier(), notes.signed_note(longer(), tmp_path))
    assert ran.code == 2
    assert "the evidence ends at height 6" in pinned(ran)
    assert ran.out.endswith("UNDECIDED\n")


@pytest.mark.parametrize("height", [6, 2, 4])
def test_another_history_of_the_same_keys_is_invalid(tmp_path: Path, height: int) -> None:
    note = notes.signed_note(forked(), tmp_path, height)
    ran = verify(tmp_path, dossier(4), note)
    assert ran.code == 1
    assert "forks from the checkpoint" in pinned(ran)
    assert verify(tmp_path, dossier(4), plain(forked(), height)).code == 1


def test_a_checkpoint_of_another_chain_or_none_decides_nothing(tmp_path: Path) -> None:
    other = SmallChain(world.genesis(7))
    other.add(issue(other, 1))
    foreign = notes.signed_note(other, tmp_path)
    for note, why in (
        (foreign, "and the genesis file is of"),
        (b"", "no signed note"),
        (b"\xff" * 200_000, "at most"),
        (foreign[:50], "no signed note"),
    ):
        ran = verify(tmp_path, dossier(), note)
        assert ran.code == 2
        assert why in ran.out
        assert "PASS" not in ran.out


def test_witnesses_must_have_signed_as_many_as_are_asked_for(tmp_path: Path) -> None:
    note = notes.signed_note(sample(), tmp_path)
    once = notes.cosigned(note, sample(), tmp_path)
    twice = notes.cosigned(once, sample(), tmp_path, "auditor.example/w2")
    ran = verify(tmp_path, dossier(), twice, "--witness", W1, "--witness", W2)
    assert ran.code == 0
    assert "signed by 2 of the 2 named: auditor.example/w1 (2027-01-15 08:00 UTC)" in ran.out
    three = ("--witness", W1, "--witness", W2, "--witness", W3)
    assert verify(tmp_path, dossier(), twice, *three).code == 2
    assert verify(tmp_path, dossier(), twice, *three, "--witnesses", 2).code == 0
    assert verify(tmp_path, dossier(), once, *three, "--witnesses", 2).code == 2
    assert verify(tmp_path, dossier(), note, "--witness", W1).code == 2
    signer = notes.signer_key(sample().genesis)[0].text
    assert verify(tmp_path, dossier(), note, "--witness", signer).code == 0
    ran = verify(tmp_path, dossier(), twice.replace(b"\n6\n", b"\n7\n"), "--witness", W1)
    assert ran.code == 2
    assert "does not hold" in ran.out


def test_the_program_without_any_library_says_the_same(tmp_path: Path) -> None:
    note = notes.signed_note(sample(), tmp_path)
    once = notes.cosigned(note, sample(), tmp_path)
    archive = write_archive(tmp_path)
    aside = tmp_path / "aside"
    aside.mkdir()
    for given, data, options in (
        (once, dossier(), ("--witness", W1)),
        (once, dossier(), ("--witness", W2)),
        (notes.signed_note(forked(), aside, 6), dossier(), ()),
    ):
        ran = verify(tmp_path, data, given, *options)
        alone = subprocess.run(
            [*BARE, archive, tmp_path / "dossier", "--genesis", tmp_path / "genesis.json",
             "--checkpoint", tmp_path / "note", *options],
            capture_output=True, text=True, check=False, env={},
        )  # fmt: skip
        assert (alone.returncode, alone.stdout) == (ran.code, ran.out)


def test_options_that_make_no_sense_are_refused_as_usage(tmp_path: Path) -> None:
    note = notes.signed_note(sample(), tmp_path)
    for options in (
        ("--witness", "no key"),
        ("--witness", W1, "--witness", W1),
        ("--witness", W1, "--witnesses", "2"),
        ("--witness", W1, "--witnesses", "0"),
        ("--witnesses", "1"),
    ):
        assert verify(tmp_path, dossier(), note, *options).code == 64
    assert verify(tmp_path, dossier(), None, "--witness", W1).code == 64
    assert verify(tmp_path, dossier(), plain(sample(), 6), "--witness", W1).code == 64
    assert verify(tmp_path, dossier(), str(tmp_path / "nowhere")).code == 64
