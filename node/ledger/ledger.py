"""The ledger as a consensus engine drives it, shaped like ABCI 2.0.

`check` admits to the mempool, `propose` makes a block, `verify` judges another's, `commit` makes
one final, `info` tells where the ledger stands. States in between are plain values: the caller
keeps that of each unfinalized block and passes it as the parent of the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from node.chain import merkle
from node.chain.block import header_digest
from node.chain.instruction import CheckedInstruction, ParsedInstruction
from node.chain.records import UetrsKey, UetrsRecord
from node.chain.state_map import GetNode, StateMap
from node.chain.types import Header
from node.ledger import check as _check
from node.ledger.apply import BadBlock, apply
from node.ledger.entries import OutcomesGone, RecentIndex
from node.ledger.genesis import GenesisBlock
from node.ledger.propose import Proposal, propose
from node.ledger.state import Base, Layer, State, StateDamaged, load_base, recount
from node.ledger.tables import UETRS
from node.ledger.work import Applied, BlockContext


class Info(NamedTuple):
    """Where the ledger stands."""

    height: int
    digest: bytes
    """Of the header."""
    time: int
    """Block time, milliseconds since the Unix epoch."""
    state_root: bytes


class Ledger:
    """The committed state, and every step from one state to the next."""

    def __init__(self, final: State) -> None:
        """`final`: the state of the last committed block (`genesis_state`, `load_state`)."""
        self._final = final

    @classmethod
    def start(cls, genesis: GenesisBlock) -> Ledger:
        """The ledger at height 0."""
        return cls(genesis.applied.state)

    @property
    def final(self) -> State:
        """The state of the last committed block."""
        return self._final

    def info(self) -> Info:
        """Where the committed state stands."""
        state = self._final
        return Info(state.height, state.digest, state.time, state.map.root)

    def check(self, parsed: ParsedInstruction, time: int) -> None:
        """Raise NotAdmissible unless the instruction may stand in the next block after the
        committed one, were its time `time` (milliseconds)."""
        _check.may_stand(self._final, parsed, self._final.height + 1, time)

    def propose(
        self,
        parent: State,
        context: BlockContext,
        candidates: Iterable[CheckedInstruction],
        max_bytes: int,
        max_payments: int,
    ) -> Proposal:
        """Execute on `parent` as many candidates as fit; `Applied.seal` follows the header."""
        return propose(parent, context, candidates, max_bytes, max_payments)

    def apply(
        self, parent: State, context: BlockContext, instructions: Sequence[CheckedInstruction]
    ) -> Applied:
        """Execute a block on `parent`. Raises BadBlock."""
        return apply(parent, context, instructions)

    def verify(
        self,
        parent: State,
        header: Header,
        instructions: Sequence[CheckedInstruction],
        max_payments: int | None = None,
    ) -> Applied:
        """Execute another's block on its parent's state and compare what the ledger computes
        with what the header says. Raises BadBlock naming the field; the result is sealed.

        `max_payments`: what the block may take in all; None: not asked, as for one that is final.
        The header's other fields are the consensus driver's to compare.
        """
        if header.height != parent.height + 1:
            raise BadBlock(f"height: {header.height}, expected {parent.height + 1}")
        if header.parent != parent.digest:
            raise BadBlock(f"parent: {header.parent.hex()}, expected {parent.digest.hex()}")
        context = BlockContext(header.height, header.timestamp)
        applied = apply(parent, context, instructions, max_payments)
        for field, said, computed in (
            ("outcomes_count", header.outcomes_count, len(applied.outcomes)),
            ("outcomes_root", header.outcomes_root, applied.outcomes_root),
            ("state_root", header.state_root, applied.state_root),
            ("history_root", header.history_root, applied.history_root),
        ):
            if said != computed:
                raise BadBlock(f"{field}: {_shown(said)}, expected {_shown(computed)}")
        applied.seal(header_digest(header))
        return applied

    def commit(self, state: State) -> None:
        """Make the block of `state` the committed one. Blocks are committed in order, each after
        storage holds it durably: from here on its ids and UETRs are looked up there."""
        state.commit()
        self._final = state


def load_state(
    records: Iterable[tuple[bytes, bytes]],
    header: Header,
    history: merkle.Frontier,
    recent: RecentIndex,
    get_node: GetNode,
) -> State:
    """The committed state as storage holds it: the state records, the last final block's header
    and the history tree with that header in it. Raises StateDamaged, ConservationBroken.

    The root is computed anew from the records (about 8 µs each): a record that rotted on disk
    is named here, not as a disagreement with the other nodes some blocks later.
    """
    held = dict(records)
    computed = StateMap.empty().update(held).root
    if computed != header.state_root:
        raise StateDamaged(
            f"the stored records have state root {computed.hex()}, the header of height "
            f"{header.height} says {header.state_root.hex()}: restore the data directory from a "
            "backup or let the node fetch the chain anew"
        )
    base = load_base(held.items(), recent)
    base.untreed = _untreed(base, header.height, recent)
    state = State(
        base,
        None,
        Layer(),
        chain_id=header.chain_id,
        height=header.height,
        time=header.timestamp,
        map=StateMap.load(header.state_root, get_node),
    )
    state.seal(header_digest(header), history)
    state.commit()
    recount(state)
    return state


def _untreed(base: Base, height: int, recent: RecentIndex) -> list[bytes]:
    """The UETRs that outcomes named since the last tree, read from the outcomes themselves."""
    record: UetrsRecord | None = base.tables[UETRS].get(UetrsKey())
    if record is None:
        return []
    since = f"block {record.after}, since which no tree of used UETRs was made"
    try:
        named = list(recent.uetrs_between(record.after, height))
    except OutcomesGone as gone:
        raise StateDamaged(
            f"{gone}, but all after {since}, are needed to make the next: restore the data "
            "directory from a backup or let the node fetch the chain anew"
        ) from gone
    if len(named) != record.named:
        raise StateDamaged(
            f"{len(named)} stored outcomes after {since}, name a UETR, the state says "
            f"{record.named}: restore the data directory from a backup or let the node fetch the "
            "chain anew"
        )
    return named


def _shown(value: int | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
