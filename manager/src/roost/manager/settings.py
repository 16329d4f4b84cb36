"""The manager's settings."""

from pathlib import Path

from pydantic import Field, SecretStr
from roost.chassis.settings import ServiceSettings


class ManagerSettings(ServiceSettings):
    """What the manager can be told."""

    state_dir: Path = Field(
        default=Path(".roost/manager"), description="folder of the manager's own state"
    )
    workloads: Path = Field(
        default=Path("workloads"), description="folder of the workload bindings (*.toml)"
    )
    forwarder_username: str | None = Field(
        default=None,
        description="user name of the forwarding connection; absent: the user name with -fwd",
    )
    forwarder_password: SecretStr | None = Field(
        default=None, description="its password; absent: the same password"
    )
