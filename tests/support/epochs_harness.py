"""Driving one node through several validator sets: `Member` is a `Solo` over `Epochs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from consensus.core import Core
from consensus.epochs import Epochs
from consensus.interface import Effect, EpochStarted, Floor, Now
from consensus.messages import (
    Content,
    Epoch,
    EpochSealed,
    Kind,
    Record,
    SyncResponse,
    ValidatorIndex,
    View,
)
from tests.support.consensus_harness import Block, Chain, MemorySigner, Solo

STAY = {ValidatorIndex(i): ValidatorIndex(i) for i in range(16)}
"""Where members are in the next set if nobody moves."""


class KeyRing(MemorySigner):
    """A vote key for each epoch, each with a record of its own."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.keys: dict[int, MemorySigner] = {}

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        return self.keys[epoch].sign_vote(epoch, view, kind, content)

    def add(self, chain: Chain, index: int | None) -> None:
        """The key of this validator of an epoch's set; an observer has none."""
        if index is not None:
            self.keys.setdefault(chain.epoch, MemorySigner(chain.secrets[index]))


class Member(Solo):
    """One node under test, through all its epochs; the test stores what it commits."""

    def __init__(
        self,
        index: int | None = 0,
        *,
        chain: Chain | None = None,
        ring: KeyRing | None = None,
        records: list[Record] | None = None,
        floor: Floor | None = None,
        execute: bool = True,
        now: Now | None = None,
        confirm: bool = True,
    ) -> None:
        chain = chain or Chain()
        self.ring = ring or KeyRing()
        self.ring.add(chain, index)
        super().__init__(
            index,
            chain=chain,
            signer=self.ring,
            records=records or (),
            floor=floor,
            execute=execute,
            now=now,
            confirm=confirm,
        )

    def _make(self, **arguments: Any) -> Core:
        self.epochs = Epochs(**arguments)
        return cast(Core, self.epochs)

    def enter(
        self,
        chain: Chain,
        index: int | None = 0,
        moved: Mapping[ValidatorIndex, ValidatorIndex] = STAY,
        *,
        confirm: bool = True,
    ) -> list[Effect]:
        """What the driver says once the sealing block is stored: the next epoch begins."""
        self.chain, self.index = chain, index
        self.ring.add(chain, index)
        place = None if index is None else ValidatorIndex(index)
        started = EpochStarted(chain.epoch, tuple(chain.keys), place, chain.floor, moved)
        effects = self.do(started)
        return effects + (self.confirm() if confirm else [])

    def again(
        self,
        chain: Chain | None = None,
        index: int | None = 0,
        floor: Floor | None = None,
        *,
        confirm: bool = True,
    ) -> Member:
        """Crash and come back from the whole journal, in the epoch that the database is in."""
        return Member(
            index,
            chain=chain or self.chain,
            ring=self.ring,
            records=list(self.journal),
            floor=floor,
            execute=self.execute,
            now=Now(0, self.now.wall + 1),
            confirm=confirm,
        )


def sealed(chain: Chain, *carriers: Block) -> EpochSealed:
    """What those who left the epoch tell: final is the last of these, carriers all but one."""
    seal, *above = carriers
    last = above[-1] if above else seal
    return EpochSealed(chain.epoch, tuple(each.raw for each in above), chain.finalization(last))


def chunk(chain: Chain, blocks: list[Block], carriers: list[Block]) -> SyncResponse:
    """Final blocks of one epoch, the last of them or of the carriers finalized."""
    return SyncResponse(
        tuple(block.raw for block in blocks),
        tuple(block.raw for block in carriers),
        chain.finalization((blocks + carriers)[-1]),
    )
