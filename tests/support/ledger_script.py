"""A fixed history that uses every rule of the ledger; prints the digest of each block.

Run as a module it prints one JSON list, for tests that compare processes.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from consensus.messages import Kind
from node.chain import types as t
from node.chain.instruction import CheckedInstruction
from tests.support.council import READINESS_MS, Council, content
from tests.support.ledger_world import DAY_MS, HOUR_MS, Chain, World, signer, uetr
from tests.support.settlement_machine import Tally
from tests.support.settlement_machine import play as run


def play() -> list[str]:
    """The header digests of the script's blocks, in hex."""
    world = World.make(seed=2, keys={"BANKB": (3, 2)})
    chain = Chain(world)
    chain.fund(100_000)
    chain.fund(5_000, "BANKA", "BANKC", asset="CNY")
    done = world.payment("BANKA", "BANKB", 10, uetr=uetr(1))
    chain.block(
        world.pay("BANKA", done, *(world.payment("BANKA", "BANKC", n) for n in range(40))),
        world.pay(
            "BANKC",
            world.payment("BANKC", "BANKA", 4_000, "CNY"),
            world.payment("BANKC", "BANKB", 4_000, "CNY"),
            all_or_none=True,
        ),
        world.register_key("BANKA", signer("script", "spare")),
        world.issue("BANKA", "BANKA", 1),
    )
    chain.block()
    chain.block(
        world.pay("BANKA", done, signers=[signer("script", "spare")]),
        world.pay("BANKB", world.payment("BANKB", "CENTRALBANK", 777, uetr=uetr(1))),
        world.pay("BANKB", world.payment("BANKB", "CENTRALBANK", 777)),
        world.redeem("CENTRALBANK", 700),
        world.revoke_key("BANKA", world.banks["BANKA"].signers[0].public_key),
    )
    chain.block(world.pay("WATCHDOG", world.payment("WATCHDOG", "BANKA", 1)))
    return [block.digest.hex() for block in chain.blocks]


def govern() -> list[str]:
    """The same of a history that uses every rule of governance."""
    council = Council.make(seed=3)
    joining = council.member("node4", address="node4.example:4100")
    late = council.propose(council.remove("node0"), sender="BANKA")
    council.block(council.propose(sender="WATCHDOG"), late)
    council.pend(council.add(joining), council.remove("node3"))
    council.block(council.ready(council.founder(0)), council.ready(council.founder(3)))
    council.pend(council.rekey(council.member("node1", operator="BANKB", keys="second")))
    council.advance(council.founder(2), joining)
    council.block(time=council.chain.state.time + READINESS_MS)
    votes = (
        council.vote(council.world.votes[3], 3, Kind.FINALIZE, content(number)) for number in (1, 2)
    )
    council.block(council.report(*votes), council.approve(late.digest, "BANKB"))
    council.pend()
    assert council.chain.state.validator_set.epoch == 1
    return [block.digest.hex() for block in council.chain.blocks]


def settle() -> list[str]:
    """The same of a history with queues, limits, credit, cycles, links, reservations, returns,
    restrictions, a business day and a new version of the rules."""
    world = World.make(
        seed=4,
        banks=SETTLERS,
        assets=(("EUR", 2), ("CNY", 2), (ISIN, 0)),
        issuers={ISIN: "DEPOT"},
    )
    script = _Script(Chain(world))
    script.chain.fund(100)
    script.chain.fund(50, "BANKB", asset="CNY")
    for step in (_queue, _promise, _net, _borrow, _claim, _restrict, _run_a_day):
        step(script)
    return [block.digest.hex() for block in script.chain.blocks]


SETTLERS = {
    "CENTRALBANK": ("issuer", "operator", "validator"),
    "BANKA": ("direct-participant",),
    "BANKB": ("direct-participant",),
    "BANKC": ("direct-participant", "payment-institution"),
    "DEPOT": ("depository",),
    "WATCHDOG": ("supervisor",),
}
ISIN = "DE0001102309"
PREIMAGE = bytes(range(32))


