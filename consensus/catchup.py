"""Checking a chunk of final blocks from a peer's storage: one answer proves itself.

The blocks chain by parent digest from our floor to the block that the finalization names, so the
one certificate vouches for all of them. Its signatures are the caller's to check.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.blocks import follows
from consensus.interface import BlockCodec, BlockInfo, BodyMismatch, Floor
from consensus.messages import Certificate, Epoch, Kind, SyncResponse

MAX_CHUNK = 10_000
"""Blocks in one answer. Their bytes are bounded by the transport's frame."""


class BadAnswer(ValueError):
    """The chunk does not prove itself. `reason` is a short fixed text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LateAnswer(BadAnswer):
    """The chunk continues another floor, or is of an epoch before: the answer to an earlier
    question, no fault."""


def check_answer(
    answer: SyncResponse, floor: Floor, epoch: Epoch, codec: BlockCodec
) -> list[BlockInfo]:
    """The blocks of a chunk that continues this floor, and its carriers. Raises BadAnswer, or
    LateAnswer."""
    if not 0 < len(answer.blocks) <= MAX_CHUNK:
        raise BadAnswer("no blocks, or too many")
    certificate = answer.finalization
    if certificate.kind is not Kind.FINALIZE or certificate.content is None:
        raise BadAnswer("the certificate is no finalization")
    if certificate.epoch < epoch:
        raise LateAnswer("not asked for")
    if certificate.epoch != epoch:
        raise BadAnswer("the certificate is of another epoch")
    infos: list[BlockInfo] = []
    parent = floor.info
    for raw in answer.blocks:
        try:
            info = codec.inspect(raw)
        except BodyMismatch as bad:
            raise BadAnswer("a body does not match its header") from bad
        if not infos and info.height != floor.info.height + 1:
            raise LateAnswer("not asked for")
        if info.parent != parent.digest or info.height != parent.height + 1:
            raise BadAnswer("the blocks do not chain up from our floor")
        if info.view <= parent.view or info.epoch != epoch:
            raise BadAnswer("the blocks' views do not ascend in this epoch")
        if parent.seals:
            raise BadAnswer("a block stands after the one that seals the epoch")
        infos.append(info)
        parent = info
    if answer.carriers and not parent.seals:
        raise BadAnswer("carriers stand on a block that does not seal the epoch")
    return infos + check_carriers(answer.carriers, parent, certificate, codec)


def check_carriers(
    carriers: Sequence[bytes],
    seal: BlockInfo | None,
    finalization: Certificate,
    codec: BlockCodec,
) -> list[BlockInfo]:
    """The carriers between `seal` (None: it is not here yet) and the block that `finalization`
    names. Raises BadAnswer. What else a carrier's header says, its voters have checked."""
    assert finalization.content is not None
    infos: list[BlockInfo] = []
    parent = seal
    for raw in carriers:
        try:
            info = codec.inspect(raw)
        except BodyMismatch as bad:
            raise BadAnswer("a carrier is no block") from bad
        if not info.seals or (parent is not None and not _carries(info, parent)):
            raise BadAnswer("the carriers do not chain up from the sealing block")
        infos.append(info)
        parent = info
    named = (finalization.content.block, finalization.view)
    if parent is not None and (parent.digest, parent.view) != named:
        raise BadAnswer("the finalization is not of the last block")
    return infos


def _carries(info: BlockInfo, parent: BlockInfo) -> bool:
    return (
        info.parent == parent.digest
        and info.epoch == parent.epoch
        and info.view > parent.view
        and follows(info, parent)
    )
