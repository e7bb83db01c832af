"""Every way to damage one element of a canonical file: what the verifier must never call VALID.

A file is read as plain MessagePack, one element is changed, and it is written again, canonical as
before: so nothing but what the element says is wrong. Deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from node.chain.encoding import encode

STRANGE = bytes((1,)) + bytes(31)
"""A hash that is nowhere."""

Node = tuple[int, ...]
"""Indexes that lead from the outermost array to an element."""


class Mutant(NamedTuple):
    """A damaged file."""

    what: str
    at: Node
    data: bytes


def mutants(data: bytes) -> Iterator[Mutant]:
    """Every element removed, doubled, exchanged with the next one or changed, and one added."""
    tree = msgspec.msgpack.decode(data)
    for at, value in _nodes(tree, ()):
        for what, changed in _changes(value):
            yield Mutant(what, at, encode(_with(tree, at, changed)))


def exchanged(data: bytes, other: bytes) -> Iterator[Mutant]:
    """Every field of the file taken from another one."""
    tree, donor = msgspec.msgpack.decode(data), msgspec.msgpack.decode(other)
    for index in range(1, min(len(tree), len(donor))):
        if tree[index] != donor[index]:
            yield Mutant("taken", (index,), encode(_with(tree, (index,), donor[index])))


def _nodes(value: Any, at: Node) -> Iterator[tuple[Node, Any]]:
    yield at, value
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _nodes(each, (*at, index))


def _changes(value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case list():
            yield from _of_list(value)
        case bytes():
            yield "flipped", bytes((value[0] ^ 1,)) + value[1:] if value else b"\x00"
            yield "cut", value[:-1]
            yield "longer", value + b"\x00"
            yield "absent", None
        case bool():
            yield "negated", not value
        case int():
            yield "more", value + 1
            yield "less", value - 1
            yield "absent", None
        case str():
            yield "another", value[:-1] + ("A" if value[-1:] != "A" else "B")
            yield "longer", value + "A"
            yield "absent", None
        case None:
            yield "there", 0
            yield "there", STRANGE
            yield "there", []


def _of_list(value: list[Any]) -> Iterator[tuple[str, Any]]:
    for index in range(len(value)):
        yield f"removed {index}", value[:index] + value[index + 1 :]
        yield f"doubled {index}", value[: index + 1] + value[index:]
        if index and value[index - 1] != value[index]:
            swapped = list(value)
            swapped[index - 1 : index + 1] = swapped[index - 1 : index + 1][::-1]
            yield f"exchanged {index}", swapped
    yield "added nothing", [*value, None]
    yield "added", [*value, STRANGE]
    yield "emptied", []
    yield "absent", None


def _with(tree: Any, at: Node, changed: Any) -> Any:
    if not at:
        return changed
    copy = list(tree)
    copy[at[0]] = _with(copy[at[0]], at[1:], changed)
    return copy
