"""Changing Structs."""

from __future__ import annotations

from typing import Any, TypeVar

from ._struct import Struct

S = TypeVar("S", bound=Struct)


def replace(struct: S, /, **changes: Any) -> S:
    """The struct with other values in some fields."""
    for name in changes:
        if name not in struct.__struct_fields__:
            raise TypeError(f"`{type(struct).__name__}` has no field '{name}'")
    return type(struct)(**(struct.__dict__ | changes))
