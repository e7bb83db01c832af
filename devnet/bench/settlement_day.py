"""What the close of a business day costs the ledger alone: 1,000 participants, their queues, loans,
sweeps and statements, in one block without instructions, on one core. No network and no disk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256

from devnet.bench.books import CHAIN_ID, SIGNER, committed, holder
from devnet.bench.execution import ISSUER, TIME, participant
from node.chain.block import encode_block
from node.chain.build import build_pay, gross_payment
from node.chain.encoding import decode, encode
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.records import (
    AssetRecord,
    BusinessDayKey,
    DayKey,
    DayRecord,
    EpochRecord,
    ParametersRecord,
)
from node.chain.types import (
    BusinessDay,
    CloseRule,
    Header,
    Moved,
    Outcome,
    OvernightLoan,
    PaymentClass,
    Phase,
    Statement,
    Sweep,
    ValidatorSet,
)
from node.chain.uetr_tree import sorted_uetrs, uetr_root
from node.ledger.apply import Applied, BlockContext, apply
from node.ledger.entries import InstructionEntry, OutcomesGone, UetrEntry
from node.ledger.governed import Governed
from node.ledger.reasons import CANCELLED
from node.ledger.state import Base, State, account_key, account_record
from node.ledger.tables import BUSINESS_DAYS, DAY
from node.ledger.uetr_trees import MAX_NAMED

CURRENCIES = ("CNY", "EUR")
HOLDING = 10**9
LINE = 10**9
QUEUED = 10
"""Payments that wait in the euro queue of each participant and expire."""
OVERDRAWN = 20
"""Of so many participants one has a debit balance, which becomes an overnight loan."""
SWEPT = 10
"""Of so many participants one is swept."""
ROUNDS = 5
"""Of which the best counts, for a tree of used UETRs."""
HOUR_MS = 3_600_000
DATE = 20_250_616
DAY_BEGINS = tuple(TIME + HOUR_MS * number for number in range(-4, 1))
"""When the phases of the day begin. It is made in the interbank phase."""


def figures(participants: int = 1_000) -> dict[str, float]:
    """Name → figure, of one close with so many participants."""
    index = _Index()
    state = _state(participants, index)
    orders = [_order(number, participants) for number in range(participants - 1)]
    for at, instructions in ((state.time + 1, orders), (DAY_BEGINS[Phase.CLEARING], [])):
        _, applied = _execute(state, at, instructions)
        state = _commit(applied, index)
    seconds, applied = _execute(state, DAY_BEGINS[Phase.CLOSED], [])
    _check(applied, participants)
    name = f"close of day, {participants:,} participants with {QUEUED} queued payments each"
    return {
        f"{name}: ms": seconds * 1e3,
        "  outcomes of the close": len(applied.outcomes),
        "  outcomes of the close, bytes": sum(map(len, applied.outcomes)),
        "  its block, which holds no instruction, bytes": len(encode_block(_header(applied), [])),
        "  state records that the close changes": len(applied.records),
        f"tree of {MAX_NAMED:,} used UETRs: ms": _tree() * 1e3,
    }


def _tree() -> float:
    """Seconds of one core for so many, the block that makes the tree apart."""
    uetrs = [_uetr(number) for number in range(MAX_NAMED)]
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.thread_time()
        uetr_root(sorted_uetrs(uetrs))
        best = min(best, time.thread_time() - started)
    return best


def _check(applied: Applied, participants: int) -> None:
    """Everything that a close does was there to be measured."""
    outcomes = [decode(each, Outcome) for each in applied.outcomes]
    counts = Counter(type(each.event) for each in outcomes)
    assert counts[Statement] == participants * len(CURRENCIES)
    assert counts[OvernightLoan] == participants // OVERDRAWN
    assert counts[Moved] >= participants // SWEPT
    assert sum(each.status == CANCELLED for each in outcomes) == (participants - 1) * QUEUED


class _Index:
    """What storage holds of final blocks, in memory."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, str], InstructionEntry] = {}
        self.uetrs: dict[bytes, UetrEntry] = {}

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        return self.ids.get((sender, id))

    def uetrs_between(self, after: int, through: int) -> Iterator[bytes]:
        raise OutcomesGone(after + 1)  # no ledger starts from it

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        return self.uetrs.get(uetr)


