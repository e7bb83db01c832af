"""Archives of small chains, taken apart and put together again with a trailer that fits."""

from __future__ import annotations

import io
from hashlib import sha256
from typing import Any

import msgpack

from node.audit.archive import ArchiveReader, write_archive
from node.audit.chain_audit import AuditReport, audit_chain
from tests.support import world
from tests.support.small_chain import SmallChain

DIGEST_OBJECT = 34
"""Bytes of the last object: two of MessagePack and the SHA-256."""


def archive(chain: SmallChain, *, outcomes: bool = True) -> bytes:
    """The bytes of the chain's archive."""
    file = io.BytesIO()
    written = write_archive(chain, file, chain.genesis, outcomes=outcomes)
    data = file.getvalue()
    assert (written.size, written.sha256) == (len(data), data[-32:])
    return data


def records(data: bytes) -> list[list[Any]]:
    """All but the digest that ends it."""
    return list(msgpack.Unpacker(io.BytesIO(data[:-DIGEST_OBJECT]), raw=False))


def packed(parts: list[list[Any]]) -> bytes:
    """An archive of these records, whose digest is right."""
    body = b"".join(msgpack.packb(part) for part in parts)
    return body + bytes(msgpack.packb(sha256(body).digest()))


def drained(data: bytes) -> ArchiveReader:
    """Read to the end, believing every block. Raises Damaged."""
    reader = ArchiveReader(io.BytesIO(data))
    reader.evidence()
    return reader


def audited(data: bytes) -> AuditReport:
    """The audit of an archive. Raises Damaged where it has no head."""
    reader = ArchiveReader(io.BytesIO(data))
    return audit_chain(reader, world.genesis_bytes(), outcomes=reader.has_outcomes, state=False)
