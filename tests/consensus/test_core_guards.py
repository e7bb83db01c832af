"""The signing guards: what this node never signs, whatever it is shown."""

from __future__ import annotations

import pytest

from consensus.interface import Alarm, Broadcast, Executed, Pending, Persist
from consensus.messages import Body, Kind, OwnVote, Vote
from tests.support.consensus_harness import Solo, kept, only, said, votes

# --- nullify -------------------------------------------------------------------------------------


def test_nullify_is_not_signed_after_finalize_in_the_same_view() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    assert votes(solo.notarize(block), Kind.FINALIZE)
    effects = solo.wait(3_000) + solo.get(solo.chain.vote(1, 1, Kind.NULLIFY))
    assert 1 not in [vote.view for vote in votes(effects, Kind.NULLIFY)]


def test_nullify_is_only_signed_for_the_current_view() -> None:
    solo = Solo()
    solo.get(solo.chain.nullification(1))
    # The leaders of a left view and of a view not entered give up.
    late = solo.get(solo.chain.vote(1, 1, Kind.NULLIFY))
    early = solo.get(solo.chain.vote(3, 3, Kind.NULLIFY))
    assert not votes(late + early, Kind.NULLIFY)


def test_nullify_is_signed_once_a_view() -> None:
    solo = Solo()
    solo.do(Pending(True))
    solo.wait(1_000)
    mine = [vote for vote in kept(solo.all, OwnVote) if vote.vote.kind is Kind.NULLIFY]
    assert len(mine) == 1


# --- notarize ------------------------------------------------------------------------------------


def test_a_view_not_entered_gets_no_notarize() -> None:
    solo = Solo()
    first = solo.chain.block(1)
    second = solo.chain.block(2, first)
    effects = solo.get(solo.chain.proposal(second))
    assert not votes(effects, Kind.NOTARIZE)
    # The proposal was held, not lost: it is voted for as soon as its view is entered.
    effects = solo.notarize(first)
    assert [vote.view for vote in votes(effects, Kind.NOTARIZE)] == [1, 2]


def test_a_view_that_was_left_gets_no_notarize() -> None:
    solo = Solo()
    solo.get(solo.chain.nullification(1))
    assert not votes(solo.get(solo.chain.proposal(solo.chain.block(1))), Kind.NOTARIZE)


def test_a_view_gets_one_notarize() -> None:
    solo = Solo()
    one, other = solo.chain.block(1, payload=b"one"), solo.chain.block(1, payload=b"other")
    effects = solo.get(solo.chain.proposal(one)) + solo.get(solo.chain.proposal(other))
    assert [vote.content for vote in votes(effects, Kind.NOTARIZE)] == [one.content]


def test_notarize_is_not_signed_after_nullify() -> None:
    solo = Solo()
    solo.get(solo.chain.vote(1, 1, Kind.NULLIFY))
    assert [vote.view for vote in votes(solo.all, Kind.NULLIFY)] == [1]
    assert not votes(solo.get(solo.chain.proposal(solo.chain.block(1))), Kind.NOTARIZE)


def test_a_verdict_after_the_nullify_brings_no_notarize() -> None:
    solo = Solo(execute=False)
    block = solo.chain.block(1)
    solo.get(solo.chain.proposal(block))
    solo.get(solo.chain.vote(1, 1, Kind.NULLIFY))
    assert not votes(solo.do(Executed(block.info.digest, True)), Kind.NOTARIZE)


# --- finalize ------------------------------------------------------------------------------------


def test_finalize_is_not_signed_in_a_view_this_node_nullified() -> None:
    solo = Solo()
    solo.get(solo.chain.vote(1, 1, Kind.NULLIFY))
    effects = solo.notarize(solo.chain.block(1))
    assert solo.core.view == 2
    assert not votes(effects, Kind.FINALIZE)


def test_a_view_gets_one_finalize() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.notarize(block)
    solo.get(solo.chain.notarization(block, (0, 1, 2)))
    solo.wait(1_000)
    assert len([v for v in kept(solo.all, OwnVote) if v.vote.kind is Kind.FINALIZE]) == 1


def test_a_rebroadcast_of_a_timed_out_view_mints_no_finalize() -> None:
    """New finalize votes minted on a rebroadcast would join nullify votes in one view."""
    solo = Solo()
    block = solo.chain.block(1)
    solo.get(solo.chain.proposal(block))
    solo.do(Pending(True))
    solo.wait(400)
    assert votes(solo.all, Kind.NULLIFY)
    for _ in range(3):
        solo.get(solo.chain.notarization(block))
        solo.wait(500)
    assert not votes(solo.all, Kind.FINALIZE)


