"""The ledger's state: a committed base in memory and, above it, one layer for each block.

Blocks are executed before they are final, and a parent may have several children of which at
most one is committed. So a block's changes are a *layer*; a `State` reads its own layers from
the newest to the oldest and then the base. Only blocks that changed something have a layer,
layers already folded into the base are left out when a child is made, and consensus proposes
only empty blocks when too many are unfinalized: the number of layers to look through stays
small however long a fault lasts. Committing folds one layer into the base; siblings are simply
dropped, and reading or extending one of them afterwards is a bug that `require_live` names.

The base holds balances, participants, assets and what governance decides on (`governed`).
Executed ids and used UETRs of final blocks are looked up in storage (`RecentIndex`), which must
hold a block *before* it is committed here: between the two nothing would remember them, and a
payment could be made twice.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from node.chain.block import RULE_VERSION
from node.chain.encoding import UNDECODABLE, encode
from node.chain.merkle import Frontier
from node.chain.records import (
    AccountKey,
    AccountRecord,
    AssetKey,
    AssetRecord,
    DayKey,
    EpochRecord,
    EquivocationRecord,
    LedgerKey,
    ParametersKey,
    ParametersRecord,
    ParticipantKey,
    ParticipantRecord,
    ProposalRecord,
    RulesKey,
    StateKey,
    ValidatorKeyRecord,
)
from node.chain.state_map import StateMap
from node.chain.types import AccountKind, Phase, ValidatorSet
from node.ledger.due import MAX_DUE_KIND, Due, due_items, holds
from node.ledger.entries import InstructionEntry, RecentIndex, UetrEntry
from node.ledger.governed import Governed, GovernedReading
from node.ledger.queue import AccountId, Queue, build_queues
from node.ledger.tables import (
    BUSINESS_DAYS,
    CONSENTS,
    CYCLES,
    DAY,
    LEDGER,
    LINKS,
    PAYMENTS,
    RULES,
    TABLES,
    AnyTable,
    K,
    R,
    Rows,
    Table,
    sort_key,
)

BookId = tuple[str, int]
"""(asset, account kind): all accounts of one asset and kind are a book, by participant."""

ACCOUNT_ROLES = frozenset({"depository", "direct-participant", "issuer", "payment-institution"})
"""Roles that may hold a settlement account."""

Holding = tuple[int, int]
"""(reserved, line) of an account, minor units."""
NOTHING_HELD: Holding = (0, 0)

MIN_AGENDA = 1_000
"""Entries of the agenda that are not worth looking through for void ones."""

MANY_DUE = 64
"""Entries that are rather sorted in at once: one alone moves half of the agenda."""


class StateDamaged(Exception):
    """Stored state that contradicts itself; the text says where."""


class ConservationBroken(AssertionError):
    """Money appeared or vanished: a bug here. Raised even where asserts are switched off."""


class Account(NamedTuple):
    """A balance, as listed for people."""

    participant: str
    asset: str
    kind: int
    balance: int


class Participant:
    """A participant's record with what is looked up in it, worked out once."""

    __slots__ = ("holds_accounts", "is_unrestricted", "keys", "record")

    def __init__(self, record: ParticipantRecord) -> None:
        self.record = record
        self.keys = {key.public_key: key for key in record.keys}
        self.holds_accounts = not ACCOUNT_ROLES.isdisjoint(record.roles)
        self.is_unrestricted = not (
            record.suspended or record.closed or record.debit_frozen or record.credit_frozen
        )


class Layer:
    """What one block changed."""

    __slots__ = (
        "assets",
        "balances",
        "committed",
        "due",
        "governed",
        "holdings",
        "ids",
        "keys",
        "made_tree",
        "parameters",
        "participants",
        "queues",
        "tables",
        "uetrs",
        "untreed",
    )

    def __init__(self) -> None:
        self.balances: dict[BookId, dict[str, int]] = {}
        self.holdings: dict[BookId, dict[str, Holding]] = {}
        self.tables: dict[AnyTable, Rows] = {}
        self.queues: dict[AccountId, Queue] = {}
        """Copies that this block made; empty ones too."""
        self.due: list[Due] = []
        """What it put on the agenda."""
        self.parameters: ParametersRecord | None = None
        self.participants: dict[str, Participant] = {}
        self.assets: dict[str, AssetRecord] = {}
        self.keys: dict[bytes, str] = {}
        self.ids: dict[tuple[str, str], InstructionEntry] = {}
        self.uetrs: dict[bytes, UetrEntry] = {}
        self.untreed: list[bytes] = []
        """UETRs that its outcomes named and that a later tree will have."""
        self.made_tree = False
        """Whether a tree of this block has all that outcomes named up to it."""
        self.governed: Governed | None = None
        """None: nothing of it, as in nearly every block."""
        self.committed = False

    def is_empty(self) -> bool:
        """Whether the block changed nothing: then it needs no layer."""
        return self.governed is None and not (
            self.balances
            or self.participants
            or self.assets
            or self.keys
            or self.ids
            or self.uetrs
            or self.tables
            or self.holdings
            or self.queues
            or self.due
            or self.parameters
        )


