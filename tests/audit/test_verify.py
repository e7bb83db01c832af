"""A dossier proves one payment to anyone who has the genesis file, and says what it leaves open."""

from __future__ import annotations

import gzip
import subprocess
import sys

import msgspec
import pytest
from msgspec.structs import replace

from node.audit.dossier import (
    MAX_DOSSIER_BYTES,
    BadDossier,
    Place,
    attach_receipt,
)
from node.audit.report import INVALID, NOTE, PASS, UNDECIDED, VALID
from node.audit.verify import CHECKS, verify_file
from node.chain.block import header_digest
from node.chain.encoding import encode
from tests.support.dossiers import checked, dossier_bytes, failures
from tests.support.evidence_world import CASES, case, case_bytes, evidence_world
from tests.support.forge import act_of, sent_by, with_act, with_outcome, with_sender
from tests.support.forge_chain import rebuilt
from tests.support.forgeries import SOLE
from tests.support.forgeries_around import receipt

GENESIS = evidence_world().members.genesis_bytes
ALWAYS = {name for name, _ in CHECKS[:13]}
"""Checks that every sound dossier passes; of the others some have nothing to check."""

# --- sound dossiers ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_payment_is_proven_with_its_status(name: str) -> None:
    report = verify_file(case_bytes(name), GENESIS)
    assert (report.verdict, report.exit_code, report.status) == (VALID, 0, CASES[name])
    assert {line.check for line in report.lines if line.result == PASS} >= ALWAYS
    assert [line.check for line in report.lines[: len(CHECKS)]] == [name for name, _ in CHECKS]


def test_what_is_proven_is_told_to_programs() -> None:
    report = verify_file(case_bytes("alone"), GENESIS)
    payment, top = evidence_world().payments["alone"], case("alone").blocks[-1].header
    facts = report.payment
    assert facts is not None
    assert (facts.amount_minor, facts.amount, facts.currency) == (125, "1.25", "EUR")
    assert (facts.debtor, facts.creditor) == (payment.debtor, payment.creditor)
    assert (facts.height, facts.decided_height, facts.settled_minor) == (2, 2, 125)
    assert facts.checkpoint_height == top.height
    assert facts.checkpoint_digest == header_digest(top).hex()
    issued = verify_file(case_bytes("issue"), GENESIS).payment
    assert issued is not None
    assert issued.debtor is None
    waiting = verify_file(case_bytes("queued"), GENESIS).payment
    assert waiting is not None
    assert (waiting.decided_height, waiting.settled_minor) == (None, None)
    part = verify_file(case_bytes("part"), GENESIS).payment
    assert part is not None
    assert (part.amount_minor, part.settled_minor) == (502, 200)


def notes(name: str) -> dict[str, str]:
    report = verify_file(case_bytes(name), GENESIS)
    return {line.check: line.text for line in report.lines if line.result == NOTE}


def test_the_report_says_what_it_does_not_show() -> None:
    told = notes("alone")
    silent = {"together", "related", "receipt", "pinned"}
    assert set(told) == {*silent, "checkpoint", "delivery", "devnet"}
    assert "nor, without a replay, that execution was right" in told["checkpoint"]
    assert "no acknowledgement" in told["delivery"]


@pytest.mark.parametrize(
    ("name", "note", "words"),
    [
        ("acknowledged", "delivery", "acknowledged in block 48 to have seen its final outcome"),
        ("nothing", "delivery", "to have seen its final outcome"),
        ("gridlock-first", "choice", "takes an audit of the whole chain"),
        ("queued", "undecided", "so it stood in block"),
        ("net-open", "undecided", "so it stood in block"),
        ("retry", "retry", "the outcome that stands is [1, 0] in block 4"),
        ("copied", "order", "not given by whose money it is"),
        ("duplicate", "duplicate", "another payment stands under this UETR"),
        ("disputed", "dispute", "a dispute moves no money"),
    ],
)
def test_what_a_reader_has_to_know_besides_is_noted(name: str, note: str, words: str) -> None:
    assert words in notes(name)[note]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("alone", "1.25 EUR from BANKA ("),
        ("batch", "payment 4 of 6"),
        ("many", "5 change(s), 5 of them by an order that is shown"),
        ("gridlock-first", "one of 3 payments of CNY that settled at once between 3 accounts"),
        ("link-eur", "all 2 legs settled at once; net BANKA ("),
        ("link-open", "shown to have signed: 2 of 3"),
        ("net-waterfall", "what 1 of them lacked was paid by the rules"),
        ("net-unwound", "unwound in block"),
        ("net-open", "which is open: 1 payment(s) so far"),
        ("part", "2.00 EUR settled"),
        ("returned", "2.50 EUR given back"),
        ("returned", "return of 2.50 EUR (settled at first) by BANKB ("),
        ("recalled", "recall refused"),
        ("disputed", "(reason FRAD): upheld"),
        ("held", "queued, then held (BLCK, reason CUST)"),
    ],
)
def test_the_lines_tell_what_happened_in_plain_words(name: str, words: str) -> None:
    assert words in verify_file(case_bytes(name), GENESIS).text()


