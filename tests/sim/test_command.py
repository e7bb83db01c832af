"""`python -m devnet.sim`: what it prints and its exit codes."""

from __future__ import annotations

import json

import pytest

from devnet.sim import suite, twins
from devnet.sim.__main__ import main
from devnet.sim.batch import Failure
from devnet.sim.world import Violation


def test_a_clean_range_of_seeds_exits_0_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "6..7", "--n", "4,7", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["seeds"] == 2
    assert summary["failures"] == []
    assert summary["views"] > 0
    assert sum(summary["faults"].values()) > 0


def test_worker_processes_find_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    def summary(*extra: str) -> dict[str, object]:
        assert main(["--seeds", "6..9", "--json", *extra]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return {name: found[name] for name in ("views", "blocks", "packets", "faults")}

    assert summary("--jobs", "2") == summary()


def test_the_summary_for_people_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "6"]) == 0
    printed = capsys.readouterr().out
    assert "seeds: 1" in printed
    assert "faults: " in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seeds", "x"],
        ["--seeds", "5..4"],
        ["--n", "5"],
        ["--n", "four"],
        ["--jobs", "0"],
        ["--byzantine", "x"],
        ["-x"],
    ],
)
def test_wrong_usage_exits_64(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 64


def test_the_summary_of_a_byzantine_run_counts_what_arrived(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--seeds", "6..7", "--byzantine", "nuller", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["attacks"]["NULLIFY without cause"] > 0


def test_a_byzantine_failure_names_its_attack() -> None:
    assert "--byzantine nuller" in Failure(12, 7, "agreement", "", (), "nuller").replay


def test_a_failure_names_the_command_that_replays_it() -> None:
    failure = Failure(12, 7, "agreement", "", ())
    assert failure.replay == "python -m devnet.sim --seeds 12..12 --n 7 --trace"


def test_an_exhaustive_part_reports_what_it_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "points", lambda: [(suite._points, (0, 2, 7))])
    monkeypatch.setattr(suite, "twin_schedules", lambda: [(suite._twins, (63,))])
    monkeypatch.setattr(twins, "ROUNDS", 2)
    assert main(["--points", "--twins", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["exhausted"]
    assert counts["persistence points"] > 10
    assert counts["crash runs"] >= counts["persistence points"]
    assert counts["twins scenarios"] == 640 // suite.TWIN_PARTS


def test_an_exhaustive_part_that_breaks_a_rule_exits_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> suite.Share:
        raise Violation("agreement", "of two minds")

    monkeypatch.setattr(suite, "points", lambda: [(broken, ())])
    assert main(["--points"]) == 1
    captured = capsys.readouterr()
    assert "failures: 1" in captured.out
    assert "of two minds" in captured.err
