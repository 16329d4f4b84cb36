"""Proof 5: replace bytes that no binding names by any others; the manager does the same to them."""

import json
import random
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roost.chassis.settings import BrokerSettings
from roost.manager.adapters.connection import Login
from roost.manager.adapters.forwarder import Forwarder
from roost.manager.bindings import load
from roost.manager.core.binding import LaunchRule, Leaf, Node, Table

from ..manager.world import World, make_world  # noqa: TID252 - the tests are no package

WORKLOADS = Path(__file__).parents[2] / "workloads"
FILES = [path.read_text() for path in sorted(WORKLOADS.glob("*.toml"))]
RULES = load(WORKLOADS).launches
TOPICS = [rule.topic for rule in RULES]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# Names that a manager which knew more than its bindings would look for.
TEMPTING = st.sampled_from(
    ["v", "k", "k_of_n", "min_updates", "on_timeout", "num_samples", "metrics", "update", "w", "b",
     "round_id", "model_uri", "hyperparams", "participants", "task_id", "proplet", "selector",
     "env", "args", "inputs", "outputs", "mounts", "limits", "deadline_s", "priority", "type"]
)  # fmt: skip
USER = st.lists(st.tuples(st.text("ab-", min_size=1), st.text("xy")), max_size=3)


def fields_of(rule: LaunchRule) -> set[str]:
    """Return the outermost names of the fields that a rule names."""
    names = {*rule.key.fields, *([rule.for_each] if rule.for_each else [])}
    names |= {name for name, _ in rule.defaults}
    pending: list[Node] = [rule.task]
    while pending:
        node = pending.pop()
        if isinstance(node, Leaf):
            names |= set(node.template.fields)
        elif isinstance(node, Table):
            pending += [item for _, item in node.items]
        else:
            pending += node.items
    return {name.split(".")[0] for name in names}


def message_of(rule: LaunchRule) -> dict[str, Any]:
    """Return a message that launches tasks by this rule."""
    message: dict[str, Any] = dict.fromkeys(fields_of(rule), "7")
    for name in message:
        if "image" in name:
            message[name] = "oci://registry.test/guest:1"
    if rule.for_each:
        message[rule.for_each] = ["proplet-1", "proplet-2"]
    return message


def launched(topic: str, message: dict[str, Any]) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the digest of a message, and what the manager published because of it."""
    world: World = make_world(*FILES)
    for proplet in ("proplet-1", "proplet-2"):
        world.presence(proplet)
    payload = json.dumps(message).encode()
    world.receive(topic, payload)
    return sha256(payload).hexdigest(), [(each.topic, each.payload) for each in world.take()]


def test_every_shipped_rule_launches() -> None:
    """Otherwise the next test would compare refusals."""
    assert len(TOPICS) >= 4
    for rule in RULES:
        _, published = launched(rule.topic, message_of(rule))
        assert any(topic.endswith("/start") for topic, _ in published)
        assert not any(topic == "workloads/state" for topic, _ in published)


@pytest.mark.parametrize("rule", RULES, ids=TOPICS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fields_that_no_binding_names(rule: LaunchRule, data: st.DataObject) -> None:
    """Whatever else a message holds, the same tasks start with the same bytes.

    Only the digest of the whole message, by which its launch is known, may differ.
    """
    named = message_of(rule)
    names = (TEMPTING | st.text(min_size=1)).filter(lambda name: name not in named)
    others = st.dictionaries(names, VALUES)
    plain_digest, plain = launched(rule.topic, named)
    digest, published = launched(rule.topic, {**data.draw(others), **named})
    told = [
        (topic, body.replace(digest.encode(), plain_digest.encode())) for topic, body in published
    ]
    assert told == plain


@settings(max_examples=60, deadline=None)
@given(value=VALUES, other=VALUES)
def test_a_field_that_is_handed_on(value: Any, other: Any) -> None:
    """What a binding hands to a guest is handed on whatever it means: nobody looks inside."""
    (rule,) = [rule for rule in RULES if rule.topic == "fl/rounds/start"]
    starts = []
    for each in (value, other):
        _, published = launched(rule.topic, {**message_of(rule), "hyperparams": each})
        bodies = [json.loads(body) for topic, body in published if topic.endswith("/start")]
        for body in bodies:
            text = body["task"]["env"].pop("HYPERPARAMS")
            assert (text == each) if isinstance(each, str) else (json.loads(text) == each)
        starts.append(bodies)
    assert starts[0] == starts[1]
    assert len(starts[0]) == 2


class Line:
    """Stands for paho's client: notes what is published and acknowledged."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, int, bytes]] = []
        self.acknowledged: list[int] = []

    def publish(self, topic: str, payload: bytes, qos: int, properties: Any) -> SimpleNamespace:
        """Note it."""
        self.published.append((topic, payload, qos, properties.pack()))
        return SimpleNamespace(mid=len(self.published))

    def ack(self, mid: int, _qos: int) -> None:
        """Note it."""
        self.acknowledged.append(mid)


def forwarded(topic: str, payload: bytes, user: list[tuple[str, str]]) -> Line:
    """Let the forwarder, with the shipped rules, forward a message."""
    line: Any = Line()
    forwarder = Forwarder(
        BrokerSettings(), Login(), rng=random.Random(1), dropped=_nothing_drops, fatal=pytest.fail
    )
    forwarder.apply((rule.source, rule.to) for rule in load(WORKLOADS).forwards)
    properties = SimpleNamespace(UserProperty=user)
    message: Any = SimpleNamespace(
        topic=topic, payload=payload, qos=1, mid=9, retain=False, properties=properties
    )
    forwarder.on_message(line, None, message)
    assert line.acknowledged == [], "not before the broker has the onward copy"
    accepted: Any = SimpleNamespace(value=0)
    forwarder.on_publish(line, None, 1, accepted, None)
    found: Line = line
    return found


def _nothing_drops(name: str, why: str) -> None:
    raise AssertionError(f"{name}: {why}")


@settings(max_examples=200, deadline=None)
@given(payload=st.binary(), other=st.binary(), user=USER)
def test_forwards(payload: bytes, other: bytes, user: list[tuple[str, str]]) -> None:
    """The same topic, properties and acknowledgement, and the very bytes, whatever they are.

    (FWD-001, FWD-003, FWD-004)
    """
    one, two = (forwarded("fl/rounds/r1/updates/p1", each, user) for each in (payload, other))
    assert one.acknowledged == two.acknowledged == [9]
    ((topic, bytes_one, *rest),) = one.published
    ((other_topic, bytes_two, *other_rest),) = two.published
    assert (bytes_one, bytes_two) == (payload, other)
    assert (topic, rest) == (other_topic, other_rest)
    assert topic == "fml/updates"
