"""Rules 1, 2 and 7 in time: entering views, idle waiting, timers, retries, silent leaders."""

from __future__ import annotations

import pytest

from consensus.interface import Build, Built, EnteredView, Pending
from consensus.messages import Certificate, Kind, Proposal, Vote
from tests.support.consensus_harness import Chain, Solo, only, said, timing, votes

# --- rule 1 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 1, 6])
def test_leaders_take_turns_by_epoch_and_view(epoch: int) -> None:
    solo = Solo(chain=Chain(4, epoch))
    assert [solo.core.leader(view) for view in range(5)] == [(epoch + v) % 4 for v in range(5)]


def test_views_are_entered_only_forward() -> None:
    solo = Solo()
    solo.get(solo.chain.nullification(7))
    solo.get(solo.chain.nullification(3))
    solo.notarize(solo.chain.block(5))
    assert solo.core.view == 8
    entered = [effect.view for effect in only(solo.all, EnteredView)]
    assert entered == [1, 8]


def test_a_certificate_of_any_view_is_accepted() -> None:
    solo = Solo()
    solo.get(solo.chain.nullification(1_000_000))
    assert solo.core.view == 1_000_001


def test_the_leader_timer_runs_two_delta_from_the_first_pending_instruction() -> None:
    solo = Solo()
    solo.wait(500)
    solo.do(Pending(True))
    assert not votes(solo.wait(199), Kind.NULLIFY)
    assert votes(solo.wait(1), Kind.NULLIFY)


def test_the_leaders_first_signed_proposal_leaves_only_the_advance_timer() -> None:
    solo = Solo()
    solo.do(Pending(True))
    solo.wait(100)
    solo.get(solo.chain.proposal(solo.chain.block(1)))
    assert not votes(solo.wait(199), Kind.NULLIFY)
    assert votes(solo.wait(1), Kind.NULLIFY)


def test_a_proposal_held_since_before_its_view_was_entered_cancels_the_leader_timer_too() -> None:
    solo = Solo()
    solo.do(Pending(True))
    one, two = solo.chain.chain(2)
    solo.get(solo.chain.proposal(two))
    solo.notarize(one)
    solo.get(solo.chain.finalization(one))
    assert not votes(solo.wait(299), Kind.NULLIFY)
    assert [vote.view for vote in votes(solo.wait(1), Kind.NULLIFY)] == [2]


def test_leaving_a_view_cancels_its_timers() -> None:
    solo = Solo()
    solo.do(Pending(True))
    solo.wait(150)
    solo.get(solo.chain.nullification(1))
    assert not votes(solo.wait(199), Kind.NULLIFY)


def test_timers_grow_by_half_a_view_up_to_the_cap_until_a_finalization_resets_them() -> None:
    solo = Solo(timing=timing(timer_cap=800))
    solo.do(Pending(True))
    lengths = []
    for view in range(1, 7):
        begun = solo.now.monotonic
        while (0, view, Kind.NULLIFY) not in solo.signer.signed:
            solo.wait(1)
        lengths.append(solo.now.monotonic - begun)
        solo.get(solo.chain.nullification(view))
    # View 4 is led by this node: its leader timer is the same.
    assert lengths == [200, 300, 450, 675, 800, 800]
    block = solo.chain.block(7)
    solo.finalize(block)
    begun = solo.now.monotonic
    while (0, 8, Kind.NULLIFY) not in solo.signer.signed:
        solo.wait(1)
    assert solo.now.monotonic - begun == 200


def test_a_notarization_alone_does_not_reset_the_timers() -> None:
    solo = Solo()
    solo.do(Pending(True))
    for view in (1, 2):
        solo.get(solo.chain.nullification(view))
    solo.notarize(solo.chain.block(3))
    begun = solo.now.monotonic
    while (0, 4, Kind.NULLIFY) not in solo.signer.signed:
        solo.wait(1)
    assert solo.now.monotonic - begun == 675


# --- idle waiting --------------------------------------------------------------------------------


