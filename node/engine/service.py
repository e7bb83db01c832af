"""The running node as its API sees it: answers from final state only.

Nothing here tells of a block that is executed but not final: what a client is told is final stays
final through every crash.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Protocol

from node.api.governance import (
    EquivocationView,
    InstructionView,
    ProposalView,
    ValidatorsView,
)
from node.api.problems import Refused
from node.api.service import (
    AccountsView,
    AssetView,
    BlockView,
    CertificateView,
    EventsUnavailable,
    EventView,
    FollowsView,
    GivenUpView,
    MempoolView,
    ParametersView,
    ParticipantView,
    PaymentView,
    PeerView,
    SignatureView,
    StatusView,
    SubmissionRefused,
)
from node.audit.build import OpenBlocks, build_dossier
from node.audit.build_chain import EvidenceTooLarge, EvidenceUnavailable
from node.audit.build_together import ALL
from node.audit.fork import NothingKnown, build_equivocation, validator_index
from node.chain.encoding import decode
from node.chain.genesis import Genesis
from node.chain.types import (
    Outcome,
    Receipt,
    Validator,
    ValidatorSet,
)
from node.engine import state_evidence
from node.engine.day_views import day_waits, days_ahead
from node.engine.executor import CommitPlan, Executor
from node.engine.governance_views import (
    equivocations_view,
    instruction_view,
    proposals_view,
    validators_view,
)
from node.engine.intake import Intake
from node.engine.mempool import Mempool
from node.engine.metrics import Metrics
from node.engine.payment_views import Payments
from node.engine.recorded import Recorded
from node.engine.replica import Replica
from node.engine.settlement import Settlement
from node.engine.views import (
    accounts_view,
    assets_view,
    block_view,
    event_view,
    holder_of,
    parameters_view,
    participants_view,
)
from node.network.links import PeerLinks
from node.storage.chain_store import ChainStore
from node.storage.horizon import Horizon

SOFTWARE_VERSION = version("nostro")
KEPT_OPEN = 2
"""Blocks that the last dossiers were made from and the next ones may be; a full one takes 15 MB."""


class Place(Protocol):
    """This node's place in the validator set: see `node.engine.membership`."""

    @property
    def validators(self) -> ValidatorSet:
        """The set of the current epoch."""

    @property
    def index(self) -> int | None:
        """In that set; None for an observer."""


def _follows_nobody() -> FollowsView | None:
    return None


