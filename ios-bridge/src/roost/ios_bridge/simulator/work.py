"""What a phone does beside talking: fetching, running guests, handing in; each in a thread."""

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from roost.ios_bridge.simulator.client import (
    BridgeAway,
    Credentials,
    NotWanted,
    fetch,
    hand_in,
)
from roost.ios_bridge.simulator.core.states import (
    Began,
    Ended,
    HandedIn,
    HandInDelayed,
    Key,
    Progressed,
)
from roost.ios_bridge.simulator.ports import GuestRunner, Run, RunEnd, Stop
from roost.protocol.phone.messages import PhoneTask
from roost.protocol.task.messages import FailureReason

PROGRESS_S: Final = 1.0
AGAIN_S: Final = 2.0
_OPTIONAL: Final = "?"


@dataclass
class Workshop:
    """Where a simulated phone works.

    Attributes:
        who: The phone.
        folder: Its own.
        mounts: Its data, by name.
        runner: Runs guests.
        post: Hands an event to the phone, from any thread.
        clock: Seconds, as in the events.
    """

    who: Credentials
    folder: Path
    mounts: Callable[[], Mapping[str, Path]]
    runner: GuestRunner
    post: Callable[[Any], None]
    clock: Callable[[], float] = time.time
    _running: Stop | None = None
    _outputs: dict[Key, Mapping[str, Path]] = field(default_factory=dict)

    def work(self, task: PhoneTask, wall_s: float) -> None:
        """Fetch, check and run in the background; what was running is stopped."""
        self.halt()
        stop = self._running = Stop()
        target = threading.Thread(target=self._work, args=(task, wall_s, stop), daemon=True)
        target.start()

    def halt(self) -> None:
        """Stop what is running; nothing more is heard of it."""
        if self._running is not None:
            self._running.stop()

    def hand_in(self, task: PhoneTask) -> None:
        """Hand the outputs of an attempt in, in the background."""
        threading.Thread(target=self._hand_in, args=(task,), daemon=True).start()

    def drop(self, key: Key) -> None:
        """Forget the outputs of an attempt."""
        self._outputs.pop(key, None)

    def _tell(self, stop: Stop, event: Any) -> None:
        if not stop.wanted:
            self.post(event)

    def _work(self, task: PhoneTask, wall_s: float, stop: Stop) -> None:
        key = (task.task_id, task.attempt)
        try:
            run = self._prepared(task, wall_s, stop)
        except NotWanted as error:
            reason = FailureReason.IMAGE_UNAVAILABLE
            self._tell(stop, Ended(self.clock(), key, reason, str(error)))
            return
        except LookupError as error:
            self._tell(stop, Ended(self.clock(), key, FailureReason.MOUNT_UNKNOWN, str(error)))
            return
        if run is None:
            return
        self._tell(stop, Began(self.clock(), key))
        last = [0.0]

        def progress(found: dict[str, Any]) -> None:
            now = self.clock()
            if now - last[0] >= PROGRESS_S:
                last[0] = now
                self._tell(stop, Progressed(now, key, found))

        end = self.runner.run(run, stop, progress)
        if not end.stopped:
            self._outputs[key] = end.outputs
            self._tell(stop, self._ended(key, end))

    def _ended(self, key: Key, end: RunEnd) -> Ended:
        return Ended(
            self.clock(),
            key,
            end.reason,
            end.message or None,
            end.exit_code,
            end.stderr_tail[-4096:] or None,
            end.usage,
        )

    def _prepared(self, task: PhoneTask, wall_s: float, stop: Stop) -> Run | None:
        """Fetch what a task needs, however often the network fails; None: it was stopped."""
        while not stop.wanted:
            try:
                return self._prepare(task, wall_s)
            except BridgeAway:
                stop.wait(AGAIN_S)
        return None

    def _prepare(self, task: PhoneTask, wall_s: float) -> Run:
        """Fetch what a task needs.

        Raises:
            LookupError: the phone has no mount that the task needs.
        """
        files = self.folder / "files"
        files.mkdir(parents=True, exist_ok=True)
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        (work / "in").mkdir(parents=True)
        (work / "run").mkdir()
        image = fetch(self.who, task.image, files)
        for file in task.inputs:
            shutil.copyfile(fetch(self.who, file, files), work / "in" / file.name)
        return Run(task, image, work / "in", self._choose(task), work / "run", wall_s)

    def _choose(self, task: PhoneTask) -> dict[str, Path]:
        have, chosen = self.mounts(), {}
        for wanted in task.mounts:
            name = wanted.removesuffix(_OPTIONAL)
            if name in have:
                chosen[name] = have[name]
            elif not wanted.endswith(_OPTIONAL):
                raise LookupError(f"this phone has no data called '{name}'")
        return chosen

    def _hand_in(self, task: PhoneTask) -> None:
        key = (task.task_id, task.attempt)
        try:
            for name, path in self._outputs.get(key, {}).items():
                hand_in(self.who, key, name, path)
        except NotWanted:
            self.post(HandedIn(self.clock(), key, wanted=False))
        except (BridgeAway, OSError):
            self.post(HandInDelayed(self.clock(), key))
        else:
            self.post(HandedIn(self.clock(), key))
