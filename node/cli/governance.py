"""Governing the validators: propose, approve, proposals, validators.

A proposal is decided by operators' keys, not by nodes: the client signs with one keystore, or with
several where a participant's instructions need more than one signature. The id of a proposal is
printed before it is sent; whoever approves compares what `nostro proposals` shows under it with
what was agreed on, since that id is what the approval signs.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output, instant

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.governance import InstructionView, ProposalView, ValidatorView
    from node.api.service import ParticipantView
    from node.chain.types import ValidatorChange
    from node.cli.connection import Connection
    from node.storage.keystore import Keystore

TIMEOUT_SECONDS = 30.0
LOOK_SECONDS = 0.1
"""Between two looks for the outcome: no long poll tells of what is no payment."""
DEFAULT_EXPIRES = "7d"
UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    propose = subparsers.add_parser(
        "propose",
        help="propose another validator set (operator)",
        description="Propose a change of the validators, or with --new-epoch only fresh vote keys. "
        "The proposal's own signatures approve it; other operators add theirs with "
        "nostro approve. FILE.json is the candidate.json that nostro init --join made.",
    )
    for flag, help in (
        ("--add", "a new validator; may be repeated"),
        ("--rekey", "new keys and address for the validator of the same name; may be repeated"),
    ):
        propose.add_argument(flag, metavar="FILE.json", type=Path, action="append", help=help)
    propose.add_argument(
        "--remove", metavar="NAME", action="append", help="a validator leaves; may be repeated"
    )
    propose.add_argument(
        "--new-epoch", action="store_true", help="the same validators with fresh vote keys"
    )
    propose.add_argument(
        "--expires",
        metavar="DURATION",
        type=_duration,
        default=_duration(DEFAULT_EXPIRES),
        help="how long it may be approved, such as 90m, 12h or 7d (default: 7d; at most 30d)",
    )
    _add_signing(propose)
    propose.set_defaults(handler=_propose)

    approve = subparsers.add_parser("approve", help="approve a proposal (operator)")
    approve.add_argument("proposal", metavar="PROPOSAL", help="its id, 64 hexadecimal digits")
    _add_signing(approve)
    approve.set_defaults(handler=_approve)

    for name, help, handler in (
        ("proposals", "show open proposals and who approved them", _proposals),
        ("validators", "show the validators, and the next epoch's if one is pending", _validators),
    ):
        parser = subparsers.add_parser(name, help=help)
        _add_asking(parser)
        parser.set_defaults(handler=handler)


def _add_asking(parser: argparse.ArgumentParser) -> None:
    from node.cli.connection import add_options  # noqa: PLC0415

    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_options(parser, signs=False)


def _add_signing(parser: argparse.ArgumentParser) -> None:
    from node.cli.participant import seconds_option  # noqa: PLC0415

    parser.add_argument(
        "--from", dest="sender", metavar="PARTICIPANT", help="who signs; a keystore says it itself"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds_option,
        default=TIMEOUT_SECONDS,
        help="how long to wait for finality (default: 30)",
    )
    parser.add_argument(
        "--keystore",
        dest="keystores",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a key that signs; repeat it where several must",
    )
    parser.add_argument(
        "--passphrase-file",
        dest="passphrase_files",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="holds the keys' passphrase; repeat it if each has its own",
    )
    _add_asking(parser)


def _duration(text: str) -> int:
    """Milliseconds."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) <= 6 and unit in UNITS_MS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90m, 12h or 7d")
    return int(number) * UNITS_MS[unit]


# --- who signs ----------------------------------------------------------------------------------


def _signers(
    args: argparse.Namespace, connection: Connection, participants: Sequence[ParticipantView]
) -> tuple[ParticipantView, list[Keystore]]:
    """The participant that sends, and its opened keys. Raises CommandError, KeystoreError."""
    from node.cli.connection import open_key  # noqa: PLC0415
    from node.cli.orders import Book  # noqa: PLC0415

    book = Book(participants, ())
    sender = None if args.sender is None else book.participant(args.sender)
    paths: list[Path] = args.keystores
    if not paths:
        if sender is None:
            operators = ", ".join(p.name for p in participants if "operator" in p.roles)
            raise usage(f"say who signs with --from PARTICIPANT; operators are {operators}")
        paths = [connection.keystore_path(sender)]
    files: list[Path] = args.passphrase_files
    if len(files) not in (0, 1, len(paths)):
        raise usage(f"{len(files)} passphrase files for {len(paths)} keystores: give one, or each")
    keys = []
    for number, path in enumerate(paths):
        file = files[number % len(files)] if files else connection.passphrase_file
        keys.append(open_key(path, file))
        owner = book.participant(keys[-1].lei)
        sender = sender or owner
        if owner.lei != sender.lei:
            raise CommandError(f"the keystore {path} is of {owner.name}, not of {sender.name}")
    assert sender is not None
    if len({key.public_key for key in keys}) != len(keys):
        raise usage("two of the keystores hold the same key")
    if len(keys) < sender.threshold:
        raise CommandError(
            f"{sender.name} signs with {sender.threshold} keys, {len(keys)} given; give --keystore "
            "once for each"
        )
    if "operator" not in sender.roles:
        raise CommandError(
            f"{sender.name} is no operator; only these propose and approve: "
            + ", ".join(p.name for p in participants if "operator" in p.roles)
        )
    return sender, keys


