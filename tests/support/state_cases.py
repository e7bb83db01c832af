"""Proofs of states for the shared sample: sound, forged, damaged, incomplete."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from node.audit.state_proofs import encode_state_proof
from tests.support import world
from tests.support.mutations import mutants
from tests.support.state_forgeries import FORGED_ABSENCES, FORGED_BALANCES, FORGED_FINALITY
from tests.support.state_world import (
    ABSENCES,
    BALANCES,
    absence,
    absence_bytes,
    balance,
    balance_bytes,
    state_world,
)

FLIPS = 4
"""Flipped bits of each proof that are in the sample."""
MUTANTS = 5
"""Damaged elements of each proof that are in the sample."""


def states() -> Iterator[tuple[str, bytes, bytes]]:
    """(name, file, genesis file)."""
    genesis = state_world().members.genesis_bytes
    sound = {f"balance: {name}": balance_bytes(name) for name in BALANCES}
    sound |= {f"absence: {name}": absence_bytes(name) for name in ABSENCES}
    for number, (name, data) in enumerate(sound.items()):
        yield name, data, genesis
        for flip in range(FLIPS):
            position = (flip * 2 + 1) * len(data) * 4 // FLIPS + number
            flipped = bytearray(data)
            flipped[position // 8] ^= 1 << position % 8
            yield f"{name}, bit {position}", bytes(flipped), genesis
        damaged = [each for each in mutants(data) if each.data != data]
        for index in range(MUTANTS):
            each = damaged[(index * 2 + 1) * len(damaged) // (2 * MUTANTS)]
            yield f"{name}, {each.what} at {each.at}", each.data, genesis
    for name, forge_absence in FORGED_ABSENCES.items():
        yield f"absence: forged, {name}", encode_state_proof(forge_absence()), genesis
    for name, forge_balance in FORGED_BALANCES.items():
        yield f"balance: forged, {name}", encode_state_proof(forge_balance()), genesis
    for name, (_, forge) in FORGED_FINALITY.items():
        yield f"balance: forged, {name}", encode_state_proof(forge()), genesis
    for what, proof in (("balance", balance("none")), ("absence", absence("ever"))):
        lacking = encode_state_proof(replace(proof, finality=None))
        yield f"{what}: without finality", lacking, genesis
        yield f"{what}: another chain's genesis", encode_state_proof(proof), world.genesis_bytes()