# --- the floor -----------------------------------------------------------------------------------


def test_nothing_is_signed_at_or_below_the_floor() -> None:
    solo = Solo()
    one, two = solo.chain.chain(2)
    solo.get(solo.chain.proposal(one))
    solo.get(solo.chain.notarization(one))
    solo.get(solo.chain.proposal(two))
    solo.get(solo.chain.finalization(two))
    assert solo.core.floor.info == two.info
    seen = len(solo.all)
    other = solo.chain.block(2, one, b"other")
    solo.get_all(
        [
            solo.chain.proposal(other),
            solo.chain.notarization(two),
            solo.chain.vote(2, 2, Kind.NULLIFY),
            solo.chain.nullification(1),
        ]
    )
    assert not [b for b in only(solo.all[seen:], Broadcast) if isinstance(b.message, Vote)]
    assert not only(solo.all[seen:], Persist)


def test_no_vote_is_signed_below_a_finalization_whose_block_is_not_here_yet() -> None:
    solo = Solo()
    one, two, three = solo.chain.chain(3)
    solo.get(solo.chain.finalization(three))
    effects = solo.notarize(one) + solo.notarize(two)
    assert not only(effects, Alarm)
    assert not said(effects, Vote)


# --- the vote path -------------------------------------------------------------------------------


def test_the_body_and_the_vote_are_persisted_before_the_vote_is_sent() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    effects = solo.get(solo.chain.proposal(block))
    order = [
        type(effect.record).__name__ if isinstance(effect, Persist) else "send"
        for effect in effects
        if isinstance(effect, Persist | Broadcast)
    ]
    assert order == ["Body", "OwnVote", "send"]
    assert kept(effects, Body)[0].block == block.raw


@pytest.mark.parametrize("kind", list(Kind))
def test_where_the_signer_refuses_no_vote_is_made_and_the_operator_is_told(kind: Kind) -> None:
    solo = Solo()
    solo.signer.refuse.add((1, kind))
    if kind is Kind.NULLIFY:
        effects = solo.get(solo.chain.vote(1, 1, Kind.NULLIFY))
    else:
        effects = solo.notarize(solo.chain.block(1))
    effects += solo.wait(1_000)
    assert not votes(effects, kind)
    assert not [record for record in kept(effects, OwnVote) if record.vote.kind is kind]
    assert len(only(effects, Alarm)) == 1
    assert solo.core.stopped is None


def test_an_observer_follows_and_signs_nothing() -> None:
    solo = Solo(None)
    solo.do(Pending(True))
    for block in solo.chain.chain(5):
        solo.finalize(block)
    solo.wait(10_000)
    assert solo.core.floor.info.height == 5
    assert not kept(solo.all, OwnVote)
    assert not said(solo.all, Vote)


def test_a_vote_of_our_key_that_we_do_not_know_stops_signing_for_good() -> None:
    solo = Solo()
    effects = solo.get(solo.chain.vote(0, 1, Kind.NULLIFY), sender=2)
    assert len(only(effects, Alarm)) == 1
    assert solo.core.stopped is not None
    effects = solo.notarize(solo.chain.block(1)) + solo.wait(5_000)
    assert not kept(effects, OwnVote)


def test_a_certificate_with_a_vote_of_ours_that_we_do_not_know_stops_signing() -> None:
    solo = Solo()
    effects = solo.get(solo.chain.nullification(5, (0, 1, 2)))
    assert len(only(effects, Alarm)) == 1
    assert solo.core.stopped is not None
    assert solo.core.view == 6  # it goes on following


def test_a_forged_vote_in_our_name_stops_nothing() -> None:
    solo = Solo()
    vote = solo.chain.vote(1, 1, Kind.NULLIFY)
    forged = Vote(0, 1, Kind.NULLIFY, None, 0, vote.signature)
    solo.get(forged, sender=2)
    assert solo.core.stopped is None


def test_our_own_votes_coming_back_change_nothing() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    [vote] = votes(solo.get(solo.chain.proposal(block)), Kind.NOTARIZE)
    assert solo.get(vote, sender=3) == []
    assert solo.core.stopped is None
