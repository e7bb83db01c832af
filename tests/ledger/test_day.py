"""The operating day: phases by block time, outages, delays, the close and its statements."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import LimitsKey, LoanKey, StatementKey
from node.chain.types import (
    AccountKind,
    DelayPhase,
    Freeze,
    Hold,
    InstructionBody,
    Issue,
    Moved,
    OvernightLoan,
    Payment,
    PaymentClass,
    Phase,
    PhaseBegan,
    Pledge,
    PostPrice,
    ProceedDay,
    Reserve,
    SetLimit,
    SetPolicy,
    Statement,
    Sweep,
    Void,
)
from node.ledger.ledger import Ledger, load_state
from node.ledger.tables import LIMITS, LOANS, STATEMENTS
from tests.support.days import (
    BOND,
    FIRST_DATE,
    assert_rejected,
    begun,
    day,
    days,
    events,
    opening,
    phase,
    publish,
    scheduled,
    settling_world,
    standing,
)
from tests.support.ledger_world import DAY_MS, GENESIS_TIME, HOUR_MS, Chain, MadeBlock

OPEN, CUTOFF, INTERBANK, CLEARING, CLOSED = Phase
SETTLEMENT = AccountKind.SETTLEMENT
MINUTE_MS = 60_000


def begins(which: Phase, number: int = 0) -> int:
    """When a phase of a day begins."""
    return day(number).begins[which]


class Ledgers:
    """A chain with published days, and orders that are valid whenever they are sent."""

    def __init__(self, count: int = 5, **options: object) -> None:
        self.chain = Chain(settling_world(**options))
        self.chain.fund(1_000)
        if count:
            publish(self.chain, days(count))

    def order(self, sender: str, body: InstructionBody) -> CheckedInstruction:
        return self.chain.world.order(sender, body, valid_until=self.chain.state.time + 7 * DAY_MS)

    def pay(
        self, amount: int, sender: str = "BANKA", to: str = "BANKB", **fields: object
    ) -> tuple[Payment, CheckedInstruction]:
        payment = replace(self.chain.world.payment(sender, to, amount), **fields)
        instruction = self.chain.world.pay(
            sender, payment, valid_until=self.chain.state.time + 3 * DAY_MS
        )
        return payment, instruction

    def at(self, time: int, *instructions: CheckedInstruction) -> MadeBlock:
        return self.chain.block(*instructions, time=time)

    def delay(self, which: Phase, until: int, number: int = 0) -> CheckedInstruction:
        return self.order("CENTRALBANK", DelayPhase(FIRST_DATE + number, which, until))

    def proceed(self, which: Phase, number: int = 0) -> CheckedInstruction:
        return self.order("CENTRALBANK", ProceedDay(FIRST_DATE + number, which))

    def through(self, number: int = 0) -> list[MadeBlock]:
        """Blocks at the beginning of every phase of a day."""
        return [self.at(begins(each, number)) for each in Phase]

    def word(self, payment: Payment) -> tuple[str, str | None]:
        """(status, reason) of what was last said about a payment."""
        found = self.chain.state.uetr(payment.uetr)
        assert found is not None
        return found.status, found.reason

    def lei(self, name: str) -> str:
        return self.chain.world.lei(name)

    def statement(self, name: str, asset: str = "EUR") -> Statement | None:
        return self.chain.state.get(STATEMENTS, StatementKey(self.lei(name), asset, SETTLEMENT))

    def restart(self) -> None:
        """Go on with the state as storage holds it."""
        chain = self.chain
        loaded = load_state(
            chain.records.items(),
            chain.blocks[-1].header,
            chain.state.history,
            chain.index,
            chain.nodes.__getitem__,
        )
        chain.ledger = Ledger(loaded)


@pytest.fixture
def ledger() -> Ledgers:
    return Ledgers()


# --- phases by time -----------------------------------------------------------------------------


def test_without_a_schedule_the_ledger_is_always_open() -> None:
    ledger = Ledgers(0)
    for hours in (0, 20, 60):
        payment, order = ledger.pay(1)
        ledger.at(GENESIS_TIME + HOUR_MS * (hours + 1), order)
        assert ledger.word(payment) == ("ACSC", None)
    assert standing(ledger.chain) is None


def test_before_its_first_day_the_ledger_is_open(ledger: Ledgers) -> None:
    payment, order = ledger.pay(1)
    ledger.at(opening(0) - 1, order)
    assert ledger.word(payment) == ("ACSC", None)
    assert standing(ledger.chain) is None


def test_every_phase_begins_in_the_first_block_at_or_after_its_time(ledger: Ledgers) -> None:
    for number in range(2):
        for which in Phase:
            time = begins(which, number)
            before = ledger.at(time - 1)
            assert begun(before) == []
            assert begun(ledger.at(time + int(which))) == [(number, which, False)]
            assert phase(ledger.chain) == (number, which)


def test_a_block_is_due_when_a_phase_begins(ledger: Ledgers) -> None:
    for which in Phase:
        assert ledger.chain.state.next_due() == begins(which)
        ledger.at(begins(which))


def test_a_day_that_has_ended_leaves_the_schedule_when_the_next_opens(ledger: Ledgers) -> None:
    ledger.through()
    assert scheduled(ledger.chain) == [0, 1, 2, 3, 4]
    ledger.at(opening(1))
    assert scheduled(ledger.chain) == [1, 2, 3, 4]


def test_after_the_last_day_the_ledger_stays_closed() -> None:
    ledger = Ledgers(1)
    ledger.through()
    payment, order = ledger.pay(1)
    ledger.at(begins(CLOSED) + DAY_MS, order)
    assert ledger.word(payment) == ("PDNG", "DT05")
    assert phase(ledger.chain) == (0, CLOSED)


CLASSES = [PaymentClass.CUSTOMER, PaymentClass.INTERBANK]
ENTERS = {
    OPEN: (("ACSC", None), ("ACSC", None)),
    CUTOFF: (("RJCT", "DT05"), ("ACSC", None)),
    INTERBANK: (("RJCT", "DT05"), ("ACSC", None)),
    CLEARING: (("RJCT", "DT05"), ("RJCT", "DT05")),
    CLOSED: (("PDNG", "DT05"), ("PDNG", "DT05")),
}
"""What becomes of a covered payment that is sent in a phase, by class."""


@pytest.mark.parametrize("which", Phase)
@pytest.mark.parametrize("payment_class", CLASSES)
def test_what_enters_in_which_phase(
    ledger: Ledgers, which: Phase, payment_class: PaymentClass
) -> None:
    for each in list(Phase)[: which + 1]:
        ledger.at(begins(each))
    payment, order = ledger.pay(1, payment_class=payment_class)
    ledger.at(ledger.chain.state.time + 1, order)
    assert ledger.word(payment) == ENTERS[which][payment_class]


def test_what_is_sent_after_the_close_settles_at_the_next_open(ledger: Ledgers) -> None:
    ledger.through()
    payment, order = ledger.pay(1_000)
    ledger.at(begins(CLOSED) + 1, order)
    ledger.at(opening(1) - 1)
    assert ledger.word(payment) == ("PDNG", "DT05")
    ledger.at(opening(1))
    assert ledger.word(payment) == ("ACSC", None)


def test_customer_payments_that_wait_rest_in_the_interbank_phase_and_settle_after_it(
    ledger: Ledgers,
) -> None:
    ledger.at(begins(OPEN))
    waiting, order = ledger.pay(1_500)
    ledger.at(begins(OPEN) + 1, order)
    ledger.at(begins(CUTOFF))
    ledger.at(begins(INTERBANK))
    _, more = ledger.pay(600, "BANKB", "BANKA", payment_class=PaymentClass.INTERBANK)
    ledger.at(begins(INTERBANK) + 1, more)
    assert ledger.word(waiting) == ("PDNG", "AM04")
    ledger.at(begins(CLEARING))
    assert ledger.word(waiting) == ("ACSC", None)


def test_phases_without_a_length_are_left_out() -> None:
    ledger = Ledgers(0)
    short = [day(n, lengths=(8 * HOUR_MS, 0, 0, HOUR_MS)) for n in range(2)]
    publish(ledger.chain, short)
    seen = [
        each
        for time in (short[0].begins[0], short[0].begins[3], short[0].begins[4])
        for each in begun(ledger.at(time))
    ]
    assert seen == [(0, OPEN, False), (0, CLEARING, False), (0, CLOSED, False)]


def test_a_day_whose_first_phase_has_no_length_opens_with_the_next() -> None:
    ledger = Ledgers(0)
    publish(ledger.chain, [day(n, lengths=(0, 8 * HOUR_MS, 0, 0)) for n in range(2)])
    for number in range(2):
        assert begun(ledger.at(opening(number))) == [(number, CUTOFF, False)]
        assert begun(ledger.at(opening(number) + 8 * HOUR_MS)) == [(number, CLOSED, False)]
    assert scheduled(ledger.chain) == [1]


def test_a_system_that_never_rests_changes_its_date_at_the_close() -> None:
    ledger = Ledgers(0)
    long = [day(n, lengths=(21 * HOUR_MS, HOUR_MS, HOUR_MS, HOUR_MS)) for n in range(3)]
    publish(ledger.chain, long)
    for which in list(Phase)[:4]:
        ledger.at(long[0].begins[which])
    assert begun(ledger.at(opening(1))) == [(0, CLOSED, False), (1, OPEN, False)]


# --- outages ------------------------------------------------------------------------------------


def test_when_time_jumps_over_a_phase_the_day_waits_for_the_operator(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    payment, order = ledger.pay(5_000)
    ledger.at(begins(OPEN) + 1, order)
    assert begun(ledger.at(begins(INTERBANK) + 1)) == [(0, CUTOFF, False), (0, INTERBANK, True)]
    for later in (CLEARING, CLOSED):
        assert begun(ledger.at(begins(later))) == []
    assert begun(ledger.at(opening(1))) == []
    assert phase(ledger.chain) == (0, CUTOFF)
    assert ledger.word(payment) == ("PDNG", "AM04")


def test_a_ledger_that_was_down_when_its_first_day_began_opens_it_and_waits(
    ledger: Ledgers,
) -> None:
    assert begun(ledger.at(begins(CLEARING) + 1)) == [(0, OPEN, False), (0, CUTOFF, True)]


def test_an_outage_over_one_beginning_jumps_over_nothing(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    ledger.at(begins(CUTOFF) - 1)
    assert begun(ledger.at(begins(INTERBANK) - 1)) == [(0, CUTOFF, False)]
    assert begun(ledger.at(begins(INTERBANK))) == [(0, INTERBANK, False)]


def test_each_order_begins_one_phase_until_time_is_caught_up(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    time = begins(CLEARING) + MINUTE_MS
    ledger.at(time)
    made = ledger.at(time + 1, ledger.proceed(INTERBANK))
    assert begun(made) == [(0, INTERBANK, False), (0, CLEARING, True)]
    assert [each.instruction for each in made.outcomes] == [0, 0]
    assert begun(ledger.at(time + 2, ledger.proceed(CLEARING))) == [(0, CLEARING, False)]
    assert begun(ledger.at(begins(CLOSED))) == [(0, CLOSED, False)]
    assert begun(ledger.at(opening(1))) == [(1, OPEN, False)]


def test_after_days_of_outage_every_day_is_closed_in_its_turn(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    now = opening(3) + MINUTE_MS
    ledger.at(now)
    waited = [(0, each) for each in (INTERBANK, CLEARING, CLOSED)]
    waited += [(number, each) for number in (1, 2) for each in Phase]
    waited.append((3, OPEN))
    for step, (number, which) in enumerate(waited, start=1):
        made = ledger.at(now + step, ledger.proceed(which, number))
        assert begun(made)[0] == (number, which, False)
        assert len(events(made, Statement)) == (3 if which is CLOSED else 0)
    assert phase(ledger.chain) == (3, OPEN)
    assert begun(ledger.at(begins(CUTOFF, 3))) == [(3, CUTOFF, False)]


def test_an_order_that_closes_a_day_and_opens_the_next_still_waits_for_what_is_late() -> None:
    ledger = Ledgers(0)
    lengths = (21 * HOUR_MS, HOUR_MS, HOUR_MS, HOUR_MS)
    publish(ledger.chain, [day(n, lengths=lengths) for n in range(2)])
    ledger.at(opening(0))
    late = opening(1) + 22 * HOUR_MS
    ledger.at(late)
    for which in (INTERBANK, CLEARING):
        ledger.at(ledger.chain.state.time + 1, ledger.proceed(which))
    last = ledger.at(ledger.chain.state.time + 1, ledger.proceed(CLOSED))
    assert begun(last) == [(0, CLOSED, False), (1, OPEN, False), (1, CUTOFF, True)]


def test_several_orders_of_one_block_may_carry_a_day_forward(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    ledger.at(begins(CLOSED) + 1)
    orders = [ledger.proceed(each) for each in (INTERBANK, CLEARING, CLOSED)]
    ledger.at(begins(CLOSED) + 2, *orders)
    assert phase(ledger.chain) == (0, CLOSED)


def test_a_node_that_starts_anew_while_a_day_waits_goes_on_alike(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    ledger.at(begins(INTERBANK) + 1)
    order = ledger.proceed(INTERBANK)
    time = begins(INTERBANK) + 2
    went_on = ledger.chain.make(order, time=time).applied
    ledger.restart()
    again = ledger.chain.make(order, time=time).applied
    assert (again.state_root, again.outcomes) == (went_on.state_root, went_on.outcomes)
    assert again.state.next_due() == went_on.state.next_due()


# --- delays -------------------------------------------------------------------------------------


def test_a_delayed_phase_and_those_it_would_pass_begin_later(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    until = begins(CLEARING) + MINUTE_MS
    ledger.at(begins(OPEN) + 1, ledger.delay(INTERBANK, until))
    assert begun(ledger.at(begins(CUTOFF))) == [(0, CUTOFF, False)]
    assert begun(ledger.at(begins(INTERBANK))) == []
    assert begun(ledger.at(begins(CLEARING))) == []
    # Both begin then; the interbank phase, which would have no length, is left out.
    assert begun(ledger.at(until)) == [(0, CLEARING, False)]
    assert begun(ledger.at(begins(CLOSED))) == [(0, CLOSED, False)]


def test_a_delay_holds_for_its_day_alone(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    ledger.at(begins(OPEN) + 1, ledger.delay(CUTOFF, begins(CUTOFF) + MINUTE_MS))
    ledger.at(begins(CUTOFF) + MINUTE_MS)
    for which in (INTERBANK, CLEARING, CLOSED):
        ledger.at(begins(which))
    ledger.at(opening(1))
    assert begun(ledger.at(begins(CUTOFF, 1))) == [(1, CUTOFF, False)]


def test_a_node_that_starts_anew_keeps_a_delay(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    until = begins(CUTOFF) + MINUTE_MS
    ledger.at(begins(OPEN) + 1, ledger.delay(CUTOFF, until))
    ledger.restart()
    assert begun(ledger.at(begins(CUTOFF))) == []
    assert ledger.chain.state.next_due() == until
    assert begun(ledger.at(until)) == [(0, CUTOFF, False)]


def test_a_close_may_be_put_off_up_to_the_next_open(ledger: Ledgers) -> None:
    for which in list(Phase)[:4]:
        ledger.at(begins(which))
    ledger.at(begins(CLEARING) + 1, ledger.delay(CLOSED, opening(1)))
    assert begun(ledger.at(opening(1))) == [(0, CLOSED, False), (1, OPEN, False)]


# --- the close ----------------------------------------------------------------------------------


def test_queues_expire_at_the_close_held_and_early_payments_too(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    sent = [
        ledger.pay(5_000),
        ledger.pay(6_000),
        ledger.pay(10, earliest=opening(2)),
        ledger.pay(7_000, "BANKB", "BANKC"),
    ]
    payments = [payment for payment, _ in sent]
    ledger.at(begins(OPEN) + 1, *(order for _, order in sent))
    ledger.at(begins(OPEN) + 2, ledger.order("BANKA", Hold(payments[1].uetr)))
    for which in (CUTOFF, INTERBANK, CLEARING):
        ledger.at(begins(which))
    made = ledger.at(begins(CLOSED))
    assert [ledger.word(each) for each in payments] == [("CANC", "AB03")] * 4
    assert len([each for each in made.outcomes if each.status == "CANC"]) == 4
    assert ledger.chain.state.queued_accounts() == []


def test_queues_roll_over_in_their_order_if_the_ledger_says_so() -> None:
    ledger = Ledgers(close_rule="roll-over")
    ledger.at(begins(OPEN))
    first, order = ledger.pay(1_500)
    ledger.at(begins(OPEN) + 1, order)
    for which in (CUTOFF, INTERBANK, CLEARING, CLOSED):
        ledger.at(begins(which))
    second, order = ledger.pay(1_400)
    ledger.at(begins(CLOSED) + 1, order)
    ledger.at(opening(1))
    assert ledger.word(first)[0] == ledger.word(second)[0] == "PDNG"
    _, order = ledger.pay(600, "BANKB", "BANKA")
    ledger.at(opening(1) + 1, order)
    assert (ledger.word(first)[0], ledger.word(second)[0]) == ("ACSC", "PDNG")


def test_what_can_settle_settles_before_the_close_and_does_not_expire(ledger: Ledgers) -> None:
    ledger.at(begins(OPEN))
    waiting, order = ledger.pay(1_500)
    hopeless, more = ledger.pay(9_000, "BANKC", "BANKB")
    ledger.at(begins(OPEN) + 1, order, more)
    ledger.at(begins(CUTOFF))
    ledger.at(begins(INTERBANK))
    ledger.at(begins(CLOSED))
    ledger.at(begins(CLOSED) + 1, ledger.proceed(CLEARING))
    money = ledger.chain.world.issue("CENTRALBANK", "BANKA", 500)
    made = ledger.at(begins(CLOSED) + 2, money, ledger.proceed(CLOSED))
    assert begun(made) == [(0, CLOSED, False)]
    assert ledger.word(waiting) == ("ACSC", None)
    assert ledger.word(hopeless) == ("CANC", "AB03")


def test_debit_balances_become_overnight_loans_and_stay(ledger: Ledgers) -> None:
    ledger.chain.block(ledger.chain.world.issue("DEPOSITORY", "BANKA", 500, BOND))
    ledger.chain.block(ledger.order("CENTRALBANK", PostPrice(BOND, "EUR", 2, 1, 0)))
    ledger.chain.block(ledger.order("BANKA", Pledge(BOND, "EUR", 500)))
    ledger.at(begins(OPEN), ledger.pay(1_300)[1])
    for which in (CUTOFF, INTERBANK, CLEARING):
        ledger.at(begins(which))
    made = ledger.at(begins(CLOSED))
    lei = ledger.lei("BANKA")
    assert events(made, OvernightLoan) == [OvernightLoan(lei, "EUR", FIRST_DATE, 300)]
    loan = ledger.chain.state.get(LOANS, LoanKey(lei, "EUR", FIRST_DATE))
    assert loan is not None
    assert (loan.amount, loan.height) == (300, ledger.chain.state.height)
    assert ledger.chain.balance("BANKA") == -300
    ledger.through(1)
    assert ledger.chain.state.get(LOANS, LoanKey(lei, "EUR", FIRST_DATE + 1)) is not None


def sweep(ledger: Ledgers, sender: str, to: str, asset: str = "EUR") -> CheckedInstruction:
    return ledger.order(sender, SetPolicy(False, (Sweep(asset, ledger.lei(to)),)))


def test_a_zero_balance_participant_is_swept_at_the_close(ledger: Ledgers) -> None:
    ledger.chain.block(sweep(ledger, "BANKA", "BANKC"))
    *_, made = ledger.through()
    moved = events(made, Moved)
    assert moved == [
        Moved("EUR", ledger.lei("BANKA"), SETTLEMENT, ledger.lei("BANKC"), SETTLEMENT, 1_000)
    ]
    [outcome] = [each for each in made.outcomes if isinstance(each.event, Moved)]
    assert (outcome.debtor_balance, outcome.creditor_balance) == (0, 2_000)
    assert (ledger.chain.balance("BANKA"), ledger.chain.balance("BANKC")) == (0, 2_000)


def test_a_sweep_never_draws_a_line(ledger: Ledgers) -> None:
    ledger.chain.block(ledger.chain.world.issue("DEPOSITORY", "BANKA", 500, BOND))
    ledger.chain.block(ledger.order("CENTRALBANK", PostPrice(BOND, "EUR", 2, 1, 0)))
    ledger.chain.block(ledger.order("BANKA", Pledge(BOND, "EUR", 500)))
    ledger.chain.block(sweep(ledger, "BANKA", "BANKC"))
    ledger.through()
    assert ledger.chain.balance("BANKA") == 0


@pytest.mark.parametrize(
    ("who", "debit", "credit"), [("BANKA", True, False), ("BANKC", False, True)]
)
def test_a_restricted_participant_is_neither_swept_nor_swept_to(
    ledger: Ledgers, who: str, debit: bool, credit: bool
) -> None:
    ledger.chain.block(sweep(ledger, "BANKA", "BANKC"))
    ledger.chain.block(ledger.order("WATCHDOG", Freeze(ledger.lei(who), debit, credit, "AC06")))
    *_, made = ledger.through()
    assert events(made, Moved) == []


def test_limits_are_unused_again_when_the_next_day_opens(ledger: Ledgers) -> None:
    body = SetLimit(ledger.lei("BANKA"), "EUR", None, 500)
    ledger.chain.block(ledger.order("BANKA", body))
    ledger.at(begins(OPEN))
    ledger.at(begins(OPEN) + 1, ledger.pay(400)[1])
    for which in (CUTOFF, INTERBANK, CLEARING, CLOSED):
        ledger.at(begins(which))
    again, order = ledger.pay(400)
    ledger.at(begins(CLOSED) + 1, order)
    assert ledger.word(again)[0] == "PDNG"
    ledger.at(opening(1))
    assert ledger.word(again)[0] == "ACSC"
    record = ledger.chain.state.get(LIMITS, LimitsKey(ledger.lei("BANKA"), "EUR"))
    assert record is not None
    assert record.multilateral is not None
    assert record.multilateral.used == 400


# --- statements ---------------------------------------------------------------------------------


def test_a_reservation_of_the_day_before_makes_no_room_when_it_is_voided() -> None:
    ledger = Ledgers(2)
    a, b = ledger.lei("BANKA"), ledger.lei("BANKB")
    ledger.at(begins(OPEN))
    ledger.at(begins(OPEN) + 1, ledger.order("BANKA", SetLimit(a, "EUR", b, 100)))
    aside = replace(
        ledger.chain.world.payment("BANKA", "BANKB", 100), payment_class=PaymentClass.INTERBANK
    )
    expires = begins(CLOSED, 1)
    ledger.at(begins(OPEN) + 2, ledger.order("BANKA", Reserve(aside, b, None, expires)))
    for which in (CUTOFF, INTERBANK, CLEARING, CLOSED):
        ledger.at(begins(which))
    ledger.at(begins(OPEN, 1))
    ledger.at(begins(OPEN, 1) + 1, ledger.order("BANKB", Void(aside.uetr)))
    too_much, order = ledger.pay(101)
    ledger.at(begins(OPEN, 1) + 2, order)
    assert ledger.word(too_much) == ("PDNG", "AM14")


def test_statements_tie_out_to_the_unit_for_every_account_and_day() -> None:
    """opening + credits − debits = closing, from the outcomes between two statements of an account,
    for random payments that settle, queue, roll over and settle together, and sweeps."""
    ledger, rng = Ledgers(4, close_rule="roll-over"), random.Random(11)
    ledger.chain.block(sweep(ledger, "BANKC", "BANKA"))
    payments: dict[bytes, Payment] = {}
    for number in range(4):
        for which in Phase:
            for step in range(4):
                debtor, creditor = rng.sample(("BANKA", "BANKB", "BANKC"), 2)
                payment, order = ledger.pay(rng.randrange(1, 900), debtor, creditor)
                payments[payment.uetr] = payment
                ledger.at(begins(which, number) + step, order)
    tie_out(ledger, payments)


def tie_out(ledger: Ledgers, payments: dict[bytes, Payment]) -> None:
    """Walk through every outcome from genesis on, in order."""
    flows: Counter[str] = Counter()
    closing: dict[str, int] = {}
    statements = settled = 0
    for block in ledger.chain.blocks:
        issued = {
            each.instruction.envelope.body.uetr: each.instruction.envelope.body
            for each in block.instructions
            if isinstance(each.instruction.envelope.body, Issue)
        }
        for outcome in block.outcomes:
            event, uetr = outcome.event, outcome.uetr or b""
            if isinstance(event, Statement):
                whose = event.participant
                assert event.opening == closing.get(whose, 0)
                assert event.closing == event.opening + flows.pop(whose, 0)
                closing[whose] = event.closing
                statements += 1
            elif isinstance(event, Moved):
                flows[event.debtor] -= event.amount
                flows[event.creditor] += event.amount
            elif outcome.status == "ACSC" and uetr in payments:
                flows[payments[uetr].debtor] -= payments[uetr].amount
                flows[payments[uetr].creditor] += payments[uetr].amount
                settled += 1
            elif uetr in issued:
                flows[issued[uetr].creditor] += issued[uetr].amount
    assert statements == 4 * 3
    assert settled > 20


def test_what_moves_in_the_block_of_the_close_after_it_belongs_to_the_next_date(
    ledger: Ledgers,
) -> None:
    for which in list(Phase)[:4]:
        ledger.at(begins(which))
    ledger.at(begins(CLOSED), ledger.chain.world.issue("CENTRALBANK", "BANKA", 50))
    first = ledger.statement("BANKA")
    assert first is not None
    assert (first.opening, first.closing) == (0, 1_000)
    ledger.through(1)
    second = ledger.statement("BANKA")
    assert second is not None
    assert (second.opening, second.closing) == (1_000, 1_050)
    assert second.since > first.since


def test_every_account_has_a_statement_by_holder_asset_and_kind(ledger: Ledgers) -> None:
    ledger.chain.fund(5, "BANKB", asset="CNY")
    ledger.chain.block(ledger.chain.world.issue("DEPOSITORY", "BANKA", 500, BOND))
    ledger.chain.block(ledger.order("CENTRALBANK", PostPrice(BOND, "EUR", 2, 1, 0)))
    ledger.chain.block(ledger.order("BANKA", Pledge(BOND, "EUR", 200)))
    *_, made = ledger.through()
    stated = [(e.participant, e.asset, e.account) for e in events(made, Statement)]
    assert stated == sorted(stated)
    lei = ledger.lei
    assert set(stated) == {
        (lei("BANKA"), "EUR", SETTLEMENT),
        (lei("BANKA"), BOND, SETTLEMENT),
        (lei("BANKA"), BOND, AccountKind.COLLATERAL),
        (lei("BANKB"), "EUR", SETTLEMENT),
        (lei("BANKB"), "CNY", SETTLEMENT),
        (lei("BANKC"), "EUR", SETTLEMENT),
    }


# --- refusals -----------------------------------------------------------------------------------


def opened(ledger: Ledgers) -> int:
    ledger.at(begins(OPEN))
    return begins(OPEN) + 1


def waiting(ledger: Ledgers) -> int:
    ledger.at(begins(OPEN))
    ledger.at(begins(INTERBANK) + 1)
    return begins(INTERBANK) + 2


def unopened(ledger: Ledgers) -> int:
    return begins(OPEN) - 1


def in_clearing(ledger: Ledgers) -> int:
    for which in list(Phase)[:4]:
        ledger.at(begins(which))
    return begins(CLEARING) + 1


def waiting_to_open(ledger: Ledgers) -> int:
    in_clearing(ledger)
    ledger.at(opening(1) + 1)
    return opening(1) + 2


Prepare = Callable[[Ledgers], int]
TODAY, TOMORROW = FIRST_DATE, FIRST_DATE + 1
REFUSED: dict[str, tuple[Prepare, str, InstructionBody, str]] = {
    "delay by no operator": (
        opened, "BANKA", DelayPhase(TODAY, CUTOFF, begins(CUTOFF) + 1), "DS20",
    ),
    "delay before there is a day": (
        unopened, "CENTRALBANK", DelayPhase(TODAY, CUTOFF, begins(CUTOFF) + 1), "DT04",
    ),
    "delay of another day": (
        opened, "CENTRALBANK", DelayPhase(TOMORROW, CUTOFF, begins(CUTOFF, 1) + 1), "DT04",
    ),
    "delay of the phase that runs": (
        opened, "CENTRALBANK", DelayPhase(TODAY, OPEN, begins(CUTOFF)), "DT04",
    ),
    "delay of a phase that is over": (
        in_clearing, "CENTRALBANK", DelayPhase(TODAY, CUTOFF, begins(CLOSED)), "DT04",
    ),
    "delay while the day waits": (
        waiting, "CENTRALBANK", DelayPhase(TODAY, CLOSED, begins(CLOSED) + 1), "DT04",
    ),
    "delay to where it is": (
        opened, "CENTRALBANK", DelayPhase(TODAY, CUTOFF, begins(CUTOFF)), "DT02",
    ),
    "delay to before": (
        opened, "CENTRALBANK", DelayPhase(TODAY, CUTOFF, begins(CUTOFF) - 1), "DT02",
    ),
    "delay past the next open": (
        opened, "CENTRALBANK", DelayPhase(TODAY, CUTOFF, opening(1) + 1), "DT03",
    ),
    "delay for more than a week": (
        opened, "CENTRALBANK", DelayPhase(TODAY, CUTOFF, opening(8)), "DT02",
    ),
    "delay for ever": (
        opened, "CENTRALBANK", DelayPhase(TODAY, CUTOFF, 2**64 - 1), "DT02",
    ),
    "proceed by no operator": (waiting, "BANKA", ProceedDay(TODAY, INTERBANK), "DS20"),
    "proceed by a supervisor": (waiting, "WATCHDOG", ProceedDay(TODAY, INTERBANK), "DS20"),
    "proceed before there is a day": (unopened, "CENTRALBANK", ProceedDay(TODAY, OPEN), "DT04"),
    "proceed while nothing waits": (opened, "CENTRALBANK", ProceedDay(TODAY, CUTOFF), "DT04"),
    "proceed with a later phase": (waiting, "CENTRALBANK", ProceedDay(TODAY, CLEARING), "DT04"),
    "proceed with the phase that runs": (waiting, "CENTRALBANK", ProceedDay(TODAY, CUTOFF), "DT04"),
    "proceed with another day": (waiting, "CENTRALBANK", ProceedDay(TOMORROW, INTERBANK), "DT04"),
    "proceed with the open of a day that is over": (
        waiting_to_open, "CENTRALBANK", ProceedDay(TODAY, OPEN), "DT04",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_the_state_untouched(ledger: Ledgers, name: str) -> None:
    prepare, sender, body, reason = REFUSED[name]
    time = prepare(ledger)
    assert_rejected(ledger.chain, ledger.order(sender, body), reason, time=time)


def test_a_jump_from_clearing_to_the_next_day_waits_to_open(ledger: Ledgers) -> None:
    waiting_to_open(ledger)
    assert phase(ledger.chain) == (0, CLOSED)
    made = ledger.at(opening(1) + 2, ledger.proceed(OPEN, 1))
    assert made.outcomes[0].event == PhaseBegan(TOMORROW, OPEN, waits=False)
    assert phase(ledger.chain) == (1, OPEN)
