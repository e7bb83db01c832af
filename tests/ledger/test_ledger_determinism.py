"""The same instructions give the same block digests in every process, now and later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.ledger_script import govern, play

ROOT = Path(__file__).parents[2]

GOLDEN = [
    "a6bb4ee87f285057aa4f9b8912ec992f144546f54a407fbdc0fcee91810e84d2",
    "ff253f284bb14d06fdb1003d0ea89e76a23b7d68f1aee6d43bf25f9168437327",
    "56cb5c0eda57daf7d6397d9144e1409133aa6dc038916ab6c12b1b696593077a",
    "bd7a09056fd6491edff7dc01842ae52d4698d7ef8a5f3ef8d5f0e2fc601398ff",
    "510382b4a4fc8b3d49b0ec722929d6f42ac08888e313cae8f678b37278df1357",
    "4b679822a762856754956712d714fc9861b7532f4aae9f496f35780c2edba854",
]
GOVERNED = [
    "ae6b72a1ef25a712524c53cc1c43ae6038f03628b7b405a1ba65ff019c135704",
    "307676d7b4be78bea6dd0467bc65f543f84cadd5f99046e3961ba12d3cf9d880",
    "3f47cd90acde0f0395b2e30d40ee6b833a1d09fe031b516a63daa60345ae67c2",
    "e8365e2870fefa60b8152e99a969a87820e041b277403f4ea61e494e4a063da5",
    "054877e5b2a9e439fec024139dc14dce1d7add3def9a52acebced2e4fb43c1d9",
    "9465c9471fc8ba4f497a6953951873523d9f769c97f017153a2c5819725efcf2",
    "ed215a5793d8b90f8693fc46092426c7bd6b2739080c26aca0211cbf0911591f",
    "7e0ae0018e6633ce7cce2973b0fadbb434a354c21ac6378fc73fcae4b26f017a",
]
"""Digests of the scripts' blocks. They change only with the rules or a format, both of which
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
    assert printed[0] == [play(), govern()]


def test_the_scripts_blocks_have_the_digests_they_always_had() -> None:
    assert play() == GOLDEN
    assert govern() == GOVERNED
