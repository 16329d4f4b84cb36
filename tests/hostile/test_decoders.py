"""Mutated payloads against the real decoders, held against an independent oracle.

A decoder answers with what it read or with a numbered refusal, never with another exception; it
accepts what the oracle finds acceptable, and nothing else.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from roost.manager.core.jsontext import MAX_DEPTH, compact, read_object
from roost.protocol.round.label import read_label
from roost.protocol.round.model import ModelForm, digest, parse_model
from roost.protocol.round.tensorfile import digest_file, read_layout
from roost.protocol.round.update import parse_update
from roost.wire.message import Message
from roost.wire.refusal import Refused

from . import oracle, samples
from .mutate import Mutator
from .shapes import BASE

SOON_S = 20.0
CHANCE = st.randoms(use_true_random=False)


def read(decode: Callable[[bytes], Any], payload: bytes) -> Any:
    """Return what a decoder makes of a payload, None for a refusal; nothing else may come."""
    began = time.monotonic()
    found, refused = None, None
    try:
        found = decode(payload)
    except Refused as error:
        refused = error
    assert time.monotonic() - began < SOON_S
    if refused is not None:
        assert 100 < refused.refusal.code < 400
        assert len(refused.detail) <= 1000
        assert refused.detail.encode()
    return found


@pytest.mark.parametrize("kind", samples.MESSAGES)
def test_the_samples_are_honest(kind: type[Message]) -> None:
    """From them the hostile ones are made."""
    payload = samples.text(kind)
    assert oracle.message(kind.__name__, payload) is True
    assert kind.decode(payload).encode()


@pytest.mark.parametrize("kind", samples.MESSAGES)
@given(chance=CHANCE)
@settings(max_examples=150)
def test_a_message_is_what_its_schema_says(kind: type[Message], chance: random.Random) -> None:
    """Accepted if and only if it is (WIRE-010 to WIRE-014, WIRE-020, WIRE-061, WIRE-062)."""
    payload = Mutator(chance).payload(samples.text(kind))
    found = read(kind.decode, payload)
    expected = oracle.message(kind.__name__, payload)
    if expected is not None:
        assert (found is not None) == expected, payload
    if found is not None:
        assert kind.decode(found.encode()) == found, "what was read can be written again"


@given(chance=CHANCE)
@settings(max_examples=400)
def test_an_update_is_what_the_reference_library_reads(chance: random.Random) -> None:
    """Its tensors are those, or it is refused (UPDATE-001, UPDATE-002, MODEL-010, MODEL-011)."""
    payload = Mutator(chance).payload(chance.choice(samples.updates()))
    found = read(parse_update, payload)
    expected = oracle.update(payload, "r", BASE, samples.ARRAYS)
    if expected:
        assert found is not None, payload
        weight, arrays = expected
        assert found.num_samples == weight
        assert digest_file(found.file, found.layout) == digest(arrays)
    elif expected is False and found is not None:
        assert _differs(found), payload


def _differs(found: Any) -> bool:
    """Whether an update that can be read does not fit the round, which the core refuses."""
    said = (found.round_id, found.base_model_uri)
    if said != ("r", BASE) or not 0 < found.num_samples <= 1_000_000_000:
        return True
    binary = found.form is ModelForm.SAFETENSORS
    has = {e.name: (e.shape, e.dtype if binary else "") for e in found.layout.entries}
    wants = {n: (a.shape, a.dtype.str if binary else "") for n, a in samples.ARRAYS.items()}
    return has != wants


@given(chance=CHANCE)
@settings(max_examples=300)
def test_a_file_is_what_the_reference_library_reads(chance: random.Random) -> None:
    """What is accepted the library accepts, with the same numbers (MODEL-010 to MODEL-013)."""
    file = samples.MODEL
    for _ in range(chance.choice((0, 1, 1, 2))):
        file = Mutator(chance).tensors(file)
    found = read(parse_model, file)
    expected = oracle.tensors(file)
    if found is not None and found.form is ModelForm.SAFETENSORS:
        assert expected is not None, file
        assert digest(expected) == digest(found.tensors)
        assert digest_file(file, read_layout(file)) == digest(found.tensors)
    read(lambda payload: read_label(ModelForm.SAFETENSORS, read_layout(payload).metadata), file)


@given(chance=CHANCE)
@settings(max_examples=300)
def test_a_json_model_is_what_numpy_reads(chance: random.Random) -> None:
    """Or it is refused (MODEL-002, MODEL-014)."""
    payload = Mutator(chance).payload(samples.JSON_MODEL)
    found = read(parse_model, payload)
    if found is None or found.form is not ModelForm.JSON:
        return
    said = oracle.content(payload)
    expected = oracle.tensors({name: said[name] for name in ("w", "b") if name in said})
    assert expected is not None
    assert digest(expected) == digest(found.tensors)
    read(lambda _payload: read_label(found.form, found.metadata), payload)


@given(chance=CHANCE)
@settings(max_examples=300)
@example(random.Random(1))
def test_launching_messages_are_read_as_they_are_spelled(chance: random.Random) -> None:
    """What is accepted can be written again and means the same (BIND-010, BIND-021)."""
    payload = Mutator(chance).payload(chance.choice([samples.text(k) for k in samples.MESSAGES]))
    found = read(read_object, payload)
    if found is None:
        return
    again = compact(found).encode()
    assert read_object(again) == found
    try:
        value = oracle.parse(payload)
    except oracle.Open:
        return
    assert isinstance(value, dict)
    assert oracle._depth(value) <= MAX_DEPTH
