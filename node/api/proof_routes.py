"""The handlers under /v1 that give proofs of states, for `nostro verify`: of balances, and of the
absence of a UETR.

On a thread of their own: such a proof may take seconds, and dossiers wait for none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from node.api.documents import ABSENCE_TYPE, BALANCE_TYPE
from node.api.offload import Offload
from node.api.openapi_parts import UETR, operation, query, text
from node.api.problems import Refused
from node.api.requests import height_of, only, uetr_of, unknown_participant
from node.api.service import NodeService, UnknownParticipant
from node.audit.period import begins, ends

_ASSET = re.compile(r"[A-Z0-9]{3,12}", re.ASCII)


class ProofRoutes:
    """Handlers over one running node."""

    def __init__(self, service: NodeService) -> None:
        self._service = service
        self._building = Offload("proofs of states")

    def add_to(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.get("/v1/accounts/{participant}/{asset}/{kind}/evidence", self.balance),
                web.get("/v1/absence/{uetr}", self.absence),
            ]
        )

    def close(self) -> None:
        """Wait until nothing is read of the node any more; nobody asks any more."""
        self._building.close()

    async def balance(self, request: web.Request) -> web.Response:
        height = height_of(only(request.query, {"height"}), "height")
        participant, asset, kind = (
            request.match_info[name] for name in ("participant", "asset", "kind")
        )
        if _ASSET.fullmatch(asset) is None:
            raise Refused("bad-parameter", f"{asset[:40]!r} is no code of a currency or security")
        try:
            proof = await self._building.run(
                lambda: self._service.balance_proof(participant, asset, kind, height)
            )
        except UnknownParticipant as error:
            raise unknown_participant(error) from error
        return web.Response(body=proof, content_type=BALANCE_TYPE)

    async def absence(self, request: web.Request) -> web.Response:
        asked = only(request.query, {"from", "to"})
        uetr = uetr_of(request)
        start, end = _time(asked, "from", begins), _time(asked, "to", ends)
        proof = await self._building.run(lambda: self._service.absence_proof(uetr, start, end))
        return web.Response(body=proof, content_type=ABSENCE_TYPE)


def _time(asked: Mapping[str, str], name: str, read: Callable[[str], int]) -> int | None:
    given = asked.get(name)
    try:
        return None if given is None else read(given)
    except ValueError as error:
        raise Refused("bad-parameter", f"{name}: {error}") from error


def proof_paths() -> dict[str, Any]:
    """The OpenAPI descriptions of these resources."""

    def part(name: str, description: str) -> dict[str, Any]:
        return {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": description,
        }

    when = "A date (UTC, the whole day) or a time with its zone, ISO 8601"
    return {
        "/v1/accounts/{participant}/{asset}/{kind}/evidence": {
            "get": operation(
                "The proof of what an account held after a block, for `nostro verify`",
                {"200": text("The proof", BALANCE_TYPE)},
                [
                    part("participant", "Short name, LEI or BIC"),
                    part("asset", "Code of the currency or security"),
                    part("kind", "Kind of account, such as `settlement`"),
                    query(
                        "height",
                        {"type": "integer", "minimum": 0},
                        "Of the block; the last final one unless given",
                    ),
                ],
            )
        },
        "/v1/absence/{uetr}": {
            "get": operation(
                "The proof that no outcome of a period names a UETR, for `nostro verify`",
                {"200": text("The proof", ABSENCE_TYPE)},
                [
                    UETR,
                    query("from", {"type": "string"}, f"{when}; as early as can be shown"),
                    query("to", {"type": "string"}, f"{when}; as late as can be shown"),
                ],
            )
        },
    }
