"""What makes a node's place in the network whole: links, sources, and what it gives to others.

The node's assembly (`node`) calls these; they hold no rules of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

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

CUT_OFF_SECONDS = 10.0
"""Without any link for so long a member asks its sources, too."""


class Place(Protocol):
    """Where this node stands: see `node.engine.membership`."""

    @property
    def index(self) -> int | None:
        """In the current validator set; None for an observer."""


class Apart:
    """Whether a node has nobody to hear the chain from but its sources.

    An observer never has. A member may not, either: one that was removed while it was down still
    takes itself for one, and all the others turn it away. From its sources it learns of the end
    of its epoch.
    """

    def __init__(self, place: Place, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._place = place
        self._clock = clock
        self._links = 0
        self._since = clock()

    def link(self, up: bool) -> None:
        """A link to a validator came up or went down."""
        self._links += 1 if up else -1
        if not self._links:
            self._since = self._clock()

    def __call__(self) -> bool:
        if self._place.index is None:
            return True
        return not self._links and self._clock() - self._since >= CUT_OFF_SECONDS


def make_feed(
    join: Join,
    *,
    store: ChainStore,
    membership: Membership,
    verify: Verify,
    chain_id: bytes,
    on_message: OnMessage,
    on_link: OnLink,
    apart: Apart,
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
        observes=apart,
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
