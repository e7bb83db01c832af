"""The index of what was said about payments of others: what the outcomes say, and nothing else."""

from __future__ import annotations

from typing import get_args

import pytest

from node.chain import types as t
from node.chain.block import inspect_block, parse_body
from node.ledger.about import NAMED, about
from tests.support.evidence_world import evidence_world
from tests.support.settlement_machine import Tally, play

SEEDS = range(110, 114)


@pytest.mark.parametrize("seed", SEEDS)
def test_accepted_instructions_about_a_payment_are_indexed_and_no_others(seed: int) -> None:
    for block in play(seed, Tally()).driver.chain.blocks:
        accepted = {
            outcome.instruction
            for outcome in block.outcomes
            if outcome.content is None and outcome.original is None and outcome.status != "RJCT"
        }
        expected = [
            (NAMED[type(body)](body), index)
            for index, each in enumerate(block.instructions)
            if type(body := each.instruction.envelope.body) in NAMED and index in accepted
        ]
        assert about(block.instructions, block.applied.outcomes) == expected


def test_a_scripted_ledger_has_each_kind_of_them() -> None:
    chain = evidence_world().chain
    kinds = set()
    for _, height, index in chain.spoken:
        block = parse_body(inspect_block(chain.blocks[height]))
        kinds.add(type(block[index].instruction.envelope.body))
    assert kinds == set(NAMED)


def test_no_body_that_names_an_original_is_forgotten() -> None:
    kinds = {kind for kind in get_args(t.InstructionBody) if "original" in kind.__struct_fields__}
    assert kinds == {t.Recall, t.RefuseRecall, t.Return, t.OpenDispute}
    assert kinds < set(NAMED)
