"""What is rejected of governance: which reason, and that the state stays as it was, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from consensus.messages import MAX_VALIDATORS, Kind
from node.chain.instruction import CheckedInstruction
from node.chain.types import MAX_CHANGES, ReadyValidator, RemoveValidator
from node.ledger.equivocations import MAX_REPORTS
from node.ledger.governance import MAX_OPEN_MS, MAX_OPEN_PROPOSALS
from node.ledger.reasons import OF_GOVERNANCE
from tests.support.council import Council, changed, content, epoch_vote
from tests.support.ledger_world import BLOCK_MS, signer

NOTARIZE, NULLIFY, FINALIZE = Kind.NOTARIZE, Kind.NULLIFY, Kind.FINALIZE
Make = Callable[[Council], CheckedInstruction]


class Case(NamedTuple):
    name: str
    reason: str
    make: Make


# --- proposals ----------------------------------------------------------------------------------


def one_operators_share(c: Council) -> CheckedInstruction:
    c.block(*(c.propose() for _ in range(MAX_OPEN_PROPOSALS)))
    return c.propose()


def expires_in(delta: int) -> Make:
    """Milliseconds after the block that the proposal stands in."""
    return lambda c: c.propose(expires=c.chain.state.time + BLOCK_MS + delta)


def used_key_of(role: str) -> Make:
    """A new validator with a key that is another's."""

    def make(c: Council) -> CheckedInstruction:
        used = {
            "vote": c.founder(1).vote,
            "node": c.founder(1).node,
            "participant": c.key("BANKB"),
        }[role]
        new = c.member("node4")
        as_vote = replace(new.validator, vote_key=used.public_key)
        return c.propose(c.add(changed(new, as_vote, vote=used)))

    return make


def one_key_for_both(c: Council) -> CheckedInstruction:
    new = c.member("node4")
    validator = replace(new.validator, node_key=new.vote.public_key)
    return c.propose(c.add(changed(new, validator, node=new.vote)))


def one_key_in_two_changes(c: Council) -> CheckedInstruction:
    first, second = c.member("node4"), c.member("node5")
    validator = replace(second.validator, node_key=first.node.public_key)
    return c.propose(c.add(first), c.add(changed(second, validator, node=first.node)))


def key_of_an_earlier_epoch(c: Council) -> CheckedInstruction:
    """node0 gives the vote key that it had in epoch 0 as its new one."""
    c.pend()
    c.advance(*c.founders())
    old = c.founder(0)
    node = signer("replacement")
    validator = replace(old.validator, node_key=node.public_key)
    return c.propose(c.rekey(changed(old, validator, node=node)))


def possession_of_another(c: Council) -> CheckedInstruction:
    new = c.member("node4")
    right = c.add(new)
    return c.propose(replace(right, vote_possession=right.node_possession))


def possession_for_another_operator(c: Council) -> CheckedInstruction:
    change = c.add(c.member("node4", operator="BANKB"))
    return c.propose(
        replace(change, validator=replace(change.validator, operator=c.world.lei("BANKC")))
    )


def low_order_key(c: Council) -> CheckedInstruction:
    change = c.add(c.member("node4"))
    weak = replace(change.validator, vote_key=(1).to_bytes(32, "little"))
    return c.propose(replace(change, validator=weak))


def too_many_members(c: Council) -> CheckedInstruction:
    count = MAX_VALIDATORS - len(c.world.votes)
    for start in range(0, count, MAX_CHANGES):
        names = [f"extra{n}" for n in range(start, min(start + MAX_CHANGES, count))]
        c.pend(*(c.add(c.member(name)) for name in names))
    return c.propose(c.add(c.member("one-more")))


# --- approvals ----------------------------------------------------------------------------------


def expired(c: Council) -> CheckedInstruction:
    proposal = c.propose(expires=c.chain.state.time + 2 * BLOCK_MS)
    c.block(proposal)
    c.block()
    return c.approve(proposal.digest)


def approved_before(c: Council) -> CheckedInstruction:
    proposal = c.propose()
    c.block(proposal)
    c.block(c.approve(proposal.digest, "BANKA"))
    return c.approve(proposal.digest, "BANKB")


def approved_by_the_same_key(c: Council) -> CheckedInstruction:
    proposal = c.propose()
    c.block(proposal)
    return c.approve(proposal.digest, "CENTRALBANK")


def approved_by_no_operator(c: Council) -> CheckedInstruction:
    proposal = c.propose()
    c.block(proposal)
    return c.approve(proposal.digest, "BANKC")


def overtaken(c: Council) -> CheckedInstruction:
    """What it would remove was removed meanwhile: the deciding approval finds that out."""
    proposal = c.propose(c.remove("node3"))
    c.block(proposal)
    c.pend(c.remove("node3"))
    return c.approve(proposal.digest)


# --- readiness ----------------------------------------------------------------------------------


def pending(*changes: str) -> Callable[[Council], None]:
    def make(c: Council) -> None:
        c.pend(*(c.remove(name) for name in changes))

    return make


