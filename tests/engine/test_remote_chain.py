"""A chain is replayed over a node's API as from its home, and a node that lies is found out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consensus.messages import SyncResponse, decode_message, encode
from node.audit.audit_report import AuditReport, Damaged, Stop
from node.audit.chain_audit import audit_chain
from node.audit.report import INVALID, VALID
from node.engine.remote_chain import RemoteChain, RemoteFailed
from node.storage.horizon import Horizon, put_horizon
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.epoch_chain import sample_of_epochs
from tests.support.small_chain import SmallChain, issue, pay, sample
from tests.support.stored_chain import stored
from tests.support.sync_source import SyncSourceServer, sync_source

BLOCKS = 150
"""More than two answers have."""


@asynccontextmanager
async def serving(chain: SmallChain, directory: Path) -> AsyncIterator[SyncSourceServer]:
    kv = MemoryStore()
    stored(chain, kv)
    sets = chain.state.validator_set_of
    async with sync_source(kv, chain.genesis, directory, sets) as served:
        served.genesis_file = world.genesis_bytes()
        yield served


async def audited(url: str) -> AuditReport:
    def audit() -> AuditReport:
        try:
            with RemoteChain(url, tries=2) as chain:
                return audit_chain(chain, world.genesis_bytes(), outcomes=False, state=False)
        except Damaged as error:
            return AuditReport(finding=Stop.of(error).finding)

    return await asyncio.to_thread(audit)


@pytest.mark.parametrize("make", [sample, sample_of_epochs, SmallChain])
async def test_the_audit_over_the_api_is_that_of_the_chain(
    make: Callable[[], SmallChain], tmp_path: Path
) -> None:
    chain = make()
    whole = audit_chain(chain, world.genesis_bytes())
    async with serving(chain, tmp_path) as served:
        report = await audited(served.url)
    assert (report.verdict, report.compared) == (VALID, False), report.text()
    for name in ("height", "digest", "instructions", "payments", "epochs", "totals"):
        assert getattr(report, name) == getattr(whole, name)
    # Only what finalizes an answer comes with it.
    assert report.certificates <= whole.certificates
    assert "holds no outcomes" in report.text()


async def test_a_long_chain_comes_in_several_answers_the_next_one_ahead(tmp_path: Path) -> None:
    chain = SmallChain()
    chain.add(issue(chain, 1))
    for number in range(2, BLOCKS + 1):
        chain.add(*([pay(chain, f"E2E-{number}", number)] if number % 50 == 0 else []))
    async with serving(chain, tmp_path) as served:
        report = await audited(served.url)
        assert (report.verdict, report.height) == (VALID, BLOCKS)
        firsts = [path for path in served.asked if "first=" in path]
        assert firsts == [
            "/v1/sync?first=1",  # how high is it?
            f"/v1/sync?first={BLOCKS}",
            "/v1/sync?first=1",
            "/v1/sync?first=65",
            "/v1/sync?first=129",
        ]


async def test_the_chain_may_grow_meanwhile(tmp_path: Path) -> None:
    """The audit ends at the height that was asked for first, with that height's certificate."""
    chain, kv = SmallChain(), MemoryStore()
    chain.add(issue(chain, 1))
    for _ in range(4):
        chain.add()
    stored(chain, kv)
    async with sync_source(kv, chain.genesis, tmp_path) as served:
        served.genesis_file = world.genesis_bytes()

        def audit() -> AuditReport:
            with RemoteChain(served.url) as source:
                assert source.height() == 5
                for _ in range(3):
                    chain.add(final=False)
                chain.add()
                stored(chain, kv)
                return audit_chain(source, world.genesis_bytes(), outcomes=False, state=False)

        report = await asyncio.to_thread(audit)
    assert (report.verdict, report.height) == (VALID, 5), report.text()


def lie(change: Callable[[SyncResponse], SyncResponse | bytes]) -> Callable[[str, bytes], bytes]:
    def tamper(path: str, data: bytes) -> bytes:
        if not path.startswith("/v1/sync"):
            return data
        response = decode_message(data)
        assert isinstance(response, SyncResponse)
        changed = change(response)
        return changed if isinstance(changed, bytes) else encode(changed)

    return tamper


def without_third(response: SyncResponse) -> SyncResponse:
    blocks = response.blocks
    return SyncResponse(blocks[:2] + blocks[3:], response.carriers, response.finalization)


def flipped(response: SyncResponse) -> SyncResponse:
    first, second, *others = response.blocks
    bad = second[:-40] + bytes([second[-40] ^ 1]) + second[-39:]
    return SyncResponse((first, bad, *others), response.carriers, response.finalization)


@pytest.mark.parametrize(
    ("change", "height"),
    [(without_third, 3), (flipped, 2), (lambda _: b"nonsense", 6), (lambda r: encode(r)[:-1], 6)],
)
async def test_a_node_that_lies_is_found_out(
    change: Callable[[SyncResponse], SyncResponse | bytes], height: int, tmp_path: Path
) -> None:
    async with serving(sample(), tmp_path) as served:
        honest = lie(change)
        served.tamper = lambda path, data: (
            honest(path, data) if height == 6 or "first=1" in path else data
        )
        report = await audited(served.url)
    assert report.verdict == INVALID
    assert report.finding is not None
    assert report.finding.height in (height, 1)


async def test_a_node_of_another_chain_is_named(tmp_path: Path) -> None:
    async with serving(sample(), tmp_path) as served:
        served.genesis_file = world.genesis_bytes() + b"\n"
        report = await audited(served.url)
        assert report.finding is not None
        assert report.finding.height == 0
        assert "genesis block of chain" in report.finding.expected
        served.genesis_file = b"{}"
        report = await audited(served.url)
        assert report.finding is not None
        assert report.finding.where == "genesis file of the node"


async def test_a_pruned_node_is_said_to_be_one(tmp_path: Path) -> None:
    kv = MemoryStore()
    stored(sample(), kv)
    kv.write([put_horizon(Horizon(blocks=3, states=3))][0])
    async with sync_source(kv, sample().genesis, tmp_path) as served:
        served.genesis_file = world.genesis_bytes()
        with pytest.raises(RemoteFailed, match="blocks below height 3 are not kept"):
            await audited(served.url)


async def test_who_cannot_be_reached_is_named() -> None:
    with pytest.raises(RemoteFailed, match="cannot be reached"):
        await audited("http://127.0.0.1:1")


async def test_an_answer_without_end_is_left(tmp_path: Path) -> None:
    async with serving(sample(), tmp_path) as served:
        served.flood = lambda path: "first=1" in path
        with pytest.raises(RemoteFailed, match="more than the"):
            await audited(served.url)
