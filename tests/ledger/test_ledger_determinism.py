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
    "54aae37af13538f81d29e05a26a60354c38f5b022b4621acc83dc26ddd314fb5",
    "76b0f2a783cc887534d4ba55fbecad875d753535b4596c247a5117c4f374a30d",
    "2ada04365cdd01ea3c5b47d8a705c6b350ade4d149c171a08a5545af77ee0cb7",
    "673b673f7ab31b095551c97e5d6b234f3b2e6de3227d3816a0fe3bdf3574485f",
    "7bfdb77a877d1a70a09c16ee730b075eca7b8cb64119affca45ac4b57663c260",
    "6b24babc5a83b2733217e2a5fa78bae410fc2a895e204440faf93e5830607ff1",
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
