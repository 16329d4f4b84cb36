"""The shared vectors: Python runs all of them, JavaScript those that are a phone's own."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from roost.protocol.phone import messages
from roost.protocol.phone.policy import Readiness, Senses, judge
from roost.protocol.phone.topics import TOPICS
from roost.wire.message import Message
from roost.wire.refusal import Refused

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "specs" / "vectors" / "phone"
WEB = ROOT / "ios-bridge" / "web"
POLICY = json.loads((VECTORS / "policy.json").read_text())["cases"]
MESSAGES = json.loads((VECTORS / "messages.json").read_text())


def named(cases: list[dict[str, Any]]) -> list[Any]:
    """Return cases as parameters with readable names."""
    return [
        pytest.param(each, id=f"{each.get('message', 'policy')}: {each['name']}") for each in cases
    ]


def kind_of(case: dict[str, Any]) -> type[Message]:
    """Return the message that a case is about."""
    kind: type[Message] = getattr(messages, case["message"])
    return kind


@pytest.mark.parametrize("case", named(POLICY))
def test_policy(case: dict[str, Any]) -> None:
    """Each step's readings give its verdict.

    (PHONE-002, PHONE-020, PHONE-022, PHONE-023, PHONE-024, PHONE-025)
    """
    senses, verdict = Senses(), judge(Senses(), 0, low=False)
    for step in case["steps"]:
        at = step["at_ms"] / 1000
        reading = messages.Reading.model_validate(step.get("reading", {}))
        senses = senses.told(reading, at)
        verdict = judge(senses, at, low=verdict.low)
        assert (verdict.readiness.value, verdict.why.value) == (step["readiness"], step["why"])
        paused = verdict.readiness is Readiness.PAUSED
        assert verdict.pause == (verdict.why.value if paused else None)


@pytest.mark.parametrize("case", named(MESSAGES["taken"]))
def test_taken(case: dict[str, Any]) -> None:
    """A payload of the vectors is taken, and says again what it said (PHONE-001, PHONE-002)."""
    kind = kind_of(case)
    message = kind.decode(json.dumps(case["value"]).encode())
    again = kind.decode(message.encode())
    assert again == message
    known = {name for name in case["value"] if name in kind.model_fields}
    said = json.loads(message.encode())
    for name in known:
        value = case["value"][name]
        assert said.get(name) == value or contains(said[name], value)


def contains(said: Any, given: Any) -> bool:
    """Tell whether all that was given is said; defaults may be said besides."""
    if isinstance(given, dict):
        return all(contains(said[name], value) for name, value in given.items())
    if isinstance(given, list):
        return all(contains(one, other) for one, other in zip(said, given, strict=True))
    return bool(said == given)


@pytest.mark.parametrize("case", named(MESSAGES["refused"]))
def test_refused(case: dict[str, Any]) -> None:
    """A payload that breaks a rule is refused by that rule's name (PHONE-001, PHONE-002)."""
    with pytest.raises(Refused) as refused:
        kind_of(case).decode(case["text"].encode())
    assert refused.value.refusal.name == case["refusal"]


def test_every_message_and_verdict_has_a_case() -> None:
    """No message of the table, no readiness and no reason is without a vector (PHONE-002)."""
    wanted = {topic.payload.__name__ for topic in TOPICS if topic.payload is not None}
    assert {case["message"] for case in MESSAGES["taken"]} >= wanted
    steps = [step for case in POLICY for step in case["steps"]]
    assert {step["readiness"] for step in steps} == set(Readiness)
    assert {step["why"] for step in steps} == {
        "heat", "low_power", "low_battery", "charging_at_night", "charging", "good_battery",
        "not_charging",
    }  # fmt: skip


def test_readiness_that_lets_work_begin() -> None:
    """Work begins when eligible or preferred, and then alone (PHONE-021)."""
    assert [each for each in Readiness if each.begins] == ["preferred", "eligible"]


def test_javascript_passes_the_same_vectors() -> None:
    """The page's own reading of orders and policy passes them too (PHONE-002)."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("SKIPPED LOUDLY: node is not installed, the page's vectors were not run")
    ended = subprocess.run(
        [node, "--test", "src/"], cwd=WEB, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stdout
    ran = int(ended.stdout.split("# pass ")[1].split()[0])
    orders = [
        case
        for case in (*MESSAGES["taken"], *MESSAGES["refused"])
        if case["message"] == "PhoneOrder"
    ]
    assert ran >= len(POLICY) + len(orders)


def test_every_vector_file_is_run_by_both() -> None:
    """No file of vectors is left out, here or in JavaScript (PHONE-002)."""
    files = {path.name for path in VECTORS.iterdir()}
    here = [Path(__file__), ROOT / "tests" / "ios_bridge" / "test_traces.py"]
    for readers in (here, [WEB / "src" / "vectors.test.js"]):
        source = "".join(reader.read_text() for reader in readers)
        assert {name for name in files if f'"{name}"' in source} == files
