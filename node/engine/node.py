"""Puts a node together from its home, runs it, and takes it down in order.

Start: home and lock, keys, database (genesis if it is new), ledger state, journal, signer guard,
core; then links and API, and only then the first turn. Stop: API first, so that nobody is told
anything new, then links, the core, and the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

from consensus.epochs import Epochs
from consensus.interface import Floor, Signer, SigningRefused, starting_floor
from consensus.messages import Epoch, OwnVote, Record, View, Vote, decode_record
from consensus.recovery import RecordRefused
from node.api.server import ApiServer
from node.api.service import SubmissionRefused
from node.chain.block import SUPPORTED_RULES, encode_block
from node.chain.genesis import Genesis
from node.chain.instruction import ParsedInstruction
from node.chain.merkle import Frontier
from node.chain.signature import self_check, verify
from node.chain.types import Receipt, ValidatorSet
from node.engine.clock import WallClock
from node.engine.executor import CommitPlan, Executor, block_info
from node.engine.feed import LinksByRole
from node.engine.following import Apart, make_feed
from node.engine.intake import Intake, Tip
from node.engine.membership import Membership, check_identity
from node.engine.mempool import Mempool, PassedOver
from node.engine.metrics import Metrics
from node.engine.pool_store import PoolStore
from node.engine.prune import Pruner, check_retention, make_pruner
from node.engine.replica import Replica
from node.engine.service import Service
from node.engine.snapshot import Snapshots
from node.engine.statesync import start_from_snapshot
from node.engine.sync import SyncServer
from node.engine.view_log import ViewLog
from node.engine.vote_keys import VoteKeys
from node.ledger.genesis import genesis_state
from node.ledger.ledger import load_state
from node.ledger.state import State
from node.network.faults import devnet_faults
from node.network.frames import Channel
from node.network.peer import Address
from node.network.peers import PeerNetwork
from node.storage.chain_store import ChainStore, CommittedBlock
from node.storage.config import NodeConfig
from node.storage.errors import JournalCorrupt, SignerUnusable, StorageError, StoreCorrupt
from node.storage.home import Home, open_home
from node.storage.horizon import load_horizon
from node.storage.keystore import Keystore, open_keystore

log = logging.getLogger("nostro.node")

IO_THREADS = 4
"""Journal, signer's record, database and mempool each may wait for a disk at the same time."""
FOREIGN_JOURNAL = (
    "Put this node's own journal/ back; if it is lost, the node can only come back as an observer, "
    "with a new vote key (docs/how-to/recover.md)"
)
WARM_REST_SECONDS = 0.001
"""Between slices of reading stored UETRs after the start."""
READER_THREADS = 1
"""For what other validators ask for: reading it must not keep the journal waiting."""


