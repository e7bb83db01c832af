"""Blocks with their outcomes, and what the ledger remembers of them without executing them.

Executed ids and used UETRs are not under `state_root`. A node that starts from a snapshot rebuilds
them from the blocks in which they could still count; nobody's list of them is believed. What
`entries` makes is byte for byte what the ledger made when it executed the block: the outcomes,
which the header commits to, tell all that its state decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from consensus.messages import Certificate
from node.chain.block import (
    BodyMismatch,
    InspectedBlock,
    inspect_block,
    outcomes_root,
    parse_body,
)
from node.chain.carried import carried_payment
from node.chain.encoding import UNDECODABLE, Malformed, decode, encode
from node.chain.instruction import InstructionRefused, ParsedInstruction
from node.chain.types import (
    MAX_VALIDITY_MS,
    CycleClosed,
    Header,
    Joined,
    Outcome,
    Payment,
    Returns,
    Unsigned,
)
from node.ledger.about import about
from node.ledger.entries import ClosedEntry, InstructionEntry, JoinedEntry, UetrEntry
from node.ledger.movements import MOVEMENTS, movement_digest
from node.ledger.reasons import DUPLICATE, REJECTED, UNDECIDED, WITHOUT_AUTHORITY
from node.storage.chain_store import ChainStore

WINDOW_ANSWER_BYTES = 8 * 1024 * 1024
"""An answer ends with the block that reaches so many bytes; a block is at most half of it."""
WINDOW_ANSWER_BLOCKS = 512
MAX_WINDOW_ANSWER_BYTES = 32 * 1024 * 1024
"""No honest answer is larger: one block above the mark, its outcomes and a certificate."""


class WindowBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A final block and what executing it gave."""

    block: bytes
    """Exact bytes."""
    outcomes: tuple[bytes, ...]
    """Canonical bytes of each, in the order of the outcomes tree."""


class WindowAnswer(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    forbid_unknown_fields=True,
    tag="window-answer/1",
):
    """Final blocks in ascending height. Each proves itself by its place in the history tree."""

    blocks: Annotated[tuple[WindowBlock, ...], Meta(max_length=WINDOW_ANSWER_BLOCKS)]
    finalized: Unsigned
    """Height of the last block here that has a finalization of its own; 0: none."""
    finalization: Certificate | None
    """Of that block."""


class BadWindow(ValueError):
    """A block or its outcomes are not what the header commits to."""


class Used(NamedTuple):
    """What the outcomes of one block say about UETRs."""

    uetrs: list[UetrEntry]
    changes: list[tuple[bytes, int]]
    following: list[tuple[bytes, bytes]]
    joined: list[JoinedEntry]
    closed: list[ClosedEntry]


class Rebuilt(NamedTuple):
    """What one block left in the ledger's indexes."""

    block: InspectedBlock
    ids: list[InstructionEntry]
    used: Used
    about: list[tuple[bytes, int]]


def window_answer(store: ChainStore, first: int) -> WindowAnswer:
    """Blocks from height `first` on, as far as one answer goes; empty above the floor."""
    blocks: list[WindowBlock] = []
    size, height = 0, first
    finalized, finalization = 0, None
    while size < WINDOW_ANSWER_BYTES and len(blocks) < WINDOW_ANSWER_BLOCKS:
        raw, outcomes = store.block(height), store.outcomes(height)
        if raw is None or outcomes is None:
            break
        blocks.append(WindowBlock(raw, tuple(outcomes)))
        size += len(raw) + sum(map(len, outcomes))
        certificate = store.finalization(height)
        if certificate is not None:
            finalized, finalization = height, certificate
        height += 1
    return WindowAnswer(tuple(blocks), finalized, finalization)


def window_start(store: ChainStore, tip: Header, uetr_window_ms: int, lowest: int) -> int:
    """The lowest height, at least `lowest`, whose ids or UETRs may still count after `tip`."""
    oldest = tip.timestamp - remembered_ms(uetr_window_ms)
    low, high = lowest, tip.height
    while low < high:
        middle = (low + high) // 2
        header = store.header(middle)
        assert header is not None, "headers above the horizon are held"
        if header.timestamp < oldest:
            low = middle + 1
        else:
            high = middle
    return max(low, 1)


def remembered_ms(uetr_window_ms: int) -> int:
    """How far back blocks matter to exactly-once: a UETR for the chain's window, an id until the
    latest `valid_until` that its block allowed."""
    return max(uetr_window_ms, MAX_VALIDITY_MS)


