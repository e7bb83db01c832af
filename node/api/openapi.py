"""The OpenAPI 3.1 description, made from the very types that the answers are encoded from."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from node.api.documents import (
    BATCH_TYPE,
    DOSSIER_TYPE,
    EQUIVOCATION_TYPE,
    INSTRUCTION_TYPE,
    AccountsPage,
    AssetsPage,
    BlocksPage,
    Lookup,
    LookupAnswer,
    ParticipantsPage,
    ReceiptDocument,
)
from node.api.governance import (
    EquivocationsPage,
    InstructionView,
    ProposalsPage,
    ValidatorsView,
)
from node.api.paging import DEFAULT_LIMIT, MAX_LIMIT
from node.api.problems import CONTENT_TYPE, Problem
from node.api.service import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ITEMS,
    MAX_WAIT_SECONDS,
    BlockView,
    EventView,
    PaymentView,
    StatusView,
)
from node.api.sync_routes import MAX_SYNC_WAIT_SECONDS, SYNC_TYPE

API_VERSION = "1"
_TYPES: tuple[Any, ...] = (
    ReceiptDocument,
    Problem,
    PaymentView,
    Lookup,
    LookupAnswer,
    AccountsPage,
    ParticipantsPage,
    AssetsPage,
    BlocksPage,
    BlockView,
    StatusView,
    EventView,
    InstructionView,
    ValidatorsView,
    ProposalsPage,
    EquivocationsPage,
)


def _ref(kind: Any) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _json(kind: Any, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(kind)}}}


def _text(description: str, content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {}}}


_PROBLEM = {
    "description": "A problem document; its `outcome` says whether sending again can pay twice",
    "content": {CONTENT_TYPE: {"schema": _ref(Problem)}},
}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_PAGING = [
    _query("cursor", {"type": "string"}, "`next` of the page before; opaque"),
    _query(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "Items of a page",
    ),
]
_UETR = {
    "name": "uetr",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
    "description": "Unique End-to-end Transaction Reference: a lower-case UUID version 4",
}
_HEIGHT = {
    "name": "height",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
_EPOCH = {**_HEIGHT, "name": "epoch"}
_VIEW = {**_HEIGHT, "name": "view"}
_VALIDATOR = {
    "name": "validator",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,32}$"},
    "description": "Name, or index in the set of that epoch",
}


def _operation(
    summary: str,
    responses: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {**responses, "default": _PROBLEM},
    }
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


_BYTES = {"schema": {"type": "string", "format": "binary", "maxLength": MAX_BATCH_BYTES}}
_WAIT = _query(
    "wait",
    {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS, "default": 0},
    "Seconds to wait for finality before answering that nothing is final",
)
_FIRST = {
    **_query("first", {"type": "integer", "minimum": 1}, "The first height asked for"),
    "required": True,
}
_SYNC_WAIT = _query(
    "wait",
    {"type": "number", "minimum": 0, "maximum": MAX_SYNC_WAIT_SECONDS, "default": 0},
    "Seconds to wait until that height is final",
)
_DIGEST = {
    "name": "digest",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
_BATCH_ANSWER = {
    "type": "array",
    "maxItems": MAX_BATCH_ITEMS,
    "items": {"anyOf": [_ref(ReceiptDocument), _ref(Problem)]},
}


def _paths() -> dict[str, Any]:
    batch = {"content": {"application/json": {"schema": _BATCH_ANSWER}}}
    return {
        "/v1/instructions": {
            "post": _operation(
                "Submit one canonical signed instruction; the answer is the node's signed receipt",
                {"202": _json(ReceiptDocument, "Durable at this node; not yet final")},
                body={INSTRUCTION_TYPE: _BYTES},
            ),
            "get": _operation(
                "What became of one instruction that moves no money",
                {"200": _json(InstructionView, "Final")},
                [
                    _query("sender", {"type": "string"}, "LEI"),
                    _query("id", {"type": "string"}, "Of the instruction"),
                ],
            ),
        },
        "/v1/instructions/batch": {
            "post": _operation(
                f"Submit up to {MAX_BATCH_ITEMS} instructions: a MessagePack array of byte strings",
                {
                    "202": {"description": "A receipt for each, in order", **batch},
                    "207": {"description": "A receipt or a problem for each, in order", **batch},
                },
                body={BATCH_TYPE: _BYTES},
            )
        },
        "/v1/payments/lookup": {
            "post": _operation(
                "What is final about many UETRs; without the payments' own content",
                {"200": _json(LookupAnswer, "In the order asked")},
                body={"application/json": {"schema": _ref(Lookup)}},
            )
        },
        "/v1/payments/{uetr}": {
            "get": _operation(
                "What is final about a payment, with every state change",
                {"200": _json(PaymentView, "Final")},
                [_UETR, _WAIT],
            )
        },
        "/v1/payments/{uetr}/evidence": {
            "get": _operation(
                "The dossier of a payment, for `nostro verify`",
                {"200": _text("The dossier", DOSSIER_TYPE)},
                [_UETR],
            )
        },
        "/v1/accounts": {
            "get": _operation(
                "Balances at the last final height",
                {"200": _json(AccountsPage, "Ascending by participant, account, asset")},
                [
                    _query("participant", {"type": "string"}, "Short name, LEI or BIC"),
                    *_PAGING,
                ],
            )
        },
        "/v1/participants": {
            "get": _operation(
                "Participants", {"200": _json(ParticipantsPage, "Ascending by name")}, _PAGING
            )
        },
        "/v1/assets": {
            "get": _operation("Assets", {"200": _json(AssetsPage, "Ascending by code")}, _PAGING)
        },
        "/v1/validators": {
            "get": _operation(
                "The validators in force, and those of a pending epoch with who is ready",
                {"200": _json(ValidatorsView, "After the last final block")},
            )
        },
        "/v1/proposals": {
            "get": _operation(
                "Open proposals with their approvals",
                {"200": _json(ProposalsPage, "Ascending by id")},
                _PAGING,
            )
        },
        "/v1/equivocations": {
            "get": _operation(
                "Proven equivocations of validators",
                {"200": _json(EquivocationsPage, "Ascending by epoch, view, validator")},
                _PAGING,
            )
        },
        "/v1/equivocations/{epoch}/{view}/{validator}/evidence": {
            "get": _operation(
                "The proof of one, on the ledger or seen by this node, for `nostro verify`",
                {"200": _text("The proof", EQUIVOCATION_TYPE)},
                [_EPOCH, _VIEW, _VALIDATOR],
            )
        },
        "/v1/blocks": {
            "get": _operation("Final blocks", {"200": _json(BlocksPage, "Newest first")}, _PAGING)
        },
        "/v1/blocks/{height}": {
            "get": _operation(
                "One final block: header and certificate",
                {"200": _json(BlockView, "Final")},
                [_HEIGHT],
            )
        },
        "/v1/status": {"get": _operation("This node", {"200": _json(StatusView, "As it is now")})},
        "/v1/events": {
            "get": _operation(
                "Every outcome in order, as server-sent events whose data is an EventView",
                {"200": _text("A stream that does not end", "text/event-stream")},
                [
                    {
                        "name": "Last-Event-ID",
                        "in": "header",
                        "schema": {"type": "string", "pattern": "^[0-9]+:[0-9]+$"},
                        "description": "height:index of the last event seen; without it the "
                        "stream starts after the last final block",
                    },
                    _query("after", {"type": "string"}, "The same, for clients without headers"),
                ],
            )
        },
        "/v1/sync": {
            "get": _operation(
                "Final blocks from a height on, with the finalization of the last one",
                {
                    "200": _text("A canonical SyncResponse", SYNC_TYPE),
                    "204": {"description": "Nothing is final there yet"},
                },
                [_FIRST, _SYNC_WAIT],
            )
        },
        "/v1/epochs": {
            "get": _operation(
                "How epochs ended, from one on: who the next validators were, and who says so",
                {"200": _text("A MessagePack array of EpochLinks", SYNC_TYPE)},
                [_query("first", {"type": "integer", "minimum": 0, "default": 0}, "Epoch")],
            )
        },
        "/v1/window": {
            "get": _operation(
                "Final blocks from a height on, with their outcomes",
                {"200": _text("A canonical WindowAnswer", SYNC_TYPE)},
                [_FIRST],
            )
        },
        "/v1/snapshot": {
            "get": _operation(
                "The manifest of the latest snapshot of the ledger",
                {"200": _text("A canonical Manifest", SYNC_TYPE)},
            )
        },
        "/v1/snapshot/chunks/{digest}": {
            "get": _operation(
                "A chunk of a snapshot, by the digest of its bytes",
                {"200": _text("The chunk", SYNC_TYPE)},
                [_DIGEST],
            )
        },
        "/v1/genesis": {
            "get": _operation(
                "The exact bytes of the genesis file", {"200": _text("The genesis file")}
            )
        },
    }


@cache
def openapi_bytes() -> bytes:
    """The JSON of the description."""
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "nostro node",
                "version": API_VERSION,
                "description": "Amounts are decimal strings in the asset's exponent, times are "
                "milliseconds since the Unix epoch, digests and keys are lower-case hex.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": _paths(),
            "components": {"schemas": schemas},
        }
    )
