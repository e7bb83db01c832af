"""Canonical bytes and digests: one value, one byte string, one digest.

Every hashed or signed type is MessagePack of an array-like, tagged Struct. MessagePack decoders
accept integers and lengths that are longer than needed, so everything that crosses a border
is decoded with `decode`, which also demands that the bytes are the ones `encode` gives.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""The canonical bytes of a value."""

_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec's decoders raise on bad bytes: text that is not UTF-8 gives an error of its own."""


class Malformed(ValueError):
    """Bytes that are not the canonical encoding of the expected type; the text says where."""


def decode(data: bytes, kind: type[T]) -> T:
    """Decode canonical bytes into `kind`. Raises Malformed."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        value: T = decoder.decode(data)
    except UNDECODABLE as error:
        raise Malformed(f"not a {kind.__name__}: {error}") from error
    if encode(value) != data:
        raise Malformed(
            f"not the canonical encoding of a {kind.__name__} (over-long integer or length)"
        )
    return value


def framed(domain: str) -> bytes:
    """The (length, domain) prefix that keeps digests of different kinds apart."""
    name = domain.encode("ascii")
    return len(name).to_bytes(1, "big") + name


def digest(prefix: bytes, data: bytes) -> bytes:
    """SHA-256 over (length, domain, canonical bytes); `prefix` is `framed(domain)`."""
    return hashlib.sha256(prefix + data).digest()


HEADER = framed("nostro.header/1")
VALIDATOR_SET = framed("nostro.validator-set/1")
GENESIS = framed("nostro.genesis/1")
INSTRUCTION = framed("nostro.instruction/1")
PAYMENT = framed("nostro.payment/1")
OUTCOME = framed("nostro.outcome/1")
STATE_KEY = framed("nostro.state-key/1")
STATE_LEAF = framed("nostro.state-leaf/1")
STATE_RECORD = framed("nostro.state-record/1")
STATE_NODE = framed("nostro.state-node/1")
HISTORY = framed("nostro.history/1")
LINK = framed("nostro.link/1")
"""Names a linked settlement (`build.link_id`)."""
RESOLUTION = framed("nostro.resolution/1")
"""Over an asset's code: names what queue resolution settled together."""
UETR_PAGE = framed("nostro.uetr-page/1")
"""A page of a tree of used UETRs (`uetr_tree`)."""
