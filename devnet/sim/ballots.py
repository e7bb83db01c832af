"""Every vote known to the oracle, counted by view: which certificates could exist at all.

A certificate is formable once a quorum of votes for one content exists, whoever holds them. The
safety rules are stated over formable certificates, not over those that some node happened to
assemble: what a network with other losses could have shown must not exist either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from consensus.messages import Content, Kind

Ballot = tuple[int, Kind, Content | None]
"""(view, kind, content): what one vote says. The simulated chain has one epoch."""


@dataclass(slots=True)
class _View:
    notarize: dict[Content, set[int]] = field(default_factory=dict)
    finalize: dict[Content, set[int]] = field(default_factory=dict)
    nullify: set[int] = field(default_factory=set)


class BrokenRule(Exception):
    """A rule over votes does not hold; `rule` names it."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class Ballots:
    """Votes by view, each voter counted once per content; `add` checks the vote-counting rules."""

    def __init__(self, validators: int, honest: Iterable[int]) -> None:
        self.quorum = validators - (validators - 1) // 3
        self._honest = frozenset(honest)
        self._views: dict[int, _View] = {}
        self._seen: set[tuple[int, Ballot]] = set()

    def add(self, voter: int, ballot: Ballot) -> None:
        """Count one vote. Raises BrokenRule when it completes what may never exist."""
        if (voter, ballot) in self._seen:
            return
        self._seen.add((voter, ballot))
        view, kind, content = ballot
        votes = self._views.setdefault(view, _View())
        if voter in self._honest:
            self._incriminates(voter, votes, ballot)
        if content is None:
            votes.nullify.add(voter)
        else:
            by_content = votes.notarize if kind is Kind.NOTARIZE else votes.finalize
            by_content.setdefault(content, set()).add(voter)
        self._check(view, votes)

    def _incriminates(self, voter: int, votes: _View, ballot: Ballot) -> None:
        view, kind, content = ballot
        if kind is Kind.NULLIFY:
            conflict = any(voter in voters for voters in votes.finalize.values())
        else:
            by_content = votes.notarize if kind is Kind.NOTARIZE else votes.finalize
            conflict = any(
                voter in voters for other, voters in by_content.items() if other != content
            ) or (kind is Kind.FINALIZE and voter in votes.nullify)
        if conflict:
            raise BrokenRule(
                "no-honest-key-incriminated",
                f"validator {voter} made two conflicting votes in view {view}, one {kind.name}",
            )

    def _check(self, view: int, votes: _View) -> None:
        notarized = [c for c, voters in votes.notarize.items() if len(voters) >= self.quorum]
        if len(notarized) > 1:
            raise BrokenRule("one-notarization-per-view", f"two blocks notarized in view {view}")
        finalized = [c for c, voters in votes.finalize.items() if len(voters) >= self.quorum]
        if finalized and len(votes.nullify) >= self.quorum:
            raise BrokenRule(
                "no-nullification-with-finalization", f"view {view} can show both certificates"
            )
        if any(content not in notarized for content in finalized):
            raise BrokenRule(
                "finalization-implies-notarization",
                f"view {view} can show a finalization without a notarization",
            )

    def voted(self, voter: int, ballot: Ballot) -> bool:
        """Whether this vote is known."""
        return (voter, ballot) in self._seen

    def notarized(self, view: int, block: bytes) -> bool:
        """Whether a notarization of `block` in `view` is formable."""
        votes = self._views.get(view)
        return votes is not None and any(
            content.block == block and len(voters) >= self.quorum
            for content, voters in votes.notarize.items()
        )

    def nullified(self, view: int) -> bool:
        """Whether a nullification of `view` is formable."""
        votes = self._views.get(view)
        return votes is not None and len(votes.nullify) >= self.quorum

    def certified(self, view: int) -> bool:
        """Whether any certificate of `view` is formable: what lets a node enter the next view."""
        votes = self._views.get(view)
        return votes is not None and any(
            len(voters) >= self.quorum
            for voters in (votes.nullify, *votes.notarize.values(), *votes.finalize.values())
        )
