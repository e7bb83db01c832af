"""verify.html in a browser, and how what it says is compared with what Python says."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from node.audit.page.build import build_page
from node.audit.report import FAIL
from node.audit.verify import verify_file
from node.audit.verify_checkpoint import Pin
from tests.support.chromium import Page, opened

T = TypeVar("T")

JUDGED = """async (genesis, files) => {
  const bytes = (text) => {
    const raw = atob(text);
    const found = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) found[i] = raw.charCodeAt(i);
    return found;
  };
  // Its dozens of keys are checked once, not for each of the files.
  const loaded = await nostro.loadGenesis(bytes(genesis)).catch(() => null);
  const judge = async (file, note) => {
    if (loaded === null || note !== null) {
      return nostro.verifyFile(bytes(file), bytes(genesis), note === null ? null : bytes(note));
    }
    return nostro.verifyEvidence(bytes(file), loaded, null);
  };
  const found = [];
  for (const [file, note] of files) {
    const report = await judge(file, note);
    const failed = report.lines.filter((line) => line.result === "FAIL");
    found.push([report.verdict, report.status, report.kind,
      [...new Set(failed.map((line) => line.check))].sort(),
      report.culprits.map((each) => each.validator),
      report.lines.map((line) => `${line.result} ${line.check}`)]);
  }
  return found;
}"""


class Browser:
    """A page and the loop that it is driven in."""

    def __init__(self, runner: asyncio.Runner, page: Page) -> None:
        self._runner = runner
        self.page = page

    def do(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self._runner.run(awaited())


@contextmanager
def browsing(directory: Path) -> Iterator[Browser]:
    """The page, built anew, in a browser. At the end nothing may have been asked for or complained
    of."""
    path, profile = built(directory), directory / "profile"
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        page = runner.run(stack.enter_async_context(opened(path, profile)))
        try:
            yield Browser(runner, page)
            assert (page.requests, page.complaints) == ({}, [])
        finally:
            runner.run(stack.aclose())


def built(directory: Path) -> Path:
    """The page as a file."""
    path = directory / "verify.html"
    path.write_text(build_page(), encoding="utf-8")
    return path


class Judgement(NamedTuple):
    """What a verifier says of a file, as far as all must agree."""

    verdict: str
    status: str | None
    kind: str | None
    failed: tuple[str, ...]
    culprits: tuple[int, ...]
    lines: tuple[str, ...]
    """Result and check of each."""


def by_python(data: bytes, genesis: bytes, pin: Pin | None = None) -> Judgement:
    report = verify_file(data, genesis, pin)
    failed = {line.check for line in report.lines if line.result == FAIL}
    culprits = tuple(each.validator for each in report.culprits)
    lines = tuple(f"{line.result} {line.check}" for line in report.lines)
    return Judgement(
        report.verdict, report.status, report.kind, tuple(sorted(failed)), culprits, lines
    )


def by_page(
    browser: Browser, files: Sequence[bytes], genesis: bytes, note: bytes | None = None
) -> list[Judgement]:
    checkpoint = None if note is None else b64encode(note).decode()
    sent = [[b64encode(each).decode(), checkpoint] for each in files]
    found = browser.do(browser.page.call(JUDGED, b64encode(genesis).decode(), sent))
    return [
        Judgement(verdict, status, kind, tuple(failed), tuple(culprits), tuple(lines))
        for verdict, status, kind, failed, culprits, lines in found
    ]
