"""The index: all released versions by model, oldest first, and the last refusals."""

from collections.abc import Iterable
from typing import TypeAlias

from roost.chassis.core import View
from roost.model_server.core.state import Refusals, Version
from roost.protocol.round.messages import ModelIndex, ModelLine, ModelVersion, RefusedPublish
from roost.wire.refusal import Refused

Line: TypeAlias = list[Version]


def line_of(name: str, view: View) -> Line:
    """Return all versions of a model in their order, those on their way included."""
    line = [each for each in view.all("version").values() if each.name == name]
    return sorted(line, key=lambda each: each.version)


def released(view: View) -> Line:
    """Return the versions that are on disk and on their topics."""
    return [each for each in view.all("version").values() if each.released]


def unreleased(view: View) -> Line:
    """Return the versions that are on their way."""
    return [each for each in view.all("version").values() if not each.released]


def refusals(view: View) -> tuple[RefusedPublish, ...]:
    """Return the last publish requests that were turned down."""
    kept: Refusals | None = view.get("refusals", "")
    return kept.last if kept else ()


def index_text(versions: Iterable[Version], refused: tuple[RefusedPublish, ...]) -> str:
    """Return the index of these versions."""
    lines: dict[str, Line] = {}
    for each in sorted(versions, key=lambda each: (each.name, each.version)):
        lines.setdefault(each.name, []).append(each)
    models = {
        name: ModelLine(latest=line[-1].version, versions=tuple(map(_entry, line)))
        for name, line in lines.items()
    }
    return ModelIndex(models=models, refusals=refused).encode().decode()


def current(view: View) -> str:
    """Return the index of what is released now."""
    return index_text(released(view), refusals(view))


def listed(text: str) -> Line:
    """Return the versions that an index lists; none if it is no index."""
    try:
        index = ModelIndex.decode(text.encode())
    except Refused:
        return []
    return [_listed(name, each) for name, line in index.models.items() for each in line.versions]


def _entry(version: Version) -> ModelVersion:
    return ModelVersion(
        version=version.version,
        topic=version.topic,
        digest=version.digest,
        sha256=version.sha256,
        size=version.size,
        form=version.form,
        parent=version.parent,
        publish_id=version.publish_id,
        metrics=dict(version.metrics),
        architecture=version.architecture,
    )


def _listed(name: str, entry: ModelVersion) -> Version:
    return Version(
        name=name,
        version=entry.version,
        topic=entry.topic,
        digest=entry.digest,
        sha256=entry.sha256,
        size=entry.size,
        form=entry.form,
        parent=entry.parent,
        publish_id=entry.publish_id,
        released=True,
    )
