"""What is fuzzed: every decoder, with a second reader where there is one."""

import json
from collections.abc import Callable, Mapping
from typing import Final

from roost.chassis.received import Received
from roost.coordinator.adapters.decode import Decode as CoordinatorDecode
from roost.coordinator.adapters.decode import _readable_id
from roost.manager.adapters.decode import decode as manager_decode
from roost.manager.core.binding import BindingsInvalid, Problem
from roost.manager.core.forward import encode_properties, varint
from roost.manager.core.jsontext import compact, read_object
from roost.manager.core.launch import expand, read_wish
from roost.manager.core.read_binding import read_binding
from roost.manager.core.rules import check
from roost.model_server.adapters.files import _examine
from roost.proplet.adapters.decode import decode as proplet_decode
from roost.proplet.adapters.oci import Registry
from roost.proplet.errors import PropletError
from roost.proplet.guest.output import read_progress
from roost.protocol.round.model import digest, parse_model
from roost.protocol.round.topics import TOPICS as ROUND_TOPICS
from roost.protocol.round.update import parse_update
from roost.protocol.task.messages import Report, ReportStatus
from roost.protocol.task.topics import TOPICS as TASK_TOPICS
from roost.wire.blob import TOPICS as BLOB_TOPICS
from roost.wire.refusal import Refused

from . import oracle, samples

_KINDS: Final = tuple(samples.MESSAGES)
_ROWS: Final = (*TASK_TOPICS, *ROUND_TOPICS, *BLOB_TOPICS)
_TOPICS: Final = (
    *("fl/rounds/start", "fl/models/index", "fl/models/rollback", "fl/experiments/start"),
    *("fl/experiments/e/stop", "tasks/r:a/state", "proplets/p/presence", "proplets/p/telemetry"),
    *("proplets/p/tasks/t/report", "proplets/p/tasks/t/start", "proplets/p/tasks/t/stop"),
    *("tasks/launch", "tasks/t/cancel", "workloads/reload", "fl/models/adopt"),
)
_BINDING: Final = b"""\
[[launch]]
topic = "jobs/+"
key = "{id}"
for_each = "devices"
[launch.defaults]
"a.b" = "x"
[launch.task]
image = "{image}"
args = ["{each}", "{a.b}", "{{}}"]
deadline_s = "{time}"
[launch.task.env]
ALL = "{options}"
"""
_RULE: Final = check([read_binding("jobs.toml", _BINDING)]).launches[0]


def message(data: bytes) -> None:
    """Decode a message of the kind that the first byte says, against its published schema."""
    kind, payload = _KINDS[(data[0] if data else 0) % len(_KINDS)], data[1:]
    expected = oracle.message(kind.__name__, payload)
    try:
        found = kind.decode(payload)
    except Refused:
        assert expected is not True, "an honest message was refused"
        return
    assert expected is not False, "a message was accepted that its schema does not allow"
    assert kind.decode(found.encode()) == found


def received(data: bytes) -> None:
    """Decode a message on the topic that the first byte says, by whoever reads it."""
    topic, payload = _TOPICS[(data[0] if data else 0) % len(_TOPICS)], data[1:]
    arrived = Received(topic, payload)
    for decode in (manager_decode, proplet_decode, _coordinator):
        try:
            decode(arrived, 1.0)
        except Refused:
            continue


_coordinator: Final = CoordinatorDecode(None)  # type: ignore[arg-type] - no update comes here


def update(data: bytes) -> None:
    """Read an update, against the reference library of safetensors."""
    try:
        found = parse_update(data)
    except Refused:
        return
    said = oracle.content(data)
    arrays = oracle.tensors(said["update"])
    assert arrays is not None
    assert found.num_samples == said["num_samples"]
    assert [each.name for each in found.layout.entries] == sorted(arrays)


def model(data: bytes) -> None:
    """Read a model as coordinator and model server do."""
    try:
        found = parse_model(data)
        _, _, examined = _examine(data)
    except Refused:
        return
    assert digest(found.tensors) == examined
    if found.form == "safetensors":
        expected = oracle.tensors(data)
        assert expected is not None
        assert digest(expected) == examined


def launch(data: bytes) -> None:
    """Read a launching message and fill a binding's templates from it."""
    try:
        found = read_object(data)
        assert read_object(compact(found).encode()) == found
        for request in expand(_RULE, read_wish(_RULE, data)):
            assert request.task_id.startswith(f"{found['id']}:")
    except Refused:
        return


def binding(data: bytes) -> None:
    """Read a binding file and check it."""
    problems: tuple[Problem, ...] = ()
    try:
        check([read_binding("file.toml", data)])
    except BindingsInvalid as error:
        problems = error.problems
    assert all(problem.line > 0 for problem in problems)


def topic(data: bytes) -> None:
    """Match a topic with every row; what matches can be made again."""
    text = data.decode(errors="replace")
    for row in _ROWS:
        ids = row.match(text)
        if ids is not None:
            assert row.format(**ids) == text


def manifest(data: bytes) -> None:
    """Read what a registry says an image is."""
    try:
        found = Registry(1.0, 1000)._layer(data, "url")
    except PropletError:
        return
    assert len(found.sha256) == 64
    assert 0 <= found.size <= 1000


def output(data: bytes) -> None:
    """Look for progress in what a guest prints; what is found can be reported."""
    found = read_progress(data)
    if found is not None:
        report = Report(attempt=1, boot_id="b", status=ReportStatus.PROGRESS, progress=found)
        assert Report.decode(report.encode()) == report


def start(data: bytes) -> None:
    """Look for the id of a start that cannot be read."""
    found = _readable_id(data)
    assert found is None or len(found) <= 200


def properties(data: bytes) -> None:
    """Encode the properties of a forwarded message."""
    text = data.decode(errors="replace")[:60_000]
    encoded = encode_properties("a/b", [(text[:100], text), ("source-topic", text)], text, data)
    length = len(varint(len(encoded)))
    assert encoded.endswith(b"a/b")
    assert length > 0


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    each.__name__: each
    for each in (
        message, received, update, model, launch, binding, topic, manifest, output, start,
        properties,
    )
}  # fmt: skip


def seeds() -> Mapping[str, list[bytes]]:
    """Return the honest inputs from which fuzzing begins."""
    kinds = [bytes([n]) + samples.text(kind) for n, kind in enumerate(_KINDS)]
    layer = {"mediaType": "application/wasm", "digest": f"sha256:{samples.SHA}", "size": 100}
    job = {
        "id": "j",
        "devices": ["a", "b"],
        "image": samples.IMAGE,
        "time": 60,
        "options": {"x": 0.1},
    }
    return {
        "message": kinds,
        "received": [bytes([n % len(_TOPICS)]) + each[1:] for n, each in enumerate(kinds)],
        "update": samples.updates(),
        "model": [samples.MODEL, samples.JSON_MODEL],
        "launch": [json.dumps(job).encode()],
        "binding": [_BINDING],
        "topic": [b"fl/rounds/r/updates/p", b"blobs/o/" + samples.SHA.encode() + b"/7"],
        "manifest": [json.dumps({"layers": [layer]}).encode()],
        "output": [b'{"epoch":1,"loss":0.5,"more":[1,{"a":null}]}'],
        "start": [b'{"round_id":"r:0001","k_of_n":NaN}'],
        "properties": [b"text", bytes(200)],
    }
