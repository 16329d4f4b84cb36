"""How a model gets its number: taken from the index, sent again until the index lists it.

The model server knows every ``publish_id`` and makes one version of it, however often and under
whatever number it is sent. So sending again is harmless, and so is sending again with the next
number when another publisher took the first one.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from roost.chassis.effects import ClearTimer, Effect, SetTimer
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.effects import PublishModel
from roost.coordinator.core.state import Publication
from roost.protocol.round.messages import ModelIndex, ModelVersion, RoundStatus
from roost.protocol.round.topics import MODEL

FIRST_RETRY_S: Final = 2.0
LAST_RETRY_S: Final = 30.0


def timer_key(publish_id: str) -> str:
    """Return the key of a publication's timer."""
    return f"publish/{publish_id}"


def model_name(model_uri: str) -> str:
    """Return the name in a model's topic; a failed start may have none."""
    found = MODEL.match(model_uri)
    return found["name"] if found else ""


def publications(draft: Draft) -> Iterator[Publication]:
    """Yield all models on their way."""
    for round_ in draft.all("round").values():
        if round_.publication and round_.status is RoundStatus.PUBLISHING:
            yield round_.publication
    for rollback in draft.all("rollback").values():
        yield rollback.publication


def claimed(draft: Draft, name: str, publish_id: str) -> frozenset[int]:
    """Return the numbers that other publications of a model were sent with."""
    return frozenset(
        each.version
        for each in publications(draft)
        if each.name == name and each.publish_id != publish_id and each.version is not None
    )


def listed(publication: Publication, index: ModelIndex) -> ModelVersion | None:
    """Return the version that the index made of this publication."""
    line = index.models.get(publication.name)
    for version in reversed(line.versions if line else ()):
        if version.publish_id == publication.publish_id and version.digest == publication.digest:
            return version
    return None


def pursue(
    publication: Publication,
    index: ModelIndex | None,
    taken: frozenset[int],
    at: float,
    *,
    again: bool,
) -> tuple[Publication, tuple[Effect, ...]]:
    """Send a model if it has no number yet, lost it to another, or ``again`` is wished.

    Without an index of the present connection nothing is sent: the number is unknown. A
    publication that was sent keeps its timer, so that it is sent again until it is listed; one
    whose time came without an index is sent again as soon as there is one.

    Args:
        publication: The model.
        index: The index of the present connection.
        taken: Numbers that other publications of this model were sent with.
        at: Epoch seconds.
        again: Send it although it was sent before.
    """
    line = index.models.get(publication.name) if index else None
    if line is None:
        if publication.version is not None and not again:
            return publication, ()
        unsent = replace(publication, version=None)
        return unsent, (SetTimer(timer_key(publication.publish_id), at + LAST_RETRY_S),)
    version = line.latest + 1
    while version in taken:
        version += 1
    lost = publication.version is not None and publication.version <= line.latest
    if publication.version is not None and not lost and not again:
        return publication, ()
    sent = replace(publication, version=version, tries=publication.tries + 1)
    wait = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** (sent.tries - 1))
    return sent, (_order(sent, version), SetTimer(timer_key(sent.publish_id), at + wait))


def _order(publication: Publication, version: int) -> PublishModel:
    return PublishModel(
        publication.publish_id,
        publication.name,
        version,
        publication.parent,
        publication.digest,
        publication.binary,
        publication.metrics,
    )


def settled(publication: Publication) -> ClearTimer:
    """Return what ends the sending."""
    return ClearTimer(timer_key(publication.publish_id))
