"""Exports of a chain's books: every movement in order, and every balance at checkpoints.

An export is made by a replay that believes nothing stored (`chain_audit`), so what it says is what
genesis and the signed instructions lead to. After each block the balances by its own movements are
held against the accounts that the ledger changed: a movement that were left out or read wrongly
would stop the export, never stand in it.

What is written is good only once the replay has said VALID: who calls throws the file away if not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple, Protocol

import msgspec

from node.audit.chain_audit import Replayed
from node.audit.movements import ISSUED, Account, Movement, MovementReader
from node.chain.amounts import format_amount
from node.chain.encoding import encode
from node.chain.genesis import Genesis
from node.chain.records import AccountKey, AccountRecord
from node.chain.types import AccountKind
from node.ledger.state import State

DAY_MS = 24 * 3600 * 1000
MAX_TIME_MS = 253_402_214_400_000
"""The last day of the year 9999, milliseconds since the Unix epoch: from it on there is no date, or
none after it for the balances that it ends with."""
_ACCOUNT = b"\x94" + encode(AccountKey.__struct_config__.tag)
"""How the state keys of accounts begin."""
_key = msgspec.msgpack.Decoder(AccountKey)
_record = msgspec.msgpack.Decoder(AccountRecord)

Balances = Mapping[tuple[Account, str], int]
"""Minor units, by account and asset."""


class CannotExport(Exception):
    """The chain cannot be exported like this; the message says why and what to do."""


class BooksBroken(Exception):
    """The movements do not add up to the ledger's balances. This software's own error."""


class Span(NamedTuple):
    """Which blocks: all that lie in both stretches, whose ends are in it."""

    first: int = 1
    last: int | None = None
    """Heights; None: to the end."""
    since: int = 0
    until: int | None = None
    """Block times, milliseconds since the Unix epoch."""

    def begun(self, height: int, time: int) -> bool:
        """Whether this block lies at or above its beginning."""
        return height >= self.first and time >= self.since

    def ended(self, height: int, time: int) -> bool:
        """Whether this block lies above its end."""
        over = self.last is not None and height > self.last
        return over or (self.until is not None and time > self.until)


class Point(NamedTuple):
    """The books after a block."""

    height: int
    time: int
    digest: bytes
    """Of the block's header."""

    @property
    def date(self) -> date:
        """UTC date of the block."""
        return date_of(self.time)


class Names:
    """Short names of participants and exponents of assets, which never change once there."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._names: dict[str, str] = {}
        self._exponents: dict[str, int] = {}

    def at(self, state: State) -> None:
        """Look up in this state what is not known yet."""
        self._state = state

    def name(self, account: Account) -> str:
        """Of an account's holder; "" where nobody holds it."""
        lei = account.holder
        if lei is None:
            return ""
        found = self._names.get(lei)
        if found is None:
            assert self._state is not None
            holder = self._state.participant(lei)
            assert holder is not None, "an account without a participant"
            found = self._names[lei] = holder.record.name
        return found

    def exponent(self, asset: str) -> int:
        """Decimal places of the asset's minor unit."""
        found = self._exponents.get(asset)
        if found is None:
            assert self._state is not None
            record = self._state.asset(asset)
            assert record is not None, "a movement of an asset that is not there"
            found = self._exponents[asset] = record.exponent
        return found


EVERYTHING = Span()


class Writer(Protocol):
    """A format. `names` know every participant and asset that it is told of."""

    def begin(self, chain_id: bytes, at: Point, balances: Balances, names: Names) -> None:
        """The books as they stand before the first block: those that are not zero."""

    def movement(self, time: int, height: int, movement: Movement) -> None:
        """The next one, in the block of this height and time."""

    def checkpoint(self, at: Point, balances: Balances) -> None:
        """The books after a block within a date, where such checkpoints are asked for. `balances`
        are those of all accounts that ever moved; they change with the next movement."""

    def day(self, at: Point, balances: Balances) -> None:
        """The books after the last block of a UTC date, or of the export."""

    def end(self, at: Point) -> None:
        """This was the last block."""

    def abandon(self) -> None:
        """The file is thrown away."""


@dataclass
class Summary:
    """What an export holds."""

    first: Point | None = None
    """The block before the first one."""
    last: Point | None = None
    movements: int = 0
    accounts: int = 0
    checkpoints: int = 0
    turnover: Counter[str] = field(default_factory=Counter)
    """Minor units moved, by asset."""
    names: Names = field(default_factory=Names)

    def turnover_text(self) -> dict[str, str]:
        """What moved, by asset, as decimal text."""
        return {
            asset: format_amount(minor, self.names.exponent(asset))
            for asset, minor in sorted(self.turnover.items())
        }


