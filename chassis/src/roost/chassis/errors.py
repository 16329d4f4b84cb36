"""The error tree of the chassis; drawn in the package's docstring."""


class ChassisError(Exception):
    """Something outside went wrong; the message says what, to what, and what to do."""


class BrokerRefused(ChassisError):  # noqa: N818 - names an outcome
    """The broker turned the connection or a publish down."""


class FetchTimeout(ChassisError):  # noqa: N818 - names an outcome
    """A retained topic or a blob's chunk did not come in time."""


class BrokerAway(FetchTimeout):
    """There is no connection to the broker; once there is one, the same may succeed."""


class BlobCorrupt(ChassisError):  # noqa: N818 - names an outcome
    """A blob's bytes do not have the digest of its manifest."""


class StateLocked(ChassisError):  # noqa: N818 - names an outcome
    """Another process uses the state folder."""


class StateDamaged(ChassisError):  # noqa: N818 - names an outcome
    """The state folder's file cannot be read."""


class StateNewer(ChassisError):  # noqa: N818 - names an outcome
    """The state folder was written by a newer Roost."""


class TrustUnusable(ChassisError):  # noqa: N818 - names what cannot be used
    """A file that says whom to trust, or who we are, cannot be used."""
