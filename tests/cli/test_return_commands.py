"""`recall`, `return`, `dispute`, `acknowledge`, `trace`: what can be said and done about money that
has settled."""

from __future__ import annotations

from hashlib import sha256

import pytest

from tests.support.settlement_net import SettlementNet

UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"
OTHER = "3d6f0a1c-8e2b-4f7d-9c5a-6b7e8d9f0a1b"


def test_a_recall_is_answered_by_a_return(desk: SettlementNet) -> None:
    paid = desk.paid("100.00")
    assert desk.json("recall", paid, "--reason", "DUPL")["recall"] == "asked"
    again = desk.run("recall", paid, "--reason", "DUPL", "--json")
    assert (again.code, again.json["reason"]) == (1, "DU02")
    back = desk.json("return", paid, "--amount", "40.00", "--reason", "FOCR")
    assert back["status"] == "settled"
    document = desk.first.do(lambda: desk.first.node.payment(bytes.fromhex(paid.replace("-", ""))))
    assert document is not None
    assert (document.returned, document.returnable) == ("40.00", "60.00")
    assert document.recall == "returned"
    assert desk.balance("BANKA") == "9940.00"


def test_without_an_amount_all_that_is_left_is_returned_and_no_more(desk: SettlementNet) -> None:
    paid = desk.paid("100.00")
    desk.json("return", paid, "--amount", "40.00", "--reason", "FOCR")
    desk.json("return", paid, "--reason", "FOCR")
    assert desk.balance("BANKA") == "10000.00"
    over = desk.run("return", paid, "--amount", "0.01", "--reason", "FOCR", "--json")
    assert (over.code, over.json["reason"]) == (1, "AM09")


def test_a_recall_is_refused_with_a_reason(desk: SettlementNet) -> None:
    paid = desk.paid("100.00")
    ran = desk.run("recall", paid, "--refuse", "--reason", "LEGL", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "NOAS")
    desk.json("recall", paid, "--reason", "DUPL")
    assert desk.json("recall", paid, "--refuse", "--reason", "LEGL")["recall"] == "refused"


def test_only_the_creditor_returns(desk: SettlementNet) -> None:
    paid = desk.paid("100.00")
    ran = desk.run("return", paid, "--reason", "FOCR", "--from", "BANKC", "--json")
    assert (ran.code, ran.json["status"]) == (1, "rejected")
    assert desk.balance("BANKB") == "10100.00"


def test_what_has_not_settled_cannot_be_returned(desk: SettlementNet) -> None:
    waiting = desk.paid("99999.00", 3)
    ran = desk.run("return", waiting, "--reason", "FOCR")
    assert (ran.code, "only what settled" in ran.err) == (1, True)


def test_a_dispute_is_opened_evidenced_and_decided(desk: SettlementNet) -> None:
    paid = desk.paid("100.00")
    assert desk.json("dispute", "open", paid, "--reason", "FRAD", "--from", "BANKA")["dispute"]
    letter = desk.directory / "letter.pdf"
    letter.write_bytes(b"we never ordered this")
    done = desk.json("dispute", "evidence", paid, "--document", letter, "--from", "BANKB")
    [document] = done["dispute"]["evidence"]
    assert document["document"] == sha256(b"we never ordered this").hexdigest()
    decide = ("dispute", "decide", paid, "--reason", "FRAD")
    party = desk.run(*decide, "--uphold", "--from", "BANKC", "--json")
    assert (party.code, party.json["reason"]) == (1, "DS20")
    done = desk.json(*decide, "--dismiss", "--from", "WATCHDOG")
    assert done["dispute"]["verdict"] == "dismissed"
    [shown] = desk.json("dispute", "show")["disputes"]
    assert shown["opened_by_name"] == "BANKA"
    assert "dismissed" in desk.run("dispute", "show", paid).out
    other = desk.run("dispute", "show", desk.paid("1.00"))
    assert (other.code, "not disputed" in other.err) == (1, True)


def test_a_creditor_acknowledges_the_outcome_it_saw(desk: SettlementNet) -> None:
    paid = desk.paid("100.00")
    done = desk.json("acknowledge", paid)
    last = desk.json("payment", paid)["changes"][-1]
    assert last["acknowledged"] == done["height"]
    again = desk.run("acknowledge", paid, "--json")
    assert (again.code, again.json["reason"]) == (1, "DU02")
    ran = desk.run("acknowledge", desk.paid("1.00"), "--from", "BANKC", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "DS0F")


