"""A phone's behaviour: ``step(handset, event) -> (handset, what it wants done)``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from roost.ios_bridge.simulator.core.states import (
    Beat,
    Began,
    Connected,
    Drop,
    Ended,
    Felt,
    Halt,
    HandedIn,
    HandIn,
    HandInDelayed,
    Handset,
    Job,
    Lost,
    OrderCame,
    Progressed,
    Say,
    Sleeps,
    Stage,
    Want,
    Work,
)
from roost.protocol.phone.messages import (
    Holding,
    PhoneAsleep,
    PhoneReport,
    PhoneReportStatus,
    PhoneState,
)
from roost.protocol.phone.policy import judge


@dataclass(slots=True)
class _Turn:
    """One event's work."""

    now: Handset
    at: float
    wants: list[Want] = field(default_factory=list)

    def change(self, **fields: Any) -> None:
        self.now = replace(self.now, **fields)

    def set_job(self, job: Job | None, **fields: Any) -> None:
        self.now = replace(self.now, job=None if job is None else replace(job, **fields))

    def say(self, message: PhoneState | PhoneReport | PhoneAsleep) -> None:
        """What is said without a connection is not said: the state says it all again."""
        if self.now.connection_id is not None:
            self.wants.append(Say(message))

    def say_state(self) -> None:
        now = self.now
        if now.connection_id is None:
            return
        job = now.job
        self.say(
            PhoneState(
                connection_id=now.connection_id,
                boot_id=now.model.boot_id,
                app=now.model.app,
                resources=now.model.resources,
                mounts=now.model.mounts,
                reading=now.reading,
                order_id=now.order_id,
                holding=None if job is None else Holding(task_id=job.key[0], attempt=job.key[1]),
            )
        )

    def report(self, status: PhoneReportStatus, **more: Any) -> None:
        job = self.now.job
        assert job is not None
        self.say(PhoneReport(task_id=job.key[0], attempt=job.key[1], status=status, **more))

    def rest_reason(self) -> str | None:
        """Why work must rest, by the order or by what the phone feels itself."""
        verdict = judge(self.now.senses, self.at, low=self.now.low)
        self.change(low=verdict.low)
        return self.now.pause or verdict.pause

    def settle(self) -> None:
        """Begin, rest or give up, as order, policy and time say."""
        job, reason = self.now.job, self.rest_reason()
        if job is None:
            return
        if self.at >= job.until:
            self.let_go()
        elif job.stage is Stage.RESTING and reason is None and self.now.follows:
            self.set_job(job, stage=Stage.WORKING)
            self.wants.append(Work(job.task, job.until - self.at))
        elif job.stage is Stage.WORKING and reason is not None:
            self.halt(reason)

    def halt(self, reason: str) -> None:
        """Stop the guest and keep the task."""
        job = self.now.job
        assert job is not None
        self.set_job(job, stage=Stage.RESTING)
        self.wants.append(Halt(job.key))
        self.report(PhoneReportStatus.PAUSED, pause=reason)

    def let_go(self) -> None:
        """Stop what runs and forget the task with all that came of it."""
        job = self.now.job
        assert job is not None
        self.wants += [Halt(job.key)] if job.stage is Stage.WORKING else []
        self.wants.append(Drop(job.key))
        self.change(job=None)

    def again(self) -> None:
        """Say, or hand in, once more what nobody has answered by an order yet."""
        job = self.now.job
        if job is None:
            return
        if job.stage is Stage.HANDING_IN:
            self.wants.append(HandIn(job.task))
        elif job.stage is Stage.ENDED and job.report is not None:
            self.say(job.report)


def step(handset: Handset, event: Any) -> tuple[Handset, tuple[Want, ...]]:
    """Let one event happen to a phone.

    Args:
        handset: As it is.
        event: One of ``states``.

    Returns:
        The phone as it is then, and what it wants done, in order.
    """
    turn = _Turn(handset, event.at)
    key = getattr(event, "key", None)
    job = handset.job
    if key is None or (job is not None and job.key == key):
        _HANDLERS[type(event)](turn, event)
    turn.settle()
    return turn.now, tuple(turn.wants)


def _connected(turn: _Turn, event: Connected) -> None:
    turn.change(connection_id=event.connection_id, order_id=None)
    turn.say_state()
    turn.again()


def _lost(turn: _Turn, _event: Lost) -> None:
    turn.change(connection_id=None)


def _sleeps(turn: _Turn, _event: Sleeps) -> None:
    job, connection_id = turn.now.job, turn.now.connection_id
    if job is not None and job.stage is Stage.WORKING:
        turn.halt("asleep")
    if connection_id is not None:
        turn.say(PhoneAsleep(connection_id=connection_id))
    turn.change(connection_id=None)


def _felt(turn: _Turn, event: Felt) -> None:
    reading = event.reading
    senses = turn.now.senses.told(reading, event.at)
    news = reading != turn.now.reading
    turn.change(senses=senses, reading=reading)
    if news:
        turn.say_state()


def _beat(turn: _Turn, _event: Beat) -> None:
    turn.say_state()
    turn.again()


def _order(turn: _Turn, event: OrderCame) -> None:
    order, job = event.order, turn.now.job
    named = None if order.task is None else (order.task.task_id, order.task.attempt)
    if job is not None and job.key != named:
        turn.let_go()
    if order.task is not None and turn.now.job is None:
        turn.change(job=Job(order.task, event.at + order.task.remaining_s))
    news = order.order_id != turn.now.order_id
    turn.change(order_id=order.order_id, pause=order.pause)
    if news:
        turn.say_state()
        turn.again()


def _began(turn: _Turn, _event: Began) -> None:
    turn.report(PhoneReportStatus.RUNNING)


def _progressed(turn: _Turn, event: Progressed) -> None:
    turn.report(PhoneReportStatus.PROGRESS, progress=event.progress)


def _ended(turn: _Turn, event: Ended) -> None:
    job = turn.now.job
    assert job is not None
    if job.stage is not Stage.WORKING:  # it was halted in the very moment of its end
        return
    status = PhoneReportStatus.SUCCEEDED if event.reason is None else PhoneReportStatus.FAILED
    report = PhoneReport(
        task_id=job.key[0],
        attempt=job.key[1],
        status=status,
        reason=event.reason,
        message=event.message,
        exit_code=event.exit_code,
        stderr_tail=event.stderr_tail,
        usage=event.usage,
    )
    if event.reason is None and job.task.outputs:
        turn.set_job(job, stage=Stage.HANDING_IN, report=report)
        turn.wants.append(HandIn(job.task))
    else:
        turn.set_job(job, stage=Stage.ENDED, report=report)
        turn.say(report)


def _handed_in(turn: _Turn, event: HandedIn) -> None:
    job = turn.now.job
    assert job is not None
    if not event.wanted:
        turn.let_go()
    elif job.stage is Stage.HANDING_IN and job.report is not None:
        turn.set_job(job, stage=Stage.ENDED)
        turn.say(job.report)


def _delayed(_turn: _Turn, _event: HandInDelayed) -> None:
    """The next beat, or the next connection, tries again."""


_HANDLERS: Final[Mapping[type[Any], Callable[[_Turn, Any], None]]] = {
    Connected: _connected,
    Lost: _lost,
    Sleeps: _sleeps,
    Felt: _felt,
    Beat: _beat,
    OrderCame: _order,
    Began: _began,
    Progressed: _progressed,
    Ended: _ended,
    HandedIn: _handed_in,
    HandInDelayed: _delayed,
}
