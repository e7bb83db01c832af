"""Dossiers and links of a chain whose validators changed, made by the ledger's own rules."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from node.audit.build import EvidenceUnavailable, build_dossier
from node.audit.build_chain import epoch_links, prove_blocks
from node.audit.dossier import decode_dossier
from node.audit.epochs import follow
from node.audit.report import VALID
from node.audit.verify import check_dossier
from node.chain.encoding import encode
from node.chain.records import ValidatorSetKey
from tests.support import world
from tests.support.epoch_chain import end_epoch, paid, sample_of_epochs
from tests.support.small_chain import SmallChain, issue


def build(chain: SmallChain, number: int) -> bytes:
    return build_dossier(chain, chain.uetrs[world.uetr(number)])


EPOCH_OF = {1000: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 3, 6: 3}
SEALED_BY = {3}
"""Payments in a block that ends its epoch."""


@pytest.mark.parametrize("number", EPOCH_OF)
def test_every_payment_of_every_epoch_has_a_valid_dossier(number: int) -> None:
    chain = sample_of_epochs()
    data = build(chain, number)
    report = check_dossier(data, chain.genesis)
    assert (report.verdict, report.status) == (VALID, "settled"), report.text()
    found = decode_dossier(data)
    assert found.checkpoint.epoch == len(found.epochs) == 3
    assert found.blocks[0].header.epoch == EPOCH_OF[number]
    assert (found.blocks[0].path == ()) == (number in SEALED_BY or len(found.blocks) == 1)
    assert found.finality is not None
    assert found.finality.certificate.epoch == 3


def test_the_links_of_a_chain_lead_to_its_validator_sets() -> None:
    chain = sample_of_epochs()
    sets = follow(chain.genesis, epoch_links(chain, 0, 2))
    assert sets == [chain.state.validator_set_of(epoch) for epoch in range(4)]
    names = [[validator.name for validator in each.validators] for each in sets]
    assert names[1] == ["node0", "node1", "node2", "node3", "node4"]
    assert names[3] == ["node1", "node2", "node3", "node4"]
    assert [len(link.carriers) for link in epoch_links(chain, 0, 2)] == [0, 2, 1]


def test_a_chain_that_ends_with_a_sealing_block_is_final_through_its_carriers() -> None:
    """Carriers have the height of what they carry, and belong to no history."""
    chain = SmallChain()
    chain.add(issue(chain, 1000))
    end_epoch(chain, carriers=2, others=[paid(chain, 1)])
    for number in (1000, 1):
        data = build(chain, number)
        report = check_dossier(data, chain.genesis)
        assert (report.verdict, report.status) == (VALID, "settled"), report.text()
        finality = decode_dossier(data).finality
        assert finality is not None
        assert len(finality.carriers) == 2


def test_blocks_of_any_epochs_are_proven_together() -> None:
    chain = sample_of_epochs()
    heights = dict.fromkeys(range(1, chain.tip.height), False) | {5: True, 9: True}
    blocks, epochs, _ = prove_blocks(chain, chain.tip, heights)
    assert [block.header.height for block in blocks] == list(range(1, chain.tip.height + 1))
    assert [block.header.height for block in blocks if block.parent is not None] == [5, 9]
    assert [ended.link.seal.epoch for ended in epochs] == [0, 1, 2]
    assert [b.header.height for b in blocks if not b.path] == [
        *(ended.link.seal.height for ended in epochs),
        chain.tip.height,
    ]


def test_a_certificate_of_another_epoch_does_not_make_the_checkpoint_final() -> None:
    chain = damaged(lambda c: c.finalizations.pop(c.tip.height))
    with pytest.raises(EvidenceUnavailable, match=f"a finalization of block {chain.tip.height}"):
        build(chain, 1)


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
