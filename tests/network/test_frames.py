"""The bytes of a link: whatever is queued arrives whole, bounded, votes first."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.network.frames import (
    CHANNEL_LIMIT,
    CHUNK_BYTES,
    CONTROL,
    KEEP_ALIVE,
    LAST_CHUNK,
    MAX_FRAME_BYTES,
    MAX_PARTS,
    MORE_CHUNKS,
    SMALL_BYTES,
    Assembler,
    Channel,
    Hello,
    MalformedFrame,
    decode_hello,
    encode_hello,
    pack,
)
from node.network.outbox import MAX_QUEUED, MAX_QUEUED_BYTES, Outbox

SIZES = st.one_of(
    st.integers(1, 2000),
    st.sampled_from(
        [
            *(SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1, CHUNK_BYTES, CHUNK_BYTES + 1),
            *(2 * CHUNK_BYTES, 3 * CHUNK_BYTES - 1, 4 * 1024 * 1024),
        ]
    ),
)
PAYLOADS = st.lists(st.tuples(st.sampled_from(Channel), SIZES), max_size=40)


def drain(outbox: Outbox) -> list[bytes]:
    frames = []
    while (frame := outbox.next_frame()) is not None:
        frames.append(frame)
    return frames


def numbered(number: int, size: int) -> bytes:
    return (number.to_bytes(4, "big") * (size // 4 + 1))[:size]


@given(PAYLOADS)
def test_every_payload_taken_arrives_once_whole_and_in_order_of_its_kind(
    payloads: list[tuple[Channel, int]],
) -> None:
    outbox, assembler = Outbox(), Assembler()
    sent: dict[tuple[Channel, bool], list[bytes]] = defaultdict(list)
    for number, (channel, size) in enumerate(payloads):
        payload = numbered(number, size)
        if outbox.put(channel, payload):
            sent[channel, size <= SMALL_BYTES].append(payload)
    frames = drain(outbox)
    arrived: dict[tuple[Channel, bool], list[bytes]] = defaultdict(list)
    for frame in frames:
        assert len(frame) <= MAX_FRAME_BYTES
        for channel, payload in assembler.feed(frame):
            arrived[channel, len(payload) <= SMALL_BYTES].append(payload)
    assert arrived == sent
    assert outbox.queued_bytes == 0


def test_a_vote_leaves_with_the_next_frame_whatever_waits() -> None:
    outbox, assembler = Outbox(), Assembler()
    for _ in range(1000):
        outbox.put(Channel.MEMPOOL, b"i" * 500)
    outbox.put(Channel.SYNC, b"s" * CHANNEL_LIMIT[Channel.SYNC])
    outbox.put(Channel.CONSENSUS, b"b" * CHANNEL_LIMIT[Channel.CONSENSUS])
    first = outbox.next_frame()
    assert first is not None
    assembler.feed(first)
    outbox.put(Channel.CONSENSUS, b"vote")
    second = outbox.next_frame()
    assert second is not None
    assert assembler.feed(second)[0] == (Channel.CONSENSUS, b"vote")


def test_a_stream_of_small_payloads_does_not_starve_a_large_one() -> None:
    outbox, assembler = Outbox(), Assembler()
    outbox.put(Channel.MEMPOOL, b"m" * CHANNEL_LIMIT[Channel.MEMPOOL])
    arrived: list[tuple[Channel, bytes]] = []
    frames = 0
    while not any(channel is Channel.MEMPOOL for channel, _ in arrived):
        while outbox.put(Channel.CONSENSUS, b"v" * 1000):
            pass
        frame = outbox.next_frame()
        assert frame is not None
        arrived += assembler.feed(frame)
        frames += 1
    assert frames == -(-CHANNEL_LIMIT[Channel.MEMPOOL] // CHUNK_BYTES)


@pytest.mark.parametrize("channel", list(Channel))
def test_queues_are_bounded_in_bytes_and_in_number(channel: Channel) -> None:
    by_number = Outbox()
    assert (
        sum(by_number.put(channel, b"x") for _ in range(MAX_QUEUED[channel] + 5))
        == (MAX_QUEUED[channel])
    )
    by_size, big = Outbox(), bytes(CHANNEL_LIMIT[channel])
    taken = sum(by_size.put(channel, big) for _ in range(20))
    assert taken == MAX_QUEUED_BYTES[channel] // CHANNEL_LIMIT[channel] >= 1
    # A full channel takes nothing from the others.
    for other in set(Channel) - {channel}:
        assert by_size.put(other, b"x")
    # What has left makes room again.
    drain(by_size)
    assert by_size.put(channel, big)


def test_many_small_payloads_share_a_frame() -> None:
    outbox = Outbox()
    for _ in range(1000):
        outbox.put(Channel.MEMPOOL, b"i" * 500)
    assert len(drain(outbox)) <= 1000 * 500 // SMALL_BYTES + 1


def test_the_bytes_of_a_link_are_these() -> None:
    hello = Hello(format=2, chain_id=bytes(range(32)), instance=bytes(range(16)))
    assert encode_hello(hello).hex() == (
        "000000003e94a768656c6c6f2f3202c420"
        + bytes(range(32)).hex()
        + "c410"
        + bytes(range(16)).hex()
    )
    assert KEEP_ALIVE.hex() == "0000000000"
    outbox = Outbox()
    outbox.put(Channel.MEMPOOL, b"mm")
    outbox.put(Channel.CONSENSUS, b"c")
    outbox.put(Channel.SYNC, b"s" * (CHUNK_BYTES + 1))
    first, second = drain(outbox)
    assert first[:18].hex() == "01000000016302000000026d6d8300030000"
    assert second.hex() == "430000000173"


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"", "empty frame"),
        (b"\x01\x00\x00", "cut short"),
        (pack([(Channel.CONSENSUS, b"abc")])[:-1], "part of 3 bytes in 2 bytes"),
        (pack([(Channel.CONSENSUS, b"")]), "whole payload of 0 bytes"),
        (pack([(Channel.CONSENSUS, bytes(SMALL_BYTES + 1))]), "whole payload of 65537 bytes"),
        (pack([(4, b"x")]), "unknown tag 4"),
        (pack([(CONTROL, b"x")]), "unknown tag 0"),
        (pack([(LAST_CHUNK, b"x")]), "unknown tag 64"),
        (pack([(LAST_CHUNK + MORE_CHUNKS + 1, b"x")]), "unknown tag 193"),
        (pack([(MORE_CHUNKS + 1, b"x")]), "chunk of 1 bytes"),
        (pack([(LAST_CHUNK + 1, b"")]), "chunk of 0 bytes"),
        (pack([(LAST_CHUNK + 1, bytes(CHUNK_BYTES + 1))]), "chunk of 196609 bytes"),
        (pack([(LAST_CHUNK + 1, b"x")]), "small payload of 1 bytes in chunks"),
        (pack([(CONTROL, b"")] * (MAX_PARTS + 1)), "more than 2048 parts"),
    ],
)
def test_what_no_sender_sends_is_refused_and_named(frame: bytes, why: str) -> None:
    with pytest.raises(MalformedFrame, match=why):
        Assembler().feed(frame)


@pytest.mark.parametrize("channel", list(Channel))
def test_a_peer_cannot_make_us_keep_more_than_one_payload_a_channel(channel: Channel) -> None:
    assembler = Assembler()
    chunk = pack([(MORE_CHUNKS + channel, bytes(CHUNK_BYTES))])
    for _ in range(CHANNEL_LIMIT[channel] // CHUNK_BYTES):
        assert assembler.feed(chunk) == []
    with pytest.raises(MalformedFrame, match="payload above"):
        assembler.feed(chunk)


@given(st.binary(max_size=300))
def test_random_bytes_are_frames_or_malformed_and_nothing_else(data: bytes) -> None:
    with suppress(MalformedFrame):
        assert all(payload for _, payload in Assembler().feed(data))
    with suppress(MalformedFrame):
        decode_hello(data)


def test_a_hello_is_canonical_and_alone() -> None:
    good = encode_hello(Hello(2, bytes(32), bytes(16)))
    for bad in (
        good[:3],
        good[:-1],
        good + b"\x00",
        b"\x01" + good[1:],
        pack([(CONTROL, b"\x90")]),
    ):
        with pytest.raises(MalformedFrame):
            decode_hello(bad)
