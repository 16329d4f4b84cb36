"""A decision in the making: what it reads is what it has put."""

from roost.chassis.runner import States
from roost.manager.core.draft import Draft


def test_what_was_put_or_deleted_is_seen_at_once() -> None:
    """One by one and all together, in the order in which they came."""
    states = States()
    for id_ in ("kept", "changed", "deleted"):
        states.put(("kind", id_), 1)
    states.put(("other", "deleted"), 1)
    draft = Draft(states)
    draft.put("kind", "deleted", None)
    draft.put("kind", "changed", 2)
    draft.put("kind", "new", 3)
    assert list(draft.all("kind").items()) == [("kept", 1), ("changed", 2), ("new", 3)]
    assert [draft.get("kind", id_) for id_ in ("kept", "changed", "deleted")] == [1, 2, None]
    assert draft.all("other") == {"deleted": 1}
