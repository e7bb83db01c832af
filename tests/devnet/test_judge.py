"""The judge of scenarios passes a sound run, and names the rule that any other one breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from devnet.scenario.judge import judge
from devnet.scenario.observed import (
    BlockSeen,
    Claim,
    Observations,
    Outcome,
    Read,
    Recovery,
)

NODES = ["node0", "node1", "node2"]
PAYMENTS = [Outcome(f"uetr-{n}", 1 + n // 2, 0, n % 2, "settled") for n in range(4)]
ACCOUNTS = {("LEI-A", "settlement", "EUR"): 70_00, ("LEI-B", "settlement", "EUR"): 30_00}
SUPPLY = {"EUR": 100_00}


def sound() -> Observations:
    """A run of two blocks with two payments each, in which nothing went wrong."""
    chain = [BlockSeen(0, "g", "0", 0), BlockSeen(1, "a", "g", 2), BlockSeen(2, "b", "a", 2)]
    return Observations(
        nodes=list(NODES),
        supply=dict(SUPPLY),
        sent={payment.uetr for payment in PAYMENTS},
        told={name: list(PAYMENTS) for name in NODES},
        claims=[Claim(name, 1, "a") for name in NODES],
        reads=[Read(name, 2, dict(ACCOUNTS), dict(SUPPLY)) for name in NODES],
        chains={name: list(chain) for name in NODES},
        outcomes={name: list(PAYMENTS) for name in NODES},
        recoveries=[Recovery("heal", 1.5)],
    )


def test_a_sound_run_passes_and_what_was_looked_at_is_counted() -> None:
    verdict = judge(sound(), 20.0)
    assert verdict.passed, verdict.findings
    assert (verdict.blocks, verdict.payments, verdict.told, verdict.reads) == (3, 4, 12, 3)


def test_a_node_that_is_a_block_behind_is_no_fork() -> None:
    seen = sound()
    seen.chains["node2"].append(BlockSeen(3, "c", "b", 0))
    seen.claims.append(Claim("node2", 3, "c"))
    assert judge(seen, 20.0).passed


def test_a_node_that_was_behind_at_the_start_may_tell_of_less_issued_before_it() -> None:
    seen = sound()
    seen.begun = 1
    early = {("LEI-A", "settlement", "EUR"): 50_00}
    seen.reads.append(Read("node2", 0, early, {"EUR": 50_00}))
    assert judge(seen, 20.0).passed
    seen.begun = 0
    assert not judge(seen, 20.0).passed


def fork(seen: Observations) -> None:
    seen.chains["node1"][2] = BlockSeen(2, "other", "a", 2)


def fork_that_healed(seen: Observations) -> None:
    seen.claims.append(Claim("node0", 2, "was-this"))


def chain_that_was_cut(seen: Observations) -> None:
    seen.claims.append(Claim("node0", 3, "c"))


def block_without_its_parent(seen: Observations) -> None:
    for chain in seen.chains.values():
        chain[2] = BlockSeen(2, "b", "not-a", 2)


def block_left_out(seen: Observations) -> None:
    for chain in seen.chains.values():
        del chain[1]


def settled_twice(seen: Observations) -> None:
    again = PAYMENTS[0]._replace(height=2, instruction=1)
    for name in NODES:
        seen.outcomes[name].append(again)
        seen.chains[name][2] = seen.chains[name][2]._replace(outcomes=3)


def shown_twice(seen: Observations) -> None:
    seen.outcomes["node2"].append(PAYMENTS[3])


def missing_on_one_node(seen: Observations) -> None:
    seen.outcomes["node1"].remove(PAYMENTS[2])


def told_and_then_gone(seen: Observations) -> None:
    seen.told["node0"].append(Outcome("somebody-else's", 2, 1, 0, "settled"))


def told_otherwise(seen: Observations) -> None:
    seen.told["node0"][1] = PAYMENTS[1]._replace(status="rejected")


def told_again(seen: Observations) -> None:
    seen.told["node0"].append(PAYMENTS[3])


def told_out_of_order(seen: Observations) -> None:
    seen.told["node0"].reverse()


def moved(seen: Observations) -> None:
    seen.outcomes["node1"][0] = PAYMENTS[0]._replace(payment=1)


def not_in_the_headers(seen: Observations) -> None:
    for name in NODES:
        seen.outcomes[name].append(Outcome("", 2, 9, 0, "done"))


def lost(seen: Observations) -> None:
    seen.sent.add("never-heard-of-again")


def rejected(seen: Observations) -> None:
    for told in (*seen.outcomes.values(), *seen.told.values()):
        told[3] = PAYMENTS[3]._replace(status="rejected")


def refused(seen: Observations) -> None:
    seen.refused["uetr-9"] = "bad-signature"


def money_that_appears(seen: Observations) -> None:
    account = ("LEI-A", "settlement", "EUR")
    seen.reads[1].balances[account] += 1


def money_that_appears_in_another_currency(seen: Observations) -> None:
    seen.reads[1].balances["LEI-A", "settlement", "CNY"] = 1


def money_that_appears_in_the_books_too(seen: Observations) -> None:
    seen.reads[1].balances["LEI-A", "settlement", "EUR"] += 1
    seen.reads[1].supply["EUR"] += 1


def money_elsewhere_at_the_same_height(seen: Observations) -> None:
    seen.reads[1].balances.update(
        {("LEI-A", "settlement", "EUR"): 69_99, ("LEI-B", "settlement", "EUR"): 30_01}
    )


def slow(seen: Observations) -> None:
    seen.recoveries.append(Recovery("restart node1", 20.1))


def never(seen: Observations) -> None:
    seen.recoveries.append(Recovery("restart node1", None, "node1 is at height 1, node0 at 2"))


def alarm(seen: Observations) -> None:
    seen.complaints.append("node1: alarm: diverged")


def nothing_told(seen: Observations) -> None:
    seen.told.clear()


def nothing_read(seen: Observations) -> None:
    seen.reads.pop()


def no_recovery(seen: Observations) -> None:
    seen.recoveries.clear()


def nobody_up(seen: Observations) -> None:
    seen.nodes.clear()


@pytest.mark.parametrize(
    ("spoil", "rule", "text"),
    [
        (fork, "one-chain", "at height 2 there are 2 blocks"),
        (fork_that_healed, "one-chain", "node0 once had block was-this"),
        (chain_that_was_cut, "one-chain", "node0 once stood at height 3"),
        (block_without_its_parent, "one-chain", "does not name block 1 as its parent"),
        (block_left_out, "one-chain", "has block 2 where 1 should be"),
        (settled_twice, "final-once", "settled uetr-0 2 times: settled at 1"),
        (shown_twice, "final-once", "node2 settled uetr-3 2 times"),
        (missing_on_one_node, "final-once", "node1 has nothing of it"),
        (told_and_then_gone, "final-once", "node0 told that somebody-else's is settled at 2"),
        (told_otherwise, "final-once", "is rejected at 1 [0, 1]; node0 has settled at 1 [0, 1]"),
        (told_again, "final-once", "node0 told settled at 2 [0, 1] after settled at 2 [0, 1]"),
        (told_out_of_order, "final-once", "node0 told settled at 2 [0, 0] after settled at 2"),
        (moved, "final-once", "node1 has settled at 1 [0, 1]"),
        (not_in_the_headers, "final-once", "lists 5 outcomes of blocks whose headers count 4"),
        (lost, "nothing-lost", "never-heard-of-again was handed in and is not final"),
        (rejected, "nothing-lost", "uetr-3 was handed in and is rejected"),
        (refused, "nothing-lost", "uetr-9 was not taken in: bad-signature"),
        (money_that_appears, "conservation", "sum to 10001 minor units"),
        (money_that_appears_in_another_currency, "conservation", "in CNY sum to 1"),
        (money_that_appears_in_the_books_too, "conservation", "10001 minor units of EUR are said"),
        (money_elsewhere_at_the_same_height, "conservation", "other balances than node0"),
        (slow, "recovery", "20.1 s after 'restart node1', over 20 s"),
        (never, "recovery", "node1 is at height 1"),
        (alarm, "nodes-sound", "diverged"),
        (nothing_told, "evidence", "no node told anything"),
        (nothing_read, "evidence", "no balances were read at node2"),
        (no_recovery, "evidence", "no recovery was measured"),
        (nobody_up, "evidence", "no node was up"),
    ],
)
def test_every_breach_is_found_and_named(
    spoil: Callable[[Observations], None], rule: str, text: str
) -> None:
    seen = sound()
    spoil(seen)
    verdict = judge(seen, 20.0)
    assert not verdict.passed
    assert any(found.rule == rule and text in found.text for found in verdict.findings), (
        verdict.findings
    )


def test_what_is_told_of_many_breaches_is_bounded_and_counted() -> None:
    seen = sound()
    seen.sent |= {f"lost-{n:04d}" for n in range(1_000)}
    found = judge(seen, 20.0).findings
    assert [finding.rule for finding in found] == ["nothing-lost"] * 4
    # Every node lacks each of them.
    assert found[-1].text == "… and 2,997 more like these"


def test_the_bound_of_the_recovery_is_the_scenarios_own() -> None:
    seen = replace(sound(), recoveries=[Recovery("heal", 7.0)])
    assert judge(seen, 8.0).passed
    assert not judge(seen, 6.0).passed
