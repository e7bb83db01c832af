"""The committed set of the UETRs that a stretch of blocks names, by which their absence shows.

At each close of a business day (and earlier, when very many have come together) the ledger commits
the sorted set of all UETRs that the outcomes of the blocks since the tree before name. The set is
cut into pages of 64; a page is a leaf of an RFC 6962 tree:

    leaf = SHA-256(0x00 ‖ (length, domain) ‖ the page's UETRs, ascending, one after another)

Root and count are committed together, so the number of pages and the length of each follow. A page
that spans the place where a UETR would stand, or two pages beside that place, show that it is not
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from node.chain.encoding import UETR_PAGE
from node.chain.merkle import (
    LEAF_PREFIX,
    MAX_PROOF,
    ProofError,
    inclusion_proof,
    root,
    verify_inclusion,
)
from node.chain.types import Bytes32, Unsigned, _Canonical

UETR_BYTES = 16
PAGE_UETRS = 64
"""UETRs of a page; the last one has what is left."""
PAGE_LEAF = LEAF_PREFIX + UETR_PAGE


class Page(_Canonical, frozen=True):
    """A page of the set, and its place in the tree."""

    index: Unsigned
    uetrs: Annotated[bytes, Meta(min_length=UETR_BYTES, max_length=UETR_BYTES * PAGE_UETRS)]
    path: Annotated[tuple[Bytes32, ...], Meta(max_length=MAX_PROOF)]


Pages = Annotated[tuple[Page, ...], Meta(max_length=2)]
"""None shows absence from an empty set, one or two adjacent ones from any other."""


def _pages(uetrs: Sequence[bytes]) -> list[bytes]:
    return [b"".join(uetrs[at : at + PAGE_UETRS]) for at in range(0, len(uetrs), PAGE_UETRS)]


def _leaf(page: bytes) -> bytes:
    return sha256(PAGE_LEAF + page).digest()


def uetr_root(uetrs: Sequence[bytes]) -> bytes:
    """The root over these UETRs, which ascend strictly."""
    return root([_leaf(page) for page in _pages(uetrs)])


def sorted_uetrs(uetrs: Iterable[bytes]) -> list[bytes]:
    """Each once, ascending."""
    return sorted(set(uetrs))


def prove_uetr(uetrs: Sequence[bytes], uetr: bytes) -> tuple[Page, ...]:
    """The pages that show whether `uetr` is among these, which ascend strictly."""
    pages = _pages(uetrs)
    if not pages:
        return ()
    leaves = [_leaf(page) for page in pages]
    # The last page that begins at or below it, and the next one if it ends below.
    at = max(sum(1 for page in pages if page[:UETR_BYTES] <= uetr) - 1, 0)
    needed = [at]
    if pages[at][-UETR_BYTES:] < uetr and at + 1 < len(pages):
        needed.append(at + 1)
    return tuple(Page(i, pages[i], tuple(inclusion_proof(leaves, i))) for i in needed)


def verify_uetr_absent(expected: bytes, count: int, uetr: bytes, pages: Sequence[Page]) -> None:
    """Check that a set of `count` UETRs with this root lacks `uetr`. Raises ProofError."""
    last = (count + PAGE_UETRS - 1) // PAGE_UETRS - 1
    if count == 0 or not pages:
        if count or pages or expected != root([]):
            raise ProofError("pages of an empty set, or none of another")
        return
    for page in pages:
        _check_page(expected, count, last, page)
    if len(pages) == 2 and pages[1].index != pages[0].index + 1:
        raise ProofError("the two pages do not stand beside each other")
    first, final = pages[0].uetrs[:UETR_BYTES], pages[-1].uetrs[-UETR_BYTES:]
    if any(uetr in _split(page.uetrs) for page in pages):
        raise ProofError("the UETR is in the set")
    if (uetr < first and pages[0].index != 0) or (uetr > final and pages[-1].index != last):
        raise ProofError("the pages do not span the place of this UETR")
    if len(pages) == 2 and not pages[0].uetrs[-UETR_BYTES:] < uetr < pages[1].uetrs[:UETR_BYTES]:
        raise ProofError("one of the two pages shows nothing about this UETR")


def _check_page(expected: bytes, count: int, last: int, page: Page) -> None:
    size = PAGE_UETRS if page.index < last else count - PAGE_UETRS * last
    if len(page.uetrs) != size * UETR_BYTES:
        raise ProofError(f"page {page.index} has {len(page.uetrs)} bytes, not {size * UETR_BYTES}")
    if any(one >= other for one, other in pairwise(_split(page.uetrs))):
        raise ProofError(f"page {page.index} does not ascend")
    verify_inclusion(_leaf(page.uetrs), page.index, last + 1, page.path, expected)


def _split(page: bytes) -> list[bytes]:
    return [page[at : at + UETR_BYTES] for at in range(0, len(page), UETR_BYTES)]
