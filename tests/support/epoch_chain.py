"""The sample chain's next epochs: validators come, go and change their keys by instruction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from node.chain.build import build, build_pay, build_ready
from node.chain.genesis import Genesis
from node.chain.signature import ROLE_NODE, ROLE_VOTE, prove_possession
from node.chain.types import (
    AddValidator,
    Header,
    Propose,
    RemoveValidator,
    Validator,
    ValidatorChange,
)
from tests.support import world
from tests.support.epoch_links import vote_signer
from tests.support.small_chain import VALID_UNTIL, SmallChain, issue
from tests.support.world import BANKA, BANKB, CENTRALBANK


def add_member(genesis: Genesis, index: int, epoch: int) -> AddValidator:
    """The change by which node `index` becomes a member in this epoch."""
    operator = world.BANKS[index % len(world.BANKS)].lei
    vote, node = world.signer(f"first vote {index} @ {epoch}"), world.node_signer(index)
    chain_id = genesis.chain_id
    return AddValidator(
        Validator(f"node{index}", operator, vote.public_key, node.public_key),
        prove_possession(vote, ROLE_VOTE, operator, chain_id),
        prove_possession(node, ROLE_NODE, operator, chain_id),
    )


def end_epoch(
    chain: SmallChain,
    *,
    changes: Sequence[ValidatorChange] = (),
    carriers: int = 0,
    others: Sequence[bytes] = (),
    signers: Sequence[int] | None = None,
) -> Header:
    """Two blocks: a proposal that is approved at once, and one in which all members of the next
    epoch are ready, which seals this one. `others`: instructions that stand in it too; `signers`:
    who certifies both."""
    chain_id, epoch = chain.genesis.chain_id, chain.epoch() + 1
    expires = chain.state.time + 3_600_000
    chain.add(
        build(
            chain_id,
            CENTRALBANK.lei,
            f"EPOCH-{epoch}",
            VALID_UNTIL,
            Propose(tuple(changes), expires),
            [CENTRALBANK.key],
        ),
        signers=signers,
    )
    pending = chain.state.pending_epoch
    assert pending is not None
    ready = []
    for member in pending.members:
        index = int(member.name.removeprefix("node"))
        vote = vote_signer(index, epoch)
        chain.know(vote)
        ready.append(
            build_ready(
                chain_id,
                member.operator,
                f"READY-{epoch}-{index}",
                VALID_UNTIL,
                name=member.name,
                epoch=epoch,
                vote_key=vote.public_key,
                possession=prove_possession(vote, ROLE_VOTE, member.operator, chain_id),
                node=world.node_signer(index),
            )
        )
    sealed = chain.add(*others, *ready, carriers=carriers, signers=signers)
    assert chain.epoch() == epoch
    return sealed


def paid(chain: SmallChain, number: int) -> bytes:
    """BANKA's payment whose UETR belongs to this number."""
    return build_pay(
        chain.genesis.chain_id,
        BANKA.lei,
        f"PAY-{number}",
        VALID_UNTIL,
        payments=[world.payment(number, creditor=BANKB)],
        signers=[BANKA.key],
    )


@cache
def sample_of_epochs() -> SmallChain:
    """Four epochs. Shared: copy it before damaging it.

    Epoch 0 is that of the genesis file, ends by its own certificate and has payment 1 in a block
    without one. Node 4 joins in epoch 1, which ends through two carriers, payments 2 and 3 in its
    last two blocks. Node 0 has left in epoch 2, which ends through a carrier. Epoch 3 goes on.
    """
    chain = SmallChain()
    chain.add(issue(chain, 1000))
    chain.add(paid(chain, 1), final=False)
    end_epoch(chain, changes=[add_member(chain.genesis, 4, 1)])
    chain.add(paid(chain, 2), final=False, skip_views=1)
    end_epoch(chain, changes=[RemoveValidator("node0")], carriers=2, others=[paid(chain, 3)])
    chain.add(paid(chain, 4), final=False)
    end_epoch(chain, carriers=1)
    chain.add(paid(chain, 5), final=False)
    chain.add(paid(chain, 6))
    return chain
