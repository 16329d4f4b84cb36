"""What must not be left once a round has ended, and what must be there still."""

import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.protocol.round import topics
from roost.protocol.task import topics as task_topics
from roost.protocol.task.messages import TaskState
from roost.wire.blob import BLOB_CHUNK, BLOB_MANIFEST, INLINE_LIMIT

from .fleet import OPERATOR, Fleet
from .processes import DEADLINE_S, PROPLETS

_END = "replies/looker/launch"
_ORDERS = (
    topics.ROUND_START,
    topics.MODEL_PUBLISH,
    topics.FORWARDED_UPDATE,
    task_topics.LAUNCH,
    task_topics.CANCEL,
    task_topics.RESEND,
    task_topics.START,
    task_topics.STOP,
    task_topics.REPORT,
)
_ROUNDS_WITH_UPDATES = 5
_KEPT_TIMERS = {"manager": {"prune"}}


def retained(url: str) -> dict[str, Received]:
    """Return all that the broker retains."""
    found: dict[str, Received] = {}
    whole = threading.Event()

    def take(received: Received, token: Token) -> None:
        session.ack(token)
        if received.topic == _END:
            whole.set()
        elif received.retain:
            found[received.topic] = received

    session = Session(BrokerSettings(broker=url), "looker", rng=random.Random(2), clean=True)
    session.subscribe("#", take)
    # Sent after the subscription, so it comes after all that is retained.
    session.on_connected = lambda _generation: session.publish(Publish(_END))
    session.start()
    try:
        assert whole.wait(DEADLINE_S), "the broker did not tell what it retains"
    finally:
        session.stop()
    return found


def leftovers(fleet: Fleet, *, deadlines_passed: bool = False) -> list[str]:
    """Name everything that is there and should not be, or is not and should.

    Args:
        fleet: At rest: no round is open.
        deadlines_passed: Whether proplets must have forgotten every task.
    """
    left: list[str] = []
    for name in fleet.services:
        left += [f"{name}: {each}" for each in _in_store(fleet.state(name), name)]
    left += [f"coordinator: {each}" for each in _coordinator(fleet.state("coordinator"))]
    left += [f"model-server: {each}" for each in _model_server(fleet.state("model-server"))]
    for name in PROPLETS:
        home = fleet.state(name)
        left += [f"{name}: {each}" for each in _proplet(home, deadlines_passed)]
    left += _workers(fleet)
    # The last and dearest look.
    return left or list(_on_broker(fleet, deadlines_passed=deadlines_passed))