def rebuild(each: WindowBlock) -> Rebuilt:
    """Check body and outcomes against the block's own header, and make its index entries.

    That the header is the chain's is the caller's to check. Raises BadWindow."""
    try:
        block = inspect_block(each.block)
        parsed = parse_body(block)
    except (BodyMismatch, InstructionRefused) as error:
        raise BadWindow(f"the body does not match its header: {error}") from error
    header = block.header
    if header.outcomes_count != len(each.outcomes):
        raise BadWindow(
            f"block {header.height} has {header.outcomes_count} outcomes, {len(each.outcomes)} came"
        )
    if outcomes_root(each.outcomes) != header.outcomes_root:
        raise BadWindow(f"the outcomes of block {header.height} do not have the header's root")
    try:
        found = used(header, parsed, each.outcomes)
        return Rebuilt(block, _ids(header, parsed), found, about(parsed, each.outcomes))
    except (Malformed, *UNDECODABLE, IndexError) as error:
        raise BadWindow(f"an outcome of block {header.height}: {error}") from error


def _ids(header: Header, parsed: Sequence[ParsedInstruction]) -> list[InstructionEntry]:
    made = []
    for index, each in enumerate(parsed):
        envelope = each.instruction.envelope
        made.append(
            InstructionEntry(
                envelope.sender,
                envelope.id,
                envelope.valid_until,
                each.digest,
                header.height,
                index,
            )
        )
    return made


_outcome = msgspec.msgpack.Decoder(Outcome)


def used(header: Header, parsed: Sequence[ParsedInstruction], outcomes: Sequence[bytes]) -> Used:
    """The UETRs that the block used up or whose payments it changed, and how they hang together.

    A retry and a duplicate leave the entry that stands; a rejection for want of authority uses up
    none (`node.ledger.reasons`)."""
    uetrs: dict[bytes, UetrEntry] = {}
    changes: list[tuple[bytes, int]] = []
    following: list[tuple[bytes, bytes]] = []
    joins: list[JoinedEntry] = []
    closed: list[ClosedEntry] = []
    decode_outcome = _outcome.decode
    for place, raw in enumerate(outcomes):
        outcome = decode_outcome(raw)
        uetr, reason = outcome.uetr, outcome.reason
        if uetr is None:
            if isinstance(outcome.event, CycleClosed):
                event = outcome.event
                closed.append(ClosedEntry(event.asset, event.cycle, header.height, place))
            continue
        if outcome.content is not None:
            uetrs[uetr] = _changed(header, outcome, uetr, outcome.content)
            changes.append((uetr, place))
            continue
        if outcome.original is not None or reason == DUPLICATE or reason in WITHOUT_AUTHORITY:
            continue
        content, payment = _ordered(parsed, outcome)
        joined = outcome.event.cycle if isinstance(outcome.event, Joined) else None
        assert outcome.instruction is not None
        uetrs[uetr] = UetrEntry(
            uetr,
            content,
            header.timestamp,
            header.height,
            outcome.instruction,
            outcome.payment,
            outcome.status,
            reason,
            header.height,
            joined,
        )
        if outcome.status in UNDECIDED and joined is None:
            changes.append((uetr, place))
        if joined is not None and payment is not None:
            at = header.height, outcome.instruction, outcome.payment
            joins.append(JoinedEntry(payment.asset, joined, content, *at))
        if outcome.status == REJECTED:
            continue
        if payment is not None and payment.previous is not None:
            following.append((payment.previous, uetr))
        if isinstance(outcome.event, Returns):
            following.append((outcome.event.original, uetr))
    return Used(list(uetrs.values()), changes, following, joins, closed)


def _changed(header: Header, outcome: Outcome, uetr: bytes, content: bytes) -> UetrEntry:
    first = outcome.original
    if first is None:
        raise Malformed("a change names no first outcome")
    return UetrEntry(
        uetr,
        content,
        header.timestamp,
        first.height,
        first.instruction,
        first.payment,
        outcome.status,
        outcome.reason,
        header.height,
        None,
    )


def _ordered(parsed: Sequence[ParsedInstruction], outcome: Outcome) -> tuple[bytes, Payment | None]:
    """(content, payment if it is one) that a first outcome is of."""
    if outcome.instruction is None:
        raise Malformed("a first outcome names no instruction")
    instruction = parsed[outcome.instruction]
    digests = instruction.payment_digests
    if digests:
        return digests[outcome.payment], instruction.instruction.payments[outcome.payment]
    carried = carried_payment(instruction, outcome.payment)
    if carried is not None:
        return carried.digest, carried.payment
    body = instruction.instruction.envelope.body
    if not isinstance(body, MOVEMENTS):
        raise Malformed(
            f"[{outcome.instruction}, {outcome.payment}] names a UETR, the instruction has none"
        )
    return movement_digest(instruction.instruction.envelope.sender, body), None


def encode_window(answer: WindowAnswer) -> bytes:
    """Canonical bytes."""
    return encode(answer)


def decode_window(data: bytes) -> WindowAnswer:
    """Raises Malformed."""
    return decode(data, WindowAnswer)
