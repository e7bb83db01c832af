"""What the HTTP API needs from a running node, and the documents it answers with.

`NodeService` is the only border between the API and the node: the API never sees the ledger,
the store or the consensus core, and the tests drive the same server with a twin. The view types
*are* the JSON documents: field names are the ones users script against, amounts are decimal
strings in the asset's exponent (`node.api.amounts`), digests and keys are lower-case hex, UETRs
are lower-case UUID text, times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from node.api.governance import (
    EquivocationView,
    InstructionView,
    ProposalView,
    ValidatorsView,
)
from node.api.settlement import EventDocument
from node.api.settlement_service import SettlementService
from node.chain.types import Receipt

MAX_BATCH_ITEMS = 1_000
"""Instructions in one `NodeService.submit` call."""
MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Bytes of a submission's body, all its instructions together."""
MAX_WAIT_SECONDS = 60.0
"""Longest wait of one `NodeService.wait_payment` call."""

Finality = Literal["not submitted", "unknown", "final"]
"""What a refused request means for the outcome of what was asked:

*not submitted*: nothing of it was taken in, sending it again cannot pay twice;
*unknown*: it may have been taken in, ask for the payment before doing anything else;
*final*: the ledger has an outcome for it already and that one stands."""


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """Options shared by all documents."""


class ChangeView(_View, frozen=True, kw_only=True):
    """One outcome of a payment."""

    status: str
    """A word of the life of a payment: `settled`, `rejected`, `queued`, `held`, `accepted`,
    `reserved`, `posted`, `cancelled`, `expired`, `voided`."""
    iso_status: str
    """ISO 20022 ExternalPaymentTransactionStatus, such as `ACSC`."""
    reason: str | None
    """ISO 20022 ExternalStatusReason: of a rejection, an expiry, a wait, such as `AM04`."""
    because: str | None = None
    """The reason as a sentence."""
    height: int
    index: tuple[int, int] | None
    """[instruction, payment] in that block: whose outcome it is, or what brought the change about;
    null where time, a link or resolution did."""
    time: int
    """Block time."""
    position: int | None = None
    """Among the outcomes of the block: with `height` it names the event."""
    outcome: str | None = None
    """Leaf hash of the outcome, hex: what a creditor acknowledges."""
    debtor_balance: str | None = None
    """After it; null where no account was debited."""
    creditor_balance: str | None = None
    event: EventDocument | None = None
    """What it says besides, such as `{"kind": "posted", "amount": "10.00"}`."""
    acknowledged: int | None = None
    """Height at which the creditor acknowledged this outcome."""
    preimage: str | None = None
    """Hex: what was shown to post a reservation under its hash lock; it opens the other side of an
    exchange."""


class PaymentView(_View, frozen=True, kw_only=True):
    """What the ledger holds final about one UETR."""

    uetr: str
    status: str
    """A word of the life of a payment, see `ChangeView.status`."""
    reason: str | None
    """ISO 20022 reason of a rejection, an expiry or a wait."""
    height: int
    """Block of its last change."""
    index: tuple[int, int] | None
    """[instruction, payment] in that block; null where no instruction made the change."""
    settled_at: int | None
    """Block time of settlement; None if not settled."""
    latency_ms: int | None = None
    """From submission to known finality, where the answering side has seen both."""
    kind: str | None = None
    """`pay`, `issue`, `redeem`, `move`, `reserve`, `return` or `link`."""
    debtor: str | None = None
    """LEI; None where nobody is debited."""
    debtor_account: str | None = None
    creditor: str | None = None
    """LEI; None where nobody is credited."""
    creditor_account: str | None = None
    currency: str | None = None
    amount: str | None = None
    """Decimal string in the currency's exponent."""
    digest: str | None = None
    """The payment's leaf hash (or what the ledger compares for an issue, redemption or move), hex:
    a client sees by it that the outcome is of the very payment that it signed."""
    payment: str | None = None
    """Canonical bytes of the payment, hex; null where there is none, or its block was pruned."""
    previous: str | None = None
    """UETR of the payment that it carries on or gives back."""
    cycle: int | None = None
    """The clearing cycle that decides it."""
    returned: str | None = None
    """Given back for good; null: nothing was."""
    returnable: str | None = None
    """What may still be given back; null where it did not settle."""
    recall: str | None = None
    """`asked`, `refused` or `returned`."""
    changes: list[ChangeView] = []
    """Every outcome, oldest first."""


