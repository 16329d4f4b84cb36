"""The ACL file for mosquitto, from the topic tables and the workload bindings.

Every user is named: ``manager`` and ``manager-fwd`` (forwarding has a connection of its own, and
rights of its own), ``coordinator``, ``model-server``, operators, viewers, and proplets, whose user
name is their id. Who is not named may nothing. There are no ``pattern`` lines: mosquitto applies
those to every user.

The manager's rights come from the task protocol's table and from the bindings, never from the
tables of a workload's own protocol: it can do what bindings name and nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from roost.protocol.round.topics import TOPICS as ROUND_TOPICS
from roost.protocol.task.topics import LAUNCH_REPLY
from roost.protocol.task.topics import TOPICS as TASK_TOPICS
from roost.specs.templates import ANY, as_filter
from roost.specs.workloads import USER, WorkloadTopics
from roost.wire.blob import TOPICS as BLOB_TOPICS
from roost.wire.topic import Topic, overlaps

MANAGER, FORWARDER = "manager", "manager-fwd"
COORDINATOR, MODEL_SERVER, OPERATOR = "coordinator", "model-server", "operator"
SERVICES: Final = (MANAGER, FORWARDER, COORDINATOR, MODEL_SERVER)
PROPLET, OWNER, ANYONE = "proplet", "owner", "anyone"

_SELF: Final = frozenset({"proplet_id", "owner"})
"""Fields that name the user itself."""
_PUBLIC_OWNERS: Final = (OPERATOR, MANAGER, COORDINATOR, MODEL_SERVER)
"""Whose blobs everyone may read: images, inputs, models. A proplet's own are what it answers."""
_TASK_SIDE: Final = (*TASK_TOPICS, *BLOB_TOPICS)
_ALL_TOPICS: Final = (*_TASK_SIDE, *ROUND_TOPICS)
_STATES: Final = (*TASK_TOPICS, *ROUND_TOPICS)


@dataclass
class _Rights:
    """What one user may read and write, as filters."""

    read: list[str] = field(default_factory=list)
    write: list[str] = field(default_factory=list)


def mosquitto_acl(
    workloads: WorkloadTopics,
    *,
    prefix: str = "",
    proplets: Iterable[str] = (),
    operators: Iterable[str] = (OPERATOR,),
    viewers: Iterable[str] = (),
    anonymous: bool = False,
) -> str:
    """Return the text of mosquitto's ``acl_file``.

    Args:
        workloads: The topics that the bindings in force name.
        prefix: ``ROOST_TOPIC_PREFIX``, with its slash.
        proplets: Ids of the proplets.
        operators: Users who give orders. Their blobs belong to ``operator``, whoever it is.
        viewers: Users who read what everyone may read, and write nothing but to themselves.
        anonymous: Whether who connects without a name may do everything: for a listener that
            takes such connections from this machine alone.
    """
    users = _service_rights(workloads)
    users |= dict.fromkeys(operators, _operator_rights(workloads))
    users |= {name: _viewer_rights(name, workloads) for name in viewers}
    users |= {name: _named(_proplet_rights(workloads), name) for name in proplets}
    lines = ["# Generated from the topic tables and the workload bindings; do not edit.", ""]
    if anonymous:
        lines += ["# Without a name: only from this machine.", "topic readwrite #", ""]
    for user, rights in users.items():
        lines += [f"user {user}", *_topic_lines(rights, prefix), ""]
    return "\n".join(lines)


def _topic_lines(rights: _Rights, prefix: str) -> Iterator[str]:
    for verb, filters in (("read", rights.read), ("write", rights.write)):
        for each in sorted(set(filters)):
            yield f"topic {verb} {prefix}{each}"


def _service_rights(workloads: WorkloadTopics) -> dict[str, _Rights]:
    manager = _of_table(_TASK_SIDE, MANAGER, ANYONE)
    manager.read += workloads.launches
    return {
        MANAGER: manager,
        FORWARDER: _Rights(list(workloads.sources), list(workloads.destinations)),
        COORDINATOR: _named(
            _of_table(_ALL_TOPICS, COORDINATOR, "launcher", OWNER, ANYONE), COORDINATOR
        ),
        MODEL_SERVER: _named(_of_table(_ALL_TOPICS, MODEL_SERVER, OWNER, ANYONE), MODEL_SERVER),
    }


def _operator_rights(workloads: WorkloadTopics) -> _Rights:
    """Orders, and what workloads put out where no topic table says who may read it."""
    rights = _named(_of_table(_ALL_TOPICS, OPERATOR, OWNER, ANYONE), OPERATOR)
    rights.write += workloads.launches
    results = (each.replace(USER, ANY) for each in (*workloads.outputs, *workloads.destinations))
    tables = [topic.filter for topic in _ALL_TOPICS]
    rights.read += (each for each in results if not any(overlaps(each, t) for t in tables))
    return rights


def _viewer_rights(name: str, workloads: WorkloadTopics) -> _Rights:
    """What everyone may read, and a topic to send itself a message on (see LAUNCH_REPLY)."""
    rights = _of_table(_STATES, ANYONE)
    mine = as_filter(LAUNCH_REPLY.template, lambda _field: name)
    return _Rights([*rights.read, *_public_blobs(workloads), mine], [mine])


def _proplet_rights(workloads: WorkloadTopics) -> _Rights:
    """Its own orders and answers, with %u for its name, and what everyone may read."""
    rights = _of_table(_STATES, PROPLET, ANYONE)
    rights.read += (*_public_blobs(workloads), *workloads.inputs)
    rights.write += (*_of_table(BLOB_TOPICS, OWNER).write, *workloads.outputs)
    return rights


def _public_blobs(workloads: WorkloadTopics) -> Iterator[str]:
    """Yield the blobs that proplets and viewers read: others' answers are none of their business.

    Where a task reads what another one wrote, that may come as a blob of any proplet.
    """
    inputs = [each.replace(USER, ANY) for each in workloads.inputs]
    written = [each.replace(USER, ANY) for each in (*workloads.outputs, *workloads.destinations)]
    is_chained = any(overlaps(read, wrote) for read in inputs for wrote in written)
    for owner in (ANY,) if is_chained else _PUBLIC_OWNERS:
        yield from (_blobs_of(owner, topic) for topic in BLOB_TOPICS)


def _blobs_of(owner: str, topic: Topic) -> str:
    return as_filter(topic.template, lambda name: owner if name == OWNER else ANY)


def _named(rights: _Rights, user: str) -> _Rights:
    """Write the user's name for %u."""
    return _Rights(
        [each.replace(USER, user) for each in rights.read],
        [each.replace(USER, user) for each in rights.write],
    )


def _of_table(topics: Iterable[Topic], *roles: str) -> _Rights:
    """Return what a table gives to these roles."""
    rights = _Rights()
    for topic in topics:
        if readers := frozenset(roles).intersection(topic.readers):
            rights.read.append(_filter(topic, readers))
        if writers := frozenset(roles).intersection(topic.writers):
            rights.write.append(_filter(topic, writers))
    return rights


def _filter(topic: Topic, roles: frozenset[str]) -> str:
    """Narrow a topic to the user's own where the role is one among many like it."""
    own = roles <= {PROPLET, OWNER}
    return as_filter(topic.template, lambda name: USER if own and name in _SELF else ANY)
