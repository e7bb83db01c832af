"""Instructions that themselves are a movement under a UETR, without a payment in them."""

from __future__ import annotations

from node.chain.encoding import INSTRUCTION, digest, encode
from node.chain.types import Issue, MoveOwn, Redeem

MOVEMENTS = (Issue, Redeem, MoveOwn)


def body_digest(body: Issue | Redeem | MoveOwn) -> bytes:
    """Of the body alone: enough where only one participant can give such an order."""
    return digest(INSTRUCTION, encode(body))


def movement_digest(sender: str, body: Issue | Redeem | MoveOwn) -> bytes:
    """What a retry under the same UETR is compared by.

    Anybody may move own money, and the body does not say whose: without the sender in it, whoever
    copies somebody's order and is faster would have that one told that its money moved."""
    if isinstance(body, MoveOwn):
        return digest(INSTRUCTION, encode((sender, body)))
    return body_digest(body)
