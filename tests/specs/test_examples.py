"""What the pages show as examples is accepted by the code that it is about."""

import json
import re
from pathlib import Path

import pytest
from roost.manager.bindings import load
from roost.manager.core.binding import LaunchRule
from roost.manager.core.launch import expand, read_wish
from roost.manager.core.read_binding import read_binding
from roost.manager.core.rules import check
from roost.protocol.round.update import parse_update
from roost.protocol.task.messages import TaskRequest
from roost.wire.refusal import Refused

SPECS = Path(__file__).parents[2] / "specs"
BLOB = "blob:operator/" + "0" * 64


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    text = (SPECS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def tasks_of(rule: LaunchRule, message: str) -> list[TaskRequest]:
    """Return the tasks that a launching message makes."""
    return list(expand(rule, read_wish(rule, message.encode())))


def test_binding_example_is_taken() -> None:
    """The binding on the workloads page is well formed and breaks no rule (BIND-001, BIND-002)."""
    (text,) = blocks("workloads.md", "toml")
    bindings = check([read_binding("shelf.toml", text.encode())])
    assert [rule.topic for rule in bindings.launches] == ["texts/+"]
    assert [str(rule) for rule in bindings.forwards] == ["shelves/+/counts/+ -> dashboard/counts"]


def test_message_of_the_example_launches() -> None:
    """The message on the workloads page makes the task that the page promises (BIND-020)."""
    (text,) = blocks("workloads.md", "toml")
    rule = check([read_binding("shelf.toml", text.encode())]).launches[0]
    page = (SPECS / "workloads.md").read_text()
    (message,) = re.findall(r"mosquitto_pub -V 5 -t texts/fiction -m '(.*?)'", page, re.DOTALL)
    (task,) = tasks_of(rule, message.replace("blob:…", BLOB))
    assert task.task_id == "t1"
    assert task.proplet == "proplet-1"
    assert task.deadline_s == 60
    assert task.env == {"LANGUAGE": "en"}
    assert task.inputs[0].text == "to be or not to be"
    assert task.outputs[0].topic == "shelves/fiction/counts/t1"


def test_task_request_example_is_taken() -> None:
    """The task request on the task protocol's page is one."""
    (text,) = blocks("task-protocol.md", "json")
    task = TaskRequest.decode(text.encode())
    assert task.outputs[0].topic == "greetings/hello-1"


def test_update_example_is_taken() -> None:
    """The update on the round protocol's page is one (UPDATE-001, UPDATE-002)."""
    (text,) = blocks("round-protocol.md", "json")
    update = parse_update(text.encode())
    assert update.num_samples == 512
    assert [entry.name for entry in update.layout.entries] == ["b", "w"]
    with pytest.raises(Refused, match="bad_update"):
        parse_update(json.dumps({**json.loads(text), "update": {"w": [[1], [1, 2]]}}).encode())


@pytest.mark.parametrize(
    ("hyperparams", "text", "mount"),
    [
        ({"epochs": 1, "lr": 0.01}, '{"epochs":1,"lr":0.01}', "train?"),
        ({"dataset": "fruit"}, '{"dataset":"fruit"}', "fruit?"),
        (None, "{}", "train?"),
    ],
)
def test_what_a_training_guest_gets(
    hyperparams: dict[str, object] | None, text: str, mount: str
) -> None:
    """Environment, model, mount, deadline and output are those of the page (ROUND-008)."""
    (rule,) = load(SPECS.parent / "workloads").files[0].launches
    start: dict[str, object] = {
        "round_id": "r-1", "model_uri": "fl/models/global_model_v0", "participants": ["p1", "p2"],
        "task_wasm_image": BLOB, "k_of_n": 2, "timeout_s": 30,
    }  # fmt: skip
    if hyperparams is not None:
        start["hyperparams"] = hyperparams
    tasks = tasks_of(rule, json.dumps(start))
    assert [task.task_id for task in tasks] == ["r-1:p1", "r-1:p2"]
    assert tasks[0].proplet == "p1"
    assert tasks[0].env == {
        "ROUND_ID": "r-1", "MODEL_URI": "fl/models/global_model_v0", "PROPLET_ID": "p1",
        "HYPERPARAMS": text,
    }  # fmt: skip
    assert tasks[0].mounts == (mount,)
    assert tasks[0].deadline_s == 30
    assert tasks[0].limits.wall_s == 604_800
    assert [(each.name, each.topic) for each in tasks[0].inputs] == [
        ("model", "fl/models/global_model_v0")
    ]
    assert [(each.file, each.topic) for each in tasks[0].outputs] == [
        ("update", "fl/rounds/r-1/updates/p1")
    ]


def test_a_training_guest_may_get_less_time_than_the_round() -> None:
    """One that hangs then fails long before a device that is away is given up (ROUND-008)."""
    (rule,) = load(SPECS.parent / "workloads").files[0].launches
    start = {
        "round_id": "r-1", "model_uri": "fl/models/global_model_v0", "participants": ["p1"],
        "task_wasm_image": BLOB, "k_of_n": 1, "timeout_s": 3600, "guest_s": 30,
    }  # fmt: skip
    (task,) = tasks_of(rule, json.dumps(start))
    assert (task.deadline_s, task.limits.wall_s) == (3600, 30)
