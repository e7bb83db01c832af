"""Rules 2 and 3: what a leader builds on, and what a voter notarizes."""

from __future__ import annotations

import msgspec
import pytest

from consensus.interface import (
    Broadcast,
    Build,
    Built,
    Execute,
    Executed,
    Linked,
    Pending,
    Persist,
    Rejected,
)
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    CertificateRequest,
    Kind,
    OwnProposal,
    OwnVote,
    Proposal,
    ValidatorIndex,
)
from tests.support.consensus_harness import (
    Block,
    Solo,
    kept,
    only,
    replace_payload,
    said,
    sent,
    timing,
    votes,
)
from tests.support.consensus_harness import TinyBlock as Tiny

# --- rule 2: the leader --------------------------------------------------------------------------


def leading(solo: Solo) -> list[Block]:
    """Bring a Solo of index 0 to view 4, which it leads, with views 1..3 final."""
    blocks = solo.chain.chain(3)
    for block in blocks:
        solo.finalize(block)
    return blocks


def test_a_leader_with_instructions_pending_proposes_at_once_on_the_tip() -> None:
    solo = Solo()
    solo.do(Pending(True))
    *_, tip = leading(solo)
    [build] = only(solo.all, Build)
    assert (build.view, build.parent, build.proposer, build.empty) == (4, tip.info, 0, False)
    block = solo.chain.build(build, b"payments")
    effects = solo.do(Built(build.view, block.raw))
    [proposal] = said(effects, Proposal)
    assert proposal.block == block.raw
    assert proposal.vote.content == block.content
    order = [
        type(effect.record).__name__ if isinstance(effect, Persist) else "send"
        for effect in effects
        if isinstance(effect, Persist | Broadcast)
    ]
    assert order == ["OwnProposal", "OwnVote", "send"]
    assert not only(effects, Execute)  # it was executed when it was built


def test_a_leader_takes_its_own_clock_or_one_past_the_parent() -> None:
    solo = Solo()
    solo.do(Pending(True))
    leading(solo)
    assert only(solo.all, Build)[0].timestamp == solo.now.wall
    ahead = Solo()
    ahead.do(Pending(True))
    block = ahead.chain.block(3, timestamp=ahead.now.wall + 5_000)
    for view in (1, 2):
        ahead.get(ahead.chain.nullification(view))
    ahead.finalize(block)
    assert only(ahead.all, Build)[0].timestamp == ahead.now.wall + 5_001


def test_a_leader_builds_on_the_highest_certified_block_over_nullified_views() -> None:
    solo = Solo()
    solo.do(Pending(True))
    [one] = solo.chain.chain(1)
    solo.notarize(one)
    solo.get(solo.chain.nullification(2))
    solo.get(solo.chain.nullification(3))
    [build] = only(solo.all, Build)
    assert build.parent == one.info


def test_a_leader_lacking_a_nullification_fetches_it_and_then_proposes() -> None:
    solo = Solo()
    solo.do(Pending(True))
    effects = solo.get(solo.chain.nullification(3))
    assert not only(effects, Build)
    [(_, request)] = sent(effects, CertificateRequest)
    assert request.first <= 1
    assert request.last == 2
    assert not only(solo.get(solo.chain.nullification(2)), Build)
    [build] = only(solo.get(solo.chain.nullification(1)), Build)
    assert build.parent == solo.chain.genesis.info


def test_a_leader_waits_for_a_notarized_block_rather_than_skip_its_view() -> None:
    solo = Solo(execute=False)
    solo.do(Pending(True))
    for view in (1, 2):
        solo.get(solo.chain.nullification(view))
    three = solo.chain.block(3)
    solo.notarize(three)
    assert solo.core.view == 3
    assert not only(solo.all, Build)
    [build] = only(solo.do(Executed(three.info.digest, True)), Build)
    assert build.parent == three.info


def test_a_leader_may_build_over_a_nullified_view_whose_notarized_block_is_not_executed() -> None:
    solo = Solo(execute=False)
    solo.do(Pending(True))
    for view in (1, 2):
        solo.get(solo.chain.nullification(view))
    solo.notarize(solo.chain.block(3))
    [build] = only(solo.get(solo.chain.nullification(3)), Build)
    assert build.parent == solo.chain.genesis.info


