"""The matrix: who is killed, at which instant of a round."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from .failpoint import SELF, Order
from .processes import PROPLETS

STARTS: Final = "fl/rounds/start"
UPDATES: Final = "fml/updates"
PUBLISH: Final = "fl/models/publish"
INDEX: Final = "fl/models/index"
SUCCEEDED: Final = '"succeeded"'
GUEST_RUNNING: Final = Order("guest running")
UPDATE_ACCEPTED: Final = Order("after commit", "took", UPDATES)


@dataclass(frozen=True, slots=True)
class Case:
    """One kill in one round.

    Attributes:
        name: Says when, for people; also the id of the round and the name of its model.
        at: The service in which the instant comes.
        order: The instant; ``{round}`` in its texts is the round's id.
        size: Of the model; a large one travels as blobs.
    """

    name: str
    at: str
    order: Order
    size: str = "small"

    @property
    def victim(self) -> str:
        """Who is killed."""
        return self.at if self.order.victim == SELF else self.order.victim


def kill(
    at: str,
    name: str,
    instant: str,
    kind: str = "",
    what: str = "",
    contains: str = "",
    *,
    nth: int = 1,
    size: str = "small",
) -> Case:
    """Return a case in which a service is killed at an instant of its own."""
    what = what.replace("{me}", at)
    return Case(f"{at}-{name}", at, Order(instant, kind, what, contains, nth), size)


manager: Final = partial(kill, "manager")
coordinator: Final = partial(kill, "coordinator")
model_server: Final = partial(kill, "model-server")


def proplet(number: int, *words: str, size: str = "small") -> Case:
    """Return a case of one of the proplets."""
    return kill(PROPLETS[number - 1], *words, size=size)


def broker(*words: str, at: str, nth: int = 1, size: str = "small") -> Case:
    """Return a case in which mosquitto is killed, at an instant of a service."""
    case = kill(at, *words, nth=nth, size=size)
    name = case.name.replace(at, "broker", 1)
    return replace(case, name=name, order=replace(case.order, victim="broker"))


_TASK_START: Final = "proplets/+/tasks/+/start"
_REPORT: Final = "proplets/+/tasks/+/report"

OF_SERVICES: Final = (
    manager("start-uncommitted", "before commit", "took", STARTS),
    manager("start-unacked", "after commit", "took", STARTS),
    manager("start-undispatched", "before perform", "publish", _TASK_START),
    manager("start-dispatched", "puback", "publish", _TASK_START, nth=2),
    manager("report-unrecorded", "message", "took", _REPORT, SUCCEEDED),
    manager("report-unanswered", "after commit", "took", _REPORT, SUCCEEDED),
    manager("update-unforwarded", "before forward", "took", "fl/rounds/+/updates/+"),
    manager("update-forwarded", "after forward", "took", "fl/rounds/+/updates/+", nth=2),
    coordinator("start-uncommitted", "before commit", "took", STARTS),
    coordinator("start-unacked", "after commit", "took", STARTS),
    coordinator("base-unread", "after effect", "effect", "FetchModel"),
    coordinator("update-uncommitted", "before commit", "took", UPDATES),
    coordinator("update-unacked", "after commit", "took", UPDATES, nth=2),
    coordinator("quorum-unaveraged", "before perform", "effect", "Average"),
    coordinator("average-unnoted", "after effect", "effect", "Average"),
    coordinator("average-unpublished", "before perform", "effect", "PublishModel"),
    coordinator("model-published", "puback", "publish", PUBLISH),
    coordinator("index-uncommitted", "before commit", "publish", "fl/rounds/{round}/complete"),
    coordinator("outcome-untold", "before perform", "publish", "fl/rounds/{round}/complete"),
    coordinator("outcome-told", "puback", "publish", "fl/rounds/{round}/complete"),
    coordinator("fetching-base", "message", "took", "blobs/model-server/+/2", size="large"),
    coordinator("fetching-update", "message", "took", "blobs/proplet-2/+/2", size="large"),
    coordinator("offering-model", "publish", "publish", "blobs/coordinator/+/2", size="large"),
    coordinator("clearing-model", "after effect", "effect", "DropOutgoing", size="large"),
    model_server("model-uncommitted", "before commit", "took", PUBLISH),
    model_server("model-unacked", "after commit", "took", PUBLISH),
    model_server("model-stored", "stored", "file", "fl/models/{round}_v1"),
    model_server("model-told", "puback", "publish", "fl/models/{round}_v1"),
    model_server("index-untold", "before perform", "effect", "PublishIndex"),
    model_server("index-told", "puback", "publish", INDEX, "{round}_v1"),
    model_server("fetching", "message", "took", "blobs/coordinator/+/2", size="large"),
    model_server("offering", "publish", "publish", "blobs/model-server/+/2", size="large"),
    proplet(1, "start-uncommitted", "before commit", "took", _TASK_START),
    proplet(2, "start-unacked", "after commit", "took", _TASK_START),
    proplet(3, "unexecuted", "before effect", "effect", "Execute"),
    proplet(1, "guest-running", "guest running"),
    proplet(2, "guest-running", "guest running"),
    proplet(3, "guest-running", "guest running"),
    proplet(1, "guest-ended", "after effect", "effect", "Execute"),
    proplet(2, "update-unsent", "before perform", "effect", "SendOutputs"),
    proplet(3, "update-sent", "puback", "publish", "fl/rounds/{round}/updates/{me}"),
    proplet(1, "report-unsent", "before perform", "publish", _REPORT, SUCCEEDED),
    proplet(2, "report-sent", "puback", "publish", _REPORT, SUCCEEDED),
    proplet(3, "recorded", "after commit", "took", "proplets/+/tasks/+/stop"),
    proplet(1, "fetching-model", "message", "took", "blobs/model-server/+/2", size="large"),
    proplet(2, "offering-update", "publish", "publish", "blobs/{me}/+/2", size="large"),
)

#: An instant of one process is an instant in the life of all others, too.
INSTANTS: Final = (
    kill("coordinator", "unacked", "after commit", "took", UPDATES, nth=2),
    kill("manager", "undispatched", "before perform", "publish", _TASK_START),
    kill("manager", "unforwarded", "before forward", "took", "fl/rounds/+/updates/+"),
    kill("coordinator", "unpublished", "before perform", "effect", "PublishModel"),
    kill("model-server", "unindexed", "stored", "file", "fl/models/{round}_v1"),
    kill("coordinator", "untold", "before perform", "publish", "fl/rounds/{round}/complete"),
)


def meanwhile(case: Case, victim: str) -> Case:
    """Return the case in which another process is killed at the same instant."""
    name = case.name.replace(case.at, f"{victim}-while", 1)
    return replace(case, name=name, order=replace(case.order, victim=victim))


OF_OTHERS: Final = tuple(
    meanwhile(case, victim)
    for number, case in enumerate(INSTANTS)
    for victim in ("manager", "model-server", "coordinator", PROPLETS[number % len(PROPLETS)])
    if victim != case.at
)

OF_BROKER: Final = (
    broker("start-dispatched", "puback", "publish", _TASK_START, at="manager", nth=2),
    broker("guest-running", "guest running", at="proplet-1"),
    broker("update-sent", "puback", "publish", "fl/rounds/{round}/updates/+", at="proplet-2"),
    broker("update-forwarded", "after forward", "took", "fl/rounds/+/updates/+", at="manager"),
    broker("report-sent", "puback", "publish", _REPORT, SUCCEEDED, at="proplet-3"),
    broker("model-published", "puback", "publish", PUBLISH, at="coordinator"),
    broker("index-told", "puback", "publish", INDEX, "{round}_v1", at="model-server"),
    broker("outcome-told", "puback", "publish", "fl/rounds/{round}/complete", at="coordinator"),
    broker("offering-update", "puback", "publish", "blobs/+/+/2", at="proplet-1", size="large"),
    broker("offering-model", "puback", "publish", "blobs/+/+/2", at="model-server", size="large"),
    *(meanwhile(case, "broker") for case in INSTANTS),
)
