"""From a message to task requests."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from roost.manager.core.binding import LaunchRule
from roost.manager.core.launch import MAX_TASKS, expand, number, read_wish
from roost.protocol.task.messages import TaskRequest
from roost.wire.refusal import Refused

from .world import EACH_BINDING, IMAGE, bindings_of

ONE_BINDING = """\
[[launch]]
topic = "one/+/start"
key = "{id}-{n}"
[launch.task]
image = "{image}"
args = ["--n={n}", "{flag}"]
selector = { zone = "{zone}" }
mounts = ["{mount}?"]
deadline_s = "{time}"
limits = { memory_mb = "{memory}", wall_s = 2.5 }
inputs = [{ name = "text", text = "{text}" }]
outputs = [{ file = "o", topic = "{to}" }]
"""
MESSAGE: dict[str, Any] = {
    "id": "r1",
    "n": 7,
    "image": IMAGE,
    "flag": True,
    "zone": "attic",
    "mount": "m",
    "time": 10,
    "memory": "64",
    "text": "{not a template}",
    "to": "out/r1",
}
EACH_MESSAGE: dict[str, Any] = {
    "id": "r1", "image": IMAGE, "devices": ["a", "b"], "options": {"z": [1, None], "a": "é"},
}  # fmt: skip


@dataclass(frozen=True)
class Expansion:
    """What a launching message asks for."""

    key: str
    requests: tuple[TaskRequest, ...]


def expanded(rule: LaunchRule, payload: bytes) -> Expansion:
    """Read and expand a launching message."""
    wish = read_wish(rule, payload)
    return Expansion(wish.key, tuple(expand(rule, wish)))


def one(**changes: Any) -> Expansion:
    """Expand the binding that launches one task; a field changed to None is left out."""
    message = {name: value for name, value in {**MESSAGE, **changes}.items() if value is not None}
    return expanded(bindings_of(ONE_BINDING).launches[0], json.dumps(message).encode())


def each(**changes: Any) -> Expansion:
    """Expand the binding that launches a task for each device."""
    message = {**EACH_MESSAGE, **changes}
    message = {name: value for name, value in message.items() if value is not None}
    return expanded(bindings_of(EACH_BINDING).launches[0], json.dumps(message).encode())


def test_one_task() -> None:
    """Every text of the task is a template (BIND-012, BIND-013, BIND-017, BIND-022)."""
    expansion = one()
    (request,) = expansion.requests
    assert expansion.key == request.task_id == "r1-7"
    assert request.proplet is None
    assert request.args == ("--n=7", "true")
    assert request.selector == {"zone": "attic"}
    assert request.mounts == ("m?",)
    assert request.deadline_s == 10
    assert (request.limits.memory_mb, request.limits.wall_s) == (64, 2.5)
    assert request.inputs[0].text == "{not a template}"
    assert request.outputs[0].topic == "out/r1"


def test_a_task_for_each_element() -> None:
    """Its id is key and element (BIND-013)."""
    expansion = each()
    assert expansion.key == "r1"
    assert [request.task_id for request in expansion.requests] == ["r1:a", "r1:b"]
    assert [request.proplet for request in expansion.requests] == ["a", "b"]
    (first, _) = expansion.requests
    assert first.env == {"OPTIONS": '{"z":[1,null],"a":"é"}'}
    assert first.deadline_s == 60
    assert first.outputs[0].topic == "jobs/r1/results/a"


@pytest.mark.parametrize(
    ("field", "value", "name", "why"),
    [
        ("devices", None, "launch_field", "the field 'devices' is missing (0.toml:1 needs it)"),
        ("options", None, "launch_field", "the field 'options' is missing (0.toml:12 needs it)"),
        ("id", None, "launch_field", "the field 'id' is missing (0.toml:3 needs it)"),
        ("devices", "a", "launch_list", "must be a list with at least one id"),
        ("devices", {"a": 1}, "launch_list", "must be a list with at least one id"),
        ("devices", [], "launch_list", "must be a list with at least one id"),
        ("devices", ["a", "a"], "launch_list", "'a' occurs twice"),
        ("devices", ["a", 7], "launch_list", "'7' in 'devices' is no id"),
        ("devices", ["a", None], "launch_list", "'None' in 'devices' is no id"),
        ("devices", ["a", ["b"]], "launch_list", "is no id"),
        ("devices", ["a", "b:c"], "launch_list", "'b:c' in 'devices' is no id"),
        ("devices", ["a/b"], "launch_list", "is no id"),
        ("devices", ["a" * 65], "launch_list", "is no id"),
        ("devices", [str(i) for i in range(MAX_TASKS + 1)], "launch_list", "at most 10000"),
        ("id", "a/b", "launch_task", "the key 'a/b' (0.toml:3) is no id"),
        ("id", "", "launch_task", "the key '' (0.toml:3) is no id"),
        ("id", "+", "launch_task", "is no id"),
        ("id", ":".join(["x" * 50] * 5), "launch_task", "is no id"),
        ("id", {"a": 1}, "launch_task", "is no id"),
        ("image", "no reference", "launch_task", "task 'r1:a' (0.toml:1): field 'image'"),
        ("time", "soon", "launch_task", "'soon' (0.toml:10) is no number"),
        ("time", "1e999", "launch_task", "field 'deadline_s'"),
        ("time", -1, "launch_task", "field 'deadline_s'"),
    ],
)
def test_refused(field: str, value: Any, name: str, why: str) -> None:
    """With field and line; nothing is launched (BIND-012, BIND-014, BIND-016)."""
    with pytest.raises(Refused) as caught:
        each(**{field: value})
    assert caught.value.refusal.name == name
    assert why in str(caught.value)


@pytest.mark.parametrize("topic", ["tasks/launch", "proplets/p/x", "workloads/reload", "$SYS/x"])
def test_an_output_cannot_give_orders(topic: str) -> None:
    """Not even by the message (TASK-004)."""
    with pytest.raises(Refused, match="Roost's own topics"):
        one(to=topic)


@pytest.mark.parametrize("topic", ["a/+", "a/#", ""])
def test_an_output_goes_to_one_topic(topic: str) -> None:
    """No wildcard, whatever the message says."""
    with pytest.raises(Refused, match=r"outputs\.0\.topic"):
        one(to=topic)


def test_a_derived_id_may_be_a_key() -> None:
    """Experiments have such ids (BIND-012)."""
    assert [r.task_id for r in each(id="exp:1").requests] == ["exp:1:a", "exp:1:b"]


def test_fields_may_be_nested() -> None:
    """`a.b` is field b of object a (BIND-020)."""
    text = ONE_BINDING.replace('key = "{id}-{n}"', 'key = "{job.id}"')
    payload = json.dumps({**MESSAGE, "job": {"id": "j7"}}).encode()
    assert expanded(bindings_of(text).launches[0], payload).key == "j7"


def test_all_tasks_together_are_bounded() -> None:
    """64 MiB (BIND-015)."""
    devices = [f"d{i}" for i in range(1000)]
    with pytest.raises(Refused) as caught:
        each(devices=devices, options="x" * 100_000)
    assert caught.value.refusal.name == "too_large"


def test_inputs_count_too() -> None:
    """Text and base64 (BIND-015)."""
    text = EACH_BINDING.replace(
        "[[launch.task.outputs]]",
        '[[launch.task.inputs]]\nname = "t"\ntext = "{options}"\n'
        '[[launch.task.inputs]]\nname = "b"\nbase64 = "{options}"\n[[launch.task.outputs]]',
    )
    message = {**EACH_MESSAGE, "options": "x" * 900_000, "devices": [f"d{i}" for i in range(30)]}
    with pytest.raises(Refused, match="together exceed"):
        expanded(bindings_of(text).launches[0], json.dumps(message).encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("-7", -7), ("300", 300), ("1.5", 1.5), ("1e3", 1000.0), ("-0.5E-1", -0.05),
        ("9" * 18, 10**18 - 1), ("9" * 19, 1e19),
        ("", None), ("1.", None), (".5", None), ("01", None), ("+1", None), (" 1", None),
        ("0x10", None), ("nan", None), ("1_000", None), ("true", None), ("9" * 40, None),
    ],
)  # fmt: skip
def test_number(text: str, value: float | None) -> None:
    """JSON's numbers and nothing else."""
    assert number(text) == value
    assert type(number(text)) is type(value)
