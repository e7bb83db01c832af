"""A shared sample of files of evidence, sound and not, with what the verifier says of each.

Other verifiers (the single file in pure Python, the page) are run over it and have to agree:
on the verdict, the proved status and the names of the checks that failed. Deterministic. What is
right about each file is for the verifier's own tests; here it only says what it says.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from msgspec.structs import replace

from consensus.messages import Content, Equivocation, Kind
from node.audit.dossier import Dossier, attach_receipt, encode_dossier
from node.audit.proofs import EquivocationProof, ForkProof, encode_proof
from node.audit.report import FAIL
from node.audit.verify import verify_file
from node.chain.encoding import encode
from tests.support import forks, wire, world
from tests.support.dossiers import dossier, dossier_bytes
from tests.support.epoch_links import ended_epochs, some_digest, vote
from tests.support.evidence_world import CASES, case, case_bytes, evidence_world
from tests.support.forge import with_act
from tests.support.forge_chain import Chain, rebuilt
from tests.support.forgeries import SOLE
from tests.support.forgeries_around import PINNED, receipt
from tests.support.mutations import exchanged, mutants
from tests.support.state_cases import states

FLIPS = 6
"""Flipped bits of each payment's dossier that are in the sample."""
MUTANTS = 4
"""Damaged elements of each payment's dossier that are in the sample."""


class Case(NamedTuple):
    """A file, and what the verifier says of it."""

    name: str
    data: bytes
    genesis: bytes
    verdict: str
    status: str | None
    """The proved one; None unless VALID and of a payment."""
    failed: frozenset[str]
    """Names of the checks that failed."""


Raw = tuple[str, bytes, bytes]
"""(name, file, genesis file)."""


@cache
def cases() -> tuple[Case, ...]:
    """The sample; names are unique."""
    found = []
    for source in SOURCES:
        for name, data, genesis in source():
            report = verify_file(data, genesis)
            failed = frozenset(line.check for line in report.lines if line.result == FAIL)
            found.append(Case(name, data, genesis, report.verdict, report.status, failed))
    names = {each.name for each in found}
    assert len(names) == len(found), "a name stands twice"
    return tuple(found)


def _ledger() -> bytes:
    return evidence_world().members.genesis_bytes


def _sound() -> Iterator[Raw]:
    for name in CASES:
        yield f"sound: {name}", case_bytes(name), _ledger()
        for reader in ("all", "BANKA"):
            data = case_bytes(name, reader)
            if data != case_bytes(name):
                yield f"sound: {name}, for {reader}", data, _ledger()
        for ends in ((5, 30), (1, 12, 40)):
            if name in ("alone", "held", "link-eur", "net-waterfall", "disputed"):
                made = encode_dossier(rebuilt(case(name), Chain(ends=ends, carriers=1)))
                yield f"sound: {name}, epochs that end at {ends}", made, _ledger()
    for name in ("alone", "many", "disputed"):
        pinned = case_bytes(name, None, PINNED)
        yield f"sound: {name}, with block {PINNED}", pinned, _ledger()
        kept = encode(receipt(case(name)))
        yield f"sound: {name}, with a receipt", attach_receipt(case_bytes(name), kept), _ledger()
    for number in (0, 6, 10, 11, 20, 30, 40, 1000, 1003):
        yield f"sound: sample {number}", dossier_bytes(number), world.genesis_bytes()


def _forged() -> Iterator[Raw]:
    for name, (_, make) in SOLE.items():
        yield f"forged: {name}", encode_dossier(make()), _ledger()


def _incomplete() -> Iterator[Raw]:
    for name in ("alone", "held", "gridlock-first", "link-eur", "net-settled", "disputed"):
        for field in ("finality", "payment", "row", "together", "debtor", "creditor", "dispute"):
            if getattr(case(name), field) is not None:
                made = encode_dossier(replace(case(name), **{field: None}))
                yield f"incomplete: {name} without {field}", made, _ledger()
        yield f"incomplete: {name} without keys", encode_dossier(_keyless(case(name))), _ledger()
    forged = replace(case("alone"), finality=None, steps=dossier(6).steps)
    yield "incomplete: forged too", encode_dossier(forged), _ledger()


def _keyless(made: Dossier) -> Dossier:
    return rebuilt(with_act(made, 0, authority=None))


