"""The header of a block that a test executed: what an honest leader would write."""

from __future__ import annotations

from collections.abc import Sequence

from node.chain.block import instructions_root, validator_set_digest
from node.chain.genesis import Genesis
from node.chain.instruction import CheckedInstruction
from node.chain.types import Header
from node.ledger.state import State
from node.ledger.work import Applied


def next_header(
    genesis: Genesis,
    parent: State,
    applied: Applied,
    instructions: Sequence[CheckedInstruction],
    *,
    view: int,
    proposer: int,
) -> Header:
    """The header of the block of `instructions` that `applied` is the result of, on `parent`."""
    validators = parent.validator_set
    return Header(
        version=parent.rules_version,
        chain_id=genesis.chain_id,
        epoch=validators.epoch,
        view=view,
        height=applied.context.height,
        parent=parent.digest,
        timestamp=applied.context.time,
        proposer=proposer,
        instructions_count=len(instructions),
        instructions_root=instructions_root(instructions),
        outcomes_count=len(applied.outcomes),
        outcomes_root=applied.outcomes_root,
        state_root=applied.state_root,
        history_root=applied.history_root,
        validator_set=validator_set_digest(validators),
        next_validator_set=validator_set_digest(applied.next_validators or validators),
    )
