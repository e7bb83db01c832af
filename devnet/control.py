"""How commands reach the supervisor of a devnet: one JSON line each way over a Unix socket.

Commands never signal a process by a pid from a file: pids are reused, and a stale file would
make `nostro devnet kill` hit a stranger. They ask the supervisor, which knows its own children;
and whether one is there at all is told by a lock that the kernel drops when it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOCKET_NAME = "supervisor.sock"
LOCK_NAME = "supervisor.lock"
MAX_LINE_BYTES = 1024 * 1024
"""Of a request or an answer."""
ANSWER_SECONDS = 90.0
"""How long the supervisor may take to carry out a command (a restart waits for the node)."""


class NotRunning(Exception):
    """No supervisor runs this devnet."""


class Refused(Exception):
    """The supervisor refused a command; the text says why."""


class NoAnswer(Exception):
    """The supervisor is there but did not answer in time, so what it did is not known."""


class AlreadyRunning(Exception):
    """Another supervisor runs this devnet."""


class Lock:
    """Held as long as a supervisor runs the devnet of a directory, by that process."""

    def __init__(self, file: int) -> None:
        self.file = file

    @classmethod
    def acquire(cls, directory: Path) -> Lock:
        """Take the lock, or raise AlreadyRunning."""
        file = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise AlreadyRunning(
                f"a devnet runs in {directory} already; see it with: nostro devnet status "
                f"--dir {directory}, stop it with: nostro devnet down --dir {directory}"
            ) from None
        return cls(file)

    @classmethod
    def inherited(cls, file: int) -> Lock:
        """The lock of the process that started this one: a flock goes with its descriptor."""
        os.set_inheritable(file, False)
        return cls(file)

    def release(self) -> None:
        os.close(self.file)


def is_running(directory: Path) -> bool:
    """Whether some supervisor holds the lock of this directory."""
    try:
        Lock.acquire(directory).release()
    except AlreadyRunning:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def short_path(directory: Path) -> Iterator[str]:
    """A path of the socket that fits sockaddr_un, which takes 107 bytes, from any directory."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET_NAME}"
    finally:
        os.close(handle)


def ask(directory: Path, operation: str, **arguments: Any) -> dict[str, Any]:
    """Send one command to the supervisor of the devnet in `directory`; its answer.

    Raises NotRunning, Refused or NoAnswer.
    """
    with _connect(directory) as connection:
        return _exchange(connection, {"op": operation, **arguments})


def stop(directory: Path, seconds: float) -> None:
    """Have the supervisor end all nodes and itself; returns once its process is gone.

    Raises NotRunning, or NoAnswer if it is still there after `seconds`.
    """
    with _connect(directory) as connection:
        pid = int(_exchange(connection, {"op": "hello"})["pid"])
        # A handle opened while it answers stays this process, whoever gets its pid later.
        process = os.pidfd_open(pid)
        try:
            _exchange(connection, {"op": "down"})
            watch = select.poll()
            watch.register(process, select.POLLIN)
            if not watch.poll(seconds * 1000):
                raise NoAnswer(f"the supervisor (pid {pid}) is still there after {seconds:.0f} s")
        finally:
            os.close(process)


def _connect(directory: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_SECONDS)
    try:
        with short_path(directory) as path:
            connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        if is_running(directory):
            raise NoAnswer(
                f"the devnet in {directory} is just starting or stopping; try again"
            ) from None
        raise NotRunning(
            f"no devnet runs in {directory}; start one with: nostro devnet up --dir {directory}"
        ) from None
    except OSError as error:
        connection.close()
        raise NoAnswer(
            f"cannot reach the supervisor of the devnet in {directory}: {error.strerror or error}"
        ) from error
    return connection


def _exchange(connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
    try:
        connection.sendall(json.dumps(request).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            part = connection.recv(65_536)
            if not part or len(line) > MAX_LINE_BYTES:
                raise NoAnswer("the supervisor went away before it answered")
            line += part
    except TimeoutError:
        raise NoAnswer(f"the supervisor did not answer within {ANSWER_SECONDS:.0f} s") from None
    except OSError as error:
        raise NoAnswer(f"the supervisor went away before it answered: {error}") from error
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise Refused(str(answer["error"]))
    return answer
