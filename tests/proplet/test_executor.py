"""From an order to its outcome: mounts, image, inputs, the run, progress, outputs."""

import base64
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from roost.proplet.adapters import executor as executor_module
from roost.proplet.adapters.executor import Executor, _Throttle
from roost.proplet.adapters.folders import TaskFolders
from roost.proplet.adapters.images import ImageStore
from roost.proplet.adapters.oci import Registry
from roost.proplet.core.effects import Execute, StopGuest
from roost.proplet.core.events import GuestEnded, GuestProgressed, GuestStarted
from roost.proplet.core.states import Outcome
from roost.proplet.guest import ModuleCache
from roost.protocol.task.messages import FailureReason, TaskSpec

from . import guests
from .fakes import FakeTransport

NOW = 1000.0


class Bench:
    """An executor over fakes; its clock stands still."""

    def __init__(self, folder: Path, modules: ModuleCache) -> None:
        self.now = NOW
        self.posted: list[Any] = []
        self.on_post: Callable[[Any], None] = lambda _event: None
        self.transport = FakeTransport()
        self.mounts = {"attic": folder / "attic"}
        (folder / "attic").mkdir()
        (folder / "attic/x").write_text("private")
        self.folders = TaskFolders(folder / "tasks")
        images = ImageStore(folder / "images", self.transport, Registry(1.0, 10**6), 1.0, 10**6)
        self.executor = Executor(
            self.folders, images, modules, self.transport, lambda: self.mounts,
            lambda: self.now, self._post, 1.0,
        )  # fmt: skip

    def _post(self, event: Any) -> None:
        self.posted.append(event)
        self.on_post(event)

    def order(self, wasm: bytes, *, left_s: float = 60.0, **spec: Any) -> Execute:
        """Return the effect that runs a guest."""
        reference = f"blob:ops/{self.transport.offer('ops', wasm)}"
        task = TaskSpec.model_validate({"image": reference, **spec}, strict=False)
        return Execute("t:1", 2, task, self.now + left_s)

    def outcome(self, effect: Execute) -> Outcome:
        """Run it and return how it ended."""
        [ended] = self.executor.execute(effect)
        assert isinstance(ended, GuestEnded)
        assert (ended.task_id, ended.attempt, ended.at) == ("t:1", 2, self.now)
        assert self.executor.running == 0
        return ended.outcome

    @property
    def stdout(self) -> str:
        """What the guest printed."""
        return self.folders.attempt("t:1", 2).stdout.read_text()


@pytest.fixture
def bench(tmp_path: Path, modules: ModuleCache) -> Bench:
    """Return an executor over fakes."""
    return Bench(tmp_path, modules)


def test_a_guest_runs_and_its_start_is_told(bench: Bench) -> None:
    """The start is told when everything is there."""
    assert bench.outcome(bench.order(guests.say("hi"))).reason is None
    assert bench.posted == [GuestStarted(NOW, "t:1", 2)]
    assert bench.stdout == "hi"


@pytest.mark.parametrize(
    "source",
    [
        {"topic": "some/topic"},
        {"blob": "ops/{sha256}"},
        {"text": "content"},
        {"base64": base64.b64encode(b"content").decode()},
    ],
)
def test_an_input_comes_from_each_source(bench: Bench, source: dict[str, str]) -> None:
    """And lies below ``/in`` under its name (GUEST-011)."""
    bench.transport.topics["some/topic"] = b"content"
    sha256 = bench.transport.offer("ops", b"content")
    source = {name: text.replace("{sha256}", sha256) for name, text in source.items()}
    effect = bench.order(guests.copies(4, "x"), inputs=[{"name": "x", **source}])
    assert bench.outcome(effect).reason is None
    assert bench.stdout == "content"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"topic": "nothing/there"}, "nothing on nothing/there"),
        ({"blob": "ops/" + "0" * 64}, "no blob"),
        ({"base64": "not base64!"}, "bad base64"),
    ],
)
def test_a_missing_input_is_named(bench: Bench, source: dict[str, str], said: str) -> None:
    """The guest does not begin (TASK-040)."""
    effect = bench.order(guests.NOTHING, inputs=[{"name": "x", **source}])
    outcome = bench.outcome(effect)
    assert outcome.reason is FailureReason.INPUT_UNAVAILABLE
    assert "input 'x'" in outcome.message
    assert said in outcome.message
    assert bench.posted == []


