"""A ledger of a few business days with its sets of used UETRs, and proofs of its states.

 - day 0: 200 payments in several blocks, an epoch ends in between: a set of four pages;
 - day 1: nothing is paid: an empty set;
 - day 2: 30 payments: a set of one page;
 - day 3: has begun, in no set yet.

Shared by all tests of a process: copy what you damage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property

from node.audit.build_state import build_absence, build_balance
from node.audit.state_proofs import AbsenceProof, BalanceProof, decode_state_proof
from node.chain.records import UetrTreeKey, UetrTreeRecord
from node.chain.types import AccountKind, Propose, PublishSchedule
from node.ledger.tables import UETR_TREES
from tests.support import days
from tests.support.evidence_world import EvidenceWorld
from tests.support.ledger_world import DAY_MS, HOUR_MS, World

UNUSED = bytes.fromhex("eb6305c91f7f49deaed016487c27b42d")
"""A UETR that nothing names."""
DAYS = 3
"""Business days that are closed."""
BALANCES = {
    "settlement": ("BANKA", "EUR", AccountKind.SETTLEMENT, None),
    "at the beginning": ("CENTRALBANK", "EUR", AccountKind.SETTLEMENT, 0),
    "of an ended epoch": ("BANKB", "EUR", AccountKind.SETTLEMENT, 4),
    "none": ("BANKC", "CNY", AccountKind.FUND, None),
    "none in an ended epoch": ("BANKC", "CNY", AccountKind.FUND, 3),
}
"""Name → participant, asset, kind, height."""
ABSENCES = {
    "ever": (UNUSED, None, None),
    "below all": (bytes(16), None, None),
    "above all": (b"\xff" * 16, None, None),
    "a day": (UNUSED, days.opening(0), days.opening(0) + 8 * HOUR_MS),
    "an idle day": (UNUSED, days.opening(1) + HOUR_MS, days.opening(1) + 2 * HOUR_MS),
}
"""Name → UETR, start and end of the period."""


@dataclass
class StateWorld(EvidenceWorld):
    """The members and their chain."""

    members: World = field(default_factory=World.make)

    def pass_to(self, time: int) -> None:
        """A block of nothing at this time."""
        self.chain.add(after_ms=time - self.chain.state.time)

    def paid(self, count: int) -> bytes:
        """An order of payments from BANKA to BANKB."""
        payments = [self.members.payment("BANKA", "BANKB", 1) for _ in range(count)]
        until = self.chain.state.time + HOUR_MS
        return self.members.pay("BANKA", *payments, valid_until=until).raw

    def run_day(self, number: int) -> None:
        """Let a day that is open come to its close; no phase is jumped over."""
        for time in days.day(number).begins[1:]:
            self.pass_to(time)

    @cached_property
    def trees(self) -> list[UetrTreeRecord]:
        """What is committed of used UETRs."""
        found: list[UetrTreeRecord] = []
        while (record := self.chain.state.get(UETR_TREES, UetrTreeKey(len(found)))) is not None:
            found.append(record)
        return found

    def balance(self, name: str) -> bytes:
        participant, asset, kind, height = BALANCES[name]
        return build_balance(self.store, self.lei(participant), asset, kind, height)

    def absence(self, name: str) -> bytes:
        return build_absence(self.store, *ABSENCES[name])


@cache
def state_world() -> StateWorld:
    """The ledger with all of it."""
    made = StateWorld()
    add, schedule = made.chain.add, PublishSchedule(days.days(DAYS + 1))
    add(
        made.issue("issue", "BANKA", 10_000),
        made.order("CENTRALBANK", Propose((schedule,), made.chain.state.time + HOUR_MS)),
    )
    made.pass_to(days.opening(0))
    add(made.paid(90))
    add(made.paid(20), final=False)
    made.end_epoch(carriers=1)
    add(made.paid(90))
    made.run_day(0)
    made.pass_to(days.opening(1))
    made.run_day(1)
    made.pass_to(days.opening(2))
    add(made.paid(30))
    made.run_day(2)
    made.pass_to(days.opening(3))
    add(made.paid(1))
    assert made.chain.state.time > days.opening(0) + DAYS * DAY_MS
    return made


@cache
def balance_bytes(name: str) -> bytes:
    """A sound proof of a balance."""
    return state_world().balance(name)


@cache
def absence_bytes(name: str) -> bytes:
    """A sound proof of an absence."""
    return state_world().absence(name)


def balance(name: str) -> BalanceProof:
    return decode_state_proof(balance_bytes(name), BalanceProof)


def absence(name: str) -> AbsenceProof:
    return decode_state_proof(absence_bytes(name), AbsenceProof)
