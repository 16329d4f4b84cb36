"""The wire's rules, held against every message of both protocols at once."""

import contextlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import StringConstraints, TypeAdapter, ValidationError
from roost.protocol.phone.topics import TOPICS as PHONE_TOPICS
from roost.protocol.round.messages import RoundComplete, RoundStart
from roost.protocol.round.topics import TOPICS as ROUND_TOPICS
from roost.protocol.task.messages import Report, StartTask, TaskRequest, Telemetry
from roost.protocol.task.topics import TOPICS as TASK_TOPICS
from roost.specs.schemas import json_schema, messages
from roost.wire.blob import TOPICS as BLOB_TOPICS
from roost.wire.ids import DerivedId, Id, Sha256, derive
from roost.wire.message import MAX_JSON_BYTES, Message
from roost.wire.refusal import MALFORMED, NEWER_VERSION, TOO_LARGE, Refusal, Refused

EVERY_TOPIC = (*BLOB_TOPICS, *TASK_TOPICS, *ROUND_TOPICS, *PHONE_TOPICS)
MESSAGES = list(messages(EVERY_TOPIC).values())
WEEK_S = 604_800
ORDERS = ("start", "launch", "cancel", "stop", "resend", "reload", "rollback", "publish")
LETTERS = "abcXYZ019._-"
START = """{"round_id":"r","model_uri":"fl/models/m_v0","task_wasm_image":"file:x",
"participants":["p"],"k_of_n":1,"hyperparams":{"lr":#}}"""


def sample(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    """Return a value that a schema allows, with all fields that must be there."""
    if "$ref" in schema:
        return sample(known[schema["$ref"].rsplit("/", 1)[-1]], known)
    if "anyOf" in schema:
        return sample(schema["anyOf"][0], known)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: sample(fields[name], known) for name in schema.get("required", ())}
    if kind == "array":
        return [sample(schema["items"], known)]
    return {"integer": 1, "number": 1, "boolean": True}.get(str(kind)) or text(schema)


def text(schema: dict[str, Any]) -> str:
    """Return a text that matches the schema's pattern; there are few patterns."""
    constraints = StringConstraints(pattern=schema.get("pattern"))
    adapter = TypeAdapter(Annotated[str, constraints])
    for each in ("x1", "a" * 64, "file:x", "fl/models/m_v1", f"o/{'a' * 64}"):
        with contextlib.suppress(ValidationError):
            return str(adapter.validate_python(each))
    raise AssertionError(f"no sample for {schema}")


def smallest(message: type[Message]) -> dict[str, Any]:
    """Return the smallest object that a message accepts."""
    schema = json_schema(message)
    made: dict[str, Any] = sample(schema, schema.get("$defs", {}))
    return made


def refusal(message: type[Message], content: object) -> Refusal:
    """Return how a payload is refused."""
    with pytest.raises(Refused) as caught:
        message.decode(json.dumps(content).encode())
    return caught.value.refusal


@pytest.mark.parametrize("message", MESSAGES)
def test_unknown_fields_are_ignored(message: type[Message]) -> None:
    """What a reader does not know changes nothing (WIRE-011)."""
    content = smallest(message)
    plain = message.decode(json.dumps(content).encode())
    assert message.decode(json.dumps({**content, "newer": {"a": [1]}}).encode()) == plain


@pytest.mark.parametrize("message", MESSAGES)
def test_a_higher_version_is_refused(message: type[Message]) -> None:
    """An absent v means 1; what is above the reader's is refused (WIRE-013)."""
    content = smallest(message)
    assert message.decode(json.dumps(content).encode()).v == 1
    assert message.decode(json.dumps({**content, "v": 1}).encode()).v == 1
    assert refusal(message, {**content, "v": 2}) is NEWER_VERSION


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("payload", [b"[]", b"null", b"3", b"\xff", b"{", b""])
def test_a_payload_is_one_object(message: type[Message], payload: bytes) -> None:
    """Whatever is no JSON object in UTF-8 is malformed (WIRE-010)."""
    with pytest.raises(Refused) as caught:
        message.decode(payload)
    assert caught.value.refusal is MALFORMED