def test_a_leader_builds_on_the_executed_block_of_a_nullified_view() -> None:
    solo = Solo()
    solo.do(Pending(True))
    for view in (1, 2):
        solo.get(solo.chain.nullification(view))
    three = solo.chain.block(3)
    solo.get(solo.chain.proposal(three))
    solo.get(solo.chain.notarization(three))
    [build] = only(solo.get(solo.chain.nullification(3)) + solo.all, Build)
    assert build.parent == three.info


def test_with_too_many_blocks_unfinalized_a_leader_builds_empty() -> None:
    for bound, empty in ((3, True), (4, False)):
        solo = Solo(timing=timing(max_unfinalized=bound))
        solo.do(Pending(True))
        for block in solo.chain.chain(3):
            solo.notarize(block)
        assert only(solo.all, Build)[0].empty is empty


def test_a_block_built_for_a_view_that_was_left_is_dropped() -> None:
    solo = Solo()
    solo.do(Pending(True))
    leading(solo)
    [build] = only(solo.all, Build)
    solo.get(solo.chain.nullification(4))
    assert not solo.do(Built(build.view, solo.chain.build(build).raw))


def test_a_block_built_after_the_leader_gave_its_view_up_is_dropped() -> None:
    solo = Solo()
    solo.do(Pending(True))
    leading(solo)
    [build] = only(solo.all, Build)
    assert votes(solo.wait(400), Kind.NULLIFY)
    assert not solo.do(Built(build.view, solo.chain.build(build).raw))


def test_a_leader_asks_for_one_block_a_view() -> None:
    solo = Solo()
    solo.do(Pending(True))
    *_, tip = leading(solo)
    solo.get(solo.chain.finalization(tip))
    solo.do(Pending(False))
    solo.do(Pending(True))
    assert len(only(solo.all, Build)) == 1


# --- rule 3: the voter ---------------------------------------------------------------------------


def test_a_good_proposal_is_notarized_whoever_relays_it() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    effects = solo.get(solo.chain.proposal(block), sender=3)
    assert [vote.content for vote in votes(effects, Kind.NOTARIZE)] == [block.content]


def test_a_proposal_not_signed_by_the_leader_of_its_view_is_refused() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    for voter in (0, 2, 3):
        vote = solo.chain.vote(voter, 1, Kind.NOTARIZE, block.content)
        effects = solo.get(Proposal(vote, block.raw), sender=2)
        assert only(effects, Rejected)
        assert not votes(effects, Kind.NOTARIZE)


def test_a_proposal_with_a_forged_signature_is_refused() -> None:
    solo = Solo()
    good = solo.chain.proposal(solo.chain.block(1))
    forged = msgspec.structs.replace(good.vote, signature=bytes(64))
    effects = solo.get(Proposal(forged, good.block))
    assert only(effects, Rejected)
    assert not only(effects, Execute)
    assert votes(solo.get(good), Kind.NOTARIZE)


def test_a_forged_proposal_after_evidence_against_the_leader_is_still_refused() -> None:
    solo = Solo()
    for payload in (b"1", b"2"):
        block = solo.chain.block(1, payload=payload)
        solo.get(solo.chain.vote(1, 1, Kind.NOTARIZE, block.content))
    forged = solo.chain.block(1, payload=b"3")
    vote = msgspec.structs.replace(
        solo.chain.vote(1, 1, Kind.NOTARIZE, forged.content), signature=bytes(64)
    )
    assert not votes(solo.get(Proposal(vote, forged.raw)), Kind.NOTARIZE)


def test_the_parent_must_be_what_the_certificate_at_its_view_names() -> None:
    solo = Solo()
    one = solo.chain.block(1)
    solo.notarize(one)
    # Signed for parent view 1, but the header names the genesis block.
    wrong = solo.chain.block(2, solo.chain.genesis, height=2, timestamp=2_000_000, parent_view=1)
    effects = solo.get(solo.chain.proposal(wrong))
    assert not votes(effects, Kind.NOTARIZE)
    assert [vote.view for vote in votes(effects, Kind.NULLIFY)] == [2]


