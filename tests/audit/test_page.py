"""verify.html, in headless Chromium, from disk: it judges every file as `nostro verify` does, with
the browser's Ed25519 and with its own, and reaches no network."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from msgspec.structs import replace

from node.audit.dossier import encode_dossier
from node.audit.note import BadNote, Checkpoint, origin_of
from node.audit.page.build import SCRIPTS, build_page
from node.audit.report import FAIL, INVALID, VALID
from node.audit.verify import CHECKS, verify_file
from node.audit.verify_checkpoint import Pin, read_pin
from node.chain.block import header_digest
from node.chain.genesis import BadGenesis, load_genesis
from node.chain.signature import BadKey, check_public_key, verify_bytes
from tests.support.chromium import Page, opened
from tests.support.evidence_cases import Case, cases
from tests.support.evidence_world import CASES, case, case_bytes, evidence_world
from tests.support.page_cases import genesis_variants, other_encodings
from tests.support.shuffled import shuffled

pytestmark = pytest.mark.xdist_group("page")

T = TypeVar("T")
VECTORS = Path(__file__).parent.parent / "vectors"

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
      report.culprits.map((each) => each.validator)]);
  }
  return found;
}"""
VERIFIED = """async (path, vectors) => {
  const { unhex, ed25519 } = nostro;
  const found = [];
  for (const parts of vectors) found.push(await ed25519[path](...parts.map(unhex)));
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


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "verify.html"
    path.write_text(build_page(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests here. At its end nothing may have been asked for or complained of."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        profile = tmp_path_factory.mktemp("profile")
        page = runner.run(stack.enter_async_context(opened(built, profile)))
        try:
            yield Browser(runner, page)
            assert (page.requests, page.complaints) == ({}, [])
        finally:
            runner.run(stack.aclose())


class Judgement(NamedTuple):
    """What a verifier says of a file, as far as all must agree."""

    verdict: str
    status: str | None
    kind: str | None
    failed: tuple[str, ...]
    culprits: tuple[int, ...]


def by_python(data: bytes, genesis: bytes, pin: Pin | None = None) -> Judgement:
    report = verify_file(data, genesis, pin)
    failed = {line.check for line in report.lines if line.result == FAIL}
    culprits = tuple(each.validator for each in report.culprits)
    return Judgement(report.verdict, report.status, report.kind, tuple(sorted(failed)), culprits)


def by_page(
    browser: Browser, files: Sequence[bytes], genesis: bytes, note: bytes | None = None
) -> list[Judgement]:
    checkpoint = None if note is None else b64encode(note).decode()
    sent = [[b64encode(each).decode(), checkpoint] for each in files]
    found = browser.do(browser.page.call(JUDGED, b64encode(genesis).decode(), sent))
    return [
        Judgement(verdict, status, kind, tuple(failed), tuple(culprits))
        for verdict, status, kind, failed, culprits in found
    ]


# --- the file itself ------------------------------------------------------------------------------


def test_the_same_sources_make_the_same_page() -> None:
    page = build_page()
    assert page == build_page()
    assert page.isascii() or page.encode().decode() == page
    here = Path(__file__).parents[2] / "node" / "audit" / "page"
    assert {each.name for each in here.glob("*.js")} == set(SCRIPTS)


def test_the_code_of_others_is_what_its_list_says() -> None:
    here = Path(__file__).parents[2] / "node" / "audit" / "page" / "vendor"
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


def test_what_the_policy_forbids_cannot_be_done(built: Path, tmp_path: Path) -> None:
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
        async with opened(built, tmp_path) as page:
            return await page.run(tries), page

    with asyncio.Runner() as runner:
        found, page = runner.run(tried())
    assert set(found.values()) == {"refused"}, found
    assert set(page.requests) == page.refused, "a request left the browser"
    assert any("Content Security Policy" in each for each in page.complaints)


# --- the arithmetic -------------------------------------------------------------------------------


def _vectors() -> Iterator[tuple[str, str, str]]:
    """Key, message and signature of every published vector, in hexadecimal digits."""
    document = json.loads((VECTORS / "wycheproof_ed25519.json").read_text())
    for group in document["testGroups"]:
        for test in group["tests"]:
            yield group["publicKey"]["pk"], test["msg"], test["sig"]
    for vector in json.loads((VECTORS / "cctv_ed25519.json").read_text()):
        yield vector["key"], vector["msg"].encode().hex(), vector["sig"]


@pytest.mark.parametrize("path", ["browser", "bundled"])
def test_both_ways_to_check_a_signature_decide_every_vector_as_libsodium_does(
    browser: Browser, path: str
) -> None:
    vectors = list(_vectors())
    assert len(vectors) == 151 + 914
    expected = [verify_bytes(*map(bytes.fromhex, vector)) for vector in vectors]
    assert browser.do(browser.page.call(VERIFIED, path, vectors)) == expected
    assert expected.count(True) > 43


def test_the_same_keys_may_be_registered(browser: Browser) -> None:
    keys = sorted({key for key, _, _ in _vectors()})

    def sound(key: str) -> bool:
        try:
            check_public_key(bytes.fromhex(key))
        except BadKey:
            return False
        return True

    ask = "(keys) => keys.map((key) => nostro.ed25519.soundKey(nostro.unhex(key)))"
    assert browser.do(browser.page.call(ask, keys)) == [sound(key) for key in keys]


def test_the_hashes_are_those_of_the_standard(browser: Browser) -> None:
    ask = """(lengths) => lengths.map((length) => {
      const data = new Uint8Array(length).map((_, i) => (i * 7 + length) % 256);
      return [nostro.hex(nostro.sha256(data)), nostro.hex(nostro.sha512(data))];
    })"""
    lengths = [*range(270), 4095, 4096, 70_000]
    expected = []
    for length in lengths:
        data = bytes((i * 7 + length) % 256 for i in range(length))
        expected.append([sha256(data).hexdigest(), sha512(data).hexdigest()])
    assert browser.do(browser.page.call(ask, lengths)) == expected


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


def test_a_browser_whose_ed25519_surprises_is_not_relied_on(built: Path, tmp_path: Path) -> None:
    genesis = evidence_world().members.genesis_bytes
    good = case_bytes("alone")
    files = [good, good[:-1] + bytes((good[-1] ^ 1,)), case_bytes("link-eur")]

    async def asked() -> dict[str, tuple[str, list[Any]]]:
        found = {}
        async with opened(built, tmp_path) as page:
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


# --- the same judgement ---------------------------------------------------------------------------


def test_the_shared_sample_is_judged_alike(browser: Browser) -> None:
    assert len(cases()) >= 500
    by_genesis: dict[bytes, list[Case]] = {}
    for each in cases():
        by_genesis.setdefault(each.genesis, []).append(each)
    for genesis, sample in by_genesis.items():
        judged = by_page(browser, [each.data for each in sample], genesis)
        found = {
            each.name: (said.verdict, said.status, frozenset(said.failed))
            for each, said in zip(sample, judged, strict=True)
        }
        assert found == {each.name: (each.verdict, each.status, each.failed) for each in sample}


def test_no_value_of_a_file_has_a_second_encoding(browser: Browser) -> None:
    genesis = evidence_world().members.genesis_bytes
    # Every form of a head, spread over the file: the step has no factor in common with theirs.
    files = list(other_encodings(case_bytes("many")))[::7]
    assert len(files) > 600
    judged = by_page(browser, files, genesis)
    assert {each.verdict for each in judged} == {INVALID}
    assert {each.failed for each in judged} == {("file",)}
    sample = range(0, len(files), 11)
    assert [judged[i] for i in sample] == [by_python(files[i], genesis) for i in sample]


def test_parts_that_do_not_belong_together_are_judged_alike(browser: Browser) -> None:
    genesis = evidence_world().members.genesis_bytes
    dossiers = [*map(case, CASES), case("net-waterfall", "all"), case("alone", None, 5)]
    # What never changes, with a change: a check once stumbled over it.
    changed = replace(case("issue"), steps=case("issue").steps + case("cancelled").steps)
    waits = replace(changed.steps[0], outcome=replace(changed.steps[0].outcome, status="PDNG"))
    odd = encode_dossier(replace(changed, steps=(waits, *changed.steps[1:])))
    files = [odd, *shuffled(dossiers, 300, seed=5)]
    expected = [by_python(each, genesis) for each in files]
    assert by_page(browser, files, genesis) == expected
    seldom = {"chain", "receipt", "pinned"}
    assert {name for each in expected for name in each.failed} >= set(dict(CHECKS)) - seldom


def test_a_genesis_file_is_taken_or_refused_alike(browser: Browser) -> None:
    good = evidence_world().members.genesis_bytes
    ask = """async (files) => {
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const found = [];
      for (const file of files) {
        try { found.push(nostro.hex((await nostro.loadGenesis(bytes(file))).chainId)); }
        catch (error) { found.push(error.constructor.name); }
      }
      return found;
    }"""
    names, files = zip(*genesis_variants(good), strict=True)
    expected = []
    for data in files:
        try:
            expected.append(load_genesis(data).chain_id.hex())
        except BadGenesis:
            expected.append("BadGenesis")
    found = browser.do(browser.page.call(ask, [b64encode(each).decode() for each in files]))
    assert dict(zip(names, found, strict=True)) == dict(zip(names, expected, strict=True))
    assert 5 < sum(each != "BadGenesis" for each in expected) < len(expected) - 50


NO_EVIDENCE = {
    "empty": b"",
    "one byte": b"\x91",
    "text": b"This is a letter.\n",
    "garbage": sha512(b"garbage").digest() * 100,
    "a PDF document": b"%PDF-1.7\n",
    "deep": b"\x91" * 1_000_000,
    "an endless list": b"\x9e\xa9dossier/3\xdd\xff\xff\xff\xff",
    "an endless text": b"\x9e\xdb\xff\xff\xff\xff",
    "a very long tag": b"\x9e\xdb\x00\x10\x00\x00" + b"a" * (1 << 20),
    "an old dossier": b"\x9d\xa9dossier/2" + bytes(40),
    "another format": b"\x92\xa9dossier/9\xc0",
}


def test_what_is_no_evidence_is_refused_in_a_sentence(browser: Browser) -> None:
    genesis = evidence_world().members.genesis_bytes
    files = [*NO_EVIDENCE.values(), genesis]
    judged = by_page(browser, files, genesis)
    assert judged == [by_python(each, genesis) for each in files]
    assert {each.verdict for each in judged} == {INVALID}
    swapped = by_page(browser, [genesis], case_bytes("alone"))
    assert swapped == [by_python(genesis, case_bytes("alone"))]
    assert swapped[0].verdict == "UNDECIDED"


def notes() -> Iterator[tuple[str, bytes]]:
    """Checkpoints, sound and not, as signed notes."""
    genesis, store = evidence_world().members.genesis, evidence_world().store
    signature = "\n\u2014 witness " + b64encode(bytes(68)).decode() + "\n"

    def note(height: int, *, other: bool = False, origin: str = "") -> bytes:
        header = store.header(height)
        assert header is not None
        digest = sha256(b"another block").digest() if other else header_digest(header)
        named = origin or origin_of(genesis.network, genesis.chain_id)
        text = Checkpoint(named, height, header.history_root, digest).text
        return text + signature.encode()

    top = store.height()
    assert top is not None
    for height in (2, 5, top - 1, top):
        yield f"of height {height}", note(height)
        yield f"of height {height}, another block", note(height, other=True)
    good = note(top)
    text, _, below = good.decode().partition("\n\n")
    yield "of a later height", note(top).replace(f"\n{top}\n".encode(), f"\n{top + 9}\n".encode())
    yield "of another chain", note(top, origin=f"nostro/test/{'00' * 32}")
    yield "a height with a zero", good.replace(f"\n{top}\n".encode(), f"\n0{top}\n".encode())
    yield "a root of other spelling", good.replace(b"=\n", b"\n", 1)
    yield "without signatures", f"{text}\n".encode()
    yield "without a line break at its end", good[:-1]
    yield "a line more", f"{text}\nmore\n\n{below}".encode()
    yield "capital digits", f"{text[:-64]}{text[-64:].upper()}\n\n{below}".encode()
    yield "a control character", good.replace(b"witness", b"wit\x07ness")
    yield "windows", good.replace(b"\n", b"\r\n")
    yield "a short signature", f"{text}\n\n\u2014 witness AAAA\n".encode()
    yield "two signatures", good + good.partition(b"\n\n")[2]
    yield "empty", b""
    yield "the genesis file", evidence_world().members.genesis_bytes


def test_a_checkpoint_counts_for_and_against_a_history_alike(browser: Browser) -> None:
    genesis, members = evidence_world().members.genesis_bytes, evidence_world().members
    files, seen = [case_bytes("alone"), case_bytes("alone", None, 5)], set[str]()
    for what, note in notes():
        found = by_page(browser, files, genesis, note)
        try:
            pin = read_pin(note, members.genesis, ())
        except BadNote:
            assert [each.verdict for each in found] == ["UNDECIDED"] * 2, what
            assert {(each.kind, each.failed) for each in found} == {(None, ())}, what
        else:
            assert found == [by_python(each, genesis, pin) for each in files], what
        seen |= {each.verdict for each in found}
    assert seen == {VALID, INVALID, "UNDECIDED"}


# --- as a reader uses it --------------------------------------------------------------------------


def choose(browser: Browser, **files: Path) -> dict[str, Any]:
    """Choose files as a reader does; what the page then shows."""
    shown = """JSON.stringify({
      progress: document.getElementById("progress").textContent,
      hidden: document.getElementById("result").hidden,
      verdict: document.getElementById("verdict").textContent,
      proved: document.getElementById("proved").textContent,
      rows: [...document.querySelectorAll("#checks tbody tr")].map((row) => (
        [...row.cells].map((cell) => cell.textContent))),
      record: document.getElementById("record").textContent,
      notes: [...document.querySelectorAll(".chosen")].map((each) => each.textContent),
    })"""

    async def chosen() -> dict[str, Any]:
        await browser.page.load()
        for role, path in files.items():
            await browser.page.give_file(f"#{role}", path)
        await browser.page.until(
            'document.getElementById("progress").textContent.startsWith("Done")'
            ' || [...document.querySelectorAll(".chosen")].some((each) => ('
            "/not read|could not/.test(each.textContent)))"
        )
        found: dict[str, Any] = json.loads(await browser.page.run(shown))
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
