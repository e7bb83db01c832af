"""Dossiers of the sample chain, and reading what the verifier says of any."""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec.structs import replace

from node.audit.build import build_dossier
from node.audit.dossier import Dossier, decode_dossier, encode_dossier
from node.audit.report import FAIL, Report
from node.audit.verify import check_dossier
from node.chain.encoding import encode
from node.chain.instruction import envelope_digest
from node.chain.signature import RECEIPT_DOMAIN
from node.chain.types import Receipt, ReceiptBody
from node.storage.chain_store import ChainStore
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.evidence_world import evidence_world
from tests.support.small_chain import sample
from tests.support.stored_chain import stored


@cache
def sample_store() -> ChainStore:
    """The sample chain as a node stores it."""
    return stored(sample(), MemoryStore())


@cache
def dossier_bytes(number: int) -> bytes:
    """The dossier of the sample chain's UETR with this number."""
    return build_dossier(sample_store(), sample().uetrs[world.uetr(number)])


def dossier(number: int) -> Dossier:
    return decode_dossier(dossier_bytes(number))


def receipt(made: Dossier, **fields: Any) -> Receipt:
    """node2's receipt for the order of a dossier of the sample chain, or one with other fields."""
    signer = fields.pop("signer", world.node_signer(2))
    act = made.steps[0].act
    assert act is not None
    body = replace(
        ReceiptBody(
            envelope_digest(act.signed.envelope),
            world.node_signer(2).public_key,
            1,
            made.blocks[0].header.parent,
            world.GENESIS_TIME,
        ),
        **fields,
    )
    chain_id = world.genesis().chain_id
    return Receipt(body, signer.sign(RECEIPT_DOMAIN, chain_id, encode(body)))


def checked(made: Dossier | bytes) -> Report:
    """What the verifier says of a dossier of the evidence ledger."""
    data = made if isinstance(made, bytes) else encode_dossier(made)
    return check_dossier(data, evidence_world().chain.genesis)


def failures(report: Report) -> list[str]:
    """Names of the checks that failed."""
    return [line.check for line in report.lines if line.result == FAIL]
