"""What would be too much for one dossier is refused before it is put together."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import repeat
from typing import Any

import pytest

from node.audit.build import EvidenceTooLarge, build_dossier
from node.audit.build_related import MAX_OF_A_KIND
from node.audit.dossier import MAX_MEMBERS, MAX_STEPS, decode_dossier
from node.audit.verify_related import delivery
from node.chain.block import header_digest
from node.chain.types import Acknowledge
from tests.support.evidence_world import EvidenceWorld, evidence_world


class Told:
    """The chain of the world, but for what its indexes tell without end."""

    def __init__(self, **told: Any) -> None:
        self._told = told

    def __getattr__(self, name: str) -> Any:
        if name in self._told:
            return lambda *asked: iter(self._told[name])
        return getattr(evidence_world().chain, name)


def build(source: Told, name: str, clear: str | None = None) -> bytes:
    return build_dossier(source, evidence_world().entry(name), clear=clear)


def test_more_outcomes_than_a_dossier_may_have() -> None:
    [*_, last] = evidence_world().chain.outcomes_of(evidence_world().uetrs["held"], 0)
    with pytest.raises(EvidenceTooLarge, match="more than 10,000 outcomes"):
        build(Told(outcomes_of=repeat(last)), "held")
    assert MAX_STEPS == 10_000


def test_more_instructions_about_it_than_a_dossier_may_have() -> None:
    [*_, last] = evidence_world().chain.about(evidence_world().uetrs["acknowledged"], 0)
    with pytest.raises(EvidenceTooLarge, match="more than 10,000 instructions about it"):
        build(Told(about=repeat(last)), "acknowledged")


def test_nobody_takes_evidence_away_by_saying_the_same_very_often() -> None:
    """A creditor may acknowledge whatever it likes, as often as it likes."""
    world = EvidenceWorld()
    add, chain = world.chain.add, world.chain
    add(world.issue("issue", "BANKA", 1_000))
    header = add(world.pay("paid", "BANKA", "BANKB", 10))
    payment, block = world.payments["paid"], header_digest(header)
    others = (sha256(bytes((at,))).digest() for at in range(3))
    add(*(world.order("BANKB", Acknowledge(payment, each, block)) for each in others))
    add(world.acknowledge("paid"))
    [*often, own] = chain.about(payment.uetr, 0)
    assert len(often) == 3
    source = Many(chain, [*often[:1] * 900, *often[1:2] * MAX_STEPS, own])
    dossier = decode_dossier(build_dossier(source, world.entry("paid")))
    assert len(dossier.related) == MAX_OF_A_KIND + 1
    assert "acknowledged" in delivery(dossier, chain.genesis)


class Many:
    """A chain in whose index about a payment all this stands."""

    def __init__(self, chain: Any, about: list[tuple[int, int]]) -> None:
        self._chain, self._about = chain, about

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    def about(self, uetr: bytes, first: int) -> Iterator[tuple[int, int]]:
        return iter(self._about)


def test_more_members_than_a_dossier_may_have() -> None:
    first = next(evidence_world().chain.joined("EUR", 1))
    with pytest.raises(EvidenceTooLarge, match="ask for a dossier without them"):
        build(Told(joined=repeat(first)), "net-settled", "all")
    assert MAX_MEMBERS == 1_000_000
