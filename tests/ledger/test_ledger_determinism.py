"""The same instructions give the same block digests in every process, now and later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.ledger_script import play

ROOT = Path(__file__).parents[2]

GOLDEN = [
    "a6bb4ee87f285057aa4f9b8912ec992f144546f54a407fbdc0fcee91810e84d2",
    "ff253f284bb14d06fdb1003d0ea89e76a23b7d68f1aee6d43bf25f9168437327",
    "56cb5c0eda57daf7d6397d9144e1409133aa6dc038916ab6c12b1b696593077a",
    "bd7a09056fd6491edff7dc01842ae52d4698d7ef8a5f3ef8d5f0e2fc601398ff",
    "510382b4a4fc8b3d49b0ec722929d6f42ac08888e313cae8f678b37278df1357",
    "4b679822a762856754956712d714fc9861b7532f4aae9f496f35780c2edba854",
]
"""Digests of the script's blocks. They change only with the rules or a format, both of which
have a version: a change here without one is a fork."""


def test_digests_do_not_depend_on_hash_randomisation() -> None:
    printed = []
    for seed in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.ledger_script"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(json.loads(done.stdout))
    assert printed[0] == printed[1]
    assert printed[0] == play()


def test_the_scripts_blocks_have_the_digests_they_always_had() -> None:
    assert play() == GOLDEN
