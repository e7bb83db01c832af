"""What makes a node's place in the network whole: links, sources, and what it gives to others.

The node's assembly (`node`) calls these; they hold no rules of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.certificate import BadCertificate, check
from consensus.interface import BlockInfo, Verify
from consensus.messages import Certificate
from node.engine.feed import FeedLinks
from node.engine.membership import Membership
from node.engine.metrics import Metrics
from node.engine.sources import Sources
from node.network.links import OnLink, OnMessage
from node.storage.chain_store import ChainStore
from node.storage.config import Join


def make_feed(
    join: Join,
    *,
    store: ChainStore,
    membership: Membership,
    verify: Verify,
    chain_id: bytes,
    on_message: OnMessage,
    on_link: OnLink,
    metrics: Metrics,
) -> FeedLinks | None:
    """The feed of a node that has sources configured; None for one that has none."""
    if not join.urls:
        return None

    def tip() -> BlockInfo:
        floor = store.floor()
        assert floor is not None, "the genesis block is stored before anything starts"
        return floor.info

    return FeedLinks(
        sources=Sources(join.urls),
        chain_id=chain_id,
        tip=tip,
        check=_by_present_epoch(membership, verify),
        observes=lambda: membership.index is None,
        on_message=on_message,
        on_link=on_link,
        metrics=metrics,
    )


def _by_present_epoch(membership: Membership, verify: Verify) -> Callable[[Certificate], None]:
    def check_finalization(certificate: Certificate) -> None:
        validators = membership.validators
        if certificate.epoch != validators.epoch:
            raise BadCertificate("of another epoch")
        check(certificate, [v.vote_key for v in validators.validators], verify)

    return check_finalization
