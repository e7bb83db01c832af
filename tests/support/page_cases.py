"""Inputs that verify.html must judge as Python does, besides the evidence that all verifiers share.

Values in MessagePack have several encodings, and a file of JSON can be read in several ways; the
page has decoders of its own, so both are tried one value at a time.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from copy import deepcopy
from hashlib import sha256
from typing import Any

from node.audit.note import Checkpoint, origin_of
from node.chain.block import header_digest
from tests.support.evidence_world import evidence_world

_INTEGERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}


def other_encodings(data: bytes) -> Iterator[bytes]:
    """The file with one value encoded otherwise: a longer integer or length, text for bytes."""
    for at, end, length in _heads(data):
        for head in _longer(data[at], length):
            yield data[:at] + head + data[end:]


def _heads(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(from, to, number or length) of each value's head, in the order of the file."""
    at = 0
    while at < len(data):
        first = data[at]
        if first < 0x80 or first >= 0xE0 or 0xC0 <= first <= 0xC3:
            number, end, skipped = first, at + 1, 0
        elif first < 0xA0:
            number, end, skipped = first & 0x0F, at + 1, 0
        elif first < 0xC0:
            number, end = first & 0x1F, at + 1
            skipped = number
        else:
            size = _INTEGERS.get(first) or _LENGTHS.get(first) or _ARRAYS[first]
            end = at + 1 + size
            number = int.from_bytes(data[at + 1 : end], "big")
            skipped = number if first in _LENGTHS else 0
        yield at, end, number
        at = end + skipped


def _longer(first: int, number: int) -> Iterator[bytes]:
    def forms(*codes: int) -> Iterator[bytes]:
        for code, size in zip(codes, (1, 2, 4, 8), strict=False):
            if code and number < 1 << (8 * size):
                yield bytes((code,)) + number.to_bytes(size, "big")

    if first < 0x80:
        yield from forms(0xCC, 0xCD, 0xCE, 0xCF)
        yield from forms(0xD0, 0xD1, 0xD2, 0xD3)
        yield bytes((0xCB,)) + b"\x00" * 8
    elif first < 0xA0:
        yield from forms(0, 0xDC, 0xDD)
    elif first < 0xC0:
        yield from forms(0xD9, 0xDA, 0xDB)
        yield from forms(0xC4, 0xC5, 0xC6)
    elif first in (0xC4, 0xC5):
        yield from forms(0, 0xC5, 0xC6) if first == 0xC4 else forms(0, 0, 0xC6)
        yield from forms(0xD9, 0xDA)
    elif first in _INTEGERS and first < 0xCF:
        yield from (form for form in forms(0, 0xCD, 0xCE, 0xCF) if form[0] > first)
        yield from forms(0, 0xD1, 0xD2, 0xD3)


# --- genesis files --------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], None]


def genesis_variants(good: bytes) -> Iterator[tuple[str, bytes]]:
    """(what it shows, bytes) of genesis files, sound ones among them."""
    text = good.decode()
    yield from _texts(text)
    for what, change in _CHANGES.items():
        document = deepcopy(json.loads(text))
        change(document)
        yield what, json.dumps(document).encode()


