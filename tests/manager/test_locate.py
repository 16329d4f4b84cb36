"""Lines of tables and keys."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roost.manager.core.locate import line_of, lines_of

DOCUMENT = '''\
# a comment with [brackets] and a = 1
a = 1

[[launch]]
topic = "x" # [[launch]]
key = """
[[launch]]
not = "a key"
"""
literal = \'\'\'
x = 1\'\'\'
[launch.task]
mounts = [
  "a", # ]
  "b]",
]
[launch.task.env]
ROUND = "x"
"b c" = 'y'
a . b.c = { d = 2, e = "}" }
[[launch.task.inputs]]
name = "m"
[[launch.task.inputs]]
name = "n"
  [[launch]]
  topic = "y"
[[launch.task.inputs]]
x = "\\"#\\\\"
[ other . "quoted" ]
z = 1979-05-27T07:32:00Z'''

EXPECTED = {
    ("a",): 2,
    ("launch",): 4,
    ("launch", 0): 4,
    ("launch", 0, "topic"): 5,
    ("launch", 0, "key"): 6,
    ("launch", 0, "literal"): 10,
    ("launch", 0, "task"): 12,
    ("launch", 0, "task", "mounts"): 13,
    ("launch", 0, "task", "env"): 17,
    ("launch", 0, "task", "env", "ROUND"): 18,
    ("launch", 0, "task", "env", "b c"): 19,
    ("launch", 0, "task", "env", "a"): 20,
    ("launch", 0, "task", "env", "a", "b"): 20,
    ("launch", 0, "task", "env", "a", "b", "c"): 20,
    ("launch", 0, "task", "inputs"): 21,
    ("launch", 0, "task", "inputs", 0): 21,
    ("launch", 0, "task", "inputs", 0, "name"): 22,
    ("launch", 0, "task", "inputs", 1): 23,
    ("launch", 0, "task", "inputs", 1, "name"): 24,
    ("launch", 1): 25,
    ("launch", 1, "topic"): 26,
    ("launch", 1, "task", "inputs"): 27,
    ("launch", 1, "task", "inputs", 0): 27,
    ("launch", 1, "task", "inputs", 0, "x"): 28,
    ("other", "quoted"): 29,
    ("other", "quoted", "z"): 30,
}


def test_every_table_and_key() -> None:
    """Headers, keys, and values that span lines or look like headers."""
    tomllib.loads(DOCUMENT)
    assert lines_of(DOCUMENT) == EXPECTED


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("launch", 0, "task", "mounts", 1), 13),
        (("launch", 0, "task", "nothing"), 12),
        (("launch", 7), 4),
        (("nowhere", "x"), 1),
        ((), 1),
    ],
)
def test_the_nearest_thing_around(path: tuple[str | int, ...], line: int) -> None:
    """What has no line of its own has that of what holds it."""
    assert line_of(lines_of(DOCUMENT), path) == line


def test_nothing_but_white_space() -> None:
    """No statement, no line."""
    assert lines_of("") == {}
    assert lines_of(" \n# x\n\t") == {}


NAMES = st.sampled_from(["a", "b-2", "'c d'", '"e.f"', "7"])
VALUES = st.sampled_from(
    ["1", '"x"', "'#'", '"""\n=\n"""', "'''\n[x]'''", "[\n1, # ]\n[2],\n]", "{ k = 'v', l = [1] }",
     '"\\""', "1.5e3", "true", '""""quoted" """', "''"]
)  # fmt: skip


@given(st.lists(st.tuples(st.text(" \n", max_size=3), VALUES), max_size=8))
def test_keys_are_found_whatever_the_values_are(items: list[tuple[str, str]]) -> None:
    """Each key's line holds that key, whatever stands between."""
    text = "".join(f"{gap}\nkey{i} = {value} # c\n" for i, (gap, value) in enumerate(items))
    assert set(tomllib.loads(text)) == {f"key{i}" for i in range(len(items))}
    lines = lines_of(text)
    for i in range(len(items)):
        assert text.split("\n")[lines[(f"key{i}",)] - 1].strip().startswith(f"key{i} =")
    assert len(lines) == len(items)


@given(st.lists(st.tuples(NAMES, st.booleans()), min_size=1, max_size=6))
def test_headers(items: list[tuple[str, bool]]) -> None:
    """Every table that tomllib sees has a line."""
    text = "".join(f"[[t]]\n[t.{name}]\nx = {i}\n" for i, (name, _) in enumerate(items))
    lines = lines_of(text)
    for i, table in enumerate(tomllib.loads(text)["t"]):
        assert lines[("t", i)] == 3 * i + 1
        assert lines[("t", i, next(iter(table)), "x")] == 3 * i + 3