class Exporter:
    """Feeds a writer from the blocks that a replay shows it (`watch`)."""

    def __init__(
        self,
        writer: Writer,
        genesis: Genesis,
        *,
        span: Span = EVERYTHING,
        holder: str | None = None,
        every: int | None = None,
    ) -> None:
        """`holder`: LEI, short name or BIC of a participant, if only
        its own movements are wanted. `every`: a checkpoint after so many blocks, too."""
        self.summary = Summary()
        self._writer = writer
        self._genesis = genesis
        self._span = span
        self._wanted = holder
        self._holder: str | None = None
        self._every = every
        self._since_checkpoint = 0
        self._reader = MovementReader()
        self._balances: dict[tuple[Account, str], int] = {}
        self._before = Point(0, genesis.time, b"")
        self._ended = False

    # --- the replay's blocks ----------------------------------------------------------------------

    def watch(self, block: Replayed) -> None:
        """The next block of the replay. Raises CannotExport, BooksBroken, OSError (the writer)."""
        header = block.header
        at = Point(header.height, header.timestamp, block.digest)
        if at.time >= MAX_TIME_MS:
            raise CannotExport(f"the time of block {at.height}, {at.time} ms, has no date")
        if at.height == 1:
            self._before = self._before._replace(digest=header.parent)
        self.summary.names.at(block.applied.state)
        inside = self._enter(at, block.applied.state)
        for movement in self._reader.read(block):
            self._add(movement.debtor, movement.asset, -movement.amount)
            self._add(movement.creditor, movement.asset, movement.amount)
            if inside and self._concerns(movement):
                self.summary.movements += 1
                self.summary.turnover[movement.asset] += movement.amount
                self._writer.movement(at.time, at.height, movement)
        self._compare(block)
        self._before = at
        if inside:
            self._since_checkpoint += 1
            if self._since_checkpoint == self._every:
                self._since_checkpoint = 0
                self.summary.checkpoints += 1
                self._writer.checkpoint(at, self._shown())

    def finish(self) -> Summary:
        """The replay is over and the chain is sound. Raises CannotExport (nothing in the span, no
        such participant), OSError (the writer)."""
        summary = self.summary
        if summary.first is None:
            raise CannotExport(
                f"the chain ends with block {self._before.height} of {self._before.date}: no "
                "block lies between --from and --to"
            )
        if self._wanted is not None and self._holder is None:
            raise CannotExport(
                f"the ledger has no participant {self._wanted[:40]!r}, by short name, LEI or BIC"
            )
        if not self._ended:
            self._end()
        return summary

    # --- the span ---------------------------------------------------------------------------------

    def _enter(self, at: Point, state: State) -> bool:
        """Whether the block is wanted; what comes before it, or after the last one, is written."""
        if self._wanted is not None and self._holder is None:
            found = state.find_participant(self._wanted)
            self._holder = None if found is None else found.record.lei
        if self._ended or not self._span.begun(at.height, at.time):
            return False
        if self._span.ended(at.height, at.time):
            if self.summary.first is not None:
                self._end()
            self._ended = True
            return False
        if self.summary.first is None:
            self.summary.first = self._before
            opening = {key: value for key, value in self._shown().items() if value}
            self._writer.begin(self._genesis.chain_id, self._before, opening, self.summary.names)
        elif self._before.date != at.date:
            self._day()
        return True

    def _end(self) -> None:
        self._ended = True
        self._day()
        self.summary.last = self._before
        self.summary.accounts = len(self._shown())
        self._writer.end(self._before)

    def _day(self) -> None:
        self._since_checkpoint = 0
        self.summary.checkpoints += 1
        self._writer.day(self._before, self._shown())

    # --- balances ---------------------------------------------------------------------------------

    def _concerns(self, movement: Movement) -> bool:
        if self._wanted is None:
            return True
        sides = movement.debtor.holder, movement.creditor.holder
        return self._holder is not None and self._holder in sides

    def _shown(self) -> Balances:
        if self._wanted is None:
            return self._balances
        return {
            key: value
            for key, value in self._balances.items()
            if self._holder is not None and key[0].holder == self._holder
        }

    def _add(self, account: Account, asset: str, amount: int) -> None:
        key = account, asset
        self._balances[key] = self._balances.get(key, 0) + amount

    def _compare(self, block: Replayed) -> None:
        """That every account which the block changed has the balance that the movements give, and
        that what was issued of each asset is outstanding."""
        for raw, record in block.applied.records.items():
            if not raw.startswith(_ACCOUNT):
                continue
            key = _key.decode(raw)
            found = 0 if record is None else _record.decode(record).balance
            self._same(block, Account(key.participant, _word(key.kind)), key.asset, found)
        for asset in block.applied.state.assets():
            self._same(block, ISSUED, asset.code, asset.redeemed - asset.issued)

    def _same(self, block: Replayed, account: Account, asset: str, found: int) -> None:
        mine = self._balances.get((account, asset), 0)
        if mine != found:
            raise BooksBroken(
                f"after block {block.header.height} the movements give {account.holder or ''} "
                f"{account.kind} {asset} {mine}, the ledger has {found}"
            )

    def compare_all(self, state: State) -> None:
        """That the state has exactly these balances. Raises BooksBroken."""
        held = {
            (Account(each.participant, _word(each.kind)), each.asset): each.balance
            for each in state.accounts()
            if each.balance
        }
        mine = {key: value for key, value in self._balances.items() if value and key[0].holder}
        if mine != held:
            raise BooksBroken(f"the movements give {mine}, the ledger has {held}")


def date_of(time: int) -> date:
    """UTC date of a block time."""
    return datetime.fromtimestamp(time // 1000, UTC).date()


def instant_text(time: int) -> str:
    """A block time as ISO 8601 has it: UTC, to the millisecond."""
    seconds, rest = divmod(time, 1000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def by_account(item: tuple[tuple[Account, str], int]) -> tuple[str, str, str]:
    """Order of balances: by holder, kind and asset."""
    (account, asset), _ = item
    return account.holder or "", account.kind, asset


def _word(kind: int) -> str:
    return AccountKind(kind).name.lower().replace("_", "-")
