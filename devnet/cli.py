"""`nostro devnet …`: what the commands take, do and print."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from devnet import control, detached, identity, network, profiles, table
from devnet.foreground import run_in_foreground
from devnet.load import Load, Plan, Result
from devnet.network import MAX_VALIDATORS, Network
from devnet.partition import (
    BadFault,
    describe_clocks,
    describe_held,
    describe_links,
    parse_link_fault,
    parse_offset,
)
from devnet.ports import LAST_PORT
from devnet.scenario import command as scenario
from node.api.service import StatusView
from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output
from node.cli.stall import explain_all

DEFAULT_DIRECTORY = Path(".devnet")
DEFAULT_VALIDATORS = 4
DEFAULT_BANKS = 4
DEFAULT_SEED = 1
STOP_SECONDS = 30.0
"""Until `down` gives up: more than a node may take to end by itself."""
REDRAW_SECONDS = 0.1
"""Between two redraws of the progress bar."""
MAX_LOAD = 10_000_000
MAX_BATCH = 10_000
MAX_RATE = 1_000_000


def register(subparsers: Any) -> None:
    """Add `devnet` and its commands to the parser."""
    devnet = subparsers.add_parser("devnet", help="run a local network of real node processes")
    commands = devnet.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str,
        handler: Callable[..., int],
        text: str,
        where: str = f"where the devnet lives (default: {DEFAULT_DIRECTORY})",
    ) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        parser.add_argument(
            "--dir", type=Path, default=DEFAULT_DIRECTORY, metavar="DIR", help=where
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.set_defaults(handler=handler)
        return parser

    up = command("up", _up, "start a devnet, making it first if it is not there")
    up.add_argument(
        "--validators", type=_whole(1, MAX_VALIDATORS), metavar="N",
        help=f"nodes (default: {DEFAULT_VALIDATORS})",
    )  # fmt: skip
    up.add_argument(
        "--banks", type=_whole(2, identity.MAX_BANKS), metavar="N",
        help=f"participants besides the central bank (default: {DEFAULT_BANKS})",
    )  # fmt: skip
    up.add_argument(
        "--seed", type=_whole(0, 2**63 - 1), metavar="N",
        help=f"decides all keys (default: {DEFAULT_SEED})",
    )  # fmt: skip
    up.add_argument(
        "--profile", choices=sorted(profiles.PROFILES), metavar="P",
        help="; ".join(f"{each.name}: {each.text}" for each in profiles.PROFILES.values()),
    )  # fmt: skip
    up.add_argument("--detach", action="store_true", help="return once payments can be finalized")
    up.add_argument("--no-tui", action="store_true", help="log lines, no status drawn in place")
    up.add_argument(
        "--base-port", type=_whole(0, LAST_PORT), metavar="P",
        help="first of three consecutive ports a node (default: 0, free ones)",
    )  # fmt: skip

    command("status", _status, "show each node: its process, height, view and peers")
    command("down", _down, "end all nodes; what they settled stays on disk")
    for name, text in (
        ("kill", "kill -9 a node"),
        ("pause", "freeze a node: alive, but deaf and silent (SIGSTOP)"),
        ("resume", "let a paused node go on"),
        ("restart", "start a node again, ending it in an orderly way first if it runs"),
    ):
        parser = command(name, _change, text)
        parser.add_argument("node", metavar="NODE", help="node2, or 2")
        parser.set_defaults(operation=name)

    for name, text in (
        ("disconnect", "cut a node's links to all others; it runs on by itself"),
        ("reconnect", "let the links of a disconnected node up again"),
    ):
        parser = command(name, _change_faults, text)
        parser.add_argument("node", metavar="NODE", help="node2, or 2")
        parser.set_defaults(operation=name)
    partition = command("partition", _change_faults, "cut all links between groups of nodes")
    partition.add_argument(
        "groups", metavar="GROUPS",
        help='"0,1|2,3"; nodes that are not named form a group; replaces an earlier partition',
    )  # fmt: skip
    partition.set_defaults(operation="partition")
    link = command("link", _change_link, "make one link slow or lossy, both ways")
    link.add_argument("node", metavar="NODE", help="node2, or 2")
    link.add_argument("other", metavar="NODE")
    links = command("links", _change_link, "make all links slow or lossy")
    for parser in (link, links):
        parser.add_argument("--delay", metavar="MS", help="one way, ms (default: 0)")
        parser.add_argument("--jitter", metavar="MS", help="up to so much more (default: 0)")
        parser.add_argument("--loss", metavar="P", help="share that is lost, as 0.05 (default: 0)")
    clock = command("clock", _change_clock, "set a node's clock wrong")
    clock.add_argument("node", metavar="NODE", help="node2, or 2")
    clock.add_argument(
        "--offset", required=True, metavar="MS", help="ahead, or behind: -2000; 0 sets it right"
    )
    heal = command("heal", _change_faults, "undo all faults of links and clocks")
    heal.set_defaults(operation="heal")

    scenario.add_options(
        command(
            "scenario",
            scenario.run_command,
            "run a timed script of load and faults, and judge it",
            "a devnet that runs, or where to make one that is kept (default: one of its own)",
        )
    )

    load = command("load", _load, "let the banks pay each other, and measure")
    load.add_argument(
        "--count", type=_whole(1, MAX_LOAD), required=True, metavar="N", help="payments"
    )
    load.add_argument(
        "--batch", type=_whole(1, MAX_BATCH), default=1, metavar="B",
        help="payments in one signed instruction (default: 1)",
    )  # fmt: skip
    load.add_argument(
        "--rate", type=_whole(1, MAX_RATE), metavar="R",
        help="payments per second (default: as many as the nodes take)",
    )  # fmt: skip
    load.add_argument(
        "--seed", type=_whole(0, 2**63 - 1), default=0, metavar="N",
        help="decides who pays whom how much",
    )  # fmt: skip


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number from {least} to {most}"
            )
        return int(text)

    return parse


# --- up -------------------------------------------------------------------------------------------


def _up(args: argparse.Namespace, output: Output) -> int:
    directory: Path = args.dir.absolute()
    try:
        network.claim(directory)
        lock = control.Lock.acquire(directory)
        found = _open_or_create(directory, args)
        if args.detach:
            started = detached.start(found, lock)
            _tell_started(output, args.dir, found, int(started["pid"]))
            return Exit.DONE
        asyncio.run(run_in_foreground(found, lock, output, args.dir, plain=args.no_tui))
    except (*detached.FAULTS, detached.StartFailed) as error:
        raise CommandError(detached.explain(error, args.dir)) from error
    return Exit.DONE


def _open_or_create(directory: Path, args: argparse.Namespace) -> Network:
    if not network.exists(directory):
        return network.create(
            directory,
            validators=DEFAULT_VALIDATORS if args.validators is None else args.validators,
            banks=DEFAULT_BANKS if args.banks is None else args.banks,
            seed=DEFAULT_SEED if args.seed is None else args.seed,
            base_port=args.base_port or 0,
            now=int(time.time() * 1000),
            profile=args.profile or profiles.DEFAULT,
        )
    found = network.open_existing(directory)
    for option in ("validators", "banks", "seed", "base_port", "profile"):
        wanted, has = getattr(args, option), getattr(found.settings, option)
        if wanted is not None and wanted != has:
            raise CommandError(
                f"the devnet in {directory} was made with --{option.replace('_', '-')} {has}, not "
                f"{wanted}; remove the directory to make another one, or choose one with --dir"
            )
    return network.with_usable_ports(found)


def _tell_started(output: Output, directory: Path, found: Network, pid: int) -> None:
    output.document({
        "directory": str(found.directory),
        "devnet": str(found.directory / network.DESCRIPTION),
        "chain_id": found.genesis.chain_id.hex(),
        "supervisor": pid,
    })  # fmt: skip
    output.line(
        f"{found.settings.validators} nodes run in {directory}; payments can be finalized.\n"
        f"Stop them with: nostro devnet down --dir {directory}"
    )


# --- commands to a running devnet -----------------------------------------------------------------


def _asked(directory: Path, operation: str, **arguments: Any) -> dict[str, Any]:
    try:
        return control.ask(directory, operation, **arguments)
    except (control.NotRunning, control.Refused) as error:
        raise CommandError(str(error)) from error
    except control.NoAnswer as error:
        raise CommandError(str(error), Exit.UNKNOWN) from error


def _status(args: argparse.Namespace, output: Output) -> int:
    answer = _asked(args.dir, "status")
    nodes = answer["nodes"]
    views = [_status_view(node["status"]) for node in nodes]
    seen = explain_all([view for view in views if view is not None], int(time.time() * 1000))
    settlement = {"result": seen.result, "text": seen.text}
    output.document(
        {"running": True, "nodes": nodes, "links": answer["links"], "settlement": settlement}
    )
    rows = [
        table.node_row(node["name"], node["state"], node["pid"], node["api"], view)
        for node, view in zip(nodes, views, strict=True)
    ]
    for line in table.lines(rows):
        output.line(line)
    for node in nodes:
        if node["status"] and node["status"]["alarm"]:
            output.note(f"{node['name']}: {node['status']['alarm']}")
    held = {node["name"]: node["held"] for node in nodes if node["held"]}
    if held:
        output.line(f"links held down: {describe_held(held)}")
    if answer["links"]:
        output.line(f"links slow or lossy: {describe_links(answer['links'])}")
    clocks = {n["name"]: n["clock_offset_ms"] for n in nodes if n["clock_offset_ms"]}
    if clocks:
        output.line(f"clocks off: {describe_clocks(clocks)}")
    output.line(seen.text)
    return Exit.DONE


def _status_view(document: Any) -> StatusView | None:
    return None if document is None else msgspec.convert(document, StatusView)


def _down(args: argparse.Namespace, output: Output) -> int:
    was_running = True
    try:
        control.stop(args.dir, STOP_SECONDS)
    except control.NotRunning:
        was_running = False
    except control.NoAnswer as error:
        raise CommandError(str(error), Exit.UNKNOWN) from error
    output.document({"running": False, "was_running": was_running})
    output.line(
        f"the devnet in {args.dir} is down"
        if was_running
        else f"no devnet runs in {args.dir}; nothing to stop"
    )
    return Exit.DONE


def _change(args: argparse.Namespace, output: Output) -> int:
    answer = _asked(args.dir, args.operation, node=args.node)
    output.document(answer)
    output.line(f"{answer['node']} is {answer['state']}")
    return Exit.DONE


def _change_faults(args: argparse.Namespace, output: Output) -> int:
    given = {name: getattr(args, name) for name in ("node", "groups") if hasattr(args, name)}
    return _tell_faults(_asked(args.dir, args.operation, **given), output)


def _change_link(args: argparse.Namespace, output: Output) -> int:
    if args.delay is None and args.jitter is None and args.loss is None:
        raise usage("give --delay, --jitter or --loss; --delay 0 makes a link good again")
    try:
        fault = parse_link_fault(args.delay, args.jitter, args.loss)
    except BadFault as error:
        raise usage(str(error)) from error
    if hasattr(args, "node"):
        answer = _asked(args.dir, "link", node=args.node, other=args.other, **fault.document())
    else:
        answer = _asked(args.dir, "links", **fault.document())
    return _tell_faults(answer, output)


def _change_clock(args: argparse.Namespace, output: Output) -> int:
    try:
        offset = parse_offset(args.offset)
    except BadFault as error:
        raise usage(str(error)) from error
    return _tell_faults(_asked(args.dir, "clock", node=args.node, offset_ms=offset), output)


def _tell_faults(answer: dict[str, Any], output: Output) -> int:
    output.document(answer)
    if answer["groups"]:
        groups = " | ".join(" ".join(group) for group in answer["groups"])
        output.line(f"partitioned: {groups}")
    if answer["disconnected"]:
        output.line(f"disconnected: {' '.join(answer['disconnected'])}")
    output.line(f"links held down: {describe_held(answer['held'])}")
    if answer["links"]:
        output.line(f"links slow or lossy: {describe_links(answer['links'])}")
    if answer["clocks"]:
        output.line(f"clocks off: {describe_clocks(answer['clocks'])}")
    return Exit.DONE


# --- load -----------------------------------------------------------------------------------------


def _load(args: argparse.Namespace, output: Output) -> int:
    try:
        found = network.open_existing(args.dir)
    except network.DevnetUnusable as error:
        raise CommandError(str(error)) from error
    if not control.is_running(args.dir):
        raise CommandError(
            f"no devnet runs in {args.dir}; start it with: nostro devnet up --dir {args.dir}"
        )
    plan = Plan(args.count, args.batch, float(args.rate or 0), args.seed)
    run = Load(found, plan)
    run.on_final = lambda _: show_progress()
    drawn = 0.0

    def show_progress() -> None:
        nonlocal drawn
        if time.monotonic() - drawn >= REDRAW_SECONDS or run.result.final == plan.count:
            output.progress(run.result.final, plan.count, "payments final")
            drawn = time.monotonic()

    result = asyncio.run(run.run())
    output.clear_progress()
    output.document(result.document())
    _tell_result(output, plan, result)
    if result.rejected or result.refused:
        return Exit.REFUSED
    return Exit.DONE if result.settled == plan.count else Exit.UNKNOWN


def _tell_result(output: Output, plan: Plan, result: Result) -> None:
    found = result.document()
    finality = found["finality_ms"]
    output.line(
        f"{result.settled:,} of {plan.count:,} payments settled in {found['seconds']:.2f} s, "
        f"{found['payments_per_s']:,.0f} per second; finality p50 {finality['p50']} ms, "
        f"p99 {finality['p99']} ms"
    )
    unsent = plan.count - result.payments
    for count, what in (
        (result.rejected, "rejected by the ledger"),
        (result.refused, f"not taken in ({result.problem})"),
        (result.unknown, "sent, but no node has told an outcome"),
        (unsent, "not sent: nothing became final any more"),
    ):
        if count:
            output.note(f"{count:,} payments {what}")
