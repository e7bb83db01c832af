"""Decoding by type: what a value of a type looks like in a stream of tokens, and taking it.

A token is (kind, content). The kind is the word that error messages use; the content of an array
or object is how many elements or fields follow as tokens of their own. So nothing is ever built
that the type has no place for, nothing nests deeper than the type does, and a length that a file
claims takes no memory before the elements are there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NewType, Protocol, Union, cast, get_args, get_origin
from typing import get_type_hints as type_hints

from ._struct import Meta, Struct, UnsetType

_KINDS = ("bool", "int", "float", "str", "bytes", "array", "object", "null")
"""In the order in which messages name them."""


class DecodeError(Exception):
    """The bytes are not of the format."""


class ValidationError(DecodeError):
    """The bytes hold something else than the type; the text says what and where."""


class Tokens(Protocol):
    """A file, token by token."""

    def take(self) -> tuple[str, Any]:
        """The next (kind, content). Raises DecodeError."""


Take = Callable[[Any, Tokens], Any]
"""take(content, tokens): the value that begins with a token of this content."""
Shape = dict[str, Take]
"""How a value of a type may begin: kind of token → how to go on."""


class Wrong(Exception):
    """A value is not of its type: what is wrong, and the steps from the top to it."""

    def __init__(self, text: str, *path: str) -> None:
        super().__init__(text)
        self.text, self.path = text, list(path)

    def __str__(self) -> str:
        return f"{self.text} - at `${''.join(self.path)}`" if self.path else self.text


def decoded(tokens: Tokens, hint: Any) -> Any:
    """The value of this type that the tokens make. Raises ValidationError, DecodeError."""
    try:
        return _take(shape(hint), tokens)
    except Wrong as wrong:
        raise ValidationError(str(wrong)) from None


def _take(shape: Shape, tokens: Tokens) -> Any:
    kind, content = tokens.take()
    take = shape.get(kind)
    if take is None:
        expected = " | ".join(each for each in _KINDS if each in shape)
        raise Wrong(f"Expected `{expected}`, got `{kind}`")
    return take(content, tokens)


def _element(shape: Shape, tokens: Tokens, step: str) -> Any:
    try:
        return _take(shape, tokens)
    except Wrong as wrong:
        wrong.path.insert(0, step)
        raise


# --- types ------------------------------------------------------------------------------------


@cache
def shape(hint: Any) -> Shape:
    """How a value of this type begins. Raises TypeError for a type that none here is of."""
    if isinstance(hint, NewType):
        return shape(hint.__supertype__)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _bounded(args[0], args[1:])
    if origin in (Union, UnionType):
        return _alternatives(args)
    if origin is Literal:
        return {"str": _one_of(args)}
    if origin is tuple:
        return _tuple(args, Meta())
    if hint in _SCALARS:
        return {_SCALARS[hint]: lambda content, tokens: content}
    if hint is UnsetType:
        return {}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"int": _member_of(hint)}
    if isinstance(hint, type) and issubclass(hint, Struct):
        return {"array" if hint.__struct_config__.array_like else "object": _struct(hint)}
    raise TypeError(f"nothing here decodes a {hint!r}")


_SCALARS: dict[Any, str] = {
    bool: "bool",
    int: "int",
    str: "str",
    bytes: "bytes",
    NoneType: "null",
    None: "null",
}


def _alternatives(hints: tuple[Any, ...]) -> Shape:
    structs = [hint for hint in hints if isinstance(hint, type) and issubclass(hint, Struct)]
    several = structs if len(structs) > 1 else []
    found: Shape = {"array": _tagged(several)} if several else {}
    for hint in hints:
        if hint in several:
            continue
        for kind, take in shape(hint).items():
            if kind in found:
                raise TypeError(f"two alternatives of {hints!r} begin alike")
            found[kind] = take
    return found


def _one_of(words: tuple[str, ...]) -> Take:
    def take(content: str, tokens: Tokens) -> str:
        if content not in words:
            raise Wrong(f"Invalid enum value '{content}'")
        return content

    return take


def _member_of(kind: type[Enum]) -> Take:
    members = {member.value: member for member in kind}

    def take(content: int, tokens: Tokens) -> Enum:
        member = members.get(content)
        if member is None:
            raise Wrong(f"Invalid enum value {content}")
        return member

    return take


# --- bounds -----------------------------------------------------------------------------------


def _bounded(hint: Any, metas: tuple[Any, ...]) -> Shape:
    # The outermost bound of each sort holds.
    given = {
        k: v for m in metas if isinstance(m, Meta) for k, v in m._asdict().items() if v is not None
    }
    meta = Meta(**given)
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint), meta)
    inner = shape(hint)
    [kind] = inner
    check = _check(kind, meta)

    def take(content: Any, tokens: Tokens) -> Any:
        check(content)
        return inner[kind](content, tokens)

    return {kind: take}


def _check(kind: str, meta: Meta) -> Callable[[Any], None]:
    if kind == "int":
        return _check_range(meta)
    return _check_text(meta) if kind == "str" else _check_length(kind, meta)


def _check_range(meta: Meta) -> Callable[[int], None]:
    low, high = meta.ge, meta.le

    def check(content: int) -> None:
        if low is not None and content < low:
            raise Wrong(f"Expected `int` >= {low}")
        if high is not None and content > high:
            raise Wrong(f"Expected `int` <= {high}")

    return check


def _check_length(kind: str, meta: Meta) -> Callable[[Any], None]:
    low, high = meta.min_length, meta.max_length

    def check(content: Any) -> None:
        if low is not None and len(content) < low:
            raise Wrong(f"Expected `{kind}` of length >= {low}")
        if high is not None and len(content) > high:
            raise Wrong(f"Expected `{kind}` of length <= {high}")

    return check


def _check_text(meta: Meta) -> Callable[[str], None]:
    check_length = _check_length("str", meta)
    pattern = None if meta.pattern is None else re.compile(meta.pattern)

    def check(content: str) -> None:
        check_length(content)
        if pattern is not None and pattern.search(content) is None:
            raise Wrong(f"Expected `str` matching regex {meta.pattern!r}")

    return check


# --- arrays and objects -----------------------------------------------------------------------


def _tuple(args: tuple[Any, ...], meta: Meta) -> Shape:
    if len(args) == 2 and args[1] is Ellipsis:
        return {"array": _many(shape(args[0]), meta)}
    shapes = [shape(arg) for arg in args]

    def take(count: int, tokens: Tokens) -> tuple[Any, ...]:
        if count != len(shapes):
            raise Wrong(f"Expected `array` of length {len(shapes)}, got {count}")
        return tuple(_element(each, tokens, f"[{at}]") for at, each in enumerate(shapes))

    return {"array": take}


def _many(element: Shape, meta: Meta) -> Take:
    def take(count: int, tokens: Tokens) -> tuple[Any, ...]:
        if meta.min_length is not None and count < meta.min_length:
            raise Wrong(f"Expected `array` of length >= {meta.min_length}")
        if meta.max_length is not None and count > meta.max_length:
            raise Wrong(f"Expected `array` of length <= {meta.max_length}")
        return tuple([_element(element, tokens, f"[{at}]") for at in range(count)])

    return take


@cache
def _fields(kind: Any) -> list[tuple[str, Shape]]:
    hints = type_hints(kind, include_extras=True)
    return [(name, shape(hints[name])) for name in kind.__struct_fields__]


def _struct(kind: type[Struct]) -> Take:
    """One kind alone; its fields are looked at when the first is decoded, as they may refer to
    types that are yet to come."""
    config = kind.__struct_config__
    if not config.forbid_unknown_fields:
        raise TypeError(f"{kind.__name__} lets unknown fields pass, as nothing decoded here does")
    if not config.array_like:
        return lambda count, tokens: _object(kind, count, tokens)
    tag = config.tag

    def take(count: int, tokens: Tokens) -> Struct:
        if tag is None:
            return _array(kind, count, tokens, 0)
        _check_count(kind, count, 1)
        _check_tag(tokens, {tag: kind})
        return _array(kind, count - 1, tokens, 1)

    return take


def _tagged(kinds: list[type[Struct]]) -> Take:
    """One of several kinds, told apart by their tags."""
    tags = {kind.__struct_config__.tag or "": kind for kind in kinds}
    if len(tags) < len(kinds) or "" in tags:
        raise TypeError(f"the tags of {kinds!r} do not tell them apart")

    def take(count: int, tokens: Tokens) -> Struct:
        if count < 1:
            raise Wrong("Expected `array` of at least length 1, got 0")
        return _array(_check_tag(tokens, tags), count - 1, tokens, 1)

    return take


def _check_tag(tokens: Tokens, tags: dict[str, type[Struct]]) -> type[Struct]:
    kind, content = tokens.take()
    if kind != "str":
        raise Wrong(f"Expected `str`, got `{kind}`", "[0]")
    if content not in tags:
        raise Wrong(f"Invalid value '{content}'", "[0]")
    return tags[content]


def _check_count(kind: type[Struct], count: int, before: int) -> None:
    """`before`: elements before the fields."""
    least = len(kind.__struct_fields__) - len(kind.__struct_defaults__) + before
    if count < least:
        raise Wrong(f"Expected `array` of at least length {least}, got {count}")


def _array(kind: type[Struct], count: int, tokens: Tokens, first: int) -> Struct:
    _check_count(kind, count, 0)
    fields = _fields(cast(Hashable, kind))
    values = {
        name: _element(shape, tokens, f"[{at}]")
        for at, (name, shape) in enumerate(fields[:count], first)
    }
    if count > len(fields):
        raise Wrong(f"Expected `array` of at most length {len(fields)}, got {count}")
    return _made(kind, values)


def _object(kind: type[Struct], count: int, tokens: Tokens) -> Struct:
    shapes = dict(_fields(cast(Hashable, kind)))
    values: dict[str, Any] = {}
    for _ in range(count):
        _, name = tokens.take()
        if name not in shapes:
            raise Wrong(f"Object contains unknown field `{name}`")
        values[name] = _element(shapes[name], tokens, f".{name}")
    for name in shapes:
        if name not in values and name not in kind.__struct_defaults__:
            raise Wrong(f"Object missing required field `{name}`")
    return _made(kind, {name: values[name] for name in shapes if name in values})


def _made(kind: type[Struct], values: dict[str, Any]) -> Struct:
    struct = kind.__new__(kind)
    struct.__dict__.update(values)
    if len(values) < len(kind.__struct_fields__):
        for name, default in kind.__struct_defaults__.items():
            struct.__dict__.setdefault(name, default)
    return struct
