"""verify.html as its reader has it: one file that reaches no network, takes files by choice or by
drop, and does not rely on a browser whose Ed25519 surprises."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from node.audit.page.build import SCRIPTS, build_page
from node.audit.proofs import encode_proof
from node.audit.report import INVALID, VALID
from node.audit.verify import verify_file
from node.chain.block import header_digest
from tests.support import forks, world
from tests.support.chromium import Page, opened
from tests.support.evidence_world import case, case_bytes, evidence_world
from tests.support.page import JUDGED, Browser, browsing, built, by_python

pytestmark = pytest.mark.xdist_group("page")

PAGE = Path(__file__).parents[2] / "node" / "audit" / "page"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests here."""
    with browsing(tmp_path_factory.mktemp("page")) as found:
        yield found


# --- the file itself ------------------------------------------------------------------------------


def test_the_same_sources_make_the_same_page() -> None:
    page = build_page()
    assert page == build_page()
    assert page.isascii() or page.encode().decode() == page
    assert {each.name for each in PAGE.glob("*.js")} == set(SCRIPTS)


def test_the_code_of_others_is_what_its_list_says() -> None:
    here = PAGE / "vendor"
    listed = (here / "README.md").read_text()
    for path in here.glob("*.js"):
        assert sha256(path.read_bytes()).hexdigest() in listed
        assert (here / "LICENSE-noble-ed25519").read_text() in build_page()


def test_the_page_names_nothing_that_it_would_have_to_load() -> None:
    page = build_page()
    head = page[: page.index("<style>")]
    for loads in ("src=", "href=", "@import", "url("):
        assert loads not in head
        assert loads not in page[page.index("</script>") :]
    policy = head.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_what_the_policy_forbids_cannot_be_done(tmp_path: Path) -> None:
    tries = """(async () => {
      const tried = {};
      const refused = async (name, body) => {
        try { await body(); tried[name] = "done"; } catch { tried[name] = "refused"; }
      };
      const loads = (kind, set) => new Promise((resolve, reject) => {
        const element = document.createElement(kind);
        element.onload = resolve;
        element.onerror = reject;
        set(element);
        document.head.append(element);
      });
      const there = "http://127.0.0.1:9/";
      await refused("fetch", () => fetch(there));
      await refused("socket", () => new Promise((resolve, reject) => {
        const socket = new WebSocket("ws://127.0.0.1:9/");
        socket.onopen = resolve;
        socket.onerror = reject;
      }));
      await refused("image", () => loads("img", (e) => { e.src = there; }));
      await refused("style", () => loads("link", (e) => { e.rel = "stylesheet"; e.href = there; }));
      await refused("script", () => loads("script", (e) => { e.src = there; }));
      await refused("markup", () => { document.createElement("p").innerHTML = "<b>x</b>"; });
      await refused("worker", () => new Worker(URL.createObjectURL(new Blob([""]))));
      return tried;
    })()"""

    async def tried() -> tuple[dict[str, str], Page]:
        async with opened(built(tmp_path), tmp_path / "profile") as page:
            return await page.run(tries), page

    with asyncio.Runner() as runner:
        found, page = runner.run(tried())
    assert set(found.values()) == {"refused"}, found
    assert set(page.requests) == page.refused, "a request left the browser"
    assert any("Content Security Policy" in each for each in page.complaints)


# --- its browser ----------------------------------------------------------------------------------

_BROWSERS = {
    "none": "Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined })",
    "accepts all": "SubtleCrypto.prototype.verify = async () => true",
    "refuses all": "SubtleCrypto.prototype.verify = async () => false",
    "fails": "SubtleCrypto.prototype.importKey = async () => { throw new DOMException('', 'X'); }",
    "cofactored": (
        "{ const real = SubtleCrypto.prototype.verify; SubtleCrypto.prototype.verify ="
        " async function (...parts) { const hex = [...new Uint8Array(parts[2])]"
        ".map((b) => b.toString(16).padStart(2, '0')).join('');"
        " return hex.startsWith('b62cf890') || real.apply(this, parts); }; }"
    ),
}


def test_a_browser_whose_ed25519_surprises_is_not_relied_on(tmp_path: Path) -> None:
    genesis = evidence_world().members.genesis_bytes
    good = case_bytes("alone")
    files = [good, good[:-1] + bytes((good[-1] ^ 1,)), case_bytes("link-eur")]

    async def asked() -> dict[str, tuple[str, list[Any]]]:
        found = {}
        async with opened(built(tmp_path), tmp_path / "profile") as page:
            for name, script in _BROWSERS.items():
                made = await page.command("Page.addScriptToEvaluateOnNewDocument", source=script)
                await page.load()
                used = await page.run("nostro.arithmetic().then((each) => each.name)")
                sent = [[b64encode(each).decode(), None] for each in files]
                judged = await page.call(JUDGED, b64encode(genesis).decode(), sent)
                found[name] = used, [each[0] for each in judged]
                await page.command(
                    "Page.removeScriptToEvaluateOnNewDocument", identifier=made["identifier"]
                )
        return found

    with asyncio.Runner() as runner:
        found = runner.run(asked())
    for name, (used, verdicts) in found.items():
        assert used.startswith("the bundled Ed25519"), name
        assert verdicts == [VALID, by_python(files[1], genesis).verdict, VALID], name


