"""At each start: nothing is signed before a quorum has said what it holds of this key."""

from __future__ import annotations

import pytest

from consensus.interface import Alarm, Build, Linked, Pending, Rejected, Send
from consensus.messages import (
    Certificate,
    Kind,
    OwnVotesRequest,
    OwnVotesResponse,
    ValidatorIndex,
    Vote,
)
from consensus.state import State
from consensus.voting import Voter
from tests.support.consensus_harness import (
    CODEC,
    TIMING,
    Chain,
    Loopback,
    MemorySigner,
    Solo,
    Verifier,
    only,
    said,
    sent,
    votes,
)


def nonce(solo: Solo) -> int:
    return said(solo.started, OwnVotesRequest)[0].nonce


def silent(solo: Solo, *shown: Vote, finalization: Certificate | None = None) -> OwnVotesResponse:
    return OwnVotesResponse(solo.chain.epoch, nonce(solo), finalization, shown)


def test_nothing_is_signed_until_a_quorum_this_node_included_has_answered() -> None:
    solo = Solo(confirm=False)
    block = solo.chain.block(1)
    effects = solo.get(solo.chain.proposal(block))
    effects += solo.get(silent(solo), sender=1)
    effects += solo.get(silent(solo), sender=1)  # the same one again is not another
    assert not said(effects, Vote)
    effects = solo.get(silent(solo), sender=3)
    assert [vote.content for vote in votes(effects, Kind.NOTARIZE)] == [block.content]


def test_finalize_votes_that_fell_due_meanwhile_follow_the_last_answer() -> None:
    solo = Solo(confirm=False)
    block = solo.chain.block(1)
    solo.notarize(block)
    assert solo.core.view == 2  # it follows all the same
    assert not said(solo.all, Vote)
    assert [vote.view for vote in votes(solo.confirm(), Kind.FINALIZE)] == [1]


def test_timers_that_ran_out_meanwhile_take_effect_with_the_last_answer() -> None:
    solo = Solo(confirm=False)
    solo.do(Pending(True))
    assert not votes(solo.wait(1_000), Kind.NULLIFY)
    assert votes(solo.confirm(), Kind.NULLIFY)


def test_a_leader_proposes_only_after_the_last_answer() -> None:
    solo = Solo(confirm=False)
    solo.do(Pending(True))
    for block in solo.chain.chain(3):
        solo.finalize(block)
    assert not only(solo.all, Build)
    assert only(solo.confirm(), Build)


def test_those_who_have_not_answered_are_asked_again_at_each_retry() -> None:
    solo = Solo(confirm=False)
    solo.get(silent(solo), sender=2)
    for _ in range(3):
        assert [to for to, _ in sent(solo.wait(150), OwnVotesRequest)] == [1, 3]
    solo.get(silent(solo), sender=1)
    assert not sent(solo.wait(1_000), OwnVotesRequest)


def test_a_peer_whose_link_comes_up_is_asked_at_once_and_told_how_far_we_are() -> None:
    solo = Solo(confirm=False)
    block = solo.chain.block(1)
    solo.finalize(block)
    effects = solo.do(Linked(ValidatorIndex(3)))
    assert [to for to, _ in sent(effects, OwnVotesRequest)] == [3]
    assert sent(effects, Certificate) == [(3, solo.chain.finalization(block))]
    solo.confirm()
    assert not sent(solo.do(Linked(ValidatorIndex(3))), OwnVotesRequest)


def test_an_answer_to_an_earlier_start_does_not_count() -> None:
    solo = Solo(confirm=False)
    stale = OwnVotesResponse(0, nonce(solo) - 1, None, ())
    other_epoch = OwnVotesResponse(1, nonce(solo), None, ())
    for peer in (1, 2, 3):
        solo.get(stale, sender=peer)
        solo.get(other_epoch, sender=peer)
    assert not said(solo.get(solo.chain.proposal(solo.chain.block(1))), Vote)


@pytest.mark.parametrize("view", [1, 2, 1_000])
def test_a_vote_of_this_key_that_it_does_not_know_ends_its_signing_for_good(view: int) -> None:
    """A journal restored from a copy would otherwise be made to contradict itself."""
    solo = Solo(confirm=False)
    vote = solo.chain.vote(0, view, Kind.NULLIFY)
    effects = solo.get(silent(solo, vote), sender=2)
    assert [alarm.retire_key for alarm in only(effects, Alarm)] == [True]
    solo.confirm()
    assert not said(solo.notarize(solo.chain.block(1)) + solo.wait(3_000), Vote)


