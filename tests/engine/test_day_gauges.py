"""What an operator's alarms hang on: how many business days are left, and whether the day waits."""

from __future__ import annotations

from node.chain.types import Phase
from node.engine.day_views import day_waits, days_ahead
from tests.support.cluster import Cluster
from tests.support.days import day, days, opening, publish, settling_world
from tests.support.ledger_world import Chain, World


def test_business_days_ahead_count_down_to_the_last() -> None:
    chain = Chain(settling_world())
    assert days_ahead(chain.state) == -1
    publish(chain, days(2))
    assert days_ahead(chain.state) == 2
    for left, number in ((1, 0), (0, 1)):
        for phase in Phase:
            chain.block(time=day(number).begins[phase])
            assert days_ahead(chain.state) == left
            assert not day_waits(chain.state)


def test_a_day_that_waits_is_told() -> None:
    chain = Chain(settling_world())
    publish(chain, days(2))
    chain.block(time=opening(1))
    assert day_waits(chain.state)


async def test_the_metrics_of_a_node_have_both() -> None:
    async with Cluster(World.make()) as cluster:
        text = cluster.members[0].service.metrics()
        assert "nostro_business_days_ahead -1.0" in text
        assert "nostro_day_waits 0.0" in text
