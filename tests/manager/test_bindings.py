"""Binding files are taken over or refused as a whole, every problem with its line."""

from hashlib import sha256
from pathlib import Path

import pytest
from roost.manager.bindings import BindingsInvalid, check, load
from roost.manager.core.binding import Bindings, Leaf, Sequence, Table
from roost.manager.core.read_binding import SHAPE, read_binding
from roost.protocol.task.messages import Limits, TaskInput, TaskOutput, TaskRequest

from .world import EACH_BINDING, bindings_of

MINIMAL = """\
[[launch]]
topic = "a/b"
key = "{id}"
[launch.task]
image = "oci://h/n:t"
"""


def problems_of(*texts: str) -> list[str]:
    """Return what is wrong with these files."""
    with pytest.raises(BindingsInvalid) as caught:
        bindings_of(*texts)
    return list(map(str, caught.value.problems))


def forward(source: str, to: str) -> str:
    """Return a forward rule of two lines below its header."""
    return f'[[forward]]\nfrom = "{source}"\nto = "{to}"\n'


def test_shape_names_every_field_of_a_task_request() -> None:
    """A field that the request gains must be thought of here."""
    assert SHAPE.keys() == TaskRequest.model_fields.keys() - {"v", "task_id"}
    assert SHAPE["limits"].keys() == Limits.model_fields.keys()
    assert SHAPE["inputs"][0].keys() == TaskInput.model_fields.keys()
    assert SHAPE["outputs"][0].keys() == TaskOutput.model_fields.keys()


def test_what_is_read() -> None:
    """Rules, defaults, templates with their lines, and the file's digest."""
    bindings = bindings_of(EACH_BINDING)
    (launch,), (rule,) = bindings.launches, bindings.forwards
    assert (launch.topic, launch.for_each, launch.where) == ("jobs/start", "devices", "0.toml:1")
    assert launch.defaults == (("time", "60"),)
    proplet = launch.task.get("proplet")
    assert isinstance(proplet, Leaf)
    assert proplet.template.where == "0.toml:8"
    assert isinstance(launch.task.get("outputs"), Sequence)
    assert isinstance(launch.task.get("env"), Table)
    assert launch.task.get("args") is None
    assert str(rule) == "jobs/+/results/+ -> results"
    assert bindings.files[0].sha256 == sha256(EACH_BINDING.encode()).hexdigest()


def test_launch_of() -> None:
    """At most one rule obeys a topic."""
    bindings = bindings_of(MINIMAL.replace("a/b", "a/+/c"))
    assert bindings.launch_of("a/x/c") is bindings.launches[0]
    assert bindings.launch_of("a/x") is None
    assert Bindings().launch_of("a") is None


def test_numbers_need_no_quotes() -> None:
    """Limits and deadlines may be written as TOML numbers."""
    text = MINIMAL + "deadline_s = 1.5\nlimits = { memory_mb = 64, wall_s = '{w}' }\n"
    task = bindings_of(text).launches[0].task
    deadline = task.get("deadline_s")
    assert isinstance(deadline, Leaf)
    assert (deadline.number, deadline.template.parts) == (True, ("1.5",))


