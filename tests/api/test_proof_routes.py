"""Proofs of states over HTTP: who is asked what, and which questions are none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from node.api.client import ApiClient, ApiProblem
from node.api.problems import PROBLEMS
from node.api.server import ApiServer
from node.audit.period import begins, ends
from tests.support.fake_node import FakeNode
from tests.support.ledger_world import World

UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"
MIDNIGHT = 1_774_915_200_000
"""2026-03-31T00:00:00Z, milliseconds since the Unix epoch."""
DAY = 86_400_000


@pytest.fixture
def node() -> FakeNode:
    made = FakeNode(World.make())
    made.chain.fund()
    return made


@pytest.fixture
async def server(node: FakeNode) -> AsyncIterator[ApiServer]:
    made = ApiServer(node)
    await made.start()
    yield made
    await made.stop()


async def test_a_balance_is_asked_for_by_account_and_height(
    node: FakeNode, server: ApiServer
) -> None:
    lei = node.world.lei("BANKA")
    async with ApiClient([server.url]) as client:
        now = await client.balance_proof("BANKA", "EUR", "settlement")
        then = await client.balance_proof(lei, "EUR", "client-reserve", 7)
    assert now == f"balance of {lei} EUR settlement at None".encode()
    assert then == f"balance of {lei} EUR client-reserve at 7".encode()


async def test_an_absence_is_asked_for_by_days_or_times(server: ApiServer) -> None:
    raw = UETR.replace("-", "")
    async with ApiClient([server.url]) as client:
        ever = await client.absence_proof(UETR)
        day = await client.absence_proof(UETR, "2026-03-31", "2026-03-31")
        times = await client.absence_proof(
            UETR, "2026-03-31T01:00:00+01:00", "2026-03-31T00:00:00.005Z"
        )
    assert ever == f"absence of {raw} from None to None".encode()
    assert day == f"absence of {raw} from {MIDNIGHT} to {MIDNIGHT + DAY}".encode()
    assert times == f"absence of {raw} from {MIDNIGHT} to {MIDNIGHT + 5}".encode()


BAD = {
    "/v1/accounts/BANKA/eur/settlement/evidence": "bad-parameter",
    "/v1/accounts/BANKA/EUR/settlement/evidence?height=-1": "bad-parameter",
    "/v1/accounts/BANKA/EUR/settlement/evidence?hight=1": "bad-parameter",
    "/v1/accounts/NOBODY/EUR/settlement/evidence": "unknown-participant",
    "/v1/absence/eb6305c9": "bad-uetr",
    f"/v1/absence/{UETR}?from=yesterday": "bad-parameter",
    f"/v1/absence/{UETR}?to=2026-02-30": "bad-parameter",
    f"/v1/absence/{UETR}?to=2026-03-31T18:00:00": "bad-parameter",
    f"/v1/absence/{UETR}?to=1969-12-30": "bad-parameter",
    f"/v1/absence/{UETR}?until=2026-03-31": "bad-parameter",
}


@pytest.mark.parametrize("path", BAD)
async def test_what_is_no_question_is_a_problem_document(server: ApiServer, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(server.url + path) as response:
        document = await response.json(content_type="application/problem+json")
    assert response.status == PROBLEMS[BAD[path]].status
    assert document["type"].endswith(f":{BAD[path]}")
    assert document["detail"]


async def test_the_client_tells_problems_apart(server: ApiServer) -> None:
    async with ApiClient([server.url]) as client:
        with pytest.raises(ApiProblem) as refused:
            await client.absence_proof(UETR, "yesterday")
    assert refused.value.code == "bad-parameter"


def test_a_day_is_whole_and_an_instant_is_not_part_of_what_it_ends() -> None:
    assert (begins("2026-03-31"), ends("2026-03-31")) == (MIDNIGHT, MIDNIGHT + DAY)
    assert begins("2026-03-31T00:00:00Z") == ends("2026-03-31T00:00:00Z") == MIDNIGHT
    for text in ("", "2026-3-31", "20260331", "٢٠٢٦-03-31", "9999-12-31" * 9, "2026-03-31T24:61Z"):
        with pytest.raises(ValueError, match="is n"):
            begins(text)
    with pytest.raises(ValueError, match="no time"):
        ends("9999-12-31")
