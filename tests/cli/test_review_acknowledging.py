"""A node that lies of how far the ledger came has no payment skipped once it is found out."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_acknowledging import watch
from tests.support.settlement_net import SettlementNet


def test_a_position_above_the_ledger_is_not_taken_for_having_caught_up(
    desk: SettlementNet, tmp_path: Path
) -> None:
    path = tmp_path / "position"
    desk.paid("1.00")
    assert watch(desk, tmp_path, "--from", "BANKB", "--json").json["refused"] == 1
    misled = json.loads(path.read_text())
    misled["place"] = [10**12, 0]
    path.write_text(json.dumps(misled))
    desk.paid("2.00")
    ran = watch(desk, tmp_path, "--from", "BANKB", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert "remove it" in ran.err
    path.unlink()
    assert watch(desk, tmp_path, "--from", "BANKB", "--json").json["refused"] == 2
