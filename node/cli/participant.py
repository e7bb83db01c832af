"""A participant's first commands: pay, payment, balance.

The client signs; a node never sees a participant's private key. A single payment's UETR is
printed before anything is sent, so that whoever is cut off can ask for it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.common import (
    TIMEOUT_SECONDS,
    add_asking,
    add_keys,
    ask,
    keys_of,
    now_ms,
    run,
    seconds_option,
    show,
)
from node.cli.errors import CommandError, Exit, usage
from node.cli.instruct import Desk, deliver, open_desk, status_text, tell_result
from node.cli.output import Output, instant
from node.cli.terms import OPTIONAL, REQUIRED, add_money, add_terms, terms_of

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.service import PaymentView
    from node.chain.types import Payment
    from node.cli.connection import Connection
    from node.cli.orders import Order, Result, Terms


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
    add_money(pay, required=False)
    add_terms(pay)
    pay.add_argument(
        "--file",
        metavar="PAYMENTS.csv",
        type=Path,
        help="columns: uetr (may be empty), debtor, creditor, amount, currency, priority",
    )
    pay.add_argument(
        "--all-or-none",
        action="store_true",
        help="with --file: the rows, of one debtor, settle together or not at all",
    )
    pay.add_argument(
        "--dry-run",
        action="store_true",
        help="send nothing; print the payment's UETR and its digest, which a supervisor's consent "
        "names",
    )
    pay.add_argument("--no-wait", action="store_true", help="do not wait for finality")
    pay.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds_option,
        default=TIMEOUT_SECONDS,
        help="how long to wait for finality (default: 30); with --file, without any progress",
    )
    add_keys(pay)
    add_asking(pay)
    pay.set_defaults(handler=_pay)

    payment = subparsers.add_parser("payment", help="show what is final about a payment")
    payment.add_argument("uetr", metavar="UETR")
    payment.add_argument("--wait", metavar="SECONDS", type=seconds_option, default=0.0)
    add_asking(payment)
    payment.set_defaults(handler=_payment)

    balance = subparsers.add_parser("balance", help="show balances")
    balance.add_argument("participant", metavar="PARTICIPANT", nargs="?")
    add_asking(balance)
    balance.set_defaults(handler=_balance)


# --- one payment ----------------------------------------------------------------------------------


def _pay(args: argparse.Namespace, output: Output) -> int:
    args.sender = args.debtor
    if args.file is not None:
        named = (*REQUIRED, *OPTIONAL, "uetr")
        if any(getattr(args, name) is not None for name in named) or args.no_wait or args.dry_run:
            raise usage("with --file, everything about the payments comes from the file")
        return run(args, None, lambda c, client: _pay_file(args, output, c, client))
    if args.all_or_none:
        raise usage("--all-or-none is for the rows of a --file")
    terms = terms_of(args, "pay", " (or --file)")

    async def work(connection: Connection, client: ApiClient) -> int:
        from node.cli.orders import new_uetr, read_uetr  # noqa: PLC0415

        uetr = new_uetr() if args.uetr is None else read_uetr(args.uetr)
        desk = await open_desk(args, output, connection, client)
        return await _send(desk, desk.book.payment(uetr, terms), terms)

    return run(args, args.debtor, work)


async def _send(desk: Desk, payment: Payment, terms: Terms) -> int:
    from node.chain.instruction import payment_digest  # noqa: PLC0415
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import VALIDITY_MS, Result, exit_code, pay_order  # noqa: PLC0415

    args, output, text = desk.args, desk.output, uetr_text(payment.uetr)
    if args.dry_run:
        digest = payment_digest(payment).hex()
        output.document({"uetr": text, "digest": digest})
        output.line(f"uetr     {text}")
        output.line(f"digest   {digest}")
        output.line("nothing was sent; give the same payment with this --uetr to send it")
        return Exit.DONE
    debtor = desk.book.participant(terms.debtor)
    _, keys = keys_of(args, desk.connection, desk.book, debtor)
    order = pay_order(desk.chain_id, [payment], now_ms() + VALIDITY_MS, keys)
    # Before sending: whoever is cut off from here on can ask for it, or try again with it.
    (output.note if args.json else output.line)(f"uetr     {text}")
    started = time.monotonic()
    try:
        doubt = await deliver(desk, order, text)
    except CommandError as error:
        status = "unknown" if error.code == Exit.UNKNOWN else "refused"
        output.document(asdict(Result(text, status)))
        raise
    if args.no_wait and doubt is None:
        output.document(asdict(Result(text, "accepted")))
        output.line(f"accepted, not final yet; ask with: nostro payment {text}")
        return Exit.DONE
    result = await _wait(desk.client, order, args.timeout, started)
    output.document(asdict(result))
    tell_result(output, result, doubt, args.timeout)
    return exit_code(result.status)


async def _wait(client: ApiClient, order: Order, seconds: float, started: float) -> Result:
    """The payment's outcome; also a rejection that does not use up its UETR, and so is known under
    the instruction's id alone."""
    from node.api.client import ApiError  # noqa: PLC0415
    from node.cli import settle  # noqa: PLC0415
    from node.cli.orders import Result  # noqa: PLC0415

    result = await settle.wait_final(client, order, seconds, started)
    if result.status != "unknown":
        return result
    try:
        view = await client.instruction(order.sender, order.id)
    except ApiError:
        return result
    if view is None or view.status != "rejected":
        return result
    return Result(result.uetr, "rejected", view.reason, view.height, (view.index, 0))


