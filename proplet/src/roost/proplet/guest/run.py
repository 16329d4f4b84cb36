"""One guest, from its image file to its named outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from roost.proplet.errors import ImageRefused, PropletError, TaskStopped
from roost.proplet.guest.cache import ModuleCache
from roost.proplet.guest.folders import measure, remove
from roost.proplet.guest.output import OnOutput, OnProgress, Output
from roost.proplet.guest.process import Ended, Stopper, Watch, engine_library, work
from roost.protocol.task.messages import FailureReason, Usage

MB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GuestRun:
    """What to run, with what, and within which limits.

    Attributes:
        image: Wasm file: a core module, WASI preview 1, with ``_start``.
        out: Folder that becomes ``/out``; whatever it holds is removed first.
        stdout: File that gets standard output.
        digest: SHA-256 of the image if known.
        program: The guest's name for itself, ``argv[0]``; empty: the image file's name.
        args: Arguments; the program's name goes before them.
        env: Environment variables, all there are.
        inputs: Folder that becomes ``/in``, read-only; None: there is no ``/in``.
        mounts: Read-only folders that become ``/data/<name>``.
        memory_mb: Linear memory, in MiB, as the other sizes.
        wall_s: Run time; None: unlimited.
        out_mb: All files of ``/out`` together.
        stdout_mb: Standard output, and standard error, each.
    """

    image: Path
    out: Path
    stdout: Path
    digest: str | None = None
    program: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: Path | None = None
    mounts: Mapping[str, Path] = field(default_factory=dict)
    memory_mb: int = 256
    wall_s: float | None = None
    out_mb: int = 64
    stdout_mb: int = 16


@dataclass(frozen=True, slots=True)
class GuestOutcome:
    """How a run ended.

    Attributes:
        reason: None: it succeeded; else the name of its failure.
        message: What happened and what to do, for a person.
        exit_code: The guest's own, where it got that far.
        stderr_tail: The last of its standard error.
        stopped: It was stopped from outside; ``reason`` then says nothing.
        usage: What it took.
    """

    reason: FailureReason | None
    message: str = ""
    exit_code: int | None = None
    stderr_tail: str = ""
    stopped: bool = False
    usage: Usage = field(default_factory=Usage)


def run_guest(
    run: GuestRun,
    modules: ModuleCache,
    *,
    stopper: Stopper | None = None,
    on_progress: OnProgress | None = None,
    on_output: OnOutput | None = None,
) -> GuestOutcome:
    """Run a guest in a worker process of its own and wait for its end.

    Args:
        run: What to run.
        modules: Where compiled modules are kept.
        stopper: Lets another thread end the run.
        on_progress: Gets each JSON object that the guest prints on a line of its own.
        on_output: Gets the chunks of ``stdout`` and ``stderr`` as they come.

    Returns:
        The outcome. Whatever a guest does, it ends as one; errors are this device's.

    Raises:
        OSError: this device cannot start a process or write its files.
    """
    if any("\0" in text for text in (*run.args, *run.env.values())):
        return _failed(FailureReason.INTERNAL, "a NUL character in args or env: remove it")
    stopper = stopper or Stopper()
    remove(run.out)
    run.out.mkdir(parents=True)
    try:
        module = modules.compiled(run.image, run.digest, stopper)
        with Output(run.stdout, run.stdout_mb * MB, on_progress, on_output) as output:
            ended = _attempt(run, modules, module, stopper, output)
            if ended.news is not None and ended.news["kind"] == "stale":
                # Another engine's, or a damaged file: it was refused before any of it ran.
                modules.forget(module)
                module = modules.compiled(run.image, run.digest, stopper)
                ended = _attempt(run, modules, module, stopper, output)
    except ImageRefused as refused:
        return _failed(FailureReason.IMAGE_REFUSED, f"the image was refused: {refused}")
    except TaskStopped:
        return GuestOutcome(None, "stopped", stopped=True)
    except PropletError as error:
        return _failed(error.reason, str(error))
    return _Verdict(run, ended, output).outcome()


def _attempt(
    run: GuestRun, modules: ModuleCache, module: Path, stopper: Stopper, output: Output
) -> Ended:
    mounts = [(str(run.out.absolute()), "/out", True)]
    if run.inputs is not None:
        mounts.append((str(run.inputs.absolute()), "/in", False))
    mounts += [(str(path.absolute()), f"/data/{name}", False) for name, path in run.mounts.items()]
    job = {
        "do": "run",
        "library": engine_library(),
        "cwasm": str(module),
        "args": [run.program or run.image.name, *run.args],
        "env": dict(run.env),
        "mounts": mounts,
        "memory_bytes": run.memory_mb * MB,
        "out_bytes": run.out_mb * MB,
    }
    watch = Watch(
        wall_s=run.wall_s,
        look=lambda: "output" if _excess(run) else None,
        sink=output.take,
        stopper=stopper,
    )
    return work(job, watch, modules.bytecode)


def _excess(run: GuestRun) -> str | None:
    found = measure(run.out)
    if found.excess is None and found.size > run.out_mb * MB:
        return f"it holds more than {run.out_mb} MiB"
    return found.excess


def _failed(reason: FailureReason, message: str) -> GuestOutcome:
    return GuestOutcome(reason, message)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Names the end of a worker."""

    run: GuestRun
    ended: Ended
    output: Output

    def outcome(self) -> GuestOutcome:
        reason, message = self._judge()
        news = self.ended.news or {}
        stopped = self.ended.killed == "stopped"
        return GuestOutcome(
            reason=None if stopped else reason,
            message=message,
            exit_code=news.get("code"),
            stderr_tail=self.output.tail(),
            stopped=stopped,
            usage=self._usage(news),
        )

    def _judge(self) -> tuple[FailureReason | None, str]:
        if self.ended.killed is not None:
            return self._killed(self.ended.killed)
        news = self.ended.news
        if news is None:
            return FailureReason.INTERNAL, self._died()
        excess = _excess(self.run)
        if excess is not None:
            return FailureReason.OUTPUT_LIMIT, f"/out is full: {excess} (out_mb)"
        succeeded = news["kind"] == "exit" and news["code"] == 0
        if not succeeded and news.get("memory_refused"):
            return FailureReason.MEMORY_LIMIT, self._wanted(news["memory_refused"])
        return _ENDS[news["kind"]](news)

    def _killed(self, cause: str) -> tuple[FailureReason | None, str]:
        run = self.run
        match cause:
            case "stopped":
                return None, "stopped"
            case "time":
                return (
                    FailureReason.TIME_LIMIT,
                    f"it still ran after {run.wall_s:g} s: raise wall_s or give it less to do",
                )
            case "output":
                excess = _excess(run) or f"it held more than {run.out_mb} MiB"
                return FailureReason.OUTPUT_LIMIT, f"/out is full: {excess} (out_mb)"
            case "stdout" | "stderr":
                over = f"it wrote more than {run.stdout_mb} MiB to {cause}"
                return FailureReason.STDOUT_LIMIT, f"{over}: raise stdout_mb or print less"
            case _:
                return FailureReason.INTERNAL, "its process did not start within a minute"

    def _wanted(self, wanted: int) -> str:
        return (
            f"it asked for {wanted / MB:.1f} MiB of memory, its limit is {self.run.memory_mb}: "
            "raise memory_mb"
        )

    def _died(self) -> str:
        tail = self.output.tail()
        return f"its process died with status {self.ended.status} and no outcome: {tail[-300:]}"

    def _usage(self, news: Mapping[str, Any]) -> Usage:
        return Usage(
            wall_s=float(news.get("wall_s", self.ended.wall_s)),
            cpu_s=float(news.get("cpu_s", self.ended.cpu_s)),
            memory_mb=max(self.ended.peak_kb, int(news.get("peak_kb", 0))) / 1024,
            out_bytes=measure(self.run.out).size,
        )


def _exited(news: Mapping[str, Any]) -> tuple[FailureReason | None, str]:
    if news["code"] == 0:
        return None, ""
    return FailureReason.EXIT_CODE, f"it ended with exit code {news['code']}"


def _trapped(news: Mapping[str, Any]) -> tuple[FailureReason | None, str]:
    return FailureReason.TRAP, f"it trapped: {news['message']}"


def _refused(news: Mapping[str, Any]) -> tuple[FailureReason | None, str]:
    return FailureReason.IMAGE_REFUSED, f"the image was refused: {news['message']}"


def _broke(news: Mapping[str, Any]) -> tuple[FailureReason | None, str]:
    return FailureReason.INTERNAL, f"its worker failed: {news['message']}"


_ENDS: Final = {
    "exit": _exited,
    "trap": _trapped,
    "refused": _refused,
    "stale": _broke,
    "device": _broke,
    "error": _broke,
}
