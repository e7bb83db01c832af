"""`issue`, `redeem`, `move`, `pledge`, `price`, `line`, `cycle`: money, credit, netting."""

from __future__ import annotations

import pytest

from tests.support.settlement_net import BOND, SettlementNet

PRICE = ("price", BOND, "--currency", "EUR", "--price", "98.50", "--lot", "100", "--haircut", "500",
         "--from", "CENTRALBANK")  # fmt: skip
PLEDGE = ("pledge", "BANKA", "--security", BOND, "--currency", "EUR", "--quantity")


def bonds(desk: SettlementNet, quantity: str = "1000") -> None:
    desk.json("issue", "--to", "BANKA", "--amount", quantity, "--currency", BOND)
    desk.json(*PRICE)


def balance(desk: SettlementNet, bank: str, account: str, asset: str = "EUR") -> str:
    rows = desk.json("balance", bank)["balances"]
    [amount] = [r["amount"] for r in rows if (r["account"], r["asset"]) == (account, asset)]
    return str(amount)


def test_securities_are_issued_by_the_depository_and_redeemed(desk: SettlementNet) -> None:
    done = desk.json("issue", "--to", "BANKA", "--amount", "100", "--currency", BOND)
    assert done["status"] == "settled"
    assert balance(desk, "BANKA", "settlement", BOND) == "100"
    wrong = ("--amount", "1", "--currency", BOND, "--from", "CENTRALBANK")
    ran = desk.run("issue", "--to", "BANKA", *wrong, "--json")
    assert (ran.code, ran.json["reason"]) == (1, "DS0G")


def test_money_moves_between_own_accounts(desk: SettlementNet) -> None:
    founded(desk)
    move = ("move", "--from", "BANKA", "--currency", "EUR", "--amount", "500.00")
    done = desk.json(*move, "--source", "settlement", "--target", "margin")
    assert done["status"] == "settled"
    assert balance(desk, "BANKA", "margin") == "500.00"
    ran = desk.run(*move, "--source", "fund", "--target", "settlement", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "AM04")


def test_a_retried_move_is_made_once(desk: SettlementNet) -> None:
    founded(desk)
    uetr = "eb6305c9-1f7f-49de-aed0-16487c27b42d"
    move = ("move", "--from", "BANKA", "--currency", "EUR", "--source", "settlement",
            "--target", "fund", "--uetr", uetr)  # fmt: skip
    desk.json(*move, "--amount", "10.00")
    desk.json(*move, "--amount", "10.00")
    assert balance(desk, "BANKA", "fund") == "10.00"
    ran = desk.run(*move, "--amount", "11.00", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "AM05")


def test_a_pledge_makes_a_line_that_pays(desk: SettlementNet) -> None:
    bonds(desk)
    done = desk.json(*PLEDGE, "1000")
    assert done["line"] == "935.75", "1,000 of 98.50 per 100, less 5 %"
    desk.paid("10500.00")
    shown = desk.json("line", "BANKA")
    [line] = shown["lines"]
    assert (line["drawn"], line["available"]) == ("500.00", "435.75")
    [pledge] = shown["pledges"]
    assert (pledge["quantity"], pledge["value"]) == ("1000", "935.75")
    assert "pledged by BANKA" in desk.run("line", "BANKA").out
    assert "935.75" in desk.run("pledge", "BANKA").out


def test_collateral_in_use_is_not_released(desk: SettlementNet) -> None:
    bonds(desk)
    desk.json(*PLEDGE, "1000")
    desk.paid("10500.00")
    ran = desk.run(*PLEDGE, "900", "--release", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "AM07")
    assert desk.json(*PLEDGE, "100", "--release")["line"] == "842.17"
    assert balance(desk, "BANKA", "collateral", BOND) == "900"


def test_a_pledge_of_what_has_no_price_is_rejected(desk: SettlementNet) -> None:
    desk.json("issue", "--to", "BANKA", "--amount", "10", "--currency", BOND)
    ran = desk.run(*PLEDGE, "10", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "CURR")


def test_prices_are_shown_as_they_were_posted(desk: SettlementNet) -> None:
    bonds(desk)
    [price] = desk.json("price", BOND)["prices"]
    assert price == {
        "security": BOND, "currency": "EUR", "price": "98.50", "lot": "100", "haircut": 500,
    }  # fmt: skip
    assert "500 bp" in desk.run("price").out


# --- clearing cycles ------------------------------------------------------------------------------


def founded(desk: SettlementNet, funding: str = "30m") -> None:
    members = [
        part
        for bank in ("BANKA", "BANKB", "BANKC")
        for part in ("--member", f"{bank},EUR,5000.00,100.00,200.00")
    ]
    desk.json("propose", "--from", "CENTRALBANK", "--netting", f"EUR={funding}", *members)


def net(desk: SettlementNet, amount: str, code: object = 3, **options: object) -> str:
    return desk.paid(amount, code, mode="net", **options)


def test_a_cycle_settles_net_positions_when_it_is_closed(desk: SettlementNet) -> None:
    founded(desk)
    paid = net(desk, "3000.00")
    net(desk, "1000.00", **{"from": "BANKB", "to": "BANKA"})
    assert desk.status(paid) == ("accepted", None)
    shown = desk.json("cycle", "show", "EUR")
    [system] = shown["systems"]
    member = next(m for m in system["members"] if m["participant"] == "BANKA")
    assert (member["net"], member["left"]) == ("-2000.00", "3000.00")
    done = desk.json("cycle", "close", "EUR", "--from", "CENTRALBANK")
    assert (done["cycle"], done["cycle_status"]) == (1, "settled")
    assert desk.status(paid) == ("settled", None)
    changes = desk.json("payment", paid)["changes"]
    assert [c["status"] for c in changes] == ["accepted", "settled"]
    assert balance(desk, "BANKA", "settlement") == "8000.00"
    assert "settled in block" in desk.run("cycle", "show", "EUR", "1").out


