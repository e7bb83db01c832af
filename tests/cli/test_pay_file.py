"""`nostro pay --file`: each row is paid once, however often and whenever it is interrupted."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.api.service import SubmissionRefused
from node.cli import payfile
from node.cli.errors import CommandError
from node.cli.payfile import prepare, read_rows
from tests.support.command import Net, Ran, devnet
from tests.support.fake_node import wall

HEADER = "uetr,debtor,creditor,amount,currency,priority\n"
UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"
DAY_MS = 86_400_000
WINDOW_MS = 35 * DAY_MS


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with devnet(tmp_path / "net") as made:
        yield made


def write(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "payments.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


def pay_file(net: Net, path: Path, *options: object) -> Ran:
    return net.run("pay", "--file", path, "--json", *options)


def filled(path: Path) -> list[dict[str, str]]:
    with path.with_name(path.name + ".uetr.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_is_paid_and_reported_with_its_line(net: Net, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        ",BANKA,BANKB,1.00,EUR,normal",
        f"{UETR},BANKB,BANKC,2.00,EUR,urgent",
        ",BANKA,BANKC,3.00,EUR,",
    )
    ran = pay_file(net, path)
    assert ran.code == 0
    assert [(row["line"], row["status"]) for row in ran.json] == [
        (2, "settled"),
        (3, "settled"),
        (4, "settled"),
    ]
    assert [row["uetr"] for row in ran.json] == [row["uetr"] for row in filled(path)]
    assert ran.json[1]["uetr"] == UETR
    assert [net.balance(bank) for bank in ("BANKA", "BANKB", "BANKC")] == [
        "9996.00",
        "9999.00",
        "10005.00",
    ]
    # One debtor's rows are signed together.
    assert len(net.first.node.submissions) == 2


def test_ten_thousand_rows_are_settled_and_tie_out(net: Net, tmp_path: Path) -> None:
    path = write(tmp_path, *[",BANKA,BANKB,0.01,EUR,normal"] * 10_000)
    ran = pay_file(net, path)
    assert ran.code == 0
    assert {row["status"] for row in ran.json} == {"settled"}
    assert net.balance("BANKB") == "10100.00"
    assert len(net.first.node.submissions) == 10


def test_running_a_file_again_pays_nothing_twice(net: Net, tmp_path: Path) -> None:
    path = write(tmp_path, *[",BANKA,BANKB,1.00,EUR,normal"] * 3)
    first, second = pay_file(net, path), pay_file(net, path)
    assert first.code == second.code == 0
    assert first.json == second.json
    assert net.balance("BANKB") == "10003.00"
    # What is final already is not even sent.
    assert len(net.first.node.submissions) == 1


def test_a_run_after_one_that_saw_nothing_final_sends_the_very_same_bytes(
    net: Net, tmp_path: Path
) -> None:
    path = write(tmp_path, *[",BANKA,BANKB,1.00,EUR,normal"] * 3)
    net.first.node.finalizing = False
    ran = pay_file(net, path, "--timeout", "0.2")
    assert ran.code == 2
    assert {row["status"] for row in ran.json} == {"unknown"}
    assert "Run the same command again" in ran.err
    net.first.node.finalizing = True
    assert pay_file(net, path).code == 0
    assert net.balance("BANKB") == "10003.00"
    assert len(set(net.first.node.submissions)) == 1


def test_only_what_is_missing_of_a_half_paid_file_is_sent(net: Net, tmp_path: Path) -> None:
    rows = [f",{debtor},BANKC,1.00,EUR,normal" for debtor in ("BANKA", "BANKB")]
    path = write(tmp_path, *rows)
    pay_file(net, path, "--timeout", "0")
    # The first half of the file, sent by somebody who was cut off then.
    half = tmp_path / "half.csv"
    kept = path.with_name(path.name + ".uetr.csv").read_text().splitlines()
    half.write_text("\n".join(line.rpartition(",")[0] for line in kept[:2]) + "\n")
    assert pay_file(net, half).code == 0
    assert pay_file(net, path).code == 0
    assert net.balance("BANKC") == "10002.00"


def test_rejected_rows_exit_1_and_are_named(net: Net, tmp_path: Path) -> None:
    path = write(tmp_path, ",BANKA,BANKB,1.00,EUR,normal", ",BANKB,WATCHDOG,9.00,EUR,normal")
    ran = pay_file(net, path)
    assert ran.code == 1
    assert [(row["status"], row["reason"]) for row in ran.json] == [
        ("settled", None),
        ("rejected", "AC03"),
    ]
    people = net.run("pay", "--file", path)
    assert "2 rows: 1 rejected, 1 settled" in people.out
    assert "line 3" in people.out


def test_a_refused_instruction_marks_its_rows_and_exits_1(net: Net, tmp_path: Path) -> None:
    net.first.node.refusal = SubmissionRefused("unknown-key", "not registered")
    ran = pay_file(net, write(tmp_path, ",BANKA,BANKB,1.00,EUR,normal"))
    assert (ran.code, ran.json[0]["status"], ran.json[0]["reason"]) == (1, "refused", "unknown-key")


def test_a_node_without_room_is_asked_again_until_patience_ends(net: Net, tmp_path: Path) -> None:
    net.first.node.refusal = SubmissionRefused("mempool-full", "no room")
    ran = pay_file(net, write(tmp_path, ",BANKA,BANKB,1.00,EUR,normal"), "--timeout", "0.1")
    assert ran.code == 2
    assert "no room" in ran.err


# --- the file with the UETRs ----------------------------------------------------------------------


def test_a_changed_file_is_refused_by_line(net: Net, tmp_path: Path) -> None:
    path = write(tmp_path, ",BANKA,BANKB,1.00,EUR,normal", ",BANKA,BANKB,2.00,EUR,normal")
    assert pay_file(net, path).code == 0
    write(tmp_path, ",BANKA,BANKB,1.00,EUR,normal", ",BANKA,BANKB,2.50,EUR,normal")
    ran = pay_file(net, path)
    assert ran.code == 1
    assert f"{path}:3" in ran.err
    assert "new file name" in ran.err
    write(tmp_path, ",BANKA,BANKB,1.00,EUR,normal")
    assert "has 1 rows" in pay_file(net, path).err
    assert net.balance("BANKB") == "10003.00"


def test_a_file_whose_uetrs_the_ledger_may_forget_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, ",BANKA,BANKB,1.00,EUR,normal")
    rows, now = read_rows(path), wall()
    first = prepare(path, rows, now, WINDOW_MS)
    assert prepare(path, rows, now + 33 * DAY_MS, WINDOW_MS).rows == first.rows
    with pytest.raises(CommandError, match="could pay twice"):
        prepare(path, rows, now + 35 * DAY_MS, WINDOW_MS)


def test_validity_is_the_same_within_a_day_and_always_a_day_ahead(tmp_path: Path) -> None:
    path = write(tmp_path, ",BANKA,BANKB,1.00,EUR,normal")
    now = wall()
    file = prepare(path, read_rows(path), now, WINDOW_MS)
    assert file.created == now
    assert file.valid_until(now) == file.valid_until(now + DAY_MS - 1) == now + 2 * DAY_MS
    for later in (0, 1, DAY_MS, DAY_MS + 1, 20 * DAY_MS + 5):
        assert DAY_MS < file.valid_until(now + later) - (now + later) <= 2 * DAY_MS


def test_of_two_runs_at_once_both_use_the_uetrs_of_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, ",BANKA,BANKB,1.00,EUR,normal")
    target = payfile.filled_path(path)
    rows = read_rows(path)
    first = prepare(path, rows, wall(), WINDOW_MS)
    # The second has seen no file yet when the first one's appears.
    assert not payfile._write_new(target, b"other UETRs")
    second = prepare(path, rows, wall(), WINDOW_MS)
    assert second.rows == first.rows
    assert second.resumed
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "payments.csv",
        "payments.csv.uetr.csv",
    ]


def test_a_directory_without_room_or_permission_sends_nothing(net: Net, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    path.write_text(HEADER + ",BANKA,BANKB,1.00,EUR,normal\n")
    ran = pay_file(net, path)
    assert ran.code == 1
    assert net.first.node.submissions == []


# --- malformed files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("", ":1:", "'debtor' is missing"),
        ("debtor,creditor,amount\n", ":1:", "'currency' is missing"),
        (HEADER.replace("priority", "prio"), ":1:", "'prio' is not known"),
        (HEADER.replace("priority", "debtor"), ":1:", "twice"),
        (HEADER, "", "no payments"),
        (HEADER + ",BANKA,BANKB,1.00,EUR\n", ":2:", "5 cells"),
        (HEADER + ",BANKA,BANKB,1.00,EUR,normal,x\n", ":2:", "7 cells"),
        (HEADER + "\n,BANKA,,1.00,EUR,normal\n", ":3:", "creditor is empty"),
        (HEADER + ",BANKA,BANKX,1.00,EUR,normal\n", ":2:", "BANKX"),
        (HEADER + ",BANKA,BANKA,1.00,EUR,normal\n", ":2:", "same account"),
        (HEADER + ",BANKA,BANKB,0,EUR,normal\n", ":2:", "zero"),
        (HEADER + ",BANKA,BANKB,-1,EUR,normal\n", ":2:", "negative"),
        (HEADER + ',BANKA,BANKB,"1,000.00",EUR,normal\n', ":2:", "not a decimal"),
        (HEADER + ",BANKA,BANKB,1.00,XXX,normal\n", ":2:", "XXX"),
        (HEADER + ",BANKA,BANKB,1.00,EUR,asap\n", ":2:", "asap"),
        (HEADER + "123,BANKA,BANKB,1.00,EUR,normal\n", ":2:", "no UETR"),
        (HEADER + f"{UETR},BANKA,BANKB,1.00,EUR,normal\n" * 2, ":3:", "on line 2 already"),
        (HEADER + ',"BANKA,BANKB,1.00,EUR,normal\n', ":2:", "not CSV"),
        (HEADER + ',"BANKA"x,BANKB,1.00,EUR,normal\n', ":2:", "not CSV"),
        (HEADER + f",{'A' * 300},BANKB,1.00,EUR,normal\n", ":2:", "300 characters"),
    ],
)
def test_a_malformed_file_is_refused_whole_by_line(
    net: Net, tmp_path: Path, text: str, where: str, why: str
) -> None:
    path = tmp_path / "payments.csv"
    path.write_text(text)
    ran = pay_file(net, path)
    assert ran.code == 1
    assert f"{path}{where}" in ran.err
    assert why in ran.err
    assert ran.out == ""
    assert net.first.node.submissions == []
    assert not path.with_name(path.name + ".uetr.csv").exists()


def test_bytes_that_are_not_utf_8_are_named_by_line(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_bytes(HEADER.encode() + b",BANKA,BANKB,1.00,EUR,normal\n,B\xe4NK,BANKB,1,EUR,\n")
    ran = pay_file(net, path)
    assert ran.code == 1
    assert f"{path}:3" in ran.err


def test_lines_are_counted_through_quoted_line_breaks_and_a_byte_order_mark(
    tmp_path: Path,
) -> None:
    path = tmp_path / "payments.csv"
    path.write_text(
        "\ufeff" + HEADER + ',"BANKA\n",BANKB,1,EUR,\n,BANKA,BANKB,1,EUR,\n', encoding="utf-8"
    )
    assert [row.line for row in read_rows(path)] == [2, 4]


def test_a_missing_file_is_wrong_usage(net: Net, tmp_path: Path) -> None:
    ran = pay_file(net, tmp_path / "absent.csv")
    assert ran.code == 64
    assert "absent.csv" in ran.err


def test_a_debtor_without_a_keystore_is_named_by_line(net: Net, tmp_path: Path) -> None:
    description = json.loads((net.directory / "devnet.json").read_text())
    description["participants"] = [p for p in description["participants"] if p["name"] != "BANKB"]
    (net.directory / "devnet.json").write_text(json.dumps(description))
    path = write(tmp_path, ",BANKA,BANKB,1,EUR,", ",BANKB,BANKA,1,EUR,")
    ran = pay_file(net, path)
    assert ran.code == 1
    assert f"{path}:3" in ran.err
    assert "BANKB" in ran.err
