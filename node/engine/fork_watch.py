"""Noticing a fork from the side that is ahead.

The core never looks at a finalization at or below its floor: there it has decided. With more than f
faulty validators a quorum may have decided otherwise, and a node that is further than the other
branch would go on as if nothing were. So every late finalization is compared with what the
database holds at its place; one that is valid and names another block is a fork. Nothing that this
node signs can then be relied on, and it says so.

One look-up for each late finalization; signatures are verified only if it names an unknown block.
"""

from __future__ import annotations

from consensus.certificate import BadCertificate, check
from consensus.messages import Certificate, Kind
from node.chain.signature import verify
from node.ledger.state import State
from node.storage.chain_store import ChainStore


def contradiction(certificate: Certificate, store: ChainStore, state: State) -> str | None:
    """What is wrong with the network, if this certificate proves that it has forked from what the
    database holds as final; None if it proves nothing of the kind.

    `state`: the final one."""
    floor = store.floor()
    content = certificate.content
    if certificate.kind is not Kind.FINALIZE or content is None or floor is None:
        return None
    if certificate.epoch != floor.info.epoch or certificate.view > floor.info.view:
        return None
    if floor.info.seals or store.height_of(content.block) is not None:
        return None
    if store.header(1) is None:
        # It began with a snapshot: a block that it does not know may lie below that.
        return None
    validators = state.validator_set
    if validators.epoch != certificate.epoch:
        return None

    def verify_here(key: bytes, domain: str, payload: bytes, signature: bytes) -> bool:
        return verify(key, domain, state.chain_id, payload, signature)

    try:
        check(certificate, [each.vote_key for each in validators.validators], verify_here)
    except BadCertificate:
        return None
    return (
        f"a quorum finalized block {content.block.hex()} in view {certificate.view} of epoch "
        f"{certificate.epoch}, which is not on the chain that this node holds as final: the "
        "network has forked, more than f validators are faulty (nostro audit fork names them)"
    )
