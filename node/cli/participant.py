"""A participant's commands: pay, payment, balance; and the issuer's: issue, redeem.

The client signs; a node never sees a participant's private key. A single payment's UETR is
printed before anything is sent, so that whoever is cut off can ask for it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output, instant

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.service import ParticipantView, PaymentView
    from node.cli.connection import Connection
    from node.cli.orders import Book, Order, Result

TIMEOUT_SECONDS = 30.0
"""How long a command waits for finality."""
MAX_TIMEOUT_SECONDS = 86_400.0


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    pay = subparsers.add_parser(
        "pay",
        help="send a payment, or a file of payments",
        description="Sign a payment, send it, and wait until it is final. With --file, the UETRs "
        "are first written to FILE.uetr.csv; run the same command again after an interruption "
        "and each row is paid once.",
    )
    pay.add_argument("--from", dest="debtor", metavar="PARTICIPANT", help="who pays")
    pay.add_argument("--to", dest="creditor", metavar="PARTICIPANT", help="who is paid")
    _add_money(pay, required=False)
    pay.add_argument("--priority", choices=("urgent", "high", "normal"), help="place in the queue")
    pay.add_argument(
        "--file",
        metavar="PAYMENTS.csv",
        type=Path,
        help="columns: uetr (may be empty), debtor, creditor, amount, currency, priority",
    )
    _add_sending(pay)
    pay.set_defaults(handler=_pay)

    issue = subparsers.add_parser("issue", help="create money on a participant's account (issuer)")
    issue.add_argument("--to", dest="creditor", metavar="PARTICIPANT", required=True)
    _add_money(issue, required=True)
    _add_sending(issue)
    issue.set_defaults(handler=_issue)

    redeem = subparsers.add_parser("redeem", help="destroy money of one's own account (issuer)")
    _add_money(redeem, required=True)
    _add_sending(redeem)
    redeem.set_defaults(handler=_redeem)

    payment = subparsers.add_parser("payment", help="show what is final about a payment")
    payment.add_argument("uetr", metavar="UETR")
    payment.add_argument("--wait", metavar="SECONDS", type=seconds_option, default=0.0)
    _add_asking(payment)
    payment.set_defaults(handler=_payment)

    balance = subparsers.add_parser("balance", help="show balances")
    balance.add_argument("participant", metavar="PARTICIPANT", nargs="?")
    _add_asking(balance)
    balance.set_defaults(handler=_balance)


def _add_money(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--amount", required=required, help="decimal, such as 1250.00")
    parser.add_argument("--currency", required=required, help="code of the asset, such as EUR")
    parser.add_argument(
        "--uetr", help="a UUID version 4; give the same one again to retry (default: a new one)"
    )


def _add_asking(parser: argparse.ArgumentParser, *, signs: bool = False) -> None:
    from node.cli.connection import add_options  # noqa: PLC0415

    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_options(parser, signs=signs)


def _add_sending(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-wait", action="store_true", help="do not wait for finality")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds_option,
        default=TIMEOUT_SECONDS,
        help="how long to wait for finality (default: 30); with --file, without any progress",
    )
    _add_asking(parser, signs=True)


def seconds_option(text: str) -> float:
    """The value of an option such as `--timeout`."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_TIMEOUT_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds


# --- one order ----------------------------------------------------------------------------------

Build = Callable[["Connection", "Book", bytes, bytes], tuple["ParticipantView", "Order"]]
"""(connection, book, chain id, UETR) → the signer and the order."""


def _pay(args: argparse.Namespace, output: Output) -> int:
    single = ("debtor", "creditor", "amount", "currency")
    if args.file is not None:
        given = [name for name in (*single, "uetr", "priority") if getattr(args, name) is not None]
        if given or args.no_wait:
            raise usage("with --file, everything about the payments comes from the file")
        return _run(args, output, None, lambda c, client: _pay_file(args, output, c, client))
    missing = [name for name in single if getattr(args, name) is None]
    if missing:
        flags = {"debtor": "--from", "creditor": "--to"}
        names = ", ".join(flags.get(name, f"--{name}") for name in missing)
        raise usage(f"pay needs {names} (or --file)")

    def build(
        connection: Connection, book: Book, chain_id: bytes, uetr: bytes
    ) -> tuple[ParticipantView, Order]:
        from node.cli.orders import VALIDITY_MS, now_ms, pay_order  # noqa: PLC0415

        payment = book.payment(
            uetr,
            debtor=args.debtor,
            creditor=args.creditor,
            amount=args.amount,
            currency=args.currency,
            priority=args.priority or "normal",
        )
        debtor = book.participant(args.debtor)
        signer = connection.signer(debtor)
        return debtor, pay_order(chain_id, [payment], now_ms() + VALIDITY_MS, signer)

    return _run(args, output, args.debtor, lambda c, client: _send(args, output, c, client, build))


