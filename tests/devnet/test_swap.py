"""An exchange between two devnets under one hash lock: the how-to does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tutorial import run_page

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "swap-two-networks.md"
NETWORKS = ("europe", "china")

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]


def test_two_networks_exchange_money_under_one_hash_lock(tmp_path: Path) -> None:
    nostro = Path(sys.executable).parent / "nostro"
    try:
        assert len(run_page(PAGE, tmp_path)) > 12
    finally:
        for name in NETWORKS:
            subprocess.run(
                [nostro, "devnet", "down", "--dir", name],
                cwd=tmp_path,
                env=dict(os.environ),
                capture_output=True,
                timeout=60,
                check=False,
            )
