"""JSON: a file as tokens, and plain values as a document."""

from __future__ import annotations

from collections.abc import Iterator
from json import dumps, loads
from typing import Any, NoReturn

from ._shapes import DecodeError, decoded


def decode(data: bytes, *, type: Any) -> Any:
    """The value of this type. Raises ValidationError, DecodeError, UnicodeDecodeError,
    RecursionError. Of two equal fields the last one counts."""
    text = data.decode()
    try:
        document = loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise DecodeError(f"JSON is malformed: {error}") from error
    return decoded(_Document(document), type)


def _refuse(word: str) -> NoReturn:
    raise DecodeError(f"JSON is malformed: {word} is no number")


class _Document:
    """Tokens of a document that Python has read."""

    def __init__(self, document: Any) -> None:
        self._tokens = _flat(document)

    def take(self) -> tuple[str, Any]:
        return next(self._tokens)


def _flat(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield "object", len(value)
        for name, each in value.items():
            yield from _flat(name)
            yield from _flat(each)
    elif isinstance(value, list):
        yield "array", len(value)
        for each in value:
            yield from _flat(each)
    elif isinstance(value, str):
        yield "str", _text(value)
    else:
        yield "null" if value is None else type(value).__name__, value


def _text(text: str) -> str:
    """Python reads an escaped half of a surrogate pair as it stands, which no text may hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DecodeError(f"JSON is malformed: {error.reason}") from error
    return text


def encode(value: Any) -> bytes:
    """A document of plain values without blanks."""
    return dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def format(document: bytes, *, indent: int) -> bytes:
    """The document for people: a field a line."""
    return dumps(loads(document), ensure_ascii=False, indent=indent).encode()
