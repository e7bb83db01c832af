"""What the operator's listener shows: one registry a node, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
    10, 30,
)  # fmt: skip


class Metrics:
    """The node's instruments. Times are seconds, as Prometheus has them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.height = Gauge("nostro_height", "Latest final height", registry=r)
        self.epoch = Gauge("nostro_epoch", "Current epoch", registry=r)
        self.view = Gauge("nostro_view", "Current view of the epoch", registry=r)
        self.peers = Gauge("nostro_peers_connected", "Connected validators", registry=r)
        self.mempool = Gauge("nostro_mempool_instructions", "Waiting instructions", registry=r)
        self.mempool_bytes = Gauge("nostro_mempool_bytes", "Bytes of waiting ones", registry=r)
        self.passed_over = Counter(
            "nostro_instructions_passed_over",
            "Instructions that waited over 10 views",
            registry=r,
        )
        self.views = Counter(
            "nostro_views", "Views left, by what ended them", ["cause"], registry=r
        )
        self.nullified = Counter(
            "nostro_nullified_views",
            "Views given up, by the validator that led them",
            ["leader"],
            registry=r,
        )
        self.notarization = Histogram(
            "nostro_notarization_seconds",
            "From entering a view to its notarization, idle waiting included",
            buckets=_SECONDS,
            registry=r,
        )
        self.finalization = Histogram(
            "nostro_finalization_seconds",
            "From entering a view to its finality, idle waiting included",
            buckets=_SECONDS,
            registry=r,
        )
        self.missing = Gauge(
            "nostro_vote_missing",
            "1 for a validator whose vote the last finalization does not hold; a quorum is enough, "
            "so only one that stays missing is in trouble",
            ["validator"],
            registry=r,
        )
        self.since_final = Gauge(
            "nostro_since_finalization_seconds",
            "Since this node last stored a final block, or since its start",
            registry=r,
        )
        self.payments = Counter(
            "nostro_outcomes", "Final outcomes by ISO 20022 status", ["status"], registry=r
        )
        self.blocks = Counter("nostro_blocks", "Final blocks", registry=r)
        self.finality = Histogram(
            "nostro_finality_seconds",
            "From acceptance by this node to finality",
            buckets=_SECONDS,
            registry=r,
        )
        self.fsync = Histogram(
            "nostro_fsync_seconds",
            "Durable writes",
            ["kind"],
            buckets=_SECONDS,
            registry=r,
        )
        self.execution = Histogram(
            "nostro_execution_seconds", "Execution of one block", buckets=_SECONDS, registry=r
        )
        self.refused = Counter(
            "nostro_refused_messages", "Refused peer messages by reason", ["reason"], registry=r
        )
        self.refused_links = Counter(
            "nostro_refused_links",
            "Connections and links refused or dropped, by reason",
            ["reason"],
            registry=r,
        )
        self.days_ahead = Gauge(
            "nostro_business_days_ahead",
            "Business days published after the one that runs; -1 without a schedule",
            registry=r,
        )
        self.day_waits = Gauge(
            "nostro_day_waits", "1 while the operating day waits for the operator", registry=r
        )
        self.sync_height = Gauge(
            "nostro_sync_height", "Height of a node that follows others: what it holds", registry=r
        )
        self.sync_target = Gauge(
            "nostro_sync_target", "Highest height that one of its sources has shown", registry=r
        )
        self.sync_bytes = Gauge(
            "nostro_sync_bytes", "Received from a source since the start", ["source"], registry=r
        )
        self.sync_source = Gauge(
            "nostro_sync_source", "1 for the source that is followed", ["source"], registry=r
        )
        self.alarms = Counter("nostro_alarms", "Reasons to stop signing", registry=r)
        self.equivocations = Counter("nostro_equivocations", "Double votes seen", registry=r)

    def text(self) -> str:
        """The exposition."""
        return generate_latest(self.registry).decode()
