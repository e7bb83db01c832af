"""Opaque cursors: where a list goes on.

A cursor names the last item given by its key, not by its position: a list that grew in between
neither repeats nor skips what was there before.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from node.api.problems import Refused

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
"""Items of one page."""
MAX_CURSOR = 512
"""Characters of a cursor."""

T = TypeVar("T")
Key = list[str]
_decoder = msgspec.json.Decoder(Key)


def encode_cursor(listing: str, key: Key) -> str:
    """The cursor after the item with this key; bound to its list, so no other list takes it."""
    return base64.urlsafe_b64encode(msgspec.json.encode([listing, *key])).decode().rstrip("=")


def decode_cursor(listing: str, cursor: str) -> Key:
    """The key in a cursor. Raises Refused (bad-cursor)."""
    try:
        if len(cursor) > MAX_CURSOR:
            raise ValueError("too long")
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        name, *key = _decoder.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
        if name != listing:
            raise ValueError("of another list")
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise Refused(
            "bad-cursor",
            f"the cursor was not given by the list of {listing}; start again without one",
        ) from error
    return key


def page(
    listing: str,
    items: Sequence[T],
    key: Callable[[T], Key],
    cursor: str | None,
    limit: int,
) -> tuple[list[T], str | None]:
    """The items after the cursor and the next cursor. `items` ascend by `key`.

    Raises Refused (bad-cursor).
    """
    start = 0
    if cursor is not None:
        after = decode_cursor(listing, cursor)
        start = next((i for i, item in enumerate(items) if key(item) > after), len(items))
    chosen = list(items[start : start + limit])
    more = start + limit < len(items)
    return chosen, encode_cursor(listing, key(chosen[-1])) if more else None
