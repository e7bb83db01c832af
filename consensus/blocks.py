"""The blocks above the floor, their bodies and verdicts, and how they hang together.

Owned here: a block is handed out for execution at most once per process, and only when its
parent has been executed or is the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.interface import BlockInfo
from consensus.messages import Digest


@dataclass(slots=True)
class Block:
    """A block whose body is here."""

    info: BlockInfo
    raw: bytes
    certified: bool = False
    """Notarized or final, or an ancestor of such a block: its execution must succeed."""
    requested: bool = False
    """Its execution was asked for in this process."""
    valid: bool | None = None
    """The application's verdict; kept in memory only, since a verdict is a hint: after a restart
    the block is executed again."""
    durable: bool = False
    """A journal record holds the body."""


def follows(info: BlockInfo, parent: BlockInfo) -> bool:
    """Whether height and time follow the parent's. A sealing block's descendants in its epoch
    are carriers: they have its height and time, and seal as it does."""
    if parent.seals:
        return (info.height, info.timestamp, info.seals) == (parent.height, parent.timestamp, True)
    return info.height == parent.height + 1 and info.timestamp > parent.timestamp


class BlockTree:
    """Blocks above the floor by digest. What is certified is never evicted; what is not is
    bounded by one proposal a view."""

    def __init__(self, floor: BlockInfo) -> None:
        self._floor = floor
        self._blocks: dict[Digest, Block] = {}
        self._children: dict[Digest, list[Block]] = {}

    def get(self, digest: bytes) -> Block | None:
        """The block with this digest, if its body is here."""
        return self._blocks.get(Digest(digest))

    def add(self, info: BlockInfo, raw: bytes) -> Block:
        """Keep a body; the block that is there already if it is."""
        block = self._blocks.get(info.digest)
        if block is None:
            block = self._blocks[info.digest] = Block(info, raw)
            self._children.setdefault(info.parent, []).append(block)
        return block

    def children(self, digest: Digest) -> list[Block]:
        """Blocks that name this one as parent, in order of arrival."""
        return self._children.get(digest, [])

    def is_executed(self, digest: bytes) -> bool:
        """Whether a child of this block can be executed: it is the floor or executed well."""
        if digest == self._floor.digest:
            return True
        block = self._blocks.get(Digest(digest))
        return block is not None and block.valid is True

    def info(self, digest: bytes) -> BlockInfo | None:
        """Header fields of the floor or of a block that is here."""
        if digest == self._floor.digest:
            return self._floor
        block = self._blocks.get(Digest(digest))
        return None if block is None else block.info

    def path(self, block: Block) -> list[Block] | None:
        """The blocks from above the floor to this one, ascending in height; None if it does not
        descend from the floor."""
        path = [block]
        while path[-1].info.parent != self._floor.digest:
            parent = self._blocks.get(path[-1].info.parent)
            if parent is None:
                return None
            path.append(parent)
        path.reverse()
        return path

    def all(self) -> list[Block]:
        """All blocks, ascending in view."""
        return sorted(self._blocks.values(), key=lambda b: (b.info.view, b.info.digest))

    def raise_floor(self, floor: BlockInfo) -> None:
        """Forget everything at or below the new floor's view."""
        self._floor = floor
        kept = [block for block in self._blocks.values() if block.info.view > floor.view]
        self._blocks = {block.info.digest: block for block in kept}
        self._children = {}
        for block in kept:
            self._children.setdefault(block.info.parent, []).append(block)
