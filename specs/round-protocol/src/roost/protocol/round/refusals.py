"""Refusals of the round protocol (numbers 3xx)."""

from typing import Final

from roost.wire.refusal import Refusal

# Starts
ROUND_REUSED: Final = Refusal(301, "round_reused", "Use a new round_id; the first start stands.")
BAD_POLICY: Final = Refusal(302, "bad_policy", "Correct the round's policy and use a new id.")
UNKNOWN_MODEL: Final = Refusal(303, "unknown_model", "Use a model_uri that the index lists.")
UNKNOWN_PARTICIPANT: Final = Refusal(
    304, "unknown_participant", "Invite proplets that have been seen."
)
UNREACHABLE_QUORUM: Final = Refusal(
    305, "quorum_unreachable", "See the verdicts, then start a new round."
)
TIMED_OUT: Final = Refusal(306, "timed_out", "Give more time, or ask fewer updates.")
BAD_EXPERIMENT: Final = Refusal(307, "bad_experiment", "Correct it and use a new experiment_id.")
UNKNOWN_LINEAGE: Final = Refusal(
    308,
    "unknown_lineage",
    "Go on from it with `roost model adopt NAME`, or begin a new model with "
    "`roost model init --name NEW`; then use a new round_id.",
)

# Updates
DUPLICATE: Final = Refusal(320, "duplicate", "Nothing to do: the first update counts.")
NOT_INVITED: Final = Refusal(321, "not_invited", "Invite the proplet in the round's start.")
WRONG_BASE: Final = Refusal(322, "wrong_base", "Train on the round's model_uri.")
WRONG_SHAPE: Final = Refusal(323, "wrong_shape", "Return the base model's tensors, no others.")
NOT_FINITE: Final = Refusal(324, "not_finite", "Lower the learning rate, look at the data.")
BAD_SAMPLES: Final = Refusal(325, "bad_samples", "Send 1 to max_samples as num_samples.")
UPDATE_TOO_LARGE: Final = Refusal(326, "update_too_large", "Return parameters of the base's size.")
LATE: Final = Refusal(327, "late", "Nothing to do: the round was closed.")
UNKNOWN_ROUND: Final = Refusal(328, "unknown_round", "Start the round first.")
BAD_SOURCE: Final = Refusal(329, "bad_source", "Only the manager writes here.")
WRONG_ROUND: Final = Refusal(330, "wrong_round", "Send the round_id of the topic.")
BAD_UPDATE: Final = Refusal(331, "bad_update", "Send the form that the specification shows.")
BLOB_UNAVAILABLE: Final = Refusal(332, "blob_unavailable", "Publish the blob's chunks again.")
OTHER_LAUNCH: Final = Refusal(
    333, "other_launch", "Use a new round_id: manager and coordinator got different starts."
)
AVERAGE_FAILED: Final = Refusal(334, "average_failed", "See the coordinator's log.")

# Models
BAD_MODEL: Final = Refusal(340, "bad_model", "Send the form that the specification shows.")
VERSION_TAKEN: Final = Refusal(341, "version_taken", "A version is never overwritten.")
VERSION_GAP: Final = Refusal(342, "version_gap", "Publish the next version.")
WRONG_DIGEST: Final = Refusal(343, "wrong_digest", "Publish again what the digest was made of.")
WRONG_PARENT: Final = Refusal(344, "wrong_parent", "Name a version that the index lists.")
UNKNOWN_VERSION: Final = Refusal(345, "unknown_version", "Name a version that the index lists.")

ROUND_REFUSALS: Final = (
    ROUND_REUSED,
    BAD_POLICY,
    UNKNOWN_MODEL,
    UNKNOWN_PARTICIPANT,
    UNREACHABLE_QUORUM,
    TIMED_OUT,
    BAD_EXPERIMENT,
    UNKNOWN_LINEAGE,
    DUPLICATE,
    NOT_INVITED,
    WRONG_BASE,
    WRONG_SHAPE,
    NOT_FINITE,
    BAD_SAMPLES,
    UPDATE_TOO_LARGE,
    LATE,
    UNKNOWN_ROUND,
    BAD_SOURCE,
    WRONG_ROUND,
    BAD_UPDATE,
    BLOB_UNAVAILABLE,
    OTHER_LAUNCH,
    AVERAGE_FAILED,
    BAD_MODEL,
    VERSION_TAKEN,
    VERSION_GAP,
    WRONG_DIGEST,
    WRONG_PARENT,
    UNKNOWN_VERSION,
)
