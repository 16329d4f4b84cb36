"""What the core's effects do outside: fetch, average, publish, tidy. Each answers with events."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from roost.chassis.blobs import manifest_message, manifest_of, offer, withdraw
from roost.chassis.effects import Publish
from roost.chassis.errors import ChassisError
from roost.chassis.logs import get_logger
from roost.chassis.ports import SessionPort
from roost.chassis.transfer import send_all
from roost.chassis.trouble import passes
from roost.coordinator.adapters.models import Models
from roost.coordinator.adapters.spool import Spool
from roost.coordinator.core.effects import (
    Average,
    DropOutgoing,
    DropSpools,
    FetchModel,
    FetchUpdate,
    PublishModel,
    Tidy,
)
from roost.coordinator.core.events import (
    Averaged,
    AverageFailed,
    BaseRead,
    BaseUnavailable,
    UpdateArrived,
    UpdateUnreadable,
)
from roost.coordinator.ports import Fetcher
from roost.protocol.round.label import ModelLabel
from roost.protocol.round.refusals import AVERAGE_FAILED, BLOB_UNAVAILABLE
from roost.protocol.round.topics import MODEL_PUBLISH
from roost.wire.blob import INLINE_LIMIT
from roost.wire.refusal import Refused

FETCH_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 30.0
OWNER: Final = "coordinator"


class Performers:
    """The coordinator's effects on the world."""

    def __init__(
        self,
        session: SessionPort,
        fetcher: Fetcher,
        spool: Spool,
        models: Models,
        clock: Callable[[], float],
    ) -> None:
        """Use these parts."""
        self._session, self._fetcher = session, fetcher
        self._spool, self._models, self._clock = spool, models, clock

    def table(self) -> Mapping[type[Any], Callable[[Any], Iterable[Any] | None]]:
        """Return the function of each effect."""
        return {
            FetchModel: self.fetch_model,
            FetchUpdate: self.fetch_update,
            Average: self.average,
            PublishModel: self.publish_model,
            DropOutgoing: self.drop_outgoing,
            DropSpools: self.drop_spools,
            Tidy: self.tidy,
        }

    def fetch_model(self, effect: FetchModel) -> Iterable[Any]:
        """Have a model at hand and say what its updates must look like."""
        try:
            self._have(effect.for_id, effect.model_uri, effect.digest)
            found = self._models.describe(effect.digest)
        except (ChassisError, Refused, OSError) as error:
            return [BaseUnavailable(self._clock(), effect.for_id, str(error))]
        at, for_id = self._clock(), effect.for_id
        return [BaseRead(at, for_id, found.shapes, found.dtypes, found.summary)]

    def _have(self, for_id: str, model_uri: str, digest: str) -> None:
        if not self._models.has(digest):
            into = self._models.incoming(for_id)
            self._fetcher.fetch_payload(model_uri, FETCH_TIMEOUT_S, into)
            self._models.adopt(into, digest)

    def fetch_update(self, effect: FetchUpdate) -> Iterable[Any]:
        """Fetch a large update and take it in as if it had come whole."""
        round_id, sender, into = effect.round_id, effect.sender, self._spool.temporary()
        try:
            self._fetcher.fetch_blob(effect.manifest, FETCH_TIMEOUT_S, into)
            arrival = self._spool.take_in_file(round_id, sender, into)
        except ChassisError as error:
            at, detail = self._clock(), str(error)
            return [UpdateUnreadable(at, round_id, sender, BLOB_UNAVAILABLE, detail)]
        except Refused as error:
            at, refusal = self._clock(), error.refusal
            return [UpdateUnreadable(at, round_id, sender, refusal, error.detail)]
        finally:
            into.unlink(missing_ok=True)
        return [UpdateArrived(self._clock(), round_id, arrival)]

    def average(self, effect: Average) -> Iterable[Any]:
        """Average spooled updates in the order given."""
        paths = [self._spool.path(each.spool) for each in effect.updates]
        weights = [each.num_samples for each in effect.updates]
        try:
            self._have(effect.round_id, effect.model_uri, effect.base_digest)
            digest = self._models.average(effect.base_digest, paths, weights, effect.round_id)
        except Refused as error:
            return [AverageFailed(self._clock(), effect.round_id, error.refusal, error.detail)]
        except (ChassisError, OSError, ValueError) as error:
            if passes(error):
                raise  # a full disk fails no round: the runner tries again
            return [AverageFailed(self._clock(), effect.round_id, AVERAGE_FAILED, str(error))]
        return [Averaged(self._clock(), effect.round_id, digest)]

    def publish_model(self, effect: PublishModel) -> Iterable[Any]:
        """Send a model to the model server; what fails is sent again by the core's timer."""
        try:
            self._send_model(effect)
        except (ChassisError, OSError) as error:
            get_logger().warning("model.unsent", publish_id=effect.publish_id, why=str(error))
        return ()

    def _send_model(self, effect: PublishModel) -> None:
        label = ModelLabel(
            name=effect.name,
            version=effect.version,
            parent=effect.parent,
            publish_id=effect.publish_id,
            digest=effect.digest,
            metrics=dict(effect.metrics),
        )
        path = self._models.labelled(effect.digest, effect.publish_id, label)
        if path.stat().st_size <= INLINE_LIMIT:
            messages: Iterable[Publish] = [Publish(MODEL_PUBLISH.template, path.read_bytes())]
        else:
            manifest = manifest_of(OWNER, path)
            message = manifest_message(MODEL_PUBLISH.template, manifest)
            messages = itertools.chain(offer(manifest, path), [message])
        send_all(self._session, messages, SEND_TIMEOUT_S)

    def drop_outgoing(self, effect: DropOutgoing) -> Iterable[Any]:
        """Clear the labelled file and, if it went as a blob, its chunks."""
        path = self._models.outgoing(effect.publish_id)
        if path.exists():
            if path.stat().st_size > INLINE_LIMIT:
                send_all(self._session, withdraw(manifest_of(OWNER, path)), SEND_TIMEOUT_S)
            path.unlink()
        return ()

    def drop_spools(self, effect: DropSpools) -> Iterable[Any]:
        """Delete refused updates."""
        self._spool.drop(effect.spools)
        return ()

    def tidy(self, effect: Tidy) -> Iterable[Any]:
        """Delete what nothing needs any more."""
        self._spool.tidy(effect.rounds, effect.before, effect.spools)
        if effect.models is not None:
            self._models.tidy(effect.models, effect.before)
        return ()
