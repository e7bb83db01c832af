"""The records of an archive, and the golden file that pins their bytes.

`python -m tests.support.golden_archive` writes the file again. A changed vector is a changed
format: it needs a new format version, or archives that were put away can no longer be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack

from node.audit.archive_records import FORMAT
from tests.support.archives import packed

PATH = Path(__file__).parent.parent / "vectors" / "archive.json"
SOURCE = "made by tests/support/golden_archive.py of this project; Apache-2.0"


def parts() -> list[list[Any]]:
    """One of each record, and of each field that may be nil both."""
    return [
        [FORMAT, bytes(range(32)), "test", 0, 1, True],
        ["block", 0, b"block 0", None, None, []],
        ["block", 1, b"block 1", b"finalization", [[b"carrier"], b"sealed"], [b"one", b"two"]],
        ["certificate", 1, b"certificate"],
        ["equivocation", b"equivocation"],
        ["end", 2, 1, b"\xff" * 32],
    ]


def golden() -> dict[str, Any]:
    """The golden file as this code would write it."""
    data = packed(parts())
    return {
        "source": SOURCE,
        "records": [msgpack.packb(part).hex() for part in parts()],
        "trailer": data[-34:].hex(),
        "archive": data.hex(),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(golden(), indent=1) + "\n")
