"""A member's place and keys from one epoch to the next, on a real ledger and real key files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace

from consensus.interface import EpochStarted
from consensus.messages import Content, Equivocation, Kind
from node.api.service import SubmissionRefused
from node.chain.build import build, build_ready
from node.chain.signature import ROLE_NODE, ROLE_VOTE, prove_possession
from node.chain.types import (
    AddValidator,
    Propose,
    Receipt,
    RekeyValidator,
    RemoveValidator,
    ValidatorChange,
)
from node.engine.clock import WallClock
from node.engine.executor import CommitPlan
from node.engine.membership import REPEAT_SECONDS, Membership
from node.engine.vote_keys import VoteKeys
from node.storage.home import Home
from node.storage.keystore import open_keystore
from node.storage.memory import MemoryStore
from tests.support import epoch_links as evidence
from tests.support import world
from tests.support.epoch_links import vote_signer
from tests.support.homes import make_home
from tests.support.small_chain import STEP_MS, VALID_UNTIL, SmallChain, issue
from tests.support.stored_chain import stored
from tests.support.world import CENTRALBANK

HERE = 3
"""The member under test; the others are a quorum without it."""
WAIT_SECONDS = 20.0


class BlockClock(WallClock):
    """A clock that shows the time of the last block."""

    def __init__(self, chain: SmallChain) -> None:
        super().__init__()
        self._chain = chain

    def now_ms(self) -> int:
        return self._chain.state.time


class Place:
    """Node 3's membership in a chain that the test grows; what it says is kept in `said`."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.chain = SmallChain()
        self.kv = MemoryStore()
        self.store = stored(self.chain, self.kv)
        self.said: list[bytes] = []
        self._io = ThreadPoolExecutor(1)
        self._count = 0
        self.begin()

    def begin(self) -> None:
        """As at a start of the node."""
        self.keys = VoteKeys(self.home, lambda: "devnet")
        self.membership = Membership(
            chain_id=self.chain.genesis.chain_id,
            node_key=open_keystore(self.home.node_key, "devnet", role="node", devnet=True),
            keys=self.keys,
            state=lambda: self.chain.state,
            store=self.store,
            io=self._io,
            clock=BlockClock(self.chain),
            submit=self._submit,
            on_change=lambda validators, index: None,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While it runs. What it raises fails the test."""
        self._task = asyncio.create_task(self.membership.run())
        try:
            yield
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self.keys.close()
            self._io.shutdown()

    async def _submit(self, raws: Sequence[bytes]) -> list[Receipt | SubmissionRefused]:
        self.said += raws
        return [SubmissionRefused("test", "kept for the test")] * len(raws)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0)

    def block(self, *instructions: bytes, after_ms: int = STEP_MS) -> EpochStarted | None:
        """A final block; what the next epoch starts with if it seals this one."""
        self.chain.add(*instructions, after_ms=after_ms)
        self.store = stored(self.chain, self.kv)
        self.membership._store = self.store
        floor = self.store.floor()
        assert floor is not None
        plan = cast(CommitPlan, SimpleNamespace(floor=floor))
        self.membership.on_final(plan)
        return self.membership.next_epoch(floor) if floor.info.seals else None

    def propose(self, *changes: ValidatorChange) -> None:
        self._count += 1
        self.block(
            build(
                self.chain.genesis.chain_id,
                CENTRALBANK.lei,
                f"EPOCH-{self._count}",
                VALID_UNTIL,
                Propose(tuple(changes), self.chain.state.time + 3_600_000),
                [CENTRALBANK.key],
            )
        )

    async def ready(self) -> bytes:
        """What this node says once the next epoch counts it in."""
        before = len(self.said)
        await self.until(lambda: len(self.said) > before)
        return self.said[-1]

    def seal(self, *own: bytes) -> EpochStarted:
        """The others are ready, and with `own` this node; or else the deadline passes."""
        chain, epoch = self.chain, self.chain.epoch() + 1
        pending = chain.state.pending_epoch
        assert pending is not None
        others = []
        for member in pending.members:
            index = int(member.name.removeprefix("node"))
            if index == HERE:
                continue
            vote = vote_signer(index, epoch)
            chain.know(vote)
            possession = prove_possession(vote, ROLE_VOTE, member.operator, chain.genesis.chain_id)
            others.append(
                build_ready(
                    chain.genesis.chain_id, member.operator, f"READY-{epoch}-{index}", VALID_UNTIL,
                    name=member.name, epoch=epoch, vote_key=vote.public_key, possession=possession,
                    node=world.node_signer(index),
                )
            )  # fmt: skip
        started = self.block(*others, *own)
        while started is None:
            started = self.block(after_ms=chain.genesis.parameters.readiness_ms)
        assert started.epoch == epoch
        return started

    @property
    def key_files(self) -> list[str]:
        return sorted(path.name for path in (self.home.path / "keys").iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(make_home(tmp_path / "node3", HERE))


def changed(place: Place, kind: type[AddValidator | RekeyValidator], key: str) -> ValidatorChange:
    """This member with another vote key, which is not in its home."""
    chain_id = place.chain.genesis.chain_id
    vote, node = world.signer(key), world.node_signer(HERE)
    held = place.chain.genesis.validator_set.validators[HERE]
    return kind(
        replace(held, vote_key=vote.public_key),
        prove_possession(vote, ROLE_VOTE, held.operator, chain_id),
        prove_possession(node, ROLE_NODE, held.operator, chain_id),
    )


async def test_a_member_moves_to_the_key_that_it_made_and_destroys_the_one_before(
    place: Place,
) -> None:
    async with place.running():
        place.propose()
        started = place.seal(await place.ready())
        assert started.index == HERE
        assert place.membership.retired is None
        place.block(issue(place.chain, 1))
        await place.until(lambda: place.key_files == ["node.json", "vote-1.json"])


async def test_a_removed_member_destroys_its_key_and_goes_on(place: Place) -> None:
    async with place.running():
        place.propose(RemoveValidator("node3"))
        assert place.seal().index is None
        place.block(issue(place.chain, 1))
        await place.until(lambda: place.key_files == ["node.json"])


async def test_a_member_whose_key_of_the_epoch_is_lost_goes_on_as_an_observer(
    place: Place,
) -> None:
    async with place.running():
        place.propose()
        own = await place.ready()
        (place.home.path / "keys" / "vote-1.json").unlink()
        assert place.seal(own).index is None
        assert "there is no file of vote key" in str(place.membership.retired)
        place.block(issue(place.chain, 1))
        await place.until(lambda: place.key_files == ["node.json"])


async def test_a_member_that_was_ready_and_is_given_another_key_gets_ready_once_more(
    place: Place,
) -> None:
    async with place.running():
        place.propose()
        place.block(await place.ready())
        place.propose(changed(place, RekeyValidator, "a key from a ceremony"))
        pending = place.chain.state.pending_epoch
        assert pending is not None
        assert pending.ready == ()
        place.membership._ready_said = -REPEAT_SECONDS
        started = place.seal(await place.ready())
        assert started.index == HERE
        assert place.membership.retired is None
        vote_key = started.validators[HERE]
        assert place.keys.held()[vote_key] == 1
        place.block(issue(place.chain, 1))
        await place.until(lambda: place.key_files == ["node.json", "vote-1.json"])


async def test_what_a_crash_left_of_a_key_to_be_destroyed_is_overwritten_at_the_next_start(
    place: Place,
) -> None:
    keys = place.home.path / "keys"
    left = keys / ".vote-0.json.destroyed"
    left.write_bytes((keys / "vote.json").read_bytes())
    with left.open("rb") as inode:
        async with place.running():
            place.propose()
            place.seal(await place.ready())
            place.block(issue(place.chain, 1))
            await place.until(lambda: place.key_files == ["node.json", "vote-1.json"])
        assert not any(inode.read()), "the sealed key is still there to be read"


async def test_a_witness_reports_once_and_not_at_every_block_while_an_epoch_is_pending(
    place: Place,
) -> None:
    votes = [evidence.vote(HERE - 1, 5, Kind.FINALIZE, Content(0, bytes([n]) * 32)) for n in (1, 2)]
    async with place.running():
        place.membership.witnessed(Equivocation(votes[0], votes[1]))
        await place.until(lambda: len(place.said) == 1)
        place.propose()
        await place.ready()
        for number in range(5):
            place.block(issue(place.chain, number))
            await place.until(lambda: not place.membership._wake.is_set())
        assert len(place.said) == 2, "the report and that it is ready"
