"""Joining a network that runs: the home of a new observer, and what makes it a candidate.

    nostro init --join URL --genesis genesis.json --home DIR

The genesis file is handed over out of band and is the only thing trusted: the URLs are merely
asked whether they serve the same chain. With `--validator NAME --operator LEI` the home also gets
a vote key, and DIR/candidate.json is what operators propose to add.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from node.chain.genesis import Genesis
from node.cli.errors import CommandError, Exit, usage
from node.cli.files import write_whole
from node.cli.output import Output

if TYPE_CHECKING:
    from node.storage.config import NodeConfig

CANDIDATE_FORMAT = "nostro-candidate/1"
DEFAULT_NAME = "observer"


class CandidateValidator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The validator that a node would be. Keys are lower-case hex."""

    name: str
    operator: str
    vote_key: str
    node_key: str
    address: str
    """host:port where other validators reach it; empty: from their own configuration."""


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public record of a node that wants to become a validator of a running network."""

    format: str
    chain_id: str
    validator: CandidateValidator
    vote_possession: str
    """Proof of possession of the vote key, for its role and operator on this chain."""
    node_possession: str


def add_options(init: argparse.ArgumentParser) -> None:
    """The options of `nostro init` that belong to joining."""
    join = init.add_argument_group("or, to join a network that runs")
    join.add_argument(
        "--join", metavar="URL", action="append", default=[],
        help="API of a node to follow, the preferred one first; may be repeated",
    )  # fmt: skip
    join.add_argument(
        "--no-snapshot", action="store_true", help="start from the first block, not a snapshot"
    )
    join.add_argument("--validator", metavar="NAME", help="become a candidate with this name")
    join.add_argument("--address", metavar="HOST:PORT", help="where other validators reach it")


def join(args: argparse.Namespace, output: Output, data: bytes, genesis: Genesis) -> int:
    """Make the home of an observer, or of a candidate."""
    from node.storage.home import create_home  # noqa: PLC0415

    name = args.validator or args.name or DEFAULT_NAME
    named = any(v.name == name for v in genesis.validator_set.validators)
    if named and args.validator is None:
        raise usage(
            f"{name} is a validator of the genesis file; choose another name, or --validator "
            f"{name} for one that is to get new keys"
        )
    lei = _operator(args)
    config = _config(args, name)
    for url, problem in asyncio.run(_ask(config.join.urls, genesis)):
        output.note(f"nostro: {url}: {problem}")
    passphrase = _passphrase(args, genesis)
    sealed = {}
    seeds = {role: secrets.token_bytes(32) for role in _roles(args)}
    for role, seed in seeds.items():
        sealed[role] = _seal(
            role=role, name=name, lei=lei, seed=seed, passphrase=passphrase, devnet=genesis.devnet
        )
    home = create_home(
        args.home,
        genesis=data,
        config=config,
        node_key=sealed["node"],
        vote_key=sealed.get("vote"),
    )
    document: dict[str, Any] = {"home": str(home.path), "chain_id": home.chain_id.hex()}
    output_lines = [f"{home.path} is a home of {name}, which observes {genesis.network}, chain id"]
    output_lines.append(home.chain_id.hex())
    if args.validator is not None:
        record = home.path / "candidate.json"
        candidate = _candidate(args, genesis, lei, seeds)
        write_whole(record, msgspec.json.format(msgspec.json.encode(candidate), indent=2) + b"\n")
        document |= {"record": str(record), "candidate": candidate}
        output_lines.append(f"hand {record} to the operators, who propose to add it")
    output_lines.append(f"nostro start --home {home.path} runs it")
    output.document(document)
    for line in output_lines:
        output.line(line)
    return Exit.DONE


def _roles(args: argparse.Namespace) -> tuple[str, ...]:
    return ("node",) if args.validator is None else ("node", "vote")


def _operator(args: argparse.Namespace) -> str:
    """The LEI of who runs the node; a mere observer need not say."""
    from node.ledger.identifiers import BadIdentifier, check_lei  # noqa: PLC0415

    if args.operator is None:
        if args.validator is not None:
            raise usage("--validator needs --operator LEI: the participant that answers for it")
        return ""
    try:
        check_lei(args.operator)
    except BadIdentifier as error:
        raise CommandError(f"--operator: {error}") from error
    return str(args.operator)


def _config(args: argparse.Namespace, name: str) -> NodeConfig:
    from node.storage.config import (  # noqa: PLC0415
        Join,
        NodeConfig,
        parse_address,
        parse_url,
        peer_addresses,
    )

    try:
        if args.address is not None:
            parse_address(args.address)
        return NodeConfig(
            name=name,
            p2p=parse_address(args.p2p),
            api=parse_address(args.api),
            operator=parse_address(args.operator_listener),
            peers=peer_addresses(args.peer),
            join=Join(
                tuple(dict.fromkeys(parse_url(url) for url in args.join)), not args.no_snapshot
            ),
        )
    except ValueError as error:
        raise usage(str(error)) from error


async def _ask(urls: tuple[str, ...], genesis: Genesis) -> list[tuple[str, str]]:
    """Sources that do not answer now, and why. Raises CommandError if one serves another chain, or
    none answers: then nothing tells a wrong address from a node that is down."""
    from node.api.client import ApiClient, ApiError  # noqa: PLC0415

    silent: list[tuple[str, str]] = []
    for url in urls:
        async with ApiClient([url]) as client:
            try:
                status = await client.status()
            except ApiError as error:
                silent.append((url, str(error)))
                continue
        if status.chain_id != genesis.chain_id.hex():
            raise CommandError(
                f"{url} serves chain {status.chain_id} ({status.network}), but the genesis file "
                f"is of chain {genesis.chain_id.hex()}; nothing was made"
            )
    if len(silent) == len(urls):
        raise CommandError(
            f"no source answers: {silent[0][0]}: {silent[0][1]}; nothing was made", Exit.UNKNOWN
        )
    return silent


def _passphrase(args: argparse.Namespace, genesis: Genesis) -> str:
    from node.cli.founding import new_passphrase  # noqa: PLC0415
    from node.storage.keystore import DEVNET_PASSPHRASE  # noqa: PLC0415

    if genesis.devnet:
        return DEVNET_PASSPHRASE
    return new_passphrase(args.passphrase_file, "the node's keys")


def _seal(*, role: str, name: str, lei: str, seed: bytes, passphrase: str, devnet: bool) -> bytes:
    from node.storage.keystore import seal_key  # noqa: PLC0415

    return seal_key(role=role, name=name, lei=lei, seed=seed, passphrase=passphrase, devnet=devnet)


def _candidate(
    args: argparse.Namespace, genesis: Genesis, lei: str, seeds: dict[str, bytes]
) -> Candidate:
    from node.chain.signature import (  # noqa: PLC0415
        ROLE_NODE,
        ROLE_VOTE,
        Ed25519Signer,
        prove_possession,
    )

    node, vote = Ed25519Signer(seeds["node"]), Ed25519Signer(seeds["vote"])
    return Candidate(
        CANDIDATE_FORMAT,
        genesis.chain_id.hex(),
        CandidateValidator(
            args.validator,
            lei,
            vote.public_key.hex(),
            node.public_key.hex(),
            args.address or "",
        ),
        prove_possession(vote, ROLE_VOTE, lei, genesis.chain_id).hex(),
        prove_possession(node, ROLE_NODE, lei, genesis.chain_id).hex(),
    )


def read_candidate(path: Path) -> Candidate:
    """What `--validator` wrote. Raises CommandError."""
    from node.cli.connection import read_input  # noqa: PLC0415

    try:
        found = msgspec.json.decode(read_input(path, "the candidate's record"), type=Candidate)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} is not a candidate's record: {error}") from error
    if found.format != CANDIDATE_FORMAT:
        raise CommandError(
            f"{path}: format {found.format!r}, this program reads {CANDIDATE_FORMAT}"
        )
    return found
