"""`nostro devnet scenario …`: runs scenarios on devnets of their own, or on one that runs."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devnet import control, detached, network
from devnet.network import Network
from devnet.scenario.run import Report, Run, RunFailed
from devnet.scenario.script import (
    BadScript,
    Script,
    find_script,
    load_script,
    shipped,
    with_devnet,
)
from devnet.supervisor import Supervisor, make_usable
from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output

LOG = "scenario.log"
"""In the devnet's directory: what the supervisor and the run told, with times."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "scenario", nargs="?", metavar="SCENARIO",
        help="a scenario file, or the name of one that comes with nostro",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="show those that come with nostro")
    parser.add_argument("--all", action="store_true", help="run all that come with nostro")
    parser.add_argument("--short", action="store_true", help="the short version of the scenario")
    parser.set_defaults(handler=run_command, dir=None)


def run_command(args: argparse.Namespace, output: Output) -> int:
    """`nostro devnet scenario`."""
    if args.list + args.all + (args.scenario is not None) != 1:
        raise usage("name one scenario, or give --list or --all")
    try:
        if args.list:
            return _list(output)
        given = shipped() if args.all else [args.scenario]
        scripts = [load_script(find_script(name), short=args.short) for name in given]
    except BadScript as error:
        raise usage(str(error)) from error
    if args.all and args.dir is not None and not control.is_running(args.dir):
        raise usage("--all runs each scenario on a devnet of its own; leave out --dir")
    documents = []
    for script in scripts:
        documents.append(_run_one(script, args.dir, output))
    output.document(documents if args.all else documents[0])
    return Exit.DONE if all(document["passed"] for document in documents) else Exit.REFUSED


def _list(output: Output) -> int:
    scripts = [load_script(find_script(name)) for name in shipped()]
    output.document([{"name": script.name, "title": script.title} for script in scripts])
    for script in scripts:
        output.line(f"{script.name:<18}  {script.title}")
    return Exit.DONE


def _run_one(script: Script, directory: Path | None, output: Output) -> dict[str, Any]:
    """Run a scenario; its document. Raises CommandError where it cannot be judged."""
    output.line(f"{script.name}: {script.title}")
    own = directory is None
    place = Path(tempfile.mkdtemp(prefix=f"nostro-{script.name}-")) if own else directory
    assert place is not None
    try:
        if control.is_running(place):
            found = network.open_existing(place)
            settings = found.settings
            fitted = with_devnet(
                script, validators=settings.validators, banks=settings.banks, seed=script.seed
            )
            report = asyncio.run(Run(fitted, found, output.line).run())
        else:
            report = _run_on_own(script, place, output)
    except KeyboardInterrupt:
        if own:
            shutil.rmtree(place)
        else:
            output.note(f"faults may be left: nostro devnet heal --dir {place}")
        raise
    except BadScript as error:
        raise usage(str(error)) from error
    except (RunFailed, control.NotRunning, control.NoAnswer) as error:
        raise CommandError(
            f"{script.name}: {error}; its logs are in {place}", Exit.UNKNOWN
        ) from error
    except detached.FAULTS as error:
        text = detached.explain(error, place)
        raise CommandError(f"{script.name}: {text}", Exit.UNKNOWN) from error
    _tell(report, place, output)
    document = report.document()
    kept = not (own and report.verdict.passed)
    if not kept:
        shutil.rmtree(place)
    return {**document, "directory": str(place) if kept else None}


def _run_on_own(script: Script, directory: Path, output: Output) -> Report:
    """Run a scenario on a devnet that this process starts and ends."""
    network.claim(directory)
    lock = control.Lock.acquire(directory)
    if network.exists(directory):
        found = network.with_usable_ports(network.open_existing(directory))
        script = with_devnet(
            script,
            validators=found.settings.validators,
            banks=found.settings.banks,
            seed=script.seed,
        )
    else:
        found = network.create(
            directory,
            validators=script.validators,
            banks=script.banks,
            seed=script.seed,
            base_port=0,
            now=int(time.time() * 1000),
        )
    with open(directory / LOG, "a", encoding="utf-8") as log:

        def note(text: str) -> None:
            print(time.strftime("%Y-%m-%dT%H:%M:%S"), text, file=log, flush=True)

        def say(text: str) -> None:
            note(text)
            output.line(text)

        return asyncio.run(_supervised(script, found, lock, note, say))


async def _supervised(
    script: Script,
    found: Network,
    lock: control.Lock,
    note: Callable[[str], None],
    say: Callable[[str], None],
) -> Report:
    reports: list[Report] = []

    async def ready(supervisor: Supervisor) -> None:
        await make_usable(supervisor)
        reports.append(await Run(script, found, say).run())
        supervisor.stop()

    await Supervisor(found, note).run(lock, ready)
    if not reports:
        raise KeyboardInterrupt  # the supervisor was told to stop before the end
    return reports[0]


def _tell(report: Report, directory: Path, output: Output) -> None:
    load, verdict = report.load, report.verdict
    finality = load["finality_ms"]
    output.line(
        f"{load['settled']:,} payments settled in {load['seconds']:.1f} s; finality p50 "
        f"{finality['p50']} ms, p99 {finality['p99']} ms"
    )
    slowest = max((r.seconds for r in report.recoveries if r.seconds is not None), default=0.0)
    output.line(
        f"{len(report.done)} steps, {len(report.recoveries)} recoveries, the slowest in "
        f"{slowest:.2f} s; judged {verdict.blocks:,} blocks, {verdict.told:,} outcomes told to "
        f"clients and {verdict.reads:,} reads of all balances"
    )
    if verdict.passed:
        output.line(f"{report.script.name}: PASSED\n")
        return
    for finding in verdict.findings:
        output.note(f"{report.script.name}: FAILED {finding.rule}: {finding.text}")
    output.note(f"{report.script.name}: everything is kept in {directory}; logs in its logs/")
