"""Fetching what is missing, one peer at a time; catching up in chunks; serving and its bounds."""

from __future__ import annotations

import msgspec
import pytest

from consensus.fetching import CERTIFICATE_WINDOW, MAX_IN_FLIGHT
from consensus.interface import Build, Commit, Execute, Executed, Pending, Rejected, Send
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Certificate,
    CertificateRequest,
    Content,
    Kind,
    OwnVote,
    Proposal,
    SyncRequest,
    SyncResponse,
    Vote,
)
from consensus.serving import (
    MAX_CERTIFICATES_PER_ANSWER,
    MAX_VIEWS_PER_ANSWER,
    STANDSTILL_PAGE,
)
from tests.support.consensus_harness import (
    CODEC,
    Block,
    Solo,
    kept,
    only,
    said,
    sent,
    timing,
    votes,
)

# --- one peer at a time --------------------------------------------------------------------------


def test_a_body_is_asked_from_its_signers_one_timeout_a_peer_round_and_round() -> None:
    solo = Solo()
    solo.get(solo.chain.notarization(solo.chain.block(1), (1, 2, 3)))
    solo.wait(6 * 120)
    asked = [to for to, _ in sent(solo.all, BlockRequest)]
    assert asked == [1, 2, 3, 1, 2, 3, 1]


def test_only_signers_are_asked_and_never_this_node() -> None:
    solo = Solo(3)
    solo.get(solo.chain.notarization(solo.chain.block(1), (0, 1, 2)))
    solo.wait(500)
    assert {to for to, _ in sent(solo.all, BlockRequest)} == {0, 1, 2}


def test_different_nodes_begin_with_different_peers() -> None:
    first = []
    for index in (0, 1, 2, 3):
        solo = Solo(index)
        block = solo.chain.block(2)
        solo.get(solo.chain.notarization(block, [i for i in range(4) if i != index]))
        first.append(sent(solo.all, BlockRequest)[0][0])
    assert len(set(first)) > 1


def test_a_body_that_came_is_not_asked_for_again() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.get(solo.chain.notarization(block))
    solo.get(BlockResponse(0, block.raw), sender=1)
    assert not sent(solo.wait(1_000), BlockRequest)


def test_a_late_answer_is_as_good_as_a_prompt_one() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.get(solo.chain.notarization(block))
    solo.wait(300)
    solo.get(BlockResponse(0, block.raw), sender=1)
    assert solo.core.view == 2


def test_a_body_pushed_as_a_proposal_serves_as_well() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.get(solo.chain.nullification(1))
    solo.get(solo.chain.notarization(block))
    assert only(solo.get(solo.chain.proposal(block)), Execute)
    assert not sent(solo.wait(500), BlockRequest)


def test_an_answer_from_who_was_not_asked_is_refused_unread() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.get(solo.chain.notarization(block))  # asks 1
    before = solo.codec.inspected
    effects = solo.get(BlockResponse(0, block.raw), sender=3)
    assert [type(effect) for effect in effects] == [Rejected]
    assert solo.codec.inspected == before


def test_a_useless_answer_makes_the_next_peer_be_asked_at_once() -> None:
    solo = Solo()
    solo.get(solo.chain.notarization(solo.chain.block(1)))
    effects = solo.get(BlockResponse(0, b"junk"), sender=1)
    assert only(effects, Rejected)
    assert [to for to, _ in sent(effects, BlockRequest)] == [2]


def test_a_body_of_another_block_is_refused() -> None:
    solo = Solo()
    solo.get(solo.chain.notarization(solo.chain.block(1)))
    other = solo.chain.block(1, payload=b"other")
    assert only(solo.get(BlockResponse(0, other.raw), sender=1), Rejected)
    assert solo.core.view == 1


def asked_last(solo: Solo) -> tuple[int, BlockRequest]:
    return sent(solo.all, BlockRequest)[-1]


def test_one_body_answers_the_questions_of_all_views_that_it_is_wanted_for() -> None:
    """First its view is guessed, then a certificate names it: no question stays open for ever."""
    solo = Solo()
    one, two, three, four = solo.chain.chain(4)
    solo.get(solo.chain.notarization(four))
    for block in (four, three):
        solo.get(BlockResponse(0, block.raw), sender=asked_last(solo)[0])
    guessed = asked_last(solo)[1]
    solo.get(solo.chain.notarization(two))
    known = asked_last(solo)[1]
    assert (guessed.block, known.block) == (two.info.digest, two.info.digest)
    assert guessed.view != known.view == 2
    for block in (two, one):
        solo.get(BlockResponse(0, block.raw), sender=asked_last(solo)[0])
    assert solo.core.view == 5
    assert not sent(solo.wait(2_000), BlockRequest)


