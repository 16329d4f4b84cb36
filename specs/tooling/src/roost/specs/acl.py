"""The ACL file for mosquitto, from the topic tables and the workload bindings.

Users: ``manager`` and ``manager-fwd`` (forwarding has a connection of its own, and rights of its
own), ``coordinator``, ``model-server``, ``operator``. Every other user is a proplet whose user
name is its id. A proplet's rights are ``pattern`` lines with ``%u``. Mosquitto applies patterns to
every user, so each service has ``deny`` lines for what a pattern would give it.

The manager's rights come from the task protocol's table and from the bindings, never from the
tables of a workload's own protocol: it can do what bindings name and nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from roost.protocol.round.topics import TOPICS as ROUND_TOPICS
from roost.protocol.task.topics import TOPICS as TASK_TOPICS
from roost.specs.templates import ANY, as_filter
from roost.specs.workloads import USER, WorkloadTopics
from roost.wire.blob import TOPICS as BLOB_TOPICS
from roost.wire.topic import Topic, overlaps

MANAGER, FORWARDER = "manager", "manager-fwd"
COORDINATOR, MODEL_SERVER, OPERATOR = "coordinator", "model-server", "operator"
PROPLET: Final = "proplet"

ROLES: Final[Mapping[str, frozenset[str]]] = {
    COORDINATOR: frozenset({COORDINATOR, "launcher", "owner", "anyone"}),
    MODEL_SERVER: frozenset({MODEL_SERVER, "owner", "anyone"}),
    OPERATOR: frozenset({OPERATOR, "owner", "anyone"}),
}
"""The roles of the users that take their rights from all tables."""
_PROPLET_ROLES: Final = frozenset({PROPLET, "owner", "anyone"})
_SELF: Final = frozenset({"proplet_id", "owner"})
"""Fields that name the user itself."""


@dataclass
class _Rights:
    """What one user may read and write, as filters."""

    read: list[str] = field(default_factory=list)
    write: list[str] = field(default_factory=list)


def mosquitto_acl(
    workloads: WorkloadTopics, *, prefix: str = "", proplets: Iterable[str] = ()
) -> str:
    """Return the text of mosquitto's ``acl_file``.

    Args:
        workloads: The topics that the bindings in force name.
        prefix: ``ROOST_TOPIC_PREFIX``, with its slash.
        proplets: Ids of proplets that get the inputs and outputs of bindings which do not name
            the proplet as a level of their topic. (A pattern would give them to every user.)
    """
    patterns = _proplet_rights(workloads)
    users = _service_rights(workloads)
    lines = ["# Generated from the topic tables and the workload bindings; do not edit.", ""]
    for user, rights in users.items():
        lines += [f"user {user}", *_denials(user, rights, patterns, prefix)]
        lines += [*_topic_lines(rights, prefix), ""]
    shared = _unscoped(workloads)
    for proplet in proplets:
        lines += [f"user {proplet}", *_topic_lines(shared, prefix), ""]
    lines += ["# Proplets, and the blobs of everyone: %u is the user's name."]
    lines += [line.replace("topic", "pattern", 1) for line in _topic_lines(patterns, prefix)]
    return "\n".join(lines) + "\n"


def _topic_lines(rights: _Rights, prefix: str) -> Iterator[str]:
    for verb, filters in (("read", rights.read), ("write", rights.write)):
        for each in sorted(set(filters)):
            yield f"topic {verb} {prefix}{each}"


def _denials(user: str, rights: _Rights, patterns: _Rights, prefix: str) -> Iterator[str]:
    """Take back what the patterns would give a service beyond its own rights.

    A denial goes before everything else, so none may touch what the service needs.
    """
    needed = {*rights.read, *rights.write}
    owner = "owner" in ROLES.get(user, ())
    for each in sorted({*patterns.read, *patterns.write}):
        mine = each.replace(USER, user)
        kept = owner and each.startswith("blobs/")
        if not kept and (USER in each or not any(overlaps(mine, other) for other in needed)):
            yield f"topic deny {prefix}{mine}"


def _service_rights(workloads: WorkloadTopics) -> dict[str, _Rights]:
    task_side = (*TASK_TOPICS, *BLOB_TOPICS)
    manager = _of_table(task_side, frozenset({MANAGER, "anyone"}))
    manager.read += workloads.launches
    forwarder = _Rights(list(workloads.sources), list(workloads.destinations))
    others = {
        user: _named(_of_table((*task_side, *ROUND_TOPICS), roles), user)
        for user, roles in ROLES.items()
    }
    others[OPERATOR].write += workloads.launches
    return {MANAGER: manager, FORWARDER: forwarder, **others}


def _named(rights: _Rights, user: str) -> _Rights:
    """Write the user's name for %u, which mosquitto knows in patterns only."""
    return _Rights(
        [each.replace(USER, user) for each in rights.read],
        [each.replace(USER, user) for each in rights.write],
    )


def _proplet_rights(workloads: WorkloadTopics) -> _Rights:
    rights = _of_table((*TASK_TOPICS, *BLOB_TOPICS, *ROUND_TOPICS), _PROPLET_ROLES)
    rights.read += (each for each in workloads.inputs if USER in each)
    rights.write += (each for each in workloads.outputs if USER in each)
    return rights


def _unscoped(workloads: WorkloadTopics) -> _Rights:
    return _Rights(
        [each for each in workloads.inputs if USER not in each],
        [each for each in workloads.outputs if USER not in each],
    )


def _of_table(topics: Iterable[Topic], roles: frozenset[str]) -> _Rights:
    """Return what a table gives to these roles."""
    rights = _Rights()
    for topic in topics:
        if roles.intersection(topic.readers):
            rights.read.append(_filter(topic, roles.intersection(topic.readers)))
        if roles.intersection(topic.writers):
            rights.write.append(_filter(topic, roles.intersection(topic.writers)))
    return rights


def _filter(topic: Topic, roles: frozenset[str]) -> str:
    """Narrow a topic to the user's own where the role is one among many like it."""
    own = roles <= {PROPLET, "owner"}
    return as_filter(topic.template, lambda name: USER if own and name in _SELF else ANY)
