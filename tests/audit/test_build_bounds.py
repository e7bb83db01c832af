"""What would be too much for one dossier is refused before it is put together."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest

from node.audit.build import EvidenceTooLarge, build_dossier
from node.audit.dossier import MAX_MEMBERS, MAX_STEPS
from tests.support.evidence_world import evidence_world


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


def test_more_members_than_a_dossier_may_have() -> None:
    first = next(evidence_world().chain.joined("EUR", 1))
    with pytest.raises(EvidenceTooLarge, match="ask for a dossier without them"):
        build(Told(joined=repeat(first)), "net-settled", "all")
    assert MAX_MEMBERS == 1_000_000
