"""The waterfall of a net system: who pays, how much, and that anybody can work it out again."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from node.chain.types import (
    AccountKind,
    Cover,
    CoverSource,
    CycleClosed,
    CycleSettled,
    NetPosition,
    Shortfall,
    SurvivorShare,
)
from node.chain.waterfall import (
    Means,
    Movement,
    NotReproducible,
    Short,
    recompute,
    split,
    waterfall,
)

MARGIN, FUND, CAPITAL, SURVIVOR = CoverSource
SETTLEMENT = AccountKind.SETTLEMENT
NAMES = ("A", "B", "C", "D", "E", "F")
amounts = st.integers(0, 200)


def paid(shortfall: Shortfall) -> list[tuple[CoverSource, str, int]]:
    return [(each.source, each.participant, each.amount) for each in shortfall.covers]


# --- splitting ------------------------------------------------------------------------------------


def plainly(weights: dict[str, int]) -> dict[str, int]:
    return dict.fromkeys(weights, 10**9)


def test_a_loss_that_divides_is_split_pro_rata() -> None:
    weights = {"A": 1, "B": 2, "C": 3}
    assert split(60, weights, plainly(weights)) == {"A": 10, "B": 20, "C": 30}


def test_units_that_do_not_divide_go_to_the_largest_remainders() -> None:
    weights = {"A": 1, "B": 1, "C": 5}
    # Exact shares: 1 3/7, 1 3/7, 7 1/7.
    assert split(10, weights, plainly(weights)) == {"A": 2, "B": 1, "C": 7}


def test_equal_remainders_go_by_lei() -> None:
    weights = {"C": 1, "B": 1, "A": 1}
    assert split(2, weights, plainly(weights)) == {"A": 1, "B": 1}


def test_what_a_capped_one_cannot_bear_falls_to_the_others_pro_rata() -> None:
    weights = {"A": 1, "B": 1, "C": 2}
    assert split(80, weights, {"A": 5, "B": 100, "C": 100}) == {"A": 5, "B": 25, "C": 50}


def test_a_cap_may_bring_another_one_to_its_cap() -> None:
    weights = {"A": 1, "B": 1, "C": 1}
    assert split(90, weights, {"A": 0, "B": 40, "C": 100}) == {"B": 40, "C": 50}


def test_nobody_without_a_weight_pays() -> None:
    assert split(10, {"A": 0, "B": 1}, {"A": 100, "B": 4}) == {"B": 4}


@given(st.integers(0, 700), st.lists(st.tuples(amounts, amounts), max_size=6))
def test_a_split_sums_to_the_loss_or_to_all_that_there_is(
    loss: int, sides: list[tuple[int, int]]
) -> None:
    weights = {name: weight for name, (weight, _) in zip(NAMES, sides, strict=False)}
    capacity = {name: cap for name, (_, cap) in zip(NAMES, sides, strict=False)}
    shares = split(loss, weights, capacity)
    able = sum(capacity[name] for name in weights if weights[name])
    assert sum(shares.values()) == min(loss, able)
    assert all(0 < share <= capacity[name] for name, share in shares.items())
    assert list(shares) == sorted(shares)


@given(
    st.integers(1, 700), st.lists(st.tuples(st.integers(1, 50), amounts), min_size=1, max_size=6)
)
def test_shares_below_the_caps_are_within_a_unit_of_one_rate(
    loss: int, sides: list[tuple[int, int]]
) -> None:
    """There is one rate per unit of weight: a share is that, rounded either way, or its cap, which
    is no more than that rounded up."""
    weights = {name: weight for name, (weight, _) in zip(NAMES, sides, strict=False)}
    capacity = {name: cap for name, (_, cap) in zip(NAMES, sides, strict=False)}
    shares = split(loss, weights, capacity)
    free = {name for name in weights if shares.get(name, 0) < capacity[name]}
    if not free:
        return
    # Those at their cap that are so by rounding alone cannot be told apart: bound the rate.
    low = max(Fraction(shares.get(name, 0) - 1, weights[name]) for name in free)
    high = min(Fraction(shares.get(name, 0) + 1, weights[name]) for name in free)
    assert low < high
    for name in weights.keys() - free:
        assert Fraction(capacity[name] - 1, weights[name]) < high


@given(st.permutations(NAMES), st.integers(0, 100))
def test_a_split_does_not_depend_on_the_order_in_which_members_are_given(
    names: list[str], loss: int
) -> None:
    weights = {name: 1 + "ABCDEF".index(name) % 3 for name in names}
    capacity = {name: 5 * weights[name] for name in names}
    ordered = {name: weights[name] for name in NAMES}
    assert split(loss, weights, capacity) == split(loss, ordered, capacity)


# --- the order of the waterfall -------------------------------------------------------------------


def test_own_margin_own_fund_capital_survivors_pay_in_this_order() -> None:
    plan = waterfall(
        [Short("B", 100, 20)],
        {"B": Means(margin=20, fund=25)},
        [("X", 10), ("Y", 5)],
        [SurvivorShare("A", 30, 500), SurvivorShare("C", 10, 500)],
    )
    assert not plan.left
    assert paid(plan.shortfalls[0]) == [
        (MARGIN, "B", 20),
        (FUND, "B", 25),
        (CAPITAL, "X", 10),
        (CAPITAL, "Y", 5),
        (SURVIVOR, "A", 15),
        (SURVIVOR, "C", 5),
    ]


def test_a_source_that_is_not_needed_leaves_no_trace() -> None:
    plan = waterfall([Short("B", 100, 90)], {"B": Means(10, 25)}, [("X", 10)], [])
    assert paid(plan.shortfalls[0]) == [(MARGIN, "B", 10)]


def test_a_survivor_bears_its_contribution_once_however_many_are_short() -> None:
    plan = waterfall(
        [Short("A", 50, 0), Short("B", 50, 0)],
        {"A": Means(0, 0), "B": Means(0, 0)},
        [],
        [SurvivorShare("C", 60, 1_000)],
    )
    assert [paid(each) for each in plan.shortfalls] == [
        [(SURVIVOR, "C", 50)],
        [(SURVIVOR, "C", 10)],
    ]
    assert plan.left == (("B", 40),)


def test_a_survivor_bears_no_more_than_its_fund_account_holds() -> None:
    plan = waterfall([Short("A", 50, 0)], {"A": Means(0, 0)}, [], [SurvivorShare("C", 60, 7)])
    assert plan.left == (("A", 43),)


# --- recomputing ----------------------------------------------------------------------------------


POSITIONS = (
    NetPosition("A", 130, 30),
    NetPosition("B", 50, 90),
    NetPosition("C", 0, 60),
    NetPosition("D", 40, 40),
)
CLOSED = CycleClosed("EUR", 7, POSITIONS, 9, bytes(32))
SETTLED = CycleSettled(
    "EUR",
    7,
    (
        Shortfall(
            "A",
            100,
            60,
            (
                Cover(MARGIN, "A", 10, 10),
                Cover(CAPITAL, "X", 5, 5),
                Cover(SURVIVOR, "B", 40, 17),
                Cover(SURVIVOR, "C", 20, 8),
            ),
        ),
    ),
    (SurvivorShare("B", 40, 50), SurvivorShare("C", 20, 20), SurvivorShare("D", 0, 10)),
)


def test_every_movement_follows_from_the_two_events() -> None:
    assert recompute(CLOSED, SETTLED) == (
        Movement("A", AccountKind.MARGIN, -10),
        Movement("A", SETTLEMENT, 10),
        Movement("X", AccountKind.CAPITAL, -5),
        Movement("A", SETTLEMENT, 5),
        Movement("B", AccountKind.FUND, -17),
        Movement("A", SETTLEMENT, 17),
        Movement("C", AccountKind.FUND, -8),
        Movement("A", SETTLEMENT, 8),
        Movement("A", SETTLEMENT, -100),
        Movement("B", SETTLEMENT, 40),
        Movement("C", SETTLEMENT, 60),
    )


def short_a(**changed: object) -> CycleSettled:
    shortfall = SETTLED.shortfalls[0]
    return replace(SETTLED, shortfalls=(replace(shortfall, **changed),))


def covers(change: Callable[[list[Cover]], object]) -> CycleSettled:
    made = list(SETTLED.shortfalls[0].covers)
    change(made)
    return short_a(covers=tuple(made))


LIES = {
    "another cycle": (CLOSED, replace(SETTLED, cycle=8)),
    "another asset": (replace(CLOSED, asset="CNY"), SETTLED),
    "positions that do not sum to zero": (
        replace(CLOSED, positions=(*POSITIONS, NetPosition("E", 0, 1))),
        SETTLED,
    ),
    "a participant twice": (
        replace(CLOSED, positions=(*POSITIONS, NetPosition("D", 0, 0))),
        SETTLED,
    ),
    "positions out of order": (replace(CLOSED, positions=POSITIONS[::-1]), SETTLED),
    "another debt": (CLOSED, short_a(owed=101)),
    "a debtor that owes nothing": (CLOSED, short_a(participant="B")),
    "a debtor that was not short": (CLOSED, short_a(own=100, covers=())),
    "more of its own than said": (CLOSED, short_a(own=61)),
    "survivors pay before capital": (CLOSED, covers(lambda made: made.insert(1, made.pop(2)))),
    "a step that is left out": (CLOSED, covers(lambda made: made.pop())),
    "one survivor pays for another": (
        CLOSED,
        covers(lambda made: made.__setitem__(slice(2, 4), [Cover(SURVIVOR, "B", 40, 25)])),
    ),
    "the unit went to the smaller remainder": (
        CLOSED,
        covers(
            lambda made: made.__setitem__(
                slice(2, 4), [Cover(SURVIVOR, "B", 40, 16), Cover(SURVIVOR, "C", 20, 9)]
            )
        ),
    ),
    "margin is spared": (
        CLOSED,
        covers(lambda made: made.__setitem__(0, Cover(MARGIN, "A", 10, 9))),
    ),
    "a debtor among the survivors": (
        CLOSED,
        replace(SETTLED, survivors=(SurvivorShare("A", 1, 1), *SETTLED.survivors)),
    ),
    "survivors where nobody was short": (
        replace(CLOSED, positions=(NetPosition("B", 1, 1),)),
        replace(SETTLED, shortfalls=()),
    ),
    "a shortfall twice": (CLOSED, replace(SETTLED, shortfalls=SETTLED.shortfalls * 2)),
}


@pytest.mark.parametrize(("closed", "settled"), LIES.values(), ids=LIES)
def test_a_settlement_that_breaks_the_rules_is_found_out(
    closed: CycleClosed, settled: CycleSettled
) -> None:
    with pytest.raises(NotReproducible):
        recompute(closed, settled)


@st.composite
def defaults(draw: st.DrawFn) -> tuple[CycleClosed, CycleSettled, list[tuple[str, int]]]:
    """A cycle with short debtors, as the ledger would settle it; what was left is empty."""
    nets = draw(st.lists(st.integers(-150, 150), min_size=5, max_size=5))
    nets.append(-sum(nets))
    positions = tuple(
        NetPosition(name, max(-net, 0), max(net, 0)) for name, net in zip(NAMES, nets, strict=True)
    )
    debtors = [name for name, net in zip(NAMES, nets, strict=True) if net < 0]
    short = [
        Short(name, owed, draw(st.integers(0, owed - 1)))
        for name, net in zip(NAMES, nets, strict=True)
        if (owed := -net) > 0 and draw(st.booleans())
    ]
    names = [each.participant for each in short]
    assert set(names) <= set(debtors)
    plan = waterfall(
        short,
        {name: Means(draw(amounts), draw(amounts)) for name in names},
        [(name, draw(amounts)) for name in ("X", "Y")],
        [SurvivorShare(n, draw(amounts), draw(amounts)) for n in NAMES if n not in names],
    )
    closed = CycleClosed("EUR", 1, positions, 1, bytes(32))
    settled = CycleSettled("EUR", 1, plan.shortfalls, plan.survivors if short else ())
    return closed, settled, list(plan.left)


@given(defaults())
def test_every_settled_default_can_be_recomputed_and_conserves_money(
    case: tuple[CycleClosed, CycleSettled, list[tuple[str, int]]],
) -> None:
    closed, settled, left = case
    if left:
        with pytest.raises(NotReproducible, match="uncovered"):
            recompute(closed, settled)
        return
    movements = recompute(closed, settled)
    assert sum(each.amount for each in movements) == 0
    for shortfall in settled.shortfalls:
        covered = sum(each.amount for each in shortfall.covers)
        assert shortfall.own + covered == shortfall.owed
        assert all(0 < each.amount <= each.available for each in shortfall.covers)
