"""Which broker a local Roost uses, and how it is run.

`auto` takes mosquitto where it is installed and else the embedded broker, and says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from roost.cli.broker.embedded import LACKS, embedded_config, embedded_version
from roost.cli.broker.mosquitto import find_mosquitto, mosquitto_config, mosquitto_version
from roost.cli.errors import NoBroker, UsageProblem
from roost.cli.ports import holder_of, is_open
from roost.cli.state import StateDir

__all__ = ["BrokerPlan", "parse_url", "plan_broker"]

_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class BrokerPlan:
    """How this Roost gets its broker.

    Attributes:
        kind: `mosquitto`, `embedded` or `external`.
        url: what clients connect to.
        host: its host.
        port: its port.
        argv: the process to run; empty for an external broker.
        about: one line for a person.
    """

    kind: str
    url: str
    host: str
    port: int
    argv: tuple[str, ...]
    about: str

    @property
    def v5_only(self) -> bool:
        """Whether an MQTT 3.1.1 client is refused."""
        return self.kind == "embedded"


def parse_url(text: str) -> tuple[str, str, int]:
    """(scheme, host, port) of `mqtt://host[:port]` or `mqtts://host[:port]`.

    Raises:
        UsageProblem: it is not such a URL.
    """
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == -1:
        raise UsageProblem(
            f"broker {text!r} is not auto, embedded, mosquitto, mqtt://HOST[:PORT] or "
            "mqtts://HOST[:PORT]"
        )
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]


def plan_broker(
    choice: str,
    port: int,
    state: StateDir,
    *,
    find: Callable[[], str | None] = find_mosquitto,
) -> BrokerPlan:
    """Decide on a broker and write its configuration.

    Args:
        choice: `auto`, `embedded`, `mosquitto` or a URL.
        port: the loopback port for a broker of our own.
        state: whose `broker/` folder gets the configuration.
        find: tells where mosquitto is.

    Raises:
        UsageProblem: the choice makes no sense, or mosquitto was asked for and is not there.
        NoBroker: the port is taken, an external broker does not answer, or there is none at all.
    """
    if choice not in ("auto", "embedded", "mosquitto"):
        return _external(choice)
    program = find() if choice != "embedded" else None
    if choice == "mosquitto" and program is None:
        raise UsageProblem(
            "mosquitto is not installed (looked on PATH and in /usr/sbin): install it, for example "
            "with `apt-get install mosquitto`, or use --broker embedded"
        )
    _require_free(port)
    state.broker.mkdir(parents=True, exist_ok=True)
    if program is not None:
        return _mosquitto(program, port, state)
    return _embedded(port, state, fallback=choice == "auto")


def _external(url: str) -> BrokerPlan:
    _, host, port = parse_url(url)
    if not is_open(host, port, timeout_s=3):
        raise NoBroker(f"nothing answers at {url}: start that broker, or correct --broker")
    return BrokerPlan("external", url, host, port, (), f"broker: {url}, not started by Roost")


def _mosquitto(program: str, port: int, state: StateDir) -> BrokerPlan:
    config = state.broker / "mosquitto.conf"
    config.write_text(mosquitto_config(state.broker, port))
    about = f"broker: mosquitto {mosquitto_version(program)} on 127.0.0.1:{port}"
    argv = (program, "-c", str(config))
    return BrokerPlan("mosquitto", f"mqtt://127.0.0.1:{port}", "127.0.0.1", port, argv, about)


def _embedded(port: int, state: StateDir, *, fallback: bool) -> BrokerPlan:
    version = embedded_version()
    if version is None:
        raise NoBroker(
            "there is neither mosquitto nor the embedded broker on this machine: install mosquitto "
            "(`apt-get install mosquitto`) or the iotcore wheel (`uv sync --package roost-cli`)"
        )
    config = state.broker / "embedded.toml"
    config.write_text(embedded_config(port))
    why = "mosquitto is not installed, so the embedded broker" if fallback else "embedded broker"
    about = f"broker: {why} (iotcore {version}) serves on 127.0.0.1:{port}. It lacks: {LACKS}."
    argv = (sys.executable, "-m", "roost.cli.broker.serve", str(config))
    return BrokerPlan("embedded", f"mqtt://127.0.0.1:{port}", "127.0.0.1", port, argv, about)


def _require_free(port: int) -> None:
    """Refuse a taken port, telling who has it and the ways out.

    Raises:
        NoBroker: somebody listens there.
    """
    holder = holder_of(port)
    if holder is None and not is_open("127.0.0.1", port):
        return
    who = str(holder) if holder is not None else "another program"
    stop = f"stop it (`kill {holder.pid}`), " if holder is not None and holder.pid else "stop it, "
    raise NoBroker(
        f"port {port} is in use by {who}; {stop}take another port with --port, or, "
        f"if that is a broker you want to use, --broker mqtt://127.0.0.1:{port}",
        port=port,
        pid=holder.pid if holder else None,
    )