class Base:
    """The state of the last committed block. Changed only by `State.commit`."""

    __slots__ = (
        "assets",
        "balances",
        "due",
        "governed",
        "holdings",
        "keys",
        "parameters",
        "participants",
        "prepared",
        "queues",
        "recent",
        "superseded",
        "tables",
        "tip",
        "untreed",
    )

    def __init__(
        self,
        parameters: ParametersRecord,
        participants: dict[str, Participant],
        assets: dict[str, AssetRecord],
        balances: dict[BookId, dict[str, int]],
        *,
        governed: Governed,
        recent: RecentIndex,
        holdings: dict[BookId, dict[str, Holding]] | None = None,
        tables: dict[AnyTable, Rows] | None = None,
    ) -> None:
        self.parameters = parameters
        self.participants = participants
        self.assets = assets
        self.balances = balances
        self.holdings = holdings or {}
        """Only accounts that hold something back or have a line."""
        self.tables: dict[AnyTable, Rows] = {table: {} for table in TABLES.values()}
        """Resident rows."""
        self.tables.update(tables or {})
        self.queues = build_queues(self.tables[PAYMENTS].values())
        """Without empty ones."""
        self.due: list[Due] = sorted(due_items(self.tables, parameters.uetr_window_ms))
        """What will be due, also entries that something later made void."""
        self.governed = governed
        self.keys = {key: lei for lei, held in participants.items() for key in held.keys}
        self.keys |= {key: use.operator for key, use in governed.keys.items()}
        self.recent = recent
        self.tip: State | None = None
        self.untreed: list[bytes] = []
        """UETRs that outcomes named since the last tree: `uetr_trees.MAX_NAMED` at most, and once
        more as many as a block names."""
        self.superseded: dict[bytes, UetrEntry | None] = {}
        """What storage held of payments that changed in blocks up to height `prepared`, which it
        may hold by now while they are not committed here."""
        self.prepared = 0

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        """What storage holds of the committed blocks; see `uetr`."""
        found = self.recent.instruction(sender, id)
        return None if found is None or self._is_ahead(found.height) else found

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        """What storage holds of the committed blocks.

        It is written before the commit here. In between, a sibling of the block being committed
        must not see that block's entries: it would come out differently here than on other
        nodes, and a node that disagrees with a notarized block has to stop.
        """
        if uetr in self.superseded:
            return self.superseded[uetr]
        found = self.recent.uetr(uetr)
        return None if found is None or self._is_ahead(found.height) else found

    def _is_ahead(self, height: int) -> bool:
        assert self.tip is not None
        return height > self.tip.height


