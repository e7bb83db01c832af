"""The oracle catches each kind of wrong by its named rule, shown on hand-made histories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from consensus.interface import (
    Alarm,
    BlockInfo,
    Broadcast,
    Build,
    Commit,
    EnteredView,
    Execute,
    Persist,
)
from consensus.messages import (
    Body,
    Certificate,
    Certified,
    Content,
    Digest,
    Epoch,
    Height,
    Kind,
    Milliseconds,
    OwnVote,
    Proposal,
    Record,
    SyncResponse,
    ValidatorIndex,
    View,
    Vote,
)
from devnet.sim.application import (
    GENESIS,
    Application,
    Block,
    Database,
    SimCodec,
    decode_block,
    encode_block,
    instructions_of,
    next_set_of,
    payload_root,
)
from devnet.sim.ballots import Ballot, Ballots, BrokenRule
from devnet.sim.crypto import sign, vote_key, vote_keys
from devnet.sim.members import Change, genesis_set, keys_of
from devnet.sim.oracle import Oracle
from devnet.sim.world import Violation, World

N = 4
QUORUM = (0, 1, 2)


def vote(voter: int, view: int, kind: Kind, content: Content | None = None) -> Vote:
    return Vote(0, view, kind, content, voter, sign(voter, 0, view, kind, content))


def certificate(
    view: int, kind: Kind, content: Content | None = None, signers: tuple[int, ...] = QUORUM
) -> Certificate:
    signatures = tuple((s, sign(s, 0, view, kind, content)) for s in signers)
    return Certificate(0, view, kind, content, signatures)


def block(
    view: int,
    *,
    parent: BlockInfo = GENESIS,
    instructions: tuple[int, ...] = (),
    late: int = 1,
    proposer: int | None = None,
) -> tuple[BlockInfo, bytes]:
    """A block of `view` on `parent`, as the application builds it."""
    application = Application(Database(), genesis_set(N), ())
    application.learn(instructions)
    raw = application.build(
        Build(
            Epoch(0),
            View(view),
            parent,
            Milliseconds(parent.timestamp + late),
            ValidatorIndex(view % N if proposer is None else proposer),
            not instructions,
        )
    )
    return SimCodec().inspect(raw), raw


@pytest.fixture
def oracle() -> Oracle:
    made = Oracle(
        world=World(0),
        validators=vote_keys(N),
        honest=range(N),
        genesis=GENESIS,
        inspect=SimCodec().inspect,
        instructions=lambda raw: instructions_of([raw]),
        next_set=lambda raw: [
            (machine, key)
            for (machine, _), key in zip(next_set_of(raw), keys_of(next_set_of(raw)), strict=True)
        ],
    )
    for index in range(N):
        made.started(index, GENESIS, [])
    return made


def enter(oracle: Oracle, index: int, view: int) -> None:
    oracle.turn(index, [EnteredView(View(view), ValidatorIndex(view % N), None)])


def make_durable(oracle: Oracle, index: int, *records: Record) -> None:
    oracle.turn(index, [Persist(record) for record in records])
    oracle.durable(index, records)


def notarize(oracle: Oracle, index: int, info: BlockInfo, raw: bytes, parent_view: int) -> None:
    """An honest node enters the view and durably notarizes its leader's block there."""
    enter(oracle, index, info.view)
    content = Content(parent_view, info.digest)
    if index != info.view % N:
        oracle.published(info.view % N, (info.view, Kind.NOTARIZE, content))
    made = vote(index, info.view, Kind.NOTARIZE, content)
    make_durable(oracle, index, Body(0, info.view, raw), OwnVote(made))


def commit(
    info: BlockInfo, raw: bytes, parent_view: int = 0, signers: tuple[int, ...] = QUORUM
) -> Commit:
    content = Content(parent_view, info.digest)
    return Commit((info,), (raw,), certificate(info.view, Kind.FINALIZE, content, signers))


def broken(rule: str, act: Callable[[], object]) -> None:
    with pytest.raises(Violation) as caught:
        act()
    assert caught.value.rule == rule


