"""Becomes another program that dies with the process that started it, however that one ends.

Run as a file, with nothing but the standard library: `launcher.py PARENT_PID PROGRAM ARG…`.

A devnet killed by -9 runs no clean-up code. Watching a pipe or the parent's pid would not do
either: a node that was paused (SIGSTOP) watches nothing, and would be left behind for good.
So the kernel is asked to kill it: prctl(2) PR_SET_PDEATHSIG, which survives exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""
CANNOT_LAUNCH = 126
"""Exit status, as a shell gives it for a program that cannot be run."""


def main(arguments: list[str]) -> None:
    """Ask for the parent-death signal, then exec the program. Returns only by raising."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            reason = os.strerror(ctypes.get_errno())
            sys.exit(f"launcher: prctl(PR_SET_PDEATHSIG) failed: {reason}")
    # The parent may have died between fork and prctl; then the signal would never come.
    if os.getppid() != parent:
        os._exit(CANNOT_LAUNCH)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
