"""What a step of a scenario does, as it is written: `kill node2`, `link 0 1 delay 50 loss 0.1`.

Everything that can be known before the run is checked here, so that a slip in the last step of a
long script does not show after the first nine have run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from devnet.partition import (
    BadFault,
    LinkFault,
    find_node,
    parse_groups,
    parse_link_fault,
    parse_offset,
)

LEADER = "leader"
"""Instead of a node: the one that leads the view when the step comes."""
DOWN = "down"
"""Instead of nodes: all that are down when the step comes."""
RECOVERED = "recovered"
"""The step that waits until the network is whole again, and has the judge look at how long."""
NODE_OPERATIONS = ("kill", "pause", "resume", "restart", "disconnect", "reconnect")


@dataclass(frozen=True, slots=True)
class Action:
    """One command to the supervisor, or to each of several nodes at once."""

    text: str
    """As the script has it."""
    operation: str
    nodes: tuple[str, ...] = ()
    """Names, or LEADER, or DOWN; the command goes to each. Empty: it is for the whole devnet."""
    arguments: dict[str, Any] = field(default_factory=dict)


def parse_action(text: str, names: Sequence[str]) -> Action:
    """The action of a step in a devnet with the nodes `names`. Raises BadFault."""
    operation, *words = text.split() or [""]
    if operation in (RECOVERED, "heal"):
        if words:
            raise BadFault(f"{operation} takes nothing after it, not {' '.join(words)!r}")
        return Action(text, operation)
    if operation in NODE_OPERATIONS:
        return Action(text, operation, _nodes(operation, words, names))
    if operation == "partition":
        groups = " ".join(words)
        parse_groups(groups, names)
        return Action(text, operation, arguments={"groups": groups})
    if operation == "clock":
        if len(words) != 2:
            raise BadFault("write clock NODE OFFSET, such as: clock node1 +2000")
        offset = parse_offset(words[1])
        return Action(text, operation, (_node(words[0], names),), {"offset_ms": offset})
    if operation == "links":
        return Action(text, operation, arguments=_fault(words).document())
    if operation == "link":
        if len(words) < 2:
            raise BadFault("write link NODE NODE delay MS, such as: link 0 1 delay 50 loss 0.1")
        one, other = (find_node(word, names) for word in words[:2])
        if one == other:
            raise BadFault(f"{one} has no link to itself")
        return Action(text, operation, (one,), {"other": other, **_fault(words[2:]).document()})
    raise BadFault(
        f"{operation!r} is no action; there are {', '.join(NODE_OPERATIONS)}, partition, heal, "
        f"link, links, clock and {RECOVERED}"
    )


def _nodes(operation: str, words: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    if not words:
        raise BadFault(f"{operation} needs a node, such as: {operation} node2")
    found = tuple(_node(word, names) for word in words)
    if len(set(found)) != len(found):
        raise BadFault(f"a node is named twice in {operation} {' '.join(words)}")
    if len(found) > 1 and (LEADER in found or DOWN in found):
        raise BadFault(f"{LEADER} and {DOWN} stand alone, without other nodes")
    return found


def _node(word: str, names: Sequence[str]) -> str:
    return word if word in (LEADER, DOWN) else find_node(word, names)


def _fault(words: Sequence[str]) -> LinkFault:
    """Of `delay 50 jitter 5 loss 0.1`, in any order."""
    given = dict(zip(words[::2], words[1::2], strict=False))
    if not words or len(words) % 2 or len(given) * 2 != len(words):
        raise BadFault("after the nodes come, each once: delay MS, jitter MS, loss SHARE")
    unknown = [word for word in given if word not in ("delay", "jitter", "loss")]
    if unknown:
        raise BadFault(f"{unknown[0]!r} is no fault of a link; there are delay, jitter and loss")
    return parse_link_fault(given.get("delay"), given.get("jitter"), given.get("loss"))
