"""Epochs: one validator set after the other, sealed, carried and left behind for good."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consensus.epochs import MAX_EARLY, MAX_EARLY_PROPOSALS
from consensus.interface import (
    Alarm,
    Broadcast,
    Build,
    Commit,
    Effect,
    Execute,
    Linked,
    Pending,
    Rejected,
    ReportEquivocation,
    Send,
    Straggler,
)
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    CertificateRequest,
    EpochSealed,
    Kind,
    Message,
    OwnVote,
    OwnVotesRequest,
    OwnVotesResponse,
    Proposal,
    SyncRequest,
    SyncResponse,
    ValidatorIndex,
    Vote,
    Witnessed,
)
from tests.support.consensus_harness import (
    TIMING,
    Block,
    Chain,
    kept,
    only,
    said,
    sent,
    votes,
)
from tests.support.epochs_harness import Member, chunk, sealed

LONG = 60_000
"""Milliseconds; many times every timer and the permitted drift of clocks."""


def spoken(effects: list[Effect]) -> list[Vote]:
    """Every vote of ours that went out."""
    return [vote for kind in Kind for vote in votes(effects, kind)]


def besides(effects: list[Effect]) -> list[Effect]:
    """All but the notes for the counters of what was not taken."""
    return [effect for effect in effects if not isinstance(effect, Rejected)]


def sealing(chain: Chain, member: Member | None = None) -> tuple[Block, Block]:
    """Block 1, and the block on it that seals the epoch; final and notarized at the member."""
    one = chain.block(1)
    seal = chain.seal(2, one)
    if member is not None:
        member.finalize(one)
        member.notarize(seal)
    return one, seal


def moved_on(index: int | None = 0) -> tuple[Member, Chain]:
    """A node that has just entered epoch 1, and that epoch."""
    member = Member()
    _, seal = sealing(member.chain, member)
    member.get(member.chain.finalization(seal))
    chain = member.chain.after(seal)
    member.enter(chain, index)
    return member, chain


# --- sealing and carrying -----------------------------------------------------------------------


def test_a_sealing_block_that_is_finalized_directly_ends_its_epoch() -> None:
    member = Member()
    _, seal = sealing(member.chain, member)
    finalization = member.chain.finalization(seal)
    (commit,) = only(member.get(finalization), Commit)
    assert (commit.blocks, commit.carriers) == ((seal.info,), ())
    assert commit.finalization == finalization
    assert member.epochs.ended
    assert member.epochs.next_deadline() is None


def test_a_carrier_finalizes_the_sealing_block_and_is_not_committed() -> None:
    member = Member()
    _, seal = sealing(member.chain, member)
    carrier = member.chain.carrier(3, seal)
    (commit,) = only(member.finalize(carrier), Commit)
    assert (commit.blocks, commit.bodies) == ((seal.info,), (seal.raw,))
    assert commit.carriers == (carrier.raw,)
    assert commit.finalization == member.chain.finalization(carrier)
    assert member.epochs.floor.info == seal.info
    assert member.epochs.floor.carriers == (carrier.raw,)


def test_many_carriers_with_views_given_up_between_them() -> None:
    member = Member()
    chain = member.chain
    one, seal = sealing(chain)
    member.notarize(one)
    member.notarize(seal)
    carriers = [seal]
    passed = [chain.notarization(one), chain.notarization(seal)]
    for view in range(3, 40, 4):  # never a view that this node leads
        carrier = chain.carrier(view, carriers[-1])
        member.notarize(carrier)
        gone = [chain.nullification(view + passing) for passing in (1, 2, 3)]
        member.get_all(gone)
        carriers.append(carrier)
        passed += [chain.notarization(carrier), *gone]
    *between, last = carriers[1:]
    (commit,) = only(member.get(chain.finalization(last)), Commit)
    assert commit.blocks == (one.info, seal.info)
    assert commit.carriers == tuple(each.raw for each in (*between, last))
    kept = {(each.view, each.kind, each.content) for each in commit.certificates}
    assert kept == {(each.view, each.kind, each.content) for each in passed[:-3]}


def test_the_notarizer_of_a_carrier_does_not_ask_its_clock() -> None:
    member = Member()
    _, seal = sealing(member.chain, member)
    member.quiet(LONG)
    carrier = member.chain.carrier(3, seal)
    (vote,) = votes(member.get(member.chain.proposal(carrier)), Kind.NOTARIZE)
    assert vote.content == carrier.content


def test_a_leader_on_a_sealed_tip_proposes_a_carrier_without_instructions_or_time_step() -> None:
    member = Member(3)
    _, seal = sealing(member.chain, member)
    at_once = member.do(Pending(True))
    assert not only(at_once, Build), "instructions wait for the next epoch, and push nobody"
    (build,) = only(member.wait(2 * TIMING.delta), Build)
    assert build.empty
    assert (build.parent, build.timestamp) == (seal.info, seal.info.timestamp)


FLAWS: dict[str, Callable[[Chain, Block], Block]] = {
    "an ordinary block": lambda chain, seal: chain.block(3, seal),
    "another seal": lambda chain, seal: chain.seal(3, seal),
    "another height": lambda chain, seal: chain.carrier(3, seal, height=1),
    "another time": lambda chain, seal: chain.carrier(3, seal, timestamp=seal.info.timestamp + 1),
    "an earlier time": lambda chain, seal: chain.carrier(
        3, seal, timestamp=seal.info.timestamp - 1
    ),
    "no seal": lambda chain, seal: chain.block(
        3, seal, height=seal.info.height, timestamp=seal.info.timestamp
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_on_a_sealed_parent_only_a_carrier_is_voted_for(flaw: str) -> None:
    member = Member()
    _, seal = sealing(member.chain, member)
    bad = FLAWS[flaw](member.chain, seal)
    (vote,) = spoken(member.get(member.chain.proposal(bad)))
    assert vote.kind is Kind.NULLIFY


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_certified_block_that_does_not_carry_stops_the_node(flaw: str) -> None:
    member = Member()
    _, seal = sealing(member.chain, member)
    bad = FLAWS[flaw](member.chain, seal)
    effects = member.get(member.chain.notarization(bad))
    effects += member.get(BlockResponse(0, bad.raw))
    assert "does not follow" in only(effects, Alarm)[0].reason
    assert not only(member.get(member.chain.finalization(bad)), Commit)


# --- the end of signing -------------------------------------------------------------------------


def test_nothing_is_signed_in_an_epoch_whose_seal_is_committed() -> None:
    member = Member()
    chain = member.chain
    _, seal = sealing(chain, member)
    member.get(chain.finalization(seal))
    effects = member.get(chain.proposal(chain.carrier(3, seal)))
    effects += member.get_all(chain.vote(i, 3, Kind.NULLIFY) for i in (1, 2, 3))
    effects += member.wait(LONG)
    assert not spoken(effects)


def test_nothing_is_signed_once_the_seal_is_known_final_though_not_yet_executed() -> None:
    member = Member(execute=False)
    chain = member.chain
    one, seal = sealing(chain)
    member.get_all([chain.proposal(one), chain.notarization(one), chain.proposal(seal)])
    member.get(chain.finalization(seal))
    assert not only(member.all, Commit)
    assert not spoken(member.wait(LONG))


def test_nothing_is_signed_once_told_that_the_epoch_is_sealed() -> None:
    member = Member()
    _, seal = sealing(member.chain)
    told = sealed(member.chain, seal, member.chain.carrier(3, seal))
    assert not spoken(member.get(told) + member.wait(LONG))


def test_nothing_is_signed_once_told_where_the_finalization_was_known_before_the_block() -> None:
    member = Member()
    chain = member.chain
    _, seal = sealing(chain)
    carrier = chain.carrier(3, seal)
    (_, request), *_ = sent(member.get(chain.finalization(carrier)), BlockRequest)
    assert request.block == carrier.info.digest
    member.get(sealed(chain, seal, carrier))
    effects = member.wait(LONG)
    assert not spoken(effects)
    asked = [request.block for _, request in sent(effects, BlockRequest)]
    assert carrier.info.digest not in asked, "it came with the telling"


def test_a_seal_known_final_bars_votes_after_a_restart_too() -> None:
    member = Member()
    one, seal = sealing(member.chain)
    member.notarize(one)
    member.finalize(seal)
    member.execute = False
    back = member.again()
    assert not only(back.all, Commit)
    back.wait(LONG)
    assert not kept(back.all, OwnVote)


# --- stragglers and early messages --------------------------------------------------------------


def test_who_talks_in_an_ended_epoch_is_told_once_a_while() -> None:
    member, _ = moved_on()
    old = Chain()
    nullify = old.vote(2, 3, Kind.NULLIFY)
    other = old.vote(3, 3, Kind.NULLIFY)
    assert besides(member.get(nullify)) == [Straggler(ValidatorIndex(2), old.epoch)]
    assert besides(member.get(nullify)) == []
    assert besides(member.get(other)) == [Straggler(ValidatorIndex(3), old.epoch)]
    member.quiet(TIMING.retry)
    assert besides(member.get(nullify)) == [Straggler(ValidatorIndex(2), old.epoch)]


def test_between_the_seal_and_the_next_epoch_others_are_told_too() -> None:
    member = Member()
    _, seal = sealing(member.chain, member)
    member.get(member.chain.finalization(seal))
    effects = member.get(member.chain.vote(2, 3, Kind.NULLIFY))
    assert besides(effects) == [Straggler(ValidatorIndex(2), member.chain.epoch)]


def test_answers_and_finalizations_of_an_ended_epoch_are_no_cry_for_help() -> None:
    member, _ = moved_on()
    old = Chain()
    _, seal = sealing(old)
    late: list[Message] = [
        old.finalization(seal),
        old.vote(1, 2, Kind.FINALIZE, seal.content),
        BlockResponse(0, seal.raw),
        OwnVotesResponse(0, 1, None, ()),
        sealed(old, seal),
    ]
    for message in late:
        assert besides(member.get(message, sender=1)) == []


def test_a_late_chunk_of_the_epoch_before_is_no_fault() -> None:
    member, chain = moved_on()
    old = Chain()
    one, seal = sealing(old)
    later = chain.chain(40)
    member.get(chain.finalization(later[-1]))
    member.wait(5 * TIMING.fetch_timeout)
    member.get(BlockResponse(1, later[-1].raw), sender=1)
    ((peer, _), *_) = sent(member.all, SyncRequest)
    effects = member.get(chunk(old, [one, seal], []), sender=peer)
    assert [each.reason for each in only(effects, Rejected)] == ["sync: not asked for"]
    assert not sent(effects, SyncRequest)


def test_a_straggler_is_told_syncs_and_moves_on() -> None:
    member = Member()
    chain = member.chain
    one, seal = sealing(chain)
    carriers = [chain.carrier(3, seal)]
    carriers.append(chain.carrier(7, carriers[0]))
    asked = sent(member.get(sealed(chain, seal, *carriers), sender=2), SyncRequest)
    assert asked == [(2, SyncRequest(1))]
    effects = member.get(chunk(chain, [one, seal], carriers), sender=2)
    (commit,) = only(effects, Commit)
    assert commit.blocks == (one.info, seal.info)
    assert commit.carriers == tuple(carrier.raw for carrier in carriers)
    after = chain.after(seal)
    member.enter(after)
    first = after.block(1)
    assert votes(member.get(after.proposal(first)), Kind.NOTARIZE)
    assert only(member.get(after.finalization(first)), Commit)


def test_a_straggler_syncs_in_chunks_of_which_only_the_last_has_carriers() -> None:
    member = Member()
    chain = member.chain
    blocks = chain.chain(5)
    seal = chain.seal(6, blocks[-1])
    carrier = chain.carrier(8, seal)
    member.get(sealed(chain, seal, carrier), sender=2)
    effects = member.get(chunk(chain, blocks[:3], []), sender=2)
    ((peer, request),) = sent(effects, SyncRequest)
    assert request == SyncRequest(4)
    effects = member.get(chunk(chain, [*blocks[3:], seal], [carrier]), sender=peer)
    assert only(effects, Commit)[-1].blocks[-1] == seal.info
    assert member.epochs.ended


def test_a_straggler_that_lacks_the_finalization_only_needs_no_chunk() -> None:
    member = Member()
    _, seal = sealing(member.chain, member)
    (commit,) = only(member.get(sealed(member.chain, seal)), Commit)
    assert commit.blocks == (seal.info,)


def test_two_epochs_behind_one_is_caught_up_after_the_other() -> None:
    first = Chain()
    one, seal = sealing(first)
    second = first.after(seal)
    two, next_seal = sealing(second)
    third = second.after(next_seal)
    member = Member(chain=first)
    nullify = third.vote(3, 9, Kind.NULLIFY)
    assert sent(member.get(nullify), CertificateRequest) == [(3, CertificateRequest(0, 1, 1))]
    assert not besides(member.get(nullify)), "asked once a while"
    member.get(sealed(first, seal), sender=3)
    member.get(chunk(first, [one, seal], []), sender=3)
    member.enter(second)
    member.quiet(TIMING.retry)
    assert sent(member.get(nullify), CertificateRequest) == [(3, CertificateRequest(1, 1, 1))]
    member.get(sealed(second, next_seal), sender=3)
    (commit,) = only(member.get(chunk(second, [two, next_seal], []), sender=3), Commit)
    assert [info.height for info in commit.blocks] == [3, 4]
    member.enter(third)
    assert member.epochs.epoch == 2


def test_what_seals_another_epoch_or_none_is_refused() -> None:
    member, chain = moved_on()
    _, seal = sealing(chain)
    later = chain.after(seal)
    lies: list[EpochSealed] = [
        sealed(later, later.seal(1, later.genesis)),
        EpochSealed(2, (), chain.finalization(seal)),
        EpochSealed(1, (), chain.notarization(seal)),
        EpochSealed(1, (), chain.finalization(seal, voters=(1, 2))),
        EpochSealed(1, (seal.raw[:-1],), chain.finalization(seal)),
        EpochSealed(1, (chain.carrier(3, seal).raw,), chain.finalization(seal)),
    ]
    for lie in lies:
        effects = member.get(lie)
        assert only(effects, Rejected)
        assert not only(effects, Send)


def test_a_telling_of_what_is_below_the_floor_is_refused_before_any_of_it_is_kept() -> None:
    member = Member()
    chain = member.chain
    for block in chain.chain(3):
        member.finalize(block)
    lies = [chain.carrier(1, chain.genesis)]
    lies.append(chain.carrier(2, lies[0]))
    forged = chain.finalization(lies[-1], voters=())
    lie = EpochSealed(0, tuple(each.raw for each in lies), forged)
    (refused,) = member.get(lie)
    assert isinstance(refused, Rejected)
    for each in lies:
        assert not sent(
            member.get(BlockRequest(0, each.info.view, each.info.digest)), BlockResponse
        )


def asking(chain: Chain, nonce: int) -> OwnVotesRequest:
    return OwnVotesRequest(chain.epoch, nonce)


def entering() -> tuple[Member, Chain, Chain]:
    """A node at the end of its epoch: all but the finalization of the seal."""
    member = Member()
    _, seal = sealing(member.chain, member)
    return member, member.chain, member.chain.after(seal)


def end(member: Member) -> None:
    """The seal becomes final."""
    one = member.chain.block(1)
    member.get(member.chain.finalization(member.chain.seal(2, one)))


def test_early_messages_reach_the_next_core_from_where_their_sender_is_then() -> None:
    member, _, after = entering()
    member.get(asking(after, 7), sender=3)
    member.get(asking(after, 8), sender=2)
    end(member)
    moved = {ValidatorIndex(3): ValidatorIndex(1), ValidatorIndex(1): ValidatorIndex(0)}
    answers = sent(member.enter(after, 2, moved, confirm=False), OwnVotesResponse)
    assert [(to, answer.nonce) for to, answer in answers] == [(1, 7)], "2 is no member any more"


def test_early_votes_are_counted_in_the_next_epoch() -> None:
    member, _, after = entering()
    block = after.block(1)
    member.get(after.proposal(block))
    member.get(after.vote(1, 1, Kind.NOTARIZE, block.content))
    end(member)
    effects = member.enter(after)
    assert [each.content for each in votes(effects, Kind.NOTARIZE)] == [block.content]
    assert votes(effects, Kind.FINALIZE), "with ours that was a quorum"


def test_early_messages_are_bounded_for_each_peer() -> None:
    member, _, after = entering()
    for nonce in range(3 * MAX_EARLY):
        member.get(asking(after, nonce), sender=3)
    member.get(asking(after, 1), sender=2)
    end(member)
    answers = sent(member.enter(after, confirm=False), OwnVotesResponse)
    assert [to for to, _ in answers].count(3) == MAX_EARLY
    assert [to for to, _ in answers].count(2) == 1


def test_early_proposals_are_bounded_in_all() -> None:
    member, _, after = entering()
    far = after.chain(MAX_EARLY_PROPOSALS + 1)
    for block in far[1:]:
        member.get(after.proposal(block))
    member.get(after.proposal(far[0]), sender=1)
    end(member)
    assert not only(member.enter(after), Execute)


def test_messages_of_epochs_further_ahead_are_not_kept() -> None:
    member, _, after = entering()
    beyond = after.after(after.seal(1, after.genesis))
    member.get(asking(beyond, 5), sender=3)
    end(member)
    assert not sent(member.enter(after, confirm=False), OwnVotesResponse)


# --- who votes ------------------------------------------------------------------------------------


def test_votes_of_a_removed_member_are_worth_nothing() -> None:
    first = Chain(5)
    member = Member(chain=first)
    _, seal = sealing(first, member)
    member.get(first.finalization(seal))
    after = first.after(seal, 4)
    member.enter(after)
    block = after.block(1)
    member.get(after.proposal(block))
    removed = Chain(5, epoch=1)  # the old keys, signing in the new epoch
    for voter in (1, 2, 3, 4):
        for kind in (Kind.NOTARIZE, Kind.FINALIZE):
            vote = removed.vote(voter, 1, kind, block.content)
            effects = member.get(vote, sender=voter % 4)
            assert not spoken(effects)
            if voter == 4:
                assert [r.reason for r in only(effects, Rejected)] == [
                    "vote: the voter is not in the validator set"
                ]
    for certificate in (removed.notarization(block), removed.finalization(block)):
        effects = member.get(certificate)
        assert only(effects, Rejected)
        assert not only(effects, Commit) + only(effects, Broadcast)


def test_a_member_votes_under_its_new_index_with_its_new_key() -> None:
    member, _, after = entering()
    end(member)
    member.enter(after, 3)
    block = after.block(1)
    (vote,) = votes(member.get(after.proposal(block)), Kind.NOTARIZE)
    assert vote == after.vote(3, 1, Kind.NOTARIZE, block.content)


def test_an_observer_becomes_a_validator() -> None:
    member = Member(None)
    chain = member.chain
    one, seal = sealing(chain)
    member.get(sealed(chain, seal))
    member.get(chunk(chain, [one, seal], []))
    assert not spoken(member.all)
    after = chain.after(seal)
    effects = member.enter(after, 0, confirm=False)
    assert said(effects, OwnVotesRequest), "it asks before it signs"
    member.confirm()
    assert votes(member.get(after.proposal(after.block(1))), Kind.NOTARIZE)


def test_a_removed_member_goes_on_as_an_observer() -> None:
    member, chain = moved_on(index=None)
    assert not said(member.all[-5:], OwnVotesRequest)
    block = chain.block(1)
    effects = member.get(chain.proposal(block)) + member.get(chain.notarization(block))
    assert only(effects + member.get(chain.finalization(block)), Commit)
    assert not spoken(effects + member.wait(LONG))


def test_before_a_quorum_of_the_new_set_has_answered_nothing_is_signed() -> None:
    member, _, after = entering()
    end(member)
    effects = member.enter(after, confirm=False)
    (request,) = said(effects, OwnVotesRequest)
    assert request.epoch == 1
    effects = member.get(after.proposal(after.block(1)))
    old = OwnVotesResponse(0, request.nonce, None, ())
    for peer in (1, 2, 3):
        effects += member.get(old, sender=peer)
    assert not spoken(effects)
    for peer in (1, 2):
        effects = member.get(OwnVotesResponse(1, request.nonce, None, ()), sender=peer)
    assert votes(effects, Kind.NOTARIZE)


def test_a_link_that_comes_up_between_two_epochs_is_asked_in_the_next() -> None:
    member, _, after = entering()
    end(member)
    assert not member.do(Linked(ValidatorIndex(1)))
    member.enter(after, confirm=False)
    assert sent(member.do(Linked(ValidatorIndex(1))), OwnVotesRequest)


def test_what_made_a_node_stop_signing_holds_in_the_next_epoch() -> None:
    member = Member()
    _, seal = sealing(member.chain, member)
    member.notarize(member.chain.carrier(3, seal))
    other = member.chain.carrier(3, seal, proposer=1)
    alarms = only(member.get(member.chain.notarization(other)), Alarm)
    assert len(alarms) == 1
    member.get(member.chain.finalization(seal))
    after = member.chain.after(seal)
    member.enter(after)
    assert member.epochs.stopped == alarms[0].reason
    assert not spoken(member.get(after.proposal(after.block(1))) + member.wait(LONG))


def test_a_retired_key_does_not_bind_a_fresh_one() -> None:
    member = Member()
    _, seal = sealing(member.chain, member)
    unknown = member.chain.vote(0, 3, Kind.NULLIFY)
    (alarm,) = only(member.get(unknown, sender=1), Alarm)
    assert alarm.retire_key
    member.get(member.chain.finalization(seal))
    after = member.chain.after(seal)
    member.enter(after)
    assert member.epochs.stopped is None
    assert votes(member.get(after.proposal(after.block(1))), Kind.NOTARIZE)


# --- restarts -----------------------------------------------------------------------------------


def test_restart_with_the_seal_notarized_and_not_final() -> None:
    member = Member()
    one, seal = sealing(member.chain)
    member.notarize(one)
    member.notarize(seal)
    back = member.again()
    carrier = back.chain.carrier(3, seal)
    (vote,) = votes(back.get(back.chain.proposal(carrier)), Kind.NOTARIZE)
    assert vote.content == carrier.content
    (commit,) = only(back.get(back.chain.finalization(seal)), Commit)
    assert commit.blocks == (one.info, seal.info)


def test_restart_with_carriers_in_the_journal() -> None:
    member = Member()
    chain = member.chain
    one, seal = sealing(chain)
    carriers = [chain.carrier(3, seal)]
    carriers.append(chain.carrier(5, carriers[0]))
    for block in (one, seal, carriers[0]):
        member.notarize(block)
    member.get(chain.nullification(4))
    member.notarize(carriers[1])
    back = member.again()
    (commit,) = only(back.get(chain.finalization(carriers[-1])), Commit)
    assert commit.blocks == (one.info, seal.info)
    assert commit.carriers == tuple(carrier.raw for carrier in carriers)


@pytest.mark.parametrize("through_carrier", [False, True])
def test_restart_with_the_seal_final_and_not_in_the_database(through_carrier: bool) -> None:
    member = Member()
    chain = member.chain
    one, seal = sealing(chain)
    for block in (one, seal):
        member.notarize(block)
    last = seal
    if through_carrier:
        last = chain.carrier(3, seal)
        member.notarize(last)
    (before,) = only(member.get(chain.finalization(last)), Commit)
    back = member.again()
    (after,) = only(back.all, Commit)
    assert (after.blocks, after.carriers) == (before.blocks, before.carriers)
    assert not spoken([e for e in back.wait(LONG) if e not in back.started])
    back.enter(chain.after(seal))
    assert back.epochs.epoch == 1


def test_restart_with_the_seal_in_the_database_begins_the_next_epoch_without_the_old_one() -> None:
    member = Member()
    chain = member.chain
    _, seal = sealing(chain, member)
    member.notarize(chain.carrier(3, seal))
    member.get(chain.finalization(seal))
    assert votes(member.all, Kind.FINALIZE)
    after = chain.after(seal)
    back = member.again(after)
    assert back.epochs.view == 1
    assert not said(back.started, Vote) + said(back.started, Proposal)
    assert not only(back.started, Execute)
    assert not back.epochs.live_records()
    first = after.block(1)
    assert votes(back.get(after.proposal(first)), Kind.NOTARIZE)


def test_restart_in_the_new_epoch_brings_its_own_votes_back() -> None:
    member, chain = moved_on()
    block = chain.block(1)
    member.notarize(block)
    signed = votes(member.all, Kind.FINALIZE)[-1]
    assert signed.epoch == 1
    back = member.again(chain)
    assert signed in votes(back.started, Kind.FINALIZE)
    assert {vote.epoch for vote in spoken(back.started)} == {1}
    assert back.epochs.view == 2


def test_what_a_rotated_journal_keeps_is_of_the_new_epoch() -> None:
    member, chain = moved_on()
    member.notarize(chain.block(1))
    kept = member.epochs.live_records()
    assert kept
    again = Member(chain=chain, ring=member.ring, records=kept)
    assert again.epochs.view == 2


def test_an_older_database_does_not_make_a_node_forget_votes_of_later_epochs() -> None:
    member, chain = moved_on()
    member.get(chain.proposal(chain.block(1)))
    (signed,) = (vote for vote in votes(member.all, Kind.NOTARIZE) if vote.epoch == 1)
    old = Chain()
    back = member.again(old)  # an operator put an older copy of the database in
    rotated = back.epochs.live_records()
    one, seal = sealing(old)
    again = Member(chain=old, ring=member.ring, records=rotated)
    again.get(sealed(old, seal))
    again.get(chunk(old, [one, seal], []))
    effects = again.enter(chain)
    assert votes(effects, Kind.NOTARIZE) == [signed], "brought back, not forgotten"


def test_an_older_database_neither_condemns_a_key_nor_signs_again_in_an_epoch_seen_final() -> None:
    member, chain = moved_on()
    member.get(chain.proposal(chain.block(1)))
    rotated = member.epochs.live_records()  # all of epoch 0 was final, and is cut off
    old = Chain()
    back = Member(chain=old, ring=member.ring, records=rotated)
    one, seal = sealing(old)
    effects = back.get(old.proposal(one)) + back.wait(LONG)
    assert not spoken(effects), "its votes of then are forgotten, and would be made anew"
    back.get(old.vote(0, 2, Kind.NOTARIZE, seal.content), sender=1)
    back.get(EpochSealed(0, (), old.finalization(seal, voters=(0, 1, 2))))
    back.get(chunk(old, [one, seal], []))
    assert not only(back.all, Alarm)
    assert back.epochs.ended


def test_evidence_outlives_a_crash_at_the_end_of_its_epoch() -> None:
    member, _, after = entering()
    for content in (member.chain.block(3).content, member.chain.block(3, payload=b"x").content):
        member.get(member.chain.vote(2, 3, Kind.FINALIZE, content))
    (report,) = only(member.all, ReportEquivocation)
    back = member.again(after)
    assert only(back.started, ReportEquivocation) == [report]
    end(member)
    member.enter(after)
    assert Witnessed(report.equivocation) in member.epochs.live_records(), "rotated before stored"


# --- chunks ---------------------------------------------------------------------------------------


def forgeries(chain: Chain) -> dict[str, SyncResponse]:
    one, seal = sealing(chain)
    carrier = chain.carrier(3, seal)
    beyond = chain.carrier(4, carrier)
    wrong_height = chain.carrier(3, seal, height=7)
    wrong_time = chain.carrier(3, seal, timestamp=1)
    ordinary = chain.block(3, seal)
    alien = chain.carrier(3, chain.seal(2, one, b"other"))
    after = chain.after(seal).block(1)
    good = chunk(chain, [one, seal], [carrier, beyond])
    return {
        "a carrier among the blocks": chunk(chain, [one, seal, carrier], []),
        "the seal among the carriers": chunk(chain, [one], [seal, carrier]),
        "a block of the next epoch": chunk(chain, [one, seal, after], []),
        "an ordinary block on the seal": chunk(chain, [one, seal, ordinary], []),
        "an ordinary block as carrier": chunk(chain, [one, seal], [ordinary]),
        "a carrier of another height": chunk(chain, [one, seal], [wrong_height]),
        "a carrier of another time": chunk(chain, [one, seal], [wrong_time]),
        "a carrier of another seal": chunk(chain, [one, seal], [alien]),
        "a carrier left out": SyncResponse(good.blocks, (beyond.raw,), good.finalization),
        "carriers out of order": SyncResponse(
            good.blocks, (beyond.raw, carrier.raw), good.finalization
        ),
        "the last carrier left out": SyncResponse(good.blocks, (carrier.raw,), good.finalization),
        "no carriers": SyncResponse(good.blocks, (), good.finalization),
        "a carrier after the final one": SyncResponse(
            good.blocks, (carrier.raw, beyond.raw), chain.finalization(carrier)
        ),
        "carriers without a seal": chunk(chain, [one], [chain.carrier(2, one)]),
        "noise": SyncResponse(good.blocks, (b"noise",), good.finalization),
    }


@pytest.mark.parametrize("forgery", forgeries(Chain()))
def test_a_chunk_with_misplaced_or_forged_carriers_is_refused(forgery: str) -> None:
    member = Member()
    chain = member.chain
    one, seal = sealing(chain)
    carrier = chain.carrier(3, seal)
    member.get(sealed(chain, seal, carrier, chain.carrier(4, carrier)), sender=2)
    effects = member.get(forgeries(chain)[forgery], sender=2)
    assert only(effects, Rejected)
    assert not only(effects, Commit) + only(effects, Execute)
    ((peer, _),) = sent(effects, SyncRequest)
    assert peer != 2, "the next one is asked"
    good = chunk(chain, [one, seal], [carrier, chain.carrier(4, carrier)])
    assert only(member.get(good, sender=peer), Commit)


def test_a_body_that_is_asked_for_in_the_ended_epoch_is_answered_with_its_seal() -> None:
    member, _ = moved_on()
    request = BlockRequest(0, 2, bytes(32))
    assert besides(member.get(request, sender=1)) == [Straggler(ValidatorIndex(1), Chain().epoch)]
