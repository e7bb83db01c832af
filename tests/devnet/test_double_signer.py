"""A validator of a real network signs twice: it is proven, kept, reported once, and told of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from consensus.messages import Content, Equivocation, Kind, Vote
from node.api.client import ApiClient
from node.api.governance import EquivocationView
from node.storage.chain_store import ChainStore
from node.storage.home import open_home
from tests.support.command import Ran, run
from tests.support.devnet import Devnet
from tests.support.liar import Liar

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

HONEST = ("node0", "node1", "node2")
SECONDS = 30.0
LOOK_SECONDS = 0.01
"""Between two looks at what no event tells of."""
TRIES = 20
"""Views in which the liar signs twice, should the others be past the first by then."""
HEARD_SECONDS = 1.0


@pytest.fixture
def devnet(tmp_path: Path) -> Iterator[Devnet]:
    running = Devnet(tmp_path / "devnet")
    running.up()
    yield running
    with contextlib.suppress(AssertionError):
        running.down()


async def command(*arguments: object) -> Ran:
    """A command, beside this test's event loop."""
    return await asyncio.to_thread(run, *arguments)


def log(devnet: Devnet, node: str) -> str:
    return (devnet.directory / "logs" / f"{node}.log").read_text()


async def until(condition: Callable[[], bool], seconds: float = SECONDS) -> bool:
    """Whether it holds within so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(LOOK_SECONDS)
            return True
    return False


def two_blocks(liar: Liar, view: int) -> list[Vote]:
    return [
        liar.vote(view, Kind.NOTARIZE, Content(view - 1, bytes([digest]) * 32)) for digest in (1, 2)
    ]


def both_ways(liar: Liar, view: int) -> list[Vote]:
    return [
        liar.vote(view, Kind.NULLIFY),
        liar.vote(view, Kind.FINALIZE, Content(view - 1, bytes([1]) * 32)),
    ]


def heard(devnet: Devnet, said: str, witnesses: Sequence[str]) -> bool:
    return all(said in log(devnet, witness) for witness in witnesses)


async def sign_twice(
    devnet: Devnet, liar: Liar, votes: Callable[[Liar, int], list[Vote]], *witnesses: str
) -> int:
    """Have the liar contradict itself before these nodes in the view they are in; that view."""
    await liar.linked(*witnesses)
    for _ in range(TRIES):
        view = liar.view + 1
        for witness in witnesses:
            liar.say(*votes(liar, view), to=witness)
        said = f"validator {liar.index} signed twice in view {view} "
        if await until(partial(heard, devnet, said, witnesses), HEARD_SECONDS):
            return view
    raise AssertionError(f"{witnesses} saw nothing{devnet.logs()}")


async def proven(devnet: Devnet, node: str, view: int) -> list[EquivocationView]:
    """What a node tells once it has the equivocation of this view on the ledger."""
    async with ApiClient([devnet.api(node)]) as client, asyncio.timeout(SECONDS):
        while True:
            found = await client.equivocations()
            if any(each.view == view for each in found):
                return found
            await asyncio.sleep(LOOK_SECONDS)


def kept(devnet: Devnet, node: str) -> list[Equivocation]:
    """What a stopped node has seen itself."""
    database = open_home(devnet.directory / "nodes" / node).open_database()
    try:
        return ChainStore(database).evidence()
    finally:
        database.close()


async def test_who_signs_twice_is_named_by_one_report_and_a_proof_for_anybody(
    devnet: Devnet, tmp_path: Path
) -> None:
    genesis = devnet.description["genesis"]
    await asyncio.to_thread(devnet.order, "kill", "node3")
    async with Liar(devnet, "node3") as liar:
        # Two blocks in one view, and only node0 sees it: killed at once, it still reports it.
        first = await sign_twice(devnet, liar, two_blocks, "node0")
        await asyncio.to_thread(devnet.order, "kill", "node0")
        await asyncio.to_thread(devnet.order, "restart", "node0")
        for node in HONEST:
            await proven(devnet, node, first)
        # Giving up a view and finalizing it, and everybody sees it: one of them reports it.
        second = await sign_twice(devnet, liar, both_ways, *HONEST)
        for node in HONEST:
            found = await proven(devnet, node, second)
    told = [(each.name, each.operator, each.view, each.kinds) for each in found]
    who = ("node3", liar.validator.operator)
    assert (*who, first, ["notarize", "notarize"]) in told
    assert (*who, second, ["nullify", "finalize"]) in told
    assert {(name, operator) for name, operator, _, _ in told} == {who}, "an honest node is accused"
    places = [(each.epoch, each.view, each.validator) for each in found]
    assert len(set(places)) == len(places)
    reports = [status for uetr, status in await devnet.outcomes("node0") if uetr is None]
    assert 2 <= reports.count("done") <= len(await proven(devnet, "node0", second))

    doctor = await command("doctor", "--home", devnet.directory / "nodes" / "node2")
    for view in (first, second):
        [line] = [at for at in doctor.out.splitlines() if f"in view {view} of epoch 0" in at]
        assert line.startswith("warn")
        assert f"node3 ({liar.validator.operator})" in line
    proof = tmp_path / "proof"
    for view in (first, second):
        place = f"0:{view}:node3"
        done = await command(
            "evidence", "--equivocation", place, "-o", proof, "--devnet", devnet.directory
        )
        assert done.code == 0, done.err
        verified = await command("verify", proof, "--genesis", genesis)
        assert verified.code == 0, verified.out
        assert f"node3 ({liar.validator.operator}) signed" in verified.out
    flipped = bytearray(proof.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(flipped)
    assert (await command("verify", tmp_path / "flipped", "--genesis", genesis)).code == 1

    await asyncio.to_thread(devnet.down)
    at_home = tmp_path / "at-home"
    home, place = devnet.directory / "nodes" / "node1", f"0:{second}:3"
    done = await command("evidence", "--equivocation", place, "-o", at_home, "--home", home)
    assert done.code == 0, done.err
    assert at_home.read_bytes() == proof.read_bytes()
    for node in HONEST:
        seen = {(pair.first.view, pair.first.voter) for pair in kept(devnet, node)}
        assert (second, 3) in seen
        assert ((first, 3) in seen) == (node == "node0")
        assert {voter for _, voter in seen} == {3}
