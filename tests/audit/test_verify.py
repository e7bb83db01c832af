"""A dossier proves one payment to anyone who has the genesis file, and says what it leaves open."""

from __future__ import annotations

import gzip
import subprocess
import sys
from functools import cache

import msgspec
import pytest
from msgspec.structs import replace

from node.audit.build import build_dossier
from node.audit.dossier import (
    MAX_DOSSIER_BYTES,
    BadDossier,
    Dossier,
    Place,
    attach_receipt,
    decode_dossier,
)
from node.audit.report import INVALID, NOTE, UNDECIDED, VALID
from node.audit.verify import CHECKS, check_dossier, verify_file
from node.chain.build import build_pay
from node.chain.encoding import encode
from node.chain.instruction import envelope_digest
from node.chain.signature import RECEIPT_DOMAIN
from node.chain.types import OutcomePlace, Receipt, ReceiptBody
from tests.support import forge, wire, world
from tests.support.dossiers import (
    GENESIS,
    authority,
    checked,
    dossier,
    dossier_bytes,
    failures,
    finality,
    receipt,
    with_payment,
)
from tests.support.small_chain import VALID_UNTIL, SmallChain, issue, pay, sample
from tests.support.world import BANKA, BANKB

# --- sound dossiers ---------------------------------------------------------------------------

STATUS_OF = {
    0: "settled",
    6: "settled",
    10: "rejected",
    11: "settled",
    20: "settled",
    30: "settled",
    40: "settled",
    1000: "settled",
    1003: "settled",
}


@pytest.mark.parametrize("number", STATUS_OF)
def test_every_kind_of_payment_is_proven_with_its_status(number: int) -> None:
    report = verify_file(dossier_bytes(number), world.genesis_bytes())
    assert (report.verdict, report.exit_code, report.status) == (VALID, 0, STATUS_OF[number])
    assert {line.check for line in report.lines if line.result == "PASS"} >= {
        name for name, _ in CHECKS if name != "receipt"
    }


def test_a_block_without_a_certificate_of_its_own_is_proven_by_a_later_one() -> None:
    later = finality(6).later
    assert later is not None
    assert (dossier(6).header.height, later.header.height) == (2, 4)
    assert finality(20).later is None


def test_the_report_says_what_it_does_not_show() -> None:
    report = verify_file(dossier_bytes(6), world.genesis_bytes())
    notes = {line.check: line.text for line in report.lines if line.result == NOTE}
    assert set(notes) == {"checkpoint", "delivery", "receipt"}
    assert "nor, without a replay, that execution was right" in notes["checkpoint"]
    assert report.text().endswith("\nVALID\n")


def test_amounts_are_told_in_the_assets_own_decimals() -> None:
    text = verify_file(dossier_bytes(6), world.genesis_bytes()).text()
    assert f"1250.00 EUR from {BANKA.lei} to {BANKB.lei}" in text
    assert "debtor's balance then" in text


def test_a_retry_proves_the_status_and_names_the_outcome_that_stands() -> None:
    chain = sample()
    entry = chain.uetrs[world.uetr(11)]._replace(height=4, instruction=1, payment=0)
    report = verify_file(build_dossier(chain, entry), world.genesis_bytes())
    assert (report.verdict, report.status) == (VALID, "settled")
    assert report.dossier is not None
    assert report.dossier.outcome.original == OutcomePlace(2, 2, 0)
    assert "the outcome that stands is [2, 0] in block 2" in report.text()


