"""The faults of a devnet's links and clocks: what was ordered, and what follows for each node.

A link is held down at both its ends, so that a node that knows of no fault (it just started, or
is a build of its own) still cannot get through from the other side. Delay and loss are put on what
a node sends, at both ends too: each direction has them once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

from node.network.faults import MAX_CLOCK_OFFSET_MS, MAX_DELAY_MS
from node.network.faults import Faults as NodeFaults


class BadFault(Exception):
    """What was asked for is no fault of these nodes; the text says why."""


class BadPartition(BadFault):
    """What was asked for splits no network of these nodes; the text says why."""


@dataclass(frozen=True, slots=True)
class LinkFault:
    """How a link is slow and lossy, the same in both directions."""

    delay_ms: int = 0
    """One way."""
    jitter_ms: int = 0
    """Up to so much more, at random for each message; order is kept."""
    loss: float = 0.0
    """Share of the messages that never arrive, 0 to 1."""

    def document(self) -> dict[str, Any]:
        return asdict(self)


def parse_link_fault(delay: str | None, jitter: str | None, loss: str | None) -> LinkFault:
    """A link's fault from its parts as text; what is not given is none. Raises BadFault."""
    return LinkFault(_milliseconds("delay", delay), _milliseconds("jitter", jitter), _share(loss))


def _milliseconds(what: str, text: str | None) -> int:
    text = "0" if text is None else text
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= MAX_DELAY_MS):
        raise BadFault(f"{what} {text!r} is not a whole number of ms from 0 to {MAX_DELAY_MS}")
    return int(text)


def _share(text: str | None) -> float:
    text = "0" if text is None else text
    if not re.fullmatch(r"(0(\.[0-9]{1,9})?|1(\.0{1,9})?)", text, re.ASCII):
        raise BadFault(f"loss {text!r} is not a share from 0 to 1, such as 0.05")
    return float(text)


def parse_offset(text: str) -> int:
    """How far a clock is to be off, ms: `+2000`, `-500`, `0`. Raises BadFault."""
    most = MAX_CLOCK_OFFSET_MS
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", text, re.ASCII) or abs(int(text)) > most:
        raise BadFault(f"offset {text!r} is not a whole number of ms from -{most} to {most}")
    return int(text)


def find_node(given: str, names: Sequence[str]) -> str:
    """The node called `node2`, or `2`. Raises BadPartition."""
    for name in names:
        if given in (name, name.removeprefix("node")):
            return name
    raise BadPartition(f"this devnet has no node {given!r}; its nodes are {', '.join(names)}")


def parse_groups(text: str, names: Sequence[str]) -> list[list[str]]:
    """The groups of a partition written as `0,1|2,3`, in the order of `names` within each.

    Nodes that are not named form a last group together. Raises BadPartition for an unknown node,
    one that is named twice, an empty group, and for one group that has all nodes.
    """
    groups: list[list[str]] = []
    seen: set[str] = set()
    for part in text.split("|"):
        group = []
        for given in part.split(","):
            if not given.strip():
                raise BadPartition(
                    f"{text!r} has a place without a node: write groups like 0,1|2,3"
                )
            name = find_node(given.strip(), names)
            if name in seen:
                raise BadPartition(f"{name} is named twice in {text!r}")
            seen.add(name)
            group.append(name)
        groups.append(sorted(group, key=names.index))
    rest = [name for name in names if name not in seen]
    if rest:
        groups.append(rest)
    if len(groups) < 2:
        raise BadPartition(
            f"{text!r} puts all nodes into one group, which splits nothing; "
            "to link all nodes again: nostro devnet heal"
        )
    return groups


