"""Coming back from a crash: the node that restarts is the one that crashed."""

from __future__ import annotations

import random

import pytest

from consensus.interface import (
    Alarm,
    Broadcast,
    Build,
    Built,
    Commit,
    EnteredView,
    Execute,
    Executed,
    Floor,
    Pending,
    ReportEquivocation,
)
from consensus.messages import (
    BlockRequest,
    Body,
    Certificate,
    Certified,
    Epoch,
    Kind,
    OwnProposal,
    OwnVote,
    Proposal,
    Record,
    SyncRequest,
    SyncResponse,
    Vote,
    Witnessed,
    decode_record,
    encode,
)
from consensus.recovery import RecordRefused
from tests.support.consensus_harness import Chain, Solo, kept, only, said, sent, votes


def busy() -> Solo:
    """A node with a bit of everything above its floor."""
    solo = Solo()
    solo.do(Pending(True))
    one, two = solo.chain.chain(2)
    solo.finalize(one)
    solo.notarize(two)
    solo.get(solo.chain.proposal(solo.chain.block(3, two)))
    solo.get(solo.chain.vote(3, 3, Kind.NULLIFY))
    solo.get(solo.chain.nullification(3, (1, 2, 3)))
    return solo


# --- what comes back -----------------------------------------------------------------------------


def test_records_in_any_order_and_more_than_once_give_the_same_node() -> None:
    solo = busy()
    expected = solo.restart()
    for seed in range(20):
        shuffled = [decode_record(encode(record)) for record in solo.journal * 2]
        random.Random(seed).shuffle(shuffled)
        again = Solo(0, records=shuffled, signer=solo.signer, now=expected.now)
        assert again.core.view == expected.core.view == 4
        assert again.core.floor == expected.core.floor
        as_sets = [
            {encode(b.message) for b in only(each.started, Broadcast)} for each in (again, expected)
        ]
        assert as_sets[0] == as_sets[1], f"seed {seed}"


def test_the_highest_view_that_any_record_justifies_is_resumed() -> None:
    """Resuming from the last journal record would move back a view."""
    chain = Chain()
    records: list[Record] = [
        Certified(chain.nullification(7)),
        Certified(chain.nullification(3)),
        OwnVote(chain.vote(0, 5, Kind.NULLIFY)),
    ]
    for order in (records, records[::-1]):
        solo = Solo(0, records=order)
        assert solo.core.view == 8
        assert [entered.view for entered in only(solo.started, EnteredView)] == [8]
    assert Solo(0, records=[OwnVote(chain.vote(0, 5, Kind.NULLIFY))]).core.view == 5


def test_own_votes_are_sent_again_byte_for_byte_and_none_is_minted() -> None:
    solo = busy()
    mine = [record.vote for record in kept(solo.all, OwnVote)]
    again = solo.restart()
    assert sorted(said(again.started, Vote), key=encode) == sorted(mine, key=encode)


def test_a_leader_sends_the_proposal_it_signed_again_or_none() -> None:
    solo = Solo()
    solo.do(Pending(True))
    for block in solo.chain.chain(3):
        solo.finalize(block)
    [build] = only(solo.all, Build)
    [proposal] = said(solo.do(Built(build.view, solo.chain.build(build, b"x").raw)), Proposal)
    again = solo.restart()
    assert encode(said(again.started, Proposal)[0]) == encode(proposal)
    assert again.core.view == 4
    assert not only(again.started + again.do(Pending(True)), Build)
    without = solo.restart(drop=lambda record: isinstance(record, OwnProposal))
    without.do(Pending(True))
    assert not said(without.all, Proposal)
    assert not only(without.all, Build)


def test_an_own_vote_is_counted_once_after_replay() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.get(solo.chain.proposal(block))
    again = solo.restart()
    [mine] = votes(again.started, Kind.NOTARIZE)
    assert not said(again.get(mine, sender=2), Certificate)
    assert not said(again.get(again.chain.vote(1, 1, Kind.NOTARIZE, block.content)), Certificate)
    effects = again.get(again.chain.vote(2, 1, Kind.NOTARIZE, block.content))
    [certificate] = said(effects, Certificate)
    assert [voter for voter, _ in certificate.signatures] == [0, 1, 2]


def test_a_replayed_nullify_is_counted() -> None:
    solo = Solo()
    solo.get(solo.chain.vote(1, 1, Kind.NULLIFY))
    again = solo.restart()
    again.get(again.chain.vote(1, 1, Kind.NULLIFY))
    effects = again.get(again.chain.vote(2, 1, Kind.NULLIFY))
    assert [voter for voter, _ in said(effects, Certificate)[0].signatures] == [0, 1, 2]
    assert again.core.view == 2


def test_a_recovered_nullify_is_retried() -> None:
    solo = Solo()
    solo.get(solo.chain.nullification(1))
    solo.get(solo.chain.vote(2, 2, Kind.NULLIFY))
    again = solo.restart()
    for _ in range(3):
        effects = again.wait(150)
        assert [vote.view for vote in votes(effects, Kind.NULLIFY)] == [2]
        assert said(effects, Certificate) == [solo.chain.nullification(1)]


