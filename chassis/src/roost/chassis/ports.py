"""What the runner and the transfers need of a connection; real: session, fake: testing."""

from collections.abc import Callable, Sequence
from typing import Protocol

from roost.chassis.effects import Publish
from roost.chassis.session import Done, Handler, Token


class SessionPort(Protocol):
    """An MQTT connection that comes back by itself."""

    on_connected: Callable[[int], None]
    on_disconnected: Callable[[], None]
    on_fatal: Callable[[str], None]

    def start(self) -> None:
        """Open the connection, and keep it open until ``stop``."""

    def stop(self) -> None:
        """Close it."""

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the present connection."""

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected; False when the time ended first."""

    def subscribe(
        self,
        topic_filters: str | Sequence[str],
        handler: Handler,
        *,
        retained: bool = True,
        as_published: bool = False,
    ) -> None:
        """Subscribe now and after every reconnect."""

    def unsubscribe(self, topic_filters: str | Sequence[str]) -> None:
        """End subscriptions."""

    def publish(self, message: Publish, done: Done | None = None) -> None:
        """Publish with QoS 1; ``done`` hears the broker's answer."""

    def ack(self, token: Token) -> None:
        """Acknowledge a message."""
