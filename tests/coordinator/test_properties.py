"""What holds of rounds in every history that begins with a started round.

Each was seen to fail with the code mutated by hand. Caught were: no check of duplicates, of
strangers, of the status or of k at arrival, of base, round, samples, cap, shape or type; files of
refused or waiting updates kept; waiting updates never judged; averaging in order of arrival; a
quorum one too high or too low; the minimum or the deadline ignored; an outcome told twice. What
these histories do not reach (digests in the index, numbers that others claimed, starts with other
bytes, verdicts after the end) the rows in the other files catch.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from roost.coordinator.core.effects import Average, DropSpools
from roost.coordinator.core.events import RoundOrdered
from roost.protocol.round.messages import RoundComplete, RoundStart, RoundStatus
from roost.protocol.task.messages import TaskStatus

from .world import World, sha

INVITED = ("a", "b", "c", "d")
STRANGERS = ("x", "y")
FAULTS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {},
    {"num_samples": 0},
    {"num_samples": -3},
    {"num_samples": 2_000_000_000},
    {"round_id": "other"},
    {"base_model_uri": "fl/models/global_model_v9"},
    {"shapes": "others"},
    {"dtypes": "others"},
)
SENDERS = st.sampled_from(INVITED * 3 + STRANGERS)
ARRIVALS = st.tuples(st.just("arrive"), SENDERS, st.sampled_from(FAULTS))
STEPS = st.one_of(
    ARRIVALS,
    ARRIVALS,
    st.tuples(st.just("task"), SENDERS, st.sampled_from(TaskStatus)),
    st.tuples(st.just("pass"), st.sampled_from([0.1, 1.9, 2.1, 5.0, 31.0]), st.none()),
    st.tuples(st.just("foreign task"), SENDERS, st.sampled_from(TaskStatus)),
    st.tuples(
        st.sampled_from(["disconnect", "connect", "index", "start again", "base", "restart"]),
        st.none(),
        st.none(),
    ),
)
POLICIES = st.fixed_dictionaries(
    {
        "k": st.integers(1, len(INVITED)),
        "timeout_s": st.sampled_from([4.0, 60.0]),
        "on_timeout": st.sampled_from(["fail", "aggregate"]),
    }
)
# Unshaped lists hold few arrivals and miss what takes three of them.
HISTORIES = st.tuples(st.lists(ARRIVALS, min_size=3, max_size=8), st.lists(STEPS, max_size=20)).map(
    lambda parts: parts[0] + parts[1]
)


def play(world: World, history: list[tuple[str, Any, Any]]) -> None:
    """Let a history happen."""
    plain: dict[str, Callable[[], object]] = {
        "disconnect": world.disconnect,
        "index": world.index,
        "base": world.read_bases,
        "restart": world.restart,
        "connect": lambda: (world.connect(), world.index()),
        "start again": lambda: start_again(world),
    }
    for kind, one, two in history:
        match kind:
            case "arrive":
                world.arrive(one, **two)
            case "task":
                world.task(one, two, reason="trap" if two is TaskStatus.FAILED else None)
            case "foreign task":
                world.task(one, two, start="of another start")
            case "pass":
                world.pass_time(one)
            case _:
                plain[kind]()


def start_again(world: World) -> None:
    """Publish the start again, as the coordinator itself does."""
    start = world.states.get("start", "r")
    if start:
        payload = start.payload
        decoded = RoundStart.decode(payload.encode())
        made = world.happen(RoundOrdered(world.now, decoded, payload, sha(payload)))
        assert world.notes(made) == ["round.start_repeated"]


def finish(world: World) -> None:
    """Let everything come back and all time pass."""
    if not world.connected:
        world.connect()
    world.hold_base = False
    world.read_bases()
    world.index()
    world.pass_time(200.0)


@given(POLICIES, HISTORIES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_only_the_invited_count_and_each_once(
    policy: dict[str, Any], history: list[Any], hold_base: bool
) -> None:
    """The world's invariants hold after each event (ROUND-011), and one average is made at most."""
    world = World(hold_base=hold_base)
    world.open("r", INVITED, **policy)
    play(world, history)
    finish(world)
    averages = world.of(Average)
    assert len(averages) <= 1
    for average in averages:
        senders = [world.spools[each.spool] for each in average.updates]
        assert len(set(senders)) == len(senders)
        assert set(senders) <= set(INVITED)
        enough = world.round().policy.fewest
        assert enough <= len(senders) <= policy["k"]


@given(POLICIES, HISTORIES, st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_round_ends_and_says_so_once(
    policy: dict[str, Any], history: list[Any], hold_base: bool
) -> None:
    """No history leaves a round hanging, and an outcome never changes (ROUND-017, ROUND-031)."""
    world = World(hold_base=hold_base)
    world.open("r", INVITED, **policy)
    play(world, history)
    finish(world)
    assert world.round().status.final
    outcomes = {bytes(each) for each in world.told("fl/rounds/r/complete")}
    assert len(outcomes) == 1
    outcome = RoundComplete.decode(outcomes.pop())
    if outcome.outcome is RoundStatus.COMPLETED:
        assert world.versions[outcome.model_version or 0].digest == outcome.model_digest
        assert outcome.updates >= world.round().policy.fewest
    else:
        assert outcome.reason
        assert len(world.versions) == 1, "a failed round changes no model"
    assert not [key for key in world.timers if key.endswith("/r")], "no timer is left"


@given(POLICIES, HISTORIES, st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_update_is_accepted_or_refused_with_a_reason(
    policy: dict[str, Any], history: list[Any], hold_base: bool
) -> None:
    """Nothing is lost in between, and every refused file is dropped (ROUND-012)."""
    world = World(hold_base=hold_base)
    world.open("r", INVITED, **policy)
    play(world, history)
    finish(world)
    round_ = world.round()
    dropped = [spool for each in world.of(DropSpools) for spool in each.spools]
    assert len(dropped) == len(set(dropped))
    assert len(dropped) + round_.updates == len(world.spools)
    assert sum(round_.refusals.values()) == len(dropped)


@given(st.permutations(INVITED), st.integers(2, 4))
@settings(deadline=None)
def test_the_order_of_arrival_does_not_matter(order: list[str], k: int) -> None:
    """The same participants are averaged in the same order (ROUND-020)."""
    senders = [each for each in order if each in INVITED[:k]]
    world = World()
    world.open("r", INVITED, k)
    for each in senders:
        world.arrive(each)
    (average,) = world.of(Average)
    assert [world.spools[each.spool] for each in average.updates] == list(INVITED[:k])
    assert world.round().status is RoundStatus.COMPLETED


@given(HISTORIES, HISTORIES)
@settings(max_examples=100, deadline=None)
def test_two_rounds_at_once_do_not_touch_each_other(one: list[Any], two: list[Any]) -> None:
    """Versions stay monotonic and name the base as their parent (ROUND-035)."""
    world = World()
    world.open("r", INVITED, 2)
    world.order("s", INVITED, 2)
    alone = World()
    alone.open("s", INVITED, 2)
    play(world, [step for step in one if step[0] in ("arrive", "task")])
    for kind, sender, fault in two:
        if kind == "arrive":
            world.arrive(sender, "s", **fault)
            alone.arrive(sender, "s", **fault)
    finish(world)
    finish(alone)
    assert world.round("s").refusals == alone.round("s").refusals
    assert world.accepted("s") == alone.accepted("s")
    assert world.round("s").status is alone.round("s").status
    assert [each.version for each in world.versions] == list(range(len(world.versions)))
