"""Instructions come in: refused by name, kept before a receipt, fairly among peers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from node.api.service import SubmissionRefused
from node.chain.encoding import encode
from node.chain.instruction import CheckedInstruction
from node.chain.types import Receipt
from node.engine.gossip import MAX_DIGESTS, Offer, Push, Want, decode_gossip
from node.engine.intake import (
    MAX_QUEUED_BYTES_PER_PEER,
    MAX_WANTED_BYTES,
    PUSHED_OVERHEAD_BYTES,
)
from node.network.frames import Channel
from node.storage.config import MempoolLimits
from node.storage.errors import StorageError, StoreUnwritable
from node.storage.kv import Batch
from node.storage.memory import MemoryStore
from tests.support.desk import Desk
from tests.support.ledger_world import DAY_MS, GENESIS_TIME, World, signer


class FullStore(MemoryStore):
    """A database on a disk that is full from some moment on."""

    full = False

    def write(self, batch: Batch, sync: bool = True) -> None:
        if self.full:
            raise StoreUnwritable("cannot write: No space left on device", "data", "Free some")
        super().write(batch, sync)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk(World.make())
    yield made
    made.io.shutdown()


async def submit(desk: Desk, *raws: bytes) -> list[Receipt | SubmissionRefused]:
    return await desk.intake.submit(raws)


async def refusal(desk: Desk, raw: bytes) -> tuple[str, str]:
    """Code and what it means for the outcome."""
    (answer,) = await submit(desk, raw)
    assert isinstance(answer, SubmissionRefused), answer
    return answer.code, answer.outcome


def waiting(desk: Desk) -> asyncio.Task[None]:
    """The task that looks at what peers pushed."""
    return asyncio.ensure_future(desk.intake.run())


# --- bad input ----------------------------------------------------------------------------------


async def test_every_bad_instruction_is_refused_by_name_and_leaves_nothing_behind(
    desk: Desk,
) -> None:
    world, good = desk.world, desk.pay()
    foreign = World.make(network="other")
    tampered = bytearray(good.raw)
    tampered[good.raw.index(world.banks["BANKA"].signers[0].public_key) + 40] ^= 1
    cases = {
        "malformed": b"",
        "too-large": bytes(4_000_001),
        "bad-signature": bytes(tampered),
        "unknown-key": desk.pay(signers=[signer("stranger")]).raw,
        "expired": desk.pay(valid_until=desk.now - 1).raw,
        "valid-too-long": desk.pay(valid_until=desk.now + 7 * DAY_MS + 1).raw,
        "wrong-chain": foreign.pay("BANKA", foreign.payment("BANKA", "BANKB", 1)).raw,
    }
    for code, raw in cases.items():
        assert await refusal(desk, raw) == (code, "not submitted")
    assert await refusal(desk, good.raw[:-1]) == ("malformed", "not submitted")
    assert await refusal(desk, good.raw + b"\0") == ("malformed", "not submitted")
    assert len(desk.pool) == 0
    assert not desk.kept_digests()
    assert not desk.links.sent


async def test_no_bytes_of_a_peer_end_the_task_that_looks_at_them(desk: Desk) -> None:
    rng = random.Random(7)
    good = desk.pay()
    noise = [rng.randbytes(rng.randint(0, 300)) for _ in range(300)]
    flipped = []
    for _ in range(1_500):
        raw = bytearray(good.raw)
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        flipped.append(bytes(raw))
    for frame in (encode(Push((*noise, *flipped, good.raw))), b"", b"\x91" * 5_000):
        desk.intake.on_message(1, frame)
    task = waiting(desk)
    await desk.until(lambda: good.digest in desk.pool)
    assert not task.done()
    task.cancel()
    assert len(desk.pool) == 1


# --- what a refusal means -------------------------------------------------------------------------


async def test_an_executed_instruction_is_final_even_after_its_time_and_its_keys(
    desk: Desk,
) -> None:
    payment = desk.pay(valid_until=desk.now + 10)
    desk.finalize(payment)
    assert await refusal(desk, payment.raw) == ("already-executed", "final")
    desk.now += DAY_MS
    assert await refusal(desk, payment.raw) == ("already-executed", "final")


async def test_another_instruction_under_a_used_id_is_not_called_final(desk: Desk) -> None:
    desk.finalize(desk.pay(id="order-1"))
    assert await refusal(desk, desk.pay(id="order-1").raw) == ("already-executed", "not submitted")


async def test_no_receipt_without_a_disk_and_the_node_stops_with_the_reason() -> None:
    store = FullStore()
    desk = Desk(World.make(), store)
    task = waiting(desk)
    store.full = True
    answers = await submit(desk, b"nonsense", desk.pay().raw)
    assert [(a.code, a.outcome) for a in answers if isinstance(a, SubmissionRefused)] == [
        ("malformed", "not submitted"),
        ("storage-failed", "unknown"),
    ]
    with pytest.raises(StorageError, match="No space left"):
        await task
    desk.io.shutdown()


# --- what was accepted survives -------------------------------------------------------------------


async def restarted(desk: Desk, limits: MempoolLimits | None = None, now: int = 0) -> Desk:
    """The node again, on what its database holds. Its writer has ended by then."""
    desk.io.shutdown()
    again = Desk(desk.world, desk.kv, limits)
    again.now = now or desk.now
    again.intake.restore()
    return again


@pytest.mark.parametrize("clock", [0, GENESIS_TIME - 90 * DAY_MS, GENESIS_TIME + 90 * DAY_MS])
async def test_a_wrong_clock_at_a_start_forgets_nothing_that_was_accepted(
    desk: Desk, clock: int
) -> None:
    accepted = desk.pay()
    await submit(desk, accepted.raw)
    again = await restarted(desk, now=clock)
    assert again.pool.digests() == [accepted.digest]
    assert again.kept_digests() == {accepted.digest}
    again.io.shutdown()


async def test_a_smaller_pool_at_a_start_forgets_nothing_that_was_accepted(desk: Desk) -> None:
    accepted = [desk.pay() for _ in range(3)]
    await submit(desk, *(each.raw for each in accepted))
    again = await restarted(desk, MempoolLimits(1, 1 << 20, 10))
    assert len(again.pool) == 1
    assert again.kept_digests() == {each.digest for each in accepted}
    again.io.shutdown()


async def test_what_the_chain_has_or_can_never_have_is_forgotten_at_a_start(desk: Desk) -> None:
    executed, expired = desk.pay(), desk.pay(valid_until=desk.now + 10)
    await submit(desk, executed.raw, expired.raw)
    held = [(each.digest, each.raw) for each in (executed, expired)]
    desk.finalize(executed, time=desk.now + 20)
    await desk.kept.keep(held)  # as if the crash had come before they were forgotten
    again = await restarted(desk)
    assert len(again.pool) == 0
    await again.kept.keep([(bytes(32), b"")])  # behind what was queued before it
    assert again.kept_digests() == {bytes(32)}
    again.io.shutdown()


# --- peers ----------------------------------------------------------------------------------------


async def test_one_peers_flood_does_not_hold_up_what_another_one_pushes(desk: Desk) -> None:
    flood, payment = [desk.pay() for _ in range(50)], desk.pay()
    desk.intake.on_message(1, encode(Push(tuple(each.raw for each in flood))))
    desk.intake.on_message(2, encode(Push((payment.raw,))))
    task = waiting(desk)
    await desk.until(lambda: len(desk.pool) == 51)
    assert desk.pool.digests().index(payment.digest) == 1, "one of each peer in turn"
    task.cancel()


def test_empty_pushes_use_up_their_senders_bound_too(desk: Desk) -> None:
    frame = encode(Push((b"",) * 4_096))
    most = MAX_QUEUED_BYTES_PER_PEER // PUSHED_OVERHEAD_BYTES
    for _ in range(most // 4_096):
        desk.intake.on_message(1, frame)
    assert desk.refused("intake-full") == 0
    desk.intake.on_message(1, frame)
    assert desk.refused("intake-full") == 1
    desk.intake.on_message(2, frame)
    assert desk.refused("intake-full") == 1, "the bound is each peer's own"


async def large(desk: Desk, count: int) -> list[CheckedInstruction]:
    """Accepted instructions of some 400 kB."""
    world = desk.world
    made = [
        world.pay("BANKA", *(world.payment("BANKA", "BANKB", 1) for _ in range(3_000)))
        for _ in range(count)
    ]
    await submit(desk, *(each.raw for each in made))
    desk.links.sent.clear()
    return made


async def test_a_want_is_answered_once_a_digest_and_within_its_bound(desk: Desk) -> None:
    made = await large(desk, 2)
    desk.intake.on_message(1, encode(Want((made[0].digest,) * MAX_DIGESTS)))
    frames = [decode_gossip(payload) for _, _, payload in desk.links.sent]
    assert frames == [Push((made[0].raw,))]

    desk.links.waiting = MAX_WANTED_BYTES - len(made[1].raw) - len(made[0].raw)
    desk.intake.on_message(1, encode(Want((made[1].digest,))))
    assert len(desk.links.sent) == 1, "no room for it now"
    assert desk.refused("wants-too-much") == 1


async def test_what_is_offered_and_lacks_here_is_wanted(desk: Desk) -> None:
    held = desk.pay()
    await submit(desk, held.raw)
    desk.links.sent.clear()
    other = bytes(32)
    desk.intake.on_message(3, encode(Offer((held.digest, other))))
    assert desk.links.sent == [(3, Channel.MEMPOOL, encode(Want((other,))))]


async def test_a_dropped_instruction_is_forgotten_with_all_that_was_kept_of_it(desk: Desk) -> None:
    gone = desk.pay()
    await submit(desk, gone.raw)
    assert gone.digest in desk.intake.arrivals
    desk.intake.dropped(desk.pool.drop([gone.digest]))
    await desk.kept.keep([(bytes(32), b"")])
    assert desk.kept_digests() == {bytes(32)}
    assert not desk.intake.arrivals