def test_a_quorum_that_only_the_replay_completes_is_acted_upon() -> None:
    chain = Chain(1)
    block = chain.block(1)
    solo = Solo(
        0,
        chain=chain,
        records=[
            OwnVote(chain.vote(0, 1, Kind.NOTARIZE, block.content)),
            Body(0, 1, block.raw),
        ],
    )
    assert [c.kind for c in said(solo.started, Certificate)] == [Kind.NOTARIZE, Kind.FINALIZE]
    assert solo.core.floor.info == block.info


# --- what it still bars --------------------------------------------------------------------------


def test_finalize_still_bars_nullify_after_a_restart() -> None:
    solo = Solo()
    solo.notarize(solo.chain.block(1))
    again = solo.restart()
    again.do(Pending(True))
    effects = again.get(again.chain.vote(1, 1, Kind.NULLIFY)) + again.wait(5_000)
    assert 1 not in [vote.view for vote in votes(effects, Kind.NULLIFY)]


def test_finalize_bars_nullify_even_when_only_the_vote_survived() -> None:
    chain = Chain()
    vote = chain.vote(0, 1, Kind.FINALIZE, chain.block(1).content)
    solo = Solo(0, records=[OwnVote(vote)])
    effects = solo.get(chain.vote(1, 1, Kind.NULLIFY)) + solo.wait(5_000)
    assert 1 not in [vote.view for vote in votes(effects, Kind.NULLIFY)]


def test_nullify_still_bars_finalize_and_notarize_after_a_restart() -> None:
    solo = Solo()
    solo.get(solo.chain.vote(1, 1, Kind.NULLIFY))
    again = solo.restart()
    effects = again.notarize(again.chain.block(1))
    assert not votes(effects, Kind.NOTARIZE) + votes(effects, Kind.FINALIZE)
    assert again.core.view == 2


def test_a_notarize_is_not_signed_again_for_another_block_after_a_restart() -> None:
    solo = Solo()
    solo.get(solo.chain.proposal(solo.chain.block(1)))
    again = solo.restart()
    other = again.chain.block(1, payload=b"other")
    effects = again.get(again.chain.proposal(other))
    assert not votes(effects, Kind.NOTARIZE)
    assert not only(effects, Alarm)  # the signer was not even asked


def test_no_vote_is_signed_below_a_recovered_finalization() -> None:
    chain = Chain()
    one, two = chain.chain(2)
    records = [Certified(chain.finalization(two)), Certified(chain.notarization(one))]
    solo = Solo(0, records=[*records, Body(0, 1, one.raw)])
    assert not votes(solo.started, Kind.FINALIZE)


# --- blocks --------------------------------------------------------------------------------------


def test_blocks_above_the_floor_are_executed_again_parent_first() -> None:
    solo = Solo()
    blocks = solo.chain.chain(3)
    for block in blocks:
        solo.notarize(block)
    again = solo.restart()
    assert [x.info for x in only(again.started, Execute)] == [block.info for block in blocks]


def test_what_was_final_but_not_committed_is_committed_after_the_restart() -> None:
    """State ahead of the journal, or behind it, would lose or repeat a payment."""
    solo = Solo()
    blocks = solo.chain.chain(3)
    for block in blocks:
        solo.notarize(block)
    solo.get(solo.chain.finalization(blocks[-1]))
    again = solo.restart()  # the database had stored nothing
    [commit] = only(again.started, Commit)
    assert commit.blocks == tuple(block.info for block in blocks)


def test_a_bad_verdict_does_not_outlive_the_process() -> None:
    solo = Solo(execute=False)
    block = solo.chain.block(1)
    solo.get(solo.chain.proposal(block))
    solo.do(Executed(block.info.digest, False))
    again = solo.restart()
    again.execute = True
    again.get(again.chain.notarization(block))
    effects = again.get(again.chain.proposal(block))
    assert only(effects, Execute)
    assert again.core.stopped is None


def test_divergence_is_found_again_after_a_restart() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.notarize(block)
    again = Solo(0, records=solo.journal, signer=solo.signer, execute=False)
    again.do(Executed(block.info.digest, False))
    assert again.core.stopped is not None


def test_the_body_of_a_recovered_notarization_is_fetched() -> None:
    chain = Chain()
    solo = Solo(0, records=[Certified(chain.notarization(chain.block(1)))])
    assert sent(solo.started, BlockRequest)


def test_the_body_of_every_block_we_notarized_is_served_after_a_restart() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.get(solo.chain.proposal(block))
    again = solo.restart()
    assert again.get(BlockRequest(0, 1, block.info.digest), sender=2)


# --- what does not come back ---------------------------------------------------------------------