def _issue(args: argparse.Namespace, output: Output) -> int:
    def build(
        connection: Connection, book: Book, chain_id: bytes, uetr: bytes
    ) -> tuple[ParticipantView, Order]:
        from node.chain.types import Issue  # noqa: PLC0415
        from node.cli.orders import VALIDITY_MS, issue_order, now_ms  # noqa: PLC0415

        asset = book.asset(args.currency)
        creditor = book.participant(args.creditor)
        issuer = book.participant(asset.issuer)
        body = Issue(uetr, asset.code, creditor.lei, book.amount(args.amount, asset))
        signer = connection.signer(issuer)
        return issuer, issue_order(chain_id, issuer.lei, body, now_ms() + VALIDITY_MS, signer)

    return _run(args, output, None, lambda c, client: _send(args, output, c, client, build))


def _redeem(args: argparse.Namespace, output: Output) -> int:
    def build(
        connection: Connection, book: Book, chain_id: bytes, uetr: bytes
    ) -> tuple[ParticipantView, Order]:
        from node.chain.types import Redeem  # noqa: PLC0415
        from node.cli.orders import VALIDITY_MS, now_ms, redeem_order  # noqa: PLC0415

        asset = book.asset(args.currency)
        issuer = book.participant(asset.issuer)
        body = Redeem(uetr, asset.code, book.amount(args.amount, asset))
        signer = connection.signer(issuer)
        return issuer, redeem_order(chain_id, issuer.lei, body, now_ms() + VALIDITY_MS, signer)

    return _run(args, output, None, lambda c, client: _send(args, output, c, client, build))


def _run(
    args: argparse.Namespace,
    output: Output,
    participant: str | None,
    work: Callable[[Connection, ApiClient], Awaitable[int]],
) -> int:
    from node.api.client import ApiClient  # noqa: PLC0415
    from node.cli.connection import connect  # noqa: PLC0415

    connection = connect(args)

    async def run() -> int:
        async with ApiClient(connection.urls(participant)) as client:
            return await work(connection, client)

    return asyncio.run(run())


async def _send(
    args: argparse.Namespace,
    output: Output,
    connection: Connection,
    client: ApiClient,
    build: Build,
) -> int:
    from node.chain.uetr import uetr_text
    from node.cli import settle  # noqa: PLC0415
    from node.cli.orders import Result, exit_code, new_uetr, read_uetr  # noqa: PLC0415
    from node.cli.receipts import keep_receipt  # noqa: PLC0415

    uetr = new_uetr() if args.uetr is None else read_uetr(args.uetr)
    text = uetr_text(uetr)
    chain_id = await settle.agreed_chain(client, connection.chain_id)
    _, order = build(connection, await settle.load_book(client), chain_id, uetr)
    # Before sending: whoever is cut off from here on can ask for it, or try again with it.
    (output.note if args.json else output.line)(f"uetr     {text}")
    started = time.monotonic()
    try:
        sent = await settle.submit(client, order)
    except CommandError as error:
        status = "unknown" if error.code == Exit.UNKNOWN else "refused"
        output.document(asdict(Result(text, status)))
        raise
    if sent.receipt is not None:
        path = keep_receipt(
            sent.receipt,
            order.raw,
            chain_id,
            directory=connection.receipts,
            name=text,
            output=output,
        )
        if path is not None:
            output.line(f"receipt  {path}")
    if args.no_wait and sent.doubt is None:
        output.document(asdict(Result(text, "accepted")))
        output.line(f"accepted, not final yet; ask with: nostro payment {text}")
        return Exit.DONE
    result = await settle.wait_final(client, order, args.timeout, started)
    output.document(asdict(result))
    _tell(output, result, sent.doubt, args.timeout)
    return exit_code(result.status)


