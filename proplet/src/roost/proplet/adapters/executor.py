"""Carries out ``Execute`` and ``StopGuest``: everything between an order and its outcome."""

import base64
import binascii
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from roost.chassis.errors import ChassisError
from roost.chassis.files import sync
from roost.chassis.logs import get_logger
from roost.chassis.trouble import in_words, passes
from roost.proplet.adapters.folders import AttemptFolder, TaskFolders
from roost.proplet.adapters.images import Image, ImageStore
from roost.proplet.adapters.mounts import choose
from roost.proplet.core.effects import Execute, StopGuest
from roost.proplet.core.events import GuestEnded, GuestProgressed, GuestStarted
from roost.proplet.core.states import Outcome
from roost.proplet.errors import InputUnavailable, PropletError, TaskStopped
from roost.proplet.guest import GuestOutcome, GuestRun, ModuleCache, Stopper, run_guest
from roost.proplet.guest.folders import read_regular, remove
from roost.proplet.ports import Transport
from roost.protocol.task.messages import FailureReason, TaskInput, TaskSpec
from roost.wire.refusal import Refused

PROGRESS_S: Final = 1.0
# Time kept back of what is left, so that whoever waits hears what was not there.
_TO_TELL_S: Final = 2.0
_TO_TELL_PART: Final = 0.2
_STOPS_KEPT: Final = 1000

Key = tuple[str, int]


@dataclass(frozen=True)
class Executor:
    """Runs the guests of this proplet, each on the thread that performs its effect.

    Attributes:
        folders: Where attempts lie.
        images: Where programs come from.
        modules: Where they lie compiled.
        transport: Brings inputs.
        mounts: Names the data folders that are there now.
        clock: Seconds, as in the events.
        post: Hands an event to the core at once.
        timeout_s: How long to wait for an image or an input.
    """

    folders: TaskFolders
    images: ImageStore
    modules: ModuleCache
    transport: Transport
    mounts: Callable[[], Mapping[str, Path]]
    clock: Callable[[], float]
    post: Callable[[Any], None]
    timeout_s: float
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _running: dict[Key, Stopper] = field(default_factory=dict)
    _stopped: OrderedDict[Key, None] = field(default_factory=OrderedDict)

    @property
    def running(self) -> int:
        """How many attempts are being carried out."""
        return len(self._running)

    def stop(self, effect: StopGuest) -> None:
        """Kill a guest; if it has not begun yet, remember that it must not."""
        key = (effect.task_id, effect.attempt)
        with self._guard:
            stopper = self._running.get(key)
            if stopper is None:
                self._stopped[key] = None
                while len(self._stopped) > _STOPS_KEPT:
                    self._stopped.popitem(last=False)
        if stopper is not None:
            stopper.stop()

    def execute(self, effect: Execute) -> Iterable[Any]:
        """Run an attempt to its end. Whatever happens, it has an outcome, unless it was stopped."""
        key = (effect.task_id, effect.attempt)
        stopper = Stopper()
        with self._guard:
            if key in self._stopped:
                return ()
            self._running[key] = stopper
        try:
            outcome = self._outcome(effect, stopper)
        finally:
            with self._guard:
                del self._running[key]
        if stopper.stopped or outcome is None:
            return ()
        return (GuestEnded(self.clock(), effect.task_id, effect.attempt, outcome),)

    def _outcome(self, effect: Execute, stopper: Stopper) -> Outcome | None:
        try:
            return self._run(effect, stopper)
        except TaskStopped:
            return None
        except PropletError as error:
            return Outcome(error.reason, str(error))
        except Exception as error:  # noqa: BLE001 - the task fails by name, the proplet goes on
            get_logger().exception("task.broke", task=effect.task_id, attempt=effect.attempt)
            if passes(error):
                return Outcome(FailureReason.INTERNAL, in_words(self.folders.root, error))
            return Outcome(FailureReason.INTERNAL, f"this proplet failed: {error!r:.300}")

    def _run(self, effect: Execute, stopper: Stopper) -> Outcome | None:
        spec = effect.spec
        folder = self.folders.attempt(effect.task_id, effect.attempt)
        folder.root.mkdir(parents=True, exist_ok=True)
        mounts = choose(spec.mounts, self.mounts())
        image = self.images.fetch(spec.image, self._left_s(effect.until))
        self._fetch_inputs(spec, folder, effect.until)
        remaining = effect.until - self.clock()
        if remaining <= 0:
            return Outcome(FailureReason.TIME_LIMIT, "the deadline passed during preparation")
        run = _guest_run(spec, folder, image, mounts, remaining)
        self.post(GuestStarted(self.clock(), effect.task_id, effect.attempt))
        news = _Throttle(self.clock, lambda found: self._progress(effect, found))
        ended = run_guest(run, self.modules, stopper=stopper, on_progress=news.take)
        if ended.stopped:
            return None
        if ended.reason is None:
            news.flush()
        return _judge(spec, folder, ended, remaining)

    def _progress(self, effect: Execute, found: dict[str, Any]) -> None:
        self.post(GuestProgressed(self.clock(), effect.task_id, effect.attempt, found))

    def _left_s(self, until: float) -> float:
        left = max(0.0, until - self.clock())
        return left - min(_TO_TELL_S, left * _TO_TELL_PART)

    def _patience_s(self, until: float) -> float:
        return min(self.timeout_s, self._left_s(until))

    def _fetch_inputs(self, spec: TaskSpec, folder: AttemptFolder, until: float) -> None:
        remove(folder.inputs)
        folder.inputs.mkdir()
        for wanted in spec.inputs:
            try:
                self._fetch_input(wanted, folder.inputs / wanted.name, self._patience_s(until))
            except (ChassisError, Refused, ValueError) as error:
                raise InputUnavailable(f"input '{wanted.name}': {error}") from error

    def _fetch_input(self, wanted: TaskInput, into: Path, timeout_s: float) -> None:
        if wanted.topic is not None:
            self.transport.fetch_topic(wanted.topic, into, timeout_s)
        elif wanted.blob is not None:
            owner, _, sha256 = wanted.blob.partition("/")
            self.transport.fetch_blob(owner, sha256, into, timeout_s)
        elif wanted.text is not None:
            into.write_text(wanted.text, encoding="utf-8")
        else:
            try:
                content = base64.b64decode(wanted.base64 or "", validate=True)
            except binascii.Error as error:
                raise InputUnavailable(f"input '{wanted.name}': bad base64: {error}") from None
            into.write_bytes(content)


