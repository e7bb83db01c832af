"""Why blocks are final: the part that every file of evidence of this chain has.

Nothing here is trusted by anybody: evidence proves itself. What this must get right is to find the
parts; storage that lacks one is told which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

from consensus.messages import Certificate
from node.audit.dossier import EndedEpoch, Finality, ProvenBlock
from node.audit.epochs import EpochLink
from node.chain.block import header_digest, inspect_block, may_be_carrier
from node.chain.encoding import decode, encode
from node.chain.merkle import stored_inclusion_proof
from node.chain.records import ValidatorSetKey
from node.chain.types import Header, ValidatorSet

T = TypeVar("T")


class EvidenceUnavailable(Exception):
    """The store lacks a part of the evidence; the text names it."""


class EvidenceTooLarge(EvidenceUnavailable):
    """The evidence would be larger than a file of its kind may be; the text says what to do."""


def required(value: T | None, what: str) -> T:
    """The value. Raises EvidenceUnavailable, naming what is not there."""
    if value is None:
        raise EvidenceUnavailable(f"{what} is not stored here")
    return value


class Seal(Protocol):
    """How an epoch ended."""

    @property
    def height(self) -> int:
        """Of the sealing block."""

    @property
    def carriers(self) -> tuple[bytes, ...]:
        """The exact bytes of the blocks from its child to the one that `finalization` names."""

    @property
    def finalization(self) -> Certificate: ...


class EpochSource(Protocol):
    """What is read of the epochs of a chain."""

    def header(self, height: int) -> Header | None: ...

    def seal(self, epoch: int) -> Seal | None:
        """How this epoch ended; None while it has not."""

    def state_record(self, key: bytes) -> bytes | None:
        """A record of the last final block's state."""


class ProvenSource(EpochSource, Protocol):
    """What is read to prove that a block is final."""

    def finalization_at_or_above(self, height: int) -> tuple[int, Certificate] | None:
        """The nearest finalization that makes `height` final, with the height that it, or a
        carrier which it names, has."""

    def history_node(self, level: int, index: int) -> bytes | None:
        """A completed node of the history tree."""


class HeadedSource(ProvenSource, Protocol):
    """One that knows how far it goes."""

    def height(self) -> int | None:
        """Height of the last final block."""


class Proven(NamedTuple):
    """Blocks, and why they are final: fields of a `Dossier` and of the proofs of states."""

    blocks: tuple[ProvenBlock, ...]
    epochs: tuple[EndedEpoch, ...]
    finality: Finality


def last_final(source: HeadedSource) -> Header:
    """The header of the last final block. Raises EvidenceUnavailable."""
    return stored_header(source, required(source.height(), "a chain"))


def prove_blocks(source: ProvenSource, checkpoint: Header, needed: Mapping[int, bool]) -> Proven:
    """The blocks of these heights, and the checkpoint, which is none of them below.

    `needed`: height → whether something is proven in the state before the block. Raises
    EvidenceUnavailable."""
    certified, finality = prove_final(source, checkpoint)
    if certified != checkpoint:
        raise EvidenceUnavailable(f"a finalization of block {checkpoint.height} is not stored here")
    links = epoch_links(source, 0, checkpoint.epoch - 1)
    seals = [link.seal for link in links]
    blocks = []
    for height in sorted({*needed, checkpoint.height}):
        header = checkpoint if height == checkpoint.height else stored_header(source, height)
        last = seals[header.epoch] if header.epoch < checkpoint.epoch else checkpoint
        below = needed.get(height) or (header is checkpoint and may_be_carrier(header))
        parent = stored_header(source, height - 1) if below else None
        path = () if height == last.height else history_path(source, height, last.height)
        blocks.append(ProvenBlock(header, parent, path))
    sizes = [*(seal.height for seal in seals[1:]), checkpoint.height]
    epochs = tuple(
        EndedEpoch(link, history_path(source, link.seal.height, size))
        for link, size in zip(links, sizes[: len(links)], strict=True)
    )
    return Proven(tuple(blocks), epochs, finality)


def prove_final(source: ProvenSource, header: Header) -> tuple[Header, Finality]:
    """Why this final block is final: a certified block of its epoch, at or above it, and what
    certifies that. Raises EvidenceUnavailable."""
    found = source.finalization_at_or_above(header.height)
    if found is not None:
        at, certificate = found
        block = header if at == header.height else stored_header(source, at)
        names = None if certificate.content is None else certificate.content.block
        if block.epoch == header.epoch and names == header_digest(block):
            return block, Finality(certificate, ())
    seal = source.seal(header.epoch)
    if seal is None:
        raise EvidenceUnavailable(
            f"a finalization of block {header.height} or above is not stored here"
        )
    return stored_header(source, seal.height), Finality(seal.finalization, _carriers(seal))


def epoch_links(source: EpochSource, first: int, last: int) -> list[EpochLink]:
    """The links of the ended epochs `first` to `last`. Raises EvidenceUnavailable."""
    return [_epoch_link(source, epoch) for epoch in range(first, last + 1)]


def _epoch_link(source: EpochSource, epoch: int) -> EpochLink:
    seal = required(source.seal(epoch), f"the end of epoch {epoch}")
    key = encode(ValidatorSetKey(epoch + 1))
    following = required(source.state_record(key), f"the validator set of epoch {epoch + 1}")
    return EpochLink(
        stored_header(source, seal.height),
        _carriers(seal),
        seal.finalization,
        decode(following, ValidatorSet),
    )


def _carriers(seal: Seal) -> tuple[Header, ...]:
    return tuple(inspect_block(raw).header for raw in seal.carriers)


def stored_header(source: EpochSource, height: int) -> Header:
    """The header of a final block. Raises EvidenceUnavailable."""
    return required(source.header(height), f"header {height}")


def history_path(source: ProvenSource, height: int, size: int) -> tuple[bytes, ...]:
    """That the block of `height` is in the history of the block of height `size`. Raises
    EvidenceUnavailable."""

    def node(level: int, index: int) -> bytes:
        return required(source.history_node(level, index), f"history node {level}/{index}")

    return tuple(stored_inclusion_proof(node, height, size))