def _damaged() -> Iterator[Raw]:
    for number, name in enumerate(CASES):
        data = case_bytes(name)
        for flip in range(FLIPS):
            position = (flip * 2 + 1) * len(data) * 4 // FLIPS + number
            flipped = bytearray(data)
            flipped[position // 8] ^= 1 << position % 8
            yield f"flipped: {name}, bit {position}", bytes(flipped), _ledger()
        made = [each for each in mutants(data) if each.data != data]
        for index in range(MUTANTS):
            at = (index * 2 + 1) * len(made) // (2 * MUTANTS) + number
            each = made[at % len(made)]
            yield f"damaged: {name}, {each.what} at {each.at}", each.data, _ledger()
    names = list(CASES)
    for number, name in enumerate(names):
        for each in exchanged(case_bytes(name), case_bytes(names[number - 7])):
            if (each.at[0] + number) % 4 == 0:
                what = f"taken: field {each.at[0]} of {names[number - 7]} in {name}"
                yield what, each.data, _ledger()


def _garbage() -> Iterator[Raw]:
    sound = case_bytes("alone")
    widened = list(wire.widened(sound))
    files: dict[str, bytes] = {
        "empty": b"",
        "one byte": b"\x9e",
        "its tag alone": sound[:11],
        "cut": sound[:-1],
        "a stub": sound[:100],
        "a newline after it": sound + b"\n",
        "twice": sound + sound,
        "hexadecimal": sound.hex().encode(),
        "packed": gzip.compress(sound, mtime=0),
        "a PDF": b"%PDF-1.7 ...",
        "JSON": b'{"verdict": "VALID"}',
        "the genesis file": _ledger(),
        "nested arrays": b"\x91" * 100_000,
        "nested where a path stands": sound[:12] + b"\x91" * 50_000,
        "zeros": bytes(4_096),
        "an old format": b"\x9a\xa9dossier/2" + bytes(64),
        "a receipt": encode(receipt(case("alone"))),
        "a format to come": b"\x9e\xa9dossier/9" + sound[11:],
        **{f"over-long {at}": widened[at] for at in range(0, len(widened), len(widened) // 9)},
    }
    for name, data in files.items():
        yield f"garbage: {name}", data, _ledger()
    yield "genesis: another chain's", sound, world.genesis_bytes()
    yield "genesis: one byte more", sound, _ledger() + b"\n"
    yield "genesis: empty", sound, b""
    yield "genesis: the dossier", sound, sound
    yield "genesis: JSON", sound, b"{}"


def _forks() -> Iterator[Raw]:
    made: dict[str, Callable[..., ForkProof]] = {
        "one view": forks.same_view,
        "a nullification": forks.by_nullification,
        "notarizations": forks.by_notarizations,
        "a carrier": forks.through_a_carrier,
    }
    for name, make in made.items():
        for validators, epochs in ((4, 0), (7, 2)):
            genesis = world.genesis_bytes(validators)
            proof = make(validators, epochs)
            data = encode_proof(proof)
            what = f"{name}, {validators} validators, epoch {epochs}"
            yield f"fork: {what}", data, genesis
            yield f"fork: {what}, unnamed", encode_proof(replace(proof, certificates=())), genesis
            swapped = replace(proof, lower=proof.higher, higher=proof.lower)
            yield f"fork: {what}, swapped", encode_proof(swapped), genesis
            damaged = list(mutants(data))
            for index in range(5):
                each = damaged[(2 * index + 1) * len(damaged) // 10]
                yield f"fork: {what}, {each.what} at {each.at}", each.data, genesis
    for epochs in (0, 1, 3):
        block = some_digest("block")
        votes = (
            vote(2, 9, Kind.FINALIZE, Content(1, block), epoch=epochs),
            vote(2, 9, Kind.NULLIFY, epoch=epochs),
        )
        links = tuple(ended_epochs(epochs).links)
        accused = EquivocationProof(links, Equivocation(*votes))
        data = encode_proof(accused)
        yield f"equivocation: epoch {epochs}", data, world.genesis_bytes()
        same = EquivocationProof(links, Equivocation(votes[0], votes[0]))
        yield f"equivocation: epoch {epochs}, one vote", encode_proof(same), world.genesis_bytes()
        damaged = list(mutants(data))
        for index in range(5):
            each = damaged[(2 * index + 1) * len(damaged) // 10]
            name = f"equivocation: epoch {epochs}, {each.what} at {each.at}"
            yield name, each.data, world.genesis_bytes()


SOURCES: list[Callable[[], Iterator[Raw]]] = [
    _sound,
    _forged,
    _incomplete,
    _damaged,
    _garbage,
    _forks,
    states,
]
"""What makes the sample."""