# --- sending ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Order:
    """A signed instruction."""

    sender: str
    id: str
    raw: bytes
    digest: bytes


def _propose(args: argparse.Namespace, output: Output) -> int:
    named = [*(args.add or ()), *(args.rekey or ()), *(args.remove or ())]
    if bool(named) == args.new_epoch:
        raise usage("propose needs changes (--add, --remove, --rekey), or --new-epoch alone")

    async def run(connection: Connection, client: ApiClient) -> int:
        from node.chain.build import build_propose

        chain_id, sender, keys = await _prepare(args, connection, client)
        changes = _changes(args, chain_id)
        now = time.time_ns() // 1_000_000
        expires = now + args.expires
        raw = build_propose(
            chain_id,
            sender.lei,
            _id("prp", changes, expires),
            _valid_until(now),
            changes=changes,
            expires=expires,
            signers=keys,
        )
        order = _order(raw)
        (output.note if args.json else output.line)(f"proposal  {order.digest.hex()}")
        return await _send(args, output, client, order, order.digest)

    return _run(args, run)


def _approve(args: argparse.Namespace, output: Output) -> int:
    try:
        proposal = bytes.fromhex(args.proposal)
    except ValueError:
        proposal = b""
    if len(proposal) != 32 or args.proposal != proposal.hex():
        raise usage(f"{args.proposal!r} is no id of a proposal: 64 lower-case hexadecimal digits")

    async def run(connection: Connection, client: ApiClient) -> int:
        from node.chain.build import build_approve

        chain_id, sender, keys = await _prepare(args, connection, client)
        now = time.time_ns() // 1_000_000
        raw = build_approve(
            chain_id,
            sender.lei,
            _id("apr", proposal, sorted(key.public_key for key in keys), now),
            _valid_until(now),
            proposal=proposal,
            signers=keys,
        )
        return await _send(args, output, client, _order(raw), proposal)

    return _run(args, run)


def _run(args: argparse.Namespace, work: Callable[[Connection, ApiClient], Awaitable[int]]) -> int:
    from node.api.client import ApiClient  # noqa: PLC0415
    from node.cli.connection import connect  # noqa: PLC0415

    connection = connect(args)
    keystores: list[Path] = getattr(args, "keystores", [])
    if keystores and connection.devnet:
        raise usage("--devnet knows its keystores; leave --keystore out or use --api")

    async def run() -> int:
        async with ApiClient(connection.urls(getattr(args, "sender", None))) as client:
            return await work(connection, client)

    return asyncio.run(run())


async def _prepare(
    args: argparse.Namespace, connection: Connection, client: ApiClient
) -> tuple[bytes, ParticipantView, list[Keystore]]:
    from node.cli.settle import agreed_chain, load_book  # noqa: PLC0415

    chain_id = await agreed_chain(client, connection.chain_id)
    book = await load_book(client)
    sender, keys = _signers(args, connection, book.participants)
    return chain_id, sender, keys


def _changes(args: argparse.Namespace, chain_id: bytes) -> list[ValidatorChange]:
    from node.chain.types import AddValidator, RekeyValidator, RemoveValidator  # noqa: PLC0415

    changes: list[ValidatorChange] = [RemoveValidator(name) for name in args.remove or ()]
    changes += [RekeyValidator(*_candidate(path, chain_id)) for path in args.rekey or ()]
    changes += [AddValidator(*_candidate(path, chain_id)) for path in args.add or ()]
    return changes


