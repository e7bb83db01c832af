"""The movements of a chain are all there is: their sums are the ledger's balances, and each names
the outcome that proves it."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from random import Random

import pytest

from node.audit.chain_audit import Replayed, audit_chain
from node.audit.export import BooksBroken, Exporter
from node.audit.movements import CLEARING, ISSUED, KINDS
from node.audit.report import VALID
from node.chain.encoding import decode
from node.chain.merkle import OUTCOME_LEAF
from node.chain.statuses import FINAL_SETTLED
from node.chain.types import Outcome
from node.chain.uetr import uetr_text
from tests.support.evidence_world import evidence_world
from tests.support.exported import STEPS, Export, History, made_writer, rich, rich_export, sums

SEEDS = 25
ROWS = 200


def test_movements_alone_give_every_balance_after_every_block_of_any_history() -> None:
    """The exporter itself compares after each block; here, that nothing was left out of either."""
    for seed in range(SEEDS):
        export = Export("csv")
        history = History(7_000_000 + seed, STEPS, [export])
        export.exporter.compare_all(history.state)
        found = sums(export.rows)
        held = {key: value for key, value in found.items() if key[0] != ISSUED}
        assert held == history.balances()
        outstanding = {
            (ISSUED, each.code): each.redeemed - each.issued
            for each in history.state.assets()
            if each.issued != each.redeemed
        }
        assert {key: value for key, value in found.items() if key[0] == ISSUED} == outstanding


def test_a_history_with_every_kind_of_movement_leaves_nothing_in_clearing() -> None:
    rows = rich_export("csv").rows
    assert {row["kind"] for row in rows} == set(KINDS)
    assert CLEARING not in {account for account, _ in sums(rows)}


def test_a_replay_of_a_stored_chain_shows_every_block_of_it() -> None:
    world = evidence_world()
    file = BytesIO()
    exporter = Exporter(made_writer("csv", file), world.members.genesis)
    genesis = world.members.genesis_bytes
    report = audit_chain(world.chain, genesis, watch=exporter.watch)
    assert report.verdict == VALID, report.text()
    exporter.compare_all(world.chain.state)
    summary = exporter.finish()
    assert (summary.last and summary.last.height) == report.height
    kinds = {line.split(",")[4] for line in file.getvalue().decode().splitlines()[1:]}
    assert kinds >= {"pay", "issue", "redeem", "move", "reserve", "link", "net", "cover", "return"}


def test_the_proof_of_any_row_leads_to_the_outcome_that_moved_the_money() -> None:
    history = rich()
    rows = rich_export("csv").rows
    for row in Random(5).sample(rows, min(ROWS, len(rows))):
        height, _, index = row["proof"].partition(":")
        assert (height, index) == (row["height"], row["index"])
        raw = history.blocks[int(height) - 1].applied.outcomes[int(index)]
        assert sha256(OUTCOME_LEAF + raw).hexdigest() == row["outcome"]
        outcome = decode(raw, Outcome)
        assert (outcome.height, outcome.status in FINAL_SETTLED) == (int(height), True)
        assert row["uetr"] == ("" if outcome.uetr is None else uetr_text(outcome.uetr))


def test_a_movement_too_many_or_too_few_stops_the_export() -> None:
    first, second = (
        Replayed(each.header, each.digest, each.instructions, each.applied)
        for each in rich().blocks[:2]
    )
    twice, skipping = Export("csv").exporter, Export("csv").exporter
    twice.watch(first)
    with pytest.raises(BooksBroken, match="the movements give"):
        twice.watch(first)
    with pytest.raises(BooksBroken, match="the ledger has"):
        skipping.watch(second)