def test_nested_defaults() -> None:
    """A default's name may be dotted, as a field's."""
    text = MINIMAL.replace("[launch.task]", '[launch.defaults]\na = "1"\nb.c = "2"\n[launch.task]')
    assert bindings_of(text).launches[0].defaults == (("a", "1"), ("b.c", "2"))


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("x = = 1", ["0.toml:1: not TOML: Invalid value"]),
        ("\n\na = '", ["0.toml:3: not TOML"]),
        ('a = """\n\n', ["0.toml:3: not TOML"]),
        ("a = 1\na = 2", ["0.toml:2: not TOML: Cannot overwrite a value"]),
        ("x = " + "[" * 5000, ["0.toml:1: nested too deeply"]),
        ("a = 1", ["0.toml:1: unknown key 'a'; known: launch, forward"]),
        ("launch = 1", ["0.toml:1: write it as [[launch]]"]),
        ("\n[forward]\nto = 'x'", ["0.toml:2: write it as [[forward]]"]),
        ("launch = [1]", ["0.toml:1: write it as [[launch]]"]),
        (
            "[[launch]]\ntopics = 'a'\n",
            ["0.toml:1: 'key' is missing", "0.toml:1: 'task' is missing",
             "0.toml:1: 'topic' is missing",
             "0.toml:2: unknown key 'topics'; known: topic, key, for_each, defaults, task"],
        ),
        ("[[forward]]\nfrom = ''\nto = 3\nqos = 1",
         ["0.toml:2: 'from' must be a text", "0.toml:3: 'to' must be a text",
          "0.toml:4: unknown key 'qos'; known: from, to"]),
        (MINIMAL.replace('"{id}"', '"{id"'), ["0.toml:3: '{' has no partner"]),
        (MINIMAL + 'env.A = "{a b}"', ["0.toml:6: '{a b}' names no field"]),
        (MINIMAL + "args = ['a', '}']", ["0.toml:6: '}' has no partner"]),
        (MINIMAL + "args = 'a'", ["0.toml:6: 'args' must be a list"]),
        (MINIMAL + "args = [1]", ["0.toml:6: '0' must be a text"]),
        (MINIMAL + "env = ['a']", ["0.toml:6: 'env' must be a table"]),
        (MINIMAL + "deadline_s = true", ["0.toml:6: 'deadline_s' must be a text or a number"]),
        (MINIMAL + "limits = { cpu = 1 }", ["0.toml:6: unknown key 'cpu'; known: memory_mb"]),
        (MINIMAL + "[[launch.task.inputs]]\nfile = 'x'",
         ["0.toml:7: unknown key 'file'; known: name, topic, blob, text, base64"]),
        (MINIMAL.replace("[launch.task]", "for_each = '{a}'\n[launch.task]"),
         ["0.toml:4: '{a}' names no field; write it without braces"]),
        (MINIMAL.replace("[launch.task]", "for_each = ''\n[launch.task]"),
         ["0.toml:4: 'for_each' must be a text"]),
        (MINIMAL.replace("[launch.task]", "defaults = { a = { b = 1 } }\n[launch.task]"),
         ["0.toml:4: 'a.b' must be a text: put it in quotes"]),
        (MINIMAL.replace("[launch.task]", "defaults = 1\n[launch.task]"),
         ["0.toml:4: 'defaults' must be a table of texts"]),
    ],
)  # fmt: skip
def test_malformed_files(text: str, problems: list[str]) -> None:
    """Each problem with file and line (BIND-001, BIND-002, BIND-023)."""
    found = problems_of(text)
    assert len(found) == len(problems)
    for line, begin in zip(found, problems, strict=True):
        assert line.startswith(begin)


