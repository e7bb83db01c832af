"""Dossiers and links of a chain whose validators changed, made by the ledger's own rules."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from node.audit.build import EvidenceUnavailable, build_dossier, epoch_links
from node.audit.dossier import decode_dossier
from node.audit.epochs import follow
from node.audit.report import VALID
from node.audit.verify import check_dossier
from node.chain.encoding import encode
from node.chain.records import ValidatorSetKey
from tests.support import world
from tests.support.epoch_chain import sample_of_epochs
from tests.support.small_chain import SmallChain


def build(chain: SmallChain, number: int) -> bytes:
    return build_dossier(chain, chain.uetrs[world.uetr(number)])


EPOCH_OF = {1000: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 3, 6: 3}
CARRIERS_OF = {1000: 0, 1: 0, 2: 0, 3: 2, 4: 0, 5: 0, 6: 0}


@pytest.mark.parametrize("number", EPOCH_OF)
def test_every_payment_of_every_epoch_has_a_valid_dossier(number: int) -> None:
    chain = sample_of_epochs()
    data = build(chain, number)
    report = check_dossier(data, chain.genesis)
    assert (report.verdict, report.status) == (VALID, "settled"), report.text()
    found = decode_dossier(data)
    assert found.header.epoch == len(found.epochs) == EPOCH_OF[number]
    assert found.finality is not None
    assert found.finality.certificate.epoch == EPOCH_OF[number]
    assert len(found.finality.carriers) == CARRIERS_OF[number]


def test_the_links_of_a_chain_lead_to_its_validator_sets() -> None:
    chain = sample_of_epochs()
    sets = follow(chain.genesis, epoch_links(chain, 0, 2))
    assert sets == [chain.state.validator_set_of(epoch) for epoch in range(4)]
    names = [[validator.name for validator in each.validators] for each in sets]
    assert names[1] == ["node0", "node1", "node2", "node3", "node4"]
    assert names[3] == ["node1", "node2", "node3", "node4"]
    assert [len(link.carriers) for link in epoch_links(chain, 0, 2)] == [0, 2, 1]


def test_a_block_that_only_its_epochs_seal_finalizes_is_proven_by_that() -> None:
    """The nearest certificate above is another epoch's, and covers nothing of this one."""
    chain = damaged(lambda c: c.finalizations.pop(c.seals[0].height))
    chain.finalizations.pop(3)
    found = decode_dossier(build(chain, 1))
    assert found.finality is not None
    assert found.finality.later is not None
    assert found.finality.later.header.height == chain.seals[0].height
    assert check_dossier(build(chain, 1), chain.genesis).verdict == VALID


def damaged(change: Callable[[SmallChain], object]) -> SmallChain:
    chain = copy.copy(sample_of_epochs())
    for name in ("blocks", "finalizations", "seals", "records", "history"):
        setattr(chain, name, dict(getattr(chain, name)))
    change(chain)
    return chain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.seals.pop(1), "the end of epoch 1"),
        (lambda c: c.blocks.pop(c.seals[0].height), "header 4"),
        (lambda c: c.records.pop(encode(ValidatorSetKey(2))), "the validator set of epoch 2"),
        (lambda c: c.history.clear(), "history node"),
    ],
)
def test_a_missing_part_of_the_epochs_is_named(
    change: Callable[[SmallChain], object], words: str
) -> None:
    with pytest.raises(EvidenceUnavailable, match=words):
        build(damaged(change), 6)


def test_an_epoch_that_has_not_ended_has_no_link() -> None:
    with pytest.raises(EvidenceUnavailable, match="the end of epoch 3"):
        epoch_links(sample_of_epochs(), 3, 3)