def _texts(text: str) -> Iterator[tuple[str, bytes]]:
    start = text.index("{") + 1
    yield "as it is", text.encode()
    yield "more space", f" \t\r\n{text}\n\n".encode()
    yield "a byte order mark", b"\xef\xbb\xbf" + text.encode()
    yield "UTF-16", text.encode("utf-16")
    yield "cut short", text[:-3].encode()
    yield "something after", f"{text} null".encode()
    yield "a field twice", f'{text[:start]}"network":"other",{text[start:]}'.encode()
    yield (
        "a field twice, once in escapes",
        (f'{text[:start]}"netwo\\u0072k":"other",{text[start:]}'.encode()),
    )
    yield "a name in escapes", text.replace('"network"', '"netwo\\u0072k"', 1).encode()
    yield "a comma too many", f"{text[:start]},{text[start:]}".encode()
    for number in ("1.0", "1e3", "-0", "01", "+1", "0x1", "NaN", "1" * 5000, '"1"', "-1", "true"):
        changed = text.replace('"devnet": true', f'"devnet": true, "nothing": {number}', 1)
        yield f"an unknown field of {number[:8]}", changed.encode()
    for name in ("time", "exponent", "threshold"):
        before, _, after = text.partition(f'"{name}": ')
        digits = len(after) - len(after.lstrip("0123456789"))
        for number in ("1.0", "1e1", "-1", "null", "true", '"1"', "01", "9" * 30, after[:digits]):
            yield f"{name} of {number[:8]}", f'{before}"{name}": {number}{after[digits:]}'.encode()
    yield "not UTF-8", text.replace("BANKA", "BANK\udcff", 1).encode("utf-8", "surrogateescape")
    yield "deep", b"[" * 100_000
    yield "deep objects", b'{"a":' * 5_000
    yield "empty", b""
    yield "an array", b"[]"
    yield "a text", b'"nostro-genesis/1"'


