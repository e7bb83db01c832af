"""Serving final blocks to a node that is behind, from the database, one bounded answer each.

An answer ends at a height whose finalization is stored, so it proves itself: the asker checks one
certificate and the chain of parent digests. It never goes beyond the block that seals an epoch:
who signs from there on, the asker learns by executing that block. Between two stored
finalizations honest leaders put at most `Timing.max_unfinalized` blocks with instructions, so that
one always fits.
"""

from __future__ import annotations

from consensus.messages import SyncResponse
from node.network.frames import CHANNEL_LIMIT, Channel
from node.storage.chain_store import ChainStore

SYNC_ANSWER_BYTES = 8 * 1024 * 1024
"""An answer ends at the first certified height at or above this many bytes of blocks."""
SYNC_ANSWER_BLOCKS = 512
"""… or this many blocks."""
MAX_ANSWER_BYTES = CHANNEL_LIMIT[Channel.SYNC] - 1024 * 1024
"""No answer is larger; the difference is room for framing and the certificate."""


def sync_response(store: ChainStore, first: int) -> SyncResponse | None:
    """Final blocks from height `first` on; None where this node has none."""
    blocks: list[bytes] = []
    size = 0
    answer: SyncResponse | None = None
    height = first
    while first > 0:
        block = store.block(height)
        if block is None:
            break
        blocks.append(block)
        size += len(block)
        if size > MAX_ANSWER_BYTES:
            break
        certificate = store.finalization(height)
        if certificate is not None:
            info = store.info(height)
            seal = store.seal(info.epoch) if info is not None and info.seals else None
            carriers = () if seal is None else seal.carriers
            answer = SyncResponse(tuple(blocks), carriers, certificate)
            if seal is not None or size >= SYNC_ANSWER_BYTES or len(blocks) >= SYNC_ANSWER_BLOCKS:
                break
        height += 1
    return answer
