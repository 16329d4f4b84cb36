"""Prometheus metrics of one service process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The metrics that every service has, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "roost_events", "Noted events", ("event", "reason"), registry=self.registry
        )
        self.messages = Counter(
            "roost_messages", "Messages received", ("outcome",), registry=self.registry
        )
        self.connected = Gauge(
            "roost_broker_connected", "1 while connected to the broker", registry=self.registry
        )
        self.queue = Gauge(
            "roost_events_waiting", "Events that wait for their turn", registry=self.registry
        )
        self.outbox = Gauge(
            "roost_outbox_entries", "Effects committed and not done yet", registry=self.registry
        )
        self.commits = Histogram(
            "roost_commit_seconds", "Time of one commit", registry=self.registry
        )
