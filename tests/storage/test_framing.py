"""Segments read back what was framed; a cut is a torn tail, any other change is damage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.storage.framing import (
    HEADER_BYTES,
    FrameDamage,
    SegmentHeader,
    decode_header,
    encode_frame,
    scan,
)

HEADER = SegmentHeader(b"s" * 16, b"b" * 32, 7, 99)
batches = st.lists(st.lists(st.binary(max_size=60), max_size=4), max_size=5)


def build(frames: list[list[bytes]], header: SegmentHeader = HEADER) -> tuple[bytes, list[int]]:
    """The segment and the offset behind each frame."""
    data = header.encode()
    ends = [len(data)]
    for index, records in enumerate(frames):
        data += b"".join(encode_frame(header, header.first + index, records))
        ends.append(len(data))
    return data, ends


@given(batches)
def test_what_was_framed_is_read_back(frames: list[list[bytes]]) -> None:
    data, _ = build(frames)
    found = scan(data)
    assert found.records == [record for records in frames for record in records]
    assert (found.last, found.end, found.torn) == (6 + len(frames), len(data), 0)
    assert found.header == HEADER


@settings(max_examples=30)
@given(batches)
def test_cut_at_any_offset_the_whole_frames_before_it_are_read_and_the_rest_is_torn(
    frames: list[list[bytes]],
) -> None:
    data, ends = build(frames)
    for cut in range(HEADER_BYTES, len(data) + 1):
        found = scan(data[:cut])
        whole = sum(end <= cut for end in ends) - 1
        assert found.records == [record for records in frames[:whole] for record in records]
        assert found.last == 6 + whole
        assert found.end + found.torn == cut


@given(batches.filter(len), st.data())
def test_a_flipped_bit_is_never_read_as_a_record(
    frames: list[list[bytes]], data: st.DataObject
) -> None:
    segment, ends = build(frames)
    bit = data.draw(st.integers(0, 8 * len(segment) - 1))
    changed = bytearray(segment)
    changed[bit // 8] ^= 1 << bit % 8
    hit = sum(end <= bit // 8 for end in ends)
    if hit == 0 or hit < len(frames):
        # In the header, or with a valid frame behind it.
        with pytest.raises(FrameDamage):
            scan(bytes(changed))
    else:
        found = scan(bytes(changed))
        assert found.records == [record for records in frames[:-1] for record in records]
        assert found.torn > 0


@given(batches.filter(lambda frames: len(frames) > 1), st.data())
def test_a_frame_that_was_removed_from_the_middle_is_damage(
    frames: list[list[bytes]], data: st.DataObject
) -> None:
    segment, ends = build(frames)
    gone = data.draw(st.integers(0, len(frames) - 2))
    with pytest.raises(FrameDamage) as error:
        scan(segment[: ends[gone]] + segment[ends[gone + 1] :])
    assert error.value.offset == ends[gone]


def test_a_valid_frame_of_another_segment_is_not_one_of_this() -> None:
    """A peer whose block we journal cannot plant a frame: it does not know the salt."""
    other = SegmentHeader(b"t" * 16, HEADER.binding, HEADER.first, HEADER.identity)
    planted = b"".join(encode_frame(other, HEADER.first + 1, [b"planted"]))
    data, ends = build([[b"first"], [planted]])
    torn = scan(data[: ends[2] - 1])
    assert torn.records == [b"first"]
    assert torn.torn == ends[2] - 1 - ends[1]


def test_a_header_that_is_cut_foreign_or_damaged_is_refused() -> None:
    data = HEADER.encode()
    assert decode_header(data) == HEADER
    for length in range(HEADER_BYTES):
        with pytest.raises(FrameDamage):
            decode_header(data[:length])
    with pytest.raises(FrameDamage, match="not a segment"):
        decode_header(b"x" + data[1:])


def test_frames_have_these_very_bytes() -> None:
    """The format on disk: a node must be able to read what an earlier release wrote."""
    data, _ = build([[b"a", b""]])
    assert data.hex() == (
        "6e6f7374726f2d7365676d656e742f31" + "73" * 16 + "62" * 32 + "0000000000000007"
        "0000000000000063" + data[80:HEADER_BYTES].hex() + data[96:104].hex() + "0000000000000007"
        "00000009" + data[116:132].hex() + "00000001" + "61" + "00000000"
    )
    assert data[80:96].hex() == "4d0126330490f2e95d9e0d7b62b25fb1"
    assert data[96:104].hex() == "067d8202e9fc1956"
    assert data[116:132].hex() == "e7a7ce171fdc19ea46d16eee66e0e41c"