def test_a_mount_is_there_if_wanted(bench: Bench) -> None:
    """An optional mount that is there is there; one that is not is not (GUEST-012)."""
    effect = bench.order(guests.copies(5, "x"), mounts=["attic?", "cellar?"])
    assert bench.outcome(effect).reason is None
    assert bench.stdout == "private"
    assert bench.outcome(bench.order(guests.copies(5, "x"))).reason is FailureReason.EXIT_CODE


def test_an_unknown_mount_is_named(bench: Bench) -> None:
    """Together with those that are there (TASK-040)."""
    outcome = bench.outcome(bench.order(guests.NOTHING, mounts=["cellar"]))
    assert outcome.reason is FailureReason.MOUNT_UNKNOWN
    assert "cellar" in outcome.message
    assert "attic" in outcome.message
    bench.mounts.clear()
    outcome = bench.outcome(bench.order(guests.NOTHING, mounts=["attic"]))
    assert "none at all" in outcome.message


def test_a_missing_image_is_named(bench: Bench) -> None:
    """It is not refused: it may come yet (TASK-040)."""
    effect = bench.order(guests.NOTHING)
    bench.transport.blobs.clear()
    assert bench.outcome(effect).reason is FailureReason.IMAGE_UNAVAILABLE


@pytest.mark.parametrize(("left_s", "waited"), [(60.0, "1"), (15.0, "1"), (1.0, "0.8")])
def test_a_missing_image_is_told_before_the_deadline(
    bench: Bench, left_s: float, waited: str
) -> None:
    """Nobody listens any more afterwards (TASK-040)."""
    effect = bench.order(guests.NOTHING, left_s=left_s)
    bench.transport.blobs.clear()
    message = bench.outcome(effect).message
    assert message.startswith(f"{effect.spec.image} is not at the broker")
    assert message.endswith(f"within {waited} s)")


def test_an_image_that_is_none_is_refused(bench: Bench) -> None:
    """By the same name as everywhere."""
    assert bench.outcome(bench.order(b"garbage")).reason is FailureReason.IMAGE_REFUSED


def test_the_deadline_limits_the_run(bench: Bench) -> None:
    """Whatever ``wall_s`` says."""
    effect = bench.order(guests.SLEEPS, left_s=0.2, limits={"wall_s": 50.0})
    outcome = bench.outcome(effect)
    assert outcome.reason is FailureReason.TIME_LIMIT
    assert "deadline came" in outcome.message
    outcome = bench.outcome(bench.order(guests.SLEEPS, limits={"wall_s": 0.2}))
    assert outcome.reason is FailureReason.TIME_LIMIT
    assert "wall_s" in outcome.message
    late = bench.outcome(bench.order(guests.NOTHING, left_s=0.0))
    assert late.reason is FailureReason.TIME_LIMIT
    assert "preparation" in late.message


def test_limits_are_passed_on(bench: Bench) -> None:
    """Memory, ``/out`` and printing."""
    memory = bench.order(guests.grows(1000, "unreachable"), limits={"memory_mb": 4})
    assert bench.outcome(memory).reason is FailureReason.MEMORY_LIMIT
    out = bench.order(guests.fills_out(), limits={"out_mb": 1})
    assert bench.outcome(out).reason is FailureReason.OUTPUT_LIMIT
    stdout = bench.order(guests.floods(1), limits={"stdout_mb": 1})
    assert bench.outcome(stdout).reason is FailureReason.STDOUT_LIMIT


@pytest.mark.parametrize(
    ("guest", "missing"),
    [
        (guests.writes("update", "x"), False),
        (guests.say("x"), False),
        (guests.NOTHING, True),
        (guests.links("../../../images", "update"), True),
    ],
    ids=["file", "stdout", "neither", "link"],
)
def test_an_output_is_a_file_or_stdout(bench: Bench, guest: bytes, *, missing: bool) -> None:
    """A guest that made neither has failed, though it says it has not (GUEST-021)."""
    effect = bench.order(guest, outputs=[{"file": "update", "topic": "to"}])
    outcome = bench.outcome(effect)
    assert outcome.exit_code == 0
    assert outcome.reason is (FailureReason.OUTPUT_MISSING if missing else None)
    assert outcome.usage is not None


