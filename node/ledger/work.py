"""The state while one block executes: reads fall through to the parent, writes stay here.

Nothing here is visible to anybody until `seal`, which checks that no money appeared or vanished
and makes the block's outcome tree, its changed records and the new `State`. A block that turns
out bad is just dropped with its `Work`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from node.chain import merkle
from node.chain.block import outcomes_root
from node.chain.encoding import encode
from node.chain.records import (
    AssetRecord,
    EpochRecord,
    EquivocationRecord,
    PendingEpoch,
    ProposalRecord,
    ValidatorKeyRecord,
)
from node.chain.types import Outcome, OutcomePlace, ValidatorSet
from node.ledger.entries import InstructionEntry, UetrEntry
from node.ledger.governed import Governed
from node.ledger.reasons import REJECTED, SETTLED, WITHOUT_AUTHORITY
from node.ledger.state import (
    BookId,
    ConservationBroken,
    Layer,
    Participant,
    State,
    account_key,
    account_record,
    asset_key,
    participant_key,
)


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What a block's execution depends on besides its parent and its instructions."""

    height: int
    time: int
    """The block's timestamp, milliseconds since the Unix epoch."""


@dataclass(slots=True)
class Applied:
    """What one block did: its roots, its outcomes, and everything that storage keeps of it."""

    context: BlockContext
    outcomes: list[bytes]
    """Canonical `Outcome`s, in the order of `outcomes_root`."""
    outcomes_root: bytes
    state_root: bytes
    history_root: bytes
    """Over the header digests below this block's."""
    state: State
    records: dict[bytes, bytes | None]
    """State key → record after the block, for each that changed; None: removed."""
    nodes: list[tuple[bytes, bytes]]
    """New nodes of the authenticated map, by hash."""
    ids: list[InstructionEntry]
    uetrs: list[UetrEntry]
    """Entries that replace what was stored under their UETR."""
    next_validators: ValidatorSet | None = None
    """Of the next epoch, where this block is the last of its own; else None."""
    history_nodes: list[tuple[tuple[int, int], bytes]] = field(default_factory=list)
    """((level, index), hash) that this block's header completes; empty until `seal`."""
    _history: merkle.Frontier = field(default_factory=merkle.Frontier)

    def seal(self, header_digest: bytes) -> None:
        """Name the block's header, which commits to these roots. Before that the state has no
        children and cannot be committed."""
        history, self.history_nodes = self._history.append(merkle.history_leaf(header_digest))
        self.state.seal(header_digest, history)


Undo = list[tuple[dict[str, int], str, int | None]]
"""(book, participant, balance before), in the order of the moves."""


def take_back(moves: Undo) -> None:
    """Restore every balance to what it was before the moves."""
    for balances, participant, before in reversed(moves):
        if before is None:
            del balances[participant]
        else:
            balances[participant] = before


class Book:
    """The accounts of one asset and kind within a block."""

    __slots__ = ("_book", "_parent", "balances", "before")

    def __init__(self, parent: State, book: BookId) -> None:
        self._parent = parent
        self._book = book
        self.balances: dict[str, int] = {}
        """Accounts looked at so far, as they stand now; all that exist are found by `load`."""
        self.before: dict[str, int | None] = {}
        """The same as the parent has them."""

    def load(self, participant: str) -> int | None:
        """The balance now; None where there is no account. `balances` alone is faster."""
        balance = self.balances.get(participant)
        if balance is not None or participant in self.before:
            return balance
        asset, kind = self._book
        balance = self._parent.balance(participant, asset, kind)
        self.before[participant] = balance
        if balance is not None:
            self.balances[participant] = balance
        return balance

    def changed(self) -> dict[str, int]:
        """Accounts whose balance differs from the parent's, also new ones."""
        before = self.before
        return {each: now for each, now in self.balances.items() if before[each] != now}


