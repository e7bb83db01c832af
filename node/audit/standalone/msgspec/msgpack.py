"""MessagePack: a file as tokens, and values as the shortest bytes that mean them."""

from __future__ import annotations

from struct import unpack_from
from typing import Any, Generic, TypeVar

from ._shapes import DecodeError, decoded
from ._struct import Struct, values

T = TypeVar("T")

_FIXED: dict[int, tuple[str, Any]] = {
    0xC0: ("null", None),
    0xC2: ("bool", False),
    0xC3: ("bool", True),
}
_NUMBERS = {
    0xCA: ("float", ">f", 4),
    0xCB: ("float", ">d", 8),
    0xCC: ("int", ">B", 1),
    0xCD: ("int", ">H", 2),
    0xCE: ("int", ">I", 4),
    0xCF: ("int", ">Q", 8),
    0xD0: ("int", ">b", 1),
    0xD1: ("int", ">h", 2),
    0xD2: ("int", ">i", 4),
    0xD3: ("int", ">q", 8),
}
_SIZED = {
    0xC4: ("bytes", 1),
    0xC5: ("bytes", 2),
    0xC6: ("bytes", 4),
    0xD9: ("str", 1),
    0xDA: ("str", 2),
    0xDB: ("str", 4),
    0xDC: ("array", 2),
    0xDD: ("array", 4),
    0xDE: ("object", 2),
    0xDF: ("object", 4),
}
"""Opcode → kind, and bytes of the length that follows."""
_EXTENSIONS = {0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8}


class _Reader:
    """Tokens of MessagePack."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self) -> tuple[str, Any]:
        code = self._bytes(1)[0]
        if code < 0x80:
            return "int", code
        if code >= 0xE0:
            return "int", code - 0x100
        if code < 0x90:
            return "object", code & 0x0F
        if code < 0xA0:
            return "array", code & 0x0F
        if code < 0xC0:
            return "str", self._bytes(code & 0x1F).decode()
        if code in _FIXED:
            return _FIXED[code]
        if code in _NUMBERS:
            kind, form, size = _NUMBERS[code]
            return kind, unpack_from(form, self._bytes(size))[0]
        if code in _SIZED:
            return self._sized(*_SIZED[code])
        if code in _EXTENSIONS:
            return "ext", None
        raise DecodeError(
            f"MessagePack data is malformed: invalid opcode '\\x{code:02x}' (byte {self._at - 1})"
        )

    def _sized(self, kind: str, width: int) -> tuple[str, Any]:
        size = int.from_bytes(self._bytes(width), "big")
        if kind == "bytes":
            return kind, self._bytes(size)
        return kind, self._bytes(size).decode() if kind == "str" else size

    def _bytes(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise DecodeError("Input data was truncated")
        found = self._data[self._at : end]
        self._at = end
        return found

    def check_end(self) -> None:
        if self._at < len(self._data):
            raise DecodeError(
                f"MessagePack data is malformed: trailing characters (byte {self._at})"
            )


class Decoder(Generic[T]):
    """Decodes values of one type."""

    def __init__(self, type: Any) -> None:
        self._type = type

    def decode(self, data: bytes) -> T:
        """Raises ValidationError, DecodeError, UnicodeDecodeError."""
        reader = _Reader(data)
        value: T = decoded(reader, self._type)
        reader.check_end()
        return value


class Encoder:
    """Encodes Structs that are arrays, tuples and scalars."""

    def encode(self, value: Any) -> bytes:
        """The bytes of the value, each number and length as short as can be."""
        into: list[bytes] = []
        _write(value, into)
        return b"".join(into)


def _write(value: Any, into: list[bytes]) -> None:
    if isinstance(value, Struct):
        _write_struct(value, into)
    elif isinstance(value, bytes):
        into += (_header(len(value), 0xC4, 0xC5, 0xC6), value)
    elif isinstance(value, str):
        text = value.encode()
        size = len(text)
        into += (bytes((0xA0 | size,)) if size < 32 else _header(size, 0xD9, 0xDA, 0xDB), text)
    elif value is None:
        into.append(b"\xc0")
    elif isinstance(value, bool):
        into.append(b"\xc3" if value else b"\xc2")
    elif isinstance(value, int):
        into.append(_integer(value))
    elif isinstance(value, tuple | list):
        into.append(_array(len(value)))
        for each in value:
            _write(each, into)
    else:
        raise TypeError(f"nothing here encodes a {type(value).__name__}")


def _write_struct(value: Struct, into: list[bytes]) -> None:
    config = value.__struct_config__
    if not config.array_like:
        raise TypeError(f"nothing here encodes a {type(value).__name__}")
    fields = values(value)
    if config.tag is not None:
        fields.insert(0, config.tag)
    _write(fields, into)


def _array(count: int) -> bytes:
    return bytes((0x90 | count,)) if count < 16 else _header(count, None, 0xDC, 0xDD)


def _header(size: int, *codes: int | None) -> bytes:
    """The shortest of three: opcode and length, in 1, 2 or 4 bytes."""
    for code, width in zip(codes, (1, 2, 4), strict=True):
        if code is not None and size < 1 << 8 * width:
            return bytes((code,)) + size.to_bytes(width, "big")
    raise ValueError(f"{size:,} bytes or elements are too many")


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return bytes((value & 0xFF,))
    for code, width in enumerate((1, 2, 4, 8)):
        if 0 <= value < 1 << 8 * width:
            return bytes((0xCC + code,)) + value.to_bytes(width, "big")
        if value < 0 and value >= -(1 << 8 * width - 1):
            return bytes((0xD0 + code,)) + value.to_bytes(width, "big", signed=True)
    raise OverflowError("can't serialize ints < -2**63 or > 2**64 - 1")
