"""The process that runs a devnet: starts the nodes, obeys commands, leaves nothing behind.

Whatever ends it (a command, Ctrl-C, SIGTERM, a failure, an exception), `run` ends every node
before it returns; where it cannot (SIGKILL), the kernel ends the nodes (see `launcher`). A node
that ends unasked stays down, as in a bank's data centre until somebody looks: a devnet that
restarted nodes by itself would hide the very faults it is there to show.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from consensus.messages import quorum
from devnet.bootstrap import BootstrapFailed, issue_opening_balances
from devnet.control import MAX_LINE_BYTES, SOCKET_NAME, Lock, short_path
from devnet.network import DESCRIPTION, Network
from devnet.partition import (
    BadFault,
    Faults,
    LinkFault,
    describe_clocks,
    describe_held,
    describe_links,
    find_node,
    parse_groups,
)
from devnet.ports import PortsTaken, check
from devnet.processes import NodeProcess, ProcessRefused
from node.api.client import ApiClient, ApiError
from node.api.service import StatusView
from node.network import faults as node_faults

START_SECONDS = 60.0
"""How long a node may take from its start until its API answers."""
PROBE_SECONDS = 0.05
"""Between two tries to reach the API of a node that is starting."""
STATUS_SECONDS = 1.0
"""How long a node may take to tell its status before it counts as not answering."""

FAULT_COMMANDS = ("disconnect", "reconnect", "partition", "link", "links", "clock", "heal")

Event = Callable[[str], None]
Ready = Callable[["Supervisor"], Awaitable[None]]


class NodeFailed(Exception):
    """A node ended or stayed silent while it was to start; the text quotes its log."""


class FaultsNotSet(Exception):
    """A node did not take its faults as ordered; the text says why."""


class Supervisor:
    """The nodes of one devnet and the socket through which commands reach them."""

    def __init__(self, network: Network, say: Event) -> None:
        self.network = network
        self._say = say
        environment = network.node_environment(os.environ)
        self.nodes = [
            NodeProcess(name, network.home(name), network.log(name), environment)
            for name in network.node_names
        ]
        self._down = asyncio.Event()
        self._watchers: set[asyncio.Task[None]] = set()
        self._clients = {node.name: ApiClient([network.api(node.name)]) for node in self.nodes}
        self._serving: set[asyncio.Task[Any]] = set()
        self._starting: set[str] = set()
        self._faults = Faults(network.node_names, network.settings.seed)
        self._busy = {node.name: asyncio.Lock() for node in self.nodes}

    async def run(self, lock: Lock, on_ready: Ready) -> None:
        """Run the devnet until it is told to stop. Raises NodeFailed, PortsTaken.

        `on_ready` is called when all nodes answer; the devnet stops if it raises.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked_to_stop)
        async with contextlib.AsyncExitStack() as stack:
            for client in self._clients.values():
                await stack.enter_async_context(client)
            try:
                work = asyncio.create_task(self._work(on_ready))
                stop = asyncio.create_task(self._down.wait())
                await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                if not work.done():
                    work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
            finally:
                await self._end_all()
                lock.release()

    async def _work(self, on_ready: Ready) -> None:
        check(self.network.settings.ports)
        async with self._listening():
            await asyncio.gather(*(node.start() for node in self.nodes))
            self._describe()
            for node in self.nodes:
                self._watch(node)
            await asyncio.gather(*(self._answers(node) for node in self.nodes))
            await on_ready(self)
            await self._down.wait()

    def _describe(self) -> None:
        """Write devnet.json. On a full disk the devnet goes on: its commands do not need it."""
        try:
            self.network.write_description(self.pids())
        except OSError as error:
            self._say(f"cannot write {DESCRIPTION}, its pids are old: {error.strerror}")

    def pids(self) -> dict[str, int | None]:
        return {node.name: node.pid for node in self.nodes}

    @property
    def stopping(self) -> bool:
        """Whether the devnet is ending."""
        return self._down.is_set()

    def stop(self) -> None:
        """End the devnet; `run` returns once all nodes have ended. Idempotent."""
        self._down.set()

    async def statuses(self) -> list[StatusView | None]:
        """The status of each node, or None where it does not tell."""
        return list(await asyncio.gather(*(self._status(node) for node in self.nodes)))

    # --- the life of a node ---------------------------------------------------------------------

    async def _answers(self, node: NodeProcess) -> None:
        """Wait until the node's API answers. Raises NodeFailed if it ends or takes too long."""
        ended = asyncio.create_task(node.wait())
        self._starting.add(node.name)
        try:
            async with asyncio.timeout(START_SECONDS):
                while await self._status(node) is None:
                    # There is no event for "a port is open"; an end of the process is one.
                    done, _ = await asyncio.wait((ended,), timeout=PROBE_SECONDS)
                    if done:
                        raise NodeFailed(
                            f"{node.name} {ended.result()} while starting; "
                            f"the end of {node.log}:\n{node.log_tail()}"
                        )
        except TimeoutError:
            raise NodeFailed(
                f"{node.name} runs but its API did not answer within {START_SECONDS:.0f} s; "
                f"the end of {node.log}:\n{node.log_tail()}"
            ) from None
        finally:
            ended.cancel()
            self._starting.discard(node.name)

    async def _status(self, node: NodeProcess) -> StatusView | None:
        if node.state != "running":
            return None
        try:
            async with asyncio.timeout(STATUS_SECONDS):
                return await self._clients[node.name].status()
        except (ApiError, TimeoutError):
            return None

    def _watch(self, node: NodeProcess) -> None:
        """Notice the end of the node's process, so that devnet.json never names a stale pid."""

        async def watch() -> None:
            await node.wait()
            self._describe()
            end = node.unexpected_end()
            # Of one that fails to start, whoever waits for it tells.
            if end and node.name not in self._starting and not self._down.is_set():
                self._say(end)

        task = asyncio.create_task(watch())
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    async def _end_all(self) -> None:
        self._down.set()
        await asyncio.gather(*(node.stop() for node in self.nodes))
        if self._watchers:
            await asyncio.wait(self._watchers)
        self._describe()

    def _asked_to_stop(self) -> None:
        if not self._down.is_set():
            self._down.set()
            return
        # Asked twice: somebody is in a hurry, and the nodes survive a kill by design.
        for node in self.nodes:
            if node.pid is not None:
                node.kill()

    # --- commands -------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _listening(self) -> Any:
        directory = self.network.directory
        # What a killed supervisor left; the lock says that none is there.
        (directory / SOCKET_NAME).unlink(missing_ok=True)
        with short_path(directory) as path:
            old_mask = os.umask(0o077)
            try:
                server = await asyncio.start_unix_server(self._serve, path, limit=MAX_LINE_BYTES)
            finally:
                os.umask(old_mask)
        try:
            yield
        finally:
            server.close()
            for serving in self._serving:
                serving.cancel()
            (directory / SOCKET_NAME).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        try:
            while line := await reader.readline():
                answer = await self._obey(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
                if answer.get("stopping"):
                    self._down.set()
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass  # gone, or sent an over-long line, or we end: nobody is left to tell
        finally:
            self._serving.discard(serving)
            writer.close()

    async def _obey(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = request["op"]
            if operation == "hello":
                return {"pid": os.getpid()}
            if operation == "down":
                return {"stopping": True}
            if operation == "status":
                return await self._tell_status()
            if operation in FAULT_COMMANDS:
                return await self._change_faults(operation, request)
            node = self._node(str(request["node"]))
            async with self._busy[node.name]:
                return await self._change(node, operation)
        except (BadFault, FaultsNotSet, NodeFailed, PortsTaken, ProcessRefused) as error:
            return {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"not a command: {error!r}"}

    async def _tell_status(self) -> dict[str, Any]:
        statuses = await self.statuses()
        return {
            "nodes": [
                {
                    "name": node.name,
                    "state": node.state,
                    "pid": node.pid,
                    "ended": node.ended,
                    "api": self.network.api(node.name),
                    "held": self._faults.held(node.name),
                    "clock_offset_ms": self._faults.clocks.get(node.name, 0),
                    "status": None if status is None else msgspec.to_builtins(status),
                }
                for node, status in zip(self.nodes, statuses, strict=True)
            ],
            "links": self._faults.document()["links"],
        }

    async def _change(self, node: NodeProcess, operation: str) -> dict[str, Any]:
        if operation == "kill":
            node.kill()
            await node.wait()
        elif operation == "pause":
            node.pause()
        elif operation == "resume":
            node.resume()
            # It could not be told while it slept.
            await self._impose(node)
        elif operation == "restart":
            await node.stop()
            await node.start(self._faults.order(node.name))
            self._watch(node)
            await self._answers(node)
        else:
            raise ProcessRefused(f"there is no command {operation!r}")
        self._describe()
        self._say(f"{node.name}: {operation} done, it is {node.state}")
        return {"node": node.name, "state": node.state, "pid": node.pid}

    async def _change_faults(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        async with contextlib.AsyncExitStack() as stack:
            # No node is just starting then, and so each knows all or nothing of the change.
            for node in self.nodes:
                await stack.enter_async_context(self._busy[node.name])
            self._set_faults(operation, request)
            told = await asyncio.gather(
                *(self._impose(node) for node in self.nodes), return_exceptions=True
            )
        failed = [error for error in told if isinstance(error, BaseException)]
        if failed:
            raise failed[0]
        now = self._faults.document()
        self._say(
            f"{operation} done; links held down: {describe_held(now['held'])}; slow or lossy: "
            f"{describe_links(now['links'])}; clocks off: {describe_clocks(now['clocks'])}"
        )
        return now

    def _set_faults(self, operation: str, request: dict[str, Any]) -> None:
        names, faults = self.network.node_names, self._faults
        if operation == "partition":
            faults.partition(parse_groups(str(request["groups"]), names))
        elif operation == "heal":
            faults.heal()
        elif operation == "links":
            faults.set_links(_link_fault(request))
        else:
            node = find_node(str(request["node"]), names)
            if operation == "disconnect":
                faults.disconnect(node)
            elif operation == "reconnect":
                faults.reconnect(node)
            elif operation == "link":
                other = find_node(str(request["other"]), names)
                faults.set_link(node, other, _link_fault(request))
            else:
                faults.set_clock(node, int(request["offset_ms"]))

    async def _impose(self, node: NodeProcess) -> None:
        """Have a running node take its faults as ordered. Others learn them when they run."""
        if node.state != "running":
            return
        try:
            wanted = msgspec.structs.asdict(self._faults.order(node.name))
            await node_faults.order(node.home, wanted)
        except node_faults.NotObeyed as error:
            raise FaultsNotSet(
                f"{node.name} did not take its faults: {error}; the other nodes did, so give the "
                f"command again once {node.name} answers, or undo it with: nostro devnet heal"
            ) from error

    def _node(self, given: str) -> NodeProcess:
        name = find_node(given, self.network.node_names)
        return next(node for node in self.nodes if node.name == name)


def _link_fault(request: dict[str, Any]) -> LinkFault:
    return LinkFault(int(request["delay_ms"]), int(request["jitter_ms"]), float(request["loss"]))


async def make_usable(supervisor: Supervisor) -> None:
    """Wait until payments can be finalized, and see that each bank has its opening balances.

    Raises BootstrapFailed, ApiError.
    """
    await _linked(supervisor)
    network = supervisor.network
    async with ApiClient([network.api(name) for name in network.node_names]) as client:
        await issue_opening_balances(client, network)


async def _linked(supervisor: Supervisor) -> None:
    """Wait until a quorum of nodes each have links to a quorum."""
    needed = quorum(len(supervisor.nodes))
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        statuses = [status for status in await supervisor.statuses() if status is not None]
        linked = [s for s in statuses if sum(p.connected for p in s.peers) + 1 >= needed]
        if len(linked) >= needed:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise BootstrapFailed(
                f"after {START_SECONDS:.0f} s only {len(linked)} of the {needed} nodes that are "
                f"needed are linked; see their logs in {supervisor.network.directory / 'logs'}"
            )
        await asyncio.sleep(PROBE_SECONDS)
