"""`nostro audit checkpoint`: C2SP signed notes of the chain's head, signed and cosigned.

Two kinds of keys, each in a file of its own, with a record beside it (`node.audit.checkpoint`):
a *checkpoint* key signs what a node's or follower's store holds; a *witness* key cosigns what its
auditor's own follower has verified.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.checkpoint_options import add_witnesses, read_note, witness_keys
from node.cli.connection import read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.files import write_whole
from node.cli.output import Output, instant
from node.cli.stopped import stopped

if TYPE_CHECKING:
    from node.audit.note import NoteKey
    from node.chain.genesis import Genesis
    from node.storage.chain_store import ChainStore
    from node.storage.keystore import Keystore

KINDS = {"checkpoint": "signer", "witness": "witness"}
"""Roles of key files, and what they are called."""


def register(commands: Any) -> None:
    """Add `audit checkpoint` to the parser."""
    parser = commands.add_parser("checkpoint", help="sign, cosign and show heads of the chain")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _register_keys(actions.add_parser("keys", help="keys that sign checkpoints and nothing else"))
    sign = actions.add_parser(
        "sign",
        help="make a checkpoint of a stopped node's or follower's chain, and sign it",
        description="The block's finality is checked against the genesis file first. Exits with 1 "
        "if the key has signed something that this chain does not hold.",
    )
    sign.add_argument("--home", metavar="DIR", type=Path, required=True)
    sign.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    _add_key(sign)
    sign.add_argument(
        "--height", metavar="N", type=height_option, help="of the block (default: the last one)"
    )
    sign.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    sign.add_argument("--json", action="store_true", help="one JSON document on stdout")
    sign.set_defaults(handler=_sign)
    cosign = actions.add_parser(
        "cosign",
        help="add a witness's cosignature to a checkpoint that its own follower has verified",
        description="The follower (nostro audit follow) may run meanwhile. Exits with 1 if the "
        "checkpoint is not in its copy, or is smaller than the last one cosigned.",
    )
    cosign.add_argument("file", metavar="NOTE", type=Path)
    cosign.add_argument(
        "--copy", metavar="DIR", type=Path, required=True, help="the follower's directory"
    )
    cosign.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    _add_key(cosign)
    cosign.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    cosign.add_argument("--json", action="store_true", help="one JSON document on stdout")
    cosign.set_defaults(handler=_cosign)
    show = actions.add_parser("show", help="what a checkpoint says, and who signed it")
    show.add_argument("file", metavar="NOTE", type=Path)
    show.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    add_witnesses(show)
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    show.set_defaults(handler=_show)


def _register_keys(keys: argparse.ArgumentParser) -> None:
    actions = keys.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser(
        "create",
        help="make a key and its record",
        description="With --genesis a key that signs this chain's checkpoints; with --witness one "
        "that cosigns checkpoints of any chain under this name.",
    )
    which = create.add_mutually_exclusive_group(required=True)
    which.add_argument("--genesis", metavar="FILE", type=Path)
    which.add_argument(
        "--witness", metavar="NAME", help="such as auditor.example/nostro; no spaces, no plus"
    )
    create.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    create.add_argument("--passphrase-file", metavar="FILE", type=Path)
    create.add_argument("--json", action="store_true", help="one JSON document on stdout")
    create.set_defaults(handler=_create)
    show = actions.add_parser("show", help="a key file's vkey; needs no passphrase")
    show.add_argument("file", metavar="FILE", type=Path)
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    show.set_defaults(handler=_show_key)


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="the key file")
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="of the key file")


def height_option(text: str) -> int:
    """A height above genesis."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
    if not number:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no height above 0")
    return number


# --- commands -------------------------------------------------------------------------------------


