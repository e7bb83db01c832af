"""One node as a process: started, signalled, stopped, and its end noticed and explained."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from node.network.faults import ENV_FAULTS, Faults

STOP_SECONDS = 10.0
"""How long a node may take to end after SIGTERM before it is killed."""
MAX_LOG_BYTES = 16 * 1024 * 1024
"""A larger log is moved aside at the next start; one older log is kept."""
TAIL_BYTES = 2_000
"""Of a node's log, quoted when it ends unasked."""

NO_FAULTS = Faults()
LAUNCHER = Path(__file__).with_name("launcher.py")

State = Literal["running", "paused", "down"]


class ProcessRefused(Exception):
    """What was asked of a node process cannot be done in its state; the text says why."""


@dataclass(slots=True)
class NodeProcess:
    """A node of the devnet. At most one process of it runs at a time.

    Its pid is only ever used while the process is our unreaped child, so it cannot have been
    given to a stranger meanwhile.
    """

    name: str
    home: Path
    log: Path
    environment: dict[str, str]
    ended: str | None = None
    """How the last process ended, for people; None while it runs or before it ever did."""
    _process: asyncio.subprocess.Process | None = None
    _paused: bool = False
    _expected: bool = field(default=False)
    """The end was asked for: no quote from the log is needed."""
    _log_start: int = 0
    """Where in the log file the present process began."""

    @property
    def pid(self) -> int | None:
        """Pid of the running process."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def state(self) -> State:
        if self.pid is None:
            return "down"
        return "paused" if self._paused else "running"

    async def start(self, faults: Faults = NO_FAULTS) -> None:
        """Start the process, with these faults from its first moment.

        Raises ProcessRefused if it runs already."""
        if self.pid is not None:
            raise ProcessRefused(f"{self.name} is running already (pid {self.pid})")
        self._make_room_in_log()
        command = (sys.executable, "-m", "node.cli", "start", "--home", str(self.home))
        with open(self.log, "ab") as log:  # noqa: ASYNC230 - a local file, opened at once
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environment, ENV_FAULTS: faults.encoded()},
                # Ctrl-C in the terminal is for the supervisor, which then stops the nodes.
                process_group=0,
            )  # fmt: skip
        self.ended, self._paused, self._expected = None, False, False

    async def wait(self) -> str:
        """Wait until the process has ended and tell how. Returns at once if none runs."""
        if self._process is not None:
            status = await self._process.wait()
            self.ended = _describe_end(status)
        return self.ended or "never started"

    def kill(self) -> None:
        """SIGKILL: the process gets no chance to tidy up. Raises ProcessRefused if it is down."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: alive, its connections open, but deaf and silent. Raises ProcessRefused."""
        self._signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """SIGCONT after `pause`. Raises ProcessRefused if the node is not paused."""
        if self.state == "running":
            raise ProcessRefused(f"{self.name} is not paused")
        self._signal(signal.SIGCONT)
        self._paused = False

    async def stop(self) -> None:
        """End the process in an orderly way, by SIGKILL if it takes too long. Idempotent."""
        if self.pid is None:
            return
        self._signal(signal.SIGTERM)
        # A paused process would see SIGTERM only once it goes on.
        self._signal(signal.SIGCONT)
        try:
            await asyncio.wait_for(self.wait(), STOP_SECONDS)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.wait()

    def unexpected_end(self) -> str | None:
        """How the process ended, with its last log lines, if nobody asked for that."""
        if self.pid is not None or self.ended is None or self._expected:
            return None
        return f"{self.name} {self.ended}; the end of {self.log}:\n{self.log_tail()}"

    def log_tail(self) -> str:
        """The last lines that the present process logged."""
        try:
            with open(self.log, "rb") as log:
                log.seek(max(self._log_start, self.log.stat().st_size - TAIL_BYTES))
                lines = log.read(TAIL_BYTES).decode("utf-8", "replace").splitlines()
        except OSError as error:
            return f"  (cannot read it: {error.strerror})"
        return "\n".join(f"  {line}" for line in lines[-15:]) or "  (it is empty)"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self.pid is None:
            raise ProcessRefused(
                f"{self.name} is down ({self.ended or 'never started'}); "
                f"start it with: nostro devnet restart {self.name}"
            )
        self._expected = self._expected or number in (signal.SIGKILL, signal.SIGTERM)
        self._process.send_signal(number)

    def _make_room_in_log(self) -> None:
        try:
            if self.log.stat().st_size > MAX_LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.old"))
        except FileNotFoundError:
            self.log.parent.mkdir(parents=True, exist_ok=True)


def _describe_end(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"exited with status {status}"
