"""Runs one service until an order to kill is fulfilled: ``failpoint.py roost.manager FOLDER NAME``.

The service is the product's own, unchanged; its methods are wrapped from outside before it begins.
Without an order in ``FOLDER/NAME.order`` nothing happens. An order names an instant, what must
be there at it, and how often: then what was in flight is written to ``FOLDER/NAME.fired``, the
order is taken away, and this process, or another one whose pid is in ``FOLDER/{its name}.pid``,
gets SIGKILL. So the next life of the process runs unharmed until it gets an order of its own.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
SELF: Final = "self"


@dataclass(frozen=True, slots=True)
class Order:
    """When to kill whom.

    Attributes:
        instant: Where in the code.
        kind: What must be there: ``took`` or ``publish`` a topic, ``effect`` or ``file`` a name.
        name: Its topic filter or name.
        contains: Bytes of its payload, as text.
        nth: At which time.
        victim: ``self``, or the name of another process.
    """

    instant: str
    kind: str = ""
    name: str = ""
    contains: str = ""
    nth: int = 1
    victim: str = SELF


@dataclass(frozen=True, slots=True)
class Thing:
    """What is there at an instant: a message that came, one that goes, an effect, a file."""

    kind: str
    name: str
    payload: bytes = b""

    def suits(self, order: Order) -> bool:
        """Tell whether this is what an order waits for."""
        from roost.wire.topic import matches  # noqa: PLC0415 - the service chooses what is imported

        if order.kind and self.kind != order.kind:
            return False
        if order.contains.encode() not in self.payload:
            return False
        return not order.name or order.name == self.name or matches(order.name, self.name)


class Failpoints:
    """Looks for an order at each instant, and fulfils it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Use the orders of one service."""
        self._folder, self._name = folder, name
        self._order = folder / f"{name}.order"
        self._lock = threading.Lock()
        self._counted: tuple[int, int] = (0, 0)

    def reach(self, instant: str, things: Iterable[Thing], **in_flight: Any) -> None:
        """Fulfil the order if this is its instant.

        Args:
            instant: Where in the code.
            things: What is there.
            in_flight: What is lost with the process, for the test to look at.
        """
        if not self._order.exists():
            return
        with self._lock:
            try:
                order = Order(**json.loads(self._order.read_text()))
                number = self._order.stat().st_ino
            except FileNotFoundError:
                return
            found = [thing for thing in things if thing.suits(order)]
            if order.instant != instant or not found:
                return
            known, count = self._counted
            self._counted = (number, count + 1 if known == number else 1)
            if self._counted[1] == order.nth:
                self._fulfil(order, found[0], in_flight)

    def _fulfil(self, order: Order, found: Thing, in_flight: dict[str, Any]) -> None:
        pid = os.getpid()
        if order.victim != SELF:
            pid = int((self._folder / f"{order.victim}.pid").read_text())
        said = {
            "name": self._name,
            "order": asdict(order),
            "at": f"{found.kind} {found.name}",
            "pid": pid,
        }
        part = self._folder / f"{self._name}.part"
        part.write_text(json.dumps({**said, "in_flight": in_flight}))
        self._order.unlink()
        part.replace(self._folder / f"{self._name}.fired")
        os.kill(pid, signal.SIGKILL)


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a method by ``around(original, self, …)``."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(original, self, *args, **kwargs)

    setattr(owner, name, wrapped)


def thing_of(effect: Any) -> Thing:
    """Return what an effect is to an order."""
    from roost.chassis.effects import Publish  # noqa: PLC0415 - as above

    if isinstance(effect, Publish):
        return Thing("publish", effect.topic, effect.payload)
    return Thing("effect", type(effect).__name__)


def watch_runner(points: Failpoints) -> None:
    """Instants of a turn."""
    from roost.chassis.runner import Runner  # noqa: PLC0415 - as above
    from roost.chassis.turn import Happened, Message  # noqa: PLC0415 - as above

    taken: list[Thing] = []  # of the present turn; there is one runner, on one thread

    def turn(original: Any, self: Any, items: Any) -> None:
        taken.clear()
        original(self, items)

    def take_in(original: Any, self: Any, item: Any, turn: Any) -> None:
        match item:
            case Message(received, _):
                taken.append(Thing("took", received.topic, received.payload))
            case Happened(event) if hasattr(event, "topic"):
                taken.append(Thing("took", event.topic, event.payload))
            case Happened(event):
                taken.append(Thing("event", type(event).__name__))
            case _:
                taken.extend(Thing("event", type(e).__name__) for e in getattr(item, "events", ()))
        original(self, item, turn)

    def commit(original: Any, self: Any, turn: Any) -> Any:
        things = [*taken, *map(thing_of, turn.effects)]
        undone = [thing_of(effect).name for effect in turn.effects]
        # The manager acknowledges an order by an effect of its own.
        unacknowledged = len(turn.tokens) + undone.count("Acknowledge")
        lost = {"unacknowledged": unacknowledged, "undone": undone}
        points.reach("before commit", things, **lost)
        entries = original(self, turn)
        points.reach("after commit", things, **lost)
        return entries

    def perform(original: Any, self: Any, entries: Any) -> None:
        things = [thing_of(effect) for _, effect in entries]
        points.reach("before perform", things, undone=[thing.name for thing in things])
        original(self, entries)

    for name, wrapper in (
        ("_turn", turn),
        ("_take_in", take_in),
        ("_commit", commit),
        ("_perform", perform),
    ):
        wrap(Runner, name, wrapper)


def watch_effects(points: Failpoints) -> None:
    """Instants of a service's own effects."""
    from roost.chassis.doing import Doing  # noqa: PLC0415 - as above

    def init(original: Any, self: Any, performers: Any, *rest: Any) -> None:
        original(self, {kind: around(each) for kind, each in performers.items()}, *rest)

    def around(performer: Any) -> Any:
        def performed(effect: Any) -> Any:
            points.reach("before effect", [thing_of(effect)], undone=[type(effect).__name__])
            events = performer(effect)
            points.reach("after effect", [thing_of(effect)], undone=[type(effect).__name__])
            return events

        return performed

    wrap(Doing, "__init__", init)


