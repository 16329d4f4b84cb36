"""What the model server remembers, what happens to it, and what it asks its adapters to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from roost.protocol.round.label import ModelLabel
from roost.protocol.round.messages import RefusedPublish
from roost.wire.blob import Manifest
from roost.wire.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model.

    Attributes:
        name: Name of the model.
        version: Its number.
        topic: Its retained topic.
        digest: Over its tensors.
        sha256: Of its file.
        size: Bytes of its file.
        form: json or safetensors.
        parent: Version it was made from.
        publish_id: What made it.
        metrics: As its label says.
        architecture: As its label says.
        file: Name of its incoming file; it has moved once the version is released.
        released: Whether it is on disk under its name and on its topic.
    """

    name: str
    version: int
    topic: str
    digest: str
    sha256: str
    size: int
    form: str
    parent: int | None
    publish_id: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    architecture: str | None = None
    file: str = ""
    released: bool = False

    @property
    def id(self) -> str:
        """Id of the entity."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Refusals:
    """The last publish requests that were turned down."""

    last: tuple[RefusedPublish, ...] = ()


@dataclass(frozen=True, slots=True)
class Base:
    """What a round that has not ended is based on.

    Attributes:
        topic: Topic of the model.
        at: When the round's state said so, in epoch seconds.
    """

    topic: str
    at: float


@dataclass(frozen=True, slots=True)
class Owed:
    """The broker forgot, and has not got its blobs back yet."""

    since: float


class Link(StrEnum):
    """What is known of the broker's copies; volatile."""

    READING = "reading"  # connected; what the broker kept of the index is on its way
    TOLD = "told"  # everything was told on this connection, or is being told in order


@dataclass(frozen=True, slots=True)
class Submitted:
    """A readable model lies in the incoming folder.

    Attributes:
        at: Epoch seconds.
        file: Its name there; unique to this arrival.
        label: What it says about itself.
        digest: Over its tensors, as computed.
        sha256: Of the file.
        size: Bytes of the file.
        form: json or safetensors.
    """

    at: float
    file: str
    label: ModelLabel
    digest: str
    sha256: str
    size: int
    form: str


@dataclass(frozen=True, slots=True)
class SubmissionOffered:
    """A model came as a manifest."""

    at: float
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class SubmissionUnreadable:
    """A publish request came that cannot be used; nothing of it is kept.

    Attributes:
        at: Epoch seconds.
        refusal: Why.
        detail: With the culprit's name.
        label: What the model said about itself, if that could be read.
        sha256: Of the blob that was being fetched.
    """

    at: float
    refusal: Refusal
    detail: str
    label: ModelLabel | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """A version is on disk and on its topic; answers ``Release``."""

    at: float
    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Spoiled:
    """The file of a version is missing or damaged, and the broker has no whole copy."""

    at: float
    name: str
    version: int
    why: str


@dataclass(frozen=True, slots=True)
class Cleared:
    """Versions are off their topics and off the disk; answers ``Clear``."""

    at: float
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsent:
    """The broker, or the disk, did not take something; whatever it was, it is tried again."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The broker has everything again; answers ``Refresh``."""

    at: float


@dataclass(frozen=True, slots=True)
class IndexKept:
    """The index that the broker had kept came, before anything was told on this connection."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class RoundTold:
    """The state of a round came; ``model_uri`` is None once the round has ended."""

    at: float
    round_id: str
    model_uri: str | None


LANE = "models"


@dataclass(frozen=True, slots=True)
class FetchSubmission:
    """Fetch a model that came as a manifest; answered as if it had come whole."""

    manifest: Manifest

    @property
    def lane(self) -> str:
        """One at a time: memory stays bounded, and versions keep their order."""
        return "intake"


@dataclass(frozen=True, slots=True)
class Release:
    """Give an incoming file its name and publish it on its topic; answered by Released."""

    version: Version

    @property
    def lane(self) -> str:
        """Before the index."""
        return LANE


@dataclass(frozen=True, slots=True)
class PublishIndex:
    """Publish the index; everything that it lists is there already."""

    text: str

    @property
    def lane(self) -> str:
        """After the models, before the clearing of others."""
        return LANE


@dataclass(frozen=True, slots=True)
class Clear:
    """Clear topics and files of versions that no index lists any more; answered by Cleared."""

    versions: tuple[Version, ...]

    @property
    def lane(self) -> str:
        """After the index."""
        return LANE


@dataclass(frozen=True, slots=True)
class Refresh:
    """After a reconnect: publish what a broker may have forgotten, the index last.

    Attributes:
        versions: All that are released.
        text: The index.
        blobs: Whether the broker forgot, so that blobs are published as well.
    """

    versions: tuple[Version, ...]
    text: str
    blobs: bool

    @property
    def lane(self) -> str:
        """In order with everything else."""
        return LANE


@dataclass(frozen=True, slots=True)
class Refuse:
    """End the process: this state folder is not the one that the broker's index tells of.

    Attributes:
        at: Epoch seconds; one that an earlier process left is not obeyed.
        why: What is wrong, and what to do.
    """

    at: float
    why: str

    @property
    def lane(self) -> str:
        """At once."""
        return "refuse"


@dataclass(frozen=True, slots=True)
class DropIncoming:
    """Delete an incoming file that was refused or is here already."""

    file: str

    @property
    def lane(self) -> str:
        """Files only."""
        return "files"


@dataclass(frozen=True, slots=True)
class Tidy:
    """Delete incoming files but these and what is newer: a killed process left them."""

    keep: tuple[str, ...]
    before: float

    @property
    def lane(self) -> str:
        """Files only."""
        return "files"


SERVICE_EFFECTS = (
    FetchSubmission,
    Release,
    PublishIndex,
    Clear,
    Refresh,
    Refuse,
    DropIncoming,
    Tidy,
)
