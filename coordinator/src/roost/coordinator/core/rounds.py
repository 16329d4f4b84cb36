"""All rounds together: their facts, what is told of them, and how long they are kept."""

from collections.abc import Iterator

from roost.chassis.effects import Publish
from roost.coordinator.core import experiments
from roost.coordinator.core import round as one
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.effects import Tidy
from roost.coordinator.core.events import RoundEvent
from roost.coordinator.core.facts import Facts, Keep
from roost.coordinator.core.judge import Judged
from roost.coordinator.core.ledger import show_running
from roost.coordinator.core.outcome import (
    in_words,
    tell_outcome,
    tell_state,
    updates_judged,
    wide_event,
)
from roost.coordinator.core.state import Past, Publication, Round
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.topics import MODEL, ROUND_COMPLETE, ROUND_STATE

_MODELS_KEPT = 3


def step_one(draft: Draft, round_id: str, event: RoundEvent, keep: Keep) -> None:
    """Let an event happen to one round, if there is such a round."""
    before: Round | None = draft.get("round", round_id)
    if before is not None:
        take_over(draft, before, one.step(before, event, facts(draft, before)), event.at, keep)


def step_all(draft: Draft, event: RoundEvent, keep: Keep, only: RoundStatus | None = None) -> None:
    """Let an event happen to every round that runs."""
    for round_ in running(draft):
        if only in (None, round_.status):
            step_one(draft, round_.round_id, event, keep)


def running(draft: Draft) -> list[Round]:
    """Return the rounds that have not ended, oldest first."""
    return [each for each in draft.all("round").values() if not each.status.final]


def facts(draft: Draft, round_: Round) -> Facts:
    """Gather what the round is judged with."""
    link = draft.get("link", "")
    start = draft.get("start", round_.round_id)
    return Facts(
        connected_at=link.connected_at if link else None,
        index=draft.get("index", ""),
        seen=draft.all("proplet"),
        tasks=draft.get("tasks", round_.round_id) or {},
        claimed=claimed(draft, model_name(round_.model_uri), round_.round_id),
        start=start.payload if start else "",
    )


def model_name(model_uri: str) -> str:
    """Return the name in a model's topic; a failed start may have none."""
    found = MODEL.match(model_uri)
    return found["name"] if found else ""


def claimed(draft: Draft, name: str, publish_id: str) -> frozenset[int]:
    """Return the numbers that other publications of a model were sent with."""
    return frozenset(
        each.version
        for each in _publications(draft)
        if each.name == name and each.publish_id != publish_id and each.version is not None
    )


def _publications(draft: Draft) -> Iterator[Publication]:
    for round_ in draft.all("round").values():
        if round_.publication and round_.status is RoundStatus.PUBLISHING:
            yield round_.publication
    for rollback in draft.all("rollback").values():
        yield rollback.publication


def take_over(draft: Draft, before: Round | None, judged: Judged, at: float, keep: Keep) -> None:
    """Put a round's new state and tell everyone what changed."""
    after, effects = judged
    draft.emit(*effects)
    if after == before:
        return
    draft.put("round", after.round_id, after)
    if before is not None:
        draft.emit(*updates_judged(before, after))
    draft.emit(tell_state(after, at, keep.expiry_s))
    if after.status.final and (before is None or not before.status.final):
        _finish(draft, after, at, keep)


def _finish(draft: Draft, round_: Round, at: float, keep: Keep) -> None:
    draft.emit(tell_outcome(round_, keep.expiry_s), wide_event(round_))
    draft.put("start", round_.round_id, None)
    draft.put("tasks", round_.round_id, None)
    experiments.round_ended(draft, round_, at, keep)
    show_running(draft)
    _forget_old(draft, keep)
    tidy(draft, at, keep)


def _ended(draft: Draft) -> list[Round]:
    """Return the rounds that have ended, the latest first."""
    ended = [each for each in draft.all("round").values() if each.status.final]
    ended.reverse()
    return sorted(ended, key=lambda each: each.ended_at or 0.0, reverse=True)


def _forget_old(draft: Draft, keep: Keep) -> None:
    """Keep of the oldest rounds only what tells their id again."""
    for round_ in _ended(draft)[keep.rounds :]:
        round_id = round_.round_id
        draft.put("round", round_id, None)
        draft.put("past", round_id, Past(round_.start_sha256, in_words(round_)))
        for topic in (ROUND_STATE, ROUND_COMPLETE):
            draft.emit(Publish(topic.format(round_id=round_id), retain=True))


def tidy(draft: Draft, at: float, keep: Keep) -> None:
    """Delete the files that nothing needs any more.

    While a round is aggregating, its average may be on disk already under a digest that is not
    known here yet; then models are left to the next time, which is that round's end at latest.
    """
    ended, open_ = _ended(draft), running(draft)
    models = [each.base.digest for each in open_ if each.base]
    models += [each.digest for each in _publications(draft)]
    models += [each.publication.digest for each in ended[:_MODELS_KEPT] if each.publication]
    rounds = [each.round_id for each in (*open_, *ended[: keep.spools])]
    unknown = any(each.status is RoundStatus.AGGREGATING for each in open_)
    draft.emit(Tidy(tuple(rounds), None if unknown else tuple(dict.fromkeys(models)), at))
