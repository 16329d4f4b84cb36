"""Connect to a broker as one user, to see whether it lets that user in."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr
from roost.chassis.client import make_client
from roost.chassis.settings import BrokerSettings
from roost.cli.errors import NoBroker

__all__ = ["log_in"]

_WITHIN_S = 10.0
_PAUSE_S = 0.1


def log_in(settings: Mapping[str, str], *, clear: Sequence[str] = ()) -> None:
    """Connect and go again; a broker may take a moment to know a new user.

    The client id is the user name, and no session survives.

    Args:
        settings: ROOST_BROKER, ROOST_USERNAME and so on.
        clear: Retained topics of this user's to clear meanwhile, without the prefix.

    Raises:
        NoBroker: the broker cannot be reached, or does not let the user in.
    """
    broker = BrokerSettings(
        broker=settings["ROOST_BROKER"],
        username=settings["ROOST_USERNAME"],
        password=SecretStr(settings["ROOST_PASSWORD"]),
        ca_file=Path(settings["ROOST_CA_FILE"]) if "ROOST_CA_FILE" in settings else None,
        topic_prefix=settings.get("ROOST_TOPIC_PREFIX", ""),
    )
    topics = [broker.topic_prefix + topic for topic in clear]
    deadline = time.monotonic() + _WITHIN_S
    while (problem := _attempt(broker, topics)) is not None:
        if time.monotonic() > deadline:
            raise NoBroker(
                f"{broker.broker} does not let {broker.username} in: {problem}. "
                "Does the broker run, and did it read its users again?"
            )
        time.sleep(_PAUSE_S)


def _attempt(broker: BrokerSettings, clear: Sequence[str]) -> str | None:
    """Return what is wrong with one attempt; None: nothing."""
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    acks: queue.SimpleQueue[int] = queue.SimpleQueue()
    name = broker.username or ""
    client = make_client(broker, name, username=name, reconnects=False)

    def on_connect(_c: object, _u: object, _f: object, reason: object, _p: object) -> None:
        answers.put(str(reason) if getattr(reason, "is_failure", True) else None)

    client.on_connect = on_connect
    client.on_publish = lambda _c, _u, mid, _r, _p: acks.put(mid)
    try:
        client.connect(broker.host, broker.port, clean_start=True)
    except OSError as problem:
        return str(problem)
    client.loop_start()
    try:
        if (refused := answers.get(timeout=_WITHIN_S)) is not None:
            return refused
        for topic in clear:
            client.publish(topic, b"", qos=1, retain=True)
            acks.get(timeout=_WITHIN_S)
    except queue.Empty:
        return "no answer"
    else:
        return None
    finally:
        client.disconnect()
        client.loop_stop()
