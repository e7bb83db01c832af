"""Statements: an account's movements of a business day, read from the outcomes of its blocks.

Nothing is written for this when payments settle. A statement's opening and closing stand on the
ledger (the `Statement` event of its close); its movements are found by reading the blocks between
the two closes, a bounded stretch for each page. Opening, movements and closing must agree to the
unit; who asks adds them up.

Which outcomes move money: a payment's that says settled or posted, for the first time; a pledge or
a release; the settlement of a clearing cycle; and what the ledger moves itself (`Moved`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from node.api.problems import Refused
from node.api.settlement import AccountStatementView, MovementView
from node.chain.records import CycleKey, DayKey, StatementKey
from node.chain.types import (
    AccountKind,
    CycleSettled,
    Moved,
    Outcome,
    OutcomePlace,
    Pledge,
    Posted,
    ReleaseCollateral,
    Statement,
)
from node.chain.uetr import uetr_text
from node.engine.payment_views import SETTLEMENT, Sides, sides_of
from node.engine.recorded import Carried, OpenBlock, Recorded
from node.engine.views import holder_of
from node.engine.wording import Wording, account_of, account_word
from node.ledger.reasons import FINAL_SETTLED, SETTLED
from node.ledger.state import State
from node.ledger.tables import CYCLES, DAY, STATEMENTS

MAX_PAGE_BLOCKS = 256
MAX_PAGE_OUTCOMES = 50_000
"""Read for one page of movements, whatever it finds."""
LAST_INDEX = 2**31
"""Above the index of any outcome of a block."""
MAX_CLOSES = 400
"""Business days that are gone back for a statement."""


@dataclass(frozen=True, slots=True)
class _Movement:
    """One change of one account's balance."""

    index: int
    time: int
    kind: str
    uetr: bytes | None
    counterparty: str | None
    amount: int
    """Minor units; negative: debited."""
    cycle: int | None = None


class _Account(NamedTuple):
    lei: str
    asset: str
    kind: str


# --- statements -----------------------------------------------------------------------------------


Place = tuple[int, int]
"""(height, index of an outcome)."""


class Asked(NamedTuple):
    """What of the state a list of statements needs: blocks are then read on another thread."""

    name: str
    lei: str
    wording: Wording
    height: int
    closed_at: int
    """Height of the last close; 0: none."""
    balances: list[tuple[str, AccountKind, int, int]]
    """(asset, kind, closing of the last statement, balance now) of each account."""


def ask_statements(state: State, participant: str) -> Asked:
    """Raises UnknownParticipant."""
    holder = holder_of(state, participant)
    day = state.get(DAY, DayKey())
    balances = []
    for asset in state.assets():
        for kind in AccountKind:
            balance = state.balance(holder.lei, asset.code, kind)
            if balance is not None:
                last = state.get(STATEMENTS, StatementKey(holder.lei, asset.code, kind))
                closing = 0 if last is None else last.closing
                balances.append((asset.code, kind, closing, balance))
    return Asked(
        holder.name,
        holder.lei,
        Wording(state),
        state.height,
        0 if day is None else day.closed_at,
        sorted(balances),
    )


def open_statements(recorded: Recorded, asked: Asked) -> list[AccountStatementView]:
    """What happened since the last close, by asset and kind. Raises Refused (pruned)."""
    begins = _after_close(recorded, asked.closed_at, None)
    return [
        AccountStatementView(
            participant=asked.name,
            lei=asked.lei,
            asset=asset,
            account=account_word(kind),
            date=None,
            opening=asked.wording.amount(opening, asset),
            closing=asked.wording.amount(closing, asset),
            begins=_text(begins),
            ends=_text((asked.height + 1, 0)),
        )
        for asset, kind, opening, closing in asked.balances
    ]


def closed_statements(recorded: Recorded, asked: Asked, date: int) -> list[AccountStatementView]:
    """The statements of a business date, by asset and kind.

    Raises Refused (unknown-statement, pruned)."""
    height = asked.closed_at
    for _ in range(MAX_CLOSES):
        events = [] if height == 0 else _statements(recorded, height)
        matching = [(index, each) for index, each in events if each.date == date]
        if matching:
            return _closed(recorded, asked, height, matching)
        if not events or events[0][1].date < date:
            break
        height = events[0][1].since
    raise Refused(
        "unknown-statement",
        f"no business day {date} was closed on this ledger, or it lies more than {MAX_CLOSES} "
        "business days back; without a date you get what happened since the last close",
    )


