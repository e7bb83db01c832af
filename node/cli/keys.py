"""`nostro keystore`: a participant's encrypted key files, and its keys on the ledger.

Keys rotate without anybody's approval: register the new one, then revoke the old one. Who lost all
keys cannot sign for that; the operators replace them (`nostro propose --replace-keys`), with the
proof of possession that `prove` prints.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from node.chain.genesis import BadGenesis, genesis_key, load_genesis
from node.chain.signature import ROLE_PARTICIPANT, prove_possession
from node.chain.types import RegisterKey, RevokeKey
from node.cli.common import digest_option
from node.cli.connection import open_key, read_input
from node.cli.errors import CommandError, Exit
from node.cli.founding import new_passphrase
from node.cli.instruct import Desk, Draft, add_order, add_reference, order
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
    prove = commands.add_parser(
        "prove",
        help="print a key's entry for a proposal that admits or re-keys its holder",
        description="Prove possession of a key on a running chain. The entry goes into the `keys` "
        "of the file of nostro propose --admit, or `register` of --replace-keys.",
    )
    prove.add_argument("file", metavar="FILE", type=Path)
    prove.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    prove.add_argument("--passphrase-file", metavar="FILE", type=Path)
    prove.add_argument("--json", action="store_true", help="one JSON document on stdout")
    prove.set_defaults(handler=_prove)
    register = commands.add_parser("register", help="add a key to one's own, from the next block")
    register.add_argument("file", metavar="FILE", type=Path, help="of the new key")
    register.add_argument(
        "--new-passphrase-file", metavar="FILE", type=Path, help="of the new key's file"
    )
    revoke = commands.add_parser("revoke", help="end one of one's own keys, from the next block")
    revoke.add_argument("key", metavar="KEY", type=digest_option, help="64 hexadecimal digits")
    for parser, handler in ((register, _register), (revoke, _revoke)):
        add_reference(parser)
        add_order(parser)
        parser.set_defaults(handler=handler)
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


def _prove(args: argparse.Namespace, output: Output) -> int:
    try:
        genesis = load_genesis(read_input(args.genesis, "the genesis file"))
    except BadGenesis as error:
        raise CommandError(f"{args.genesis}: {error}") from error
    signer = open_key(args.file, args.passphrase_file)
    possession = prove_possession(signer, ROLE_PARTICIPANT, signer.lei, genesis.chain_id)
    entry = {"public_key": signer.public_key.hex(), "possession": possession.hex()}
    output.document(entry)
    output.line(msgspec.json.encode(entry).decode())
    return Exit.DONE


def _register(args: argparse.Namespace, output: Output) -> int:
    new = open_key(args.file, args.new_passphrase_file)

    async def make(desk: Desk) -> Draft:
        possession = prove_possession(new, ROLE_PARTICIPANT, new.lei, desk.chain_id)
        said = (f"key       {new.public_key.hex()}",)
        return Draft(RegisterKey(new.public_key, possession), desk.sender(new.lei), said)

    return order(args, output, make)


def _revoke(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk) -> Draft:
        return Draft(RevokeKey(args.key), desk.sender())

    return order(args, output, make)


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
