"""The node's listeners: the API, and the operator's own.

Until roles are built into the API, both bind to loopback only: whoever reaches the API may read
every payment. A page in a browser on the same machine must not reach it either (DNS rebinding),
so a request whose Host is not a loopback name is refused.

Bounds: body, header and line sizes, idle time of a connection and time to send a body, long
polls, streams. A connection that sends nothing, or its headers too slowly, is closed by the
idle timer, which runs from the moment it is accepted.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import re

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from node.api.problems import Refused, problem
from node.api.proof_routes import ProofRoutes
from node.api.requests import Handler, problem_response
from node.api.routes import Routes
from node.api.service import MAX_BATCH_BYTES, NodeService
from node.api.settlement_routes import SettlementRoutes
from node.api.sync_routes import SyncRoutes, SyncSource

IDLE_SECONDS = 30.0
"""Until a connection without a complete request is closed."""
STOP_SECONDS = 2.0
"""How long stopping waits for answers under way."""
MAX_LINE_BYTES = 8_190
MAX_HEADERS = 64
MAX_HEADER_BYTES = 8_190
"""Of one header."""
BACKLOG = 256
"""Connections waiting to be accepted."""

_AUTHORITY = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::[0-9]{1,5})?", re.ASCII)

log = logging.getLogger("nostro.api")


def _without_trace(record: logging.LogRecord) -> bool:
    """What a client sent is no fault of ours: one line, no trace for it to fill the log with."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.exc_info = None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


http_log = logging.getLogger("nostro.api.http")
"""aiohttp's own messages."""
http_log.addFilter(_without_trace)


class ListenError(Exception):
    """A listener cannot be opened; the message says which, why and what to do."""


def loopback(host: str, what: str) -> str:
    """The address to bind. Raises ListenError unless it is a loopback address."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ListenError(
        f"the {what} refuses to listen on {host!r}: beyond this machine it needs TLS and client "
        "certificates, which this version does not offer; set its host to 127.0.0.1 and reach "
        "it from elsewhere through an authenticated tunnel"
    )


class ApiServer:
    """Both listeners of one node. `start` opens them, `stop` closes them."""

    def __init__(
        self,
        service: NodeService,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        operator_host: str = "127.0.0.1",
        operator_port: int = 0,
        sync: SyncSource | None = None,
    ) -> None:
        """`sync`: what other nodes get the chain from; None where that is not offered."""
        self._routes = Routes(service)
        self._settlement = SettlementRoutes(service)
        self._proofs = ProofRoutes(service)
        self._sync = SyncRoutes(sync)
        self._service = service
        self._api = _Listener("API", host, port, self._api_app())
        self._operator = _Listener(
            "operator listener", operator_host, operator_port, self._operator_app()
        )

    @property
    def url(self) -> str:
        """Base URL of the API, once started."""
        return self._api.url

    @property
    def operator_url(self) -> str:
        return self._operator.url

    async def start(self) -> None:
        """Open both listeners. Raises ListenError; then neither is open."""
        await self._api.start()
        try:
            await self._operator.start()
        except ListenError:
            await self._api.stop()
            raise

    async def stop(self) -> None:
        """Close both, dropping long polls and streams."""
        self._routes.end_waits()
        self._sync.end_waits()
        await self._api.stop()
        await self._operator.stop()
        self._routes.close()
        self._settlement.close()
        self._proofs.close()

    def _api_app(self) -> web.Application:
        app = web.Application(
            middlewares=[_answer_problems, _own_host], client_max_size=MAX_BATCH_BYTES
        )
        self._routes.add_to(app)
        self._settlement.add_to(app)
        self._proofs.add_to(app)
        self._sync.add_to(app)
        return app

    def _operator_app(self) -> web.Application:
        async def livez(_: web.Request) -> web.Response:
            return web.Response(text="ok\n")

        async def readyz(_: web.Request) -> web.Response:
            ready, why = self._service.ready()
            return web.Response(text=f"{why or 'ok'}\n", status=200 if ready else 503)

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(
                body=self._service.metrics().encode(),
                headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
            )

        app = web.Application(middlewares=[_answer_problems, _own_host], client_max_size=1024)
        app.add_routes(
            [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)]
        )
        return app


class _Listener:
    """One listening socket and its application."""

    def __init__(self, what: str, host: str, port: int, app: web.Application) -> None:
        self._what, self._app = what, app
        self._host, self._port = loopback(host, what), port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        assert self._runner is not None, "not started"
        address = self._runner.addresses[0]
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"http://{host}:{address[1]}"

    async def start(self) -> None:
        runner = web.AppRunner(
            self._app,
            access_log=None,
            logger=http_log,
            handler_cancellation=True,
            keepalive_timeout=IDLE_SECONDS,
            shutdown_timeout=STOP_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            max_field_size=MAX_HEADER_BYTES,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, backlog=BACKLOG).start()
        except OSError as error:
            await runner.cleanup()
            raise ListenError(self._explain(error)) from error
        self._runner = runner

    def _explain(self, error: OSError) -> str:
        where = f"{self._host}:{self._port}"
        if error.errno == errno.EADDRINUSE:
            return (
                f"the {self._what} cannot listen on {where}: the port is in use by another "
                "process; stop that one or set another port in config.toml"
            )
        if error.errno == errno.EACCES:
            return (
                f"the {self._what} cannot listen on {where}: no permission for this port; set "
                "one above 1023 in config.toml"
            )
        return f"the {self._what} cannot listen on {where}: {error.strerror or error}"

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


@web.middleware
async def _answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error leaves as a problem document, and nothing of a traceback leaves at all."""
    try:
        response = await handler(request)
    except Refused as error:
        response = problem_response(error.problem)
    except web.HTTPException as error:
        response = _of_http(request, error)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        response = problem_response(
            problem(
                "internal-error",
                "the node failed to answer this request; its log says why. Ask for the payment "
                "before sending anything again",
                "unknown",
            )
        )
    if not response.prepared:
        response.headers["Server"] = "nostro"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _of_http(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status == 413:
        return problem_response(
            problem("too-large", f"the body is larger than {MAX_BATCH_BYTES} bytes")
        )
    if error.status == 405:
        assert isinstance(error, web.HTTPMethodNotAllowed)
        allowed = ", ".join(sorted(error.allowed_methods))
        response = problem_response(
            problem("method-not-allowed", f"{request.path} supports {allowed}")
        )
        response.headers["Allow"] = allowed
        return response
    if error.status == 404:
        return problem_response(
            problem("not-found", f"there is nothing at {request.path[:200]}; see /openapi.json")
        )
    return problem_response(problem("bad-request", error.reason))


def _is_loopback_name(authority: str) -> bool:
    """Whether a Host header's host, with or without a port, is this machine itself."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return False
    name = match[1] or match[2]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@web.middleware
async def _own_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _is_loopback_name(request.host):
        raise Refused(
            "wrong-host",
            f"the request is addressed to {request.host[:100]!r}; this listener answers only to "
            "localhost and loopback addresses",
        )
    return await handler(request)
