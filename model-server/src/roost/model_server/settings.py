"""Settings of the model server, read from the environment with the prefix ``ROOST_``."""

from pathlib import Path

from pydantic import Field
from roost.chassis.settings import ServiceSettings


class ModelServerSettings(ServiceSettings):
    """What the model server can be told."""

    state_dir: Path = Field(
        default=Path(".roost/model-server"), description="folder of the model server's own state"
    )
    keep_versions: int = Field(
        default=50,
        ge=1,
        le=100_000,
        description="newest versions kept of each model, beside version 0 and open rounds' bases",
    )
