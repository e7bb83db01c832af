"""A fork names f+1 validators in every case, and no vote of a correct validator names it ever."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.certificate import votes_of
from consensus.messages import Content, Kind, Vote, quorum
from node.audit.accountability import accused, culprits, enough_culprits
from node.audit.fault import Fault
from node.audit.proofs import ForkProof
from node.chain.encoding import encode
from tests.support import world
from tests.support.epoch_links import certificate, vote
from tests.support.forks import CASES, Sides, by_nullification

A, B, C = (Content(0, bytes((letter,)) * 32) for letter in b"ABC")
CHAIN = world.genesis().chain_id
FOUR = world.genesis().validator_set


def named(*votes: Vote) -> set[int]:
    return set(culprits((), votes, FOUR, chain_id=CHAIN))


# --- what contradicts what --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "contradict"),
    [
        ((Kind.NOTARIZE, A), (Kind.NOTARIZE, B), True),
        ((Kind.NOTARIZE, A), (Kind.NOTARIZE, A), False),
        ((Kind.NOTARIZE, A), (Kind.NOTARIZE, Content(1, A.block)), True),
        ((Kind.FINALIZE, A), (Kind.FINALIZE, B), True),
        ((Kind.FINALIZE, A), (Kind.FINALIZE, A), False),
        ((Kind.NULLIFY, None), (Kind.FINALIZE, A), True),
        ((Kind.NULLIFY, None), (Kind.NOTARIZE, A), False),
        ((Kind.NULLIFY, None), (Kind.NULLIFY, None), False),
        ((Kind.NOTARIZE, A), (Kind.FINALIZE, A), False),
        ((Kind.NOTARIZE, A), (Kind.FINALIZE, B), False),
    ],
)
def test_only_what_consensus_calls_equivocation_incriminates(
    first: tuple[Kind, Any], second: tuple[Kind, Any], contradict: bool
) -> None:
    one, two = vote(2, 7, *first), vote(2, 7, *second)
    assert named(one, two) == named(two, one) == ({2} if contradict else set())
    assert not named(one, vote(1, 7, *second))  # two validators
    assert not named(one, vote(2, 8, *second))  # two views


def test_the_pair_is_found_in_any_pile_whatever_its_order() -> None:
    pile = [
        vote(voter, view, kind, content)
        for voter in range(3)
        for view in (3, 5)
        for kind, content in ((Kind.NOTARIZE, A), (Kind.NULLIFY, None))
    ]
    pile += [vote(1, 5, Kind.FINALIZE, A), vote(1, 6, Kind.NOTARIZE, A)]
    pile += [vote(1, 6, Kind.NOTARIZE, content) for content in (B, C)]
    found = set()
    for seed in range(20):
        random.Random(seed).shuffle(pile)
        result = culprits((), [*pile, *pile[:4]], FOUR, chain_id=CHAIN)
        found.add(encode(sorted(result.items())))
        assert set(result) == {1}
        assert result[1].first.view == 5
    assert len(found) == 1


def test_certificates_and_single_votes_are_held_against_each_other() -> None:
    finalized = certificate(7, Kind.FINALIZE, A, (0, 1, 2))
    nullified = certificate(7, Kind.NULLIFY, None, (1, 2, 3))
    found = culprits([finalized, nullified], [], FOUR, chain_id=CHAIN)
    assert set(found) == {1, 2}
    alone = vote(0, 7, Kind.NULLIFY)
    assert set(culprits([finalized], [alone], FOUR, chain_id=CHAIN)) == {0}
    assert not culprits([finalized], votes_of(finalized), FOUR, chain_id=CHAIN)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"epoch": 1}, "vote.epoch"),
        ({"signature": bytes(64)}, "vote.signature"),
        ({"view": 8}, "vote.signature"),
        ({"content": B}, "vote.signature"),
        ({"voter": 3}, "vote.signature"),
        ({"voter": 4}, "vote.signature"),
    ],
)
def test_nothing_unsigned_is_held_against_anybody(change: dict[str, Any], where: str) -> None:
    with pytest.raises(Fault) as caught:
        named(replace(vote(2, 7, Kind.NOTARIZE, A), **change))
    assert caught.value.where == where


def test_votes_of_another_chain_or_epoch_are_nobodys() -> None:
    with pytest.raises(Fault):
        named(vote(2, 7, Kind.NOTARIZE, A, chain_id=bytes(32)))
    for other in (
        certificate(7, Kind.FINALIZE, A, (0, 1)),
        certificate(7, Kind.FINALIZE, A, (0, 1, 2), epoch=1),
        certificate(7, Kind.FINALIZE, A, (0, 1, 2), chain_id=bytes(32)),
    ):
        with pytest.raises(Fault):
            culprits([other], (), FOUR, chain_id=CHAIN)
    # A member whose key did not change signs in both epochs: still another epoch's vote.
    kept = certificate(7, Kind.FINALIZE, A, (0, 1, 2), epoch=1, signing_epoch=0)
    with pytest.raises(Fault) as caught:
        culprits([kept], (), FOUR, chain_id=CHAIN)
    assert caught.value.where == "certificate.epoch"


def test_a_culprit_is_told_by_name_and_operator() -> None:
    pair = culprits(
        (), [vote(2, 7, Kind.NULLIFY), vote(2, 7, Kind.FINALIZE, A)], FOUR, chain_id=CHAIN
    )[2]
    told = accused(2, pair, FOUR)
    assert (told.name, told.operator, told.view) == ("node2", world.BANKS[2].lei, 7)
    assert told.fault == "nullify in view 7 and finalize of 4141414141414141… in view 7"


# --- forks ------------------------------------------------------------------------------------


def pile(proof: ForkProof) -> list[Any]:
    return [proof.lower.finalization, proof.higher.finalization, *proof.certificates]


@pytest.mark.parametrize("validators", [4, 7, 10])
@pytest.mark.parametrize("case", CASES)
def test_f_plus_1_liars_are_enough_for_a_fork_and_exactly_they_are_named(
    case: str, validators: int
) -> None:
    """The bound is tight: no more than f+1 need lie, and no more can be named."""
    make: Callable[[int], ForkProof] = CASES[case]
    genesis, sides = world.genesis(validators), Sides.of(validators)
    assert len(sides.one) == len(sides.other) == quorum(validators)
    found = culprits(pile(make(validators)), (), genesis.validator_set, chain_id=genesis.chain_id)
    assert set(found) == set(sides.liars)
    assert len(found) == enough_culprits(genesis.validator_set) == (validators - 1) // 3 + 1


@pytest.mark.parametrize("validators", range(1, 40))
def test_two_quorums_share_f_plus_1_validators_whatever_their_number(validators: int) -> None:
    f, q = (validators - 1) // 3, quorum(validators)
    assert 2 * q - validators >= f + 1
    if validators % 3 == 1:
        assert 2 * q - validators == f + 1


@pytest.mark.parametrize(
    "case", ["a later view, by nullification", "a later view, by notarizations"]
)
def test_without_the_certificates_of_the_lower_view_a_fork_names_nobody(case: str) -> None:
    """Which is why every node keeps the certificates of all views, for ever."""
    proof = CASES[case]()
    for left in range(len(proof.certificates)):
        fewer = [*pile(proof)[:2], *proof.certificates[:left]]
        assert not culprits(fewer, (), FOUR, chain_id=CHAIN)


# --- no correct validator is ever named -------------------------------------------------------


class Correct:
    """A correct validator's signing guards, as consensus.md states them."""

    def __init__(self, index: int) -> None:
        self.index, self.view = index, 1
        self.votes: list[Vote] = []
        self._notarized: set[int] = set()
        self._nullified: set[int] = set()
        self._finalized: set[int] = set()

    def act(self, action: str, view: int, content: Content) -> None:
        if action == "enter":
            self.view = max(self.view, view)
        elif action == "notarize" and self.view not in self._notarized | self._nullified:
            self._notarized.add(self.view)
            self._sign(self.view, Kind.NOTARIZE, content)
        elif action == "nullify" and self.view not in self._finalized | self._nullified:
            self._nullified.add(self.view)
            self._sign(self.view, Kind.NULLIFY, None)
        elif action == "finalize" and view <= self.view:
            # Also of a block that it did not notarize itself, and after views above were entered.
            if view not in self._nullified | self._finalized:
                self._finalized.add(view)
                self._sign(view, Kind.FINALIZE, content)
        elif action == "again" and self.votes:
            self.votes.append(self.votes[view % len(self.votes)])

    def _sign(self, view: int, kind: Kind, content: Content | None) -> None:
        self.votes.append(vote(self.index, view, kind, content))


