"""`nostro audit chain`: replay a whole chain."""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from node.cli.connection import read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output
from node.cli.stopped import stopped

if TYPE_CHECKING:
    from node.audit.chain_audit import AuditReport, ChainSource
    from node.audit.workdir import WorkDirectory
    from node.audit.workspace import Workspace
    from node.chain.genesis import Genesis

MAX_PROCESSES = 64


class Opened(NamedTuple):
    """A chain to be replayed."""

    source: ChainSource
    outcomes: bool
    """Whether it holds outcomes to be compared …"""
    state: bool
    """… and state records."""


def register(commands: Any) -> None:
    """Add `audit chain` to the parser."""
    chain = commands.add_parser(
        "chain",
        help="replay every block and check every signature, root and balance",
        description="Replays a chain from its genesis file and believes nothing that is stored. "
        "What an audit that was killed had come to is gone on with.",
    )
    add_source(chain)
    chain.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    chain.add_argument(
        "--work",
        metavar="DIR",
        type=Path,
        help="keep the audit's work here: the next one goes on from where this one ends. Without "
        "it the work lies in the user's cache until the audit ends",
    )
    chain.add_argument(
        "--processes",
        metavar="N",
        type=_processes,
        help="processes that verify signatures beside the replay (default: one for each core); "
        "0: the replay verifies them itself",
    )
    chain.add_argument("--json", action="store_true", help="one JSON document on stdout")
    chain.set_defaults(handler=_audit_chain)


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options that say which chain: exactly one of them."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--home", metavar="DIR", type=Path, help="a node's home")
    which.add_argument("--archive", metavar="FILE", type=Path, help="an archive of the chain")
    which.add_argument("--api", metavar="URL", type=_url, help="a node's API")


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is not the URL of an API, such as http://127.0.0.1:8080"
        )
    return text


