"""What all commands share: `--json`, `--state`, `--broker`, `--timeout`."""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from roost.cli.errors import CliError, UsageProblem, WaitedTooLong
from roost.cli.output import Output
from roost.cli.state import StateDir

if TYPE_CHECKING:
    from roost.cli.wire_client import Wire

__all__ = ["Call", "local", "policy_options", "remote", "require_id"]

_KNOWN_WITHIN_S = 2.0
DEFAULT_STATE = ".roost"
DEFAULT_BROKER = "mqtt://127.0.0.1:1883"

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Call:
    """How a command was called.

    Attributes:
        out: where to write.
        state: the state folder named by `--state`.
        broker: what `--broker` said, if anything.
        timeout_s: how long to wait for an answer.
        timeout_said: whether `--timeout` was given.
    """

    out: Output
    state: StateDir
    broker: str | None = None
    timeout_s: float = 30.0
    timeout_said: bool = False

    @property
    def at(self) -> str:
        """The options that lead another command to the same Roost, with a blank before each."""
        from roost.cli.welcome import state_option  # noqa: PLC0415 - not for small commands

        broker = f" --broker {shlex.quote(self.broker)}" if self.broker else ""
        return state_option(self.state) + broker

    @property
    def known_within_s(self) -> float:
        """How long something that was started long ago may take to show; `--timeout` if given."""
        return self.timeout_s if self.timeout_said else min(self.timeout_s, _KNOWN_WITHIN_S)

    @contextmanager
    def goes_on(self, watch: str, stop: str | None) -> Iterator[None]:
        """Say on Ctrl-C that what is watched goes on without us.

        Args:
            watch: the command, without `roost`, that watches it.
            stop: the one that ends it; None where nothing does but its time.
        """
        try:
            yield
        except KeyboardInterrupt:
            how = (
                f"stop: roost {stop}{self.at}" if stop else "it ends by itself when its time is up"
            )
            self.out.note(f"still running; watch: roost {watch}{self.at} ; {how}")
            raise

    @contextmanager
    def known(self, kind: str, name: str) -> Iterator[None]:
        """Say of what never gave a sign that nothing is known of it.

        Raises:
            CliError: instead of WaitedTooLong, unless `--timeout` asked for patience.
        """
        try:
            yield
        except WaitedTooLong as problem:
            if self.timeout_said:
                raise
            raise CliError(
                f"nothing is known of {kind} {name!r}; `roost {kind} list{self.at}` shows the "
                "others, and --timeout waits for one that is still to come"
            ) from problem

    @property
    def broker_url(self) -> str:
        """The broker to talk to.

        `--broker`, else ROOST_BROKER, else the instance of the state folder, else the usual port.
        """
        if self.broker:
            return self.broker
        if told := os.environ.get("ROOST_BROKER"):
            return told
        instance = self.state.read_instance()
        return instance.broker if instance else DEFAULT_BROKER

    @contextmanager
    def wire(self) -> Iterator[Wire]:
        """A connection to the broker, for as long as the command lasts.

        Raises:
            NoBroker: it cannot be reached.
        """
        from roost.cli.wire_client import Wire  # noqa: PLC0415 - not for commands without broker

        with Wire.connect(self.broker_url) as wire:
            yield wire


_JSON = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, one object a line.")
_STATE = click.option(
    "--state",
    envvar="ROOST_STATE",
    default=DEFAULT_STATE,
    show_default=True,
    metavar="DIR",
    help="State folder.",
)
_BROKER = click.option(
    "--broker", metavar="URL", help="mqtt://HOST[:PORT]; by default that of the state folder."
)
_TIMEOUT = click.option(
    "--timeout",
    "wait_s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait for an answer.",
)


def local(command: Command) -> Callable[..., Any]:
    """For commands without a broker: adds `--json` and `--state`, passes a `Call` first."""

    @_JSON
    @_STATE
    @functools.wraps(command)
    def called(as_json: bool, state: str, **options: Any) -> Any:
        return command(Call(Output(as_json=as_json), StateDir.at(state)), **options)

    return called


def remote(command: Command) -> Callable[..., Any]:
    """For commands that talk to a Roost: adds `--broker` and `--timeout` as well."""

    @_JSON
    @_STATE
    @_BROKER
    @_TIMEOUT
    @functools.wraps(command)
    def called(as_json: bool, state: str, broker: str | None, wait_s: float, **options: Any) -> Any:
        source = click.get_current_context().get_parameter_source("wait_s")
        said = source is not click.core.ParameterSource.DEFAULT
        call = Call(Output(as_json=as_json), StateDir.at(state), broker, wait_s, said)
        return command(call, **options)

    return called


def policy_options(command: Command) -> Command:
    """What a round and an experiment are run by; adds `file` and fields of the order."""
    options = (
        click.option("--model", "model_uri", metavar="TOPIC", help="Base model; the newest."),
        click.option(
            "--image",
            "task_wasm_image",
            metavar="REF",
            help="Guest: blob:, oci:// or file:; by default the one that Roost brings.",
        ),
        click.option("--participants", metavar="A,B,…", help="Proplets; all that are online."),
        click.option(
            "--hyperparams", metavar="JSON", help="For the guest, such as '{\"lr\":0.05}'."
        ),
        click.option("-k", "k_of_n", type=click.IntRange(min=1), help="Updates that suffice; all."),
        click.option("--time", "timeout_s", type=float, metavar="S", help="Of a round; 300 s."),
        click.option(
            "--guest-time",
            "guest_s",
            type=float,
            metavar="S",
            help="Of a guest, which is killed then; until the round's time is up.",
        ),
        click.option(
            "--on-timeout",
            type=click.Choice(["fail", "aggregate"]),
            help="With too few updates at the end of its time; fail.",
        ),
        click.option(
            "--min-updates", type=click.IntRange(min=1), help="With aggregate: fewer still fail."
        ),
        click.option(
            "--file",
            type=click.Path(path_type=Path),
            help="The whole order as JSON; options override what it says.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def require_id(kind: str, text: str) -> str:
    """`text`, if it can be an id on the wire.

    Raises:
        UsageProblem: it cannot.
    """
    from roost.wire.ids import ID_PATTERN  # noqa: PLC0415 - imports pydantic

    if not re.fullmatch(rf"{ID_PATTERN}(:{ID_PATTERN})*", text):
        raise UsageProblem(
            f"{text!r} cannot be a {kind} id: 1 to 64 letters, digits, dots, dashes, underscores, "
            "beginning with a letter or a digit"
        )
    return text