def watch_session(points: Failpoints) -> None:
    """Instants of one message: it came, it goes, the broker has it."""
    from roost.chassis.session import Session  # noqa: PLC0415 - as above

    def on_message(original: Any, self: Any, client: Any, data: Any, message: Any) -> None:
        thing = Thing("took", message.topic, bytes(message.payload))
        points.reach("message", [thing], unacknowledged=1)
        original(self, client, data, message)

    def publish(original: Any, self: Any, message: Any, done: Any = None) -> None:
        things = [thing_of(message)]
        points.reach("publish", things, undone=[message.topic])

        def answered(problem: str | None) -> None:
            if problem is None:
                points.reach("puback", things, undone=[message.topic])
            if done is not None:
                done(problem)

        original(self, message, answered)

    wrap(Session, "_on_message", on_message)
    wrap(Session, "publish", publish)


def watch_manager(points: Failpoints) -> None:
    """Instants of a forward."""
    from roost.manager.adapters.forwarder import Forwarder  # noqa: PLC0415 - as above

    def on_message(original: Any, self: Any, client: Any, data: Any, message: Any) -> None:
        thing = Thing("took", message.topic, bytes(message.payload))
        points.reach("before forward", [thing], unacknowledged=1)
        original(self, client, data, message)

    def on_publish(original: Any, self: Any, client: Any, data: Any, mid: int, *rest: Any) -> None:
        delivery = self._pending.get(mid)
        if delivery is not None:
            points.reach("after forward", [Thing("took", delivery.topic)], unacknowledged=1)
        original(self, client, data, mid, *rest)

    wrap(Forwarder, "on_message", on_message)
    wrap(Forwarder, "on_publish", on_publish)


def watch_model_server(points: Failpoints) -> None:
    """The instant at which a model is in its place and nobody knows."""
    from roost.model_server.adapters.files import Files  # noqa: PLC0415 - as above

    def release(original: Any, self: Any, version: Any) -> None:
        original(self, version)
        points.reach("stored", [Thing("file", version.topic)], undone=[version.topic])

    wrap(Files, "release", release)


def watch_proplet(points: Failpoints) -> None:
    """The instant at which a guest has begun."""
    from roost.proplet.guest import process  # noqa: PLC0415 - as above

    def hear(original: Any, self: Any, news: dict[str, Any]) -> None:
        original(self, news)
        if news["news"] == "ready":
            points.reach("guest running", [Thing("guest", "")], worker=self.process.pid)

    wrap(process._Supervision, "_hear", hear)


WATCHES: Final = {
    "roost.manager": watch_manager,
    "roost.model_server": watch_model_server,
    "roost.proplet": watch_proplet,
}


def main() -> None:
    """Wrap the service's methods, then become the service."""
    module, folder, name, parent = sys.argv[1:5]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        os._exit(1)
    del sys.path[0]  # this folder; the service has no business here
    points = Failpoints(Path(folder), name)
    watch_runner(points)
    watch_effects(points)
    watch_session(points)
    if module in WATCHES:
        WATCHES[module](points)
    sys.argv[:] = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
