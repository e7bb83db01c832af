"""`queue`, `cancel`, `hold`, `release`, `reprioritise`, `limit`, `policy`: what a participant sees
and does while payments wait."""

from __future__ import annotations

import pytest

from node.api.problems import Refused
from node.api.service import PaymentView
from tests.support.settlement_net import SettlementNet

UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"


def waiting(desk: SettlementNet) -> tuple[str, str]:
    """Two payments of BANKA that wait: the first is not covered, the second is behind it."""
    return desk.paid("10000.01", 3), desk.paid("1.00", 3)


def test_a_queue_says_why_each_payment_waits_and_what_would_be_left(desk: SettlementNet) -> None:
    first, second = waiting(desk)
    desk.paid("99999.00", 3, **{"from": "BANKC", "to": "BANKA"})
    view = desk.json("queue", "BANKA")
    assert [(e["uetr"], e["reason"], e["ahead"]) for e in view["entries"]] == [
        (first, "AM04", 0),
        (second, "AM19", 1),
    ]
    [position] = view["positions"]
    assert position["available"] == "10000.00"
    assert position["queued_out"] == "10001.01"
    assert position["queued_in"] == "99999.00"
    assert position["projected"] == "99997.99"
    people = desk.run("queue", "BANKA").out
    assert "does not cover the amount" in people
    assert "projected" in people


def test_cancel_takes_a_payment_back_and_lets_the_next_settle(desk: SettlementNet) -> None:
    first, second = waiting(desk)
    done = desk.json("cancel", first)
    assert (done["payment"], done["payment_reason"]) == ("cancelled", "CUST")
    assert desk.status(second) == ("settled", None)
    assert desk.run("payment", first).code == 1
    assert desk.json("queue", "BANKA")["entries"] == []


def test_what_is_decided_can_no_longer_be_cancelled(desk: SettlementNet) -> None:
    settled = desk.paid("1.00")
    ran = desk.run("cancel", settled, "--json")
    assert (ran.code, ran.json["status"], ran.json["reason"]) == (1, "rejected", "ARDT")
    assert desk.status(settled) == ("settled", None)


def test_hold_and_release_move_a_payment_behind_the_others(desk: SettlementNet) -> None:
    first, second = waiting(desk)
    assert desk.json("hold", first)["payment"] == "held"
    assert desk.status(second) == ("settled", None)
    held = desk.json("queue", "BANKA")["entries"][0]
    assert (held["status"], held["reason"]) == ("held", "CUST")
    third = desk.paid("9999.50", 3)
    assert desk.json("release", first)["payment"] == "queued"
    entries = desk.json("queue", "BANKA")["entries"]
    assert [e["uetr"] for e in entries] == [third, first]


def test_the_same_order_under_one_reference_executes_once(desk: SettlementNet) -> None:
    first, _ = waiting(desk)
    held = desk.json("hold", first, "--reference", "desk-7")
    again = desk.json("hold", first, "--reference", "desk-7")
    assert held["id"] == again["id"]
    assert held["height"] == again["height"]
    other = desk.run("hold", first, "--json")
    assert (other.code, other.json["reason"]) == (1, "DU05")


def test_an_order_is_done_even_if_nobody_answers_what_came_of_it(desk: SettlementNet) -> None:
    first, _ = waiting(desk)
    node, asked = desk.first.node, 0
    tell = node.payment

    def once(uetr: bytes) -> PaymentView | None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise Refused("pruned", "gone meanwhile")
        return tell(uetr)

    node.payment = once  # type: ignore[method-assign]
    ran = desk.run("cancel", first, "--json")
    assert (ran.code, ran.json["status"]) == (0, "done")
    assert "the order is done" in ran.err


def test_reprioritise_puts_an_urgent_payment_first(desk: SettlementNet) -> None:
    first, second = waiting(desk)
    assert desk.json("reprioritise", second, "--priority", "urgent")["payment"] == "settled"
    assert desk.status(first)[0] == "queued"


def test_every_change_of_a_payment_is_told_in_order(desk: SettlementNet) -> None:
    first, _ = waiting(desk)
    desk.json("hold", first)
    desk.json("release", first)
    desk.json("cancel", first)
    changes = desk.json("payment", first, code=1)["changes"]
    assert [c["status"] for c in changes] == ["queued", "held", "queued", "cancelled"]
    assert [c["iso_status"] for c in changes] == ["PDNG", "BLCK", "PDNG", "CANC"]
    assert [c["height"] for c in changes] == sorted(c["height"] for c in changes)


def test_a_payment_waits_for_its_earliest_time_and_expires_after_its_latest(
    desk: SettlementNet,
) -> None:
    early = desk.paid("1.00", 3, earliest="1h")
    assert desk.status(early) == ("queued", "DT06")
    late = desk.paid("20000.00", 3, latest="2h")
    desk.tick(3 * 3_600_000)
    assert desk.status(early) == ("settled", None)
    assert desk.status(late) == ("expired", "AB03")
    assert desk.run("payment", late).code == 1


def test_a_file_all_or_none_is_one_entry_of_the_queue(desk: SettlementNet) -> None:
    path = desk.directory / "together.csv"
    path.write_text(
        "uetr,debtor,creditor,amount,currency\n,BANKA,BANKB,6000.00,EUR\n,BANKA,BANKC,6000.00,EUR\n"
    )
    ran = desk.run("pay", "--file", path, "--all-or-none", "--json")
    assert (ran.code, {row["status"] for row in ran.json}) == (3, {"queued"})
    [entry] = desk.json("queue", "BANKA")["entries"]
    assert (entry["payments"], entry["amount"]) == (2, "12000.00")
    assert {m["creditor_name"] for m in entry["members"]} == {"BANKB", "BANKC"}
    desk.paid("5000.00", **{"from": "BANKC", "to": "BANKA"})
    assert desk.json("queue", "BANKA")["entries"] == []


