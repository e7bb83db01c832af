"""The nodes' signed receipts: checked, and kept where the payer can find them in a dispute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from node.chain.encoding import Malformed, decode, encode
from node.chain.instruction import parse_instruction
from node.chain.signature import RECEIPT_DOMAIN, verify
from node.chain.types import Receipt
from node.cli.output import Output

if TYPE_CHECKING:
    from node.api.documents import ReceiptDocument


def check_receipt(document: ReceiptDocument, raw: bytes, chain_id: bytes) -> bytes | None:
    """The canonical receipt, or None if it is not one for this instruction on this chain."""
    try:
        data = bytes.fromhex(document.receipt)
        receipt = decode(data, Receipt)
    except (ValueError, Malformed):
        return None
    if receipt.body.instruction != parse_instruction(raw).digest:
        return None
    body = encode(receipt.body)
    if not verify(receipt.body.node, RECEIPT_DOMAIN, chain_id, body, receipt.signature):
        return None
    return data


def _same_instruction(kept: bytes, new: bytes) -> bool:
    try:
        return decode(kept, Receipt).body.instruction == decode(new, Receipt).body.instruction
    except Malformed:
        return False


def keep_receipt(
    document: ReceiptDocument,
    raw: bytes,
    chain_id: bytes,
    *,
    directory: Path | None,
    name: str,
    output: Output,
) -> Path | None:
    """Keep a receipt as `DIRECTORY/NAME.receipt`; where, or None.

    Never fails: the instruction is with the node already, and its outcome matters more.
    """
    data = check_receipt(document, raw, chain_id)
    if data is None:
        output.note(
            "nostro: warning: the node's receipt does not fit the instruction or its signature; "
            "it was not kept and proves nothing"
        )
        return None
    if directory is None:
        return None
    path = directory / f"{name}.receipt"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if path.exists() and not _same_instruction(path.read_bytes(), data):
            # Another payment under a used UETR must not cost the first one's receipt.
            path = directory / f"{name}.{document.instruction[:16]}.receipt"
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        output.note(
            f"nostro: warning: the node's receipt could not be kept at {path}: "
            f"{error.strerror or error}"
        )
        return None
    return path
