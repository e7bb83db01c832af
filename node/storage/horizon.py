"""How far back a database goes: what was pruned from it, or never was in it.

Below `blocks` there are no bodies and outcomes, below `states` no complete state maps. Headers,
the history tree and finalizations are not concerned. The horizon is stored durably *before* what
lies below it is deleted, so that nothing half deleted is ever taken for present.
"""

from __future__ import annotations

import msgspec

from node.chain.encoding import Malformed, decode, encode
from node.storage.errors import StoreCorrupt
from node.storage.kv import Batch, KeyValueView

_KEY = b"mhorizon"


class Horizon(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="horizon/1"
):
    """Heights from which on a database is complete. An archive has zeros."""

    blocks: int = 0
    """Lowest height whose block and outcomes are held."""
    states: int = 0
    """Lowest height whose state can be proven from."""
    headers: int = 0
    """Lowest height whose header is held: above 0 where the database began with a snapshot."""
    swept_blocks: int = 0
    """Blocks below it are deleted; those from here to `blocks` are about to be."""
    swept_states: int = 0
    """Likewise for the states."""

    def proves(self, height: int) -> bool:
        """Whether the evidence of a payment of this height can be made: it shows the sender's
        keys in the state before the block."""
        return height >= self.blocks and (height == 0 or height - 1 >= self.states)


def load_horizon(kv: KeyValueView) -> Horizon:
    """Raises StoreCorrupt."""
    value = kv.get(_KEY)
    if value is None:
        return Horizon()
    try:
        return decode(value, Horizon)
    except Malformed as error:
        raise StoreCorrupt(
            f"the stored horizon is not what was written: {error}",
            "the chain database",
            "Put a copy of another node's data/ in its place (docs/how-to/recover.md)",
        ) from error


def put_horizon(horizon: Horizon) -> Batch:
    """What makes it the database's."""
    return [(_KEY, encode(horizon))]
