"""The page of the archive format says what the code does, and its vector is read by it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import msgpack
import pytest

from node.audit import archive_records as a
from node.audit.archive import ArchiveReader
from node.audit.audit_report import Damaged
from tests.support.golden_archive import PATH, golden

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "archive-format.md").read_text()
RECORDS = (a.Head, a.BlockRecord, a.CertificateRecord, a.EquivocationRecord, a.End)


def test_the_golden_file_is_what_this_code_writes() -> None:
    assert json.loads(PATH.read_text()) == golden()


def test_every_record_stands_in_the_page_as_it_is() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \| .*\|$", PAGE, re.MULTILINE)
    described = {tag: tuple(f.split()[0] for f in fields.split(", ")) for tag, fields in rows}
    assert described == {
        str(each.__struct_config__.tag): each.__struct_fields__ for each in RECORDS
    }


def test_the_bytes_in_the_page_are_those_of_the_vector() -> None:
    blocks = re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    shown = []
    for block in blocks:
        rows = (re.split(r"\s{4,}(?=\S)", line.strip())[0] for line in block.splitlines())
        shown.append("".join("".join(rows).split()))
    vector = json.loads(PATH.read_text())
    assert shown == [vector["records"][0], vector["records"][-1] + vector["trailer"]]
    assert vector["archive"] == "".join(vector["records"]) + vector["trailer"]


def test_the_vector_is_read_record_by_record() -> None:
    data = bytes.fromhex(json.loads(PATH.read_text())["archive"])
    reader = ArchiveReader(io.BytesIO(data))
    assert (reader.chain_id, reader.network) == (bytes(range(32)), "test")
    assert (reader.first, reader.last, reader.has_outcomes) == (0, 1, True)
    assert reader.block(0) == b"block 0"
    assert reader.outcomes(0) == []
    assert reader.block(1) == b"block 1"
    assert reader.outcomes(1) == [b"one", b"two"]
    with pytest.raises(Damaged, match="a certificate"):
        reader.finalization(1)  # a stand-in: no certificate


def test_any_reader_of_msgpack_can_read_it() -> None:
    data = bytes.fromhex(json.loads(PATH.read_text())["archive"])
    found = list(msgpack.Unpacker(io.BytesIO(data), raw=False))
    assert [each[0] for each in found[:-1]] == [
        a.FORMAT, "block", "block", "certificate", "equivocation", "end",
    ]  # fmt: skip
    assert len(found[-1]) == a.DIGEST_BYTES
