"""Governing the ledger: propose, approve, proposals, validators.

A proposal is decided by operators' keys, not by nodes: the client signs with one keystore, or with
several where a participant's instructions need more than one signature. The id of a proposal is
printed before it is sent; whoever approves compares what `nostro proposals` shows under it with
what was agreed on, since that id is what the approval signs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from node.cli.changes import Wanted, add_changes, read_changes
from node.cli.common import (
    add_asking,
    add_signing,
    ask,
    duration_option,
    keys_of,
    now_ms,
    run,
    show,
)
from node.cli.errors import CommandError, Exit, usage
from node.cli.instruct import Desk, deliver, open_desk, outcome, status_text
from node.cli.output import Output, instant

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.governance import InstructionView, ProposalView, ValidatorView
    from node.api.service import ParticipantView
    from node.cli.connection import Connection
    from node.cli.orders import Order
    from node.storage.keystore import Keystore

DEFAULT_EXPIRES = "7d"
MAX_SHOWN = 200
"""Characters of a change's field shown to people."""


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    propose = subparsers.add_parser(
        "propose",
        help="propose changes of the ledger's validators, participants and rules (operator)",
        description="Propose one or more changes, or with --new-epoch only fresh vote keys. The "
        "proposal's own signatures approve it; other operators add theirs with nostro approve.",
    )
    add_changes(propose)
    propose.add_argument(
        "--new-epoch", action="store_true", help="the same validators with fresh vote keys"
    )
    propose.add_argument(
        "--expires",
        metavar="DURATION",
        type=duration_option,
        default=duration_option(DEFAULT_EXPIRES),
        help="how long it may be approved, such as 90m, 12h or 7d (default: 7d; at most 30d)",
    )
    add_signing(propose)
    propose.set_defaults(handler=_propose)

    approve = subparsers.add_parser("approve", help="approve a proposal (operator)")
    approve.add_argument("proposal", metavar="PROPOSAL", help="its id, 64 hexadecimal digits")
    add_signing(approve)
    approve.set_defaults(handler=_approve)

    for name, help, handler in (
        ("proposals", "show open proposals and who approved them", _proposals),
        ("validators", "show the validators, and the next epoch's if one is pending", _validators),
    ):
        parser = subparsers.add_parser(name, help=help)
        add_asking(parser)
        parser.set_defaults(handler=handler)


# --- sending ------------------------------------------------------------------------------------


def _propose(args: argparse.Namespace, output: Output) -> int:
    wanted: list[Wanted] = args.changes or []
    if bool(wanted) == args.new_epoch:
        raise usage("propose needs changes (see nostro propose --help), or --new-epoch alone")

    async def work(connection: Connection, client: ApiClient) -> int:
        from node.chain.types import Propose  # noqa: PLC0415

        desk = await open_desk(args, output, connection, client)
        sender, keys = _operator(desk)
        desk = replace(desk, parameters=await ask(client.parameters))
        body = Propose(tuple(read_changes(desk, wanted)), now_ms() + args.expires)
        order = _order(desk, sender, body, "", keys)
        proposal = _digest(order)
        (output.note if args.json else output.line)(f"proposal  {proposal}")
        return await _send(desk, order, proposal)

    return run(args, args.sender, work)


def _approve(args: argparse.Namespace, output: Output) -> int:
    try:
        proposal = bytes.fromhex(args.proposal)
    except ValueError:
        proposal = b""
    if len(proposal) != 32 or args.proposal != proposal.hex():
        raise usage(f"{args.proposal!r} is no id of a proposal: 64 lower-case hexadecimal digits")

    async def work(connection: Connection, client: ApiClient) -> int:
        from node.chain.types import Approve  # noqa: PLC0415

        desk = await open_desk(args, output, connection, client)
        sender, keys = _operator(desk)
        # A key that is added later approves by an instruction of its own.
        order = _order(desk, sender, Approve(proposal), str(now_ms()), keys)
        return await _send(desk, order, args.proposal)

    return run(args, args.sender, work)


def _operator(desk: Desk) -> tuple[ParticipantView, list[Keystore]]:
    """Who signs. Raises CommandError unless it is an operator."""
    operators = ", ".join(p.name for p in desk.book.participants if "operator" in p.roles)
    if desk.sender() is None and not (desk.args.keystores or desk.connection.keystores):
        raise usage(f"say who signs with --from PARTICIPANT; operators are {operators}")
    sender, keys = keys_of(desk.args, desk.connection, desk.book, desk.sender())
    if "operator" not in sender.roles:
        raise CommandError(
            f"{sender.name} is no operator; only these propose and approve: {operators}"
        )
    return sender, keys


