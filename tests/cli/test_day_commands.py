"""`day`, `statement`, `freeze`, `consent` and what `propose` changes besides validators."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from node.chain.signature import ROLE_PARTICIPANT, prove_possession
from node.storage.keystore import create_keystore
from tests.support.command import run
from tests.support.fake_node import wall
from tests.support.ledger_world import lei, signer
from tests.support.settlement_net import BOND, SettlementNet

HOUR = 3_600_000
OPERATOR = ("--from", "CENTRALBANK")


def moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def schedule(desk: SettlementNet, path: Path, first: int) -> Path:
    """Two business days: phases an hour apart, the first opening at this block time."""
    days = []
    for number, start in enumerate((first, first + 6 * HOUR)):
        times = [moment(start + each * HOUR) for each in range(5)]
        names = ("open", "customer-cutoff", "interbank", "clearing", "closed")
        days.append({"date": f"2030-01-0{number + 1}", **dict(zip(names, times, strict=True))})
    document = {
        "format": "nostro-schedule/1",
        "zone": "UTC",
        "calendars": ["daily"],
        "made-with": {},
        "days": days,
    }
    path.write_text(json.dumps(document))
    return path


def scheduled(desk: SettlementNet, tmp_path: Path) -> int:
    """Publish a schedule; the block time at which its first day opens."""
    first = max(wall(), desk.now()) // 1000 * 1000 + HOUR
    file = schedule(desk, tmp_path / "schedule.json", first)
    done = desk.json("propose", *OPERATOR, "--schedule", file)
    assert done["status"] == "approved"
    return first


def until(desk: SettlementNet, time: int) -> None:
    desk.tick(time - desk.now())


def test_without_a_schedule_the_ledger_is_always_open(desk: SettlementNet) -> None:
    assert desk.json("day", "show")["date"] is None
    assert "always open" in desk.run("day", "show").out
    ran = desk.run("day", "proceed", *OPERATOR)
    assert (ran.code, "no operating day" in ran.err) == (1, True)


def test_a_day_runs_by_block_time_and_a_phase_is_put_off(
    desk: SettlementNet, tmp_path: Path
) -> None:
    first = scheduled(desk, tmp_path)
    until(desk, first)
    day = desk.json("day", "show")
    assert (day["date"], day["phase"]) == (20300101, "open")
    later = moment(first + 90 * 60_000)
    day = desk.json("day", "delay", "customer-cutoff", "--until", later, *OPERATOR)["day"]
    assert [p["delayed"] for p in day["phases"]] == [False, True, False, False, False]
    until(desk, first + HOUR)
    assert desk.json("day", "show")["phase"] == "open"
    until(desk, first + 90 * 60_000)
    assert desk.json("day", "show")["phase"] == "customer-cutoff"
    assert "2030-01-01, phase customer-cutoff" in desk.run("day", "show").out


def test_a_day_that_time_jumped_over_waits_for_an_operator(
    desk: SettlementNet, tmp_path: Path
) -> None:
    first = scheduled(desk, tmp_path)
    until(desk, first)
    waiting = desk.paid("99999.00", 3)
    until(desk, first + 5 * HOUR)
    assert desk.json("day", "show")["waits_for"] == "interbank"
    assert "nostro day proceed" in desk.run("day", "show").out
    assert desk.status(waiting)[0] == "queued"
    for phase in ("clearing", "closed", None):
        assert desk.json("day", "proceed", *OPERATOR)["day"]["waits_for"] == phase
    assert desk.status(waiting) == ("expired", "AB03")


# --- statements -----------------------------------------------------------------------------------


def total(statement: dict[str, Any]) -> Decimal:
    return sum((Decimal(m["amount"]) for m in statement["movements"]), Decimal(0))


def ties_out(statement: dict[str, Any]) -> None:
    assert Decimal(statement["opening"]) + total(statement) == Decimal(statement["closing"])


def test_since_the_last_close_every_movement_is_told(desk: SettlementNet) -> None:
    desk.paid("100.00")
    uetr = desk.paid("9950.00", 3)
    desk.paid("200.00", **{"from": "BANKC", "to": "BANKA"})
    [statement] = desk.json("statement", "BANKA")["statements"]
    ties_out(statement)
    assert [(m["kind"], m["amount"]) for m in statement["movements"]] == [
        ("issue", "10000.00"),
        ("pay", "-100.00"),
        ("pay", "200.00"),
        ("pay", "-9950.00"),
    ]
    assert statement["movements"][-1]["uetr"] == uetr
    assert "closing" in desk.run("statement", "BANKA").out


def test_every_kind_of_movement_ties_out(desk: SettlementNet) -> None:
    """Queue, reservation, return, link, own accounts, collateral, net cycle, issue and redeem."""
    desk.json("propose", *OPERATOR, "--netting", "EUR=1m", "--member",
              "BANKA,EUR,5000.00,0,0", "--member", "BANKB,EUR,5000.00,0,0")  # fmt: skip
    desk.json("issue", "--to", "BANKA", "--amount", "50", "--currency", BOND)
    desk.json("price", BOND, "--currency", "EUR", "--price", "90.00", "--haircut", "0", *OPERATOR)
    pledge = ("pledge", "BANKA", "--security", BOND, "--currency", "EUR", "--quantity")
    desk.json(*pledge, "20")
    desk.json(*pledge, "5", "--release")
    paid = desk.paid("100.00")
    desk.json("return", paid, "--amount", "30.00", "--reason", "FOCR")
    reserved = desk.json(
        "reserve", "--from", "BANKA", "--to", "BANKB", "--amount", "100.00", "--currency", "EUR",
        "--expires", "1h", "--poster", "BANKB", code=3,
    )["uetr"]  # fmt: skip
    desk.json("post", reserved, "--amount", "60.00", "--from", "BANKB")
    desk.json("move", "--from", "BANKA", "--amount", "300.00", "--currency", "EUR",
              "--source", "settlement", "--target", "margin")  # fmt: skip
    link = desk.json(
        "link",
        "open",
        "--leg",
        f"BANKA,BANKB,10,{BOND}",
        "--leg",
        "BANKB,BANKA,950.00,EUR",
        "--expires",
        "1h",
        "--from",
        "BANKA",
        code=3,
    )
    desk.json("link", "agree", link["link"], "--from", "BANKB")
    desk.paid("700.00", 3, mode="net")
    desk.json("cycle", "close", "EUR", *OPERATOR)
    desk.json("issue", "--to", "CENTRALBANK", "--amount", "5.00", "--currency", "EUR")
    desk.json("redeem", "--amount", "5.00", "--currency", "EUR")
    for bank in ("BANKA", "BANKB", "CENTRALBANK"):
        for statement in desk.json("statement", bank)["statements"]:
            ties_out(statement)
    statements = desk.json("statement", "BANKA")["statements"]
    kinds = {m["kind"] for s in statements for m in s["movements"]}
    assert kinds >= {
        "issue",
        "pay",
        "return",
        "reserve",
        "move",
        "link",
        "net",
        "pledge",
        "release",
    }


def test_a_closed_day_has_a_statement_that_the_next_one_continues(
    desk: SettlementNet, tmp_path: Path
) -> None:
    desk.json("policy", "BANKC", "--sweep", "EUR=CENTRALBANK")
    first = scheduled(desk, tmp_path)
    until(desk, first)
    desk.paid("100.00")
    for phase in range(1, 5):
        until(desk, first + phase * HOUR)
    assert desk.json("day", "show")["phase"] == "closed"
    until(desk, first + 6 * HOUR)
    desk.paid("40.00", **{"from": "BANKB", "to": "BANKA"})
    closed = ("--date", "2030-01-01", "--currency", "EUR")
    [day] = desk.json("statement", "BANKA", *closed)["statements"]
    ties_out(day)
    assert (day["opening"], day["closing"], day["date"]) == ("0.00", "9900.00", 20300101)
    [now] = desk.json("statement", "BANKA")["statements"]
    ties_out(now)
    assert (now["opening"], now["closing"]) == ("9900.00", "9940.00")
    [swept] = desk.json("statement", "BANKC", *closed)["statements"]
    ties_out(swept)
    assert (swept["closing"], swept["movements"][-1]["kind"]) == ("0.00", "moved")
    ran = desk.run("statement", "BANKA", "--date", "2030-01-02")
    assert (ran.code, "no business day 20300102 was closed" in ran.err) == (1, True)


# --- supervision ----------------------------------------------------------------------------------


def test_a_frozen_participant_pays_nothing_until_it_is_lifted(desk: SettlementNet) -> None:
    freeze = ("freeze", "BANKA", "--reason", "LEGL", "--from", "WATCHDOG")
    waiting = desk.paid("10000.01", 3)
    desk.json(*freeze, "--debit")
    assert desk.status(waiting) == ("held", "AC06")
    desk.paid("1.00", 1)
    [bank] = [p for p in desk.first.do(desk.first.node.participants) if p.name == "BANKA"]
    assert (bank.debit_frozen, bank.credit_frozen) == (True, False)
    assert "debits free, credits free" in desk.run(*freeze, "--lift").out
    assert desk.status(waiting)[0] == "queued"
    ran = desk.run("freeze", "BANKA", "--reason", "LEGL", "--debit", "--from", "BANKB", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "DS20")


def test_client_money_needs_a_consent_where_the_rules_do_not_allow_it(desk: SettlementNet) -> None:
    desk.paid("500.00", **{"from": "PAYCO", "to": "PAYCO", "to-account": "client-reserve"})
    own = {"from": "PAYCO", "to": "PAYCO", "from-account": "client-reserve", "amount": "20.00"}
    desk.paid(code=1, **own)
    dry = [part for name, value in own.items() for part in (f"--{name}", value)]
    told = desk.json("pay", *dry, "--currency", "EUR", "--dry-run")
    sent = len(desk.first.node.submissions)
    desk.json("consent", told["digest"], "--expires", "1d", "--from", "WATCHDOG")
    [consent] = desk.json("consent")["consents"]
    assert (consent["payment"], consent["by_name"]) == (told["digest"], "WATCHDOG")
    desk.paid(**own, uetr=told["uetr"])
    assert desk.json("consent")["consents"] == []
    assert len(desk.first.node.submissions) == sent + 2


# --- governance -----------------------------------------------------------------------------------


def test_a_participant_is_admitted_suspended_lifted_and_closed(
    desk: SettlementNet, tmp_path: Path
) -> None:
    key, number = signer("new", "key"), lei(77)
    chain_id = desk.first.node.chain_id
    entry = {
        "public_key": key.public_key.hex(),
        "possession": prove_possession(key, ROLE_PARTICIPANT, number, chain_id).hex(),
    }
    file = tmp_path / "admit.json"
    document = {
        "name": "INDIE", "lei": number, "bic": "NOSZDEZZ", "roles": ["indirect-participant"],
        "keys": [entry], "sponsor": "BANKB",
    }  # fmt: skip
    file.write_text(json.dumps(document))
    assert desk.json("propose", *OPERATOR, "--admit", file)["status"] == "approved"
    desk.paid("1.00", **{"to-indirect": "INDIE"})
    desk.paid("1.00", 1, **{"from": "BANKC", "on-behalf-of": "INDIE"})
    assert desk.run("propose", *OPERATOR, "--suspend", "BANKC").code == 0
    ran = desk.pay(**{"from": "BANKC"})
    assert (ran.code, ran.json["reason"]) == (1, "AG01")
    assert desk.run("propose", *OPERATOR, "--lift", "BANKC", "--close", "INDIE").code == 0
    desk.paid("1.00", **{"from": "BANKC"})
    desk.paid("1.00", 1, **{"to-indirect": "INDIE"})


def test_several_changes_stand_in_one_proposal_in_their_order(desk: SettlementNet) -> None:
    done = desk.json(
        "propose", *OPERATOR, "--add-asset", "GBP,2,CENTRALBANK", "--netting", "EUR=30m",
        "--member", "BANKA,EUR,100.00,10.00,20.00", "--parameters", "close=roll-over,readiness=2m",
    )  # fmt: skip
    assert done["status"] == "approved"
    desk.json("issue", "--to", "BANKA", "--amount", "1.00", "--currency", "GBP")
    assert desk.json("day", "show")["close_rule"] == "roll-over"
    height = desk.json("day", "show")["height"]
    desk.json("propose", *OPERATOR, "--rules", "2@+500")
    day = desk.json("day", "show")
    assert (day["rules"], day["pending_rules"], day["pending_height"]) == (1, 2, height + 500)


def test_a_rejected_change_says_why(desk: SettlementNet) -> None:
    ran = desk.run("propose", *OPERATOR, "--close", "BANKA", "--json")
    assert (ran.code, ran.json["status"], ran.json["reason"]) == (1, "rejected", "AC05")


def test_keys_rotate_by_their_holder_and_are_replaced_by_operators(
    desk: SettlementNet, tmp_path: Path
) -> None:
    bank = desk.first.node.world.banks["BANKC"]
    path = tmp_path / "new.key"
    create_keystore(path, role="participant", name="BANKC", lei=bank.lei, passphrase="devnet",
                    seed=bytes(range(32)), devnet=True)  # fmt: skip
    assert desk.json("keystore", "register", path)["status"] == "done"
    old = bank.signers[0].public_key.hex()
    assert desk.json("keystore", "revoke", old, "--from", "BANKC")["status"] == "done"
    lost = tmp_path / "lost.json"
    third = tmp_path / "third.key"
    create_keystore(third, role="participant", name="BANKC", lei=bank.lei, passphrase="devnet",
                    seed=bytes(range(1, 33)), devnet=True)  # fmt: skip
    entry = run("keystore", "prove", third, "--genesis", desk.directory / "genesis.json", "--json")
    lost.write_text(json.dumps({"participant": "BANKC", "register": [entry.json]}))
    assert desk.json("propose", *OPERATOR, "--replace-keys", lost)["status"] == "approved"
    at = ("--api", desk.first.url, "--keystore", third)
    paid = run("pay", "--from", "BANKC", "--to", "BANKA", "--amount", "1", "--currency", "EUR", *at)
    assert paid.code == 0, paid.err


# --- wrong usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["day"], "COMMAND"),
        (["day", "delay", "interbank"], "--until"),
        (["day", "delay", "noon", "--until", "1h"], "invalid choice"),
        (["statement"], "PARTICIPANT"),
        (["statement", "BANKA", "--date", "yesterday"], "is no date"),
        (["statement", "BANKA", "--date", "2026-02-30"], "is no date"),
        (["statement", "BANKA", "--account", "purse"], "no kind of account"),
        (["freeze", "BANKA", "--reason", "LEGL"], "--lift alone"),
        (["freeze", "BANKA", "--reason", "LEGL", "--lift", "--debit"], "--lift alone"),
        (["freeze", "BANKA", "--debit"], "--reason"),
        (["consent", "xy"], "hexadecimal"),
        (["consent", "ab" * 32], "--expires"),
        (["propose", *OPERATOR], "propose needs changes"),
        (["propose", *OPERATOR, "--admit", "/nowhere"], "cannot read"),
        (["keystore", "revoke", "xy"], "hexadecimal"),
    ],
)
def test_wrong_usage_of_day_and_supervision_exits_64(
    idle: SettlementNet, arguments: list[str], says: str
) -> None:
    assert says in idle.usage(*arguments).err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--suspend", "NOBODY"], "NOBODY"),
        (["--add-asset", "GBP,2"], "CODE,DECIMALS,ISSUER"),
        (["--add-asset", "G,2,CENTRALBANK"], "no node would take"),
        (["--netting", "EUR"], "CURRENCY=FUNDING"),
        (["--netting", "EUR=soon"], "not a duration"),
        (["--netting", "EUR=3d"], "no node would take"),
        (["--member", "BANKA,EUR,1.00"], "PARTICIPANT,CURRENCY,CAP,MARGIN,CONTRIBUTION"),
        (["--parameters", "speed=9"], "threshold=N"),
        (["--rules", "two"], "VERSION@HEIGHT"),
        (["--suspend", "BANKA"] * 33, "at most 32"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_nothing_is_sent(
    idle: SettlementNet, arguments: list[str], says: str
) -> None:
    ran = idle.run("propose", *OPERATOR, *arguments)
    assert ran.code == 1
    assert says in ran.err
    assert idle.first.node.submissions == []


@pytest.mark.parametrize("text", ["", "[]", '{"name": 1}', "{" * 10_000])
def test_a_file_that_is_no_change_is_refused(
    idle: SettlementNet, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    for flag in ("--admit", "--replace-keys", "--schedule"):
        ran = idle.run("propose", *OPERATOR, flag, file)
        assert ran.code == 1, flag
        assert str(file) in ran.err