class BalanceView(_View, frozen=True, kw_only=True):
    participant: str
    """Short name."""
    lei: str
    account: str
    """Kind of the account: `settlement`, `client-reserve`, `collateral`, `margin`, `fund`,
    `capital`."""
    asset: str
    amount: str
    """Balance, decimal string; negative: drawn intraday credit."""
    available: str
    """Balance − reserved + credit line, decimal string."""
    reserved: str = "0"
    """Set aside for reservations and for a closed cycle."""
    line: str = "0"
    """Intraday credit line."""
    drawn: str = "0"
    """How much of it is used."""


class AccountsView(_View, frozen=True, kw_only=True):
    height: int
    """The final height that all the balances belong to."""
    balances: list[BalanceView]
    """Ascending by (participant, account, asset)."""


class KeyView(_View, frozen=True, kw_only=True):
    public_key: str
    valid_from: int
    """First height at which the key may sign."""
    revoked_from: int | None
    """First height at which it may no longer."""


class SweepView(_View, frozen=True, kw_only=True):
    """At close of day all that is available goes to another participant."""

    asset: str
    to: str
    """LEI."""


class ParticipantView(_View, frozen=True, kw_only=True):
    name: str
    lei: str
    bic: str
    roles: list[str]
    threshold: int
    """How many distinct valid keys must sign an instruction."""
    keys: list[KeyView]
    approvals: int = 0
    """Of an operator: how many of its keys count for one proposal."""
    sponsor: str | None = None
    """LEI of who pays and queues for it, if it is an indirect participant."""
    suspended: bool = False
    closed: bool = False
    debit_frozen: bool = False
    credit_frozen: bool = False
    fifo_bypass: bool = False
    """A payment that can settle at entry passes waiting ones."""
    sweeps: list[SweepView] = []


class AssetView(_View, frozen=True, kw_only=True):
    code: str
    exponent: int
    """Decimal places of the minor unit."""
    issuer: str
    """LEI."""
    issued: str
    """Since genesis, decimal string."""
    redeemed: str
    security: bool = False
    """A security, by its ISIN; else a currency."""


class ParametersView(_View, frozen=True, kw_only=True):
    """What the ledger goes by from the next block on."""

    height: int
    """Of the last final block."""
    uetr_window_ms: int
    governance_threshold: int
    readiness_ms: int
    close_rule: str
    """`expire` or `roll-over`."""
    rules: int
    """Version of the rules."""


class SignatureView(_View, frozen=True, kw_only=True):
    validator: int
    """Index in the validator set."""
    name: str
    signature: str


class CertificateView(_View, frozen=True, kw_only=True):
    """A finalization: of the block itself, or of a later block whose ancestry includes it."""

    epoch: int
    view: int
    kind: str
    """`finalization`."""
    parent_view: int
    block: str
    """Digest of the header that the votes name."""
    height: int
    """Height of that block: at or above the height asked for."""
    signatures: list[SignatureView]


class BlockView(_View, frozen=True, kw_only=True):
    """The header of a final block, with its certificate."""

    height: int
    digest: str
    version: int
    chain_id: str
    epoch: int
    view: int
    parent: str
    timestamp: int
    proposer: int
    instructions_count: int
    instructions_root: str
    outcomes_count: int
    outcomes_root: str
    state_root: str
    history_root: str
    validator_set: str
    next_validator_set: str
    certificate: CertificateView | None
    """None for the genesis block, which is final by definition."""