def test_an_ordinary_view_breaks_no_rule(oracle: Oracle) -> None:
    info, raw = block(1, instructions=(7,))
    content = Content(0, info.digest)
    for index in QUORUM:
        notarize(oracle, index, info, raw, 0)
        oracle.sent(index, vote(index, 1, Kind.NOTARIZE, content))
    for index in QUORUM:
        made = vote(index, 1, Kind.FINALIZE, content)
        make_durable(
            oracle, index, Certified(certificate(1, Kind.NOTARIZE, content)), OwnVote(made)
        )
        oracle.sent(index, made)
    for index in range(N):
        oracle.turn(index, [commit(info, raw)])
    assert [b.height for b in oracle.chain] == [0, 1]


def test_two_blocks_at_one_height(oracle: Oracle) -> None:
    oracle.turn(0, [commit(*block(1))])
    broken("agreement", lambda: oracle.turn(1, [commit(*block(2))]))


def test_a_commit_that_leaves_its_parent_out(oracle: Oracle) -> None:
    info, raw = block(1)
    stray = replace(info, parent=Digest(b"x" * 32))
    broken("finalized-ancestry", lambda: oracle.turn(0, [commit(stray, raw)]))


def test_a_commit_with_another_blocks_body(oracle: Oracle) -> None:
    info, _ = block(1)
    broken("finalized-ancestry", lambda: oracle.turn(0, [commit(info, block(2)[1])]))


def test_a_commit_that_repeats_or_skips_a_height(oracle: Oracle) -> None:
    info, raw = block(1)
    oracle.turn(0, [commit(info, raw)])
    broken("monotonic-commits", lambda: oracle.turn(0, [commit(info, raw)]))
    far = replace(info, height=Height(3))
    broken("monotonic-commits", lambda: oracle.turn(1, [commit(far, raw)]))


def test_an_instruction_that_executes_twice(oracle: Oracle) -> None:
    first, raw = block(1, instructions=(7,))
    oracle.turn(0, [commit(first, raw)])
    old = decode_block(raw)
    header = msgspec.structs.replace(
        old.header, view=2, height=2, parent=first.digest, timestamp=first.timestamp + 1
    )
    again = msgspec.msgpack.encode(msgspec.structs.replace(old, header=header))
    second = SimCodec().inspect(again)
    broken("exactly-once", lambda: oracle.turn(0, [commit(second, again, 1)]))


# --- signing ------------------------------------------------------------------------------------


def test_a_vote_that_leaves_before_it_is_durable(oracle: Oracle) -> None:
    enter(oracle, 0, 1)
    made = vote(0, 1, Kind.NULLIFY)
    oracle.turn(0, [Persist(OwnVote(made))])
    broken("persist-before-send", lambda: oracle.sent(0, made))


def test_an_own_vote_that_leaves_inside_a_certificate_before_it_is_durable(oracle: Oracle) -> None:
    broken("persist-before-send", lambda: oracle.sent(0, certificate(1, Kind.NULLIFY)))


def test_a_proposal_that_leaves_before_it_is_durable(oracle: Oracle) -> None:
    info, raw = block(1)
    notarize(oracle, 1, info, raw, 0)
    proposal = Proposal(vote(1, 1, Kind.NOTARIZE, Content(0, info.digest)), raw)
    broken("persist-before-send", lambda: oracle.sent(1, proposal))


def test_a_vote_for_a_block_that_is_not_held(oracle: Oracle) -> None:
    enter(oracle, 0, 1)
    made = vote(0, 1, Kind.NOTARIZE, Content(0, block(1)[0].digest))
    broken("body-before-vote", lambda: make_durable(oracle, 0, OwnVote(made)))


def test_a_vote_in_a_view_not_entered(oracle: Oracle) -> None:
    enter(oracle, 0, 1)
    ahead = [Persist(OwnVote(vote(0, 2, Kind.NOTARIZE, Content(0, block(2)[0].digest))))]
    broken("vote-only-in-entered-views", lambda: oracle.turn(0, ahead))


def test_giving_up_a_view_already_left(oracle: Oracle) -> None:
    enter(oracle, 0, 1)
    enter(oracle, 0, 2)
    late = [Persist(OwnVote(vote(0, 1, Kind.NULLIFY)))]
    broken("nullify-only-current-view", lambda: oracle.turn(0, late))


def test_a_vote_at_the_floor(oracle: Oracle) -> None:
    enter(oracle, 0, 1)
    oracle.turn(0, [commit(*block(1))])
    late = [Persist(OwnVote(vote(0, 1, Kind.NULLIFY)))]
    broken("no-vote-at-or-below-floor", lambda: oracle.turn(0, late))


