"""Stand-ins of the manager's and the proplet's adapters: forwards, guests, outputs."""

from collections.abc import Callable, Iterable
from typing import Any

from roost.chassis.effects import Publish
from roost.chassis.errors import ChassisError, FetchTimeout
from roost.chassis.ports import SessionPort
from roost.chassis.received import Received
from roost.chassis.session import Token
from roost.chassis.transfer import Fetcher, send_all
from roost.manager.core.forward import SOURCE_TOPIC, Plan
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest, Sweep
from roost.proplet.core.events import GuestEnded, GuestStarted, OutputsDelayed, OutputsSent
from roost.proplet.core.states import Outcome
from roost.protocol.task.messages import FailureReason

from .disk import Disk
from .process import Process

# -- manager -------------------------------------------------------------------------------------


class SimForwarder:
    """The real forward rules on a connection of virtual time; acknowledges after the PUBACK."""

    def __init__(self, session: SessionPort) -> None:
        self._session = session
        self._plan = Plan()
        self._topics: set[str] = set()

    def start(self) -> None:
        """Nothing: the process starts its sessions."""

    def stop(self) -> None:
        """Nothing: the process ends them."""

    def apply(self, pairs: Iterable[tuple[str, str]], gone: Iterable[str] = ()) -> str | None:
        """Put other rules in force."""
        self._plan = Plan(pairs)
        wanted = set(self._plan.sources)
        for topic in sorted((self._topics | set(gone)) - wanted):
            self._session.unsubscribe(topic)
        for topic in sorted(wanted - self._topics):
            self._session.subscribe(topic, self._receive, retained=False)
        self._topics = wanted
        return None

    def _receive(self, received: Received, token: Token) -> None:
        targets = self._plan.targets(received.topic)
        left = len(targets)

        def one_done(_problem: str | None) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._session.ack(token)

        if not targets:
            self._session.ack(token)
        others = [pair for pair in received.properties if pair[0] != SOURCE_TOPIC]
        for target in targets:
            message = Publish(
                target,
                received.payload,
                expiry_s=received.expiry_s,
                content_type=received.content_type,
                correlation=received.correlation,
                properties=(*others, (SOURCE_TOPIC, received.topic)),
                durable=False,
            )
            self._session.publish(message, one_done)


# -- proplet -------------------------------------------------------------------------------------

Guest = Callable[[str, str, bytes], bytes]
"""What a proplet's guest makes of a round's id, its base's topic, and the model."""


_IMAGE_S = 0.02


class SimExecutor:
    """Fetches the model, computes, leaves the update on the disk; can be stopped on the way."""

    def __init__(
        self,
        process: Process,
        fetcher: Fetcher,
        post: Callable[[Any], None],
        guest: Guest,
        run_s: Callable[[], float],
        begins: Callable[[str, int], None],
    ) -> None:
        self._hub, self._disk, self._clock = process.hub, process.disk, process.clock
        self._fetcher, self._post, self._guest = fetcher, post, guest
        self._run_s, self._begins = run_s, begins
        self._stopped: set[tuple[str, int]] = set()
        self.running = 0

    def stop(self, effect: StopGuest) -> None:
        """Let an attempt not go on."""
        self._stopped.add((effect.task_id, effect.attempt))

    def execute(self, effect: Execute) -> Iterable[Any]:
        """Run an attempt to its end; one that was stopped has none."""
        key = (effect.task_id, effect.attempt)
        if key in self._stopped:
            return ()
        self.running += 1
        try:
            outcome = self._outcome(effect)
        finally:
            self.running -= 1
        if key in self._stopped:
            return ()
        return (GuestEnded(self._clock(), *key, outcome),)

    def _outcome(self, effect: Execute) -> Outcome:
        spec, folder = effect.spec, f"tasks/{effect.task_id}/{effect.attempt}"
        patience = max(0.0, min(30.0, (effect.until - self._clock()) * 0.8))
        model = b""
        try:
            for wanted in spec.inputs:
                model = self._fetcher.fetch_topic(wanted.topic or "", patience).payload
        except ChassisError as error:
            return Outcome(FailureReason.INPUT_UNAVAILABLE, str(error))
        self._hub.sleep(_IMAGE_S)
        if (effect.task_id, effect.attempt) in self._stopped:
            return Outcome(None)
        self._begins(effect.task_id, effect.attempt)
        self._post(GuestStarted(self._clock(), effect.task_id, effect.attempt))
        self._hub.sleep(self._run_s())
        if effect.until <= self._clock():
            return Outcome(FailureReason.TIME_LIMIT, "the deadline passed")
        try:
            for output in spec.outputs:
                made = self._guest(spec.env["ROUND_ID"], spec.env["MODEL_URI"], model)
                self._disk.write(f"{folder}/{output.file}", made)
        except OSError as error:
            return Outcome(FailureReason.INTERNAL, str(error))
        return Outcome(None, exit_code=0)


class SimOutputs:
    """Publishes what guests left, and removes it."""

    def __init__(self, disk: Disk, session: Any, clock: Callable[[], float]) -> None:
        self._disk, self._session, self._clock = disk, session, clock
        self._found = disk.names("tasks/")

    def send(self, effect: SendOutputs) -> Iterable[Any]:
        """Publish every output of an attempt."""
        folder, who = f"tasks/{effect.task_id}/{effect.attempt}", (effect.task_id, effect.attempt)
        try:
            if not self._session.wait_connected(30.0):
                raise FetchTimeout("no broker within 30 s")
            messages = [
                Publish(
                    output.topic,
                    self._disk.path(f"{folder}/{output.file}").read_bytes(),
                    durable=False,
                )
                for output in effect.spec.outputs
            ]
            send_all(self._session, messages, 30.0)
        except FileNotFoundError as error:
            gone = Outcome(FailureReason.INTERNAL, f"{error.filename} is gone from this device")
            return (OutputsSent(self._clock(), *who, refused=gone),)
        except ChassisError:
            return (OutputsDelayed(self._clock(), *who),)
        return (OutputsSent(self._clock(), *who),)

    def discard(self, effect: Discard) -> None:
        """Remove the files of attempts."""
        for name in self._disk.names(f"tasks/{effect.task_id}/"):
            if int(name.split("/")[2]) < effect.below:
                self._disk.path(name).unlink(missing_ok=True)

    def sweep(self, effect: Sweep) -> None:
        """Remove what lay there at the start and nobody knows."""
        kept = {f"{task_id}/{attempt}" for task_id, attempt in effect.keep}
        for name in self._found:
            if "/".join(name.split("/")[1:3]) not in kept:
                self._disk.path(name).unlink(missing_ok=True)
