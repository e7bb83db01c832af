"""The client of the API, for the command line and the devnet's load.

It talks to several nodes in their order: a node that cannot be reached, or that says it cannot
take anything in now, is passed over for the next. Sending the same signed bytes to a second node
is safe (one (sender, id) executes once), so a submission whose answer was lost is sent on too;
if no node answered, what became of it is *unknown* and the exception says so.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from node.api.documents import (
    BATCH_TYPE,
    INSTRUCTION_TYPE,
    MAX_LOOKUP,
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
    EquivocationView,
    InstructionView,
    ProposalsPage,
    ProposalView,
    ValidatorsView,
)
from node.api.problems import CONTENT_TYPE, URN, Problem
from node.api.service import (
    AccountsView,
    AssetView,
    BlockView,
    EventView,
    Finality,
    ParametersView,
    ParticipantView,
    PaymentView,
    StatusView,
)
from node.api.settlement_client import SettlementCalls
from node.chain.encoding import UNDECODABLE

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
"""Until an answer that waits for nothing must be complete."""
ABSENCE_SECONDS = 60.0
"""Likewise for a proof that a node may read two million UETRs for (`node.audit.build_state`)."""
SUBMIT_SECONDS = 15.0
"""Until a submission must be answered: it waits for a disk, and maybe for others before it."""
POLL_SECONDS = 10.0
"""One long poll: how soon a node that is stopped in its tracks is passed over for another."""
SPARE_SECONDS = 5.0
"""Added to a long poll's own time before the node counts as not answering."""
RETRY_SECONDS = 0.5
"""Between two rounds of all nodes while none answers."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Bytes of one answer; bounds what a broken node can make us hold."""
MAX_PAGES = 10_000
"""Pages of one list; bounds a node that never ends one."""

T = TypeVar("T")


class ApiError(Exception):
    """Base of what can go wrong between client and node; `outcome` is what is known of it."""

    def __init__(self, message: str, outcome: Finality) -> None:
        super().__init__(message)
        self.outcome: Finality = outcome


class Unreachable(ApiError):
    """No node answered. `outcome` is *not submitted* only if no connection was ever made."""


class ApiProblem(ApiError):
    """A node answered with a problem document."""

    def __init__(self, url: str, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title, problem.outcome)
        self.url = url
        self.problem = problem

    @property
    def code(self) -> str:
        return self.problem.code


class BadAnswer(ApiError):
    """A node answered with something that is not this API."""


