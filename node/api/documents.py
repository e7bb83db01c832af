"""JSON documents of the API that are not a view of the node: pages, receipts, lookups."""

from __future__ import annotations

import msgspec

from node.api.service import (
    AssetView,
    BalanceView,
    BlockView,
    ParticipantView,
    PaymentView,
)
from node.chain.encoding import encode
from node.chain.types import Receipt

INSTRUCTION_TYPE = "application/vnd.nostro.instruction+msgpack"
"""Body of one canonical signed instruction."""
BATCH_TYPE = "application/vnd.nostro.instructions+msgpack"
"""Body of several: a MessagePack array of byte strings, each a canonical signed instruction."""
DOSSIER_TYPE = "application/vnd.nostro.dossier"
EQUIVOCATION_TYPE = "application/vnd.nostro.equivocation-proof"
BALANCE_TYPE = "application/vnd.nostro.balance-proof"
ABSENCE_TYPE = "application/vnd.nostro.absence-proof"
MAX_LOOKUP = 1_000
"""UETRs of one lookup."""


class ReceiptDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A node's signed statement that it has taken in an instruction (ISO/IEC 13888 NRS)."""

    instruction: str
    """Digest of the envelope, hex."""
    node: str
    """The node's key, hex."""
    height: int
    """Latest block that the node knew final."""
    block: str
    """Its digest, hex."""
    time: int
    """The node's own clock, claimed; milliseconds since the Unix epoch."""
    signature: str
    receipt: str
    """Canonical bytes of the receipt, hex: what is kept and shown."""


class AccountsPage(msgspec.Struct, frozen=True, kw_only=True):
    height: int
    balances: list[BalanceView]
    next: str | None


class ParticipantsPage(msgspec.Struct, frozen=True, kw_only=True):
    participants: list[ParticipantView]
    next: str | None


class AssetsPage(msgspec.Struct, frozen=True, kw_only=True):
    assets: list[AssetView]
    next: str | None


class BlocksPage(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first."""

    blocks: list[BlockView]
    next: str | None


class Lookup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for many payments at once."""

    uetrs: list[str]


class LookupAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """In the order asked; null where this node knows no such UETR as final."""

    payments: list[PaymentView | None]


def receipt_document(receipt: Receipt) -> ReceiptDocument:
    body = receipt.body
    return ReceiptDocument(
        instruction=body.instruction.hex(),
        node=body.node.hex(),
        height=body.height,
        block=body.block.hex(),
        time=body.time,
        signature=receipt.signature.hex(),
        receipt=encode(receipt).hex(),
    )