class PeerView(_View, frozen=True, kw_only=True):
    name: str
    index: int
    connected: bool
    detail: str = ""
    """Why the link is down, where that is known."""
    since: int | None = None
    """When the link came up or went down, by this node's clock, ms since the epoch; its start for
    a link that was never up."""


class GivenUpView(_View, frozen=True, kw_only=True):
    """A view that ended in a nullification: a quorum gave up waiting for its leader's block."""

    view: int
    leader: str


class MempoolView(_View, frozen=True, kw_only=True):
    instructions: int
    payments: int
    bytes: int


class SourceView(_View, frozen=True, kw_only=True):
    """A node that an observer gets the chain from."""

    url: str
    connected: bool
    """Whether its last answer was of use."""
    since: int
    """When `connected` became what it is, by this node's clock, ms since the epoch."""
    detail: str
    """Why it was left the last time."""
    received_bytes: int


class FollowsView(_View, frozen=True, kw_only=True):
    """How an observer keeps up."""

    syncing: bool
    """Whether a source has shown final blocks that this node does not hold yet."""
    target: int
    """The highest height that a source has shown final."""
    source: str | None
    """The URL that is followed; null while none answers."""
    sources: list[SourceView]


class StatusView(_View, frozen=True, kw_only=True):
    node: str
    """Short name of this node."""
    chain_id: str
    network: str
    devnet: bool
    version: str
    """Of the software."""
    height: int
    """Last final height."""
    block: str
    """Its digest."""
    time: int
    """Its block time."""
    epoch: int
    view: int
    leader: str
    """Name of the current view's leader."""
    validator: int | None
    """Own index in the validator set; None for an observer."""
    signing: bool
    """False where this node does not vote: an observer, or one that stopped itself."""
    alarm: str | None
    """Why it stopped, for the operator."""
    peers: list[PeerView]
    mempool: MempoolView
    finalized_at: int | None = None
    """When this node last stored a final block, by its own clock, ms since the epoch; null if it
    did not since it started."""
    given_up: list[GivenUpView] = []
    """The latest views given up since then, at most 8, oldest first."""
    follows: FollowsView | None = None
    """Of an observer; null for a validator."""
    kept_from: int = 0
    """Lowest height whose block is held here; above 0 where the node prunes, or began with a
    snapshot."""


class EventView(_View, frozen=True, kw_only=True):
    """One outcome, as the event stream tells it."""

    height: int
    index: int
    """Position among the outcomes of the block: with `height` it names the event."""
    instruction: int | None
    """Whose outcome it is, or what brought it about; null: time, a link or resolution did."""
    payment: int
    time: int
    uetr: str | None
    status: str
    """A word of the life of a payment, or `done` for an instruction that moves no money."""
    iso_status: str
    reason: str | None
    event: EventDocument | None = None
    """What it says besides; amounts only where the event itself names their asset."""


@dataclass(frozen=True, slots=True)
class SubmissionRefused:
    """An instruction that the node did not take in, or could not say that it did."""

    code: str
    """Stable word that ends the problem's type URN (`node.api.problems.PROBLEMS`)."""
    detail: str
    """What is wrong with this instruction and what to do, one or two sentences."""
    outcome: Finality = "not submitted"


class UnknownParticipant(Exception):
    """No participant has this short name, LEI or BIC."""

    def __init__(self, given: str) -> None:
        super().__init__(f"no participant is named {given!r}")
        self.given = given


class EventsUnavailable(Exception):
    """The events after this position cannot be told: it lies beyond the last final height."""


