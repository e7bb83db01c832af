"""Founding a network: init makes a node's keys, genesis build joins the records of all, and init
again installs the genesis file.

    nostro init --home DIR --name node0 --operator LEI --network NET     → DIR/validator.json
    nostro genesis build --network NET --spec spec.json --validator … -o genesis.json
    nostro init --home DIR --genesis genesis.json

With --join, init makes the home of an observer of a network that runs (`joining`).

Private keys never leave the machine that made them: only public records travel, each with a proof
of possession bound to network, role and operator.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from node.chain.encoding import UNDECODABLE
from node.chain.genesis import BadGenesis, Genesis, dump_genesis, genesis_validator, load_genesis
from node.chain.genesis_file import (
    GenesisAsset,
    GenesisDay,
    GenesisMember,
    GenesisNetting,
    GenesisParameters,
    GenesisParticipant,
    GenesisPolicy,
    GenesisValidator,
)
from node.cli import joining
from node.cli.connection import read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.files import write_whole
from node.cli.output import Output, instant

RECORD_FORMAT = "nostro-validator/1"
DEFAULT_P2P = "127.0.0.1:4100"
DEFAULT_API = "127.0.0.1:4180"
DEFAULT_OPERATOR = "127.0.0.1:4190"


class ValidatorRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public record of a validator-to-be: what its operator hands to who builds the genesis."""

    format: str
    network: str
    validator: GenesisValidator


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a network agrees on besides its validators."""

    assets: tuple[GenesisAsset, ...]
    participants: tuple[GenesisParticipant, ...]
    parameters: GenesisParameters = GenesisParameters()
    schedule: tuple[GenesisDay, ...] = ()
    netting: tuple[GenesisNetting, ...] = ()
    members: tuple[GenesisMember, ...] = ()
    policies: tuple[GenesisPolicy, ...] = ()


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    init = subparsers.add_parser(
        "init",
        help="make a node's keys and home directory",
        description="Without --genesis: make keys and the public record DIR/validator.json. With "
        "--genesis: turn the same directory into a home that nostro start runs.",
    )
    init.add_argument("--home", metavar="DIR", type=Path, required=True)
    init.add_argument("--json", action="store_true", help="one JSON document on stdout")
    keys = init.add_argument_group("first, to make keys")
    keys.add_argument("--name", help="of the node, unique on the network")
    keys.add_argument("--operator", metavar="LEI", help="of the participant that runs it")
    keys.add_argument("--network", help="name of the network to be founded")
    keys.add_argument("--passphrase-file", metavar="FILE", type=Path)
    home = init.add_argument_group("then, to make the home")
    home.add_argument("--genesis", metavar="FILE", type=Path)
    home.add_argument("--p2p", metavar="HOST:PORT", default=DEFAULT_P2P)
    home.add_argument("--api", metavar="HOST:PORT", default=DEFAULT_API)
    home.add_argument("--operator-listener", metavar="HOST:PORT", default=DEFAULT_OPERATOR)
    home.add_argument(
        "--peer", metavar="NAME=HOST:PORT", action="append", default=[], help="for each other node"
    )
    joining.add_options(init)
    init.set_defaults(handler=_init)

    genesis = subparsers.add_parser("genesis", help="build or show a genesis file")
    commands = genesis.add_subparsers(metavar="COMMAND", required=True)
    build = commands.add_parser("build", help="join the records of validators and participants")
    build.add_argument("--network", required=True)
    build.add_argument("--spec", metavar="FILE", type=Path, required=True)
    build.add_argument(
        "--validator", metavar="FILE", type=Path, nargs="+", action="extend", required=True
    )
    build.add_argument("--time", metavar="MS", type=int, help="since the Unix epoch (default: now)")
    build.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    build.add_argument("--json", action="store_true", help="one JSON document on stdout")
    build.set_defaults(handler=_build)
    show = commands.add_parser("show", help="check a genesis file and say what it founds")
    show.add_argument("file", metavar="FILE", type=Path)
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    show.set_defaults(handler=_show)


# --- init -----------------------------------------------------------------------------------------


def _init(args: argparse.Namespace, output: Output) -> int:
    if args.join:
        if args.genesis is None or args.network is not None:
            raise usage("--join needs --genesis, and no --network")
        data = read_input(args.genesis, "the genesis file")
        return joining.join(args, output, data, _load(data, args.genesis))
    if args.validator is not None or args.no_snapshot or args.address is not None:
        raise usage("--validator, --address and --no-snapshot belong to --join")
    founding = [name for name in ("name", "operator", "network") if getattr(args, name) is not None]
    if args.genesis is not None:
        if founding:
            raise usage(f"--genesis and --{founding[0]} belong to two different runs of init")
        return _install(args, output)
    if len(founding) < 3:
        raise usage("init needs --name, --operator and --network, or --genesis")
    return _make_keys(args, output)


def _make_keys(args: argparse.Namespace, output: Output) -> int:
    from node.ledger.identifiers import BadIdentifier, check_lei  # noqa: PLC0415
    from node.storage.keystore import (  # noqa: PLC0415
        create_keystore,
        open_keystore,
    )

    try:
        check_lei(args.operator)
    except BadIdentifier as error:
        raise CommandError(f"--operator: {error}") from error
    home: Path = args.home
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise CommandError(f"{home} is not empty; keys are never overwritten, name a new directory")
    passphrase = new_passphrase(args.passphrase_file, "the node's keys")
    (home / "keys").mkdir(parents=True)
    for directory in (home, home / "keys"):
        os.chmod(directory, 0o700)
    signers = {}
    for role in ("node", "vote"):
        path = home / "keys" / f"{role}.json"
        create_keystore(path, role=role, name=args.name, lei=args.operator, passphrase=passphrase)
        signers[role] = open_keystore(path, passphrase, role=role)
    record = ValidatorRecord(
        RECORD_FORMAT,
        args.network,
        genesis_validator(
            args.name,
            args.operator,
            network=args.network,
            vote=signers["vote"],
            node=signers["node"],
        ),
    )
    public = home / "validator.json"
    write_whole(public, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    output.document({"home": str(home), "record": str(public), "validator": record.validator})
    output.line(f"keys of {args.name} are in {home / 'keys'}: back them up offline")
    output.line(f"hand {public} to who builds the genesis file, then run:")
    output.line(f"nostro init --home {home} --genesis genesis.json")
    return Exit.DONE


def new_passphrase(file: Path | None, of_what: str) -> str:
    """A new passphrase: from a file, the environment, or asked for twice. Raises KeystoreError."""
    from node.storage.keystore import read_passphrase  # noqa: PLC0415

    if file is not None or not sys.stdin.isatty():
        return read_passphrase(file)
    first = read_passphrase(None, f"New passphrase of {of_what}: ")
    if os.environ.keys() & {"NOSTRO_PASSPHRASE", "NOSTRO_PASSPHRASE_FILE"}:
        return first
    if read_passphrase(None, "The same again: ") != first:
        raise CommandError("the two passphrases differ; nothing was made")
    return first


def _install(args: argparse.Namespace, output: Output) -> int:
    """Turn a directory of keys into a home.

    The directory is moved aside first and removed last, so that a crash at any point leaves the
    keys in one of the two, and never a vote key in two homes that could both start.
    """
    from node.cli.members import check_peers  # noqa: PLC0415
    from node.storage.home import create_home  # noqa: PLC0415

    home: Path = args.home
    aside = home.absolute().with_name(f".{home.name}.before-genesis")
    data = read_input(args.genesis, "the genesis file")
    genesis = _load(data, args.genesis)
    if genesis.devnet:
        raise CommandError(
            f"{args.genesis} founds a devnet, whose keys everybody knows; nostro devnet up makes "
            "the homes of its nodes"
        )
    if (home / "format").exists():
        if aside.exists():  # a run before this one was cut off when it had only that left to do
            shutil.rmtree(aside)
            output.line(f"{home} is complete")
            return Exit.DONE
        raise CommandError(f"{home} is a home already; a home is never overwritten")
    if not aside.exists():
        if not (home / "keys" / "vote.json").exists():
            raise CommandError(
                f"{home} has no keys; make them first with: nostro init --home {home} --name … "
                "--operator … --network …"
            )
        os.rename(home, aside)
    try:
        keys = {
            role: read_input(aside / "keys" / f"{role}.json", "the key")
            for role in ("node", "vote")
        }
        made = create_home(
            home,
            genesis=data,
            config=_config(args, genesis, aside),
            node_key=keys["node"],
            vote_key=keys["vote"],
        )
    except BaseException:
        if not home.exists():
            os.rename(aside, home)
        raise
    shutil.rmtree(aside)
    output.document({"home": str(home), "chain_id": made.chain_id.hex()})
    output.line(f"{home} is a home of {made.config.name} on {genesis.network}, chain id")
    output.line(made.chain_id.hex())
    for finding in check_peers(made):
        if finding.result != "ok":
            output.line(finding.text)
    output.line(f"nostro start --home {home} runs it, nostro doctor --home {home} looks at it")
    return Exit.DONE


def _config(args: argparse.Namespace, genesis: Genesis, keys: Path) -> Any:
    from node.storage.config import NodeConfig, parse_address  # noqa: PLC0415
    from node.storage.keystore import read_key_info  # noqa: PLC0415

    peers = {}
    try:
        for peer in args.peer:
            name, _, address = peer.partition("=")
            if name not in {v.name for v in genesis.validator_set.validators}:
                raise ValueError(f"--peer {peer}: the genesis file has no validator {name!r}")
            peers[name] = parse_address(address)
        return NodeConfig(
            name=read_key_info(keys / "keys" / "vote.json").name,
            p2p=parse_address(args.p2p),
            api=parse_address(args.api),
            operator=parse_address(args.operator_listener),
            peers=peers,
        )
    except ValueError as error:
        raise usage(str(error)) from error


# --- genesis --------------------------------------------------------------------------------------


def _load(data: bytes, path: Path) -> Genesis:
    try:
        return load_genesis(data)
    except BadGenesis as error:
        raise CommandError(f"{path}: {error}") from error


def _build(args: argparse.Namespace, output: Output) -> int:
    try:
        spec = msgspec.json.decode(read_input(args.spec, "the spec"), type=Spec)
    except UNDECODABLE as error:
        raise CommandError(f"{args.spec}: {error}") from error
    validators = [_record(path, args.network) for path in args.validator]
    _check_identifiers(args.spec, spec)
    try:
        data = dump_genesis(
            network=args.network,
            devnet=False,
            time=time.time_ns() // 1_000_000 if args.time is None else args.time,
            assets=spec.assets,
            participants=spec.participants,
            validators=validators,
            parameters=spec.parameters,
            schedule=spec.schedule,
            netting=spec.netting,
            members=spec.members,
            policies=spec.policies,
        )
        genesis = load_genesis(data)
        _check_schedule(genesis)
    except BadGenesis as error:
        raise CommandError(f"these make no genesis file: {error}") from error
    write_whole(args.output, data)
    output.document({"file": str(args.output), "chain_id": genesis.chain_id.hex()})
    output.line(f"{args.output}: chain id {genesis.chain_id.hex()}")
    output.line("every participant must get this file, and compare the chain id out of band")
    return Exit.DONE


def _record(path: Path, network: str) -> GenesisValidator:
    try:
        record = msgspec.json.decode(
            read_input(path, "the validator's record"), type=ValidatorRecord
        )
    except UNDECODABLE as error:
        raise CommandError(f"{path} is not a validator's record: {error}") from error
    if record.format != RECORD_FORMAT:
        raise CommandError(f"{path}: format {record.format!r}, this program reads {RECORD_FORMAT}")
    if record.network != network:
        raise CommandError(
            f"{path} was made for network {record.network!r}, not {network!r}; its operator must "
            "make a new one, since the proofs of possession name the network"
        )
    return record.validator


def _check_identifiers(path: Path, spec: Spec) -> None:
    from node.ledger.identifiers import (  # noqa: PLC0415
        BadIdentifier,
        check_bic,
        check_lei,
    )

    for index, participant in enumerate(spec.participants):
        try:
            check_lei(participant.lei)
            check_bic(participant.bic)
        except BadIdentifier as error:
            raise CommandError(
                f"{path}: participants[{index}] ({participant.name}): {error}"
            ) from error


def _check_schedule(genesis: Genesis) -> None:
    """No file is made that no node would start from. Raises BadGenesis."""
    from node.ledger.schedule import dashed, faults  # noqa: PLC0415

    for fault in faults(genesis.schedule):
        raise BadGenesis(f"schedule ({dashed(fault.date)}): {fault.text}")


def _show(args: argparse.Namespace, output: Output) -> int:
    from node.ledger.schedule import dashed  # noqa: PLC0415

    genesis = _load(read_input(args.file, "the genesis file"), args.file)
    validators = genesis.validator_set.validators
    output.document(
        {
            "chain_id": genesis.chain_id.hex(),
            "network": genesis.network,
            "devnet": genesis.devnet,
            "time": genesis.time,
            "assets": [asset.code for asset in genesis.assets],
            "participants": [participant.name for participant in genesis.participants],
            "validators": [validator.name for validator in validators],
            "securities": sorted(genesis.securities),
            "netting": [each.asset for each in genesis.netting],
            "business_days": [day.date for day in genesis.schedule],
        }
    )
    output.line(f"chain id      {genesis.chain_id.hex()}")
    output.line(f"network       {genesis.network}{' (devnet)' if genesis.devnet else ''}")
    output.line(f"time          {instant(genesis.time)}")
    output.line(f"assets        {', '.join(asset.code for asset in genesis.assets)}")
    output.line(f"participants  {', '.join(p.name for p in genesis.participants)}")
    output.line(f"validators    {', '.join(v.name for v in validators)}")
    if genesis.netting:
        output.line(f"netting       {', '.join(each.asset for each in genesis.netting)}")
    if genesis.schedule:
        first, last = dashed(genesis.schedule[0].date), dashed(genesis.schedule[-1].date)
        output.line(f"business days {len(genesis.schedule)}, {first} to {last}")
    return Exit.DONE
