"""Sound dossiers of the sample chain, and reading them."""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec.structs import replace

from node.audit.build import build_dossier
from node.audit.dossier import (
    Authority,
    Dossier,
    Finality,
    PaymentPart,
    decode_dossier,
    encode_dossier,
)
from node.audit.report import FAIL, Report
from node.audit.verify import check_dossier
from node.chain.encoding import encode
from node.chain.instruction import envelope_digest
from node.chain.signature import RECEIPT_DOMAIN
from node.chain.types import Receipt, ReceiptBody
from tests.support import world
from tests.support.small_chain import sample

GENESIS = world.genesis()


@cache
def dossier_bytes(number: int) -> bytes:
    """The dossier of the sample chain's UETR with this number."""
    chain = sample()
    return build_dossier(chain, chain.uetrs[world.uetr(number)])


def dossier(number: int) -> Dossier:
    return decode_dossier(dossier_bytes(number))


def part(number: int) -> PaymentPart:
    found = dossier(number).payment
    assert found is not None
    return found


def authority(number: int) -> Authority:
    found = dossier(number).authority
    assert found is not None
    return found


def finality(number: int) -> Finality:
    found = dossier(number).finality
    assert found is not None
    return found


def checked(forged: Dossier) -> Report:
    return check_dossier(encode_dossier(forged), GENESIS)


def failures(report: Report) -> list[str]:
    """Names of the checks that failed."""
    return [line.check for line in report.lines if line.result == FAIL]


def receipt(forged: Dossier, **fields: Any) -> Receipt:
    """node2's receipt for the dossier's instruction, or one with other fields."""
    signer = fields.pop("signer", world.node_signer(2))
    body = replace(
        ReceiptBody(
            envelope_digest(forged.signed.envelope),
            world.node_signer(2).public_key,
            1,
            forged.header.parent,
            world.GENESIS_TIME,
        ),
        **fields,
    )
    return Receipt(body, signer.sign(RECEIPT_DOMAIN, GENESIS.chain_id, encode(body)))


def with_payment(**fields: Any) -> Dossier:
    """Dossier 6 with other fields in its payment, and nothing else changed."""
    found = part(6)
    return replace(dossier(6), payment=replace(found, payment=replace(found.payment, **fields)))
