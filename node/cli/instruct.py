"""Sending one instruction and telling what became of it: the way of every command but `pay`.

What names the order is printed before it is sent: its UETR if it has one of its own, else a
reference, from which, with what is ordered, its id follows. Whoever is cut off repeats the command
with that `--uetr` or `--reference`: it executes once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node.cli.common import add_signing, keys_of, now_ms, run
from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.governance import InstructionView
    from node.api.service import ParametersView, ParticipantView, PaymentView
    from node.chain.types import InstructionBody
    from node.cli.connection import Connection
    from node.cli.orders import Book, Order

MAX_REFERENCE = 64
"""Characters of a reference."""
REFERENCE_HEX = 16
"""Hexadecimal digits of one that is drawn."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with once a node answered."""

    args: argparse.Namespace
    output: Output
    connection: Connection
    client: ApiClient
    book: Book
    chain_id: bytes
    parameters: ParametersView | None = None
    """In force now; only commands that need them ask."""

    def sender(self, lei: str | None = None) -> ParticipantView | None:
        """Who signs: `--from`, else the participant that the command knows by its LEI."""
        if self.args.sender is not None:
            return self.book.participant(self.args.sender)
        if self.args.keystores or self.connection.keystores or lei is None:
            return None
        return self.book.participant(lei)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be ordered, before anybody signed it."""

    body: InstructionBody
    sender: ParticipantView | None
    """None: the keystores say it."""
    said: tuple[str, ...] = ()
    """Lines for people, printed before it is sent."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of an order that has no UETR of its own; the document of `--json`."""

    reference: str
    id: str
    sender: str
    status: str
    """`done`, `rejected`, `refused`, `accepted` or `unknown`; or what a payment became by it."""
    reason: str | None = None
    height: int | None = None


Make = Callable[[Desk], Awaitable[Draft]]
"""What a command adds: the body, from its options and from what the ledger says."""
After = Callable[[Desk, Reported], Awaitable[dict[str, Any]]]
"""What it tells beyond the outcome: lines for people, and fields of the document."""


def add_order(parser: argparse.ArgumentParser, *, sender: str | None = None) -> None:
    """The options of a command that sends one instruction."""
    if sender is None:
        add_signing(parser)
    else:
        add_signing(parser, sender=sender)
    parser.add_argument("--no-wait", action="store_true", help="do not wait for finality")


def add_reference(parser: argparse.ArgumentParser) -> None:
    """The option that names an order without a UETR of its own."""
    parser.add_argument(
        "--reference",
        metavar="TEXT",
        type=_reference,
        help="your own name for this order; the same order under the same reference executes once "
        "(default: a new one)",
    )