def _guest_run(
    spec: TaskSpec, folder: AttemptFolder, image: Image, mounts: Mapping[str, Path], left_s: float
) -> GuestRun:
    limits = spec.limits
    return GuestRun(
        image=image.path,
        digest=image.sha256,
        program=spec.image.rpartition("/")[2],
        args=spec.args,
        env=spec.env,
        inputs=folder.inputs,
        out=folder.out,
        stdout=folder.stdout,
        mounts=mounts,
        memory_mb=limits.memory_mb,
        wall_s=min(limits.wall_s or left_s, left_s),
        out_mb=limits.out_mb,
        stdout_mb=limits.stdout_mb,
    )


def _judge(spec: TaskSpec, folder: AttemptFolder, ended: GuestOutcome, left_s: float) -> Outcome:
    """Return the outcome of a run, with what only the task's own terms can tell."""
    reason, message = ended.reason, ended.message
    if reason is None:
        missing = missing_output(spec, folder)
        if missing is not None:
            reason, message = FailureReason.OUTPUT_MISSING, missing
        else:
            keep_outputs(spec, folder)
    elif reason is FailureReason.TIME_LIMIT and (spec.limits.wall_s or left_s) >= left_s:
        message = f"the task's deadline came when it had run for {left_s:.1f} s: allow it more time"
    return Outcome(reason, message, ended.exit_code, ended.stderr_tail, ended.usage)


@dataclass(slots=True)
class _Throttle:
    """Lets one progress through per second, and the last one of a guest that succeeded."""

    clock: Callable[[], float]
    say: Callable[[dict[str, Any]], None]
    next_at: float = 0.0
    kept: dict[str, Any] | None = None

    def take(self, found: dict[str, Any]) -> None:
        now = self.clock()
        if now < self.next_at:
            self.kept = found
            return
        self.next_at = now + PROGRESS_S
        self.kept = None
        self.say(found)

    def flush(self) -> None:
        if self.kept is not None:
            self.say(self.kept)


def missing_output(spec: TaskSpec, folder: AttemptFolder) -> str | None:
    """Say which wanted output the guest has not made, or None."""
    printed = folder.stdout.stat().st_size > 0
    for output in spec.outputs:
        handle = read_regular(folder.out, output.file)
        if handle is not None:
            os.close(handle)
        elif not printed:
            return (
                f"it ended well, but wrote neither /out/{output.file} nor anything to stdout: "
                "write one of them"
            )
    return None


def keep_outputs(spec: TaskSpec, folder: AttemptFolder) -> None:
    """Wait until the wanted outputs and their names survive the loss of power."""
    if not spec.outputs:
        return
    for output in spec.outputs:
        handle = read_regular(folder.out, output.file)
        if handle is not None:
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    for path in (folder.stdout, folder.out, folder.root):
        sync(path)
