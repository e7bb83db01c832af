"""Work that must not keep the node from voting: on a thread of its own, and only so much of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from node.api.problems import Refused

MAX_WAITING = 64
"""Answers being built or waiting for their turn: one may take a tenth of a second."""

T = TypeVar("T")


class Offload:
    """One thread and a bounded queue before it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting = 0

    async def run(self, build: Callable[[], T]) -> T:
        """The result of `build`. Raises Refused (busy) where too much waits already."""
        if self._waiting >= MAX_WAITING:
            raise Refused("busy", f"too many {self._name} are being built; ask again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, build)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Wait until nothing is being built any more; what waits for its turn is dropped."""
        self._threads.shutdown(cancel_futures=True)
