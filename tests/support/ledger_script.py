"""A fixed history that uses every rule of the ledger; prints the digest of each block.

Run as a module it prints one JSON list, for tests that compare processes.
"""

from __future__ import annotations

import json

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


if __name__ == "__main__":
    print(json.dumps(play()))
