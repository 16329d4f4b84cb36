"""A proplet that is killed at any point of a task goes on with it after its restart."""

import contextlib
import json
import queue
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from roost.chassis.effects import Publish
from roost.chassis.metrics import Metrics
from roost.chassis.runner import Runner
from roost.chassis.store import Store
from roost.chassis.testing import MemoryBroker
from roost.proplet.adapters.decode import decode, subscriptions
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest, Sweep
from roost.proplet.core.events import GuestEnded, MountsFound, OutputsSent
from roost.proplet.core.proplet import PropletCore
from roost.proplet.core.states import Outcome
from roost.protocol.task.messages import FailureReason, StartTask, StopReason, StopTask, Usage

from .test_core import CARD, SPEC

WAIT_S = 10.0
PLACE = "proplets/p1/tasks/t:1/"
OUTCOMES = {
    "success": Outcome(None, exit_code=0, usage=Usage(wall_s=0.5, out_bytes=3)),
    "failure": Outcome(FailureReason.EXIT_CODE, "it ended", 3, "oh no"),
}


class Device:
    """Carries effects out when it is told to; a new one after each restart."""

    def __init__(self) -> None:
        self.wanted: queue.SimpleQueue[tuple[Any, queue.SimpleQueue[tuple[Any, ...]]]]
        self.wanted = queue.SimpleQueue()

    def perform(self, effect: Any) -> Iterable[Any]:
        """Wait for the test to say what comes of it."""
        answer: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.wanted.put((effect, answer))
        return answer.get(timeout=6 * WAIT_S)  # a test that failed must not wait for ever

    def take(self) -> tuple[Any, queue.SimpleQueue[tuple[Any, ...]]]:
        """Return the next effect and where its result goes."""
        return self.wanted.get(timeout=WAIT_S)


class Manager:
    """Sends orders and hears everything."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._session = broker.session()
        self._session.subscribe(PLACE + "report", self._hear)
        self._session.start()

    def _hear(self, received: Any, token: Any) -> None:
        self._session.ack(token)
        self.heard.put(json.loads(received.payload))

    def send(self, order: str, message: Any) -> None:
        """Publish an order."""
        self._session.publish(Publish(PLACE + order, message.encode()))

    def hear(self, status: str) -> dict[str, Any]:
        """Return the next report of a status."""
        while True:
            report = self.heard.get(timeout=WAIT_S)
            if report["status"] == status:
                return report


@contextlib.contextmanager
def process(folder: Path, broker: MemoryBroker, device: Device) -> Iterator[None]:
    """Run a proplet's core over its disk; leaving it is as sudden as a kill."""
    core = PropletCore(CARD, 1)
    store = Store(folder / "state.sqlite", core.kinds, core.effects)
    session = broker.session()
    kinds = (Execute, StopGuest, SendOutputs, Discard)
    performers: dict[type[Any], Any] = dict.fromkeys(kinds, device.perform)
    performers[Sweep] = lambda _effect: ()
    runner = Runner(
        core, store, session, decode, performers, lambda: 1000.0,
        Metrics(), pause=lambda _seconds: None,
    )  # fmt: skip
    runner.subscribe(subscriptions("p1"))
    runner.post(MountsFound(0.0, ()))
    thread = threading.Thread(target=runner.run)
    thread.start()
    session.start()
    try:
        yield
    finally:
        session.drop()
        runner.stop()
        thread.join()
        store.close()


@pytest.mark.parametrize("kind", OUTCOMES)
def test_a_task_survives_a_kill_at_every_step(tmp_path: Path, kind: str) -> None:
    """While it runs, while its outputs are sent, before its report is recorded, afterwards."""
    broker, outcome = MemoryBroker(), OUTCOMES[kind]
    manager = Manager(broker)
    abandoned = []
    device = Device()
    with process(tmp_path, broker, device):
        manager.send("start", StartTask(attempt=1, remaining_s=60.0, task=SPEC))
        manager.hear("accepted")
        first, answer = device.take()
        assert first == Execute("t:1", 1, SPEC, 1060.0)
        abandoned.append(answer)
    device = Device()
    with process(tmp_path, broker, device):
        again, answer = device.take()
        assert again == first  # the same attempt, with the same time left
        answer.put((GuestEnded(1001.0, "t:1", 1, outcome),))
        if kind == "success":
            sending, late = device.take()
            assert sending == SendOutputs("t:1", 1, SPEC, 1060.0)
            abandoned.append(late)
        else:
            manager.hear("failed")
    device = Device()
    with process(tmp_path, broker, device):
        if kind == "success":
            sending, answer = device.take()
            answer.put((OutputsSent(1002.0, "t:1", 1),))
        report = manager.hear("succeeded" if kind == "success" else "failed")
    with process(tmp_path, broker, Device()):
        assert manager.hear(report["status"]) == report
        manager.send("start", StartTask(attempt=1, remaining_s=50.0, task=SPEC))
        assert manager.hear(report["status"]) == report
        manager.send("stop", StopTask(attempt=1, reason=StopReason.RECORDED))
    device = Device()
    with process(tmp_path, broker, device):
        manager.send("stop", StopTask(attempt=1, reason=StopReason.CANCELLED))
        discard, answer = device.take()
        assert discard == Discard("t:1", 2)
        answer.put(())
    assert manager.heard.qsize() == 0
    for answer in abandoned:
        answer.put(())


def test_a_tombstone_survives_a_kill(tmp_path: Path) -> None:
    """The start that a stop overtook is not run after a restart either."""
    broker = MemoryBroker()
    manager = Manager(broker)
    with process(tmp_path, broker, Device()):
        manager.send("stop", StopTask(attempt=1, reason=StopReason.CANCELLED))
    device = Device()
    with process(tmp_path, broker, device):
        manager.send("start", StartTask(attempt=1, remaining_s=60.0, task=SPEC))
        manager.send("start", StartTask(attempt=2, remaining_s=60.0, task=SPEC))
        assert manager.hear("accepted")["attempt"] == 2
        stop, done = device.take()
        assert stop == StopGuest("t:1", 1)
        done.put(())
        effect, answer = device.take()
        assert effect.attempt == 2
        answer.put(())
