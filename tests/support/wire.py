"""Other byte strings for the same MessagePack value, and bit flips: what decoders must refuse."""

from __future__ import annotations

from collections.abc import Iterator


def flipped(data: bytes) -> Iterator[bytes]:
    """Every byte string that differs from `data` in one bit."""
    for position in range(len(data) * 8):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        yield bytes(changed)


def widened(data: bytes) -> Iterator[bytes]:
    """Every variant with exactly one integer, length or count encoded longer than needed."""
    for start, end, longer in _elements(data):
        yield data[:start] + longer + data[end:]


def _elements(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, a longer encoding) of every element's header; strings' contents skipped."""
    at = 0
    while at < len(data):
        first = data[at]
        start = at
        if first <= 0x7F:
            at += 1
            yield start, at, b"\xcc" + data[start:at]
            yield start, at, b"\xd0" + data[start:at]
            yield start, at, b"\xcf" + bytes(7) + data[start:at]
        elif first >= 0xE0:
            at += 1
            yield start, at, b"\xd0" + data[start:at]
        elif 0x90 <= first <= 0x9F:
            at += 1
            yield start, at, b"\xdc\x00" + bytes((first & 0x0F,))
        elif first == 0xDC:
            at += 3
            yield start, at, b"\xdd\x00\x00" + data[start + 1 : at]
        elif 0xA0 <= first <= 0xBF:
            size = first & 0x1F
            yield start, start + 1, b"\xd9" + bytes((size,))
            at += 1 + size
        elif first in (0xC0, 0xC2, 0xC3):
            at += 1
        elif first in (0xC4, 0xC5, 0xD9, 0xDA):
            width = 1 if first in (0xC4, 0xD9) else 2
            size = int.from_bytes(data[start + 1 : start + 1 + width], "big")
            wider = (size).to_bytes(width * 2, "big")
            yield start, start + 1 + width, bytes((first + 1,)) + wider
            at += 1 + width + size
        elif first in (0xCC, 0xCD, 0xCE):
            width = 1 << (first - 0xCC)
            at += 1 + width
            yield start, at, bytes((first + 1,)) + bytes(width) + data[start + 1 : at]
        elif first == 0xCF:
            at += 9
        elif first in (0xD0, 0xD1, 0xD2):
            width = 1 << (first - 0xD0)
            at += 1 + width
            sign = b"\xff" * width if data[start + 1] & 0x80 else bytes(width)
            yield start, at, bytes((first + 1,)) + sign + data[start + 1 : at]
        elif first == 0xD3:
            at += 9
        else:
            raise AssertionError(f"byte 0x{first:02x} at {start} is not used by any format")
