"""An archive gives back the chain it was made of; whatever else a file holds is named by byte."""

from __future__ import annotations

import io
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgpack
import pytest

from node.audit.archive import ArchiveReader, CannotArchive, write_archive
from node.audit.archive_records import FORMAT, READ_BYTES
from node.audit.audit_report import Damaged
from node.audit.chain_audit import audit_chain
from node.audit.report import INVALID, VALID
from node.chain.block import header_digest
from node.chain.encoding import encode
from tests.support import world
from tests.support.archives import archive, audited, drained, packed, records
from tests.support.epoch_chain import sample_of_epochs
from tests.support.evidence_world import evidence_world
from tests.support.small_chain import SmallChain, issue, sample

Parts = list[list[Any]]


@pytest.mark.parametrize("chain", [sample(), sample_of_epochs(), SmallChain()])
@pytest.mark.parametrize("outcomes", [True, False])
def test_the_audit_of_an_archive_is_that_of_its_chain(chain: SmallChain, *, outcomes: bool) -> None:
    whole = audit_chain(chain, world.genesis_bytes())
    report = audited(archive(chain, outcomes=outcomes))
    assert (report.verdict, report.compared) == (VALID, outcomes), report.text()
    report.compared = True
    assert report == whole


def test_an_archive_holds_what_the_chain_holds() -> None:
    chain = sample_of_epochs()
    reader = ArchiveReader(io.BytesIO(archive(chain)))
    assert (reader.chain_id, reader.network) == (
        chain.genesis.chain_id,
        chain.genesis.network,
    )
    assert (reader.first, reader.last, reader.height()) == (0, 12, 12)
    for height in range(13):
        assert reader.block(height) == chain.blocks[height]
        assert reader.outcomes(height) == chain.stored_outcomes[height]
        assert reader.finalization(height) == chain.finalizations.get(height)
    assert reader.block(13) is None
    assert reader.evidence() == chain.witnessed
    assert list(reader.state_records()) == []


def test_one_chain_has_one_archive() -> None:
    assert archive(sample()) == archive(sample())
    assert packed(records(archive(sample()))) == archive(sample())


def test_equivocations_come_with_it() -> None:
    from tests.audit.test_chain_audit_epochs import equivocation  # noqa: PLC0415

    chain = SmallChain()
    chain.add(issue(chain, 1))
    chain.witnessed.append(equivocation(0))
    assert drained(archive(chain)).evidence() == chain.witnessed
    assert audited(archive(chain)).equivocations == 1


def test_what_cannot_be_archived_is_said() -> None:
    def refused(change: Callable[[SmallChain], object]) -> str:
        chain = SmallChain()
        chain.add(issue(chain, 1))
        chain.add()
        change(chain)
        with pytest.raises(CannotArchive) as caught:
            write_archive(chain, io.BytesIO(), chain.genesis)
        return str(caught.value)

    with pytest.raises(CannotArchive, match="the genesis file is of"):
        write_archive(sample(), io.BytesIO(), evidence_world().members.genesis)
    assert "holds no chain" in refused(lambda c: c.blocks.clear())
    assert "block 1 is missing" in refused(lambda c: c.blocks.pop(1))
    assert "block 1 is damaged" in refused(lambda c: c.blocks.__setitem__(1, b"x"))
    assert "outcomes of block 1 are missing" in refused(lambda c: c.stored_outcomes.pop(1))


# --- damage ---------------------------------------------------------------------------------------


def damage(data: bytes) -> Damaged:
    with pytest.raises(Damaged) as caught:
        drained(data)
    return caught.value


def changed(change: Callable[[Parts], object], chain: SmallChain | None = None) -> Damaged:
    """What is found after a change whose author made the trailer anew."""
    parts = records(archive(chain or sample()))
    change(parts)
    return damage(packed(parts))


def at(parts: Parts, height: int) -> int:
    """Index of the block's record."""
    return next(i for i, part in enumerate(parts) if part[:2] == ["block", height])


def test_no_flipped_bit_of_an_archive_is_passed_over() -> None:
    sound = archive(sample_of_epochs())
    for position in range(0, len(sound) * 8, 211):
        flipped = bytearray(sound)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(Damaged):
            drained(bytes(flipped))


