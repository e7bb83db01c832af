"""What stands in for msgspec and libsodium in the archive says what they say."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Iterator
from hashlib import sha512
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from node.chain.encoding import UNDECODABLE, encode
from node.chain.genesis import BadGenesis, load_genesis
from node.chain.signature import verify_bytes
from tests.support import body_strategies, golden, world
from tests.support.standalone import Standalone, standalone, write_archive

MODULES = (
    "consensus.messages",
    "node.chain.types",
    "node.chain.records",
    "node.chain.state_map",
    "node.audit.dossier",
    "node.audit.epochs",
    "node.audit.proofs",
)
KINDS: dict[str, type[msgspec.Struct]] = {
    f"{module}:{name}": kind
    for module in MODULES
    for name, kind in vars(importlib.import_module(module)).items()
    if isinstance(kind, type)
    and issubclass(kind, msgspec.Struct)
    and kind.__module__ == module
    and kind.__struct_config__.array_like
    and not name.startswith("_")
}
MUTATIONS = 8
"""Of each value's bytes."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    with standalone(write_archive(tmp_path_factory.mktemp("archive"))) as process:
        yield process


# --- msgspec ----------------------------------------------------------------------------------


def decoded(kind: type[msgspec.Struct], data: bytes) -> list[str] | None:
    """What msgspec makes of the bytes, in words and encoded again; None: it refuses them."""
    try:
        value = msgspec.msgpack.decode(data, type=kind)
    except UNDECODABLE:
        return None
    return ["value", repr(value), encode(value).hex(), "True"]


def mutated(data: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(data))
    return source.choice(
        (
            data[:at] + bytes((data[at] ^ 1 << source.randrange(8),)) + data[at + 1 :],
            data[:at] + source.randbytes(1) + data[at + 1 :],
            data[:at] + source.randbytes(1) + data[at:],
            data[:at] + b"\xcc" + data[at:],  # a small number, one byte longer than it needs
            data[:at] + data[at + 1 :],
            data[:at],
            data + b"\x00",
        )
    )


def compare(archive: Standalone, name: str, samples: list[bytes]) -> int:
    """Hold each sample's decoding to msgspec's; how many were decoded."""
    module, _, kind = name.partition(":")
    answers = archive.ask([("decode", module, kind, sample.hex()) for sample in samples])
    for sample, (word, *said) in zip(samples, answers, strict=True):
        found = [word, *said] if word == "value" else None
        assert found == decoded(KINDS[name], sample), (name, sample.hex(), word, said)
    return sum(word == "value" for word, *_ in answers)


def test_no_canonical_type_is_left_out() -> None:
    assert len(KINDS) > 190


@settings(max_examples=350, deadline=None)
@given(data=st.data())
def test_values_of_every_type_are_read_and_refused_as_msgspec_does(
    archive: Standalone, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(KINDS)))
    value = data.draw(body_strategies.values(KINDS[name]))
    source = data.draw(st.randoms(use_true_random=False))
    sound = encode(value)
    samples = [sound, *(mutated(sound, source) for _ in range(MUTATIONS))]
    assert compare(archive, name, samples) >= 1


