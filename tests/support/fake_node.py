"""A node without consensus, network and disk: the real ledger behind the real API server.

What a test turns on and off is only what clients can notice: whether blocks become final, whether
submissions are refused, whether answers get lost.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from node.api.governance import (
    EquivocationView,
    InstructionView,
    ProposalView,
    ValidatorsView,
)
from node.api.problems import Refused
from node.api.server import ApiServer
from node.api.service import (
    AccountsView,
    AssetView,
    BlockView,
    CertificateView,
    EventView,
    MempoolView,
    ParametersView,
    ParticipantView,
    PaymentView,
    PeerView,
    SignatureView,
    StatusView,
    SubmissionRefused,
)
from node.audit.build_state import StateSource
from node.chain.encoding import encode
from node.chain.instruction import (
    CheckedInstruction,
    InstructionRefused,
    check_instruction,
)
from node.chain.signature import RECEIPT_DOMAIN
from node.chain.types import Receipt, ReceiptBody
from node.engine.governance_views import (
    equivocations_view,
    instruction_view,
    proposals_view,
    validators_view,
)
from node.engine.payment_views import Payments
from node.engine.recorded import Recorded
from node.engine.settlement import Settlement
from node.engine.state_evidence import absence_proof, balance_proof
from node.engine.views import (
    accounts_view,
    assets_view,
    block_view,
    event_view,
    holder_of,
    parameters_view,
    participants_view,
)
from node.ledger.check import NotAdmissible
from node.ledger.state import State
from tests.support.chain_records import ChainRecords
from tests.support.ledger_world import Chain, World

T = TypeVar("T")


def wall() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class FakeNode:
    """A `NodeService` whose blocks are final as soon as they are made."""

    world: World
    name: str = "node0"
    finalizing: bool = True
    """False: takes instructions in, but nothing becomes final until `finalize`."""
    refusal: SubmissionRefused | None = None
    """Given for every submission, while set."""
    failing: bool = False
    """Every submission fails inside the node after it was taken in."""
    is_ready: tuple[bool, str] = (True, "")
    submissions: list[bytes] = field(default_factory=list)
    """Everything that was ever submitted."""
    chain: Chain = field(init=False)
    waiting: list[CheckedInstruction] = field(default_factory=list)
    dossier: bytes | None = None
    """Given for every payment, while set."""
    given: bytes | None = None
    """The proof of a state that it gives, whatever was asked for."""
    proven: tuple[StateSource, State] | None = None
    """What proofs of states are made from, while set."""
    genesis_file: bytes | None = None
    """Given instead of the world's, while set."""
    proofs: dict[tuple[int, int, str], bytes] = field(default_factory=dict)
    """Of equivocations, by epoch, view and what the validator is asked for by."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: int = 0
    """Long polls and streams that wait for news now."""
    _watching: asyncio.Event = field(default_factory=asyncio.Event)

    settlement: Settlement = field(init=False)

    def __post_init__(self) -> None:
        self.chain = Chain(self.world)
        self.records = ChainRecords(lambda: self.chain)
        self._recorded = Recorded(self.records)
        self.settlement = Settlement(lambda: self.chain.state, self._recorded)

    @property
    def chain_id(self) -> bytes:
        return self.world.chain_id

    @property
    def genesis_bytes(self) -> bytes:
        return self.genesis_file or self.world.genesis_bytes

    # --- instructions -------------------------------------------------------------------------

    async def submit(self, raw: Sequence[bytes]) -> list[Receipt | SubmissionRefused]:
        answers = [self._take(each) for each in raw]
        if self.finalizing:
            self.finalize()
        if self.failing:
            raise RuntimeError("the disk is gone")
        return answers

    def _take(self, raw: bytes) -> Receipt | SubmissionRefused:
        self.submissions.append(raw)
        if self.refusal is not None:
            return self.refusal
        try:
            checked = check_instruction(raw, self.chain_id)
            if checked.digest not in {each.digest for each in self.waiting}:
                self.chain.ledger.check(checked, wall())
                self._refuse_second(checked)
                self.waiting.append(checked)
        except InstructionRefused as error:
            return SubmissionRefused(error.code, error.detail)
        except NotAdmissible as error:
            executed = error.code == "already-executed"
            return SubmissionRefused(
                error.code, error.detail, "final" if executed else "not submitted"
            )
        state = self.chain.state
        body = ReceiptBody(
            checked.digest, self.world.nodes[0].public_key, state.height, state.digest, wall()
        )
        signature = self.world.nodes[0].sign(RECEIPT_DOMAIN, self.chain_id, encode(body))
        return Receipt(body, signature)

    def _refuse_second(self, checked: CheckedInstruction) -> None:
        envelope = checked.instruction.envelope
        for each in self.waiting:
            other = each.instruction.envelope
            if (other.sender, other.id) == (envelope.sender, envelope.id):
                raise NotAdmissible("duplicate-id", f"another {envelope.id} is waiting")

    def finalize(self) -> None:
        """Make a final block of everything that waits."""
        if self.waiting:
            taken, self.waiting = self.waiting, []
            self.chain.block(*taken, time=max(wall(), self.chain.state.time + 1))
            self.news.set()
            self.news = asyncio.Event()

    # --- payments -----------------------------------------------------------------------------

    def payment(self, uetr: bytes) -> PaymentView | None:
        entry = self.chain.index.uetr(uetr)
        return None if entry is None else self._payments().full(entry)

    def payments(self, uetrs: Sequence[bytes]) -> list[PaymentView | None]:
        brief = self._payments().brief
        entries = [self.chain.index.uetr(uetr) for uetr in uetrs]
        return [None if entry is None else brief(entry) for entry in entries]

    def _payments(self) -> Payments:
        return Payments(self.chain.state, self._recorded)

    async def wait_payment(self, uetr: bytes, timeout: float) -> PaymentView | None:
        try:
            async with asyncio.timeout(timeout):
                while True:
                    news = self.news
                    view = self.payment(uetr)
                    if view is not None:
                        return view
                    await self._next_news(news)
        except TimeoutError:
            return None

    def evidence(
        self, uetr: bytes, clear: str | None = None, checkpoint: int | None = None
    ) -> bytes | None:
        if self.dossier is not None:
            return self.dossier
        if self.payment(uetr) is None:
            return None
        if clear is not None and clear != "all":
            clear = holder_of(self.chain.state, clear).lei
        asked = [each for each in (clear, checkpoint) if each is not None]
        return b"dossier of " + uetr + "".join(f" {x}" for x in asked).encode()

    def balance_proof(self, participant: str, asset: str, kind: str, height: int | None) -> bytes:
        if self.given is not None:
            return self.given
        if self.proven is not None:
            return balance_proof(*self.proven, (participant, asset, kind), height)
        lei = holder_of(self.chain.state, participant).lei
        return f"balance of {lei} {asset} {kind} at {height}".encode()

    def absence_proof(self, uetr: bytes, start: int | None, end: int | None) -> bytes:
        if self.given is not None:
            return self.given
        if self.proven is not None:
            return absence_proof(self.proven[0], uetr, start, end)
        return f"absence of {uetr.hex()} from {start} to {end}".encode()

    async def _next_news(self, news: asyncio.Event) -> None:
        self.watchers += 1
        self._watching.set()
        try:
            await news.wait()
        finally:
            self.watchers -= 1
            self._watching.set()

    async def until_watchers(self, count: int) -> None:
        """Return once so many long polls and streams wait."""
        while self.watchers != count:
            self._watching.clear()
            await self._watching.wait()

    # --- the ledger ---------------------------------------------------------------------------

    def accounts(self, participant: str | None) -> AccountsView:
        return accounts_view(self.chain.state, participant)

    def participants(self) -> list[ParticipantView]:
        return participants_view(self.chain.state)

    def assets(self) -> list[AssetView]:
        return assets_view(self.chain.state)

    def parameters(self) -> ParametersView:
        return parameters_view(self.chain.state)

    def validators(self) -> ValidatorsView:
        return validators_view(self.chain.state)

    def proposals(self) -> list[ProposalView]:
        return proposals_view(self.chain.state)

    def equivocations(self) -> list[EquivocationView]:
        return equivocations_view(self.chain.state)

    def equivocation_proof(self, epoch: int, view: int, validator: str) -> bytes:
        found = self.proofs.get((epoch, view, validator))
        if found is None:
            raise Refused("unknown-equivocation", f"no equivocation of validator {validator}")
        return found

    def instruction(self, sender: str, id: str) -> InstructionView | None:
        return instruction_view(
            self.chain.state,
            lambda height: self.chain.blocks[height - 1].applied.outcomes,
            sender,
            id,
        )

    async def wait_instruction(
        self, sender: str, id: str, timeout: float
    ) -> InstructionView | None:
        try:
            async with asyncio.timeout(timeout):
                while True:
                    news = self.news
                    found = self.instruction(sender, id)
                    if found is not None:
                        return found
                    await self._next_news(news)
        except TimeoutError:
            return None

    def height(self) -> int:
        return self.chain.state.height

    def block(self, height: int) -> BlockView | None:
        if not 0 <= height <= self.height():
            return None
        header = self.chain.blocks[height - 1].header if height else self.chain.genesis.header
        digest = self.chain.blocks[height - 1].digest if height else header.parent
        signature = SignatureView(validator=0, name="node0", signature="00" * 64)
        certificate = CertificateView(
            epoch=0,
            view=header.view,
            kind="finalization",
            parent_view=max(header.view - 1, 0),
            block=digest.hex(),
            height=height,
            signatures=[signature],
        )
        return block_view(header, digest, certificate if height else None)

    # --- the node -----------------------------------------------------------------------------

    def kept_from(self) -> int:
        return 0

    def status(self) -> StatusView:
        state = self.chain.state
        return StatusView(
            node=self.name,
            chain_id=self.chain_id.hex(),
            network=self.world.genesis.network,
            devnet=True,
            version="0",
            height=state.height,
            block=state.digest.hex(),
            time=state.time,
            epoch=0,
            view=state.height,
            leader="node0",
            validator=0,
            signing=True,
            alarm=None,
            peers=[PeerView(name="node1", index=1, connected=False, detail="refused")],
            mempool=MempoolView(instructions=len(self.waiting), payments=0, bytes=0),
        )

    async def events(self, after: tuple[int, int] | None) -> AsyncIterator[EventView]:
        height, index = (self.height() + 1, -1) if after is None else after
        while True:
            news = self.news
            while height <= self.height():
                outcomes = self.chain.blocks[height - 1].outcomes if height else []
                for position, outcome in enumerate(outcomes):
                    if position > index:
                        yield event_view(position, outcome, self.chain.state)
                height, index = height + 1, -1
            await self._next_news(news)

    def metrics(self) -> str:
        return f"nostro_height {self.height()}\n"

    def ready(self) -> tuple[bool, str]:
        return self.is_ready


class ThreadedNode:
    """A fake node with its server on an event loop of its own: for commands, which run theirs."""

    def __init__(self, world: World) -> None:
        self.node = FakeNode(world)
        self.server = ApiServer(self.node)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return self.server.url

    def __enter__(self) -> ThreadedNode:
        self._thread.start()
        self.wait_for(self.server.start)
        return self

    def __exit__(self, *_: object) -> None:
        self.wait_for(self.server.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wait_for(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run something on the node's own loop and give its result."""

        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def do(self, work: Callable[[], T]) -> T:
        """Call something of the node on its own loop."""

        async def run() -> T:
            return work()

        return self.wait_for(run)
