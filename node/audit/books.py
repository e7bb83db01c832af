"""A second bookkeeping, apart from the ledger: balances from nothing but orders and outcomes.

The ledger's own code cannot vouch for itself. This keeps the accounts once more in the simplest
way there is. What a block's instructions order and what its outcomes say became of it moves money
here; every balance that an outcome, a statement or the committed state tells is held against it,
and so are the positions of what was netted or settled together.

How the ledger came to its outcomes is not judged here (the replay recomputes that), only whether
money follows from them. Kept are the accounts, and the payments that are not decided yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from node.audit.told import BooksDisagree, Told, decoded
from node.chain import types as t
from node.chain.carried import CarriedPayment, carried_payment
from node.chain.encoding import decode, encode
from node.chain.instruction import ParsedInstruction
from node.chain.records import AccountKey, AccountRecord, AssetKey, AssetRecord
from node.chain.statuses import FINAL_SETTLED, REJECTED, SETTLED, UNDECIDED
from node.chain.types import AccountKind, InstructionBody, Outcome, Payment
from node.ledger.state import State

AccountId = tuple[str, str, int]
"""(participant, asset, kind)."""
SETTLEMENT = int(AccountKind.SETTLEMENT)
COLLATERAL = int(AccountKind.COLLATERAL)
__all__ = ["AccountId", "Books", "BooksDisagree"]

_ACCOUNT = encode(AccountKey("0" * 20, "EUR", AccountKind.SETTLEMENT))[:9]
_ASSET = encode(AssetKey("EUR"))[:7]
"""How the state keys of accounts and of assets begin: array header and tag."""


class Waiting(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A payment that is not decided."""

    content: bytes
    """Its leaf hash."""
    payment: Payment


