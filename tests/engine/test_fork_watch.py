"""A node that is ahead of another branch says that the network forked; nothing else does that."""

from __future__ import annotations

from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Kind,
    encode,
    vote_payload,
)
from node.engine.fork_watch import contradiction
from tests.support.cluster import Cluster
from tests.support.ledger_world import World

OTHER = b"\x0f" * 32
"""Digest of a block on another branch."""


def finalization(world: World, view: int, block: bytes, signers: int = 3) -> Certificate:
    content = Content(view - 1, block)
    payload = vote_payload(0, view, Kind.FINALIZE, content)
    signatures = tuple(
        (index, world.votes[index].sign(VOTE_DOMAIN, world.chain_id, payload))
        for index in range(signers)
    )
    return Certificate(0, view, Kind.FINALIZE, content, signatures)


async def test_a_finalization_of_another_branch_below_the_floor_stops_signing() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        member = cluster.members[0]
        assert member.height >= 1
        member.replica.on_message(1, encode(finalization(world, 1, OTHER)))
        assert member.replica.alarm is not None
        assert "the network has forked" in member.replica.alarm
        assert member.metrics.registry.get_sample_value("nostro_alarms_total") == 1
        assert not member.service.status().signing


async def test_what_proves_no_fork_leaves_a_node_as_it_is() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        member = cluster.members[0]
        floor = member.store.floor()
        assert floor is not None
        known = member.store.info(1)
        assert known is not None
        innocent = [
            finalization(world, known.view, known.digest),  # what this node holds itself
            finalization(world, 1, OTHER, signers=2),  # no quorum
            finalization(world, floor.info.view + 50, OTHER),  # above the floor: the core's
        ]
        forged = finalization(world, 1, OTHER)
        twisted = tuple((index, bytes(64)) for index, _ in forged.signatures)
        innocent.append(Certificate(0, 1, Kind.FINALIZE, forged.content, twisted))
        innocent.append(Certificate(1, 1, Kind.FINALIZE, forged.content, forged.signatures))
        innocent.append(Certificate(0, 1, Kind.NOTARIZE, forged.content, forged.signatures))
        for certificate in innocent:
            state = member.executor.final_state
            assert contradiction(certificate, member.store, state) is None
        assert member.replica.alarm is None
