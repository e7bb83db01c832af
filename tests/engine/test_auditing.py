"""A follower holds only what it executed, and tells every way in which a source or the network can
be wrong from every other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from consensus.messages import SyncResponse, decode_message
from consensus.messages import encode as encode_message
from node.audit.report import INVALID, VALID
from node.audit.verify_accountability import check_fork
from node.chain.block import encode_block, header_digest, inspect_block
from node.engine.alarms import Alarms, AuditMetrics, Kind
from node.engine.auditing import Auditor
from node.engine.sources import SourceLied, Sources
from node.engine.sync import sync_response
from node.engine.verified_copy import Unsound, VerifiedCopy
from node.storage.chain_store import ChainStore
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.audit_source import AuditSource, serving, webhook
from tests.support.epoch_chain import add_member, end_epoch, sample_of_epochs
from tests.support.small_chain import SmallChain, finalization, issue, pay
from tests.support.stored_chain import stored

GENESIS = world.genesis()
BOUND_SECONDS = 20.0
LOOK_SECONDS = 0.02


@cache
def chain(blocks: int = 6, branch: int = 0, parted: int = 99) -> SmallChain:
    """The one chain of so many blocks; from height `parted` on another branch of it."""
    made = SmallChain()
    made.add(issue(made, 1000))
    for height in range(2, blocks + 1):
        amount = 100 + (branch if height >= parted else 0)
        final = height % 3 != 0 or height == blocks
        made.add(pay(made, f"PAY-{height}", height, amount=amount), final=final)
    return made


def store(made: SmallChain) -> ChainStore:
    return stored(made, MemoryStore())


def read(alarm: Any) -> bytes:
    """The file that an alarm names."""
    return Path(alarm.file).read_bytes()


def digest(made: SmallChain, height: int) -> bytes:
    return header_digest(inspect_block(made.blocks[height]).header)


@dataclass
class Following:
    """A follower under test."""

    auditor: Auditor
    alarms: Alarms
    metrics: AuditMetrics
    copy: VerifiedCopy
    now: float = 1000.0
    """What its clock says, seconds."""
    task: asyncio.Task[None] = field(init=False)

    async def alarm(self, kind: Kind) -> Any:
        """The first alarm of this kind, once it is raised."""
        while True:
            found = next((each for each in self.alarms.kept if each.kind == kind), None)
            if found is not None:
                return found
            self.alarms.told.clear()
            await self.alarms.told.wait()

    async def ended(self) -> int:
        """Its exit code, once it ended by itself."""
        await self.task
        return self.auditor.exit_code

    async def until(self, condition: Any) -> None:
        while not condition():  # noqa: ASYNC110 - no event tells of all of them
            await asyncio.sleep(LOOK_SECONDS / 4)

    async def passed(self, seconds: float) -> None:
        """Let so much time go by while every source goes on answering."""
        for _ in range(10):
            self.now += seconds / 10
            await self.until(
                lambda: (
                    self.task.done()
                    or all(each.answered == self.now for each in self.auditor.watched)
                )
            )


@asynccontextmanager
async def following(
    directory: Path,
    *sources: AuditSource,
    kv: MemoryStore | None = None,
    keep_going: bool = False,
    hook: str | None = None,
    others: Sequence[str] = (),
) -> AsyncIterator[Following]:
    """A follower of these sources, from the database `kv` on."""
    async with AsyncExitStack() as stack, asyncio.timeout(BOUND_SECONDS):
        for source in sources:
            if not source.url:
                await stack.enter_async_context(serving(source))
        copy = VerifiedCopy(MemoryStore() if kv is None else kv, GENESIS, directory)
        metrics = AuditMetrics()
        alarms = Alarms(metrics, hook, height=lambda: copy.height, now_ms=lambda: 7, pause=0.01)
        urls = [*(each.url for each in sources), *others]
        box: list[Following] = []
        auditor = Auditor(
            copy,
            urls,
            alarms,
            metrics,
            stall=100.0,
            keep_going=keep_going,
            look=LOOK_SECONDS,
            clock=lambda: box[0].now if box else 1000.0,
            sources=Sources(urls, stall=0.3),
        )
        made = Following(auditor, alarms, metrics, copy)
        box.append(made)
        made.task = asyncio.create_task(auditor.run())
        try:
            yield made
        finally:
            made.task.cancel()
            await asyncio.gather(made.task, return_exceptions=True)
            if kv is None:
                copy.close()


# --- sound sources --------------------------------------------------------------------------------


async def test_every_block_of_an_honest_source_ends_in_the_copy(tmp_path: Path) -> None:
    source = AuditSource(store(chain()))
    async with following(tmp_path, source) as f:
        await f.auditor.grown_to(6)
        await f.until(lambda: f.auditor.watched[0].shown == 6)
        assert [f.copy.head(h).digest for h in range(7)] == [digest(chain(), h) for h in range(7)]
        assert not f.alarms.kept
        assert (f.auditor.report().height, f.auditor.exit_code) == (6, 0)
        assert b"nostro_audit_height 6.0" in f.metrics.text()
        assert (
            f'nostro_audit_source_height{{source="{source.url}"}} 6.0'.encode() in f.metrics.text()
        )


async def test_epochs_are_followed_through_their_seals_and_carriers(tmp_path: Path) -> None:
    source = AuditSource(store(sample_of_epochs()))
    async with following(tmp_path, source) as f:
        await f.auditor.grown_to(12)
        assert f.copy.epoch == 3
        assert not f.alarms.kept


async def test_what_one_source_lacks_another_gives(tmp_path: Path) -> None:
    behind, ahead = AuditSource(store(chain()), top=2), AuditSource(store(chain()))
    async with following(tmp_path, behind, ahead) as f:
        await f.auditor.grown_to(6)
        behind.top = None
        await f.until(lambda: f.auditor.watched[0].shown == 6)
        assert not f.alarms.kept


# --- forks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parted", [1, 2, 4, 6])
async def test_two_final_chains_are_a_fork_wherever_they_part(tmp_path: Path, parted: int) -> None:
    branch = chain(6, 1, parted) if parted > 1 else other()
    one, two = AuditSource(store(chain())), AuditSource(store(branch))
    async with following(tmp_path, one, two) as f:
        found = await f.alarm(Kind.FORK)
        assert f"part at height {parted}" in found.text
        assert await f.ended() == 1
        report = check_fork(read(found), GENESIS)
        assert report.verdict == VALID, report.text()
        assert len(report.culprits) >= 2


def other() -> SmallChain:
    made = SmallChain()
    for number in range(6):
        made.add(issue(made, 2000 + number))
    return made


def of_two_epochs(number: int) -> SmallChain:
    """One epoch that is the same for all, and a block of the next that is not."""
    made = SmallChain()
    made.add(issue(made, 1000))
    end_epoch(made, changes=[add_member(made.genesis, 4, 1)], carriers=1)
    made.add(issue(made, number))
    return made


async def test_a_fork_is_judged_by_the_validators_of_its_own_epoch(tmp_path: Path) -> None:
    one, two = (AuditSource(store(of_two_epochs(number))) for number in (1, 2))
    async with following(tmp_path, one, two) as f:
        found = await f.alarm(Kind.FORK)
        assert "part at height 4" in found.text
        assert f.copy.epoch == 1
        report = check_fork(read(found), GENESIS)
        assert report.verdict == VALID, report.text()
        assert {each.epoch for each in report.culprits} == {1}


async def test_a_longer_fork_is_found_when_it_is_all_that_a_source_has(tmp_path: Path) -> None:
    one, two = AuditSource(store(chain(4))), AuditSource(store(chain(8, 1, 3)), top=0)
    async with following(tmp_path, one, two) as f:
        await f.auditor.grown_to(4)
        two.top = None
        found = await f.alarm(Kind.FORK)
        assert found.source == two.url
        report = check_fork(read(found), GENESIS)
        assert report.verdict == VALID, report.text()
        assert len(report.culprits) >= 2
        assert await f.ended() == 1
        assert f.copy.head(4).digest == digest(chain(4), 4)


@pytest.mark.parametrize(
    "certificate",
    [
        b"null",
        b"[]",
        b'{"epoch":0,"view":1,"parent_view":0,"block":"zz","height":1,"signatures":[]}',
        b'{"epoch":0,"view":1,"parent_view":99999999999999999999999,"block":"","height":4,'
        b'"signatures":[]}',
        b'{"epoch":0,"view":4,"parent_view":3,"block":"00","height":4,'
        b'"signatures":[{"validator":0,"signature":"00"},{"validator":0,"signature":"00"}]}',
    ],
)
async def test_made_up_certificates_beside_a_fork_hide_nothing(
    tmp_path: Path, certificate: bytes
) -> None:
    def lie(path: str, body: bytes) -> bytes:
        head, found, _ = body.partition(b'"certificate":')
        return head + found + certificate + b"}" if found and "limit" not in path else body

    one = AuditSource(store(chain(4)), tamper=lie)
    two = AuditSource(store(chain(8, 1, 3)), top=0, tamper=lie)
    async with following(tmp_path, one, two) as f:
        await f.auditor.grown_to(4)
        two.top = None
        found = await f.alarm(Kind.FORK)
        assert check_fork(read(found), GENESIS).verdict != INVALID
        assert await f.ended() == 1


async def test_a_follower_that_keeps_going_takes_nothing_more_from_the_other_branch(
    tmp_path: Path,
) -> None:
    one, two = AuditSource(store(chain(8)), top=5), AuditSource(store(chain(6, 1, 3)), top=0)
    async with following(tmp_path, one, two, keep_going=True) as f:
        await f.auditor.grown_to(5)
        two.top = None
        await f.alarm(Kind.FORK)
        one.top = None
        await f.auditor.grown_to(8)
        assert f.copy.head(8).digest == digest(chain(8), 8)
        assert [each.kind for each in f.alarms.kept] == [Kind.FORK]
        assert f.auditor.exit_code == 1


# --- lies -----------------------------------------------------------------------------------------


def forged(made: SmallChain, height: int) -> ChainStore:
    """A store whose block of this height nobody but one validator finalized."""
    copy = SmallChain()
    copy.blocks, copy.applied = dict(made.blocks), dict(made.applied)
    copy.finalizations, copy.seals, copy.passed = dict(made.finalizations), {}, {}
    for at in range(height, len(copy.blocks)):
        header = inspect_block(copy.blocks[at]).header
        below = inspect_block(copy.blocks[at - 1]).header.view
        if at in copy.finalizations:
            copy.finalizations[at] = finalization(
                header_digest(header), view=header.view, parent_view=below, signers=[0, 0, 0]
            )
    return store(copy)


async def test_another_history_without_a_quorum_is_a_lie_and_ends_nothing(tmp_path: Path) -> None:
    one, two = AuditSource(store(chain())), AuditSource(forged(chain(6, 1, 4), 4))
    async with following(tmp_path, one, two) as f:
        found = await f.alarm(Kind.LIED)
        assert found.source == two.url
        await f.auditor.grown_to(6)
        assert f.copy.head(6).digest == digest(chain(), 6)
        assert not f.task.done()
        assert f.auditor.exit_code == 0


async def test_a_source_that_rewrote_what_it_showed_has_rolled_back(tmp_path: Path) -> None:
    source = AuditSource(store(chain()))
    async with following(tmp_path, source) as f:
        await f.until(lambda: f.auditor.watched[0].shown == 6)
        source.store = forged(chain(6, 1, 4), 4)
        found = await f.alarm(Kind.ROLLBACK)
        assert "no longer holds block 4" in found.text
        assert await f.ended() == 1


def swap_page(path: str, body: bytes) -> bytes:
    return body if "sync" in path else b'{"blocks":[{"height":1,"digest":"00","chain_id":"00"}]}'


LIES = {
    "garbage": lambda path, body: b"\xff" * 100,
    "nothing": lambda path, body: b"",
    "deep": lambda path, body: b"\x91" * 100_000 if "sync" in path else b"[" * 100_000,
    "truncated": lambda path, body: body[:-1],
    "a flipped bit": lambda path, body: body[:-9] + bytes([body[-9] ^ 1]) + body[-8:],
    "another chain": swap_page,
    "no block": lambda path, body: body if "sync" in path else b'{"blocks":[]}',
    "absurd": lambda path, body: (
        body if "sync" in path else body.replace(b'"height":', b'"height":9')
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_whatever_a_liar_says_the_copy_grows_from_the_others(
    tmp_path: Path, lie: str
) -> None:
    liar = AuditSource(store(chain()), tamper=LIES[lie])
    honest = AuditSource(store(chain()))
    async with following(tmp_path, liar, honest) as f:
        await f.auditor.grown_to(6)
        assert f.copy.head(6).digest == digest(chain(), 6)
        if lie not in ("absurd",):
            assert (await f.alarm(Kind.LIED)).source == liar.url
        assert not f.task.done()


@pytest.mark.parametrize("how", ["hang", "flood"])
async def test_a_source_that_stops_or_never_stops_holds_up_nobody(tmp_path: Path, how: str) -> None:
    bad, good = AuditSource(store(chain())), AuditSource(store(chain()))
    setattr(bad, how, lambda path: "sync" in path)
    async with following(tmp_path, bad, good) as f:
        await f.auditor.grown_to(6)
        assert any("sync" in path for path in bad.asked)


async def test_a_source_that_claims_what_it_does_not_give_holds_up_nobody(tmp_path: Path) -> None:
    def boast(path: str, body: bytes) -> bytes:
        return body if "sync" in path else body.replace(b'"height":1', b'"height":900')

    boaster = AuditSource(store(chain()), top=1, tamper=boast)
    good = AuditSource(store(chain()))
    async with following(tmp_path, boaster, good) as f:
        await f.auditor.grown_to(6)
        await f.until(lambda: "gives nothing above" in boaster_reason(f))


def boaster_reason(f: Following) -> str:
    return f.auditor.watched[0].source.reason


# --- what a quorum must not have done -------------------------------------------------------------


def unsound(height: int, **fields: object) -> ChainStore:
    """A store whose block of this height a quorum finalized with other fields."""
    made = chain(height)
    copy = SmallChain()
    copy.blocks, copy.applied = dict(made.blocks), dict(made.applied)
    copy.finalizations, copy.seals, copy.passed = dict(made.finalizations), {}, {}
    block = inspect_block(made.blocks[height])
    header = replace(block.header, **fields)
    copy.blocks[height] = encode_block(header, block.instructions)
    below = inspect_block(made.blocks[height - 1]).header.view
    copy.finalizations[height] = finalization(
        header_digest(header), view=header.view, parent_view=below
    )
    return store(copy)


@pytest.mark.parametrize(
    "fields",
    [
        {"state_root": bytes(32)},
        {"outcomes_root": bytes(32)},
        {"history_root": bytes(32)},
        {"proposer": 7},
        {"version": 2},
        {"validator_set": bytes(32), "next_validator_set": bytes(32)},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_finalized_block_that_does_not_follow_is_named_and_kept(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    source = AuditSource(unsound(5, **fields))
    async with following(tmp_path, source) as f:
        found = await f.alarm(Kind.INVALID)
        assert await f.ended() == 1
        assert "block 5, which a quorum finalized, does not verify" in found.text
        assert f.copy.height == 0  # an answer is taken whole or not at all
        kept = decode_message(read(found))
        assert isinstance(kept, SyncResponse)


async def test_a_body_that_is_not_the_finalized_one_is_its_senders_lie(tmp_path: Path) -> None:
    def swap(path: str, body: bytes) -> bytes:
        if "sync" not in path:
            return body
        answer = decode_message(body)
        assert isinstance(answer, SyncResponse)
        blocks = list(answer.blocks)
        last = inspect_block(blocks[-1])
        blocks[-1] = encode_block(last.header, [inspect_block(chain().blocks[1]).instructions[0]])
        return encode_message(SyncResponse(tuple(blocks), answer.carriers, answer.finalization))

    liar = AuditSource(store(chain()), tamper=swap)
    async with following(tmp_path, liar) as f:
        assert "body" in (await f.alarm(Kind.LIED)).text
        assert f.copy.height == 0


# --- conditions that come and go ------------------------------------------------------------------


async def test_a_head_below_what_was_shown_is_a_rollback_until_it_is_caught_up_with(
    tmp_path: Path,
) -> None:
    source, kv = AuditSource(store(chain())), MemoryStore()
    async with serving(source):
        async with following(tmp_path, source, kv=kv) as f:
            await f.until(lambda: f.copy.shown(source.url) == 6)
        source.top = 4
        async with following(tmp_path, source, kv=kv, keep_going=True) as f:  # as after a restart
            found = await f.alarm(Kind.ROLLBACK)
            assert "height 4" in found.text
            assert "height 6" in found.text
            source.top = None
            await f.until(lambda: not f.alarms.holds(Kind.ROLLBACK, source.url))
            assert f.auditor.exit_code == 1


async def test_nothing_new_anywhere_is_a_stall(tmp_path: Path) -> None:
    source = AuditSource(store(chain()))
    async with following(tmp_path, source) as f:
        await f.until(lambda: f.auditor.watched[0].shown == 6)
        asked = len(source.asked)
        await f.passed(150)
        found = await f.alarm(Kind.STALL)
        assert "nothing above height 6" in found.text
        assert await f.ended() == 2
        assert len(source.asked) >= asked


async def test_a_stall_is_over_when_something_comes(tmp_path: Path) -> None:
    source = AuditSource(store(chain()), top=4)
    async with following(tmp_path, source, keep_going=True) as f:
        await f.until(lambda: f.auditor.watched[0].shown == 4)
        await f.passed(150)
        await f.alarm(Kind.STALL)
        source.top = None
        await f.until(lambda: not f.alarms.holds(Kind.STALL))
        assert f.copy.height == 6


async def test_one_source_that_stays_behind_is_told_and_ends_nothing(tmp_path: Path) -> None:
    one, two = AuditSource(store(chain(8)), top=5), AuditSource(store(chain()), top=2)
    async with following(tmp_path, one, two) as f:
        await f.until(lambda: f.auditor.watched[1].shown == 2 and f.copy.height == 5)
        await f.passed(90)
        one.top = None
        await f.auditor.grown_to(8)
        await f.passed(90)
        assert (await f.alarm(Kind.BEHIND)).source == two.url
        two.top = None
        two.store = one.store
        await f.until(lambda: not f.alarms.holds(Kind.BEHIND, two.url))
        assert not f.task.done()


async def test_when_nobody_answers_it_says_so_and_ends(tmp_path: Path) -> None:
    async with following(tmp_path, others=["http://127.0.0.1:1"]) as f:
        await f.until(lambda: f.auditor.watched[0].source.failures > 0)
        f.now += 101
        assert await f.ended() == 2
        assert {each.kind for each in f.alarms.kept} == {Kind.UNREACHABLE}


# --- the copy over crashes ------------------------------------------------------------------------


def answer(first: int, made: SmallChain | None = None) -> SyncResponse:
    found = sync_response(store(made or chain()), first)
    assert found is not None
    return found


def test_a_copy_goes_on_where_it_was(tmp_path: Path) -> None:
    kv = MemoryStore()
    copy = VerifiedCopy(kv, GENESIS, tmp_path)
    copy.take(answer(1, chain(4)))
    again = VerifiedCopy(kv, GENESIS, tmp_path)
    assert again.height == 4
    again.take(answer(5))
    assert again.head(6).digest == digest(chain(), 6)


def test_what_does_not_verify_changes_nothing(tmp_path: Path) -> None:
    copy = VerifiedCopy(MemoryStore(), GENESIS, tmp_path)
    bad = sync_response(unsound(5, state_root=bytes(32)), 1)
    assert bad is not None
    with pytest.raises(Unsound, match="block 5"):
        copy.take(bad)
    assert copy.height == 0
    copy.take(answer(1))
    assert copy.height == 6
    with pytest.raises(SourceLied, match="does not follow"):
        copy.take(answer(1))


# --- the webhook ----------------------------------------------------------------------------------


async def test_alarms_are_posted_until_they_are_taken_and_hold_up_nothing(tmp_path: Path) -> None:
    one, two = AuditSource(store(chain())), AuditSource(store(chain(6, 1, 4)))
    async with (
        webhook([500, 503, 302]) as (url, came),
        following(tmp_path, one, two, keep_going=True, hook=url) as f,
    ):
        await f.alarm(Kind.FORK)
        posted = await came.get()
        assert posted["kind"] == "fork"
        assert (posted["cleared"], posted["at"]) == (False, 7)
        await f.auditor.grown_to(6)


async def test_an_alarm_that_ends_the_follower_is_posted_before_it_ends(tmp_path: Path) -> None:
    one, two = AuditSource(store(chain())), AuditSource(store(chain(6, 1, 4)))
    async with webhook([500]) as (url, came), following(tmp_path, one, two, hook=url) as f:
        assert await f.ended() == 1
        assert came.get_nowait()["kind"] == "fork"


async def test_a_dead_webhook_costs_a_bounded_queue() -> None:
    metrics = AuditMetrics()
    alarms = Alarms(metrics, "http://127.0.0.1:1/hook", pause=0.0)
    for number in range(1_000):
        alarms.event(Kind.LIED, "http://a", f"lie {number}", key=str(number))
    assert b"nostro_audit_webhook_dropped_total 744.0" in metrics.text()
    await alarms.flush(0.05)
    assert b"nostro_audit_webhook_dropped_total 1000.0" in metrics.text()
    assert len(alarms.kept) == 100


def test_the_same_event_is_told_once_and_every_kind_has_its_counter() -> None:
    metrics = AuditMetrics()
    alarms = Alarms(metrics)
    for _ in range(3):
        alarms.event(Kind.FORK, "http://a", "text\x1b[2J", key="4")
    assert alarms.count == 1
    assert "\x1b" not in alarms.kept[0].text
    for kind in Kind:
        assert f'nostro_audit_alarms_total{{kind="{kind}"}}'.encode() in metrics.text()
