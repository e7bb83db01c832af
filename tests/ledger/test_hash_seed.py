"""The same instructions of every kind give the same blocks under any hash randomisation: nothing in
the settlement engine depends on the order of a set or a dict of hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = ("0", "4711")
STEPS = 800


def test_blocks_do_not_depend_on_hash_randomisation() -> None:
    printed = []
    for seed in SEEDS:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.support.settlement_machine"),
                *("--digests", "--steps", str(STEPS)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(json.loads(done.stdout))
    assert printed[0] == printed[1]
    assert len(set(printed[0])) == STEPS // 100
