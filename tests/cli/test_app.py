"""Exit codes, JSON errors, help and start-up of the `roost` command."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from roost.cli import app
from roost.cli.errors import CliError, NoBroker, UsageProblem, WaitedTooLong
from roost.cli.options import require_id
from roost.cli.output import Output
from roost.cli.ports import free_port

from .conftest import Answer


@pytest.mark.parametrize("command", [(), *((name,) for name in app._COMMANDS)])
def test_every_command_explains_itself(roost: Callable[..., Answer], command: tuple[str]) -> None:
    """`--help` works everywhere and ends with 0."""
    answer = roost(*command, "--help")
    assert answer.code == 0
    assert "Usage: roost" in answer.out


def test_help_lists_what_each_command_says_of_itself(roost: Callable[..., Answer]) -> None:
    """And the exit codes."""
    out = roost("--help").out
    assert all(name in out for name in app._COMMANDS)
    assert "130 interrupted" in " ".join(out.split())


def test_help_imports_neither_numpy_nor_pydantic() -> None:
    """So that the command feels quick."""
    code = (
        "import sys; from roost.cli.app import main; main(['--help']);"
        "print([m for m in ('numpy','pydantic','paho','wasmtime') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ("nope",),
        ("round",),
        ("round", "nope"),
        ("round", "show"),
        ("data", "digits", "--proplets", "none"),
        ("round", "show", "no/slash"),
        ("round", "start", "--hyperparams", "{", "--broker", "mqtt://127.0.0.1:1"),
        ("round", "list", "--broker", "http://x"),
        ("model", "init", "--arch", "mlp", "--layers", "64"),
        ("model", "init", "--arch", "linear", "--layers", "64,3,2"),
        ("model", "init", "--arch", "mlp", "--layers", "a,b"),
        ("task", "launch"),
        ("image", "push", "no-such.wasm"),
        ("workload", "check", "no-such-folder"),
        ("guest", "run", "no-such.wasm"),
    ],
)
def test_usage_problems_end_with_2(roost: Callable[..., Answer], words: tuple[str, ...]) -> None:
    """And say what is wrong on stderr, nothing on stdout."""
    answer = roost(*words)
    assert answer.code == 2
    assert answer.err
    assert answer.out == ""


def test_no_broker_ends_with_3(roost: Callable[..., Answer]) -> None:
    """For every command that needs one, with the cure."""
    broker = f"mqtt://127.0.0.1:{free_port()}"
    answer = roost("proplet", "list", "--broker", broker, "--json")
    assert answer.code == 3
    assert answer.json[0]["exit_code"] == 3
    assert "roost up" in answer.json[0]["error"]


def test_usage_problems_in_json(roost: Callable[..., Answer]) -> None:
    """Click's own as well."""
    answer = roost("round", "show", "--json")
    assert answer.code == 2
    assert answer.json == [{"error": "Missing argument 'ROUND_ID'.", "exit_code": 2}]


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (CliError("x"), 1),
        (UsageProblem("x"), 2),
        (NoBroker("x"), 3),
        (WaitedTooLong("x"), 4),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 0),
    ],
)
def test_how_a_command_ends_decides_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
) -> None:
    """One table for all commands."""

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("roost.cli.commands.doctor.machine", fail)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.FileIO(1, "w", closefd=False)))
    assert app.main(["doctor"]) == code
    assert ("error: x" in capfd.readouterr().err) == isinstance(raised, CliError)


@pytest.mark.parametrize("text", ["r-1", "a", "A.b_c-d", "e:0001", "x" * 64])
def test_ids_that_the_wire_takes(text: str) -> None:
    """Derived ones included."""
    assert require_id("round", text) == text


@pytest.mark.parametrize("text", ["", "-a", "a/b", "a b", "x" * 65, "a:", "+", "ä"])
def test_ids_that_it_does_not_take(text: str) -> None:
    """They are refused before anything is sent."""
    with pytest.raises(UsageProblem, match="cannot be a round id"):
        require_id("round", text)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_a_table_is_aligned_for_people_and_whole_for_programs() -> None:
    """JSON has the columns that people are not shown."""
    rows: list[dict[str, object]] = [
        {"name": "a", "size": 1234, "none": None, "hidden": [1]},
        {"name": "long", "size": 0.123456, "none": True},
    ]
    people, programs = io.StringIO(), io.StringIO()
    Output(out=people).table(("name", "size", "none"), rows, empty="none")
    Output(as_json=True, out=programs).table(("name",), rows, empty="none")
    assert people.getvalue() == "name  size    none\na     1234    -\nlong  0.1235  True\n"
    assert [json.loads(line) for line in programs.getvalue().splitlines()] == rows


def test_a_long_message_is_cut_for_people() -> None:
    """The line stays readable; programs get all of it."""
    people, programs = io.StringIO(), io.StringIO()
    rows = [{"round": "r", "message": "x" * 300}]
    Output(out=people).table(("round", "message"), rows, empty="")
    Output(as_json=True, out=programs).table(("round", "message"), rows, empty="")
    assert people.getvalue().splitlines()[1] == "r      " + "x" * 99 + "…"
    assert "x" * 300 in programs.getvalue()


def test_an_empty_table_says_so_to_people_only() -> None:
    """A program gets no line."""
    people, programs = io.StringIO(), io.StringIO()
    Output(out=people).table(("name",), [], empty="nothing yet")
    Output(as_json=True, out=programs).table(("name",), [], empty="nothing yet")
    assert (people.getvalue(), programs.getvalue()) == ("nothing yet\n", "")


def test_progress_is_rewritten_on_a_terminal_and_gone_before_the_answer() -> None:
    """And never in the way of a pipe or of JSON."""
    err, out = Terminal(), io.StringIO()
    output = Output(out=out, err=err)
    output.status("waiting")
    output.line("done")
    assert err.getvalue() == "\r\x1b[2Kwaiting\r\x1b[2K"
    assert out.getvalue() == "done\n"
    silent = io.StringIO()
    Output(err=silent).status("waiting")
    Output(as_json=True, err=Terminal()).status("waiting")
    assert silent.getvalue() == ""
