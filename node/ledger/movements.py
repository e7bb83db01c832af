"""Instructions that themselves are a movement under a UETR, without a payment in them."""

from __future__ import annotations

from node.chain.encoding import INSTRUCTION, digest, encode
from node.chain.types import Issue, MoveOwn, Redeem

MOVEMENTS = (Issue, Redeem, MoveOwn)


def body_digest(body: Issue | Redeem | MoveOwn) -> bytes:
    """What a retry under the same UETR is compared by."""
    return digest(INSTRUCTION, encode(body))
