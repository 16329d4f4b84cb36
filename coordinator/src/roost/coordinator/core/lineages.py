"""Which models are this coordinator's to number: those it saw begin, made, or was told to adopt.

A coordinator whose state is gone finds versions in the index that it knows nothing of. Going on
from them is probably right, but that is a person's decision: it may be the wrong broker, or
another coordinator's model.
"""

from typing import Final

from roost.chassis.effects import note
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.events import AdoptionOrdered
from roost.coordinator.core.ledger import count_refusal, show_unadopted
from roost.coordinator.core.state import Lineage
from roost.protocol.round.messages import ModelIndex, ModelLine
from roost.protocol.round.refusals import UNKNOWN_VERSION

_KIND: Final = "lineage"
_SHOWN: Final = 50


def is_known(draft: Draft, name: str) -> bool:
    """Tell whether a model is this coordinator's to number."""
    return draft.get(_KIND, name) is not None


def foreign(name: str, line: ModelLine | None) -> str:
    """Say what is wrong with a model that is not."""
    latest = "some version" if line is None else f"version {line.latest}"
    return (
        f"{name} is at {latest}, made by rounds that this coordinator does not know: "
        "its own state is gone, or the model is another coordinator's"
    )


def learn(draft: Draft, index: ModelIndex) -> None:
    """Take models for known that have not gone beyond version 0, or that were made here."""
    for name, line in index.models.items():
        if not is_known(draft, name) and (line.latest == 0 or _made_here(draft, line)):
            draft.put(_KIND, name, Lineage(line.latest))
    _show(draft, index)


def _made_here(draft: Draft, line: ModelLine) -> bool:
    made_by = [each.publish_id for each in line.versions]
    return any(draft.get("round", id_) or draft.get("past", id_) for id_ in made_by)


def adopt(draft: Draft, event: AdoptionOrdered) -> None:
    """Take a model for this coordinator's from now on, if it is what the order says."""
    name, wanted = event.order.name, event.order.version
    index: ModelIndex | None = draft.get("index", "")
    line = index.models.get(name) if index else None
    if index is None or line is None or line.latest != wanted:
        there = "no index came yet" if index is None else "the index lists no such model"
        there = there if line is None else f"its latest version is {line.latest}"
        count_refusal(draft, UNKNOWN_VERSION, f"{name} cannot be adopted at {wanted}: {there}")
        return
    if is_known(draft, name):
        draft.emit(note("model.known", name=name, version=wanted))
        return
    draft.put(_KIND, name, Lineage(wanted))
    draft.emit(note("model.adopted", name=name, version=wanted))
    _show(draft, index)


def _show(draft: Draft, index: ModelIndex) -> None:
    names = [each for each in index.models if not is_known(draft, each)]
    show_unadopted(draft, tuple(names[:_SHOWN]))
