"""Books that beancount's own `bean-check` passes, and fails once anything in them is changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from node.audit.export import Names, Point
from node.audit.export_beancount import BeancountWriter
from node.audit.movements import ISSUED, KINDS, Account, Movement
from node.chain.types import MAX_BALANCE
from tests.support.exported import HOLDER, bean_check, rich, rich_export

DAY_MS = 86_400_000
TRANSACTION = re.compile(r"\n\d{4}-\d\d-\d\d \* .*\n(?:  .*\n)+")
POSTING = re.compile(r"^  ((?:Assets|Equity)[^ ]*)  (-?[0-9.]+) (\w+)$", re.MULTILINE)
ASSERTION = re.compile(r"^(\d{4}-\d\d-\d\d) balance (\S+)  (\S+) ~ 0 (\w+)$", re.MULTILINE)

# --- of a whole chain -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["beancount", "stretches", "beancount part", "beancount holder", "stretches holder"],
)
def test_an_export_of_every_kind_of_movement_passes(name: str, tmp_path: Path) -> None:
    assert bean_check(rich_export(name).text, tmp_path) == []


def test_every_movement_is_a_transaction_and_every_account_is_asserted_at_every_date() -> None:
    export, rows = rich_export("beancount"), rich_export("csv").rows
    transactions = TRANSACTION.findall(export.text)
    assert len(transactions) == export.summary.movements == len(rows)
    proofs = [re.search(r'proof: "(.*)"', each) for each in transactions]
    assert [each and each[1] for each in proofs] == [row["proof"] for row in rows]
    assert {each.split('"')[1] for each in transactions} == set(KINDS)
    dates = {row["time"][:10] for row in rows}
    asserted = ASSERTION.findall(export.text)
    last = max(date for date, *_ in asserted)
    assert len(dates) > 5
    assert len({date for date, *_ in asserted}) == export.summary.checkpoints >= len(dates)
    accounts = {(account, asset) for _, account, _, asset in asserted}
    assert {(a, asset) for date, a, _, asset in asserted if date == last} == accounts
    assert len(accounts) == export.summary.accounts


def test_checkpoints_within_a_date_are_asserted_stretch_by_stretch() -> None:
    export = rich_export("stretches")
    assert export.summary.checkpoints > len(rich().blocks) // 3
    stretches = re.findall(r"^;; checkpoint: block (\d+),", export.text, re.MULTILINE)
    assert len(stretches) > len(rich().blocks) // 6
    assert all(":H" in account for account, _, _ in POSTING.findall(export.text))


def test_an_export_of_a_part_begins_with_what_there_was(tmp_path: Path) -> None:
    for name in ("beancount part", "beancount holder"):
        export = rich_export(name)
        assert (export.summary.first and export.summary.first.height) == 39
        assert (export.summary.last and export.summary.last.height) == 90
        assert export.text.count('"opening"') == 1
        opening = TRANSACTION.findall(export.text)[0]
        posted = POSTING.search(opening)
        assert posted is not None
        changed = export.text.replace(
            f" {posted[2]} {posted[3]}\n", f" 9{posted[2]} {posted[3]}\n", 1
        )
        assert bean_check(changed, tmp_path)
    held = rich_export("beancount holder").text
    assert {a.split(":")[1] for _, a, _, _ in ASSERTION.findall(held)} == {HOLDER}


# --- changed by somebody --------------------------------------------------------------------------


def transaction(text: str, kind: str) -> str:
    """The last transaction of a kind."""
    found: list[str] = [each for each in TRANSACTION.findall(text) if f'* "{kind}"' in each]
    return found[-1]


def with_posting(text: str, kind: str, change: Callable[[str, str, str], str], count: int) -> str:
    """The file with postings of one transaction changed."""
    old = transaction(text, kind)
    new = POSTING.sub(lambda m: "  " + change(m[1], m[2], m[3]), old, count=count)
    assert new != old
    return text.replace(old, new, 1)


def cents(amount: str, by: int) -> str:
    """An amount with its last digits changed."""
    whole = int(amount.replace(".", "")) + by
    return f"{'-' if whole < 0 else ''}{abs(whole) // 100}.{abs(whole) % 100:02}"


def other(amount: str) -> str:
    return amount[1:] if amount.startswith("-") else f"-{amount}"


def with_assertion(text: str, change: Callable[[re.Match[str]], str]) -> str:
    found = [each for each in ASSERTION.finditer(text) if each[3].strip("0.")][-1]
    return text[: found.start()] + change(found) + text[found.end() :]


TAMPERED: dict[str, Callable[[str], str]] = {
    "an amount, on one side, by a cent": lambda text: with_posting(
        text, "pay", lambda a, n, c: f"{a}  {cents(n, 1)} {c}", 1
    ),
    "an amount, on both sides, by a cent": lambda text: with_posting(
        text, "pay", lambda a, n, c: f"{a}  {cents(n, -1 if n[0] == '-' else 1)} {c}", 2
    ),
    "an asset": lambda text: with_posting(
        text, "pay", lambda a, n, c: f"{a}  {n} {'EUR' if c == 'CNY' else 'CNY'}", 2
    ),
    "debtor and creditor swapped": lambda text: with_posting(
        text, "pay", lambda a, n, c: f"{a}  {other(n)} {c}", 2
    ),
    "another debtor": lambda text: with_posting(
        text, "link", lambda a, n, c: f"Equity:Clearing  {n} {c}", 1
    ),
    "a payment left out": lambda text: text.replace(transaction(text, "pay"), "", 1),
    "a net position left out": lambda text: text.replace(transaction(text, "net"), "", 1),
    "an issue left out": lambda text: text.replace(transaction(text, "issue"), "", 1),
    "a pledge left out": lambda text: text.replace(transaction(text, "pledge"), "", 1),
    "a payment twice": lambda text: text.replace(
        transaction(text, "pay"), transaction(text, "pay") * 2, 1
    ),
    "a return twice": lambda text: text.replace(
        transaction(text, "return"), transaction(text, "return") * 2, 1
    ),
    "an issue that nobody made": lambda text: text.replace(
        "\n;; end of day", transaction(text, "issue") + "\n;; end of day", 1
    ),
    "an asserted balance, by a cent": lambda text: with_assertion(
        text, lambda m: f"{m[1]} balance {m[2]}  {cents(m[3], 1)} ~ 0 {m[4]}"
    ),
    "the sign of an asserted balance": lambda text: with_assertion(
        text, lambda m: f"{m[1]} balance {m[2]}  {other(m[3])} ~ 0 {m[4]}"
    ),
    "the date of a payment": lambda text: text.replace(
        transaction(text, "pay"), re.sub(r"^\n\d{4}", "\n2099", transaction(text, "pay")), 1
    ),
    "an account that was never opened": lambda text: text.replace(
        " open Assets:BANKB:Settlement\n", " open Assets:BANKX:Settlement\n", 1
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_bean_check_fails_what_was_tampered_with(what: str, tmp_path: Path) -> None:
    text = rich_export("beancount").text
    changed = TAMPERED[what](text)
    assert changed != text
    assert bean_check(changed, tmp_path)


# --- names and amounts ----------------------------------------------------------------------------


class Given(Names):
    """Names and exponents that a test says."""

    def __init__(self, names: dict[str, str], exponents: dict[str, int]) -> None:
        super().__init__()
        self._names.update(names)
        self._exponents.update(exponents)


def written(names: dict[str, str], moves: list[tuple[str | None, str | None, str, int]]) -> str:
    """Books of these movements: (debtor, creditor, asset, minor units); None: issued."""
    file, at = BytesIO(), Point(0, 0, bytes(32))
    writer = BeancountWriter(file)
    exponents = {"JPY": 0, "EUR": 2, "XBT": 8, "US0378331005": 0}
    writer.begin(bytes(32), at, {}, Given(names, exponents))
    balances: dict[tuple[Account, str], int] = {}
    for number, (debtor, creditor, asset, amount) in enumerate(moves):
        sides = [
            ISSUED if each is None else Account(each, "client-reserve")
            for each in (debtor, creditor)
        ]
        movement = Movement(
            number, 0, bytes(32), "pay", None, None, sides[0], sides[1], asset, amount, None
        )
        for side, signed in zip(sides, (-amount, amount), strict=True):
            balances[side, asset] = balances.get((side, asset), 0) + signed
        writer.movement(DAY_MS, 1, movement)
    last = Point(1, DAY_MS, bytes(32))
    writer.day(last, balances)
    writer.end(last)
    return file.getvalue().decode()


def test_amounts_of_any_exponent_and_size_and_drawn_credit_are_exact(tmp_path: Path) -> None:
    text = written(
        {"A": "BANKA", "B": "BANKB"},
        [
            (None, "A", "XBT", MAX_BALANCE),
            (None, "A", "JPY", MAX_BALANCE),
            (None, "B", "US0378331005", 1),
            ("B", "A", "EUR", 1),
        ],
    )
    assert bean_check(text, tmp_path) == []
    assert "Assets:BANKA:Client-Reserve  92233720368.54775807 ~ 0 XBT" in text
    assert "Assets:BANKA:Client-Reserve  9223372036854775807 ~ 0 JPY" in text
    assert "Assets:BANKB:Client-Reserve  -0.01 ~ 0 EUR" in text
    smaller = text.replace("92233720368.54775807 ~", "92233720368.54775806 ~")
    assert len(bean_check(smaller, tmp_path)) == 2  # of what is held and of what is issued
    assert bean_check(text.replace("9223372036854775807 ~", "9223372036854775806 ~"), tmp_path)


def test_participants_whose_names_beancount_cannot_tell_apart_keep_accounts_of_their_own(
    tmp_path: Path,
) -> None:
    lei = "9845TEST000000000202"
    names = {
        "1": "a.b",
        lei: "a_b",
        "3": "A-b",
        "4": f"A-b-{lei}",
        "5": "0",
        "6": "x" * 32,
        "7": "-".join("ab"),
    }
    text = written(names, [(None, each, "EUR", 10 + n) for n, each in enumerate(names)])
    assert bean_check(text, tmp_path) == []
    paths = re.findall(
        r"open Assets:(\S+):Client-Reserve\n  lei: \"(\S+)\"\n  name: \"(.*)\"", text
    )
    assert len({path for path, *_ in paths}) == len(names)
    assert {each: name for _, each, name in paths} == names
