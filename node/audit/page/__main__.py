"""Writes verify.html: `python -m node.audit.page [FILE]`; build/verify.html unless told."""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

from node.audit.page.build import build_page

DEFAULT = Path("build/verify.html")


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or any(each.startswith("-") for each in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(arguments[0]) if arguments else DEFAULT
    data = build_page().encode()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        print(f"nostro: {target} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{target}: {len(data):,} bytes, SHA-256 {sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
