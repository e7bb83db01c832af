"""Changes for governance to decide on, and a council that decides on them in one block."""

from __future__ import annotations

from typing import Any

from node.chain.signature import ROLE_PARTICIPANT, Ed25519Signer, prove_possession
from node.chain.types import AdmitParticipant, Change, InstructionBody, ProvenKey
from tests.support.council import Council
from tests.support.ledger_world import DAY_MS, Bank, MadeBlock, lei, signer

ISIN = "DE0001102309"
OTHER_ISIN = "DE0001102317"


def proven(council: Council, holder: str, *keys: Ed25519Signer) -> tuple[ProvenKey, ...]:
    """Keys with the proof of possession for the participant with this LEI, ascending."""
    made = (
        ProvenKey(
            key.public_key,
            prove_possession(key, ROLE_PARTICIPANT, holder, council.world.chain_id),
        )
        for key in keys
    )
    return tuple(sorted(made, key=lambda each: each.public_key))


def admission(council: Council, name: str, number: int, *roles: str, **fields: Any) -> Change:
    """A new participant with one key; `fields` replace what it says otherwise."""
    holder = fields.get("lei", lei(number))
    described: dict[str, Any] = {
        "lei": holder,
        "bic": f"NEWB{'DEFGHIJ'[number % 7]}E{'ABCDEFGHIJ'[number % 10]}X",
        "name": name,
        "roles": tuple(sorted(roles or ("direct-participant",))),
        "keys": proven(council, holder, signer("admitted", name)),
        "threshold": 1,
        "sponsor": None,
        "approvals": 1 if "operator" in roles else 0,
    }
    return AdmitParticipant(**{**described, **fields})


def admit(council: Council, name: str, number: int, *roles: str, **fields: Any) -> MadeBlock:
    """Have a participant admitted, so that the world can sign for it."""
    change = admission(council, name, number, *roles, **fields)
    assert isinstance(change, AdmitParticipant)
    block = decide(council, change)
    council.world.banks[name] = Bank(
        name, change.lei, change.bic, change.roles, [signer("admitted", name)]
    )
    return block


def decide(council: Council, *changes: Change) -> MadeBlock:
    """Propose and approve in one block, by the two keys of the central bank."""
    proposal = council.propose(*changes)
    second = council.world.banks["CENTRALBANK"].signers[1:]
    block = council.block(proposal, council.approve(proposal.digest, "CENTRALBANK", second))
    assert [o.reason for o in block.outcomes[:1]] == [None], block.outcomes
    assert all(o.reason is None for o in block.outcomes if o.instruction == 1 and o.uetr is None)
    return block


def order(council: Council, sender: str, body: InstructionBody) -> MadeBlock:
    """A block with one instruction."""
    until = council.chain.state.time + DAY_MS
    return council.block(council.world.order(sender, body, valid_until=until))