def test_not_utf8() -> None:
    """The line is told although the text cannot be read (BIND-001)."""
    with pytest.raises(BindingsInvalid) as caught:
        read_binding("x.toml", b"a = 1\n# \xff")
    assert [str(problem) for problem in caught.value.problems] == ["x.toml:2: not UTF-8"]


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("a/+b", "+ must be a whole level"),
        ("a/#/b", "# must be the whole last level"),
        ("a/b#", "# must be the whole last level"),
        ("a/#", "# is not possible here, + is"),
        ("$SYS/x", "begin with $"),
        ("$share/g/x", "begin with $"),
        ("a\\u0000", "characters that MQTT does not allow"),
        ("x" * 4097, "it has not 1 to 4096 bytes"),
        ("/" * 100, "more than 100 levels"),
        ("tasks/launch", "one of Roost's own"),
        ("tasks/other", "one of Roost's own"),
        ("workloads/x", "one of Roost's own"),
        ("+/launch", "one of Roost's own"),
        ("+/+/state", "one of Roost's own"),
    ],
)
def test_launch_topics(topic: str, why: str) -> None:
    """Neither control topics nor what MQTT or a launch forbids (BIND-011, WIRE-062)."""
    found = problems_of(MINIMAL.replace("a/b", topic))
    assert all(line.startswith("0.toml:1: launch topic ") for line in found)
    assert any(why in line for line in found)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"{id}"', '"fixed"', "0.toml:3: the key names no field: it would launch once"),
        ('"{id}"', '"{id}-{each}"', "0.toml:3: the key names all tasks"),
        ('"oci://h/n:t"', '"{i}"\nproplet = "{each}"', "0.toml:6: {each} needs 'for_each'"),
        ('"oci://h/n:t"', '"http://x"', "0.toml:5: task.image: String should match"),
        ('"oci://h/n:t"', '"oci://x"\nmounts = ["a b"]', "0.toml:6: task.mounts.0: String"),
        ('"oci://h/n:t"', '"oci://x"\ndeadline_s = 0', "0.toml:6: task.deadline_s: Input"),
        ('"oci://h/n:t"', '"oci://x"\ndeadline_s = "x"', "0.toml:6: task.deadline_s: Input"),
        ('"oci://h/n:t"', '"oci://x"\nlimits.memory_mb = 5000', "0.toml:6: task.limits.memory_mb"),
        ('"oci://h/n:t"', '"oci://x"\nenv = { "1A" = "{x}" }', "0.toml:6: task.env.1A.[key]"),
        ('"oci://h/n:t"', '"oci://x"\ninputs = [{ name = "n" }]', "0.toml:6: task.inputs.0"),
        ('image = "oci://h/n:t"', 'proplet = "x"', "0.toml:1: task.image: Field required"),
        ('image = "oci://h/n:t"', "inputs = []", "0.toml:1: task.image: Field required"),
        ('"oci://h/n:t"', '"oci://x"\noutputs = [{ file = "r", topic = "tasks/launch" }]',
         "0.toml:6: an output cannot go to Roost's own topics"),
        ('"oci://h/n:t"', '"oci://x"\noutputs = [{ file = "r", topic = "proplets/{p}/x" }]',
         "0.toml:6: an output cannot go to Roost's own topics"),
        ('"oci://h/n:t"', '"oci://x"\noutputs = [{ file = "r" }]',
         "0.toml:6: task.outputs.0.topic: Field required"),
        ('"oci://h/n:t"', '"oci://x"\noutputs = [{ file = "r", topic = "" }]',
         "0.toml:6: task.outputs.0.topic: String should have at least 1 character"),
    ],
)  # fmt: skip
def test_tasks_that_no_message_could_make_right(old: str, new: str, problem: str) -> None:
    """They are refused at once, by line (BIND-012, BIND-013, BIND-023)."""
    found = problems_of(MINIMAL.replace(old, new))
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_what_a_message_may_still_make_right() -> None:
    """A text with fields is judged only once they are filled (BIND-016)."""
    text = MINIMAL.replace('"oci://h/n:t"', '"{image}"') + (
        'proplet = "{p}"\ndeadline_s = "{d}"\nmounts = ["{m}?"]\nselector = { "a" = "{b}" }\n'
        'outputs = [{ file = "{f}", topic = "{t}" }]\ninputs = [{ name = "{n}", blob = "{b}" }]\n'
    )
    assert bindings_of(text).launches


@pytest.mark.parametrize(
    ("source", "to", "why"),
    [
        ("a/b+", "x", "forward from 'a/b+': + must be a whole level"),
        ("$SYS/#", "x", "begin with $"),
        ("a", "$x", "forward to '$x': topics that begin with $"),
        ("a", "x/+", "it must be one topic, without + and #"),
        ("a", "x/#", "it must be one topic, without + and #"),
        ("a", "tasks/launch", "are Roost's own topics"),
        ("a", "proplets/p/tasks/t/start", "are Roost's own topics"),
        ("a", "blobs/x", "are Roost's own topics"),
        ("a", "workloads/reload", "are Roost's own topics"),
        ("a", "replies/x", "are Roost's own topics"),
        ("a", "a", "this forward feeds itself: a -> a"),
        ("#", "x", "this forward feeds itself: # -> x"),
        ("a/+/c", "a/b/c", "this forward feeds itself"),
    ],
)
def test_forwards(source: str, to: str, why: str) -> None:
    """One destination, no control topic, nothing that feeds itself (FWD-009, FWD-010)."""
    found = problems_of(forward(source, to))
    assert found[0].startswith("0.toml:1: ")
    assert why in found[0]


