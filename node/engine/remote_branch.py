"""Another branch of a chain: the own store up to where they part, then a source's blocks.

Enough of `node.audit.fork.ForkSource` to make the proof of a fork from the own copy and one sync
answer that a quorum stands behind.
"""

from __future__ import annotations

from consensus.messages import Certificate, Equivocation, SyncResponse
from node.audit.build_chain import Seal
from node.audit.fork import build_fork
from node.chain.block import header_digest, inspect_block
from node.chain.genesis import Genesis
from node.chain.merkle import history_leaf, node_hash
from node.chain.types import Header
from node.storage.chain_store import ChainStore, SealRecord


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


def prove_fork(own: ChainStore, answer: SyncResponse, genesis: Genesis) -> bytes:
    """The proof that the own chain and this answer part, in the format of `nostro audit fork`.

    It names who made the fork where the two finalizations do by themselves; the notarizations and
    nullifications that name them in every case are with the nodes. Raises EvidenceUnavailable,
    NoFork."""
    return build_fork([own, RemoteBranch(own, answer)], genesis)