def _order(
    desk: Desk, sender: ParticipantView, body: Any, reference: str, keys: list[Keystore]
) -> Order:
    from node.cli.orders import VALIDITY_MS, plain_order  # noqa: PLC0415

    valid_until = now_ms() + VALIDITY_MS
    return plain_order(desk.chain_id, sender.lei, body, valid_until, keys, reference=reference)


def _digest(order: Order) -> str:
    from node.chain.instruction import InstructionRefused, parse_instruction  # noqa: PLC0415

    try:
        return parse_instruction(order.raw).digest.hex()
    except InstructionRefused as error:
        raise CommandError(f"a node would refuse this proposal: {error}") from error


async def _send(desk: Desk, order: Order, proposal: str) -> int:
    """Submit and wait for the outcome; then say where the proposal stands."""
    args, output = desk.args, desk.output
    await deliver(desk, order, order.id)
    view = await outcome(desk.client, order, args.timeout)
    document: dict[str, Any] = {
        "proposal": proposal,
        "status": "unknown",
        "reason": None,
        "height": None,
        "approved": None,
        "needed": None,
    }
    if view is None:
        output.document(document)
        output.error(
            f"nothing is final after {args.timeout:.0f} s; it may still be executed. See where the "
            "proposal stands with: nostro proposals"
        )
        return Exit.UNKNOWN
    document |= {"reason": view.reason, "height": view.height}
    if view.status == "rejected":
        output.document(document | {"status": "rejected"})
        output.line(f"status    {status_text('rejected', view.reason)}")
        return Exit.REFUSED
    return await _standing(desk, view, proposal, document)


async def _standing(
    desk: Desk, view: InstructionView, proposal: str, document: dict[str, Any]
) -> int:
    from node.api.client import ApiError  # noqa: PLC0415

    output = desk.output
    try:
        still = {each.id: each for each in await desk.client.proposals()}.get(proposal)
    except ApiError as error:
        output.document(document | {"status": "done"})
        output.line(f"status    done in block {view.height}; where it stands is unknown ({error})")
        return Exit.DONE
    if still is None:
        output.document(document | {"status": "approved"})
        output.line(f"status    approved in block {view.height}, and in force from the next on")
        return Exit.DONE
    counts = {"approved": still.approved, "needed": still.needed}
    output.document(document | {"status": "open"} | counts)
    output.line(f"status    open: {still.approved} of {still.needed} approvals")
    output.line(f"          the next operator runs: nostro approve {proposal}")
    return Exit.DONE


# --- looking ------------------------------------------------------------------------------------


def _proposals(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        found = await client.proposals()
        output.document({"proposals": found})
        if not found:
            output.line("no proposal is open")
        for proposal in found:
            _show_proposal(output, proposal)
        return Exit.DONE

    return show(args, None, tell)


def _show_proposal(output: Output, proposal: ProposalView) -> None:
    output.line(f"proposal  {proposal.id}")
    output.line(f"  by      {proposal.proposer_name}, until {instant(proposal.expires)}")
    for change in proposal.changes:
        output.line(f"  {change.kind:<7} {change.name}" + _keys(change.validator))
        for name, value in (change.detail or {}).items():
            output.line(f"          {name.replace('_', ' ')}: {_short(value)}")
    if not proposal.changes:
        output.line("  a new epoch of the same validators with fresh vote keys")
    names = ", ".join(
        each.participant + ("" if each.counts else " (key no longer valid)")
        for each in proposal.approvals
    )
    output.line(f"  {proposal.approved} of {proposal.needed} approvals: {names}")


def _keys(validator: ValidatorView | None) -> str:
    if validator is None:
        return ""
    at = f" at {validator.address}" if validator.address else ""
    return (
        f" of {validator.operator_name}{at}\n"
        f"          vote key {validator.vote_key}\n"
        f"          node key {validator.node_key}"
    )


def _short(value: Any) -> str:
    """A field of a change for people; whole with --json."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _validators(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        view = await client.validators()
        output.document(view)
        output.line(f"epoch {view.epoch}, {len(view.validators)} validators, quorum {view.quorum}")
        rows = [
            (str(index), each.name, each.operator_name, each.address or "-", each.vote_key)
            for index, each in enumerate(view.validators)
        ]
        output.table(("index", "name", "operator", "address", "vote key"), rows)
        pending = view.pending
        if pending is not None:
            output.line(
                f"epoch {pending.epoch} is pending: {pending.ready} of {len(pending.members)} "
                f"ready; from {instant(pending.deadline)} on {pending.quorum} are enough"
            )
            members = [
                (m.validator.name, m.validator.operator_name, "ready" if m.ready else "not ready")
                for m in pending.members
            ]
            output.table(("name", "operator", "state"), members)
        output.line(f"at height {view.height}")
        return Exit.DONE

    return show(args, None, tell)