def ready_with(key: str) -> Make:
    def make(c: Council) -> CheckedInstruction:
        c.pend()
        vote = {
            "own in force": c.founder(0).vote,
            "another's in force": c.founder(1).vote,
            "a node's": c.founder(2).node,
            "a participant's": c.key("BANKB"),
            "another's ready one": epoch_vote("node1", 1),
        }[key]
        if key == "another's ready one":
            c.block(c.ready(c.founder(1)))
        return c.ready(c.founder(0), vote=vote)

    return make


def ready_twice(c: Council) -> CheckedInstruction:
    c.pend()
    c.block(c.ready(c.founder(0)))
    return c.ready(c.founder(0), vote=signer("another"))


def ready_by_a_leaving_member(c: Council) -> CheckedInstruction:
    c.pend(c.remove("node3"))
    return c.ready(c.founder(3))


def ready_by_another_member(c: Council) -> CheckedInstruction:
    c.pend()
    return c.ready(c.founder(0), node=c.founder(1).node)


def ready_by_the_node_key_that_was_replaced(c: Council) -> CheckedInstruction:
    old = c.founder(0)
    node = signer("replacement")
    validator = replace(old.validator, node_key=node.public_key)
    c.pend(c.rekey(changed(old, validator, node=node)))
    return c.ready(old)


def ready_with_a_foreign_proof(c: Council) -> CheckedInstruction:
    c.pend()
    other = c.ready(c.founder(1)).instruction.envelope.body
    assert isinstance(other, ReadyValidator)
    return c.ready(c.founder(0), possession=other.vote_possession)


# --- equivocations ------------------------------------------------------------------------------


def report(first: tuple[Kind, int | None], second: tuple[Kind, int | None], **other: int) -> Make:
    """Two votes of node1, (kind, block); `other`: what is different in the second one."""

    def make(c: Council) -> CheckedInstruction:
        votes = []
        for (kind, number), options in ((first, {}), (second, other)):
            voter = options.get("voter", 1)
            votes.append(
                c.vote(
                    c.world.votes[voter] if voter < len(c.world.votes) else signer("stranger"),
                    voter,
                    kind,
                    None if number is None else content(number),
                    epoch=options.get("epoch", 0),
                    view=options.get("view", 7),
                )
            )
        return c.report(*votes)

    return make


def of_voter(voter: int, epoch: int = 0) -> Make:
    def make(c: Council) -> CheckedInstruction:
        key = signer("stranger")
        votes = (c.vote(key, voter, FINALIZE, content(n), epoch=epoch) for n in (1, 2))
        return c.report(*votes)

    return make


def forged(c: Council) -> CheckedInstruction:
    """The second vote is signed by another validator's key."""
    return c.report(
        c.vote(c.world.votes[1], 1, FINALIZE, content(1)),
        c.vote(c.world.votes[2], 1, FINALIZE, content(2)),
    )


def of_another_chain(c: Council) -> CheckedInstruction:
    key = c.world.votes[1]
    return c.report(
        c.vote(key, 1, FINALIZE, content(1)),
        c.vote(key, 1, FINALIZE, content(2), chain_id=bytes(32)),
    )


def in_view_0(c: Council) -> CheckedInstruction:
    key = c.world.votes[1]
    return c.report(*(c.vote(key, 1, FINALIZE, content(n), view=0) for n in (1, 2)))


def in_epoch_0_by_a_key_of_epoch_1(c: Council) -> CheckedInstruction:
    c.pend()
    c.advance(*c.founders())
    key = epoch_vote("node1", 1)
    return c.report(*(c.vote(key, 1, FINALIZE, content(n), epoch=0) for n in (1, 2)))


def reported_before(c: Council) -> CheckedInstruction:
    c.block(report((FINALIZE, 1), (FINALIZE, 2))(c))
    return report((NULLIFY, None), (FINALIZE, 2))(c)


def reported_often(c: Council) -> CheckedInstruction:
    key = c.world.votes[1]

    def in_view(view: int) -> CheckedInstruction:
        return c.report(*(c.vote(key, 1, FINALIZE, content(n), view=view) for n in (1, 2)))

    c.block(*(in_view(view) for view in range(4, 4 + MAX_REPORTS)))
    return in_view(99)