def test_golden_bytes_and_their_every_truncation_are_read_as_msgspec_does(
    archive: Standalone,
) -> None:
    vectors = json.loads(golden.PATH.read_text())["encodings"]
    names = {kind.__struct_config__.tag: name for name, kind in KINDS.items()}
    seen = 0
    for raw in map(bytes.fromhex, vectors.values()):
        tag = raw[2 : 2 + (raw[1] & 0x1F)].decode(errors="replace")
        if tag in names:
            step = max(len(raw) // 40, 1)
            cut = [raw[:end] for end in range(0, len(raw), step)]
            assert compare(archive, names[tag], [raw, *cut]) == 1
            seen += 1
    assert seen > 100


HOSTILE = {
    "an array that claims 4 billion elements": b"\x92\xdd\xff\xff\xff\xff\x00",
    "bytes that claim 4 GiB": b"\xc6\xff\xff\xff\xff",
    "a million arrays in each other": b"\x91" * 1_000_000,
    "a million objects in each other": b"\x81" * 1_000_000,
    "an extension type": b"\x91\xc7\x00\x05",
    "an opcode that there is none of": b"\xc1",
    "nothing": b"",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_bytes_that_promise_more_than_they_hold_are_refused_at_once(
    archive: Standalone, what: str
) -> None:
    for name in ("node.audit.dossier:Dossier", "node.chain.types:Payment"):
        assert compare(archive, name, [HOSTILE[what]]) == 0


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(documents=st.lists(PLAIN, min_size=1, max_size=5))
def test_documents_are_printed_as_msgspec_prints_them(
    archive: Standalone, documents: list[Any]
) -> None:
    for each, printed in zip(
        documents, archive.ask([("document", each) for each in documents]), strict=True
    ):
        assert printed == msgspec.json.format(msgspec.json.encode(each), indent=2).decode()


def genesis_variants(sound: bytes) -> Iterator[bytes]:
    """A genesis file, and what is wrong with it in the ways of JSON."""
    yield sound
    yield sound.replace(b'"devnet": true', b'"devnet": 1')
    yield sound.replace(b'"devnet": true', b'"devnet": true, "extra": 1')
    yield sound.replace(b'"exponent": 2', b'"exponent": 2.0')
    yield sound.replace(b'"exponent": 2', b'"exponent": 9')
    yield sound.replace(b'"exponent": 2', b'"exponent": -1')
    yield sound.replace(b'"exponent": 2', b'"exponent": NaN')
    yield sound.replace(b'"exponent": 2', b'"exponent": ' + b"1" * 40)
    yield sound.replace(b'"threshold"', b'"treshold"', 1)
    yield sound.replace(b'"roles": [', b'"roles": [null, ', 1)
    yield sound.replace(b'"name": "', b'"name": "\\ud800', 1)
    yield sound.replace(b'"name": "', b'"name": "\\u0041', 1)
    yield sound.replace(b'"name": "', b'"name": "\t', 1)
    yield sound.replace(b'"name": "', b'"name": "\xff', 1)
    yield b"\xef\xbb\xbf" + sound
    yield sound.decode().encode("utf-16")
    yield sound + b"x"
    yield sound[:-3]
    yield b"[" * 100_000
    yield b""
    yield b"{}"
    yield b"null"


def test_genesis_files_are_read_and_refused_alike(archive: Standalone) -> None:
    samples = list(genesis_variants(world.genesis_bytes()))
    for sample, (word, said) in zip(
        samples, archive.ask([("load", sample.hex()) for sample in samples]), strict=True
    ):
        try:
            expected = repr(load_genesis(sample))
        except BadGenesis:
            assert word == "BadGenesis", sample[:80]
        else:
            assert (word, said) == ("value", expected)


# --- libsodium --------------------------------------------------------------------------------

ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19
ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
SMALL = tuple(
    map(
        bytes.fromhex,
        (
            "01" + 31 * "00",
            "00" * 32,
            "00" * 31 + "80",
            ORDER_8,
            ORDER_8[:-2] + "85",
            "ec" + 30 * "ff" + "7f",
        ),
    )
)
"""Points of order 1, 4, 4, 8, 8 and 2."""
Signed = tuple[bytes, bytes, bytes]
"""Key, message, signature."""


def agree(archive: Standalone, cases: list[Signed]) -> int:
    """Hold each decision to libsodium's; how many were accepted."""
    found = archive.ask([("signed", *(part.hex() for part in case)) for case in cases])
    for case, accepted in zip(cases, found, strict=True):
        assert accepted is verify_bytes(*case), [part.hex() for part in case]
    keys = [case[0] for case in cases if len(case[0]) == 32]
    for key, sound in zip(keys, archive.ask([("point", key.hex()) for key in keys]), strict=True):
        assert sound is bool(bindings.crypto_core_ed25519_is_valid_point(key)), key.hex()
    return sum(found)


def test_every_published_vector_is_decided_as_libsodium_decides_it(archive: Standalone) -> None:
    vectors = Path(golden.PATH).parent
    cctv = json.loads((vectors / "cctv_ed25519.json").read_text())
    cases = [(bytes.fromhex(v["key"]), v["msg"].encode(), bytes.fromhex(v["sig"])) for v in cctv]
    assert (len(cases), agree(archive, cases)) == (914, 43)
    groups = json.loads((vectors / "wycheproof_ed25519.json").read_text())["testGroups"]
    tests = [(group["publicKey"]["pk"], test) for group in groups for test in group["tests"]]
    cases = [
        (bytes.fromhex(key), bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
        for key, test in tests
    ]
    sound = sum(test["result"] == "valid" for _, test in tests)
    assert (len(cases), agree(archive, cases)) == (151, sound)


def scalar(number: int) -> bytes:
    return (number % ORDER).to_bytes(32, "little")


def odd_signature(source: random.Random) -> Signed:
    """One whose key and R may each have a small part added: it may hold with the cofactor, without
    it, or not at all, and S or the encodings may be in another form."""
    secret, nonce = source.randrange(1, ORDER), source.randrange(1, ORDER)
    key = bindings.crypto_scalarmult_ed25519_base_noclamp(scalar(secret))
    r = bindings.crypto_scalarmult_ed25519_base_noclamp(scalar(nonce))
    if source.random() < 0.5:
        key = bindings.crypto_core_ed25519_add(key, source.choice(SMALL))
    if source.random() < 0.5:
        r = bindings.crypto_core_ed25519_add(r, source.choice(SMALL))
    if source.random() < 0.1:
        key = source.choice(SMALL)
    if source.random() < 0.1:
        r = source.choice(SMALL)
    message = source.randbytes(source.randrange(40))
    h = int.from_bytes(sha512(r + key + message).digest(), "little")
    s = (nonce + h * secret) % ORDER
    if source.random() < 0.1:
        s += ORDER
    signature = r + s.to_bytes(32, "little")
    if source.random() < 0.1:
        key = bytes(source.choice((key[:31], key + b"\x00", key[:31] + bytes((key[31] ^ 0x80,)))))
    if source.random() < 0.1:
        # y ≥ p: the 19 numbers that have two encodings of 255 bits
        key = (PRIME + source.randrange(19)).to_bytes(32, "little")
    return key, message, signature


def flipped(case: Signed, source: random.Random) -> Signed:
    parts = list(case)
    at = source.choice([index for index, part in enumerate(parts) if part])
    bit = source.randrange(8 * len(parts[at]))
    number = int.from_bytes(parts[at], "little") ^ 1 << bit
    parts[at] = number.to_bytes(len(parts[at]), "little")
    return parts[0], parts[1], parts[2]


@settings(max_examples=120, deadline=None)
@given(source=st.randoms(use_true_random=False))
def test_signatures_with_small_parts_odd_forms_and_flipped_bits_are_decided_alike(
    archive: Standalone, source: random.Random
) -> None:
    cases = [odd_signature(source) for _ in range(12)]
    agree(archive, [*cases, *(flipped(case, source) for case in cases)])


def test_that_sample_has_signatures_of_both_sorts(archive: Standalone) -> None:
    source = random.Random(1)
    cases = [odd_signature(source) for _ in range(200)]
    assert 20 < agree(archive, cases) < 180


@settings(max_examples=10, deadline=None)
@given(points=st.lists(st.binary(min_size=32, max_size=32), min_size=40, max_size=40))
def test_points_are_sound_or_not_as_for_libsodium(archive: Standalone, points: list[bytes]) -> None:
    agree(archive, [(point, b"", bytes(64)) for point in points])