class State(GovernedReading):
    """The state after one block. Persistent: reading never changes it, blocks make new ones."""

    __slots__ = (
        "_base",
        "_digest",
        "_history",
        "_own",
        "_parent",
        "chain_id",
        "height",
        "layers",
        "map",
        "time",
    )

    def __init__(
        self,
        base: Base,
        parent: State | None,
        layer: Layer,
        *,
        chain_id: bytes,
        height: int,
        time: int,
        map: StateMap,
    ) -> None:
        self._base = base
        self._parent = parent
        self._own = None if layer.is_empty() else layer
        below = () if parent is None else parent.layers
        live = tuple(each for each in below if not each.committed)
        self.layers: tuple[Layer, ...] = live if self._own is None else (self._own, *live)
        """Newest first."""
        self.chain_id = chain_id
        self.height = height
        self.time = time
        """The block's timestamp, milliseconds since the Unix epoch."""
        self.map = map
        """The authenticated map that `state_root` commits to."""
        self._digest: bytes | None = None
        self._history: Frontier | None = None

    def child(self, layer: Layer, height: int, time: int, map: StateMap) -> State:
        """The state after a block on this one that changed what `layer` holds."""
        return State(
            self._base, self, layer, chain_id=self.chain_id, height=height, time=time, map=map
        )

    # --- what the header adds: it commits to this state, so it exists only afterwards ---------

    @property
    def digest(self) -> bytes:
        """Digest of the block's header."""
        assert self._digest is not None, "the state's block has no header yet: seal it first"
        return self._digest

    @property
    def history(self) -> Frontier:
        """Tree over the header digests of heights 0 … this one."""
        assert self._history is not None, "the state's block has no header yet: seal it first"
        return self._history

    def seal(self, digest: bytes, history: Frontier) -> None:
        """Name the header of this state's block; once."""
        assert self._digest is None, "sealed twice"
        assert history.size == self.height + 1
        self._digest = digest
        self._history = history

    # --- reading --------------------------------------------------------------------------------

    @property
    def parameters(self) -> ParametersRecord:
        """The ledger's parameters, for the next block."""
        for layer in self.layers:
            if layer.parameters is not None:
                return layer.parameters
        return self._base.parameters

    def get(self, table: Table[K, R], key: K) -> R | None:
        """The row under this key."""
        for layer in self.layers:
            rows = layer.tables.get(table)
            if rows is not None and key in rows:
                found: R | None = rows[key]
                return found
        kept: R | None = self._base.tables[table].get(key)
        if kept is None and table.is_partial:
            stored = self.map.get(encode(key))
            return None if stored is None else table.decode(stored)
        return kept

    def rows(self, table: Table[K, R]) -> list[tuple[K, R]]:
        """Every row that is kept in memory, ascending by key."""
        merged: dict[K, R | None] = dict(self._base.tables[table])
        for layer in reversed(self.layers):
            merged.update(layer.tables.get(table, {}))
        found = [(key, row) for key, row in merged.items() if row is not None and table.keeps(row)]
        return sorted(found, key=lambda each: sort_key(each[0]))

    def each_row(self, table: Table[K, R]) -> Iterator[tuple[K, R]]:
        """`rows` in no order and without a copy of all: to look for one, or to count."""
        seen: set[K] = set()
        for layer in self.layers:
            rows = layer.tables.get(table, {})
            for key, row in rows.items():
                if key not in seen and row is not None and table.keeps(row):
                    yield key, row
            seen.update(rows)
        for key, kept in self._base.tables[table].items():
            if key not in seen:
                yield key, kept

    def holding(self, participant: str, asset: str, kind: int) -> Holding:
        """What the account holds back and its credit line."""
        book = (asset, kind)
        for layer in self.layers:
            changed = layer.holdings.get(book)
            if changed is not None and participant in changed:
                return changed[participant]
        return self._base.holdings.get(book, {}).get(participant, NOTHING_HELD)

    def available(self, participant: str, asset: str, kind: int) -> int:
        """Minor units that the account can pay out now: balance − reserved + line."""
        reserved, line = self.holding(participant, asset, kind)
        return (self.balance(participant, asset, kind) or 0) - reserved + line

    def queue(self, account: AccountId) -> Queue | None:
        """The account's queue, not to be changed; None or an empty one: nothing is queued."""
        for layer in self.layers:
            found = layer.queues.get(account)
            if found is not None:
                return found
        return self._base.queues.get(account)

    def queued_accounts(self) -> list[AccountId]:
        """Accounts with queued payments, ascending."""
        merged = dict(self._base.queues)
        for layer in reversed(self.layers):
            merged.update(layer.queues)
        return sorted(account for account, queue in merged.items() if queue.entries)

    @property
    def rules_version(self) -> int:
        """Version of the rules by which the next block is executed."""
        record = self.get(RULES, RulesKey())
        if record is None:
            return RULE_VERSION
        if record.pending is not None and record.pending[1] <= self.height + 1:
            return record.pending[0]
        return record.version

    @property
    def phase(self) -> Phase | None:
        """Of the operating day; None where there is none: always open."""
        day = self.get(DAY, DayKey())
        return None if day is None else day.phase

    def resident(self, table: AnyTable, key: Any) -> Any:
        """The row under this key, if it is kept in memory."""
        for layer in self.layers:
            rows = layer.tables.get(table)
            if rows is not None and key in rows:
                return rows[key]
        return self._base.tables[table].get(key)

    def row_finders(self, table: Table[K, R]) -> list[Callable[[K], R | None]]:
        """`resident` in parts, newest first, for a caller that looks up thousands of rows that it
        knows to be there."""
        found: list[Callable[[K], R | None]] = [
            layer.tables[table].get for layer in self.layers if table in layer.tables
        ]
        return [*found, self._base.tables[table].get]

    def agenda(self, until: int) -> list[Due]:
        """What the blocks so far put on the agenda for after this block's time up to `until`
        (milliseconds), ascending; an entry may be void by now (`due.holds`)."""
        done = self._done()
        first = bisect_right(self._base.due, done)
        last = bisect_right(self._base.due, (until, MAX_DUE_KIND, b""), lo=first)
        found = self._base.due[first:last]
        own = [i for layer in self.layers for i in layer.due if i > done and i[0] <= until]
        # The same entry may be there twice: a day that was published again as it was.
        return sorted({*found, *own}) if own or len(found) > 1 else found

    def _done(self) -> Due:
        """Up to where what was due is done: all up to this block's time, or less where that was too
        much for one block."""
        record = self.get(LEDGER, LedgerKey())
        if record is None or record.reached is None:
            return self.time, MAX_DUE_KIND, b""
        return record.reached

    def next_due(self) -> int | None:
        """Block time (milliseconds) at which a block has something to do even without
        instructions; None: never, as things are. Not above this block's time: at once."""
        if self.has_work:
            return self.time
        window = self.parameters.uetr_window_ms
        first = bisect_right(self._base.due, (self.time, MAX_DUE_KIND, b""))
        candidates = [
            next(
                (i[0] for i in islice(self._base.due, first, None) if self._holds(i, window)), None
            )
        ]
        candidates += [i[0] for layer in self.layers for i in layer.due if i[0] > self.time]
        return min((time for time in candidates if time is not None), default=None)

    def _holds(self, item: Due, window: int) -> bool:
        return holds(item, self.resident, window)

    @property
    def has_work(self) -> bool:
        """Whether the last block left something for the next: what its resolution may have enabled,
        or the rest of what was due."""
        record = self.get(LEDGER, LedgerKey())
        return record is not None and (
            bool(record.stirred) or record.reached is not None or record.expiring is not None
        )

    def balance(self, participant: str, asset: str, kind: int) -> int | None:
        """Minor units; None where no such account exists yet."""
        book = (asset, kind)
        for layer in self.layers:
            changed = layer.balances.get(book)
            if changed is not None:
                balance = changed.get(participant)
                if balance is not None:
                    return balance
        accounts = self._base.balances.get(book)
        return None if accounts is None else accounts.get(participant)

    def participant(self, lei: str) -> Participant | None:
        """None: there is none with this LEI."""
        for layer in self.layers:
            found = layer.participants.get(lei)
            if found is not None:
                return found
        return self._base.participants.get(lei)

    def asset(self, code: str) -> AssetRecord | None:
        """None: there is none with this code."""
        for layer in self.layers:
            found = layer.assets.get(code)
            if found is not None:
                return found
        return self._base.assets.get(code)

    def key_holder(self, public_key: bytes) -> str | None:
        """LEI of the participant under which this key is or was registered, as its own or as a
        key of a validator that it operates."""
        for layer in self.layers:
            found = layer.keys.get(public_key)
            if found is not None:
                return found
        return self._base.keys.get(public_key)

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        """The latest executed instruction under (sender, id), still remembered or not."""
        key = (sender, id)
        for layer in self.layers:
            found = layer.ids.get(key)
            if found is not None:
                return found
        return self._base.instruction(sender, id)

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        """The latest outcome under this UETR, whether or not it still uses it up."""
        for layer in self.layers:
            found = layer.uetrs.get(uetr)
            if found is not None:
                return found
        return self._base.uetr(uetr)

    def untreed(self) -> Iterator[bytes]:
        """UETRs that outcomes named since the last tree, in no order, some several times."""
        for layer in self.layers:
            if layer.made_tree:
                return
            yield from layer.untreed
        yield from self._base.untreed

    def uetr_finders(self) -> list[Callable[[bytes], UetrEntry | None]]:
        """`uetr` in parts, newest first, for a caller that looks up thousands."""
        return [*(layer.uetrs.get for layer in self.layers if layer.uetrs), self._base.uetr]

    def accounts(self) -> Iterator[Account]:
        """Every account, sorted by participant, asset and kind."""
        merged: dict[tuple[str, str, int], int] = {}
        for balances in (self._base.balances, *(x.balances for x in reversed(self.layers))):
            for (asset, kind), accounts in balances.items():
                for participant, balance in accounts.items():
                    merged[participant, asset, kind] = balance
        for account in self._held_accounts():
            merged.setdefault(account, 0)
        for (participant, asset, kind), balance in sorted(merged.items()):
            yield Account(participant, asset, kind, balance)

    def _held_accounts(self) -> Iterator[tuple[str, str, int]]:
        for holdings in (self._base.holdings, *(x.holdings for x in self.layers)):
            for (asset, kind), held in holdings.items():
                for participant in held:
                    yield participant, asset, kind

    def participants(self) -> list[Participant]:
        """Every participant, by LEI."""
        merged = dict(self._base.participants)
        for layer in reversed(self.layers):
            merged.update(layer.participants)
        return [merged[lei] for lei in sorted(merged)]

    def assets(self) -> list[AssetRecord]:
        """Every asset, by code."""
        merged = dict(self._base.assets)
        for layer in reversed(self.layers):
            merged.update(layer.assets)
        return [merged[code] for code in sorted(merged)]

    def find_participant(self, text: str) -> Participant | None:
        """The participant with this short name, LEI or BIC."""
        found = self.participant(text)
        if found is not None:
            return found
        for each in self.participants():
            if text in (each.record.name, each.record.bic):
                return each
        return None

    # --- governance -----------------------------------------------------------------------------

    def _governed(self) -> Iterator[Governed]:
        """Newest first."""
        for layer in self.layers:
            if layer.governed is not None:
                yield layer.governed
        yield self._base.governed

    # --- committing -----------------------------------------------------------------------------

    def require_live(self) -> None:
        """Assert that this state is the committed one or descends from it."""
        tip = self._base.tip
        state: State | None = self
        while state is not None and state is not tip and tip is not None:
            if state.height <= tip.height:
                break
            state = state._parent
        assert state is tip, (
            f"the state of height {self.height} does not descend from the committed block "
            f"of height {None if tip is None else tip.height}"
        )

    def prepare(self) -> None:
        """Before storage takes this state's block in: keep what it holds of payments that the block
        changes. Their entries are overwritten, and a sibling must still see the old ones."""
        base = self._base
        base.prepared = self.height
        for uetr, entry in () if self._own is None else self._own.uetrs.items():
            if entry.height != self.height and uetr not in base.superseded:
                base.superseded[uetr] = base.uetr(uetr)

    def commit(self) -> None:
        """Make this state's block the committed one; its parent must be the committed one.

        The caller's duty: `prepare` came first, and storage already holds the block (see the
        module's text).
        """
        base = self._base
        assert self._parent is base.tip, "blocks are committed one by one, in order"
        assert self._digest is not None, "a block without a header cannot be final"
        own = self._own
        if own is not None:
            for book, changed in own.balances.items():
                base.balances.setdefault(book, {}).update(changed)
            base.participants.update(own.participants)
            base.assets.update(own.assets)
            base.keys.update(own.keys)
            base.parameters = own.parameters or base.parameters
            _fold_settlement(base, own)
            if own.made_tree:
                base.untreed = []
            else:
                base.untreed += own.untreed
            if own.governed is not None:
                base.governed.merge(own.governed)
            own.committed = True
        del base.due[: bisect_right(base.due, self._done())]
        _drop_void(base)
        base.tip = self
        if self.height >= base.prepared:
            base.superseded.clear()
        elif own is not None:  # those of blocks above it are in storage, too
            known = own.uetrs.keys() & base.superseded.keys()
            base.superseded.update((uetr, own.uetrs[uetr]) for uetr in known)
        self.map.relieve()
        self.layers = ()
        self._own = None
        self._parent = None  # or every block since the start would stay in memory