def test_an_acknowledgement_of_something_else_is_no_delivery() -> None:
    _, make = SOLE["an outcome of another time"]
    assert "none of the outcomes shown" in _delivery(checked(make()).text())


def test_an_order_that_used_up_nothing_may_have_been_given_again() -> None:
    """Rejected for what its sender may not do, and by the debtor: it can come once more."""
    report = checked(rebuilt(with_outcome(case("copied"), 0, reason="AG08")))
    assert report.verdict == VALID, report.text()
    own = rebuilt(with_outcome(sent_by(case("copied"), 0, "BANKA"), 0, reason="AG08"))
    report = checked(own)
    assert (report.verdict, report.status) == (VALID, "rejected"), report.text()
    assert "NOTE  again: this order used up no UETR" in report.text()


def _delivery(text: str) -> str:
    return next(line for line in text.split("\n") if line.startswith("NOTE  delivery"))


def test_a_receipt_kept_by_the_client_is_checked_with_the_rest() -> None:
    data = attach_receipt(case_bytes("alone"), encode(receipt(case("alone"))))
    report = verify_file(data, GENESIS)
    assert report.verdict == VALID
    assert "node2 stated to have it" in report.text()
    with pytest.raises(BadDossier, match="receipt"):
        attach_receipt(case_bytes("alone"), b"no receipt")


# --- another genesis file, bytes and files ----------------------------------------------------


def test_evidence_of_another_chain_is_invalid_however_alike_the_genesis_files() -> None:
    report = verify_file(case_bytes("alone"), GENESIS + b"\n")
    assert report.verdict == INVALID
    assert "chain" in failures(report)
    assert "another chain than the genesis file describes" in report.text()
    assert verify_file(dossier_bytes(6), GENESIS).verdict == INVALID


@pytest.mark.parametrize(
    ("genesis", "words"),
    [
        (b"", "not JSON"),
        (b"{}", "not a genesis file"),
        (b"\x00" * 64, "not JSON"),
        (case_bytes("alone"), "It looks like a dossier: were the two files swapped?"),
        (b"[" * 100_000, "not JSON"),
        (GENESIS + b" " * (4 << 20), "at most"),
    ],
    ids=["empty", "json", "zeros", "swapped", "nested", "huge"],
)
def test_without_a_genesis_file_nothing_is_decided(genesis: bytes, words: str) -> None:
    report = verify_file(case_bytes("alone"), genesis)
    assert (report.verdict, report.exit_code) == (UNDECIDED, 2)
    assert words in report.text()


def test_missing_and_extra_fields_are_invalid() -> None:
    fields = msgspec.msgpack.decode(case_bytes("alone"))
    for wrong in (fields[:-1], [*fields, None], [*fields, b"x"], fields[::-1], []):
        assert failures(checked(encode(wrong))) == ["file"]


SOUND = case_bytes("alone")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (SOUND[:-1], "truncated"),
        (SOUND[:100], "truncated"),
        (SOUND + b"\n", "trailing"),
        (SOUND.hex().encode(), "It looks like hexadecimal digits"),
        (gzip.compress(SOUND), "It looks like a gzip archive"),
        (b"%PDF-1.7 ...", "It looks like a PDF document"),
        (GENESIS, "It looks like a genesis file"),
        (b'{"verdict": "VALID"}', "It looks like JSON"),
        (b"<!doctype html>", "It looks like a web page"),
        (encode(receipt(case("alone"))), "It looks like a node's receipt"),
        (b"\x9a\xa9dossier/2" + bytes(99), "old format"),
        (b"\x91" * 100_000, "not a Dossier"),
        (SOUND[:11] + b"\x91" * 1_000_000, "not a Dossier"),
        (b"\x00" * (MAX_DOSSIER_BYTES + 1), "no dossier has more than"),
    ],
    ids=[
        "empty", "cut", "stub", "newline", "hex", "gzip", "pdf", "genesis", "json", "html",
        "receipt", "old", "nested", "nested-inside", "huge",
    ],
)  # fmt: skip
def test_a_file_that_is_no_dossier_is_called_so_in_a_sentence(data: bytes, sentence: str) -> None:
    report = verify_file(data, GENESIS)
    assert (report.verdict, failures(report)) == (INVALID, ["file"])
    assert sentence in report.text()
    assert "this is not a dossier" in report.text()


