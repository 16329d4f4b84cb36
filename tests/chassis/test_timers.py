"""Timers by key, the next of which is known without looking at all."""

from hypothesis import given
from hypothesis import strategies as st
from roost.chassis.timers import Timers

KEYS = st.sampled_from("abc")
TIMES = st.integers(0, 9).map(float)
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, TIMES),
    st.tuples(st.just("clear"), KEYS, st.just(0.0)),
    st.tuples(st.just("fire"), st.just(""), TIMES),
)


@given(st.dictionaries(KEYS, TIMES), st.lists(STEPS, max_size=300))
def test_timers_are_what_a_dictionary_would_be(
    begin: dict[str, float], steps: list[tuple[str, str, float]]
) -> None:
    """Set, cleared and fired in any order: the earliest first, by key among equals."""
    timers, plain = Timers(begin), dict(begin)
    for what, key, at in steps:
        if what == "set":
            timers.set(key, at)
            plain[key] = at
        elif what == "clear":
            assert timers.clear(key) == (plain.pop(key, None) is not None)
        else:
            due = timers.due(at, 100)
            assert due == sorted((time, each) for each, time in plain.items() if time <= at)
            for time, each in due:
                assert timers.take(each, time)
                del plain[each]
        assert timers.due_at == min(plain.values(), default=None)


def test_a_timer_that_another_put_off_is_not_due() -> None:
    """Whoever fires them asks for each, right before."""
    timers = Timers({"a": 1.0, "b": 2.0, "c": 2.0})
    assert timers.due(3.0, 100) == [(1.0, "a"), (2.0, "b"), (2.0, "c")]
    timers.set("b", 9.0)
    timers.clear("c")
    assert timers.take("a", 1.0)
    assert not timers.take("b", 2.0)
    assert not timers.take("c", 2.0)
    assert timers.due_at == 9.0


def test_timers_that_move_leave_nothing_behind() -> None:
    """What is kept is bounded by how many there are."""
    timers = Timers({})
    for number in range(10_000):
        timers.set("a", float(number))
    assert len(timers._heap) < 100
    assert timers.due(20_000.0, 100) == [(9_999.0, "a")]


def test_of_many_that_are_due_the_first_come_first() -> None:
    """The others stay due: a group of timers is no more than a group of messages."""
    timers = Timers({f"{number:03d}": float(number) for number in range(100)})
    seen = []
    while timers.due_at is not None:
        group = timers.due(200.0, 30)
        assert len(group) <= 30
        for at, key in group:
            assert timers.take(key, at)
            seen.append(key)
    assert seen == [f"{number:03d}" for number in range(100)]