class Node:
    """A running node."""

    def __init__(
        self,
        service: Service,
        api: ApiServer,
        replica: Replica,
        intake: Intake,
        membership: Membership,
        *,
        pruner: Pruner | None,
    ) -> None:
        self.service = service
        self.api = api
        self._replica = replica
        self._intake = intake
        self._membership = membership
        self._pruner = pruner

    async def run(self) -> None:
        """Take part until cancelled. Raises what storage raises when it cannot write: a node that
        cannot keep its promises stops."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._replica.run(), name="replica")
            tasks.create_task(self._intake.run(), name="intake")
            tasks.create_task(self._membership.run(), name="membership")
            if self._pruner is not None:
                tasks.create_task(self._pruner.run(), name="pruner")


async def run_node(path: Path, passphrase: Callable[[str], str]) -> None:
    """Run the node of this home until SIGTERM or SIGINT.

    `passphrase` gives the passphrase of a key file, by what to call it in a prompt. Raises
    StorageError, BadGenesis, ListenFailed, ListenError, UnsafeLibsodium, UnknownRules with texts
    for people.
    """
    self_check()
    async with open_node(path, passphrase) as node:
        # From here on a signal means an orderly stop; before, it ends the process (a prompt for a
        # passphrase would otherwise hold it), which is a crash like any other.
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        service = node.service
        log.info(
            "%s serves %s at %s from height %d",
            service.name, service.genesis.network, node.api.url, service.height(),
        )  # fmt: skip
        running = asyncio.create_task(node.run(), name="node")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if running.done():
            await running
        await node.api.stop()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@contextlib.asynccontextmanager
async def open_node(path: Path, passphrase: Callable[[str], str]) -> AsyncIterator[Node]:
    """A node whose links and API are open; `Node.run` makes it take part."""
    async with AsyncExitStack() as stack:
        home = open_home(path)
        home.acquire()
        stack.callback(home.release)
        node_key = open_keystore(
            home.node_key, passphrase("node key"), role="node", devnet=home.genesis.devnet
        )
        vote_keys = VoteKeys(home, lambda: passphrase("vote key"))
        stack.callback(vote_keys.close)
        yield await _assemble(stack, home, node_key, vote_keys)


async def _assemble(
    stack: AsyncExitStack, home: Home, node_key: Keystore, vote_keys: VoteKeys
) -> Node:
    genesis = home.genesis
    clock = WallClock()
    check_retention(home.config.storage, genesis, str(home.path / "config.toml"))
    metrics = Metrics()
    await start_from_snapshot(home, metrics)
    kv = home.open_database()
    stack.callback(kv.close)
    io = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="disk")
    stack.callback(io.shutdown)
    readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="reader")
    stack.callback(readers.shutdown)
    store = ChainStore(kv)
    state, floor = load_chain(genesis, store)
    check_identity(
        state.validator_set,
        home.config.name,
        node_key.public_key,
        home.path,
        follows=bool(home.config.join.urls),
    )

    journal, records = home.open_journal()
    stack.callback(journal.close)
    if journal.recovered.torn_bytes:
        log.warning("cut %d torn bytes off the journal", journal.recovered.torn_bytes)
    decoded = [decode_record(record) for record in records]
    del records

    pool = Mempool(home.config.mempool)
    kept = PoolStore(kv, io)
    executor = Executor(genesis, state, pool, known_rules(home.config))
    executor.require_known_rules()

    def verify_here(key: bytes, domain: str, payload: bytes, signature: bytes) -> bool:
        return verify(key, domain, genesis.chain_id, payload, signature)

    view_log = ViewLog((), metrics)

    def addresses(validators: ValidatorSet) -> dict[int, Address]:
        return {
            i: (home.config.peers[v.name].host, home.config.peers[v.name].port)
            for i, v in enumerate(validators.validators)
            if v.name in home.config.peers
        }

    def on_change(validators: ValidatorSet, index: int | None) -> None:
        view_log.begin_epoch(validators.epoch, [v.name for v in validators.validators])
        peers.reconfigure(validators, index, addresses(validators))

    async def submit(raw: Sequence[bytes]) -> list[Receipt | SubmissionRefused]:
        return await intake.submit(raw)

    membership = Membership(
        chain_id=genesis.chain_id,
        node_key=node_key,
        keys=vote_keys,
        state=lambda: executor.final_state,
        store=store,
        io=io,
        clock=clock,
        submit=submit,
        on_change=on_change,
    )
    validators = membership.validators
    view_log.begin_epoch(validators.epoch, [v.name for v in validators.validators])
    metrics.epoch.set(validators.epoch)
    start = starting_floor(floor.info) if floor.info.seals else floor
    if membership.voting_index is not None:
        complete_signer_record(vote_keys, decoded, start)
    try:
        core = Epochs(
            index=membership.voting_index,
            validators=[v.vote_key for v in validators.validators],
            epoch=Epoch(validators.epoch),
            floor=start,
            timing=home.config.timing,
            codec=executor,
            verify=verify_here,
            signer=vote_keys,
            records=decoded,
        )
    except RecordRefused as error:
        raise JournalCorrupt(str(error), home.journal, FOREIGN_JOURNAL, 0) from error

    def on_message(sender: int, channel: Channel, payload: bytes) -> None:
        if channel is Channel.MEMPOOL:
            intake.on_message(sender, payload)
        else:
            replica.on_message(sender, payload)

    def on_link(peer: int, up: bool) -> None:
        if up:
            intake.link_up(peer)
            replica.link_up(peer)

    apart = Apart(membership)

    def on_peer_link(peer: int, up: bool) -> None:
        apart.link(up)
        on_link(peer, up)

    peers = PeerNetwork(
        chain_id=genesis.chain_id,
        validator_set=validators,
        own_index=membership.index,
        node_seed=node_key.seed,
        listen=(home.config.p2p.host, home.config.p2p.port),
        addresses=addresses(validators),
        on_message=on_message,
        on_link=on_peer_link,
        on_refusal=lambda refusal, _: metrics.refused_links.labels(refusal.value).inc(),
    )
    feed = make_feed(
        home.config.join,
        store=store,
        membership=membership,
        verify=verify_here,
        chain_id=genesis.chain_id,
        on_message=on_message,
        on_link=on_link,
        apart=apart,
        metrics=metrics,
    )
    links = LinksByRole(peers, feed, apart)
    snapshots = Snapshots(
        kv,
        home.snapshots,
        uetr_window_ms=genesis.parameters.uetr_window_ms,
        height=lambda: executor.final_state.height,
    )
    stack.push_async_callback(snapshots.stop)

    def set_of(epoch: int) -> ValidatorSet | None:
        return executor.final_state.validator_set_of(epoch)

    sync = SyncServer(
        store,
        height=lambda: executor.final_state.height,
        horizon=lambda: load_horizon(kv),
        validator_set_of=set_of,
        snapshots=snapshots,
        readers=readers,
    )

    def on_final(plan: CommitPlan) -> None:
        kept.forget(plan.forgotten)
        service.on_final(plan)
        membership.on_final(plan)
        sync.final()
        if feed is not None:
            feed.final()

    def on_dropped(digests: list[bytes]) -> None:
        intake.dropped(digests)

    def on_view(view: int, leader: int, passed_over: list[PassedOver]) -> None:
        intake.reoffer(pool.to_reoffer(view))
        for report in passed_over:
            metrics.passed_over.inc()
            log.warning(
                "instruction %s waits for %d views; passed over by (view, validator) %s",
                report.instruction.hex(), report.views, report.leaders,
            )  # fmt: skip

    replica = Replica(
        core=core,
        executor=executor,
        journal=journal,
        signer=vote_keys,
        clock=clock,
        membership=membership,
        links=links,
        pool=pool,
        store=store,
        metrics=metrics,
        view_log=view_log,
        io=io,
        readers=readers,
        on_final=on_final,
        on_view=on_view,
        on_dropped=on_dropped,
    )

    def may_stand(parsed: ParsedInstruction) -> None:
        executor.may_stand(parsed, clock.now_ms())

    def tip() -> Tip:
        return Tip(executor.final_state.height, executor.final_state.digest)

    intake = Intake(
        chain_id=genesis.chain_id,
        pool=pool,
        kept=kept,
        links=links,
        node_key=node_key.signer,
        may_stand=may_stand,
        is_hopeless=executor.is_hopeless,
        pool_changed=replica.pool_changed,
        view=lambda: core.view,
        tip=tip,
        clock=clock,
        metrics=metrics,
    )
    service = Service(
        genesis=genesis,
        genesis_bytes=home.genesis_bytes,
        name=home.config.name,
        membership=membership,
        replica=replica,
        executor=executor,
        intake=intake,
        pool=pool,
        links=links,
        store=store,
        instruments=metrics,
        horizon=lambda: load_horizon(kv),
    )
    if feed is not None:
        service.follows = feed.view
    pruner = make_pruner(home.config.storage, store, kv)
    restored = intake.restore()
    if restored:
        log.info("%d accepted instructions wait from before the restart", restored)

    await stack.enter_async_context(
        devnet_faults(
            genesis,
            peers,
            clock.set_offset,
            own_name=home.config.name,
            home=home.path,
            environment=os.environ,
        )
    )
    await links.start()
    stack.push_async_callback(links.stop)
    api = ApiServer(
        service,
        host=home.config.api.host,
        port=home.config.api.port,
        operator_host=home.config.operator.host,
        operator_port=home.config.operator.port,
        sync=sync,
    )
    await api.start()
    stack.push_async_callback(api.stop)
    stopped = threading.Event()
    warming = threading.Thread(target=_warm, args=(store, stopped), name="uetrs")
    warming.start()
    stack.callback(warming.join)
    stack.callback(stopped.set)
    return Node(service, api, replica, intake, membership, pruner=pruner)


class _Stopped(Exception):
    """The node ends before every stored UETR was read."""


def _warm(store: ChainStore, stopped: threading.Event) -> None:
    """Read every stored UETR beside the node's work (`ChainStore.warm`)."""

    def rest() -> None:
        if stopped.wait(WARM_REST_SECONDS):
            raise _Stopped

    try:
        store.warm(rest)
    except _Stopped:
        return
    except StorageError as error:
        # Whoever needs what is damaged will fail on it; until then look-ups are only slower.
        log.error("cannot read the index of UETRs: %s", error)