@pytest.mark.parametrize("sender", [1, 2, 3])
def test_a_body_whose_view_was_guessed_is_asked_for_until_it_comes(sender: int) -> None:
    """The floor passes the guess, but not the block."""
    solo = Solo()
    one, two, three, four = solo.chain.chain(4)
    solo.notarize(one)
    solo.get(solo.chain.notarization(four))
    for block in (four, three):
        solo.get(BlockResponse(0, block.raw), sender=asked_last(solo)[0])
    assert asked_last(solo)[1] == BlockRequest(0, 1, two.info.digest)
    solo.get(solo.chain.finalization(one), sender=sender)
    assert solo.core.floor.info == one.info
    assert {r.block for _, r in sent(solo.wait(1_000), BlockRequest)} == {two.info.digest}


def test_nobody_opens_questions_by_forging_votes_for_a_body_that_is_asked_for() -> None:
    """Who is asked for a body knows that it is wanted, and could use up the bound on questions."""
    solo = Solo()
    block = solo.chain.block(1)
    solo.get(solo.chain.notarization(block))
    for view in range(1, 100):
        leader = solo.chain.leader(view)
        forged = Vote(0, view, Kind.NOTARIZE, Content(0, block.info.digest), leader, bytes(64))
        assert not sent(solo.get(Proposal(forged, b"junk"), sender=1), BlockRequest)
    solo.get(BlockResponse(0, block.raw), sender=1)
    assert solo.core.view == 2
    assert not sent(solo.wait(2_000), BlockRequest)


def test_a_leader_that_signs_for_another_views_block_hides_nothing_from_who_needs_it() -> None:
    solo = Solo()
    one = solo.chain.block(1)
    liar = solo.chain.vote(2, 2, Kind.NOTARIZE, Content(0, one.info.digest))
    solo.get(Proposal(liar, b"junk"), sender=2)
    assert asked_last(solo)[1] == BlockRequest(0, 2, one.info.digest)
    solo.get(solo.chain.notarization(one))
    solo.get(BlockResponse(0, one.raw), sender=asked_last(solo)[0])
    assert solo.core.view == 2
    assert not sent(solo.wait(2_000), BlockRequest)


def test_open_questions_are_bounded_and_the_others_wait_their_turn() -> None:
    solo = Solo()
    for view in range(1, 2 * MAX_IN_FLIGHT, 4):
        for led in range(view, view + 4):
            solo.get(solo.chain.notarization(solo.chain.block(led)))
    asked = {request.view for _, request in sent(solo.all, BlockRequest)}
    assert len(asked) == MAX_IN_FLIGHT
    first = solo.chain.block(1)
    effects = solo.get(BlockResponse(0, first.raw), sender=1)
    new = {request.view for _, request in sent(effects, BlockRequest)} - asked
    assert new == {MAX_IN_FLIGHT + 1}


def test_a_request_for_certificates_is_bounded_by_its_window() -> None:
    solo = Solo()
    solo.do(Pending(True))
    for view in range(1_000, 1_003):
        solo.get(solo.chain.nullification(view))
    solo.get(solo.chain.nullification(1_003))
    requests = [request for _, request in sent(solo.all, CertificateRequest)]
    assert requests
    for request in requests:
        assert request.last - request.first < CERTIFICATE_WINDOW


def test_certificates_missing_are_asked_for_peer_by_peer_until_they_come() -> None:
    solo = Solo()
    solo.do(Pending(True))
    solo.get(solo.chain.nullification(3))
    solo.wait(3 * 120)
    asked = [to for to, _ in sent(solo.all, CertificateRequest)]
    assert asked == [1, 2, 3, 1]
    solo.get(solo.chain.nullification(2))
    solo.get(solo.chain.nullification(1))
    assert only(solo.all, Build)


# --- serving -------------------------------------------------------------------------------------


def answers(effects: list[object]) -> list[object]:
    return [effect.message for effect in only(effects, Send)]


