"""Letting go of what is too old: bodies, outcomes, and states that nothing is proven from.

What goes: blocks and outcomes below the horizon, and nodes of the state map that no state from the
horizon on has. What stays for ever: headers, the history tree, finalizations, how epochs ended,
certificates of the views that the floor passed, evidence, the index of payments, the latest state.
So ancestry and consistency can be proven for all heights, and payments for the heights kept.

The horizon moves durably first, and what lies below it is deleted afterwards, in batches so small
that no commit waits long for one. Deletion may stop anywhere and be done again: of a state's nodes
the deepest go first, so what is still to go can always be found from its root.

A node of a state that has changed may come back: the same balance gives the same leaf. A node is
stored with the last height that made it; what was made again after the state that is being swept
stays. From that look until the deletion no commit may come in between (`ChainStore.writing`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from node.chain.genesis import Genesis
from node.chain.state_map import EMPTY, HASH_BYTES
from node.engine.window import remembered_ms
from node.storage.chain_store import HEIGHT_BYTES, ChainStore
from node.storage.config import Retention
from node.storage.errors import ConfigError
from node.storage.horizon import Horizon, load_horizon, put_horizon
from node.storage.kv import KeyValue

log = logging.getLogger("nostro.prune")

DAY_MS = 24 * 3600 * 1000
LOOK_SECONDS = 10.0
"""Between two looks at whether something has become too old."""
STEP_BLOCKS = 64
"""Heights by which the horizon moves at a time."""
BATCH_NODES = 128
"""State nodes looked at and deleted while a commit may have to wait: about a millisecond."""
REST_SECONDS = 0.002
"""After each batch, so that commits and answers come first."""


def check_retention(retention: Retention, genesis: Genesis, where: str) -> None:
    """Raise ConfigError if blocks would go that still matter to exactly-once, or that a node which
    starts from a snapshot of this one needs. `where` names the file."""
    if retention.mode != "pruned":
        return
    needed = -(-remembered_ms(genesis.parameters.uetr_window_ms) // DAY_MS) + 1
    if retention.keep_days < needed:
        raise ConfigError(
            f"{retention.keep_days} days are fewer than this chain needs: a UETR counts for "
            f"{genesis.parameters.uetr_window_ms / DAY_MS:g} days, an instruction's id for 7, and "
            "others load a day-old snapshot",
            f"{where}, key storage.keep_days",
            f"Set it to at least {needed}",
        )


class Pruner:
    """Prunes one database while its node runs."""

    def __init__(
        self,
        store: ChainStore,
        kv: KeyValue,
        keep_ms: int,
        rest: Callable[[float], None] = time.sleep,
        batch: int = BATCH_NODES,
    ) -> None:
        self._store = store
        self._kv = kv
        self._keep_ms = keep_ms
        self._rest = rest
        self._batch = batch

    async def run(self) -> None:
        """Prune until cancelled. Raises what storage raises."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="prune") as thread:
            while True:
                if not await loop.run_in_executor(thread, self.step):
                    await asyncio.sleep(LOOK_SECONDS)

    def step(self) -> bool:
        """Move the horizon by a little and delete what it passed; False if nothing was due."""
        horizon = load_horizon(self._kv)
        blocks = self._too_old_below(horizon.blocks)
        if blocks > horizon.blocks:
            horizon = msgspec.structs.replace(
                horizon, blocks=blocks, states=max(horizon.states, blocks - 1)
            )
            self._kv.write(put_horizon(horizon), sync=True)
        elif (horizon.swept_blocks, horizon.swept_states) == (horizon.blocks, horizon.states):
            return False
        self._sweep(horizon)
        return True

    def _too_old_below(self, start: int) -> int:
        floor = self._store.floor()
        assert floor is not None
        oldest = floor.info.timestamp - self._keep_ms
        height = start
        while height < min(floor.info.height, start + STEP_BLOCKS):
            header = self._store.header(height)
            assert header is not None, "headers above the horizon are held"
            if header.timestamp >= oldest:
                break
            height += 1
        return height

    def _sweep(self, horizon: Horizon) -> None:
        for height in range(horizon.swept_blocks, horizon.blocks):
            number = height.to_bytes(8, "big")
            self._kv.write([(b"b" + number, None), (b"o" + number, None)], sync=False)
            self._rest(REST_SECONDS)
        for height in range(horizon.swept_states, horizon.states):
            self._sweep_state(height)
        done = msgspec.structs.replace(
            horizon, swept_blocks=horizon.blocks, swept_states=horizon.states
        )
        self._kv.write(put_horizon(done), sync=False)
        log.debug("blocks below %d and states below %d are gone", done.blocks, done.states)

    def _sweep_state(self, height: int) -> None:
        """Delete the nodes that the state of this height has and none after it."""
        left = list(self._left(self._root(height), self._root(height + 1)))
        left.reverse()  # children before their parents
        for start in range(0, len(left), self._batch):
            with self._store.writing:
                batch: list[tuple[bytes, bytes | None]] = []
                for hash in left[start : start + self._batch]:
                    value = self._kv.get(b"n" + hash)
                    if value is not None and _made(value) <= height:
                        batch.append((b"n" + hash, None))
                if batch:
                    self._kv.write(batch, sync=False)
            self._rest(REST_SECONDS)

    def _root(self, height: int) -> bytes:
        header = self._store.header(height)
        assert header is not None, "headers above the horizon are held"
        return header.state_root

    def _left(self, before: bytes, after: bytes) -> Iterator[bytes]:
        """Hashes of nodes in the one map that the other does not have in the same place; a parent
        before its children. What an interrupted sweep has deleted is passed over."""
        pending = [(before, after)]
        while pending:
            old, new = pending.pop()
            if old in (new, EMPTY):
                continue
            children = self._children(old)
            if children is None:
                continue
            yield old
            beside = (self._children(new) if new != EMPTY else None) or (EMPTY, EMPTY)
            pending += zip(children, beside, strict=True) if children != () else ()

    def _children(self, hash: bytes) -> tuple[bytes, bytes] | tuple[()] | None:
        """Of a branch; () of a leaf; None if there is no such node."""
        node = self._store.state_node(hash)
        if node is None:
            return None
        if node[:1] == b"\x00":
            return ()
        return node[1 : 1 + HASH_BYTES], node[1 + HASH_BYTES :]


def make_pruner(retention: Retention, store: ChainStore, kv: KeyValue) -> Pruner | None:
    """The pruner that a configuration asks for; None for an archive."""
    if retention.mode != "pruned":
        return None
    return Pruner(store, kv, retention.keep_days * DAY_MS)


def _made(value: bytes) -> int:
    """The last height that made a stored node."""
    return int.from_bytes(value[-HEIGHT_BYTES:], "big")
