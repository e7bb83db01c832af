"""What a clearing cycle costs the ledger alone: 100,000 net payments join it in instructions of
10,000, one a block, on one core; then it closes and settles. No network and no disk. Of the blocks
the fastest counts: the others were disturbed by something else on the machine."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256

from devnet.bench.books import CHAIN_ID, SIGNER, committed, holder
from devnet.bench.execution import ISSUER, TIME, participant
from node.chain.build import build, build_pay
from node.chain.encoding import encode
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.records import (
    AssetRecord,
    EpochRecord,
    MemberKey,
    MemberRecord,
    NettingKey,
    NettingRecord,
    ParametersRecord,
)
from node.chain.types import (
    MAX_PAYMENTS,
    AccountKind,
    CloseRule,
    CycleAction,
    Mode,
    OrderCycle,
    Payment,
    PaymentClass,
    Priority,
    ValidatorSet,
)
from node.ledger.apply import Applied, BlockContext, apply
from node.ledger.entries import InstructionEntry, OutcomesGone, UetrEntry
from node.ledger.governed import Governed
from node.ledger.netting import FIRST_CYCLE
from node.ledger.state import Base, State, account_key, account_record
from node.ledger.tables import MEMBERS, NETTING

HOLDING = 10**12
ROLES = ("direct-participant", "operator")


def figures(payments: int, members: int = 100) -> dict[str, float]:
    """Name → figure, of one cycle with so many payments between so many members."""
    rng = random.Random(payments)
    state = _state([participant(number) for number in range(members)])
    joining, size = float("inf"), 0
    for first in range(0, payments, MAX_PAYMENTS):
        count = min(MAX_PAYMENTS, payments - first)
        debtor = participant(first // MAX_PAYMENTS % members)
        order = _batch(debtor, first, count, members, rng)
        seconds, applied = _execute(state, [order])
        joining = min(joining, seconds / count)
        size += sum(map(len, applied.outcomes))
        state = _commit(applied)
    closing, applied = _execute(state, [_close()])
    name = f"net cycle of {payments:,} payments, {members} members"
    return {
        f"{name}: joins, µs per payment": joining * 1e6,
        "  outcomes of joining, bytes per payment": size / payments,
        "  close and settlement, ms": closing * 1e3,
        "  outcomes of the close": len(applied.outcomes),
        "  outcomes of the close, bytes": sum(map(len, applied.outcomes)),
        "  state records that the close changes": len(applied.records),
    }


class _Nothing:
    """An index of a ledger on which nothing was paid yet but in blocks that are not committed."""

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        return None

    def uetrs_between(self, after: int, through: int) -> Iterator[bytes]:
        raise OutcomesGone(after + 1)  # no ledger starts from it

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        return None


def _state(leis: Sequence[str]) -> State:
    """A committed state in which all of these are members of a net system and hold euros."""
    parameters = ParametersRecord(35 * 24 * 3600 * 1000, 1, 0, CloseRule.EXPIRE)
    governed = Governed()
    governed.epoch = EpochRecord(epoch=0, pending=None)
    governed.sets[0] = ValidatorSet(0, ())
    netting = {NettingKey("EUR"): NettingRecord(True, 3_600_000, FIRST_CYCLE)}
    members = {MemberKey(lei, "EUR"): MemberRecord(HOLDING, 0, 0) for lei in leis}
    records: dict[bytes, bytes | None] = {
        account_key(lei, "EUR", 0): account_record(HOLDING) for lei in leis
    }
    records |= {encode(key): encode(row) for key, row in (*netting.items(), *members.items())}
    supply = HOLDING * len(leis)
    base = Base(
        parameters,
        {lei: holder(lei, ROLES) for lei in leis},
        {"EUR": AssetRecord("EUR", 2, ISSUER, security=False, issued=supply, redeemed=0)},
        {("EUR", 0): dict.fromkeys(leis, HOLDING)},
        governed=governed,
        recent=_Nothing(),
        tables={NETTING: dict(netting), MEMBERS: dict(members)},
    )
    return committed(base, TIME, records)


def _batch(
    debtor: str, first: int, count: int, members: int, rng: random.Random
) -> CheckedInstruction:
    creditors = [each for each in map(participant, range(members)) if each != debtor]
    payments = [
        _payment(number, debtor, rng.choice(creditors), rng.randrange(1, 1_000_000))
        for number in range(first, first + count)
    ]
    raw = build_pay(
        CHAIN_ID, debtor, f"net{first}", TIME + 60_000, payments=payments, signers=[SIGNER]
    )
    return check_instruction(raw, CHAIN_ID)


def _payment(number: int, debtor: str, creditor: str, amount: int) -> Payment:
    uetr = bytearray(sha256(b"net %d" % number).digest()[:16])
    uetr[6], uetr[8] = uetr[6] & 0x0F | 0x40, uetr[8] & 0x3F | 0x80
    return Payment(
        uetr=bytes(uetr),
        debtor=debtor,
        debtor_account=AccountKind.SETTLEMENT,
        creditor=creditor,
        creditor_account=AccountKind.SETTLEMENT,
        asset="EUR",
        amount=amount,
        payment_class=PaymentClass.CUSTOMER,
        priority=Priority.NORMAL,
        mode=Mode.NET,
        ultimate_debtor=None,
        ultimate_creditor=None,
        debtor_agent=None,
        creditor_agent=None,
        earliest=None,
        latest=None,
        remittance_digest=None,
        debtor_indirect=None,
        creditor_indirect=None,
        previous=None,
    )


def _close() -> CheckedInstruction:
    body = OrderCycle("EUR", FIRST_CYCLE, CycleAction.CLOSE, None)
    raw = build(CHAIN_ID, participant(0), "close", TIME + 60_000, body, [SIGNER])
    return check_instruction(raw, CHAIN_ID)


def _execute(state: State, orders: Sequence[CheckedInstruction]) -> tuple[float, Applied]:
    """Seconds, and what the block did."""
    context = BlockContext(state.height + 1, state.time + 1)
    started = time.perf_counter()
    applied = apply(state, context, orders)
    return time.perf_counter() - started, applied


def _commit(applied: Applied) -> State:
    applied.seal(sha256(applied.state_root).digest())
    applied.state.commit()
    return applied.state


if __name__ == "__main__":
    for what, figure in figures(100_000).items():
        print(f"{what:60} {figure:10.1f}")
