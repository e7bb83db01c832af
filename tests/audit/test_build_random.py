"""Whatever a ledger went through, every payment on it has a sound dossier that says what the ledger
says of it."""

from __future__ import annotations

import pytest

from node.audit.build import OpenBlocks, build_dossier
from node.audit.report import VALID
from node.audit.verify import check_dossier
from node.chain.records import CycleKey
from node.engine.payment_views import cycle_status
from node.ledger.entries import UetrEntry
from node.ledger.reasons import status_word
from node.ledger.tables import CYCLES
from tests.support.chain_source import ChainSource
from tests.support.ledger_world import Chain
from tests.support.settlement_machine import Tally, play

SEEDS = range(300, 306)


def standing(chain: Chain, entry: UetrEntry) -> set[str]:
    """The ledger's own words for how a payment stands; of a net one, in every currency that has
    such a cycle."""
    if entry.cycle is None:
        return {status_word(entry.status, entry.reason)}
    cycles = (chain.state.get(CYCLES, CycleKey(asset, entry.cycle)) for asset in ("CNY", "EUR"))
    return {status_word(*cycle_status(cycle)) for cycle in cycles if cycle is not None}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_payment_of_a_random_history_has_a_sound_dossier(seed: int) -> None:
    chain = play(seed, Tally()).driver.chain
    source = ChainSource(chain)
    blocks = OpenBlocks(source)
    assert chain.index.uetrs
    for entry in chain.index.uetrs.values():
        for reader in (None, "all"):
            data = build_dossier(source, entry, clear=reader, blocks=blocks)
            report = check_dossier(data, chain.world.genesis)
            assert report.verdict == VALID, report.text()
            assert report.status in standing(chain, entry), report.text()
