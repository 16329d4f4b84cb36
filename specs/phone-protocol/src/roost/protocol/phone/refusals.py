"""Refusals of the phone protocol (numbers 4xx)."""

from typing import Final

from roost.wire.refusal import Refusal

UNKNOWN_TOKEN: Final = Refusal(
    401, "unknown_token", "Ask for a new invitation: a token is good once, and not for long."
)
DEVICE_TAKEN: Final = Refusal(
    402, "device_taken", "Invite the phone under another id, or revoke the one that has it."
)
UNKNOWN_PHONE: Final = Refusal(403, "unknown_phone", "Pair the phone again.")
NOT_WANTED: Final = Refusal(404, "not_wanted", "Drop it: the order no longer names it.")
TOO_MANY_INVITES: Final = Refusal(405, "too_many_invites", "Wait until open invitations expire.")

PHONE_REFUSALS: Final = (
    UNKNOWN_TOKEN,
    DEVICE_TAKEN,
    UNKNOWN_PHONE,
    NOT_WANTED,
    TOO_MANY_INVITES,
)
