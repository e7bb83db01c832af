"""Publishing business days: what is taken, what is refused, what stays of the days before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from node.chain.types import (
    MAX_CYCLES_A_DAY,
    MAX_SCHEDULE_DAYS,
    Approve,
    BusinessDay,
    CycleClose,
    DelayPhase,
    Phase,
    PhaseBegan,
    Propose,
    PublishSchedule,
)
from node.ledger.due import DueKind
from node.ledger.schedule import MAX_CLOSED_MS, faults
from tests.support.days import (
    BOND,
    FIRST_DATE,
    assert_rejected,
    begun,
    day,
    days,
    opening,
    publication,
    publish,
    published_day,
    scheduled,
    settling_world,
)
from tests.support.ledger_world import DAY_MS, GENESIS_TIME, HOUR_MS, Chain

Days = tuple[BusinessDay, ...]


@pytest.fixture
def chain() -> Chain:
    return Chain(settling_world())


def shifted(changed: BusinessDay, milliseconds: int) -> BusinessDay:
    return replace(changed, begins=tuple(each + milliseconds for each in changed.begins))


def with_begin(number: int, phase: Phase, milliseconds: int) -> BusinessDay:
    """Day `number`, one of whose phases begins so much later."""
    found = day(number)
    begins = list(found.begins)
    begins[phase] += milliseconds
    return replace(found, begins=tuple(begins))


def closing(number: int, *closes: tuple[int, str]) -> BusinessDay:
    """Day `number` with cycles that close so long after its open."""
    return day(number, *(CycleClose(opening(number) + after, asset) for after, asset in closes))


# --- what is taken ------------------------------------------------------------------------------


def test_published_days_stand_in_the_schedule_as_they_are(chain: Chain) -> None:
    first = closing(0, (HOUR_MS, "CNY"), (HOUR_MS, "EUR"), (11 * HOUR_MS, "EUR"))
    publish(chain, (first, day(1)))
    assert scheduled(chain) == [0, 1]
    assert published_day(chain, 0) == first


def test_days_that_have_not_begun_are_replaced_from_the_first_on(chain: Chain) -> None:
    publish(chain, days(5))
    later = shifted(day(2), MINUTE_MS)
    publish(chain, (later, day(4)))
    assert scheduled(chain) == [0, 1, 2, 4]
    assert published_day(chain, 2) == later


def test_the_day_that_runs_stays_as_it_is(chain: Chain) -> None:
    publish(chain, days(3))
    chain.block(time=opening(0))
    publish(chain, (shifted(day(1), MINUTE_MS),))
    assert scheduled(chain) == [0, 1]
    for phase in list(Phase)[1:]:
        assert begun(chain.block(time=day(0).begins[phase])) == [(0, phase, False)]
    assert begun(chain.block(time=opening(1))) == []
    assert begun(chain.block(time=opening(1) + MINUTE_MS)) == [(1, Phase.OPEN, False)]


def test_the_same_days_may_be_published_again(chain: Chain) -> None:
    published = (closing(0, (HOUR_MS, "EUR")), day(1))
    publish(chain, published)
    publish(chain, published)
    due = chain.state.agenda(day(1).begins[-1])
    assert sorted(set(due)) == due
    assert [kind for _, kind, _ in due].count(DueKind.CYCLE_CLOSE) == 1


def test_a_close_that_was_published_away_is_not_due_any_more(chain: Chain) -> None:
    publish(chain, (closing(0, (HOUR_MS, "EUR")),))
    publish(chain, (day(0),))
    chain.block(time=opening(0))
    assert chain.state.next_due() == day(0).begins[Phase.CUSTOMER_CUTOFF]


def test_after_its_end_a_schedule_goes_on_with_days_from_now_on(chain: Chain) -> None:
    publish(chain, days(1))
    for phase in Phase:
        chain.block(time=day(0).begins[phase])
    chain.block(time=opening(40))
    change = shifted(replace(day(0), date=FIRST_DATE + 100), 41 * DAY_MS)
    publish(chain, (change,))
    assert scheduled(chain) == [0, 100]
    [opened] = chain.block(time=opening(41)).outcomes
    assert opened.event == PhaseBegan(FIRST_DATE + 100, Phase.OPEN, waits=False)
    assert scheduled(chain) == [100]


@pytest.mark.parametrize(
    "days_after", [0, MAX_CLOSED_MS], ids=["at the close", "two weeks after it"]
)
def test_a_day_may_open_from_the_close_before_to_two_weeks_later(
    chain: Chain, days_after: int
) -> None:
    opens = day(0).begins[Phase.CLOSED] + days_after
    publish(chain, (day(0), shifted(day(1), opens - opening(1))))
    assert scheduled(chain) == [0, 1]


def test_a_delay_of_the_day_that_runs_counts_for_what_follows(chain: Chain) -> None:
    publish(chain, days(1))
    chain.block(time=opening(0))
    late = day(0).begins[Phase.CLOSED] + HOUR_MS
    body = DelayPhase(FIRST_DATE, Phase.CLOSED, late)
    chain.block(chain.world.order("CENTRALBANK", body))
    early = shifted(day(1), late - opening(1) - 1)
    assert_rejected(chain, publication(chain, (early,)), "DT03")
    publish(chain, (shifted(early, 1),))


def test_days_are_judged_again_when_they_are_decided_on() -> None:
    """The first day opened while approvals were collected."""
    world = settling_world(governance_threshold=2, keys={"CENTRALBANK": (2, 1)})
    chain = Chain(world)
    first, second = world.banks["CENTRALBANK"].signers
    change = Propose((PublishSchedule(days(3)),), GENESIS_TIME + 2 * DAY_MS)
    proposal = world.order("CENTRALBANK", change, signers=[first])
    assert chain.block(proposal).outcomes[0].reason is None
    assert scheduled(chain) == []
    approval = world.order("CENTRALBANK", Approve(proposal.digest), signers=[second])
    assert_rejected(chain, approval, "DT03", time=opening(0))
    chain.block(approval, time=opening(0) - 1)
    assert scheduled(chain) == [0, 1, 2]


# --- what is refused ----------------------------------------------------------------------------

MINUTE_MS = 60_000
FAULTY: dict[str, tuple[Days, str]] = {
    "a phase before the one in front of it": (
        (with_begin(0, Phase.INTERBANK, -HOUR_MS - 1),), "DT03",
    ),
    "a day that closes when it opens": ((day(0, lengths=(0, 0, 0, 0)),), "DT03"),
    "a date twice": ((day(0), replace(day(1), date=FIRST_DATE)), "DT03"),
    "dates that descend": ((replace(day(0), date=FIRST_DATE + 2), day(1)), "DT03"),
    "a day that opens before the one before is closed": (
        (day(0), shifted(day(1), -13 * HOUR_MS - 1)), "DT03",
    ),
    "days missing": (
        (day(0), shifted(day(1), MAX_CLOSED_MS - 13 * HOUR_MS + 1)), "DT03",
    ),
    "no such date": ((replace(day(0), date=20250631),), "FF03"),
    "a month too many": ((replace(day(0), date=20251301),), "FF03"),
    "a cycle before the open": ((closing(0, (-1, "EUR")),), "FF03"),
    "a cycle after the close": ((closing(0, (11 * HOUR_MS + 1, "EUR")),), "FF03"),
    "cycles that descend": ((closing(0, (HOUR_MS, "EUR"), (1, "EUR")),), "FF03"),
    "cycles of one instant that descend": (
        (closing(0, (HOUR_MS, "EUR"), (HOUR_MS, "CNY")),), "FF03",
    ),
    "a cycle twice": ((closing(0, (HOUR_MS, "EUR"), (HOUR_MS, "EUR")),), "FF03"),
}  # fmt: skip
REFUSED: dict[str, tuple[Days, str]] = {
    **FAULTY,
    "a cycle of an unknown currency": ((closing(0, (HOUR_MS, "USD")),), "AM03"),
    "a cycle of a security": ((closing(0, (HOUR_MS, BOND)),), "FF05"),
    "a first day that has opened": ((shifted(day(0), -2 * HOUR_MS), day(1)), "DT03"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_the_state_untouched(chain: Chain, name: str) -> None:
    published, reason = REFUSED[name]
    assert_rejected(chain, publication(chain, published), reason)


@pytest.mark.parametrize("name", FAULTY)
def test_what_is_wrong_with_days_is_said_in_words(name: str) -> None:
    published, reason = FAULTY[name]
    first = next(faults(published))
    assert first.reason == reason
    assert first.text


JOINING: dict[str, tuple[Callable[[], Days], str]] = {
    "the day that runs": (lambda: (shifted(day(0), DAY_MS),), "DT03"),
    "a day before the one that runs": (
        lambda: (shifted(replace(day(0), date=FIRST_DATE - 1), DAY_MS),), "DT03",
    ),
    "a day that opens before the one that runs is closed": (
        lambda: (shifted(day(1), -13 * HOUR_MS - 1),), "DT03",
    ),
    "a day that opens before a day that stays is closed": (
        lambda: (shifted(day(2), -13 * HOUR_MS - 1),), "DT03",
    ),
    "days missing after those that stay": (
        lambda: (shifted(day(3), MAX_CLOSED_MS),), "DT03",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", JOINING)
def test_days_that_do_not_join_what_stays_are_refused(chain: Chain, name: str) -> None:
    publish(chain, days(3))
    chain.block(time=opening(0))
    published, reason = JOINING[name]
    assert_rejected(chain, publication(chain, published()), reason)


def test_an_order_of_no_operator_publishes_nothing(chain: Chain) -> None:
    assert_rejected(chain, publication(chain, days(1), "BANKA"), "DS19")


def minute(number: int) -> BusinessDay:
    """Day `number` of many, each a few minutes long."""
    opens = GENESIS_TIME + HOUR_MS + number * 10 * MINUTE_MS
    date = 20_250_101 + number // 336 * 10_000 + number // 28 % 12 * 100 + number % 28
    return BusinessDay(date, tuple(opens + each * MINUTE_MS for each in range(5)), ())


def test_the_schedule_holds_so_many_days_and_no_more(chain: Chain) -> None:
    many = [minute(number) for number in range(MAX_SCHEDULE_DAYS + 1)]
    publish(chain, many[:MAX_SCHEDULE_DAYS])
    assert_rejected(chain, publication(chain, many[MAX_SCHEDULE_DAYS:]), "AM21")
    assert len(scheduled(chain)) == MAX_SCHEDULE_DAYS


def test_a_day_has_at_most_as_many_cycles_as_are_announced(chain: Chain) -> None:
    publish(chain, (closing(0, *((each, "EUR") for each in range(MAX_CYCLES_A_DAY))),))
    assert scheduled(chain) == [0]
