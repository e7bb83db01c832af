"""Validators, proposals and equivocations over HTTP: what the ledger holds final, and no more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from consensus.messages import Kind, Vote
from node.api.client import ApiClient, ApiProblem
from node.api.server import ApiServer
from node.chain.block import validator_set_digest
from node.chain.encoding import decode
from node.chain.instruction import CheckedInstruction
from tests.support.council import READINESS_MS, Council, content
from tests.support.fake_node import FakeNode


@dataclass
class Served:
    """A council whose chain a node serves."""

    council: Council
    client: ApiClient

    def report(self, view: int, voter: int = 1) -> CheckedInstruction:
        key = self.council.world.votes[voter]
        votes = (
            self.council.vote(key, voter, Kind.FINALIZE, content(n), view=view) for n in (1, 2)
        )
        return self.council.report(*votes)

    async def get(self, path: str) -> Any:
        return json.loads(await self.client._get_bytes(path))


@pytest.fixture
def council() -> Council:
    return Council.make()


@pytest.fixture
def node(council: Council) -> FakeNode:
    made = FakeNode(council.world)
    made.chain = council.chain
    return made


@pytest.fixture
async def served(council: Council, node: FakeNode) -> AsyncIterator[Served]:
    server = ApiServer(node)
    await server.start()
    async with ApiClient([server.url]) as client:
        yield Served(council, client)
    await server.stop()


async def test_the_set_in_force_is_told_with_its_digest_and_quorum(served: Served) -> None:
    view = await served.client.validators()
    founders = served.council.world.genesis.validator_set
    assert (view.height, view.epoch, view.quorum, view.pending) == (0, 0, 3, None)
    assert view.digest == validator_set_digest(founders).hex()
    assert [v.name for v in view.validators] == ["node0", "node1", "node2", "node3"]
    assert view.validators[2].vote_key == founders.validators[2].vote_key.hex()
    assert {v.operator_name for v in view.validators} == {"CENTRALBANK"}


async def test_a_pending_epoch_says_who_is_ready_and_how_many_are_needed(served: Served) -> None:
    council = served.council
    joining = council.member("node4", address="node4.example:4100")
    block = council.pend(council.add(joining), council.remove("node3"))
    council.block(council.ready(joining))
    pending = (await served.client.validators()).pending
    assert pending is not None
    assert (pending.epoch, pending.ready, pending.quorum) == (1, 1, 3)
    assert pending.deadline == block.header.timestamp + READINESS_MS
    assert [(m.validator.name, m.ready) for m in pending.members] == [
        ("node0", False),
        ("node1", False),
        ("node2", False),
        ("node4", True),
    ]
    assert pending.members[3].validator.address == "node4.example:4100"

    council.advance(*council.founders()[:3])
    view = await served.client.validators()
    assert (view.epoch, view.pending) == (1, None)
    assert [v.name for v in view.validators] == ["node0", "node1", "node2", "node4"]


async def test_open_proposals_tell_what_they_change_and_who_approved(served: Served) -> None:
    council = served.council
    joining = council.member("node4")
    proposal = council.propose(council.add(joining), council.remove("node3"))
    council.block(proposal)
    (view,) = await served.client.proposals()
    assert view.id == proposal.digest.hex()
    assert (view.proposer_name, view.approved, view.needed) == ("CENTRALBANK", 1, 2)
    assert [(c.kind, c.name) for c in view.changes] == [("add", "node4"), ("remove", "node3")]
    assert view.changes[0].validator is not None
    assert view.changes[0].validator.node_key == joining.node.public_key.hex()
    assert view.changes[1].validator is None

    first, second = council.world.banks["CENTRALBANK"].signers
    council.block(council.world.revoke_key("CENTRALBANK", first.public_key, signers=[second]))
    (view,) = await served.client.proposals()
    assert [(a.participant, a.counts) for a in view.approvals] == [("CENTRALBANK", False)]
    assert view.approved == 0

    council.block(council.approve(proposal.digest, "BANKA"))
    council.block(council.approve(proposal.digest, "BANKB"))
    assert await served.client.proposals() == []


async def test_proposals_come_in_pages(served: Served) -> None:
    council = served.council
    made = [council.propose(sender=name) for name in ("CENTRALBANK", "BANKA", "BANKB")]
    council.block(*made)
    first = await served.get("/v1/proposals?limit=2")
    second = await served.get(f"/v1/proposals?limit=2&cursor={first['next']}")
    found = [each["id"] for each in first["proposals"] + second["proposals"]]
    assert found == sorted(each.digest.hex() for each in made)
    assert second["next"] is None


async def test_equivocations_name_the_validator_and_give_both_votes(served: Served) -> None:
    block = served.council.block(served.report(9), served.report(10), served.report(9, voter=2))
    found = await served.client.equivocations()
    assert [(e.view, e.validator) for e in found] == [(9, 1), (9, 2), (10, 1)]
    first = found[0]
    assert (first.epoch, first.name, first.kinds) == (0, "node1", ["finalize", "finalize"])
    assert first.height == block.header.height
    vote = decode(bytes.fromhex(first.first), Vote)
    assert (vote.view, vote.voter, vote.content) == (9, 1, content(1))

    page = await served.get("/v1/equivocations?limit=2")
    rest = await served.get(f"/v1/equivocations?limit=2&cursor={page['next']}")
    assert [e["view"] for e in page["equivocations"] + rest["equivocations"]] == [9, 9, 10]


async def test_the_proof_of_an_equivocation_is_asked_for_by_epoch_view_and_validator(
    node: FakeNode, served: Served
) -> None:
    node.proofs[1, 9, "node-2.x"] = b"the proof"
    assert await served.client.equivocation_evidence(1, 9, "node-2.x") == b"the proof"
    for path, code in (
        ("1/9/node3", "unknown-equivocation"),
        ("x/9/node3", "bad-parameter"),
        ("1/-9/node3", "bad-parameter"),
        (f"1/{10**20}/node3", "bad-parameter"),
        ("1/9/no%20de", "bad-parameter"),
        (f"1/9/{'n' * 33}", "bad-parameter"),
    ):
        with pytest.raises(ApiProblem) as refused:
            await served.get(f"/v1/equivocations/{path}/evidence")
        assert refused.value.code == code


async def test_what_became_of_an_instruction_is_found_by_sender_and_id(served: Served) -> None:
    council = served.council
    proposal = council.propose(council.remove("node3"))
    rejected = council.approve(bytes(32))
    council.chain.fund(5, "BANKA")
    block = council.block(proposal, rejected)
    envelope = proposal.instruction.envelope
    view = await served.client.instruction(envelope.sender, envelope.id)
    assert view is not None
    assert (view.status, view.reason, view.height, view.index) == (
        "done",
        None,
        block.header.height,
        0,
    )
    assert view.digest == proposal.digest.hex()
    envelope = rejected.instruction.envelope
    view = await served.client.instruction(envelope.sender, envelope.id)
    assert view is not None
    assert (view.status, view.reason, view.index) == ("rejected", "TD01", 1)
    assert await served.client.instruction(envelope.sender, "never") is None


@pytest.mark.parametrize("path", ["/v1/instructions", "/v1/instructions?sender=x"])
async def test_half_a_question_is_refused(served: Served, path: str) -> None:
    with pytest.raises(ApiProblem) as refused:
        await served.get(path)
    assert refused.value.code == "bad-parameter"
