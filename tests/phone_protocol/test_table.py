"""The phone protocol's topic table and what its messages promise."""

from roost.protocol.phone.messages import PhoneReportStatus
from roost.protocol.phone.topics import TOPICS


def test_nothing_between_phone_and_bridge_is_retained() -> None:
    """A phone that comes back finds no order of long ago (PHONE-003)."""
    between = [topic for topic in TOPICS if topic.template.startswith("ios/")]
    assert len(between) == 4
    assert not any(topic.retained for topic in between)
    for topic in between:
        ends = {"up": (("phone",), ("bridge",)), "down": (("bridge",), ("phone",))}
        assert (topic.writers, topic.readers) == ends[topic.template.split("/")[2]]


def test_final_reports() -> None:
    """After a success or a failure nothing follows (PHONE-001)."""
    assert [each for each in PhoneReportStatus if each.final] == ["succeeded", "failed"]
