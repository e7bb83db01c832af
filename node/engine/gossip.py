"""What validators tell each other about waiting instructions.

An accepting node pushes each instruction to every validator at once. A link that comes up, and an
instruction that waits, bring an *offer* of digests, from which the other side *wants* what it
lacks: so a node that was away is not sent what it has, and nobody is left out of what is pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from node.chain.encoding import UNDECODABLE, Malformed, encode
from node.chain.types import Bytes32

MAX_DIGESTS = 4_096
"""Digests in one offer or want."""
MAX_PUSHED = 4_096
"""Instructions in one push."""
PUSH_BYTES = 1024 * 1024
"""A push is sent once it holds this many bytes; a larger single instruction goes alone."""


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Options shared by the mempool's messages."""


class Push(_Message, frozen=True, tag="push/1"):
    """Canonical bytes of instructions."""

    instructions: Annotated[tuple[bytes, ...], Meta(max_length=MAX_PUSHED)]


class Offer(_Message, frozen=True, tag="offer/1"):
    """Digests of instructions that the sender holds."""

    digests: Annotated[tuple[Bytes32, ...], Meta(max_length=MAX_DIGESTS)]


class Want(_Message, frozen=True, tag="want/1"):
    """Digests out of an offer that the sender lacks."""

    digests: Annotated[tuple[Bytes32, ...], Meta(max_length=MAX_DIGESTS)]


GossipMessage = Push | Offer | Want

_decoder: msgspec.msgpack.Decoder[GossipMessage] = msgspec.msgpack.Decoder(GossipMessage)


def decode_gossip(payload: bytes) -> GossipMessage:
    """Decode a mempool frame. Raises Malformed.

    Nothing here is hashed or signed (each instruction is checked by itself), so the bytes need
    not be canonical.
    """
    try:
        return _decoder.decode(payload)
    except UNDECODABLE as error:
        raise Malformed(f"not a mempool message: {error}") from error


def pushes(instructions: Iterable[bytes]) -> Iterator[bytes]:
    """Frames that push these instructions, each of bounded size."""
    batch: list[bytes] = []
    size = 0
    for raw in instructions:
        if batch and (size + len(raw) > PUSH_BYTES or len(batch) == MAX_PUSHED):
            yield encode(Push(tuple(batch)))
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield encode(Push(tuple(batch)))


def offers(digests: list[bytes]) -> Iterator[bytes]:
    """Frames that offer these digests."""
    for start in range(0, len(digests), MAX_DIGESTS):
        yield encode(Offer(tuple(digests[start : start + MAX_DIGESTS])))
