"""The state while one block executes: reads fall through to the parent, writes stay here.

Nothing here is visible to anybody until `seal`, which checks that no money appeared or vanished
and makes the block's outcome tree, its changed records and the new `State`. A block that turns
out bad is just dropped with its `Work`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.structs import replace

from node.chain import merkle
from node.chain.block import outcomes_root
from node.chain.encoding import encode
from node.chain.records import (
    AssetRecord,
    DayKey,
    EpochRecord,
    EquivocationRecord,
    LedgerKey,
    LedgerRecord,
    LimitsKey,
    ParametersRecord,
    PendingEpoch,
    ProposalRecord,
    ValidatorKeyRecord,
)
from node.chain.types import Event, Outcome, OutcomePlace, Phase, ValidatorSet
from node.ledger.due import Due
from node.ledger.entries import ClosedEntry, InstructionEntry, JoinedEntry, UetrEntry
from node.ledger.governed import Governed
from node.ledger.open_cycle import OpenCycle
from node.ledger.queue import AccountId, Queue
from node.ledger.reasons import REJECTED, SETTLED, WITHOUT_AUTHORITY
from node.ledger.state import (
    PARAMETERS_KEY,
    BookId,
    ConservationBroken,
    Holding,
    Layer,
    Participant,
    State,
    account_key,
    account_record,
    asset_key,
    participant_key,
)
from node.ledger.tables import (
    DAY,
    LEDGER,
    LIMITS,
    LINKS,
    PAYMENTS,
    PLEDGES,
    AnyTable,
    K,
    R,
    Rows,
    Table,
    sort_key,
)

CAREFULLY, PLAIN, STIRRING = 0, 1, 2
"""Answers of `Work.creditor`."""
_NOBODY: set[tuple[str, int]] = set()


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
    changes: list[tuple[bytes, int]] = field(default_factory=list)
    """(UETR, index of the outcome) of first outcomes that left a payment undecided and of all
    later ones, in order: how a payment's history is found."""
    following: list[tuple[bytes, bytes]] = field(default_factory=list)
    """(UETR, UETR of a payment that carries it on or gives it back)."""
    joined: list[JoinedEntry] = field(default_factory=list)
    """Payments that joined a clearing cycle, in order."""
    closed: list[ClosedEntry] = field(default_factory=list)
    """Clearing cycles that take no more payments."""
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


class Book:
    """The accounts of one asset and kind within a block."""

    __slots__ = ("_book", "_parent", "balances", "before", "held", "held_before", "top_line")

    def __init__(self, parent: State, book: BookId) -> None:
        self._parent = parent
        self._book = book
        self.balances: dict[str, int] = {}
        """Accounts looked at so far, as they stand now; all that exist are found by `load`."""
        self.before: dict[str, int | None] = {}
        """The same as the parent has them."""
        self.held: dict[str, Holding] = {}
        self.held_before: dict[str, Holding] = {}
        self.top_line: dict[str, int] = {}
        """The highest line that an account had in this block, where it was changed."""

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

    def holding(self, participant: str) -> Holding:
        """(reserved, line) now."""
        found = self.held.get(participant)
        if found is None:
            asset, kind = self._book
            found = self.held[participant] = self._parent.holding(participant, asset, kind)
            self.held_before[participant] = found
        return found

    def hold(self, participant: str, reserved: int, line: int) -> None:
        """Replace what the account holds back and its line."""
        assert reserved >= 0
        assert line >= 0
        _, before = self.holding(participant)
        self.held[participant] = reserved, line
        if line != before:
            self.top_line[participant] = max(self.top_line.get(participant, before), line)

    def available(self, participant: str) -> int:
        """Minor units that it can pay out now."""
        reserved, line = self.holding(participant)
        return (self.load(participant) or 0) - reserved + line

    def changed(self) -> dict[str, int]:
        """Accounts whose balance differs from the parent's, also new ones."""
        before = self.before
        return {each: now for each, now in self.balances.items() if before[each] != now}

    def changed_holdings(self) -> dict[str, Holding]:
        """Accounts that hold back another amount or have another line than for the parent."""
        before = self.held_before
        return {each: now for each, now in self.held.items() if before[each] != now}


