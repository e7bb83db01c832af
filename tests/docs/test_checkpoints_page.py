"""The reference page of checkpoints holds the golden note, and names the bounds of the code."""

from __future__ import annotations

from pathlib import Path

from node.audit.checkpoint import RECORD_FORMAT, RECORD_SUFFIX
from node.audit.note import (
    KINDS,
    MAX_NAME,
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    parse_checkpoint,
    parse_key,
    parse_note,
    verified,
)
from node.storage import heads
from tests.support.golden_notes import CHECKPOINT, TIME, golden, page

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "checkpoints.md").read_text()


def test_the_golden_note_stands_in_the_page_byte_for_byte() -> None:
    assert f"```text\n{page()}```\n" in PAGE


def test_a_stranger_who_has_the_page_alone_reads_the_note() -> None:
    vector = PAGE[PAGE.index("```text\n") + len("```text\n") : PAGE.rindex("```")]
    head, _, data = vector.partition("\n\n")
    keys = [parse_key(line.split()[-1]) for line in head.splitlines() if "vkey" in line]
    note = parse_note(data.encode())
    assert [(each.key, each.time) for each in verified(note, keys)] == [
        (golden().signer, None),
        (golden().witness, TIME),
    ]
    assert parse_checkpoint(note.text) == CHECKPOINT


def test_bounds_types_and_formats_in_the_page_are_those_of_the_code() -> None:
    assert f"at most {MAX_NOTE_BYTES:,} bytes and {MAX_SIGNATURES} signatures" in PAGE
    assert f"1 to {MAX_NAME} characters" in PAGE
    for kind, name in KINDS.items():
        assert f"| {kind:#04x} | {name} |" in PAGE
    assert RECORD_FORMAT in PAGE
    assert f"KEYFILE{RECORD_SUFFIX}" in PAGE
    assert heads.FORMAT.decode() in PAGE
    assert f"{heads.RECORD_BYTES} bytes a height" in PAGE