def test_notarizing_a_view_already_given_up(oracle: Oracle) -> None:
    enter(oracle, 0, 1)
    info, raw = block(1)
    make_durable(oracle, 0, OwnVote(vote(0, 1, Kind.NULLIFY)))
    broken("notarize-after-nullify", lambda: notarize_again(oracle, info, raw))


def notarize_again(oracle: Oracle, info: BlockInfo, raw: bytes) -> None:
    made = vote(0, info.view, Kind.NOTARIZE, Content(0, info.digest))
    make_durable(oracle, 0, Body(0, info.view, raw), OwnVote(made))


def test_a_second_block_notarized_in_a_view_even_after_a_crash(oracle: Oracle) -> None:
    info, raw = block(1)
    notarize(oracle, 1, info, raw, 0)
    oracle.started(1, GENESIS, [])  # the journal forgot
    other, other_raw = block(1, late=2)
    broken(
        "no-honest-key-incriminated",
        lambda: notarize(oracle, 1, other, other_raw, 0),
    )


def test_moving_back_a_view_even_after_a_crash(oracle: Oracle) -> None:
    enter(oracle, 0, 2)
    broken("forward-only", lambda: enter(oracle, 0, 1))
    oracle.started(1, GENESIS, [OwnVote(vote(1, 5, Kind.NULLIFY))])
    broken("forward-only", lambda: enter(oracle, 1, 4))


def test_entering_a_view_that_no_certificate_opened(oracle: Oracle) -> None:
    oracle.turn(0, [EnteredView(View(2), ValidatorIndex(2), Kind.NULLIFY)])
    broken("entered-with-certificate", lambda: oracle.durable(0, []))


@pytest.mark.parametrize(
    ("made", "parent_view"),
    [
        pytest.param(block(1, proposer=2), 0, id="another member's block"),
        pytest.param(block(1), 7, id="parent view of another block"),
        pytest.param(block(2), 0, id="a view between not nullified"),
        pytest.param(block(1, late=0), 0, id="time standing still"),
    ],
)
def test_notarizing_what_must_not_be(
    oracle: Oracle, made: tuple[BlockInfo, bytes], parent_view: int
) -> None:
    broken("justified-notarize", lambda: notarize(oracle, 0, *made, parent_view))


def test_notarizing_what_the_leader_did_not_sign(oracle: Oracle) -> None:
    enter(oracle, 0, 1)
    broken("leader-signed", lambda: notarize_again(oracle, *block(1)))


def test_voting_finalize_where_no_notarization_can_be_shown(oracle: Oracle) -> None:
    info, raw = block(1)
    notarize(oracle, 0, info, raw, 0)
    made = vote(0, 1, Kind.FINALIZE, Content(0, info.digest))
    broken("finalization-implies-notarization", lambda: make_durable(oracle, 0, OwnVote(made)))


def test_a_rotation_that_forgets_a_vote(oracle: Oracle) -> None:
    enter(oracle, 0, 1)
    make_durable(oracle, 0, OwnVote(vote(0, 1, Kind.NULLIFY)))
    broken("rotation-keeps", lambda: oracle.rotated(0, []))


def test_a_node_that_stops_without_cause(oracle: Oracle) -> None:
    broken("no-alarm", lambda: oracle.turn(0, [Alarm("diverged")]))


def test_an_idle_chain_that_gives_a_view_up(oracle: Oracle) -> None:
    enter(oracle, 0, 1)
    oracle.quiet = True
    made = [Persist(OwnVote(vote(0, 1, Kind.NULLIFY)))]
    broken("idle-chain-quiet", lambda: oracle.turn(0, made))


# --- certificates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(certificate(1, Kind.NULLIFY, signers=(0, 1)), id="one short"),
        pytest.param(certificate(1, Kind.NULLIFY, signers=(1, 0, 2)), id="not ascending"),
        pytest.param(certificate(1, Kind.NULLIFY, signers=(0, 1, 1)), id="twice the same"),
        pytest.param(certificate(1, Kind.NULLIFY, signers=(0, 1, 4)), id="not a member"),
        pytest.param(certificate(1, Kind.FINALIZE), id="finalizes nothing"),
        pytest.param(
            msgspec.structs.replace(certificate(1, Kind.NULLIFY), view=2), id="of another view"
        ),
        pytest.param(
            msgspec.structs.replace(certificate(1, Kind.NULLIFY), epoch=1), id="of another epoch"
        ),
    ],
)
def test_a_certificate_that_proves_nothing(oracle: Oracle, wrong: Certificate) -> None:
    broken("certificate-shape", lambda: oracle.sent(3, wrong))
    broken("certificate-shape", lambda: oracle.sent(3, SyncResponse((), (), wrong)))


