"""What the core's effects do outside: release, publish, refresh, clear."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from roost.chassis.blobs import manifest_message, offer, withdraw
from roost.chassis.effects import Publish
from roost.chassis.errors import ChassisError
from roost.chassis.logs import get_logger
from roost.chassis.ports import SessionPort
from roost.chassis.transfer import send_all
from roost.model_server.adapters.files import FileDamaged, Files
from roost.model_server.core.state import (
    Clear,
    Cleared,
    DropIncoming,
    FetchSubmission,
    PublishIndex,
    Refresh,
    Refreshed,
    Refuse,
    Release,
    Released,
    Spoiled,
    SubmissionUnreadable,
    Tidy,
    Unsent,
    Version,
)
from roost.model_server.ports import Fetcher
from roost.protocol.round.refusals import BLOB_UNAVAILABLE
from roost.protocol.round.topics import MODEL_INDEX
from roost.wire.blob import CHUNK_BYTES, INLINE_LIMIT, Manifest
from roost.wire.refusal import Refusal, Refused

FETCH_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 30.0
COPY_TIMEOUT_S: Final = 1.0
OWNER: Final = "model-server"


class Performers:
    """The model server's effects on the world."""

    def __init__(
        self,
        session: SessionPort,
        fetcher: Fetcher,
        files: Files,
        clock: Callable[[], float],
    ) -> None:
        """Use these parts."""
        self._session, self._fetcher, self._files = session, fetcher, files
        self._clock, self._since = clock, clock()

    def table(self) -> Mapping[type[Any], Callable[[Any], Iterable[Any] | None]]:
        """Return the function of each effect."""
        return {
            FetchSubmission: self.fetch_submission,
            Release: self.release,
            PublishIndex: self.publish_index,
            Clear: self.clear,
            Refresh: self.refresh,
            Refuse: self.refuse,
            DropIncoming: self.drop_incoming,
            Tidy: self.tidy,
        }

    def fetch_submission(self, effect: FetchSubmission) -> Iterable[Any]:
        """Fetch a large model and take it in as if it had come whole."""
        into = self._files.temporary()
        try:
            self._fetcher.fetch_blob(effect.manifest, FETCH_TIMEOUT_S, into)
            return [self._files.read(into, self._clock())]
        except (ChassisError, OSError) as error:
            return [self._unreadable(effect, BLOB_UNAVAILABLE, str(error))]
        except Refused as error:
            return [self._unreadable(effect, error.refusal, error.detail)]

    def _unreadable(
        self, effect: FetchSubmission, refusal: Refusal, detail: str
    ) -> SubmissionUnreadable:
        sha256 = effect.manifest.sha256
        return SubmissionUnreadable(self._clock(), refusal, detail, sha256=sha256)

    def release(self, effect: Release) -> Iterable[Any]:
        """Put a version in its place and on its topic."""
        version = effect.version

        def tell() -> Iterable[Any]:
            self._files.release(version)
            self._files.check(version)
            self._send(self._messages(version, with_blob=True))
            return [Released(self._clock(), version.name, version.version)]

        try:
            return self._told(tell)
        except FileDamaged as error:
            return [self._spoiled(version, error)]

    def publish_index(self, effect: PublishIndex) -> Iterable[Any]:
        """Publish the index."""

        def tell() -> Iterable[Any]:
            self._send([_index_message(effect.text)])
            return ()

        return self._told(tell)

    def clear(self, effect: Clear) -> Iterable[Any]:
        """Take versions off their topics and off the disk."""

        def tell() -> Iterable[Any]:
            for version in effect.versions:
                messages: Iterable[Publish] = [Publish(version.topic, retain=True)]
                if version.size > INLINE_LIMIT:
                    messages = itertools.chain(messages, withdraw(_manifest(version)))
                self._send(messages)
                self._files.path(version).unlink(missing_ok=True)
            return [Cleared(self._clock(), tuple(each.id for each in effect.versions))]

        return self._told(tell)

    def refresh(self, effect: Refresh) -> Iterable[Any]:
        """Publish small topics again, blobs too where the broker forgot, the index last."""
        spoiled: list[Any] = []

        def tell() -> Iterable[Any]:
            for version in effect.versions:
                try:
                    self._mend(version)
                except FileDamaged as error:
                    spoiled.append(self._spoiled(version, error))
                else:
                    self._send(self._messages(version, with_blob=effect.blobs))
            self._send([_index_message(effect.text)])
            return [Refreshed(self._clock())]

        return [*self._told(tell), *spoiled]

    def _mend(self, version: Version) -> None:
        """Make sure that a version's file is whole; else take the copy that the broker kept.

        Raises:
            FileDamaged: there is no whole copy either.
        """
        try:
            self._files.check(version)
        except FileDamaged as error:
            copy = self._files.temporary()
            try:
                self._fetcher.fetch_payload(version.topic, COPY_TIMEOUT_S, copy)
            except (ChassisError, Refused):
                raise error from None
            self._files.restore(version, copy)
            get_logger().warning("model.restored", topic=version.topic, why=str(error))

    def _spoiled(self, version: Version, error: FileDamaged) -> Spoiled:
        return Spoiled(self._clock(), version.name, version.version, str(error))

    def _told(self, tell: Callable[[], Iterable[Any]]) -> Iterable[Any]:
        """Tell the broker something; if it cannot be told now, the core says so again later."""
        try:
            return tell()
        except (ChassisError, OSError) as error:
            return [Unsent(self._clock(), str(error))]

    def refuse(self, effect: Refuse) -> Iterable[Any]:
        """End this process; what made an earlier one end may be mended by now."""
        if effect.at >= self._since:
            self._session.on_fatal(effect.why)
        return ()

    def _messages(self, version: Version, *, with_blob: bool) -> Iterator[Publish]:
        path = self._files.path(version)
        if version.size <= INLINE_LIMIT:
            yield Publish(version.topic, path.read_bytes(), retain=True)
            return
        manifest = _manifest(version)
        if with_blob:
            yield from offer(manifest, path)
        yield manifest_message(version.topic, manifest, retain=True)

    def _send(self, messages: Iterable[Publish]) -> None:
        send_all(self._session, messages, SEND_TIMEOUT_S)

    def drop_incoming(self, effect: DropIncoming) -> Iterable[Any]:
        """Delete a refused file."""
        self._files.drop(effect.file)
        return ()

    def tidy(self, effect: Tidy) -> Iterable[Any]:
        """Delete what an earlier process left."""
        self._files.tidy(effect.keep, effect.before)
        return ()


def _manifest(version: Version) -> Manifest:
    return Manifest(owner=OWNER, sha256=version.sha256, size=version.size, chunk_bytes=CHUNK_BYTES)


def _index_message(text: str) -> Publish:
    return Publish(MODEL_INDEX.template, text.encode(), retain=True)
