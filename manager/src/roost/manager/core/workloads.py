"""The retained ``workloads/state``: bindings in force, and what was refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from roost.chassis.effects import Publish, SetTimer, note
from roost.manager.core.binding import Binding
from roost.manager.core.draft import BINDINGS, THE, WORKLOADS, Draft
from roost.manager.core.events import (
    ApplyBindings,
    BindingsApplied,
    BindingsRead,
    BindingsRefused,
    ForwardDropped,
)
from roost.protocol.task.messages import BindingState, WorkloadsState
from roost.protocol.task.topics import WORKLOADS_STATE
from roost.wire.refusal import Refused

PUBLISH_EVERY_S: Final = 1.0
TIMER: Final = "workloads"
_MAX_TEXT: Final = 2000


@dataclass(frozen=True, slots=True)
class Workloads:
    """What ``workloads/state`` shows.

    Attributes:
        bindings: The files in force.
        launches: Topic filters of their launch rules.
        forwards: Sources of their forward rules.
        refused: Why the last reload was refused.
        reload_id: Id of the last reload.
        refusals: Orders and forwards refused, by reason.
        last_refusal: The last of them.
        published_at: When this was last published.
    """

    bindings: tuple[BindingState, ...] = ()
    launches: tuple[str, ...] = ()
    forwards: tuple[str, ...] = ()
    refused: str | None = None
    reload_id: str | None = None
    refusals: Mapping[str, int] = field(default_factory=dict)
    last_refusal: str | None = None
    published_at: float = 0.0


def current(draft: Draft) -> Workloads:
    """Return what is to be shown now."""
    found = draft.get(WORKLOADS, THE)
    return found if found is not None else Workloads()


def refuse(draft: Draft, error: Refused, topic: str, at: float) -> None:
    """Count a refused order where people look for it."""
    _count(draft, error.refusal.name, f"{topic}: {error}", at)
    draft.add(note("order.refused", "warning", error.refusal.name, topic=topic, why=str(error)))


def on_forward_dropped(draft: Draft, event: ForwardDropped) -> None:
    """Count a message that could not be forwarded."""
    _count(draft, event.name, event.why, event.at)
    draft.add(note("forward.dropped", "error", event.name, why=event.why))


def _count(draft: Draft, name: str, text: str, at: float) -> None:
    state = current(draft)
    refusals = {**state.refusals, name: state.refusals.get(name, 0) + 1}
    draft.put(WORKLOADS, THE, replace(state, refusals=refusals, last_refusal=text[:_MAX_TEXT]))
    due = state.published_at + PUBLISH_EVERY_S
    if at >= due:
        publish(draft, at)
    else:
        # A flood of bad orders must not become a flood of retained messages.
        draft.add(SetTimer(TIMER, due))


def publish(draft: Draft, at: float) -> None:
    """Publish the state as it is now."""
    state = replace(current(draft), published_at=at)
    draft.put(WORKLOADS, THE, state)
    message = WorkloadsState(
        bindings=state.bindings,
        refused=state.refused,
        reload_id=state.reload_id,
        refusals=dict(state.refusals),
        last_refusal=state.last_refusal,
    )
    draft.add(Publish(WORKLOADS_STATE.template, message.encode(), retain=True))


def on_read(draft: Draft, event: BindingsRead) -> None:
    """Take new bindings over; they are shown once the subscriptions follow them."""
    before, bindings = current(draft), event.bindings
    launches = tuple(rule.topic for rule in bindings.launches)
    sources = tuple(dict.fromkeys(rule.source for rule in bindings.forwards))
    draft.put(BINDINGS, THE, bindings)
    draft.put(
        WORKLOADS,
        THE,
        replace(
            before,
            bindings=tuple(map(_shown, bindings.files)),
            launches=launches,
            forwards=sources,
            refused=None,
            reload_id=event.reload_id,
        ),
    )
    draft.add(
        ApplyBindings(
            launches_gone=tuple(t for t in before.launches if t not in launches),
            forwards_gone=tuple(s for s in before.forwards if s not in sources),
            reload_id=event.reload_id,
        ),
        note("workloads.loaded", files=[binding.file for binding in bindings.files]),
    )


def _shown(binding: Binding) -> BindingState:
    return BindingState(
        file=binding.file,
        sha256=binding.sha256,
        launches=tuple(rule.topic for rule in binding.launches),
        forwards=tuple(map(str, binding.forwards)),
    )


def on_refused(draft: Draft, event: BindingsRefused) -> None:
    """Show why a reload changed nothing."""
    state = replace(current(draft), refused=event.why[:_MAX_TEXT], reload_id=event.reload_id)
    draft.put(WORKLOADS, THE, state)
    draft.add(note("workloads.refused", "error", "binding_invalid", why=event.why))
    publish(draft, event.at)


def on_applied(draft: Draft, event: BindingsApplied) -> None:
    """Show the bindings now that messages on their topics arrive."""
    if event.problem is not None:
        draft.put(WORKLOADS, THE, replace(current(draft), refused=event.problem[:_MAX_TEXT]))
        draft.add(note("workloads.not_applied", "error", "subscription", why=event.problem))
    publish(draft, event.at)
