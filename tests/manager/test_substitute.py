"""Templates hold fields and nothing else."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roost.manager.core.substitute import Ref, Source, TemplateError, fill, look_up, parse
from roost.wire.refusal import Refused

PLAIN = st.text(st.characters(blacklist_characters="{}"))


def filled(text: str, message: Mapping[str, object], **more: object) -> str:
    """Parse and fill a template."""
    return fill(parse(text, "f.toml:7"), Source(message, **{"defaults": {}, **more}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("as it is", "as it is"),
        ("{a}", "1"),
        ("<{a}{b.c}>", "<1deep>"),
        ("{b}", '{"c":"deep"}'),
        ("{{a}}", "{a}"),
        ("{{{a}}}", "{1}"),
        ("{x-y_z}", "dashed"),
        ("{d}", "by default"),
        ("{b.none}", "inner default"),
        ("{a.b}", "not an object"),
    ],
)
def test_fill(text: str, result: str) -> None:
    """Message first, then defaults; braces by doubling (BIND-020)."""
    message = {"a": "1", "b": {"c": "deep"}, "x-y_z": "dashed"}
    defaults = {"a": "unused", "d": "by default", "b.none": "inner default",
                "a.b": "not an object"}  # fmt: skip
    assert filled(text, message, defaults=defaults) == result


def test_each_is_the_present_element() -> None:
    """It hides a field of that name (BIND-020)."""
    assert filled("{each}", {"each": "a field"}, each="p1") == "p1"
    assert filled("{each}", {"each": "a field"}) == "a field"


def test_a_field_that_is_missing_is_named_with_the_line() -> None:
    """Field and line (BIND-016)."""
    with pytest.raises(Refused) as caught:
        filled("x {a.b}", {"a": {}})
    assert caught.value.refusal.name == "launch_field"
    assert "'a.b' is missing (f.toml:7 needs it)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "'{' has no partner"),
        ("a}", "'}' has no partner"),
        ("{a", "'{' has no partner"),
        ("{a{b}}", "has no partner"),
        ("{}", "names no field"),
        ("{a b}", "names no field"),
        ("{a.}", "names no field"),
        ("{.a}", "names no field"),
        ("{1}", "names no field"),
        ("{a!r}", "names no field"),
        ("{a[0]}", "names no field"),
        ("{a:>10}", "names no field"),
    ],
)
def test_malformed(text: str, why: str) -> None:
    """No conversions, indices or formats: there is no code (BIND-020, BIND-022)."""
    with pytest.raises(TemplateError, match=why.replace("{", r"\{").replace("}", r"\}")):
        parse(text, "x:1")


@given(PLAIN, PLAIN, st.text())
def test_text_goes_in_unchanged(before: str, after: str, value: str) -> None:
    """What a field holds is never read as a template itself (BIND-022)."""
    assert filled(before + "{f}" + after, {"f": value}) == before + value + after


@given(st.text())
def test_doubled_braces_are_literal(text: str) -> None:
    """Any text can be written (BIND-020)."""
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert filled(escaped, {}) == text


def test_fields() -> None:
    """A template tells what it needs."""
    template = parse("{a} {b.c} {a}", "x:1")
    assert template.fields == ("a", "b.c", "a")
    assert template.parts[0] == Ref("a")


def test_look_up() -> None:
    """Dots go into objects, not into lists (BIND-020)."""
    assert look_up({"a": {"b": None}}, "a.b") == (True, None)
    assert look_up({"a": [1]}, "a.0") == (False, None)
    assert look_up({"a.b": 1}, "a.b") == (False, None)
