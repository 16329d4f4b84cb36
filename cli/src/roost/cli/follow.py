"""Following a round, an experiment or a task until it has ended."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from roost.chassis.received import Received
from roost.cli.errors import CliError, WaitedTooLong
from roost.cli.faults import kind
from roost.cli.output import Output
from roost.cli.wire_client import Wire, read
from roost.protocol.round import topics as rounds
from roost.protocol.round.messages import (
    CoordinatorState,
    ExperimentState,
    RoundComplete,
    RoundState,
)
from roost.protocol.task import topics as tasks
from roost.protocol.task.messages import TaskState, TaskStatus, WorkloadsState

__all__ = [
    "complete_text",
    "experiment_end",
    "round_end",
    "state_text",
    "subscribe_experiment",
    "subscribe_round",
    "subscribe_task",
    "task_end",
]

_SHOWN = 3
_AGAIN_S = 3.0
#: A refusal begins with its name and number; these are about updates (roost.protocol.round).
_CODE = re.compile(r"\((\d+)\)")
_UPDATE_CODES = range(320, 340)

Order = Callable[[], None]


class _News:
    """The inbox of a connection while one thing is waited for.

    Attributes:
        answered: set once there was a sign of it.
    """

    def __init__(
        self,
        wire: Wire,
        about: str,
        answer_s: float,
        *,
        order: Order | None = None,
        quiet_s: float | None = None,
    ) -> None:
        self.answered = False
        self._wire = wire
        self._about = about
        self._answer_s = answer_s
        self._deadline = time.monotonic() + answer_s
        self._order = order
        self._quiet_s = quiet_s
        if order is not None:
            order()

    def next(self) -> Received:
        """The next message.

        Raises:
            WaitedTooLong: there was none for too long.
        """
        if self.answered:
            received = self._wire.next(self._quiet_s)
            if received is None:
                raise self._too_long(f"nothing more was told about {self._about}", self._quiet_s)
            return received
        while (left := self._deadline - time.monotonic()) > 0:
            received = self._wire.next(min(left, _AGAIN_S))
            if received is not None:
                return received
            if self._order is not None:
                self._order()
        raise self._too_long(f"nobody answered about {self._about}", self._answer_s)

    def _too_long(self, said: str, waited_s: float | None) -> WaitedTooLong:
        return WaitedTooLong(
            f"{said} for {waited_s:g} s; `roost doctor` tells what does not run",
            waited_s=waited_s,
        )


def subscribe_round(wire: Wire, round_id: str) -> None:
    """Let everything about a round arrive in the inbox."""
    wire.subscribe(
        rounds.ROUND_STATE.format(round_id=round_id),
        rounds.ROUND_COMPLETE.format(round_id=round_id),
        rounds.COORDINATOR_STATE.template,
    )


def round_end(
    wire: Wire,
    out: Output,
    round_id: str,
    answer_s: float,
    *,
    order: Order | None = None,
    accepted_only: bool = False,
) -> RoundComplete | RoundState:
    """Wait until a subscribed round has ended, telling how it goes on.

    Args:
        wire: subscribed to it.
        out: gets the progress.
        round_id: which round.
        answer_s: how long the first sign of it may take.
        order: starts it; given again until there is a sign, which does no harm.
        accepted_only: be content with the first sign.

    Raises:
        WaitedTooLong: no sign of it came.
        CliError: the coordinator refused the order.
    """
    news = _News(wire, f"round {round_id}", answer_s, order=order)
    told = away = False
    while True:
        received = news.next()
        if complete := read(rounds.ROUND_COMPLETE, received, RoundComplete):
            return complete
        if state := read(rounds.ROUND_STATE, received, RoundState):
            news.answered = True
            out.status(state_text(state))
            if state.failed and not told and not state.state.final:
                told = True  # all are told at the end; the first tells now why that takes long
                who, why = next(iter(state.failed.items()))
                out.note(f"{who} failed: {why}")
            if not away and _needs_absent(state):
                away = True
                out.note(
                    f"offline: {_some(state.offline)}; too few others are left for "
                    f"{state.k_of_n} updates, so the round waits until its time is up"
                )
            if accepted_only:
                return state
        elif refused := read(rounds.COORDINATOR_STATE, received, CoordinatorState):
            _raise_if_refused(round_id, refused.last_refusal, was_there=received.retain)


def _needs_absent(state: RoundState) -> bool:
    """Whether the quorum takes somebody who is offline."""
    there = state.participants - len(state.offline) - state.failures
    return bool(state.offline) and there < state.k_of_n and not state.state.final


def state_text(state: RoundState, *, message: bool = True) -> str:
    """A round's progress in one line, with its `message` or without."""
    parts = [
        f"round {state.round_id}: {state.state}",
        f"{state.updates} of {state.participants} updates",
    ]
    if state.missing and not state.state.final:
        away = set(state.offline)
        names = (f"{who} (offline)" if who in away else who for who in state.missing)
        parts.append("waiting for " + _some(tuple(names), state.participants - state.updates))
    if state.failed:
        parts.append("failed: " + _some(tuple(state.failed), state.failures))
    if state.time_left_s is not None and not state.state.final:
        parts.append(f"{state.time_left_s:.0f} s left")
    if state.message and message:
        parts.append(state.message)
    return ", ".join(parts)


