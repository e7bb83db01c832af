"""Trees as RFC 6962 defines them, by its own recursion; and those over the UETRs that were used."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from .book import (
    Book,
)
from .rows import (
    WEEK_MS,
    Since,
    UsedTree,
)

PAGE = 64


def tree_root(leaves: list[bytes]) -> bytes:
    """MTH of leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return sha256(b"\x01" + tree_root(leaves[:split]) + tree_root(leaves[split:])).digest()


def pages_root(uetrs: list[bytes]) -> bytes:
    """Of UETRs in order, so many a leaf."""
    domain = b"nostro.uetr-page/1"
    prefix = b"\x00" + bytes([len(domain)]) + domain
    pages = [b"".join(uetrs[at : at + PAGE]) for at in range(0, len(uetrs), PAGE)]
    return tree_root([sha256(prefix + page).digest() for page in pages])


def count_named(book: Book) -> None:
    """At the end of a block: note which UETRs its outcomes name, and make a tree if it is time."""
    if book.day is None:
        return
    since = book.since or Since(0, book.height - 1, book.before, ())
    named = tuple(each.uetr for each in book.outcomes if each.uetr is not None)
    since = replace(since, named=since.named + named)
    ripe = len(since.named) >= book.bounds.named or book.time - since.time >= WEEK_MS
    if not ripe and book.ended is None:
        book.since = since
        return
    uetrs = sorted(set(since.named))
    book.trees[since.tree] = UsedTree(
        (since.after, since.time),
        (book.height, book.time),
        book.ended or 0,
        len(uetrs),
        pages_root(uetrs),
    )
    book.since = Since(since.tree + 1, book.height, book.time, ())
