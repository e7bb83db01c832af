"""The parts that descriptions of resources are put together from."""

from __future__ import annotations

from typing import Any

from node.api.paging import DEFAULT_LIMIT, MAX_LIMIT
from node.api.problems import CONTENT_TYPE, Problem


def ref(kind: Any) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def json(kind: Any, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": ref(kind)}}}


def text(description: str, content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {}}}


PROBLEM = {
    "description": "A problem document; its `outcome` says whether sending again can pay twice",
    "content": {CONTENT_TYPE: {"schema": ref(Problem)}},
}


def query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


PAGING = [
    query("cursor", {"type": "string"}, "`next` of the page before; opaque"),
    query(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "Items of a page",
    ),
]
UETR = {
    "name": "uetr",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
    "description": "Unique End-to-end Transaction Reference: a lower-case UUID version 4",
}
HEIGHT = {
    "name": "height",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
EPOCH = {**HEIGHT, "name": "epoch"}
VIEW = {**HEIGHT, "name": "view"}
VALIDATOR = {
    "name": "validator",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,32}$"},
    "description": "Name, or index in the set of that epoch",
}


def operation(
    summary: str,
    responses: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {**responses, "default": PROBLEM},
    }
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return operation
