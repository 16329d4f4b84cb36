"""Settings of the coordinator, read from the environment with the prefix ``ROOST_``."""

from pathlib import Path

from pydantic import Field
from roost.chassis.settings import ServiceSettings


class CoordinatorSettings(ServiceSettings):
    """What the coordinator can be told."""

    state_dir: Path = Field(
        default=Path(".roost/coordinator"), description="folder of the coordinator's own state"
    )
    keep_rounds: int = Field(
        default=200, ge=1, le=100_000, description="ended rounds that are remembered in full"
    )
    keep_updates: int = Field(
        default=5, ge=0, le=10_000, description="ended rounds whose updates stay on disk"
    )
    outcome_expiry_s: float = Field(
        default=604_800.0,
        ge=1,
        description="seconds after which outcomes and ended states leave the broker",
    )
