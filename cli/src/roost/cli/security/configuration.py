"""The text of mosquitto.conf for a broker that devices reach.

The limits are those that were measured to lose nothing. `max_packet_size` is announced to MQTT 5
clients, who can check before they send; `message_size_limit` would acknowledge and drop. The
default of 1,000 queued messages would silently drop what was acknowledged.
"""

from __future__ import annotations

from roost.cli.security.site import Site, SitePaths

__all__ = ["LIMITS", "secured_config"]

LIMITS = (
    "persistent_client_expiration 7d",
    "max_packet_size 4194304",
    "max_inflight_messages 20",
    "max_queued_messages 1000000",
    "max_queued_bytes 2147483648",
)
_LOOPBACK = "127.0.0.1"


def secured_config(site: Site, paths: SitePaths) -> str:
    """Return the text of mosquitto.conf: what all listeners share, then each of them."""
    run_as = [f"user {site.run_as}"] if site.run_as is not None else []
    lines = [
        "# Written by `roost broker setup`; changes are overwritten.",
        "per_listener_settings true",
        f"pid_file {paths.pid}",
        *run_as,
        "persistence true",
        f"persistence_location {paths.store}/",
        "autosave_interval 30",
        *LIMITS,
        "set_tcp_nodelay true",
        "connection_messages false",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
    ]
    if site.loopback_port is not None:
        lines += _loopback(site.loopback_port, paths)
    lines += [
        "",
        "# Devices, viewers, services of other machines. The user name is the client id, so that",
        "# nobody can take another one's session over.",
        *_encrypted(site.listen, site.port, "devices", paths),
        "use_username_as_clientid true",
        "",
        "# Operators, who may have several connections at once. Devices are not let in.",
        *_encrypted(site.listen, site.people_port, "people", paths),
    ]
    return "\n".join(lines) + "\n"


def _loopback(port: int, paths: SitePaths) -> list[str]:
    return [
        "",
        "# This machine: whoever gives no name may do everything, whoever does needs its password.",
        f"listener {port} {_LOOPBACK}",
        "allow_anonymous true",
        "allow_zero_length_clientid true",
        f"password_file {paths.passwords('everyone')}",
        f"acl_file {paths.acl}",
    ]


def _encrypted(address: str, port: int, of: str, paths: SitePaths) -> list[str]:
    return [
        f"listener {port} {address}",
        "allow_anonymous false",
        "allow_zero_length_clientid true",
        f"password_file {paths.passwords(of)}",
        f"acl_file {paths.acl}",
        f"certfile {paths.certificate}",
        f"keyfile {paths.certificate_key}",
        "tls_version tlsv1.2",
    ]
