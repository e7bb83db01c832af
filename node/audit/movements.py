"""Every movement of money and securities, read from a block that was replayed.

A movement has two sides, so that all of them together are double-entry books: what is issued comes
from the account `issued`, which no participant holds and whose balance is −(issued − redeemed);
the net positions of a clearing cycle are paid into `clearing` and out of it again, which leaves
nothing there. The sum over an account's movements is its balance on the ledger.

An outcome tells that money moved, the order behind it between whom. That order may stand in an
earlier block: those that are not decided yet are remembered, as the ledger itself has to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

import msgspec

from node.chain.instruction import CheckedInstruction
from node.chain.merkle import OUTCOME_LEAF
from node.chain.statuses import FINAL_SETTLED, SETTLED, UNDECIDED
from node.chain.types import (
    AccountKind,
    CycleClosed,
    CycleSettled,
    CycleUnwound,
    Header,
    InstructionBody,
    Issue,
    Joined,
    Link,
    Moved,
    MoveOwn,
    NetPosition,
    Outcome,
    OutcomePlace,
    Pay,
    Payment,
    Pledge,
    Posted,
    Redeem,
    ReleaseCollateral,
    Reserve,
    Return,
)

KINDS = (
    "pay",
    "reserve",
    "return",
    "link",
    "issue",
    "redeem",
    "move",
    "pledge",
    "release",
    "net",
    "sweep",
    "cover",
)
"""What moved it: a payment; a posted reservation; a return; a leg of a link; the issuer creating
and destroying; own accounts; collateral pledged and released; the net position of a clearing
cycle; a sweep at close of day; a step of a cycle's waterfall. As statements call them, but for the
last two, which are both `moved` there."""


class Account(NamedTuple):
    """A side of a movement."""

    holder: str | None
    """LEI; None: an account of the books themselves."""
    kind: str
    """`AccountKind` in words; `issued` or `clearing` where nobody holds it."""


ISSUED = Account(None, "issued")
CLEARING = Account(None, "clearing")
_WORDS = {kind: kind.name.lower().replace("_", "-") for kind in AccountKind}


class Movement(NamedTuple):
    """An amount goes from one account to another."""

    position: int
    """Index of the outcome in its block, which proves it."""
    line: int
    """Among the movements of that outcome: only a clearing cycle has several."""
    outcome: bytes
    """Leaf hash of the outcome."""
    kind: str
    """One of `KINDS`."""
    uetr: bytes | None
    related: bytes | None
    """UETR of the payment that this one gives back or carries on."""
    debtor: Account
    creditor: Account
    asset: str
    amount: int
    """Minor units, above zero."""
    cycle: int | None


class Executed(Protocol):
    """A block's execution (`node.ledger.work.Applied`)."""

    @property
    def outcomes(self) -> list[bytes]:
        """Canonical `Outcome`s."""


class ExecutedBlock(Protocol):
    """A block as a replay executed it (`node.audit.chain_audit.Replayed`)."""

    @property
    def header(self) -> Header: ...

    @property
    def instructions(self) -> Sequence[CheckedInstruction]: ...

    @property
    def applied(self) -> Executed: ...


class _Order(NamedTuple):
    """Who pays whom what, whatever the instruction is."""

    kind: str
    debtor: Account
    creditor: Account
    asset: str
    amount: int
    related: bytes | None


_outcome = msgspec.msgpack.Decoder(Outcome)


