"""A whole chain in one file, to be read in one pass: docs/reference/archive-format.md.

A stream of MessagePack arrays, one after the other, nothing between them:

    ["nostro-archive/1", chain id, network, first height, last height, outcomes?]
    for each height:
        ["block", height, block, finalization or nil, seal or nil, outcomes or nil]
        ["certificate", height, certificate]         any number, by view and kind
    ["equivocation", equivocation]                   any number
    ["end", blocks, last height, digest of the last header]
    SHA-256 of everything before it, as 32 bytes of binary

`write_archive` copies a chain and judges nothing. `ArchiveReader` holds one record at a time and
is a source for `chain_audit`; it raises `Damaged`, with the height and the byte, for what is no
archive: a gap, another order, an end too early or too late, a record that nothing asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import IO, NamedTuple, TypeVar

import msgpack

from consensus.messages import Certificate, Equivocation
from node.audit.archive_records import (
    FORMAT,
    BlockRecord,
    CertificateRecord,
    End,
    EquivocationRecord,
    Head,
    Records,
    named,
)
from node.audit.audit_report import Damaged
from node.audit.chain_certificates import MAX_VIEWS
from node.audit.replay import ChainSource
from node.chain.block import BodyMismatch, header_digest, inspect_block
from node.chain.encoding import Malformed, decode, encode
from node.chain.genesis import Genesis
from node.chain.types import Header

MAX_EQUIVOCATIONS = 100_000
"""That one node can have seen."""
T = TypeVar("T")


class HeldSeal(NamedTuple):
    """How an epoch ended."""

    height: int
    carriers: tuple[bytes, ...]
    finalization: Certificate


class CannotArchive(Exception):
    """The source lacks a part of the chain; the text says which."""


class Written(NamedTuple):
    """What an archive holds."""

    blocks: int
    last: int
    digest: bytes
    """Of the last header."""
    size: int
    """Bytes."""
    sha256: bytes
    """Of everything before it: the archive's own check."""


# --- writing ------------------------------------------------------------------------------------


def write_archive(
    source: ChainSource,
    file: IO[bytes],
    genesis: Genesis,
    progress: Callable[[int, int], None] | None = None,
    *,
    outcomes: bool = True,
) -> Written:
    """Write a whole chain, from the genesis block on, to a file that was opened for it.

    `genesis`: the chain's, which names its network. `progress(height, last)`, after each block.
    `outcomes`: whether the source holds them. Makes nothing durable: that is the caller's. Raises
    CannotArchive, OSError (a full disk) and what the source raises."""
    last = source.height()
    if last is None:
        raise CannotArchive("the store holds no chain")
    stream = _Stream(file)
    parent: Header | None = None
    for height in range(last + 1):
        raw = source.block(height)
        if raw is None:
            raise CannotArchive(f"block {height} is missing: an archive has all from genesis on")
        header = _header(height, raw)
        if parent is None:
            if header.chain_id != genesis.chain_id:
                raise CannotArchive(
                    f"this is chain {header.chain_id.hex()}, the genesis file is of "
                    f"{genesis.chain_id.hex()}"
                )
            stream.put(FORMAT, header.chain_id, genesis.network, 0, last, outcomes)
        _put_block(stream, source, header, parent, raw, outcomes=outcomes)
        parent = header
        if progress is not None:
            progress(height, last)
    assert parent is not None
    for each in source.evidence():
        stream.put("equivocation", encode(each))
    digest = header_digest(parent)
    stream.put("end", last + 1, last, digest)
    own = stream.digest()
    stream.write(msgpack.packb(own))
    return Written(last + 1, last, digest, stream.size, own)


