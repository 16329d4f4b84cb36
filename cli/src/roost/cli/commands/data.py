"""`roost data digits` and `roost data import`: private data for proplets of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from roost.cli.csv_data import read_csv
from roost.cli.digits import write_xy
from roost.cli.digits_data import ALPHA, MOUNT, TEST_SPLIT, deal_digits
from roost.cli.errors import UsageProblem
from roost.cli.options import Call, local, require_id

__all__ = ["group"]

DEFAULT_PROPLETS = 5

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(name="data")
def group() -> None:
    """Give proplets private data to learn from."""


def _replace_option(command: Command) -> Command:
    return click.option("--replace", is_flag=True, help="Overwrite data that is there already.")(
        command
    )


def _keep_data(call: Call, proplets: Sequence[str], mount: str, *, replace: bool) -> None:
    """Refuse to overwrite somebody's data unasked.

    Raises:
        UsageProblem: a mount has data, and nobody said --replace.
    """
    taken = [name for name in proplets if call.state.has_data(name, mount)]
    if taken and not replace:
        have = "has" if len(taken) == 1 else "have"
        raise UsageProblem(
            f"{', '.join(taken)} {have} data in {mount!r} already; --replace overwrites it"
        )


@group.command("digits")
@click.option(
    "--proplets", type=click.IntRange(min=1), help="How many proplets; 5, or as many as there are."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all draws."
)
@click.option(
    "--alpha",
    type=click.FloatRange(min=0, min_open=True),
    default=ALPHA,
    show_default=True,
    help="Dirichlet concentration: the smaller, the more the proplets differ.",
)
@_replace_option
@local
def digits(call: Call, proplets: int | None, seed: int, alpha: float, *, replace: bool) -> None:
    """Deal scikit-learn's handwritten digits: a test split, the rest as each proplet's own part."""
    number = proplets or call.state.proplet_count() or DEFAULT_PROPLETS
    names = [f"proplet-{n}" for n in range(1, number + 1)]
    _keep_data(call, names, MOUNT, replace=replace)
    rows, tests = deal_digits(call.state, names, seed, alpha=alpha)
    call.out.table(("proplet", "samples", "most_of", "folder"), rows, empty="")
    call.out.line(f"{tests} samples kept for tests in {call.state.held_back(TEST_SPLIT)}")


@group.command("import")
@click.argument("csv", type=click.Path(path_type=Path))
@click.option(
    "--label", required=True, metavar="COLUMN", help="The column with the class, 0, 1, 2 …"
)
@click.option("--proplet", required=True, metavar="ID", help="Whose private data this becomes.")
@click.option("--mount", default=MOUNT, show_default=True, help="Guests see it as /data/MOUNT.")
@_replace_option
@local
def import_(call: Call, csv: Path, label: str, proplet: str, mount: str, *, replace: bool) -> None:
    """Make the rows of CSV a proplet's private data, as x.npy and y.npy."""
    require_id("proplet", proplet)
    require_id("mount", mount)
    samples = read_csv(csv, label)
    _keep_data(call, [proplet], mount, replace=replace)
    folder = call.state.mount(proplet, mount)
    known = call.state.known_proplets()
    if proplet not in known and not call.state.may_come(proplet):
        call.out.note(
            f"{call.state.root} has no {proplet} yet"
            + (f", it has {', '.join(known)}" if known else "")
            + "; `roost up` runs proplet-1, proplet-2 and so on"
        )
    try:
        write_xy(folder, samples)
    except OSError as problem:
        raise UsageProblem(f"cannot write {folder}: {problem.strerror}") from problem
    classes = int(samples.y.max()) + 1
    call.out.result(
        {
            "proplet": proplet,
            "mount": mount,
            "folder": str(folder),
            "samples": len(samples),
            "features": samples.x.shape[1],
            "classes": classes,
        },
        f"{len(samples)} samples of {samples.x.shape[1]} features and {classes} classes are now "
        f"{folder}",
    )