class _Script:
    """A chain, and orders that stay valid however much time passes on it."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.world = chain.world

    def order(self, sender: str, body: t.InstructionBody) -> CheckedInstruction:
        return self.world.order(sender, body, valid_until=self.at(DAY_MS))

    def pay(self, *payments: t.Payment) -> CheckedInstruction:
        """By the debtor of the first."""
        names = {bank.lei: name for name, bank in self.world.banks.items()}
        return self.world.pay(names[payments[0].debtor], *payments, valid_until=self.at(DAY_MS))

    def payment(self, debtor: str, creditor: str, amount: int, **fields: Any) -> t.Payment:
        return replace(self.world.payment(debtor, creditor, amount), **fields)

    def govern(self, *changes: t.Change) -> CheckedInstruction:
        return self.order("CENTRALBANK", t.Propose(changes, self.at(DAY_MS)))

    def at(self, ahead: int) -> int:
        return self.chain.state.time + ahead


def _queue(s: _Script) -> None:
    """A gridlock of three, then everything that a debtor orders about what waits."""
    a, b = s.world.lei("BANKA"), s.world.lei("BANKB")
    round_trip = (("BANKA", "BANKB"), ("BANKB", "BANKC"), ("BANKC", "BANKA"))
    s.chain.block(*(s.pay(s.payment(*pair, 150)) for pair in round_trip))
    s.chain.block(s.order("BANKA", t.SetLimit(a, "EUR", b, 10)))
    limited = s.payment("BANKA", "BANKB", 20)
    early = s.payment("BANKA", "BANKC", 5, earliest=s.at(5_000), latest=s.at(HOUR_MS))
    late = s.payment("BANKB", "BANKC", 500, latest=s.at(3_000), priority=t.Priority.URGENT)
    s.chain.block(s.pay(limited, early), s.pay(late))
    s.chain.block(s.order("BANKA", t.Hold(limited.uetr)))
    s.chain.block(
        s.order("BANKA", t.Release(limited.uetr)),
        s.order("BANKA", t.Reprioritise(limited.uetr, t.Priority.HIGH)),
    )
    s.chain.block(time=s.at(10_000))
    s.chain.block(s.order("CENTRALBANK", t.SetLimit(a, "EUR", b, None)))


def _promise(s: _Script) -> None:
    """Money against money in one step; an amount set aside, posted in part; one for a secret."""
    c = s.world.lei("BANKC")
    legs = (
        s.payment("BANKA", "BANKB", 30),
        replace(s.payment("BANKB", "BANKA", 40), asset="CNY"),
    )
    link = t.Link(legs, s.at(HOUR_MS))
    s.chain.block(s.order("BANKB", link), s.order("BANKA", link))
    one, two = s.payment("BANKA", "BANKB", 20), s.payment("BANKB", "BANKC", 7)
    lock = sha256(PREIMAGE).digest()
    s.chain.block(
        s.order("BANKA", t.Reserve(one, c, None, s.at(HOUR_MS))),
        s.order("BANKB", t.Reserve(two, None, lock, s.at(HOUR_MS))),
    )
    s.chain.block(
        s.order("BANKC", t.Post(one.uetr, 15, None)),
        s.order("BANKC", t.Post(two.uetr, None, PREIMAGE)),
    )


def _net(s: _Script) -> None:
    """A cycle that closes by order."""
    members = (t.SetMember(s.world.lei(name), "EUR", 80, 0, 0) for name in ("BANKA", "BANKB"))
    s.chain.block(s.govern(t.SetNetting("EUR", True, 60_000), *members))
    net = {"mode": t.Mode.NET}
    s.chain.block(
        s.pay(s.payment("BANKA", "BANKB", 60, **net), s.payment("BANKA", "BANKB", 60, **net)),
        s.pay(s.payment("BANKB", "BANKA", 25, **net)),
    )
    s.chain.block(s.order("CENTRALBANK", t.OrderCycle("EUR", 1, t.CycleAction.CLOSE, None)))
    s.chain.block(time=s.at(120_000))


def _borrow(s: _Script) -> None:
    """Credit against a bond, drawn; its price falls."""
    s.chain.block(s.world.issue("DEPOT", "BANKA", 100, ISIN, valid_until=s.at(DAY_MS)))
    s.chain.block(
        s.order("CENTRALBANK", t.PostPrice(ISIN, "EUR", 3, 1, 1_000)),
        s.order("BANKA", t.Pledge(ISIN, "EUR", 90)),
    )
    s.chain.block(s.pay(s.payment("BANKA", "BANKC", 200)))
    s.chain.block(s.order("CENTRALBANK", t.PostPrice(ISIN, "EUR", 1, 1, 1_000)))


def _claim(s: _Script) -> None:
    """A payment recalled, given back in part, disputed, acknowledged."""
    payment = s.payment("BANKC", "BANKB", 30)
    s.chain.block(s.pay(payment))
    s.chain.block(s.order("BANKC", t.Recall(payment, "DUPL")))
    back = s.payment("BANKB", "BANKC", 10)
    s.chain.block(
        s.order("BANKB", t.Return(back, payment, "DUPL")),
        s.order("BANKC", t.OpenDispute(payment, "FRAD")),
        s.order("BANKB", t.Acknowledge(payment, bytes(32), bytes(32))),
    )


def _restrict(s: _Script) -> None:
    """A participant suspended with payments on both sides, another frozen; all freed."""
    b, c = s.world.lei("BANKB"), s.world.lei("BANKC")
    s.chain.block(s.pay(s.payment("BANKB", "BANKA", 900)), s.pay(s.payment("BANKC", "BANKB", 950)))
    s.chain.block(s.govern(t.SuspendParticipant(b)))
    s.chain.block(s.order("WATCHDOG", t.Freeze(c, True, True, "LEGL")))
    s.chain.block(s.govern(t.LiftSuspension(b)))
    s.chain.block(s.order("WATCHDOG", t.Freeze(c, False, False, "LEGL")))


def _run_a_day(s: _Script) -> None:
    """A day with what still waits expiring at its close; new rules begin in it."""
    begins = tuple(s.at(60_000 + n * HOUR_MS) for n in range(5))
    s.chain.block(
        s.govern(
            t.PublishSchedule((t.BusinessDay(20300102, begins, ()),)),
            t.ActivateRules(2, s.chain.state.height + 3),
        )
    )
    for begin in begins:
        s.chain.block(time=begin)


def mix() -> list[str]:
    """Digests of what the settlement machine does with all kinds of instructions at once."""
    found = []
    for seed in MIXED_SEEDS:
        chain = run(seed, Tally()).driver.chain
        found += [block.digest.hex() for block in chain.blocks]
    return found


MIXED_SEEDS = range(6)

if __name__ == "__main__":
    print(json.dumps([play(), govern(), settle(), mix()]))
