"""One run of a scenario against a devnet that runs: load, the steps in time, the judge.

The devnet is told what to do through its control socket, as the commands of a user are, whether it
was started for this run or before.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from devnet import control
from devnet.load import Load, Plan
from devnet.network import Network
from devnet.orders import Order, sign_order
from devnet.scenario.actions import DOWN, LEADER, RECOVERED, Action
from devnet.scenario.judge import Verdict, judge
from devnet.scenario.observed import Recovery
from devnet.scenario.observer import Observer
from devnet.scenario.script import Script
from node.api.client import ApiClient, ApiError, ApiProblem
from node.api.problems import Problem

POLL_SECONDS = 0.05
"""Between two looks at whether all nodes stand at one height."""
PATIENCE = 2.0
"""So many times its bound a recovery is waited for: late and never are different findings."""
LOAD_END_SECONDS = 120.0
"""From the recovery to the end of the load, at most, beyond what is left of its own time."""

Say = Callable[[str], None]


class RunFailed(Exception):
    """The run came to no end that could be judged; the text says why."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step, as it happened."""

    at: float
    """Seconds after the load began."""
    do: str
    on: list[str]
    """Nodes that it was done to."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, what was measured, and the verdict."""

    script: Script
    done: list[Done]
    load: dict[str, Any]
    recoveries: list[Recovery]
    verdict: Verdict

    def document(self) -> dict[str, Any]:
        return {
            "scenario": self.script.name,
            "title": self.script.title,
            "passed": self.verdict.passed,
            "findings": [finding._asdict() for finding in self.verdict.findings],
            "steps": [
                {"at": round(d.at, 3), "do": d.do, "on": d.on, "seconds": round(d.seconds, 3)}
                for d in self.done
            ],
            "recoveries": [
                {
                    "after": r.after,
                    "seconds": None if r.seconds is None else round(r.seconds, 3),
                }
                for r in self.recoveries
            ],
            "load": self.load,
            "judged": {
                "blocks": self.verdict.blocks,
                "payments": self.verdict.payments,
                "told": self.verdict.told,
                "reads": self.verdict.reads,
            },
        }