def _drop_void(base: Base) -> None:
    """Take void entries off the agenda: those at its head, and all once they are the most of it."""
    window = base.parameters.uetr_window_ms

    def resident(table: AnyTable, key: Any) -> Any:
        return base.tables[table].get(key)

    held = next((n for n, item in enumerate(base.due) if holds(item, resident, window)), None)
    del base.due[: len(base.due) if held is None else held]
    subjects = sum(len(base.tables[table]) for table in (PAYMENTS, LINKS, CONSENTS, CYCLES))
    if len(base.due) > MIN_AGENDA + 2 * subjects + 128 * len(base.tables[BUSINESS_DAYS]):
        base.due = [item for item in base.due if holds(item, resident, window)]


def _fold_settlement(base: Base, own: Layer) -> None:
    for table, rows in own.tables.items():
        kept = base.tables[table]
        for key, row in rows.items():
            if row is None or not table.keeps(row):
                kept.pop(key, None)
            else:
                kept[key] = row
    for book, held in own.holdings.items():
        base.holdings.setdefault(book, {}).update(held)
    for account, queue in own.queues.items():
        if queue.entries:
            base.queues[account] = queue
        else:
            base.queues.pop(account, None)
    if len(own.due) < MANY_DUE:
        for item in own.due:
            insort(base.due, item)
    else:
        base.due += own.due
        base.due.sort()


