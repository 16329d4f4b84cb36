"""`roost`: finds the command, and turns how it ended into an exit code.

Commands are imported when they are called, so that `roost --help` and small commands start fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from roost.cli.errors import INTERRUPTED, OK, CliError, UsageProblem
from roost.cli.output import Output

__all__ = ["cli", "main"]

#: command: (module, attribute, what it is for)
_COMMANDS = {
    "up": ("up", "up", "Run broker, services and proplets on this machine until Ctrl-C."),
    "demo": ("demo", "demo", "Five proplets learn handwritten digits; ends at 95 % or better."),
    "round": ("round", "group", "Start, watch and list federated rounds."),
    "experiment": ("experiment", "group", "Many rounds in a row."),
    "model": ("model", "group", "Make, publish, list, fetch and roll back model versions."),
    "task": ("task", "group", "Run any Wasm program on a proplet."),
    "proplet": ("proplet", "group", "Which proplets there are."),
    "broker": ("broker", "group", "A broker that devices reach: users, rights, certificates."),
    "phone": ("phone", "group", "Phones as proplets, through the bridge."),
    "image": ("image", "group", "Offer a Wasm file to proplets."),
    "workload": ("workload", "group", "Check, reload and list workload bindings."),
    "data": ("data", "group", "Give proplets private data to learn from."),
    "guest": ("guest", "group", "Try a Wasm program here, without a broker."),
    "doctor": ("doctor", "doctor", "Tell what is missing or wrong on this machine."),
}


class LazyGroup(click.Group):
    """A group that imports a command only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or None if there is none of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"roost.cli.commands.{module}"), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in _COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Every command takes --json. Exit codes: 0 ok, 1 failed outcome, 2 usage, 3 no broker, "
        "4 timeout, 130 interrupted."
    ),
)
@click.version_option(package_name="roost-cli", prog_name="roost")
def cli() -> None:
    """Roost runs Wasm tasks on devices over MQTT, and federated learning on top of them."""


def main(argv: Sequence[str] | None = None, **extra: Any) -> int:
    """Run a command line.

    Args:
        argv: the words after `roost`; those of this process by default.
        extra: passed on to click.

    Returns:
        The exit code.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = cli.main(args=args, prog_name="roost", standalone_mode=False, **extra)
    except CliError as problem:
        Output(as_json="--json" in args).error(str(problem), **_details(problem))
        return problem.exit_code
    except click.ClickException as problem:
        _show_usage(problem, as_json="--json" in args)
        return UsageProblem.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code if isinstance(code, int) else OK


def _details(problem: CliError) -> Mapping[str, Any]:
    return {"exit_code": problem.exit_code, **problem.details}


def _show_usage(problem: click.ClickException, *, as_json: bool) -> None:
    if as_json:
        Output(as_json=True).error(problem.format_message(), exit_code=UsageProblem.exit_code)
    else:
        problem.show()
