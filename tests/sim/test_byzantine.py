"""Byzantine members, up to f of them a run: each attack arrives, and breaks no honest member."""

from __future__ import annotations

import pytest

from devnet.sim.attacks import ATTACKS, FLAWS
from devnet.sim.batch import Failure, attempt
from devnet.sim.byzantine import Liar
from devnet.sim.run import Result, run_seed, validators_of
from devnet.sim.world import Violation

SEEDS = range(20)

KEPT: tuple[tuple[str, int, int], ...] = (("impersonator", 0, 4),)
"""(attack, seed, validators) that broke a rule once."""


def results(attack: str, seeds: range) -> list[Result]:
    outcomes = [attempt((seed, validators_of(seed)), attack=attack) for seed in seeds]
    failures = [f"{o.text}\nreplay: {o.replay}" for o in outcomes if isinstance(o, Failure)]
    assert not failures, "\n".join(failures)
    return [outcome for outcome in outcomes if isinstance(outcome, Result)]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_arrives_in_every_run_and_breaks_no_rule(attack: str) -> None:
    for result in results(attack, SEEDS):
        assert sum(result.attacks.values()) > 0, "the run should have failed"


@pytest.mark.parametrize(("attack", "seed", "validators"), KEPT)
def test_no_kept_seed_breaks_a_rule_again(attack: str, seed: int, validators: int) -> None:
    outcome = attempt((seed, validators), attack=attack)
    assert isinstance(outcome, Result), outcome.text


@pytest.mark.parametrize("attack", ["equivocating-leader", "double-voter", "twins"])
def test_who_signs_twice_is_reported(attack: str) -> None:
    assert sum(result.reported for result in results(attack, range(4))) > 0


def test_a_run_whose_attack_never_arrives_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTACKS, "none at all", Liar)
    with pytest.raises(Violation) as caught:
        run_seed(6, attack="none at all")
    assert caught.value.rule == "attack-arrives"


def test_every_flaw_of_a_block_arrives() -> None:
    arrived = {kind for result in results("bad-block", range(24)) for kind in result.attacks}
    assert arrived == {f"block with a wrong {flaw}" for flaw in FLAWS}


@pytest.mark.parametrize("attack", ["double-voter", "impersonator", "amnesiac", "twins"])
def test_the_same_seed_gives_the_same_run_twice(attack: str) -> None:
    assert run_seed(3, attack=attack) == run_seed(3, attack=attack)
