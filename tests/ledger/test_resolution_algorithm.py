"""Resolution finds the one greatest feasible prefix vector, in any order of removals."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from node.ledger.gridlock import Account, Debtor, resolve_queues
from tests.support.gridlock import Case, Entry, feasible_vectors, greatest, random_case

VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "gridlock_ubin.json").read_text(encoding="utf-8")
)
CASES = 2_500
LEAST_SHARE = 0.2
"""Of the random cases in which each of limits, lines, priorities and removals must matter."""
SEED = 20_170_101


def paying(creditor: str, amount: int) -> Entry:
    return Entry(0, ((creditor, 0, amount),))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["case"])
def test_published_gridlocks_settle_the_published_set(case: dict[str, Any]) -> None:
    queues: dict[str, list[dict[str, Any]]] = {bank: [] for bank in case["banks"]}
    for payment in case["payments"]:
        queues[payment["from"]].append(payment)
    debtors = {
        (bank, 0): Debtor(
            case["banks"][bank],
            [paying(each["to"], each["amount"]) for each in queue],
        )
        for bank, queue in queues.items()
    }
    found = resolve_queues(debtors)
    settled = [
        payment["id"]
        for bank, queue in queues.items()
        for payment in queue[: found.included.get((bank, 0), 0)]
    ]
    closing = {
        bank: opening + found.gained.get((bank, 0), 0) for bank, opening in case["banks"].items()
    }
    assert sorted(settled) == sorted(case["settled"])
    assert closing == case["closing"]


def test_result_is_the_greatest_of_all_feasible_vectors_in_any_order_of_removals() -> None:
    rng = random.Random(SEED)
    matters = dict.fromkeys(("a limit", "a line", "a priority", "a removal"), 0)
    for number in range(CASES):
        case = random_case(rng)
        debtors = case.debtors()
        included = resolve_queues(debtors).included
        top = greatest(feasible_vectors(case))
        assert included == {account: count for account, count in top.items() if count}, number
        again = resolve_queues(debtors, lambda failing: rng.randrange(len(failing)))
        assert again.included == included, f"case {number}: the order of removals mattered"
        settled = case.settled(included)
        matters["a limit"] += settled != _settled(case.without_limits())
        matters["a line"] += settled != _settled(case.without_lines())
        matters["a priority"] += settled != _settled(case.without_priorities())
        everything = {account: len(each.candidates) for account, each in debtors.items()}
        matters["a removal"] += settled != case.settled(everything)
    shares = {what: count / CASES for what, count in matters.items()}
    print(f"\n{CASES:,} cases; the result is another one without")
    for what, share in shares.items():
        print(f"  {what:<12} {share:6.1%}")
    assert all(share >= LEAST_SHARE for share in shares.values()), shares


def _settled(case: Case) -> set[tuple[Account, int]]:
    return case.settled(resolve_queues(case.debtors()).included)


def test_what_is_gained_is_what_the_included_candidates_pay() -> None:
    rng = random.Random(SEED)
    for _ in range(200):
        case = random_case(rng)
        debtors = case.debtors()
        found = resolve_queues(debtors)
        gained: dict[Account, int] = {}
        for account, count in found.included.items():
            for entry in debtors[account].candidates[:count]:
                gained[account] = gained.get(account, 0) - entry.amount
                for creditor, kind, amount in entry.credits:
                    gained[creditor, kind] = gained.get((creditor, kind), 0) + amount
        assert found.gained == gained
        assert sum(gained.values()) == 0


def test_the_structures_given_are_left_as_they_are() -> None:
    case = random_case(random.Random(3))
    debtors = case.debtors()
    resolve_queues(debtors)
    assert debtors == case.debtors()


def test_a_long_chain_falls_back_one_by_one() -> None:
    """Each bank can pay only with what the one before it pays; the first can not."""
    names = [f"BANK{number:016d}" for number in range(2_000)]
    chain: dict[Account, Debtor] = {
        (name, 0): Debtor(0, [paying(after, 10)]) for name, after in itertools.pairwise(names)
    }
    assert resolve_queues(chain).included == {}
    chain[names[0], 0].available = 10
    assert len(resolve_queues(chain).included) == len(names) - 1


def test_a_debtor_below_its_floor_delays_nobody_who_pays_it() -> None:
    """Only who pays has a condition to meet: money may flow to one who lacks it."""
    debtors: dict[Account, Debtor] = {
        ("A", 0): Debtor(5, [paying("B", 5)]),
        ("B", 0): Debtor(-20, [paying("A", 1)]),
    }
    assert resolve_queues(debtors).included == {("A", 0): 1}