def _reference(text: str) -> str:
    if not (0 < len(text) <= MAX_REFERENCE and text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError(
            f"a reference has 1 to {MAX_REFERENCE} printable ASCII characters"
        )
    return text


# --- orders without a UETR ------------------------------------------------------------------------


def order(
    args: argparse.Namespace,
    output: Output,
    make: Make,
    after: After | None = None,
) -> int:
    """Run a command whose instruction has no UETR of its own."""

    async def work(connection: Connection, client: ApiClient) -> int:
        desk = await open_desk(args, output, connection, client)
        return await _plain(desk, await make(desk), after)

    return run(args, args.sender, work)


async def open_desk(
    args: argparse.Namespace, output: Output, connection: Connection, client: ApiClient
) -> Desk:
    """Raises CommandError where no node answers, or one of another chain does."""
    from node.cli import settle  # noqa: PLC0415

    chain_id = await settle.agreed_chain(client, connection.chain_id)
    return Desk(args, output, connection, client, await settle.load_book(client), chain_id)


async def _plain(desk: Desk, draft: Draft, after: After | None) -> int:
    from node.cli.orders import VALIDITY_MS, plain_order  # noqa: PLC0415

    args, output = desk.args, desk.output
    sender, keys = keys_of(args, desk.connection, desk.book, draft.sender)
    reference: str = args.reference or _new_reference()
    made = plain_order(
        desk.chain_id,
        sender.lei,
        draft.body,
        now_ms() + VALIDITY_MS,
        keys,
        reference=reference,
    )
    _check(made)
    tell = output.note if output.as_json else output.line
    tell(f"reference {reference}")
    for line in draft.said:
        tell(line)
    doubt = await deliver(desk, made, reference)
    if args.no_wait and doubt is None:
        report = Reported(reference, made.id, sender.lei, "accepted")
        output.document(_fields(report))
        output.line(
            "accepted, not final yet; run the same command again with --reference "
            f"{reference} to see what became of it: it executes once"
        )
        return Exit.DONE
    report = await _final(desk, made, reference)
    return await _report(desk, report, doubt, after)


async def _final(desk: Desk, made: Order, reference: str) -> Reported:
    view = await outcome(desk.client, made, desk.args.timeout)
    if view is None:
        return Reported(reference, made.id, made.sender, "unknown")
    return Reported(reference, made.id, made.sender, view.status, view.reason, view.height)


async def _report(desk: Desk, report: Reported, doubt: str | None, after: After | None) -> int:
    from node.cli.orders import exit_code  # noqa: PLC0415

    output = desk.output
    if report.status == "unknown":
        output.document(_fields(report))
        why = f" ({doubt})" if doubt else "; too few validators may be running"
        output.error(
            f"nothing is final after {desk.args.timeout:.0f} s{why}. It may still be executed. Run "
            f"the same command again with --reference {report.reference}: it executes once"
        )
        return Exit.UNKNOWN
    if report.status == "rejected":
        output.document(_fields(report))
        output.line(f"status    {status_text(report.status, report.reason)}")
        return Exit.REFUSED
    output.line(f"status    done in block {report.height}")
    more = await _follow_up(desk, report, after)
    done = _fields(report) | {"status": "done"} | more
    output.document(done)
    status = done["status"]
    return Exit.DONE if status == "done" else exit_code(str(status))


async def _follow_up(desk: Desk, report: Reported, after: After | None) -> dict[str, Any]:
    """What more there is to tell. The order is final, whether or not a node still answers."""
    try:
        return {} if after is None else await after(desk, report)
    except CommandError as error:
        desk.output.note(f"nostro: the order is done; what came of it is not known: {error}")
        return {}


def _fields(report: Reported) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415

    return asdict(report)


def _new_reference() -> str:
    import secrets  # noqa: PLC0415

    return secrets.token_hex(REFERENCE_HEX // 2)


def _check(made: Order) -> None:
    """A node would say no more than that the whole is malformed."""
    from node.chain.instruction import InstructionRefused, parse_instruction  # noqa: PLC0415

    try:
        parse_instruction(made.raw)
    except InstructionRefused as error:
        raise CommandError(f"a node would refuse this order: {error}") from error


def status_text(status: str, reason: str | None) -> str:
    """A status for people, with the sentence of its reason."""
    if reason is None:
        return status
    from node.ledger.reasons import sentence  # noqa: PLC0415

    return f"{status}: {reason}, {sentence(reason)}"


# --- orders with a UETR of their own --------------------------------------------------------------

MakeMoving = Callable[[Desk, bytes], Awaitable[Draft]]
"""The body, from the options and its UETR."""


def moving(args: argparse.Namespace, output: Output, make: MakeMoving) -> int:
    """Run a command whose instruction has a UETR of its own (issue, redeem, move, reserve,
    return)."""

    async def work(connection: Connection, client: ApiClient) -> int:
        from node.cli.orders import new_uetr, read_uetr  # noqa: PLC0415

        uetr = new_uetr() if args.uetr is None else read_uetr(args.uetr)
        desk = await open_desk(args, output, connection, client)
        return await _moving(desk, uetr, await make(desk, uetr))

    return run(args, args.sender, work)


async def _moving(desk: Desk, uetr: bytes, draft: Draft) -> int:
    from dataclasses import asdict  # noqa: PLC0415

    from node.chain.types import Issue, MoveOwn, Redeem, Reserve, Return  # noqa: PLC0415
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import VALIDITY_MS, Result, exit_code, moving_order  # noqa: PLC0415

    args, output, text = desk.args, desk.output, uetr_text(uetr)
    assert isinstance(draft.body, Issue | Redeem | MoveOwn | Reserve | Return)
    sender, keys = keys_of(args, desk.connection, desk.book, draft.sender)
    made = moving_order(desk.chain_id, sender.lei, draft.body, now_ms() + VALIDITY_MS, keys)
    _check(made)
    tell = output.note if output.as_json else output.line
    # Before sending: whoever is cut off from here on can ask for it, or try again with it.
    tell(f"uetr     {text}")
    for line in draft.said:
        tell(line)
    started = time.monotonic()
    try:
        doubt = await deliver(desk, made, text)
    except CommandError as error:
        status = "unknown" if error.code == Exit.UNKNOWN else "refused"
        output.document(asdict(Result(text, status)))
        raise
    if args.no_wait and doubt is None:
        output.document(asdict(Result(text, "accepted")))
        output.line(f"accepted, not final yet; ask with: nostro payment {text}")
        return Exit.DONE
    view = await outcome(desk.client, made, args.timeout)
    result = await _result(desk, made, text, view, round((time.monotonic() - started) * 1000))
    output.document(asdict(result))
    tell_result(output, result, doubt, args.timeout)
    return exit_code(result.status)


async def _result(
    desk: Desk, made: Order, uetr: str, view: InstructionView | None, latency_ms: int
) -> Any:
    """What our own instruction became: a rejection of it stands, whatever another payment under
    the UETR became."""
    from node.cli.orders import Result, result_of  # noqa: PLC0415

    if view is None:
        return Result(uetr, "unknown")
    index = (view.index, 0)
    if view.status == "rejected":
        return Result(uetr, "rejected", view.reason, view.height, index, latency_ms=latency_ms)
    found: PaymentView | None = None
    try:
        found = await find_payment(desk.client, uetr)
    except CommandError as error:
        desk.output.note(f"nostro: the order is done; where it stands now is not known: {error}")
    if found is None:
        return Result(uetr, view.status, view.reason, view.height, index, latency_ms=latency_ms)
    return result_of(found, latency_ms=latency_ms)


def tell_result(output: Output, result: Any, doubt: str | None, waited: float) -> None:
    """What became of a payment, for people."""
    from node.cli.output import instant  # noqa: PLC0415

    if result.status == "unknown":
        why = f" ({doubt})" if doubt else "; too few validators may be running"
        output.error(
            f"nothing is final about {result.uetr} after {waited:.0f} s{why}. It may still be "
            f"executed. Ask with: nostro payment {result.uetr} --wait 60. To try again, give the "
            f"same payment with --uetr {result.uetr}: it is paid once"
        )
        return
    output.line(f"status   {status_text(result.status, result.reason)}")
    if result.height is not None and result.index is not None:
        output.line(
            f"block    {result.height}, instruction {result.index[0]}, payment {result.index[1]}"
        )
    if result.settled_at is not None:
        output.line(f"settled  {instant(result.settled_at)}")
    if result.latency_ms is not None:
        output.line(f"latency  {result.latency_ms} ms")


# --- sending and waiting --------------------------------------------------------------------------


async def deliver(desk: Desk, made: Order, name: str) -> str | None:
    """Send an order and keep the node's receipt under this name; None, or why it is not known
    whether a node has it. Raises CommandError if it certainly was not taken in."""
    from node.cli import settle  # noqa: PLC0415
    from node.cli.receipts import keep_receipt  # noqa: PLC0415

    sent = await settle.submit(desk.client, made)
    if sent.receipt is not None:
        path = keep_receipt(
            sent.receipt,
            made.raw,
            desk.chain_id,
            directory=desk.connection.receipts,
            name=name if "/" not in name else made.id,
            output=desk.output,
        )
        if path is not None:
            desk.output.line(f"receipt  {path}")
    return sent.doubt


async def outcome(client: ApiClient, made: Order, seconds: float) -> InstructionView | None:
    """What became of an order, once it is final; None if nothing is after so many seconds.

    Its id follows from its content, so whatever is under the id is it."""
    from node.api.client import ApiError  # noqa: PLC0415

    try:
        return await client.instruction(made.sender, made.id, wait=seconds)
    except ApiError:
        return None


async def find_payment(client: ApiClient, uetr: str) -> PaymentView | None:
    """What is final about a payment, of the first node that knows it: the first may lag."""
    from node.api.client import ApiClient, ApiError, Unreachable  # noqa: PLC0415
    from node.cli.settle import no_answer  # noqa: PLC0415

    try:
        view = await client.payment(uetr)
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


async def known_payment(desk: Desk, text: str) -> PaymentView:
    """The payment that a UETR on the command line names. Raises CommandError."""
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    uetr = uetr_text(read_uetr(text))
    view = await find_payment(desk.client, uetr)
    if view is None:
        raise CommandError(
            f"no node knows a final outcome of {uetr}; wait for it with: nostro payment {uetr} "
            "--wait 60"
        )
    return view


def one_of(args: argparse.Namespace, *names: str) -> str:
    """The one of these options that is given. Raises usage."""
    given = [name for name in names if getattr(args, name) not in (None, False)]
    if len(given) != 1:
        flags = [f"--{name.replace('_', '-')}" for name in names]
        raise usage(f"give one of {', '.join(flags)}" + (", not several" if given else ""))
    return given[0]