def test_bodies_above_the_floor_are_served() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    solo.get(solo.chain.proposal(block))
    effects = solo.get(BlockRequest(0, 1, block.info.digest), sender=3)
    assert sent(effects, BlockResponse) == [(3, BlockResponse(0, block.raw))]


def test_what_is_below_the_floor_is_answered_with_the_floors_finalization() -> None:
    solo = Solo()
    one, two = solo.chain.chain(2)
    solo.finalize(one)
    solo.finalize(two)
    finalization = solo.chain.finalization(two)
    for request in (BlockRequest(0, 1, one.info.digest), CertificateRequest(0, 1, 2)):
        assert answers(list(solo.get(request, sender=3))) == [finalization]


def test_a_body_that_is_not_here_is_not_answered() -> None:
    solo = Solo()
    assert solo.get(BlockRequest(0, 1, bytes(32)), sender=3) == []


def test_certificates_of_all_kinds_are_served_in_order_of_views() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    certificates: list[Certificate] = [
        solo.chain.notarization(block),
        solo.chain.nullification(1),
        solo.chain.nullification(2),
    ]
    solo.get_all(certificates)
    assert answers(list(solo.get(CertificateRequest(0, 1, 2), sender=3))) == certificates


def test_an_answer_with_certificates_is_bounded_however_wide_the_request() -> None:
    solo = Solo(None)
    for view in range(1, MAX_CERTIFICATES_PER_ANSWER + 20):
        solo.get(solo.chain.nullification(view))
    effects = solo.get(CertificateRequest(0, 0, 2**63), sender=3)
    assert len(only(effects, Send)) == MAX_CERTIFICATES_PER_ANSWER
    beyond = CertificateRequest(0, 2**62, 2**63)
    assert solo.get(beyond, sender=3) == []
    assert MAX_VIEWS_PER_ANSWER < 1_000


@pytest.mark.parametrize(
    "request_",
    [BlockRequest(1, 1, bytes(32)), CertificateRequest(1, 1, 2), CertificateRequest(0, 2, 1)],
)
def test_requests_that_make_no_sense_are_refused(request_: BlockRequest) -> None:
    assert [type(effect) for effect in Solo().get(request_, sender=3)] == [Rejected]


# --- catching up in chunks -----------------------------------------------------------------------


def chunk(solo: Solo, blocks: list[Block]) -> SyncResponse:
    return SyncResponse(tuple(b.raw for b in blocks), (), solo.chain.finalization(blocks[-1]))


def behind(solo: Solo, blocks: list[Block]) -> int:
    """Show a node the finalization of a block far above; who it asks for a chunk."""
    solo.get(solo.chain.finalization(blocks[-1]))
    asked = sent(solo.all, BlockRequest)[-1][0]
    solo.get(BlockResponse(0, blocks[-1].raw), sender=asked)
    [(peer, request)] = sent(solo.all, SyncRequest)
    assert request.first == solo.core.floor.info.height + 1
    return peer


def test_a_gap_of_more_than_sixteen_is_closed_in_chunks_that_prove_themselves() -> None:
    solo = Solo()
    blocks = solo.chain.chain(40)
    peer = behind(solo, blocks)
    effects = solo.get(chunk(solo, blocks[:25]), sender=peer)
    assert [b.height for b in only(effects, Commit)[-1].blocks][-1] == 25
    assert [x.info.height for x in only(effects, Execute)] == list(range(1, 26))
    [(peer, request)] = sent(effects, SyncRequest)  # one chunk at a time, until not behind
    assert request.first == 26
    effects = solo.get(chunk(solo, blocks[25:]), sender=peer)
    assert solo.core.floor.info.height == 40
    assert not sent(effects + solo.wait(1_000), SyncRequest)


def test_a_gap_of_up_to_sixteen_is_walked_parent_by_parent() -> None:
    solo = Solo()
    blocks = solo.chain.chain(16)
    solo.get(solo.chain.finalization(blocks[-1]))
    for block in reversed(blocks):
        peer, request = sent(solo.all, BlockRequest)[-1]
        assert request.block == block.info.digest
        solo.get(BlockResponse(0, block.raw), sender=peer)
    assert solo.core.floor.info.height == 16
    assert not sent(solo.all, SyncRequest)


