"""Values of any chain type, made from its own declaration: for Hypothesis, and with one field of a
kind replaced."""

from __future__ import annotations

import string
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect
from msgspec.structs import replace

from node.chain import types as t

_ALNUM = string.ascii_uppercase + string.digits
_TEXTS = ("A", "Käufer GmbH", "收款人有限公司", "x" * 140)
_PARTY_TEXT = 140
_MANY = 3
"""Elements of a list, at most: more of the same show nothing new."""


def uuid4(raw: bytes) -> bytes:
    """The bytes with the marks of a UUID of version 4."""
    return raw[:6] + bytes((raw[6] & 0x0F | 0x40, raw[7], raw[8] & 0x3F | 0x80)) + raw[9:]


def values(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Values of a chain type that keep to its declared bounds; UETRs are UUIDs of version 4."""
    return _of(inspect.type_info(kind))


def _of(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.StructType():
            return st.builds(info.cls, *(_of(field.type) for field in info.fields))
        case inspect.UnionType():
            return st.one_of(*map(_of, info.types))
        case inspect.VarTupleType():
            low = info.min_length or 0
            high = min(info.max_length or _MANY, max(low, _MANY))
            return st.lists(_of(info.item_type), min_size=low, max_size=high).map(tuple)
        case inspect.TupleType():
            return st.tuples(*map(_of, info.item_types))
        case inspect.EnumType():
            return st.sampled_from(list(info.cls))
        case inspect.IntType():
            low = -(2**63) if info.ge is None else info.ge
            high = 2**64 - 1 if info.le is None else info.le
            return st.integers(low, high)
        case inspect.BytesType():
            raw = st.binary(min_size=info.min_length or 0, max_size=info.max_length)
            return raw.map(uuid4) if info.max_length == 16 else raw
        case inspect.StrType():
            return _text(info)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case _:
            raise AssertionError(f"no values of {info}")


def _text(info: inspect.StrType) -> st.SearchStrategy[str]:
    if info.pattern is not None:
        return st.from_regex(info.pattern, alphabet=string.printable)
    if info.max_length == _PARTY_TEXT:
        return st.sampled_from(_TEXTS)
    return st.text(_ALNUM, min_size=info.min_length or 0, max_size=info.max_length)


def kinds(hint: object) -> Iterator[object]:
    """The annotations that a field's one is made of: of members, elements, alternatives."""
    yield hint
    if typing.get_origin(hint) is typing.Annotated:
        yield from kinds(typing.get_args(hint)[0])
    else:
        for each in typing.get_args(hint):
            yield from kinds(each)


def hints(kind: type[Any]) -> dict[str, object]:
    """The annotations of a type's fields, resolved."""
    return typing.get_type_hints(kind, vars(t), include_extras=True)


def replaced(value: Any, kinds_wanted: tuple[object, ...], wrong: Any) -> Iterator[Any]:
    """Copies of a value, each with one present field of such a kind, however deep, replaced."""
    if isinstance(value, tuple):
        for index, each in enumerate(value):
            for other in replaced(each, kinds_wanted, wrong):
                yield (*value[:index], other, *value[index + 1 :])
    if not isinstance(value, msgspec.Struct):
        return
    for name, hint in hints(type(value)).items():
        held = getattr(value, name)
        if held is None:
            continue
        if any(kind in kinds_wanted for kind in kinds(hint)) and not isinstance(held, tuple):
            yield replace(value, **{name: wrong})
        for other in replaced(held, kinds_wanted, wrong):
            yield replace(value, **{name: other})
