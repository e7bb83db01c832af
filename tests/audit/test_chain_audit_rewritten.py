"""Whoever writes a home anew, consistent down to the last root, is found out all the same.

The forger has the ledger's own code and everything but the validators' and the senders' keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from consensus.messages import Content, Kind
from node.audit.audit_report import AuditReport
from node.audit.chain_audit import audit_chain
from node.audit.report import INVALID, VALID
from node.chain.block import header_digest, inspect_block
from node.chain.encoding import decode, encode
from node.chain.types import Instruction, KeySignature
from node.storage.chain_store import ChainStore
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.archives import archive, audited
from tests.support.rewriting import rewritten
from tests.support.small_chain import SmallChain, sample
from tests.support.stored_chain import stored
from tests.support.world import BANKB

GIFT = (4, BANKB.lei, "EUR", 5_000_000)


def found(chain: SmallChain) -> tuple[int, str]:
    """(height, field), the same from a store's dicts and from an archive."""
    reports: list[AuditReport] = [
        audit_chain(chain, world.genesis_bytes()),
        audited(archive(chain)),
        audited(archive(chain, outcomes=False)),
    ]
    [found] = {
        (report.verdict, report.finding and (report.finding.height, report.finding.where))
        for report in reports
    }
    assert found[0] == INVALID
    assert found[1] is not None
    return found[1]


def test_the_forger_is_good_at_it() -> None:
    """Written anew without a change, the chain is the same, byte for byte; with one, all that the
    roots, digests and records could tell still agrees."""
    assert rewritten(sample()).blocks == sample().blocks
    assert audit_chain(rewritten(sample()), world.genesis_bytes()).verdict == VALID
    forged = rewritten(sample(), gift=GIFT)
    assert (forged.state.balance(BANKB.lei, "EUR", 0) or 0) - (
        sample().state.balance(BANKB.lei, "EUR", 0) or 0
    ) == GIFT[3]
    for height in range(1, 7):
        block = inspect_block(forged.blocks[height])
        assert block.header.parent == inspect_block(forged.blocks[height - 1]).digest
        assert block.header.outcomes_count == len(forged.stored_outcomes[height])
    assert header_digest(forged.tip) != header_digest(sample().tip)


@pytest.mark.parametrize("certificates", [True, False])
def test_a_home_with_money_out_of_nothing_is_invalid_though_every_root_fits(
    *, certificates: bool
) -> None:
    forged = rewritten(sample(), gift=GIFT, certificates=certificates)
    assert found(forged) == (4, "execution")


def test_the_same_in_a_real_database() -> None:
    """The store itself would not take the forged blocks with the true certificates: they are put
    below it."""
    forged, chain, kv = rewritten(sample(), gift=GIFT), sample(), MemoryStore()
    for height in chain.finalizations:
        header = inspect_block(forged.blocks[height]).header
        below = inspect_block(forged.blocks[height - 1]).header.view
        content = Content(below, header_digest(header))
        validators = forged.state.validator_set
        signed = forged.certificate(validators, header.view, Kind.FINALIZE, content)
        forged.finalizations[height] = signed
    forged.passed.clear()
    stored(forged, kv)
    assert_found(ChainStore(kv))
    true = MemoryStore()
    stored(chain, true)
    kv.write([pair for kind in (b"f", b"c") for pair in true.iterate(kind)])
    assert_found(ChainStore(kv))


def assert_found(store: ChainStore) -> None:
    report = audit_chain(store, world.genesis_bytes())
    assert report.finding is not None
    assert (report.finding.height, report.finding.where) == (4, "execution")


def without(height: int, index: int) -> SmallChain:
    """The chain without an instruction, executed as the rules demand."""

    def drop(at: int, given: Sequence[bytes]) -> Sequence[bytes]:
        return [raw for i, raw in enumerate(given) if (at, i) != (height, index)]

    return rewritten(sample(), instructions=drop)


def test_a_chain_without_one_payment_executes_well_and_has_no_certificates() -> None:
    """Nothing but the validators' signatures tells that it is not the chain."""
    forged = without(4, 1)
    # Block 3 and those below are the true ones; 4 has the certificate of the true block 4.
    assert found(forged) == (4, "certificate.block")
    forged.finalizations = {
        height: each for height, each in forged.finalizations.items() if height < 4
    }
    assert found(forged) == (4, "notarize certificate of view 6, block")
    forged.passed.clear()
    assert found(forged) == (6, "certificate")


def test_a_block_that_is_left_out_is_found() -> None:
    """Later blocks moved down by one height, and executed there."""
    chain = sample()

    def move(height: int, given: Sequence[bytes]) -> Sequence[bytes]:
        return given if height < 3 else inspect_block(chain.blocks[height + 1]).instructions

    shorter = rewritten(_first(5), instructions=move)
    assert found(shorter)[0] == 3


def _first(heights: int) -> SmallChain:
    chain = rewritten(sample())
    for height in range(heights + 1, 7):
        del chain.blocks[height]
    return chain


def test_a_block_from_another_chain_with_this_genesis_is_found() -> None:
    """Two forks of one chain: a block of one in the home of the other."""
    fork, forged = without(2, 1), rewritten(sample())
    for height in (4, 5, 6):
        forged.blocks[height] = fork.blocks[height]
        forged.stored_outcomes[height] = fork.stored_outcomes[height]
    assert found(forged) == (4, "header.parent")


def test_stored_outcomes_alone_are_not_believed() -> None:
    forged = rewritten(sample())
    true = list(forged.stored_outcomes[4])
    told = rewritten(sample(), gift=GIFT).stored_outcomes[4]
    assert told != true
    forged.stored_outcomes[4] = told
    report = audit_chain(forged, world.genesis_bytes())
    assert report.finding is not None
    assert report.finding.where.startswith("stored outcome ")
    # An archive without outcomes has nothing that could be false.
    assert audited(archive(forged, outcomes=False)).verdict == VALID


def test_an_order_whose_signature_is_another_one_is_found() -> None:
    """The header commits to signatures too, so the forger makes it anew, without the key."""

    def strip(height: int, given: Sequence[bytes]) -> Sequence[bytes]:
        if height != 5:
            return given
        first = decode(given[0], Instruction)
        other = first.signatures[1].signature
        kept = KeySignature(first.signatures[0].public_key, other), first.signatures[1]
        return [encode(Instruction(first.envelope, kept, first.payments)), *given[1:]]

    assert found(rewritten(sample(), instructions=strip)) == (5, "instruction 0")
