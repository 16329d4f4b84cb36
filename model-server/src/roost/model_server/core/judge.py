"""Whether a publish request is accepted: it names the next version, or is the same again."""

from typing import Final, TypeAlias

from roost.model_server.core.index import Line
from roost.model_server.core.state import Submitted, Version
from roost.protocol.round.label import ModelLabel
from roost.protocol.round.refusals import (
    BAD_MODEL,
    VERSION_GAP,
    VERSION_TAKEN,
    WRONG_DIGEST,
    WRONG_PARENT,
)
from roost.protocol.round.topics import MODEL
from roost.wire.refusal import Refusal

INITIAL: Final = "initial"
"""The publish_id of a version 0 that came without one."""

Problem: TypeAlias = tuple[Refusal, str]


def publish_id(label: ModelLabel) -> str:
    """Return what a request is recognised by when it comes again."""
    return label.publish_id or INITIAL


def same_again(event: Submitted, line: Line) -> Version | None:
    """Return the version that this very request made before."""
    for version in line:
        if version.publish_id == publish_id(event.label) and version.digest == event.digest:
            return version
    return None


def problem_of(event: Submitted, line: Line) -> Problem | None:
    """Say why a request cannot be accepted, or None."""
    label = event.label
    if label.digest is not None and label.digest != event.digest:
        return WRONG_DIGEST, f"the tensors have {event.digest}, its label says {label.digest}"
    if label.publish_id is None and label.version != 0:
        return BAD_MODEL, f"version {label.version} without publish_id; only version 0 may lack it"
    return _number_problem(label, line)


def _number_problem(label: ModelLabel, line: Line) -> Problem | None:
    name, version = label.name, label.version
    for each in line:
        if each.publish_id == publish_id(label):
            return VERSION_TAKEN, f"'{each.publish_id}' made {each.topic} with other tensors"
    following = line[-1].version + 1 if line else 0
    if version < following:
        return VERSION_TAKEN, f"{name} {version} was sent, next is {following}"
    if version > following:
        return VERSION_GAP, f"{name} {version} was sent, next is {following}"
    # One that is no longer kept is a parent still: a round may have begun just before it went.
    if version > 0 and label.parent not in range(version):
        return WRONG_PARENT, f"{name} had no version {label.parent} to be the parent"
    return None


def version_of(event: Submitted) -> Version:
    """Return the version that an accepted request makes."""
    label = event.label
    return Version(
        name=label.name,
        version=label.version,
        topic=MODEL.format(name=label.name, version=label.version),
        digest=event.digest,
        sha256=event.sha256,
        size=event.size,
        form=event.form,
        parent=label.parent,
        publish_id=publish_id(label),
        metrics=dict(label.metrics),
        architecture=label.architecture,
        file=event.file,
    )
