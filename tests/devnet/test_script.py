"""A scenario file is read strictly: what is wrong is named with its line, nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from devnet.partition import BadFault
from devnet.scenario.actions import Action, parse_action
from devnet.scenario.script import (
    MAX_STEPS,
    BadScript,
    find_script,
    load_script,
    parse_script,
    shipped,
    with_devnet,
)

NAMES = ["node0", "node1", "node2", "node3"]
SMALL = """\
title = "one kill"

[load]
rate = 100
seconds = 8

[[step]]
at = 2
do = "kill node2"

[[step]]
at = 1
do = "links delay 10"
"""


def test_what_is_not_said_has_its_default_and_steps_come_in_time() -> None:
    script = parse_script("small", SMALL)
    assert (script.name, script.title) == ("small", "one kill")
    assert (script.validators, script.banks, script.seed) == (4, 4, 1)
    assert (script.traffic.count, script.traffic.rate, script.traffic.batch) == (800, 100, 1)
    assert script.recovery_seconds == 20.0
    assert [(step.at, step.action.text) for step in script.steps] == [
        (1.0, "links delay 10"),
        (2.0, "kill node2"),
    ]


def test_repeated_steps_interleave_and_the_short_version_is_scaled_and_cut() -> None:
    text = """
[devnet]
validators = 3
[load]
count = 1000
batch = 10
[[step]]
at = 4
do = "kill leader"
times = 3
every = 10
[[step]]
at = 8
do = "restart down"
times = 3
every = 10
[judge]
recovery_seconds = 5.5
[short]
scale = 0.5
times = 2
"""
    full, short = parse_script("s", text), parse_script("s", text, short=True)
    assert [step.at for step in full.steps] == [4, 8, 14, 18, 24, 28]
    assert [step.at for step in short.steps] == [2, 4, 7, 9]
    assert [step.action.operation for step in short.steps] == ["kill", "restart"] * 2
    assert (full.traffic.count, short.traffic.count) == (1000, 500)
    # The network is to recover as fast in the short version.
    assert full.recovery_seconds == short.recovery_seconds == 5.5


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[load]\ncount = 9\nspeed = 3\n", "line 3, [load]: unknown key 'speed'"),
        ("[load]\ncount = 9\n[judges]\n", "line 3, top level: unknown key 'judges'"),
        ("colour = 1\n[load]\ncount = 9\n", "line 1, top level: unknown key 'colour'"),
        (SMALL + "every = 3\n", "line 14, [step]: times and every go together"),
        (SMALL + 'what = "x"\n', "line 14, [step]: unknown key 'what'"),
        (SMALL.replace("node2", "node4"), "line 9, [step]: this devnet has no node 'node4'"),
        (SMALL.replace("kill", "slay"), "line 9, [step]: 'slay' is no action"),
        (SMALL + "[[step]]\nat = 1\n", "line 14, [step]: do is missing"),
        (SMALL + '[[step]]\nat = "1"\ndo = "heal"\n', "line 15, [step]: at must be a number"),
        (SMALL + '[[step]]\nat = -1\ndo = "heal"\n', "at must be a number from 0"),
        (SMALL + '[[step]]\nat = nan\ndo = "heal"\n', "at must be a number from 0"),
        (SMALL + '[[step]]\nat = true\ndo = "heal"\n', "at must be a number from 0"),
        (SMALL + "[judge]\nrecovery_seconds = 0\n", "line 15, [judge]: recovery_seconds must"),
        (SMALL + "[devnet]\nvalidators = true\n", "validators must be a whole number from 1"),
        (SMALL + "[devnet]\nbanks = 1\n", "banks must be a whole number from 2"),
        (SMALL + "[short]\nscale = 2\n", "line 15, [short]: scale must be a number"),
        (SMALL.replace("rate = 100\n", ""), "line 4, [load]: seconds need a rate"),
        (SMALL.replace("seconds = 8\n", ""), "a load has either seconds"),
        (SMALL.replace("seconds = 8", "seconds = 8\ncount = 8"), "a load has either seconds"),
        ("[load]\nrate = 90000\nseconds = 9000\n", "this makes 810,000,000 payments"),
        ("load = 3\n", "line 1, top level: load must be a table"),
        ("[load]\ncount = 9\n[step]\nat = 1\n", "step must be tables, each written [[step]]"),
        ("", "a load has either seconds"),
        ("[load\n", "not TOML: "),
        (
            SMALL + f"times = {MAX_STEPS}\nevery = 1\n",
            "line 14, [step]: a script may have 1000 steps",
        ),
    ],
)
def test_a_slip_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(BadScript) as refused:
        parse_script("slip", text)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("kill 1 node2", ("kill", ("node1", "node2"), {})),
        ("kill leader", ("kill", ("leader",), {})),
        ("restart down", ("restart", ("down",), {})),
        ("partition 0,1|2,3", ("partition", (), {"groups": "0,1|2,3"})),
        ("heal", ("heal", (), {})),
        ("recovered", ("recovered", (), {})),
        ("clock 1 +2000", ("clock", ("node1",), {"offset_ms": 2000})),
        ("clock leader -5", ("clock", ("leader",), {"offset_ms": -5})),
        (
            "link 0 1 loss 0.1 delay 50",
            ("link", ("node0",), {"other": "node1", "delay_ms": 50, "jitter_ms": 0, "loss": 0.1}),
        ),
        ("links jitter 7", ("links", (), {"delay_ms": 0, "jitter_ms": 7, "loss": 0.0})),
    ],
)
def test_actions_are_read(
    text: str, action: tuple[str, tuple[str, ...], dict[str, object]]
) -> None:
    assert parse_action(text, NAMES) == Action(text, *action)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no action"),
        ("kill", "kill needs a node"),
        ("kill 1 1", "named twice"),
        ("kill leader 1", "stand alone"),
        ("kill 7", "no node '7'"),
        ("heal node1", "heal takes nothing after it"),
        ("partition 0,1,2,3", "splits nothing"),
        ("clock 1", "write clock NODE OFFSET"),
        ("clock 1 2s", "offset '2s' is not a whole number"),
        ("clock 1 99999999999", "offset '99999999999' is not"),
        ("link 0", "write link NODE NODE"),
        ("link 0 0 delay 5", "no link to itself"),
        ("link 0 1", "after the nodes come"),
        ("link 0 1 delay", "after the nodes come"),
        ("link 0 1 delay 5 delay 6", "after the nodes come"),
        ("link 0 1 colour 5", "'colour' is no fault of a link"),
        ("links delay -5", "delay '-5' is not a whole number of ms"),
        ("links delay 60001", "delay '60001' is not"),
        ("links loss 1.5", "loss '1.5' is not a share"),
        ("links loss 5%", "loss '5%' is not a share"),
    ],
)
def test_what_is_no_action_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadFault) as refused:
        parse_action(text, NAMES)
    assert why in str(refused.value)


def test_every_shipped_scenario_can_be_run_in_full_and_short() -> None:
    assert len(shipped()) >= 6
    for name in shipped():
        full, short = (load_script(find_script(name), short=short) for short in (False, True))
        assert full.name == name
        assert full.title != name
        assert short.steps[-1].at < full.steps[-1].at
        assert short.traffic.count < full.traffic.count
        # Faults end well before the load does, which so shows that the network goes on.
        assert full.steps[-1].at < full.traffic.count / full.traffic.rate


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadScript, match=r"no scenario 'no-such'.*leader-killed"):
        find_script("no-such")
    with pytest.raises(BadScript, match=r"gone\.toml: No such file"):
        load_script(find_script(str(tmp_path / "gone.toml")))
    path = tmp_path / "own.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(BadScript, match=r"own\.toml is not UTF-8"):
        load_script(path)
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(BadScript, match="more than 262144 bytes"):
        load_script(path)
    path.write_text(SMALL + "x = 1\n")
    with pytest.raises(BadScript, match=r"own\.toml: line 14, "):
        load_script(path)


def test_a_scenario_for_another_network_than_the_one_that_runs_is_refused() -> None:
    script = parse_script("small", SMALL)
    assert with_devnet(script, validators=4, banks=4, seed=7).seed == 7
    with pytest.raises(BadScript, match="for 4 validators, this devnet has 7"):
        with_devnet(script, validators=7, banks=4, seed=1)
