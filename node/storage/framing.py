"""Bytes of a log segment: a header, then frames, one frame per fsync.

The invariant that recovery rests on: a frame is written only after the one before it was synced.
So a crash can leave at most *one* incomplete frame, the last; it is cut. A frame that fails its
checksum with any valid frame behind it was durable once, hence damage, hence refused.

    header   "nostro-segment/1" · salt 16 · binding 32 · first number 8 · identity 8 · check 16
    frame    marker 8 · number 8 · length 4 · check 16 · payload: (length 4 · record) …

Checks are SHA-256, cut to 16 bytes, over the segment's salt and all they cover. Salt and marker
are unpredictable: a peer whose block we journal could otherwise plant bytes in it that look like
a valid frame, and turn a harmless torn tail into a refusal to start. `binding` says whose log
this is (chain and key); `identity` tells the file from every
other (`Disk.identity`), by which a copy betrays itself.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

MAGIC = b"nostro-segment/1"
SALT_BYTES = 16
BINDING_BYTES = 32
CHECK_BYTES = 16
MAX_RECORD_BYTES = 64 * 2**20
"""Bound on one record: the largest block body with room to spare."""
MAX_FRAME_BYTES = 1024 * 2**20
"""Bound on one frame's payload: everything a rotation keeps above the floor."""

_HEADER = struct.Struct(f">16s{SALT_BYTES}s{BINDING_BYTES}sQQ{CHECK_BYTES}s")
HEADER_BYTES = _HEADER.size
_FRAME = struct.Struct(f">8sQL{CHECK_BYTES}s")
FRAME_HEADER_BYTES = _FRAME.size
_LENGTH = struct.Struct(">L")


class FrameDamage(Exception):
    """Bytes that no crash can have left; `offset` from the start of the file."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what, offset)
        self.what = what
        self.offset = offset


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    salt: bytes
    binding: bytes
    first: int
    """Number of the first frame; numbers go on across segments."""
    identity: int
    """`Disk.identity` of the file it was written to."""

    def encode(self) -> bytes:
        fields = (MAGIC, self.salt, self.binding, self.first, self.identity)
        return _HEADER.pack(*fields, _header_check(_HEADER.pack(*fields, b"")))

    def marker(self) -> bytes:
        return hashlib.sha256(b"marker" + self.salt).digest()[:8]


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment holds."""

    header: SegmentHeader
    records: list[bytes]
    last: int
    """Number of the last valid frame; `header.first − 1` if there is none."""
    end: int
    """Offset behind the last valid frame."""
    torn: int
    """Bytes behind it: an incomplete last frame."""


def _header_check(packed: bytes) -> bytes:
    return hashlib.sha256(packed[:-CHECK_BYTES]).digest()[:CHECK_BYTES]


def encode_frame(header: SegmentHeader, number: int, records: Sequence[bytes]) -> list[bytes]:
    """The frame in parts, so that megabytes of bodies are hashed and written, never joined."""
    parts = [b""]
    for record in records:
        assert len(record) <= MAX_RECORD_BYTES, "a record above its bound"
        parts.append(_LENGTH.pack(len(record)))
        parts.append(record)
    length = sum(map(len, parts))
    assert length <= MAX_FRAME_BYTES, "a frame above its bound"
    check = hashlib.sha256(header.salt + number.to_bytes(8, "big") + _LENGTH.pack(length))
    for part in parts:
        check.update(part)
    parts[0] = _FRAME.pack(header.marker(), number, length, check.digest()[:CHECK_BYTES])
    return parts


def decode_header(data: bytes) -> SegmentHeader:
    """Raises FrameDamage."""
    if len(data) < HEADER_BYTES:
        raise FrameDamage("the segment is shorter than its header", len(data))
    magic, salt, binding, first, identity, check = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FrameDamage(f"not a segment of this format ({magic!r})", 0)
    if check != _header_check(data[:HEADER_BYTES]):
        raise FrameDamage("the segment's header fails its checksum", 0)
    return SegmentHeader(salt, binding, first, identity)


def scan(data: bytes) -> Scan:
    """Read a whole segment; a torn tail is measured, not returned.

    Raises FrameDamage for anything else."""
    header = decode_header(data)
    records: list[bytes] = []
    offset = HEADER_BYTES
    number = header.first
    while offset < len(data):
        payload = _payload_at(header, data, offset, number)
        if payload is None:
            _assert_tail(header, data, offset, number)
            break
        start, end = payload
        records += _split(data, start, end)
        offset = end
        number += 1
    return Scan(header, records, number - 1, offset, len(data) - offset)


def _payload_at(
    header: SegmentHeader, data: bytes, offset: int, number: int | None
) -> tuple[int, int] | None:
    """Where the payload of a valid frame at `offset` is; None if there is no such frame.

    `number` None accepts any."""
    start = offset + FRAME_HEADER_BYTES
    if start > len(data):
        return None
    marker, found, length, check = _FRAME.unpack_from(data, offset)
    end = start + length
    if marker != header.marker() or length > MAX_FRAME_BYTES or end > len(data):
        return None
    if number is not None and found != number:
        return None
    hasher = hashlib.sha256(header.salt + found.to_bytes(8, "big") + _LENGTH.pack(length))
    hasher.update(memoryview(data)[start:end])
    return (start, end) if hasher.digest()[:CHECK_BYTES] == check else None


def _assert_tail(header: SegmentHeader, data: bytes, offset: int, number: int) -> None:
    """Raises FrameDamage if a valid frame stands anywhere behind the bad one at `offset`."""
    marker = header.marker()
    at = data.find(marker, offset)
    while at >= 0:
        if _payload_at(header, data, at, None) is not None:
            raise FrameDamage(
                f"frame {number} is damaged, yet a valid frame follows at offset {at}", offset
            )
        at = data.find(marker, at + 1)


def _split(data: bytes, start: int, end: int) -> list[bytes]:
    """The records of a payload whose checksum is right: a wrong length is our own bug."""
    records = []
    while start < end:
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        assert start + length <= end, "a checked frame splits into its records"
        records.append(data[start : start + length])
        start += length
    return records