class NodeService(Protocol):
    """A running node, as its API sees it. All calls are made on the node's own event loop."""

    @property
    def name(self) -> str:
        """Short name of the node."""

    @property
    def chain_id(self) -> bytes: ...

    @property
    def genesis_bytes(self) -> bytes:
        """The exact bytes of the genesis file: the chain id is their digest."""

    async def submit(self, raw: Sequence[bytes]) -> list[Receipt | SubmissionRefused]:
        """Take in canonical signed instructions, at most MAX_BATCH_ITEMS; answers in order.

        A receipt is given only once the instruction is durable here.
        """

    def payment(self, uetr: bytes) -> PaymentView | None:
        """What is final about a UETR; None: this node knows no such UETR as final."""

    def payments(self, uetrs: Sequence[bytes]) -> list[PaymentView | None]:
        """Like `payment` for many at once, from the UETR index alone: without what only the
        block's body tells (kind, debtor, creditor, currency, amount)."""

    async def wait_payment(self, uetr: bytes, timeout: float) -> PaymentView | None:
        """Like `payment`, but returns as soon as it is final, or None after `timeout` seconds."""

    def accounts(self, participant: str | None) -> AccountsView:
        """Balances at the last final height, of one participant (short name, LEI or BIC) or all.

        Raises UnknownParticipant.
        """

    def participants(self) -> list[ParticipantView]:
        """All participants, ascending by short name."""

    def assets(self) -> list[AssetView]:
        """All assets, ascending by code."""

    def validators(self) -> ValidatorsView:
        """The validators in force after the last final block, and those of a pending epoch."""

    def proposals(self) -> list[ProposalView]:
        """Open proposals, by id."""

    def equivocations(self) -> list[EquivocationView]:
        """Proven equivocations, by epoch, view and validator."""

    def equivocation_proof(self, epoch: int, view: int, validator: str) -> bytes:
        """The proof of one that the ledger holds, or that this node has seen itself; the validator
        by name or index. Raises Refused (unknown-equivocation, pruned)."""

    def instruction(self, sender: str, id: str) -> InstructionView | None:
        """What became of an instruction, by LEI and id; None: none is final and remembered."""

    async def wait_instruction(
        self, sender: str, id: str, timeout: float
    ) -> InstructionView | None:
        """Like `instruction`, but returns as soon as it is final, or None after `timeout`
        seconds."""

    def parameters(self) -> ParametersView:
        """What the ledger goes by from the next block on."""

    @property
    def settlement(self) -> SettlementService:
        """Queues, credit, netting, links, days, statements, traces."""

    def block(self, height: int) -> BlockView | None:
        """A final block; None where none is final at this height."""

    def height(self) -> int:
        """Last final height."""

    def kept_from(self) -> int:
        """Lowest height whose blocks and outcomes this node holds: 0 for an archive."""

    def status(self) -> StatusView: ...

    def evidence(
        self, uetr: bytes, clear: str | None = None, checkpoint: int | None = None
    ) -> bytes | None:
        """The dossier of a final payment; None like `payment`.

        `clear`: a participant (short name, LEI or BIC) that sees its own payments among those that
        settled together, or `all`. `checkpoint`: height of a block to be placed in the history.
        Takes no part in the event loop's work: to be called in another thread. Raises Refused
        (pruned, too-large, unknown-block), UnknownParticipant."""

    def balance_proof(self, participant: str, asset: str, kind: str, height: int | None) -> bytes:
        """The proof of what an account (participant: short name, LEI or BIC) held after a block;
        None: the last final one. To be called in another thread. Raises Refused (bad-parameter,
        unknown-block, pruned), UnknownParticipant."""

    def absence_proof(self, uetr: bytes, start: int | None, end: int | None) -> bytes:
        """The proof that no outcome from time `start` to before `end` (milliseconds since the Unix
        epoch; None: as far as can be shown) names a UETR. To be called in another thread. Raises
        Refused (uetr-used, not-covered, too-large, pruned)."""

    def events(self, after: tuple[int, int] | None) -> AsyncIterator[EventView]:
        """Every outcome after (height, index) in order, then new ones as they become final.

        None starts after the last final height. Never ends by itself. Raises EventsUnavailable
        from the first step.
        """

    def metrics(self) -> str:
        """Prometheus text exposition format 0.0.4."""

    def ready(self) -> tuple[bool, str]:
        """Whether the node can take in instructions and finalize them, and why not."""