def test_a_rejection_says_where_it_tells_nothing_of_the_debtors_own_payment() -> None:
    """BANKB sends a copy of BANKA's payment first: what it can prove is its own rejection."""
    chain = SmallChain()
    chain.add(issue(chain, 1000))
    order = world.payment(1)
    copy = build_pay(
        chain.genesis.chain_id,
        BANKB.lei,
        "COPY",
        VALID_UNTIL,
        payments=[order],
        signers=[BANKB.key],
    )
    chain.add(copy, pay(chain, "OWN", 1), pay(chain, "OTHER", 1, amount=1))
    settled = chain.uetrs[world.uetr(1)]
    copied = settled._replace(instruction=0)
    report = verify_file(build_dossier(chain, copied), world.genesis_bytes())
    assert (report.verdict, report.status) == (VALID, "rejected")
    assert "NOTE  order: " in report.text()
    other = settled._replace(instruction=2)
    report = verify_file(build_dossier(chain, other), world.genesis_bytes())
    assert (report.verdict, report.status) == (VALID, "rejected")
    assert "NOTE  duplicate: " in report.text()
    report = verify_file(build_dossier(chain, settled), world.genesis_bytes())
    assert (report.verdict, report.status) == (VALID, "settled")
    assert {line.check for line in report.lines if line.result == NOTE} == {
        "receipt",
        "checkpoint",
        "delivery",
    }


def test_a_receipt_kept_by_the_client_is_checked_with_the_rest() -> None:
    sound = dossier(6)
    with_receipt = attach_receipt(dossier_bytes(6), encode(receipt(sound)))
    report = verify_file(with_receipt, world.genesis_bytes())
    assert report.verdict == VALID
    assert "node2 stated to have it" in report.text()
    with pytest.raises(BadDossier, match="receipt"):
        attach_receipt(dossier_bytes(6), b"no receipt")


def test_a_failure_names_field_expected_found_and_meaning() -> None:
    text = checked(replace(dossier(10), outcome=replace(dossier(10).outcome, height=77))).text()
    assert "FAIL  link: outcome.height: expected 2, found 77. The outcome belongs to" in text
    assert text.endswith("\nINVALID\n")


# --- another genesis file, bits, bytes and files ----------------------------------------------


def test_evidence_of_another_chain_is_invalid_however_alike_the_genesis_files() -> None:
    report = verify_file(dossier_bytes(6), world.genesis_bytes() + b"\n")
    assert report.verdict == INVALID
    assert "chain" in failures(report)
    assert "another chain than the genesis file describes" in report.text()


@pytest.mark.parametrize("genesis", [b"", b"{}", b"\x00" * 64, dossier_bytes(6)])
def test_without_a_genesis_file_nothing_is_decided(genesis: bytes) -> None:
    report = verify_file(dossier_bytes(6), genesis)
    assert (report.verdict, report.exit_code) == (UNDECIDED, 2)


@cache
def chain_of_one() -> SmallChain:
    """One validator: the shortest dossiers that have all parts."""
    chain = SmallChain(world.genesis(1))
    chain.add(pay(chain, "E2E-1", 1, 2), final=False)
    chain.add()
    return chain


def test_no_flipped_bit_of_a_whole_dossier_is_valid() -> None:
    chain = chain_of_one()
    data = build_dossier(chain, chain.uetrs[world.uetr(2)])
    sound = decode_dossier(data)
    body = ReceiptBody(
        envelope_digest(sound.signed.envelope),
        world.node_signer(0).public_key,
        0,
        sound.header.parent,
        world.GENESIS_TIME,
    )
    signature = world.node_signer(0).sign(RECEIPT_DOMAIN, chain.genesis.chain_id, encode(body))
    data = attach_receipt(data, encode(Receipt(body, signature)))
    assert check_dossier(data, chain.genesis).verdict == VALID
    for changed in wire.flipped(data):
        report = check_dossier(changed, chain.genesis)
        assert report.verdict == INVALID, report.text()


def test_no_sampled_flipped_bit_is_valid_with_four_validators() -> None:
    for number, start in ((6, 0), (20, 5), (1003, 9)):
        for position, changed in enumerate(wire.flipped(dossier_bytes(number))):
            if position % 31 == start:
                assert check_dossier(changed, GENESIS).verdict == INVALID


def test_another_encoding_of_the_same_dossier_is_invalid() -> None:
    data = dossier_bytes(20)
    for longer in wire.widened(data):
        report = check_dossier(longer, GENESIS)
        assert failures(report) == ["file"], report.text()


