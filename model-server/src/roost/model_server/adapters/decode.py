"""Messages to events; models are on disk when their event exists."""

from typing import Any, Final

from roost.chassis.received import Received
from roost.model_server.adapters.files import Files
from roost.model_server.core.state import (
    IndexKept,
    RoundTold,
    SubmissionOffered,
    SubmissionUnreadable,
)
from roost.protocol.round.messages import RoundState
from roost.protocol.round.topics import MODEL_INDEX, MODEL_PUBLISH, ROUND_STATE
from roost.wire.blob import MANIFEST_CONTENT_TYPE, Manifest
from roost.wire.refusal import RETAINED_ORDER, Refused

# Rounds' states come before requests, so that their bases are known.
SUBSCRIPTIONS: Final = (ROUND_STATE, MODEL_INDEX, MODEL_PUBLISH)


class Decode:
    """Turns messages into events."""

    def __init__(self, files: Files) -> None:
        """Keep models in this folder."""
        self._files = files

    def __call__(self, received: Received, at: float) -> Any:
        """Return the event that a message means, or None.

        Raises:
            Refused: a round's state cannot be read.
        """
        if received.topic == MODEL_PUBLISH.template:
            return self._publish(received, at)
        if received.topic == MODEL_INDEX.template:
            # What is not retained is this server's own, just published.
            return (
                IndexKept(at, received.payload.decode(errors="replace"))
                if received.retain
                else None
            )
        ids = ROUND_STATE.match(received.topic)
        return None if ids is None else _round_state(ids["round_id"], received, at)

    def _publish(self, received: Received, at: float) -> Any:
        if received.retain:
            return SubmissionUnreadable(at, RETAINED_ORDER, f"{received.topic} is retained")
        try:
            if received.content_type == MANIFEST_CONTENT_TYPE:
                return SubmissionOffered(at, Manifest.decode(received.payload))
            return self._files.take_in(received.payload, at)
        except Refused as error:
            return SubmissionUnreadable(at, error.refusal, error.detail)


def _round_state(round_id: str, received: Received, at: float) -> RoundTold:
    if not received.payload:
        return RoundTold(at, round_id, None)
    state = RoundState.decode(received.payload)
    return RoundTold(at, round_id, None if state.state.final else state.model_uri)
