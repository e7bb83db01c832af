"""Four drivers over twins: agreement, restarts, catching up, receipts that outlive a crash."""

from __future__ import annotations

from dataclasses import replace

from consensus.interface import EpochStarted, Floor, starting_floor
from consensus.messages import Body, Epoch, ValidatorIndex, Vote
from node.api.service import SubmissionRefused
from node.chain.encoding import encode
from node.chain.signature import RECEIPT_DOMAIN, verify
from node.chain.types import Receipt
from node.storage.journal import SEGMENT_BYTES
from tests.support.cluster import Cluster, FixedPlace, Member
from tests.support.ledger_world import World


def digests(member: Member) -> list[bytes]:
    infos = (member.store.info(height) for height in range(member.height + 1))
    return [info.digest for info in infos if info is not None]


def same_chain(members: list[Member]) -> bool:
    shortest = min(map(digests, members), key=len)
    return all(digests(member)[: len(shortest)] == shortest for member in members)


def balance(member: Member, world: World, bank: str) -> int | None:
    return member.executor.final_state.balance(world.lei(bank), "EUR", 0)


async def test_a_payment_submitted_anywhere_is_final_everywhere_with_the_same_blocks() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        for member in cluster.members:
            (receipt,) = await member.intake.submit([cluster.pay().raw])
            assert isinstance(receipt, Receipt)
        await cluster.until(
            lambda: all(balance(m, world, "BANKB") == 400 for m in cluster.members),
            "four payments final on all",
        )
        assert same_chain(cluster.members)


async def test_a_receipt_is_the_nodes_signed_statement_over_instruction_and_height() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        member, payment = cluster.members[2], cluster.pay()
        (receipt,) = await member.intake.submit([payment.raw])
        assert isinstance(receipt, Receipt)
        body = receipt.body
        assert (body.instruction, body.node) == (payment.digest, world.nodes[2].public_key)
        assert body.height >= 1
        assert verify(body.node, RECEIPT_DOMAIN, world.chain_id, encode(body), receipt.signature)


async def test_what_is_final_is_refused_as_final_and_what_waits_gets_its_receipt_again() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        payment = cluster.pay()
        member = cluster.members[1]
        first = await member.intake.submit([payment.raw, payment.raw])
        assert all(isinstance(answer, Receipt) for answer in first)
        await cluster.until(lambda: balance(member, world, "BANKB") == 100, "payment final")
        (again,) = await member.intake.submit([payment.raw])
        assert isinstance(again, SubmissionRefused)
        assert (again.code, again.outcome) == ("already-executed", "final")


async def test_one_of_four_stopped_does_not_stop_the_others_and_catches_up() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        away, *others = cluster.members
        await cluster.stop(away)
        before = away.height
        for round in range(1, 4):
            await others[0].intake.submit([cluster.pay().raw])
            await cluster.until(
                lambda round=round: all(  # type: ignore[misc]
                    balance(m, world, "BANKB") == 100 * round for m in others
                ),
                "payments final without the one that is away",
            )
        await cluster.start(away)
        await cluster.until(
            lambda: balance(away, world, "BANKB") == 300, "the returned member caught up"
        )
        assert away.height > before
        assert same_chain(cluster.members)


async def test_an_accepted_instruction_outlives_a_restart_of_all() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        for member in cluster.members[1:]:
            await cluster.stop(member)
        alone, payment = cluster.members[0], cluster.pay()
        (receipt,) = await alone.intake.submit([payment.raw])
        assert isinstance(receipt, Receipt)
        await cluster.stop(alone)
        for member in cluster.members:
            await cluster.start(member)
        await cluster.until(
            lambda: all(balance(m, world, "BANKB") == 100 for m in cluster.members),
            "the payment that only one node had accepted",
        )


async def test_a_member_whose_records_are_gone_is_shown_its_votes_and_never_signs_again() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        forgetful, witness, *others = cluster.members
        for member in others:
            await cluster.stop(member)
        await witness.intake.submit([cluster.pay().raw])
        await cluster.observe(
            lambda: any(
                forgetful.index in votes
                for at in witness.core._core._state.views.values()
                for votes in at.votes
            ),
            "a vote of the member, not final, that another one holds",
        )
        await cluster.stop(forgetful)
        forgetful.disk = cluster.empty_disk(seed=99)
        await cluster.start(forgetful)
        await cluster.start(others[0])
        await cluster.observe(lambda: forgetful.replica.alarm is not None, "the alarm")
        assert "no record of" in str(forgetful.replica.alarm)
        await cluster.start(others[1])
        await cluster.until(
            lambda: all(balance(m, world, "BANKB") == 100 for m in cluster.members),
            "final by the other three, and followed by the one that does not sign",
        )
        await cluster.stop(forgetful)
        await cluster.start(forgetful)
        assert "given up" in str(forgetful.replica.alarm), "for good: the next start knows"


