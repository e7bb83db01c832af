"""Another branch of a chain: the own store up to where they part, then a source's blocks.

Enough of `node.audit.fork.ForkSource` to make the proof of a fork from the own copy and one sync
answer that a quorum stands behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from consensus.messages import Certificate, Equivocation, SyncResponse
from node.audit.build_chain import Seal
from node.audit.epochs import check_finalization
from node.audit.fault import Fault
from node.audit.fork import ForkSource, build_fork
from node.chain.block import header_digest, inspect_block
from node.chain.genesis import Genesis
from node.chain.merkle import history_leaf, node_hash
from node.chain.types import Header, ValidatorSet
from node.storage.chain_store import ChainStore, SealRecord

Finalizations = Mapping[int, Certificate]
"""By the height of the block that each names."""


class RemoteBranch:
    """The blocks of an answer on top of the own chain below them."""

    def __init__(self, own: ChainStore, answer: SyncResponse) -> None:
        """`answer`: checked to chain up from the own block below its first one."""
        self._own = own
        self._answer = answer
        self._headers = [inspect_block(raw).header for raw in answer.blocks]
        self._first = self._headers[0].height

    def height(self) -> int | None:
        """Of the answer's last block."""
        return self._headers[-1].height

    def header(self, height: int) -> Header | None:
        if height < self._first:
            return self._own.header(height)
        at = height - self._first
        return self._headers[at] if at < len(self._headers) else None

    def finalization_at_or_above(self, height: int) -> tuple[int, Certificate] | None:
        if height <= self._headers[-1].height:
            return self._headers[-1].height, self._answer.finalization
        return None

    def seal(self, epoch: int) -> Seal | None:
        last = self._headers[-1]
        if epoch < last.epoch:
            return self._own.seal(epoch)
        if epoch > last.epoch or last.next_validator_set == last.validator_set:
            return None
        return SealRecord(last.height, self._answer.carriers, self._answer.finalization)

    def state_record(self, key: bytes) -> bytes | None:
        """The own state's: what is read of it is validator sets of epochs below."""
        return self._own.state_record(key)

    def history_node(self, level: int, index: int) -> bytes | None:
        first, after = index << level, (index + 1) << level
        if after <= self._first:
            return self._own.history_node(level, index)
        if after > self._headers[-1].height + 1:
            return None
        if level == 0:
            return history_leaf(header_digest(self._headers[first - self._first]))
        left = self.history_node(level - 1, 2 * index)
        right = self.history_node(level - 1, 2 * index + 1)
        return None if left is None or right is None else node_hash(left, right)

    def certificates(self, epoch: int, first_view: int, last_view: int) -> list[Certificate]:
        """None: a sync answer has finalizations alone."""
        return []

    def evidence(self) -> list[Equivocation]:
        return []


class _MoreCertified:
    """A branch, and finalizations of its blocks that others have."""

    def __init__(self, branch: ForkSource, more: Finalizations) -> None:
        self._branch = branch
        self._more = sorted(more.items())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._branch, name)

    def finalization_at_or_above(self, height: int) -> tuple[int, Certificate] | None:
        """The nearest of all."""
        found = [each for each in self._more if each[0] >= height][:1]
        own = self._branch.finalization_at_or_above(height)
        return min(
            [*found, *([] if own is None else [own])], key=lambda each: each[0], default=None
        )


def _sound(
    branch: ForkSource, more: Finalizations, validators: ValidatorSet, chain_id: bytes
) -> Finalizations:
    """Those that these validators signed, of this branch's blocks."""
    found = {}
    for height, certificate in more.items():
        header = branch.header(height)
        if header is None or header.epoch != validators.epoch:
            continue
        with suppress(Fault):
            check_finalization(certificate, header, None, validators, chain_id=chain_id)
            found[height] = certificate
    return found


def prove_fork(
    own: ChainStore,
    answer: SyncResponse,
    genesis: Genesis,
    validators: ValidatorSet,
    more: tuple[Finalizations, Finalizations],
) -> bytes:
    """The proof that the own chain and this answer part, in the format of `nostro audit fork`.

    `validators`: of the epoch in which they part. `more`: finalizations of the own chain's and of
    the answer's blocks, as sources tell of them; those that hold are used. Two of one view name who
    made the fork. Where the branches have none in common, the notarizations and nullifications that
    name them are with the nodes. Raises EvidenceUnavailable, NoFork."""
    sides: list[ForkSource] = [own, RemoteBranch(own, answer)]
    certified = [
        cast(ForkSource, _MoreCertified(each, _sound(each, told, validators, genesis.chain_id)))
        for each, told in zip(sides, more, strict=True)
    ]
    return build_fork(certified, genesis)