def _put(*path: Any, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def _copy(path: tuple[Any, ...], source: tuple[Any, ...]) -> Change:
    def change(document: dict[str, Any]) -> None:
        value: Any = document
        for step in source:
            value = value[step]
        _put(*path, value=value)(document)

    return change


def _lack(*path: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


_FIRST = ("participants", 0)
_KEY = (*_FIRST, "keys", 0)
_CHANGES: dict[str, Change] = {
    "nothing changed": lambda document: None,
    "another format": _put("format", value="nostro-genesis/2"),
    "no network": _lack("network"),
    "an odd network": _put("network", value="two words"),
    "another network": _put("network", value="other"),
    "a line break in the network": _put("network", value="test\n"),
    "an early time": _put("time", value=0),
    "a late time": _put("time", value=2**63),
    "a flag as a number": _put("devnet", value=1),
    "no parameters": _lack("parameters"),
    "parameters by default": _put("parameters", value={}),
    "too high a threshold": _put("parameters", "governance_threshold", value=900),
    "no such close rule": _put("parameters", "close_rule", value="never"),
    "a close rule": _put("parameters", "close_rule", value="roll-over"),
    "a null close rule": _put("parameters", "close_rule", value=None),
    "no assets": _put("assets", value=[]),
    "an asset twice": _copy(("assets", 0, "code"), ("assets", 1, "code")),
    "an asset of nobody": _put("assets", 0, "issuer", value="9845TEST000000009917"),
    "an asset of one without the role": _copy(("assets", 0, "issuer"), ("participants", 3, "lei")),
    "a name twice": _copy((*_FIRST, "name"), ("participants", 1, "name")),
    "a BIC as a name": _copy((*_FIRST, "name"), ("participants", 1, "bic")),
    "an own BIC as a name": _copy((*_FIRST, "name"), (*_FIRST, "bic")),
    "a LEI twice": _copy((*_FIRST, "lei"), ("participants", 1, "lei")),
    "a short LEI": _put(*_FIRST, "lei", value="9845"),
    "an unknown role": _put(*_FIRST, "roles", value=["king"]),
    "a role twice": _put(*_FIRST, "roles", value=["issuer", "issuer"]),
    "too high a policy": _put(*_FIRST, "threshold", value=32),
    "a sponsor of a direct one": _copy((*_FIRST, "sponsor"), ("participants", 3, "lei")),
    "a null sponsor": _put(*_FIRST, "sponsor", value=None),
    "an indirect one without a sponsor": _put(
        "participants", 3, "roles", value=["indirect-participant"]
    ),
    "no keys": _put(*_FIRST, "keys", value=[]),
    "a key of zeros": _put(*_KEY, "public_key", value="00" * 32),
    "a key in capitals": _put(*_KEY, "public_key", value="AA" * 32),
    "a key of low order": _put(*_KEY, "public_key", value="01" + "00" * 31),
    "no possession": _put(*_KEY, "possession", value="00" * 64),
    "another's possession": _copy(
        (*_KEY, "possession"), ("participants", 1, "keys", 0, "possession")
    ),
    "another's key": _copy((*_KEY, "public_key"), ("participants", 1, "keys", 0, "public_key")),
    "no validators": _put("validators", value=[]),
    "a validator of nobody": _put("validators", 0, "operator", value="9845TEST000000009917"),
    "a validator twice": _copy(("validators", 0, "name"), ("validators", 1, "name")),
    "one key for votes and node": _copy(
        ("validators", 0, "vote_key"), ("validators", 0, "node_key")
    ),
    "an address": _put("validators", 0, "address", value="node.example:9000"),
    "a port too high": _put("validators", 0, "address", value="node.example:65536"),
    "an empty address": _put("validators", 0, "address", value=""),
    "a validator without a name": _lack("validators", 0, "name"),
    "cycles of nothing": _put("netting", value=[{"asset": "XXX", "funding_ms": 0}]),
    "cycles": _put("netting", value=[{"asset": "EUR", "funding_ms": 0}]),
    "cycles twice": _put("netting", value=[{"asset": "EUR", "funding_ms": 0}] * 2),
    "a member of no cycles": _put(
        "members",
        value=[
            {
                "participant": "9845TEST000000000396",
                "asset": "CNY",
                "cap": 0,
                "margin": 0,
                "contribution": 0,
            }
        ],
    ),
    "a day too early": _put("schedule", value=[{"date": 20250101, "begins": [0, 1, 2, 3, 4]}]),
    "a policy of nobody": _put("policies", value=[{"participant": "9845TEST000000009917"}]),
}


# --- checkpoints ----------------------------------------------------------------------------------


def checkpoint_notes() -> Iterator[tuple[str, bytes]]:
    """Checkpoints, sound and not, as signed notes."""
    genesis, store = evidence_world().members.genesis, evidence_world().store
    signature = "\n\u2014 witness " + b64encode(bytes(68)).decode() + "\n"

    def note(height: int, *, other: bool = False, origin: str = "") -> bytes:
        header = store.header(height)
        assert header is not None
        digest = sha256(b"another block").digest() if other else header_digest(header)
        named = origin or origin_of(genesis.network, genesis.chain_id)
        text = Checkpoint(named, height, header.history_root, digest).text
        return text + signature.encode()

    top = store.height()
    assert top is not None
    for height in (2, 5, top - 1, top):
        yield f"of height {height}", note(height)
        yield f"of height {height}, another block", note(height, other=True)
    good = note(top)
    text, _, below = good.decode().partition("\n\n")
    yield "of a later height", note(top).replace(f"\n{top}\n".encode(), f"\n{top + 9}\n".encode())
    yield "of another chain", note(top, origin=f"nostro/test/{'00' * 32}")
    yield "a height with a zero", good.replace(f"\n{top}\n".encode(), f"\n0{top}\n".encode())
    yield "a root of other spelling", good.replace(b"=\n", b"\n", 1)
    yield "without signatures", f"{text}\n".encode()
    yield "without a line break at its end", good[:-1]
    yield "a line more", f"{text}\nmore\n\n{below}".encode()
    yield "capital digits", f"{text[:-64]}{text[-64:].upper()}\n\n{below}".encode()
    yield "a control character", good.replace(b"witness", b"wit\x07ness")
    yield "windows", good.replace(b"\n", b"\r\n")
    yield "a short signature", f"{text}\n\n\u2014 witness AAAA\n".encode()
    yield "two signatures", good + good.partition(b"\n\n")[2]
    yield "empty", b""
    yield "the genesis file", evidence_world().members.genesis_bytes