def test_records_at_or_below_the_floor_are_not_replayed() -> None:
    solo = busy()
    *_, commit = only(solo.all, Commit)
    again = Solo(
        0,
        records=solo.journal,
        floor=Floor(commit.blocks[-1], commit.finalization),
        signer=solo.signer,
    )
    assert all(vote.view > 1 for vote in said(again.started, Vote))
    assert all(x.info.view > 1 for x in only(again.started, Execute))
    assert again.core.view == 4


def test_records_of_another_epoch_are_not_replayed() -> None:
    solo = busy()
    chain = Chain(4, epoch=1)
    again = Solo(0, chain=chain, records=solo.journal)
    assert again.core.view == 1
    assert not said(again.started, Vote) + said(again.started, Certificate)


def test_an_observer_does_not_act_on_votes_of_a_former_validator() -> None:
    solo = busy()
    again = Solo(None, records=solo.journal)
    assert not said(again.started, Vote)
    assert again.core.view == 4


@pytest.mark.parametrize("kind", ["vote", "certificate", "body"])
def test_a_journal_that_is_not_this_nodes_is_refused(kind: str) -> None:
    chain = Chain()
    vote = chain.vote(2, 1, Kind.NULLIFY)
    record: Record = {
        "vote": OwnVote(vote),
        "certificate": Certified(
            Certificate(0, 1, Kind.NULLIFY, None, tuple((i, bytes(64)) for i in range(3)))
        ),
        "body": Body(0, 1, b"junk"),
    }[kind]  # type: ignore[assignment]
    with pytest.raises(RecordRefused, match="journal"):
        Solo(0, records=[record])


# --- rotation ------------------------------------------------------------------------------------


def test_a_rotated_journal_gives_the_same_node() -> None:
    solo = busy()
    live = solo.core.live_records()
    assert len(live) < len(solo.journal)
    whole = Solo(0, records=solo.journal, floor=solo.core.floor, signer=solo.signer)
    rotated = Solo(0, records=live, floor=solo.core.floor, signer=solo.signer)
    assert rotated.started == whole.started
    assert rotated.core.view == whole.core.view


def test_a_rotated_journal_keeps_the_floors_finalization_and_our_proposal() -> None:
    solo = Solo()
    solo.do(Pending(True))
    blocks = solo.chain.chain(3)
    for block in blocks:
        solo.finalize(block)
    [build] = only(solo.all, Build)
    own = solo.chain.build(build)
    solo.do(Built(build.view, own.raw))
    live = solo.core.live_records()
    assert Certified(solo.chain.finalization(blocks[-1])) in live
    assert [r.proposal.block for r in live if isinstance(r, OwnProposal)] == [own.raw]
    assert [r.vote.view for r in live if isinstance(r, OwnVote)] == [4]
    assert not [r for r in live if isinstance(r, Body)]


def test_a_database_replaced_by_an_older_copy_does_not_cost_the_vote_key() -> None:
    """The journal was cut at a floor that this database has yet to reach again: peers then show
    our votes of views that it no longer tells of. Above that floor it tells of every vote."""
    solo = Solo()
    blocks = solo.chain.chain(3)
    for block in blocks:
        solo.finalize(block)
    mine = votes(solo.all, Kind.FINALIZE)
    assert [vote.view for vote in mine] == [1, 2, 3]
    again = Solo(0, records=solo.core.live_records(), signer=solo.signer)
    again.get_all(mine)
    # Who is asked for the body of the last block has it below its floor.
    again.get(solo.chain.finalization(blocks[2]), sender=sent(again.all, BlockRequest)[0][0])
    [(peer, _)] = sent(again.all, SyncRequest)
    proof = solo.chain.finalization(blocks[1], (0, 1, 2))
    again.get(SyncResponse((blocks[0].raw, blocks[1].raw), (), proof), sender=peer)
    assert again.core.stopped is None
    assert again.core.floor.info == blocks[1].info
    again.get(solo.chain.vote(0, 4, Kind.NULLIFY))
    assert again.core.stopped is not None


def test_evidence_outlives_the_floor_and_the_process() -> None:
    solo = Solo()
    one, other = (solo.chain.block(1, payload=p) for p in (b"1", b"2"))
    for block in (one, other):
        solo.get(solo.chain.vote(2, 1, Kind.NOTARIZE, block.content))
    solo.finalize(one)
    live = solo.core.live_records()
    [witnessed] = [record for record in live if isinstance(record, Witnessed)]
    again = Solo(0, records=live, floor=solo.core.floor)
    assert [e.equivocation for e in only(again.started, ReportEquivocation)] == [
        witnessed.equivocation
    ]


def test_evidence_is_not_reported_again_for_the_same_vote_after_a_restart() -> None:
    solo = Solo()
    one, other = (solo.chain.block(1, payload=p) for p in (b"1", b"2"))
    pair = [solo.chain.vote(2, 1, Kind.NOTARIZE, block.content) for block in (one, other)]
    solo.get_all(pair)
    again = solo.restart()
    assert not only(again.get_all(pair), ReportEquivocation)
    assert again.chain.epoch == Epoch(0)
