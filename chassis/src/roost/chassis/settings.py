"""Settings that every service has, read from the environment with the prefix ``ROOST_``."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_SCHEMES = {"mqtt": 1883, "mqtts": 8883}


def _check_broker(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError("write it as mqtt://host:port, or mqtts://host:port with TLS")
    return url


def _check_prefix(prefix: str) -> str:
    if any(letter in prefix for letter in "+#\0") or prefix.startswith(("/", "$")):
        raise ValueError("a topic prefix has no +, # or NUL and begins with neither / nor $")
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"


class BrokerSettings(BaseSettings):
    """Where the broker is and how to speak to it."""

    model_config = SettingsConfigDict(env_prefix="ROOST_", frozen=True, extra="ignore")

    broker: Annotated[str, AfterValidator(_check_broker)] = Field(
        default="mqtt://127.0.0.1:1883", description="mqtt://host:port, or mqtts:// with TLS"
    )
    username: str | None = Field(default=None, description="user name at the broker")
    password: SecretStr | None = Field(default=None, description="password at the broker")
    ca_file: Path | None = Field(
        default=None, description="CA that signed the broker's certificate"
    )
    cert_file: Path | None = Field(default=None, description="client certificate")
    key_file: Path | None = Field(default=None, description="key of the client certificate")
    topic_prefix: Annotated[str, AfterValidator(_check_prefix)] = Field(
        default="", description="goes before all topics, never appears inside payloads"
    )
    keepalive_s: int = Field(default=15, ge=5, le=3600, description="MQTT keep-alive")

    @property
    def host(self) -> str:
        """Host of the broker."""
        return urlsplit(self.broker).hostname or ""

    @property
    def port(self) -> int:
        """Port of the broker; by scheme where none is given."""
        parts = urlsplit(self.broker)
        return parts.port or _SCHEMES[parts.scheme]

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.broker).scheme == "mqtts"


class ServiceSettings(BrokerSettings):
    """What every service can be told."""

    state_dir: Path = Field(
        default=Path(".roost/service"), description="folder of this service's own state"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least serious log level that is shown"
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="logs for people or for machines"
    )
    http_host: str = Field(default="127.0.0.1", description="address of /healthz and /metrics")
    http_port: int = Field(
        default=0, ge=0, le=65535, description="port of /healthz and /metrics; 0: none"
    )