@dataclass(slots=True)
class Faults:
    """The faults of one devnet's links and clocks."""

    names: Sequence[str]
    seed: int = 0
    """Decides jitter and loss, with the nodes' names."""
    groups: list[list[str]] = field(default_factory=list)
    """Of the present partition; empty if there is none."""
    disconnected: set[str] = field(default_factory=set)
    links: dict[tuple[str, str], LinkFault] = field(default_factory=dict)
    """Of slow or lossy links, by their ends in the order of `names`."""
    clocks: dict[str, int] = field(default_factory=dict)
    """How many ms the clocks are off that are."""

    def held(self, node: str) -> list[str]:
        """To which other nodes this node's links are held down."""
        return [other for other in self.names if other != node and self._apart(node, other)]

    def order(self, node: str) -> NodeFaults:
        """All that is to be wrong with one node."""
        slow = {
            other: fault
            for other in self.names
            if other != node and (fault := self.links.get(self._link(node, other)))
        }
        return NodeFaults(
            held=tuple(self.held(node)),
            delay_ms={other: fault.delay_ms for other, fault in slow.items()},
            jitter_ms={other: fault.jitter_ms for other, fault in slow.items()},
            loss={other: fault.loss for other, fault in slow.items()},
            # Not the same for all, or all links would lose their n-th message.
            seed=(self.seed + self.names.index(node)) % 2**63,
            clock_offset_ms=self.clocks.get(node, 0),
        )

    def disconnect(self, node: str) -> None:
        """Take a node off the network, whatever else holds. Idempotent."""
        self.disconnected.add(node)

    def reconnect(self, node: str) -> None:
        """Undo `disconnect`; a partition stays. Raises BadPartition if there is nothing to undo."""
        if node not in self.disconnected:
            raise BadPartition(
                f"{node} is not disconnected"
                + ("; a partition is ended by: nostro devnet heal" if self.held(node) else "")
            )
        self.disconnected.discard(node)

    def partition(self, groups: list[list[str]]) -> None:
        """Let nodes of different groups have no links; takes the place of an earlier partition."""
        self.groups = groups

    def set_link(self, one: str, other: str, fault: LinkFault) -> None:
        """Make one link slow or lossy both ways, or neither any more. Raises BadFault."""
        if one == other:
            raise BadFault(f"{one} has no link to itself")
        if fault == LinkFault():
            self.links.pop(self._link(one, other), None)
        else:
            self.links[self._link(one, other)] = fault

    def set_links(self, fault: LinkFault) -> None:
        """Make all links so, whatever each was."""
        for one, other in combinations(self.names, 2):
            self.set_link(one, other, fault)

    def set_clock(self, node: str, offset_ms: int) -> None:
        """Set a node's clock wrong by so much, or right by 0."""
        self.clocks[node] = offset_ms
        if offset_ms == 0:
            del self.clocks[node]

    def heal(self) -> None:
        """End the partition and every disconnection, make all links good and all clocks right."""
        self.groups = []
        self.disconnected.clear()
        self.links.clear()
        self.clocks.clear()

    def document(self) -> dict[str, Any]:
        """What is wrong now, as the commands and `status` tell it."""
        return {
            "groups": self.groups,
            "disconnected": sorted(self.disconnected, key=self.names.index),
            "held": {name: self.held(name) for name in self.names},
            "links": [
                {"nodes": list(pair), **self.links[pair].document()}
                for pair in combinations(self.names, 2)
                if pair in self.links
            ],
            "clocks": {name: self.clocks[name] for name in self.names if name in self.clocks},
        }

    def _link(self, one: str, other: str) -> tuple[str, str]:
        first, second = sorted((one, other), key=self.names.index)
        return first, second

    def _apart(self, one: str, other: str) -> bool:
        if one in self.disconnected or other in self.disconnected:
            return True
        return any((one in group) != (other in group) for group in self.groups)


def describe_held(held: Mapping[str, Sequence[str]]) -> str:
    """All links that are held down, each once: `node0–node2, node1–node2`, or none."""
    pairs = [f"{one}–{other}" for one in held for other in held[one] if one < other]
    return ", ".join(pairs) or "none"


def describe_links(links: Sequence[Mapping[str, Any]]) -> str:
    """Slow and lossy links, equal ones together: `node0–node1, node0–node2: 50 ms, 5 % lost`."""
    alike: dict[str, list[str]] = {}
    for link in links:
        fault = f"{link['delay_ms']} ms"
        if link["jitter_ms"]:
            fault += f" to {link['delay_ms'] + link['jitter_ms']} ms"
        if link["loss"]:
            fault += f", {link['loss'] * 100:g} % lost"
        alike.setdefault(fault, []).append("–".join(link["nodes"]))
    return "; ".join(f"{', '.join(pairs)}: {fault}" for fault, pairs in alike.items()) or "none"


def describe_clocks(clocks: Mapping[str, int]) -> str:
    """Clocks set wrong: `node1 +2000 ms`, or none."""
    return ", ".join(f"{name} {offset:+d} ms" for name, offset in clocks.items()) or "none"