def known_rules(config: NodeConfig) -> tuple[int, ...]:
    """The versions of the rules that this node executes blocks by: those of the software, unless it
    plays older software on a devnet."""
    last = config.devnet_rules
    return tuple(each for each in SUPPORTED_RULES if last is None or each <= last)


class RecordedSigner(Signer, Protocol):
    """A signer that keeps a record of its own."""

    def remembers(self, vote: Vote) -> bool:
        """Whether the record has this vote."""

    def sync(self) -> None:
        """Make the record durable."""


def complete_signer_record(signer: RecordedSigner, records: list[Record], floor: Floor) -> None:
    """The journal is synced before the signer's record, so a crash may have kept a vote in the
    journal alone. It will be sent again: the guard must know it too before anything is signed.

    Raises SignerUnusable if the guard holds a vote that contradicts the journal's: one of the two
    is not this node's, and nothing may be signed on top of that.
    """
    for record in records:
        if isinstance(record, OwnVote):
            vote = record.vote
            if vote.epoch != floor.info.epoch or vote.view <= floor.info.view:
                continue
            if not signer.remembers(vote):
                try:
                    signer.sign_vote(Epoch(vote.epoch), View(vote.view), vote.kind, vote.content)
                except SigningRefused as refusal:
                    raise SignerUnusable(
                        f"the journal's vote in view {vote.view} contradicts it: {refusal}",
                        "the signer's record",
                        "Journal and record are not of one node: put back the right ones, or "
                        "retire the vote key",
                    ) from refusal
    signer.sync()


