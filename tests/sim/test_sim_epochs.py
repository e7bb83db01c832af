"""Changes of the validators in simulated runs: how they are written, and that they happen."""

from __future__ import annotations

import random

import pytest

from consensus.messages import Content, Epoch, Kind, View
from devnet.sim.batch import Failure, attempt
from devnet.sim.crypto import vote_key
from devnet.sim.disk import ModelDisk, StorageDisk
from devnet.sim.epochs import MAX_CHANGES, draw_plan
from devnet.sim.members import (
    CHANGES,
    Change,
    genesis_set,
    keys_of,
    moved,
    next_set,
    place_of,
)
from devnet.sim.run import Result, validators_of

ONE = Content(0, bytes(32))
SECONDS = 1_000_000


def plans(attack: str | None = None) -> list[tuple[int, tuple[Change, ...]]]:
    made = []
    for seed in range(200):
        size = validators_of(seed)
        plan = draw_plan(seed, size, 45 * SECONDS, attack, rotten=seed % 2 == 1)
        made.append((size, tuple(change for _, change in plan.changes)))
    return made


def test_a_change_says_all_of_itself_in_its_number() -> None:
    changes = [change for _, plan in plans() for change in plan]
    assert len(changes) > 100
    for change in changes:
        assert change.instruction >= CHANGES
        assert Change.of(change.instruction) == change


def test_all_kinds_of_changes_are_planned_one_to_four_a_run() -> None:
    made = [plan for _, plan in plans() if plan]
    assert {len(plan) for plan in made} == set(range(1, MAX_CHANGES + 1))
    changes = [change for plan in made for change in plan]
    assert any(change.add is not None and change.remove is None for change in changes)
    assert any(change.add is not None and change.remove is not None for change in changes)
    assert any(change.rekey is not None and not change.fresh for change in changes)
    assert any(change.fresh for change in changes)
    assert any(change.turn for change in changes)
    plain = Change(1, 4)
    assert any(
        (c.add, c.remove, c.rekey, c.fresh, c.turn) == (None,) * 3 + (False, 0) for c in changes
    )
    assert next_set(genesis_set(4), 0, (7, plain.instruction)) == genesis_set(4)


@pytest.mark.parametrize("attack", [None, "twins", "removed-voter"])
def test_no_set_is_smaller_than_the_first_and_liars_keep_their_place(attack: str | None) -> None:
    for size, plan in plans(attack):
        members = genesis_set(size)
        for epoch, change in enumerate(plan):
            members = next_set(members, epoch, (change.instruction,))
            assert len(members) >= size
            if attack is not None:
                assert [place_of(members, machine) for machine in range(size)] == [*range(size)]


def test_who_joins_leaves_and_gets_new_keys() -> None:
    members = genesis_set(4)
    after = Change(1, 4, add=4, remove=1).apply(members, 1)
    assert after == ((0, 0), (2, 0), (3, 0), (4, 1))
    assert moved(members, after) == {0: 0, 2: 1, 3: 2}
    assert Change(2, 4, remove=0).apply(after, 2) == after, "no set becomes smaller than four"
    assert Change(3, 4, rekey=2).apply(after, 3)[1] == (2, 3)
    turned = Change(4, 4, fresh=True, turn=1).apply(after, 4)
    assert turned == ((2, 4), (3, 4), (4, 4), (0, 4))
    assert keys_of(turned)[3] == vote_key(0, 4) != vote_key(0, 0)


def test_validators_change_in_about_half_of_the_runs_and_seals_are_carried() -> None:
    outcomes = [attempt((seed, validators_of(seed))) for seed in range(60, 84)]
    assert not [o.text for o in outcomes if isinstance(o, Failure)]
    results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    assert len(results) / 4 <= sum(result.epochs > 0 for result in results) <= len(results) * 3 / 4
    assert sum(result.carried for result in results) > 0
    faults = {kind for result in results for kind in result.faults}
    assert "down at a switch" in faults


def test_a_removed_members_votes_arrive_and_count_for_nothing() -> None:
    outcomes = [attempt((seed, 4), attack="removed-voter") for seed in range(4)]
    results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    assert len(results) == len(outcomes)
    assert sum(result.attacks["vote of a removed member"] for result in results) > 0


@pytest.mark.parametrize("make", [lambda: ModelDisk(0), lambda: StorageDisk(0, 7)])
def test_a_destroyed_key_signs_no_more(make: type[ModelDisk]) -> None:
    disk = make()  # type: ignore[call-arg]
    first, _ = disk.open()
    vote = (View(1), Kind.NOTARIZE, ONE)
    old = first.sign_vote(Epoch(0), *vote)
    fresh = disk.key(3)
    assert fresh.sign_vote(Epoch(3), *vote) != old
    disk.begin_sync()
    disk.end_sync()
    disk.destroy(3)
    disk.crash(random.Random(0), inside=False)
    disk.open()
    with pytest.raises(AssertionError, match="destroyed"):
        disk.key(0).sign_vote(Epoch(3), *vote)
    assert disk.key(3).sign_vote(Epoch(3), *vote)
