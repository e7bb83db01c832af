"""Rules 4 to 6: what follows from notarizations, nullifications and finalizations."""

from __future__ import annotations

import pytest

from consensus.interface import Alarm, Broadcast, Commit, Execute, Executed, Persist, Rejected
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Certificate,
    Certified,
    Kind,
    OwnVote,
    OwnVotesRequest,
    OwnVotesResponse,
    Vote,
)
from tests.support.consensus_harness import Chain, Solo, kept, only, said, sent, votes

# --- forming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Kind))
def test_a_quorum_of_equal_votes_is_a_certificate_persisted_and_broadcast_once(kind: Kind) -> None:
    solo = Solo(None)
    block = solo.chain.block(1)
    content = None if kind is Kind.NULLIFY else block.content
    effects = solo.get_all(solo.chain.vote(i, 1, kind, content) for i in range(4))
    expected = solo.chain.certificate(1, kind, content, (0, 1, 2))
    assert said(effects, Certificate) == [expected]
    assert [record.certificate for record in kept(effects, Certified)] == [expected]
    order = [e for e in effects if isinstance(e, Persist | Broadcast)]
    assert isinstance(order[0], Persist)


def test_votes_for_different_contents_do_not_add_up() -> None:
    solo = Solo(None)
    one, other = (solo.chain.block(1, payload=p) for p in (b"1", b"2"))
    ballots = [(0, one), (1, one), (2, other), (3, other)]
    effects = solo.get_all(
        solo.chain.vote(i, 1, Kind.NOTARIZE, block.content) for i, block in ballots
    )
    assert not said(effects, Certificate)


def test_our_own_vote_is_counted_once_and_completes_the_quorum() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    effects = solo.get(solo.chain.proposal(block))  # the leader's vote and ours
    [mine] = votes(effects, Kind.NOTARIZE)
    effects = solo.get(mine, sender=2)
    assert not said(effects, Certificate)
    effects = solo.get(solo.chain.vote(2, 1, Kind.NOTARIZE, block.content))
    assert said(effects, Certificate) == [solo.chain.notarization(block, (0, 1, 2))]


def test_a_certificate_received_is_persisted_and_broadcast_at_its_first_sight_only() -> None:
    solo = Solo()
    nullification = solo.chain.nullification(1)
    effects = solo.get(nullification)
    assert said(effects, Certificate) == [nullification]
    assert kept(effects, Certified)
    again = solo.get(nullification) + solo.get(solo.chain.nullification(1, (0, 1, 2)))
    assert not only(again, Broadcast) + only(again, Persist)


def test_a_bad_certificate_is_refused_and_changes_nothing() -> None:
    solo = Solo()
    good = solo.chain.nullification(1)
    bad = Certificate(0, 1, Kind.NULLIFY, None, (*good.signatures[:2], (3, bytes(64))))
    effects = solo.get(bad)
    assert [type(effect) for effect in effects] == [Rejected]
    assert solo.core.view == 1


def test_a_notarization_beside_a_nullification_is_no_attack() -> None:
    """A certificate of the other kind treated as an attack would stop honest nodes."""
    for first in (0, 1):
        solo = Solo(None)
        block = solo.chain.block(1)
        pair = [solo.chain.notarization(block), solo.chain.nullification(1)]
        solo.get(pair[first])
        solo.get(pair[1 - first])
        assert solo.core.stopped is None
        assert not only(solo.all, Alarm)
        assert len(kept(solo.all, Certified)) == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_finalization_beside_a_nullification_stops_signing(order: tuple[int, int]) -> None:
    solo = Solo()
    pair = [solo.chain.finalization(solo.chain.block(1)), solo.chain.nullification(1)]
    for i in order:
        solo.get(pair[i])
    assert solo.core.stopped is not None
    assert len(only(solo.all, Alarm)) == 1


def test_two_notarizations_of_a_view_stop_signing() -> None:
    solo = Solo()
    for payload in (b"1", b"2"):
        solo.get(solo.chain.notarization(solo.chain.block(1, payload=payload)))
    assert solo.core.stopped is not None


# --- rule 4 --------------------------------------------------------------------------------------


