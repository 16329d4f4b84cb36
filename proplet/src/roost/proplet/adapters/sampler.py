"""Beside the core: telemetry every few seconds, new data mounts, and a goodbye."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from roost.chassis.effects import Publish
from roost.chassis.errors import ChassisError
from roost.chassis.logs import get_logger
from roost.chassis.ports import SessionPort
from roost.chassis.service import Background
from roost.chassis.transfer import send_all
from roost.proplet.adapters.device import telemetry
from roost.proplet.core.events import MountsFound
from roost.protocol.task import topics

GOODBYE_S = 2.0
_KEPT_PERIODS = 12


class Sampler(Background):
    """Publishes telemetry, tells the core of its mounts, and says offline at the end."""

    def __init__(
        self,
        session: SessionPort,
        proplet_id: str,
        goodbye: Publish,
        period_s: float,
        running: Callable[[], int],
        mounts: Callable[[], Mapping[str, Path]],
        clock: Callable[[], float],
        post: Callable[[Any], None],
    ) -> None:
        """Put the parts together.

        Args:
            session: The connection.
            proplet_id: Whose telemetry.
            goodbye: The presence that says offline.
            period_s: Seconds between samples.
            running: How many tasks run now.
            mounts: Finds the data mounts.
            clock: Seconds, as in the events.
            post: Hands an event to the core.
        """
        self._session, self._goodbye = session, goodbye
        self._topic = topics.TELEMETRY.format(proplet_id=proplet_id)
        self._period_s, self._running, self._mounts = period_s, running, mounts
        self._clock, self._post = clock, post
        self._known: tuple[str, ...] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin: the core has to know the mounts before the first presence."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """End, and say offline: a clean goodbye sends no last will."""
        self._ended.set()
        if self._session.connected:
            try:
                send_all(self._session, [self._goodbye], GOODBYE_S)
            except ChassisError as error:
                get_logger().info("goodbye.unsaid", why=str(error))

    def look(self) -> None:
        """Tell the core of the mounts if they changed."""
        found = tuple(self._mounts())
        if found != self._known:
            self._known = found
            self._post(MountsFound(self._clock(), found))

    def sample(self) -> None:
        """Publish one sample, if the broker is there."""
        if self._session.connected:
            payload = telemetry(self._running()).encode()
            expiry_s = self._period_s * _KEPT_PERIODS
            self._session.publish(
                Publish(self._topic, payload, retain=True, expiry_s=expiry_s, durable=False)
            )

    def _loop(self) -> None:
        while not self._ended.wait(self._period_s):
            self.look()
            self.sample()
