"""The handlers under /v1: one for each resource, none of which keeps state between requests."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
from aiohttp import web

from node.api import paging, problems, sse
from node.api.documents import (
    BATCH_TYPE,
    DOSSIER_TYPE,
    EQUIVOCATION_TYPE,
    INSTRUCTION_TYPE,
    MAX_LOOKUP,
    AccountsPage,
    AssetsPage,
    BlocksPage,
    Lookup,
    LookupAnswer,
    ParticipantsPage,
    ReceiptDocument,
    receipt_document,
)
from node.api.governance import EquivocationsPage, ProposalsPage
from node.api.offload import Offload
from node.api.openapi import openapi_bytes
from node.api.problems import Refused
from node.api.requests import (
    answer,
    height_of,
    limit_of,
    only,
    problem_response,
    uetr_of,
    unknown_participant,
    unknown_payment,
    wait_of,
    whole,
)
from node.api.service import (
    MAX_BATCH_ITEMS,
    BlockView,
    NodeService,
    SubmissionRefused,
    UnknownParticipant,
)
from node.chain.encoding import UNDECODABLE
from node.chain.uetr import parse_uetr

BODY_SECONDS = 20.0
"""How long a client may take to send the body of a request."""
MAX_BLOCKS_PAGE = 100
"""Blocks of one page: each is read from the store."""
MAX_WAITERS = 2_000
"""Long polls open at once."""

VALIDATOR = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)
"""The name or index of a validator in a path."""

_batch_decoder: msgspec.msgpack.Decoder[list[bytes]] = msgspec.msgpack.Decoder(list[bytes])
_lookup_decoder: msgspec.json.Decoder[Lookup] = msgspec.json.Decoder(Lookup)


class Routes:
    """Handlers over one running node."""

    def __init__(self, service: NodeService) -> None:
        self._service = service
        self._streams = sse.Streams(service)
        self._open: set[asyncio.Task[Any]] = set()
        self._proofs = Offload("proofs")

    def add_to(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.post("/v1/instructions", self.submit),
                web.post("/v1/instructions/batch", self.submit_batch),
                web.post("/v1/payments/lookup", self.lookup),
                web.get("/v1/payments/{uetr}", self.payment),
                web.get("/v1/payments/{uetr}/evidence", self.evidence),
                web.get("/v1/accounts", self.accounts),
                web.get("/v1/participants", self.participants),
                web.get("/v1/assets", self.assets),
                web.get("/v1/instructions", self.instruction),
                web.get("/v1/validators", self.validators),
                web.get("/v1/proposals", self.proposals),
                web.get("/v1/equivocations", self.equivocations),
                web.get(
                    "/v1/equivocations/{epoch}/{view}/{validator}/evidence",
                    self.equivocation_evidence,
                ),
                web.get("/v1/blocks", self.blocks),
                web.get("/v1/blocks/{height}", self.block),
                web.get("/v1/status", self.status),
                web.get("/v1/events", self.events),
                web.get("/v1/genesis", self.genesis),
                web.get("/openapi.json", self.openapi),
            ]
        )

    def end_waits(self) -> None:
        """Drop every long poll and stream, so that a stopping node does not wait for them."""
        for task in self._open:
            task.cancel()

    def close(self) -> None:
        """Wait until nothing is read of the node any more; nobody asks any more."""
        self._proofs.close()

    # --- instructions ---------------------------------------------------------------------------

    async def submit(self, request: web.Request) -> web.Response:
        raw = await _body(request, INSTRUCTION_TYPE)
        if not raw:
            raise Refused("bad-request", "the body is empty; send one signed instruction")
        [result] = await self._service.submit([raw])
        if isinstance(result, SubmissionRefused):
            refused = problems.of_submission(result)
            return problem_response(refused)
        return answer(receipt_document(result), 202)

    async def submit_batch(self, request: web.Request) -> web.Response:
        """202 if every instruction was taken in, 207 if some were not; a list in order."""
        try:
            raw = _batch_decoder.decode(await _body(request, BATCH_TYPE))
        except UNDECODABLE as error:
            raise Refused(
                "bad-request", f"the body is not a MessagePack array of byte strings: {error}"
            ) from error
        if not 1 <= len(raw) <= MAX_BATCH_ITEMS:
            raise Refused(
                "bad-request" if not raw else "too-large",
                f"the batch has {len(raw)} instructions; send 1 to {MAX_BATCH_ITEMS}",
            )
        results = await self._service.submit(raw)
        assert len(results) == len(raw)
        documents: list[ReceiptDocument | problems.Problem] = []
        status = 202
        for result in results:
            if isinstance(result, SubmissionRefused):
                status = 207
                documents.append(problems.of_submission(result))
            else:
                documents.append(receipt_document(result))
        return answer(documents, status)

    # --- payments -------------------------------------------------------------------------------

    async def payment(self, request: web.Request) -> web.Response:
        only(request.query, {"wait"})
        uetr = uetr_of(request)
        wait = wait_of(request.query.get("wait"))
        view = self._service.payment(uetr)
        if view is None and wait > 0:
            with self._waiting():
                view = await self._service.wait_payment(uetr, wait)
        if view is None:
            raise unknown_payment(request.match_info["uetr"])
        return answer(view)

    def _waiting(self) -> _registered:
        if len(self._open) >= MAX_WAITERS:
            raise Refused("not-ready", "too many clients are waiting; ask again without `wait`")
        return _registered(self._open)

    async def lookup(self, request: web.Request) -> web.Response:
        only(request.query, set())
        try:
            asked = _lookup_decoder.decode(await _body(request, "application/json"))
        except UNDECODABLE as error:
            raise Refused("bad-request", f"the body is not a lookup: {error}") from error
        if len(asked.uetrs) > MAX_LOOKUP:
            raise Refused(
                "too-large", f"{len(asked.uetrs)} UETRs in one lookup; send at most {MAX_LOOKUP}"
            )
        try:
            uetrs = [parse_uetr(text) for text in asked.uetrs]
        except ValueError as error:
            raise Refused("bad-uetr", str(error)) from error
        return answer(LookupAnswer(payments=self._service.payments(uetrs)))

    async def evidence(self, request: web.Request) -> web.Response:
        query = only(request.query, {"clear", "checkpoint"})
        uetr, clear = uetr_of(request), query.get("clear")
        checkpoint = height_of(query, "checkpoint")
        try:
            dossier = await self._proofs.run(
                lambda: self._service.evidence(uetr, clear, checkpoint)
            )
        except UnknownParticipant as error:
            raise unknown_participant(error) from error
        if dossier is None:
            raise unknown_payment(request.match_info["uetr"])
        return web.Response(body=dossier, content_type=DOSSIER_TYPE)

    # --- the ledger -----------------------------------------------------------------------------

    async def accounts(self, request: web.Request) -> web.Response:
        query = only(request.query, {"participant", "cursor", "limit"})
        try:
            view = self._service.accounts(query.get("participant"))
        except UnknownParticipant as error:
            raise unknown_participant(error) from error
        balances, following = paging.page(
            "accounts",
            view.balances,
            lambda b: [b.participant, b.account, b.asset],
            query.get("cursor"),
            limit_of(query),
        )
        return answer(AccountsPage(height=view.height, balances=balances, next=following))

    async def participants(self, request: web.Request) -> web.Response:
        query = only(request.query, {"cursor", "limit"})
        found, following = paging.page(
            "participants",
            self._service.participants(),
            lambda p: [p.name],
            query.get("cursor"),
            limit_of(query),
        )
        return answer(ParticipantsPage(participants=found, next=following))

    async def assets(self, request: web.Request) -> web.Response:
        query = only(request.query, {"cursor", "limit"})
        found, following = paging.page(
            "assets",
            self._service.assets(),
            lambda a: [a.code],
            query.get("cursor"),
            limit_of(query),
        )
        return answer(AssetsPage(assets=found, next=following))

    async def instruction(self, request: web.Request) -> web.Response:
        """By sender and id: most instructions have no UETR."""
        query = only(request.query, {"sender", "id", "wait"})
        sender, id = query.get("sender"), query.get("id")
        wait = wait_of(query.get("wait"))
        if not sender or not id:
            raise Refused("bad-parameter", "give both `sender` (a LEI) and `id`")
        found = self._service.instruction(sender, id)
        if found is None and wait > 0:
            with self._waiting():
                found = await self._service.wait_instruction(sender, id, wait)
        if found is None:
            raise Refused(
                "unknown-instruction",
                f"no instruction of {sender[:40]!r} with id {id[:40]!r} is final and remembered "
                "here; it may still become final until its valid_until has passed",
                "unknown",
            )
        return answer(found)

    # --- governance -----------------------------------------------------------------------------

    async def validators(self, request: web.Request) -> web.Response:
        only(request.query, set())
        return answer(self._service.validators())

    async def proposals(self, request: web.Request) -> web.Response:
        query = only(request.query, {"cursor", "limit"})
        found, following = paging.page(
            "proposals",
            self._service.proposals(),
            lambda p: [p.id],
            query.get("cursor"),
            limit_of(query),
        )
        height = self._service.height()
        return answer(ProposalsPage(height=height, proposals=found, next=following))

    async def equivocations(self, request: web.Request) -> web.Response:
        query = only(request.query, {"cursor", "limit"})
        found, following = paging.page(
            "equivocations",
            self._service.equivocations(),
            # As wide as the largest: keys are compared as text.
            lambda e: [f"{e.epoch:020}", f"{e.view:020}", f"{e.validator:020}"],
            query.get("cursor"),
            limit_of(query),
        )
        height = self._service.height()
        return answer(EquivocationsPage(height=height, equivocations=found, next=following))

    async def equivocation_evidence(self, request: web.Request) -> web.Response:
        only(request.query, set())
        epoch, view = whole(request, "epoch"), whole(request, "view")
        validator = request.match_info["validator"]
        if VALIDATOR.fullmatch(validator) is None:
            raise Refused("bad-parameter", f"{validator[:40]!r} is no validator's name or index")
        proof = await self._proofs.run(
            lambda: self._service.equivocation_proof(epoch, view, validator)
        )
        return web.Response(body=proof, content_type=EQUIVOCATION_TYPE)

    # --- blocks ---------------------------------------------------------------------------------

    async def blocks(self, request: web.Request) -> web.Response:
        """Newest first: what an operator or a monitor looks for is at the tip."""
        query = only(request.query, {"cursor", "limit"})
        limit = min(limit_of(query), MAX_BLOCKS_PAGE)
        first = self._service.height()
        cursor = query.get("cursor")
        if cursor is not None:
            first = min(first, _height(paging.decode_cursor("blocks", cursor), cursor) - 1)
        found: list[BlockView] = []
        for height in range(first, max(first - limit, -1), -1):
            try:
                block = self._service.block(height)
            except Refused:
                if not found:
                    raise  # nothing is left to list
                break
            if block is not None:
                found.append(block)
        following = None
        if found and found[-1].height > 0:
            following = paging.encode_cursor("blocks", [str(found[-1].height)])
        return answer(BlocksPage(blocks=found, next=following))

    async def block(self, request: web.Request) -> web.Response:
        only(request.query, set())
        height = whole(request, "height")
        block = self._service.block(height)
        if block is None:
            raise Refused(
                "unknown-block",
                f"no block at height {height} is final here; the last final height is "
                f"{self._service.height()}",
                "unknown",
            )
        return answer(block)

    # --- the node -------------------------------------------------------------------------------

    async def status(self, request: web.Request) -> web.Response:
        only(request.query, set())
        return answer(self._service.status())

    async def genesis(self, request: web.Request) -> web.Response:
        """The exact bytes: decoding and encoding them again would give another chain id."""
        only(request.query, set())
        return web.Response(body=self._service.genesis_bytes, content_type="application/json")

    async def events(self, request: web.Request) -> web.StreamResponse:
        query = only(request.query, {"after"})
        after = sse.parse_position(request.headers.get("Last-Event-ID", query.get("after")))
        with _registered(self._open):
            return await self._streams.serve(request, after)

    async def openapi(self, request: web.Request) -> web.Response:
        return web.Response(body=openapi_bytes(), content_type="application/json")


# --- reading a request --------------------------------------------------------------------------


class _registered:
    """Keeps the running task in a set while it waits for something that may take long."""

    def __init__(self, tasks: set[asyncio.Task[Any]]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks, self._task = tasks, task

    def __enter__(self) -> None:
        self._tasks.add(self._task)

    def __exit__(self, *_: object) -> None:
        self._tasks.discard(self._task)


async def _body(request: web.Request, content_type: str) -> bytes:
    if request.content_type != content_type:
        raise Refused(
            "unsupported-media-type",
            f"the content type is {request.content_type[:80]!r}; send {content_type}",
        )
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise Refused(
            "request-timeout", f"the body did not arrive within {BODY_SECONDS:.0f} s"
        ) from error


def _height(key: list[str], cursor: str) -> int:
    if len(key) == 1 and key[0].isascii() and key[0].isdigit() and len(key[0]) <= 19:
        return int(key[0])
    raise Refused(
        "bad-cursor", f"{cursor[:40]!r} was not given by the list of blocks; start without one"
    )