class Run:
    """A scenario at work."""

    def __init__(self, script: Script, network: Network, say: Say) -> None:
        self._script = script
        self._network = network
        self._say = say
        self._done: list[Done] = []
        self._killed: set[str] = set()
        """Nodes that are down because the script wants it."""
        self._rng = random.Random(script.seed)
        self._started = 0.0

    async def run(self) -> Report:
        """Run to the end and judge. Raises RunFailed, control.NotRunning, control.NoAnswer."""
        try:
            observer = await Observer.begin(self._network)
        except ApiError as error:
            raise RunFailed(f"no node tells what there is before the run: {error}") from error
        seen = observer.seen
        traffic = self._script.traffic
        load = Load(
            self._network, Plan(traffic.count, traffic.batch, traffic.rate, self._script.seed)
        )

        def refused(order: Order, problem: Problem) -> None:
            for uetr in order.uetrs:
                seen.sent.discard(uetr)
                seen.refused[uetr] = problem.code

        load.on_sent = lambda order: seen.sent.update(order.uetrs)
        load.on_refused = refused
        async with observer.watching():
            self._started = time.monotonic()
            sending = asyncio.create_task(load.run())
            try:
                await self._steps(observer)
                left = self._left_of_load()
                await asyncio.wait((sending,), timeout=left + LOAD_END_SECONDS)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            up = await self._level_out(observer)
        # Only now: what a node says after its chain was read could not be found there.
        await observer.collect(up)
        verdict = judge(seen, self._script.recovery_seconds)
        return Report(self._script, self._done, load.result.document(), seen.recoveries, verdict)

    def _left_of_load(self) -> float:
        traffic = self._script.traffic
        whole = traffic.count / traffic.rate if traffic.rate else 0.0
        return max(0.0, whole - (time.monotonic() - self._started))

    # --- steps ------------------------------------------------------------------------------

    async def _steps(self, observer: Observer) -> None:
        last, mended = "the start", self._started
        for step in self._script.steps:
            await asyncio.sleep(self._started + step.at - time.monotonic())
            if step.action.operation == RECOVERED:
                # A start of processes that took longer than planned counts, a planned wait not.
                await self._recover(observer, last, max(mended, self._started + step.at))
                continue
            begun = time.monotonic()
            nodes = await self._do(step.action)
            done = Done(begun - self._started, step.action.text, nodes, time.monotonic() - begun)
            self._done.append(done)
            self._say(f"{done.at:6.1f} s  {done.do} ({', '.join(nodes) or 'all'})")
            last, mended = step.action.text, begun
        if not self._script.steps or self._script.steps[-1].action.operation != RECOVERED:
            await self._recover(observer, last, mended)

    async def _do(self, action: Action) -> list[str]:
        """Carry out one step; the nodes that it was done to. Raises RunFailed."""
        nodes = await self._resolve(action)
        arguments = [{"node": node, **action.arguments} for node in nodes]
        if not action.nodes:
            arguments = [action.arguments]
        if action.operation == "kill":
            self._killed.update(nodes)
        try:
            # All at once: two nodes killed one after the other would be another fault.
            await asyncio.gather(*(self._ask(action.operation, **given) for given in arguments))
        except control.Refused as error:
            raise RunFailed(f"the step {action.text!r} cannot be done: {error}") from error
        if action.operation == "restart":
            self._killed.difference_update(nodes)
        return nodes

    async def _resolve(self, action: Action) -> list[str]:
        if action.nodes == (DOWN,):
            return [node["name"] for node in await self._nodes() if node["state"] == "down"]
        if action.nodes == (LEADER,):
            views = [node["status"] for node in await self._nodes() if node["status"]]
            if not views:
                raise RunFailed(f"the step {action.text!r}: no node tells who leads")
            return [str(max(views, key=lambda status: int(status["view"]))["leader"])]
        return list(action.nodes)

    async def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return await asyncio.to_thread(control.ask, self._network.directory, operation, **arguments)

    async def _nodes(self) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = (await self._ask("status"))["nodes"]
        return nodes

    # --- recovery ---------------------------------------------------------------------------

    async def _recover(self, observer: Observer, after: str, begun: float) -> None:
        """Measure how long after `begun` (monotonic s) the network is whole again."""
        up = [node["name"] for node in await self._nodes() if node["state"] == "running"]
        missing = _Missing()
        last = self._script.recovery_seconds * PATIENCE - (time.monotonic() - begun)
        try:
            async with asyncio.timeout(last):
                await self._fresh_payment(observer, up, missing)
                await self._one_height(up, missing)
            recovery = Recovery(after, time.monotonic() - begun)
            self._say(f"{begun - self._started:6.1f} s  recovered in {recovery.seconds:.2f} s")
        except TimeoutError:
            recovery = Recovery(after, None, missing.text)
            self._say(f"{begun - self._started:6.1f} s  not recovered: {missing.text}")
        observer.seen.recoveries.append(recovery)

    async def _fresh_payment(self, observer: Observer, up: list[str], missing: _Missing) -> None:
        """See a new payment final at each of these nodes."""
        bank = self._network.genesis.participants[1]
        order = sign_order(
            self._network.genesis, bank, self._network.signer(bank.name), 1, self._rng
        )
        missing.text = "no node takes in a payment"
        observer.seen.sent.update(order.uetrs)
        async with ApiClient([self._network.api(name) for name in up]) as client:
            while True:
                try:
                    await client.submit(order.raw)
                    break
                except ApiProblem as error:
                    if error.problem.outcome == "final":
                        break
                    missing.text = f"no node takes in a payment: {error}"
                except ApiError as error:
                    missing.text = f"no node takes in a payment: {error}"
                await asyncio.sleep(POLL_SECONDS)
        waiting = set(up)
        missing.text = _not_final(waiting)

        async def final(name: str) -> None:
            async with ApiClient([self._network.api(name)]) as client:
                view = None
                while view is None:
                    try:
                        view = await client.payment(order.uetrs[0], wait=60.0)
                    except ApiError:
                        await asyncio.sleep(POLL_SECONDS)
            waiting.discard(name)
            missing.text = _not_final(waiting)

        async with asyncio.TaskGroup() as tasks:
            for name in up:
                tasks.create_task(final(name))

    async def _one_height(self, up: list[str], missing: _Missing) -> None:
        """See all of these nodes at one height, with one block there."""
        while True:
            missing.nodes = await self._nodes()
            statuses = {n["name"]: n["status"] for n in missing.nodes if n["name"] in up}
            tips = {(s["height"], s["block"]) for s in statuses.values() if s}
            if len(tips) == 1 and all(statuses.values()):
                return
            heights = (
                f"{name} {'does not tell' if status is None else status['height']}"
                for name, status in statuses.items()
            )
            missing.text = f"not all nodes up are at one height: {', '.join(heights)}"
            await asyncio.sleep(POLL_SECONDS)

    # --- the end ----------------------------------------------------------------------------

    async def _level_out(self, observer: Observer) -> list[str]:
        """Let the nodes level out once the load is over, and look at how they are; who is up."""
        nodes = await self._nodes()
        up = [node["name"] for node in nodes if node["state"] == "running"]
        missing = _Missing()
        try:
            async with asyncio.timeout(self._script.recovery_seconds):
                await self._one_height(up, missing)
        except TimeoutError:
            observer.seen.complaints.append(f"after the load {missing.text}")
        for node in missing.nodes:
            if complaint := self._complaint(node):
                observer.seen.complaints.append(complaint)
        return up

    def _complaint(self, node: dict[str, Any]) -> str | None:
        name, status = node["name"], node["status"]
        if node["state"] == "down" and name not in self._killed:
            return f"{name} {node['ended']} unasked"
        if node["state"] != "running":
            return None
        if status is None:
            return f"{name} runs but does not tell its status"
        if status["alarm"]:
            return f"{name} has raised an alarm: {status['alarm']}"
        if not status["signing"]:
            return f"{name} no longer signs"
        return None


class _Missing:
    """What is still waited for, for the finding if it never comes."""

    def __init__(self) -> None:
        self.text = "nothing was seen"
        self.nodes: list[dict[str, Any]] = []
        """As last seen."""


def _not_final(names: set[str]) -> str:
    return f"a fresh payment is not final at {', '.join(sorted(names))}"
