"""A small chain of blocks, and the stores and files that storage tests damage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from consensus.interface import BlockInfo, Floor
from consensus.messages import (
    Certificate,
    Content,
    Digest,
    Epoch,
    Height,
    Kind,
    Milliseconds,
    ValidatorIndex,
    View,
)
from node.chain.encoding import HEADER, digest, encode
from node.chain.types import Block, Header
from node.ledger.entries import InstructionEntry, UetrEntry
from node.storage.chain_store import ChainStore, CommittedBlock
from node.storage.kv import KeyValue

ZERO = bytes(32)
SENDER = "5299000J2N45DDNE4Y28"
UETRS_PER_BLOCK = 3


def mix(*parts: object) -> bytes:
    """A digest of the parts' text: bytes that look like any hash."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).digest()


def make_block(height: int, parent: bytes, padding: int = 200) -> CommittedBlock:
    """The block at `height`, every part of it a function of the height."""
    header = Header(
        version=1,
        chain_id=ZERO,
        epoch=0,
        view=height,
        height=height,
        parent=parent,
        timestamp=1_000 + height,
        proposer=0,
        instructions_count=1,
        instructions_root=ZERO,
        outcomes_count=1,
        outcomes_root=ZERO,
        state_root=mix("state", height),
        history_root=ZERO,
        validator_set=ZERO,
        next_validator_set=ZERO,
    )
    info = BlockInfo(
        Digest(digest(HEADER, encode(header))),
        Digest(parent),
        Epoch(0),
        View(height),
        Height(height),
        Milliseconds(header.timestamp),
        ValidatorIndex(0),
    )
    body = mix("body", height) * (padding // 32)
    return CommittedBlock(
        info,
        encode(Block(header, (body,))),
        [encode(f"outcome {height}")],
        {b"account": height.to_bytes(8, "big"), mix("record", height): b"r"},
        [(mix("node", height), b"node")],
        [((0, height), mix("leaf", height))],
        [InstructionEntry(SENDER, f"id-{height}", 9_999, mix("envelope", height), height, 0)],
        [
            UetrEntry(
                uetr_of(height, payment),
                mix("payment", height, payment),
                header.timestamp,
                height,
                0,
                payment,
                "ACSC",
                None,
                height,
                None,
            )
            for payment in range(UETRS_PER_BLOCK)
        ],
    )


def uetr_of(height: int, payment: int) -> bytes:
    return mix("uetr", height, payment)[:16]


def floor_of(block: CommittedBlock) -> Floor:
    """The floor at this block; the signatures are none of storage's business."""
    if block.info.height == 0:
        return Floor(block.info, None)
    content = Content(block.info.view - 1, block.info.digest)
    signatures = tuple((index, bytes(64)) for index in range(3))
    return Floor(block.info, Certificate(0, block.info.view, Kind.FINALIZE, content, signatures))


def make_chain(length: int, padding: int = 200) -> list[CommittedBlock]:
    """Blocks 0 … length−1."""
    blocks: list[CommittedBlock] = []
    parent = ZERO
    for height in range(length):
        blocks.append(make_block(height, parent, padding))
        parent = blocks[-1].info.digest
    return blocks


def commit_each(store: ChainStore, blocks: Iterable[CommittedBlock]) -> None:
    for block in blocks:
        store.commit([block], floor_of(block))


def assert_whole(kv: KeyValue, blocks: list[CommittedBlock]) -> int:
    """Everything up to the floor is there, nothing above it; returns the number of blocks."""
    store = ChainStore(kv)
    floor = store.floor()
    count = 0 if floor is None else floor.info.height + 1
    if count:
        assert floor == floor_of(blocks[count - 1])
    for height, block in enumerate(blocks):
        there = height < count
        assert store.block(height) == (block.raw if there else None)
        assert store.outcomes(height) == (list(block.outcomes) if there else None)
        assert store.info(height) == (block.info if there else None)
        assert store.height_of(block.info.digest) == (height if there else None)
        assert store.state_node(block.nodes[0][0]) == (b"node" if there else None)
        assert store.history_node(0, height) == (block.history_nodes[0][1] if there else None)
        assert store.instruction(SENDER, f"id-{height}") == (block.ids[0] if there else None)
        for used in block.uetrs:
            assert store.uetr(used.uetr) == (used if there else None)
    if count:
        assert store.state_record(b"account") == (count - 1).to_bytes(8, "big")
    return count