# --- the records under state_root -----------------------------------------------------------------

Record = (
    ParametersRecord
    | ParticipantRecord
    | AssetRecord
    | AccountRecord
    | EpochRecord
    | ValidatorSet
    | ValidatorKeyRecord
    | ProposalRecord
    | EquivocationRecord
)

_key_decoder: msgspec.msgpack.Decoder[StateKey] = msgspec.msgpack.Decoder(StateKey)
_record_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)

PARAMETERS_KEY = encode(ParametersKey())


def participant_key(lei: str) -> bytes:
    """State key of a participant."""
    return encode(ParticipantKey(lei))


def asset_key(code: str) -> bytes:
    """State key of an asset."""
    return encode(AssetKey(code))


def account_key(participant: str, asset: str, kind: int) -> bytes:
    """State key of an account."""
    return encode(AccountKey(participant, asset, AccountKind(kind)))


def account_record(balance: int, holding: Holding = NOTHING_HELD) -> bytes:
    """State record of an account."""
    return encode(AccountRecord(balance, *holding))


def load_base(records: Iterable[tuple[bytes, bytes]], recent: RecentIndex) -> Base:
    """Rebuild the base from stored (state key, record) bytes. Raises StateDamaged."""
    parameters: ParametersRecord | None = None
    participants: dict[str, Participant] = {}
    assets: dict[str, AssetRecord] = {}
    balances: dict[BookId, dict[str, int]] = {}
    holdings: dict[BookId, dict[str, Holding]] = {}
    tables: dict[AnyTable, Rows] = {table: {} for table in TABLES.values()}
    governed = Governed()
    for key_bytes, record_bytes in records:
        try:
            key = _key_decoder.decode(key_bytes)
            table = TABLES.get(type(key))
            if table is not None:
                row = table.decode(record_bytes)
                if table.keeps(row):
                    tables[table][key] = row
                continue
            record = _record_decoder.decode(record_bytes)
        except UNDECODABLE as error:
            raise StateDamaged(f"record under state key {key_bytes.hex()}: {error}") from error
        match key, record:
            case ParametersKey(), ParametersRecord():
                parameters = record
            case ParticipantKey(), ParticipantRecord() if record.lei == key.lei:
                participants[key.lei] = Participant(record)
            case AssetKey(), AssetRecord() if record.code == key.code:
                assets[key.code] = record
            case AccountKey(), AccountRecord():
                book = balances.setdefault((key.asset, int(key.kind)), {})
                book[key.participant] = record.balance
                if record.reserved or record.line:
                    held = holdings.setdefault((key.asset, int(key.kind)), {})
                    held[key.participant] = record.reserved, record.line
            case _ if not governed.load(key, record):
                raise StateDamaged(
                    f"state key {key} holds another kind of record: {type(record).__name__}"
                )
    if parameters is None:
        raise StateDamaged("the stored state has no parameters record")
    fault = governed.fault()
    if fault is not None:
        raise StateDamaged(fault)
    return Base(
        parameters,
        participants,
        assets,
        balances,
        governed=governed,
        recent=recent,
        holdings=holdings,
        tables=tables,
    )


def recount(state: State) -> dict[str, int]:
    """Minor units of each asset over all accounts, counted in full.

    Raises ConservationBroken unless they are what was issued less what was redeemed.
    """
    totals = {asset.code: 0 for asset in state.assets()}
    for account in state.accounts():
        if account.asset not in totals:
            raise ConservationBroken(f"an account holds {account.asset}, which is no asset")
        totals[account.asset] += account.balance
    for asset in state.assets():
        if asset.issued - asset.redeemed != totals[asset.code]:
            raise ConservationBroken(
                f"{asset.code} at height {state.height}: issued {asset.issued} − redeemed "
                f"{asset.redeemed} is not the sum of balances {totals[asset.code]}"
            )
    return totals