def test_outputs_survive_a_loss_of_power(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are on disk, by their names, before the run counts as a success (TASK-082)."""
    synced: list[str] = []
    monkeypatch.setattr(executor_module, "sync", lambda path: synced.append(path.name))
    monkeypatch.setattr(executor_module.os, "fsync", lambda handle: synced.append(_name(handle)))
    outputs = [{"file": "update", "topic": "to"}]
    for guest in (guests.writes("update", "x"), guests.say("x")):
        bench.outcome(bench.order(guest, outputs=outputs))
    written = [name for name in synced if name != "module"]
    assert written == ["update", *["stdout", "out", "2"] * 2]
    synced.clear()
    bench.outcome(bench.order(guests.NOTHING))
    bench.outcome(bench.order(guests.TRAPS, outputs=outputs))
    assert set(synced) <= {"module"}, "nobody reads what these wrote"


def _name(handle: int) -> str:
    return Path(f"/proc/self/fd/{handle}").readlink().name


def test_progress_is_told(bench: Bench) -> None:
    """The first at once, the rest at most once a second, the last in any case.

    Proves TASK-034, GUEST-023.
    """
    lines = "".join(f'{{"n": {n}}}\n' for n in range(5))
    assert bench.outcome(bench.order(guests.say(lines))).reason is None
    told = [event.progress for event in bench.posted if isinstance(event, GuestProgressed)]
    assert told == [{"n": 0}, {"n": 4}]


def test_progress_goes_on_as_time_does() -> None:
    """A second later the next one is let through."""
    now = [0.0]
    told: list[dict[str, Any]] = []
    throttle = _Throttle(lambda: now[0], told.append)
    for at, n in ((0.0, 0), (0.5, 1), (0.9, 2), (1.0, 3), (1.5, 4), (2.5, 5)):
        now[0] = at
        throttle.take({"n": n})
    throttle.flush()
    assert told == [{"n": 0}, {"n": 3}, {"n": 5}]


def test_a_stop_ends_the_run(bench: Bench) -> None:
    """Nothing comes of it: the core knows already."""
    effect = bench.order(guests.SLEEPS)
    stopping = StopGuest("t:1", 2)
    bench.on_post = lambda _event: threading.Timer(
        0.1, bench.executor.stop, args=(stopping,)
    ).start()
    assert list(bench.executor.execute(effect)) == []
    assert bench.executor.running == 0


def test_a_stop_before_the_run_holds(bench: Bench) -> None:
    """As after a restart, when both wait in the journal; other attempts are not meant."""
    effect = bench.order(guests.NOTHING)
    bench.executor.stop(StopGuest("t:1", 2))
    assert list(bench.executor.execute(effect)) == []
    bench.executor.stop(StopGuest("other", 2))
    later = Execute("t:1", 3, effect.spec, effect.until)
    assert len(list(bench.executor.execute(later))) == 1


def test_remembered_stops_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop for a run that had ended leaves little behind."""
    monkeypatch.setattr("roost.proplet.adapters.executor._STOPS_KEPT", 2)
    for n in range(5):
        bench.executor.stop(StopGuest(f"t{n}", 1))
    assert list(bench.executor._stopped) == [("t3", 1), ("t4", 1)]


def test_a_stop_while_compiling_ends_it(bench: Bench) -> None:
    """Nothing comes of it either."""
    bench.on_post = lambda _event: bench.executor.stop(StopGuest("t:1", 2))
    fresh = guests.build(guests.leave(77))
    assert list(bench.executor.execute(bench.order(fresh))) == []


def test_a_failure_of_the_device_is_an_outcome(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk fails the task; it does not stop the proplet."""

    def full(_self: Path, _text: str, **_more: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    effect = bench.order(guests.NOTHING, inputs=[{"name": "x", "text": "y"}])
    outcome = bench.outcome(effect)
    assert outcome.reason is FailureReason.INTERNAL
    assert "No space left" in outcome.message


def test_a_run_again_finds_nothing_of_the_first(bench: Bench) -> None:
    """After a restart the same attempt begins from nothing: fresh inputs, fresh ``/out``."""
    first = bench.order(guests.writes("old", "x"), inputs=[{"name": "old", "text": "x"}])
    assert bench.outcome(first).reason is None
    again = bench.order(guests.writes("new", "x"), inputs=[{"name": "new", "text": "x"}])
    assert bench.outcome(again).reason is None
    folder = bench.folders.attempt("t:1", 2)
    assert [path.name for path in folder.out.iterdir()] == ["new"]
    assert [path.name for path in folder.inputs.iterdir()] == ["new"]