def signed_checkpoint(store: ChainStore, args: argparse.Namespace, height: int | None) -> bytes:
    """The signed note of a store's block (None: the last one), by the options --genesis, --key and
    --passphrase-file. Raises CommandError."""
    from node.audit.build_chain import EvidenceUnavailable  # noqa: PLC0415
    from node.audit.checkpoint import (  # noqa: PLC0415
        Signed,
        SigningRefused,
        make_checkpoint,
        sign,
    )
    from node.audit.fault import Fault  # noqa: PLC0415

    genesis = _genesis(args.genesis)
    key, opened = _open(args, "checkpoint", genesis)
    try:
        checkpoint = make_checkpoint(store, genesis, height)
        with Signed(_record(args.key), key) as signed:
            return sign(
                checkpoint,
                key=key,
                signer=opened.signer,
                signed=signed,
                source=store,
            )
    except EvidenceUnavailable as error:
        raise CommandError(f"no checkpoint can be made: {error}", Exit.UNKNOWN) from error
    except Fault as error:
        raise CommandError(f"nothing is signed: the store does not hold: {error}") from error
    except SigningRefused as error:
        raise CommandError(f"nothing is signed: {error}") from error


def _sign(args: argparse.Namespace, output: Output) -> int:
    return export_checkpoint(args, args.height, output)


def export_checkpoint(args: argparse.Namespace, height: int | None, output: Output) -> int:
    """Sign the block of a stopped node's or follower's chain, and write the note. Raises
    CommandError."""
    with stopped(args.home) as node:
        data = signed_checkpoint(node.store, args, height)
    write_whole(args.output, data)
    _tell(data, args.output, output)
    return Exit.DONE


def _cosign(args: argparse.Namespace, output: Output) -> int:
    from node.audit.checkpoint import Signed, SigningRefused, cosign  # noqa: PLC0415
    from node.audit.note import BadNote, parse_note  # noqa: PLC0415
    from node.storage.heads import HeadsFile  # noqa: PLC0415

    genesis = _genesis(args.genesis)
    key, opened = _open(args, "witness", genesis)
    raw = read_note(args.file)
    history = HeadsFile(args.copy / "heads", genesis.chain_id)
    try:
        with Signed(_record(args.key), key) as signed:
            data = cosign(
                parse_note(raw),
                genesis,
                key=key,
                signer=opened.signer,
                signed=signed,
                history=history,
                clock=time.time,
            )
    except (BadNote, SigningRefused) as error:
        raise CommandError(f"{args.file}: nothing is cosigned: {error}") from error
    finally:
        history.close()
    write_whole(args.output, data)
    _tell(data, args.output, output)
    return Exit.DONE


def _tell(data: bytes, path: Path, output: Output) -> None:
    from node.audit.note import parse_checkpoint, parse_note  # noqa: PLC0415

    note = parse_note(data)
    checkpoint = parse_checkpoint(note.text)
    output.document(
        {
            "file": str(path),
            "origin": checkpoint.origin,
            "height": checkpoint.height,
            "block": checkpoint.digest.hex(),
            "history_root": checkpoint.root.hex(),
            "signatures": [each.name for each in note.signatures],
        }
    )
    output.line(f"{path}: height {checkpoint.height}, block {checkpoint.digest.hex()}")


def _show(args: argparse.Namespace, output: Output) -> int:
    from node.audit.note import BadNote, parse_checkpoint, parse_note, verified  # noqa: PLC0415
    from node.audit.verify_checkpoint import read_pin  # noqa: PLC0415

    genesis, keys, raw = _genesis(args.genesis), witness_keys(args), read_note(args.file)
    try:
        note = parse_note(raw)
        checkpoint = parse_checkpoint(note.text)
        held = {each.key: each.time for each in verified(note, keys)}
        pin = read_pin(raw, genesis, keys, args.witnesses)
    except BadNote as error:
        raise CommandError(f"{args.file}: {error}") from error
    known = {(key.name, key.id): key for key in keys}
    rows = []
    for each in note.signatures:
        key = known.get((each.name, each.key_id))
        seconds = None if key is None else held[key]
        rows.append(
            {
                "name": each.name,
                "key_id": each.key_id.hex(),
                "verified": key is not None,
                "time": None if seconds is None else seconds * 1000,
            }
        )
    output.document(
        {
            "origin": checkpoint.origin,
            "height": checkpoint.height,
            "block": checkpoint.digest.hex(),
            "history_root": checkpoint.root.hex(),
            "signatures": rows,
            "relied_on": pin.text(),
        }
    )
    output.line(f"origin        {checkpoint.origin}")
    output.line(f"height        {checkpoint.height}")
    output.line(f"block         {checkpoint.digest.hex()}")
    output.line(f"history root  {checkpoint.root.hex()}")
    for row in rows:
        said = "holds" if row["verified"] else "of a key that was not named: not checked"
        when = "" if row["time"] is None else f", {_when(row['time'])}"
        output.line(f"signature     {row['name']}+{row['key_id']}: {said}{when}")
    output.line(f"This checkpoint is {pin.text()}.")
    return Exit.DONE


