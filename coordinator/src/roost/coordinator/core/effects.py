"""What the coordinator asks its adapters to do, beside the chassis' effects.

Each may be carried out twice and then does no harm; each answers with events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from roost.wire.blob import Manifest


@dataclass(frozen=True, slots=True)
class FetchModel:
    """Have a model's file at hand; answered by BaseRead or BaseUnavailable."""

    for_id: str
    model_uri: str
    digest: str

    @property
    def lane(self) -> str:
        """One model at a time: memory stays bounded."""
        return "fetch"


@dataclass(frozen=True, slots=True)
class FetchUpdate:
    """Fetch an update that came as a manifest; answered as if it had come whole."""

    round_id: str
    sender: str
    manifest: Manifest

    @property
    def lane(self) -> str:
        """One update at a time: memory stays bounded."""
        return "intake"


@dataclass(frozen=True, slots=True)
class SpooledUpdate:
    """One summand: its file and its weight."""

    spool: str
    num_samples: int


@dataclass(frozen=True, slots=True)
class Average:
    """Average spooled updates, in this order; answered by Averaged or AverageFailed."""

    round_id: str
    model_uri: str
    base_digest: str
    updates: tuple[SpooledUpdate, ...]

    @property
    def lane(self) -> str:
        """One average at a time: memory stays bounded."""
        return "average"


@dataclass(frozen=True, slots=True)
class PublishModel:
    """Send a model to the model server; the index answers."""

    publish_id: str
    name: str
    version: int
    parent: int
    digest: str
    binary: bool
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def lane(self) -> str:
        """Versions arrive in their order."""
        return "publish"


@dataclass(frozen=True, slots=True)
class DropOutgoing:
    """Clear what ``PublishModel`` left for the model server to fetch."""

    publish_id: str

    @property
    def lane(self) -> str:
        """After the publishing itself."""
        return "publish"


@dataclass(frozen=True, slots=True)
class DropSpools:
    """Delete updates that were refused."""

    spools: tuple[str, ...]

    @property
    def lane(self) -> str:
        """Files only."""
        return "files"


@dataclass(frozen=True, slots=True)
class Tidy:
    """Delete all updates and models but these.

    Attributes:
        rounds: Whose updates stay.
        models: Digests of the models that stay; None: all stay.
        before: Epoch seconds; what was written or used later stays too.
        spools: Which of those rounds' updates stay; None: all.
    """

    rounds: tuple[str, ...]
    models: tuple[str, ...] | None
    before: float
    spools: tuple[str, ...] | None = None

    @property
    def lane(self) -> str:
        """Files only."""
        return "files"


SERVICE_EFFECTS = (
    FetchModel,
    FetchUpdate,
    Average,
    PublishModel,
    DropOutgoing,
    DropSpools,
    Tidy,
)
