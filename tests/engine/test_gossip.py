"""Mempool frames: bounded, and no bytes of a peer raise anything but Malformed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.chain.encoding import Malformed, encode
from node.engine.gossip import (
    MAX_DIGESTS,
    PUSH_BYTES,
    Offer,
    Push,
    Want,
    decode_gossip,
    offers,
    pushes,
)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_malformed_or_a_message(data: bytes) -> None:
    try:
        message = decode_gossip(data)
    except Malformed:
        return
    assert isinstance(message, Push | Offer | Want)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        encode(["push/1"]),
        encode(["push/1", ["text"]]),
        b"\x92\xa6push/\xff\x90",
        encode(["offer/1", [b"short"]]),
        encode(["offer/1", [bytes(32)] * (MAX_DIGESTS + 1)]),
        encode(["offer/1", [], 1]),
        b"\x91" * 100_000,
    ],
)
def test_malformed_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(Malformed):
        decode_gossip(frame)


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=60))
def test_pushes_hold_everything_once_and_in_order(instructions: list[bytes]) -> None:
    frames = [msgspec.msgpack.decode(frame, type=Push) for frame in pushes(instructions)]
    assert [raw for frame in frames for raw in frame.instructions] == instructions


def test_a_push_is_bounded_and_a_large_instruction_goes_alone() -> None:
    small, large = b"s" * 1000, b"l" * (2 * PUSH_BYTES)
    frames = [decode_gossip(frame) for frame in pushes([small, large, small])]
    assert frames == [Push((small,)), Push((large,)), Push((small,))]


def test_offers_are_split() -> None:
    digests = [i.to_bytes(32, "big") for i in range(MAX_DIGESTS + 1)]
    frames = [decode_gossip(frame) for frame in offers(digests)]
    assert [d for frame in frames if isinstance(frame, Offer) for d in frame.digests] == digests
