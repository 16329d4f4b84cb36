"""Orders are obeyed once, or refused where people look."""

import json
from hashlib import sha256
from typing import Any

import pytest
from roost.manager.core.lifecycle import START_EXPIRY_S, STATE_KEPT_S, STOP_EXPIRY_S

from .world import EACH_BINDING, IMAGE, World, make_world

JOB = {"id": "j1", "image": IMAGE, "devices": ["a", "b"], "options": {}}
REPLY_TO = "replies/cli-1/launch"


def replies(world: World) -> list[Any]:
    """Take the answers to launches."""
    return [body for _, body in world.bodies("/launch")]


def test_launch_by_a_binding(world: World) -> None:
    """The state names the launching message (TASK-022)."""
    payload = json.dumps(JOB).encode()
    world.presence("a")
    world.receive("jobs/start", payload)
    state = world.state("j1:a")
    digest = sha256(payload).hexdigest()
    assert state["launch"] == {"topic": "jobs/start", "sha256": digest, "key": "j1"}
    assert (state["state"], world.state("j1:b")["state"]) == ("dispatched", "queued")


def test_the_same_bytes_are_ignored(world: World) -> None:
    """A launch is done once (TASK-007)."""
    world.receive("jobs/start", JOB)
    before = dict(world.states["task"])
    world.take()
    world.receive("jobs/start", JOB)
    assert world.states["task"] == before
    assert world.take() == []
    assert world.noted("launch.repeated") == ["same_bytes"]
    assert "refusals" not in world.retained


def test_other_bytes_are_refused_for_ever(world: World) -> None:
    """Also after the tasks are forgotten, and after a restart (TASK-007)."""
    world.receive("jobs/start", JOB)
    for _ in range(2):
        world.receive("jobs/start", {**JOB, "devices": ["c"]})
        assert "j1:c" not in world.states["task"]
        world.wait(STATE_KEPT_S + 7200)
        assert not world.all("task")
        assert not world.all("ended")
        world.restart()
        world.connect()
    assert world.shown()["refusals"] == {"launch_key_reused": 2}
    assert "'j1' was launched with other bytes" in world.shown()["last_refusal"]


def test_one_space_is_other_bytes(world: World) -> None:
    """Bytes are compared, not meanings (TASK-007)."""
    world.receive("jobs/start", json.dumps(JOB).encode())
    world.receive("jobs/start", json.dumps(JOB).encode() + b" ")
    assert world.shown()["refusals"] == {"launch_key_reused": 1}


def test_a_refused_launch_may_be_sent_again(world: World) -> None:
    """Only a launch that was accepted is remembered (TASK-007)."""
    world.receive("jobs/start", {**JOB, "image": "nonsense"})
    assert not world.all("launch")
    world.receive("jobs/start", JOB)
    assert len(world.all("task")) == 2


def test_a_refusal_changes_nothing_else(world: World) -> None:
    """All tasks of a message are launched, or none (BIND-015, WIRE-020)."""
    world.receive("jobs/start", {**JOB, "devices": ["a", "b", "b"]})
    assert not world.all("task")
    assert world.timers.keys() == {"prune"}


def test_keys_of_two_topics_that_meet_in_a_task() -> None:
    """A task id is given away once (TASK-008)."""
    other = EACH_BINDING.replace("jobs/", "works/").split("[[forward]]")[0]
    world = make_world(EACH_BINDING, other)
    world.receive("jobs/start", JOB)
    world.receive("works/start", {**JOB, "devices": ["x", "b"]})
    assert world.all("task").keys() == {"j1:a", "j1:b"}
    assert "task 'j1:b' was launched on jobs/start" in world.shown()["last_refusal"]
    world.receive("works/start", {**JOB, "devices": ["x"]})
    assert "j1:x" in world.all("task")


def test_a_topic_that_no_binding_names(world: World) -> None:
    """A subscription that an older session left behind launches nothing."""
    world.receive("jobs/other", JOB)
    assert world.noted("order.ignored") == ["no_rule"]
    assert not world.all("task")


@pytest.mark.parametrize("topic", ["jobs/start", "tasks/launch", "tasks/t/cancel",
                                   "tasks/t/resend", "workloads/reload"])  # fmt: skip
def test_an_order_that_the_broker_kept_is_refused(world: World, topic: str) -> None:
    """Whatever order it is (WIRE-007, BIND-010)."""
    world.launch("t", proplet="p")
    world.receive(topic, JOB, retain=True)
    assert world.shown()["refusals"] == {"retained_order": 1}
    assert world.state("t")["state"] == "queued"
    assert world.asked == []


def test_launch_one_task_and_answer(world: World) -> None:
    """With the correlation data of the request (TASK-006, TASK-007)."""
    request = json.dumps({"task_id": "t", "image": IMAGE}).encode()
    world.order("tasks/launch", request, response_topic=REPLY_TO, correlation=b"\x00c")
    (answer,) = world.take(REPLY_TO)
    assert json.loads(answer.payload) == {"v": 1, "task_id": "t", "accepted": True}
    assert (answer.correlation, answer.retain, answer.expiry_s) == (b"\x00c", False, 60)
    world.order("tasks/launch", request, response_topic=REPLY_TO)
    assert replies(world) == [{"v": 1, "task_id": "t", "accepted": True}]
    world.order("tasks/launch", request + b" ", response_topic=REPLY_TO)
    (answer,) = replies(world)
    assert (answer["task_id"], answer["accepted"], answer["code"]) == ("t", False, 203)
    assert "'t' was launched with other bytes" in answer["reason"]


