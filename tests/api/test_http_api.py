"""Every resource of the HTTP API against a real server on loopback, good and bad requests."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from node.api.client import ApiClient
from node.api.documents import BATCH_TYPE, INSTRUCTION_TYPE
from node.api.offload import MAX_WAITING
from node.api.problems import CONTENT_TYPE, PROBLEMS, URN, Refused
from node.api.server import ApiServer, ListenError
from node.api.service import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, SubmissionRefused
from node.api.sse import MAX_STREAMS
from node.chain.encoding import decode, encode
from node.chain.instruction import CheckedInstruction
from node.chain.signature import RECEIPT_DOMAIN, verify
from node.chain.types import Receipt
from node.chain.uetr import uetr_text
from tests.support.fake_node import FakeNode, wall
from tests.support.ledger_world import DAY_MS, World

UNUSED = "eb6305c9-1f7f-49de-aed0-16487c27b42d"


class Api:
    """A fake node, its server, and a session to it."""

    def __init__(self, node: FakeNode, server: ApiServer, session: aiohttp.ClientSession) -> None:
        self.node, self.server, self.session = node, server, session

    async def call(
        self, method: str, path: str, status: int = 200, **options: Any
    ) -> tuple[Any, aiohttp.ClientResponse]:
        """The decoded JSON of an answer that must have this status."""
        async with self.session.request(method, self.server.url + path, **options) as response:
            body = await response.read()
            assert response.status == status, body
            return json.loads(body), response

    async def get(self, path: str, status: int = 200) -> Any:
        return (await self.call("GET", path, status))[0]

    async def submit(self, raw: bytes, status: int = 202) -> Any:
        headers = {"Content-Type": INSTRUCTION_TYPE}
        document, _ = await self.call("POST", "/v1/instructions", status, data=raw, headers=headers)
        return document

    async def batch(self, raw: list[bytes], status: int = 202) -> Any:
        data, headers = msgspec.msgpack.encode(raw), {"Content-Type": BATCH_TYPE}
        document, _ = await self.call(
            "POST", "/v1/instructions/batch", status, data=data, headers=headers
        )
        return document

    async def problem(self, method: str, path: str, code: str, **options: Any) -> Any:
        """The problem document of a request that must fail with this code."""
        document, response = await self.call(method, path, PROBLEMS[code].status, **options)
        assert response.headers["Content-Type"].startswith(CONTENT_TYPE)
        assert document["type"] == URN + code
        assert document["status"] == response.status
        assert document["title"]
        assert document["detail"]
        assert document["outcome"] in {"not submitted", "unknown", "final"}
        return document

    def pay(self, amount: int = 100, **options: Any) -> CheckedInstruction:
        world = self.node.world
        payment = world.payment("BANKA", "BANKB", amount)
        return world.pay("BANKA", payment, valid_until=wall() + DAY_MS, **options)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    node = FakeNode(World.make())
    node.chain.fund()
    server = ApiServer(node)
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Api(node, server, session)
    await server.stop()


def uetr_of(instruction: CheckedInstruction) -> str:
    return uetr_text(instruction.instruction.payments[0].uetr)


# --- instructions ---------------------------------------------------------------------------------


async def test_a_submission_is_answered_with_a_receipt_that_verifies(api: Api) -> None:
    sent = api.pay()
    document = await api.submit(sent.raw)
    receipt = decode(bytes.fromhex(document["receipt"]), Receipt)
    assert receipt.body.instruction == sent.digest
    assert document["instruction"] == sent.digest.hex()
    assert document["signature"] == receipt.signature.hex()
    assert document["height"] == receipt.body.height
    assert verify(
        bytes.fromhex(document["node"]),
        RECEIPT_DOMAIN,
        api.node.chain_id,
        encode(receipt.body),
        receipt.signature,
    )


async def test_a_batch_is_answered_in_order_and_says_which_were_refused(api: Api) -> None:
    good = api.pay()
    answers = await api.batch([b"nonsense", good.raw], 207)
    assert answers[0]["type"] == URN + "malformed"
    assert answers[0]["outcome"] == "not submitted"
    assert answers[1]["instruction"] == good.digest.hex()
    assert len(await api.batch([api.pay().raw, api.pay().raw], 202)) == 2


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda raw: b"", "bad-request"),
        (lambda raw: raw[:-1], "malformed"),
        (lambda raw: raw + b"\x00", "malformed"),
        (lambda raw: bytes([*raw[:-1], raw[-1] ^ 1]), "malformed"),
        (lambda raw: raw.replace(b"\xa3EUR", b"\xd9\x03EUR"), "malformed"),
    ],
)
async def test_damaged_bytes_are_refused_as_not_submitted(api: Api, damage: Any, code: str) -> None:
    raw = damage(api.pay().raw)
    headers = {"Content-Type": INSTRUCTION_TYPE}
    document = await api.problem("POST", "/v1/instructions", code, data=raw, headers=headers)
    assert document["outcome"] == "not submitted"
    assert not api.node.waiting


async def test_an_instruction_that_was_executed_is_refused_as_final(api: Api) -> None:
    sent = api.pay()
    await api.submit(sent.raw)
    document = await api.submit(sent.raw, 409)
    assert document["type"] == URN + "already-executed"
    assert document["outcome"] == "final"


async def test_an_expired_instruction_is_refused(api: Api) -> None:
    world = api.node.world
    late = world.pay("BANKA", world.payment("BANKA", "BANKB", 5), valid_until=wall() - 60_000)
    assert (await api.submit(late.raw, 422))["type"] == URN + "expired"


async def test_a_code_that_the_table_does_not_know_gets_a_type_of_its_own(api: Api) -> None:
    api.node.refusal = SubmissionRefused("brand-new", "a rule of tomorrow")
    assert (await api.submit(api.pay().raw, 422))["type"] == URN + "brand-new"


async def test_a_full_node_says_that_it_may_be_asked_again(api: Api) -> None:
    api.node.refusal = SubmissionRefused("mempool-full", "no room")
    headers = {"Content-Type": INSTRUCTION_TYPE}
    _, response = await api.call(
        "POST", "/v1/instructions", 503, data=api.pay().raw, headers=headers
    )
    assert response.headers["Retry-After"] == "1"


async def test_a_failure_inside_the_node_leaves_the_outcome_unknown_and_no_traceback(
    api: Api,
) -> None:
    api.node.failing = True
    headers = {"Content-Type": INSTRUCTION_TYPE}
    document = await api.problem(
        "POST", "/v1/instructions", "internal-error", data=api.pay().raw, headers=headers
    )
    assert document["outcome"] == "unknown"
    assert "disk is gone" not in json.dumps(document)


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x90", b"\x91\x01", b"not msgpack"])
async def test_a_malformed_batch_is_refused(api: Api, body: bytes) -> None:
    headers = {"Content-Type": BATCH_TYPE}
    await api.problem("POST", "/v1/instructions/batch", "bad-request", data=body, headers=headers)


async def test_an_oversized_batch_is_refused(api: Api) -> None:
    headers = {"Content-Type": BATCH_TYPE}
    many = msgspec.msgpack.encode([b"x"] * (MAX_BATCH_ITEMS + 1))
    await api.problem("POST", "/v1/instructions/batch", "too-large", data=many, headers=headers)
    big = msgspec.msgpack.encode([bytes(MAX_BATCH_BYTES)])
    await api.problem("POST", "/v1/instructions/batch", "too-large", data=big, headers=headers)


async def test_a_body_of_another_type_is_refused(api: Api) -> None:
    for path in ("/v1/instructions", "/v1/instructions/batch", "/v1/payments/lookup"):
        headers = {"Content-Type": "text/plain"}
        await api.problem("POST", path, "unsupported-media-type", data=b"x", headers=headers)


# --- payments -------------------------------------------------------------------------------------


async def test_a_final_payment_is_shown_with_its_changes(api: Api) -> None:
    sent = api.pay(1234)
    await api.submit(sent.raw)
    view = await api.get(f"/v1/payments/{uetr_of(sent)}")
    assert view["status"] == "settled"
    assert view["reason"] is None
    assert view["height"] == 2
    assert view["index"] == [0, 0]
    assert view["amount"] == "12.34"
    assert view["settled_at"] == view["changes"][0]["time"]
    assert view["changes"][0]["iso_status"] == "ACSC"


async def test_a_rejection_is_shown_with_its_reason(api: Api) -> None:
    sent = api.pay(0)
    await api.submit(sent.raw)
    view = await api.get(f"/v1/payments/{uetr_of(sent)}")
    assert (view["status"], view["reason"], view["settled_at"]) == ("rejected", "AM01", None)
    assert view["changes"][0]["because"] == "The amount is zero."


async def test_what_is_not_covered_waits_and_says_why(api: Api) -> None:
    sent = api.pay(10**15)
    await api.submit(sent.raw)
    view = await api.get(f"/v1/payments/{uetr_of(sent)}")
    assert (view["status"], view["reason"], view["settled_at"]) == ("queued", "AM04", None)
    assert view["changes"][0]["iso_status"] == "PDNG"


async def test_a_long_poll_answers_as_soon_as_the_payment_is_final(api: Api) -> None:
    api.node.finalizing = False
    sent = api.pay()
    await api.submit(sent.raw)
    poll = asyncio.create_task(api.get(f"/v1/payments/{uetr_of(sent)}?wait=60"))
    await api.node.until_watchers(1)
    api.node.finalize()
    assert (await poll)["status"] == "settled"


async def test_a_payment_that_is_not_final_is_unknown(api: Api) -> None:
    document = await api.problem("GET", f"/v1/payments/{UNUSED}?wait=0.01", "unknown-payment")
    assert document["outcome"] == "unknown"
    await api.problem("GET", f"/v1/payments/{UNUSED}/evidence", "unknown-payment")


@pytest.mark.parametrize(
    "uetr",
    ["x", UNUSED.upper(), UNUSED.replace("4", "1"), UNUSED + "0", "%00" * 36],
)
async def test_what_is_no_uetr_is_refused(api: Api, uetr: str) -> None:
    await api.problem("GET", f"/v1/payments/{uetr}", "bad-uetr")


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "soon", "1e9", ""])
async def test_an_impossible_wait_is_refused(api: Api, wait: str) -> None:
    await api.problem("GET", f"/v1/payments/{UNUSED}?wait={wait}", "bad-parameter")


async def test_many_payments_are_looked_up_in_order(api: Api) -> None:
    sent = api.pay()
    await api.submit(sent.raw)
    asked = {"uetrs": [UNUSED, uetr_of(sent)]}
    answer, _ = await api.call("POST", "/v1/payments/lookup", json=asked)
    assert answer["payments"][0] is None
    assert answer["payments"][1]["status"] == "settled"
    assert answer["payments"][1]["digest"] == sent.payment_digests[0].hex()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([], "bad-request"),
        ({"uetrs": "x"}, "bad-request"),
        ({"uetrs": [], "more": 1}, "bad-request"),
        ({"uetrs": ["x"]}, "bad-uetr"),
        ({"uetrs": [UNUSED] * 1001}, "too-large"),
    ],
)
async def test_a_bad_lookup_is_refused(api: Api, asked: Any, code: str) -> None:
    await api.problem("POST", "/v1/payments/lookup", code, json=asked)


async def test_evidence_is_the_nodes_dossier_byte_for_byte(api: Api) -> None:
    sent = api.pay()
    await api.submit(sent.raw)
    url = f"{api.server.url}/v1/payments/{uetr_of(sent)}/evidence"
    async with api.session.get(url) as response:
        expected = b"dossier of " + sent.instruction.payments[0].uetr
        assert await response.read() == expected


async def test_evidence_is_made_for_a_reader_and_with_a_block_that_he_knows(api: Api) -> None:
    sent = api.pay()
    await api.submit(sent.raw)
    uetr, raw = uetr_of(sent), sent.instruction.payments[0].uetr
    async with ApiClient([api.server.url]) as client:
        assert await client.evidence(uetr, clear="all") == b"dossier of " + raw + b" all"
        made = await client.evidence(uetr, clear="BANKA", checkpoint=7)
    assert made == b"dossier of " + raw + f" {api.node.world.lei('BANKA')} 7".encode()
    url = f"/v1/payments/{uetr}/evidence"
    await api.problem("GET", f"{url}?clear=NOBODY", "unknown-participant")
    for query in ("checkpoint=-1", "checkpoint=x", "checkpoint=1e3", "checkpoint=", "clean=all"):
        await api.problem("GET", f"{url}?{query}", "bad-parameter")
    await api.problem("GET", f"{url}?checkpoint={10**18}", "bad-parameter")


async def test_the_node_goes_on_while_evidence_is_made(api: Api) -> None:
    sent = api.pay()
    await api.submit(sent.raw)
    loop, went_on = asyncio.get_running_loop(), threading.Event()
    make = api.node.evidence

    def slowly(uetr: bytes, *asked: Any) -> bytes | None:
        loop.call_soon_threadsafe(went_on.set)
        assert went_on.wait(10), "nothing else was done meanwhile"
        return make(uetr, *asked)

    api.node.evidence = slowly  # type: ignore[assignment, method-assign]
    url = f"{api.server.url}/v1/payments/{uetr_of(sent)}/evidence"
    async with api.session.get(url) as response:
        assert response.status == 200


async def test_no_more_proofs_wait_than_are_soon_made(api: Api) -> None:
    sent = api.pay()
    await api.submit(sent.raw)
    go_on = threading.Event()
    make = api.node.evidence

    def when_told(uetr: bytes, *asked: Any) -> bytes | None:
        assert go_on.wait(10)
        return make(uetr, *asked)

    api.node.evidence = when_told  # type: ignore[assignment, method-assign]
    url = f"{api.server.url}/v1/payments/{uetr_of(sent)}/evidence"

    async def ask() -> int:
        async with api.session.get(url) as response:
            if response.status == 429:
                go_on.set()
            return response.status

    statuses = await asyncio.gather(*(ask() for _ in range(MAX_WAITING + 1)))
    assert sorted(statuses) == [200] * MAX_WAITING + [429]


# --- lists ----------------------------------------------------------------------------------------


async def test_accounts_are_found_by_name_lei_and_bic(api: Api) -> None:
    bank = api.node.world.banks["BANKA"]
    answers = [
        await api.get(f"/v1/accounts?participant={given}")
        for given in (bank.name, bank.lei, bank.bic)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert [b["amount"] for b in answers[0]["balances"]] == ["10000.00"]
    await api.problem("GET", "/v1/accounts?participant=NOBODY", "unknown-participant")


async def test_lists_page_without_gaps_or_repetitions(api: Api) -> None:
    for path, items in (
        ("accounts", "balances"),
        ("participants", "participants"),
        ("assets", "assets"),
        ("blocks", "blocks"),
    ):
        whole = (await api.get(f"/v1/{path}"))[items]
        found: list[Any] = []
        query = "?limit=1"
        while True:
            answer = await api.get(f"/v1/{path}{query}")
            found += answer[items]
            if answer["next"] is None:
                break
            query = f"?limit=1&cursor={answer['next']}"
        assert found == whole
        assert len(found) > 1


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1.5", ""])
async def test_an_impossible_limit_is_refused(api: Api, limit: str) -> None:
    await api.problem("GET", f"/v1/assets?limit={limit}", "bad-parameter")


async def test_a_cursor_of_another_list_or_of_nobody_is_refused(api: Api) -> None:
    cursor = (await api.get("/v1/assets?limit=1"))["next"]
    await api.problem("GET", f"/v1/participants?cursor={cursor}", "bad-cursor")
    await api.problem("GET", f"/v1/blocks?cursor={cursor}", "bad-cursor")
    for bad in ("x", "é", "W10", "e30", "bnVsbA", "A" * 600):
        await api.problem("GET", f"/v1/assets?cursor={bad}", "bad-cursor")


async def test_a_list_of_blocks_ends_where_this_node_began(api: Api) -> None:
    block = api.node.block

    def without_genesis(height: int) -> Any:
        if height == 0:
            raise Refused("pruned", "this node began with a snapshot")
        return block(height)

    api.node.block = without_genesis  # type: ignore[method-assign]
    listed = await api.get("/v1/blocks")
    assert [b["height"] for b in listed["blocks"]] == [1]
    await api.problem("GET", f"/v1/blocks?cursor={listed['next']}", "pruned")


async def test_blocks_come_newest_first_with_header_and_certificate(api: Api) -> None:
    blocks = (await api.get("/v1/blocks"))["blocks"]
    assert [b["height"] for b in blocks] == [1, 0]
    assert blocks[0] == await api.get("/v1/blocks/1")
    assert blocks[0]["certificate"]["kind"] == "finalization"
    assert blocks[1]["certificate"] is None
    await api.problem("GET", "/v1/blocks/2", "unknown-block")
    for bad in ("x", "-1", "1.0", "9" * 30):
        await api.problem("GET", f"/v1/blocks/{bad}", "bad-parameter")


async def test_status_names_node_chain_height_and_peers(api: Api) -> None:
    status = await api.get("/v1/status")
    assert status["node"] == "node0"
    assert status["chain_id"] == api.node.chain_id.hex()
    assert status["height"] == 1
    assert {"view", "epoch", "peers", "finalized_at", "given_up"} <= set(status)
    assert {"name", "connected", "detail", "since"} <= set(status["peers"][0])
    schemas = (await api.get("/openapi.json"))["components"]["schemas"]
    assert set(status) == set(schemas["StatusView"]["properties"])
    assert set(status["peers"][0]) == set(schemas["PeerView"]["properties"])


async def test_genesis_is_given_byte_for_byte(api: Api) -> None:
    async with api.session.get(api.server.url + "/v1/genesis") as response:
        assert await response.read() == api.node.genesis_bytes


# --- events ---------------------------------------------------------------------------------------


async def read_events(response: aiohttp.ClientResponse, count: int) -> list[tuple[str, Any]]:
    events: list[tuple[str, Any]] = []
    name = ""
    while len(events) < count:
        line = (await response.content.readline()).decode().rstrip("\n")
        if line.startswith("id: "):
            name = line[4:]
        if line.startswith("data: "):
            events.append((name, json.loads(line[6:])))
    return events


async def test_events_go_on_after_the_last_one_seen(api: Api) -> None:
    url = api.server.url + "/v1/events"
    async with api.session.get(url, headers={"Last-Event-ID": "1:0"}) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        old = await read_events(response, 2)
        assert [name for name, _ in old] == ["1:1", "1:2"]
        sent = api.pay()
        await api.submit(sent.raw)
        [(name, event)] = await read_events(response, 1)
    assert name == "2:0"
    assert (event["uetr"], event["status"]) == (uetr_of(sent), "settled")


@pytest.mark.parametrize("position", ["x", "1", "1:", ":1", "-1:0", "1:0:0", "1:0 "])
async def test_a_bad_position_is_refused(api: Api, position: str) -> None:
    await api.problem(
        "GET", "/v1/events", "bad-parameter", headers={"Last-Event-ID": position.replace(" ", "x")}
    )


async def test_a_position_beyond_the_last_block_is_refused(api: Api) -> None:
    await api.problem("GET", "/v1/events?after=2:0", "future-event")


async def test_streams_are_bounded_and_give_their_place_back(api: Api) -> None:
    url = api.server.url + "/v1/events"
    streams = [await api.session.get(url) for _ in range(MAX_STREAMS)]
    await api.problem("GET", "/v1/events", "too-many-streams")
    for stream in streams:
        stream.close()
    while True:
        async with api.session.get(url) as response:
            if response.status == 200:
                break


# --- the server itself ----------------------------------------------------------------------------


async def test_errors_of_the_server_are_problem_documents(api: Api) -> None:
    await api.problem("GET", "/nowhere", "not-found")
    await api.problem("DELETE", "/v1/status", "method-not-allowed")
    await api.problem("GET", "/v1/status?verbose=1", "bad-parameter")


async def test_a_request_for_another_host_is_refused(api: Api) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]:1", ":80"):
        await api.problem("GET", "/v1/status", "wrong-host", headers={"Host": host})
    for host in ("localhost", "127.0.0.1:1", "[::1]:80", "LOCALHOST:1"):
        await api.call("GET", "/v1/status", headers={"Host": host})


async def test_the_operators_listener_serves_health_and_metrics_and_nothing_else(api: Api) -> None:
    async def text(path: str) -> tuple[int, str]:
        async with api.session.get(api.server.operator_url + path) as response:
            return response.status, await response.text()

    assert await text("/livez") == (200, "ok\n")
    assert await text("/readyz") == (200, "ok\n")
    api.node.is_ready = (False, "2 of 4 validators connected")
    assert await text("/readyz") == (503, "2 of 4 validators connected\n")
    assert await text("/metrics") == (200, "nostro_height 1\n")
    assert (await text("/v1/status"))[0] == 404
    await api.problem("GET", "/metrics", "not-found")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "node.example", ""])
async def test_the_api_refuses_to_listen_beyond_loopback(host: str) -> None:
    node = FakeNode(World.make())
    with pytest.raises(ListenError, match="TLS and client certificates"):
        ApiServer(node, host=host)
    with pytest.raises(ListenError, match="TLS and client certificates"):
        ApiServer(node, operator_host=host)


async def test_a_port_in_use_is_said_so(api: Api) -> None:
    port = int(api.server.url.rpartition(":")[2])
    with pytest.raises(ListenError, match="in use"):
        await ApiServer(api.node, port=port).start()
    other = ApiServer(api.node, operator_port=port)
    with pytest.raises(ListenError, match=r"operator listener.*in use"):
        await other.start()


async def test_headers_without_end_are_refused(api: Api) -> None:
    host, port = api.server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)
    answer = await reader.read(65_536)
    assert answer.startswith(b"HTTP/1.0 400")
    writer.close()


async def test_a_client_that_goes_away_frees_its_long_poll(api: Api) -> None:
    host, port = api.server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            f"GET /v1/payments/{UNUSED}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        await api.node.until_watchers(1)
    await api.node.until_watchers(0)


async def test_a_stopping_node_does_not_wait_for_long_polls_and_streams(api: Api) -> None:
    poll = asyncio.create_task(api.get(f"/v1/payments/{UNUSED}?wait=60"))
    async with api.session.get(api.server.url + "/v1/events") as stream:
        await stream.content.readline()
        await api.node.until_watchers(2)
        await api.server.stop()
        with pytest.raises(aiohttp.ClientError):
            await poll


async def test_the_description_is_openapi_and_covers_every_route(api: Api) -> None:
    document = await api.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in api.server._api._app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {(method, path) for path, item in document["paths"].items() for method in item}
    assert routes - {("get", "/openapi.json")} == described
    for reference in set(_references(document)):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [r for item in value.values() for r in _references(item)]
    if isinstance(value, list):
        return [r for item in value for r in _references(item)]
    return []
