"""A whole Roost on this machine: which processes, with which settings, and how it is run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from roost.chassis.settings import BrokerSettings
from roost.cli.broker import BrokerPlan, plan_broker
from roost.cli.children import Program
from roost.cli.errors import INTERRUPTED, OK, UsageProblem
from roost.cli.logs import LogSink
from roost.cli.output import Output
from roost.cli.security.hosting import Hosted, host
from roost.cli.security.planning import Wishes
from roost.cli.state import Instance, StateDir
from roost.cli.supervisor import Supervisor
from roost.cli.welcome import first_steps

__all__ = ["LocalRoost", "programs"]

DEFAULT_PROPLETS = 3
DEFAULT_PORT = 1883


@dataclass(frozen=True)
class LocalRoost:
    """What to run.

    Attributes:
        state: the folder for everything that is written.
        proplets: their ids.
        port: loopback port of a broker of our own.
        broker: `auto`, `embedded`, `mosquitto` or a URL.
        workloads: folder of workload bindings.
        listen: `ADDRESS[:PORT]` where devices of other machines reach the broker; None: nowhere.
        hosts: what they call this machine.
    """

    state: StateDir
    proplets: tuple[str, ...]
    port: int
    broker: str
    workloads: Path
    listen: str | None = None
    hosts: tuple[str, ...] = ()

    @classmethod
    def plan(
        cls,
        state: StateDir,
        *,
        proplets: int | None = None,
        port: int | None = None,
        broker: str = "auto",
        workloads: str | None = None,
        listen: str | None = None,
        hosts: tuple[str, ...] = (),
    ) -> LocalRoost:
        """Fill in what was not said from the state folder's last instance, else with defaults.

        Raises:
            UsageProblem: there is no folder of workload bindings.
        """
        last = state.read_instance()
        number = proplets
        if number is None:
            number = last.proplets if last else state.proplet_count() or DEFAULT_PROPLETS
        if port is None:
            port = last.port if last and last.kind != "external" else DEFAULT_PORT
        names = tuple(f"proplet-{n}" for n in range(1, number + 1))
        return cls(state, names, port, broker, find_workloads(workloads), listen, hosts)

    def run(self, out: Output) -> int:
        """Run everything until a signal comes.

        Raises:
            UsageProblem: another instance runs on this state folder.
            NoBroker: there is no broker to be had.
        """
        with self.state.locked():
            plan = plan_broker(self.broker, self.port, self.state)
            hosted = self._host(plan)
            self.state.images.mkdir(exist_ok=True)
            self.state.write_instance(
                Instance(os.getpid(), plan.url, plan.kind, plan.port, len(self.proplets))
            )
            out.result({"event": "starting", "broker": plan.url, "kind": plan.kind}, plan.about)
            if hosted is not None:
                out.result({"event": "listening", "url": hosted.url}, hosted.about)
            return self._supervise(out, plan, hosted)

    def _host(self, plan: BrokerPlan) -> Hosted | None:
        """Let devices of other machines in, if that was said."""
        if self.listen is None:
            return None
        wishes = Wishes(
            listen=self.listen,
            hosts=self.hosts,
            loopback_port=plan.port,
            prefix=BrokerSettings().topic_prefix,
            workloads=self.workloads,
        )
        return host(wishes, plan, self.state.broker, self.proplets)

    def _supervise(self, out: Output, plan: BrokerPlan, hosted: Hosted | None) -> int:
        broker = Program("broker", plan.argv) if plan.argv else None
        credentials = hosted.credentials if hosted is not None else {}
        services = programs(self.state, plan, self.proplets, self.workloads, credentials)
        services += hosted.programs if hosted is not None else ()
        names = (["broker"] if broker else []) + [p.name for p in services]
        sink = LogSink(self.state.logs, None if out.as_json else sys.stdout, names)

        def on_event(event: str, name: str, fields: dict[str, object]) -> None:
            out.result({"event": event, "service": name, **fields}, _say(event, name, fields))

        def on_report(_name: str, found: dict[str, object]) -> None:
            running = f"{_count(found['proplets'])} on {plan.url}"
            head = f"Roost is up: {running}, state in {self.state.root}"
            lines = [head, *_missing(found, self.state), *first_steps(plan, found, self.state)]
            out.result({"event": "ready", **found}, "\n" + "\n".join(lines))

        ended_by = Supervisor(
            broker,
            services,
            (plan.host, plan.port),
            sink,
            on_event=on_event,
            on_report=on_report,
        ).run()
        return INTERRUPTED if ended_by == signal.SIGINT else OK


def programs(
    state: StateDir,
    plan: BrokerPlan,
    proplets: Sequence[str],
    workloads: Path,
    credentials: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> list[Program]:
    """The services of a local Roost, each with its settings.

    Args:
        state: the folder for everything that is written.
        plan: the broker.
        proplets: ids of the proplets.
        workloads: folder of workload bindings.
        credentials: settings with user name and password, by service, where the broker wants them.
    """
    common = {"ROOST_BROKER": plan.url, "ROOST_LOG_FORMAT": "console"}

    def service(name: str, module: str, folder: Path, **settings: str) -> Program:
        folder.mkdir(parents=True, exist_ok=True)
        argv = (sys.executable, "-m", f"roost.{module}")
        mine = {**common, **credentials.get(name, {}), "ROOST_STATE_DIR": str(folder)}
        return Program(name, argv, {**mine, **settings})

    found = [
        service("manager", "manager", state.service("manager"), ROOST_WORKLOADS=str(workloads)),
        service("model-server", "model_server", state.service("model-server")),
        service("coordinator", "coordinator", state.service("coordinator")),
    ]
    for name in proplets:
        data = state.proplet(name) / "data"
        data.mkdir(parents=True, exist_ok=True)
        folder = state.proplet(name) / "state"
        found.append(
            service(name, "proplet", folder, ROOST_PROPLET_ID=name, ROOST_DATA_DIR=str(data))
        )
    desk = {
        **common,
        "ROOST_DESK_IMAGES": str(state.images),
        "ROOST_DESK_PROPLETS": ",".join(proplets),
    }
    found.append(Program("desk", (sys.executable, "-m", "roost.cli.desk"), desk, reports=True))
    return found


def find_workloads(given: str | None) -> Path:
    """The folder of workload bindings.

    Raises:
        UsageProblem: there is none.
    """
    checkout = Path(__file__).resolve().parents[4] / "workloads"
    places = [Path(given)] if given else [Path("workloads"), checkout]
    for place in places:
        if place.is_dir():
            return place.absolute()
    raise UsageProblem(
        f"no folder of workload bindings at {places[0].absolute()}: name one with --workloads"
    )


def _say(event: str, name: str, fields: dict[str, object]) -> str | None:
    if event == "ended":
        code = fields["code"]
        how = (
            f"was ended by signal {-code}"
            if isinstance(code, int) and code < 0
            else f"exited with {code}"
        )
        return f"{name} {how}; starting it again in {fields['restart_in_s']} s"
    return "\nstopping …" if event == "stopping" else None


def _count(proplets: object) -> str:
    number = len(proplets) if isinstance(proplets, list) else 0
    return f"{number} proplet{'' if number == 1 else 's'}"


def _missing(found: dict[str, object], state: StateDir) -> list[str]:
    missing = found.get("missing")
    if not isinstance(missing, list) or not missing:
        return []
    return [f"but not (yet) {', '.join(map(str, missing))}: see {state.logs}"]
