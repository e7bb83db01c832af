"""A sample chain in a real `ChainStore`, committed as a node commits it."""

from __future__ import annotations

from consensus.interface import Floor
from consensus.messages import Certificate, Kind
from node.chain.block import inspect_block
from node.engine.executor import block_info
from node.storage.chain_store import ChainStore, CommittedBlock
from node.storage.kv import KeyValue
from tests.support.small_chain import SmallChain


def stored(chain: SmallChain, kv: KeyValue) -> ChainStore:
    """The store with every block of the chain that it does not have yet."""
    store = ChainStore(kv)
    first = 0 if store.height() is None else (store.height() or 0) + 1
    pending: list[CommittedBlock] = []
    passed = sorted(chain.passed.items())
    for height in range(first, len(chain.blocks)):
        header = inspect_block(chain.blocks[height]).header
        applied, info = chain.applied[height], block_info(header)
        certificate = chain.finalizations.get(height)
        pending.append(
            CommittedBlock(
                info,
                chain.blocks[height],
                applied.outcomes,
                applied.records,
                applied.nodes,
                applied.history_nodes,
                applied.ids,
                applied.uetrs,
                applied.changes,
                applied.following,
                [(uetr, index) for uetr, at, index in chain.spoken if at == height],
                applied.joined,
                applied.closed,
            )
        )
        if height and certificate is None:
            continue
        seal = chain.seals.get(header.epoch) if info.seals else None
        carriers = () if seal is None else seal.carriers
        last = header if not carriers else inspect_block(carriers[-1]).header
        views = _up_to(passed, last.epoch, last.view)
        store.commit(pending, Floor(info, certificate, carriers), views)
        pending = []
    assert not pending, "the last block has a certificate"
    for evidence in chain.witnessed:
        store.keep_evidence(evidence)
    return store


def _up_to(
    passed: list[tuple[tuple[int, int, Kind], Certificate]], epoch: int, view: int
) -> list[Certificate]:
    """Takes from the list what is of views up to this one."""
    taken = [each for (of, at, _), each in passed if (of, at) <= (epoch, view)]
    del passed[: len(taken)]
    return taken