def test_a_peer_whose_floor_is_above_the_body_asked_for_is_asked_for_a_chunk() -> None:
    """Bodies at or below a floor come from storage only: waiting for them here would stall."""
    solo = Solo()
    block = solo.chain.block(1)
    finalization = solo.chain.finalization(block)
    solo.get(finalization)
    [(peer, _)] = sent(solo.all, BlockRequest)
    effects = solo.get(finalization, sender=peer)
    assert [to for to, _ in sent(effects, SyncRequest)] == [peer]
    solo.get(chunk(solo, [block]), sender=peer)
    assert solo.core.floor.info == block.info


def test_a_body_asked_for_is_still_welcome_when_its_finalization_comes_first() -> None:
    solo = Solo()
    block = solo.chain.block(1)
    [(peer, _)] = sent(solo.get(solo.chain.notarization(block)), BlockRequest)
    solo.get(solo.chain.finalization(block), sender=peer)
    effects = solo.get(BlockResponse(0, block.raw), sender=peer)
    assert only(effects, Commit)
    assert not sent(solo.wait(1_000), SyncRequest)


def test_the_same_finalization_from_who_was_not_asked_starts_nothing() -> None:
    solo = Solo()
    finalization = solo.chain.finalization(solo.chain.block(1))
    solo.get(finalization)
    [(peer, _)] = sent(solo.all, BlockRequest)
    assert not sent(solo.get(finalization, sender=peer % 3 + 1), SyncRequest)


def test_chunk_requests_rotate_over_the_peers() -> None:
    solo = Solo()
    blocks = solo.chain.chain(20)
    behind(solo, blocks)
    solo.wait(3 * 120)
    assert len({to for to, _ in sent(solo.all, SyncRequest)}) == 3


@pytest.mark.parametrize("fault", ["gap", "order", "body", "last", "certificate", "kind", "empty"])
def test_a_chunk_that_does_not_prove_itself_is_refused_and_the_next_peer_asked(fault: str) -> None:
    solo = Solo()
    blocks = solo.chain.chain(20)
    peer = behind(solo, blocks)
    good = chunk(solo, blocks[:18])
    junk = (*good.blocks[:3], b"junk", *good.blocks[4:])
    notarization = solo.chain.notarization(blocks[17])
    unsigned = msgspec.structs.replace(
        solo.chain.finalization(blocks[17]), signatures=((1, bytes(64)),) * 3
    )
    bad = {
        "gap": msgspec.structs.replace(good, blocks=good.blocks[:2] + good.blocks[3:]),
        "order": msgspec.structs.replace(good, blocks=good.blocks[:1] + good.blocks[:0:-1]),
        "body": msgspec.structs.replace(good, blocks=junk),
        "last": msgspec.structs.replace(good, blocks=good.blocks[:-1]),
        "certificate": msgspec.structs.replace(good, finalization=unsigned),
        "kind": msgspec.structs.replace(good, finalization=notarization),
        "empty": msgspec.structs.replace(good, blocks=()),
    }[fault]
    effects = solo.get(bad, sender=peer)
    assert [r.sender for r in only(effects, Rejected)] == [peer]
    assert not only(effects, Execute)
    [(other, _)] = sent(effects, SyncRequest)
    assert other != peer
    solo.get(good, sender=other)
    assert solo.core.floor.info.height == 18


def test_a_late_answer_to_an_earlier_question_is_no_fault_and_asks_nobody_else() -> None:
    solo = Solo()
    blocks = solo.chain.chain(40)
    peer = behind(solo, blocks)
    late = chunk(solo, blocks[:20])
    solo.get(late, sender=peer)
    effects = solo.get(late, sender=peer)
    assert [r.reason for r in only(effects, Rejected)] == ["sync: not asked for"]
    assert not sent(effects, SyncRequest)


def test_a_chunk_that_was_not_asked_for_is_refused_unread() -> None:
    solo = Solo()
    before = solo.codec.inspected
    effects = solo.get(chunk(solo, solo.chain.chain(3)), sender=2)
    assert [type(effect) for effect in effects] == [Rejected]
    assert solo.codec.inspected == before


def test_a_chunk_whose_block_fails_here_stops_signing() -> None:
    solo = Solo()
    blocks = solo.chain.chain(20)
    peer = behind(solo, blocks)
    solo.bad.add(blocks[4].info.digest)
    solo.get(chunk(solo, blocks), sender=peer)
    assert solo.core.stopped is not None
    assert not only(solo.all, Commit)


