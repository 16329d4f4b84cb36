"""Puts a service together and runs it as one process until it is told to end."""

import fcntl
import os
import random
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from roost.chassis.clock import SteadyClock
from roost.chassis.core import Core
from roost.chassis.doing import Performer
from roost.chassis.effects import Publish
from roost.chassis.errors import ChassisError, StateLocked
from roost.chassis.health import HealthServer
from roost.chassis.logs import configure, get_logger
from roost.chassis.metrics import Metrics
from roost.chassis.runner import Clock, Decode, Runner
from roost.chassis.session import Session
from roost.chassis.settings import ServiceSettings
from roost.chassis.store import Store
from roost.chassis.transfer import Fetcher
from roost.chassis.trouble import in_words, passes

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
STORE_NAME: Final = "state.sqlite"

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


@dataclass(frozen=True)
class Context:
    """What a service's adapters may use.

    Attributes:
        session: The service's connection.
        fetcher: Fetches retained topics and blobs over it.
        metrics: The process's metrics.
        clock: Unix seconds on the service's own clock, which never jumps.
        rng: The process's randomness.
        post: Hands an event to the core, from any thread.
        take_orders: Subscribes to further filters, whose messages are orders: they go the way of
            ``Wiring.orders``, so each is acknowledged once its outcome is committed.
        stopping: Set when the process shall end.
    """

    session: Session
    fetcher: Fetcher
    metrics: Metrics
    clock: Clock
    rng: random.Random
    post: Callable[[Any], None]
    take_orders: Callable[[Sequence[str]], None]
    stopping: threading.Event


@dataclass(frozen=True)
class Wiring:
    """A service's parts.

    Attributes:
        core: All decisions.
        decode: Turns messages into events.
        subscriptions: MQTT filters whose messages go to ``decode``.
        orders: Those of them that carry orders; ``decode`` sees the retain flag as published.
        performers: A function for each of the core's own effects.
        workers: How many service effects run side by side.
        background: Started before the broker is connected, stopped at the end.
        before_commit: Makes durable what ``decode`` wrote beside the store.
    """

    core: Core
    decode: Decode
    subscriptions: Sequence[str]
    performers: Mapping[type[Any], Performer] = field(default_factory=dict)
    orders: Sequence[str] = ()
    workers: int = 8
    background: Sequence["Background"] = ()
    before_commit: Callable[[], None] = lambda: None


class Background:
    """Something that runs beside the core, such as a forwarder or a sampler."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


def lock_state(folder: Path) -> int:
    """Lock a state folder for this process and return the lock's file descriptor.

    Raises:
        StateLocked: another process holds it; the message names its pid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pid = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise StateLocked(
            f"{folder} is used by process {pid}: stop it, or choose another state folder"
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def load_settings(settings: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment, or end with a message that names the culprit."""
    try:
        return settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = "ROOST_" + "_".join(str(part) for part in problem["loc"]).upper()
            text = f"{name}: {problem['msg']}, got {problem.get('input')!r}"
            missing = settings.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
            if problem["type"] == "missing" and missing is not None:
                # The input would be all the settings there are, secrets among them.
                text = f"{name} is not set: {missing.description}"
            print(text, file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_USAGE)


def serve(
    name: str,
    settings: ServiceSettings,
    build: Callable[[Context], Wiring],
    *,
    client_id: str | None = None,
    will: Publish | None = None,
) -> int:
    """Run a service until SIGTERM or SIGINT and return the process's exit code.

    Args:
        name: The service's name: user name, client id and log field.
        settings: Its settings.
        build: Makes its parts.
        client_id: MQTT client id, if not the name.
        will: The last will of its connection.
    """
    configure(name, settings.log_level, settings.log_format)
    try:
        return _Process(name, settings, client_id or name, will).run(build)
    except ChassisError as error:
        get_logger().error("service.refused", why=str(error))
        return EXIT_USAGE
    except (sqlite3.OperationalError, OSError) as error:
        if not passes(error):
            raise
        get_logger().error("service.failed", why=in_words(settings.state_dir, error))
        return EXIT_FAILED


class _Process:
    def __init__(
        self, name: str, settings: ServiceSettings, client_id: str, will: Publish | None
    ) -> None:
        self._log = get_logger()
        self._settings = settings
        self._lock = lock_state(settings.state_dir)
        self._failed = False
        self._stopping = threading.Event()
        self._metrics = Metrics()
        rng = random.Random()  # noqa: S311 - jitter, not secrets
        self._session = Session(settings, client_id, rng=rng, will=will)
        self._rng = rng
        self._runner: Runner | None = None
        self._name = name

    def run(self, build: Callable[[Context], Wiring]) -> int:
        clock = SteadyClock(self._settings.state_dir)
        context = Context(
            session=self._session,
            fetcher=Fetcher(self._session),
            metrics=self._metrics,
            clock=clock,
            rng=self._rng,
            post=lambda event: self._require_runner().post(event),
            take_orders=lambda names: self._require_runner().subscribe(names, names),
            stopping=self._stopping,
        )
        wiring = build(context)
        core = wiring.core
        store = Store(self._settings.state_dir / STORE_NAME, core.kinds, core.effects)
        runner = Runner(
            core,
            store,
            self._session,
            wiring.decode,
            wiring.performers,
            clock,
            self._metrics,
            workers=wiring.workers,
            pause=lambda seconds: void(self._stopping.wait(seconds)),
            before_commit=wiring.before_commit,
        )
        self._runner = runner
        self._session.on_fatal = self._fatal
        runner.subscribe(wiring.subscriptions, wiring.orders)
        health = self._start_health()
        self._watch_signals()
        try:
            for part in wiring.background:
                part.start()
            self._session.start()
            self._log.info("service.started", broker=self._settings.broker)
            runner.run()
        finally:
            self._stopping.set()
            for part in reversed(wiring.background):
                part.stop()
            self._session.stop()
            if health is not None:
                health.stop()
            store.close()
        self._log.info("service.stopped")
        # Effects that still run on worker threads are in the journal and would be done again.
        return self._end(EXIT_FAILED if self._failed else 0)

    @staticmethod
    def _end(code: int) -> int:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code)

    def _require_runner(self) -> Runner:
        assert self._runner is not None, "nothing is handed over before the runner exists"
        return self._runner

    def _fatal(self, reason: str) -> None:
        self._log.error("service.failed", why=reason)
        self._failed = True
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._require_runner().stop()

    def _watch_signals(self) -> None:
        def handle(_signal: int, _frame: object) -> None:
            self._stop()

        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)

    def _problem(self) -> str | None:
        if self._session.connected:
            return self._require_runner().trouble
        return "not connected to the broker"

    def _start_health(self) -> HealthServer | None:
        if not self._settings.http_port:
            return None
        server = HealthServer(
            self._settings.http_host,
            self._settings.http_port,
            self._metrics.registry,
            self._problem,
        )
        server.start()
        return server


def void(_value: object) -> None:
    """Drop a value where a callback must return nothing."""


def filters(topics: Iterable[Any]) -> list[str]:
    """Return the subscription filters of rows of a topic table."""
    return [topic.filter for topic in topics]
