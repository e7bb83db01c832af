"""`nostro simulate`: what a day's payments need in liquidity, by the ledger's own rules."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output

if TYPE_CHECKING:
    from node.simulate.run import Result

SHOWN = 20
"""Payments listed for people; --json lists all."""


def register(subparsers: Any) -> None:
    """Add this module's command to the parser."""
    command = subparsers.add_parser(
        "simulate",
        help="play a scenario of payments without a network",
        description="Run a scenario's payments through the ledger's own rules, with and without "
        "resolution of gridlocks, and tell what settled, how long it waited and how much "
        "liquidity it took. Form of the file: docs/reference/simulate.md.",
    )
    command.add_argument("scenario", metavar="SCENARIO.json", type=Path)
    command.add_argument(
        "--plot", metavar="FILE.html", type=Path, help="draw balances and queue by round"
    )
    command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    command.set_defaults(handler=_simulate)


def _simulate(args: argparse.Namespace, output: Output) -> int:
    from node.simulate.plot import plot_html  # noqa: PLC0415
    from node.simulate.run import simulate  # noqa: PLC0415
    from node.simulate.scenario import BadScenario, read_scenario  # noqa: PLC0415

    if args.plot is not None and args.plot.suffix != ".html":
        raise usage(f"--plot {args.plot}: a name that ends in .html is expected")
    try:
        scenario = read_scenario(args.scenario.read_bytes())
    except BadScenario as error:
        raise CommandError(f"{args.scenario}: {error}") from error
    result = simulate(scenario, resolution=scenario.resolution)
    other = simulate(scenario, resolution=not scenario.resolution)
    document = _document(result)
    compared = "without_resolution" if scenario.resolution else "with_resolution"
    document[compared] = _document(other)
    if args.plot is not None:
        runs = {"with resolution": result, "without resolution": other}
        if not scenario.resolution:
            runs = {"with resolution": other, "without resolution": result}
        args.plot.write_text(plot_html(scenario, runs), encoding="utf-8")
        document["plot"] = str(args.plot)
    output.document(document)
    _show(output, scenario.currency, {"this run": result, compared.replace("_", " "): other})
    if args.plot is not None:
        output.line(f"drawn in {args.plot}")
    return Exit.DONE


def _document(result: Result) -> dict[str, Any]:
    return {
        "settled": result.settled,
        "queued": result.queued,
        "rejected": result.rejected,
        "closing": result.closing,
        "lowest": result.lowest,
        "settled_value": result.settled_value,
        "queued_value": result.queued_value,
        "delay_rounds": result.delay_rounds,
        "liquidity": result.liquidity,
        "turnover": result.turnover,
    }


def _show(output: Output, currency: str, runs: dict[str, Result]) -> None:
    rows = [
        ("settled", *(f"{len(r.settled):,}" for r in runs.values())),
        ("  minor units", *(f"{r.settled_value:,}" for r in runs.values())),
        ("still queued", *(f"{len(r.queued):,}" for r in runs.values())),
        ("  minor units", *(f"{r.queued_value:,}" for r in runs.values())),
        ("rejected", *(f"{len(r.rejected):,}" for r in runs.values())),
        ("rounds waited, in all", *(f"{r.delay_rounds:,}" for r in runs.values())),
        ("liquidity used, minor units", *(f"{r.liquidity:,}" for r in runs.values())),
        (
            "turnover, settled ÷ liquidity",
            *("-" if r.turnover is None else f"{r.turnover:,.2f}" for r in runs.values()),
        ),
    ]
    first, second = runs
    output.table([currency, first, second], rows)
    waiting = next(iter(runs.values())).queued
    if waiting:
        more = f", and {len(waiting) - SHOWN:,} more" if len(waiting) > SHOWN else ""
        output.line(f"queued at the end: {', '.join(waiting[:SHOWN])}{more}")
