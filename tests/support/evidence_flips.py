"""Every single bit of a small file of evidence of each kind, flipped: none may prove anything.

    python -m tests.support.evidence_flips [--jobs N] [--kind NAME …]

`make test` tries a sample; this tries them all, and every damaged element (`mutations`), on all
cores. Exits with 1, naming the bit, if the verifier calls one VALID or fails to judge it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from node.audit.dossier import encode_dossier
from node.audit.report import VALID, AbsenceFacts, BalanceFacts, Report
from node.audit.verify import check_file
from node.chain.genesis import Genesis, load_genesis
from tests.support.evidence_cases import cases
from tests.support.evidence_world import case, evidence_world
from tests.support.forge_chain import Chain, rebuilt
from tests.support.forgeries_around import PINNED, receipt
from tests.support.mutations import mutants

MAX_BYTES = 16 * 1024
"""Bytes of a file whose every bit is flipped."""
SLICE = 4_000
"""Bits, or damaged elements, that one task takes."""


class Found(NamedTuple):
    """What a task did."""

    tried: int
    wrong: list[str]


SMALL = (
    "issue", "move", "alone", "retry", "held", "posted", "gridlock-first", "link-eur",
    "net-waterfall", "disputed",
)  # fmt: skip
"""Payments whose dossiers are tried, of a chain of one epoch."""
OTHERS = {
    "fork: one view, 4 validators, epoch 0",
    "fork: a carrier, 4 validators, epoch 0",
    "equivocation: epoch 1",
    "balance: settlement",
    "balance: none",
    "absence: a day",
    "absence: an idle day",
}
"""Names of what else is tried, of the shared sample."""


@cache
def kinds() -> dict[str, tuple[bytes, Genesis]]:
    """(file, genesis) of a small sound file of each kind, by name."""
    ledger, plain = evidence_world().chain.genesis, case("alone")
    found = {name: encode_dossier(rebuilt(case(name))) for name in SMALL}
    found["epochs"] = encode_dossier(rebuilt(plain, Chain(ends=(2, 9), carriers=1)))
    found["receipt"] = encode_dossier(replace(rebuilt(plain), receipt=receipt(plain)))
    pinned = case("alone", None, PINNED)
    found["pinned"] = encode_dossier(pinned)
    files = {name: (data, ledger) for name, data in found.items()}
    for each in cases():
        if each.name in OTHERS:
            files[each.name] = each.data, load_genesis(each.genesis)
    return {name: each for name, each in files.items() if len(each[0]) <= MAX_BYTES}


def flip(name: str, first: int) -> Found:
    """Flip so many bits from this one on."""
    data, genesis = kinds()[name]
    wrong, claim = [], claimed(check_file(data, genesis))
    last = min(first + SLICE, len(data) * 8)
    for position in range(first, last):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        if proves(bytes(flipped), genesis, claim):
            wrong.append(f"{name}: bit {position} flipped is VALID")
    return Found(last - first, wrong)


def damage(name: str, first: int) -> Found:
    """Damage so many elements from this one on."""
    data, genesis = kinds()[name]
    sound = check_file(data, genesis)
    status, claim = sound.status, claimed(sound)
    wrong, tried = [], 0
    for mutant in islice(mutants(data), first, first + SLICE):
        tried += 1
        if mutant.data == data:
            continue
        if not proves(mutant.data, genesis, claim):
            continue
        if sound.kind == "equivocation" and mutant.what.startswith("exchanged"):
            continue  # two votes accuse whoever made them in either order
        # What nobody has to show may be left out: then the rest proves the same.
        less = len(mutant.data) < len(data)
        if not less or check_file(mutant.data, genesis).status != status:
            wrong.append(f"{name}: {mutant.what} at {mutant.at} is VALID")
    return Found(tried, wrong)


def proves(data: bytes, genesis: Genesis, claim: object) -> bool:
    """Whether the verifier calls it VALID for what the sound file claims. Of another account or
    UETR, which its reader would see, the same proof may truly show the same."""
    report = check_file(data, genesis)
    return report.verdict == VALID and claimed(report) in (claim, None)


def claimed(report: Report) -> object:
    """What a proof of a state is about; None: it is a file of another kind."""
    match report.state:
        case AbsenceFacts(uetr=uetr):
            return uetr
        case BalanceFacts(participant=participant, currency=asset, account=account):
            return participant, asset, account
    return None


Task = tuple[Callable[[str, int], Found], str, int]


def tasks(names: list[str]) -> Iterator[Task]:
    for name in names:
        data, _ = kinds()[name]
        for first in range(0, len(data) * 8, SLICE):
            yield flip, name, first
        count = sum(1 for _ in mutants(data))
        for first in range(0, count, SLICE):
            yield damage, name, first


def run(task: Task) -> Found:
    work, name, first = task
    return work(name, first)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kind", action="append", choices=sorted(kinds()))
    args = parser.parse_args()
    names = args.kind or list(kinds())
    began, tried, wrong = time.monotonic(), 0, []
    with ProcessPoolExecutor(args.jobs) as pool:
        for found in pool.map(run, tasks(names)):
            tried += found.tried
            wrong += found.wrong
    for each in wrong:
        print(each)
    took = time.monotonic() - began
    print(
        f"{len(names)} kinds of evidence, {tried:,} flipped bits and damaged elements in "
        f"{took:.0f} s: {len(wrong)} called VALID"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
