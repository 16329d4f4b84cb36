"""The model server's core: which versions there are, and which publish requests are accepted.

A request is accepted if its version is the next one, or is the same again with the same digest.
Nothing is ever overwritten. Kept are the newest versions of each model, version 0, and every
version on whose topic a round that has not ended is based (as the rounds' retained states say).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from roost.chassis.core import NOTHING, Connected, Decision, Disconnected, Started, TimerFired, View
from roost.chassis.effects import Effect, note
from roost.model_server.core.state import (
    SERVICE_EFFECTS,
    Clear,
    DropIncoming,
    FetchSubmission,
    PublishIndex,
    Refresh,
    Refusals,
    Release,
    Released,
    RoundTold,
    SubmissionOffered,
    SubmissionUnreadable,
    Submitted,
    Tidy,
    Version,
)
from roost.protocol.round.label import ModelLabel
from roost.protocol.round.messages import ModelIndex, ModelLine, ModelVersion, RefusedPublish
from roost.protocol.round.refusals import (
    BAD_MODEL,
    VERSION_GAP,
    VERSION_TAKEN,
    WRONG_DIGEST,
    WRONG_PARENT,
)
from roost.protocol.round.topics import MODEL
from roost.wire.refusal import Refusal

REFUSALS_KEPT: Final = 20
INITIAL: Final = "initial"
"""The publish_id of a version 0 that came without one."""

Problem: TypeAlias = tuple[Refusal, str]
Line: TypeAlias = list[Version]


class Shelf:
    """All decisions of the model server.

    Attributes:
        kinds: What is stored.
        volatile: Which topic each open round is based on; which blobs are being fetched.
        effects: What the adapters carry out.
    """

    kinds: Mapping[str, type[Any]] = {"version": Version, "refusals": Refusals}
    volatile = frozenset({"round", "fetching"})
    effects: tuple[type[Any], ...] = SERVICE_EFFECTS

    def __init__(self, keep: int) -> None:
        """Say how many of the newest versions of each model are kept."""
        self._keep = keep
        self._handlers: Mapping[type[Any], Callable[[Any, View], Decision]] = {
            Started: self._started,
            Connected: self._connected,
            Disconnected: self._ignored,
            TimerFired: self._ignored,
            Submitted: self._submitted,
            SubmissionOffered: self._offered,
            SubmissionUnreadable: self._unreadable,
            Released: self._released,
            RoundTold: self._round_told,
        }

    def handle(self, event: Any, view: View) -> Decision:
        """Decide what one event changes."""
        return self._handlers[type(event)](event, view)

    @staticmethod
    def _ignored(_event: Any, _view: View) -> Decision:
        return NOTHING

    @staticmethod
    def _started(event: Started, view: View) -> Decision:
        left = (each.file for each in view.all("version").values() if not each.released)
        return Decision(effects=(Tidy(tuple(left), event.at),))

    @staticmethod
    def _connected(_event: Connected, view: View) -> Decision:
        """Tell everything again, and finish what an absent broker kept from being released."""
        released = _released(view)
        refresh = Refresh(tuple(released), _index(released, _refusals(view)))
        left = [each for each in view.all("version").values() if not each.released]
        return Decision(effects=(refresh, *(Release(each) for each in left)))

    @staticmethod
    def _round_told(event: RoundTold, _view: View) -> Decision:
        return Decision({("round", event.round_id): event.model_uri})

    @staticmethod
    def _offered(event: SubmissionOffered, view: View) -> Decision:
        """Fetch a blob once: its owner may clear it as soon as the index lists the model."""
        sha256 = event.manifest.sha256
        versions = view.all("version").values()
        known = next((each for each in versions if each.sha256 == sha256), None)
        if known is not None:
            return _repeated(known, view)
        if view.get("fetching", sha256):
            return Decision(effects=(note("model.repeated", sha256=sha256),))
        return Decision({("fetching", sha256): True}, (FetchSubmission(event.manifest),))

    @staticmethod
    def _unreadable(event: SubmissionUnreadable, view: View) -> Decision:
        refused = _refuse(event.label, (event.refusal, event.detail), view)
        return refused + _fetched(event.sha256)

    def _submitted(self, event: Submitted, view: View) -> Decision:
        return self._judged(event, view) + _fetched(event.sha256)

    @staticmethod
    def _judged(event: Submitted, view: View) -> Decision:
        line = _line(event.label.name, view)
        drop = DropIncoming(event.file)
        again = _same_again(event, line)
        if again is not None:
            return Decision(effects=(drop,)) + _repeated(again, view)
        problem = _problem(event, line)
        if problem is not None:
            return Decision(effects=(drop,)) + _refuse(event.label, problem, view)
        version = _version(event)
        return Decision({("version", version.id): version}, (Release(version),))

    def _released(self, event: Released, view: View) -> Decision:
        version: Version | None = view.get("version", f"{event.name}/{event.version}")
        if version is None or version.released:
            return NOTHING
        version = replace(version, released=True)
        others = [each for each in _released(view) if each.id != version.id]
        line = [each for each in (*others, version) if each.name == version.name]
        old = self._superfluous(line, view)
        kept = [each for each in (*others, version) if each not in old]
        effects: list[Effect] = [PublishIndex(_index(kept, _refusals(view)))]
        if old:
            effects.append(Clear(tuple(old)))
        effects.append(_said(version, len(old)))
        gone = {("version", each.id): None for each in old}
        return Decision({("version", version.id): version, **gone}, tuple(effects))

    def _superfluous(self, line: Line, view: View) -> Line:
        """Return the versions of one model that are not kept any more."""
        bases = set(view.all("round").values())
        newest = sorted(line, key=lambda each: each.version, reverse=True)[: self._keep]
        return [
            each
            for each in line
            if each not in newest and each.version != 0 and each.topic not in bases
        ]


def _fetched(sha256: str | None) -> Decision:
    return Decision({("fetching", sha256): None}) if sha256 else NOTHING


def _repeated(version: Version, view: View) -> Decision:
    """Answer a sender that missed the index: it gets another one, now or with the release."""
    said = note("model.repeated", topic=version.topic, publish_id=version.publish_id)
    told = (PublishIndex(_index(_released(view), _refusals(view))),)
    return Decision(effects=(said, *(told if version.released else ())))


def _line(name: str, view: View) -> Line:
    """Return all versions of a model in their order, those on their way included."""
    line = [each for each in view.all("version").values() if each.name == name]
    return sorted(line, key=lambda each: each.version)


def _released(view: View) -> Line:
    return [each for each in view.all("version").values() if each.released]


def _refusals(view: View) -> tuple[RefusedPublish, ...]:
    kept: Refusals | None = view.get("refusals", "")
    return kept.last if kept else ()


def _index(released: Line, refusals: tuple[RefusedPublish, ...]) -> str:
    models: dict[str, ModelLine] = {}
    for name in sorted({each.name for each in released}):
        line = sorted(
            (each for each in released if each.name == name), key=lambda each: each.version
        )
        versions = tuple(_entry(each) for each in line)
        models[name] = ModelLine(latest=line[-1].version, versions=versions)
    return ModelIndex(models=models, refusals=refusals).encode().decode()


def _entry(version: Version) -> ModelVersion:
    return ModelVersion(
        version=version.version,
        topic=version.topic,
        digest=version.digest,
        sha256=version.sha256,
        size=version.size,
        form=version.form,
        parent=version.parent,
        publish_id=version.publish_id,
        metrics=dict(version.metrics),
        architecture=version.architecture,
    )


def _publish_id(label: ModelLabel) -> str:
    return label.publish_id or INITIAL


def _same_again(event: Submitted, line: Line) -> Version | None:
    """Return the version that this very request made before."""
    for version in line:
        if version.publish_id == _publish_id(event.label) and version.digest == event.digest:
            return version
    return None


def _problem(event: Submitted, line: Line) -> Problem | None:
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
        if each.publish_id == _publish_id(label):
            return VERSION_TAKEN, f"'{each.publish_id}' made {each.topic} with other tensors"
    following = line[-1].version + 1 if line else 0
    if version < following:
        return VERSION_TAKEN, f"{name} {version} was sent, next is {following}"
    if version > following:
        return VERSION_GAP, f"{name} {version} was sent, next is {following}"
    if version > 0 and label.parent not in [each.version for each in line]:
        return WRONG_PARENT, f"{name} has no version {label.parent} to be the parent"
    return None


def _version(event: Submitted) -> Version:
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
        publish_id=_publish_id(label),
        metrics=dict(label.metrics),
        architecture=label.architecture,
        file=event.file,
    )


def _refuse(label: ModelLabel | None, problem: Problem, view: View) -> Decision:
    refusal, detail = problem
    refused = RefusedPublish(
        publish_id=label.publish_id if label else None,
        name=label.name if label else None,
        version=label.version if label else None,
        code=refusal.code,
        reason=f"{refusal.name}: {detail}. {refusal.cure}",
    )
    last = (*_refusals(view), refused)[-REFUSALS_KEPT:]
    effects = (
        PublishIndex(_index(_released(view), last)),
        note("model.refused", "warning", refusal.name, why=refused.reason),
    )
    return Decision({("refusals", ""): Refusals(last)}, effects)


def _said(version: Version, evicted: int) -> Effect:
    return note(
        "model.published",
        topic=version.topic,
        digest=version.digest,
        size=version.size,
        parent=version.parent,
        publish_id=version.publish_id,
        evicted=evicted,
    )
