"""Blocks: digests, roots, the genesis header, and whether a body is the one its header names.

The header commits to each instruction's signed envelope, which carries the root of its payments.
So a body fits its header if the instructions parse (`instruction.parse_instruction`) and their
leaves have the header's root; a body that does not fit was damaged on the way, while a fitting
body that breaks a rule is the fault of the leader who signed the header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from node.chain.encoding import HEADER, VALIDATOR_SET, Malformed, decode, digest, encode
from node.chain.instruction import InstructionRefused, ParsedInstruction, parse_instruction
from node.chain.merkle import EMPTY_ROOT, OUTCOME_LEAF, root
from node.chain.types import Block, Header, ValidatorSet

if TYPE_CHECKING:
    from node.chain.genesis import Genesis

RULE_VERSION = 1
"""The rules that a chain starts with; `Header.version` names those that a block is executed by."""
SUPPORTED_RULES = (1, 2)
"""Versions of the rules that this software knows. They differ in how many queued payments of an
account resolution looks at (`node.ledger.rules`)."""
NO_PARENT = bytes(32)
"""The parent digest of the genesis block."""


class InspectedBlock(NamedTuple):
    """A decoded block whose instructions are still opaque bytes."""

    header: Header
    digest: bytes
    instructions: tuple[bytes, ...]


class BodyMismatch(ValueError):
    """Bytes that are no block, or whose body is not the one that the header commits to."""


def header_digest(header: Header) -> bytes:
    """What validators notarize and finalize, and what names a block."""
    return digest(HEADER, encode(header))


def validator_set_digest(validators: ValidatorSet) -> bytes:
    """What `Header.validator_set` and `Header.next_validator_set` hold."""
    return digest(VALIDATOR_SET, encode(validators))


def instructions_root(instructions: Iterable[ParsedInstruction]) -> bytes:
    """The root of a block's instruction tree."""
    return root([instruction.signed_leaf_hash for instruction in instructions])


def outcome_leaf(outcome: bytes) -> bytes:
    """The leaf of an outcome's canonical bytes in a block's outcome tree."""
    return sha256(OUTCOME_LEAF + outcome).digest()


def outcomes_root(outcomes: Sequence[bytes], leaves: Mapping[int, bytes] | None = None) -> bytes:
    """The root of a block's outcome tree over the canonical bytes of its outcomes.

    `leaves`: hashes of leaves that are known already, by index."""
    prefix, hashed = OUTCOME_LEAF, sha256
    if not leaves:
        return root([hashed(prefix + outcome).digest() for outcome in outcomes])
    return root(
        [
            leaves[index] if index in leaves else hashed(prefix + outcome).digest()
            for index, outcome in enumerate(outcomes)
        ]
    )


def genesis_header(genesis: Genesis, state_root: bytes) -> Header:
    """The header of height 0, which anyone computes from the genesis file.

    `state_root` is that of the state which the file describes. No one signs this block: it is
    final by definition, and its digest is what the first block names as its parent.
    """
    validators = validator_set_digest(genesis.validator_set)
    return Header(
        version=RULE_VERSION,
        chain_id=genesis.chain_id,
        epoch=0,
        view=0,
        height=0,
        parent=NO_PARENT,
        timestamp=genesis.time,
        proposer=0,
        instructions_count=0,
        instructions_root=EMPTY_ROOT,
        outcomes_count=0,
        outcomes_root=EMPTY_ROOT,
        state_root=state_root,
        history_root=EMPTY_ROOT,
        validator_set=validators,
        next_validator_set=validators,
    )


def seals(header: Header) -> bool:
    """Whether the block ends its epoch: a sealing block, or a carrier of one."""
    return header.next_validator_set != header.validator_set


def may_be_carrier(header: Header) -> bool:
    """Whether only the block below tells it from a carrier: it ends an epoch, and is empty. A
    carrier's parent has the carrier's own height."""
    return seals(header) and not (header.instructions_count or header.outcomes_count)


def carrier_header(seal: Header, *, view: int, proposer: int, parent: bytes) -> Header:
    """The only header that a carrier of this sealing block can have, given where it was proposed.

    A carrier descends from the sealing block in its epoch and serves to finalize it. It holds no
    instructions, and has the sealing block's height, time, state and history: it changes nothing.
    """
    return replace(
        seal,
        view=view,
        proposer=proposer,
        parent=parent,
        instructions_count=0,
        instructions_root=EMPTY_ROOT,
        outcomes_count=0,
        outcomes_root=EMPTY_ROOT,
    )


def encode_block(header: Header, instructions: Iterable[bytes]) -> bytes:
    """The canonical bytes of a block."""
    return encode(Block(header, tuple(instructions)))


def inspect_block(raw: bytes) -> InspectedBlock:
    """Decode a block's outer layer. Raises BodyMismatch.

    The instructions are only counted here; `check_body` ties them to the header.
    """
    try:
        block = decode(raw, Block)
    except Malformed as error:
        raise BodyMismatch(str(error)) from error
    header = block.header
    _check_count(header, len(block.instructions))
    return InspectedBlock(header, header_digest(header), block.instructions)


def _check_count(header: Header, held: int) -> None:
    if header.instructions_count != held:
        raise BodyMismatch(
            f"the header counts {header.instructions_count} instructions, the body holds {held}"
        )


def check_body(header: Header, instructions: Sequence[ParsedInstruction]) -> None:
    """Raise BodyMismatch unless these are the instructions that the header commits to."""
    _check_count(header, len(instructions))
    computed = instructions_root(instructions)
    if computed != header.instructions_root:
        raise BodyMismatch(
            f"the instructions have root {computed.hex()}, the header commits to "
            f"{header.instructions_root.hex()}"
        )


def parse_body(block: InspectedBlock) -> list[ParsedInstruction]:
    """Parse all instructions and tie them to the header. Raises BodyMismatch.

    Whoever holds instructions already parsed under the same bytes (a mempool) takes those and
    calls `check_body` alone.
    """
    parsed: list[ParsedInstruction] = []
    for index, raw in enumerate(block.instructions):
        try:
            parsed.append(parse_instruction(raw))
        except InstructionRefused as error:
            raise BodyMismatch(f"instruction {index}: {error}") from error
    check_body(block.header, parsed)
    return parsed