def test_missing_and_extra_fields_are_invalid() -> None:
    data = dossier_bytes(20)
    fields = msgspec.msgpack.decode(data)
    for wrong in (fields[:-1], [*fields, None], [*fields, b"x"], fields[::-1], []):
        assert failures(check_dossier(encode(wrong), GENESIS)) == ["file"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (dossier_bytes(20)[:-1], "truncated"),
        (dossier_bytes(20)[:100], "truncated"),
        (dossier_bytes(20) + b"\n", "trailing"),
        (dossier_bytes(20).hex().encode(), "not a Dossier"),
        (gzip.compress(dossier_bytes(20)), "not a Dossier"),
        (b"%PDF-1.7 ...", "not a Dossier"),
        (world.genesis_bytes(), "not a Dossier"),
        (b"\x91" * 100_000, "not a Dossier"),
        (b"\x00" * (MAX_DOSSIER_BYTES + 1), "no dossier has more than"),
    ],
    ids=["empty", "cut", "stub", "newline", "hex", "gzip", "pdf", "genesis", "nested", "huge"],
)
def test_a_file_that_is_no_dossier_is_called_so_in_a_sentence(data: bytes, sentence: str) -> None:
    report = verify_file(data, world.genesis_bytes())
    assert (report.verdict, failures(report)) == (INVALID, ["file"])
    assert sentence in report.text()
    assert "this is not a dossier" in report.text()


# --- missing parts ----------------------------------------------------------------------------


def test_a_missing_mandatory_part_leaves_it_undecided_and_says_which() -> None:
    for field, words in (
        ("authority", "whose the signing keys were"),
        ("finality", "that the block is final"),
        ("payment", "the payment is not in the dossier"),
    ):
        report = checked(replace(dossier(6), **{field: None}))
        assert (report.verdict, report.exit_code, report.status) == (UNDECIDED, 2, None)
        assert words in report.text()


def test_a_missing_part_hides_no_forgery_in_another() -> None:
    for field in ("authority", "finality"):
        forged = replace(with_payment(amount=1), **{field: None})
        assert checked(forged).verdict == INVALID


# --- the verifier itself ----------------------------------------------------------------------


def _with_sender(name: str) -> Dossier:
    return forge.rebuilt(dossier(20), sender=replace(authority(20).sender, name=name))


def test_what_a_forger_writes_cannot_move_the_cursor() -> None:
    named = _with_sender(name="\x1b[2J\rVALID\n")
    assert "\x1b" not in checked(named).text()
    assert all(
        line[:4] in {"PASS", "FAIL", "NOTE"} for line in checked(named).text().split("\n")[:-2]
    )


def test_the_verifier_needs_nothing_of_a_node() -> None:
    """An auditor installs the base dependencies alone, and reads no networking code."""
    program = (
        "import sys; before = set(sys.modules); import node.audit.verify; "
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    own = {name for name in loaded if name.split(".")[0] in {"node", "consensus", "devnet"}}
    assert own <= {
        "consensus",
        "consensus.certificate",
        "consensus.interface",
        "consensus.messages",
        "node",
        "node.audit",
        "node.audit.accountability",
        "node.audit.dossier",
        "node.audit.epochs",
        "node.audit.fault",
        "node.audit.proofs",
        "node.audit.report",
        "node.audit.verify",
        "node.audit.verify_accountability",
        "node.audit.verify_finality",
        "node.audit.verify_order",
    } | {name for name in own if name == "node.chain" or name.startswith("node.chain.")}
    heavy = {"aiohttp", "plyvel", "asyncio", "cryptography", "stdnum", "msgpack", "socket", "ssl"}
    assert not heavy & {name.split(".")[0] for name in loaded}


def test_a_place_is_an_index_and_a_path_and_nothing_more() -> None:
    assert Place.__struct_fields__ == ("index", "path")