def test_an_idle_chain_with_a_final_tip_is_left_in_peace() -> None:
    """Timers nullifying an idle chain would burn views, and leaders, for nothing."""
    solo = Solo(timing=timing(skip_timeout=60_000))
    solo.finalize(solo.chain.block(1))
    assert not votes(solo.wait(2_000 + 199), Kind.NULLIFY)
    assert votes(solo.wait(1), Kind.NULLIFY)


def test_a_leader_with_nothing_to_propose_and_a_final_tip_waits_the_idle_interval() -> None:
    solo = Solo()
    for block in solo.chain.chain(3):
        solo.finalize(block)
    assert not only(solo.wait(1_999), Build)
    [build] = only(solo.wait(1), Build)
    assert build.empty


def test_a_leader_proposes_an_empty_block_when_the_tip_has_not_become_final() -> None:
    """An idle tip never finalized would leave the last payment without finality."""
    solo = Solo()
    for block in solo.chain.chain(3):
        solo.notarize(block)
    assert not only(solo.wait(199), Build)
    [build] = only(solo.wait(1), Build)
    assert build.empty


def test_a_tip_that_becomes_final_within_two_delta_goes_on_to_the_idle_wait() -> None:
    solo = Solo()
    *_, tip = blocks = solo.chain.chain(3)
    for block in blocks:
        solo.notarize(block)
    solo.wait(150)
    solo.get(solo.chain.finalization(tip))
    assert not only(solo.wait(1_849), Build)
    assert only(solo.wait(1), Build)


def test_the_first_pending_instruction_ends_a_leaders_wait() -> None:
    solo = Solo()
    for block in solo.chain.chain(3):
        solo.finalize(block)
    solo.wait(700)
    [build] = only(solo.do(Pending(True)), Build)
    assert not build.empty


def test_a_voters_timers_start_when_the_tips_wait_ends() -> None:
    solo = Solo(timing=timing(growth_percent=100))
    solo.notarize(solo.chain.block(1))
    assert not votes(solo.wait(399), Kind.NULLIFY)
    assert votes(solo.wait(1), Kind.NULLIFY)


def test_timers_once_started_keep_running_when_nothing_is_pending_any_more() -> None:
    solo = Solo()
    solo.do(Pending(True))
    solo.wait(100)
    solo.do(Pending(False))
    assert votes(solo.wait(100), Kind.NULLIFY)


# --- rule 7 --------------------------------------------------------------------------------------


def test_the_leaders_own_nullify_is_followed_at_once() -> None:
    solo = Solo()
    assert votes(solo.get(solo.chain.vote(1, 1, Kind.NULLIFY)), Kind.NULLIFY)


def test_the_leaders_nullify_counts_also_when_it_came_before_its_view() -> None:
    solo = Solo()
    solo.get(solo.chain.vote(2, 2, Kind.NULLIFY))
    effects = solo.get(solo.chain.nullification(1))
    assert [vote.view for vote in votes(effects, Kind.NULLIFY)] == [2]


def test_another_validators_nullify_is_not_followed() -> None:
    solo = Solo()
    assert not votes(solo.get(solo.chain.vote(2, 1, Kind.NULLIFY)), Kind.NULLIFY)


def test_at_each_retry_the_same_nullify_goes_out_with_what_let_us_in() -> None:
    """Without it a nullify that was lost would stall the view for good."""
    solo = Solo()
    solo.do(Pending(True))
    entry = solo.chain.nullification(1)
    solo.get(entry)
    [first] = votes(solo.wait(300), Kind.NULLIFY)
    for _ in range(3):
        effects = solo.wait(150)
        assert said(effects, Vote) == [first]
        assert said(effects, Certificate) == [entry]


def test_the_best_certificate_of_the_view_before_is_sent_at_a_retry() -> None:
    solo = Solo()
    solo.do(Pending(True))
    block = solo.chain.block(1)
    solo.get(solo.chain.nullification(1))
    solo.get(solo.chain.proposal(block))
    notarization = solo.chain.notarization(block)
    solo.get(notarization)
    effects = solo.wait(450)
    assert said(effects, Certificate) == [notarization]


