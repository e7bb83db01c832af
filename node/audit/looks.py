"""What a file seems to be that is not what was asked for: a hint for whoever mixed files up."""

from __future__ import annotations

from node.audit.proofs import tag_of

_KINDS = {
    "dossier": "a dossier",
    "fork": "the proof of a fork",
    "equivocation-proof": "the proof of an equivocation",
    "balance": "a proof of balance",
    "absence": "a proof of absence",
    "receipt": "a node's receipt",
    "block": "a block",
    "instruction": "an instruction",
}
_BEGINNINGS = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive: unpack it first"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"<", "a web page or XML document"),
)
_SEEN = 4_096
"""Bytes of the beginning that are looked at."""


def looks_like(data: bytes) -> str | None:
    """A few words for what a file seems to be; None: nothing known."""
    tag = tag_of(data)
    if tag is not None:
        name = tag.partition("/")[0]
        return _KINDS.get(name)
    head = data[:_SEEN]
    for beginning, words in _BEGINNINGS:
        if head.startswith(beginning):
            return words
    text = head.lstrip()
    if text.startswith((b"{", b"[")):
        if b'"nostro-genesis/' in head:
            return "a genesis file"
        return "JSON, perhaps what a command or the API printed"
    if head and all(byte in b"0123456789abcdefABCDEF\r\n" for byte in head):
        return "hexadecimal digits: turn them into bytes first"
    return None
