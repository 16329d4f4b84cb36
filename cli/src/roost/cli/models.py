"""Model versions: making, finding and awaiting them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from roost.chassis.received import Received
from roost.cli.architectures import fresh_linear, fresh_mlp
from roost.cli.errors import CliError
from roost.cli.orders import fresh_id
from roost.cli.views import model_index
from roost.cli.wire_client import Wire, read
from roost.protocol.round.label import ModelLabel, with_label
from roost.protocol.round.messages import Adopt, CoordinatorState, ModelIndex, ModelVersion
from roost.protocol.round.model import Model, ModelForm, digest, encode_model
from roost.protocol.round.refusals import UNKNOWN_VERSION
from roost.protocol.round.topics import (
    COORDINATOR_STATE,
    MODEL_ADOPT,
    MODEL_INDEX,
    MODEL_PUBLISH,
)

__all__ = [
    "adopt_latest",
    "await_version",
    "find_version",
    "fresh_model",
    "line_of",
    "publish_first",
    "publish_new",
]

_SHOWN = 5


def fresh_model(arch: str, layers: Sequence[int], seed: int) -> Model:
    """A model before any learning, in the form that suits its architecture."""
    if arch == "linear":
        return Model(ModelForm.JSON, fresh_linear(*layers))
    return Model(ModelForm.SAFETENSORS, fresh_mlp(layers, seed), {"architecture": arch})


def publish_first(wire: Wire, name: str, model: Model, timeout_s: float) -> ModelVersion:
    """Publish a model as version 0 and wait until the index lists it.

    Raises:
        CliError: the model server refused it, for example because there is another version 0.
        WaitedTooLong: no model server answered.
    """
    wanted = digest(model.tensors)
    index = model_index(wire)
    first = next((v for v in line_of(index, name) if v.version == 0), None) if index else None
    if first is not None:
        if first.digest == wanted:
            return first
        raise CliError(
            f"{first.topic} is there already with other weights, and a version is never "
            "overwritten: choose another --name, or a new --state"
        )
    order_id = fresh_id("init")
    label = ModelLabel(name=name, publish_id=order_id, digest=wanted)
    order = Model(model.form, model.tensors, with_label(model.form, model.metadata, label))
    wire.subscribe(MODEL_INDEX.template)
    wire.send(MODEL_PUBLISH.template, encode_model(order))
    return await_version(
        wire,
        lambda index: next(
            (v for v in line_of(index, name) if v.version == 0 and v.digest == wanted), None
        ),
        timeout_s,
        publish_id=order_id,
    )


def publish_new(wire: Wire, name: str, model: Model, timeout_s: float) -> ModelVersion:
    """Publish somebody's model as version 0 of a name that nobody has used.

    Raises:
        CliError: the name is taken, or the model server refused the model.
        WaitedTooLong: no model server answered.
    """
    index = model_index(wire)
    there = line_of(index, name) if index else ()
    if there:
        raise CliError(
            f"a model {name!r} is there already, the newest is {there[-1].topic}: "
            "choose another --name"
        )
    return publish_first(wire, name, model, timeout_s)


def find_version(wire: Wire, name: str, which: str) -> ModelVersion:
    """A version that the index lists, by number, by topic, or the `latest` of `name`.

    Raises:
        CliError: there is none; the message says which there are.
    """
    index = model_index(wire)
    if index is None or not index.models:
        raise CliError("there is no model yet, or no model server; `roost doctor` tells which")
    if (by_topic := index.find(which)) is not None:
        return by_topic
    versions = line_of(index, name)
    wanted = str(index.models[name].latest) if which == "latest" and versions else which
    for version in versions:
        if str(version.version) == wanted.removeprefix("v"):
            return version
    if not versions:
        raise CliError(f"no model {name!r}; there are: {', '.join(sorted(index.models))}")
    shown = ", ".join(v.topic for v in versions[-_SHOWN:])
    raise CliError(f"there is no version {which} of {name}; the newest are {shown}")


def await_version(
    wire: Wire,
    wanted: Callable[[ModelIndex], ModelVersion | None],
    timeout_s: float,
    *,
    publish_id: str | None = None,
) -> ModelVersion:
    """The version that a subscribed index lists, once it does.

    Raises:
        CliError: the index refuses `publish_id`.
        WaitedTooLong: neither happened.
    """

    def answered(received: Received) -> bool:
        index = read(MODEL_INDEX, received, ModelIndex)
        if index is None:
            return False
        for refused in index.refusals:
            if publish_id is not None and refused.publish_id == publish_id:
                raise CliError(refused.reason, code=refused.code)
        return wanted(index) is not None

    received = wire.await_message(
        answered, timeout_s, "the index lists no such version; is the model server running?"
    )
    index = read(MODEL_INDEX, received, ModelIndex)
    version = wanted(index) if index is not None else None
    assert version is not None
    return version


def adopt_latest(wire: Wire, newest: ModelVersion, name: str, timeout_s: float) -> bool:
    """Let the coordinator number this model's versions from now on.

    Returns:
        Whether it did not do so before.

    Raises:
        CliError: the coordinator refused.
        WaitedTooLong: no coordinator answered.
    """
    topic = COORDINATOR_STATE.template
    state = read(COORDINATOR_STATE, wire.retained(topic), CoordinatorState)
    if state is not None and name not in state.unadopted:
        return False

    def answered(received: Received) -> bool:
        told = read(COORDINATOR_STATE, received, CoordinatorState)
        if told is None:
            return False
        said = told.last_refusal or ""
        if not received.retain and said.startswith(f"{UNKNOWN_VERSION.name} "):
            raise CliError(said, code=UNKNOWN_VERSION.code)
        return name not in told.unadopted

    wire.subscribe(topic)
    wire.publish(MODEL_ADOPT.template, Adopt(name=name, version=newest.version))
    wire.await_message(answered, timeout_s, "no coordinator answered; is it running?")
    return True


def line_of(index: ModelIndex, name: str) -> tuple[ModelVersion, ...]:
    """All kept versions of `name`, oldest first; none if there is no such model."""
    return index.models[name].versions if name in index.models else ()