ACTIONS = st.tuples(
    st.sampled_from(["enter", "notarize", "nullify", "finalize", "again"]),
    st.integers(1, 5),
    st.sampled_from([A, B, C]),
)
LIES = st.tuples(st.sampled_from([0, 1]), st.integers(1, 5), st.sampled_from(list(Kind)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([2, 3]), ACTIONS), max_size=30),
    st.lists(st.tuples(LIES, st.sampled_from([A, B, C])), max_size=10),
    st.randoms(use_true_random=False),
)
def test_no_correct_validator_is_incriminated_whatever_it_and_the_liars_do(
    actions: list[tuple[int, tuple[str, int, Content]]],
    lies: list[tuple[tuple[int, int, Kind], Content]],
    order: random.Random,
) -> None:
    correct = {index: Correct(index) for index in (2, 3)}
    for index, (action, view, content) in actions:
        correct[index].act(action, view, content)
    votes = [each for validator in correct.values() for each in validator.votes]
    votes += [
        vote(index, view, kind, None if kind is Kind.NULLIFY else content)
        for (index, view, kind), content in lies
    ]
    order.shuffle(votes)
    assert named(*votes) <= {0, 1}


def test_whoever_is_in_one_branch_only_is_not_named() -> None:
    for validators in (4, 7, 10):
        genesis, sides = world.genesis(validators), Sides.of(validators)
        proof = by_nullification(validators, length=3)
        found = culprits(pile(proof), (), genesis.validator_set, chain_id=genesis.chain_id)
        honest = set(range(validators)) - set(sides.liars)
        assert honest
        assert not honest & set(found)
