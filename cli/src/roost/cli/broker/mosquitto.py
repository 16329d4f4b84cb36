"""Mosquitto as the broker of a local Roost.

Reachable from this machine alone, open to every local user; securing a broker that devices reach
is another matter. The limits are those that were measured to lose nothing: mosquitto's own default
of 1,000 queued messages silently drops what it has already acknowledged.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from roost.cli.errors import UsageProblem

__all__ = ["find_mosquitto", "mosquitto_config", "mosquitto_version"]

#: Where packages put it that an ordinary user's PATH lacks (Debian: /usr/sbin).
_BESIDES_PATH = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")


def find_mosquitto() -> str | None:
    """The mosquitto program on this machine, or None."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *_BESIDES_PATH])
    return shutil.which("mosquitto", path=places)


def mosquitto_version(program: str) -> str:
    """Its version, such as `2.0.11`, or `unknown`."""
    asked = subprocess.run(  # noqa: S603 - a program found on this machine
        [program, "-h"], capture_output=True, text=True, check=False
    )
    found = re.search(r"mosquitto version (\S+)", asked.stdout + asked.stderr)
    return found.group(1) if found else "unknown"


def mosquitto_config(folder: Path, port: int) -> str:
    """The text of mosquitto.conf.

    Args:
        folder: where it keeps retained messages and sessions.
        port: the loopback port to listen on.

    Raises:
        UsageProblem: mosquitto's configuration has no way to spell this folder's name.
    """
    store = f"{folder}/"
    if "\n" in store or store != store.strip():
        raise UsageProblem(f"mosquitto cannot keep its store in {folder!s}: choose another --state")
    lines = [
        "# Written by `roost up`; changes are overwritten.",
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "allow_zero_length_clientid true",
        "persistence true",
        f"persistence_location {store}",
        "autosave_interval 30",
        "persistent_client_expiration 7d",
        "max_packet_size 4194304",
        "max_inflight_messages 20",
        "max_queued_messages 1000000",
        "max_queued_bytes 2147483648",
        "set_tcp_nodelay true",
        "connection_messages false",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
    ]
    if os.geteuid() == 0:
        # Started by root it would become the user `mosquitto`, who may not write the store.
        lines.append("user root")
    return "\n".join(lines) + "\n"
