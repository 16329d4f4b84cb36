"""Rules of the round protocol that are about names and numbers."""

import re

import pytest
from pydantic import TypeAdapter, ValidationError
from roost.chassis.states import States
from roost.coordinator.core.case import Case
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.outcome import tell_state
from roost.coordinator.core.state import Policy, Round
from roost.coordinator.settings import CoordinatorSettings
from roost.model_server.settings import ModelServerSettings
from roost.protocol.round.messages import MAX_PARTICIPANTS, ModelName, RoundState, RoundStatus
from roost.protocol.round.model import MAX_DEPTH
from roost.protocol.round.tensorfile import MAX_TENSORS
from roost.protocol.round.topics import MODEL, MODEL_INDEX, MODEL_PUBLISH, MODEL_ROLLBACK


@pytest.mark.parametrize("name", ["global_model", "m", "a_b_c_d", "digits-2", "X" * 32])
def test_model_names(name: str) -> None:
    """At most four words of letters, digits and dashes, joined by underscores (MODEL-001)."""
    assert TypeAdapter(ModelName).validate_python(name) == name
    topic = MODEL.format(name=name, version=12)
    assert topic == f"fl/models/{name}_v12"
    assert MODEL.match(topic) == {"name": name, "version": "12"}


@pytest.mark.parametrize("name", ["", "_a", "a_", "a__b", "a_b_c_d_e", "-a", "a.b", "a/b", "a:b"])
def test_no_model_names(name: str) -> None:
    """Anything else is no name (MODEL-001)."""
    with pytest.raises(ValidationError):
        TypeAdapter(ModelName).validate_python(name)


def test_no_model_is_called_like_another_topic() -> None:
    """No name makes the topic of an order or of the index (MODEL-001)."""
    for topic in (MODEL_INDEX, MODEL_PUBLISH, MODEL_ROLLBACK):
        assert MODEL.match(topic.template) is None


def test_the_numbers_of_the_page() -> None:
    """What the page says in numbers is what the code has (ROUND-001, ROUND-034, MODEL-035)."""
    assert MAX_PARTICIPANTS == 10_000
    assert MAX_TENSORS == 4_096
    assert MAX_DEPTH == 8
    fields = CoordinatorSettings.model_fields
    assert fields["keep_rounds"].default == 200
    assert fields["keep_updates"].default == 5
    assert fields["outcome_expiry_s"].default == 7 * 86_400
    assert ModelServerSettings.model_fields["keep_versions"].default == 50


def test_versions_are_numbers() -> None:
    """A version is said in at most nine decimal digits (MODEL-001)."""
    assert re.fullmatch(r"fl/models/\w+_v999999999", MODEL.format(name="m", version=999_999_999))
    with pytest.raises(ValueError, match="do not make a topic"):
        MODEL.format(name="m", version=1_000_000_000)


def test_a_state_names_at_most_fifty_who_are_missing() -> None:
    """So that a round of thousands fits its retained state (ROUND-030)."""
    invited = tuple(f"p{number}" for number in range(60))
    draft = Draft(States())
    round_ = Round("r", "0" * 64, "fl/models/m_v1", Policy(60), RoundStatus.OPEN, 0.0)
    case = Case(draft, round_, 1.0)
    case.seat_everyone(invited)
    state = RoundState.decode(tell_state(case, 60.0).payload)
    assert state.missing == invited[:50]
    assert state.participants == 60