class Mark(NamedTuple):
    """Rows as they stood at some point of a block."""

    participants: dict[str, Participant]
    assets: dict[str, AssetRecord]
    keys: dict[bytes, str]
    tables: dict[AnyTable, Rows]
    parameters: ParametersRecord | None
    due: int
    """Entries on the agenda."""
    outcomes: int


class Work:
    """A block in execution on `parent`."""

    __slots__ = (
        "_accounts_of",
        "_assets",
        "_books",
        "_creditors",
        "_governed",
        "_ids",
        "_keys",
        "_opened",
        "_parameters",
        "_participants",
        "_pledgers",
        "_queued",
        "_queues",
        "_tables",
        "changes",
        "closed",
        "context",
        "due",
        "ended_day",
        "following",
        "joined",
        "leaves",
        "made_tree",
        "named",
        "open_cycles",
        "outcomes",
        "parent",
        "resolutions",
        "stirred",
        "uetrs",
        "untreed",
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
        self.leaves: dict[int, bytes] = {}
        """Leaf hashes of outcomes, by index, where they were needed before the block's end."""
        self.uetrs: dict[bytes, UetrEntry] = {}
        self._ids: dict[tuple[str, str], InstructionEntry] = {}
        self._books: dict[BookId, Book] = {}
        self._assets: dict[str, AssetRecord] = {}
        self._participants: dict[str, Participant] = {}
        self._keys: dict[bytes, str] = {}
        self._governed: Governed | None = None
        self._accounts_of: dict[str, bool | None] = {}
        self._creditors: dict[str, dict[str, int]] = {}
        self._tables: dict[AnyTable, Rows] = {}
        self._queues: dict[AccountId, Queue] = {}
        self._queued: dict[str, set[tuple[str, int]]] | None = None
        self._parameters: ParametersRecord | None = None
        self._opened: Counter[str] | None = None
        self._pledgers: dict[tuple[str, str], set[str]] | None = None
        self.changes: list[tuple[bytes, int]] = []
        self.following: list[tuple[bytes, bytes]] = []
        self.joined: list[JoinedEntry] = []
        self.closed: list[ClosedEntry] = []
        self.due: list[Due] = []
        """What this block put on the agenda."""
        self.stirred: set[str] = set()
        """Assets in which something happened that may let a queued payment settle. Only asked for
        what it contains, never walked through unsorted."""
        self.open_cycles: dict[str, OpenCycle] = {}
        """By asset: cycles that net payments of this block may have joined. What their rows count
        is right once they are written: at the close, or when the block ends."""
        self.resolutions = 0
        """How often resolution ran in this block, for those who count."""
        self.named: list[bytes] = []
        """UETRs, of every outcome that names one."""
        self.untreed: list[bytes] = []
        """Those of them that a later tree will have (`uetr_trees`)."""
        self.made_tree = False
        """Whether a tree has all that outcomes named up to this block."""
        self.ended_day: int | None = None
        """Date, yyyymmdd, of the last business day whose close this block completed."""

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

    # --- rows, queues, agenda -------------------------------------------------------------------

    def get(self, table: Table[K, R], key: K) -> R | None:
        """The row under this key, as the block so far leaves it."""
        rows = self._tables.get(table)
        if rows is not None and key in rows:
            found: R | None = rows[key]
            return found
        return self.parent.get(table, key)

    def resident(self, table: AnyTable, key: Any) -> Any:
        """The row under this key, if it is kept in memory."""
        rows = self._tables.get(table)
        if rows is not None and key in rows:
            return rows[key]
        return self.parent.resident(table, key)

    def rows(self, table: Table[K, R]) -> list[tuple[K, R]]:
        """Every row that is kept in memory, ascending by key."""
        changed: dict[K, R | None] = self._tables.get(table, {})
        if not changed:
            return self.parent.rows(table)
        merged: dict[K, R | None] = dict(self.parent.rows(table))
        merged.update(changed)
        found = [(key, row) for key, row in merged.items() if row is not None and table.keeps(row)]
        return sorted(found, key=lambda each: sort_key(each[0]))

    def put(self, table: Table[K, R], key: K, row: R | None) -> None:
        """Replace a row, or remove it."""
        self._tables.setdefault(table, {})[key] = row
        if table is LIMITS:
            self._creditors.clear()

    def opened_links(self) -> Counter[str]:
        """How many open links each participant opened, counted once: whoever opens one in this
        block counts it here."""
        if self._opened is None:
            self._opened = Counter(link.opened_by for _, link in self.each_row(LINKS))
        return self._opened

    def own_rows(self, table: Table[K, R]) -> dict[K, R | None]:
        """The rows that this block changed, to be changed directly: `put` for thousands of them.
        None: removed."""
        assert table is not LIMITS
        rows: dict[K, R | None] = self._tables.setdefault(table, {})
        return rows

    def each_row(self, table: Table[K, R]) -> Iterator[tuple[K, R]]:
        """`rows` in no order and without a copy of all: to look for one, or to count."""
        changed: dict[K, R | None] = self._tables.get(table, {})
        for key, row in changed.items():
            if row is not None and table.keeps(row):
                yield key, row
        for key, kept in self.parent.each_row(table):
            if key not in changed:
                yield key, kept

    def participants(self) -> list[Participant]:
        """Every participant, by LEI, as the instructions so far leave it."""
        merged = {each.record.lei: each for each in self.parent.participants()}
        merged.update(self._participants)
        return [merged[lei] for lei in sorted(merged)]

    def assets(self) -> list[AssetRecord]:
        """Every asset, by code, as the instructions so far leave it."""
        merged = {each.code: each for each in self.parent.assets()}
        merged.update(self._assets)
        return [merged[code] for code in sorted(merged)]

    def mark(self) -> Mark:
        """What the rows that governance changes hold now, for `take_back`."""
        return Mark(
            self._participants.copy(),
            self._assets.copy(),
            self._keys.copy(),
            {table: rows.copy() for table, rows in self._tables.items() if table is not PAYMENTS},
            self._parameters,
            len(self.due),
            len(self.outcomes),
        )

    def take_back(self, mark: Mark) -> None:
        """Make it as if nothing had been put since `mark`. For rows alone: nothing was said and no
        money moved in between."""
        assert len(self.outcomes) == mark.outcomes, "what was said is not taken back"
        self._participants = mark.participants
        self._assets = mark.assets
        self._keys = mark.keys
        payments = self._tables.get(PAYMENTS)
        self._tables = mark.tables
        if payments is not None:
            self._tables[PAYMENTS] = payments
        self._parameters = mark.parameters
        del self.due[mark.due :]
        self._accounts_of.clear()
        self._creditors.clear()

    def forget(self, table: Table[K, R], key: K) -> None:
        """Take back a row that this block put where the parent has none."""
        del self._tables[table][key]

    def queue(self, account: AccountId) -> Queue | None:
        """The account's queue, not to be changed; None or an empty one: nothing is queued."""
        return self._queues.get(account) or self.parent.queue(account)

    def own_queue(self, account: AccountId) -> Queue:
        """The account's queue, to be changed: this block's own copy."""
        own = self._queues.get(account)
        if own is None:
            theirs = self.parent.queue(account)
            own = self._queues[account] = Queue() if theirs is None else theirs.copy()
        if self._queued is not None:
            self._queued.setdefault(account[1], set()).add((account[0], account[2]))
        self._creditors.clear()
        return own

    def queued_accounts(self) -> list[AccountId]:
        """Accounts with queued payments, ascending."""
        names = {*self.parent.queued_accounts(), *self._queues}
        return sorted(each for each in names if (found := self.queue(each)) and found.entries)

    def queued_in(self, asset: str) -> set[tuple[str, int]]:
        """(participant, kind) of the accounts of an asset that may have queued payments."""
        if self._queued is None:
            self._queued = {}
            for participant, of, kind in self.queued_accounts():
                self._queued.setdefault(of, set()).add((participant, kind))
        return self._queued.get(asset, _NOBODY)

    def pledgers(self, security: str, currency: str) -> set[str]:
        """LEIs of all that may have pledged this security for credit in this currency. Worked out
        once a block, since a day's prices come by the thousand."""
        if self._pledgers is None:
            self._pledgers = {}
            for key, _ in self.each_row(PLEDGES):
                self.note_pledger(key.security, key.currency, key.participant)
        return self._pledgers.get((security, currency), set())

    def note_pledger(self, security: str, currency: str, participant: str) -> None:
        """Note that a participant has pledged this security for credit in this currency."""
        if self._pledgers is not None:
            self._pledgers.setdefault((security, currency), set()).add(participant)

    def accounts(self) -> list[tuple[str, str, int]]:
        """(participant, asset, kind) of every account, ascending, also those of this block."""
        found = {(each.participant, each.asset, each.kind) for each in self.parent.accounts()}
        for (asset, kind), book in self._books.items():
            found.update((each, asset, kind) for each in book.changed())
            found.update((each, asset, kind) for each in book.changed_holdings())
        return sorted(found)

    def remind(self, items: Iterable[Due]) -> None:
        """Put entries on the agenda, for later: what is due by now is the caller's to do."""
        for item in items:
            assert item[0] > self.context.time, "on the agenda for a time that has passed"
            self.due.append(item)

    def stir(self, asset: str) -> None:
        """Note that something happened in this asset that may let a queued payment settle."""
        self.stirred.add(asset)

    def credited(self, participant: str, asset: str, kind: int) -> None:
        """Note that an account can pay more than before."""
        if (participant, kind) in self.queued_in(asset):
            self.stirred.add(asset)

    @property
    def ledger_record(self) -> LedgerRecord:
        """The next queue order and what the last block stirred."""
        return self.get(LEDGER, LedgerKey()) or LedgerRecord(0, ())

    def put_stirred(self, assets: Iterable[str]) -> None:
        """Say in which assets the next block has to look again."""
        changed = replace(self.ledger_record, stirred=tuple(sorted(assets)))
        self.put(LEDGER, LedgerKey(), changed)

    def put_reached(self, reached: Due | None) -> None:
        """Say up to where what is due is done; None: all of it."""
        caught_up = None if reached is None else self.caught_up
        changed = replace(self.ledger_record, reached=reached, caught_up=caught_up)
        if changed != self.ledger_record:
            self.put(LEDGER, LedgerKey(), changed)

    @property
    def caught_up(self) -> int:
        """Time of the last block before this one after which nothing was left that was due."""
        record = self.parent.get(LEDGER, LedgerKey())
        if record is None or record.caught_up is None:
            return self.parent.time
        return record.caught_up

    @property
    def is_behind(self) -> bool:
        """Whether more is due than this block can do: something may be undecided past its time."""
        return self.ledger_record.reached is not None

    def put_expiring(self, close: tuple[int, int] | None) -> None:
        """Say after which close queues still have to expire; None: after none."""
        self.put(LEDGER, LedgerKey(), replace(self.ledger_record, expiring=close))

    def next_order(self) -> int:
        """An order behind all given so far."""
        record = self.ledger_record
        self.put(LEDGER, LedgerKey(), replace(record, next_order=record.next_order + 1))
        return record.next_order

    @property
    def phase(self) -> Phase | None:
        """Of the operating day; None where there is none: always open."""
        day = self.get(DAY, DayKey())
        return None if day is None else day.phase

    @property
    def parameters(self) -> ParametersRecord:
        """In force for this block."""
        return self.parent.parameters

    @property
    def next_parameters(self) -> ParametersRecord:
        """For the block after this one."""
        return self._parameters or self.parent.parameters

    def put_parameters(self, changed: ParametersRecord) -> None:
        """Replace the parameters, from the next height on."""
        self._parameters = changed

    # --- creditors, for the hot path --------------------------------------------------------------

    def creditors(self, asset: str) -> dict[str, int]:
        """Cache of `creditor`, by LEI; emptied whenever an answer may have changed."""
        return self._creditors.setdefault(asset, {})

    def creditor(self, lei: str, asset: str) -> int:
        """How a gross payment to this participant's settlement account is to be treated: CAREFULLY,
        PLAIN, or STIRRING (plain, but its own queue may then settle)."""
        found = self.participant(lei)
        if (
            found is None
            or not found.holds_accounts
            or not found.is_unrestricted
            or self.get(LIMITS, LimitsKey(lei, asset)) is not None
        ):
            answer = CAREFULLY
        else:
            answer = STIRRING if (lei, 0) in self.queued_in(asset) else PLAIN
        self.creditors(asset)[lei] = answer
        return answer

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
        self._accounts_of.clear()
        self._creditors.clear()

    def put_key(self, public_key: bytes, holder: str) -> None:
        """Note under whom a key is registered from now on."""
        self._keys[public_key] = holder

    def put_asset(self, changed: AssetRecord) -> None:
        """Replace an asset's record."""
        self._assets[changed.code] = changed

    def put_id(self, entry: InstructionEntry) -> None:
        """Note an executed instruction."""
        self._ids[entry.sender, entry.id] = entry

    def emit(
        self,
        instruction: int | None,
        status: str,
        reason: str | None = None,
        *,
        payment: int = 0,
        uetr: bytes | None = None,
        debtor_balance: int | None = None,
        creditor_balance: int | None = None,
        original: OutcomePlace | None = None,
        content: bytes | None = None,
        event: Event | None = None,
    ) -> bytes:
        """Record an outcome; its bytes. `instruction`: that it is of or was brought about by."""
        outcome = encode(
            Outcome(
                self.context.height,
                self.context.time,
                instruction,
                payment,
                uetr,
                status,
                reason,
                debtor_balance,
                creditor_balance,
                original,
                content,
                event,
            )
        )
        self.outcomes.append(outcome)
        if uetr is not None:
            self.named.append(uetr)
        return outcome

    def note(self, instruction: int, reason: str | None, event: Event | None = None) -> None:
        """Record the outcome of an instruction that is no payment; `reason`: it is rejected."""
        self.emit(instruction, SETTLED if reason is None else REJECTED, reason, event=event)

    def record(
        self,
        instruction: int,
        uetr: bytes,
        digest: bytes,
        *,
        reason: str | None,
        standing: UetrEntry | None,
        debtor_balance: int | None = None,
        creditor_balance: int | None = None,
    ) -> None:
        """Record the outcome of an instruction that itself is a movement under a UETR.

        `standing` is the outcome that already uses up its UETR: without a `reason` it is
        repeated. A rejection `WITHOUT_AUTHORITY` uses up none.
        """
        height, time = self.context.height, self.context.time
        status, original = (SETTLED if reason is None else REJECTED), None
        if standing is not None and reason is None:
            status, reason = standing.status, standing.reason
            original = OutcomePlace(standing.height, standing.instruction, standing.payment)
        self.emit(
            instruction,
            status,
            reason,
            uetr=uetr,
            debtor_balance=debtor_balance,
            creditor_balance=creditor_balance,
            original=original,
        )
        if standing is None and reason not in WITHOUT_AUTHORITY:
            self.uetrs[uetr] = UetrEntry(
                uetr, digest, time, height, instruction, 0, status, reason, height, None
            )

    # --- the end of the block -------------------------------------------------------------------

    def seal(self, next_validators: ValidatorSet | None = None) -> Applied:
        """Check the block's invariants and make its roots and its state.

        `next_validators`: of the epoch that follows this block, if it is the last of its own."""
        for cycle in self.open_cycles.values():
            cycle.write()
        self.open_cycles.clear()
        layer = self._layer()
        self._check_conservation(layer)
        records = self._records(layer)
        parent = self.parent
        nodes: list[tuple[bytes, bytes]] = []
        state_map = parent.map.update(records, nodes)
        return Applied(
            context=self.context,
            outcomes=self.outcomes,
            outcomes_root=outcomes_root(self.outcomes, self.leaves),
            state_root=state_map.root,
            history_root=parent.history.root(),
            state=parent.child(layer, self.context.height, self.context.time, state_map),
            records=records,
            nodes=nodes,
            ids=list(self._ids.values()),
            uetrs=list(self.uetrs.values()),
            changes=self.changes,
            following=self.following,
            joined=self.joined,
            closed=self.closed,
            next_validators=next_validators,
            _history=parent.history,
        )

    def _layer(self) -> Layer:
        layer = Layer()
        for name, book in self._books.items():
            changed = book.changed()
            if changed:
                layer.balances[name] = changed
            held = book.changed_holdings()
            if held:
                layer.holdings[name] = held
        layer.participants = self._participants
        layer.assets = self._assets
        layer.keys = self._keys
        layer.ids = self._ids
        layer.uetrs = self.uetrs
        for table, rows in self._tables.items():
            # Rows that may be in storage alone are not fetched to be compared: whoever puts one
            # changes it.
            changed_rows = rows
            if not table.is_partial:
                changed_rows = {
                    key: row for key, row in rows.items() if row != self.parent.get(table, key)
                }
            if changed_rows:
                layer.tables[table] = changed_rows
        layer.queues = self._queues
        layer.due = self.due
        layer.untreed = self.untreed
        layer.made_tree = self.made_tree
        layer.parameters = self._parameters
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
        self._check_floors(layer)
        for asset, gain in gained.items():
            old, new = self.parent.asset(asset), self.asset(asset)
            if new is None:
                raise ConservationBroken(f"accounts hold {asset}, which is no asset")
            outstanding = 0 if old is None else old.issued - old.redeemed  # None: a new asset
            created = new.issued - new.redeemed - outstanding
            if gain != created:
                raise ConservationBroken(
                    f"{asset} at height {self.context.height}: accounts gained {gain}, "
                    f"issued less redeemed is {created}"
                )

    def _check_floors(self, layer: Layer) -> None:
        """No account pays out what it has not: one that is short now was so before and nothing more
        left it, or it was covered by a line that was lowered in this block."""
        for name in {**layer.balances, **layer.holdings}:
            book = self._books[name]
            for each in {**layer.balances.get(name, {}), **layer.holdings.get(name, {})}:
                reserved, line = book.holding(each)
                balance = book.load(each) or 0
                if balance - reserved + max(line, book.top_line.get(each, line)) >= 0:
                    continue
                held_before, _ = book.held_before[each]
                if balance - reserved < (book.before[each] or 0) - held_before:
                    raise ConservationBroken(f"{each} pays out {name[0]} that it has not")

    def _records(self, layer: Layer) -> dict[bytes, bytes | None]:
        records: dict[bytes, bytes | None] = {}
        for name in {**layer.balances, **layer.holdings}:
            book, (asset, kind) = self._books[name], name
            for each in {**layer.balances.get(name, {}), **layer.holdings.get(name, {})}:
                balance = book.load(each) or 0
                records[account_key(each, asset, kind)] = account_record(
                    balance, book.holding(each)
                )
        for rows in layer.tables.values():
            for key, row in rows.items():
                records[encode(key)] = None if row is None else encode(row)
        if layer.parameters is not None:
            records[PARAMETERS_KEY] = encode(layer.parameters)
        records |= _other_records(layer)
        return records


def _other_records(layer: Layer) -> dict[bytes, bytes | None]:
    records: dict[bytes, bytes | None] = {}
    records.update(_encoded((asset_key(code), each) for code, each in layer.assets.items()))
    records.update(
        _encoded((participant_key(lei), each.record) for lei, each in layer.participants.items())
    )
    if layer.governed is not None:
        records.update(layer.governed.records())
    return records


def _encoded(records: Iterable[tuple[bytes, object]]) -> dict[bytes, bytes]:
    return {key: encode(record) for key, record in records}
