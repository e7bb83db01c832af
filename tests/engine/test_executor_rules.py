"""An executor names the version in force in every header, and stops where it does not know it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from consensus.interface import Build
from consensus.messages import Epoch, Milliseconds, ValidatorIndex, View
from node.chain.block import SUPPORTED_RULES, encode_block
from node.chain.encoding import decode
from node.chain.types import ActivateRules, Block, Header
from node.engine.executor import Executor, block_info
from node.engine.mempool import Mempool
from node.engine.node import known_rules
from node.ledger.rules import UnknownRules
from node.storage.config import Address, NodeConfig
from tests.support.council import Council
from tests.support.ledger_world import BLOCK_MS, MadeBlock


def upgraded() -> tuple[Council, MadeBlock]:
    """A chain whose next block is the first under version 2."""
    council = Council.make()
    proposal = council.propose(ActivateRules(2, council.chain.state.height + 2))
    return council, council.block(proposal, council.approve(proposal.digest))


def executor(council: Council, rules: tuple[int, ...] = SUPPORTED_RULES) -> Executor:
    chain = council.chain
    return Executor(chain.world.genesis, chain.state, Mempool(), rules)


def request(council: Council, last: MadeBlock) -> Build:
    return Build(
        epoch=Epoch(0),
        view=View(last.header.view + 1),
        parent=block_info(last.header),
        timestamp=Milliseconds(council.chain.state.time + BLOCK_MS),
        proposer=ValidatorIndex((last.header.view + 1) % 4),
        empty=False,
    )


def header_of(raw: bytes) -> Header:
    return decode(raw, Block).header


def test_a_leader_names_the_version_in_force_and_others_agree() -> None:
    council, last = upgraded()
    raw, _, _ = executor(council).build(request(council, last), ())
    assert (last.header.version, header_of(raw).version) == (1, 2)
    other = executor(council)
    assert other.execute(other.inspect(raw), raw) is None


@pytest.mark.parametrize("said", [1, 3])
def test_a_block_that_names_another_version_is_bad(said: int) -> None:
    council, last = upgraded()
    raw, _, _ = executor(council).build(request(council, last), ())
    wrong = encode_block(replace(header_of(raw), version=said), ())
    other = executor(council)
    assert other.execute(other.inspect(wrong), wrong) == f"version: {said}, expected 2"


def test_old_software_neither_builds_nor_judges_such_a_block() -> None:
    council, last = upgraded()
    raw, _, _ = executor(council).build(request(council, last), ())
    old = executor(council, (1,))
    sentence = rf"block {last.header.height + 1} .* version 2 .* knows version 1 only"
    with pytest.raises(UnknownRules, match=sentence):
        old.build(request(council, last), ())
    with pytest.raises(UnknownRules, match=sentence):
        old.execute(old.inspect(raw), raw)
    with pytest.raises(UnknownRules, match=sentence):
        old.require_known_rules()
    assert old.final_state.height == last.header.height


def test_a_header_alone_stops_nobody() -> None:
    """A version is known from the ledger: whoever writes another one into a header lies."""
    council = Council.make()
    last = council.block()
    raw, _, _ = executor(council).build(request(council, last), ())
    wrong = encode_block(replace(header_of(raw), version=2), ())
    old = executor(council, (1,))
    assert old.execute(old.inspect(wrong), wrong) == "version: 2, expected 1"


def test_a_devnet_node_can_play_old_software() -> None:
    here = Address("127.0.0.1", 0)
    config = NodeConfig("node0", here, here, here)
    assert known_rules(config) == SUPPORTED_RULES
    assert known_rules(NodeConfig("node0", here, here, here, devnet_rules=1)) == (1,)
