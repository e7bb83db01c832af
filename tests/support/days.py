"""Days, securities and lines for tests: a world with a depository, and what a rejection must leave
untouched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from node.chain.instruction import CheckedInstruction
from node.chain.records import BusinessDayKey, DayKey, DayRecord
from node.chain.types import (
    BusinessDay,
    CycleClose,
    Phase,
    PhaseBegan,
    Propose,
    PublishSchedule,
)
from node.ledger.reasons import SENTENCES
from node.ledger.tables import BUSINESS_DAYS, DAY
from tests.support.ledger_world import (
    DAY_MS,
    GENESIS_TIME,
    HOUR_MS,
    Chain,
    MadeBlock,
    World,
    changed_records,
)

BANKS = {
    "CENTRALBANK": ("issuer", "operator", "validator"),
    "DEPOSITORY": ("depository",),
    "BANKA": ("direct-participant",),
    "BANKB": ("direct-participant",),
    "BANKC": ("direct-participant",),
    "WATCHDOG": ("supervisor",),
}
BOND = "DE000TEST009"
NOTE = "DE000TEST017"
LENGTHS_MS = (8 * HOUR_MS, HOUR_MS, HOUR_MS, HOUR_MS)
"""Of the phases from OPEN to CLEARING; CLOSED lasts until the next OPEN."""
FIRST_DATE = 20250616


def settling_world(**options: object) -> World:
    """A world with two currencies, two securities and their depository."""
    return World.make(
        banks=BANKS,
        assets=(("EUR", 2), ("CNY", 2), (BOND, 0), (NOTE, 0)),
        issuers={BOND: "DEPOSITORY", NOTE: "DEPOSITORY"},
        **options,  # type: ignore[arg-type]
    )


def opening(number: int) -> int:
    """When day `number` (0, 1, …) of `days` opens."""
    return GENESIS_TIME + HOUR_MS + number * DAY_MS


def day(number: int, *closes: CycleClose, lengths: Iterable[int] = LENGTHS_MS) -> BusinessDay:
    """Business day `number`: 8 h open, then an hour of each phase up to the close."""
    begins = [opening(number)]
    for length in lengths:
        begins.append(begins[-1] + length)
    return BusinessDay(FIRST_DATE + number, tuple(begins), closes)


def days(count: int) -> tuple[BusinessDay, ...]:
    """The first days, of which there are at most 15 (they stay within a month)."""
    return tuple(day(number) for number in range(count))


def publication(
    chain: Chain, published: Iterable[BusinessDay], sender: str = "CENTRALBANK"
) -> CheckedInstruction:
    """A proposal of these days, which its own signature decides."""
    change = PublishSchedule(tuple(published))
    body = Propose((change,), chain.state.time + DAY_MS)
    return chain.world.order(sender, body, valid_until=chain.state.time + HOUR_MS)


def publish(chain: Chain, published: Iterable[BusinessDay]) -> None:
    """Publish days, in a block of its own."""
    [outcome] = chain.block(publication(chain, published)).outcomes
    assert outcome.reason is None


def standing(chain: Chain) -> DayRecord | None:
    """Where the operating day stands."""
    return chain.state.get(DAY, DayKey())


def phase(chain: Chain) -> tuple[int, Phase]:
    """(day's number, phase) that runs."""
    found = standing(chain)
    assert found is not None
    return found.date - FIRST_DATE, found.phase


def begun(block: MadeBlock) -> list[tuple[int, Phase, bool]]:
    """(day's number, phase, whether it only waits) of what a block says about the day."""
    events = (outcome.event for outcome in block.outcomes)
    return [(e.date - FIRST_DATE, e.phase, e.waits) for e in events if isinstance(e, PhaseBegan)]


E = TypeVar("E")


def events(block: MadeBlock, kind: type[E]) -> list[E]:
    """Events of one kind, in order."""
    found = (outcome.event for outcome in block.outcomes)
    return [event for event in found if isinstance(event, kind)]


def scheduled(chain: Chain) -> list[int]:
    """Numbers of the days that stand in the schedule."""
    return [key.date - FIRST_DATE for key, _ in chain.state.rows(BUSINESS_DAYS)]


def published_day(chain: Chain, number: int) -> BusinessDay | None:
    """A day as it stands in the schedule."""
    return chain.state.get(BUSINESS_DAYS, BusinessDayKey(FIRST_DATE + number))


def assert_rejected(
    chain: Chain, instruction: CheckedInstruction, reason: str, *, time: int | None = None
) -> None:
    """The instruction is rejected for this reason, which has a plain sentence, and leaves the state
    as the block would without it, to the byte."""
    with_it = chain.make(instruction, time=time)
    assert with_it.outcomes[-1].status == "RJCT"
    assert with_it.outcomes[-1].reason == reason
    assert reason in SENTENCES
    without = chain.make(time=time)
    assert changed_records(with_it) == changed_records(without)
    assert with_it.outcomes[:-1] == without.outcomes
