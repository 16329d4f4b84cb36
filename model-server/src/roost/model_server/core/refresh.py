"""What the broker's copies are, and how they become those of the disk again (MODEL-036 ff.).

After each connect the index that the broker had kept comes first, before anything is told. It says
what the broker remembers: nothing, if it does not come; less than it should; or versions that were
evicted since, if it is a copy of an earlier time.
"""

from collections.abc import Sequence
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
from roost.chassis.effects import ClearTimer, Effect, SetTimer, note
from roost.model_server.core.index import Line, current, listed, released, unreleased
from roost.model_server.core.state import (
    Clear,
    Cleared,
    IndexKept,
    Link,
    Owed,
    PublishIndex,
    Refresh,
    Refreshed,
    Refuse,
    Release,
    Tidy,
    Unsent,
    Version,
)

READ_BACK_S: Final = 1.0
AGAIN_S: Final = 30.0
_READ_BACK: Final = "read-back"
_AGAIN: Final = "again"
_LINK: Final = ("link", "")
_OWED: Final = ("owed", "blobs")


def tell_index(view: View, text: str) -> tuple[Effect, ...]:
    """Publish an index, unless one will be published after all models anyway."""
    return (PublishIndex(text),) if is_told(view) else ()


def is_told(view: View) -> bool:
    """Whether the broker has what it should have, so that news may be told by itself."""
    return view.get(*_LINK) is Link.TOLD


def on_started(event: Started, view: View) -> Decision:
    """Delete what an earlier process left."""
    left = tuple(each.file for each in unreleased(view))
    return Decision(effects=(Tidy(left, event.at),))


def on_connected(event: Connected, _view: View) -> Decision:
    """Wait for the index that the broker kept; if it kept none, not for long."""
    return Decision({_LINK: Link.READING}, (SetTimer(_READ_BACK, event.at + READ_BACK_S),))


def on_disconnected(_event: Disconnected, _view: View) -> Decision:
    """Tell nothing until the broker's copies are known again."""
    return Decision({_LINK: None})


def on_timer(event: TimerFired, view: View) -> Decision:
    """Tell everything: the broker kept no index, or did not take something."""
    if event.key == _READ_BACK and view.get(*_LINK) is Link.READING:
        return _refresh(event.at, view, forgot=True)
    if event.key == _AGAIN and is_told(view):
        return _refresh(event.at, view, forgot=False)
    return NOTHING


def on_index_kept(event: IndexKept, view: View) -> Decision:
    """Compare what the broker kept with what there is."""
    latest = {each.name: each.version for each in sorted(view.all("version").values(), key=_number)}
    gone: Line = []
    for each in listed(event.text):
        here: Version | None = view.get("version", each.id)
        if here is None and each.version < latest.get(each.name, 0):
            gone.append(each)
        elif here is None or here.digest != each.digest:
            refuse = Refuse(event.at, _why_foreign(each))
            return Decision({_LINK: None}, (ClearTimer(_READ_BACK), refuse))
    decision = Decision({("clearing", each.id): each for each in gone})
    if view.get(*_LINK) is not Link.READING:
        return decision + Decision(effects=_clear(gone))
    forgot = event.text != current(view)
    return decision + _refresh(event.at, view, forgot=forgot, gone=gone)


def _number(version: Version) -> int:
    return version.version


def _why_foreign(entry: Version) -> str:
    return (
        f"the broker's index lists {entry.topic} with the digest {entry.digest}, which this state "
        "folder does not know: it is another one, or an old copy. Nothing is overwritten. Start "
        "with the right folder; or, to begin anew, clear the topic fl/models/index with an empty "
        "retained message"
    )


def _refresh(at: float, view: View, *, forgot: bool, gone: Sequence[Version] = ()) -> Decision:
    """Tell everything in order, and what an absent broker kept from being released or cleared."""
    blobs = forgot or view.get(*_OWED) is not None
    puts: dict[Key, Any] = {_LINK: Link.TOLD}
    if blobs:
        puts[_OWED] = Owed(at)
    refresh = Refresh(tuple(released(view)), current(view), blobs)
    clear = _clear([*view.all("clearing").values(), *gone])
    left = tuple(Release(each) for each in unreleased(view))
    timers = (ClearTimer(_READ_BACK), ClearTimer(_AGAIN))
    return Decision(puts, (*timers, refresh, *clear, *left))


def _clear(gone: Sequence[Version]) -> tuple[Effect, ...]:
    return (Clear(tuple({each.id: each for each in gone}.values())),) if gone else ()


def on_refreshed(_event: Refreshed, view: View) -> Decision:
    """Note that no blob is missing any more."""
    return NOTHING if view.get(*_OWED) is None else Decision({_OWED: None})


def on_cleared(event: Cleared, _view: View) -> Decision:
    """Forget what is off the broker and off the disk."""
    return Decision({("clearing", id_): None for id_ in event.ids})


def on_unsent(event: Unsent, _view: View) -> Decision:
    """Tell everything again in a while; a new connection does so sooner."""
    said = note("broker.lagging", "error", "unsent", why=event.why, again_s=AGAIN_S)
    return Decision(effects=(SetTimer(_AGAIN, event.at + AGAIN_S), said))
