"""`roost task`: run any Wasm program on a proplet."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path
from typing import Any

import click
from roost.cli.commands.guest import pairs
from roost.cli.errors import CliError, UsageProblem
from roost.cli.follow import subscribe_task, task_end
from roost.cli.options import Call, remote, require_id
from roost.cli.orders import decode_order, fresh_id, read_json
from roost.cli.views import newest, task_rows, tell_if_cut
from roost.cli.wire_client import read
from roost.protocol.task.messages import CancelTask, TaskRequest, TaskState, TaskStatus
from roost.protocol.task.topics import CANCEL, LAUNCH, STATE

__all__ = ["group"]

_LISTED = 20


@click.group(name="task")
def group() -> None:
    """Run any Wasm program on a proplet."""


@group.command("launch")
@click.argument("image", required=False)
@click.argument("args", nargs=-1)
@click.option("--id", "task_id", help="Used once; made up by default.")
@click.option("--proplet", help="On this one and no other.")
@click.option(
    "--label", "labels", multiple=True, metavar="K=V", help="Else: on one with this label."
)
@click.option("--env", multiple=True, metavar="K=V", help="An environment variable.")
@click.option(
    "--in", "inputs", multiple=True, metavar="NAME=FILE|topic:T|blob:B", help="A file of /in."
)
@click.option(
    "--out", "outputs", multiple=True, metavar="FILE=TOPIC", help="A file of /out to publish."
)
@click.option(
    "--mount", "mounts", multiple=True, metavar="MOUNT[?]", help="Private data; ? if optional."
)
@click.option("--memory-mb", type=int, help="Limit of linear memory.")
@click.option("--wall-s", type=float, help="Limit of run time.")
@click.option(
    "--deadline", "deadline_s", type=float, metavar="S", help="Until when it must have ended."
)
@click.option("--file", type=click.Path(path_type=Path), help="The whole request as JSON.")
@click.option("--detach", is_flag=True, help="Return once the manager has answered.")
@remote
def launch(call: Call, detach: bool, file: Path | None, **options: Any) -> int:
    """Run IMAGE (blob:, oci:// or file:) with ARGS, and watch it to its end.

    Without --proplet any proplet may get it.
    """
    request = _request(file, options)
    topic = STATE.format(task_id=request.task_id)
    with call.wire() as wire:
        if (earlier := read(STATE, wire.retained(topic), TaskState)) is not None:
            raise CliError(
                f"task {request.task_id} was launched before and is {earlier.state}; "
                "choose another --id"
            )
        subscribe_task(wire, request.task_id)
        wire.publish(LAUNCH.template, request)
        with call.goes_on(f"task watch {request.task_id}", f"task cancel {request.task_id}"):
            end = task_end(wire, call.out, request.task_id, call.timeout_s, accepted_only=detach)
    return _finish(call, end)


@group.command("watch")
@click.argument("task_id")
@remote
def watch(call: Call, task_id: str) -> int:
    """Follow task TASK_ID until it has ended."""
    require_id("task", task_id)
    with call.wire() as wire:
        subscribe_task(wire, task_id)
        with call.known("task", task_id):
            end = task_end(wire, call.out, task_id, call.known_within_s)
    return _finish(call, end)


@group.command("list")
@click.option("--all", "everything", is_flag=True, help=f"Not only the last {_LISTED}.")
@remote
def list_(call: Call, *, everything: bool) -> None:
    """Show the tasks that the broker still knows of, the newest last.

    A state tells no date: those that run count as newest, then those launched one by one, and
    among them the times in the ids that `roost` makes up. --json shows all.
    """
    with call.wire() as wire:
        rows = task_rows(wire)
    shown = rows if everything or call.out.as_json else newest(rows, _LISTED)
    call.out.table(
        ("task", "state", "proplet", "seconds", "reason", "message"),
        shown,
        empty="no task yet; `roost task launch` starts one",
    )
    if len(shown) < len(rows):
        call.out.note(f"{len(rows) - len(shown)} more; `roost task list --all{call.at}` shows them")
    tell_if_cut(call, rows)


@group.command("show")
@click.argument("task_id")
@remote
def show(call: Call, task_id: str) -> None:
    """Show all that is known of task TASK_ID."""
    require_id("task", task_id)
    with call.wire() as wire:
        state = read(STATE, wire.retained(STATE.format(task_id=task_id)), TaskState)
    if state is None:
        raise CliError(f"nothing is known of task {task_id}; `roost task list` shows the others")
    _finish(call, state)


@group.command("cancel")
@click.argument("task_id")
@click.option("--reason", default="cancelled", help="Why; shown in its state.")
@remote
def cancel(call: Call, task_id: str, reason: str) -> int:
    """End task TASK_ID."""
    require_id("task", task_id)
    topic = STATE.format(task_id=task_id)
    with call.wire() as wire:
        if wire.retained(topic) is None:
            raise CliError(
                f"nothing is known of task {task_id}; `roost task list` shows the others"
            )
        wire.subscribe(topic)
        wire.publish(CANCEL.format(task_id=task_id), CancelTask(reason=reason))
        received = wire.await_message(
            lambda r: (s := read(STATE, r, TaskState)) is not None and s.state.final,
            call.timeout_s,
            f"task {task_id} has not ended yet",
        )
    state = read(STATE, received, TaskState)
    assert state is not None
    call.out.result(state.model_dump(mode="json", exclude_none=True), task_text(state))
    return 0 if state.state is TaskStatus.CANCELLED else 1


def _request(file: Path | None, options: dict[str, Any]) -> TaskRequest:
    """The request that file and options make; options override the file.

    Raises:
        UsageProblem: they make none.
    """
    said = {
        "image": options["image"],
        "task_id": options["task_id"],
        "proplet": options["proplet"],
        "deadline_s": options["deadline_s"],
        "args": list(options["args"]),
        "mounts": list(options["mounts"]),
        "selector": pairs("--label", options["labels"]),
        "env": pairs("--env", options["env"]),
        "inputs": [_input(n, s) for n, s in pairs("--in", options["inputs"]).items()],
        "outputs": [
            {"file": name, "topic": topic}
            for name, topic in pairs("--out", options["outputs"]).items()
        ],
    }
    given = read_json(file) if file is not None else {}
    given.update({name: value for name, value in said.items() if value})
    limits = {name: options[name] for name in ("memory_mb", "wall_s") if options[name] is not None}
    if limits:
        given["limits"] = {**given.get("limits", {}), **limits}
    if "image" not in given:
        raise UsageProblem("which image? For example blob:operator/…, as `roost image push` says")
    require_id("task", given.setdefault("task_id", fresh_id("t")))
    _no_local_file(given["image"])
    return decode_order(TaskRequest, given)


def _no_local_file(image: object) -> None:
    """Refuse a path where a reference is due.

    Raises:
        UsageProblem: it is none, and what to do if it names a file of this machine.
    """
    if isinstance(image, str) and not image.startswith(("blob:", "oci://", "file:")):
        raise UsageProblem(
            f"{image!r} is no image reference (blob:…, oci://… or file:…); "
            f"a local file? `roost image push {shlex.quote(image)}` first, it prints the reference"
        )


def _input(name: str, source: str) -> dict[str, str]:
    kind, colon, rest = source.partition(":")
    if colon and kind in ("topic", "blob"):
        return {"name": name, kind: rest}
    try:
        content = Path(source).read_bytes()
    except OSError as problem:
        raise UsageProblem(f"--in {name}={source}: {problem.strerror}") from problem
    return {"name": name, "base64": base64.b64encode(content).decode()}


def task_text(state: TaskState) -> str:
    """A task's state for people."""
    where = f" on {state.proplet}" if state.proplet else ""
    why = f" ({state.reason})" if state.reason else ""
    lines = [
        f"task {state.task_id} {state.state}{where}{why}, ran {state.durations.running_s:.2f} s"
    ]
    if state.message:
        lines.append(f"  {state.message}")
    if state.stderr_tail:
        lines += ["  " + line for line in state.stderr_tail.splitlines()]
    return "\n".join(lines)


def _finish(call: Call, state: TaskState) -> int:
    call.out.result(state.model_dump(mode="json", exclude_none=True), task_text(state))
    return 1 if state.state.final and state.state is not TaskStatus.SUCCEEDED else 0
