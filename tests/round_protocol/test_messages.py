"""Messages, topics and refusals of the round protocol."""

import pytest
from roost.protocol.round import messages, refusals, topics
from roost.protocol.round.messages import (
    ExperimentStatus,
    ModelIndex,
    ModelLine,
    ModelVersion,
    OnTimeout,
    RoundStart,
    RoundStatus,
)
from roost.wire.refusal import Refusal, Refused
from roost.wire.topic import overlaps

SKETCH = b"""{
  "round_id": "r-0001",
  "model_uri": "fl/models/global_model_v0",
  "task_wasm_image": "oci://example/fl-client-wasm:latest",
  "participants": ["proplet-1", "proplet-2", "proplet-3"],
  "hyperparams": {"epochs": 1, "lr": 0.01, "batch_size": 16},
  "k_of_n": 3,
  "timeout_s": 30
}"""


def test_the_sketched_start_is_read() -> None:
    """With its defaults: a round that its time ends with fewer than k fails (ROUND-001)."""
    start = RoundStart.decode(SKETCH)
    assert start.participants == ("proplet-1", "proplet-2", "proplet-3")
    assert (start.k_of_n, start.timeout_s, start.on_timeout) == (3, 30.0, OnTimeout.FAIL)
    assert RoundStart.decode(start.encode()) == start
    assert (
        RoundStart.decode(SKETCH.replace(b"30\n", b'30,"on_timeout":"aggregate"')).on_timeout
        == "aggregate"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"r-0001", b"r/1"),
        (b"fl/models/global_model_v0", b"http://example/model"),
        (b"oci://", b"http://"),
        (b'"proplet-2"', b'"a:b"'),
        (b'"k_of_n": 3', b'"k_of_n": 0'),
        (b'"timeout_s": 30', b'"timeout_s": 0'),
        (b'"timeout_s": 30', b'"timeout_s": 604801'),
    ],
)
def test_a_wrong_start_is_refused(old: bytes, new: bytes) -> None:
    """Every field is checked (ROUND-001)."""
    with pytest.raises(Refused):
        RoundStart.decode(SKETCH.replace(old, new))


def test_final_states_are_final() -> None:
    """The others are not."""
    assert [each for each in RoundStatus if each.final] == ["completed", "failed"]
    assert [each for each in ExperimentStatus if each.final] == ["completed", "failed", "stopped"]


def test_the_index_finds_a_version_by_its_topic() -> None:
    """Across all models."""
    version = ModelVersion(
        version=3, topic="fl/models/m_v3", digest="0" * 64, sha256="1" * 64, size=1,
        form="json", publish_id="r",
    )  # fmt: skip
    index = ModelIndex(
        models={
            "a": ModelLine(latest=0, versions=()),
            "m": ModelLine(latest=3, versions=(version,)),
        }
    )
    assert index.find("fl/models/m_v3") == version
    assert index.find("fl/models/m_v4") is None


def test_a_model_topic_is_taken_apart_at_its_last_version() -> None:
    """Names have underscores themselves (MODEL-001)."""
    assert topics.MODEL.match("fl/models/global_model_v12") == {
        "name": "global_model",
        "version": "12",
    }
    assert topics.MODEL.match("fl/models/index") is None
    assert (
        topics.MODEL.format(name=messages.DEFAULT_MODEL_NAME, version=0)
        == "fl/models/global_model_v0"
    )


def test_refusals_have_numbers_and_names_of_their_own() -> None:
    """3xx, none twice, all in the list (WIRE-021)."""
    every = [value for value in vars(refusals).values() if isinstance(value, Refusal)]
    assert set(every) == set(refusals.ROUND_REFUSALS)
    assert len({each.code for each in every}) == len({each.name for each in every}) == len(every)
    assert all(300 <= each.code < 400 and each.cure.endswith(".") for each in every)


def test_no_retained_topic_is_an_order() -> None:
    """Rows do not overlap, but for the models' row, which the index and orders are beside."""
    rows = [each for each in topics.TOPICS if each is not topics.MODEL]
    for place, one in enumerate(rows):
        for other in rows[place + 1 :]:
            assert not overlaps(one.filter, other.filter) or one.match(other.template) is None