def test_a_notarization_is_broadcast_before_the_body_is_here_and_the_body_is_fetched() -> None:
    """A notarized body not fetched would leave this node behind for good."""
    solo = Solo()
    block = solo.chain.block(1)
    effects = solo.get(solo.chain.notarization(block))
    assert said(effects, Certificate)
    [(peer, request)] = sent(effects, BlockRequest)
    assert peer in (1, 2, 3)
    assert (request.view, request.block) == (1, block.info.digest)
    assert solo.core.view == 1
    assert not votes(effects, Kind.FINALIZE)


def test_the_next_view_is_entered_and_finalize_voted_once_the_block_is_durable_and_executed() -> (
    None
):
    solo = Solo(execute=False)
    block = solo.chain.block(1)
    solo.get(solo.chain.notarization(block))
    effects = solo.get(BlockResponse(0, block.raw), sender=1)
    assert only(effects, Execute)
    assert solo.core.view == 1
    effects = solo.do(Executed(block.info.digest, True))
    assert solo.core.view == 2
    order = [
        type(effect.record).__name__ if isinstance(effect, Persist) else "send"
        for effect in effects
        if isinstance(effect, Persist | Broadcast)
    ]
    assert order == ["Body", "OwnVote", "send"]
    assert [vote.content for vote in votes(effects, Kind.FINALIZE)] == [block.content]


def test_an_equivocating_leaders_block_gets_no_finalize_from_who_saw_it() -> None:
    solo = Solo()
    one, other = (solo.chain.block(1, payload=p) for p in (b"1", b"2"))
    solo.get(solo.chain.proposal(one))
    solo.get(solo.chain.proposal(other))
    effects = solo.get(solo.chain.notarization(one))
    assert solo.core.view == 2
    assert not votes(effects, Kind.FINALIZE)


def test_a_notarized_block_that_fails_execution_stops_signing_and_is_kept() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.bad.add(block.info.digest)
    solo.get(solo.chain.notarization(block))
    effects = solo.get(BlockResponse(0, block.raw), sender=1)
    assert len(only(effects, Alarm)) == 1
    assert solo.core.stopped is not None
    effects = solo.get(BlockRequest(0, 1, block.info.digest), sender=2)
    assert sent(effects, BlockResponse)
    assert not kept(solo.wait(5_000), OwnVote)


def test_a_bad_block_that_is_notarized_later_stops_signing() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.bad.add(block.info.digest)
    solo.get(solo.chain.proposal(block))
    assert solo.core.stopped is None
    solo.get(solo.chain.notarization(block))
    assert solo.core.stopped is not None


def test_a_notarized_block_whose_header_names_another_view_stops_signing() -> None:
    solo = Solo()
    block = solo.chain.block(1, header_view=2)
    solo.get(solo.chain.certificate(1, Kind.NOTARIZE, block.content))
    solo.get(BlockResponse(0, block.raw), sender=1)
    assert solo.core.stopped is not None


# --- rule 5 --------------------------------------------------------------------------------------


def test_a_nullification_lets_in_the_next_view_at_once() -> None:
    solo = Solo()
    effects = solo.get(solo.chain.nullification(1))
    assert said(effects, Certificate)
    assert solo.core.view == 2


def test_a_nullification_does_not_cancel_execution_or_fetching() -> None:
    """The next leader may build on the notarized block of a nullified view."""
    solo = Solo(execute=False)
    one, two = solo.chain.chain(2)
    solo.get(solo.chain.notarization(one))
    solo.get(solo.chain.nullification(1))
    assert sent(solo.wait(200), BlockRequest)
    solo.get(BlockResponse(0, one.raw), sender=1)
    solo.get(solo.chain.proposal(two))
    effects = solo.do(Executed(one.info.digest, True))
    assert [x.info for x in only(effects, Execute)] == [two.info]
    assert votes(solo.do(Executed(two.info.digest, True)), Kind.NOTARIZE)


# --- rule 6 --------------------------------------------------------------------------------------


def test_a_finalization_lets_in_the_next_view_even_without_the_block() -> None:
    solo = Solo()
    effects = solo.get(solo.chain.finalization(solo.chain.block(1)))
    assert said(effects, Certificate)
    assert solo.core.view == 2
    assert sent(effects, BlockRequest)
    assert not only(effects, Commit)


