"""100 random kills of random processes across 20 rounds: ``make soak``.

First the 20 rounds run undisturbed, then again while `kill -9` hits mosquitto and the services at
random. Each round begins where the one before ended, so one lost or doubled update would change
every model after it. Before some kills mosquitto writes its memory down; what came later it
forgets. What is left behind is looked for when all tasks' deadlines have passed.
"""

import argparse
import datetime as dt
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from roost.protocol.round import topics
from roost.protocol.round.messages import RoundComplete

from benchmarks.__main__ import machine

from .fleet import Fleet
from .processes import SERVICES
from .rounds import await_outcome, await_rest, check_round, publish_base, start

RESULTS: Final = Path(__file__).parents[2] / "benchmarks" / "soak.md"
MODEL: Final = "soak"
SIZE: Final = "large"
EPOCHS: Final = 40
TIMEOUT_S: Final = 120.0
START_AGAIN_S: Final = 2.0
LONGEST_PAUSE_S: Final = 0.8
SAVES: Final = 0.3


@dataclass
class Story:
    """What happened in the rounds of one fleet.

    Attributes:
        outcomes: Of the rounds, in their order.
        seconds: From the start of each to its outcome.
        kills: How often who was killed.
        in_flight: How many kills came before their round's outcome.
        saves: How often the broker wrote its memory down.
        again: How often a start had to be sent again.
        problems: Why this is no success.
    """

    outcomes: list[RoundComplete] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    saves: int = 0
    again: int = 0
    problems: list[str] = field(default_factory=list)


class Soak:
    """The rounds of one fleet."""

    def __init__(self, fleet: Fleet, rng: random.Random, story: Story) -> None:
        self.fleet, self.rng, self.story = fleet, rng, story

    def run(self, rounds: int, kills: int, wanted: Sequence[RoundComplete] = ()) -> None:
        """Play all rounds.

        Args:
            rounds: How many.
            kills: How many in all, spread evenly.
            wanted: The outcomes of the same rounds without kills.
        """
        publish_base(self.fleet, MODEL, SIZE)
        for number in range(rounds):
            share = kills * (number + 1) // rounds - kills * number // rounds
            outcome = self.play(number, share)
            self.story.outcomes.append(outcome)
            if wanted:
                check_round(self.fleet, outcome, wanted[number])
        await_rest(self.fleet)

    def play(self, number: int, kills: int) -> RoundComplete:
        """Play one round, and kill in it."""
        round_id = f"{MODEL}-{number + 1:02d}"
        begin = time.monotonic()
        self.send_start(number, round_id)
        killed = []
        for _ in range(kills):
            pause(self.rng.uniform(0.0, LONGEST_PAUSE_S))
            killed.append(f"{self.kill_one(round_id)} at {time.monotonic() - begin:.1f} s")
        outcome = self.await_outcome(number, round_id)
        seconds = time.monotonic() - begin
        self.story.seconds.append(seconds)
        who = ", ".join(killed) or "nobody"
        print(f"{round_id}: {outcome.outcome} after {seconds:.1f} s, killed: {who}", flush=True)
        return outcome

    def send_start(self, number: int, round_id: str) -> None:
        """Order the round; the same order again does nothing."""
        model_uri = topics.MODEL.format(name=MODEL, version=number)
        start(self.fleet, round_id, model_uri, SIZE, epochs=EPOCHS, timeout_s=TIMEOUT_S)

    def kill_one(self, round_id: str) -> str:
        """Kill somebody, start it again, and return its name."""
        life = self.fleet.life(self.rng.choice(("broker", *SERVICES)))
        if life is self.fleet.broker and self.rng.random() < SAVES:
            self.fleet.broker.save()
            self.story.saves += 1
            pause(self.rng.uniform(0.0, LONGEST_PAUSE_S))
        life.kill()
        self.story.kills[life.name] += 1
        self.story.in_flight += self.fleet.operator.outcome(round_id) is None
        life.start()
        return life.name

    def await_outcome(self, number: int, round_id: str) -> RoundComplete:
        """Wait for the outcome; a start that nobody had committed has to be sent again."""
        operator, state = self.fleet.operator, topics.ROUND_STATE.format(round_id=round_id)
        told_at = time.monotonic()

        def look() -> bool:
            nonlocal told_at
            if operator.last(state) is not None or operator.outcome(round_id) is not None:
                return True
            if time.monotonic() - told_at > START_AGAIN_S:
                told_at = time.monotonic()
                self.story.again += 1
                self.send_start(number, round_id)
            return False

        self.fleet.until(look, f"somebody has heard of {round_id}")
        return await_outcome(self.fleet, round_id, TIMEOUT_S)


