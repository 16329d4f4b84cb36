"""The model server as a process, on a real broker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from roost.protocol.round.messages import ModelIndex
from roost.protocol.round.model import parse_model

from ..coordinator.stage import Stage, opened, safetensors_model  # noqa: TID252 - tests have no other name for it

pytestmark = pytest.mark.system
MODEL = b'{"w":[1.0,2.0],"b":0.5,"version":0}'
LARGE = safetensors_model({"w": np.arange(400_000, dtype="<f4")}, name="large")


@pytest.fixture
def stage(broker: Any, tmp_path: Path) -> Iterator[Stage]:
    """Open a stage with a model server that keeps two versions."""
    with opened(broker.url, tmp_path, "model_server", ROOST_KEEP_VERSIONS="2") as opened_stage:
        yield opened_stage


def labelled(number: int) -> bytes:
    """Return version ``number`` with its label."""
    return (
        f'{{"w":[{number}.0],"version":{number},"parent":{number - 1},"publish_id":"r{number}"}}'
    ).encode()


def test_models_are_kept_listed_and_never_overwritten(stage: Stage) -> None:
    """Version 0 as ``mosquitto_pub -f`` sends it, then others; old ones leave the broker."""
    stage.send("fl/models/publish", MODEL)
    stage.index(lambda index: "global_model" in index.models)
    stage.send("fl/models/publish", b'{"w":[9.0],"version":0}')
    stage.index(lambda index: bool(index.refusals))
    assert stage.retained("fl/models/global_model_v0").payload == MODEL
    for number in (1, 2, 3):
        stage.send("fl/models/publish", labelled(number))
    index = stage.index(
        lambda index: index.models["global_model"].latest == 3 if index.models else False
    )
    assert [each.version for each in index.models["global_model"].versions] == [0, 2, 3]
    assert "version_taken" in index.refusals[0].reason
    stage.wait("fl/models/global_model_v1", lambda each: not each.payload)
    assert stage.retained("fl/models/global_model_v3").payload == labelled(3)


def test_a_broker_that_forgot_is_told_everything_again(stage: Stage, broker: Any) -> None:
    """A killed broker comes back empty: models, blobs and the index come back too (MODEL-036)."""
    stage.send("fl/models/publish", MODEL)
    stage.offer_model(LARGE)
    stage.index(lambda index: set(index.models) == {"global_model", "large"})
    before = ModelIndex.decode(stage.retained("fl/models/index").payload)
    broker.kill()
    stage.received.clear()
    broker.start()
    stage.index(lambda index: index == before)
    assert stage.retained("fl/models/global_model_v0").payload == MODEL
    np.testing.assert_array_equal(
        stage.model("fl/models/large_v0").tensors["w"], parse_model(LARGE).tensors["w"]
    )


def test_a_killed_model_server_comes_back_with_everything(stage: Stage) -> None:
    """What was listed is on its disk."""
    stage.send("fl/models/publish", MODEL)
    stage.index(lambda index: "global_model" in index.models)
    stage.kill("model_server")
    stage.send("fl/models/global_model_v0", b"", retain=True)
    stage.received.clear()
    stage.launch("model_server")
    stage.wait("fl/models/global_model_v0", lambda each: each.payload == MODEL)
    stage.index(lambda index: "global_model" in index.models)