def test_rows_that_cannot_settle_together_are_refused_before_anything_is_sent(
    desk: SettlementNet,
) -> None:
    path = desk.directory / "apart.csv"
    path.write_text(
        "uetr,debtor,creditor,amount,currency\n,BANKA,BANKB,1.00,EUR\n,BANKB,BANKC,1.00,EUR\n"
    )
    ran = desk.run("pay", "--file", path, "--all-or-none")
    assert ran.code == 1
    assert "must have one debtor" in ran.err
    assert desk.first.node.submissions == []


# --- limits and policies --------------------------------------------------------------------------


def test_a_limit_holds_a_payment_back_until_it_is_raised(desk: SettlementNet) -> None:
    limit = ("limit", "set", "BANKA", "--currency", "EUR", "--towards", "BANKB")
    assert desk.json(*limit, "--amount", "100.00")["status"] == "done"
    desk.paid("60.00")
    over = desk.paid("60.00", 3)
    assert desk.json("queue", "BANKA")["entries"][0]["reason"] == "AM14"
    [account] = desk.json("limit", "show", "BANKA")["limits"]
    [shown] = account["limits"]
    assert (shown["counterparty_name"], shown["used"], shown["left"]) == ("BANKB", "60.00", "40.00")
    below = desk.run(*limit, "--amount", "10.00", "--json")
    assert (below.code, below.json["reason"]) == (1, "AM12")
    assert desk.json(*limit, "--amount", "500.00", "--from", "CENTRALBANK")["status"] == "done"
    assert desk.status(over) == ("settled", None)
    assert desk.run("limit", "remove", *limit[2:]).code == 0
    assert desk.json("limit", "show", "BANKA")["limits"] == []


def test_a_multilateral_limit_of_nothing_stops_everything_out(desk: SettlementNet) -> None:
    desk.json("limit", "set", "BANKA", "--currency", "EUR", "--amount", "0.00")
    desk.paid("1.00", 3)
    assert "all others" in desk.run("limit", "show").out


def test_a_policy_changes_only_what_is_named(desk: SettlementNet) -> None:
    desk.json("policy", "BANKA", "--sweep", "EUR=CENTRALBANK")
    desk.json("policy", "BANKA", "--fifo-bypass", "on", "--sweep", "CNY=BANKB")
    shown = desk.json("policy", "BANKA")
    assert shown["fifo_bypass"] is True
    assert shown["sweeps"] == [
        {"asset": "CNY", "to": "BANKB"},
        {"asset": "EUR", "to": "CENTRALBANK"},
    ]
    desk.json("policy", "BANKA", "--no-sweep", "EUR")
    assert desk.json("policy", "BANKA")["sweeps"] == [{"asset": "CNY", "to": "BANKB"}]
    ran = desk.run("policy", "BANKA", "--no-sweep", "EUR")
    assert (ran.code, "has no sweep of EUR" in ran.err) == (1, True)


def test_fifo_bypass_lets_a_covered_payment_pass(desk: SettlementNet) -> None:
    desk.json("policy", "BANKA", "--fifo-bypass", "on")
    desk.paid("10000.01", 3)
    desk.paid("1.00")


# --- wrong usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["queue"], "PARTICIPANT"),
        (["cancel"], "UETR"),
        (["hold"], "UETR"),
        (["release"], "UETR"),
        (["redeem", "--currency", "EUR"], "--amount"),
        (["line", "BANKA", "BANKB"], "unrecognized"),
        (["keystore", "prove", "x.key"], "--genesis"),
        (["keystore", "register"], "FILE"),
        (["reprioritise", UETR], "--priority"),
        (["reprioritise", UETR, "--priority", "soon"], "invalid choice"),
        (["hold", UETR, "--reference", "x" * 65], "1 to 64"),
        (["limit"], "COMMAND"),
        (["limit", "set", "BANKA", "--currency", "EUR"], "--amount"),
        (["policy", "BANKA", "--fifo-bypass", "maybe"], "invalid choice"),
        (["policy", "BANKA", "--sweep", "EUR"], "CURRENCY=PARTICIPANT"),
        (["pay", "--from", "BANKA", "--all-or-none"], "--all-or-none is for the rows"),
        (["pay", "--from", "BANKA", "--latest", "tomorrow"], "is no time"),
        (["pay", "--from", "BANKA", "--latest", "2026-03-02T17:00:00"], "offset from UTC"),
        (["pay", "--from", "BANKA", "--from-account", "purse"], "no kind of account"),
    ],
)
def test_wrong_usage_of_queue_commands_exits_64(
    idle: SettlementNet, arguments: list[str], says: str
) -> None:
    assert says in idle.usage(*arguments).err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["queue", "NOBODY"], "NOBODY"),
        (["queue", "BANKA", "--currency", "XXX"], "XXX"),
        (["cancel", UETR], "no node knows a final outcome"),
        (["cancel", "nonsense"], "no UETR"),
        (["limit", "set", "BANKA", "--currency", "XXX", "--amount", "1"], "no currency 'XXX'"),
        (["limit", "set", "BANKA", "--currency", "EUR", "--towards", "BANKA", "--amount", "1"],
         "no limit towards itself"),
        (["limit", "show", "NOBODY"], "NOBODY"),
        (["policy", "NOBODY"], "NOBODY"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_named_and_exits_1(
    idle: SettlementNet, arguments: list[str], says: str
) -> None:
    ran = idle.run(*arguments)
    assert ran.code == 1
    assert says in ran.err
    assert idle.first.node.submissions == []
