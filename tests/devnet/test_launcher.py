"""A process that was started through the launcher dies with its parent, come what may."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from devnet.processes import LAUNCHER

PARENT = """
import subprocess, sys, os
child = subprocess.Popen([sys.executable, "-I", "-S", sys.argv[1], str(os.getpid()),
                          sys.executable, "-c", sys.argv[2]], stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode().strip(), flush=True)
child.wait()
"""
CHILD = "import signal; print('ready', flush=True); signal.pause()"
SECONDS = 10.0


def gone(pid_handle: int) -> bool:
    """Whether the process ends within SECONDS."""
    watch = select.poll()
    watch.register(pid_handle, select.POLLIN)
    return bool(watch.poll(SECONDS * 1000))


@pytest.mark.processes
@pytest.mark.parametrize("paused", [False, True])
def test_a_child_dies_when_its_parent_is_killed_even_while_it_is_paused(paused: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(LAUNCHER), CHILD], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, word = parent.stdout.readline().split()
        assert word == "ready"
        child = os.pidfd_open(int(pid))
        try:
            if paused:
                signal.pidfd_send_signal(child, signal.SIGSTOP)
            parent.kill()
            assert gone(child), "the child outlived its killed parent"
        finally:
            os.close(child)


def test_a_launcher_whose_parent_is_gone_already_starts_nothing() -> None:
    command = [sys.executable, "-I", "-S", str(LAUNCHER), "1", sys.executable, "-c", "print(1)"]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 126
    assert done.stdout == b""