def load_chain(genesis: Genesis, store: ChainStore) -> tuple[State, Floor]:
    """The ledger state and floor that the database holds; a new database gets the genesis block.

    Raises StoreCorrupt, StateDamaged, BadGenesis.
    """
    floor = store.floor()
    if floor is None:
        block = genesis_state(genesis, store)
        info = block_info(block.header)
        floor = Floor(info, None)
        applied = block.applied
        store.commit(
            [
                CommittedBlock(
                    info=info,
                    raw=encode_block(block.header, ()),
                    outcomes=applied.outcomes,
                    records=applied.records,
                    nodes=applied.nodes,
                    history_nodes=applied.history_nodes,
                )
            ],
            floor,
        )
        return applied.state, floor
    header = store.header(floor.info.height)
    assert header is not None, "the floor's header is stored with it"
    history = Frontier.load(floor.info.height + 1, _history_nodes(store))
    state = load_state(store.state_records(), header, history, store, store.state_node)
    return state, floor


def _history_nodes(store: ChainStore) -> Callable[[int, int], bytes]:
    def get(level: int, index: int) -> bytes:
        node = store.history_node(level, index)
        if node is None:
            raise StoreCorrupt(
                f"node ({level}, {index}) of the history tree is missing",
                "the chain database",
                "Put a copy of another node's data/ in its place (docs/how-to/recover.md)",
            )
        return node

    return get