def test_a_proposal_over_a_view_that_is_not_nullified_waits_for_the_nullification() -> None:
    solo = Solo()
    one = solo.chain.block(1)
    solo.notarize(one)
    skipping = solo.chain.block(3, one)
    solo.get(solo.chain.nullification(2))
    assert votes(solo.get(solo.chain.proposal(skipping)), Kind.NOTARIZE)

    behind = Solo()
    behind.notarize(one)
    behind.get(solo.chain.notarization(solo.chain.block(2, one)))
    behind.get(solo.chain.nullification(3))  # view 4; neither 2's body nor its nullification
    fourth = solo.chain.block(5, one)
    behind.get(solo.chain.nullification(4))
    effects = behind.get(solo.chain.proposal(fourth))
    assert not votes(effects, Kind.NOTARIZE)
    assert not votes(effects, Kind.NULLIFY)  # missing ancestry is no fault
    assert [r.last for _, r in sent(effects, CertificateRequest)] == [2]
    effects = behind.get(solo.chain.nullification(2))
    assert [vote.content for vote in votes(effects, Kind.NOTARIZE)] == [fourth.content]


def test_a_proposal_whose_parent_certificate_is_missing_waits_and_fetches_it() -> None:
    solo = Solo()
    one, two = solo.chain.chain(2)
    solo.get(solo.chain.nullification(1))
    effects = solo.get(solo.chain.proposal(two))
    assert not votes(effects, Kind.NOTARIZE) + votes(effects, Kind.NULLIFY)
    # The leader whose proposal needs it is asked first.
    assert [(to, r.first) for to, r in sent(effects, CertificateRequest)] == [(2, 1)]
    effects = solo.get(solo.chain.notarization(one))
    assert sent(effects, BlockRequest)
    effects = solo.get(BlockResponse(0, one.raw), sender=sent(effects, BlockRequest)[0][0])
    assert [vote.content for vote in votes(effects, Kind.NOTARIZE)] == [two.content]


def test_a_proposal_waits_until_its_parent_is_executed_here() -> None:
    solo = Solo(execute=False)
    one, two = solo.chain.chain(2)
    solo.notarize(one)
    solo.get(solo.chain.nullification(1))
    solo.get(solo.chain.proposal(two))
    assert not [x for x in only(solo.all, Execute) if x.info == two.info]
    effects = solo.do(Executed(one.info.digest, True))
    assert [x.info for x in only(effects, Execute)] == [two.info]
    effects = solo.do(Executed(two.info.digest, True))
    assert [vote.content for vote in votes(effects, Kind.NOTARIZE)] == [two.content]


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 3},
        {"proposer": 2},
        {"timestamp": 1_000_000},
        {"timestamp": 999_000},
        {"header_view": 2},
    ],
)
def test_a_bad_header_that_the_leader_signed_costs_it_the_view(wrong: dict[str, int]) -> None:
    solo = Solo()
    bad = solo.chain.block(1, **wrong)  # type: ignore[arg-type]
    vote = solo.chain.vote(1, 1, Kind.NOTARIZE, bad.content)
    effects = solo.get(Proposal(vote, bad.raw))
    assert not votes(effects, Kind.NOTARIZE)
    assert [vote.view for vote in votes(effects, Kind.NULLIFY)] == [1]


def test_a_proposal_on_a_parent_below_the_floor_is_bad() -> None:
    solo = Solo()
    solo.finalize(solo.chain.block(1))
    effects = solo.get(solo.chain.proposal(solo.chain.block(2, solo.chain.genesis)))
    assert [vote.view for vote in votes(effects, Kind.NULLIFY)] == [2]


def test_a_block_that_fails_execution_costs_its_leader_the_view() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.bad.add(block.info.digest)
    effects = solo.get(solo.chain.proposal(block))
    assert not votes(effects, Kind.NOTARIZE)
    assert [vote.view for vote in votes(effects, Kind.NULLIFY)] == [1]
    assert solo.core.stopped is None


def test_a_body_that_does_not_match_is_its_senders_fault_and_is_fetched_elsewhere() -> None:
    solo = Solo()
    block = solo.chain.block(1, payload=b"good")
    tiny = msgspec.msgpack.decode(block.raw, type=Tiny)
    garbled = msgspec.msgpack.encode(replace_payload(tiny, b"bad"))
    good = solo.chain.proposal(block)
    effects = solo.get(Proposal(good.vote, garbled), sender=3)
    assert [r.sender for r in only(effects, Rejected)] == [3]
    assert not votes(effects, Kind.NULLIFY)
    [(asked, request)] = sent(effects, BlockRequest)
    assert asked != 3
    assert request.block == block.info.digest
    effects = solo.get(BlockResponse(0, block.raw), sender=asked)
    assert [vote.content for vote in votes(effects, Kind.NOTARIZE)] == [block.content]