@dataclass(slots=True)
class Service:
    """Implements `node.api.service.NodeService`."""

    genesis: Genesis
    genesis_bytes: bytes
    name: str
    membership: Place
    replica: Replica
    executor: Executor
    intake: Intake
    pool: Mempool
    links: PeerLinks
    store: ChainStore
    instruments: Metrics
    horizon: Callable[[], Horizon] = Horizon
    """How far back the database goes."""
    follows: Callable[[], FollowsView | None] = _follows_nobody
    """How a node that is no validator keeps up."""
    _waiting: dict[bytes, list[asyncio.Future[None]]] = field(default_factory=dict)
    _new_block: asyncio.Event = field(default_factory=asyncio.Event)
    settlement: Settlement = field(init=False)
    _recorded: Recorded = field(init=False)
    _opened: OpenBlocks = field(init=False)
    _making: threading.Lock = field(default_factory=threading.Lock)
    """Held while a dossier is made: what is kept open for the next one is one thread's."""

    def __post_init__(self) -> None:
        self._recorded = Recorded(self.store)
        self._opened = OpenBlocks(self.store, KEPT_OPEN)
        self.settlement = Settlement(lambda: self.executor.final_state, self._recorded)

    @property
    def chain_id(self) -> bytes:
        return self.genesis.chain_id

    # --- finality ----------------------------------------------------------------------------

    def on_final(self, plan: CommitPlan) -> None:
        """The database holds these blocks: wake who waits for what they settled."""
        self._count(plan)
        if self._waiting:
            for block in plan.blocks:
                for entry in block.uetrs:
                    for future in self._waiting.pop(entry.uetr, ()):
                        if not future.done():
                            future.set_result(None)
        self._new_block.set()
        self._new_block = asyncio.Event()

    def _count(self, plan: CommitPlan) -> None:
        now = time.perf_counter()
        arrivals = self.intake.arrivals
        for checked in plan.instructions:
            arrived = arrivals.pop(checked.digest, None)
            if arrived is not None:
                self.instruments.finality.observe(now - arrived)
        for digest in plan.forgotten:
            arrivals.pop(digest, None)  # expired
        self.instruments.blocks.inc(len(plan.blocks))
        statuses = Counter(entry.status for block in plan.blocks for entry in block.uetrs)
        for status, count in statuses.items():
            self.instruments.payments.labels(status).inc(count)

    async def submit(self, raw: Sequence[bytes]) -> list[Receipt | SubmissionRefused]:
        if self.membership.index is None and not any(x.connected for x in self.links.links()):
            refused = SubmissionRefused(
                "observer",
                "this node only observes and passes on what it takes in, but none of its sources "
                "answers now; send the same bytes to another node",
            )
            return [refused] * len(raw)
        return await self.intake.submit(raw)

    async def wait_payment(self, uetr: bytes, timeout: float) -> PaymentView | None:
        found = self.payment(uetr)
        if found is not None or timeout <= 0:
            return found
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault(uetr, [])
        waiters.append(future)
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return None
        finally:
            if future in waiters:
                waiters.remove(future)
            if not waiters and self._waiting.get(uetr) is waiters:
                del self._waiting[uetr]
        return self.payment(uetr)

    # --- payments ----------------------------------------------------------------------------

    def payment(self, uetr: bytes) -> PaymentView | None:
        entry = self.store.uetr(uetr)
        return None if entry is None else self._payments().full(entry)

    def payments(self, uetrs: Sequence[bytes]) -> list[PaymentView | None]:
        brief = self._payments().brief
        entries = map(self.store.uetr, uetrs)
        return [None if entry is None else brief(entry) for entry in entries]

    def _payments(self) -> Payments:
        return Payments(self.executor.final_state, self._recorded)

    def evidence(
        self, uetr: bytes, clear: str | None = None, checkpoint: int | None = None
    ) -> bytes | None:
        state = self.executor.final_state
        if clear is not None and clear != ALL:
            clear = holder_of(state, clear).lei
        if checkpoint is not None and checkpoint > state.height:
            raise Refused(
                "unknown-block",
                f"no block {checkpoint} is final here; the last one that is has height "
                f"{state.height}",
            )
        entry = self.store.uetr(uetr)
        if entry is None:
            return None
        if not self.horizon().proves(entry.height):
            raise Refused(
                "pruned",
                f"the payment is final in block {entry.height}, but its evidence is not kept here, "
                f"only that of blocks from {self._proven_from()} on; an archive node has it",
                "final",
            )
        try:
            with self._making:
                return build_dossier(
                    self.store, entry, clear=clear, checkpoint=checkpoint, blocks=self._opened
                )
        except EvidenceTooLarge as error:
            raise Refused("too-large", str(error), "final") from error
        except EvidenceUnavailable as error:
            raise Refused("pruned", f"{error}. An archive node has it", "final") from error

    def balance_proof(self, participant: str, asset: str, kind: str, height: int | None) -> bytes:
        state = self.executor.final_state
        return state_evidence.balance_proof(self.store, state, (participant, asset, kind), height)

    def absence_proof(self, uetr: bytes, start: int | None, end: int | None) -> bytes:
        return state_evidence.absence_proof(self.store, uetr, start, end)

    def _proven_from(self) -> int:
        horizon = self.horizon()
        return max(horizon.blocks, horizon.states + 1 if horizon.states else 0)

    # --- accounts ----------------------------------------------------------------------------

    def accounts(self, participant: str | None) -> AccountsView:
        return accounts_view(self.executor.final_state, participant)

    def participants(self) -> list[ParticipantView]:
        return participants_view(self.executor.final_state)

    def assets(self) -> list[AssetView]:
        return assets_view(self.executor.final_state)

    def parameters(self) -> ParametersView:
        return parameters_view(self.executor.final_state)

    # --- governance --------------------------------------------------------------------------

    def validators(self) -> ValidatorsView:
        return validators_view(self.executor.final_state)

    def proposals(self) -> list[ProposalView]:
        return proposals_view(self.executor.final_state)

    def equivocations(self) -> list[EquivocationView]:
        return equivocations_view(self.executor.final_state)

    def equivocation_proof(self, epoch: int, view: int, validator: str) -> bytes:
        try:
            index = validator_index(self.store, epoch, validator)
            return build_equivocation(self.store, epoch, view, index)
        except NothingKnown as error:
            raise Refused("unknown-equivocation", f"{error}; ask other nodes, too") from error
        except EvidenceUnavailable as error:
            raise Refused("pruned", f"{error}; an archive node can prove it") from error

    def instruction(self, sender: str, id: str) -> InstructionView | None:
        return instruction_view(self.executor.final_state, self.store.outcomes, sender, id)

    async def wait_instruction(
        self, sender: str, id: str, timeout: float
    ) -> InstructionView | None:
        try:
            async with asyncio.timeout(timeout):
                while True:
                    new_block = self._new_block
                    found = self.instruction(sender, id)
                    if found is not None:
                        return found
                    await new_block.wait()
        except TimeoutError:
            return None

    # --- blocks ------------------------------------------------------------------------------

    def height(self) -> int:
        return self.executor.final_state.height

    def kept_from(self) -> int:
        return self.horizon().blocks

    def block(self, height: int) -> BlockView | None:
        if height < self.horizon().headers:
            raise Refused(
                "pruned",
                f"this node began with a snapshot and has no headers below height "
                f"{self.horizon().headers}; an archive node has block {height}",
            )
        header = self.store.header(height)
        if header is None or height > self.height():
            return None
        info = self.store.info(height)
        assert info is not None
        certificate = self._certificate(height) if height else None
        return block_view(header, info.digest, certificate)

    def _certificate(self, height: int) -> CertificateView | None:
        found = self.store.finalization_at_or_above(height)
        if found is None:
            return None
        at, certificate = found
        content = certificate.content
        assert content is not None, "a finalization has a content"
        validators = self._validators(certificate.epoch)
        return CertificateView(
            epoch=certificate.epoch,
            view=certificate.view,
            kind="finalization",
            parent_view=content.parent_view,
            block=content.block.hex(),
            height=at,
            signatures=[
                SignatureView(
                    validator=index, name=validators[index].name, signature=signature.hex()
                )
                for index, signature in certificate.signatures
            ],
        )

    def _validators(self, epoch: int) -> tuple[Validator, ...]:
        found = self.executor.final_state.validator_set_of(epoch)
        assert found is not None, "an epoch with a certificate has a set"
        return found.validators

    # --- the node itself ---------------------------------------------------------------------

    def status(self) -> StatusView:
        core = self.replica.core
        own = self.membership.index
        state = self.executor.final_state
        return StatusView(
            node=self.name,
            chain_id=self.chain_id.hex(),
            network=self.genesis.network,
            devnet=self.genesis.devnet,
            version=SOFTWARE_VERSION,
            height=state.height,
            block=state.digest.hex(),
            time=state.time,
            epoch=core.epoch,
            view=core.view,
            leader=self._validators(core.epoch)[core.leader(core.view)].name,
            validator=own,
            signing=own is not None and self.replica.alarm is None,
            alarm=self.replica.alarm,
            follows=self.follows(),
            kept_from=self.kept_from(),
            peers=[
                PeerView(
                    name=link.name,
                    index=link.index,
                    connected=link.connected,
                    detail=link.last_refusal,
                    since=link.since,
                )
                for link in self.links.links()
            ],
            mempool=MempoolView(
                instructions=len(self.pool),
                payments=self.pool.payments,
                bytes=self.pool.total_bytes,
            ),
            finalized_at=self.replica.finalized_at,
            given_up=[
                GivenUpView(view=view, leader=leader)
                for view, leader in self.replica.view_log.given_up
            ],
        )

    def ready(self) -> tuple[bool, str]:
        if self.replica.alarm is not None:
            return False, f"this node does not sign: {self.replica.alarm}"
        validators = len(self.membership.validators.validators)
        if self.membership.index is None:
            return self._follows()
        connected = 1 + sum(link.connected for link in self.links.links())
        needed = validators - (validators - 1) // 3
        if connected < needed:
            return False, f"{connected} of {validators} validators connected, {needed} are needed"
        return True, f"{connected} of {validators} validators connected"

    def _follows(self) -> tuple[bool, str]:
        """An observer is ready while it hears of what becomes final."""
        follows = self.follows()
        if follows is None:
            return False, "observes, but has no sources to follow ([join] urls in config.toml)"
        if follows.source is None:
            return False, "observes, but none of its sources answers"
        if follows.syncing:
            return False, (
                f"syncing: height {self.height()} of {follows.target} from {follows.source}"
            )
        return True, f"observes; follows {follows.source}"

    def metrics(self) -> str:
        instruments = self.instruments
        instruments.height.set(self.height())
        instruments.peers.set(sum(link.connected for link in self.links.links()))
        instruments.mempool.set(len(self.pool))
        instruments.mempool_bytes.set(self.pool.total_bytes)
        instruments.since_final.set(time.monotonic() - self.replica.last_commit_monotonic)
        instruments.days_ahead.set(days_ahead(self.executor.final_state))
        instruments.day_waits.set(day_waits(self.executor.final_state))
        return instruments.text()

    # --- events ------------------------------------------------------------------------------

    async def events(self, after: tuple[int, int] | None) -> AsyncIterator[EventView]:
        height, index = (self.height() + 1, -1) if after is None else after
        if height > self.height() + 1:
            raise EventsUnavailable(
                f"no event ({height}, {index}): the last final height is {self.height()}"
            )
        while True:
            new_block = self._new_block
            while height <= self.height():
                outcomes = self.store.outcomes(height)
                if outcomes is None:
                    raise EventsUnavailable(f"the outcomes of height {height} were pruned")
                for position, raw in enumerate(outcomes):
                    if position > index:
                        state = self.executor.final_state
                        yield event_view(position, decode(raw, Outcome), state)
                height, index = height + 1, -1
            await new_block.wait()