def test_a_commit_under_another_blocks_finalization(oracle: Oracle) -> None:
    info, raw = block(1)
    other = commit(*block(1, late=2)).finalization
    broken("certificate-shape", lambda: oracle.turn(0, [Commit((info,), (raw,), other)]))


# --- counted over all votes ever made -----------------------------------------------------------

ONE, TWO = Content(0, b"1" * 32), Content(0, b"2" * 32)


@pytest.mark.parametrize(
    ("rule", "ballots"),
    [
        (
            "no-nullification-with-finalization",
            [(1, Kind.NOTARIZE, ONE), (1, Kind.FINALIZE, ONE), (1, Kind.NULLIFY, None)],
        ),
        ("one-notarization-per-view", [(1, Kind.NOTARIZE, ONE), (1, Kind.NOTARIZE, TWO)]),
        ("finalization-implies-notarization", [(1, Kind.NOTARIZE, ONE), (1, Kind.FINALIZE, TWO)]),
    ],
)
def test_certificates_that_exclude_each_other(rule: str, ballots: list[Ballot]) -> None:
    """Made by faulty members alone; the rules hold for what can be shown, whoever signed."""
    counted = Ballots(N, honest=())
    for ballot in ballots[:-1]:
        for voter in QUORUM:
            counted.add(voter, ballot)
    counted.add(1, ballots[-1])
    counted.add(1, ballots[-1])  # counted once
    counted.add(2, ballots[-1])
    with pytest.raises(BrokenRule) as caught:
        counted.add(3, ballots[-1])
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("first", "second", "guilty"),
    [
        ((1, Kind.NOTARIZE, ONE), (1, Kind.NOTARIZE, TWO), True),
        ((1, Kind.FINALIZE, ONE), (1, Kind.FINALIZE, TWO), True),
        ((1, Kind.FINALIZE, ONE), (1, Kind.NULLIFY, None), True),
        ((1, Kind.NULLIFY, None), (1, Kind.FINALIZE, ONE), True),
        ((1, Kind.NOTARIZE, ONE), (1, Kind.NULLIFY, None), False),
        ((1, Kind.NOTARIZE, ONE), (1, Kind.FINALIZE, ONE), False),
        ((1, Kind.NOTARIZE, ONE), (2, Kind.NOTARIZE, TWO), False),
        ((1, Kind.FINALIZE, ONE), (2, Kind.NULLIFY, None), False),
    ],
)
def test_which_pairs_of_votes_incriminate_a_key(
    first: Ballot, second: Ballot, guilty: bool
) -> None:
    counted = Ballots(N, honest=range(N))
    counted.add(0, first)
    if not guilty:
        counted.add(0, second)
        return
    with pytest.raises(BrokenRule, match="no-honest-key-incriminated"):
        counted.add(0, second)


# --- epochs -------------------------------------------------------------------------------------


def sealing(view: int, parent: BlockInfo = GENESIS) -> tuple[BlockInfo, bytes]:
    """A block that ends the epoch."""
    return block(view, parent=parent, instructions=(Change(1, N, fresh=True).instruction,))


def carrier(view: int, parent: bytes, **fields: int) -> tuple[BlockInfo, bytes]:
    """A block on a sealing one, with any header field changed on request."""
    made = decode_block(parent)
    header = msgspec.structs.replace(
        made.header,
        view=view,
        proposer=view % N,
        parent=SimCodec().inspect(parent).digest,
        payload_root=payload_root(()),
        **fields,
    )
    raw = encode_block(Block(header, ()))
    return SimCodec().inspect(raw), raw


def seal_of(
    seal: tuple[BlockInfo, bytes], *carriers: tuple[BlockInfo, bytes], parent_view: int = 0
) -> Commit:
    """The commit of a sealing block through its carriers."""
    named = (seal, *carriers)[-1][0]
    content = Content(seal[0].view if carriers else parent_view, named.digest)
    proof = certificate(named.view, Kind.FINALIZE, content)
    return Commit((seal[0],), (seal[1],), proof, tuple(raw for _, raw in carriers))


