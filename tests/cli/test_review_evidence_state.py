"""A node that gives a sound proof of something else than was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_evidence_state import UETR, net  # noqa: F401 - a fixture
from tests.support.command import Net
from tests.support.state_world import absence_bytes, balance_bytes


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (("--balance", "BANKB:EUR"), balance_bytes("settlement")),
        (("--balance", "BANKA:CNY"), balance_bytes("settlement")),
        (("--balance", "BANKA:EUR:fund"), balance_bytes("settlement")),
        (("--balance", "BANKA:EUR", "--height", "23"), balance_bytes("settlement")),
        (("--balance", "BANKA:EUR"), absence_bytes("ever")),
        (("--absence", UETR), balance_bytes("settlement")),
        (("--absence", "11111111-1111-4111-8111-111111111111"), absence_bytes("ever")),
        (("--absence", UETR, "--from", "2025-06-18"), absence_bytes("a day")),
        (("--absence", UETR, "--to", "2025-06-19"), absence_bytes("ever")),
    ],
)
def test_a_proof_of_something_else_is_not_written(
    net: Net,  # noqa: F811
    tmp_path: Path,
    options: tuple[str, ...],
    given: bytes,
) -> None:
    net.first.node.given = given
    ran = net.run("evidence", *options, "-o", tmp_path / "x")
    assert (ran.code, ran.out) == (1, "")
    assert "something else" in ran.err
    assert not (tmp_path / "x").exists()
