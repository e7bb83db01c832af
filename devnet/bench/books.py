"""Ledgers made for measuring: a state with so many holders, without the blocks that led to it."""

from __future__ import annotations

from node.chain.merkle import Frontier
from node.chain.records import KeyRecord, ParticipantRecord
from node.chain.signature import Ed25519Signer
from node.chain.state_map import StateMap
from node.chain.types import Sweep
from node.ledger.state import Base, Layer, Participant, State

CHAIN_ID = bytes(32)
SIGNER = Ed25519Signer(bytes(32))
"""Everybody's key."""


def holder(
    lei: str,
    roles: tuple[str, ...] = ("direct-participant",),
    sweeps: tuple[Sweep, ...] = (),
) -> Participant:
    """A participant that signs with `SIGNER`."""
    return Participant(
        ParticipantRecord(
            lei=lei,
            bic="BENCDEFF",
            name=lei,
            roles=roles,
            keys=(KeyRecord(SIGNER.public_key, 0, None),),
            threshold=1,
            approvals=0,
            sponsor=None,
            suspended=False,
            closed=False,
            debit_frozen=False,
            credit_frozen=False,
            fifo_bypass=False,
            sweeps=sweeps,
        )
    )


def committed(base: Base, time: int, records: dict[bytes, bytes | None]) -> State:
    """The state of height 0 on this base. `time`: ms since the Unix epoch; `records`: what its root
    commits to."""
    state = State(
        base,
        None,
        Layer(),
        chain_id=CHAIN_ID,
        height=0,
        time=time,
        map=StateMap.empty().update(records),
    )
    state.seal(bytes(32), Frontier().append(bytes(32))[0])
    state.commit()
    return state
