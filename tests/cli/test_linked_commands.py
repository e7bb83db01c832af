"""`link`, `reserve`, `post`, `void`: all legs or none, and money set aside."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from tests.support.settlement_net import BOND, SettlementNet

PREIMAGE = bytes(range(32))
HASH = sha256(PREIMAGE).hexdigest()
UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"
PVP = ("--leg", "BANKA,BANKB,100.00,EUR", "--leg", "BANKB,BANKA,780.00,CNY")


def opened(desk: SettlementNet, *legs: str, sender: str = "BANKA") -> Any:
    return desk.json("link", "open", *(legs or PVP), "--expires", "1h", "--from", sender, code=3)


def yuan(desk: SettlementNet) -> None:
    desk.json("issue", "--to", "BANKB", "--amount", "1000.00", "--currency", "CNY")


def test_a_pvp_settles_once_both_agreed(desk: SettlementNet) -> None:
    yuan(desk)
    made = opened(desk)
    assert (made["status"], made["missing"]) == ("accepted", ["BANKB"])
    shown = desk.run("link", "show").out
    assert "BANKA pays BANKB 100.00 EUR (agreed)" in shown
    assert "BANKB pays BANKA 780.00 CNY (not agreed)" in shown
    done = desk.json("link", "agree", made["link"], "--from", "BANKB")
    assert done["status"] == "settled"
    assert desk.balance("BANKA", "CNY") == "780.00"
    assert desk.balance("BANKB") == "10100.00"
    assert [desk.status(uetr)[0] for uetr in made["uetrs"]] == ["settled", "settled"]
    assert desk.json("link", "show")["links"] == []


def test_a_dvp_moves_the_bond_against_the_money(desk: SettlementNet) -> None:
    desk.json("issue", "--to", "BANKA", "--amount", "50", "--currency", BOND)
    made = opened(desk, "--leg", f"BANKA,BANKB,50,{BOND}", "--leg", "BANKB,BANKA,4925.00,EUR")
    desk.json("link", "agree", made["link"], "--from", "BANKB")
    assert desk.balance("BANKB", BOND) == "50"
    assert desk.balance("BANKA") == "14925.00"


def test_a_link_that_is_short_waits_and_expires_whole(desk: SettlementNet) -> None:
    made = opened(desk)
    done = desk.json("link", "agree", made["link"], "--from", "BANKB", code=3)
    assert done["status"] == "accepted"
    assert "complete" in desk.run("link", "show", made["link"]).out
    desk.tick(2 * 3_600_000)
    assert [desk.status(uetr) for uetr in made["uetrs"]] == [("expired", "AB03")] * 2
    assert desk.balance("BANKA") == "10000.00"
    assert desk.run("link", "show", made["link"]).code == 1


def test_who_is_no_debtor_of_a_leg_cannot_agree(desk: SettlementNet) -> None:
    made = opened(desk)
    ran = desk.run("link", "agree", made["link"], "--from", "BANKC", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "DS0F")


def test_legs_that_a_node_made_up_are_not_signed(desk: SettlementNet) -> None:
    made = opened(desk)
    views = desk.first.node.settlement.links

    def lying() -> Any:
        import msgspec  # noqa: PLC0415

        [view] = views()
        return [msgspec.structs.replace(view, expires=view.expires + 1)]

    desk.first.node.settlement = Lying(lying)  # type: ignore[assignment]
    ran = desk.run("link", "agree", made["link"], "--from", "BANKB")
    assert ran.code == 1
    assert "not those of this id" in ran.err
    assert len(desk.first.node.submissions) == 1


class Lying:
    """Answers about links alone."""

    def __init__(self, links: Any) -> None:
        self.links = links


# --- two phases -----------------------------------------------------------------------------------


def reserved(desk: SettlementNet, amount: str = "100.00", *more: str) -> str:
    how = more or ("--poster", "BANKC")
    done = desk.json(
        "reserve", "--from", "BANKA", "--to", "BANKB", "--amount", amount, "--currency", "EUR",
        "--expires", "1h", *how, code=3,
    )  # fmt: skip
    assert done["status"] == "reserved"
    return str(done["uetr"])


def test_a_reservation_is_set_aside_and_posted_in_part(desk: SettlementNet) -> None:
    uetr = reserved(desk)
    assert "100.00" in desk.run("balance", "BANKA").out
    [row] = desk.json("balance", "BANKA")["balances"]
    assert row["available"] == "9900.00"
    done = desk.json("post", uetr, "--amount", "40.00", "--from", "BANKC")
    assert done["payment"] == "posted"
    assert desk.run("payment", uetr).code == 0
    assert (desk.balance("BANKA"), desk.balance("BANKB")) == ("9960.00", "10040.00")
    last = desk.json("payment", uetr)["changes"][-1]
    assert last["event"] == {"kind": "posted", "amount": "40.00"}


def test_whoever_shows_the_preimage_posts_all_of_it(desk: SettlementNet) -> None:
    uetr = reserved(desk, "100.00", "--hash-lock", HASH)
    wrong = desk.run("post", uetr, "--preimage", "00" * 32, "--from", "BANKB", "--json")
    assert (wrong.code, wrong.json["reason"]) == (1, "DS0B")
    desk.json("post", uetr, "--preimage", PREIMAGE.hex(), "--from", "BANKB")
    assert desk.balance("BANKB") == "10100.00"


def test_the_creditor_voids_a_reservation(desk: SettlementNet) -> None:
    uetr = reserved(desk)
    assert desk.json("void", uetr)["payment"] == "voided"
    assert desk.run("payment", uetr).code == 1
    again = desk.run("void", uetr, "--json")
    assert (again.code, again.json["reason"]) == (1, "ARDT")


def test_a_reservation_expires(desk: SettlementNet) -> None:
    uetr = reserved(desk)
    desk.tick(3_600_000)
    desk.tick(3_600_000)
    assert desk.status(uetr) == ("expired", "AB03")


def test_what_could_not_settle_is_not_reserved(desk: SettlementNet) -> None:
    ran = desk.run(
        "reserve", "--from", "BANKA", "--to", "BANKB", "--amount", "20000.00", "--currency", "EUR",
        "--expires", "1h", "--poster", "BANKB", "--json",
    )  # fmt: skip
    assert (ran.code, ran.json["status"], ran.json["reason"]) == (1, "rejected", "AM04")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["link"], "COMMAND"),
        (["link", "open", "--leg", "BANKA,BANKB,1.00,EUR", "--expires", "1h"], "2 to 16"),
        (["link", "open", *PVP], "--expires"),
        (["link", "open", *PVP, "--expires", "soon"], "is no time"),
        (["link", "open", "--leg", "BANKA,BANKB,1.00", "--leg", "x", "--expires", "1h",
          "--from", "BANKA"], "DEBTOR,CREDITOR,AMOUNT,ASSET"),
        (["link", "agree", "abc"], "hexadecimal"),
        (["reserve", "--to", "BANKB", "--amount", "1", "--currency", "EUR", "--expires", "1h"],
         "--from"),
        (["reserve", "--from", "BANKA", "--to", "BANKB", "--amount", "1", "--currency", "EUR",
          "--expires", "1h"], "nobody could ever post it"),
        (["reserve", "--from", "BANKA", "--to", "BANKB", "--amount", "1", "--currency", "EUR",
          "--poster", "BANKB"], "--expires"),
        (["post", UETR, "--preimage", "ab"], "hexadecimal"),
        (["post", UETR, "--preimage", "ab" * 32, "--amount", "1"], "leave --amount out"),
        (["post", UETR], "--from PARTICIPANT"),
        (["void"], "UETR"),
    ],
)  # fmt: skip
def test_wrong_usage_of_linked_commands_exits_64(
    idle: SettlementNet, arguments: list[str], says: str
) -> None:
    assert says in idle.usage(*arguments).err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["link", "agree", "ab" * 32, "--from", "BANKA"], "no open link"),
        (["link", "open", "--leg", "BANKA,BANKX,1.00,EUR", "--leg", "BANKB,BANKA,1.00,EUR",
          "--expires", "1h", "--from", "BANKA"], "BANKX"),
        (["void", UETR], "no node knows"),
        (["reserve", "--from", "BANKA", "--to", "BANKA", "--amount", "1", "--currency", "EUR",
          "--expires", "1h", "--poster", "BANKB"], "same account"),
    ],
)  # fmt: skip
def test_what_cannot_be_linked_is_refused_and_nothing_is_sent(
    idle: SettlementNet, arguments: list[str], says: str
) -> None:
    ran = idle.run(*arguments)
    assert ran.code == 1
    assert says in ran.err
    assert idle.first.node.submissions == []
