"""A devnet in the background: `python -m devnet.detached DIRECTORY LOCK_FD READY_FD`.

The process that starts it hands over the directory's lock, which so is never free in between,
and reads one line from a pipe: ready, or why not. From then on only the control socket and
signals reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from devnet.bootstrap import BootstrapFailed
from devnet.control import AlreadyRunning, Lock
from devnet.network import DevnetUnusable, Network, open_existing
from devnet.ports import PortsTaken
from devnet.processes import MAX_LOG_BYTES
from devnet.supervisor import NodeFailed, Supervisor, make_usable
from node.api.client import ApiError
from node.storage.errors import StorageError

FAULTS = (
    AlreadyRunning, ApiError, BootstrapFailed, DevnetUnusable, NodeFailed, OSError, PortsTaken,
    StorageError,
)  # fmt: skip
"""What can keep a devnet from starting, each with a text for people."""
LOG = "supervisor.log"


class StartFailed(Exception):
    """The background process did not get the devnet to work; the text says why."""


def start(network: Network, lock: Lock) -> dict[str, Any]:
    """Run the devnet in a process of its own; returns once a payment can be finalized.

    Raises StartFailed.
    """
    log_path = network.directory / LOG
    if log_path.exists() and log_path.stat().st_size > MAX_LOG_BYTES:
        log_path.unlink()
    ready, told = os.pipe()
    with open(log_path, "ab") as log, open(ready, "rb") as answers:
        process = subprocess.Popen(
            [sys.executable, "-m", "devnet.detached", str(network.directory),
             str(lock.file), str(told)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock.file, told),
            start_new_session=True,
        )  # fmt: skip
        os.close(told)
        lock.release()
        try:
            line = answers.readline()
        except BaseException:
            # Ctrl-C while it starts: nothing is to stay behind.
            process.terminate()
            process.wait()
            raise
    if not line:
        raise StartFailed(f"the background process ended without a word; see {log_path}")
    document: dict[str, Any] = json.loads(line)
    if "error" in document:
        process.wait()
        raise StartFailed(str(document["error"]))
    return document


def explain(error: Exception, directory: Path) -> str:
    """What a fault means, for people."""
    if isinstance(error, OSError):
        return f"{error.filename or directory}: {error.strerror or error}"
    return str(error)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: the devnet goes on without its log
        print(time.strftime("%Y-%m-%dT%H:%M:%S"), text, flush=True)


async def _run(network: Network, lock: Lock, told: int) -> None:
    async def ready(supervisor: Supervisor) -> None:
        await make_usable(supervisor)
        _tell(told, {"pid": os.getpid()})
        _say("ready")

    await Supervisor(network, _say).run(lock, ready)


def _tell(told: int, document: dict[str, Any]) -> None:
    # Whoever waited may be gone; the devnet was asked for all the same.
    with contextlib.suppress(OSError):
        os.write(told, json.dumps(document).encode() + b"\n")
        os.close(told)


def main(arguments: list[str]) -> int:
    """Entry of the background process."""
    directory, lock, told = Path(arguments[0]), Lock.inherited(int(arguments[1])), int(arguments[2])
    os.set_inheritable(told, False)
    try:
        asyncio.run(_run(open_existing(directory), lock, told))
    except FAULTS as error:
        _say(explain(error, directory))
        _tell(told, {"error": explain(error, directory)})
        return 1
    _say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
