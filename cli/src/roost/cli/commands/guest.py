"""`roost guest run`: try a Wasm program on this machine, under the limits it has on a proplet."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import click
from pydantic import ValidationError
from roost.cli.commands.image import check_module
from roost.cli.errors import UsageProblem
from roost.cli.options import Call, local
from roost.proplet.guest import GuestOutcome, GuestRun, ModuleCache, run_guest
from roost.protocol.task.messages import Limits
from roost.wire.message import describe

__all__ = ["group", "pairs"]

_LIMITS = Limits()


@click.group(name="guest")
def group() -> None:
    """Try a Wasm program here, without a broker."""


@group.command("run")
@click.argument("app", type=click.Path(path_type=Path))
@click.argument("args", nargs=-1)
@click.option("--in", "inputs", multiple=True, metavar="[NAME=]FILE", help="A file of /in.")
@click.option(
    "--data", "mounts", multiple=True, metavar="[MOUNT=]DIR", help="A folder of /data, as `train`."
)
@click.option("--env", "env", multiple=True, metavar="K=V", help="An environment variable.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Empty folder that gets what is in /out."
)
@click.option("--memory-mb", type=int, default=_LIMITS.memory_mb, show_default=True)
@click.option("--wall-s", type=float, help="Run time.  [default: unlimited]")
@click.option("--out-mb", type=int, default=_LIMITS.out_mb, show_default=True)
@click.option("--stdout-mb", type=int, default=_LIMITS.stdout_mb, show_default=True)
@local
def run(
    call: Call,
    app: Path,
    args: tuple[str, ...],
    inputs: tuple[str, ...],
    mounts: tuple[str, ...],
    env: tuple[str, ...],
    out: Path | None,
    **limits: float | None,
) -> int:
    """Run APP, a wasm32-wasi program, with ARGS.

    What it prints is printed; what it writes to /out is listed, and kept with --out.
    """
    if not app.is_file():
        raise UsageProblem(f"there is no file {app}")
    check_module(app)
    if out is not None and out.exists() and any(out.iterdir()):
        raise UsageProblem(f"{out} is not empty: name an empty or a new folder with --out")
    with tempfile.TemporaryDirectory(prefix="roost-guest-") as folder:
        work = Path(folder)
        wanted = GuestRun(
            image=app,
            out=work / "out",
            stdout=work / "stdout",
            args=args,
            env=pairs("--env", env),
            inputs=_gather(inputs, work / "in"),
            mounts=_folders(mounts),
            **_limits(limits).model_dump(),
        )
        outcome = run_guest(
            wanted, ModuleCache(work / "cache"), on_output=None if call.out.as_json else _print
        )
        files = _outputs(wanted.out, out)
        stdout = wanted.stdout.read_text(errors="replace") if wanted.stdout.exists() else ""
    return _tell(call, outcome, files, stdout)


def _limits(given: dict[str, float | None]) -> Limits:
    try:
        return Limits.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as problem:
        raise UsageProblem(f"limits: {describe(problem)}") from problem


def pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE options as a dict.

    Raises:
        UsageProblem: one has no `=` or no name, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageProblem(f"{option} {text!r}: write NAME=VALUE")
        if name in found:
            raise UsageProblem(f"{option}: {name!r} is given twice")
        found[name] = value
    return found


def _gather(given: tuple[str, ...], folder: Path) -> Path | None:
    """Copy the inputs into one folder under their names; None if there are none."""
    if not given:
        return None
    folder.mkdir()
    for text in given:
        name, equals, path = text.partition("=")
        source = Path(path if equals else text)
        target = folder / (name if equals else source.name)
        if not source.is_file():
            raise UsageProblem(f"--in {text}: there is no file {source}")
        if target.parent != folder or target.exists():
            raise UsageProblem(
                f"--in {text}: {target.name!r} cannot be its name in /in, or is taken"
            )
        shutil.copyfile(source, target)
    return folder


def _folders(given: tuple[str, ...]) -> dict[str, Path]:
    """Mounts by name; a folder given without a name gets its own."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        folder = Path(path if equals else text)
        if not folder.is_dir():
            raise UsageProblem(f"--data {text}: there is no folder {folder}")
        found[name if equals else folder.resolve().name] = folder
    return found


def _print(stream: str, chunk: bytes) -> None:
    """Pass on what the guest prints, as it comes."""
    target = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
    target.write(chunk)
    target.flush()


def _outputs(produced: Path, keep: Path | None) -> list[dict[str, object]]:
    """What is in /out, copied to `keep` if that was wanted."""
    files = sorted(p for p in produced.rglob("*") if p.is_file())
    if keep is not None:
        shutil.copytree(produced, keep, dirs_exist_ok=True)
    return [{"file": str(p.relative_to(produced)), "size": p.stat().st_size} for p in files]


def _tell(call: Call, outcome: GuestOutcome, files: list[dict[str, object]], stdout: str) -> int:
    usage = outcome.usage.model_dump(exclude_none=True)
    failed = outcome.reason is not None
    result: dict[str, object] = {
        "outcome": "failed" if failed else "succeeded",
        "reason": outcome.reason.value if outcome.reason else None,
        "message": outcome.message or None,
        "exit_code": outcome.exit_code,
        "usage": usage,
        "files": files,
        "stdout": stdout,
        "stderr_tail": outcome.stderr_tail,
    }
    spent = ", ".join(f"{name} {value:.4g}" for name, value in usage.items())
    head = f"failed ({outcome.reason}): {outcome.message}" if failed else "succeeded"
    if call.out.as_json:
        call.out.result(result)
    call.out.note(f"{head} [{spent}]" if spent else head)
    for file in files:
        call.out.note(f"  /out/{file['file']}: {file['size']} bytes")
    return 1 if failed else 0
