"""Runs in a process of its own that has nothing installed: answers what the archive's modules say.

    python -I -S standalone_driver.py ARCHIVE

One line of JSON in, a list of questions; one line out, the answers. Imports nothing but the
standard library and the archive.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])

import msgspec
from nacl import bindings

from node.chain import encoding, genesis, signature


def decode(module: str, kind: str, data: str) -> list[str]:
    """What `Decoder` says of these bytes: the value, in words and encoded again; or the error."""
    decoder: Any = msgspec.msgpack.Decoder(getattr(importlib.import_module(module), kind))
    try:
        value = decoder.decode(bytes.fromhex(data))
    except encoding.UNDECODABLE as error:
        return [type(error).__name__, str(error)]
    return [
        "value",
        repr(value),
        encoding.encode(value).hex(),
        str(value == decoder.decode(bytes.fromhex(data))),
    ]


def load(data: str) -> list[str]:
    """What a genesis file is, or why it is none."""
    try:
        return ["value", repr(genesis.load_genesis(bytes.fromhex(data)))]
    except genesis.BadGenesis as error:
        return ["BadGenesis", str(error)]


def signed(key: str, message: str, sig: str) -> bool:
    return signature.verify_bytes(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(sig))


def point(key: str) -> bool:
    return bool(bindings.crypto_core_ed25519_is_valid_point(bytes.fromhex(key)))


def document(value: Any) -> str:
    """A JSON document as a command prints it."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


GENESES: dict[str, Any] = {}
"""Genesis files already read, as text: checking the keys in one takes longer than most evidence."""


def verify(data: str, genesis_file: str) -> list[Any]:
    """What `verify_file` says; without the words of each line."""
    from node.audit.verify import check_file, verify_file  # noqa: PLC0415

    evidence, raw = bytes.fromhex(data), bytes.fromhex(genesis_file)
    if genesis_file not in GENESES:
        try:
            GENESES[genesis_file] = genesis.load_genesis(raw)
        except genesis.BadGenesis:
            GENESES[genesis_file] = None
    if GENESES[genesis_file] is None:
        report = verify_file(evidence, raw)
    else:
        report = check_file(evidence, GENESES[genesis_file])
    failed = sorted({line.check for line in report.lines if line.result == "FAIL"})
    return [report.verdict, report.status, failed]


def main() -> None:
    for line in sys.stdin:
        answers = [globals()[name](*given) for name, *given in json.loads(line)]
        print(json.dumps(answers), flush=True)


main()
