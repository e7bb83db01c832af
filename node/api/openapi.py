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
from node.api.openapi_parts import (
    EPOCH,
    HEIGHT,
    PAGING,
    UETR,
    VALIDATOR,
    VIEW,
    json,
    operation,
    query,
    ref,
    text,
)
from node.api.problems import Problem
from node.api.proof_routes import proof_paths
from node.api.service import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ITEMS,
    MAX_WAIT_SECONDS,
    BlockView,
    EventView,
    ParametersView,
    PaymentView,
    StatusView,
)
from node.api.settlement_openapi import SETTLEMENT_TYPES, settlement_paths
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
    ParametersView,
    *SETTLEMENT_TYPES,
)


_BYTES = {"schema": {"type": "string", "format": "binary", "maxLength": MAX_BATCH_BYTES}}
_WAIT = query(
    "wait",
    {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS, "default": 0},
    "Seconds to wait for finality before answering that nothing is final",
)
_CLEAR = query(
    "clear",
    {"type": "string"},
    "Who reads it, where payments settled together: a participant (short name, LEI or BIC), which "
    "sees its own in clear and the others as leaf hashes, or `all` for a supervisor. Without it "
    "the dossier has this payment's place in the set alone",
)
_CHECKPOINT = query(
    "checkpoint",
    {"type": "integer", "minimum": 0},
    "Height of a block that the reader knows: its place in the history is put into the dossier",
)
_FIRST = {
    **query("first", {"type": "integer", "minimum": 1}, "The first height asked for"),
    "required": True,
}
_SYNC_WAIT = query(
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
    "items": {"anyOf": [ref(ReceiptDocument), ref(Problem)]},
}


def _paths() -> dict[str, Any]:
    batch = {"content": {"application/json": {"schema": _BATCH_ANSWER}}}
    return {
        "/v1/instructions": {
            "post": operation(
                "Submit one canonical signed instruction; the answer is the node's signed receipt",
                {"202": json(ReceiptDocument, "Durable at this node; not yet final")},
                body={INSTRUCTION_TYPE: _BYTES},
            ),
            "get": operation(
                "What became of one instruction",
                {"200": json(InstructionView, "Final")},
                [
                    query("sender", {"type": "string"}, "LEI"),
                    query("id", {"type": "string"}, "Of the instruction"),
                    _WAIT,
                ],
            ),
        },
        "/v1/instructions/batch": {
            "post": operation(
                f"Submit up to {MAX_BATCH_ITEMS} instructions: a MessagePack array of byte strings",
                {
                    "202": {"description": "A receipt for each, in order", **batch},
                    "207": {"description": "A receipt or a problem for each, in order", **batch},
                },
                body={BATCH_TYPE: _BYTES},
            )
        },
        "/v1/payments/lookup": {
            "post": operation(
                "What is final about many UETRs; without the payments' own content",
                {"200": json(LookupAnswer, "In the order asked")},
                body={"application/json": {"schema": ref(Lookup)}},
            )
        },
        "/v1/payments/{uetr}": {
            "get": operation(
                "What is final about a payment, with every state change",
                {"200": json(PaymentView, "Final")},
                [UETR, _WAIT],
            )
        },
        "/v1/payments/{uetr}/evidence": {
            "get": operation(
                "The dossier of a payment as of the last final block, for `nostro verify`",
                {"200": text("The dossier", DOSSIER_TYPE)},
                [UETR, _CLEAR, _CHECKPOINT],
            )
        },
        "/v1/accounts": {
            "get": operation(
                "Balances at the last final height",
                {"200": json(AccountsPage, "Ascending by participant, account, asset")},
                [
                    query("participant", {"type": "string"}, "Short name, LEI or BIC"),
                    *PAGING,
                ],
            )
        },
        "/v1/participants": {
            "get": operation(
                "Participants", {"200": json(ParticipantsPage, "Ascending by name")}, PAGING
            )
        },
        "/v1/assets": {
            "get": operation("Assets", {"200": json(AssetsPage, "Ascending by code")}, PAGING)
        },
        "/v1/parameters": {
            "get": operation(
                "What the ledger goes by from the next block on",
                {"200": json(ParametersView, "After the last final block")},
            )
        },
        "/v1/validators": {
            "get": operation(
                "The validators in force, and those of a pending epoch with who is ready",
                {"200": json(ValidatorsView, "After the last final block")},
            )
        },
        "/v1/proposals": {
            "get": operation(
                "Open proposals with their approvals",
                {"200": json(ProposalsPage, "Ascending by id")},
                PAGING,
            )
        },
        "/v1/equivocations": {
            "get": operation(
                "Proven equivocations of validators",
                {"200": json(EquivocationsPage, "Ascending by epoch, view, validator")},
                PAGING,
            )
        },
        "/v1/equivocations/{epoch}/{view}/{validator}/evidence": {
            "get": operation(
                "The proof of one, on the ledger or seen by this node, for `nostro verify`",
                {"200": text("The proof", EQUIVOCATION_TYPE)},
                [EPOCH, VIEW, VALIDATOR],
            )
        },
        "/v1/blocks": {
            "get": operation("Final blocks", {"200": json(BlocksPage, "Newest first")}, PAGING)
        },
        "/v1/blocks/{height}": {
            "get": operation(
                "One final block: header and certificate",
                {"200": json(BlockView, "Final")},
                [HEIGHT],
            )
        },
        "/v1/status": {"get": operation("This node", {"200": json(StatusView, "As it is now")})},
        "/v1/events": {
            "get": operation(
                "Every outcome in order, as server-sent events whose data is an EventView",
                {"200": text("A stream that does not end", "text/event-stream")},
                [
                    {
                        "name": "Last-Event-ID",
                        "in": "header",
                        "schema": {"type": "string", "pattern": "^[0-9]+:[0-9]+$"},
                        "description": "height:index of the last event seen; without it the "
                        "stream starts after the last final block",
                    },
                    query("after", {"type": "string"}, "The same, for clients without headers"),
                ],
            )
        },
        "/v1/sync": {
            "get": operation(
                "Final blocks from a height on, with the finalization of the last one",
                {
                    "200": text("A canonical SyncResponse", SYNC_TYPE),
                    "204": {"description": "Nothing is final there yet"},
                },
                [_FIRST, _SYNC_WAIT],
            )
        },
        "/v1/epochs": {
            "get": operation(
                "How epochs ended, from one on: who the next validators were, and who says so",
                {"200": text("A MessagePack array of EpochLinks", SYNC_TYPE)},
                [query("first", {"type": "integer", "minimum": 0, "default": 0}, "Epoch")],
            )
        },
        "/v1/window": {
            "get": operation(
                "Final blocks from a height on, with their outcomes",
                {"200": text("A canonical WindowAnswer", SYNC_TYPE)},
                [_FIRST],
            )
        },
        "/v1/snapshot": {
            "get": operation(
                "The manifest of the latest snapshot of the ledger",
                {"200": text("A canonical Manifest", SYNC_TYPE)},
            )
        },
        "/v1/snapshot/chunks/{digest}": {
            "get": operation(
                "A chunk of a snapshot, by the digest of its bytes",
                {"200": text("The chunk", SYNC_TYPE)},
                [_DIGEST],
            )
        },
        "/v1/genesis": {
            "get": operation(
                "The exact bytes of the genesis file", {"200": text("The genesis file")}
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
            "paths": _paths() | settlement_paths() | proof_paths(),
            "components": {"schemas": schemas},
        }
    )
