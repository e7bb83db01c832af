"""Signed notes are read byte by byte as C2SP writes them, and a checkpoint has one form only."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest

from node.audit.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    SIGNER,
    WITNESS,
    BadNote,
    Checkpoint,
    NoteKey,
    cosigned_message,
    origin_of,
    parse_checkpoint,
    parse_key,
    parse_note,
    verified,
)
from node.chain.signature import Ed25519Signer
from tests.support import c2sp, world

KEY = Ed25519Signer(sha256(b"a note key").digest())
OTHER = Ed25519Signer(sha256(b"another note key").digest())
CHECKPOINT = Checkpoint(
    origin_of("test-net", world.genesis().chain_id),
    17,
    sha256(b"root").digest(),
    sha256(b"block").digest(),
)
SIGNER_KEY = NoteKey(CHECKPOINT.origin, SIGNER, KEY.public_key)


def line(key: NoteKey, raw: bytes) -> bytes:
    return f"— {key.name} {b64encode(key.id + raw).decode()}\n".encode()


def signed(text: bytes = CHECKPOINT.text, signer: Ed25519Signer = KEY) -> bytes:
    return text + b"\n" + line(SIGNER_KEY, signer.sign_note(text))


# --- what others published ------------------------------------------------------------------------


@pytest.mark.parametrize("vector", c2sp.NOTES, ids=lambda v: v.source)
def test_published_notes_verify_under_the_published_keys(vector: c2sp.Vector) -> None:
    note = parse_note(vector.note)
    assert note.data == vector.note
    keys = [parse_key(text) for text in vector.keys]
    assert [key.text for key in keys] == list(vector.keys)
    found = verified(note, keys)
    assert [each.key for each in found] == keys
    assert [each.time for each in found] == list(vector.times)


@pytest.mark.parametrize("vector", c2sp.NOTES, ids=lambda v: v.source)
def test_a_published_note_with_another_text_is_refused(vector: c2sp.Vector) -> None:
    changed = bytes([vector.note[0] ^ 1]) + vector.note[1:]
    for text in vector.keys:
        with pytest.raises(BadNote, match="does not hold"):
            verified(parse_note(changed), [parse_key(text)])


@pytest.mark.parametrize("text", c2sp.BAD_KEYS)
def test_published_bad_keys_are_refused(text: str) -> None:
    with pytest.raises(BadNote):
        parse_key(text)


def test_the_key_id_of_the_published_cosignature_example_is_the_one_its_lines_carry() -> None:
    note = parse_note(c2sp.COSIGNATURE_EXAMPLE)
    log, witness = note.signatures
    assert (log.name, witness.name) == ("example.com/behind-the-sofa", "witness.example.com/w1")
    assert int.from_bytes(witness.signature[:8], "big") == 1679315147
    assert cosigned_message(note.text, 1679315147) == c2sp.COSIGNED_MESSAGE


# --- signatures -----------------------------------------------------------------------------------


def test_signatures_of_unknown_keys_are_passed_over_and_a_known_one_counts_once() -> None:
    raw = KEY.sign_note(CHECKPOINT.text)
    stranger = NoteKey("a.stranger", SIGNER, OTHER.public_key)
    data = signed() + line(SIGNER_KEY, raw) + line(stranger, bytes(64))
    assert [each.key for each in verified(parse_note(data), [SIGNER_KEY])] == [SIGNER_KEY]
    assert verified(parse_note(data), []) == []


def test_a_key_that_shares_only_name_or_only_id_is_another_key() -> None:
    namesake = NoteKey(CHECKPOINT.origin, SIGNER, OTHER.public_key)
    assert verified(parse_note(signed()), [namesake]) == []


def test_a_witness_signs_time_and_text_under_an_id_of_its_own() -> None:
    witness = NoteKey("auditor.example/w", WITNESS, OTHER.public_key)
    time = 1_700_000_000
    raw = OTHER.sign_note(cosigned_message(CHECKPOINT.text, time))
    data = signed() + line(witness, time.to_bytes(8, "big") + raw)
    [found] = verified(parse_note(data), [witness])
    assert found.time == time
    assert witness.id != NoteKey(witness.name, SIGNER, OTHER.public_key).id
    for wrong in (
        (time + 1).to_bytes(8, "big") + raw,  # another time
        time.to_bytes(8, "big") + OTHER.sign_note(CHECKPOINT.text),  # no time signed
        raw,  # no time at all
        (2**63).to_bytes(8, "big") + raw,
    ):
        with pytest.raises(BadNote):
            verified(parse_note(signed() + line(witness, wrong)), [witness])


# --- shapes ---------------------------------------------------------------------------------------

TEXT, TAIL = CHECKPOINT.text, signed()[len(CHECKPOINT.text) :]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT,
        TEXT + b"\n",
        TEXT + TAIL[1:],  # no empty line
        signed()[:-1],  # no last line break
        signed() + b"\n",
        signed().replace("—".encode(), b"-"),
        signed().replace("— ".encode(), "—".encode()),
        signed().replace(b"\n", b"\r\n"),
        signed().replace(b"nostro", b"no\x00stro", 1),
        signed() + b"\xff",
        signed()[:-3] + b"=\n",
        TEXT + b"\n" + "— a+b AAAAAAA=\n".encode(),
        TEXT + b"\n" + "— a AAAAAA==\n".encode(),  # a key id and no signature
        TEXT + b"\n" + "— a AAAAAAB=\n".encode(),  # a second spelling
        TEXT + b"\n" + "— a AAAAAAA=\n".encode() * (MAX_SIGNATURES + 1),
        TEXT + b"x" * MAX_NOTE_BYTES + TAIL,
    ],
)
def test_what_is_no_note_is_refused(data: bytes) -> None:
    with pytest.raises(BadNote):
        parse_note(data)


def test_a_checkpoint_is_read_as_it_was_written() -> None:
    assert parse_checkpoint(parse_note(signed()).text) == CHECKPOINT


def lines(**changed: bytes) -> bytes:
    origin, size, root, block = TEXT.splitlines()
    parts = {"origin": origin, "size": size, "root": root, "block": block, **changed}
    return b"".join(part + b"\n" for part in parts.values())


@pytest.mark.parametrize(
    "text",
    [
        lines(size=b"017"),
        lines(size=b"-17"),
        lines(size=b"0"),
        lines(size=b"17 "),
        lines(size=b""),
        lines(size="１７".encode()),
        lines(size=b"9" * 19),
        lines(size=b"9" * 5000),
        lines(root=b"AAAA"),
        lines(root=TEXT.splitlines()[2].rstrip(b"=")),
        lines(block=b"block " + b"AB" * 32),
        lines(block=b"ab" * 32),
        lines(block=b"block " + b"ab" * 31),
        lines(extra=b"block " + b"ab" * 32),
        lines(block=b"block " + b" ab" * 32),
        TEXT[: TEXT.rindex(b"block")],
    ],
)
def test_another_form_of_a_checkpoint_is_refused(text: bytes) -> None:
    with pytest.raises(BadNote):
        parse_checkpoint(text)


def test_every_single_bit_of_a_signed_checkpoint_counts() -> None:
    data = signed()
    for at in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        try:
            note = parse_note(bytes(flipped))
            known = verified(note, [SIGNER_KEY])
            said = parse_checkpoint(note.text)
        except BadNote:
            continue
        # A bit of the key's name or id makes it a stranger's signature, which counts for nothing.
        assert not known
        assert said == CHECKPOINT
