"""Forged proofs of states, by someone who holds every key: the state says what the file does, but
for the one thing that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from msgspec.structs import replace

from consensus.messages import Content, Kind
from node.audit.dossier import Finality
from node.audit.state_proofs import AbsenceProof, BalanceProof, TreeAbsence
from node.chain.block import header_digest
from node.chain.encoding import encode
from node.chain.records import StateKey, UetrTreeKey, UetrTreeRecord
from node.chain.state_map import StateMap
from node.chain.types import Header, _Canonical
from node.chain.uetr_tree import prove_uetr, uetr_root
from tests.support.state_world import state_world

P = TypeVar("P", BalanceProof, AbsenceProof)


def uetr(number: int) -> bytes:
    """Ascending with the number; no two beside each other."""
    return (2 * number + 1).to_bytes(16, "big")


def absent(number: int) -> bytes:
    """A UETR just below `uetr(number)`."""
    return (2 * number).to_bytes(16, "big")


def finalized(proof: P, header: Header) -> P:
    """The proof as of this checkpoint, which the validators of the last epoch finalize."""
    chain = state_world().chain
    content = Content(header.view - 1, header_digest(header))
    certificate = chain.certificate(chain.state.validator_set, header.view, Kind.FINALIZE, content)
    blocks = (*proof.blocks[:-1], replace(proof.blocks[-1], header=header))
    return replace(proof, blocks=blocks, finality=Finality(certificate, ()))


def state_of(records: Mapping[StateKey, _Canonical]) -> StateMap:
    """A state of these records, and of others that prove nothing."""
    filler: dict[bytes, bytes | None] = {bytes((each,)): b"filler" for each in range(40)}
    return StateMap.empty().update(
        filler | {encode(key): encode(record) for key, record in records.items()}
    )


def tree(number: int, uetrs: list[bytes], after: int, through: int) -> UetrTreeRecord:
    """What a state holds of this set."""
    times = (1_000 * after, 1_000 * through)
    return UetrTreeRecord(
        after, times[0], through, times[1], 20250616 + number, len(uetrs), uetr_root(uetrs)
    )


def absence_of(
    proof: AbsenceProof, asked: bytes, sets: Mapping[int, list[bytes]], gap: int = 0
) -> AbsenceProof:
    """A proof over sets of UETRs by number, each of ten blocks; `gap`: blocks left out between."""
    records = {
        number: tree(number, uetrs, at * (10 + gap), at * (10 + gap) + 10)
        for at, (number, uetrs) in enumerate(sets.items())
    }
    state = state_of({UetrTreeKey(number): record for number, record in records.items()})
    trees = tuple(
        TreeAbsence(
            number,
            record,
            state.prove(encode(UetrTreeKey(number)))[1],
            prove_uetr(sets[number], asked),
        )
        for number, record in records.items()
    )
    made = replace(proof, uetr=asked, trees=trees)
    return finalized(made, replace(proof.blocks[-1].header, state_root=state.root))
