"""Bugs to plant: each a small patch of real code, of the kind that the design rules out.

A simulation that finds none of these would prove nothing. Each has a seed that is likely to find
it, so that the search is short; it goes on through all seeds if the code has moved on since.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

from roost.chassis.runner import Runner
from roost.chassis.store import Store
from roost.coordinator.core import judge, publishing
from roost.coordinator.core.case import Case
from roost.manager.core import dispatch, orders, step
from roost.model_server.adapters.performers import Performers
from roost.model_server.core.state import Released
from roost.proplet.core import lifecycle
from roost.proplet.core.happenings import Happening
from roost.proplet.core.states import Phase
from roost.protocol.round.messages import ModelVersion
from roost.protocol.round.refusals import DUPLICATE
from roost.protocol.round.topics import MODEL
from roost.protocol.task.messages import TaskStatus

from .session import SimSession

Change = tuple[Any, str, Any]


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake somebody could make.

    Attributes:
        about: What it is.
        changes: Owner, name and new value of each attribute that it changes.
        first: A seed that found it once.
    """

    about: str
    changes: Callable[[], list[Change]]
    first: int


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Let the code have a bug for a while."""
    with ExitStack() as stack:
        for owner, name, value in bug.changes():
            if isinstance(owner, dict):
                stack.enter_context(patch.dict(owner, {name: value}))
            else:
                stack.enter_context(patch.object(owner, name, value))
        yield


def _acknowledge_first() -> list[Change]:
    turn = Runner._turn

    def hasty(self: Runner, items: Any) -> None:
        for item in items:
            token = getattr(item, "token", None)
            if token is not None:
                self._session.ack(token)
        turn(self, items)

    return [(Runner, "_turn", hasty)]


def _lose_timers() -> list[Change]:
    return [(Store, "timers", lambda _self: {})]


def _do_not_subscribe_again() -> list[Change]:
    wanted = SimSession._wanted
    return [(SimSession, "_wanted", lambda self: wanted(self) if self.generation == 1 else [])]


def _believe_anyone() -> list[Change]:
    return [(step, "is_current", lambda task, *_: task.status is not TaskStatus.QUEUED)]


def _index_first() -> list[Change]:
    release, index = Performers.release, Performers.publish_index
    waiting: list[Any] = []

    def say_released(self: Performers, effect: Any) -> Any:
        waiting.append(effect)
        version = effect.version
        self._files.release(version)
        return [Released(self._clock(), version.name, version.version)]

    def publish_all(self: Performers, effect: Any) -> Any:
        index(self, effect)
        while waiting:
            release(self, waiting.pop())
        return ()

    return [(Performers, "release", say_released), (Performers, "publish_index", publish_all)]


def _complete_first() -> list[Change]:
    listed = publishing.listed

    def too_soon(publication: Any, index: Any) -> Any:
        if publication.version is None:
            return listed(publication, index)
        topic = MODEL.format(name=publication.name, version=publication.version)
        return ModelVersion(
            version=publication.version,
            topic=topic,
            digest=publication.digest,
            sha256=publication.digest,
            size=1,
            form="json",
            publish_id=publication.publish_id,
        )

    return [(publishing, "listed", too_soon)]


def _do_not_publish_again() -> list[Change]:
    return [(Runner, "_republish", lambda _self: None)]


def _forget_the_outbox() -> list[Change]:
    outbox = Store.outbox

    def only_later(self: Store) -> Any:
        self._db.execute("DELETE FROM outbox")
        return outbox(self)

    return [(Store, "outbox", only_later)]


def _count_twice() -> list[Change]:
    standing, note_seat = judge._standing, Case.note_seat

    def lenient(case: Case, sender: str) -> Any:
        problem = standing(case, sender)
        return None if problem is not None and problem[0] is DUPLICATE else problem

    def count(self: Case, participant: str, **fields: Any) -> None:
        before = self.round.updates
        note_seat(self, participant, **fields)
        if fields.get("accepted") is not None and self.round.updates == before:
            self.change(updates=before + 1)

    return [(judge, "_standing", lenient), (Case, "note_seat", count)]


def _table_without(*happenings: tuple[Phase, Happening]) -> list[Change]:
    """Let a proplet ignore what happens."""

    def nothing(held: Any, _event: Any, _me: Any) -> lifecycle.Step:
        return lifecycle.Step(held)

    return [(lifecycle.TABLE, key, nothing) for key in happenings]  # type: ignore[misc]


def _report_once() -> list[Change]:
    return _table_without((Phase.ENDED, Happening.RETRY))


def _no_tombstone() -> list[Change]:
    return [(lifecycle, "_bury", lambda _event: lifecycle.Step(None))]


def _ignore_resend() -> list[Change]:
    return _table_without((Phase.ENDED, Happening.RESEND), (Phase.RECORDED, Happening.RESEND))


def _launch_again() -> list[Change]:
    return [
        (orders, "_launched_before", _launch_anyway),
        (orders, "_refuse_taken", lambda *_: None),
    ]


def _launch_anyway(draft: Any, order: Any, key: str, *, same: bool) -> None:
    del same
    for task in list(draft.open_tasks()):
        if task.launch is not None and task.launch.key == key:
            dispatch.add_task(draft, task.request, task.launch, order.at)


BUGS: Final[Mapping[str, Bug]] = {
    name: Bug(about, changes, first)
    for name, about, changes, first in (
        ("acknowledge", "a message is acknowledged before its commit", _acknowledge_first, 3),
        ("timers", "timers do not outlive the process", _lose_timers, 1),
        ("subscribe", "nothing is subscribed again after a reconnect", _do_not_subscribe_again, 15),
        ("stale", "a report of another attempt or proplet counts", _believe_anyone, 21),
        ("index", "the index is written before the model", _index_first, 1),
        ("complete", "a round is complete before the index lists it", _complete_first, 4),
        ("retained", "retained topics are not published again", _do_not_publish_again, 5),
        ("outbox", "what an earlier process left is not done", _forget_the_outbox, 5),
        ("duplicate", "a second update of a participant counts", _count_twice, 12),
        ("report", "the final report is sent once", _report_once, 18),
        ("tombstone", "a stop before its start is forgotten", _no_tombstone, 59),
        ("resend", "outputs are not sent again", _ignore_resend, 18),
        ("launch", "the same launch launches again", _launch_again, 33),
    )
}
"""Every bug by its name."""