# --- as a reader uses it --------------------------------------------------------------------------


SHOWN = """JSON.stringify({
  progress: document.getElementById("progress").textContent,
  hidden: document.getElementById("result").hidden,
  verdict: document.getElementById("verdict").textContent,
  proved: document.getElementById("proved").textContent,
  rows: [...document.querySelectorAll("#checks tbody tr")].map((row) => (
    [...row.cells].map((cell) => cell.textContent))),
  record: document.getElementById("record").textContent,
  notes: [...document.querySelectorAll(".chosen")].map((each) => each.textContent),
})"""
DONE = """(document.getElementById("progress").textContent.startsWith("Done")
  || [...document.querySelectorAll(".chosen")].some((each) => (
    /not read|could not/.test(each.textContent))))"""


def choose(browser: Browser, **files: Path) -> dict[str, Any]:
    """Choose files as a reader does; what the page then shows."""

    async def chosen() -> dict[str, Any]:
        await browser.page.load()
        for role, path in files.items():
            await browser.page.give_file(f"#{role}", path)
        await browser.page.until(DONE)
        found: dict[str, Any] = json.loads(await browser.page.run(SHOWN))
        return found

    return browser.do(chosen())


@pytest.fixture
def on_disk(tmp_path: Path) -> tuple[Path, Path]:
    dossier, genesis = tmp_path / "payment.dossier", tmp_path / "genesis.json"
    dossier.write_bytes(case_bytes("net-settled"))
    genesis.write_bytes(evidence_world().members.genesis_bytes)
    return dossier, genesis


def test_a_reader_chooses_two_files_and_sees_a_line_a_check(
    browser: Browser, on_disk: tuple[Path, Path]
) -> None:
    dossier, genesis = on_disk
    shown = choose(browser, evidence=dossier, genesis=genesis)
    assert (shown["verdict"], shown["hidden"]) == (VALID, False)
    assert shown["proved"] == "Proved status of the payment: settled"
    report = verify_file(dossier.read_bytes(), genesis.read_bytes())
    assert [row[:2] for row in shown["rows"]] == [[x.result, x.check] for x in report.lines]
    assert sha256(dossier.read_bytes()).hexdigest() in shown["record"]
    assert sha256(genesis.read_bytes()).hexdigest() in shown["record"]


def test_a_block_that_the_reader_knows_is_typed(
    browser: Browser, on_disk: tuple[Path, Path]
) -> None:
    dossier, genesis = on_disk
    top = case("net-settled").blocks[-1].header
    typed = """(text) => {
      const field = document.getElementById("known");
      field.value = text;
      field.dispatchEvent(new Event("change"));
    }"""

    async def said(digest: bytes) -> Any:
        await browser.page.call(typed, f" {top.height}:{digest.hex()} ")
        return await browser.page.until(
            f"{DONE} && [...document.querySelectorAll('#checks tr')]"
            ".map((row) => row.textContent).find((text) => text.includes('checkpoint of height'))"
        )

    choose(browser, evidence=dossier, genesis=genesis)
    assert browser.do(said(header_digest(top))).startswith("PASSpinned")
    assert "This history forks" in browser.do(said(bytes(32)))


def test_files_that_are_dropped_together_are_told_apart(browser: Browser) -> None:
    proof = encode_proof(forks.by_nullification())
    drop = """async (files) => {
      const transfer = new DataTransfer();
      for (const [name, text] of files) {
        const data = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        transfer.items.add(new File([data], name));
      }
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
    }"""
    files = [("1", world.genesis_bytes()), ("2", proof)]

    async def dropped() -> dict[str, Any]:
        await browser.page.load()
        await browser.page.call(drop, [[name, b64encode(x).decode()] for name, x in files])
        await browser.page.until(DONE)
        found: dict[str, Any] = json.loads(await browser.page.run(SHOWN))
        return found

    shown = browser.do(dropped())
    report = verify_file(proof, world.genesis_bytes())
    assert (shown["verdict"], shown["proved"]) == (report.verdict, "") == (VALID, "")
    for culprit in report.culprits:
        assert f"{culprit.name} of {culprit.operator}, epoch 0" in shown["record"]


def test_a_tampered_file_is_shown_as_invalid(browser: Browser, on_disk: tuple[Path, Path]) -> None:
    dossier, genesis = on_disk
    data = bytearray(dossier.read_bytes())
    data[len(data) // 2] ^= 0x10
    dossier.write_bytes(data)
    shown = choose(browser, evidence=dossier, genesis=genesis)
    assert (shown["verdict"], shown["proved"]) == (INVALID, "")


def test_a_file_of_a_gibibyte_is_refused_unread(
    browser: Browser, on_disk: tuple[Path, Path], tmp_path: Path
) -> None:
    huge = tmp_path / "huge.dossier"
    with huge.open("wb") as file:
        file.truncate(1 << 30)
    shown = choose(browser, genesis=on_disk[1], evidence=huge)
    assert "1,073,741,824 bytes" in shown["notes"][0]
    assert "It was not read." in shown["notes"][0]
    assert shown["hidden"]
