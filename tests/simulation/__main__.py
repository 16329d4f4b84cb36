"""``python -m tests.simulation``: replay one seed with its story, or run many."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from multiprocessing import get_context

from .bugs import BUGS, planted
from .faults import KINDS
from .story import REPLAY, Run, run

_ENOUGH = 20


def main() -> int:
    """Run what the arguments ask for; return 1 if an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed and tell its story")
    parser.add_argument("--seeds", type=int, default=500, help="run so many seeds")
    parser.add_argument("--first", type=int, default=0, help="begin with this seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--plant", choices=BUGS, help="with --seed: plant this bug first")
    args = parser.parse_args()
    if args.seed is None:
        return many(args.first, args.seeds, args.jobs)
    with planted(BUGS[args.plant]) if args.plant else nullcontext():
        return replay(args.seed)


def replay(seed: int) -> int:
    """Tell the story of one seed."""
    found = run(seed, print)
    print(f"seed {seed}: {found.problem or 'every invariant holds'}")
    return int(found.problem is not None)


def many(first: int, count: int, jobs: int) -> int:
    """Run many seeds, name those that end badly, and say how often each fault hit."""
    began, seeds = time.monotonic(), range(first, first + count)
    if jobs == 1:
        bad, fired = _gather(map(run, seeds))
    else:
        with get_context("spawn").Pool(jobs) as pool:
            bad, fired = _gather(pool.imap_unordered(run, seeds, chunksize=20))
    seconds = time.monotonic() - began
    for kind in KINDS:
        print(f"{fired[kind] / count:7.1%}  {kind}")
    print(f"{count} seeds in {seconds:.0f} s ({count / seconds:.1f} a second), {bad} ended badly")
    return int(bad > 0)


def _gather(runs: Iterable[Run]) -> tuple[int, Counter[str]]:
    fired: Counter[str] = Counter()
    bad = 0
    for each in runs:
        fired.update(set(each.fired))
        if each.problem is not None:
            bad += 1
            if bad <= _ENOUGH:
                print(f"seed {each.seed}: {each.problem}\n  {REPLAY.format(seed=each.seed)}")
                sys.stdout.flush()
    return bad, fired


if __name__ == "__main__":
    sys.exit(main())
