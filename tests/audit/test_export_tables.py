"""Tables of movements: what is read back is what the ledger did, in CSV as in Parquet."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import pyarrow.parquet as pq
import pytest

from node.audit.export import Names, Point
from node.audit.export_parquet import ROW_GROUP, ParquetWriter
from node.audit.export_table import COLUMNS, CsvWriter, Formula
from node.audit.movements import CLEARING, ISSUED, Account, Movement
from node.chain.types import MAX_BALANCE
from tests.support.exported import HOLDER, Plain, rich, rich_export, sums

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*|")


def read(data: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(BytesIO(data)).to_pylist()
    return rows


def test_a_csv_export_reads_back_and_its_sums_are_the_ledgers_balances() -> None:
    export, history = rich_export("csv"), rich()
    assert export.text.startswith(",".join(COLUMNS) + "\r\n")
    assert export.text.endswith("\r\n")
    assert export.text.count("\n") == export.text.count("\r\n") == export.summary.movements + 1
    found = sums(export.rows)
    assert {key: value for key, value in found.items() if key[0] != ISSUED} == history.balances()
    places = [(int(r["height"]), int(r["index"]), int(r["line"])) for r in export.rows]
    assert places == sorted(set(places))
    for row in export.rows:
        scaled = Decimal(row["amount"]).scaleb(int(row["exponent"]))
        assert scaled == int(row["minor_units"]) > 0
        assert datetime.fromisoformat(row["time"]).tzinfo is not None


def test_no_field_can_be_taken_for_a_formula() -> None:
    fields = [field for row in rich_export("csv").rows for field in row.values()]
    assert all(SAFE.fullmatch(field) for field in fields)


@pytest.mark.parametrize("name", ["=cmd", "+1", "-1", "@x", "\t=1", 'a"b', "a,b", "a\nb"])
def test_a_name_that_a_spreadsheet_might_run_is_never_written(name: str) -> None:
    class Bad(Names):
        def name(self, account: Account) -> str:
            return name

        def exponent(self, asset: str) -> int:
            return 2

    writer = CsvWriter(BytesIO())
    balances = {(Account("LEI", "settlement"), "EUR"): 5}
    with pytest.raises(Formula):
        writer.begin(bytes(32), Point(0, 0, bytes(32)), balances, Bad())


def test_an_export_of_a_part_carries_in_what_there_was_and_comes_to_the_same_balances() -> None:
    whole, part = rich_export("csv").rows, rich_export("csv part").rows
    opening = [row for row in part if row["kind"] == "opening"]
    moved = [row for row in part if row["kind"] != "opening"]
    assert sums(opening) == sums([row for row in whole if int(row["height"]) < 40])
    assert sums(part) == sums([row for row in whole if int(row["height"]) <= 90])
    assert moved == [row for row in whole if 40 <= int(row["height"]) <= 90]
    assert {row["height"] for row in opening} == {"39"}
    assert {row["proof"] for row in opening} == {""}


def test_an_export_of_one_participant_has_its_movements_alone() -> None:
    whole, own = rich_export("csv part").rows, rich_export("csv holder").rows
    names = {(row["debtor_name"], row["creditor_name"]) for row in own}
    assert all(HOLDER in pair for pair in names)
    assert len(own) == sum(HOLDER in (row["debtor_name"], row["creditor_name"]) for row in whole)
    lei = next(row["debtor"] for row in own if row["debtor_name"] == HOLDER)
    assert {k: v for k, v in sums(own).items() if k[0].holder == lei} == {
        k: v for k, v in sums(whole).items() if k[0].holder == lei
    }


def test_parquet_has_the_same_rows_typed() -> None:
    data = rich_export("parquet").file.getvalue()
    table, rows = read(data), rich_export("csv").rows
    assert len(table) == len(rows)
    for typed, row in zip(table, rows, strict=True):
        assert list(typed) == list(COLUMNS)
        assert typed["amount"] == Decimal(row["amount"])
        assert typed["time"] == datetime.fromisoformat(row["time"]).astimezone(UTC)
        assert typed["outcome"].hex() == row["outcome"]
        for name in ("height", "index", "line", "exponent", "minor_units", "cycle"):
            assert typed[name] == (int(row[name]) if row[name] else None)
        for name in ("kind", "uetr", "related", "proof", "asset"):
            assert (typed[name] or "") == row[name]
        for side in ("debtor", "creditor"):
            for name in (side, f"{side}_name", f"{side}_account"):
                assert (typed[name] or "") == row[name]


def test_parquet_says_which_chain_and_which_blocks() -> None:
    history = rich()
    about = pq.read_metadata(BytesIO(rich_export("parquet").file.getvalue())).metadata
    assert about[b"nostro.chain_id"].decode() == history.driver.world.genesis.chain_id.hex()
    assert about[b"nostro.after_height"] == b"0"
    assert about[b"nostro.after_block"].decode() == history.blocks[0].header.parent.hex()
    assert about[b"nostro.height"].decode() == str(history.blocks[-1].header.height)
    assert about[b"nostro.block"].decode() == history.blocks[-1].digest.hex()


def test_parquet_is_written_in_row_groups_of_bounded_size() -> None:
    file, at = BytesIO(), Point(0, 0, bytes(32))
    writer = ParquetWriter(file)
    writer.begin(bytes(32), at, {}, Plain())
    own = Account("LEI", "settlement")
    for number in range(ROW_GROUP + 3):
        writer.movement(
            5,
            number,
            Movement(0, 0, bytes(32), "net", None, None, own, CLEARING, "EUR", number, 7),
        )
        assert len(writer._rows) < ROW_GROUP
    writer.end(at)
    about = pq.read_metadata(file)
    assert [about.row_group(n).num_rows for n in range(about.num_row_groups)] == [ROW_GROUP, 3]


def test_the_largest_amounts_of_every_exponent_are_exact_in_both() -> None:
    files = BytesIO(), BytesIO()
    own, at = Account("LEI", "settlement"), Point(0, 0, bytes(32))
    for writer in (CsvWriter(files[0]), ParquetWriter(files[1])):
        writer.begin(bytes(32), at, {(own, "EUR"): -MAX_BALANCE}, Plain())
        for number, asset in enumerate(("JPY", "EUR", "XBT")):
            movement = Movement(
                number, 0, bytes(32), "issue", None, None, ISSUED, own, asset, MAX_BALANCE, None
            )
            writer.movement(253_402_214_399_999, 2**40, movement)
        writer.end(at)
    expected = [
        "92233720368547758.07",
        "9223372036854775807",
        "92233720368547758.07",
        "92233720368.54775807",
    ]
    text = StringIO(files[0].getvalue().decode(), newline="")
    column = COLUMNS.index("amount")
    assert [line.split(",")[column] for line in list(text)[1:]] == expected
    table = read(files[1].getvalue())
    assert [row["amount"] for row in table] == [Decimal(each) for each in expected]
    assert table[0]["debtor"] == "LEI"
    assert table[1]["time"].year == 9999