def _closed(
    recorded: Recorded, asked: Asked, height: int, events: list[tuple[int, Statement]]
) -> list[AccountStatementView]:
    first, statement = events[0]
    begins = _after_close(recorded, statement.since, statement.date)
    found = [
        AccountStatementView(
            participant=asked.name,
            lei=asked.lei,
            asset=each.asset,
            account=account_word(each.account),
            date=each.date,
            opening=asked.wording.amount(each.opening, each.asset),
            closing=asked.wording.amount(each.closing, each.asset),
            begins=_text(begins),
            ends=_text((height, first)),
        )
        for _, each in events
        if each.participant == asked.lei
    ]
    return sorted(found, key=lambda each: (each.asset, each.account))


def _statements(recorded: Recorded, height: int) -> list[tuple[int, Statement]]:
    """(index, event) of the statements in a block that closed a day. Raises Refused (pruned)."""
    outcomes = recorded.outcomes(height)
    if outcomes is None:
        raise _pruned(height)
    return [
        (index, each.event)
        for index, each in enumerate(outcomes)
        if isinstance(each.event, Statement)
    ]


def _after_close(recorded: Recorded, height: int, before: int | None) -> Place:
    """The first place after the close in this block; 0: of the chain. The rest of that block
    belongs to the next day. `before`: a later day that was closed in the same block."""
    if height == 0:
        return 1, 0
    indexes = [
        index
        for index, each in _statements(recorded, height)
        if before is None or each.date < before
    ]
    return (height, indexes[-1] + 1) if indexes else (height + 1, 0)


