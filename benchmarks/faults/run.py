"""What faults cost: seconds that a round loses, and what becomes of it and of the next one.

.venv/bin/python -m benchmarks.faults.run hangs     # only the faults whose names say so
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roost.protocol.round.messages import RoundComplete, RoundStatus

from benchmarks.faults.desk import Desk
from benchmarks.faults.fleet import Fleet
from benchmarks.faults.probes import (
    COMPLETED,
    GUEST_S,
    NOTHING_S,
    PROBES,
    PROPLETS,
    RESTART_S,
    VICTIM,
    Probe,
    bring_back,
)
from benchmarks.rounds.run import write_model


def priority() -> str:
    """Say so when the kernel was told to prefer these processes to others on the machine."""
    file = Path("/proc/self/autogroup")
    nice = file.read_text().split()[-1] if file.exists() else "0"
    return "" if nice == "0" else f" Autogroup priority against other work there: {nice}."


ABOUT = f"""\
Seconds that a round loses by a fault, over an undisturbed round of the same run. {len(PROPLETS)}
proplets, 10k parameters, a guest that waits for {GUEST_S:g} s; the fault strikes half-way, in three
rounds in a row: the seconds are the median, the outcome was the same in all three and blamed nobody
but the culprit. Then comes a round without a fault. A process that is restarted comes back after
{RESTART_S:g} s, as under `roost up` one that ran well. The peer's values were measured on Flower
1.41 in deployment mode, with the same faults.{priority()}""".replace("\n", " ")
PEER = "Flower 1.41"
LAYERS = (64, 128, 10)
TIMES = 3
PATIENT_S = 60.0
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ended:
    """A round that has ended."""

    seconds: float
    outcome: RoundComplete

    @property
    def became(self) -> tuple[str, int]:
        """`completed` or the reason of the failure, and the number of updates."""
        done = self.outcome.outcome is RoundStatus.COMPLETED
        return (COMPLETED if done else str(self.outcome.reason)), self.outcome.updates

    @property
    def blames(self) -> dict[str, str]:
        """What was said of participants whose updates did not count."""
        return {who: said for who, said in self.outcome.verdicts.items() if said != "accepted"}

    @property
    def is_just(self) -> bool:
        """Whether a failure's message names the culprit, and nobody else is blamed."""
        named = VICTIM in (self.outcome.message or "") or self.became[0] == COMPLETED
        return named and self.blames.keys() <= {VICTIM}

    def __str__(self) -> str:
        if self.became[0] == COMPLETED:
            return f"completed with {self.outcome.updates} of {len(PROPLETS)}"
        blames = "; ".join(f"{who}: {said}" for who, said in self.blames.items())
        return f"failed, {self.became[0]} ({blames})"


@dataclass(frozen=True)
class Place:
    """A running Roost and an operator's connection to it."""

    fleet: Fleet
    desk: Desk

    def run(self, round_id: str, probe: Probe | None = None) -> Ended:
        """Run a round, with a fault or without."""
        policy: Mapping[str, Any] = {
            "participants": PROPLETS,
            "k_of_n": probe.k if probe else len(PROPLETS),
            "timeout_s": PATIENT_S,
            "hyperparams": {"seconds": GUEST_S, **(probe.guest if probe else {})},
            **(probe.policy if probe else {}),
        }
        begin = self.desk.start(round_id, policy)
        if probe is not None:
            if self.fleet.runs(VICTIM):
                self.desk.await_running(round_id, VICTIM)
                time.sleep(GUEST_S / 2)
            probe.strike(self.fleet, self.desk)
        end, outcome = self.desk.await_outcome(round_id)
        if probe is not None:
            probe.mend(self.fleet, self.desk)
        return Ended(end - begin, outcome)


def measure(probes: Sequence[Probe] = PROBES) -> list[dict[str, Any]]:
    """Return one row a fault, after one of the round without any."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        guest = build_guest(folder / "guest.wasm")
        with Fleet(folder / "state", PROPLETS).running() as fleet:
            desk = Desk(fleet.url, guest, PROPLETS)
            desk.publish_model(write_model(folder / "model", LAYERS))
            place = Place(fleet, desk)
            place.run("cold")
            normal = [place.run(f"normal-{n}").seconds for n in range(TIMES + 2)]
            reference = statistics.median(normal)
            rows = [measure_one(place, probe, reference) for probe in probes]
            desk.close()
    return [undisturbed(reference), *rows]


def build_guest(output: Path) -> Path:
    """Compile the guest of the probes."""
    flags = ["-target", "wasm32-wasi", "-std=gnu11", "-Os", "-s", "-Wall", "-Wextra", "-Werror"]
    command = [sys.executable, "-m", "ziglang", "cc", *flags, str(HERE / "guest.c")]
    subprocess.run([*command, "-o", str(output)], check=True)
    return output


def undisturbed(reference: float) -> dict[str, Any]:
    """Return the row of the round without a fault."""
    return {
        "row": "an undisturbed round",
        "value": f"{reference:.2f} s in all",
        "unit": "s",
        "peer": "the guest",
        "peer_value": f"{GUEST_S:g} s",
        "ratio": reference / GUEST_S,
        "budget": "–",
        "met": True,
    }


def measure_one(place: Place, probe: Probe, reference: float) -> dict[str, Any]:
    """Let a fault strike in three rounds in a row, then run one without."""
    name = f"round-{PROBES.index(probe)}"
    ended = [place.run(f"{name}-{n}", probe) for n in range(TIMES)]
    bring_back(place.fleet, place.desk)
    after = place.run(f"{name}-after")
    late = after.seconds - reference
    fine = late <= NOTHING_S and after.became == (COMPLETED, len(PROPLETS))
    lost = max(0.0, statistics.median(each.seconds for each in ended) - reference)
    same = {each.became for each in ended} == {(probe.expected, probe.updates)}
    what = [f"{each.seconds - reference:.2f} s: {each}" for each in ended]
    print(f"  {probe.name}: {what}, then {late:.2f} s: {after}", flush=True)
    said = str(ended[-1]) if same else " / ".join(map(str, ended))
    return {
        "row": probe.name,
        "value": f"{lost:.2f} s; {said}; next round "
        + ("fine" if fine else f"{late:.2f} s late, {after}"),
        "unit": "s",
        "peer": PEER,
        "peer_value": probe.flower,
        "ratio": None,
        "budget": f"{probe.most_s:g} s: {probe.why}",
        "met": lost <= probe.most_s and same and fine and all(each.is_just for each in ended),
    }


if __name__ == "__main__":
    chosen = [each for each in PROBES if any(word in each.name for word in sys.argv[1:] or [""])]
    print(json.dumps(measure(chosen), indent=1, ensure_ascii=False))