def test_a_chunk_may_come_while_its_blocks_are_partly_here() -> None:
    solo = Solo()
    blocks = solo.chain.chain(20)
    for block in blocks[5:8]:
        solo.get(solo.chain.notarization(block))
        peer = sent(solo.all, BlockRequest)[-1][0]
        solo.get(BlockResponse(0, block.raw), sender=peer)
    peer = behind(solo, blocks)
    solo.get(chunk(solo, blocks), sender=peer)
    assert solo.core.floor.info.height == 20


def test_a_chunk_executes_parent_first_with_verdicts_in_later_turns() -> None:
    solo = Solo(execute=False)
    blocks = solo.chain.chain(18)
    solo.get(solo.chain.finalization(blocks[-1]))
    peer = sent(solo.all, BlockRequest)[-1][0]
    effects = solo.get(BlockResponse(0, blocks[-1].raw), sender=peer)
    solo.get(chunk(solo, blocks), sender=sent(effects, SyncRequest)[0][0])
    for block in blocks:
        assert [x.info.height for x in only(solo.all, Execute)][-1] == block.info.height
        solo.do(Executed(block.info.digest, True))
    assert solo.core.floor.info.height == 18
    assert len(only(solo.all, Commit)) == 1


def test_this_node_takes_part_again_after_catching_up() -> None:
    solo = Solo()
    blocks = solo.chain.chain(20)
    peer = behind(solo, blocks)
    solo.get(chunk(solo, blocks), sender=peer)
    effects = solo.get(solo.chain.proposal(solo.chain.block(21, blocks[-1])))
    assert [vote.view for vote in votes(effects, Kind.NOTARIZE)] == [21]


def test_a_sync_request_is_not_the_cores_to_answer() -> None:
    assert [type(effect) for effect in Solo().get(SyncRequest(1), sender=2)] == [Rejected]


# --- rule 8 --------------------------------------------------------------------------------------


def test_at_a_standstill_everything_above_the_latest_finalization_is_sent() -> None:
    solo = Solo()
    one, two = solo.chain.chain(2)
    solo.finalize(one)
    solo.notarize(two)
    solo.get(solo.chain.nullification(3))
    solo.wait(solo.timing.standstill - 1)
    effects = solo.wait(1)
    assert set(said(effects, Certificate)) >= {
        solo.chain.finalization(one),
        solo.chain.notarization(two),
        solo.chain.nullification(3),
    }
    mine = [record.vote for record in kept(solo.all, OwnVote) if record.vote.view > 1]
    again = said(effects, Vote)
    assert mine
    assert all(vote in again for vote in mine)


def test_standstills_come_at_every_interval_without_a_finalization_and_no_other() -> None:
    solo = Solo(timing=timing(standstill=1_000, idle_interval=60_000))
    block = solo.chain.block(1)
    solo.notarize(block)
    solo.wait(100)
    solo.get(solo.chain.finalization(block))
    finalization = solo.chain.finalization(block)
    assert finalization not in said(solo.wait(999), Certificate)
    for _ in range(3):
        assert finalization in said(solo.wait(1), Certificate)
        assert finalization not in said(solo.wait(999), Certificate)


def test_a_standstill_goes_page_by_page_and_round_again() -> None:
    solo = Solo(
        timing=timing(
            standstill=1_000, idle_interval=10_000_000, retry=10_000_000, skip_timeout=20_000_000
        )
    )
    views = 2 * STANDSTILL_PAGE + 10
    for view in range(1, views + 1):
        solo.get(solo.chain.nullification(view))
    pages = []
    for _ in range(4):
        before = len(solo.all)
        solo.wait(1_000)
        pages.append([c.view for c in said(solo.all[before:], Certificate)])
    assert max(len(page) for page in pages) <= STANDSTILL_PAGE + 6
    assert sorted(pages[0] + pages[1] + pages[2]) == list(range(1, views + 1))
    assert pages[3] == pages[0]


def test_a_content_of_another_parent_view_is_another_content() -> None:
    block = Solo().chain.block(1)
    assert block.content != Content(block.content.parent_view + 1, block.info.digest)
    assert CODEC.inspect(block.raw) == block.info
