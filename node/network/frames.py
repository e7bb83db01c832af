"""The bytes on a link: frames of parts, and the hello that opens it.

A frame is one binary WebSocket message and holds one or more parts:

    part = tag (1 byte) ‖ length (4 bytes, big endian) ‖ bytes
    tag  = channel + 0x40 for the last chunk of a large payload, + 0x80 for an earlier one

Small payloads travel whole, many to a frame: a thousand signed instructions cost a few
WebSocket messages. Payloads above `SMALL_BYTES` travel in chunks of `CHUNK_BYTES`, and parts of
other payloads may stand between two chunks: a vote never waits behind a block, only behind one
chunk of it. So a frame stays small, and what a peer can make us buffer is bounded by
`CHANNEL_LIMIT` a channel.

Order is kept among the small payloads of one channel and among its large ones, not between them.

The first part of each direction is the hello, in channel 0; an empty part in channel 0 says
only "still here".
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from struct import Struct
from typing import Annotated

import msgspec
from msgspec import Meta

from node.chain.encoding import Malformed, decode, encode
from node.chain.types import Bytes32, Unsigned

LINK_FORMAT = 2
"""Version of what this module describes. Peers of another version are refused by name."""

KIB = 1024
SMALL_BYTES = 64 * KIB
"""A payload up to this size travels whole; also the aim for a frame of many small payloads."""
CHUNK_BYTES = 192 * KIB
"""Part of a large payload in one frame: what a small payload may at most have to wait for."""
MAX_PARTS = 2048
"""Parts in a frame."""
PART = Struct(">BI")
MAX_FRAME_BYTES = 2 * SMALL_BYTES + CHUNK_BYTES + MAX_PARTS * PART.size
"""The largest frame that the sender builds, and so the largest that is accepted."""

LAST_CHUNK = 0x40
MORE_CHUNKS = 0x80
CONTROL = 0
"""The link's own channel: hello and keep-alive."""
INSTANCE_BYTES = 16


class Channel(IntEnum):
    """What a payload is about; each has bounds and queues of its own."""

    CONSENSUS = 1
    MEMPOOL = 2
    SYNC = 3


CHANNEL_LIMIT: dict[int, int] = {
    Channel.CONSENSUS: 8 * KIB * KIB,
    Channel.MEMPOOL: 4 * KIB * KIB,
    Channel.SYNC: 48 * KIB * KIB,
}
"""Bytes in one payload, by channel. A proposal or instruction of the largest size fits, and so
does a sync answer that goes on to the next stored finalization."""

MAX_PARTIAL_BYTES = sum(CHANNEL_LIMIT.values())
"""Bytes of unfinished payloads that one peer can make us keep, over all channels."""

_CHANNELS: dict[int, Channel] = {int(channel): channel for channel in Channel}


class MalformedFrame(ValueError):
    """A peer sent bytes that no sender of this format sends; the text says which."""


class Hello(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="hello/2"
):
    """What each end says first. TLS has already shown who it is; this shows that both mean the
    same chain and format, so that a mistake in set-up gets a clear message.

    It says no validator index: two ends that are an epoch apart may count their validators
    differently, and must be linked so that the later one can help the other on."""

    format: Unsigned
    chain_id: Bytes32
    instance: Annotated[bytes, Meta(min_length=INSTANCE_BYTES, max_length=INSTANCE_BYTES)]
    """Drawn by the sender's process at its start. One that comes back after another was seen
    shows that two processes run with one node key at the same time."""


def encode_hello(hello: Hello) -> bytes:
    """The frame that opens a link."""
    return pack([(CONTROL, encode(hello))])


def decode_hello(frame: bytes) -> Hello:
    """The hello in a link's first frame. Raises MalformedFrame."""
    if len(frame) < PART.size:
        raise MalformedFrame("first frame too short for a hello")
    tag, length = PART.unpack_from(frame)
    if tag != CONTROL or length != len(frame) - PART.size:
        raise MalformedFrame("first frame is not a hello")
    try:
        return decode(frame[PART.size :], Hello)
    except Malformed as error:
        raise MalformedFrame(str(error)) from error


def pack(parts: Iterable[tuple[int, bytes | memoryview]]) -> bytes:
    """One frame of (tag, bytes) parts."""
    pieces: list[bytes | memoryview] = []
    for tag, data in parts:
        pieces.append(PART.pack(tag, len(data)))
        pieces.append(data)
    return b"".join(pieces)


KEEP_ALIVE = pack([(CONTROL, b"")])


class Assembler:
    """Turns the frames of one peer back into payloads. Holds at most one unfinished large
    payload a channel, none larger than `CHANNEL_LIMIT`."""

    __slots__ = ("_partial", "_partial_bytes")

    def __init__(self) -> None:
        self._partial: dict[int, list[bytes]] = {}
        self._partial_bytes: dict[int, int] = {}

    @property
    def partial_bytes(self) -> int:
        """Bytes kept of unfinished payloads; at most `MAX_PARTIAL_BYTES`."""
        return sum(self._partial_bytes.values())

    def feed(self, frame: bytes) -> list[tuple[Channel, bytes]]:
        """The payloads that this frame completes, in order. Raises MalformedFrame, after which
        the link has to be dropped."""
        complete: list[tuple[Channel, bytes]] = []
        offset, end, count = 0, len(frame), 0
        while offset < end:
            count += 1
            if count > MAX_PARTS:
                raise MalformedFrame(f"more than {MAX_PARTS} parts in a frame")
            if end - offset < PART.size:
                raise MalformedFrame("part header cut short")
            tag, length = PART.unpack_from(frame, offset)
            start = offset + PART.size
            offset = start + length
            if offset > end:
                raise MalformedFrame(f"part of {length} bytes in {end - start} bytes")
            channel = _CHANNELS.get(tag)
            if channel is not None:
                if not 0 < length <= SMALL_BYTES:
                    raise MalformedFrame(f"whole payload of {length} bytes on {channel.name}")
                complete.append((channel, frame[start:offset]))
            elif tag & (LAST_CHUNK | MORE_CHUNKS):
                payload = self._chunk(tag, frame[start:offset])
                if payload is not None:
                    complete.append(payload)
            elif tag != CONTROL or length:
                raise MalformedFrame(f"part with unknown tag {tag}")
        if not count:
            raise MalformedFrame("empty frame")
        return complete

    def _chunk(self, tag: int, data: bytes) -> tuple[Channel, bytes] | None:
        last = tag & MORE_CHUNKS == 0
        channel = _CHANNELS.get(tag & ~(LAST_CHUNK if last else MORE_CHUNKS))
        if channel is None:
            raise MalformedFrame(f"chunk with unknown tag {tag}")
        # An earlier chunk is always full: a peer cannot make us keep many tiny pieces.
        if len(data) != CHUNK_BYTES and not (last and 0 < len(data) < CHUNK_BYTES):
            raise MalformedFrame(f"chunk of {len(data)} bytes on {channel.name}")
        size = self._partial_bytes.get(channel, 0) + len(data)
        if size > CHANNEL_LIMIT[channel]:
            raise MalformedFrame(f"payload above {CHANNEL_LIMIT[channel]} bytes on {channel.name}")
        pieces = self._partial.setdefault(channel, [])
        pieces.append(data)
        if not last:
            self._partial_bytes[channel] = size
            return None
        if size <= SMALL_BYTES:
            raise MalformedFrame(f"small payload of {size} bytes in chunks on {channel.name}")
        del self._partial[channel]
        self._partial_bytes.pop(channel, None)
        return channel, b"".join(pieces)