class ApiClient(SettlementCalls):
    """An asynchronous context manager over one HTTP session."""

    def __init__(self, urls: Sequence[str]) -> None:
        """`urls`: base URLs of nodes, the preferred one first; at least one."""
        assert urls, "an API client needs the URL of a node"
        self.urls = [url.rstrip("/") for url in urls]
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64), trust_env=False
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # --- instructions -------------------------------------------------------------------------

    async def submit(self, raw: bytes) -> ReceiptDocument:
        """Submit one signed instruction. Raises ApiProblem, Unreachable, BadAnswer."""

        async def at(url: str) -> ReceiptDocument:
            _, body = await self._call(
                "POST",
                url,
                "/v1/instructions",
                data=raw,
                content_type=INSTRUCTION_TYPE,
                seconds=SUBMIT_SECONDS,
            )
            return _decode(url, body, ReceiptDocument)

        return await self._first(at)

    async def submit_batch(self, raw: Sequence[bytes]) -> list[ReceiptDocument | Problem]:
        """Submit many; a receipt or problem for each, in order."""
        data = msgspec.msgpack.encode(list(raw))

        async def at(url: str) -> list[ReceiptDocument | Problem]:
            _, body = await self._call(
                "POST",
                url,
                "/v1/instructions/batch",
                data=data,
                content_type=BATCH_TYPE,
                seconds=SUBMIT_SECONDS,
            )
            items = _decode(url, body, list[msgspec.Raw])
            if len(items) != len(raw):
                raise BadAnswer(f"{url} answered {len(items)} items for {len(raw)}", "unknown")
            return [_receipt_or_problem(url, bytes(item)) for item in items]

        return await self._first(at)

    # --- payments -----------------------------------------------------------------------------

    async def payment(self, uetr: str, wait: float = 0.0) -> PaymentView | None:
        """What is final about a payment; waits up to `wait` seconds in all for it to be so.

        None: no node that answered knows an outcome yet. Raises Unreachable if no node answered
        at the last try, ApiProblem, BadAnswer.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            left = deadline - loop.time()
            try:
                view = await self._payment_once(uetr, min(max(left, 0.0), POLL_SECONDS))
            except Unreachable:
                if left <= RETRY_SECONDS:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if view is not None or left <= POLL_SECONDS:
                return view

    async def _payment_once(self, uetr: str, wait: float) -> PaymentView | None:
        path = f"/v1/payments/{uetr}?wait={wait:.3f}"
        return await self._find(path, PaymentView, "unknown-payment", wait + SPARE_SECONDS)

    async def lookup(self, uetrs: Sequence[str]) -> list[PaymentView | None]:
        """What is final about many payments, in order (without the payments' own content)."""
        found: list[PaymentView | None] = []
        for start in range(0, len(uetrs), MAX_LOOKUP):
            asked = list(uetrs[start : start + MAX_LOOKUP])
            data = msgspec.json.encode(Lookup(uetrs=asked))

            async def at(url: str, data: bytes = data, count: int = len(asked)) -> LookupAnswer:
                _, body = await self._call(
                    "POST", url, "/v1/payments/lookup", data=data, content_type="application/json"
                )
                answer = _decode(url, body, LookupAnswer)
                if len(answer.payments) != count:
                    raise BadAnswer(f"{url} answered another number of payments", "unknown")
                return answer

            found.extend((await self._first(at)).payments)
        return found

    async def evidence(
        self, uetr: str, *, clear: str | None = None, checkpoint: int | None = None
    ) -> bytes:
        """The dossier of a payment. `clear`: a participant or `all`, who may see those that settled
        together with it; `checkpoint`: height of a block that the reader knows. Raises ApiProblem
        (unknown-payment, unknown-participant, unknown-block, pruned, too-large)."""
        asked: dict[str, str | int] = {}
        if clear is not None:
            asked["clear"] = clear
        if checkpoint is not None:
            asked["checkpoint"] = checkpoint
        query = f"?{urlencode(asked)}" if asked else ""
        return await self._get_bytes(f"/v1/payments/{uetr}/evidence{query}")

    async def balance_proof(
        self, participant: str, asset: str, kind: str, height: int | None = None
    ) -> bytes:
        """The proof of what an account held after a block, the last final one unless told
        otherwise. Raises ApiProblem (unknown-participant, unknown-block, pruned)."""
        path = "/".join(quote(part, safe="") for part in (participant, asset, kind))
        at = "" if height is None else f"?height={height}"
        return await self._get_bytes(f"/v1/accounts/{path}/evidence{at}")

    async def absence_proof(
        self, uetr: str, start: str | None = None, end: str | None = None
    ) -> bytes:
        """The proof that no outcome of a period names a UETR; dates or times as text
        (`node.audit.period`). Raises ApiProblem (uetr-used, not-covered, too-large, pruned)."""
        asked = {name: at for name, at in (("from", start), ("to", end)) if at is not None}
        query = f"?{urlencode(asked)}" if asked else ""
        return await self._get_bytes(f"/v1/absence/{uetr}{query}", ABSENCE_SECONDS)

    # --- the ledger and the node --------------------------------------------------------------

    async def accounts(self, participant: str | None = None) -> AccountsView:
        """Balances of one participant or all; several pages are of one height or asked again."""
        query = "" if participant is None else f"&participant={quote(participant, safe='')}"
        for _ in range(10):
            pages = await self._pages("/v1/accounts?limit=1000" + query, AccountsPage)
            if len({page.height for page in pages}) == 1:
                balances = [balance for page in pages for balance in page.balances]
                return AccountsView(height=pages[0].height, balances=balances)
        raise BadAnswer("the ledger grew between the pages of its accounts ten times", "unknown")

    async def participants(self) -> list[ParticipantView]:
        pages = await self._pages("/v1/participants?limit=1000", ParticipantsPage)
        return [participant for page in pages for participant in page.participants]

    async def assets(self) -> list[AssetView]:
        pages = await self._pages("/v1/assets?limit=1000", AssetsPage)
        return [asset for page in pages for asset in page.assets]

    async def block(self, height: int) -> BlockView:
        return await self._get(f"/v1/blocks/{height}", BlockView)

    async def blocks(self) -> list[BlockView]:
        """All final blocks that one node has, newest first."""
        pages = await self._pages("/v1/blocks?limit=1000", BlocksPage)
        return [block for page in pages for block in page.blocks]

    async def instruction(self, sender: str, id: str, wait: float = 0.0) -> InstructionView | None:
        """What became of an instruction; waits up to `wait` seconds in all for it to be final.

        None: the first node that answers does not know it as final."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        query = f"sender={quote(sender, safe='')}&id={quote(id, safe='')}"
        while True:
            left = deadline - loop.time()
            poll = min(max(left, 0.0), POLL_SECONDS)
            path = f"/v1/instructions?{query}&wait={poll:.3f}"
            try:
                view = await self._find(
                    path, InstructionView, "unknown-instruction", poll + SPARE_SECONDS
                )
            except Unreachable:
                if left <= RETRY_SECONDS:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if view is not None or left <= POLL_SECONDS:
                return view

    async def parameters(self) -> ParametersView:
        """What the ledger goes by from the next block on."""
        return await self._get("/v1/parameters", ParametersView)

    async def validators(self) -> ValidatorsView:
        return await self._get("/v1/validators", ValidatorsView)

    async def proposals(self) -> list[ProposalView]:
        pages = await self._pages("/v1/proposals?limit=1000", ProposalsPage)
        return [proposal for page in pages for proposal in page.proposals]

    async def equivocations(self) -> list[EquivocationView]:
        pages = await self._pages("/v1/equivocations?limit=1000", EquivocationsPage)
        return [proven for page in pages for proven in page.equivocations]

    async def equivocation_evidence(self, epoch: int, view: int, validator: str) -> bytes:
        """The proof of one. Raises ApiProblem (unknown-equivocation, pruned)."""
        who = quote(validator, safe="")
        return await self._get_bytes(f"/v1/equivocations/{epoch}/{view}/{who}/evidence")

    async def status(self) -> StatusView:
        return await self._get("/v1/status", StatusView)

    async def genesis(self) -> bytes:
        """The exact bytes of the genesis file, as the node has it."""
        return await self._get_bytes("/v1/genesis")

    async def events(self, after: tuple[int, int] | None = None) -> AsyncIterator[EventView]:
        """Outcomes in order from the first node; ends when the connection does.

        Raises Unreachable, ApiProblem.
        """
        headers = {} if after is None else {"Last-Event-ID": f"{after[0]}:{after[1]}"}
        url = self.urls[0]
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=60)
        try:
            async with self._open.get(
                url + "/v1/events", headers=headers, timeout=timeout
            ) as response:
                if response.status != 200:
                    raise _problem(url, response.status, await response.read())
                async for line in response.content:
                    if line.startswith(b"data: "):
                        yield _decode(url, line[6:], EventView)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{url}: {_why(error)}", "unknown") from error

    # --- calling ------------------------------------------------------------------------------

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use the client as a context manager"
        return self._session

    async def _get(self, path: str, kind: type[T]) -> T:
        async def at(url: str) -> T:
            _, body = await self._call("GET", url, path)
            return _decode(url, body, kind)

        return await self._first(at)

    async def _find(
        self, path: str, kind: type[T], unknown: str, seconds: float = ANSWER_SECONDS
    ) -> T | None:
        """None where the answer is the problem with this code."""

        async def at(url: str) -> T:
            _, body = await self._call("GET", url, path, seconds=seconds)
            return _decode(url, body, kind)

        try:
            return await self._first(at)
        except ApiProblem as error:
            if error.code == unknown:
                return None
            raise

    async def _get_bytes(self, path: str, seconds: float = ANSWER_SECONDS) -> bytes:
        async def at(url: str) -> bytes:
            return (await self._call("GET", url, path, seconds=seconds))[1]

        return await self._first(at)

    async def _pages(self, path: str, kind: type[T]) -> list[T]:
        """All pages of a list, from one node: another's may stand at another height."""

        async def at(url: str) -> list[T]:
            pages: list[T] = []
            cursor = ""
            for _ in range(MAX_PAGES):
                _, body = await self._call("GET", url, path + cursor)
                pages.append(_decode(url, body, kind))
                following: str | None = getattr(pages[-1], "next")  # noqa: B009
                if following is None:
                    return pages
                cursor = f"&cursor={following}"
            raise BadAnswer(f"{url}: the list at {path} does not end", "unknown")

        return await self._first(at)

    async def _first(self, call: Callable[[str], Awaitable[T]]) -> T:
        """The answer of the first node that has one.

        Passes over nodes that cannot be reached or say that they cannot serve now; raises the
        most telling error if no other is left.
        """
        unreachable: list[Unreachable] = []
        telling: ApiProblem | None = None
        for url in tuple(self.urls):
            try:
                return await call(url)
            except Unreachable as error:
                unreachable.append(error)
                # Asked last from now on: one dead node must not delay every question anew.
                self.urls.remove(url)
                self.urls.append(url)
            except ApiProblem as error:
                if not error.problem.temporary:
                    raise
                telling = error
        # One lost answer is enough not to know, whatever the other nodes said.
        unknown = any(error.outcome == "unknown" for error in unreachable)
        if telling is not None:
            if unknown:
                telling.outcome = "unknown"
            raise telling
        raise Unreachable(
            "; ".join(str(error) for error in unreachable),
            "unknown" if unknown else "not submitted",
        )

    async def _call(
        self,
        method: str,
        url: str,
        path: str,
        *,
        data: bytes | None = None,
        content_type: str | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> tuple[int, bytes]:
        headers = {} if content_type is None else {"Content-Type": content_type}
        timeout = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS)
        try:
            async with self._open.request(
                method, url + path, data=data, headers=headers, timeout=timeout
            ) as response:
                body = await _read(url, response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(f"{url}: {_why(error)}", "not submitted") from error
        except aiohttp.InvalidURL as error:
            raise Unreachable(f"{url} is not the URL of a node's API", "not submitted") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{url}: {_why(error)}", "unknown") from error
        if response.status >= 400:
            raise _problem(url, response.status, body)
        return response.status, body


async def _read(url: str, response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise BadAnswer(f"{url} answered more than {MAX_ANSWER_BYTES} bytes", "unknown")
        parts.append(part)
    return b"".join(parts)


def _why(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return os.strerror(error.os_error.errno) if error.os_error.errno else "cannot be reached"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "closed the connection without an answer"
    return str(error) or type(error).__name__


def _decode(url: str, body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNDECODABLE as error:
        raise BadAnswer(
            f"{url} did not answer as a nostro node does ({error}); is it the API of one?",
            "unknown",
        ) from error


def _receipt_or_problem(url: str, item: bytes) -> ReceiptDocument | Problem:
    if b'"outcome":' in item:
        return _decode(url, item, Problem)
    return _decode(url, item, ReceiptDocument)


def _problem(url: str, status: int, body: bytes) -> ApiError:
    try:
        document: Any = json.loads(body)
        problem = msgspec.convert(document, Problem)
        if not problem.type.startswith(URN):
            raise ValueError(problem.type)
    except (ValueError, msgspec.ValidationError):
        return BadAnswer(
            f"{url} answered HTTP {status} without a {CONTENT_TYPE} document; is it the API of a "
            "nostro node?",
            "unknown",
        )
    return ApiProblem(url, problem)
