"""How a model gets its number: taken from the index, sent again until the index lists it.

The model server knows every ``publish_id`` and makes one version of it, however often and under
whatever number it is sent. So sending again is harmless, and so is sending again with the next
number when another publisher took the first one.
"""

from dataclasses import replace
from typing import Final

from roost.chassis.effects import ClearTimer, Effect, SetTimer
from roost.coordinator.core.effects import PublishModel
from roost.coordinator.core.facts import Facts
from roost.coordinator.core.state import Publication
from roost.protocol.round.messages import ModelIndex, ModelVersion

FIRST_RETRY_S: Final = 2.0
LAST_RETRY_S: Final = 30.0


def timer_key(publish_id: str) -> str:
    """Return the key of a publication's timer."""
    return f"publish/{publish_id}"


def listed(publication: Publication, index: ModelIndex) -> ModelVersion | None:
    """Return the version that the index made of this publication."""
    line = index.models.get(publication.name)
    for version in reversed(line.versions if line else ()):
        if version.publish_id == publication.publish_id and version.digest == publication.digest:
            return version
    return None


def pursue(
    publication: Publication, facts: Facts, at: float, *, again: bool
) -> tuple[Publication, tuple[Effect, ...]]:
    """Send a model if it has no number yet, lost it to another, or ``again`` is wished.

    Without an index of the present connection nothing is sent: the number is unknown. A
    publication that was sent keeps a timer, so that it is sent again until it is listed.
    """
    line = facts.index.models.get(publication.name) if facts.index else None
    if line is None:
        return publication, (SetTimer(timer_key(publication.publish_id), at + LAST_RETRY_S),)
    version = line.latest + 1
    while version in facts.claimed:
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
