"""Topics as data (WIRE rules)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roost.protocol.round import topics as round_topics
from roost.protocol.task import topics as task_topics
from roost.wire import blob
from roost.wire.topic import Topic, matches, overlaps

ALL = (*task_topics.TOPICS, *round_topics.TOPICS, *blob.TOPICS)
NAMES = (
    *("client", "task_id", "proplet_id", "round_id", "owner"),
    *("sha256", "n", "name", "version", "experiment_id"),
)


@given(st.text(alphabet="abcXYZ019._-", min_size=1, max_size=64).filter(lambda s: s[0].isalnum()))
def test_format_and_match_are_inverse(id_: str) -> None:
    """Whatever id goes into a topic comes out of it again."""
    topic = task_topics.START.format(proplet_id=id_, task_id=f"{id_[:20]}:{id_[:20]}")
    assert task_topics.START.match(topic) == {
        "proplet_id": id_,
        "task_id": f"{id_[:20]}:{id_[:20]}",
    }


@pytest.mark.parametrize("bad", ["", "a/b", "+", "#", "a b", "ä", ".a", "a\n", "a" * 65, "a:", ":"])
def test_format_refuses_what_is_no_id(bad: str) -> None:
    """No id may change the levels of a topic or reach into another one (WIRE-001, WIRE-002)."""
    with pytest.raises(ValueError, match="do not make a topic"):
        task_topics.STATE.format(task_id=bad)


def test_no_topic_belongs_to_two_rows() -> None:
    """A topic that arrives has one meaning."""
    samples = {
        row: row.format(**{name: "a" * 64 if name == "sha256" else "7" for name in NAMES})
        for row in ALL
    }
    for row, topic in samples.items():
        assert [other for other in ALL if other.match(topic) is not None] == [row]
        assert matches(row.filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "covered"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("+", "/", False),
        ("+/+", "/", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a/b/c", "a/b", False),
    ],
)
def test_matches_as_mqtt_says(topic_filter: str, topic: str, covered: bool) -> None:
    """The examples of MQTT 5.0, section 4.7."""
    assert matches(topic_filter, topic) is covered


@given(
    st.lists(st.sampled_from("ab+"), min_size=1, max_size=4),
    st.lists(st.sampled_from("ab+"), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=5),
)
def test_filters_that_cover_one_topic_overlap(
    a: list[str], b: list[str], a_multi: bool, b_multi: bool, topic: list[str]
) -> None:
    """If some topic is covered by both filters, they overlap."""
    filter_a = "/".join([*a, *["#"] * a_multi])
    filter_b = "/".join([*b, *["#"] * b_multi])
    name = "/".join(topic)
    if matches(filter_a, name) and matches(filter_b, name):
        assert overlaps(filter_a, filter_b)
        assert overlaps(filter_b, filter_a)


@given(st.lists(st.sampled_from("ab+"), min_size=1, max_size=4))
def test_filters_that_overlap_share_a_topic(a: list[str]) -> None:
    """Filters of single levels that overlap cover a common topic, built level by level."""
    for b in (["a"] * len(a), ["+"] * len(a), ["b"] * len(a)):
        common = [y if x == "+" else x for x, y in zip(a, b, strict=True)]
        topic = "/".join("a" if level == "+" else level for level in common)
        both = matches("/".join(a), topic) and matches("/".join(b), topic)
        assert overlaps("/".join(a), "/".join(b)) is both


def test_pattern_fields_are_bound() -> None:
    """A field with its own pattern takes nothing else."""
    row = Topic("x_{n}", None, (), (), retained=False, about="", patterns=(("n", "[0-9]+"),))
    assert row.match("x_12") == {"n": "12"}
    assert row.match("x_a") is None
    assert row.filter == "+"
