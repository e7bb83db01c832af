"""Indexes that lead from a payment to what its evidence is made of: part of the chain's database.

They are written in the same batch as the block, and follow from blocks and outcomes alone. Nobody
proves them: evidence that is made with a damaged one does not verify.

    g UETR height index → (an outcome of a payment that has several)
    a UETR height index → (an accepted instruction about the payment)
    k UETR UETR → (the second carries on or gives back the first)
    j asset NUL cycle height number → leaf hash of a payment that joined the cycle, its place
    y asset NUL cycle → height, index of the outcome that closed it

All numbers are big-endian, so that keys iterate in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.ledger.entries import ClosedEntry, JoinedEntry
from node.storage.kv import KeyValueView

LEAF_BYTES = 32
Puts = Iterator[tuple[bytes, bytes]]


def put_places(
    height: int, changes: Iterable[tuple[bytes, int]], about: Iterable[tuple[bytes, int]]
) -> Puts:
    """What a block adds about payments. `changes`: (UETR, index of an outcome); `about`: (UETR,
    index of an instruction)."""
    number = _long(height)
    for letter, places in ((b"g", changes), (b"a", about)):
        for uetr, index in places:
            yield letter + uetr + number + _short(index), b""


def put_following(following: Iterable[tuple[bytes, bytes]]) -> Puts:
    """`following`: (UETR, UETR of a payment that carries it on or gives it back)."""
    return ((b"k" + uetr + other, b"") for uetr, other in following)


def put_cycles(joined: Iterable[JoinedEntry], closed: Iterable[ClosedEntry]) -> Puts:
    """What a block adds of clearing cycles. `joined`: in order of joining."""
    for number, each in enumerate(joined):
        key = _cycle(b"j", each.asset, each.cycle) + _long(each.height) + _short(number)
        yield key, each.leaf + _short(each.instruction) + _short(each.payment)
    for close in closed:
        key = _cycle(b"y", close.asset, close.cycle)
        yield key, _long(close.height) + _short(close.outcome)


class EvidenceIndex:
    """Reading them. Any thread."""

    def __init__(self, kv: KeyValueView) -> None:
        self._index = kv

    def outcomes_of(self, uetr: bytes, first: int) -> Iterator[tuple[int, int]]:
        """(height, index) of the outcomes from height `first` on of payments that have, or may get,
        several, in order. A node that began with a snapshot knows none below it."""
        return self._places(b"g" + uetr, first)

    def about(self, uetr: bytes, first: int) -> Iterator[tuple[int, int]]:
        """(height, index) of the accepted instructions from height `first` on about a payment of
        others, in order. A node that began with a snapshot knows none below it."""
        return self._places(b"a" + uetr, first)

    def _places(self, prefix: bytes, first: int) -> Iterator[tuple[int, int]]:
        for key, _ in self._index.iterate(prefix, start=prefix + _long(first)):
            place = key[len(prefix) :]
            yield int.from_bytes(place[:8], "big"), int.from_bytes(place[8:], "big")

    def following(self, uetr: bytes) -> list[bytes]:
        """UETRs of the payments that carry this one on or give it back, ascending."""
        return [key[1 + len(uetr) :] for key, _ in self._index.iterate(b"k" + uetr)]

    def joined(self, asset: str, cycle: int) -> Iterator[JoinedEntry]:
        """The payments of a clearing cycle, in order of joining. A node that began with a snapshot
        lacks those that joined before it."""
        prefix = _cycle(b"j", asset, cycle)
        for key, value in self._index.iterate(prefix):
            height = int.from_bytes(key[len(prefix) : -4], "big")
            place = value[LEAF_BYTES:]
            yield JoinedEntry(
                asset,
                cycle,
                value[:LEAF_BYTES],
                height,
                int.from_bytes(place[:4], "big"),
                int.from_bytes(place[4:], "big"),
            )

    def cycle_closed(self, asset: str, cycle: int) -> tuple[int, int] | None:
        """(height, index) of the outcome that closed a clearing cycle; None: nothing is known of
        it."""
        value = self._index.get(_cycle(b"y", asset, cycle))
        if value is None:
            return None
        return int.from_bytes(value[:8], "big"), int.from_bytes(value[8:], "big")


def _cycle(letter: bytes, asset: str, cycle: int) -> bytes:
    # No asset's code contains NUL: they are letters and digits.
    return letter + asset.encode("ascii") + b"\0" + _long(cycle)


def _long(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _short(number: int) -> bytes:
    return number.to_bytes(4, "big")