def _when(milliseconds: Any) -> str:
    try:
        return instant(int(milliseconds))
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"


def _create(args: argparse.Namespace, output: Output) -> int:
    from node.audit.checkpoint import create_record  # noqa: PLC0415
    from node.audit.note import BadNote, check_name, origin_of  # noqa: PLC0415
    from node.cli.founding import new_passphrase  # noqa: PLC0415
    from node.storage.keystore import create_keystore, read_key_info  # noqa: PLC0415

    role, name = "witness", args.witness
    if args.genesis is not None:
        genesis = _genesis(args.genesis)
        role, name = "checkpoint", origin_of(genesis.network, genesis.chain_id)
    try:
        check_name(name)
    except BadNote as error:
        raise usage(f"--witness: {error}") from error
    record = _record(args.output)
    if record.exists():
        raise CommandError(
            f"{record} exists: it is the record of another key; choose another name for this one"
        )
    passphrase = new_passphrase(args.passphrase_file, f"the {KINDS[role]} key {name}")
    create_keystore(args.output, role=role, name=name, lei="", passphrase=passphrase)
    key = _note_key(args.output)
    create_record(record, key)
    output.document(
        {
            "file": str(args.output),
            "record": str(record),
            "role": KINDS[role],
            "name": name,
            "public_key": read_key_info(args.output).public_key.hex(),
            "vkey": key.text,
        }
    )
    output.line(f"{args.output}: {KINDS[role]} key; back it up offline, without {record.name}")
    output.line(key.text)
    return Exit.DONE


def _show_key(args: argparse.Namespace, output: Output) -> int:
    key = _note_key(args.file)
    from node.audit.note import KINDS as NOTE_KINDS  # noqa: PLC0415

    output.document({"role": NOTE_KINDS[key.kind], "name": key.name, "vkey": key.text})
    output.line(key.text)
    return Exit.DONE


# --- own ------------------------------------------------------------------------------------------


def _record(key: Path) -> Path:
    from node.audit.checkpoint import RECORD_SUFFIX  # noqa: PLC0415

    return key.with_name(key.name + RECORD_SUFFIX)


def _note_key(path: Path) -> NoteKey:
    from node.audit.note import SIGNER, WITNESS, NoteKey  # noqa: PLC0415
    from node.storage.keystore import read_key_info  # noqa: PLC0415

    info = read_key_info(path)
    if info.role not in KINDS:
        raise CommandError(f"{path} is a {info.role} key; it never signs checkpoints")
    return NoteKey(info.name, WITNESS if info.role == "witness" else SIGNER, info.public_key)


def _open(args: argparse.Namespace, role: str, genesis: Genesis) -> tuple[NoteKey, Keystore]:
    """Raises CommandError, KeystoreError."""
    from node.storage.keystore import open_keystore, read_passphrase  # noqa: PLC0415

    key = _note_key(args.key)
    prompt = f"Passphrase of {args.key}: " if sys.stdin.isatty() else None
    passphrase = read_passphrase(args.passphrase_file, prompt)
    return key, open_keystore(args.key, passphrase, role=role, devnet=genesis.devnet)


def _genesis(path: Path) -> Genesis:
    from node.chain.genesis import BadGenesis, load_genesis  # noqa: PLC0415

    try:
        return load_genesis(read_input(path, "the genesis file"))
    except BadGenesis as error:
        raise usage(f"{path}: {error}") from error