@pytest.mark.parametrize(
    ("body", "code", "why"),
    [
        (b"\xff", 101, "TaskRequest"),
        ({"image": IMAGE}, 101, "field 'task_id' is missing"),
        ({"task_id": "a:b", "image": IMAGE}, 202, "only launches by a binding"),
        ({"task_id": "t", "image": "x"}, 101, "field 'image'"),
        ({"task_id": "t", "image": IMAGE, "outputs": [{"file": "f", "topic": "tasks/launch"}]},
         202, "one of Roost's own topics"),
        ({"v": 2, "task_id": "t", "image": IMAGE}, 103, "reads v 1"),
    ],
)  # fmt: skip
def test_a_launch_that_is_refused_is_answered(world: World, body: Any, code: int, why: str) -> None:
    """With number and reason (TASK-004, TASK-005, TASK-006)."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    world.order("tasks/launch", payload, response_topic=REPLY_TO)
    (answer,) = replies(world)
    assert (answer["accepted"], answer["code"]) == (False, code)
    assert why in answer["reason"]
    assert not world.all("task")


@pytest.mark.parametrize(
    "topic", ["tasks/launch", "replies/x", "replies/a/b/launch", "fleet/x", "replies/+/launch"]
)
def test_answers_go_to_the_place_for_answers_only(world: World, topic: str) -> None:
    """Nobody makes the manager write elsewhere (TASK-006)."""
    request = json.dumps({"task_id": "t", "image": IMAGE}).encode()
    world.order("tasks/launch", request, response_topic=topic)
    assert [message.topic for message in world.take()] == ["tasks/t/state"]
    assert world.noted("reply.refused") == ["response_topic"]


def test_cancel(world: World) -> None:
    """It ends at once, its proplet is told, an ended one stays (TASK-018, TASK-021, TASK-083)."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.take()
    world.receive("tasks/t/cancel", {"reason": "not needed"})
    (stop,) = world.take("/stop")
    assert (stop.topic, stop.durable) == ("proplets/p/tasks/t/stop", True)
    assert stop.expiry_s == STOP_EXPIRY_S
    assert json.loads(stop.payload) == {"v": 1, "attempt": 1, "reason": "cancelled"}
    (state,) = world.take("/state")
    assert (state.retain, state.expiry_s) == (True, STATE_KEPT_S)
    assert world.state("t")["message"] == "not needed"
    assert not world.timers.keys() - {"prune"}
    world.receive("tasks/t/cancel")
    assert world.take() == []
    assert world.noted("cancel.ignored") == ["task_ended"]


def test_cancel_before_any_proplet_has_it(world: World) -> None:
    """There is nobody to tell (TASK-018)."""
    world.launch("t", proplet="p")
    world.receive("tasks/t/cancel")
    assert world.take("/stop") == []
    assert world.state("t")["state"] == "cancelled"
    world.presence("p")
    assert world.take("/start") == []


@pytest.mark.parametrize("what", ["cancel", "resend"])
def test_orders_for_a_task_that_is_not(world: World, what: str) -> None:
    """They are refused where people look (TASK-019, TASK-051)."""
    world.receive(f"tasks/t/{what}")
    assert world.shown()["refusals"] == {"unknown_task": 1}
    assert world.shown()["last_refusal"].startswith(f"tasks/t/{what}: unknown_task (205)")


def test_a_cancel_that_is_malformed(world: World) -> None:
    """It is refused, not guessed at (TASK-018)."""
    world.launch("t")
    world.receive("tasks/t/cancel", b"{")
    assert world.state("t")["state"] == "queued"
    assert world.shown()["refusals"] == {"malformed": 1}


def test_resend_is_passed_on(world: World) -> None:
    """For succeeded tasks only, and not for ever (TASK-019, TASK-083)."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.receive("tasks/t/resend")
    assert world.take("/resend") == []
    assert world.noted("resend.ignored") == ["dispatched"]
    world.report("p", "t", 1, "succeeded")
    world.restart()
    world.receive("tasks/t/resend")
    (order,) = world.take("/resend")
    assert (order.topic, order.payload) == ("proplets/p/tasks/t/resend", b"")
    assert order.expiry_s == START_EXPIRY_S


def test_a_launch_that_lacks_a_field_is_named(world: World) -> None:
    """By its topic and its key, with the line that needs the field (BIND-016)."""
    world.receive("jobs/start", {"id": "j9", "image": IMAGE, "devices": ["a"]})
    assert world.shown()["last_refusal"].startswith(
        "jobs/start: launch_field (201): launch 'j9': the field 'options' is missing (0.toml:12"
    )


def test_what_is_not_known_is_left_out_of_the_log(world: World) -> None:
    """One wide line ends a task; it says nothing of what there was not."""
    world.launch("t")
    world.receive("tasks/t/cancel")
    (told,) = [note for note in world.notes if note.event == "task.cancelled"]
    assert None not in dict(told.fields).values()
    assert "exit_code" not in dict(told.fields)
    assert dict(told.fields)["message"] == "cancelled"