def _text(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def _pruned(height: int) -> Refused:
    return Refused("pruned", f"this node no longer holds block {height}; an archive node does")


# --- movements ------------------------------------------------------------------------------------


class MovementsAsked(NamedTuple):
    account: _Account
    state: State
    begins: Place
    ends: Place
    """Exclusive."""


def ask_movements(
    state: State, participant: str, of: tuple[str, str], places: tuple[Place, Place]
) -> MovementsAsked:
    """`of`: asset and kind of account. Raises UnknownParticipant, Refused (bad-parameter)."""
    asset, account = of
    holder = holder_of(state, participant)
    if state.asset(asset) is None:
        raise Refused("bad-parameter", f"the ledger has no asset {asset[:20]!r}")
    if account_of(account) is None:
        kinds = ", ".join(account_word(kind) for kind in AccountKind)
        raise Refused("bad-parameter", f"{account[:40]!r} is no kind of account; there are {kinds}")
    begins, ends = places
    if not (1, 0) <= begins <= ends <= (state.height + 1, 0):
        raise Refused(
            "bad-parameter",
            f"{_text(begins)} to {_text(ends)} are no places of this chain, which ends with block "
            f"{state.height}",
        )
    return MovementsAsked(_Account(holder.lei, asset, account), state, begins, ends)


def movements(
    recorded: Recorded, asked: MovementsAsked, after: Place | None, limit: int
) -> tuple[list[MovementView], Place | None]:
    """Movements after a place, and the place to go on after; None: these were the last.

    Raises Refused (pruned)."""
    found: list[MovementView] = []
    begins = asked.begins if after is None else max(asked.begins, (after[0], after[1] + 1))
    read = 0
    for number in range(begins[0], asked.ends[0] + (asked.ends[1] > 0)):
        if number - begins[0] >= MAX_PAGE_BLOCKS or read >= MAX_PAGE_OUTCOMES:
            return found, (number - 1, LAST_INDEX)
        block, outcomes = recorded.block(number), recorded.outcomes(number)
        if block is None or outcomes is None:
            raise _pruned(number)
        read += len(outcomes)
        for movement in _in_block(recorded, block, outcomes, asked):
            place = (number, movement.index)
            if place < begins:
                continue
            if place >= asked.ends:
                break
            # What one outcome moved on this account stands on one page: a place names an outcome.
            if len(found) >= limit and place != (found[-1].height, found[-1].index):
                return found, (found[-1].height, found[-1].index)
            found.append(_told(asked, number, movement))
    return found, None


def _told(asked: MovementsAsked, height: int, movement: _Movement) -> MovementView:
    return MovementView(
        height=height,
        index=movement.index,
        time=movement.time,
        kind=movement.kind,
        uetr=None if movement.uetr is None else uetr_text(movement.uetr),
        counterparty=movement.counterparty,
        amount=Wording(asked.state).amount(movement.amount, asked.account.asset),
        cycle=movement.cycle,
    )


def _in_block(
    recorded: Recorded, block: OpenBlock, outcomes: list[Outcome], asked: MovementsAsked
) -> Iterator[_Movement]:
    account = asked.account
    for index, outcome in enumerate(outcomes):
        event = outcome.event
        if isinstance(event, Moved):
            sides = Sides(
                event.debtor,
                account_word(event.debtor_account),
                event.creditor,
                account_word(event.creditor_account),
                event.asset,
                event.amount,
            )
            yield from _of_sides(index, outcome, "moved", sides, account)
        elif isinstance(event, CycleSettled):
            yield from _of_cycle(index, outcome, event, asked)
        elif outcome.uetr is not None:
            yield from _of_payment(recorded, block, index, outcome, account)
        elif outcome.debtor_balance is not None and outcome.status == SETTLED:
            yield from _of_pledge(block, index, outcome, account)


def _of_payment(
    recorded: Recorded, block: OpenBlock, index: int, outcome: Outcome, account: _Account
) -> Iterator[_Movement]:
    if outcome.status not in FINAL_SETTLED:
        return
    if outcome.original is None:
        assert outcome.instruction is not None
        carried = block.carried(outcome.instruction, outcome.payment)
    elif outcome.content is None:
        return  # a retry is told what became of the first: nothing moved again
    else:
        carried = _elsewhere(recorded, outcome.original)
    sides = sides_of(carried)
    if isinstance(outcome.event, Posted):
        sides = Sides(
            sides.debtor,
            sides.debtor_account,
            sides.creditor,
            sides.creditor_account,
            sides.asset,
            outcome.event.amount,
        )
    yield from _of_sides(index, outcome, carried.kind, sides, account)


def _elsewhere(recorded: Recorded, place: OutcomePlace) -> Carried:
    carried = recorded.carried(place)
    if carried is None:
        raise _pruned(place.height)
    return carried


def _of_sides(
    index: int, outcome: Outcome, kind: str, sides: Sides, account: _Account
) -> Iterator[_Movement]:
    """Both, where an account pays another of the same holder: each is one of its own."""
    if sides.asset != account.asset:
        return
    if (sides.debtor, sides.debtor_account) == (account.lei, account.kind):
        yield _Movement(index, outcome.time, kind, outcome.uetr, sides.creditor, -sides.amount)
    if (sides.creditor, sides.creditor_account) == (account.lei, account.kind):
        yield _Movement(index, outcome.time, kind, outcome.uetr, sides.debtor, sides.amount)


def _of_pledge(
    block: OpenBlock, index: int, outcome: Outcome, account: _Account
) -> Iterator[_Movement]:
    if outcome.instruction is None:
        return
    instruction = block.instruction(outcome.instruction)
    body, sender = instruction.envelope.body, instruction.envelope.sender
    if not isinstance(body, Pledge | ReleaseCollateral):
        return
    kinds = (account_word(AccountKind.SETTLEMENT), account_word(AccountKind.COLLATERAL))
    source, target = kinds if isinstance(body, Pledge) else kinds[::-1]
    kind = "pledge" if isinstance(body, Pledge) else "release"
    sides = Sides(sender, source, sender, target, body.security, body.quantity)
    yield from _of_sides(index, outcome, kind, sides, account)


def _of_cycle(
    index: int, outcome: Outcome, event: CycleSettled, asked: MovementsAsked
) -> Iterator[_Movement]:
    """The net position; what a waterfall moved for it has outcomes of its own."""
    account = asked.account
    if (event.asset, SETTLEMENT) != (account.asset, account.kind):
        return
    cycle = asked.state.get(CYCLES, CycleKey(event.asset, event.cycle))
    assert cycle is not None, "a cycle that settled stays on the ledger"
    for side in cycle.positions:
        net = side.credits - side.debits
        if side.participant == account.lei and net:
            yield _Movement(index, outcome.time, "net", None, None, net, event.cycle)
