"""Indexes that lead from a payment to what its evidence is made of: part of the chain's database.

They are written in the same batch as the block, and follow from blocks and outcomes alone. Nobody
proves them: evidence that is made with a damaged one does not verify.

    g UETR height index → (an outcome of a payment that has several)
    a UETR height index → (an accepted instruction about the payment)
    k UETR UETR → (the second carries on or gives back the first)
    j asset NUL cycle height → leaf hash and place of each payment that joined the cycle there
    y asset NUL cycle → height, index of the outcome that closed it

All numbers are big-endian, so that keys iterate in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.ledger.entries import ClosedEntry, JoinedEntry
from node.storage.kv import KeyValueView

LEAF_BYTES = 32
JOINED_BYTES = LEAF_BYTES + 8
"""Of one payment that joined: its leaf hash, index of the instruction, number of the payment."""
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
    packed: dict[bytes, list[bytes]] = {}
    for asset, cycle, leaf, height, instruction, payment in joined:
        entries = packed.setdefault(_cycle(b"j", asset, cycle) + _long(height), [])
        entries.append(leaf + _short(instruction) + _short(payment))
    for key, entries in packed.items():
        yield key, b"".join(entries)
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
        number = int.from_bytes
        for height, each in self._joined(asset, cycle):
            leaf, instruction, payment = each[:LEAF_BYTES], each[LEAF_BYTES:-4], each[-4:]
            place = height, number(instruction, "big"), number(payment, "big")
            yield JoinedEntry(asset, cycle, leaf, *place)

    def joined_leaves(self, asset: str, cycle: int) -> Iterator[bytes]:
        """Their leaf hashes alone: a cycle may have millions."""
        return (each[:LEAF_BYTES] for _, each in self._joined(asset, cycle))

    def _joined(self, asset: str, cycle: int) -> Iterator[tuple[int, bytes]]:
        prefix = _cycle(b"j", asset, cycle)
        for key, value in self._index.iterate(prefix):
            height = int.from_bytes(key[len(prefix) :], "big")
            for at in range(0, len(value), JOINED_BYTES):
                yield height, value[at : at + JOINED_BYTES]

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
