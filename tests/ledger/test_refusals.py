"""What stands in a block but is rejected: which reason, and that nothing moved, to the byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from node.chain.instruction import CheckedInstruction
from node.chain.signature import ROLE_PARTICIPANT, prove_possession
from node.ledger import reasons
from node.ledger.keys import MAX_KEYS
from node.ledger.reasons import SENTENCES, WITHOUT_AUTHORITY, sentence
from node.ledger.supply import MAX_SUPPLY
from tests.support.ledger_world import Chain, World, lei, signer, uetr

STRANGER = lei(999)
SPARE = signer("spare")

Make = Callable[[Chain, World], CheckedInstruction]


class Case(NamedTuple):
    name: str
    reason: str
    make: Make


def paying(*args: object, **options: object) -> Make:
    def make(_: Chain, w: World) -> CheckedInstruction:
        return w.pay("BANKA", w.payment(*args, **options))  # type: ignore[arg-type]

    return make


def late(c: Chain, w: World) -> CheckedInstruction:
    """Its latest settlement time is a millisecond before the next block."""
    return w.pay("BANKA", w.payment("BANKA", "BANKB", 1, latest=c.state.time + 999))


def overflow(c: Chain, w: World) -> CheckedInstruction:
    """Not covered either; but an amount that can never arrive must not wait."""
    c.fund(1, "BANKC", asset="CNY")
    return w.pay("BANKA", w.payment("BANKA", "BANKC", 2**63 - 1, "CNY"))


def issue_overflow(c: Chain, w: World) -> CheckedInstruction:
    return w.issue("CENTRALBANK", "BANKA", 2**63 - 1_000_000)


def supply_overflow(c: Chain, w: World) -> CheckedInstruction:
    c.fund(MAX_SUPPLY // 2, "BANKA", "BANKB", asset="CNY")
    return w.issue("CENTRALBANK", "BANKC", 1, "CNY")


def used_uetr(content: str) -> Make:
    def make(c: Chain, w: World) -> CheckedInstruction:
        c.block(w.pay("BANKA", w.payment("BANKA", "BANKB", 5, uetr=uetr(77))))
        if content == "pay":
            return w.pay("BANKA", w.payment("BANKA", "BANKB", 6, uetr=uetr(77)))
        if content == "issue":
            return w.issue("CENTRALBANK", "BANKB", 5, uetr=uetr(77))
        return w.redeem("CENTRALBANK", 5, uetr=uetr(77))

    return make


def foreign_possession(_: Chain, w: World) -> CheckedInstruction:
    """BANKA registers a key with the proof that its holder made for BANKB."""
    proof = prove_possession(SPARE, ROLE_PARTICIPANT, w.lei("BANKB"), w.chain_id)
    return w.register_key("BANKA", SPARE, possession=proof)


def low_order_key(_: Chain, w: World) -> CheckedInstruction:
    return w.register_key(
        "BANKA", SPARE, public_key=(1).to_bytes(32, "little"), possession=bytes(64)
    )


def too_many_keys(c: Chain, w: World) -> CheckedInstruction:
    keys = [signer("many", n) for n in range(MAX_KEYS - 1)]
    c.block(*(w.register_key("BANKA", key) for key in keys))
    return w.register_key("BANKA", SPARE)


def revoked_twice(c: Chain, w: World) -> CheckedInstruction:
    c.block(w.register_key("BANKA", SPARE))
    c.block(w.revoke_key("BANKA", SPARE.public_key))
    return w.revoke_key("BANKA", SPARE.public_key)


def revoked_then_registered(c: Chain, w: World) -> CheckedInstruction:
    revoked_twice(c, w)
    return w.register_key("BANKA", SPARE)


CASES = [
    Case("another's account is debited", "DS0H", paying("BANKB", "BANKA", 1)),
    Case("a stranger's account is debited", "DS0H", paying(STRANGER, "BANKA", 1)),
    Case(
        "a supervisor pays",
        "AG08",
        lambda c, w: w.pay("WATCHDOG", w.payment("WATCHDOG", "BANKA", 1)),
    ),
    Case("amount zero", "AM01", paying("BANKA", "BANKB", 0)),
    Case("amount beyond any account", "AM02", paying("BANKA", "BANKB", 2**63)),
    Case("the largest amount there is", "AM02", paying("BANKA", "BANKB", 2**64 - 1)),
    Case("the creditor's balance would overflow", "AM02", overflow),
    Case("unknown currency", "AM03", paying("BANKA", "BANKB", 1, "USD")),
    Case("currency in lower case", "AM03", paying("BANKA", "BANKB", 1, "eur")),
    Case("used UETR, other amount", "AM05", used_uetr("pay")),
    Case("used UETR, now to issue", "AM05", used_uetr("issue")),
    Case("used UETR, now to redeem", "AM05", used_uetr("redeem")),
    Case("latest settlement time passed", "AB03", late),
    Case("debtor and creditor are one", "AG12", paying("BANKA", "BANKA", 1)),
    Case("unknown creditor", "CNOR", paying("BANKA", STRANGER, 1)),
    Case("a creditor that may hold no account", "AC03", paying("BANKA", "WATCHDOG", 1)),
    Case("issue by another", "DS0G", lambda c, w: w.issue("BANKA", "BANKA", 1)),
    Case("issue by another without accounts", "DS0G", lambda c, w: w.issue("WATCHDOG", "BANKA", 1)),
    Case("issue nothing", "AM01", lambda c, w: w.issue("CENTRALBANK", "BANKA", 0)),
    Case("issue no known asset", "AM03", lambda c, w: w.issue("CENTRALBANK", "BANKA", 1, "USD")),
    Case("issue to a stranger", "CNOR", lambda c, w: w.issue("CENTRALBANK", STRANGER, 1)),
    Case("issue to a supervisor", "AC03", lambda c, w: w.issue("CENTRALBANK", "WATCHDOG", 1)),
    Case("issue more than an account holds", "AM02", issue_overflow),
    Case("issue more than the ledger counts", "AM13", supply_overflow),
    Case(
        "an unknown asset by one without accounts",
        "AG08",
        lambda c, w: w.issue("WATCHDOG", "BANKA", 1, "USD"),
    ),
    Case("redeem by another", "DS0G", lambda c, w: w.redeem("BANKA", 1)),
    Case("redeem nothing", "AM01", lambda c, w: w.redeem("CENTRALBANK", 0)),
    Case("redeem no known asset", "AM03", lambda c, w: w.redeem("CENTRALBANK", 1, "USD")),
    Case("redeem what the issuer does not hold", "AM04", lambda c, w: w.redeem("CENTRALBANK", 1)),
    Case("redeem beyond any account", "AM02", lambda c, w: w.redeem("CENTRALBANK", 2**63)),
    Case("a key with another's proof of possession", "DS0D", foreign_possession),
    Case("a key of low order", "DS0D", low_order_key),
    Case(
        "one's own key again",
        "DS15",
        lambda c, w: w.register_key("BANKA", w.banks["BANKA"].signers[0]),
    ),
    Case(
        "another's key", "DS15", lambda c, w: w.register_key("BANKA", w.banks["BANKB"].signers[0])
    ),
    Case("a key that was revoked before", "DS15", revoked_then_registered),
    Case("one key more than the ledger keeps", "DS0K", too_many_keys),
    Case(
        "revoking the last key",
        "DS0A",
        lambda c, w: w.revoke_key("BANKA", w.banks["BANKA"].signers[0].public_key),
    ),
    Case(
        "revoking another's key",
        "DS0E",
        lambda c, w: w.revoke_key("BANKA", w.banks["BANKB"].signers[0].public_key),
    ),
    Case("revoking what never was a key", "DS0E", lambda c, w: w.revoke_key("BANKA", bytes(32))),
    Case("revoking twice", "DS0C", revoked_twice),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rejection_names_its_reason_and_leaves_the_state_untouched(case: Case) -> None:
    world = World.make()
    chain = Chain(world)
    chain.fund(1_000_000)
    checked = case.make(chain, world)
    before = chain.state
    accounts, participants, assets = (
        list(before.accounts()),
        [each.record for each in before.participants()],
        before.assets(),
    )

    block = chain.block(checked)

    (outcome,) = block.outcomes
    assert (outcome.status, outcome.reason) == ("RJCT", case.reason)
    assert (outcome.debtor_balance, outcome.creditor_balance) == (None, None)
    assert outcome.original is None
    assert block.applied.state_root == before.map.root
    assert block.applied.records == {}
    assert block.applied.nodes == []
    assert list(chain.state.accounts()) == accounts
    assert [each.record for each in chain.state.participants()] == participants
    assert chain.state.assets() == assets
    assert len(block.applied.ids) == 1, "a rejection executes the id"


def test_every_rejection_between_payments_of_a_batch_leaves_the_others_alone() -> None:
    world = World.make()
    chain = Chain(world)
    chain.fund(100, "BANKA")
    block = chain.block(
        world.pay(
            "BANKA",
            world.payment("BANKA", "BANKB", 60),
            world.payment("BANKA", STRANGER, 1),
            world.payment("BANKA", "BANKC", 0),
            world.payment("BANKA", "BANKB", 1, "USD"),
            world.payment("BANKA", "BANKC", 40),
            world.payment("BANKA", "WATCHDOG", 1),
        )
    )
    assert [(o.reason, o.debtor_balance, o.creditor_balance) for o in block.outcomes] == [
        (None, 40, 60),
        ("CNOR", None, None),
        ("AM01", None, None),
        ("AM03", None, None),
        (None, 0, 40),
        ("AC03", None, None),
    ]
    assert [chain.balance(name) for name in ("BANKA", "BANKB", "BANKC")] == [0, 60, 40]


def test_a_batch_in_several_currencies_settles_each_on_its_own_account() -> None:
    world = World.make()
    chain = Chain(world)
    chain.fund(10, "BANKA")
    chain.fund(20, "BANKA", asset="CNY")
    block = chain.block(
        world.pay(
            "BANKA",
            *(
                world.payment("BANKA", "BANKB", amount, asset)
                for amount, asset in ((4, "EUR"), (5, "CNY"), (1, "XXX"), (6, "EUR"), (15, "CNY"))
            ),
        )
    )
    assert [o.debtor_balance for o in block.outcomes] == [6, 15, None, 0, 0]
    assert (chain.balance("BANKB"), chain.balance("BANKB", "CNY")) == (10, 20)


def test_a_payment_settles_up_to_its_latest_time() -> None:
    world = World.make()
    chain = Chain(world)
    chain.fund(10, "BANKA")
    at = chain.state.time + 5
    block = chain.block(world.pay("BANKA", world.payment("BANKA", "BANKB", 1, latest=at)), time=at)
    assert block.outcomes[0].status == "ACSC"


def test_an_account_exists_from_its_first_credit_on() -> None:
    world = World.make()
    chain = Chain(world)
    assert chain.balance("BANKA") is None
    chain.fund(7, "BANKA")
    chain.block(world.pay("BANKA", world.payment("BANKA", "BANKB", 7)))
    assert (chain.balance("BANKA"), chain.balance("BANKB"), chain.balance("BANKC")) == (0, 7, None)


def test_every_reason_has_a_plain_sentence_and_a_test_that_shows_it() -> None:
    """Each kind of instruction has its own table of refusals, in a file of its own."""
    tests = "".join(file.read_text() for file in sorted(Path(__file__).parent.glob("*.py")))
    names = {code: name for name, code in vars(reasons).items() if isinstance(code, str)}
    for reason in SENTENCES:
        # As a word, in a table of steps (`rejected/AM09`), or by its name.
        shown = rf'"{reason}"|/{reason}\b|\b{names[reason]}\b'
        assert re.search(shown, tests), reason
        text = sentence(reason)
        assert text[0].isupper()
        assert text.endswith(".")
    assert {case.reason for case in CASES} <= set(SENTENCES)
    assert {case.reason for case in CASES} >= WITHOUT_AUTHORITY
    assert sentence("ZZ99") == "Rejected with reason ZZ99."


def test_money_comes_from_its_issuer_and_returns_to_it() -> None:
    world = World.make()
    chain = Chain(world)
    block = chain.block(world.issue("CENTRALBANK", "BANKA", 500))
    assert [(o.debtor_balance, o.creditor_balance) for o in block.outcomes] == [(None, 500)]
    chain.block(world.pay("BANKA", world.payment("BANKA", "CENTRALBANK", 200)))
    block = chain.block(world.redeem("CENTRALBANK", 150))
    assert [(o.debtor_balance, o.creditor_balance) for o in block.outcomes] == [(50, None)]
    asset = chain.state.asset("EUR")
    assert asset is not None
    assert (asset.issued, asset.redeemed) == (500, 150)
