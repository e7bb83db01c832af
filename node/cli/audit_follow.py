"""`nostro audit follow`: an auditor's own verified copy, held against several nodes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.common import MAX_TIMEOUT_SECONDS
from node.cli.connection import read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output

if TYPE_CHECKING:
    from node.engine.alarms import Alarms, AuditMetrics
    from node.engine.auditing import Auditor
    from node.engine.verified_copy import VerifiedCopy

LEVELS = ("debug", "info", "warning", "error")
MIN_STALL_SECONDS = 1.0
HOST = "127.0.0.1"
"""Metrics are for the machine that the follower runs on."""


def register(commands: Any) -> None:
    """Add `audit follow` to the parser."""
    follow = commands.add_parser(
        "follow",
        help="keep a verified copy from several nodes, and raise alarms",
        description="Execute every block oneself, hold the nodes' heads against the result, and go "
        "on until SIGTERM, SIGINT or an alarm. Exits with 0 if it was stopped, 1 after a fork, a "
        "rollback or a block that does not verify, 2 if nothing new came, nobody answered or the "
        "copy cannot be kept.",
    )
    follow.add_argument(
        "--api", metavar="URL", action="append", required=True, dest="urls",
        help="a node; repeat it, best with nodes of different operators",
    )  # fmt: skip
    follow.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    follow.add_argument("--dir", metavar="DIR", type=Path, required=True, help="the copy")
    follow.add_argument(
        "--stall", metavar="SECONDS", type=_seconds, default=None,
        help="raise an alarm when nothing new came for so long (default: 120)",
    )  # fmt: skip
    follow.add_argument("--webhook", metavar="URL", help="where alarms are posted to, as JSON")
    follow.add_argument(
        "--metrics-port", metavar="PORT", type=_port, help="serve /metrics on 127.0.0.1; 0: any"
    )
    follow.add_argument(
        "--keep-going", action="store_true", help="go on after an alarm instead of ending"
    )
    follow.add_argument("--log-level", choices=LEVELS, default="info")
    follow.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, at the end"
    )
    follow.set_defaults(handler=_follow)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not MIN_STALL_SECONDS <= seconds <= MAX_TIMEOUT_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a number of seconds from 1 to 86400"
        )
    return seconds


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no port")
    return number


def _follow(args: argparse.Namespace, output: Output) -> int:
    from node.chain.genesis import BadGenesis  # noqa: PLC0415
    from node.chain.signature import UnsafeLibsodium, self_check  # noqa: PLC0415
    from node.engine.auditing import MAX_SOURCES  # noqa: PLC0415
    from node.engine.verified_copy import CopyDirectory  # noqa: PLC0415
    from node.ledger.rules import UnknownRules  # noqa: PLC0415
    from node.ledger.state import ConservationBroken, StateDamaged  # noqa: PLC0415
    from node.storage.errors import StorageError  # noqa: PLC0415

    urls = [url.rstrip("/") for url in args.urls]
    for url in (*urls, *([args.webhook] if args.webhook else [])):
        if not url.startswith(("http://", "https://")):
            raise usage(f"{url[:200]!r} is no URL of HTTP")
    if len(set(urls)) != len(urls) or len(urls) > MAX_SOURCES:
        raise usage(f"give --api 1 to {MAX_SOURCES} times, each with another node")
    logging.basicConfig(
        level=args.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    genesis = read_input(args.genesis, "the genesis file")
    try:
        self_check()
        with CopyDirectory(args.dir, genesis) as directory:
            copy = directory.open()
            try:
                return asyncio.run(_run(args, urls, copy, output))
            finally:
                copy.close()
    except BadGenesis as error:
        raise usage(f"{args.genesis}: {error}") from error
    except (UnsafeLibsodium, UnknownRules, StateDamaged, ConservationBroken) as error:
        raise CommandError(f"the copy cannot be kept: {error}", Exit.UNKNOWN) from error
    except StorageError as error:
        raise CommandError(str(error), Exit.UNKNOWN) from error


async def _run(
    args: argparse.Namespace, urls: list[str], copy: VerifiedCopy, output: Output
) -> int:
    from node.engine.alarms import Alarms, AuditMetrics  # noqa: PLC0415
    from node.engine.auditing import STALL_SECONDS, Auditor  # noqa: PLC0415

    metrics = AuditMetrics()
    alarms = Alarms(metrics, args.webhook, height=lambda: copy.height)
    auditor = Auditor(
        copy,
        urls,
        alarms,
        metrics,
        stall=STALL_SECONDS if args.stall is None else args.stall,
        keep_going=args.keep_going,
    )
    log = logging.getLogger("nostro.auditing")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _listener(args.metrics_port, metrics) as address:
        log.info("the copy is verified to height %d; following %s", copy.height, ", ".join(urls))
        if address is not None:
            log.info("metrics at %s", address)
        running = asyncio.create_task(auditor.run(), name="auditor")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not running.done():
            running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
    _tell(auditor, alarms, output)
    return auditor.exit_code


def _tell(auditor: Auditor, alarms: Alarms, output: Output) -> None:
    report = auditor.report()
    output.document({**asdict(report), "told": [asdict(each) for each in alarms.kept]})
    output.line(f"verified to height {report.height}, block {report.digest}")
    for each in alarms.kept:
        source = f" of {each.source}" if each.source else ""
        output.line(f"ALARM  {each.kind}{source}: {each.text}")


@asynccontextmanager
async def _listener(port: int | None, metrics: AuditMetrics) -> AsyncIterator[str | None]:
    """Serve metrics; where."""
    if port is None:
        yield None
        return
    from aiohttp import web  # noqa: PLC0415

    async def show(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    app = web.Application()
    app.add_routes([web.get("/metrics", show)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError as error:
            raise CommandError(
                f"cannot listen on {HOST}:{port}: {error.strerror}", Exit.UNKNOWN
            ) from error
        yield f"http://{HOST}:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()