# --- missing parts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field", "words"),
    [
        ("alone", "finality", "that the checkpoint is final"),
        ("alone", "payment", "the payment is not in the dossier"),
        ("alone", "row", "what became of the payment later"),
        ("gridlock-first", "together", "(gridlocked) is not in the dossier"),
        ("link-eur", "together", "(linked) is not in the dossier"),
        ("net-open", "together", "(netted) is not in the dossier"),
        ("disputed", "dispute", "how the dispute stands is not in the dossier"),
    ],
)
def test_a_missing_mandatory_part_leaves_it_undecided_and_says_which(
    name: str, field: str, words: str
) -> None:
    report = checked(replace(case(name), **{field: None}))
    assert (report.verdict, report.exit_code, report.status) == (UNDECIDED, 2, None), report.text()
    assert words in report.text()


@pytest.mark.parametrize("step", [0, 1])
def test_keys_of_every_instruction_have_to_be_proven(step: int) -> None:
    report = checked(rebuilt(with_act(case("held"), step, authority=None)))
    assert (report.verdict, report.status) == (UNDECIDED, None), report.text()
    assert f"whose the keys were that signed steps[{step}].act" in report.text()


def test_a_missing_part_hides_no_forgery_in_another() -> None:
    for name in ("another amount", "a debtor that paid less", "the last change left out"):
        if name in SOLE:
            forged = replace(SOLE[name][1](), finality=None)
            assert checked(forged).verdict == INVALID


def test_a_uetr_that_is_used_anew_leaves_the_older_payment_undecided() -> None:
    """The state tells of the newer payment alone."""
    sound = case("held")
    assert sound.row is not None
    assert sound.row.record is not None
    later = replace(sound.row.record.first, height=sound.blocks[-1].header.height)
    record = replace(sound.row.record, first=later)
    report = checked(rebuilt(replace(sound, row=replace(sound.row, record=record))))
    assert (report.verdict, report.status) == (UNDECIDED, None), report.text()
    assert "the UETR was used anew" in report.text()


def test_an_older_payments_record_says_nothing_of_the_one_that_followed() -> None:
    sound, older = case("alone"), case("held")
    assert sound.row is not None
    assert older.row is not None
    assert older.row.record is not None
    record = replace(older.row.record, first=replace(older.row.record.first, height=1))
    report = checked(rebuilt(replace(sound, row=replace(sound.row, record=record))))
    assert (report.verdict, report.status) == (VALID, "settled"), report.text()


# --- the verifier itself ----------------------------------------------------------------------


def test_what_a_forger_writes_cannot_move_the_cursor_or_fill_the_screen() -> None:
    for name in ("\x1b[2J\rVALID\n", "VALID " * 1_000):
        forged = with_sender(case("alone"), name=name[:32])
        text = checked(forged).text()
        assert "\x1b" not in text
        assert all(line[:4] in {"PASS", "FAIL", "NOTE"} for line in text.split("\n")[:-2])
    outcome = replace(case("alone").steps[0].outcome, status="X" * 1_000_000)
    step = replace(case("alone").steps[0], outcome=outcome)
    assert len(checked(replace(case("alone"), steps=(step,))).text()) < 20_000


def test_names_are_the_genesis_files_and_not_the_forgers() -> None:
    text = checked(rebuilt(with_sender(case("alone"), name="BANKZ"))).text()
    assert "EUR from BANKA (" in text


def test_the_verifier_needs_nothing_of_a_node() -> None:
    """An auditor installs the base dependencies alone, and reads no networking code."""
    program = (
        "import sys; before = set(sys.modules); import node.audit.verify; import node.cli.verify; "
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    own = {name for name in loaded if name.split(".")[0] in {"node", "consensus", "devnet"}}
    rooms = {name for name in own if name.startswith(("node.audit.verify", "node.chain."))}
    assert own - rooms <= {
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
        "node.audit.looks",
        "node.audit.note",
        "node.audit.proofs",
        "node.audit.report",
        "node.audit.state_proofs",
        "node.audit.wording",
        "node.chain",
        "node.cli",
        "node.cli.checkpoint_options",
        "node.cli.errors",
        "node.cli.output",
        "node.cli.verify",
    }
    heavy = {"aiohttp", "plyvel", "asyncio", "cryptography", "stdnum", "msgpack", "socket", "ssl"}
    assert not heavy & {name.split(".")[0] for name in loaded}


def test_a_place_is_an_index_and_a_path_and_nothing_more() -> None:
    assert Place.__struct_fields__ == ("index", "path")
    assert act_of(case("alone")).authority is not None
