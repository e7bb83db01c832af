"""`nostro acknowledge --watch` signs what a verified dossier proves, and nothing a node says."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from node.audit.dossier import Netted
from node.audit.verify import verify_file
from node.chain.block import header_digest, outcome_leaf
from node.chain.encoding import encode
from node.chain.uetr import uetr_text
from node.cli.acknowledged import MAX_CYCLES, Position, Refused, proven
from node.cli.errors import CommandError
from tests.support.command import Ran
from tests.support.evidence_world import CASES, case, case_bytes, evidence_world
from tests.support.settlement_net import SettlementNet

CHAIN = bytes(range(32))


# --- what a dossier proves ------------------------------------------------------------------------


def told(
    name: str, of: str | None = None, lei: str | None = None, data: bytes | None = None
) -> str:
    """Why the dossier of a case is refused; "" if it is not."""
    world = evidence_world()
    payment = world.payments[of or name]
    try:
        proven(
            case_bytes(name) if data is None else data,
            world.members.genesis_bytes,
            uetr_text(payment.uetr),
            lei or payment.creditor,
        )
    except Refused as refused:
        return str(refused)
    return ""


def of_payments(*statuses: str) -> list[str]:
    world = evidence_world()
    return [name for name, status in CASES.items() if status in statuses and name in world.payments]


def test_every_payment_that_settled_is_acknowledged_by_its_settling_outcome() -> None:
    world = evidence_world()
    names = [name for name in of_payments("settled", "posted") if name != "retry"]
    assert len(names) > 8
    kinds = set()
    for name in names:
        made, payment = case(name), world.payments[name]
        found = proven(
            case_bytes(name), world.members.genesis_bytes, uetr_text(payment.uetr), payment.creditor
        )
        outcome = made.steps[-1].outcome
        if isinstance(made.together, Netted):
            assert made.together.decided is not None
            outcome = made.together.decided.outcome
        kinds.add(type(made.together))
        block = next(b for b in made.blocks if b.header.height == outcome.height)
        assert found.payment == payment
        assert found.outcome == outcome_leaf(encode(outcome))
        assert found.block == header_digest(block.header)
        report = verify_file(case_bytes(name), world.members.genesis_bytes)
        assert found.acknowledged is ("its final outcome" in report.text())
    assert len(kinds) == 4


def test_a_retry_is_no_settlement() -> None:
    assert "is of a retry" in told("retry", of="own")


def test_what_did_not_settle_is_never_acknowledged() -> None:
    names = of_payments("rejected", "queued", "cancelled", "expired", "accepted", "reserved")
    assert len(names) > 3
    for name in names:
        assert "not settled" in told(name)


def test_a_dossier_of_another_payment_or_another_receiver_is_refused() -> None:
    first, second = of_payments("settled")[:2]
    assert told(first) == told(second) == ""
    assert "of another payment" in told(first, of=second)
    world = evidence_world()
    assert "is of a payment to" in told(first, lei=world.payments[first].debtor)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"{}", b"\x00" * 1000])
def test_what_is_no_dossier_is_refused(data: bytes) -> None:
    assert told(of_payments("settled")[0], data=data).startswith("is INVALID")


def test_no_tampered_dossier_is_believed() -> None:
    name = of_payments("settled")[0]
    sound = case_bytes(name)
    for position in range(0, len(sound), 41):
        changed = bytearray(sound)
        changed[position] ^= 1
        assert told(name, data=bytes(changed)) != ""


# --- a node that lies -----------------------------------------------------------------------------


def watch(desk: SettlementNet, tmp_path: Path, *options: object) -> Ran:
    genesis = tmp_path / "genesis.json"
    genesis.write_bytes(desk.first.node.genesis_bytes)
    return desk.run(
        "acknowledge", "--watch", "--once", "--genesis", genesis,
        "--position", tmp_path / "position", *options,
    )  # fmt: skip


def test_dossiers_that_do_not_verify_are_refused_one_by_one_and_nothing_is_signed(
    desk: SettlementNet, tmp_path: Path
) -> None:
    paid = [desk.paid("1.00"), desk.paid("2.00")]
    desk.paid("3.00", to="BANKC")
    sent = len(desk.first.node.submissions)
    ran = watch(desk, tmp_path, "--from", "BANKB", "--json")
    assert ran.code == 1
    assert ran.json == {
        "acknowledged": 0, "known": 0, "refused": 2, "not_acknowledged": paid,
    }  # fmt: skip
    made = desk.first.do(lambda: desk.first.node.evidence(bytes.fromhex(paid[0].replace("-", ""))))
    assert made is not None
    assert ran.err.count("is INVALID: FAIL  file: this is not a dossier") == 2
    assert sha256(made).hexdigest() in ran.err
    assert len(desk.first.node.submissions) == sent


def test_what_was_dealt_with_is_not_looked_at_again(desk: SettlementNet, tmp_path: Path) -> None:
    first = desk.paid("1.00")
    assert watch(desk, tmp_path, "--from", "BANKB", "--json").json["refused"] == 1
    assert watch(desk, tmp_path, "--from", "BANKB", "--json").json["refused"] == 0
    second = desk.paid("1.00")
    ran = watch(desk, tmp_path, "--from", "BANKB")
    assert (ran.code, first in ran.err, second in ran.err) == (1, False, True)
    assert ran.out.splitlines()[-1] == "0 acknowledged, 0 were already, 1 refused"


def test_net_payments_are_found_once_their_cycle_settled_by_a_later_run(
    desk: SettlementNet, tmp_path: Path
) -> None:
    members = [
        part
        for bank in ("BANKA", "BANKB", "BANKC")
        for part in ("--member", f"{bank},EUR,5000.00,100.00,200.00")
    ]
    desk.json("propose", "--from", "CENTRALBANK", "--netting", "EUR=30m", *members)
    first = desk.paid("100.00", 3, mode="net")
    desk.paid("100.00", 3, mode="net", **{"from": "BANKB", "to": "BANKA"})
    desk.paid("7.00", 3, mode="net", to="BANKC")
    assert watch(desk, tmp_path, "--from", "BANKB", "--json").json["refused"] == 0
    second = desk.paid("5.00", 3, mode="net", **{"from": "BANKC", "to": "BANKB"})
    desk.json("cycle", "close", "EUR", "--from", "CENTRALBANK")
    ran = watch(desk, tmp_path, "--from", "BANKB", "--json")
    assert ran.json["not_acknowledged"] == [first, second]


def test_a_node_of_another_chain_is_left_at_once(desk: SettlementNet, tmp_path: Path) -> None:
    genesis = tmp_path / "other.json"
    genesis.write_bytes(desk.first.node.genesis_bytes + b"\n")
    ran = desk.run(
        "acknowledge", "--watch", "--genesis", genesis, "--position", tmp_path / "p",
        "--from", "BANKB",
    )  # fmt: skip
    assert (ran.code, "of another chain" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give a UETR or --watch"),
        (("UETR", "--watch"), "give a UETR or --watch"),
        (("UETR", "--once"), "are for --watch"),
        (("--watch", "--position", "p"), "--watch needs --genesis"),
        (("--watch", "--genesis", "g"), "--watch needs --position"),
        (("--watch", "--genesis", "g", "--position", "p", "--json"), "is for --once"),
        (("--watch", "--genesis", "/no/such", "--position", "p"), "cannot read the genesis"),
    ],
)
def test_wrong_usage_is_named(idle: SettlementNet, options: tuple[str, ...], said: str) -> None:
    assert said in idle.usage("acknowledge", *options, "--from", "BANKB").err


# --- the position file ----------------------------------------------------------------------------


def test_a_position_is_read_as_it_was_saved_and_remembers_the_latest_cycles(tmp_path: Path) -> None:
    path = tmp_path / "position"
    made = Position.load(path, CHAIN, "LEI")
    assert (made.place, made.cycles) == ((0, 0), {})
    made.place = (7, 3)
    made.cycles = {str(number): (number, 0) for number in range(MAX_CYCLES + 5)}
    made.save(path)
    read = Position.load(path, CHAIN, "LEI")
    assert read == made
    assert len(read.cycles) == MAX_CYCLES
    assert "4" not in read.cycles


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chain_id": "00"}, "another chain"),
        ({"participant": "X"}, "another participant"),
        ({"format": "nostro-acknowledge/2"}, "another format"),
        ({"place": [-1, 0]}, "no position"),
        ({"place": [2**64, 0]}, "no position"),
        ({"more": 1}, "no position"),
    ],
)
def test_a_position_that_is_not_ours_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "position"
    Position(CHAIN, "LEI", (1, 2)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CommandError, match=said):
        Position.load(path, CHAIN, "LEI")


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000, b"{" + b" " * 2_000_000])
def test_a_damaged_position_is_refused_in_a_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "position"
    path.write_bytes(data)
    with pytest.raises(CommandError, match="no position"):
        Position.load(path, CHAIN, "LEI")
