"""Which links of a devnet are held down: what was ordered, and what follows for each node.

A link is held down at both its ends, so that a node that knows of no fault (it just started, or
is a build of its own) still cannot get through from the other side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class BadPartition(Exception):
    """What was asked for splits no network of these nodes; the text says why."""


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
    """The link faults of one devnet."""

    names: Sequence[str]
    groups: list[list[str]] = field(default_factory=list)
    """Of the present partition; empty if there is none."""
    disconnected: set[str] = field(default_factory=set)

    def held(self, node: str) -> list[str]:
        """To which other nodes this node's links are held down."""
        return [other for other in self.names if other != node and self._apart(node, other)]

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

    def heal(self) -> None:
        """End the partition and every disconnection."""
        self.groups = []
        self.disconnected.clear()

    def _apart(self, one: str, other: str) -> bool:
        if one in self.disconnected or other in self.disconnected:
            return True
        return any((one in group) != (other in group) for group in self.groups)


def describe_held(held: Mapping[str, Sequence[str]]) -> str:
    """All links that are held down, each once: `node0–node2, node1–node2`, or none."""
    pairs = [f"{one}–{other}" for one in held for other in held[one] if one < other]
    return ", ".join(pairs) or "none"
