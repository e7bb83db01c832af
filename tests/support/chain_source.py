"""A chain that a test made with `ledger_world`, certified at its tip, as the source of evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Kind,
    quorum,
    vote_payload,
)
from node.chain.types import Header
from node.ledger.about import about
from node.ledger.entries import JoinedEntry
from tests.support.ledger_world import Chain, MadeBlock


@dataclass
class ChainSource:
    """Implements `node.audit.build.DossierSource`. The chain is in epoch 0 and grows no more."""

    chain: Chain

    def __post_init__(self) -> None:
        self._tip = self.chain.blocks[-1]
        assert self._tip.header.epoch == 0
        self._changes, self._about = list[tuple[bytes, int, int]](), list[tuple[bytes, int, int]]()
        for made in self.chain.blocks:
            height, applied = made.header.height, made.applied
            said = about(made.instructions, applied.outcomes)
            self._changes += [(uetr, height, index) for uetr, index in applied.changes]
            self._about += [(uetr, height, index) for uetr, index in said]

    def _made(self, height: int) -> MadeBlock | None:
        return self.chain.blocks[height - 1] if 0 < height <= len(self.chain.blocks) else None

    def height(self) -> int:
        return self._tip.header.height

    def header(self, height: int) -> Header | None:
        made = self._made(height)
        if made is not None:
            return made.header
        return self.chain.genesis.header if height == 0 else None

    def block(self, height: int) -> bytes | None:
        made = self._made(height)
        return None if made is None else made.raw

    def outcomes(self, height: int) -> list[bytes] | None:
        made = self._made(height)
        return None if made is None else list(made.applied.outcomes)

    def finalization_at_or_above(self, height: int) -> tuple[int, Certificate] | None:
        world, tip = self.chain.world, self._tip.header
        parent = self.header(tip.height - 1)
        assert parent is not None
        content = Content(parent.view, self._tip.digest)
        payload = vote_payload(0, tip.view, Kind.FINALIZE, content)
        signatures = tuple(
            (index, world.votes[index].sign(VOTE_DOMAIN, world.chain_id, payload))
            for index in range(quorum(len(world.votes)))
        )
        return tip.height, Certificate(0, tip.view, Kind.FINALIZE, content, signatures)

    def seal(self, epoch: int) -> None:
        return None

    def state_record(self, key: bytes) -> bytes | None:
        return self.chain.records.get(key)

    def state_node(self, hash: bytes) -> bytes | None:
        return self.chain.nodes.get(hash)

    def history_node(self, level: int, index: int) -> bytes | None:
        return self.chain.history.get((level, index))

    def outcomes_of(self, uetr: bytes, first: int) -> Iterator[tuple[int, int]]:
        return ((at, index) for of, at, index in self._changes if of == uetr and at >= first)

    def about(self, uetr: bytes, first: int) -> Iterator[tuple[int, int]]:
        return ((at, index) for of, at, index in self._about if of == uetr and at >= first)

    def joined(self, asset: str, cycle: int) -> Iterator[JoinedEntry]:
        each = (entry for made in self.chain.blocks for entry in made.applied.joined)
        return (entry for entry in each if (entry.asset, entry.cycle) == (asset, cycle))

    def joined_leaves(self, asset: str, cycle: int) -> Iterator[bytes]:
        return (entry.leaf for entry in self.joined(asset, cycle))

    def cycle_closed(self, asset: str, cycle: int) -> tuple[int, int] | None:
        each = (entry for made in self.chain.blocks for entry in made.applied.closed)
        found = (entry for entry in each if (entry.asset, entry.cycle) == (asset, cycle))
        return next(((entry.height, entry.outcome) for entry in found), None)