def test_a_mismatched_body_does_not_keep_the_leaders_own_proposal_out() -> None:
    solo = Solo()
    good = solo.chain.proposal(solo.chain.block(1))
    other = solo.chain.block(1, payload=b"other")
    solo.get(Proposal(good.vote, other.raw), sender=3)
    assert votes(solo.get(good), Kind.NOTARIZE)


def test_a_body_that_nobody_has_is_not_asked_for_once_its_view_is_left() -> None:
    solo = Solo()
    nowhere = solo.chain.block(1, payload=b"nowhere")
    vote = solo.chain.proposal(nowhere).vote
    assert sent(solo.get(Proposal(vote, b"junk")), BlockRequest)
    assert sent(solo.wait(200), BlockRequest)
    solo.get(solo.chain.nullification(1))
    assert not sent(solo.wait(1_000), BlockRequest)


# --- timestamps ----------------------------------------------------------------------------------


def test_a_timestamp_too_far_ahead_is_held_until_its_time_comes() -> None:
    solo = Solo(timing=timing(delta=1_000, timer_cap=9_000, skip_timeout=4_000))
    ahead = solo.now.wall + solo.timing.drift + 500
    block = solo.chain.block(1, timestamp=ahead)
    effects = solo.get(solo.chain.proposal(block))
    effects += solo.wait(499)
    assert not votes(effects, Kind.NOTARIZE) + votes(effects, Kind.NULLIFY)
    assert votes(solo.wait(1), Kind.NOTARIZE)


def test_a_held_proposal_of_a_view_given_up_leaves_no_deadline_behind() -> None:
    solo = Solo()
    block = solo.chain.block(1, timestamp=solo.now.wall + solo.timing.drift + 1_000)
    solo.get(solo.chain.proposal(block))
    solo.get(solo.chain.vote(1, 1, Kind.NULLIFY))
    assert not votes(solo.wait(3_000), Kind.NOTARIZE)


def test_a_timestamp_too_far_in_the_past_costs_the_leader_the_view() -> None:
    solo = Solo()
    solo.quiet(solo.timing.drift + 1)
    block = solo.chain.block(1, timestamp=solo.chain.genesis.info.timestamp + 1)
    effects = solo.get(solo.chain.proposal(block))
    assert [vote.view for vote in votes(effects, Kind.NULLIFY)] == [1]


def test_the_clock_that_counts_is_that_of_the_proposals_arrival() -> None:
    solo = Solo(execute=False)
    block = solo.chain.block(1, timestamp=solo.now.wall)
    solo.get(solo.chain.proposal(block))
    solo.quiet(solo.timing.drift + 1)
    assert votes(solo.do(Executed(block.info.digest, True)), Kind.NOTARIZE)


@pytest.mark.parametrize("offset", [-1_000_000, 1_000_000_000])
def test_certifying_asks_no_clock(offset: int) -> None:
    """Clock drift checked while certifying would let one wrong clock undo a quorum's decision."""
    solo = Solo()
    solo.now = type(solo.now)(solo.now.monotonic, solo.now.wall + 1_000_001)
    block = solo.chain.block(1, timestamp=max(solo.now.wall + offset, 1_000_001))
    [(peer, _)] = sent(solo.get(solo.chain.notarization(block)), BlockRequest)
    effects = solo.get(BlockResponse(0, block.raw), sender=peer)
    assert [vote.content for vote in votes(effects, Kind.FINALIZE)] == [block.content]


def test_our_own_proposal_is_recorded_in_full_with_its_vote() -> None:
    solo = Solo()
    solo.do(Pending(True))
    leading(solo)
    [build] = only(solo.all, Build)
    block = solo.chain.build(build)
    effects = solo.do(Built(build.view, block.raw))
    [record] = kept(effects, OwnProposal)
    assert record.proposal.block == block.raw
    assert [own.vote for own in kept(effects, OwnVote)] == [record.proposal.vote]


def test_a_peer_that_is_linked_after_our_proposal_is_sent_it() -> None:
    """A leader that restarts proposes before its links are up: what it broadcast reached nobody,
    and without this its view would be given up."""
    solo = Solo()
    solo.do(Pending(True))
    leading(solo)
    [build] = only(solo.all, Build)
    [proposal] = said(solo.do(Built(build.view, solo.chain.build(build).raw)), Proposal)
    assert sent(solo.do(Linked(ValidatorIndex(2))), Proposal) == [(2, proposal)]
    solo.get(solo.chain.nullification(4))
    assert not sent(solo.do(Linked(ValidatorIndex(3))), Proposal), "a view that is over"
