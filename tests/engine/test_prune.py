"""Pruning deletes what is too old and nothing that anything kept is proven with."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.api.problems import Refused
from node.audit.build import build_dossier
from node.audit.report import VALID
from node.audit.verify import check_dossier
from node.chain.block import header_digest, inspect_block
from node.chain.merkle import (
    Frontier,
    history_leaf,
    stored_consistency_proof,
    stored_inclusion_proof,
    verify_consistency,
    verify_inclusion,
)
from node.chain.state_map import StateMap, verify_present
from node.chain.types import Header
from node.engine.prune import DAY_MS, Pruner, check_retention
from node.engine.sync import SyncServer
from node.storage.chain_store import ChainStore
from node.storage.config import Retention
from node.storage.errors import ConfigError
from node.storage.horizon import Horizon, load_horizon
from node.storage.kv import Batch
from node.storage.memory import MemoryStore
from node.storage.simulated_disk import SimulatedCrash
from tests.support import world
from tests.support.sync_source import sync_source
from tests.support.window_chain import WindowChain, many_days

GENESIS = world.genesis()
KEEP = 36 * DAY_MS


def at_once(_: float) -> None:
    """Nothing else runs here that a pruner would have to make room for."""


def pruner(chain: WindowChain, keep_ms: int = KEEP) -> Pruner:
    return Pruner(chain.store, chain.kv, keep_ms, rest=at_once, batch=1)


def prune(chain: WindowChain) -> Horizon:
    worker = pruner(chain)
    while worker.step():
        pass
    return load_horizon(chain.kv)


def header(chain: WindowChain, height: int) -> Header:
    found = chain.store.header(height)
    assert found is not None
    return found


def state_nodes(chain: WindowChain, root: bytes) -> set[bytes]:
    """Every node of the state with this root; all of them must be stored."""
    found: set[bytes] = set()
    pending = [root]
    while pending:
        hash = pending.pop()
        if hash == bytes(32) or hash in found:
            continue
        node = chain.store.state_node(hash)
        assert node is not None, f"state node {hash.hex()} is missing"
        found.add(hash)
        if node[:1] == b"\x01":
            pending += [node[1:33], node[33:]]
    return found


def stored_nodes(chain: WindowChain) -> set[bytes]:
    return {key[1:] for key, _ in chain.kv.iterate(b"n")}


# --- what goes and what stays ---------------------------------------------------------------------


def test_blocks_go_once_they_are_too_old_and_headers_stay_for_ever() -> None:
    chain = many_days()
    horizon = prune(chain)
    assert horizon.blocks == 5, "seven blocks of 36 days, five days apart, and the tip"
    for height in range(chain.tip.height + 1):
        kept = height >= horizon.blocks
        assert (chain.store.block(height) is not None) == kept
        assert (chain.store.outcomes(height) is not None) == kept
        assert chain.store.header(height) is not None
        assert (chain.store.finalization(height) is not None) == (height > 0)


def test_exactly_the_nodes_of_states_that_are_kept_are_kept() -> None:
    chain = many_days()
    horizon = prune(chain)
    needed = set[bytes]().union(
        *(
            state_nodes(chain, header(chain, height).state_root)
            for height in range(horizon.states, chain.tip.height + 1)
        )
    )
    assert stored_nodes(chain) == needed


def test_a_node_that_comes_back_is_kept() -> None:
    """BANKA pays and is paid back, so that the very same leaves leave the state and return."""
    chain = WindowChain()
    chain.add(chain.issue(1, amount=1_000))
    chain.add(chain.pay(world.payment(2, amount=100)))
    roots = [chain.tip.state_root]
    for number in range(6):
        chain.add(chain.issue(10 + number, amount=100))
        chain.add(chain.redeem(20 + number, 10**12))
        chain.add(chain.pay(world.payment(30 + number, amount=100)))
        roots.append(chain.tip.state_root)
    prune(chain)
    horizon = load_horizon(chain.kv)
    for height in range(horizon.states, chain.tip.height + 1):
        state_nodes(chain, header(chain, height).state_root)


def test_evidence_of_every_payment_in_a_kept_block_still_verifies() -> None:
    chain = many_days()
    horizon = prune(chain)
    verified = 0
    for number in range(1_200):
        entry = chain.store.uetr(world.uetr(number))
        if entry is None or not horizon.proves(entry.height):
            continue
        report = check_dossier(build_dossier(chain.store, entry), GENESIS)
        assert report.verdict == VALID, report.text()
        verified += 1
    assert verified > 30


def test_ancestry_and_consistency_are_still_proven_for_all_heights() -> None:
    chain = many_days()
    prune(chain)
    top = header(chain, chain.tip.height)

    def node(level: int, index: int) -> bytes:
        found = chain.store.history_node(level, index)
        assert found is not None
        return found

    for height in range(top.height):
        leaf = history_leaf(header_digest(header(chain, height)))
        path = stored_inclusion_proof(node, height, top.height)
        verify_inclusion(leaf, height, top.height, path, top.history_root)
        grown = stored_consistency_proof(node, height, top.height)
        old = Frontier.load(height, node).root()
        verify_consistency(height, top.height, grown, old, top.history_root)


def test_every_record_of_every_kept_state_is_proven() -> None:
    chain = many_days()
    horizon = prune(chain)
    keys = [key for key, _ in chain.store.state_records()]
    for height in range(horizon.states, chain.tip.height + 1):
        root = header(chain, height).state_root
        state = StateMap.load(root, chain.store.state_node)
        for key in keys:
            record, proof = state.prove(key)
            if record is not None:
                verify_present(root, key, record, proof)


def test_pruning_goes_on_with_the_chain_and_never_back() -> None:
    chain = many_days()
    before = prune(chain)
    chain.add(chain.issue(70_000))
    chain.add(chain.issue(70_001))
    after = prune(chain)
    assert after.blocks > before.blocks
    assert prune(chain) == after


def test_nothing_is_pruned_of_a_young_chain() -> None:
    chain = many_days(blocks=4)
    nodes = stored_nodes(chain)
    assert not pruner(chain).step()
    assert (load_horizon(chain.kv), stored_nodes(chain)) == (Horizon(), nodes)


# --- crashes and commits in between ---------------------------------------------------------------


class CrashingStore(MemoryStore):
    """Dies at a write that is counted down to; what was not synced until then is lost."""

    left: int | None = None

    def write(self, batch: Batch, sync: bool = True) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise SimulatedCrash("in a write")
        super().write(batch, sync)


def test_a_crash_at_any_write_leaves_a_database_that_prunes_on_to_the_same_end() -> None:
    whole = many_days(blocks=10)
    prune(whole)
    expected = dict(whole.kv.iterate())
    crashes = 0
    for left in range(200):
        kv = CrashingStore()
        chain = many_days(kv, blocks=10)
        kv.left = left
        try:
            prune(chain)
        except SimulatedCrash:
            found = kv.crash()
            chain.kv, chain.store = found, ChainStore(found)
            prune(chain)
            assert dict(found.iterate()) == expected, f"after a crash at write {left}"
            crashes += 1
        else:
            break
    assert crashes > 10


def test_a_commit_between_two_batches_loses_nothing() -> None:
    """Every pause of the pruner is used to commit a block that brings old leaves back."""
    chain = many_days(blocks=10)
    numbers = iter(range(80_000, 90_000))

    def commit(_: float) -> None:
        if chain.tip.height < 25:
            chain.add(chain.pay(world.payment(next(numbers), amount=1)), days=0.001)

    worker = Pruner(chain.store, chain.kv, KEEP, rest=commit, batch=1)
    while worker.step():
        pass
    assert chain.tip.height == 25
    horizon = load_horizon(chain.kv)
    for height in range(horizon.states, chain.tip.height + 1):
        state_nodes(chain, header(chain, height).state_root)


# --- who asks for what is gone --------------------------------------------------------------------


async def test_sync_below_the_horizon_is_refused_by_name_and_above_it_served(
    tmp_path: Path,
) -> None:
    chain = many_days()
    horizon = prune(chain)
    async with sync_source(chain.kv, GENESIS, tmp_path) as served:
        server = served.server
        assert isinstance(server, SyncServer)
        for ask in (server.blocks, server.window):
            with pytest.raises(Refused, match=r"not kept here.*an archive node has them"):
                await ask(horizon.blocks - 1)
            assert await ask(horizon.blocks) is not None
        manifest = await server.manifest()
        assert manifest, "what a node that starts needs is all kept"


def test_a_block_above_the_horizon_is_what_it_was() -> None:
    chain, archive = many_days(), many_days()
    horizon = prune(chain)
    for height in range(horizon.blocks, chain.tip.height + 1):
        raw = chain.store.block(height)
        assert raw == archive.store.block(height)
        assert raw is not None
        assert inspect_block(raw).header == header(chain, height)


# --- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "days", "good"), [
    ("pruned", 36, True), ("pruned", 35, False), ("archive", 1, True),
])  # fmt: skip
def test_fewer_days_than_exactly_once_needs_are_refused(mode: str, days: int, good: bool) -> None:
    retention = Retention("pruned" if mode == "pruned" else "archive", days)
    if good:
        check_retention(retention, GENESIS, "config.toml")
        return
    with pytest.raises(ConfigError, match=r"storage\.keep_days.*at least 36"):
        check_retention(retention, GENESIS, "config.toml")
