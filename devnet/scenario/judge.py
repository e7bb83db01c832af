"""Whether what was observed is what a settlement ledger may show. Pure: from evidence to findings.

The rules are those of the ledger's users, and none of them knows how the nodes reach agreement.
A run that shows nothing (no payment final, no balances read) is not sound but empty, and fails.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from devnet.scenario.observed import Observations, Outcome

MAX_EXAMPLES = 3
"""Of one kind of breach that are written out; the number of the others is told."""
SETTLED = "settled"


class Finding(NamedTuple):
    """One breach."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found, and how much it looked at."""

    findings: list[Finding]
    blocks: int
    payments: int
    told: int
    reads: int

    @property
    def passed(self) -> bool:
        return not self.findings


def judge(seen: Observations, recovery_seconds: float) -> Verdict:
    """Apply all rules to a finished run."""
    rules = {
        "evidence": _evidence(seen),
        "one-chain": _one_chain(seen),
        "conservation": _conservation(seen),
        "final-once": _final_once(seen),
        "nothing-lost": _nothing_lost(seen),
        "recovery": _recovery(seen, recovery_seconds),
        "nodes-sound": iter(seen.complaints),
    }
    return Verdict(
        findings=[
            Finding(rule, text) for rule, breaches in rules.items() for text in _some(breaches)
        ],
        blocks=max((len(chain) for chain in seen.chains.values()), default=0),
        payments=len(seen.sent),
        told=sum(len(told) for told in seen.told.values()),
        reads=len(seen.reads),
    )


def _some(breaches: Iterable[str]) -> Iterator[str]:
    more = 0
    for number, text in enumerate(breaches):
        if number < MAX_EXAMPLES:
            yield text
        else:
            more += 1
    if more:
        yield f"… and {more:,} more like these"


def _evidence(seen: Observations) -> Iterator[str]:
    """Every rule had something to look at, of every node."""
    for node in seen.nodes:
        if len(seen.chains.get(node, ())) < 2:
            yield f"no block of {node} could be read"
        if not seen.outcomes.get(node):
            yield f"no outcome of {node} could be read"
        if not any(read.node == node for read in seen.reads):
            yield f"no balances were read at {node}"
    if not seen.nodes:
        yield "no node was up at the end"
    if not any(seen.told.values()):
        yield "no node told anything to be final"
    if not seen.recoveries:
        yield "no recovery was measured"


def _one_chain(seen: Observations) -> Iterator[str]:
    """All nodes have the same block at every height, and always had."""
    at: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for node, chain in seen.chains.items():
        for height, block in enumerate(chain):
            if block.height != height:
                yield f"{node} has block {block.height} where {height} should be"
                break
            if height and block.parent != chain[height - 1].digest:
                yield f"block {height} of {node} does not name block {height - 1} as its parent"
            at[height][block.digest].append(node)
    for height, digests in sorted(at.items()):
        if len(digests) > 1:
            sides = "; ".join(f"{d[:16]}… on {', '.join(n)}" for d, n in sorted(digests.items()))
            yield f"at height {height} there are {len(digests)} blocks: {sides}"
    for claim in seen.claims:
        now = at.get(claim.height)
        if now is not None and claim.digest not in now:
            yield (
                f"{claim.node} once had block {claim.digest[:16]}… at height {claim.height}, where "
                f"the chain now has {', '.join(f'{d[:16]}…' for d in now)}"
            )
        elif now is None and seen.chains:
            yield f"{claim.node} once stood at height {claim.height}, which no node has any more"


def _conservation(seen: Observations) -> Iterator[str]:
    """On every read the balances sum to what was issued, which is what it was at the beginning."""
    first: dict[int, int] = {}
    for number, read in enumerate(seen.reads):
        where = f"{read.node} at height {read.height}"
        sums: dict[str, int] = defaultdict(int)
        for (_, _, asset), amount in read.balances.items():
            sums[asset] += amount
        for asset in sorted({*seen.supply, *read.supply, *sums}):
            issued, told = seen.supply.get(asset, 0), read.supply.get(asset, 0)
            if sums[asset] != told:
                yield (
                    f"{where}: the balances in {asset} sum to {sums[asset]} minor units, issued − "
                    f"redeemed is {told}"
                )
            if told != issued and read.height >= seen.begun:
                yield (
                    f"{where}: {told} minor units of {asset} are said to be issued, where "
                    f"{issued} were and nobody issued or redeemed any"
                )
        same = seen.reads[first.setdefault(read.height, number)]
        if same.balances != read.balances:
            different = sorted(
                "/".join(account)
                for account in {*same.balances, *read.balances}
                if same.balances.get(account) != read.balances.get(account)
            )
            yield f"{where} has other balances than {same.node} there: {', '.join(different[:3])}"


def _final_once(seen: Observations) -> Iterator[str]:
    """What any node told to be final is on every node, once, at the same place, as told."""
    told: dict[Outcome, str] = {}
    for node, outcomes in seen.told.items():
        for before, outcome in pairwise(outcomes):
            if before[1:4] >= outcome[1:4]:
                yield f"{node} told {_places([outcome])} after {_places([before])}"
        for outcome in outcomes:
            told.setdefault(outcome, node)
    for node in seen.nodes:
        found: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in seen.outcomes.get(node, ()):
            found[outcome.uetr].append(outcome)
        for uetr, outcomes in found.items():
            settled = [outcome for outcome in outcomes if outcome.status == SETTLED]
            if len(settled) > 1:
                yield f"{node} settled {uetr} {len(settled)} times: {_places(settled)}"
        for outcome, teller in told.items():
            times = Counter(found.get(outcome.uetr, ()))[outcome]
            if times == 1:
                continue
            has = _places(found.get(outcome.uetr, ())) or "nothing of it"
            yield (
                f"{teller} told that {outcome.uetr} is {_places([outcome])}; {node} has "
                f"{has if times == 0 else f'this {times} times'}"
            )
        blocks = sum(block.outcomes for block in seen.chains.get(node, ()))
        listed = len(seen.outcomes.get(node, ()))
        if listed != blocks:
            yield f"{node} lists {listed} outcomes of blocks whose headers count {blocks}"


def _places(outcomes: Iterable[Outcome]) -> str:
    return ", ".join(
        f"{o.status} at {o.height} [{o.instruction}, {o.payment}]" for o in sorted(outcomes)
    )


def _nothing_lost(seen: Observations) -> Iterator[str]:
    """What was handed in and not refused has settled; all banks have money enough."""
    for uetr, why in seen.refused.items():
        yield f"{uetr} was not taken in: {why}"
    for node in seen.nodes:
        status = {outcome.uetr: outcome.status for outcome in seen.outcomes.get(node, ())}
        for uetr in sorted(seen.sent):
            if status.get(uetr) != SETTLED:
                yield f"{uetr} was handed in and is {status.get(uetr, 'not final')} at {node}"


def _recovery(seen: Observations, most: float) -> Iterator[str]:
    """After each mending the network was whole again in time."""
    for recovery in seen.recoveries:
        if recovery.seconds is None:
            yield f"not recovered after {recovery.after!r}: {recovery.detail}"
        elif recovery.seconds > most:
            yield f"recovered {recovery.seconds:.1f} s after {recovery.after!r}, over {most:g} s"
