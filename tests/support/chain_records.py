"""What storage would hold of a test's chain: outcomes, blocks and where payments changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from node.ledger.entries import UetrEntry
from tests.support.ledger_world import Chain


@dataclass
class ChainRecords:
    """`node.engine.recorded.Records` over a chain in memory; the last block may be any."""

    chain: Callable[[], Chain]
    pruned_below: int = 0
    """Blocks and outcomes below this height are no longer held."""
    _read: int = 0
    _changes: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)
    _following: dict[bytes, set[bytes]] = field(default_factory=dict)

    def _catch_up(self) -> Chain:
        chain = self.chain()
        for made in chain.blocks[self._read :]:
            for uetr, index in made.applied.changes:
                self._changes.setdefault(uetr, []).append((made.header.height, index))
            for uetr, following in made.applied.following:
                self._following.setdefault(uetr, set()).add(following)
        self._read = len(chain.blocks)
        return chain

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        return self.chain().index.uetr(uetr)

    def changes(self, uetr: bytes) -> list[tuple[int, int]]:
        chain = self._catch_up()
        entry = chain.index.uetr(uetr)
        if uetr in self._changes or entry is None:
            return self._changes.get(uetr, [])
        outcomes = chain.blocks[entry.height - 1].outcomes
        return [
            (entry.height, index)
            for index, each in enumerate(outcomes)
            if each.uetr == uetr and each.original is None
        ][:1]

    def following(self, uetr: bytes) -> list[bytes]:
        self._catch_up()
        return sorted(self._following.get(uetr, ()))

    def outcomes(self, height: int) -> Sequence[bytes] | None:
        blocks = self.chain().blocks
        if not self.pruned_below <= height or not 0 < height <= len(blocks):
            return None
        return blocks[height - 1].applied.outcomes

    def block(self, height: int) -> bytes | None:
        blocks = self.chain().blocks
        if not self.pruned_below <= height or not 0 < height <= len(blocks):
            return None
        return blocks[height - 1].raw

    def rows(self, prefix: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.chain().records):
            if key.startswith(prefix) and (after is None or key > after):
                yield key, self.chain().records[key]