CASES = [
    Case("proposed by no operator", "DS19", lambda c: c.propose(sender="BANKC")),
    Case("proposed by a supervisor", "DS19", lambda c: c.propose(sender="WATCHDOG")),
    Case("expired when proposed", "DT01", expires_in(0)),
    Case("open too long", "DT01", expires_in(MAX_OPEN_MS + 1)),
    Case("too many proposals of one operator", "AM21", one_operators_share),
    Case(
        "a validator of a stranger",
        "AGNT",
        lambda c: c.propose(c.add(c.member("node4", operator="9845STRANGER00000000"))),
    ),
    Case(
        "a validator of a bank without the role",
        "AGNT",
        lambda c: c.propose(c.add(c.member("node4", operator="WATCHDOG"))),
    ),
    Case("a name that is in the set", "DU01", lambda c: c.propose(c.add(c.member("node3")))),
    Case(
        "a name added twice",
        "DU01",
        lambda c: c.propose(c.add(c.member("node4")), c.add(c.member("node4", keys="second"))),
    ),
    Case(
        "a name removed and added at once",
        "DU01",
        lambda c: c.propose(c.remove("node3"), c.add(c.member("node3"))),
    ),
    Case("another's vote key", "DS15", used_key_of("vote")),
    Case("another's node key as vote key", "DS15", used_key_of("node")),
    Case("a participant's key as vote key", "DS15", used_key_of("participant")),
    Case("one key for voting and the node", "DS15", one_key_for_both),
    Case("one key in two changes", "DS15", one_key_in_two_changes),
    Case("a vote key of an earlier epoch", "DS15", key_of_an_earlier_epoch),
    Case("possession proven by another key", "DS0D", possession_of_another),
    Case("possession proven for another operator", "DS0D", possession_for_another_operator),
    Case("a key of low order", "DS0D", low_order_key),
    Case("removing an unknown validator", "DS14", lambda c: c.propose(c.remove("node4"))),
    Case(
        "new keys for an unknown validator", "DS14", lambda c: c.propose(c.rekey(c.member("node4")))
    ),
    Case(
        "removing everybody",
        "AM18",
        lambda c: c.propose(*(RemoveValidator(f"node{n}") for n in range(4))),
    ),
    Case("one member more than a set may have", "AM18", too_many_members),
    Case("approving what nobody proposed", "TD01", lambda c: c.approve(bytes(32))),
    Case("approving what is approved", "TD01", approved_before),
    Case("approving what has expired", "DS24", expired),
    Case("approving with the key that proposed", "DS26", approved_by_the_same_key),
    Case("approved by no operator", "DS19", approved_by_no_operator),
    Case("a decision that its changes no longer fit", "DS14", overtaken),
    Case("ready while no epoch is pending", "TM01", lambda c: c.ready(c.founder(0))),
    Case("ready for the epoch in force", "TM01", lambda c: (c.pend(), c.ready(c.founder(0), 0))[1]),
    Case(
        "ready for the epoch after the next",
        "TM01",
        lambda c: (c.pend(), c.ready(c.founder(0), 2))[1],
    ),
    Case("a member that leaves is ready", "DS14", ready_by_a_leaving_member),
    Case("ready twice", "DU03", ready_twice),
    Case("ready by another member's node", "DS12", ready_by_another_member),
    Case("ready by the node key that is replaced", "DS12", ready_by_the_node_key_that_was_replaced),
    Case("ready with the vote key in force", "DS15", ready_with("own in force")),
    Case("ready with another's vote key", "DS15", ready_with("another's in force")),
    Case("ready with a node key", "DS15", ready_with("a node's")),
    Case("ready with a participant's key", "DS15", ready_with("a participant's")),
    Case("ready with a key that another is ready with", "DS15", ready_with("another's ready one")),
    Case("ready with a foreign proof", "DS0D", ready_with_a_foreign_proof),
    Case("the same vote twice", "DS17", report((FINALIZE, 1), (FINALIZE, 1))),
    Case("notarize with nullify", "DS17", report((NOTARIZE, 1), (NULLIFY, None))),
    Case("notarize with finalize", "DS17", report((NOTARIZE, 1), (FINALIZE, 2))),
    Case("votes of two views", "DS17", report((FINALIZE, 1), (FINALIZE, 2), view=8)),
    Case("votes of two epochs", "DS17", report((FINALIZE, 1), (FINALIZE, 2), epoch=1)),
    Case("votes of two voters", "DS17", report((FINALIZE, 1), (FINALIZE, 2), voter=2)),
    Case("nullify with a content", "DS17", report((NULLIFY, 1), (FINALIZE, 2))),
    Case("finalize without a content", "DS17", report((FINALIZE, None), (NULLIFY, None))),
    Case("in view 0", "DS17", in_view_0),
    Case("an index outside the set", "DS14", of_voter(4)),
    Case("an epoch that has not begun", "DS14", of_voter(1, epoch=1)),
    Case("a vote that another signed", "DS11", forged),
    Case("a vote on another chain", "DS11", of_another_chain),
    Case("a vote by a key of another epoch", "DS11", in_epoch_0_by_a_key_of_epoch_1),
    Case("reported before", "DUPL", reported_before),
    Case("more than enough is proven", "AM21", reported_often),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rejection_names_its_reason_and_changes_nothing(case: Case) -> None:
    council = Council.make()
    checked = case.make(council)
    before = council.chain.state
    held = dict(council.chain.records)

    block = council.block(checked)

    (outcome,) = block.outcomes
    assert (outcome.status, outcome.reason, outcome.uetr) == ("RJCT", case.reason, None)
    assert block.applied.state_root == before.map.root
    assert block.applied.records == {}
    assert block.applied.nodes == []
    assert block.applied.next_validators is None
    assert council.chain.records == held
    assert len(block.applied.ids) == 1, "a rejection executes the id"


def test_every_reason_of_governance_stands_in_the_table() -> None:
    shown = {case.reason for case in CASES}
    assert shown >= OF_GOVERNANCE
    assert shown - OF_GOVERNANCE == {"DS15", "DS0D"}, "these are also a participant's"