@pytest.mark.parametrize("message", MESSAGES)
def test_a_payload_has_at_most_4_mib(message: type[Message]) -> None:
    """Size is looked at before content, and the limit is exact (WIRE-010)."""
    content = json.dumps(smallest(message)).encode()
    message.decode(content.ljust(MAX_JSON_BYTES))
    with pytest.raises(Refused) as caught:
        message.decode(content.ljust(MAX_JSON_BYTES + 1))
    assert caught.value.refusal is TOO_LARGE
    assert MAX_JSON_BYTES == 4 * 1024 * 1024


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempt": "1"}, {"attempt": True}, {"attempt": 1.5}, {"remaining_s": "2"},
        {"task": {"image": 3}}, {"task": {"image": "file:x", "args": "a"}},
        {"task": {"image": "file:x", "limits": {"out_mb": "1"}}},
        {"task": {"image": "file:x", "env": {"A": 1}}},
    ],
)  # fmt: skip
def test_types_are_exact(wrong: dict[str, Any]) -> None:
    """No text is a number, no number a text, no number a truth (WIRE-011, WIRE-020)."""
    right = {"attempt": 1, "remaining_s": 2.0, "task": {"image": "file:x"}}
    StartTask.decode(json.dumps(right).encode())
    assert refusal(StartTask, {**right, **wrong}) is MALFORMED


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    ("message", "content"),
    [
        (StartTask, '{"attempt":1,"remaining_s":#,"task":{"image":"file:x"}}'),
        (
            StartTask,
            '{"attempt":1,"remaining_s":1,"task":{"image":"file:x","limits":{"wall_s":#}}}',
        ),
        (Telemetry, '{"load":#,"memory_free_mb":1}'),
        (Report, '{"attempt":1,"boot_id":"b","status":"running","usage":{"memory_mb":#}}'),
        (RoundComplete, '{"round_id":"r","outcome":"failed","metrics":{"loss":#}}'),
        (Report, '{"attempt":1,"boot_id":"b","status":"progress","progress":{"a":[{"b":#}]}}'),
        (RoundStart, START),
    ],
)  # fmt: skip
def test_numbers_are_finite(message: type[Message], content: str, word: str) -> None:
    """NaN and infinity are refused where a number stands, bounded or not (WIRE-012)."""
    message.decode(content.replace("#", "1").encode())
    with pytest.raises(Refused) as caught:
        message.decode(content.replace("#", word).encode())
    assert caught.value.refusal is MALFORMED


def test_absent_fields_are_left_out() -> None:
    """What has no value is not written, and null is read as absent (WIRE-014)."""
    request = TaskRequest(task_id="t", image="file:x")
    written = json.loads(request.encode())
    assert "proplet" not in written
    assert TaskRequest.decode(json.dumps({**written, "proplet": None}).encode()) == request


def numbers(schema: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and schema of every number of a schema."""
    if isinstance(schema, dict):
        if schema.get("type") in ("number", "integer"):
            yield name, schema
        for key, value in schema.get("properties", {}).items():
            yield from numbers(value, key)
        for each in (*schema.get("anyOf", ()), *schema.get("$defs", {}).values()):
            yield from numbers(each, name)


@pytest.mark.parametrize("message", MESSAGES)
def test_times_are_durations(message: type[Message]) -> None:
    """No field is a clock time, and no order's or report's time exceeds a week (WIRE-015)."""
    for name, schema in numbers(json_schema(message)):
        assert not name.endswith(("_at", "time", "timestamp", "date"))
        if name.endswith("_s") and name != "time_left_s":
            assert schema.get("maximum") == WEEK_S, name


@given(st.text(alphabet=LETTERS, min_size=1, max_size=64).filter(lambda s: s[0].isalnum()))
def test_ids(id_: str) -> None:
    """Letters, digits, dot, underscore and dash, first a letter or digit, 64 at most (WIRE-001)."""
    assert TypeAdapter(Id).validate_python(id_) == id_


@pytest.mark.parametrize("id_", ["", ".a", "-a", "_a", "a b", "a/b", "a:b", "ä", "a\n", "a" * 65])
def test_no_ids(id_: str) -> None:
    """Anything else is no id (WIRE-001)."""
    with pytest.raises(ValidationError):
        TypeAdapter(Id).validate_python(id_)


def test_derived_ids() -> None:
    """Ids joined by colons, 200 characters in all; each of them an id (WIRE-002)."""
    adapter = TypeAdapter(DerivedId)
    assert adapter.validate_python(derive("r1", "p1", "x")) == "r1:p1:x"
    assert adapter.validate_python("alone") == "alone"
    longest = ":".join(["a" * 49] * 4)
    assert len(longest) == 199
    assert adapter.validate_python(longest) == longest
    for wrong in (":a", "a:", "a::b", "a:.b", f"{longest}:a"):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def test_digests() -> None:
    """64 hexadecimal digits in lower case (WIRE-003)."""
    adapter = TypeAdapter(Sha256)
    assert adapter.validate_python("0a" * 32) == "0a" * 32
    for wrong in ("0A" * 32, "0a" * 31, "0a" * 33, "0g" * 32, "0a" * 32 + "\n"):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def test_orders_are_not_retained() -> None:
    """No topic of an order is one that the broker keeps (WIRE-007)."""
    for topic in (*TASK_TOPICS, *ROUND_TOPICS):
        is_order = topic.template.rsplit("/", 1)[-1] in ORDERS
        assert not (is_order and topic.retained), topic.template


def test_retained_topics_have_one_writer() -> None:
    """Whatever is retained has one owner (WIRE-008)."""
    for topic in (*TASK_TOPICS, *ROUND_TOPICS, *BLOB_TOPICS):
        if topic.retained:
            assert len(topic.writers) == 1, topic.template


def test_samples_reach_every_message() -> None:
    """The samples of this file are real: each round trips (WIRE-014)."""
    for message in MESSAGES:
        read = message.decode(json.dumps(smallest(message)).encode())
        assert message.decode(read.encode()) == read
    assert len(MESSAGES) > 20
