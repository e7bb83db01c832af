"""Queues, credit, netting, links, days, statements, traces and disputes over HTTP: paging, bounds,
and what is refused. What they tell is held by the tests of the commands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from node.api.problems import PROBLEMS, URN
from node.api.server import ApiServer
from node.chain.build import build
from node.chain.encoding import decode
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.types import (
    InstructionBody,
    OpenDispute,
    Payment,
    PostPrice,
    Recall,
    SetLimit,
)
from node.chain.uetr import uetr_text
from tests.support.fake_node import FakeNode, wall
from tests.support.ledger_world import DAY_MS, World
from tests.support.settlement_net import BANKS, BOND

UNUSED = "eb6305c9-1f7f-49de-aed0-16487c27b42d"


class Api:
    """A fake node, its server, and a session to it."""

    def __init__(self, node: FakeNode, server: ApiServer, session: aiohttp.ClientSession) -> None:
        self.node, self.server, self.session = node, server, session

    async def get(self, path: str, status: int = 200) -> Any:
        async with self.session.get(self.server.url + path) as response:
            body = await response.read()
            assert response.status == status, body
            return json.loads(body)

    async def problem(self, path: str, code: str) -> Any:
        document = await self.get(path, PROBLEMS[code].status)
        assert document["type"] == URN + code
        assert document["detail"]
        return document

    async def pages(self, path: str, key: str, limit: int) -> list[Any]:
        """All items of a list, asked for in pages that must be full but the last."""
        found: list[Any] = []
        mark = "&" if "?" in path else "?"
        cursor = ""
        for _ in range(50):
            page = await self.get(f"{path}{mark}limit={limit}{cursor}")
            found += page[key]
            assert len(page[key]) <= limit
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"
        raise AssertionError("the list does not end")

    def pay(self, *amounts: int, sender: str = "BANKA", to: str = "BANKB") -> list[str]:
        """Payments in one block; their UETRs."""
        world = self.node.world
        payments = [world.payment(sender, to, amount) for amount in amounts]
        self.block(world.pay(sender, *payments, valid_until=wall() + DAY_MS))
        return [uetr_text(payment.uetr) for payment in payments]

    def order(self, sender: str, body: InstructionBody) -> None:
        world = self.node.world
        head = world.head(sender, None, wall() + DAY_MS)
        raw = build(*head, body, world.banks[sender].signers[:1])
        self.block(check_instruction(raw, self.node.chain_id))

    def block(self, *instructions: CheckedInstruction) -> None:
        chain = self.node.chain
        chain.block(*instructions, time=max(wall(), chain.state.time + 1))

    def dispute(self, uetr: str) -> None:
        view = self.node.payment(bytes.fromhex(uetr.replace("-", "")))
        assert view is not None
        assert view.payment is not None
        original = decode(bytes.fromhex(view.payment), Payment)
        self.order("BANKA", OpenDispute(original, "FRAD"))
        self.order("BANKA", Recall(original, "DUPL"))


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    world = World.make(
        banks=BANKS,
        assets=(("EUR", 2), ("CNY", 2), (BOND, 0)),
        issuers={BOND: "DEPOSITORY"},
    )
    node = FakeNode(world)
    node.chain.fund(1_000_000, "BANKA", "BANKB", "BANKC")
    server = ApiServer(node)
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Api(node, server, session)
    await server.stop()


# --- lists ----------------------------------------------------------------------------------------


async def test_a_queue_is_read_in_pages_and_in_order(api: Api) -> None:
    waiting = api.pay(1_000_001, *range(1, 25))
    entries = await api.pages("/v1/queues/BANKA?asset=EUR", "entries", 7)
    assert [entry["uetr"] for entry in entries] == waiting
    assert [entry["ahead"] for entry in entries] == list(range(25))
    page = await api.get("/v1/queues/BANKA")
    assert page["positions"][0]["waiting"] == 25
    assert (await api.get("/v1/queues/BANKA?asset=CNY"))["entries"] == []


async def test_an_entry_that_left_between_two_pages_hides_no_other(api: Api) -> None:
    waiting = api.pay(1_000_001, 2, 3, 4)
    first = await api.get("/v1/queues/BANKA?limit=2")
    api.pay(10, sender="BANKB", to="BANKA")  # all settle
    left = await api.get(f"/v1/queues/BANKA?limit=2&cursor={first['next']}")
    assert left == {**left, "entries": [], "next": None}
    assert waiting[0] == first["entries"][0]["uetr"]


async def test_limits_prices_and_disputes_page(api: Api) -> None:
    world = api.node.world
    for bank in ("BANKA", "BANKB", "BANKC"):
        api.order(bank, SetLimit(world.lei(bank), "EUR", None, 100))
    accounts = await api.pages("/v1/limits", "accounts", 2)
    assert [each["participant"] for each in accounts] == ["BANKA", "BANKB", "BANKC"]
    for currency in ("EUR", "CNY"):
        api.order("CENTRALBANK", PostPrice(BOND, currency, 100, 1, 0))
    prices = await api.pages("/v1/prices", "prices", 1)
    assert [each["currency"] for each in prices] == ["CNY", "EUR"]
    paid = api.pay(10, 20, 30)
    for uetr in paid:
        api.dispute(uetr)
    disputes = await api.pages("/v1/disputes", "disputes", 2)
    assert [each["uetr"] for each in disputes] == sorted(paid)
    one = await api.get(f"/v1/disputes/{paid[0]}")
    assert (one["reason"], one["verdict"], one["opened_by_name"]) == ("FRAD", None, "BANKA")
    assert (await api.get(f"/v1/trace/{paid[0]}"))["source"]["recall"] == "asked"


async def test_movements_page_over_many_blocks_and_tie_out(api: Api) -> None:
    for amount in range(1, 12):
        api.pay(amount, amount + 100)
    page = await api.get("/v1/statements/BANKA")
    [statement] = page["statements"]
    path = "/v1/statements/BANKA/movements?" + "&".join(
        f"{name}={statement[name]}" for name in ("asset", "account", "begins", "ends")
    )
    movements = await api.pages(path, "movements", 5)
    whole = (await api.get(path))["movements"]
    assert movements == whole
    assert len(whole) == 23
    assert sum(Decimal(m["amount"]) for m in whole) == Decimal(statement["closing"])


async def test_a_statement_covers_the_heights_it_names_however_the_chain_grows(api: Api) -> None:
    api.pay(100)
    [statement] = (await api.get("/v1/statements/BANKA"))["statements"]
    api.pay(200)
    path = "/v1/statements/BANKA/movements?" + "&".join(
        f"{name}={statement[name]}" for name in ("asset", "account", "begins", "ends")
    )
    amounts = [m["amount"] for m in (await api.get(path))["movements"]]
    assert amounts == ["10000.00", "-1.00"]


async def test_nothing_of_a_kind_is_an_empty_list(api: Api) -> None:
    for path, key in (
        ("/v1/limits", "accounts"),
        ("/v1/prices", "prices"),
        ("/v1/pledges", "pledges"),
        ("/v1/loans", "loans"),
        ("/v1/netting", "systems"),
        ("/v1/cycles", "cycles"),
        ("/v1/links", "links"),
        ("/v1/schedule", "days"),
        ("/v1/disputes", "disputes"),
        ("/v1/consents", "consents"),
    ):
        page = await api.get(path)
        assert (page[key], page["next"], page["height"]) == ([], None, 1), path
    assert (await api.get("/v1/day"))["date"] is None
    parameters = await api.get("/v1/parameters")
    assert (parameters["close_rule"], parameters["rules"]) == ("expire", 1)


async def test_what_was_pruned_is_named(api: Api) -> None:
    uetr = api.pay(100)[0]
    api.node.records.pruned_below = 5
    path = "/v1/statements/BANKA/movements?asset=EUR&account=settlement&begins=1:0&ends=2:0"
    await api.problem(path, "pruned")
    view = await api.get(f"/v1/payments/{uetr}")
    assert (view["status"], view["amount"], view["changes"]) == ("settled", None, [])


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/queues/NOBODY", "unknown-participant"),
        ("/v1/queues/BANKA?asset=XXX", "bad-parameter"),
        ("/v1/queues/BANKA?cursor=zzz", "bad-cursor"),
        ("/v1/queues/BANKA?cursor=WyJxdWV1ZXMiLCJFVVIiXQ", "bad-cursor"),
        ("/v1/limits?participant=NOBODY", "unknown-participant"),
        ("/v1/limits?participants=BANKA", "bad-parameter"),
        ("/v1/limits?limit=0", "bad-parameter"),
        ("/v1/pledges?participant=NOBODY", "unknown-participant"),
        ("/v1/loans?participant=NOBODY", "unknown-participant"),
        ("/v1/loans?cursor=WyJsb2FucyIsInp6Il0", "bad-cursor"),
        ("/v1/prices?cursor=WyJsaW1pdHMiLCJhIl0", "bad-cursor"),
        ("/v1/cycles?asset=XXX", "bad-parameter"),
        ("/v1/cycles?cursor=WyJjeWNsZXMiLCJFVVIiLCJ4Il0", "bad-cursor"),
        ("/v1/cycles/EUR/1", "unknown-cycle"),
        ("/v1/cycles/EUR/one", "bad-parameter"),
        ("/v1/links/" + "ab" * 32, "unknown-link"),
        ("/v1/links/xy", "bad-parameter"),
        ("/v1/statements/NOBODY", "unknown-participant"),
        ("/v1/statements/BANKA?date=2026-01-02", "bad-parameter"),
        ("/v1/statements/BANKA?date=20260102", "unknown-statement"),
        ("/v1/statements/BANKA/movements", "bad-parameter"),
        ("/v1/statements/BANKA/movements?asset=EUR&account=settlement&begins=1&ends=2:0",
         "bad-parameter"),
        ("/v1/statements/BANKA/movements?asset=EUR&account=settlement&begins=2:0&ends=1:0",
         "bad-parameter"),
        ("/v1/statements/BANKA/movements?asset=EUR&account=settlement&begins=1:0&ends=99:0",
         "bad-parameter"),
        ("/v1/statements/BANKA/movements?asset=XXX&account=settlement&begins=1:0&ends=2:0",
         "bad-parameter"),
        ("/v1/statements/BANKA/movements?asset=EUR&account=purse&begins=1:0&ends=2:0",
         "bad-parameter"),
        ("/v1/statements/NOBODY/movements?asset=EUR&account=settlement&begins=1:0&ends=2:0",
         "unknown-participant"),
        (f"/v1/trace/{UNUSED}", "unknown-payment"),
        ("/v1/trace/nonsense", "bad-uetr"),
        (f"/v1/disputes/{UNUSED}", "unknown-dispute"),
        ("/v1/disputes/nonsense", "bad-uetr"),
        ("/v1/disputes?cursor=WyJkaXNwdXRlcyIsInp6Il0", "bad-cursor"),
        ("/v1/day?date=20260102", "bad-parameter"),
        ("/v1/parameters?x=1", "bad-parameter"),
        ("/v1/consents?cursor=x", "bad-cursor"),
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_is_a_problem_document(
    api: Api, path: str, code: str
) -> None:
    await api.problem(path, code)


async def test_an_instruction_is_waited_for(api: Api) -> None:
    path = f"/v1/instructions?sender={api.node.world.lei('BANKA')}&id=nothing&wait=0.01"
    await api.problem(path, "unknown-instruction")
    await api.problem("/v1/instructions?sender=x&id=y&wait=soon", "bad-parameter")
