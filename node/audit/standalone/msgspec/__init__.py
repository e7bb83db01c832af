"""Stands in for msgspec where nothing is installed, with no more than the verifier uses of it.

Read in this order:

1. `_struct`   values with named fields
2. `_shapes`   what values of a type look like: decoding, by type, from a stream of tokens
3. `msgpack`   MessagePack into tokens, and values into MessagePack
4. `json`      JSON into tokens, and plain values into JSON
"""

from __future__ import annotations

from . import json, msgpack, structs
from ._shapes import DecodeError, ValidationError
from ._struct import UNSET, Meta, Struct, UnsetType

__all__ = [
    "UNSET",
    "DecodeError",
    "Meta",
    "Struct",
    "UnsetType",
    "ValidationError",
    "json",
    "msgpack",
    "structs",
]
