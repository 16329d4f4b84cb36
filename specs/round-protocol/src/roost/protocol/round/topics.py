"""The topic table of the round protocol: the only place with its topic strings."""

from typing import Final

from roost.protocol.round.messages import (
    MODEL_NAME_PATTERN,
    Adopt,
    CoordinatorState,
    ExperimentStart,
    ExperimentState,
    ExperimentStop,
    ModelIndex,
    Rollback,
    RoundComplete,
    RoundStart,
    RoundState,
)
from roost.wire.topic import Topic

OPERATOR, COORDINATOR, MANAGER, PROPLET = "operator", "coordinator", "manager", "proplet"
MODEL_SERVER: Final = "model-server"
ANYONE: Final = "anyone"

ROUND_START: Final = Topic(
    "fl/rounds/start",
    RoundStart,
    (OPERATOR, COORDINATOR),
    (MANAGER, COORDINATOR),
    retained=False,
    about="Run a round.",
)
ROUND_UPDATE: Final = Topic(
    "fl/rounds/{round_id}/updates/{proplet_id}",
    None,
    (PROPLET,),
    (MANAGER,),
    retained=False,
    about="An update: JSON, MessagePack, or a manifest.",
)
FORWARDED_UPDATE: Final = Topic(
    "fml/updates",
    None,
    (MANAGER,),
    (COORDINATOR,),
    retained=False,
    about="The same bytes, with `source-topic` as a user property.",
)
ROUND_STATE: Final = Topic(
    "fl/rounds/{round_id}/state",
    RoundState,
    (COORDINATOR,),
    (ANYONE,),
    retained=True,
    about="Live progress.",
)
ROUND_COMPLETE: Final = Topic(
    "fl/rounds/{round_id}/complete",
    RoundComplete,
    (COORDINATOR,),
    (ANYONE,),
    retained=True,
    about="The outcome; whoever reads it finds the model.",
)
MODEL_PUBLISH: Final = Topic(
    "fl/models/publish",
    None,
    (COORDINATOR, OPERATOR),
    (MODEL_SERVER,),
    retained=False,
    about="A model with version, parent, publish_id and digest, or a manifest.",
)
MODEL: Final = Topic(
    "fl/models/{name}_v{version}",
    None,
    (MODEL_SERVER,),
    (ANYONE,),
    retained=True,
    about="A model, or its manifest.",
    patterns=(("name", MODEL_NAME_PATTERN), ("version", "[0-9]{1,9}")),
)
MODEL_INDEX: Final = Topic(
    "fl/models/index",
    ModelIndex,
    (MODEL_SERVER,),
    (ANYONE,),
    retained=True,
    about="Which versions exist; written last.",
)
MODEL_ROLLBACK: Final = Topic(
    "fl/models/rollback",
    Rollback,
    (OPERATOR,),
    (COORDINATOR,),
    retained=False,
    about="Make a new version with the content of an old one.",
)
MODEL_ADOPT: Final = Topic(
    "fl/models/adopt",
    Adopt,
    (OPERATOR,),
    (COORDINATOR,),
    retained=False,
    about="Go on from a model that rounds unknown to the coordinator made.",
)
EXPERIMENT_START: Final = Topic(
    "fl/experiments/start",
    ExperimentStart,
    (OPERATOR,),
    (COORDINATOR,),
    retained=False,
    about="Run many rounds in a row.",
)
EXPERIMENT_STOP: Final = Topic(
    "fl/experiments/{experiment_id}/stop",
    ExperimentStop,
    (OPERATOR,),
    (COORDINATOR,),
    retained=False,
    about="End after the running round; an empty payload will do.",
)
EXPERIMENT_STATE: Final = Topic(
    "fl/experiments/{experiment_id}/state",
    ExperimentState,
    (COORDINATOR,),
    (ANYONE,),
    retained=True,
    about="Progress of an experiment.",
)
COORDINATOR_STATE: Final = Topic(
    "fl/coordinator/state",
    CoordinatorState,
    (COORDINATOR,),
    (ANYONE,),
    retained=True,
    about="What is open, and what was refused before it belonged to a round.",
)

TOPICS: Final = (
    ROUND_START, ROUND_UPDATE, FORWARDED_UPDATE, ROUND_STATE, ROUND_COMPLETE, MODEL_PUBLISH,
    MODEL, MODEL_INDEX, MODEL_ROLLBACK, MODEL_ADOPT, EXPERIMENT_START, EXPERIMENT_STOP,
    EXPERIMENT_STATE, COORDINATOR_STATE,
)  # fmt: skip
