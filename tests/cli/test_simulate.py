"""`nostro simulate` plays scenarios by the ledger's own rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.cli.errors import Exit
from node.cli.main import main

VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "gridlock_ubin.json").read_text(encoding="utf-8")
)


def written(directory: Path, scenario: object) -> str:
    path = directory / "scenario.json"
    path.write_text(json.dumps(scenario), encoding="utf-8")
    return str(path)


def run(directory: Path, capsys: pytest.CaptureFixture[str], scenario: object) -> dict[str, Any]:
    assert main(["simulate", written(directory, scenario), "--json"]) == Exit.DONE
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["case"])
def test_published_gridlocks_resolve_as_published(
    case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = {
        "currency": case["currency"],
        "banks": case["banks"],
        "rounds": [case["payments"]],
    }
    found = run(tmp_path, capsys, scenario)
    assert sorted(found["settled"]) == sorted(case["settled"])
    assert found["closing"] == case["closing"]
    left = {each["id"] for each in case["payments"]} - set(case["settled"])
    assert set(found["queued"]) == left
    # Where anything settles it was a gridlock: without resolution nothing does.
    assert found["without_resolution"]["settled"] == []


RING = {
    "currency": "EUR",
    "banks": {"A": 10, "B": 0, "C": 0},
    "rounds": [
        [{"id": "1", "from": "B", "to": "C", "amount": 10}],
        [{"id": "2", "from": "C", "to": "A", "amount": 10}],
        [{"id": "3", "from": "A", "to": "B", "amount": 10}],
    ],
}


def test_waiting_liquidity_and_turnover_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(tmp_path, capsys, RING)
    # Payment 3 settles at entry, and with its money the two that waited settle in its block.
    assert sorted(found["settled"]) == ["1", "2", "3"]
    assert found["delay_rounds"] == 2 + 1
    assert found["liquidity"] == 10
    assert found["turnover"] == 3.0
    assert found["closing"] == {"A": 10, "B": 0, "C": 0}
    assert found["without_resolution"]["settled"] == ["3", "1", "2"]


def test_a_scenario_may_itself_be_without_resolution(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = {
        "currency": "EUR",
        "banks": {"A": 0, "B": 0},
        "rounds": [
            [
                {"id": "1", "from": "A", "to": "B", "amount": 7, "priority": "urgent"},
                {"id": "2", "from": "B", "to": "A", "amount": 7},
            ]
        ],
        "resolution": False,
    }
    found = run(tmp_path, capsys, scenario)
    assert found["settled"] == []
    assert found["queued_value"] == 14
    assert found["with_resolution"]["settled"] == ["1", "2"]
    assert found["with_resolution"]["turnover"] is None


def test_limits_hold_payments_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = {
        "currency": "EUR",
        "banks": {"A": 100, "B": 0, "C": 0},
        "rounds": [
            [
                {"id": "1", "from": "A", "to": "B", "amount": 6},
                {"id": "2", "from": "A", "to": "C", "amount": 60},
            ],
            [{"id": "3", "from": "B", "to": "A", "amount": 5}],
        ],
        "limits": {"bilateral": {"A": {"B": 5}}, "multilateral": {"A": 50}},
    }
    found = run(tmp_path, capsys, scenario)
    # 3 cannot settle at entry (B has nothing); with 1 it can, and 1 keeps its limit by it.
    assert found["settled"] == ["1", "3"]
    assert found["queued"] == ["2"]


def test_the_picture_is_one_file_that_loads_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "out.html"
    scenario = {**RING, "banks": {**RING["banks"], "<b>": 5}}  # type: ignore[dict-item]
    assert main(["simulate", written(tmp_path, scenario), "--plot", str(picture)]) == Exit.DONE
    assert str(picture) in capsys.readouterr().out
    text = picture.read_text(encoding="utf-8")
    assert text.count("<svg") == 4
    assert "default-src 'none'" in text
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text
    assert "<b>" not in text.replace('<b style="', "")
    assert "turnover 3.00" in text


def test_the_same_scenario_always_gives_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, capsys, RING) == run(tmp_path, capsys, RING)


BAD = {
    "no JSON": (b"{", "not a scenario"),
    "an unknown field": (json.dumps({**RING, "bank": {}}).encode(), "unknown field `bank`"),
    "a currency that is none": (json.dumps({**RING, "currency": "e"}).encode(), "$.currency"),
    "an unknown bank": (
        json.dumps(
            {**RING, "rounds": [[{"id": "1", "from": "A", "to": "X", "amount": 1}]]}
        ).encode(),
        "rounds[0][0].to: 'X' is none of the banks",
    ),
    "an id that stands twice": (
        json.dumps({**RING, "rounds": [[RING["rounds"][0][0]], [RING["rounds"][0][0]]]}).encode(),  # type: ignore[index]
        "rounds[1][0].id: '1' stands twice",
    ),
    "a bank that pays itself": (
        json.dumps(
            {**RING, "rounds": [[{"id": "1", "from": "A", "to": "A", "amount": 1}]]}
        ).encode(),
        "'A' pays itself",
    ),
    "nothing paid": (
        json.dumps(
            {**RING, "rounds": [[{"id": "1", "from": "A", "to": "B", "amount": 0}]]}
        ).encode(),
        "rounds",
    ),
    "a fraction": (
        json.dumps(
            {**RING, "rounds": [[{"id": "1", "from": "A", "to": "B", "amount": 1.5}]]}
        ).encode(),
        "Expected `int`",
    ),
    "an opening below zero": (json.dumps({**RING, "banks": {"A": -1}}).encode(), "$.banks"),
    "a limit of nobody": (
        json.dumps({**RING, "limits": {"multilateral": {"X": 1}}}).encode(),
        "limits.multilateral: 'X'",
    ),
    "deep nesting": (b"[" * 100_000, "not a scenario"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_scenario_is_refused_with_the_place(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, said = BAD[name]
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    assert main(["simulate", str(path), "--json"]) == Exit.REFUSED
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_a_missing_file_and_another_kind_of_picture_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", str(tmp_path / "none.json")]) == Exit.USAGE
    assert main(["simulate", written(tmp_path, RING), "--plot", "x.gif"]) == Exit.USAGE
    assert "ends in .html" in capsys.readouterr().err
