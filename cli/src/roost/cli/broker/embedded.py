"""The embedded broker: rumqttd out of the `iotcore` wheel, run as a process of its own.

Only the MQTT 5 listener is used: the 3.1.1 one drops a subscriber at the first message with MQTT 5
properties. The process is `roost.cli.broker.serve`.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["LACKS", "embedded_config", "embedded_version"]

#: What a user gives up compared with mosquitto, in one line.
LACKS = (
    "no store of its own (services publish their retained messages again), no ACL, no MQTT 3.1.1 "
    "clients, no session expiry, and a wildcard subscription gets at most 100 retained messages"
)

# A log segment must hold the largest burst, or messages are dropped silently. Measured: 100 MB by
# 10 is safe, 10 MB by 3 is not. Segments take memory only as they fill.
_TEMPLATE = """\
# Written by `roost up`; changes are overwritten.
id = 0

[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "roost"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 10000
max_payload_size = 4194304
max_inflight_count = 100
dynamic_filters = true
"""


def embedded_config(port: int) -> str:
    """The text of its TOML file, listening on the loopback `port`."""
    return _TEMPLATE.format(port=port)


def embedded_version() -> str | None:
    """The version of the installed wheel, or None where there is none."""
    try:
        return version("iotcore")
    except PackageNotFoundError:
        return None