def _tell(output: Output, result: Result, doubt: str | None, waited: float) -> None:
    if result.status == "unknown":
        why = f" ({doubt})" if doubt else "; too few validators may be running"
        output.error(
            f"nothing is final about {result.uetr} after {waited:.0f} s{why}. It may still be "
            f"executed. Ask with: nostro payment {result.uetr} --wait 60. To try again, give the "
            f"same payment with --uetr {result.uetr}: it is paid once"
        )
        return
    output.line(f"status   {_status(result.status, result.reason)}")
    if result.height is not None and result.index is not None:
        output.line(
            f"block    {result.height}, instruction {result.index[0]}, payment {result.index[1]}"
        )
    if result.settled_at is not None:
        output.line(f"settled  {instant(result.settled_at)}")
    if result.latency_ms is not None:
        output.line(f"latency  {result.latency_ms} ms")


def _status(status: str, reason: str | None) -> str:
    if reason is None:
        return status
    from node.ledger.reasons import sentence  # noqa: PLC0415

    return f"{status}: {reason}, {sentence(reason)}"


# --- a file -------------------------------------------------------------------------------------


async def _pay_file(
    args: argparse.Namespace, output: Output, connection: Connection, client: ApiClient
) -> int:
    from node.cli.payrun import pay_file  # noqa: PLC0415

    return await pay_file(args.file, args.timeout, output, connection, client)


# --- looking ------------------------------------------------------------------------------------


def _payment(args: argparse.Namespace, output: Output) -> int:
    from node.chain.uetr import uetr_text
    from node.cli.orders import read_uetr  # noqa: PLC0415

    uetr = uetr_text(read_uetr(args.uetr))
    return _run(args, output, None, lambda _, client: _show_payment(args, output, client, uetr))


async def _show_payment(
    args: argparse.Namespace, output: Output, client: ApiClient, uetr: str
) -> int:
    from node.cli.orders import Result, exit_code, result_of  # noqa: PLC0415

    view = await _find_payment(client, uetr, args.wait)
    if view is None:
        output.document({**asdict(Result(uetr, "unknown")), "changes": []})
        output.error(
            f"no node knows a final outcome of {uetr}: it was never submitted, or is not final "
            "yet. Wait for it with --wait 60; a payment not final when its validity has passed "
            "(24 hours after nostro pay) will never be"
        )
        return Exit.UNKNOWN
    result = asdict(result_of(view, latency_ms=view.latency_ms))
    money = {"debtor": view.debtor, "creditor": view.creditor, "currency": view.currency}
    output.document({**result, **money, "amount": view.amount, "changes": view.changes})
    output.line(f"uetr     {view.uetr}")
    output.line(f"status   {_status(view.status, view.reason)}")
    if view.amount is not None:
        output.line(f"amount   {view.amount} {view.currency}")
    if view.debtor is not None:
        output.line(f"debtor   {view.debtor}")
    if view.creditor is not None:
        output.line(f"creditor {view.creditor}")
    for change in view.changes:
        output.line(
            f"change   {instant(change.time)}  block {change.height}  {change.status} "
            f"({change.iso_status}{'' if change.reason is None else ' ' + change.reason})"
        )
    return exit_code(view.status)


async def _find_payment(client: ApiClient, uetr: str, wait: float) -> PaymentView | None:
    """Also from the nodes behind the first: that one may lag. Raises CommandError."""
    from node.api.client import ApiClient, ApiError, Unreachable  # noqa: PLC0415
    from node.cli.settle import no_answer  # noqa: PLC0415

    try:
        view = await client.payment(uetr, wait=wait)
        for url in client.urls[1:]:
            if view is not None:
                break
            async with ApiClient([url]) as other:
                try:
                    view = await other.payment(uetr)
                except Unreachable:
                    continue
    except ApiError as error:
        raise no_answer(error) from error
    return view


def _balance(args: argparse.Namespace, output: Output) -> int:
    async def show(_: Connection, client: ApiClient) -> int:
        from node.api.client import ApiError  # noqa: PLC0415
        from node.cli.settle import no_answer  # noqa: PLC0415

        try:
            view = await client.accounts(args.participant)
        except ApiError as error:
            raise no_answer(error) from error
        rows = [
            {
                "participant": b.participant,
                "account": b.account,
                "asset": b.asset,
                "amount": b.amount,
                "available": b.available,
            }
            for b in view.balances
        ]
        output.document({"height": view.height, "balances": rows})
        heads = ("participant", "account", "asset", "amount", "available")
        output.table(
            heads, [tuple(row[head] for head in heads) for row in rows], right="amount available"
        )
        output.line(f"at height {view.height}")
        return Exit.DONE

    return _run(args, output, args.participant, show)