async def test_two_of_four_finalize_nothing_and_go_on_when_the_others_are_back() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        lost = cluster.members[:2]
        for member in lost:
            await cluster.stop(member)
        height = max(member.height for member in cluster.members)
        left = cluster.members[2]
        await left.intake.submit([cluster.pay().raw])
        view = left.core.view
        assert view - left.core.floor.info.view >= 1
        await cluster.start(lost[0])
        await cluster.until(lambda: balance(left, world, "BANKB") == 100, "final with three")
        assert left.height > height
        await cluster.start(lost[1])
        await cluster.until(
            lambda: all(balance(m, world, "BANKB") == 100 for m in cluster.members), "all four"
        )
        assert same_chain(cluster.members)


def own_votes(member: Member) -> set[Vote]:
    views = member.core._core._state.views.values()
    return {vote for at in views for vote in at.own if vote is not None}


async def test_a_rotated_journal_still_holds_every_vote_above_the_floor() -> None:
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        member, paid = cluster.members[1], 0

        async def pay() -> None:
            nonlocal paid
            paid += 100
            await member.intake.submit([cluster.pay().raw])
            await cluster.until(
                lambda: all(balance(m, world, "BANKB") == paid for m in cluster.members),
                "final on all",
            )

        # What a long life leaves behind: records at or below the floor.
        past = encode(Body(0, 0, bytes(4 << 20)))
        member.journal.append([past] * (SEGMENT_BYTES // len(past) + 2))
        await pay()
        for _ in range(20):
            if member.journal.size < SEGMENT_BYTES:
                break
            await pay()
        assert member.journal.size < SEGMENT_BYTES, "cut down beside a busy chain"
        await cluster.stop(member)
        before = own_votes(member)
        await cluster.start(member)
        assert {v for v in before if v.view > member.core.floor.info.view} <= own_votes(member)
        await pay()
        assert member.replica.alarm is None
        assert same_chain(cluster.members)


class NextPlace(FixedPlace):
    """The same place, in the epoch after the one that has just ended."""

    def next_epoch(self, floor: Floor) -> EpochStarted:
        keys = tuple(each.vote_key for each in self.validators.validators)
        index = None if self.index is None else ValidatorIndex(self.index)
        return EpochStarted(Epoch(1), keys, index, starting_floor(floor.info), {})


async def test_what_comes_between_two_epochs_waits_from_the_first_view_of_the_next() -> None:
    """Counted from a view of the epoch before, it would keep all behind it from being offered."""
    world = World.make()
    async with Cluster(world) as cluster:
        await cluster.fund("BANKA")
        member = cluster.members[0]
        assert member.core.view > 1
        floor = member.core.floor
        member.core._core._state.ended = True
        member.replica._membership = NextPlace(member.place.validators, member.index)
        member.replica._begin_epoch(replace(floor, info=replace(floor.info, seals=True)))
        payment = cluster.pay()
        (receipt,) = await member.intake.submit([payment.raw])
        assert isinstance(receipt, Receipt)
        await cluster.observe(lambda: member.core.epoch == 1, "the next epoch")
        assert member.pool._entries[payment.digest].view <= member.core.view


async def test_a_validator_that_is_a_quorum_by_itself_lets_others_run_between_its_blocks() -> None:
    """Each of its blocks is final as soon as it is built: the turn that builds one must not go on
    to build the next for ever."""
    async with Cluster(World.make(validators=1)) as cluster:
        [member] = cluster.members
        await cluster.fund("BANKA")
        payments = [cluster.pay() for _ in range(3)]
        for payment in payments:
            [receipt] = await member.intake.submit([payment.raw])
            assert isinstance(receipt, Receipt)
        await cluster.until(
            lambda: all(
                member.store.uetr(payment.instruction.payments[0].uetr) for payment in payments
            ),
            "payments final",
        )
        assert member.height <= 4, "no block was built for nothing"
