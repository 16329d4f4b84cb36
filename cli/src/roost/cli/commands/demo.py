"""`roost demo`: five proplets learn handwritten digits, from nothing to 95 % and better."""

from __future__ import annotations

import click
from roost.cli.demo_run import ROUNDS, run_demo
from roost.cli.options import Call, local

__all__ = ["demo"]


@click.command("demo")
@click.option("--rounds", type=click.IntRange(min=1, max=1000), default=ROUNDS, show_default=True)
@click.option("--port", type=click.IntRange(min=1, max=65535), help="Of the broker; a free one.")
@click.option(
    "--broker",
    type=click.Choice(["auto", "embedded", "mosquitto"]),
    default="auto",
    show_default=True,
    help="auto takes mosquitto where it is installed.",
)
@local
def demo(call: Call, rounds: int, port: int | None, broker: str) -> int:
    """Run the demo; exit code 0 means an accuracy of 95 % or better.

    The test samples are in no proplet's folder, and the accuracy is computed here, from the bytes
    of the model's topic. The state stays, so `roost up` goes on from there; a second demo learns
    on from the newest model.
    """
    return run_demo(call.out, call.state, rounds=rounds, port=port, broker=broker)
