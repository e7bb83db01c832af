"""Reading requests and making answers: what all handlers do alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import msgspec
from aiohttp import web

from node.api import paging, problems
from node.api.problems import Refused
from node.api.service import MAX_WAIT_SECONDS, UnknownParticipant
from node.chain.uetr import parse_uetr

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_encode_json = msgspec.json.encode


def answer(document: Any, status: int = 200) -> web.Response:
    """A JSON response."""
    return web.Response(body=_encode_json(document), status=status, content_type="application/json")


def problem_response(problem: problems.Problem) -> web.Response:
    """The `application/problem+json` response of a problem."""
    response = web.Response(
        body=_encode_json(problem), status=problem.status, content_type=problems.CONTENT_TYPE
    )
    if problem.temporary:
        response.headers["Retry-After"] = "1"
    return response


def only(query: Mapping[str, str], allowed: Collection[str]) -> Mapping[str, str]:
    """Refuse a parameter that would be ignored: a misspelt `wait` must not look like a timeout."""
    for name in query:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise Refused("bad-parameter", f"unknown parameter {name[:40]!r}; known here: {known}")
    return query


def uetr_of(request: web.Request) -> bytes:
    """The UETR in the path. Raises Refused (bad-uetr)."""
    try:
        return parse_uetr(request.match_info["uetr"])
    except ValueError as error:
        raise Refused("bad-uetr", str(error)) from error


def whole(request: web.Request, name: str) -> int:
    """A height, view or epoch in the path."""
    text = request.match_info[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise Refused("bad-parameter", f"{name} {text[:40]!r} is not a whole number")
    return int(text)


def height_of(query: Mapping[str, str], name: str) -> int | None:
    """A height that may be asked for. Raises Refused (bad-parameter)."""
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refused("bad-parameter", f"{name} is {text[:40]!r}; give the height of a block")
    return int(text)


def wait_of(text: str | None) -> float:
    """Seconds to wait. Raises Refused (bad-parameter)."""
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise Refused(
            "bad-parameter",
            f"wait is {text[:40]!r}; give seconds from 0 to {MAX_WAIT_SECONDS:.0f}",
        )
    return seconds


def limit_of(query: Mapping[str, str]) -> int:
    """Items of a page. Raises Refused (bad-parameter)."""
    text = query.get("limit")
    if text is None:
        return paging.DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= paging.MAX_LIMIT:
        return int(text)
    raise Refused(
        "bad-parameter", f"limit is {text[:40]!r}; give a whole number from 1 to {paging.MAX_LIMIT}"
    )


def unknown_payment(uetr: str) -> Refused:
    """The problem of a UETR that nothing final is known about."""
    return Refused(
        "unknown-payment",
        f"this node knows no final outcome for {uetr}; it may still become final, here or at "
        "another node, until the instruction's valid_until has passed",
        "unknown",
    )


def unknown_participant(error: UnknownParticipant) -> Refused:
    """The problem of a participant that nobody is."""
    return Refused(
        "unknown-participant",
        f"{error}; /v1/participants lists them by short name, LEI and BIC",
    )