# --- a file ---------------------------------------------------------------------------------------


async def _pay_file(
    args: argparse.Namespace, output: Output, connection: Connection, client: ApiClient
) -> int:
    from node.cli.payrun import pay_file  # noqa: PLC0415

    return await pay_file(args, output, connection, client)


# --- looking --------------------------------------------------------------------------------------


def _payment(args: argparse.Namespace, output: Output) -> int:
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    uetr = uetr_text(read_uetr(args.uetr))
    return run(args, None, lambda _, client: _show_payment(args, output, client, uetr))


async def _show_payment(
    args: argparse.Namespace, output: Output, client: ApiClient, uetr: str
) -> int:
    from node.cli.instruct import find_payment  # noqa: PLC0415
    from node.cli.orders import Result, exit_code, result_of  # noqa: PLC0415

    view = await ask(lambda: client.payment(uetr, wait=args.wait)) if args.wait else None
    view = view or await find_payment(client, uetr)
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
    _tell_payment(output, view)
    return exit_code(view.status)


def _tell_payment(output: Output, view: PaymentView) -> None:
    output.line(f"uetr     {view.uetr}")
    output.line(f"status   {status_text(view.status, view.reason)}")
    if view.amount is not None:
        output.line(f"amount   {view.amount} {view.currency}")
    if view.debtor is not None:
        output.line(f"debtor   {view.debtor}")
    if view.creditor is not None:
        output.line(f"creditor {view.creditor}")
    for change in view.changes:
        why = "" if change.reason is None else f" {change.reason}"
        what = "" if change.event is None else f"  {change.event['kind']}"
        output.line(
            f"change   {instant(change.time)}  block {change.height}  {change.status} "
            f"({change.iso_status}{why}){what}"
        )
        if change.preimage is not None:
            output.line(f"preimage {change.preimage}")


def _balance(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        view = await client.accounts(args.participant)
        fields = ("participant", "account", "asset", "amount", "available")
        rows = [{name: getattr(b, name) for name in fields} for b in view.balances]
        output.document({"height": view.height, "balances": rows})
        heads = (*fields, "reserved", "line")
        output.table(
            heads,
            [tuple(getattr(b, head) for head in heads) for b in view.balances],
            right="amount available reserved line",
        )
        output.line(f"at height {view.height}")
        return Exit.DONE

    return show(args, args.participant, tell)
