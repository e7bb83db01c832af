"""verify.html, in headless Chromium, judges every file as `nostro verify` does, with the browser's
Ed25519 and with its own."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256, sha512
from pathlib import Path

import pytest
from msgspec.structs import replace

from node.audit.dossier import Netted, encode_dossier
from node.audit.note import BadNote
from node.audit.report import INVALID, VALID
from node.audit.verify import CHECKS
from node.audit.verify_checkpoint import read_pin
from node.chain.genesis import BadGenesis, load_genesis
from node.chain.signature import BadKey, check_public_key, verify_bytes
from node.chain.types import CycleClosed, NetPosition
from tests.support.evidence_cases import Case, cases
from tests.support.evidence_world import CASES, case, case_bytes, evidence_world
from tests.support.forge_chain import rebuilt
from tests.support.page import Browser, browsing, by_page, by_python
from tests.support.page_cases import checkpoint_notes, genesis_variants, other_encodings
from tests.support.shuffled import shuffled

pytestmark = pytest.mark.xdist_group("page")

VECTORS = Path(__file__).parent.parent / "vectors"

VERIFIED = """async (path, vectors) => {
  const { unhex, ed25519 } = nostro;
  const found = [];
  for (const parts of vectors) found.push(await ed25519[path](...parts.map(unhex)));
  return found;
}"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests here."""
    with browsing(tmp_path_factory.mktemp("page")) as found:
        yield found


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


def test_a_list_may_be_longer_than_what_one_call_takes(browser: Browser) -> None:
    sound = case("net-settled")
    assert isinstance(sound.together, Netted)
    assert sound.together.closed is not None
    record, closed = sound.together.record, sound.together.closed
    idle = (NetPosition(f"Z{number:019d}", 0, 0) for number in range(150_000))
    positions = (*record.positions, *idle)
    assert isinstance(closed.outcome.event, CycleClosed)
    event = replace(closed.outcome.event, positions=positions)
    netted = replace(
        sound.together,
        record=replace(record, positions=positions),
        closed=replace(closed, outcome=replace(closed.outcome, event=event)),
    )
    data = encode_dossier(rebuilt(replace(sound, together=netted)))
    genesis = evidence_world().members.genesis_bytes
    assert by_page(browser, [data], genesis) == [by_python(data, genesis)]
    assert by_python(data, genesis).verdict == VALID


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
    "a tag that every object of JavaScript has": b"\x91\xabconstructor",
    "another such tag": b"\x91\xa9__proto__",
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


def test_a_checkpoint_counts_for_and_against_a_history_alike(browser: Browser) -> None:
    genesis, members = evidence_world().members.genesis_bytes, evidence_world().members
    files, seen = [case_bytes("alone"), case_bytes("alone", None, 5)], set[str]()
    for what, note in checkpoint_notes():
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