def _processes(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else -1
    if not 0 <= number <= MAX_PROCESSES:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 to {MAX_PROCESSES}")
    return number


# --- the command --------------------------------------------------------------------------------


def _audit_chain(args: argparse.Namespace, output: Output) -> int:
    genesis = read_input(args.genesis, "the genesis file")
    report = _audited(args, genesis, output)
    output.document(
        {
            "verdict": report.verdict,
            "height": report.height,
            "block": report.digest.hex(),
            "instructions": report.instructions,
            "payments": report.payments,
            "signatures": report.signatures,
            "certificates": report.certificates,
            "epochs": report.epochs,
            "equivocations": report.equivocations,
            "statements": report.statements,
            "totals": report.totals,
            "resumed": report.resumed,
            "compared_outcomes": report.compared,
            "finding": None if report.finding is None else report.finding._asdict(),
            "undecided": report.undecided,
        }
    )
    output.line(report.text().rstrip("\n"))
    return report.exit_code


def _audited(args: argparse.Namespace, genesis: bytes, output: Output) -> AuditReport:
    from node.audit.audit_report import AuditReport  # noqa: PLC0415
    from node.audit.chain_audit import CannotResume  # noqa: PLC0415
    from node.chain.genesis import BadGenesis, load_genesis  # noqa: PLC0415

    try:
        founded = load_genesis(genesis)
    except BadGenesis as error:
        return AuditReport(undecided=f"nothing can be checked: {error}")
    directory = _work_directory(args, founded)
    try:
        report = _replay(args, founded, genesis, directory, output)
    except CannotResume as reason:
        output.note(f"the audit is begun anew: {directory.path}: {reason}")
        directory.remove()
        try:
            report = _replay(args, founded, genesis, directory, output)
        except CannotResume as again:
            raise CommandError(f"{directory.path}: {again}", Exit.UNKNOWN) from again
    if args.work is None and report.undecided is None:
        directory.remove()
    return report


def _replay(
    args: argparse.Namespace,
    founded: Genesis,
    genesis: bytes,
    directory: WorkDirectory,
    output: Output,
) -> AuditReport:
    """Raises CannotResume where the work is damaged or of another chain."""
    from node.audit.audit_report import Damaged, Stop  # noqa: PLC0415
    from node.audit.chain_audit import AuditReport, CannotResume, audit_chain  # noqa: PLC0415
    from node.audit.signatures import InProcesses  # noqa: PLC0415
    from node.storage.errors import StoreCorrupt  # noqa: PLC0415

    processes = len(os.sched_getaffinity(0)) if args.processes is None else args.processes
    try:
        with (
            open_chain(founded, home=args.home, archive=args.archive, api=args.api) as opened,
            _working(directory, output) as work,
        ):
            try:
                return audit_chain(
                    opened.source,
                    genesis,
                    Progress(output),
                    outcomes=opened.outcomes,
                    state=opened.state,
                    work=work,
                    checks=(lambda chain_id: InProcesses(chain_id, processes))
                    if processes
                    else None,
                )
            except StoreCorrupt as error:
                if not directory.holds(error.where):
                    raise
                raise CannotResume(f"it is damaged: {error.what}") from error
    except Damaged as error:
        return AuditReport(finding=Stop.of(error).finding)
    finally:
        output.clear_progress()


class Progress:
    """The bar, with the rate and the time left: of the last stretch, not of the whole."""

    STRETCH_SECONDS = 5.0
    REDRAW_SECONDS = 0.1

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._output = output
        self._clock = clock
        self._since = clock()
        self._drawn = float("-inf")
        self._from: tuple[int, int] | None = None
        self._rate = self._blocks = 0.0

    def __call__(self, so_far: AuditReport, last: int) -> None:
        now = self._clock()
        if now - self._drawn < self.REDRAW_SECONDS and so_far.height < last:
            return
        self._drawn = now
        if self._from is None:
            self._from = so_far.height, so_far.payments
        passed = now - self._since
        if passed >= self.STRETCH_SECONDS:
            self._blocks = (so_far.height - self._from[0]) / passed
            self._rate = (so_far.payments - self._from[1]) / passed
            self._since, self._from = now, (so_far.height, so_far.payments)
        what = "blocks"
        if self._blocks > 0:
            left = int((last - so_far.height) / self._blocks)
            what += f", {self._rate:,.0f} outcomes/s, {_span(left)} left"
        self._output.progress(so_far.height, last, what)


def _span(seconds: int) -> str:
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


# --- where the work lies --------------------------------------------------------------------------


def _work_directory(args: argparse.Namespace, genesis: Genesis) -> WorkDirectory:
    from node.audit.workdir import WorkDirectory  # noqa: PLC0415

    source = _named(args)
    if args.work is not None:
        return WorkDirectory(args.work, source)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(f"{genesis.chain_id.hex()}\n{source}".encode()).hexdigest()[:32]
    return WorkDirectory(cache / "nostro" / "audit" / name, source)


def _named(args: argparse.Namespace) -> str:
    """What is audited: the work on one source is not gone on with on another."""
    if args.api is not None:
        return f"api {args.api}"
    kind, path = ("home", args.home) if args.home is not None else ("archive", args.archive)
    return f"{kind} {path.resolve()}"


@contextmanager
def _working(directory: WorkDirectory, output: Output) -> Iterator[Workspace]:
    from node.audit.workdir import WorkRefused  # noqa: PLC0415
    from node.storage.errors import StoreLocked, StoreUnwritable  # noqa: PLC0415

    try:
        work, anew = directory.open()
    except StoreLocked as error:
        raise CommandError(
            f"another audit works in {directory.path}; wait for it, or name another directory "
            "with --work",
            Exit.UNKNOWN,
        ) from error
    except WorkRefused as error:
        raise usage(str(error)) from error
    except StoreUnwritable as error:
        raise CommandError(f"the audit has nowhere to work: {error}", Exit.UNKNOWN) from error
    if anew is not None:
        output.note(f"the audit is begun anew: {anew}")
    try:
        yield work
    finally:
        work.close()


# --- which chain ----------------------------------------------------------------------------------


@contextmanager
def open_chain(
    genesis: Genesis,
    *,
    home: Path | None = None,
    archive: Path | None = None,
    api: str | None = None,
) -> Iterator[Opened]:
    """The chain of a home (over its API, if its node runs), of an archive or of an API: one of
    them is given. Raises CommandError; Damaged for an archive that is none."""
    from node.storage.errors import StorageError  # noqa: PLC0415

    try:
        with _open_chain(genesis, home=home, archive=archive, api=api) as opened:
            yield opened
    except StorageError as error:
        # Nothing is known of the chain then: 1 would say that it is not sound.
        raise CommandError(str(error), Exit.UNKNOWN) from error


@contextmanager
def _open_chain(
    genesis: Genesis, *, home: Path | None, archive: Path | None, api: str | None
) -> Iterator[Opened]:
    if archive is not None:
        with _archive(archive, genesis) as opened:
            yield opened
    elif api is not None:
        with _remote(api) as opened:
            yield opened
    elif home is None:
        raise AssertionError("nothing is given")
    elif (url := _running(home)) is not None:
        with _remote(url, home=home) as opened:
            yield opened
    else:
        with stopped(home) as node:
            if node.lowest > 1:
                raise CommandError(
                    f"{home} holds blocks from height {node.lowest} on only: the others were "
                    "pruned, or it began with a snapshot. Take the home of a node that keeps "
                    "everything",
                    Exit.UNKNOWN,
                )
            yield Opened(node.store, outcomes=True, state=True)


def _running(home: Path) -> str | None:
    """The API of the node of this home, if it runs."""
    from node.storage.copies import is_copy  # noqa: PLC0415
    from node.storage.errors import StoreLocked  # noqa: PLC0415
    from node.storage.home import open_home  # noqa: PLC0415

    if is_copy(home):
        return None  # a follower has none
    found = open_home(home)
    try:
        found.acquire()
    except StoreLocked:
        return f"http://{found.config.api}"
    found.release()
    return None


@contextmanager
def _remote(url: str, home: Path | None = None) -> Iterator[Opened]:
    from node.engine.remote_chain import RemoteChain, RemoteFailed  # noqa: PLC0415

    try:
        with RemoteChain(url) as chain:
            yield Opened(chain, outcomes=False, state=False)
    except RemoteFailed as error:
        running = "" if home is None else f"the node of {home} is running, and read over its API: "
        advice = "" if home is None else "; stop the node, and its home itself is read"
        raise CommandError(f"{running}{error}{advice}", Exit.UNKNOWN) from error


@contextmanager
def _archive(path: Path, genesis: Genesis) -> Iterator[Opened]:
    from node.audit.archive import ArchiveReader  # noqa: PLC0415
    from node.audit.audit_report import Damaged  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            reader = ArchiveReader(file)
            if reader.chain_id != genesis.chain_id:
                raise Damaged(0, "archive, chain id", genesis.chain_id.hex(), reader.chain_id.hex())
            if reader.first > 0:
                raise CommandError(
                    f"{path} holds blocks from height {reader.first} on only: a chain is replayed "
                    "from its beginning",
                    Exit.UNKNOWN,
                )
            yield Opened(reader, outcomes=reader.has_outcomes, state=False)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise usage(f"cannot read the archive {path}: {error.strerror}") from error
    except OSError as error:
        raise CommandError(f"{path} cannot be read on: {error.strerror}", Exit.UNKNOWN) from error
