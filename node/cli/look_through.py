"""Looking through an account: every payment that moved it in a window of time, each with where its
money came from and where it went on to. For a supervisor.

The node that is asked tells; what it says of a payment is proven by the payment's dossier.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from node.cli.common import duration_option, now_ms
from node.cli.errors import CommandError
from node.cli.output import Output

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.settlement import MovementView, TraceDocument

MAX_TREES = 2_000
"""Payments that are looked through by one command: a longer window is cut."""


class LookThrough(msgspec.Struct, frozen=True):
    """What moved an account, in trees of linked payments."""

    participant: str
    asset: str
    account: str
    first: int
    """Heights of the window's first and last block."""
    last: int
    movements: int
    credited: int
    """How many of them."""
    trees: list[TraceDocument]
    """Each holds at least one payment that moved the account; no payment stands in two of them
    unless both have it from different sources."""
    others: list[MovementView]
    """Movements that are no payment of their own: net positions of clearing cycles, sweeps,
    pledges."""
    complete: bool
    """False: the window has more payments than were looked through."""

    @property
    def remarks(self) -> list[str]:
        """For people."""
        said = [
            f"{self.movements:,} movements, {self.credited:,} of them credits; "
            f"{len(self.trees):,} trees of linked payments"
        ]
        net = sorted({each.cycle for each in self.others if each.cycle is not None})
        if net:
            numbers = ", ".join(map(str, net))
            said.append(
                f"net positions of clearing cycle(s) {numbers} moved the account too; the payments "
                "in them stand in `nostro evidence UETR --in-clear all` of any one of them"
            )
        rest = sum(1 for each in self.others if each.cycle is None)
        if rest:
            said.append(f"{rest:,} movements that are no payments: sweeps, covers, pledges")
        if not self.complete:
            said.append(f"only the first {MAX_TREES:,} were looked through: narrow the window")
        return said


def past_option(text: str) -> int:
    """Milliseconds since the Unix epoch: of a date (its start in UTC), of an instant with its
    offset from UTC (ISO 8601), or of a duration ago, such as 24h."""
    try:
        return now_ms() - duration_option(text)
    except argparse.ArgumentTypeError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is not None and moment.tzinfo is None and len(text) == len("2026-03-02"):
        moment = moment.replace(tzinfo=UTC)
    if moment is None or moment.tzinfo is None or moment.timestamp() < 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: give a date such as 2026-03-02, an instant with its offset from "
            "UTC such as 2026-03-02T17:00:00+01:00, or how long ago, such as 24h"
        )
    return round(moment.timestamp() * 1000)


async def look_through(
    client: ApiClient,
    participant: str,
    account: tuple[str, str],
    output: Output,
    *,
    since: int,
    until: int | None,
) -> LookThrough:
    """Every payment that moved the account, (asset, kind), at block times since ≤ t < until.

    Raises CommandError, ApiError."""
    tip = (await client.status()).height
    first = await _first_at(client, since, tip)
    last = tip if until is None else await _first_at(client, until, tip) - 1
    if first > last:
        raise CommandError("no block of the ledger lies in this window")
    begins, ends = f"{first}:0", f"{last + 1}:0"
    movements = await client.movements_between(participant, account, begins, ends)
    trees: list[TraceDocument] = []
    covered: set[str] = set()
    wanted = [each.uetr for each in movements if each.uetr is not None]
    complete = True
    for number, uetr in enumerate(dict.fromkeys(wanted)):
        output.progress(number, len(wanted), "payments")
        if uetr in covered:
            continue
        if len(trees) >= MAX_TREES:
            complete = False
            break
        tree = await client.trace(uetr)
        covered |= _uetrs(tree)
        trees.append(tree)
    output.clear_progress()
    return LookThrough(
        participant=participant,
        asset=account[0],
        account=account[1],
        first=first,
        last=last,
        movements=len(movements),
        credited=sum(1 for each in movements if not each.amount.startswith("-")),
        trees=trees,
        others=[each for each in movements if each.uetr is None],
        complete=complete,
    )


def _uetrs(tree: TraceDocument) -> set[str]:
    from node.cli.flow import payments_of  # noqa: PLC0415

    return {view.uetr for view in payments_of(tree.source)}


async def _first_at(client: ApiClient, time: int, tip: int) -> int:
    """The first height whose block time is at least this; above the tip if none is. Block times
    ascend."""
    low, high = 1, tip + 1
    while low < high:
        middle = (low + high) // 2
        if (await client.block(middle)).timestamp >= time:
            high = middle
        else:
            low = middle + 1
    return low