def pause(seconds: float) -> None:
    """Let some time pass: the instant of a random kill is what a soak is about."""
    threading.Event().wait(seconds)


def tell(story: Story, rounds: int, kills: int, wanted: Sequence[RoundComplete]) -> str:
    """Return the table of what happened."""
    pairs = zip(story.outcomes, wanted, strict=False)
    same = sum(ours.model_digest == theirs.model_digest for ours, theirs in pairs)
    by_whom = ", ".join(f"{name} {count}" for name, count in sorted(story.kills.items()))
    rows = {
        "rounds completed": f"{len(story.outcomes)} of {rounds}",
        "kills": f"{story.kills.total()} of {kills}: {by_whom}",
        "of these before their round's outcome": str(story.in_flight),
        "models with the digest of the undisturbed run": f"{same} of {rounds}",
        "left behind": "; ".join(story.problems) or "nothing",
        "starts sent again, as nobody had heard of the round": str(story.again),
        "kills of a mosquitto that had just written its memory down": str(story.saves),
        "slowest round": f"{max(story.seconds, default=0.0):.1f} s",
    }
    return "\n".join(
        ["| what | measured |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows.items())]
    )


def main() -> int:
    """Run both, write the page, and return 1 unless all is as it was without kills."""
    args = options()
    structlog.configure(processors=[drop])  # the services' logs are in their files
    print(f"seed {args.seed}: {args.kills} kills across {args.rounds} rounds", flush=True)
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="roost-soak-") as folder:
        calm = soak(Path(folder) / "calm", rng, Story(), args.rounds, 0)
        story = Story(problems=list(calm.problems))
        if not story.problems:
            home = Path(folder) / "killed"
            story = soak(home, rng, story, args.rounds, args.kills, calm.outcomes)
    good = not story.problems and len(story.outcomes) == args.rounds
    page = report(args, calm, story, good=good)
    print(page)
    if not args.dry:
        RESULTS.write_text(page)
        print(f"wrote {RESULTS}")
    return 0 if good else 1


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--dry", action="store_true", help="do not write the page")
    return parser.parse_args()


def soak(
    folder: Path,
    rng: random.Random,
    story: Story,
    rounds: int,
    kills: int,
    wanted: Sequence[RoundComplete] = (),
) -> Story:
    """Play the rounds on a fleet of their own; what goes wrong becomes part of the story."""
    fleet = Fleet(folder, persistence=True)
    try:
        fleet.start()
        Soak(fleet, rng, story).run(rounds, kills, wanted)
        if kills:
            print("waiting for the deadlines of the tasks", flush=True)
            await_rest(fleet, TIMEOUT_S + 60.0, deadlines_passed=True)
        fleet.stop()
    except AssertionError as error:
        story.problems.append("; ".join(str(error).partition("\n---")[0].splitlines()))
        print(error, file=sys.stderr)
    finally:
        fleet.abandon()
    return story


def report(args: argparse.Namespace, calm: Story, story: Story, *, good: bool) -> str:
    """Return the page."""
    verdict = "nobody could tell" if good else "**not as it was without kills**"
    command = f'make soak ARGS="--seed {args.seed} --rounds {args.rounds} --kills {args.kills}"'
    lines = [
        "# Random kills",
        "",
        f"Written by `{command}` on {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC.",
        "",
        (__doc__ or "").partition("\n\n")[2],
        machine(),
        f"Verdict: {verdict}.",
        "",
        tell(story, args.rounds, args.kills, calm.outcomes),
        f"| median round, undisturbed and with kills | {median(calm)} and {median(story)} |",
    ]
    return "\n".join(lines) + "\n"


def median(story: Story) -> str:
    """Return the median of the rounds' seconds."""
    return f"{statistics.median(story.seconds or [0.0]):.1f} s"


def drop(_logger: Any, _method: str, _event: Any) -> Any:
    """Say nothing."""
    raise structlog.DropEvent


if __name__ == "__main__":
    sys.exit(main())
