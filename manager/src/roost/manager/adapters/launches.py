"""Subscriptions to the topics of launch rules, which change while the manager runs."""

from collections.abc import Callable, Iterable, Sequence

from roost.chassis.ports import SessionPort


class LaunchSubscriptions:
    """Makes the connection's subscriptions follow the launch rules in force."""

    def __init__(
        self,
        session: SessionPort,
        take_orders: Callable[[Sequence[str]], None],
        topics: Iterable[str] = (),
    ) -> None:
        """Begin with the filters that are subscribed to already.

        Args:
            session: The connection.
            take_orders: Subscribes to filters whose messages are orders to the core.
            topics: Filters that it need not subscribe to any more.
        """
        self._session, self._take_orders = session, take_orders
        self._topics = set(topics)

    def apply(self, topics: Iterable[str], gone: Iterable[str] = ()) -> None:
        """Subscribe to these filters, and no longer to those that are gone."""
        wanted = set(topics)
        unwanted = sorted((self._topics | set(gone)) - wanted)
        if unwanted:
            self._session.unsubscribe(unwanted)
        new = sorted(wanted - self._topics)
        if new:
            self._take_orders(new)
        self._topics = wanted