def _state(participants: int, index: _Index) -> State:
    """A committed state in the interbank phase."""
    leis = [participant(number) for number in range(participants)]
    balances = {
        (code, 0): {
            lei: -LINE // 2 if code == "EUR" and number % OVERDRAWN == 0 else HOLDING
            for number, lei in enumerate(leis)
        }
        for code in CURRENCIES
    }
    lines = {lei: (0, LINE) for lei, balance in balances["EUR", 0].items() if balance < 0}
    published = BusinessDay(DATE, DAY_BEGINS, ())
    running = DayRecord(DATE, Phase.INTERBANK, None, (), 0)
    records: dict[bytes, bytes | None] = {
        account_key(lei, code, kind): account_record(balance, lines.get(lei, (0, 0)))
        for (code, kind), held in balances.items()
        for lei, balance in held.items()
    }
    records[encode(BusinessDayKey(DATE))] = encode(published)
    records[encode(DayKey())] = encode(running)
    governed = Governed()
    governed.epoch = EpochRecord(epoch=0, pending=None)
    governed.sets[0] = ValidatorSet(0, ())
    base = Base(
        ParametersRecord(35 * 24 * 3600 * 1000, 1, 0, CloseRule.EXPIRE),
        {lei: holder(lei, sweeps=_sweeps(number)) for number, lei in enumerate(leis)},
        {
            code: AssetRecord(
                code,
                2,
                ISSUER,
                security=False,
                issued=sum(balances[code, 0].values()),
                redeemed=0,
            )
            for code in CURRENCIES
        },
        balances,
        governed=governed,
        recent=index,
        holdings={("EUR", 0): lines},
        tables={
            BUSINESS_DAYS: {BusinessDayKey(DATE): published},
            DAY: {DayKey(): running},
        },
    )
    return committed(base, DAY_BEGINS[Phase.INTERBANK], records)


def _sweeps(number: int) -> tuple[Sweep, ...]:
    to = participant(1 if number != 1 else 2)
    return (Sweep("CNY", to), Sweep("EUR", to)) if number % SWEPT == 0 else ()


def _order(number: int, participants: int) -> CheckedInstruction:
    """Payments that nobody can cover, nor all together: each is for more than there is, and goes to
    a participant further on, so that nobody gets any back."""
    lei = participant(number)
    payments = [
        gross_payment(
            _uetr(number * QUEUED + each),
            lei,
            participant(min(number + each + 1, participants - 1)),
            "EUR",
            HOLDING * participants,
            payment_class=PaymentClass.INTERBANK,
        )
        for each in range(QUEUED)
    ]
    raw = build_pay(CHAIN_ID, lei, "queue", TIME, payments=payments, signers=[SIGNER])
    return check_instruction(raw, CHAIN_ID)


def _uetr(number: int) -> bytes:
    raw = bytearray(sha256(b"day %d" % number).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def _execute(state: State, at: int, orders: Sequence[CheckedInstruction]) -> tuple[float, Applied]:
    """(seconds, what the block did)."""
    started = time.perf_counter()
    applied = apply(state, BlockContext(state.height + 1, at), orders)
    return time.perf_counter() - started, applied


def _header(applied: Applied) -> Header:
    """As long as the real one, whose other fields are no business of the ledger's."""
    context, empty = applied.context, bytes(32)
    return Header(
        version=1,
        chain_id=CHAIN_ID,
        epoch=0,
        view=context.height,
        height=context.height,
        parent=empty,
        timestamp=context.time,
        proposer=0,
        instructions_count=0,
        instructions_root=empty,
        outcomes_count=len(applied.outcomes),
        outcomes_root=applied.outcomes_root,
        state_root=applied.state_root,
        history_root=applied.history_root,
        validator_set=empty,
        next_validator_set=empty,
    )


def _commit(applied: Applied, index: _Index) -> State:
    index.ids.update(((each.sender, each.id), each) for each in applied.ids)
    index.uetrs.update((each.uetr, each) for each in applied.uetrs)
    applied.seal(sha256(applied.state_root).digest())
    applied.state.commit()
    return applied.state