def test_ancestors_become_final_in_order_with_the_block() -> None:
    solo = Solo()
    blocks = solo.chain.chain(3)
    for block in blocks:
        solo.notarize(block)
    effects = solo.get(solo.chain.finalization(blocks[-1]))
    [commit] = only(effects, Commit)
    assert commit.blocks == tuple(block.info for block in blocks)
    assert commit.bodies == tuple(block.raw for block in blocks)
    assert commit.finalization == solo.chain.finalization(blocks[-1])
    assert solo.core.floor.info == blocks[-1].info


def test_the_finalization_is_persisted_before_or_with_the_commit() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.notarize(block)
    effects = solo.get(solo.chain.finalization(block))
    kinds = [type(effect).__name__ for effect in effects]
    assert kinds.index("Persist") < kinds.index("Commit")


def test_a_final_block_is_committed_as_soon_as_its_last_ancestor_is_executed() -> None:
    solo = Solo(execute=False)
    one, two = solo.chain.chain(2)
    solo.get(solo.chain.finalization(two))
    peer = sent(solo.all, BlockRequest)[0][0]
    effects = solo.get(BlockResponse(0, two.raw), sender=peer)
    [(peer, request)] = sent(effects, BlockRequest)
    assert (request.view, request.block) == (1, one.info.digest)
    effects = solo.get(BlockResponse(0, one.raw), sender=peer)
    assert [x.info for x in only(effects, Execute)] == [one.info]  # parent first
    effects = solo.do(Executed(one.info.digest, True))
    assert [x.info for x in only(effects, Execute)] == [two.info]
    effects = solo.do(Executed(two.info.digest, True))
    assert [b.height for b in only(effects, Commit)[0].blocks] == [1, 2]


def test_a_lower_final_block_does_not_wait_for_the_body_of_a_higher_one() -> None:
    solo = Solo()
    one, two = solo.chain.chain(2)
    solo.notarize(one)
    solo.get(solo.chain.finalization(two))
    assert only(solo.get(solo.chain.finalization(one)), Commit)
    assert solo.core.floor.info == one.info


def test_a_final_block_that_does_not_descend_from_the_floor_stops_signing() -> None:
    solo = Solo()
    solo.finalize(solo.chain.block(1))
    other = solo.chain.block(1, payload=b"other")
    fork = solo.chain.block(2, other)
    solo.get(solo.chain.proposal(fork))
    effects = solo.get(solo.chain.finalization(fork))
    assert solo.core.stopped is not None
    assert not only(effects, Commit)


def test_a_block_is_executed_once_whatever_is_repeated() -> None:
    solo = Solo()
    blocks = solo.chain.chain(3)
    for _ in range(2):
        for block in blocks:
            solo.finalize(block)
            solo.get(BlockResponse(0, block.raw), sender=1)
    executed = [x.info.digest for x in only(solo.all, Execute)]
    assert executed == [block.info.digest for block in blocks]


def test_everything_at_or_below_the_floor_is_forgotten() -> None:
    solo = Solo(None)
    for block in solo.chain.chain(50):
        solo.finalize(block)
    assert len(solo.core.live_records()) < 5


def test_a_node_far_behind_is_not_flooded_with_what_a_later_finalization_supersedes() -> None:
    """Every vote and certificate of a long history is genuine, and one peer can send them all."""
    solo = Solo(None)
    far = solo.chain.block(1_000, solo.chain.block(999), height=500)
    solo.get(solo.chain.finalization(far))
    verified = solo.verify.count
    for block in solo.chain.chain(20)[1:]:
        view = block.info.view
        history: list[Vote | Certificate] = [
            solo.chain.vote(3, view, Kind.NOTARIZE, block.content),
            solo.chain.notarization(block),
            solo.chain.finalization(block),
            solo.chain.nullification(view + 100),
        ]
        for message in history:
            assert not solo.get(message, sender=3)
    assert solo.verify.count == verified
    [(_, held)] = sent(solo.get(OwnVotesRequest(0, 1), sender=3), OwnVotesResponse)
    assert [vote.view for vote in held.votes] == [1_000]


@pytest.mark.parametrize("message", ["vote", "certificate"])
def test_another_epochs_message_is_refused(message: str) -> None:
    solo, other = Solo(), Chain(4, epoch=1)
    made: Vote | Certificate = (
        other.vote(1, 1, Kind.NULLIFY) if message == "vote" else other.nullification(1)
    )
    assert [type(effect) for effect in solo.get(made)] == [Rejected]
    assert solo.core.view == 1
