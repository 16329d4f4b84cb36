"""Settings of the bridge, read from the environment with the prefix ``ROOST_``."""

import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode
from roost.chassis.settings import ServiceSettings


def _paths(value: Any) -> Any:
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


class BridgeSettings(ServiceSettings):
    """What the bridge can be told."""

    state_dir: Path = Field(
        default=Path(".roost/ios-bridge"), description="folder of the bridge's own state"
    )
    phone_host: str = Field(
        default="127.0.0.1", description="address on which phones reach the bridge"
    )
    phone_port: int = Field(
        default=8470, ge=0, le=65535, description="port for phones; 0: any that is free"
    )
    phone_url: str | None = Field(
        default=None, description="how phones write it; default: made of address and port"
    )
    phone_cert_file: Path | None = Field(
        default=None, description="certificate for phones; without one they get plain HTTP"
    )
    phone_key_file: Path | None = Field(default=None, description="key of that certificate")
    phone_username: str | None = Field(
        default=None, description="user name at the broker that all phones share"
    )
    phone_password: SecretStr | None = Field(default=None, description="its password")
    owntracks: bool = Field(
        default=False, description="take battery readings from owntracks/<user>/<device>"
    )
    file_images: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_paths)] = Field(
        default=(), description="folders whose files may be file: images, joined by ':'"
    )
    files_max_mb: int = Field(
        default=1024, ge=1, description="images and inputs kept for phones, all together"
    )
    output_max_mb: int = Field(
        default=256, ge=1, le=4096, description="largest file that a phone may hand in"
    )
    fetch_timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="wait for an image, an input or a chunk"
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.phone_cert_file is None) != (self.phone_key_file is None):
            raise ValueError("give both ROOST_PHONE_CERT_FILE and ROOST_PHONE_KEY_FILE, or none")
        return self

    def url(self, port: int) -> str:
        """Return how phones write where the bridge is."""
        if self.phone_url is not None:
            return self.phone_url.rstrip("/")
        scheme = "http" if self.phone_cert_file is None else "https"
        host = f"[{self.phone_host}]" if ":" in self.phone_host else self.phone_host
        return f"{scheme}://{host}:{port}"
