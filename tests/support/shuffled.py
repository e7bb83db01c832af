"""Dossiers with some parts changed, in sound encoding: what a forger without keys can make.

Flipped bits mostly end in the decoder or in a digest. These parse, and reach what a check does with
parts that do not belong together; no check may stumble, and all verifiers must name the same ones.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from node.audit.dossier import Dossier, encode_dossier

Path = tuple[str | int, ...]
_FINALITY = ("epochs", "finality", "blocks")
_SHARE_ELSEWHERE = 0.85
"""Of changes, so many are to what was ordered and became of it."""


def shuffled(dossiers: Sequence[Dossier], count: int, seed: int) -> list[bytes]:
    """So many different files, none of them one of these dossiers."""
    chosen, parts = random.Random(seed), _parts(dossiers)
    found = {encode_dossier(each): False for each in dossiers}
    while sum(found.values()) < count:
        made: Any = chosen.choice(dossiers)
        for _ in range(chosen.choice((1, 1, 1, 2, 3))):
            made = _changed(made, chosen, parts)
        try:
            found.setdefault(encode_dossier(made), True)
        except OverflowError:
            continue  # an integer that no encoding has
    return [data for data, new in found.items() if new]


def _walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _walk(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        for index, each in enumerate(value):
            yield from _walk(each, (*path, index))


def _field(path: Path) -> str:
    """The name of the field that a path ends in, or in whose list."""
    return next(str(step) for step in reversed(path) if isinstance(step, str))


def _parts(dossiers: Sequence[Dossier]) -> dict[str, list[Any]]:
    """All that stands somewhere in a field of this name."""
    parts: dict[str, list[Any]] = defaultdict(list)
    for dossier in dossiers:
        for path, value in _walk(dossier):
            if path:
                parts[_field(path)].append(value)
    return parts


def _changed(dossier: Any, chosen: random.Random, parts: dict[str, list[Any]]) -> Any:
    places = [(path, value) for path, value in _walk(dossier) if path]
    if chosen.random() < _SHARE_ELSEWHERE:
        places = [place for place in places if place[0][0] not in _FINALITY]
    path, value = chosen.choice(places)
    kind = chosen.randrange(4)
    new: Any
    if kind == 0 and type(value) is int:
        new = max(0, value + chosen.choice((-1, 1, 1000)))
    elif kind == 0 and isinstance(value, tuple) and value:
        at = chosen.randrange(len(value))
        rest = value[:at] + value[at + 1 :]
        new = chosen.choice((rest, (*value, value[at]), value[::-1]))
    elif kind == 1:
        new = None
    else:
        new = chosen.choice(parts[_field(path)])
    return _put(dossier, path, new)


def _put(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    step, *rest = path
    if isinstance(value, msgspec.Struct):
        assert isinstance(step, str)
        return replace(value, **{step: _put(getattr(value, step), tuple(rest), new)})
    assert isinstance(step, int)
    return (*value[:step], _put(value[step], tuple(rest), new), *value[step + 1 :])
