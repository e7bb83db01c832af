"""`nostro keystore`: a participant's encrypted key files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from node.chain.genesis import genesis_key
from node.cli.errors import CommandError, Exit
from node.cli.founding import new_passphrase
from node.cli.output import Output
from node.ledger.identifiers import BadIdentifier, check_lei
from node.storage.keystore import create_keystore, open_keystore, read_key_info


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    keystore = subparsers.add_parser("keystore", help="create or show encrypted key files")
    commands = keystore.add_subparsers(metavar="COMMAND", required=True)
    create = commands.add_parser(
        "create",
        help="make a new key",
        description="Make a participant's key. With --network, also print its entry for the "
        "`keys` of the genesis spec, with its proof of possession.",
    )
    create.add_argument("--name", required=True, help="short name of the participant")
    create.add_argument("--lei", required=True)
    create.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    create.add_argument("--network", help="name of the network to be founded")
    create.add_argument("--passphrase-file", metavar="FILE", type=Path)
    create.add_argument("--json", action="store_true", help="one JSON document on stdout")
    create.set_defaults(handler=_create)
    show = commands.add_parser("show", help="whose key a file holds; needs no passphrase")
    show.add_argument("file", metavar="FILE", type=Path)
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    show.set_defaults(handler=_show)


def _create(args: argparse.Namespace, output: Output) -> int:
    try:
        check_lei(args.lei)
    except BadIdentifier as error:
        raise CommandError(f"--lei: {error}") from error
    passphrase = new_passphrase(args.passphrase_file, f"the key of {args.name}")
    info = create_keystore(
        args.output, role="participant", name=args.name, lei=args.lei, passphrase=passphrase
    )
    entry = None
    if args.network is not None:
        signer = open_keystore(args.output, passphrase, role="participant")
        entry = genesis_key(signer, args.network, args.lei)
    output.document(
        {"file": str(args.output), "public_key": info.public_key.hex(), "genesis_key": entry}
    )
    output.line(f"{args.output}: key {info.public_key.hex()} of {args.name}; back it up offline")
    if entry is not None:
        output.line(msgspec.json.encode(entry).decode())
    return Exit.DONE


def _show(args: argparse.Namespace, output: Output) -> int:
    info = read_key_info(args.file)
    output.document(
        {
            "role": info.role,
            "name": info.name,
            "lei": info.lei,
            "public_key": info.public_key.hex(),
            "devnet": info.devnet,
        }
    )
    output.line(f"{info.role} key of {info.name} ({info.lei}){', devnet' if info.devnet else ''}")
    output.line(info.public_key.hex())
    return Exit.DONE