class _Stream:
    """Packs, counts and hashes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = sha256()
        self._packer = msgpack.Packer()
        self.size = 0

    def put(self, *record: object) -> None:
        self.write(self._packer.pack(record))

    def write(self, packed: bytes) -> None:
        self._hash.update(packed)
        self._file.write(packed)
        self.size += len(packed)

    def digest(self) -> bytes:
        return self._hash.digest()


def _header(height: int, raw: bytes) -> Header:
    try:
        return inspect_block(raw).header
    except BodyMismatch as error:
        raise CannotArchive(f"block {height} is damaged: {error}") from error


def _put_block(
    stream: _Stream,
    source: ChainSource,
    header: Header,
    parent: Header | None,
    raw: bytes,
    *,
    outcomes: bool,
) -> None:
    height, last_view = header.height, header.view
    finalization = source.finalization(height) if height else None
    seal = None
    if height and header.next_validator_set != header.validator_set:
        ended = source.seal(header.epoch)
        if ended is None:
            raise CannotArchive(f"block {height} ends epoch {header.epoch}; its end is missing")
        seal = (ended.carriers, encode(ended.finalization))
        if ended.carriers:
            last_view = _header(height, ended.carriers[-1]).view
    held = source.outcomes(height) if outcomes else None
    if outcomes and held is None:
        raise CannotArchive(f"the outcomes of block {height} are missing")
    certified = None if finalization is None else encode(finalization)
    stream.put("block", height, raw, certified, seal, held)
    if parent is None:
        return
    below = parent.view if parent.epoch == header.epoch else 0
    for first in range(below + 1, last_view + 1, MAX_VIEWS):
        up_to = min(first + MAX_VIEWS - 1, last_view)
        for each in source.certificates(header.epoch, first, up_to):
            stream.put("certificate", height, encode(each))


# --- reading --------------------------------------------------------------------------------------


class ArchiveReader:
    """An archive as a source of `chain_audit`: forward only, one record in memory.

    Heights are asked for in ascending order; those in between are passed over, their form checked.
    Holds no state records. All calls may raise Damaged, and OSError (the disk)."""

    def __init__(self, file: IO[bytes]) -> None:
        """`file`: open for reading, at its beginning."""
        self._records = Records(file)
        self._height = -1
        """Of the present block."""
        self._block: BlockRecord | None = None
        self._digest = b""
        self._ended: list[Equivocation] | None = None
        head = self._records.take()
        if not isinstance(head, Head):
            raise self._damaged(f"a record {FORMAT!r}", named(head))
        if head.last < head.first:
            raise self._damaged(f"a last height from {head.first} on", head.last)
        self.chain_id = head.chain_id
        self.network = head.network
        self.first = head.first
        """Height of the first block; 0 is the genesis block."""
        self.last = head.last
        self.has_outcomes = head.outcomes

    def height(self) -> int | None:
        """Height of the last block, as the head says."""
        return self.last

    def block(self, height: int) -> bytes | None:
        """The exact bytes of a block; of this one or a later one than the last time."""
        if not self.first <= height <= self.last:
            return None
        assert height >= self._height, "an archive is read forward"
        while self._height < height:
            self._next()
        assert self._block is not None
        return self._block.block

    def outcomes(self, height: int) -> list[bytes] | None:
        """Canonical bytes of the block's outcomes."""
        assert height == self._height
        assert self._block is not None
        return None if self._block.outcomes is None else list(self._block.outcomes)

    def finalization(self, height: int) -> Certificate | None:
        """The certificate that names this very height, or a carrier of it, if there is one."""
        assert height == self._height
        assert self._block is not None
        raw = self._block.finalization
        return None if raw is None else self._decoded(raw, Certificate)

    def seal(self, epoch: int) -> HeldSeal | None:
        """How this epoch ended, if the present block ends it."""
        seal = None if self._block is None else self._block.seal
        if seal is None:
            return None
        finalization = self._decoded(seal.finalization, Certificate)
        if finalization.epoch != epoch:
            return None
        return HeldSeal(self._height, seal.carriers, finalization)

    def certificates(self, epoch: int, first_view: int, last_view: int) -> Iterator[Certificate]:
        """The notarizations and nullifications of these views that stand beside the block."""
        last = first_view, 0
        while isinstance(record := self._records.peek(), CertificateRecord):
            each = self._decoded(record.certificate, Certificate)
            if (each.epoch, record.height) != (epoch, self._height):
                found = f"one of epoch {each.epoch} at height {record.height}"
                raise self._damaged(f"a certificate of epoch {epoch} at {self._height}", found)
            if each.view > last_view:
                return
            if (each.view, int(each.kind)) < last:
                raise self._damaged(f"a view from {last[0]} on", each.view)
            last = each.view, int(each.kind) + 1
            self._records.take()
            yield each

    def evidence(self) -> list[Equivocation]:
        """The equivocations that the node had seen, and with them the archive's end, checked."""
        while self._height < self.last:
            self._next()
        if self._ended is None:
            self._ended = self._end()
        return self._ended

    def state_records(self) -> Iterable[tuple[bytes, bytes]]:
        """None: an archive holds no state."""
        return ()

    # --- own ------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Step to the next height."""
        expected = self.first if self._block is None else self._height + 1
        if self._block is not None:
            self._leave(self._block)
        self._records.height = expected
        record = self._records.take()
        if not isinstance(record, BlockRecord) or record.height != expected:
            raise self._damaged(f"block {expected}", named(record))
        certified = record.finalization is not None or record.seal is not None
        if expected == 0 and (certified or record.outcomes):
            # No audit asks for them: anything could stand there.
            raise self._damaged("nothing beside block 0", "a certificate, or outcomes")
        self._block, self._height = record, expected
        if (record.outcomes is not None) != self.has_outcomes:
            wanted = "outcomes" if self.has_outcomes else "no outcomes"
            raise self._damaged(wanted, "none" if self.has_outcomes else "outcomes")

    def _leave(self, block: BlockRecord) -> None:
        """Pass over what was not asked for beside the present block; nothing may stand there that
        no audit asks for."""
        below = 0, 0
        while isinstance(record := self._records.peek(), CertificateRecord):
            each = self._decoded(record.certificate, Certificate)
            if record.height != self._height or (each.view, int(each.kind)) < below:
                raise self._damaged(f"certificates of block {self._height} in order", named(record))
            below = each.view, int(each.kind) + 1
            self._records.take()
            self._passed(block, each)
        if block.seal is not None or block.height == self.last:
            header = self._header(block)
            if block.seal and header.next_validator_set == header.validator_set:
                raise self._damaged("no seal beside a block that ends no epoch", "one")

    def _passed(self, block: BlockRecord, each: Certificate) -> None:
        """A certificate that nobody asked for must be of a view that the block leads to."""
        header, last = self._header(block), 0
        if block.seal is not None and block.seal.carriers:
            try:
                last = inspect_block(block.seal.carriers[-1]).header.view
            except BodyMismatch as error:
                raise self._damaged("a carrier", error) from error
        if each.epoch != header.epoch or each.view > max(header.view, last):
            found = f"one of epoch {each.epoch}, view {each.view}"
            raise self._damaged(f"a certificate of a view of block {self._height}", found)

    def _header(self, block: BlockRecord) -> Header:
        try:
            inspected = inspect_block(block.block)
        except BodyMismatch as error:
            raise self._damaged("a block", error) from error
        self._digest = inspected.digest
        return inspected.header

    def _end(self) -> list[Equivocation]:
        assert self._block is not None
        self._leave(self._block)
        found: list[Equivocation] = []
        while isinstance(record := self._records.take(), EquivocationRecord):
            if len(found) >= MAX_EQUIVOCATIONS:
                raise self._damaged(f"at most {MAX_EQUIVOCATIONS} equivocations", "more")
            found.append(self._decoded(record.equivocation, Equivocation))
        if not isinstance(record, End):
            raise self._damaged("the end", named(record))
        for what, expected, said in (
            ("blocks", self.last - self.first + 1, record.blocks),
            ("last height", self.last, record.last),
            ("digest of the last header", self._digest.hex(), record.digest.hex()),
        ):
            if said != expected:
                raise self._damaged(f"{what} {expected}", said)
        self._records.finish()
        return found

    def _decoded(self, raw: bytes, kind: type[T]) -> T:
        try:
            return decode(raw, kind)
        except Malformed as error:
            raise self._damaged(f"a {kind.__name__.lower()}", error) from error

    def _damaged(self, expected: object, found: object) -> Damaged:
        return self._records.damaged(expected, found)
