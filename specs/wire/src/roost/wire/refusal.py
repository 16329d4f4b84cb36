"""Refusals: every way in which a payload from outside can be turned down.

Error tree of this package::

    Refused        a payload broke a rule; carries the numbered refusal and what broke it
"""

from dataclasses import dataclass
from typing import Final

MAX_DETAIL: Final = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """A numbered reason for turning a payload down, and what its sender can do.

    Attributes:
        code: The number, stable for ever. 1xx wire, 2xx tasks, 3xx a workload of its own.
        name: Snake case, for logs, metrics and tables.
        cure: One sentence that tells the sender what to do.
    """

    code: int
    name: str
    cure: str


class Refused(Exception):  # noqa: N818 - it names an outcome, not a malfunction
    """A payload was turned down.

    Attributes:
        refusal: Which rule was broken.
        detail: What broke it, with the culprit's name; at most ``MAX_DETAIL`` characters that
            can be written as UTF-8, whatever was in the payload.
    """

    def __init__(self, refusal: Refusal, detail: str) -> None:
        detail = presentable(detail)
        super().__init__(f"{refusal.name} ({refusal.code}): {detail}. {refusal.cure}")
        self.refusal = refusal
        self.detail = detail


def presentable(text: str) -> str:
    """Shorten a text that quotes a stranger's payload, and make it valid Unicode.

    Details are logged, stored and published on retained topics: names of megabytes, or half of a
    surrogate pair, must not get there (rule WIRE-060).
    """
    if len(text) > MAX_DETAIL:
        text = text[: MAX_DETAIL - 1] + "…"
    return text.encode(errors="replace").decode()


MALFORMED: Final = Refusal(101, "malformed", "Send the JSON object that the specification shows.")
TOO_LARGE: Final = Refusal(102, "too_large", "Send less, or send it as a blob with a manifest.")
NEWER_VERSION: Final = Refusal(103, "newer_version", "Update this side of Roost, or send v 1.")
RETAINED_ORDER: Final = Refusal(104, "retained_order", "Publish orders without the retain flag.")
BAD_TOPIC: Final = Refusal(105, "bad_topic", "Use ids of letters, digits, dot, dash, underscore.")

WIRE_REFUSALS: Final = (MALFORMED, TOO_LARGE, NEWER_VERSION, RETAINED_ORDER, BAD_TOPIC)