def _candidate(path: Path, chain_id: bytes) -> tuple[Any, bytes, bytes]:
    """(validator, possession of its vote key, of its node key). Raises CommandError."""
    from node.chain.encoding import Malformed, decode, encode  # noqa: PLC0415
    from node.chain.types import AddValidator, Validator  # noqa: PLC0415
    from node.cli.joining import read_candidate  # noqa: PLC0415

    record = read_candidate(path)
    if record.chain_id != chain_id.hex():
        raise CommandError(
            f"{path} was made for chain {record.chain_id}, this one is {chain_id.hex()}; its "
            "operator must make a new one"
        )
    found = record.validator
    try:
        change = AddValidator(
            Validator(
                found.name,
                found.operator,
                bytes.fromhex(found.vote_key),
                bytes.fromhex(found.node_key),
                found.address,
            ),
            bytes.fromhex(record.vote_possession),
            bytes.fromhex(record.node_possession),
        )
        # The node would only say that the whole proposal is malformed.
        decode(encode(change), AddValidator)
    except (ValueError, Malformed) as error:
        raise CommandError(f"{path} is not a candidate's record: {error}") from error
    return change.validator, change.vote_possession, change.node_possession


def _id(prefix: str, *content: object) -> str:
    from node.chain.encoding import encode  # noqa: PLC0415
    from node.cli.orders import client_id  # noqa: PLC0415

    return client_id(prefix, encode(content))


def _valid_until(now: int) -> int:
    from node.cli.orders import VALIDITY_MS  # noqa: PLC0415

    return now + VALIDITY_MS


def _order(raw: bytes) -> _Order:
    from node.chain.instruction import InstructionRefused, parse_instruction  # noqa: PLC0415

    try:
        parsed = parse_instruction(raw)
    except InstructionRefused as error:
        raise CommandError(f"a node would refuse this proposal: {error}") from error
    envelope = parsed.instruction.envelope
    return _Order(envelope.sender, envelope.id, raw, parsed.digest)


async def _send(
    args: argparse.Namespace,
    output: Output,
    client: ApiClient,
    order: _Order,
    proposal: bytes,
) -> int:
    """Submit and wait for the outcome; then say where the proposal stands."""
    from node.api.client import ApiError  # noqa: PLC0415
    from node.cli import settle  # noqa: PLC0415
    from node.cli.orders import Order  # noqa: PLC0415

    await settle.submit(client, Order(order.id, order.raw, (), ()))
    view = await _outcome(client, order, args.timeout)
    document: dict[str, Any] = {
        "proposal": proposal.hex(),
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
        from node.ledger.reasons import sentence  # noqa: PLC0415

        output.document(document | {"status": "rejected"})
        output.line(f"status    rejected: {view.reason}, {sentence(view.reason or '')}")
        return Exit.REFUSED
    try:
        still = {each.id: each for each in await client.proposals()}.get(proposal.hex())
    except ApiError as error:
        output.document(document | {"status": "done"})
        output.line(f"status    done in block {view.height}; where it stands is unknown ({error})")
        return Exit.DONE
    if still is None:
        output.document(document | {"status": "approved"})
        output.line(f"status    approved in block {view.height}; nostro validators shows what next")
        return Exit.DONE
    counts = {"approved": still.approved, "needed": still.needed}
    output.document(document | {"status": "open"} | counts)
    output.line(f"status    open: {still.approved} of {still.needed} approvals")
    output.line(f"          the next operator runs: nostro approve {proposal.hex()}")
    return Exit.DONE


async def _outcome(client: ApiClient, order: _Order, seconds: float) -> InstructionView | None:
    """Its outcome, once it is final; None after so many seconds."""
    from node.api.client import ApiError  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            view = await client.instruction(order.sender, order.id)
        except ApiError:
            view = None
        if view is not None and view.digest == order.digest.hex():
            return view
        if loop.time() >= deadline:
            return None
        await asyncio.sleep(LOOK_SECONDS)


# --- looking ------------------------------------------------------------------------------------


def _proposals(args: argparse.Namespace, output: Output) -> int:
    async def show(_: Connection, client: ApiClient) -> int:
        found = await _ask(client.proposals)
        output.document({"proposals": found})
        if not found:
            output.line("no proposal is open")
        for proposal in found:
            _show_proposal(output, proposal)
        return Exit.DONE

    return _run(args, show)


def _show_proposal(output: Output, proposal: ProposalView) -> None:
    output.line(f"proposal  {proposal.id}")
    output.line(f"  by      {proposal.proposer_name}, until {instant(proposal.expires)}")
    for change in proposal.changes:
        output.line(f"  {change.kind:<7} {change.name}" + _keys(change.validator))
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


def _validators(args: argparse.Namespace, output: Output) -> int:
    async def show(_: Connection, client: ApiClient) -> int:
        view = await _ask(client.validators)
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

    return _run(args, show)


async def _ask(question: Callable[[], Awaitable[Any]]) -> Any:
    from node.api.client import ApiError  # noqa: PLC0415
    from node.cli.settle import no_answer  # noqa: PLC0415

    try:
        return await question()
    except ApiError as error:
        raise no_answer(error) from error