def test_a_net_payment_is_told_right_after_its_block_was_pruned(desk: SettlementNet) -> None:
    founded(desk)
    paid = net(desk, "3000.00")
    desk.json("cycle", "close", "EUR", "--from", "CENTRALBANK")
    desk.json("acknowledge", paid)
    assert desk.json("payment", paid)["changes"][-1]["acknowledged"] is not None
    desk.first.node.records.pruned_below = 99
    desk.first.node.settlement._recorded._open.clear()
    assert desk.status(paid) == ("settled", None)
    desk.json("propose", "--from", "CENTRALBANK", "--netting", "CNY=1m")
    assert desk.status(paid) == ("settled", None), "no payment has joined a cycle of CNY"


def test_a_payment_over_the_cap_is_rejected(desk: SettlementNet) -> None:
    founded(desk)
    over = net(desk, "5000.01", 1)
    assert desk.status(over) == ("rejected", "AM23")


def test_a_short_cycle_uses_the_waterfall_and_shows_who_paid(desk: SettlementNet) -> None:
    founded(desk, "1m")
    desk.json("move", "--from", "BANKA", "--currency", "EUR", "--amount", "300.00",
              "--source", "settlement", "--target", "margin")  # fmt: skip
    net(desk, "5000.00")
    desk.paid("4800.00", **{"to": "BANKC"})
    desk.json("cycle", "close", "EUR", "--from", "CENTRALBANK")
    [cycle] = desk.json("cycle", "show", "EUR", "1")["cycles"]
    assert cycle["status"] == "funding"
    assert cycle["reserved"][0]["amount"] == "4900.00"
    desk.tick(61_000)
    [cycle] = desk.json("cycle", "show", "EUR", "1")["cycles"]
    assert cycle["status"] == "settled"
    [shortfall] = cycle["result"]["shortfalls"]
    assert (shortfall["owed"], shortfall["own"]) == ("5000.00", "4900.00")
    assert shortfall["covers"][0]["source"] == "margin"
    assert shortfall["covers"][0]["amount"] == "100.00"
    assert "100.00 from the margin account" in desk.run("cycle", "show", "EUR", "1").out


def test_an_uncovered_cycle_waits_and_is_unwound_by_order(desk: SettlementNet) -> None:
    founded(desk, "1m")
    paid = net(desk, "5000.00")
    desk.paid("9000.00", **{"to": "BANKC"})
    desk.json("cycle", "close", "EUR", "--from", "CENTRALBANK")
    desk.tick(61_000)
    assert "unsettled" in desk.run("cycle", "show", "EUR", "1").out
    extended = desk.json("cycle", "extend", "EUR", "1", "--until", "1h", "--from", "CENTRALBANK")
    assert extended["cycle_status"] == "funding"
    ran = desk.run("cycle", "unwind", "EUR", "1", "--from", "CENTRALBANK", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "ED06")
    desk.tick(2 * 3_600_000)
    done = desk.json("cycle", "unwind", "EUR", "1", "--from", "CENTRALBANK")
    assert done["cycle_status"] == "unwound"
    assert desk.status(paid) == ("rejected", "AB02")
    assert desk.run("payment", paid).code == 1


# --- wrong usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pledge", "BANKA", "--security", BOND], "--quantity"),
        (["pledge", "BANKA", "--release"], "--quantity"),
        (["price", BOND, "--currency", "EUR"], "--haircut"),
        (["price", BOND, "--haircut", "10001"], "basis points"),
        (["move", "--from", "BANKA", "--amount", "1", "--currency", "EUR", "--source", "margin",
          "--target", "margin"], "same account"),
        (["move", "--from", "BANKA", "--amount", "1", "--currency", "EUR", "--source", "x",
          "--target", "margin"], "no kind of account"),
        (["cycle"], "COMMAND"),
        (["cycle", "unwind", "EUR"], "NUMBER"),
        (["cycle", "extend", "EUR", "1"], "--until"),
        (["cycle", "show", "EUR", "one"], "no number of a cycle"),
        (["cycle", "unwind", "EUR", "1"], "--from PARTICIPANT"),
        (["issue", "--to", "BANKA", "--amount", "1"], "--currency"),
    ],
)  # fmt: skip
def test_wrong_usage_of_credit_commands_exits_64(
    idle: SettlementNet, arguments: list[str], says: str
) -> None:
    assert says in idle.usage(*arguments).err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pledge", "BANKA", "--security", "XX", "--currency", "EUR", "--quantity", "1"], "XX"),
        ([*PLEDGE, "0"], "zero"),
        ([*PLEDGE, "0.5"], "too precise"),
        (["cycle", "close", "EUR", "--from", "CENTRALBANK"], "not settled net"),
        (["move", "--from", "BANKA", "--amount", "1", "--currency", "EUR", "--source",
          "settlement", "--target", "capital"], "no operator"),
        (["line", "NOBODY"], "NOBODY"),
    ],
)  # fmt: skip
def test_what_cannot_be_ordered_is_refused_and_nothing_is_sent(
    idle: SettlementNet, arguments: list[str], says: str
) -> None:
    ran = idle.run(*arguments)
    assert ran.code == 1
    assert says in ran.err
    assert idle.first.node.submissions == []
