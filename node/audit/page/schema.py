"""The shapes that the page's decoders enforce, as JSON, from the types themselves.

A row a type: its tag, and of each field the name and what it may hold. So the page refuses exactly
the shapes, ranges, lengths, patterns and numbers that the Python decoders refuse.
"""

from __future__ import annotations

from typing import Any

import msgspec
import msgspec.inspect as shapes

from node.audit.dossier import MAX_DOSSIER_BYTES, Dossier
from node.audit.proofs import EquivocationProof, ForkProof
from node.audit.state_proofs import AbsenceProof, BalanceProof
from node.chain.block import SUPPORTED_RULES
from node.chain.genesis_file import MAX_GENESIS_BYTES, GenesisFile

EVIDENCE: tuple[type[msgspec.Struct], ...] = (
    Dossier,
    BalanceProof,
    AbsenceProof,
    ForkProof,
    EquivocationProof,
)
"""Files that the page takes as evidence."""

Shape = dict[str, Any]


class UnknownShape(TypeError):
    """A type uses what the page's decoders do not know."""


def schema() -> Shape:
    """All shapes by name, the names of the files, and the bounds that are no part of a shape."""
    rows: dict[str, Shape] = {}
    for kind in (*EVIDENCE, GenesisFile):
        _shape(shapes.type_info(kind), rows)
    return {
        "types": dict(sorted(rows.items())),
        "evidence": {str(kind.__struct_config__.tag): kind.__name__ for kind in EVIDENCE},
        "genesis": GenesisFile.__name__,
        "maxEvidenceBytes": MAX_DOSSIER_BYTES,
        "maxGenesisBytes": MAX_GENESIS_BYTES,
        "supportedRules": list(SUPPORTED_RULES),
    }


def _shape(kind: shapes.Type, rows: dict[str, Shape]) -> Shape:
    if isinstance(kind, shapes.StructType):
        return _struct(kind, rows)
    if isinstance(kind, shapes.UnionType):
        return {"is": "union", "of": [_shape(each, rows) for each in kind.types]}
    if isinstance(kind, shapes.VarTupleType):
        bounds = _bounds(kind, "min_length", "max_length")
        return {"is": "list", "item": _shape(kind.item_type, rows), **bounds}
    if isinstance(kind, shapes.TupleType):
        return {"is": "tuple", "items": [_shape(each, rows) for each in kind.item_types]}
    return _scalar(kind)


def _scalar(kind: shapes.Type) -> Shape:
    if isinstance(kind, shapes.NoneType):
        return {"is": "null"}
    if isinstance(kind, shapes.BoolType):
        return {"is": "bool"}
    if isinstance(kind, shapes.EnumType):
        return {"is": "enum", "values": [str(member.value) for member in kind.cls]}
    if isinstance(kind, shapes.LiteralType):
        return {"is": "literal", "values": list(kind.values)}
    if isinstance(kind, shapes.IntType):
        # As text: JavaScript's plain numbers do not hold 64 bits.
        bounds = _bounds(kind, "ge", "le")
        return {"is": "int", **{name: str(bound) for name, bound in bounds.items()}}
    if isinstance(kind, shapes.BytesType):
        return {"is": "bytes", **_bounds(kind, "min_length", "max_length")}
    if isinstance(kind, shapes.StrType):
        bounds = _bounds(kind, "min_length", "max_length")
        return {"is": "str", **bounds, **_pattern(kind.pattern)}
    raise UnknownShape(f"{kind} has no row")


_NAMES = {"min_length": "min", "max_length": "max", "ge": "min", "le": "max"}


def _bounds(kind: Any, *names: str) -> dict[str, int]:
    for other in ("gt", "lt", "multiple_of"):
        if getattr(kind, other, None) is not None:
            raise UnknownShape(f"{kind} has a bound of its own kind")
    found = {_NAMES[name]: getattr(kind, name) for name in names}
    return {name: bound for name, bound in found.items() if bound is not None}


def _pattern(pattern: str | None) -> dict[str, str]:
    """In JavaScript, without flags, ^ and $ are what \\A and \\Z are in Python."""
    if pattern is None:
        return {}
    if not (pattern.startswith(r"\A") and pattern.endswith(r"\Z")):
        raise UnknownShape(f"the pattern {pattern} is not of the whole text")
    inner = pattern[2:-2]
    if any(sign in inner for sign in (r"\A", r"\Z", "^", "$", "(?P", "(?i", r"\w", r"\d", r"\s")):
        raise UnknownShape(f"the pattern {pattern} may mean something else in JavaScript")
    return {"pattern": f"^{inner}$"}


def _struct(kind: shapes.StructType, rows: dict[str, Shape]) -> Shape:
    name, config = kind.cls.__name__, kind.cls.__struct_config__
    # One name, one row: two types of one name would have two shapes.
    known = rows.get(name)
    identity = f"{kind.cls.__module__}.{name}"
    if known is not None:
        if known["from"] != identity:
            raise UnknownShape(f"{known['from']} and {identity} have one name")
        return {"is": "struct", "name": name}
    if not config.forbid_unknown_fields:
        raise UnknownShape(f"{name} takes unknown fields")
    row: Shape = {"from": identity, "form": "array" if config.array_like else "object"}
    row["tag"], row["fields"] = config.tag, []
    rows[name] = row
    for field in kind.fields:
        shape = _shape(field.type, rows)
        optional = {} if field.required or config.array_like else {"optional": True}
        row["fields"].append({"name": field.encode_name, "shape": shape, **optional})
    return {"is": "struct", "name": name}
