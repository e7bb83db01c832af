"""`nostro pay`, `payment`, `balance`, `issue`, `redeem`: what is settled, said and exited with."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.api.service import SubmissionRefused
from node.chain.encoding import decode
from node.chain.types import Receipt
from tests.support.command import Net, devnet, run
from tests.support.fake_node import wall
from tests.support.ledger_world import DAY_MS

UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with devnet(tmp_path / "net") as made:
        yield made


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- pay ------------------------------------------------------------------------------------------


def test_a_payment_settles_and_says_where(net: Net) -> None:
    ran = net.pay(amount="1250.00")
    assert ran.code == 0
    document = ran.json
    assert list(document) == [
        "uetr", "status", "reason", "height", "index", "settled_at", "latency_ms",
    ]  # fmt: skip
    assert (document["status"], document["reason"], document["height"]) == ("settled", None, 2)
    assert document["index"] == [0, 0]
    assert document["latency_ms"] >= 0
    assert document["settled_at"] <= wall()
    assert net.balance("BANKA") == "8750.00"
    assert net.balance("BANKB") == "11250.00"


def test_for_people_the_uetr_is_the_first_thing_printed(net: Net) -> None:
    ran = net.run("pay", "--from", "BANKA", "--to", "BANKB", "--amount", "1", "--currency", "EUR")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith("uetr ")
    assert any(line == "status   settled" for line in lines)


def test_with_json_the_uetr_is_on_standard_error_before_anything_is_sent(net: Net) -> None:
    net.first.node.refusal = SubmissionRefused("not-ready", "starting")
    ran = net.pay(uetr=UETR)
    assert ran.err.splitlines()[0] == f"uetr     {UETR}"


def test_participants_are_named_by_name_lei_and_bic(net: Net) -> None:
    banks = net.first.node.world.banks
    assert net.pay(**{"from": banks["BANKA"].lei, "to": banks["BANKB"].bic}).code == 0
    assert net.balance(banks["BANKB"].bic) == "10001.00"


def test_a_payment_that_is_not_covered_is_queued_and_exits_3(net: Net) -> None:
    ran = net.pay(amount="10000.01")
    assert ran.code == 3
    assert (ran.json["status"], ran.json["reason"]) == ("queued", "AM04")
    assert ran.json["settled_at"] is None


def test_a_payment_to_who_has_no_account_is_rejected_and_exits_1(net: Net) -> None:
    ran = net.pay(to="WATCHDOG")
    assert ran.code == 1
    assert (ran.json["status"], ran.json["reason"]) == ("rejected", "AC03")


def test_the_same_payment_again_under_its_uetr_is_paid_once(net: Net) -> None:
    first, second = net.pay(uetr=UETR), net.pay(uetr=UETR)
    assert first.code == second.code == 0
    assert first.json["height"] == second.json["height"]
    assert net.balance("BANKB") == "10001.00"


def test_another_amount_under_a_used_uetr_is_never_shown_as_settled(net: Net) -> None:
    assert net.pay(uetr=UETR).code == 0
    ran = net.pay(uetr=UETR, amount="2.00")
    assert ran.code == 1
    assert (ran.json["status"], ran.json["reason"]) == ("rejected", "AM05")
    assert net.balance("BANKB") == "10001.00"


def test_while_nothing_becomes_final_pay_says_so_and_exits_2(net: Net) -> None:
    net.first.node.finalizing = False
    ran = net.pay(uetr=UETR, timeout="0.2")
    assert ran.code == 2
    assert ran.json["status"] == "unknown"
    assert f"nostro payment {UETR}" in ran.err
    # Asking again with the same UETR finds the first one waiting, and both settle as one.
    assert net.pay(uetr=UETR, timeout="0.2").code == 2
    net.first.do(net.first.node.finalize)
    assert net.pay(uetr=UETR).code == 0
    assert net.balance("BANKB") == "10001.00"


def test_no_wait_returns_with_the_receipt(net: Net) -> None:
    net.first.node.finalizing = False
    ran = net.run(
        "pay", "--from", "BANKA", "--to", "BANKB", "--amount", "1", "--currency", "EUR",
        "--no-wait", "--json", "--uetr", UETR,
    )  # fmt: skip
    assert (ran.code, ran.json["status"]) == (0, "accepted")
    receipt = decode((net.directory / "receipts" / f"{UETR}.receipt").read_bytes(), Receipt)
    assert receipt.body.instruction == net.first.node.waiting[0].digest


def test_an_answer_that_is_lost_is_waited_for_and_found_settled(net: Net) -> None:
    net.first.node.failing = True
    ran = net.pay()
    assert (ran.code, ran.json["status"]) == (0, "settled")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"to": "BANKX"}, "no participant has the name, LEI or BIC 'BANKX'"),
        ({"from": "BANKX"}, "BANKX"),
        ({"to": "BANKA"}, "same account"),
        ({"from": "WATCHDOG"}, "WATCHDOG has no account to pay from"),
        ({"amount": "0"}, "zero"),
        ({"amount": "-5"}, "negative"),
        ({"amount": "1.001"}, "too precise"),
        ({"amount": "184467440737095516.16"}, "too large"),
        ({"amount": "ten"}, "not a decimal"),
        ({"currency": "XXX"}, "no currency 'XXX'"),
        ({"currency": "eur"}, "no currency"),
        ({"uetr": "abc"}, "no UETR"),
        ({"uetr": UETR.upper()}, "no UETR"),
        ({"uetr": "eb6305c9-1f7f-19de-aed0-16487c27b42d"}, "no UETR"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    net: Net, options: dict[str, str], why: str
) -> None:
    ran = net.pay(**options)
    assert ran.code == 1
    assert why in ran.err
    assert ran.out == ""
    assert net.first.node.submissions == []


def test_a_node_that_refuses_is_quoted(net: Net) -> None:
    net.first.node.refusal = SubmissionRefused("unknown-key", "key ab is not registered")
    ran = net.pay()
    assert (ran.code, ran.json["status"]) == (1, "refused")
    assert "not submitted: key ab is not registered [unknown-key]" in ran.err


def test_a_node_without_room_leaves_it_undecided_and_says_that_trying_again_is_safe(
    net: Net,
) -> None:
    net.first.node.refusal = SubmissionRefused("mempool-full", "no room")
    ran = net.pay()
    assert (ran.code, ran.json["status"]) == (2, "unknown")
    assert "safe" in ran.err


def test_a_node_of_another_chain_is_refused_before_signing(net: Net) -> None:
    path = net.directory / "devnet.json"
    description = json.loads(path.read_text())
    description["chain_id"] = "00" * 32
    path.write_text(json.dumps(description))
    ran = net.pay()
    assert ran.code == 1
    assert "another chain" in ran.err
    assert net.first.node.submissions == []


def test_a_node_that_is_down_is_passed_over_for_another(tmp_path: Path) -> None:
    with devnet(tmp_path / "net") as net:
        path = net.directory / "devnet.json"
        description = json.loads(path.read_text())
        down = f"http://127.0.0.1:{closed_port()}"
        description["nodes"].insert(0, {"name": "down", "api": down})
        for participant in description["participants"]:
            participant["api"] = down
        path.write_text(json.dumps(description))
        ran = net.pay()
        assert (ran.code, ran.json["status"]) == (0, "settled")
        assert net.run("payment", ran.json["uetr"]).code == 0


def test_with_no_node_at_all_nothing_is_sent_and_it_exits_2(tmp_path: Path) -> None:
    with devnet(tmp_path / "net") as net:
        pass
    for arguments in (("balance",), ("payment", UETR)):
        ran = net.run(*arguments)
        assert ran.code == 2
        assert "no node answered" in ran.err
    ran = net.pay()
    assert ran.code == 2
    assert "nothing was sent" in ran.err


def test_a_server_that_is_no_node_is_told_apart(tmp_path: Path) -> None:
    with devnet(tmp_path / "net") as net:
        ran = run("balance", "--api", net.first.server.operator_url)
        assert ran.code == 1
        ran = run("balance", "--api", net.first.url + "/v1")
        assert ran.code == 1


# --- keys and connections -------------------------------------------------------------------------


def pay_with(net: Net, *options: object, debtor: str = "BANKA") -> tuple[int, str]:
    ran = run(
        "pay", "--from", debtor, "--to", "BANKB", "--amount", "1", "--currency", "EUR",
        *options,
    )  # fmt: skip
    return ran.code, ran.err


def test_api_and_keystore_are_enough(net: Net) -> None:
    options = ("--api", net.first.url, "--keystore", net.directory / "BANKA.json")
    assert pay_with(net, *options) == (0, "")


def test_a_configuration_file_is_enough(net: Net) -> None:
    config = net.directory / "bank.toml"
    chain_id = net.first.node.chain_id.hex()
    config.write_text(
        f'api = ["{net.first.url}"]\nkeystore = "BANKA.json"\nchain_id = "{chain_id}"\n'
    )
    assert pay_with(net, "--config", config)[0] == 0
    config.write_text(f'api = "{net.first.url}"\nkeystore = "BANKA.json"\nchain_id = "{"0" * 64}"')
    code, err = pay_with(net, "--config", config)
    assert code == 1
    assert "another chain" in err


@pytest.mark.parametrize(
    "text",
    ["api", "api = 1", "api = []", 'api = "127.0.0.1"', 'api = "http://x"\nkey = 1', "\xff",
     'api = "http://x"\nchain_id = "00"', 'api = "http://x"\nkeystore = 5'],
)  # fmt: skip
def test_a_bad_configuration_file_is_wrong_usage(net: Net, text: str) -> None:
    config = net.directory / "bank.toml"
    config.write_text(text, encoding="latin-1")
    code, err = pay_with(net, "--config", config)
    assert code == 64
    assert str(config) in err or "127.0.0.1" in err


def test_a_keystore_signs_only_for_its_holder(net: Net) -> None:
    options = ("--api", net.first.url, "--keystore", net.directory / "BANKB.json")
    code, err = pay_with(net, *options)
    assert code == 1
    assert "cannot sign for BANKA" in err


def test_a_key_that_others_may_read_is_refused(net: Net) -> None:
    path = net.directory / "BANKA.json"
    path.chmod(0o640)
    code, err = pay_with(net, "--api", net.first.url, "--keystore", path)
    assert code == 1
    assert "chmod 600" in err
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_a_revoked_key_is_refused(net: Net) -> None:
    world, node = net.first.node.world, net.first.node
    other = world.banks["BANKA"].signers[0]
    from tests.support.ledger_world import signer  # noqa: PLC0415

    spare = signer("spare")
    until = wall() + DAY_MS
    net.first.do(
        lambda: node.chain.block(world.register_key("BANKA", spare, valid_until=until), time=wall())
    )
    net.first.do(
        lambda: node.chain.block(
            world.revoke_key("BANKA", other.public_key, signers=[spare], valid_until=until),
            time=wall() + 1,
        )
    )
    ran = net.pay()
    assert ran.code == 1
    assert "revoked" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("pay",),
        ("pay", "--bogus"),
        ("pay", "--from", "BANKA", "--to", "BANKB", "--amount", "1"),
        ("pay", "--file", "x.csv", "--amount", "1"),
        ("pay", "--file", "x.csv", "--no-wait"),
        ("pay", "--priority", "asap"),
        ("pay", "--timeout", "soon", "--file", "x"),
        ("payment",),
        ("payment", "--wait", "-1", "x"),
        ("balance", "A", "B"),
        ("balance", "--api", "http://x", "--devnet", "y"),
        ("balance", "--api", "localhost:80"),
        ("balance", "--devnet", "/does/not/exist"),
        ("balance", "--config", "/does/not/exist"),
        ("issue", "--to", "BANKA"),
        ("redeem",),
    ],
)
def test_wrong_usage_exits_64_and_prints_nothing_on_standard_output(
    arguments: tuple[str, ...],
) -> None:
    ran = run(*arguments)
    assert ran.code == 64
    assert ran.out == ""
    assert ran.err


def test_help_exits_0() -> None:
    assert run("--help").code == 0
    assert run("pay", "--help").code == 0


# --- looking --------------------------------------------------------------------------------------


def test_payment_shows_status_height_and_every_change(net: Net) -> None:
    uetr = net.pay(amount="12.50").json["uetr"]
    ran = net.run("payment", uetr, "--json")
    assert ran.code == 0
    assert (ran.json["status"], ran.json["height"], ran.json["amount"]) == ("settled", 2, "12.50")
    assert [change["iso_status"] for change in ran.json["changes"]] == ["ACSC"]
    assert "settled" in net.run("payment", uetr).out


def test_a_payment_that_nobody_knows_exits_2(net: Net) -> None:
    ran = net.run("payment", UETR, "--json")
    assert (ran.code, ran.json["status"], ran.json["changes"]) == (2, "unknown", [])


def test_a_rejected_payment_exits_1(net: Net) -> None:
    uetr = net.pay(to="WATCHDOG").json["uetr"]
    ran = net.run("payment", uetr)
    assert ran.code == 1
    assert "AC03" in ran.out


def test_payment_asks_the_other_nodes_when_the_first_lags(tmp_path: Path) -> None:
    with devnet(tmp_path / "net", nodes=2) as net:
        second = net.nodes[1]
        paid = run(
            "pay", "--from", "BANKA", "--to", "BANKB", "--amount", "1", "--currency", "EUR",
            "--api", second.url, "--keystore", net.directory / "BANKA.json", "--json",
        )  # fmt: skip
        assert net.run("payment", paid.json["uetr"]).code == 0


def test_balances_are_listed_for_one_or_all(net: Net) -> None:
    one = net.run("balance", "BANKA", "--json")
    assert one.code == 0
    assert one.json == {
        "height": 1,
        "balances": [
            {
                "participant": "BANKA",
                "account": "settlement",
                "asset": "EUR",
                "amount": "10000.00",
                "available": "10000.00",
            }
        ],
    }
    everything = net.run("balance", "--json").json["balances"]
    assert {row["participant"] for row in everything} >= {"BANKA", "BANKB", "BANKC"}
    assert "10000.00" in net.run("balance").out


def test_the_balance_of_nobody_is_refused(net: Net) -> None:
    ran = net.run("balance", "NOBODY")
    assert ran.code == 1
    assert "NOBODY" in ran.err


# --- the issuer -----------------------------------------------------------------------------------


def test_the_issuer_issues_and_redeems(net: Net) -> None:
    issued = net.run("issue", "--to", "BANKA", "--amount", "5.00", "--currency", "EUR", "--json")
    assert (issued.code, issued.json["status"]) == (0, "settled")
    assert net.balance("BANKA") == "10005.00"
    assert net.pay(to="CENTRALBANK", amount="3.00").code == 0
    redeemed = net.run("redeem", "--amount", "2.00", "--currency", "EUR", "--json")
    assert (redeemed.code, redeemed.json["status"]) == (0, "settled")
    assert net.balance("CENTRALBANK") == "1.00"


def test_the_same_issue_again_under_its_uetr_happens_once(net: Net) -> None:
    arguments = ("issue", "--to", "BANKA", "--amount", "5", "--currency", "EUR", "--uetr", UETR)
    assert net.run(*arguments).code == 0
    assert net.run(*arguments).code == 0
    assert net.balance("BANKA") == "10005.00"


def test_only_the_issuers_key_issues(net: Net) -> None:
    ran = run(
        "issue", "--to", "BANKA", "--amount", "5", "--currency", "EUR", "--api", net.first.url,
        "--keystore", net.directory / "BANKA.json",
    )  # fmt: skip
    assert ran.code == 1
    assert "cannot sign for CENTRALBANK" in ran.err
