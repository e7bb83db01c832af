"""What most commands share: options, who signs, how a time is written, asking a node.

Everything that a person types is read here or in `orders.Book`, in one spelling for all commands.
Libraries of the node are imported only once a command runs: `--help` does without them.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from node.cli.errors import CommandError, usage

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.service import ParticipantView
    from node.chain.types import AccountKind
    from node.cli.connection import Connection
    from node.cli.orders import Book
    from node.storage.keystore import Keystore

TIMEOUT_SECONDS = 30.0
"""How long a command waits for finality."""
MAX_TIMEOUT_SECONDS = 86_400.0
UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
ACCOUNT_KINDS = ("settlement", "client-reserve", "collateral", "margin", "fund", "capital")
"""Kinds of account as they are written, by the number of `AccountKind`."""
HEX32 = 64
"""Hexadecimal digits of a digest."""

T = TypeVar("T")
Work = Callable[["Connection", "ApiClient"], Awaitable[int]]


# --- options --------------------------------------------------------------------------------------


def add_asking(parser: argparse.ArgumentParser) -> None:
    """The options of a command that only looks."""
    from node.cli.connection import add_options  # noqa: PLC0415

    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_options(parser)


def add_signing(
    parser: argparse.ArgumentParser, *, sender: str = "who signs; a keystore says it itself"
) -> None:
    """The options of a command that sends an instruction; several keystores where several keys
    must sign."""
    parser.add_argument("--from", dest="sender", metavar="PARTICIPANT", help=sender)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds_option,
        default=TIMEOUT_SECONDS,
        help="how long to wait for finality (default: 30)",
    )
    add_keys(parser)
    add_asking(parser)


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Which keys sign, and where receipts are kept."""
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
    parser.add_argument(
        "--receipts", metavar="DIR", type=Path, help="where the nodes' receipts are kept"
    )


def seconds_option(text: str) -> float:
    """The value of an option such as `--timeout`."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_TIMEOUT_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds


def duration_option(text: str) -> int:
    """Milliseconds of a duration."""
    found = _duration(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90m, 12h or 7d")
    return found


def _duration(text: str) -> int | None:
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) <= 6 and unit in UNITS_MS):
        return None
    return int(number) * UNITS_MS[unit]


def instant_option(text: str) -> int:
    """Milliseconds since the Unix epoch: of a duration from now on, such as 90m, or of an instant
    with its offset from UTC (ISO 8601), such as 2026-03-02T17:00:00+01:00."""
    ahead = _duration(text)
    if ahead is not None:
        return now_ms() + ahead
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: give a duration from now on, such as 90m, 12h or 7d, or an "
            "instant with its offset from UTC, such as 2026-03-02T17:00:00+01:00"
        )
    found = round(moment.timestamp() * 1000)
    if found < 0:
        raise argparse.ArgumentTypeError(f"{text!r} lies before 1970")
    return found


def date_option(text: str) -> int:
    """A business date, yyyymmdd, written with or without hyphens."""
    digits = text.replace("-", "")
    try:
        day = date.fromisoformat(f"{digits[:4]}-{digits[4:6]}-{digits[6:]}")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write it as 2026-03-02") from None
    return day.year * 10_000 + day.month * 100 + day.day


def account_option(text: str) -> str:
    """A kind of account, as it is written."""
    if text not in ACCOUNT_KINDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no kind of account; there are {', '.join(ACCOUNT_KINDS)}"
        )
    return text


def account_kind(text: str) -> AccountKind:
    """The kind that `account_option` let pass."""
    from node.chain.types import AccountKind  # noqa: PLC0415

    return AccountKind(ACCOUNT_KINDS.index(text))


def digest_option(text: str) -> bytes:
    """32 bytes in lower-case hexadecimal."""
    found = hex32(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is not {HEX32} lower-case hexadecimal digits"
        )
    return found


def hex32(text: str) -> bytes | None:
    """The 32 bytes of a digest, or None where the text is not their one spelling."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if len(text) == HEX32 and found.hex() == text else None


def reason_option(text: str) -> str:
    """An ISO 20022 reason code."""
    if not (len(text) == 4 and text.isascii() and text.isalnum() and text.upper() == text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no reason code of ISO 20022: four upper-case letters or digits, such as "
            "DUPL, FRAD or CUST"
        )
    return text


def date_text(date: int) -> str:
    """2026-03-02 for 20260302."""
    return f"{date // 10_000:04}-{date // 100 % 100:02}-{date % 100:02}"


def now_ms() -> int:
    """This machine's clock, milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


# --- running --------------------------------------------------------------------------------------


def run(args: argparse.Namespace, participant: str | None, work: Work) -> int:
    """Run a command over a client; the participant's own node is asked first."""
    from node.api.client import ApiClient  # noqa: PLC0415
    from node.cli.connection import connect  # noqa: PLC0415

    connection = connect(args)
    if getattr(args, "keystores", None) and connection.devnet:
        raise usage("--devnet knows its keystores; leave --keystore out or use --api")

    async def inside() -> int:
        async with ApiClient(connection.urls(participant)) as client:
            return await work(connection, client)

    return asyncio.run(inside())


async def ask(question: Callable[[], Awaitable[T]]) -> T:
    """The answer of a node. Raises CommandError where there is none."""
    from node.api.client import ApiError  # noqa: PLC0415
    from node.cli.settle import no_answer  # noqa: PLC0415

    try:
        return await question()
    except ApiError as error:
        raise no_answer(error) from error


def show(
    args: argparse.Namespace,
    participant: str | None,
    work: Callable[[ApiClient], Awaitable[int]],
) -> int:
    """Run a command that only asks. A node's refusal or silence is reported in one place."""

    async def inside(_: Connection, client: ApiClient) -> int:
        return await ask(lambda: work(client))

    return run(args, participant, inside)


# --- who signs ------------------------------------------------------------------------------------


def keys_of(
    args: argparse.Namespace,
    connection: Connection,
    book: Book,
    sender: ParticipantView | None,
) -> tuple[ParticipantView, list[Keystore]]:
    """The participant that sends, and its opened keys; enough of them to sign.

    `sender`: None lets the keystores say it. Raises CommandError, KeystoreError."""
    paths = key_paths(args, connection, sender)
    files: Sequence[Path] = args.passphrase_files
    if len(files) not in (0, 1, len(paths)):
        raise usage(f"{len(files)} passphrase files for {len(paths)} keystores: give one, or each")
    keys = []
    for number, path in enumerate(paths):
        file = files[number % len(files)] if files else connection.passphrase_file
        keys.append(connection.open(path, file))
        owner = book.participant(keys[-1].lei)
        sender = sender or owner
        if owner.lei != sender.lei:
            raise CommandError(
                f"the keystore {path} is of {owner.name} ({owner.lei}), so it cannot sign for "
                f"{sender.name} ({sender.lei})"
            )
    assert sender is not None
    if len({key.public_key for key in keys}) != len(keys):
        raise usage("two of the keystores hold the same key")
    if len(keys) < sender.threshold:
        raise CommandError(
            f"{sender.name} signs with {sender.threshold} keys, {len(keys)} given; give --keystore "
            "once for each"
        )
    return sender, keys


def key_paths(
    args: argparse.Namespace,
    connection: Connection,
    sender: ParticipantView | None,
) -> list[Path]:
    """The key files that the options or the configuration name. Raises CommandError."""
    if args.keystores:
        return list(args.keystores)
    if sender is not None:
        return connection.keystore_paths(sender)
    if connection.keystores:
        return list(connection.keystores)
    raise usage("say who signs with --from PARTICIPANT")
