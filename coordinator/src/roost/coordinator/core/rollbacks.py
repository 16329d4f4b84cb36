"""Rollbacks: an old version's content becomes a new version, so that numbers only grow."""

from dataclasses import replace

from roost.chassis.effects import note
from roost.coordinator.core import lineages, publishing
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.effects import DropOutgoing, FetchModel
from roost.coordinator.core.events import BaseRead, BaseUnavailable, RollbackOrdered
from roost.coordinator.core.ledger import count_refusal
from roost.coordinator.core.state import Publication, Rollback
from roost.protocol.round.messages import ModelIndex, ModelVersion
from roost.protocol.round.model import ModelForm
from roost.protocol.round.refusals import UNKNOWN_LINEAGE, UNKNOWN_VERSION
from roost.wire.ids import derive

_SHOWN = 10


def order(draft: Draft, event: RollbackOrdered) -> None:
    """Begin to make a new version with the content of an old one, unless it is the latest."""
    wanted = event.order
    index: ModelIndex = draft.get("index", "") or ModelIndex()
    line = index.models.get(wanted.name)
    versions = {each.version: each for each in line.versions} if line else {}
    old = versions.get(wanted.version)
    if line is None or old is None:
        existing = ", ".join(map(str, list(versions)[-_SHOWN:])) or "none"
        detail = f"{wanted.name} has no version {wanted.version}; there are {existing}"
        count_refusal(draft, UNKNOWN_VERSION, detail)
        return
    if not lineages.is_known(draft, wanted.name):
        count_refusal(draft, UNKNOWN_LINEAGE, lineages.foreign(wanted.name, line))
        return
    said = wanted.rollback_id or f"v{wanted.version}-after-v{line.latest}"
    rollback_id = derive("rollback", said)
    done = any(each.publish_id == rollback_id for each in line.versions)
    same = versions[line.latest].digest == old.digest if line.latest in versions else False
    if done or same or draft.get("rollback", rollback_id) is not None:
        draft.emit(note("rollback.unneeded", rollback_id=rollback_id, latest=line.latest))
        return
    draft.put("rollback", rollback_id, _rollback(rollback_id, wanted.name, old))
    draft.emit(FetchModel(rollback_id, old.topic, old.digest))
    draft.emit(note("rollback.started", rollback_id=rollback_id, version=old.version))


def _rollback(rollback_id: str, name: str, old: ModelVersion) -> Rollback:
    binary = old.form == ModelForm.SAFETENSORS
    publication = Publication(rollback_id, name, old.digest, binary, old.version, dict(old.metrics))
    return Rollback(rollback_id, old.topic, publication)


def fetched(draft: Draft, event: BaseRead | BaseUnavailable) -> None:
    """Send the content on, or give up where it is not to be had."""
    rollback: Rollback = draft.get("rollback", event.for_id)
    if isinstance(event, BaseUnavailable):
        draft.put("rollback", event.for_id, None)
        draft.emit(publishing.settled(rollback.publication))
        count_refusal(draft, UNKNOWN_VERSION, f"{rollback.model_uri}: {event.detail}")
        return
    draft.put("rollback", event.for_id, replace(rollback, ready=True))
    _pursue(draft, event.for_id, event.at, again=False)


def timer_fired(draft: Draft, rollback_id: str, at: float) -> None:
    """Send it again: no index listed it yet."""
    _pursue(draft, rollback_id, at, again=True)


def step_all(draft: Draft, at: float) -> None:
    """See what a new index says about the rollbacks that run."""
    for rollback_id, rollback in list(draft.all("rollback").items()):
        version = publishing.listed(rollback.publication, draft.get("index", ""))
        if version is None:
            _pursue(draft, rollback_id, at, again=False)
            continue
        draft.put("rollback", rollback_id, None)
        draft.emit(publishing.settled(rollback.publication), DropOutgoing(rollback_id))
        draft.emit(note("rollback.completed", rollback_id=rollback_id, model=version.topic))


def _pursue(draft: Draft, rollback_id: str, at: float, *, again: bool) -> None:
    rollback: Rollback = draft.get("rollback", rollback_id)
    if not rollback.ready:
        return
    publication = rollback.publication
    taken = publishing.claimed(draft, publication.name, rollback_id)
    index = draft.get("index", "")
    sent, effects = publishing.pursue(publication, index, taken, at, again=again)
    draft.put("rollback", rollback_id, replace(rollback, publication=sent))
    draft.emit(*effects)
