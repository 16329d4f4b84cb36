"""The model server's core: which versions there are, and which publish requests are accepted.

A request is accepted if its version is the next one, or is the same again with the same digest.
Nothing is ever overwritten. Kept are the newest versions of each model, version 0, and every
version on whose topic a round that has not ended is based (as the rounds' retained states say).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from roost.chassis.core import (
    NOTHING,
    Connected,
    Decision,
    Disconnected,
    Key,
    Started,
    TimerFired,
    View,
)
from roost.chassis.effects import Effect, note
from roost.model_server.core import refresh
from roost.model_server.core.index import (
    Line,
    current,
    index_text,
    line_of,
    refusals,
    released,
)
from roost.model_server.core.judge import Problem, problem_of, same_again, version_of
from roost.model_server.core.state import (
    SERVICE_EFFECTS,
    Base,
    Clear,
    Cleared,
    DropIncoming,
    FetchSubmission,
    IndexKept,
    Owed,
    Refreshed,
    Refusals,
    Release,
    Released,
    RoundTold,
    Spoiled,
    SubmissionOffered,
    SubmissionUnreadable,
    Submitted,
    Unsent,
    Version,
)
from roost.protocol.round.label import ModelLabel
from roost.protocol.round.messages import RefusedPublish

REFUSALS_KEPT: Final = 20
BASE_KEPT_S: Final = 8 * 86_400.0
"""No round is open for longer than a week; one whose end was never told is forgotten then."""


class Shelf:
    """All decisions of the model server.

    Attributes:
        kinds: What is stored.
        volatile: The connection; which blobs are being fetched.
        effects: What the adapters carry out.
    """

    kinds: Mapping[str, type[Any]] = {
        "version": Version,
        "refusals": Refusals,
        "clearing": Version,
        "round": Base,
        "owed": Owed,
    }
    volatile = frozenset({"link", "fetching"})
    effects: tuple[type[Any], ...] = SERVICE_EFFECTS

    def __init__(self, keep: int) -> None:
        """Say how many of the newest versions of each model are kept."""
        self._keep = keep
        self._handlers: Mapping[type[Any], Callable[[Any, View], Decision]] = {
            Started: refresh.on_started,
            Connected: refresh.on_connected,
            Disconnected: refresh.on_disconnected,
            TimerFired: refresh.on_timer,
            IndexKept: refresh.on_index_kept,
            Refreshed: refresh.on_refreshed,
            Cleared: refresh.on_cleared,
            Unsent: refresh.on_unsent,
            Submitted: self._submitted,
            SubmissionOffered: self._offered,
            SubmissionUnreadable: self._unreadable,
            Released: self._released,
            Spoiled: self._spoiled,
            RoundTold: self._round_told,
        }

    def handle(self, event: Any, view: View) -> Decision:
        """Decide what one event changes."""
        return self._handlers[type(event)](event, view)

    @staticmethod
    def _round_told(event: RoundTold, view: View) -> Decision:
        """Remember what open rounds are based on, also over a restart."""
        old: dict[Key, Any] = {
            ("round", round_id): None
            for round_id, base in view.all("round").items()
            if event.at - base.at > BASE_KEPT_S
        }
        known: Base | None = view.get("round", event.round_id)
        if (known.topic if known else None) != event.model_uri:
            base = None if event.model_uri is None else Base(event.model_uri, event.at)
            old["round", event.round_id] = base
        return Decision(old)

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
        line = line_of(event.label.name, view)
        drop = DropIncoming(event.file)
        again = same_again(event, line)
        if again is not None:
            return Decision(effects=(drop,)) + _repeated(again, view)
        problem = problem_of(event, line)
        if problem is not None:
            return Decision(effects=(drop,)) + _refuse(event.label, problem, view)
        version = version_of(event)
        # Before the broker's copies are known it waits: nothing there may be overwritten.
        release = (Release(version),) if refresh.is_told(view) else ()
        return Decision({("version", version.id): version}, release)

    def _released(self, event: Released, view: View) -> Decision:
        version: Version | None = view.get("version", f"{event.name}/{event.version}")
        if version is None or version.released:
            return NOTHING
        version = replace(version, released=True)
        others = [each for each in released(view) if each.id != version.id]
        line = [each for each in (*others, version) if each.name == version.name]
        old = self._superfluous(line, view)
        kept = [each for each in (*others, version) if each not in old]
        effects: list[Effect] = [*refresh.tell_index(view, index_text(kept, refusals(view)))]
        if old and refresh.is_told(view):
            effects.append(Clear(tuple(old)))
        effects.append(_said(version, len(old)))
        puts: dict[Key, Any] = {("version", version.id): version}
        for each in old:
            puts |= {("version", each.id): None, ("clearing", each.id): each}
        return Decision(puts, tuple(effects))

    @staticmethod
    def _spoiled(event: Spoiled, view: View) -> Decision:
        """Forget a version whose file was lost before anybody could read it; keep all others."""
        version: Version | None = view.get("version", f"{event.name}/{event.version}")
        if version is None:
            return NOTHING
        said = note("model.damaged", "error", "lost", topic=version.topic, why=event.why)
        return Decision({} if version.released else {("version", version.id): None}, (said,))

    def _superfluous(self, line: Line, view: View) -> Line:
        """Return the versions of one model that are not kept any more."""
        open_rounds = view.all("round")
        bases = {base.topic for base in open_rounds.values()}
        newest = sorted(line, key=lambda each: each.version, reverse=True)[: self._keep]
        return [
            each
            for each in line
            if each not in newest
            and each.version != 0
            and each.topic not in bases
            # Its round has not seen it listed yet, and would have it made again.
            and each.publish_id not in open_rounds
        ]


def _fetched(sha256: str | None) -> Decision:
    return Decision({("fetching", sha256): None}) if sha256 else NOTHING


def _repeated(version: Version, view: View) -> Decision:
    """Answer a sender that missed the index: it gets another one, now or with the release."""
    said = note("model.repeated", topic=version.topic, publish_id=version.publish_id)
    told = refresh.tell_index(view, current(view)) if version.released else ()
    return Decision(effects=(said, *told))


def _refuse(label: ModelLabel | None, problem: Problem, view: View) -> Decision:
    refusal, detail = problem
    refused = RefusedPublish(
        publish_id=label.publish_id if label else None,
        name=label.name if label else None,
        version=label.version if label else None,
        code=refusal.code,
        reason=f"{refusal.name}: {detail}. {refusal.cure}",
    )
    last = (*refusals(view), refused)[-REFUSALS_KEPT:]
    told = refresh.tell_index(view, index_text(released(view), last))
    said = note("model.refused", "warning", refusal.name, why=refused.reason)
    return Decision({("refusals", ""): Refusals(last)}, (*told, said))


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
