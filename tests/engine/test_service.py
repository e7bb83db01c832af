"""What clients are told: final facts, as soon as they are final, by event."""

from __future__ import annotations

import asyncio

import pytest

from consensus.messages import VOTE_DOMAIN, Content, Equivocation, Kind, Vote, vote_payload
from node.api.problems import Refused
from node.api.service import EventsUnavailable, EventView, UnknownParticipant
from node.audit.dossier import decode_dossier
from node.audit.verify import verify_file
from node.audit.verify_accountability import check_equivocation_proof
from node.chain.build import build
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.types import OpenDispute, Receipt
from tests.support.cluster import Cluster
from tests.support.ledger_world import World

WAIT_SECONDS = 30.0


def uetr(checked: CheckedInstruction) -> bytes:
    return checked.instruction.payments[0].uetr


async def test_all_who_wait_for_a_payment_are_woken_when_it_is_final() -> None:
    async with Cluster(World.make()) as cluster:
        await cluster.fund("BANKA")
        payment = cluster.pay()
        waiters = [
            asyncio.create_task(member.service.wait_payment(uetr(payment), WAIT_SECONDS))
            for member in cluster.members
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        service = cluster.members[0].service
        assert service.payment(uetr(payment)) is None
        (answer,) = await service.submit([payment.raw])
        assert isinstance(answer, Receipt)
        views = await asyncio.gather(*waiters)
        assert {view.status for view in views if view is not None} == {"settled"}
        assert {(view.debtor, view.amount) for view in views if view is not None} == {
            (cluster.world.lei("BANKA"), "1.00")
        }
        for member in cluster.members:
            assert not member.service._waiting, "nothing of a wait stays behind"


async def test_a_wait_that_ends_without_an_outcome_says_so_and_leaves_nothing_behind() -> None:
    async with Cluster(World.make()) as cluster:
        service = cluster.members[0].service
        assert await service.wait_payment(bytes(16), 0.0) is None
        assert await service.wait_payment(bytes(16), 0.001) is None
        gone = asyncio.create_task(service.wait_payment(bytes(16), WAIT_SECONDS))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert not service._waiting


async def test_a_final_payment_has_evidence_and_its_block_a_certificate() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        payment = cluster.pay()
        service = cluster.members[1].service
        assert service.evidence(uetr(payment)) is None, "not before it is final"
        await service.submit([payment.raw])
        view = await service.wait_payment(uetr(payment), WAIT_SECONDS)
        assert view is not None
        dossier = service.evidence(uetr(payment))
        assert dossier is not None
        assert verify_file(dossier, world.genesis_bytes).status == "settled"
        pinned = service.evidence(uetr(payment), "BANKA", 0)
        assert pinned is not None
        assert verify_file(pinned, world.genesis_bytes).status == "settled"
        assert decode_dossier(pinned).pinned is not None
        with pytest.raises(Refused, match="no block 1000000 is final here") as refused:
            service.evidence(uetr(payment), None, 1_000_000)
        assert refused.value.problem.type.endswith(":unknown-block")
        with pytest.raises(UnknownParticipant):
            service.evidence(uetr(payment), "NOBODY")
        block = service.block(view.height)
        assert block is not None
        assert block.certificate is not None
        assert block.certificate.height >= view.height
        assert len(block.certificate.signatures) >= 3
        start = service.block(0)
        assert start is not None
        assert start.certificate is None
        assert service.block(service.height() + 1) is None


async def test_events_tell_every_outcome_once_and_in_order_also_to_one_who_comes_back() -> None:
    async with Cluster(World.make()) as cluster:
        await cluster.fund("BANKA", "BANKB")
        service = cluster.members[2].service
        seen: list[EventView] = []

        async def read(after: tuple[int, int], count: int) -> None:
            async with asyncio.timeout(WAIT_SECONDS):
                async for event in service.events(after):
                    seen.append(event)
                    if len(seen) == count:
                        return

        await read((0, 0), 1)
        payments = [cluster.pay() for _ in range(3)]
        reader = asyncio.create_task(read((seen[0].height, seen[0].index), 5))
        await service.submit([each.raw for each in payments])
        await reader
        positions = [(event.height, event.index) for event in seen]
        assert positions == sorted(set(positions))
        assert {event.status for event in seen} == {"settled"}
        with pytest.raises(EventsUnavailable):
            await anext(service.events((service.height() + 1_000_000, 0)))


async def test_accounts_are_found_by_name_lei_or_bic_and_by_nothing_else() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        service, bank = cluster.members[0].service, world.banks["BANKA"]
        for given in (bank.name, bank.lei, bank.bic):
            (balance,) = service.accounts(given).balances
            assert (balance.participant, balance.amount) == ("BANKA", "10000.00")
        with pytest.raises(UnknownParticipant):
            service.accounts("NOBODY")
        status = service.status()
        assert (status.signing, status.alarm, status.validator) == (True, None, 0)
        assert service.ready() == (True, "4 of 4 validators connected")
        await cluster.stop(cluster.members[3])
        await cluster.stop(cluster.members[2])
        assert not service.ready()[0]


def signed_twice(world: World, voter: int, epoch: int) -> Equivocation:
    def vote(kind: Kind, content: Content | None) -> Vote:
        payload = vote_payload(epoch, 9, kind, content)
        signature = world.votes[voter].sign(VOTE_DOMAIN, world.chain_id, payload)
        return Vote(epoch, 9, kind, content, voter, signature)

    return Equivocation(
        vote(Kind.NULLIFY, None), vote(Kind.FINALIZE, Content(parent_view=1, block=bytes(32)))
    )


async def test_a_node_proves_who_x_the_ledger_has_it() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        member = cluster.members[0]
        member.store.keep_evidence(signed_twice(world, 2, epoch=0))
        member.store.keep_evidence(signed_twice(world, 2, epoch=1))
        for validator in ("node2", "2"):
            proof = member.service.equivocation_proof(0, 9, validator)
            report = check_equivocation_proof(proof, world.genesis)
            assert [culprit.name for culprit in report.culprits] == ["node2"], report.text()
        for epoch, view, validator, code in (
            (0, 8, "node2", "unknown-equivocation"),
            (0, 9, "node1", "unknown-equivocation"),
            (0, 9, "node9", "unknown-equivocation"),
            (0, 9, "9" * 32, "unknown-equivocation"),
            (7, 9, "2", "unknown-equivocation"),
            (1, 9, "2", "pruned"),  # how epoch 0 ended is not stored here
        ):
            with pytest.raises(Refused) as refused:
                member.service.equivocation_proof(epoch, view, validator)
            assert refused.value.problem.code == code


async def test_a_real_store_tells_of_changes_queues_statements_and_disputes() -> None:
    """The same questions as the API's twin answers, over what a database holds."""
    async with Cluster(World.make()) as cluster:
        await cluster.fund("BANKB")
        service = cluster.members[0].service
        waiting = cluster.pay("BANKA", "BANKB")
        await service.submit([waiting.raw])
        queued = await service.wait_payment(uetr(waiting), WAIT_SECONDS)
        assert queued is not None
        assert (queued.status, queued.reason) == ("queued", "AM04")
        page, following = service.settlement.queue("BANKA", None, None, 10)()
        [entry] = page.entries
        assert (entry.uetr, entry.amount, following) == (queued.uetr, "1.00", None)

        back = cluster.pay("BANKB", "BANKA")
        await service.submit([back.raw])
        assert await service.wait_payment(uetr(back), WAIT_SECONDS) is not None
        settled = service.payment(uetr(waiting))
        assert settled is not None
        assert [change.status for change in settled.changes] == ["queued", "settled"]
        [brief] = service.payments([uetr(waiting)])
        assert brief is not None
        assert (brief.status, brief.height) == ("settled", settled.height)

        [statement] = service.settlement.statements("BANKA", None)()
        account = (statement.asset, statement.account)
        places = (position(statement.begins), position(statement.ends))
        found, more = service.settlement.movements("BANKA", account, places, None, 10)()
        assert ([each.amount for each in found], more) == (["1.00", "-1.00"], None)

        envelope = dispute(cluster.world, waiting)
        await service.submit([envelope.raw])
        sender, id = envelope.instruction.envelope.sender, envelope.instruction.envelope.id
        done = await service.wait_instruction(sender, id, WAIT_SECONDS)
        assert done is not None
        assert done.status == "done"
        [disputed], _ = service.settlement.disputes(None, 10)
        assert (disputed.uetr, disputed.reason) == (queued.uetr, "FRAD")
        trace = service.settlement.trace(uetr(waiting))()
        assert trace is not None
        assert trace.source.dispute == disputed


def position(text: str) -> tuple[int, int]:
    height, _, index = text.partition(":")
    return int(height), int(index)


def dispute(world: World, paid: CheckedInstruction) -> CheckedInstruction:
    valid_until = paid.instruction.envelope.valid_until
    body = OpenDispute(paid.instruction.payments[0], "FRAD")
    raw = build(*world.head("BANKA", None, valid_until), body, world.banks["BANKA"].signers[:1])
    return check_instruction(raw, world.chain_id)
