"""Headless Chromium, driven over its DevTools protocol: pages opened from disk, run and judged.

The browser gets a profile of its own that is removed with it, and ends with its process group, so
nothing of it is left behind. Whatever a page does that it may not is collected: network requests,
messages of its content policy, uncaught errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
"""Commands that start one; NOSTRO_CHROMIUM names another."""
VARIABLE = "NOSTRO_CHROMIUM"
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
START_SECONDS = 60
COMMAND_SECONDS = 120
"""For one command to the page, which may verify a hundred files."""
MAX_MESSAGE_BYTES = 256 << 20


class NoChromium(Exception):
    """There is no Chromium here; the text says what to do."""


def find_chromium() -> str:
    """The command that starts Chromium. Raises NoChromium."""
    named = os.environ.get(VARIABLE)
    for name in (named,) if named else NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    raise NoChromium(
        "verify.html is tested in headless Chromium, and there is none: install Debian's package "
        f"chromium (apt-get install chromium), or name one with {VARIABLE}=/path/to/chromium"
    )


class Page:
    """A page that was opened from disk."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, address: str) -> None:
        """`address`: its file:// address."""
        self._socket = socket
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.address = address
        self.requests: dict[str, str] = {}
        """Addresses that the page asked for, beside its own, by the browser's number."""
        self.refused: set[str] = set()
        """Numbers of those that its content policy kept from being sent."""
        self.complaints: list[str] = []
        """Errors of its scripts, and what its content policy refused."""

    async def read(self) -> None:
        """Take what the browser sends, until it ends."""
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                waiting = self._waiting.pop(event["id"])
                if not waiting.done():
                    waiting.set_result(event)
            else:
                self._take(event["method"], event["params"])

    def _take(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                if params["request"]["url"] != self.address:
                    self.requests[params["requestId"]] = params["request"]["url"]
            case "Network.webSocketCreated":
                self.requests[params["requestId"]] = params["url"]
            case "Network.webTransportCreated":
                self.requests[params["transportId"]] = params["url"]
            case "Network.loadingFailed":
                if params.get("blockedReason") == "csp":
                    self.refused.add(params["requestId"])
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Audits.issueAdded":
                self.complaints.append(json.dumps(params["issue"]))
            case "Page.loadEventFired":
                self._loaded.set()

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": params}))
        answer = await asyncio.wait_for(waiting, COMMAND_SECONDS)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self) -> None:
        """Load the page, and wait until it is there."""
        for domain in ("Page", "Network", "Log", "Runtime", "Audits", "DOM"):
            await self.command(f"{domain}.enable")
        await self.load()

    async def load(self) -> None:
        """Load the page anew."""
        self._loaded.clear()
        await self.command("Page.navigate", url=self.address)
        await asyncio.wait_for(self._loaded.wait(), COMMAND_SECONDS)

    async def run(self, expression: str) -> Any:
        """The value of an expression, once its promise is kept."""
        found = await self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def call(self, function: str, *arguments: Any) -> Any:
        """What a function of the page's gives for these arguments, which are sent as JSON."""
        return await self.run(f"({function})(...{json.dumps(arguments)})")

    async def give_file(self, selector: str, path: Path) -> None:
        """Choose a file, by its absolute path, in a file input, as a reader does."""
        document = await self.command("DOM.getDocument")
        node = await self.command(
            "DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector
        )
        await self.command("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(path)])

    async def until(self, expression: str) -> Any:
        """What the expression gives once that is true: asked at each change of the document."""
        return await self.run(
            "new Promise((done) => { const ask = () => { const found = ("
            + expression
            + "); if (found) done(found); return found; };"
            " if (!ask()) new MutationObserver(ask).observe(document, { subtree: true,"
            " childList: true, attributes: true, characterData: true }); })"
        )


def file_address(path: Path) -> str:
    """The file:// address of a file."""
    return path.resolve().as_uri()


@asynccontextmanager
async def opened(page: Path, profile: Path) -> AsyncIterator[Page]:
    """The page in a browser of its own. `profile`: an empty directory."""
    process = await asyncio.create_subprocess_exec(
        find_chromium(),
        *OPTIONS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "HOME": str(profile)},
    )
    try:
        address = await asyncio.wait_for(_address(process), START_SECONDS)
        async with _driven(file_address(page), address) as found:
            await found.open()
            yield found
            await found.command("Browser.close")
        await asyncio.wait_for(process.wait(), COMMAND_SECONDS)
    finally:
        # Whatever of it is still there: it is a group of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    """host:port of the browser's protocol, which it writes when it listens."""
    assert process.stderr is not None
    said = b""
    async for line in process.stderr:
        found = re.search(rb"DevTools listening on ws://([^/]+)/", line)
        if found is not None:
            return found[1].decode()
        said += line
    raise AssertionError(f"Chromium did not start: {said.decode(errors='replace')}")


@asynccontextmanager
async def _driven(page: str, address: str) -> AsyncIterator[Page]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{address}/json/list") as response:
            targets = json.loads(await response.read())
        target = next(each for each in targets if each["type"] == "page")
        async with session.ws_connect(
            target["webSocketDebuggerUrl"], max_msg_size=MAX_MESSAGE_BYTES
        ) as socket:
            found = Page(socket, page)
            reading = asyncio.create_task(found.read())
            try:
                yield found
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