class MovementReader:
    """Reads block after block, from the first one on.

    Its memory: the payments that wait or are reserved, and the positions of cycles that closed and
    did not settle yet."""

    def __init__(self) -> None:
        self._waiting: dict[OutcomePlace, _Order] = {}
        self._cycles: dict[tuple[str, int], tuple[NetPosition, ...]] = {}

    def read(self, block: ExecutedBlock) -> Iterator[Movement]:
        """The movements of the next block, in the order of its outcomes."""
        height = block.header.height
        for index, raw in enumerate(block.applied.outcomes):
            outcome = _outcome.decode(raw)
            order = None
            if outcome.uetr is not None:
                order = self._of_payment(block, height, outcome)
            elif outcome.event is None:
                order = _of_collateral(block, outcome)
            else:
                yield from self._of_event(index, raw, outcome)
            if order is not None and order.amount:
                kind, debtor, creditor, asset, amount, related = order
                leaf = sha256(OUTCOME_LEAF + raw).digest()
                yield Movement(
                    index,
                    0,
                    leaf,
                    kind,
                    outcome.uetr,
                    related,
                    debtor,
                    creditor,
                    asset,
                    amount,
                    None,
                )

    def _of_payment(self, block: ExecutedBlock, height: int, outcome: Outcome) -> _Order | None:
        """What the outcome of a payment moved."""
        settled, number = outcome.status in FINAL_SETTLED, outcome.instruction
        place = outcome.original
        if place is None:
            assert number is not None, "a payment's first outcome is that of an instruction"
            undecided = outcome.status in UNDECIDED and not isinstance(outcome.event, Joined)
            if not settled and not undecided:
                return None
            order = _order(block.instructions[number], outcome.payment)
            if settled:
                return order
            self._waiting[OutcomePlace(height, number, outcome.payment)] = order
            return None
        if outcome.content is None:
            return None  # a retry is told what became of the first: nothing moved again
        if outcome.status in UNDECIDED:
            return None
        order = self._waiting.pop(place)
        if isinstance(outcome.event, Posted):
            order = order._replace(amount=outcome.event.amount)
        return order if settled else None

    def _of_event(self, index: int, raw: bytes, outcome: Outcome) -> Iterator[Movement]:
        """What the ledger moved by itself."""
        match outcome.event:
            case Moved() as moved:
                debtor = Account(moved.debtor, _WORDS[moved.debtor_account])
                creditor = Account(moved.creditor, _WORDS[moved.creditor_account])
                # Sweeps go between settlement accounts, a waterfall never comes from one.
                sweeps = moved.debtor_account is AccountKind.SETTLEMENT
                leaf = sha256(OUTCOME_LEAF + raw).digest()
                if moved.amount:
                    yield Movement(
                        index,
                        0,
                        leaf,
                        "sweep" if sweeps else "cover",
                        None,
                        None,
                        debtor,
                        creditor,
                        moved.asset,
                        moved.amount,
                        None,
                    )
            case CycleClosed() as closed:
                self._cycles[closed.asset, closed.cycle] = closed.positions
            case CycleUnwound() as unwound:
                del self._cycles[unwound.asset, unwound.cycle]
            case CycleSettled() as settled:
                yield from self._of_cycle(index, raw, settled)

    def _of_cycle(self, index: int, raw: bytes, settled: CycleSettled) -> Iterator[Movement]:
        leaf, line = sha256(OUTCOME_LEAF + raw).digest(), 0
        for each in self._cycles.pop((settled.asset, settled.cycle)):
            net = each.credits - each.debits
            if net == 0:
                continue
            own = Account(each.participant, _WORDS[AccountKind.SETTLEMENT])
            debtor, creditor = (own, CLEARING) if net < 0 else (CLEARING, own)
            yield Movement(
                index,
                line,
                leaf,
                "net",
                None,
                None,
                debtor,
                creditor,
                settled.asset,
                abs(net),
                settled.cycle,
            )
            line += 1


def _order(checked: CheckedInstruction, number: int) -> _Order:
    """What stands at this number of an instruction that has a UETR."""
    instruction = checked.instruction
    sender, body = instruction.envelope.sender, instruction.envelope.body
    settlement = _WORDS[AccountKind.SETTLEMENT]
    match body:
        case Pay():
            return _of(instruction.payments[number], "pay")
        case Link():
            return _of(body.legs[number], "link")
        case Reserve():
            return _of(body.payment, "reserve")
        case Return():
            return _of(body.payment, "return")._replace(related=body.original.uetr)
        case Issue():
            creditor = Account(body.creditor, settlement)
            return _Order("issue", ISSUED, creditor, body.asset, body.amount, None)
        case Redeem():
            debtor = Account(sender, settlement)
            return _Order("redeem", debtor, ISSUED, body.asset, body.amount, None)
        case MoveOwn():
            source, target = _WORDS[body.source], _WORDS[body.target]
            own = Account(sender, source), Account(sender, target)
            return _Order("move", *own, body.asset, body.amount, None)
        case other:
            raise AssertionError(f"{type(other).__name__} has no UETR")


def _of(payment: Payment, kind: str) -> _Order:
    return _Order(
        kind,
        Account(payment.debtor, _WORDS[payment.debtor_account]),
        Account(payment.creditor, _WORDS[payment.creditor_account]),
        payment.asset,
        payment.amount,
        payment.previous,
    )


def _of_collateral(block: ExecutedBlock, outcome: Outcome) -> _Order | None:
    if outcome.instruction is None or outcome.status != SETTLED or outcome.debtor_balance is None:
        return None
    envelope = block.instructions[outcome.instruction].instruction.envelope
    body: InstructionBody = envelope.body
    if not isinstance(body, Pledge | ReleaseCollateral):
        return None
    free = Account(envelope.sender, _WORDS[AccountKind.SETTLEMENT])
    pledged = Account(envelope.sender, _WORDS[AccountKind.COLLATERAL])
    if isinstance(body, Pledge):
        return _Order("pledge", free, pledged, body.security, body.quantity, None)
    return _Order("release", pledged, free, body.security, body.quantity, None)
