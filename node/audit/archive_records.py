"""The records of an archive, one by one: docs/reference/archive-format.md.

Owned here: the form. Each record is taken in its shortest encoding alone, of a bounded size,
hashed, and named by the byte at which it begins.
"""

from __future__ import annotations

from hashlib import sha256
from typing import IO, Annotated

import msgpack
import msgspec
from msgspec import Meta

from consensus.messages import MAX_CARRIERS
from node.audit.audit_report import Damaged
from node.chain.encoding import UNDECODABLE, Malformed, decode, encode
from node.chain.types import Bytes32, Unsigned

FORMAT = "nostro-archive/1"
DIGEST_BYTES = 32
READ_BYTES = 1024 * 1024
MAX_RECORD_BYTES = 256 * 1024 * 1024
"""Of one record: a block with its outcomes. The largest that a network could agree to has some tens
of megabytes."""
MAX_OUTCOMES = MAX_RECORD_BYTES // 32
"""Of one record: each has more than 32 bytes."""
MAX_BLOCK_BYTES = 16 * 1024 * 1024
"""Of one block: no node takes a quarter of it."""
BlockBytes = Annotated[bytes, Meta(max_length=MAX_BLOCK_BYTES)]


class Seal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How an epoch ended, beside its last block."""

    carriers: Annotated[tuple[BlockBytes, ...], Meta(max_length=MAX_CARRIERS)]
    finalization: bytes


class Base(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Options shared by all records."""


class Head(Base, frozen=True, tag=FORMAT):
    chain_id: Bytes32
    network: str
    first: Unsigned
    last: Unsigned
    outcomes: bool


class BlockRecord(Base, frozen=True, tag="block"):
    height: Unsigned
    block: BlockBytes
    finalization: bytes | None
    seal: Seal | None
    outcomes: Annotated[tuple[bytes, ...], Meta(max_length=MAX_OUTCOMES)] | None


class CertificateRecord(Base, frozen=True, tag="certificate"):
    height: Unsigned
    certificate: bytes


class EquivocationRecord(Base, frozen=True, tag="equivocation"):
    equivocation: bytes


class End(Base, frozen=True, tag="end"):
    blocks: Unsigned
    last: Unsigned
    digest: Bytes32


Record = Head | BlockRecord | CertificateRecord | EquivocationRecord | End
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class Records:
    """The records of a file, each checked for its form and hashed as it is taken."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = sha256()
        self._held = bytearray()
        """Read and not taken."""
        self._taken = 0
        self.at = 0
        """Where the last record that was looked at begins."""
        self.height = 0
        """Of the block that it belongs to, for what is damaged."""
        self._peeked: tuple[Record, bytes] | None = None
        self._unpacker = msgpack.Unpacker(max_buffer_size=MAX_RECORD_BYTES + READ_BYTES)

    def damaged(self, expected: object, found: object) -> Damaged:
        """The record that was looked at last is not as it must be."""
        return Damaged(self.height, f"archive, byte {self.at}", expected, found)

    def peek(self) -> Record:
        """The next record, which stays. Raises Damaged."""
        if self._peeked is None:
            raw = self._object()
            try:
                record = _decoder.decode(raw)
            except UNDECODABLE as error:
                raise self.damaged("a record", error) from error
            # The shortest encoding, and no other: one chain, one archive.
            if encode(record) != raw:
                raise self.damaged("the shortest encoding", "a longer one")
            self._peeked = record, raw
        return self._peeked[0]

    def take(self) -> Record:
        """The next record. Raises Damaged."""
        record = self.peek()
        assert self._peeked is not None
        self._pass(self._peeked[1])
        self._peeked = None
        return record

    def finish(self) -> None:
        """Check what ends the file. Raises Damaged."""
        expected = self._hash.digest()
        raw = self._object()
        if raw != encode(expected):
            try:
                shown = decode(raw, bytes)[:DIGEST_BYTES].hex()
            except Malformed as error:
                shown = str(error)
            raise self.damaged(f"SHA-256 {expected.hex()} of what is before", shown)
        self._pass(raw)
        if self._held or self._file.read(1):
            self.at = self._taken
            raise self.damaged("the end of the file", "more bytes")

    def _pass(self, raw: bytes) -> None:
        self._hash.update(raw)
        self._taken += len(raw)
        del self._held[: len(raw)]

    def _object(self) -> bytes:
        """The bytes of the next object. Nothing is made of it: each byte of a bad one would be an
        object of Python."""
        self.at = self._taken
        while True:
            try:
                self._unpacker.skip()
                break
            except msgpack.OutOfData:
                self._read()
            except (ValueError, msgpack.exceptions.UnpackException) as error:
                raise self.damaged("MessagePack", str(error) or type(error).__name__) from error
        return bytes(self._held[: self._unpacker.tell() - self._taken])

    def _read(self) -> None:
        piece = self._file.read(READ_BYTES)
        if not piece:
            found = f"the file ends at byte {self._taken + len(self._held)}"
            raise self.damaged("a record", found)
        self._held += piece
        try:
            self._unpacker.feed(piece)
        except msgpack.BufferFull:
            expected = f"a record of at most {MAX_RECORD_BYTES:,} bytes"
            raise self.damaged(expected, "a longer one") from None


def named(record: Record) -> str:
    """A record for people."""
    match record:
        case Head():
            return "the head of an archive"
        case BlockRecord() | CertificateRecord():
            kind = "block" if isinstance(record, BlockRecord) else "certificate of block"
            return f"{kind} {record.height}"
        case EquivocationRecord():
            return "an equivocation"
    return "the end"
