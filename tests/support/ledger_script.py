"""A fixed history that uses every rule of the ledger; prints the digest of each block.

Run as a module it prints one JSON list, for tests that compare processes.
"""

from __future__ import annotations

import json

from consensus.messages import Kind
from tests.support.council import READINESS_MS, Council, content
from tests.support.ledger_world import Chain, World, signer, uetr


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


if __name__ == "__main__":
    print(json.dumps([play(), govern()]))
