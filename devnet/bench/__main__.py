"""`python -m devnet.bench [--quick] [--json]`: measure, and say where an aim was missed."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from devnet.bench.run import FULL, QUICK, measure


def main() -> int:
    """Print the report; 1 if a figure that is required was missed."""
    parser = argparse.ArgumentParser(prog="python -m devnet.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the payments")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nostro-bench-") as directory:
        size = QUICK if args.quick else FULL
        report = asyncio.run(measure(Path(directory) / "devnet", size))
    if args.json:
        json.dump(report.document(), sys.stdout, indent=2)
        print()
    else:
        print(report.text())
    return 0 if report.required_met else 1


if __name__ == "__main__":
    sys.exit(main())
