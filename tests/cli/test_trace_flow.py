"""`nostro trace -o` and `nostro trace --account`: the picture of a flow, and looking through an
account."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from node.cli.look_through import past_option
from tests.support.settlement_net import SettlementNet


class Page(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [
            value for name, value in attrs if name in ("href", "src", "data", "action") and value
        ]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def flow(desk: SettlementNet) -> tuple[str, str, str]:
    """BANKA pays BANKB for somebody with a dangerous name, which passes it on to BANKC, which gives
    half of it back."""
    first = desk.paid("100.00", **{"ultimate-debtor": "</svg><script>alert(1)</script>"})
    second = desk.paid("100.00", **{"from": "BANKB", "to": "BANKC", "previous": first})
    back = desk.json("return", second, "--amount", "50.00", "--reason", "FOCR")
    return first, second, str(back["uetr"])


def test_a_picture_needs_nothing_and_links_each_payment_to_its_dossier(desk: SettlementNet) -> None:
    payments = flow(desk)
    path = desk.directory / "flow.html"
    ran = desk.run("trace", payments[1], "-o", path)
    assert ran.code == 0, ran.err
    html = path.read_text()
    page = Page(html)
    assert "default-src 'none'" in html
    assert "script" not in page.tags
    text = " ".join(page.text)
    for name in ("BANKA", "BANKB", "BANKC", "50.00 EUR", "returns", "<script>alert(1)</script>"):
        assert name in text, name
    assert set(page.references) == {f"flow.files/{each}.dossier" for each in payments}
    for uetr in payments:
        kept = (desk.directory / "flow.files" / f"{uetr}.dossier").read_bytes()
        assert bytes.fromhex(uetr.replace("-", "")) in kept


def test_an_account_is_looked_through_to_sources_and_destinations(desk: SettlementNet) -> None:
    first, second, back = flow(desk)
    apart = desk.paid("7.00", **{"from": "BANKC", "to": "BANKA"})
    found = desk.json("trace", "--account", "BANKB", "--currency", "EUR", "--since", "2000-01-01")
    # Its opening balance was issued to it.
    [issued, tree] = found["trees"]
    assert issued["source"]["kind"] == "issue"
    assert tree["source"]["uetr"] == first
    assert tree["source"]["parties"] == [
        {"role": "ultimate_debtor", "name": "</svg><script>alert(1)</script>"}
    ]
    assert [each["uetr"] for each in tree["source"]["following"]] == [second]
    assert (found["movements"], found["credited"]) == (4, 3)
    assert apart not in json.dumps(found)
    assert back in json.dumps(found)
    path = desk.directory / "account.html"
    people = desk.run(
        "trace", "--account", "BANKB", "--currency", "EUR", "--since", "2000-01-01", "-o", path
    )
    assert "4 movements, 3 of them credits; 2 trees" in people.out
    assert len(re.findall("<svg", path.read_text())) == 2


def test_a_window_has_the_blocks_of_its_time_only(desk: SettlementNet) -> None:
    desk.paid("1.00")
    desk.tick(3_600_000)
    begins = desk.now()
    later = desk.paid("2.00")
    desk.tick(3_600_000)
    desk.paid("3.00")
    window = ("--since", instant(begins), "--until", instant(begins + 3_600_000))
    found = desk.json("trace", "--account", "BANKA", "--currency", "EUR", *window)
    assert [each["source"]["uetr"] for each in found["trees"]] == [later]
    nothing = desk.run(
        "trace", "--account", "BANKA", "--currency", "EUR", "--since", "2100-01-01", "--json"
    )
    assert (nothing.code, "no block" in nothing.err) == (1, True)


def instant(ms: int) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--account", "BANKA"],
        ["--account", "BANKA", "--currency", "EUR"],
        ["--since", "24h"],
        ["eb6305c9-1f7f-49de-aed0-16487c27b42d", "--account", "BANKA"],
        ["eb6305c9-1f7f-49de-aed0-16487c27b42d", "--currency", "EUR"],
        ["--account", "BANKA", "--currency", "EUR", "--since", "yesterday"],
        ["--account", "BANKA", "--currency", "EUR", "--since", "2026-03-02T10:00:00"],
    ],
)
def test_half_a_question_is_wrong_usage(desk: SettlementNet, arguments: list[str]) -> None:
    assert desk.run("trace", *arguments).code == 64


def test_times_of_a_window_are_dates_instants_or_ago() -> None:
    assert past_option("1970-01-02") == 86_400_000
    assert past_option("1970-01-02T00:00:00+01:00") == 82_800_000
    assert past_option("1h") > past_option("2h")


def test_a_file_that_cannot_be_written_is_a_plain_error(desk: SettlementNet) -> None:
    paid = desk.paid("1.00")
    ran = desk.run("trace", paid, "-o", desk.directory / "nowhere" / "flow.html")
    assert ran.code == 1
    assert "cannot" in ran.err
    assert "Traceback" not in ran.err