# --- trace ----------------------------------------------------------------------------------------


def chain(desk: SettlementNet) -> tuple[str, str, str]:
    """BANKA pays BANKB, which passes it on to BANKC, which gives half of it back."""
    first = desk.paid("100.00")
    second = desk.paid("100.00", **{"from": "BANKB", "to": "BANKC", "previous": first})
    back = desk.json("return", second, "--amount", "50.00", "--reason", "FOCR")
    return first, second, str(back["uetr"])


def test_a_trace_finds_the_source_and_all_that_follows(desk: SettlementNet) -> None:
    first, second, back = chain(desk)
    desk.json("recall", second, "--reason", "DUPL")
    for asked in (first, second, back):
        found = desk.json("trace", asked)
        assert (found["asked"], found["payments"], found["complete"]) == (asked, 3, True)
        source = found["source"]
        assert (source["uetr"], source["relation"]) == (first, "source")
        [carried] = source["following"]
        assert (carried["uetr"], carried["relation"]) == (second, "carries-on")
        assert (carried["returned"], carried["recall"]) == ("50.00", "asked")
        [returned] = carried["following"]
        assert (returned["uetr"], returned["relation"]) == (back, "returns")
        assert (returned["debtor_name"], returned["creditor_name"]) == ("BANKC", "BANKB")
    people = desk.run("trace", second).out
    assert f"└─ {second}  BANKB -> BANKC  100.00 EUR  settled (carries on) *" in people
    assert "recall asked" in people


def test_a_source_that_this_node_never_saw_stands_by_its_uetr(desk: SettlementNet) -> None:
    paid = desk.paid("1.00", previous=UETR)
    found = desk.json("trace", paid)
    assert found["complete"] is False
    assert found["source"]["known"] is False
    assert found["source"]["following"][0]["uetr"] == paid
    assert "not held here" in desk.run("trace", paid).out


def test_payments_that_name_each_other_end_in_a_bounded_tree(desk: SettlementNet) -> None:
    desk.paid("1.00", uetr=UETR, previous=OTHER)
    desk.paid("1.00", uetr=OTHER, previous=UETR)
    found = desk.json("trace", UETR)
    assert (found["payments"], found["complete"]) == (2, False)


def test_a_payment_that_nothing_follows_is_its_own_tree(desk: SettlementNet) -> None:
    paid = desk.paid("1.00")
    found = desk.json("trace", paid)
    assert (found["payments"], found["source"]["following"]) == (1, [])


# --- wrong usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["recall", UETR], "--reason"),
        (["recall", UETR, "--reason", "because"], "no reason code"),
        (["return", UETR], "--reason"),
        (["return", UETR, "--reason", "focr"], "no reason code"),
        (["dispute"], "COMMAND"),
        (["dispute", "open", UETR], "--reason"),
        (["dispute", "evidence", UETR], "--document, --digest"),
        (["dispute", "evidence", UETR, "--digest", "xy"], "hexadecimal"),
        (["dispute", "evidence", UETR, "--document", "/nowhere"], "cannot read"),
        (["dispute", "decide", UETR, "--reason", "FRAD"], "--uphold, --dismiss"),
        (["dispute", "decide", UETR, "--reason", "FRAD", "--uphold", "--dismiss"], "not several"),
        (["acknowledge"], "UETR"),
        (["trace"], "UETR"),
    ],
)
def test_wrong_usage_after_settlement_exits_64(
    idle: SettlementNet, arguments: list[str], says: str
) -> None:
    assert says in idle.usage(*arguments).err


@pytest.mark.parametrize("command", ["recall", "return", "acknowledge", "trace"])
def test_a_payment_that_nobody_knows_is_refused(idle: SettlementNet, command: str) -> None:
    reason = ["--reason", "DUPL"] if command in {"recall", "return"} else []
    ran = idle.run(command, UETR, *reason)
    assert ran.code == 1
    assert UETR in ran.err
    assert idle.first.node.submissions == []