def test_forwards_that_feed_each_other() -> None:
    """The whole way round is named (FWD-010)."""
    chain = forward("a/+", "b/1") + forward("b/+", "c/1") + forward("c/+", "a/1")
    assert problems_of(chain) == [
        "0.toml:1: this forward feeds itself: a/+ -> b/1; b/+ -> c/1; c/+ -> a/1",
        "0.toml:4: this forward feeds itself: b/+ -> c/1; c/+ -> a/1; a/+ -> b/1",
        "0.toml:7: this forward feeds itself: c/+ -> a/1; a/+ -> b/1; b/+ -> c/1",
    ]
    assert len(bindings_of(forward("a/+", "b/1") + forward("b/+", "c/1")).forwards) == 2


def test_a_loop_beside_a_chain_is_found_and_the_chain_is_not_blamed() -> None:
    """Only the rules on the loop are named (FWD-010)."""
    text = forward("a", "b") + forward("b", "c") + forward("c", "b")
    assert [line.split(":")[1] for line in problems_of(text)] == ["4", "7"]


def test_forwards_that_overlap() -> None:
    """A broker would deliver two copies (FWD-010)."""
    (found,) = problems_of(forward("a/+", "x"), forward("a/b", "y"))
    assert found.startswith("1.toml:1: forward from 'a/b' overlaps 'a/+' (0.toml:1)")
    (found,) = problems_of(forward("a/+", "x"), forward("a/+", "x"))
    assert found == "1.toml:1: the same forward as 0.toml:1"
    assert len(bindings_of(forward("a/+", "x"), forward("a/+", "y")).forwards) == 2


def test_launch_topics_that_overlap() -> None:
    """One message may obey one rule only (BIND-011)."""
    (found,) = problems_of(MINIMAL, MINIMAL.replace("a/b", "a/+"))
    assert found.startswith("1.toml:1: launch topic 'a/+' overlaps 'a/b' (0.toml:1)")
    assert len(bindings_of(MINIMAL, MINIMAL.replace("a/b", "a/c")).launches) == 2


def test_a_topic_may_launch_and_be_forwarded() -> None:
    """The two have connections of their own, so neither gets two copies."""
    assert bindings_of(MINIMAL + forward("a/b", "x")).forwards


def test_folder(tmp_path: Path) -> None:
    """All TOML files are one set (BIND-001)."""
    (tmp_path / "b.toml").write_text(forward("a/+", "x"))
    (tmp_path / "a.toml").write_text(MINIMAL)
    (tmp_path / "notes.txt").write_text("not a binding")
    assert [binding.file for binding in load(tmp_path).files] == ["a.toml", "b.toml"]
    assert check(tmp_path) == ()


def test_folder_with_problems_names_them_all(tmp_path: Path) -> None:
    """One bad file refuses the set (BIND-001)."""
    (tmp_path / "a.toml").write_text("x = 1\n" + MINIMAL)
    (tmp_path / "b.toml").write_text(forward("a/+", "a/b"))
    (tmp_path / "c.toml").mkdir()
    (tmp_path / "d.toml").write_text(MINIMAL)
    found = [str(problem) for problem in check(tmp_path)]
    assert found == [
        "a.toml:1: unknown key 'x'; known: launch, forward",
        "b.toml:1: this forward feeds itself: a/+ -> a/b",
        "c.toml:1: cannot be read: Is a directory",
    ]


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """The message says what to do."""
    (problem,) = check(tmp_path / "none")
    assert "does not exist; create it, or set ROOST_WORKLOADS" in str(problem)


def test_the_bindings_that_are_shipped() -> None:
    """They are taken as they are."""
    folder = Path(__file__).parents[2] / "workloads"
    names = {binding.file for binding in load(folder).files}
    assert {"federated-learning.toml", "word-count.toml", "sensor-summary.toml"} <= names