class Cycle(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What joined a clearing cycle, minor units by participant."""

    debits: dict[str, int]
    credits: dict[str, int]
    payments: int
    closed: bool

    def positions(self) -> list[tuple[str, int, int]]:
        """(participant, debits, credits), ascending."""
        names = sorted({*self.debits, *self.credits})
        return [(each, self.debits.get(each, 0), self.credits.get(each, 0)) for each in names]


_account = msgspec.msgpack.Decoder(tuple[str, str, int])
_balances = msgspec.msgpack.Decoder(tuple[int, int | None])
_cycles = msgspec.msgpack.Decoder(list[tuple[str, int, Cycle]])


class _Together(NamedTuple):
    """Payments that settled at once; the balances told of them are those after all of them."""

    group: bytes
    said: dict[AccountId, tuple[str, int]]
    """Account → (where it was told, balance)."""
    flows: dict[AccountId, list[int]]
    """Account → [debits, credits]."""


class Books:
    """Every account's balance, and the sum of all balances of each asset, in minor units."""

    def __init__(self) -> None:
        self.balances: dict[AccountId, int] = {}
        self.totals: dict[str, int] = {}
        self.statements = 0
        """Business days of accounts that tied out."""
        self._stated: dict[AccountId, int] = {}
        """Balance at the last close."""
        self._waiting: dict[bytes, Waiting] = {}
        self._cycles: dict[tuple[str, int], Cycle] = {}
        self._touched: set[AccountId] = set()
        """In the present block."""
        self._unsaved: set[AccountId] = set()
        self._requeued: set[bytes] = set()
        """UETRs of payments that came to wait or do no longer, since the last `changes`."""
        self._together: _Together | None = None

    # --- a block --------------------------------------------------------------------------------

    def post(
        self,
        instructions: Sequence[ParsedInstruction],
        outcomes: Sequence[bytes],
        state: State,
        records: Mapping[bytes, bytes | None] | None = None,
    ) -> None:
        """Enter a block: its orders, what it says became of them, and the state after it.

        `records`: all that the block changed in the state. Raises BooksDisagree where an outcome or
        a balance in the state is another, a balance changed of which no outcome tells, or an
        asset's issued − redeemed is not the sum of its balances."""
        self._touched = set()
        self._together = None
        orders = Told(instructions)
        for at, outcome in enumerate(decoded(outcomes)):
            together = self._together
            if together is not None and not _is_of(together, outcome):
                self._settled_together(at, outcome)
            if outcome.content is not None:
                self._change(at, outcome)
            elif outcome.instruction is not None and orders.is_first(at, outcome):
                self._first(at, outcome, instructions[outcome.instruction])
            else:
                self._event(at, outcome)
        if self._together is not None:
            self._settled_together(len(outcomes), None)
        orders.complete()
        self._unsaved |= self._touched
        self._compare(self._touched, state)
        if records is not None:
            self._compare_records(records)

    def _first(self, at: int, outcome: Outcome, parsed: ParsedInstruction) -> None:
        """The outcome of an order."""
        # A rejection moves nothing; for a retry the money moved with the first outcome.
        if outcome.original is not None:
            return
        instruction = parsed.instruction
        body = instruction.envelope.body
        if outcome.status not in FINAL_SETTLED:
            if outcome.status in UNDECIDED:
                self._begin(at, outcome, parsed)
            return
        if type(body) is t.Pay:
            self._pay(at, outcome, instruction.payments[outcome.payment], None)
        elif type(body) is t.Return:
            self._pay(at, outcome, body.payment, None)
        else:
            debtor, creditor, amount = _movement(instruction.envelope.sender, body)
            self._move(at, outcome, debtor, creditor, amount)

    def _begin(self, at: int, outcome: Outcome, parsed: ParsedInstruction) -> None:
        """A payment that waits for another outcome, or is in a cycle."""
        carried = carried_payment(parsed, outcome.payment)
        if carried is None:
            raise BooksDisagree(f"outcome {at}.status", "a decided one", outcome.status)
        if isinstance(outcome.event, t.Joined):
            self._join(at, outcome.event.cycle, carried)
            return
        payment = carried.payment
        self._waiting[payment.uetr] = Waiting(carried.digest, payment)
        self._requeued.add(payment.uetr)

    def _change(self, at: int, outcome: Outcome) -> None:
        """A later outcome of a payment."""
        uetr = outcome.uetr or b""
        waiting = self._waiting.get(uetr)
        if waiting is None or waiting.content != outcome.content:
            found = "none" if waiting is None else waiting.content.hex()
            raise BooksDisagree(f"outcome {at}.content", "a payment that waits", found)
        if outcome.status in UNDECIDED:
            return
        del self._waiting[uetr]
        self._requeued.add(uetr)
        if outcome.status not in FINAL_SETTLED:
            return
        event = outcome.event
        if isinstance(event, t.Together):
            self._join_group(at, outcome, waiting.payment, event.group)
            return
        amount = event.amount if isinstance(event, t.Posted) else None
        if amount is not None and amount > waiting.payment.amount:
            raise BooksDisagree(f"outcome {at}.event", f"≤ {waiting.payment.amount}", amount)
        self._pay(at, outcome, waiting.payment, amount)

    # --- movements ------------------------------------------------------------------------------

    def _pay(self, at: int, outcome: Outcome, payment: Payment, amount: int | None) -> None:
        asset = payment.asset
        self._move(
            at,
            outcome,
            (payment.debtor, asset, int(payment.debtor_account)),
            (payment.creditor, asset, int(payment.creditor_account)),
            payment.amount if amount is None else amount,
        )

    def _move(
        self,
        at: int,
        outcome: Outcome,
        debtor: AccountId | None,
        creditor: AccountId | None,
        amount: int,
    ) -> None:
        left = None if debtor is None else self._add(debtor, -amount)
        if left != outcome.debtor_balance:
            raise BooksDisagree(f"outcome {at}.debtor_balance", left, outcome.debtor_balance)
        gained = None if creditor is None else self._add(creditor, amount)
        if gained != outcome.creditor_balance:
            raise BooksDisagree(f"outcome {at}.creditor_balance", gained, outcome.creditor_balance)

    def _add(self, account: AccountId, amount: int) -> int:
        balances, totals, asset = self.balances, self.totals, account[1]
        balance = balances[account] = balances.get(account, 0) + amount
        totals[asset] = totals.get(asset, 0) + amount
        self._touched.add(account)
        return balance

    def _join_group(self, at: int, outcome: Outcome, payment: Payment, group: bytes) -> None:
        together = self._together
        if together is None:
            together = self._together = _Together(group, {}, {})
        debtor = payment.debtor, payment.asset, int(payment.debtor_account)
        creditor = payment.creditor, payment.asset, int(payment.creditor_account)
        for account, side, amount, said in (
            (debtor, 0, -payment.amount, outcome.debtor_balance),
            (creditor, 1, payment.amount, outcome.creditor_balance),
        ):
            self._add(account, amount)
            together.flows.setdefault(account, [0, 0])[side] += payment.amount
            where = f"outcome {at}.{'creditor' if side else 'debtor'}_balance"
            if said is None:
                raise BooksDisagree(where, "the balance", "none")
            if together.said.setdefault(account, (where, said))[1] != said:
                raise BooksDisagree(where, together.said[account][1], said)

    def _settled_together(self, at: int, following: Outcome | None) -> None:
        """The group that ended with the outcome before `at`."""
        together, self._together = self._together, None
        assert together is not None
        for account, (where, said) in together.said.items():
            if self.balances[account] != said:
                raise BooksDisagree(where, self.balances[account], said)
        event = None if following is None else following.event
        if isinstance(event, t.Resolved):
            mine = [
                (lei, kind, *flows)
                for (lei, asset, kind), flows in sorted(together.flows.items())
                if asset == event.asset
            ]
            said_of = [
                (each.participant, int(each.account), each.debits, each.credits)
                for each in event.positions
            ]
            if mine != said_of:
                raise BooksDisagree(f"outcome {at}.event.positions", mine, said_of)

    # --- clearing cycles ------------------------------------------------------------------------

    def _join(self, at: int, number: int, carried: CarriedPayment) -> None:
        payment = carried.payment
        cycle = self._cycles.setdefault((payment.asset, number), Cycle({}, {}, 0, closed=False))
        if cycle.closed:
            raise BooksDisagree(f"outcome {at}.event", "an open cycle", f"cycle {number}")
        debits, credits = cycle.debits, cycle.credits
        debits[payment.debtor] = debits.get(payment.debtor, 0) + payment.amount
        credits[payment.creditor] = credits.get(payment.creditor, 0) + payment.amount
        cycle.payments += 1

    def _closed(self, where: str, event: t.CycleClosed) -> None:
        cycle = self._cycles.setdefault((event.asset, event.cycle), Cycle({}, {}, 0, closed=False))
        cycle.closed = True
        if cycle.payments != event.payments:
            raise BooksDisagree(f"{where}.payments", cycle.payments, event.payments)
        said = [(each.participant, each.debits, each.credits) for each in event.positions]
        if said != cycle.positions():
            raise BooksDisagree(f"{where}.positions", cycle.positions(), said)

    def _decided(self, where: str, event: t.CycleSettled | t.CycleUnwound) -> None:
        cycle = self._cycles.pop((event.asset, event.cycle), None)
        if cycle is None or not cycle.closed:
            raise BooksDisagree(f"{where}.cycle", "a closed one", event.cycle)
        if isinstance(event, t.CycleSettled):
            for participant, debits, credits in cycle.positions():
                self._add((participant, event.asset, SETTLEMENT), credits - debits)

    # --- what else is told ----------------------------------------------------------------------

    def _event(self, at: int, outcome: Outcome) -> None:
        where, event = f"outcome {at}.event", outcome.event
        if event is not None and outcome.status in (REJECTED, *UNDECIDED):
            raise BooksDisagree(f"outcome {at}.status", SETTLED, outcome.status)
        match event:
            case t.Moved():
                self._move(
                    at,
                    outcome,
                    (event.debtor, event.asset, int(event.debtor_account)),
                    (event.creditor, event.asset, int(event.creditor_account)),
                    event.amount,
                )
            case t.CycleClosed():
                self._closed(where, event)
            case t.CycleSettled() | t.CycleUnwound():
                self._decided(where, event)
            case t.Statement():
                self._state(where, event, outcome.height)
            case None:
                raise BooksDisagree(f"outcome {at}", "that of an order", "one without order")

    def _state(self, where: str, told_of: t.Statement, height: int) -> None:
        """An account's business day. The statements of one close stand in one block."""
        account = told_of.participant, told_of.asset, int(told_of.account)
        for name, expected, found in (
            ("opening", self._stated.get(account, 0), told_of.opening),
            ("closing", self.balances.get(account, 0), told_of.closing),
        ):
            if expected != found:
                raise BooksDisagree(f"{where}.{name}", expected, found)
        self._stated[account] = told_of.closing
        self._unsaved.add(account)
        self.statements += 1

    # --- against the state ------------------------------------------------------------------------

    def _compare(self, accounts: Iterable[AccountId], state: State) -> None:
        """That the state has these balances, and that no money appeared or vanished."""
        assets = set()
        for account in accounts:
            found = state.balance(*account)
            if found != self.balances[account] and (found, self.balances[account]) != (None, 0):
                raise BooksDisagree(f"balance of {account}", self.balances[account], found)
            assets.add(account[1])
        for code in sorted(assets):
            asset = state.asset(code)
            if asset is None:
                raise BooksDisagree(f"asset {code}", "one that is known", "none")
            self._compare_asset(asset)

    def _compare_asset(self, asset: AssetRecord) -> None:
        total = self.totals.get(asset.code, 0)
        if asset.issued - asset.redeemed != total:
            raise BooksDisagree(
                f"issued − redeemed of {asset.code}", total, asset.issued - asset.redeemed
            )

    def _compare_records(self, records: Mapping[bytes, bytes | None]) -> None:
        """That no balance and no asset's supply changed without an outcome that tells of it."""
        for key, record in records.items():
            if key.startswith(_ACCOUNT) and record is not None:
                name = decode(key, AccountKey)
                account = name.participant, name.asset, int(name.kind)
                found = decode(record, AccountRecord).balance
                if found != self.balances.get(account, 0):
                    raise BooksDisagree(
                        f"balance of {account}", self.balances.get(account, 0), found
                    )
            elif key.startswith(_ASSET) and record is not None:
                self._compare_asset(decode(record, AssetRecord))

    def compare_all(self, state: State) -> None:
        """That the state has exactly these balances. Raises BooksDisagree."""
        held = {(a.participant, a.asset, a.kind): a.balance for a in state.accounts()}
        for account in sorted({*held, *self.balances}):
            mine, found = self.balances.get(account, 0), held.get(account, 0)
            if mine != found:
                raise BooksDisagree(f"balance of {account}", mine, found)
        for asset in state.assets():
            self._compare_asset(asset)

    # --- kept between two runs --------------------------------------------------------------------

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """(key, value) of all that changed since the last call, for `load`; None: it is gone."""
        for account in self._unsaved:
            yield (
                b"a" + encode(account),
                encode((self.balances.get(account, 0), self._stated.get(account))),
            )
        for uetr in self._requeued:
            waiting = self._waiting.get(uetr)
            yield b"w" + uetr, None if waiting is None else encode(waiting)
        # Cycles are few, and all but the open one of each asset are soon decided.
        yield b"c", encode(sorted((*key, cycle) for key, cycle in self._cycles.items()))
        self._unsaved.clear()
        self._requeued.clear()

    @classmethod
    def load(cls, kept: Iterable[tuple[bytes, bytes]]) -> Books:
        """The books from what `changes` gave. Raises Malformed, msgspec.DecodeError."""
        books = cls()
        for key, value in kept:
            if key[:1] == b"a":
                account = _account.decode(key[1:])
                balance, stated = _balances.decode(value)
                books.balances[account] = balance
                books.totals[account[1]] = books.totals.get(account[1], 0) + balance
                if stated is not None:
                    books._stated[account] = stated
            elif key[:1] == b"w":
                books._waiting[key[1:]] = decode(value, Waiting)
            else:
                for asset, number, cycle in _cycles.decode(value):
                    books._cycles[asset, number] = cycle
        return books


def _is_of(together: _Together, outcome: Outcome) -> bool:
    """Whether this is one more payment of the group."""
    event = outcome.event
    return (
        isinstance(event, t.Together)
        and event.group == together.group
        and outcome.status in FINAL_SETTLED
    )


def _movement(sender: str, body: InstructionBody) -> tuple[AccountId | None, AccountId | None, int]:
    """(debtor, creditor, amount) of an order that itself is a movement; of any other nothing."""
    match body:
        case t.Issue():
            return None, (body.creditor, body.asset, SETTLEMENT), body.amount
        case t.Redeem():
            return (sender, body.asset, SETTLEMENT), None, body.amount
        case t.MoveOwn():
            source, target = int(body.source), int(body.target)
            return (sender, body.asset, source), (sender, body.asset, target), body.amount
        case t.Pledge():
            free, pledged = _securities(sender, body.security)
            return free, pledged, body.quantity
        case t.ReleaseCollateral():
            free, pledged = _securities(sender, body.security)
            return pledged, free, body.quantity
    return None, None, 0


def _securities(sender: str, security: str) -> tuple[AccountId, AccountId]:
    return (sender, security, SETTLEMENT), (sender, security, COLLATERAL)
