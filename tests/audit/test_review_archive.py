"""Archives that are made to cost their reader memory or time."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from node.audit.archive_records import MAX_BLOCK_BYTES
from tests.audit.test_archive import at, changed

ROOT = Path(__file__).parents[2]

READS = """
    import io, resource, sys
    from node.audit.archive import ArchiveReader
    from node.audit.audit_report import Damaged

    body = {body}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        ArchiveReader(io.BytesIO(body)).evidence()
    except Damaged as error:
        print(error.where, error.found)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(grown * 1024 // len(body))
"""
COUNT = 2_000_000
HEAD = "__import__('msgpack').packb(['nostro-archive/1', bytes(32), 'net', 0, 1, True]) + "
MANY = f"b'\\xdd' + ({COUNT}).to_bytes(4, 'big') +"


@pytest.mark.parametrize(
    "body",
    [
        f"{MANY} b'\\x90' * {COUNT}",
        f"{MANY} b'\\xa1x' * {COUNT}",
        f"{HEAD} b'\\x96\\xa5block\\x00\\xc0\\xc0\\xc0' + {MANY} b'\\x90' * {COUNT}",
        f"{HEAD} b'\\x96\\xa5block\\x00\\xc4\\x00\\xc0\\xc0' + {MANY} b'\\xc4\\x00' * {COUNT}",
    ],
)
def test_what_is_no_record_takes_a_few_times_its_bytes(body: str) -> None:
    """And not an object of Python for each of its bytes."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READS).replace("{body}", body)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not ran.stderr
    said, times = ran.stdout.splitlines()
    assert "archive, byte" in said
    assert int(times) <= 16


def test_a_block_that_no_node_would_take_is_not_looked_into() -> None:
    """Where its first bad byte is would take minutes to find."""
    large = b"\xdd" + (MAX_BLOCK_BYTES).to_bytes(4, "big") + b"\x90" * MAX_BLOCK_BYTES
    found = changed(lambda parts: parts[at(parts, 2)].__setitem__(2, large))
    assert "of length <=" in str(found.found)


@pytest.mark.parametrize(("field", "value"), [(3, b"x"), (4, [[], b"x"]), (5, [b"x"])])
def test_nothing_stands_beside_the_genesis_block(field: int, value: object) -> None:
    """No audit asks what it is: anything could."""
    found = changed(lambda parts: parts[at(parts, 0)].__setitem__(field, value))
    assert "nothing beside block 0" in str(found.expected)