def test_a_file_that_ends_early_is_named_at_every_length() -> None:
    sound = archive(sample())
    for length in range(0, len(sound), 97):
        error = damage(sound[:length])
        assert error.where.startswith("archive, byte ")
        assert "ends at byte" in str(error.found)
        assert f"ends at byte {length}" in str(error.found)
    report = audited(sound[: len(sound) // 2])
    assert report.verdict == INVALID
    assert report.finding is not None
    assert report.finding.height == report.height + 1


def test_bytes_after_the_end_are_found() -> None:
    sound = archive(sample())
    for more in (b"\x00", sound):
        error = damage(sound + more)
        assert error.where == f"archive, byte {len(sound)}"
        assert error.found == "more bytes"


def test_a_trailer_that_does_not_fit_is_found() -> None:
    sound = archive(sample())
    assert "SHA-256" in str(damage(sound[:-32] + bytes(32)).expected)
    assert "got `str`" in str(damage(sound[:-34] + msgpack.packb("x" * 32)).found)
    assert "blocks 7" in str(changed(lambda p: p[-1].__setitem__(1, 8)).expected)
    assert "last height 6" in str(changed(lambda p: p[-1].__setitem__(2, 7)).expected)
    digest = header_digest(sample().tip).hex()
    assert digest in str(changed(lambda p: p[-1].__setitem__(3, bytes(32))).expected)


@pytest.mark.parametrize(
    ("change", "height", "expected", "found"),
    [
        (lambda p: p.pop(at(p, 3)), 2, "certificates of block 2", "certificate of block 3"),
        (lambda p: p.__delitem__(slice(at(p, 3), at(p, 4))), 3, "block 3", "block 4"),
        (lambda p: p.insert(at(p, 3), p[at(p, 2)]), 3, "block 3", "block 2"),
        (lambda p: p.__delitem__(slice(at(p, 6), -1)), 6, "block 6", "the end"),
        (lambda p: p.insert(1, p[0]), 0, "block 0", "the head"),
        (lambda p: p.insert(at(p, 4), p[-1]), 4, "block 4", "the end"),
        (lambda p: p.append(p[-1]), 6, "SHA-256", "got `array`"),
        (lambda p: p[at(p, 2)].__setitem__(5, None), 2, "outcomes", "none"),
        (lambda p: p[0].__setitem__(5, False), 0, "no outcomes", "outcomes"),
        (lambda p: p[0].__setitem__(4, 9), 7, "block 7", "the end"),
        (lambda p: p[0].__setitem__(3, 2), 2, "block 2", "block 0"),
        (lambda p: p[0].__setitem__(0, "nostro-archive/2"), 0, "a record", "nostro-archive/2"),
        (lambda p: p[0].append(1), 0, "a record", "length"),
        (lambda p: p[0].__setitem__(1, bytes(31)), 0, "a record", "Expected"),
        (lambda p: p[at(p, 1)].__setitem__(1, -1), 0, "a record", "Expected"),
        (lambda p: p[at(p, 1)].__setitem__(3, b"x"), None, None, None),
        (lambda p: p.insert(at(p, 2), ["certificate", 1, b"x"]), 1, "a certificate", "not a"),
        (lambda p: p.insert(at(p, 2), p[at(p, 2) - 1]), 1, "in order", "certificate of block 1"),
        (lambda p: p[at(p, 2) - 1].__setitem__(1, 2), 1, "in order", "certificate of block 2"),
        (lambda p: p.__setitem__(2, {"a": 1}), 0, "a record", None),
        (lambda p: p.__setitem__(2, 7), 0, "a record", None),
    ],
)
def test_records_that_lack_stand_wrong_or_are_of_no_use_are_named(
    change: Callable[[Parts], object],
    height: int | None,
    expected: str | None,
    found: str | None,
) -> None:
    parts = records(archive(sample()))
    change(parts)
    data = packed(parts)
    if height is None:  # the form is right: the audit itself finds it
        report = audited(data)
        assert report.verdict == INVALID
        return
    error = damage(data)
    assert error.height == height, error
    assert error.where.startswith("archive, byte ")
    assert (expected or "") in str(error.expected), error
    assert (found or "") in str(error.found), error


def test_the_byte_is_that_of_the_record() -> None:
    parts = records(archive(sample()))
    index = at(parts, 4)
    offset = sum(len(msgpack.packb(part)) for part in parts[:index])
    parts[index][1] = 5
    assert damage(packed(parts)).where == f"archive, byte {offset}"


def test_nothing_stands_beside_a_block_that_no_audit_asks_for() -> None:
    chain = sample_of_epochs()
    parts = records(archive(chain))
    seal = parts[at(parts, 7)][4]
    assert seal is not None

    def add_seal(p: Parts) -> None:
        p[at(p, 6)][4] = seal

    assert "no seal" in str(changed(add_seal, chain).expected)
    stray = chain.passed[max(key for key in chain.passed if key[0] == 1)]

    def add_certificate(p: Parts) -> None:
        p.insert(at(p, 3), ["certificate", 2, encode(stray)])

    assert "of a view of block 2" in str(changed(add_certificate, chain).expected)
    for change in (add_seal, add_certificate):
        parts = records(archive(chain))
        change(parts)
        assert audited(packed(parts)).verdict == INVALID


def test_a_longer_encoding_of_the_same_is_refused() -> None:
    parts = records(archive(sample()))
    body = b"".join(msgpack.packb(part) for part in parts)
    head = msgpack.packb(parts[0])
    longer = b"\xdc\x00\x06" + head[1:] + body[len(head) :]
    error = damage(longer + msgpack.packb(sha256(longer).digest()))
    assert error.expected == "the shortest encoding"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"text, not an archive",
        b"\x91" * 10_000,
        b"\xc6\xff\xff\xff\xff" + bytes(100),
        b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100,
        b"\xdb\x7f\xff\xff\xff" + b"a" * 100,
        b"\xc1",
        b"\x93\xb0nostro-archive/1\xc4\x20",
    ],
)
def test_what_is_no_archive_is_refused_at_its_first_record(data: bytes) -> None:
    with pytest.raises(Damaged) as caught:
        ArchiveReader(io.BytesIO(data))
    assert caught.value.where == "archive, byte 0"


class Endless(io.RawIOBase):
    """A file that goes on for ever, and counts what was read."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0, "a reader takes pieces"
        piece, self._head = self._head[:size], self._head[size:]
        self.given += size
        return piece + bytes(size - len(piece))


def test_a_file_without_end_is_left_after_a_bounded_number_of_bytes() -> None:
    endless = Endless(b"\xc6\x08\x00\x00\x00")  # 128 MiB of binary, and zeros for ever
    with pytest.raises(Damaged):
        ArchiveReader(endless)  # type: ignore[arg-type]
    assert endless.given < 140 * READ_BYTES


def test_the_format_is_named_in_the_first_bytes() -> None:
    assert archive(sample())[2 : 2 + len(FORMAT)] == FORMAT.encode()
