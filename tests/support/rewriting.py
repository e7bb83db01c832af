"""A stored chain that somebody without the validators' keys wrote anew, consistent in itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from node.chain.block import (
    header_digest,
    inspect_block,
    instructions_root,
    outcomes_root,
)
from node.chain.encoding import decode, encode
from node.chain.instruction import CheckedInstruction, check_parsed, parse_instruction
from node.chain.records import AccountRecord, AssetRecord
from node.chain.state_map import StateMap
from node.chain.types import Header, Outcome
from node.ledger.ledger import Ledger, load_state
from node.ledger.state import account_key, asset_key
from node.ledger.work import Applied, BlockContext
from tests.support.small_chain import SmallChain

Instructions = Callable[[int, Sequence[bytes]], Sequence[bytes]]
"""instructions(height, what stood in the block) → what the rewritten one has."""


def rewritten(
    chain: SmallChain,
    *,
    instructions: Instructions = lambda _, given: given,
    gift: tuple[int, str, str, int] | None = None,
    certificates: bool = True,
) -> SmallChain:
    """The chain executed again by the ledger's own code, every root, digest, outcome and record to
    match. `gift`: (height, participant, asset, amount): at that height so much more money stands on
    the account, issued, as the outcomes say. `certificates`: the true chain's are kept."""
    forged = SmallChain()
    for height in range(1, len(chain.blocks)):
        old = inspect_block(chain.blocks[height])
        raws = list(instructions(height, old.instructions))
        checked = [_believed(raw, chain.genesis.chain_id) for raw in raws]
        parent = forged.ledger.final
        applied = forged.ledger.apply(parent, BlockContext(height, old.header.timestamp), checked)
        header = replace(
            old.header,
            parent=parent.digest,
            instructions_count=len(raws),
            instructions_root=instructions_root(checked),
        )
        if gift is not None and gift[0] == height:
            _give(forged, header, raws, applied, gift)
            continue
        header = _rooted(header, applied)
        applied.seal(header_digest(header))
        forged._store(header, raws, applied)
        forged.ledger.commit(applied.state)
        forged.tip = header
    if certificates:
        forged.finalizations, forged.passed = dict(chain.finalizations), dict(chain.passed)
    return forged


def _believed(raw: bytes, chain_id: bytes) -> CheckedInstruction:
    """A forger does not ask whether signatures fit."""
    return check_parsed(parse_instruction(raw), chain_id, lambda *_: True)


def _rooted(header: Header, applied: Applied) -> Header:
    return replace(
        header,
        outcomes_count=len(applied.outcomes),
        outcomes_root=outcomes_root(applied.outcomes),
        state_root=applied.state_root,
        history_root=applied.history_root,
    )


def _give(
    forged: SmallChain,
    header: Header,
    raws: Sequence[bytes],
    applied: Applied,
    gift: tuple[int, str, str, int],
) -> None:
    _, participant, asset, amount = gift
    account, supply = account_key(participant, asset, 0), asset_key(asset)
    held = {**forged.records, **{k: v for k, v in applied.records.items() if v is not None}}
    record, issued = decode(held[account], AccountRecord), decode(held[supply], AssetRecord)
    before = record.balance
    applied.records[account] = encode(replace(record, balance=before + amount))
    applied.records[supply] = encode(replace(issued, issued=issued.issued + amount))
    applied.outcomes[:] = [_told(raw, before, amount) for raw in applied.outcomes]
    held.update({key: value for key, value in applied.records.items() if value is not None})
    nodes: list[tuple[bytes, bytes]] = []
    state_map = StateMap.empty().update(held, nodes)
    applied.nodes[:] = nodes
    applied.state_root = state_map.root
    header = _rooted(header, applied)
    applied.seal(header_digest(header))
    forged._store(header, raws, applied)
    state = load_state(held.items(), header, applied.state.history, forged, forged.state_node)
    forged.ledger = Ledger(state)
    forged.tip = header


def _told(raw: bytes, balance: int, amount: int) -> bytes:
    """The outcome that tells of this balance tells of more."""
    outcome = decode(raw, Outcome)
    for name in ("debtor_balance", "creditor_balance"):
        if getattr(outcome, name) == balance:
            outcome = replace(outcome, **{name: balance + amount})
    return encode(outcome)