def complete_text(complete: RoundComplete, faults: Sequence[str] = ()) -> str:
    """A round's outcome for people; several lines if something was odd.

    Args:
        complete: the outcome.
        faults: lines on the participants that failed, as `fault_lines` makes them.
    """
    if complete.model_topic is not None:
        measured = ", ".join(f"{k} {v:.4f}" for k, v in sorted(complete.metrics.items()))
        head = (
            f"round {complete.round_id} {complete.outcome}: {complete.model_topic} from "
            f"{complete.updates} updates over {complete.samples} samples in "
            f"{complete.duration_s:.1f} s"
            + (f" (participants report {measured})" if measured else "")
        )
    else:
        head = (
            f"round {complete.round_id} {complete.outcome}: {complete.message or complete.reason}"
        )
    silent = sorted(name for name, said in complete.verdicts.items() if kind(said) == "missing")
    lines = [f"  no update from {_some(tuple(silent))}"] if silent else []
    return "\n".join([head, *lines, *faults])


def subscribe_experiment(wire: Wire, experiment_id: str) -> None:
    """Let an experiment and the rounds of all experiments arrive in the inbox."""
    wire.subscribe(
        rounds.EXPERIMENT_STATE.format(experiment_id=experiment_id),
        rounds.ROUND_COMPLETE.filter,
        rounds.COORDINATOR_STATE.template,
    )


def experiment_end(
    wire: Wire,
    experiment_id: str,
    answer_s: float,
    on_round: Callable[[RoundComplete], None],
    on_state: Callable[[ExperimentState], None],
    *,
    order: Order | None = None,
    accepted_only: bool = False,
    quiet_s: float | None = None,
) -> ExperimentState:
    """Wait until a subscribed experiment has ended.

    Args:
        wire: subscribed to it.
        experiment_id: which experiment.
        answer_s: how long the first sign of it may take.
        on_round: told each of its rounds that ended.
        on_state: told each change of the experiment.
        order: starts it; given again until there is a sign, which does no harm.
        accepted_only: be content with the first sign of it.
        quiet_s: how long to wait for the next sign of it, after the first.

    Raises:
        WaitedTooLong: no sign of it came.
        CliError: the coordinator refused the order.
    """
    news = _News(wire, f"experiment {experiment_id}", answer_s, order=order, quiet_s=quiet_s)
    while True:
        received = news.next()
        if complete := read(rounds.ROUND_COMPLETE, received, RoundComplete):
            if complete.round_id.startswith(f"{experiment_id}:"):
                on_round(complete)
        elif state := read(rounds.EXPERIMENT_STATE, received, ExperimentState):
            news.answered = True
            on_state(state)
            if state.state.final or accepted_only:
                return state
        elif refused := read(rounds.COORDINATOR_STATE, received, CoordinatorState):
            _raise_if_refused(experiment_id, refused.last_refusal, was_there=received.retain)


def subscribe_task(wire: Wire, task_id: str) -> None:
    """Let everything about a task arrive in the inbox."""
    wire.subscribe(tasks.STATE.format(task_id=task_id), tasks.WORKLOADS_STATE.template)


def task_end(
    wire: Wire, out: Output, task_id: str, answer_s: float, *, accepted_only: bool = False
) -> TaskState:
    """Wait until a subscribed task has ended; arguments and errors as for `round_end`.

    Raises:
        WaitedTooLong: no sign of it came.
        CliError: the manager refused the order.
    """
    news = _News(wire, f"task {task_id}", answer_s)
    told: str | None = None
    while True:
        received = news.next()
        if state := read(tasks.STATE, received, TaskState):
            news.answered = True
            if state.state is TaskStatus.QUEUED and state.message not in (None, told):
                told = state.message  # a name that was mistyped is not worth the whole deadline
                out.note(f"task {task_id} waits until its deadline: {told}")
            if state.state.final or accepted_only:
                return state
            out.status(_task_text(state))
        elif refused := read(tasks.WORKLOADS_STATE, received, WorkloadsState):
            _raise_if_refused(task_id, refused.last_refusal, was_there=received.retain)


def _task_text(state: TaskState) -> str:
    where = f" on {state.proplet}" if state.proplet else ""
    progress = ""
    if state.progress:
        progress = ", " + ", ".join(f"{k} {v}" for k, v in state.progress.items())
    return f"task {state.task_id}: {state.state}{where}{progress}"


def _raise_if_refused(wanted: str, refusal: str | None, *, was_there: bool) -> None:
    """End the waiting if a refusal that is news turns down the order that we wait for.

    Refused updates name a round as well; they do not end it.

    Raises:
        CliError: it does.
    """
    if refusal is None or was_there or wanted not in refusal:
        return
    found = _CODE.search(refusal)
    if found is not None and int(found[1]) not in _UPDATE_CODES:
        raise CliError(refusal, code=int(found[1]))


def _some(names: tuple[str, ...], count: int = 0) -> str:
    """The first of these names, and how many more there are; of `count`, if not all are here."""
    more = max(count, len(names)) - _SHOWN
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
