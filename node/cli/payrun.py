"""One run of `pay --file`: from rows to signed orders, and from outcomes to a line for each row."""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node.api.client import ApiClient, ApiError
from node.api.documents import ReceiptDocument
from node.chain.genesis import BadGenesis, load_genesis
from node.chain.types import MAX_PAYMENTS, Payment
from node.chain.uetr import parse_uetr
from node.cli import settle
from node.cli.common import keys_of, now_ms
from node.cli.connection import Connection
from node.cli.errors import CommandError, Exit
from node.cli.orders import Book, Order, Result, Terms, exit_code, pay_order
from node.cli.output import Output
from node.cli.payfile import MAX_NAMED_ERRORS, PaymentFile, Row, prepare, read_rows
from node.cli.receipts import keep_receipt
from node.ledger.reasons import sentence

PAYMENTS_PER_INSTRUCTION = 1_000
"""Rows signed together; part of what makes a second run sign the same."""
SHOWN_ROWS = 20
"""Rows named to people that did not settle."""
LOOKUP_ORDERS = 20
"""Orders looked up together when a file is run again."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """A row in the answer of `pay --file --json`."""

    line: int
    uetr: str
    status: str
    reason: str | None
    height: int | None
    index: tuple[int, int] | None
    settled_at: int | None


@dataclass(frozen=True, slots=True)
class _Job:
    """What signing the rows takes."""

    args: argparse.Namespace
    book: Book
    connection: Connection
    chain_id: bytes


async def pay_file(
    args: argparse.Namespace, output: Output, connection: Connection, client: ApiClient
) -> int:
    """Pay every row once; the exit code. `args.timeout`: seconds without progress."""
    path: Path = args.file
    rows = read_rows(path)
    chain_id = await settle.agreed_chain(client, connection.chain_id)
    book = await settle.load_book(client)
    window = await _uetr_window(client)
    job = _Job(args, book, connection, chain_id)
    # Before anything is given a UETR: a file that cannot be paid whole is not paid in part.
    _check_rows(path, rows, job)
    file = prepare(path, rows, now_ms(), window)
    output.note(f"nostro: the rows with their UETRs are in {file.path}")
    orders = _orders(file, job)

    def keep(order: Order, receipt: ReceiptDocument) -> None:
        keep_receipt(
            receipt,
            order.raw,
            chain_id,
            directory=connection.receipts,
            name=order.id,
            output=output,
        )

    run = settle.Settlement(
        client,
        args.timeout,
        on_receipt=keep,
        on_progress=lambda done: output.progress(done, len(file.rows), "final"),
    )
    try:
        await _settle(run, orders, file.resumed)
    except (asyncio.CancelledError, KeyboardInterrupt):
        output.note(
            f"nostro: {len(run.results):,} of {len(file.rows):,} rows are known to be final. Run "
            "the same command again: each row is paid once"
        )
        raise
    finally:
        output.clear_progress()
    return _report(output, file, run)


async def _settle(run: settle.Settlement, orders: Sequence[Order], resumed: bool) -> None:
    remaining = list(orders)
    if resumed:
        remaining = []
        try:
            for start in range(0, len(orders), LOOKUP_ORDERS):
                remaining += await run.look_up(orders[start : start + LOOKUP_ORDERS])
        except ApiError:
            remaining = list(orders)
    for portion in settle.batches(remaining):
        await run.settle(portion)


async def _uetr_window(client: ApiClient) -> int:
    """How long the ledger remembers a UETR, milliseconds. Raises CommandError."""
    try:
        return load_genesis(await client.genesis()).parameters.uetr_window_ms
    except ApiError as error:
        raise settle.no_answer(error) from error
    except BadGenesis as error:
        raise CommandError(f"the node's genesis file is not sound: {error}") from error


def _payment(row: Row, book: Book, uetr: bytes) -> Payment:
    return book.payment(
        uetr,
        Terms(
            debtor=row.debtor,
            creditor=row.creditor,
            amount=row.amount,
            currency=row.currency,
            priority=row.priority,
        ),
    )


def _check_rows(path: Path, rows: Sequence[Row], job: _Job) -> None:
    errors: list[str] = []
    payments: list[Payment] = []
    signing: set[str] = set()
    for row in rows:
        try:
            payments.append(_payment(row, job.book, bytes(16)))
            if row.debtor not in signing:
                keys_of(job.args, job.connection, job.book, job.book.participant(row.debtor))
                signing.add(row.debtor)
        except CommandError as error:
            errors.append(f"{path}:{row.line}: {error}")
            if len(errors) >= MAX_NAMED_ERRORS:
                break
    if errors:
        raise CommandError("nothing was sent, these rows cannot be paid:\n" + "\n".join(errors))
    if job.args.all_or_none:
        _check_together(path, payments)


def _check_together(path: Path, payments: Sequence[Payment]) -> None:
    """One instruction, one queue entry: what the ledger would reject all rows for."""
    for what, values in (
        ("debtor", {p.debtor for p in payments}),
        ("currency", {p.asset for p in payments}),
        ("priority", {p.priority for p in payments}),
    ):
        if len(values) > 1:
            raise CommandError(
                f"nothing was sent: with --all-or-none the rows of {path} must have one {what}, "
                f"they have {len(values)}"
            )
    if len(payments) > MAX_PAYMENTS:
        raise CommandError(
            f"nothing was sent: {path} has {len(payments):,} rows; at most {MAX_PAYMENTS:,} "
            "settle together"
        )


def _orders(file: PaymentFile, job: _Job) -> list[Order]:
    """Rows by debtor, in the file's order, up to PAYMENTS_PER_INSTRUCTION an instruction; all in
    one where they settle together."""
    valid_until = file.valid_until(now_ms())
    together: bool = job.args.all_or_none
    size = MAX_PAYMENTS if together else PAYMENTS_PER_INSTRUCTION
    by_debtor: dict[str, list[Payment]] = {}
    for row in file.rows:
        payment = _payment(row, job.book, parse_uetr(row.uetr))
        by_debtor.setdefault(payment.debtor, []).append(payment)
    orders = []
    for debtor, payments in by_debtor.items():
        _, keys = keys_of(job.args, job.connection, job.book, job.book.participant(debtor))
        for start in range(0, len(payments), size):
            portion = payments[start : start + size]
            orders.append(pay_order(job.chain_id, portion, valid_until, keys, all_or_none=together))
    return orders


def _report(output: Output, file: PaymentFile, run: settle.Settlement) -> int:
    rows = []
    for row in file.rows:
        result = run.results.get(row.uetr) or Result(row.uetr, "unknown")
        rows.append(
            RowResult(
                row.line,
                row.uetr,
                result.status,
                result.reason,
                result.height,
                result.index,
                result.settled_at,
            )
        )
    output.document(rows)
    counts = Counter(row.status for row in rows)
    summary = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
    output.line(f"{len(rows):,} rows: {summary}")
    others = [row for row in rows if row.status != "settled"]
    for other in others[:SHOWN_ROWS]:
        reason = "" if other.reason is None else f": {other.reason}, {sentence(other.reason)}"
        output.line(f"line {other.line}  {other.uetr}  {other.status}{reason}")
    if len(others) > SHOWN_ROWS:
        output.line(f"… and {len(others) - SHOWN_ROWS:,} more; all of them with --json")
    if counts["unknown"]:
        why = f" ({run.doubt})" if run.doubt else "; too few validators may be running"
        output.error(
            f"{counts['unknown']:,} rows are not final{why}. They may still be executed. Run the "
            "same command again: each row is paid once"
        )
    return _exit_code(counts)


def _exit_code(counts: Counter[str]) -> Exit:
    """1 if any was rejected, else 2 if any is unknown, else 3 if any is not settled, else 0."""
    codes = {exit_code(status) for status in counts}
    for code in (Exit.REFUSED, Exit.UNKNOWN, Exit.NOT_SETTLED):
        if code in codes:
            return code
    return Exit.DONE