def test_a_seal_and_its_carrier_break_no_rule_and_begin_the_next_set(oracle: Oracle) -> None:
    seal = sealing(1)
    enter(oracle, 0, 3)
    oracle.turn(0, [seal_of(seal, carrier(2, seal[1]))])
    assert oracle.carried == 1
    assert oracle.keys_of(1) == tuple(vote_key(machine, 1) for machine in range(N))
    oracle.epoch_started(0, 1, seal[0])


@pytest.mark.parametrize("wrong", [{"height": 2}, {"timestamp": 1}, {"epoch": 1}])
def test_a_carrier_that_steps(oracle: Oracle, wrong: dict[str, int]) -> None:
    seal = sealing(1)
    bad = seal_of(seal, carrier(2, seal[1], **wrong))
    broken("carriers-carry", lambda: oracle.turn(0, [bad]))


def test_a_carrier_that_is_committed(oracle: Oracle) -> None:
    seal = sealing(1)
    above = carrier(2, seal[1], height=2)
    content = Content(1, above[0].digest)
    both = Commit(
        (seal[0], above[0]),
        (seal[1], above[1]),
        certificate(2, Kind.FINALIZE, content),
    )
    broken("carriers-carry", lambda: oracle.turn(0, [both]))


def test_a_vote_after_the_seal(oracle: Oracle) -> None:
    seal = sealing(1)
    enter(oracle, 0, 2)
    oracle.turn(0, [seal_of(seal)])
    late = OwnVote(vote(0, 2, Kind.NULLIFY))
    broken("no-vote-after-seal", lambda: oracle.turn(0, [Persist(late)]))


def test_a_vote_once_the_seal_is_known_final_and_not_committed(oracle: Oracle) -> None:
    info, raw = sealing(1)
    enter(oracle, 0, 2)
    final = certificate(1, Kind.FINALIZE, Content(0, info.digest))
    oracle.turn(0, [Execute(info, raw), Persist(Certified(final))])
    late = OwnVote(vote(0, 2, Kind.NULLIFY))
    broken("no-vote-after-seal", lambda: oracle.turn(0, [Persist(late)]))


def test_a_vote_and_a_word_in_an_epoch_that_is_over(oracle: Oracle) -> None:
    seal = sealing(1)
    oracle.turn(0, [seal_of(seal)])
    oracle.epoch_started(0, 1, seal[0])
    old = vote(0, 2, Kind.NULLIFY)
    broken("no-vote-after-seal", lambda: oracle.turn(0, [Persist(OwnVote(old))]))
    broken("nothing-of-old-epochs", lambda: oracle.turn(0, [Broadcast(old)]))


def test_an_epoch_that_starts_from_another_block_than_its_seal(oracle: Oracle) -> None:
    oracle.turn(0, [seal_of(sealing(1))])
    broken("finalized-ancestry", lambda: oracle.epoch_started(0, 1, GENESIS))


def test_a_certificate_of_an_old_set_in_a_new_epoch(oracle: Oracle) -> None:
    seal = sealing(1)
    oracle.turn(0, [seal_of(seal)])
    oracle.epoch_started(0, 1, seal[0])
    signatures = tuple((s, sign(s, 1, 1, Kind.NULLIFY, None)) for s in QUORUM)
    forged = Certificate(1, 1, Kind.NULLIFY, None, signatures)
    broken("certificate-shape", lambda: make_durable(oracle, 0, Certified(forged)))


def test_a_chunk_that_serves_a_carrier_as_a_block_or_crosses_an_epoch(oracle: Oracle) -> None:
    seal = sealing(1)
    above = carrier(2, seal[1])
    proof = certificate(2, Kind.FINALIZE, Content(1, above[0].digest))
    served = SyncResponse((seal[1], above[1]), (), proof)
    broken("chunk-of-one-epoch", lambda: oracle.sent(0, served))


def test_state_that_rests_on_an_own_vote_not_durable(oracle: Oracle) -> None:
    broken("commit-after-journal", lambda: oracle.committed(0, commit(*block(1))))
    oracle.committed(3, commit(*block(1)))