class Work:
    """A block in execution on `parent`."""

    __slots__ = (
        "_accounts_of",
        "_assets",
        "_books",
        "_governed",
        "_ids",
        "_keys",
        "_participants",
        "context",
        "outcomes",
        "parent",
        "uetrs",
        "window",
    )

    def __init__(self, parent: State, context: BlockContext) -> None:
        parent.require_live()
        assert context.height == parent.height + 1
        assert context.time > parent.time
        self.parent = parent
        self.context = context
        self.window = parent.parameters.uetr_window_ms
        self.outcomes: list[bytes] = []
        self.uetrs: dict[bytes, UetrEntry] = {}
        self._ids: dict[tuple[str, str], InstructionEntry] = {}
        self._books: dict[BookId, Book] = {}
        self._assets: dict[str, AssetRecord] = {}
        self._participants: dict[str, Participant] = {}
        self._keys: dict[bytes, str] = {}
        self._governed: Governed | None = None
        self._accounts_of: dict[str, bool | None] = {}

    # --- reading --------------------------------------------------------------------------------

    def participant(self, lei: str) -> Participant | None:
        """As the instructions so far leave it; None: there is none with this LEI."""
        return self._participants.get(lei) or self.parent.participant(lei)

    def asset(self, code: str) -> AssetRecord | None:
        """As the instructions so far leave it; None: there is none with this code."""
        return self._assets.get(code) or self.parent.asset(code)

    def key_holder(self, public_key: bytes) -> str | None:
        """LEI of the participant under which this key is or was registered, as its own or as a
        key of a validator that it operates."""
        return self._keys.get(public_key) or self.parent.key_holder(public_key)

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        """The latest executed instruction under (sender, id), also of this block."""
        return self._ids.get((sender, id)) or self.parent.instruction(sender, id)

    def may_hold(self, lei: str) -> bool | None:
        """Whether this participant may have an account; None: there is no such participant."""
        try:
            return self._accounts_of[lei]
        except KeyError:
            found = self.participant(lei)
            answer = self._accounts_of[lei] = None if found is None else found.holds_accounts
            return answer

    def book(self, asset: str, kind: int) -> Book:
        """The accounts of an asset and kind, of which each block works on one copy."""
        found = self._books.get((asset, kind))
        if found is None:
            found = self._books[asset, kind] = Book(self.parent, (asset, kind))
        return found

    def uetr_finders(self) -> list[Callable[[bytes], UetrEntry | None]]:
        """Where to look for a UETR, newest first: this block, the unfinalized ones, storage."""
        return [self.uetrs.get, *self.parent.uetr_finders()]

    def stands(self, entry: UetrEntry) -> bool:
        """Whether the outcome still uses up its UETR."""
        return self.context.time - entry.time <= self.window

    def standing(self, uetr: bytes) -> UetrEntry | None:
        """The outcome that uses up this UETR."""
        for find in self.uetr_finders():
            entry = find(uetr)
            if entry is not None:
                return entry if self.stands(entry) else None
        return None

    # --- governance -----------------------------------------------------------------------------

    @property
    def epoch_record(self) -> EpochRecord:
        """This block's epoch, and the pending one as the instructions so far leave it."""
        changed = self._governed
        if changed is not None and changed.epoch is not None:
            return changed.epoch
        return self.parent.epoch_record

    @property
    def validator_set(self) -> ValidatorSet:
        """The set in force for this block."""
        return self.parent.validator_set

    def validator_set_of(self, epoch: int) -> ValidatorSet | None:
        """The set of an epoch up to this block's; None for one that has not begun."""
        return self.parent.validator_set_of(epoch)

    @property
    def pending_epoch(self) -> PendingEpoch | None:
        """The approved next epoch, if there is one."""
        return self.epoch_record.pending

    def proposal(self, id: bytes) -> ProposalRecord | None:
        """The proposal with this id, as the instructions so far leave it."""
        changed = self._governed
        if changed is not None and id in changed.proposals:
            return changed.proposals[id]
        return self.parent.proposal(id)

    def stored_proposals(self) -> list[ProposalRecord]:
        """Every proposal in the state, also expired ones, by id."""
        merged: dict[bytes, ProposalRecord | None] = {
            each.id: each for each in self.parent.stored_proposals()
        }
        if self._governed is not None:
            merged.update(self._governed.proposals)
        return [found for _, found in sorted(merged.items()) if found is not None]

    def equivocation(self, epoch: int, view: int, voter: int) -> EquivocationRecord | None:
        """The proof against this voter in this view, also of this block."""
        found = None
        if self._governed is not None:
            found = self._governed.equivocations.get((epoch, view, voter))
        return found or self.parent.equivocation(epoch, view, voter)

    def reports_against(self, epoch: int, voter: int) -> int:
        """How many equivocations of this voter are proven, also by this block."""
        found = None
        if self._governed is not None:
            found = self._governed.reports.get((epoch, voter))
        return self.parent.reports_against(epoch, voter) if found is None else found

    def _governing(self) -> Governed:
        if self._governed is None:
            self._governed = Governed()
        return self._governed

    def put_epoch(self, record: EpochRecord) -> None:
        """Replace the epoch record."""
        self._governing().epoch = record

    def put_validator_set(self, validators: ValidatorSet) -> None:
        """Note the set of the next epoch."""
        self._governing().sets[validators.epoch] = validators

    def put_validator_key(self, use: ValidatorKeyRecord) -> None:
        """Note a validator's key, for ever."""
        self._governing().keys[use.public_key] = use
        self._keys[use.public_key] = use.operator

    def put_proposal(self, proposal: ProposalRecord) -> None:
        """Open a proposal or replace its record."""
        self._governing().proposals[proposal.id] = proposal

    def close_proposal(self, id: bytes) -> None:
        """Remove a proposal."""
        changed = self._governing().proposals
        if self.parent.proposal(id) is None:
            changed.pop(id, None)  # opened in this block: the state never had it
        else:
            changed[id] = None

    def put_equivocation(self, proven: EquivocationRecord) -> None:
        """Note a proof, for ever."""
        vote = proven.first
        reports = self.reports_against(vote.epoch, vote.voter) + 1
        self._governing().put_equivocation(proven, reports)

    # --- writing --------------------------------------------------------------------------------

    def put_participant(self, changed: Participant) -> None:
        """Replace a participant's record."""
        self._participants[changed.record.lei] = changed

    def put_key(self, public_key: bytes, holder: str) -> None:
        """Note under whom a key is registered from now on."""
        self._keys[public_key] = holder

    def put_asset(self, changed: AssetRecord) -> None:
        """Replace an asset's record."""
        self._assets[changed.code] = changed

    def put_id(self, entry: InstructionEntry) -> None:
        """Note an executed instruction."""
        self._ids[entry.sender, entry.id] = entry

    def record(
        self,
        instruction: int,
        uetr: bytes | None,
        digest: bytes,
        *,
        reason: str | None,
        standing: UetrEntry | None,
        debtor_balance: int | None = None,
        creditor_balance: int | None = None,
    ) -> None:
        """Record the outcome of an instruction that is not a `Pay`.

        `standing` is the outcome that already uses up its UETR: without a `reason` it is
        repeated. A rejection `WITHOUT_AUTHORITY` uses up none.
        """
        height, time = self.context.height, self.context.time
        status, original = (SETTLED if reason is None else REJECTED), None
        if standing is not None and reason is None:
            status, reason = standing.status, standing.reason
            original = OutcomePlace(standing.height, standing.instruction, standing.payment)
        outcome = Outcome(
            height,
            time,
            instruction,
            0,
            uetr,
            status,
            reason,
            debtor_balance,
            creditor_balance,
            original,
        )
        self.outcomes.append(encode(outcome))
        if uetr is not None and standing is None and reason not in WITHOUT_AUTHORITY:
            self.uetrs[uetr] = UetrEntry(uetr, digest, time, height, instruction, 0, status, reason)

    # --- the end of the block -------------------------------------------------------------------

    def seal(self, next_validators: ValidatorSet | None = None) -> Applied:
        """Check the block's invariants and make its roots and its state.

        `next_validators`: of the epoch that follows this block, if it is the last of its own."""
        layer = self._layer()
        self._check_conservation(layer)
        records = _records(layer)
        parent = self.parent
        state_map = parent.map.update(records)
        return Applied(
            context=self.context,
            outcomes=self.outcomes,
            outcomes_root=outcomes_root(self.outcomes),
            state_root=state_map.root,
            history_root=parent.history.root(),
            state=parent.child(layer, self.context.height, self.context.time, state_map),
            records=records,
            nodes=list(state_map.nodes_since(parent.map)),
            ids=list(self._ids.values()),
            uetrs=list(self.uetrs.values()),
            next_validators=next_validators,
            _history=parent.history,
        )

    def _layer(self) -> Layer:
        layer = Layer()
        for name, book in self._books.items():
            changed = book.changed()
            if changed:
                layer.balances[name] = changed
        layer.participants = self._participants
        layer.assets = self._assets
        layer.keys = self._keys
        layer.ids = self._ids
        layer.uetrs = self.uetrs
        if self._governed is not None and not self._governed.is_empty():
            layer.governed = self._governed
        return layer

    def _check_conservation(self, layer: Layer) -> None:
        """What was issued less what was redeemed in this block is what its accounts gained."""
        gained = dict.fromkeys(layer.assets, 0)
        for (asset, kind), changed in layer.balances.items():
            before = self._books[asset, kind].before
            gained[asset] = gained.get(asset, 0) + sum(
                now - (before[each] or 0) for each, now in changed.items()
            )
            if min(changed.values()) < 0:
                raise ConservationBroken(f"a balance of {asset} below zero")
        for asset, gain in gained.items():
            old, new = self.parent.asset(asset), self.asset(asset)
            if old is None or new is None:
                raise ConservationBroken(f"accounts hold {asset}, which is no asset")
            created = (new.issued - new.redeemed) - (old.issued - old.redeemed)
            if gain != created:
                raise ConservationBroken(
                    f"{asset} at height {self.context.height}: accounts gained {gain}, "
                    f"issued less redeemed is {created}"
                )


def _records(layer: Layer) -> dict[bytes, bytes | None]:
    records: dict[bytes, bytes | None] = {}
    for (asset, kind), changed in layer.balances.items():
        for participant, balance in changed.items():
            records[account_key(participant, asset, kind)] = account_record(balance)
    records.update(_encoded((asset_key(code), each) for code, each in layer.assets.items()))
    records.update(
        _encoded((participant_key(lei), each.record) for lei, each in layer.participants.items())
    )
    if layer.governed is not None:
        records.update(layer.governed.records())
    return records


def _encoded(records: Iterable[tuple[bytes, object]]) -> dict[bytes, bytes]:
    return {key: encode(record) for key, record in records}