def test_our_signature_inside_the_finalization_shown_is_such_a_vote_too() -> None:
    solo = Solo(confirm=False)
    shown = solo.chain.finalization(solo.chain.block(9), (0, 1, 2))
    solo.get(silent(solo, finalization=shown), sender=2)
    assert solo.core.stopped is not None
    assert solo.core.view == 10


def test_votes_that_this_node_knows_or_has_below_its_floor_are_no_cause() -> None:
    solo = Solo()
    one, two = solo.chain.chain(2)
    solo.finalize(one)
    solo.get(solo.chain.proposal(two))
    mine = votes(solo.all, Kind.NOTARIZE)
    assert len(mine) == 2
    again = Solo(0, records=solo.journal, floor=solo.core.floor, signer=solo.signer, confirm=False)
    for peer in (1, 2):
        again.get(silent(again, *mine), sender=peer)
    assert again.core.stopped is None
    assert votes(again.get(again.chain.vote(2, 2, Kind.NULLIFY)), Kind.NULLIFY)


def test_a_forged_vote_in_an_answer_stops_nothing() -> None:
    solo = Solo(confirm=False)
    forged = Vote(0, 1, Kind.NULLIFY, None, 0, bytes(64))
    other = solo.chain.vote(1, 1, Kind.NULLIFY)
    effects = solo.get(silent(solo, forged, other), sender=2)
    assert [r.sender for r in only(effects, Rejected)] == [2, 2]
    assert solo.core.stopped is None


def test_a_peer_is_shown_its_own_votes_the_newest_first_even_while_we_ask_ourselves() -> None:
    solo = Solo(confirm=False)
    block = solo.chain.block(1)
    solo.finalize(block)
    theirs = [solo.chain.vote(2, view, Kind.NULLIFY) for view in (2, 3)]
    solo.get_all([*theirs, solo.chain.vote(3, 2, Kind.NULLIFY)])
    effects = solo.get(OwnVotesRequest(0, 77), sender=2)
    [(to, answer)] = sent(effects, OwnVotesResponse)
    assert (to, answer.nonce, answer.votes) == (2, 77, tuple(reversed(theirs)))
    assert answer.finalization == solo.chain.finalization(block)


def test_a_peer_is_shown_late_votes_of_its_own_but_none_that_others_forged() -> None:
    solo = Solo(None)
    solo.get(solo.chain.nullification(1, (0, 1, 3)))
    real = solo.chain.vote(2, 1, Kind.NULLIFY)
    forged = Vote(solo.chain.epoch, 1, Kind.NULLIFY, None, 2, bytes(64))
    question = OwnVotesRequest(solo.chain.epoch, 7)
    solo.get(forged, sender=1)
    [(_, answer)] = sent(solo.get(question, sender=2), OwnVotesResponse)
    assert answer.votes == ()
    solo.get(real, sender=1)
    [(_, answer)] = sent(solo.get(question, sender=2), OwnVotesResponse)
    assert answer.votes == (real,)


def test_another_epochs_question_is_refused() -> None:
    effects = Solo().get(OwnVotesRequest(1, 77), sender=2)
    assert only(effects, Rejected)
    assert not only(effects, Send)


def test_a_network_that_starts_together_begins_signing() -> None:
    net = Loopback(Chain(7))
    net.put(Pending(True))
    net.run()
    assert min(len(blocks) for blocks in net.commits) > 2


def test_an_observer_and_a_lone_validator_ask_nobody() -> None:
    assert not Solo.asked(Solo(None).all)
    assert not Solo.asked(Solo(0, chain=Chain(1), confirm=False).all)


# --- the guards by themselves --------------------------------------------------------------------


def test_each_guard_bars_what_the_rules_never_ask_of_it() -> None:
    """The rules only act in the right view; the guards must hold also if a rule were wrong."""
    chain = Chain()
    state = State(
        index=ValidatorIndex(0),
        validators=chain.keys,
        epoch=chain.epoch,
        floor=chain.floor,
        timing=TIMING,
        codec=CODEC,
        verify=Verifier(),
    )
    voter = Voter(state, MemorySigner(chain.secrets[0]))
    assert not any(guard(1) for guard in (voter.may_notarize, voter.may_nullify))
    state.confirmed = True
    state.enter(3, None, 0)
    assert [voter.may_notarize(view) for view in range(6)] == [False, False, False, True] + 2 * [
        False
    ]
    assert [voter.may_nullify(view) for view in range(6)] == [False, False, False, True] + 2 * [
        False
    ]
    assert [voter.may_finalize(view) for view in range(6)] == [False, True, True, True] + 2 * [
        False
    ]
    state.enter(2, None, 0)
    assert state.view == 3