def test_the_floors_finalization_is_what_let_us_in_just_above_the_floor() -> None:
    solo = Solo()
    solo.do(Pending(True))
    block = solo.chain.block(1)
    solo.finalize(block)
    solo.wait(200)
    assert said(solo.wait(150), Certificate) == [solo.chain.finalization(block)]


def test_a_nullification_ends_the_retries() -> None:
    solo = Solo()
    solo.do(Pending(True))
    solo.wait(300)
    solo.get(solo.chain.nullification(1))
    assert not said(solo.wait(299), Vote)


# --- silent leaders ------------------------------------------------------------------------------


def gossip(solo: Solo, senders: tuple[int, ...], milliseconds: int) -> None:
    """Let time pass with every sender heard from every 50 ms."""
    for _ in range(milliseconds // 50):
        solo.wait(50)
        for sender in senders:
            solo.get(solo.chain.nullification(1), sender=sender)


def test_a_leader_silent_for_the_skip_timeout_while_a_quorum_was_active_is_skipped() -> None:
    solo = Solo()
    solo.get(solo.chain.nullification(1))
    gossip(solo, (1, 3), 600)  # 2, the leader of view 2, says nothing; three of four are active
    assert votes(solo.do(Pending(True)), Kind.NULLIFY)


def test_a_leader_that_was_heard_from_is_given_its_time() -> None:
    solo = Solo()
    solo.get(solo.chain.nullification(1))
    gossip(solo, (1, 2, 3), 600)
    assert not votes(solo.do(Pending(True)), Kind.NULLIFY)


def test_without_an_active_quorum_a_silence_is_not_held_against_the_leader() -> None:
    solo = Solo()
    solo.get(solo.chain.nullification(1))
    gossip(solo, (1,), 600)
    assert not votes(solo.do(Pending(True)), Kind.NULLIFY)


def test_a_silent_leader_is_not_skipped_while_the_chain_is_idle() -> None:
    solo = Solo()
    solo.get(solo.chain.nullification(1))
    gossip(solo, (1, 3), 1_500)
    assert not votes(solo.all, Kind.NULLIFY)


def test_the_skip_timeout_grows_with_the_timers() -> None:
    solo = Solo()
    for view in (1, 2, 3, 4, 5):
        solo.get(solo.chain.nullification(view))
    gossip(solo, (1, 3), 600)  # more than 400 ms, less than 400 × 1.5 to the fifth
    assert not votes(solo.do(Pending(True)), Kind.NULLIFY)


def test_this_node_does_not_skip_itself() -> None:
    solo = Solo()
    for block in solo.chain.chain(3):
        solo.finalize(block)
    gossip(solo, (1, 2, 3), 600)
    effects = solo.do(Pending(True))
    assert only(effects, Build)
    assert not votes(effects, Kind.NULLIFY)


def test_a_leader_whose_block_is_built_late_still_proposes_within_its_timer() -> None:
    solo = Solo()
    solo.do(Pending(True))
    for block in solo.chain.chain(3):
        solo.finalize(block)
    solo.wait(150)
    [build] = only(solo.all, Build)
    assert said(solo.do(Built(build.view, solo.chain.build(build).raw)), Proposal)
    assert not votes(solo.wait(149), Kind.NULLIFY)


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delta", 0),
        ("retry", 0),
        ("fetch_timeout", 0),
        ("standstill", 0),
        ("idle_interval", 0),
        ("growth_percent", 99),
        ("timer_cap", 299),
        ("skip_timeout", 300),
        ("drift", 2_999),
        ("max_unfinalized", 0),
    ],
)
def test_timing_under_which_the_rules_do_not_hold_is_refused_by_name(
    field: str, value: int
) -> None:
    with pytest.raises(ValueError, match=field):
        Solo(timing=timing(**{field: value}))