def rows(state: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask a service's store, while the service uses it."""
    with closing(sqlite3.connect(f"file:{state}/state.sqlite?mode=ro", uri=True)) as store:
        return store.execute(query).fetchall()


def entities(state: Path, kind: str) -> dict[str, Any]:
    """Return what a service's store holds of one kind."""
    found = rows(state, f"SELECT id, body FROM entities WHERE kind='{kind}'")
    return {id_: json.loads(body) for id_, body in found}


def unfinished(state: Path) -> list[str]:
    """Return what a service has committed and not done: effects, and reports to be repeated."""
    effects = [kind for (kind,) in rows(state, "SELECT kind FROM outbox ORDER BY id")]
    timers = [key for (key,) in rows(state, "SELECT key FROM timers WHERE key LIKE 'retry/%'")]
    return effects + timers


def spools(body: bytes) -> Iterator[str]:
    """Yield the spool files that something stored refers to."""
    pending = [json.loads(body)]
    while pending:
        match pending.pop():
            case dict(found):
                pending += [each for each in found.values() if isinstance(each, dict | list)]
                if found.get("spool"):
                    yield found["spool"]
            case list(found):
                pending += [each for each in found if isinstance(each, dict | list)]


def _in_store(state: Path, name: str) -> Iterator[str]:
    for number, kind, body in rows(state, "SELECT id, kind, body FROM outbox"):
        yield f"outbox entry {number}: {kind} {body[:200]!r}"
    for event, error in rows(state, "SELECT event, error FROM set_aside"):
        yield f"event set aside: {event} {error}"
    timers = {key for (key,) in rows(state, "SELECT key FROM timers")}
    held = {f"deadline/{task}" for task in entities(state, "task")} if name in PROPLETS else set()
    for timer in sorted(timers - _KEPT_TIMERS.get(name, set()) - held):
        yield f"timer {timer}"


def _coordinator(state: Path) -> Iterator[str]:
    rounds = entities(state, "round")
    yield from (f"start of {each}" for each in entities(state, "start"))
    yield from (f"open round {id_}" for id_, each in rounds.items() if not each["ended_at"])
    accepted = {
        name for (body,) in rows(state, "SELECT body FROM entities") for name in spools(body)
    }
    spool = state / "spool"
    files = {str(path.relative_to(spool)) for path in spool.rglob("*") if path.is_file()}
    yield from (f"spool file {each}" for each in sorted(files - accepted))
    latest = sorted(rounds.values(), key=lambda each: each["ended_at"] or 0.0)
    last = tuple(f"{each['round_id']}/" for each in latest[-_ROUNDS_WITH_UPDATES:])
    kept = {each for each in accepted if each.startswith(last)}
    yield from (f"lacks spool file {each}" for each in sorted(kept - files))
    published = {each["publication"]["digest"] for each in latest if each["publication"]}
    models = {path.name for path in (state / "models").iterdir() if path.is_file()}
    yield from (f"model file {each}" for each in sorted(models - published))
    for folder in ("outgoing", "working"):
        yield from (f"file {path}" for path in (state / "models" / folder).iterdir())


def _model_server(state: Path) -> Iterator[str]:
    versions = entities(state, "version").values()
    yield from (f"unreleased {each['topic']}" for each in versions if not each["released"])
    yield from (f"file {path}" for path in (state / "incoming").iterdir())
    wanted = {f"{each['name']}_v{each['version']}" for each in versions}
    files = {path.stem for path in (state / "models").iterdir()}
    yield from (f"file of no version: {each}" for each in sorted(files - wanted))
    yield from (f"version without file: {each}" for each in sorted(wanted - files))


def _proplet(state: Path, deadlines_passed: bool) -> Iterator[str]:
    held = entities(state, "task")
    folders = {path.name for path in (state / "tasks").iterdir()}
    for task, each in held.items():
        if each["phase"] not in ("recorded", "stopped"):
            yield f"task {task} is {each['phase']}"
        elif deadlines_passed:
            yield f"task {task}"
    yield from (f"files of task {each}" for each in sorted(folders - held.keys()))
    images = state / "images"
    for pattern in ("fetch-*", ".blob-*", "modules/compile-*"):
        yield from (f"file {path}" for path in images.glob(pattern))


def _workers(fleet: Fleet) -> Iterator[str]:
    """Yield the guests' processes, whichever life of a proplet began them."""
    pids = {str(pid) for name in PROPLETS for pid in fleet.services[name].pids}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any("roost.proplet.worker" in word for word in words) and pids.intersection(words):
            yield f"worker process {folder.name}: {' '.join(words)[-200:]}"


def _on_broker(fleet: Fleet, *, deadlines_passed: bool) -> Iterator[str]:
    found = retained(fleet.broker.url)
    for topic, received in found.items():
        if any(order.match(topic) is not None for order in _ORDERS):
            yield f"retained order {topic}"
        if task_topics.STATE.match(topic):
            state = TaskState.decode(received.payload)
            if not state.state.final:
                yield f"{topic} is {state.state}"
    for name in PROPLETS:
        card = fleet.operator.presence(name)
        if card is None or card.running or card.status.value != "online":
            yield f"presence of {name}: {card}"
    yield from _copies(fleet, found)
    yield from _blobs(fleet, found, deadlines_passed=deadlines_passed)


def _copies(fleet: Fleet, found: dict[str, Received]) -> Iterator[str]:
    """Yield the retained topics that are not as their owners would have them."""
    wanted: dict[str, bytes] = {}
    for name in ("manager", "coordinator"):
        wanted |= dict(rows(fleet.state(name), "SELECT topic, payload FROM retained"))
    for topic, payload in wanted.items():
        if topic not in found:
            yield f"the broker lacks {topic}"
        elif found[topic].payload != payload:
            yield f"the broker has another {topic}"
    versions = entities(fleet.state("model-server"), "version").values()
    wanted_models = {each["topic"] for each in versions}
    models = {topic for topic in found if topics.MODEL.match(topic)}
    yield from (f"the broker lacks {each}" for each in sorted(wanted_models - models))
    yield from (f"the broker has {each}" for each in sorted(models - wanted_models))
    index = fleet.operator.index()
    listed = {each.topic for line in index.models.values() for each in line.versions}
    yield from (f"the index lacks {each}" for each in sorted(wanted_models - listed))
    ours = ("fl/rounds/", "tasks/")
    for topic in sorted(t for t in found if t.startswith(ours) and t not in wanted):
        yield f"the broker has {topic}, which nobody owns"


def _blobs(fleet: Fleet, found: dict[str, Received], *, deadlines_passed: bool) -> Iterator[str]:
    wanted = {(OPERATOR, fleet.operator.image.sha256)}
    for each in entities(fleet.state("model-server"), "version").values():
        if each["size"] > INLINE_LIMIT:
            wanted.add(("model-server", each["sha256"]))
    # A proplet offers again only when it is asked to: a broker that forgot need not have these.
    allowed: set[tuple[str, str]] = set()
    for name in () if deadlines_passed else PROPLETS:
        for offered in (fleet.state(name) / "tasks").glob("*/*/offered"):
            for line in offered.read_text().splitlines():
                allowed.add((name, json.loads(line)["sha256"]))
    have: dict[tuple[str, str], set[str]] = {}
    for topic in found:
        ids = BLOB_MANIFEST.match(topic) or BLOB_CHUNK.match(topic)
        if ids:
            have.setdefault((ids["owner"], ids["sha256"]), set()).add(topic)
    for owner, sha256 in sorted(have.keys() - wanted - allowed):
        yield f"blob {owner}/{sha256}: {len(have[owner, sha256])} topics"
    for owner, sha256 in sorted(wanted - have.keys()):
        yield f"the broker lacks blob {owner}/{sha256}"
