"""Files that prove something of the ledger's state rather than of one payment: what an account held
at a height, and that a UETR was not used in a period.

They say why their blocks are final exactly as a dossier does.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import Meta

from node.audit.dossier import (
    MAX_DOSSIER_BYTES,
    AccountRow,
    Blocks,
    EndedEpochs,
    Finality,
)
from node.audit.proofs import BadProof
from node.chain.encoding import Malformed, decode, encode
from node.chain.records import UetrTreeRecord
from node.chain.state_map import MapProof
from node.chain.types import AccountKind, AssetCode, Bytes16, LeiText, Unsigned, _Canonical
from node.chain.uetr_tree import Pages

MAX_PROOF_BYTES = MAX_DOSSIER_BYTES
"""A tree takes about 2.5 kB in a proof of absence."""
MAX_TREES = 100_000
"""Trees of one proof of absence."""


class BalanceProof(_Canonical, frozen=True, tag="balance/1"):
    """What an account held after a block, or that it did not exist."""

    blocks: Blocks
    """The block, and the checkpoint if that is another one."""
    epochs: EndedEpochs
    finality: Finality | None
    """Mandatory for a verdict."""
    participant: LeiText
    asset: AssetCode
    account: AccountKind
    row: AccountRow
    """Under the `state_root` of the first block."""


class TreeAbsence(_Canonical, frozen=True):
    """That one tree of used UETRs lacks a UETR."""

    number: Unsigned
    record: UetrTreeRecord
    proof: MapProof
    """Under the checkpoint's `state_root`, of `UetrTreeKey(number)`."""
    pages: Pages


class AbsenceProof(_Canonical, frozen=True, tag="absence/1"):
    """That no outcome named a UETR in the blocks of consecutive trees."""

    blocks: Blocks
    """The checkpoint alone."""
    epochs: EndedEpochs
    finality: Finality | None
    """Mandatory for a verdict."""
    uetr: Bytes16
    trees: Annotated[tuple[TreeAbsence, ...], Meta(min_length=1, max_length=MAX_TREES)]
    """Ascending by number, without a gap."""


StateProof = BalanceProof | AbsenceProof
P = TypeVar("P", BalanceProof, AbsenceProof)


def encode_state_proof(proof: StateProof) -> bytes:
    """The bytes of the file."""
    return encode(proof)


def decode_state_proof(data: bytes, kind: type[P]) -> P:
    """Read a file. Raises BadProof."""
    if len(data) > MAX_PROOF_BYTES:
        raise BadProof(
            f"the file has {len(data):,} bytes, no proof has more than {MAX_PROOF_BYTES:,}"
        )
    try:
        return decode(data, kind)
    except Malformed as error:
        raise BadProof(str(error)) from error
