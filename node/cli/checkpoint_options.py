"""Options by which a reader says which checkpoint of the chain he relies on, and by whose word.

For `nostro verify`, so with the base dependencies alone, and for `nostro audit checkpoint show`.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from node.cli.errors import usage

if TYPE_CHECKING:
    from node.audit.note import NoteKey
    from node.audit.verify_checkpoint import Asked

_PLAIN = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})", re.ASCII)


def add_witnesses(parser: argparse.ArgumentParser) -> None:
    """Whose signatures on a checkpoint its reader relies on."""
    parser.add_argument(
        "--witness", metavar="VKEY", dest="witness_keys", action="append", default=[],
        help="a key that must have signed the checkpoint; repeat it for several",
    )  # fmt: skip
    parser.add_argument(
        "--witnesses", metavar="K", type=int, help="how many of them (default: all)"
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The checkpoint that evidence is held against."""
    parser.add_argument(
        "--checkpoint",
        metavar="NOTE",
        help="a checkpoint that the evidence must be of one history with: a signed note, or "
        "HEIGHT:DIGEST that you know yourself",
    )
    add_witnesses(parser)


def witness_keys(args: argparse.Namespace) -> list[NoteKey]:
    """The keys of `add_witnesses`. Raises CommandError."""
    from node.audit.note import BadNote, parse_key  # noqa: PLC0415

    try:
        keys = [parse_key(text) for text in args.witness_keys]
    except BadNote as error:
        raise usage(f"--witness: {error}") from error
    if len({key.public_key for key in keys}) != len(keys):
        raise usage("two of the witnesses have the same key: one holder would count twice")
    if args.witnesses is not None and not 1 <= args.witnesses <= len(keys):
        raise usage(f"--witnesses {args.witnesses}, and --witness is given {len(keys)} times")
    return keys


def asked_checkpoint(args: argparse.Namespace) -> Asked | None:
    """What `add_checkpoint` was given. Raises CommandError."""
    from node.audit.verify_checkpoint import Asked  # noqa: PLC0415

    keys = witness_keys(args)
    if args.checkpoint is None:
        if keys:
            raise usage("--witness says who signed a checkpoint: give it, too, with --checkpoint")
        return None
    plain = _PLAIN.fullmatch(args.checkpoint)
    if plain is None:
        return Asked(read_note(Path(args.checkpoint)), witnesses=tuple(keys), needed=args.witnesses)
    if keys:
        raise usage("nobody signed a height and a digest: --witness goes with a note")
    return Asked(height=int(plain[1]), digest=bytes.fromhex(plain[2]))


def read_note(path: Path) -> bytes:
    """A note's file; what is too large for one is not read whole. Raises CommandError."""
    from node.audit.note import MAX_NOTE_BYTES  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            return file.read(MAX_NOTE_BYTES + 1)
    except OSError as error:
        raise usage(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
