"""Settings of a proplet, read from the environment with the prefix ``ROOST_``."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode
from roost.chassis.settings import ServiceSettings
from roost.wire.ids import Id


def _pairs(value: Any) -> Any:
    """Read ``room=attic,camera=yes`` or a JSON object."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    if not all(mark for _, mark, _ in pairs):
        raise ValueError("write labels as name=value,name=value")
    return {name.strip(): text.strip() for name, _, text in pairs}


def _paths(value: Any) -> Any:
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


def _names(value: Any) -> Any:
    parts = value.split(",") if isinstance(value, str) else value
    return [part.strip() for part in parts if part.strip()]


class PropletSettings(ServiceSettings):
    """What a proplet can be told."""

    proplet_id: Id = Field(description="this proplet's id, its client id at the broker as well")
    labels: Annotated[dict[Id, str], NoDecode, BeforeValidator(_pairs)] = Field(
        default_factory=dict, description="labels for selectors: name=value,name=value"
    )
    slots: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)),
        ge=1,
        le=64,
        description="tasks that run at once; default: one per processor",
    )
    data_dir: Path | None = Field(
        default=None, description="each folder in it is a data mount of its name; default: none"
    )
    images_dir: Path | None = Field(
        default=None, description="folder of fetched images; default: images in the state folder"
    )
    images_max_mb: int = Field(
        default=512, ge=1, description="images on disk together; the same again compiled"
    )
    file_images: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_paths)] = Field(
        default=(), description="folders whose files may be file: images, joined by ':'"
    )
    http_registries: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = Field(
        default=(),
        description="registries that speak plain HTTP, joined by ','; loopback ones always may",
    )
    fetch_timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="wait for an input, a chunk or a registry"
    )
    telemetry_s: float = Field(default=10.0, gt=0, le=20, description="seconds between samples")

    @property
    def images(self) -> Path:
        """Where images lie."""
        return self.images_dir or self.state_dir / "images"
