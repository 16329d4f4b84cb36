"""One run: the services, their proplets, an operator, a broker, and what a seed does to them."""

from random import Random
from typing import Any

import numpy as np
from roost.protocol.round.model import parse_model

from . import services
from .adapters import encode_update_json
from .broker import SimBroker
from .hub import EPOCH, Hub, SimQueue
from .people import IMAGE, Operator
from .process import Machine, Process

PROPLETS = ("p1", "p2", "p3")
BASE = b'{"w":[0.5,-0.25],"b":0.125}'


class World:
    """Everything of one run."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.hub = Hub()
        SimQueue.hub = self.hub
        self.lines: list[str] | None = None
        self.broker = SimBroker(self.hub, Random(self.rng.getrandbits(64)), self.say)
        machine = Machine(
            self.hub,
            self.broker,
            Random(self.rng.getrandbits(64)),
            lambda _process, _kind, _what: None,
            lambda _name, _changes: None,
            self.say,
            lambda: 64,
        )
        self.operator = Operator(self.hub, self.broker, self.rng)
        self.processes: dict[str, Process] = {}
        builds: dict[str, Any] = {
            "model-server": services.model_server_keeping(50),
            "coordinator": services.build_coordinator,
            "manager": services.build_manager,
        }
        for name in PROPLETS:
            builds[name] = services.proplet(name, guest_of(name), lambda: self.rng.uniform(0.1, 3))
        for name, build in builds.items():
            self.processes[name] = Process(machine, name, build)

    def say(self, who: str, what: str) -> None:
        """Add a line to the story."""
        if self.lines is not None:
            self.lines.append(f"{self.hub.now - EPOCH:9.3f}  {who:<13} {what}")

    def run(self) -> None:
        """Let it all happen."""
        with services.in_memory():
            for process in self.processes.values():
                self.hub.after(self.rng.uniform(0, 0.5), process.start)
            self.operator.publish_model(BASE)
            self.operator.start_round(
                {
                    "round_id": "r1",
                    "model_uri": "fl/models/global_model_v0",
                    "task_wasm_image": IMAGE,
                    "participants": list(PROPLETS),
                    "k_of_n": 3,
                    "timeout_s": 300,
                }
            )
            while not self.operator.outcomes and self.hub.now < EPOCH + 400:
                self.hub.run(self.hub.now + 1)


def guest_of(name: str) -> services.Guest:
    """Return the guest of a proplet: what it makes depends on proplet, round and model alone."""

    def guest(round_id: str, model: bytes) -> bytes:
        tensors = update_of(name, round_id, model)
        said = {key: np.asarray(value).tolist() for key, value in tensors.items()}
        return encode_update_json(round_id, BASE_OF[round_id], samples_of(name), said)

    return guest


BASE_OF = {"r1": "fl/models/global_model_v0"}


def samples_of(name: str) -> int:
    """Return a proplet's number of samples."""
    return 10 + PROPLETS.index(name)


def update_of(name: str, round_id: str, model: bytes) -> dict[str, Any]:
    """Return the tensors that a proplet learns."""
    rng = np.random.default_rng([len(round_id), PROPLETS.index(name)])
    return {k: v + rng.standard_normal(v.shape) for k, v in parse_model(model).tensors.items()}
