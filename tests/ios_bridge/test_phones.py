"""Sleep, readings, orders, presence: what a phone says and what it is told."""

import re
from pathlib import Path

from roost.chassis.core import Connected, Disconnected
from roost.ios_bridge.core.draft import LINK, PHONE
from roost.ios_bridge.core.events import PhoneSlept, Prepared, ReadingCame, Tick
from roost.ios_bridge.core.phones import GONE_S
from roost.ios_bridge.core.states import Phase
from roost.protocol.phone.messages import PhoneReportStatus, Reading
from roost.protocol.task.messages import Resources

from .world import CHARGING, IMAGE, notes, reported, start, stop, told, world

ORDER = "/down/order"


def test_a_phone_wakes_sleeps_and_is_gone() -> None:
    """Online while it speaks, asleep after 30 s, offline after a day (PHONE-037)."""
    made = world("phone")
    made.do(told(10.0, resources=Resources(cpus=6, memory_mb=4096, arch="arm64"), mounts=("a",)))
    card = made.said("/presence")[-1]
    assert (card["status"], card["mounts"]) == ("online", ["a"])
    assert card["resources"]["arch"] == "arm64"
    made.do(Tick(40.0))
    assert made.said("/presence") == []
    made.do(Tick(40.1))
    assert made.said("/presence")[-1]["status"] == "asleep"
    made.do(Tick(10.0 + GONE_S - 1))
    assert made.said("/presence") == []
    made.do(Tick(10.0 + GONE_S))
    assert made.said("/presence")[-1]["status"] == "offline"
    made.do(told(10.0 + GONE_S + 1))
    assert made.said("/presence")[-1]["status"] == "online"


def test_the_last_will_puts_it_to_sleep() -> None:
    """A connection that ends is sleep, unless it is not the present one (PHONE-038)."""
    made = world("phone")
    made.do(told(10.0, connection_id="c2"))
    late = made.do(PhoneSlept(11.0, "phone", "c1"))
    assert ("sleep.ignored", "older_connection") in notes(late)
    assert made.get(LINK, "phone").awake
    made.do(PhoneSlept(12.0, "phone", "c2"))
    assert made.said("/presence")[-1]["status"] == "asleep"
    assert made.get(PHONE, "phone").seen == 10.0
    again = made.do(PhoneSlept(13.0, "phone", "c2"))
    assert again.puts == {}


def test_a_sleeping_phones_tasks_wait() -> None:
    """A start for a phone that sleeps is accepted, and runs when it wakes (PHONE-030)."""
    made = world("phone")
    made.do(start("t"))
    assert made.phase("phone", "t") is Phase.QUEUED
    assert made.said("/report")[-1]["status"] == "accepted"
    made.do(told(20.0))
    assert made.phase("phone", "t") is Phase.PREPARING


def test_a_phone_that_has_just_fallen_asleep_gets_no_turn() -> None:
    """Its readings are fresh and good, and nobody is there to work (PHONE-031)."""
    made = world("phone")
    made.do(told(1.0))
    made.do(PhoneSlept(2.0, "phone", "c1"))
    assert made.get(LINK, "phone").verdict.readiness.begins
    made.do(start("t", at=3.0))
    assert made.phase("phone", "t") is Phase.QUEUED


def test_asleep_in_the_middle_of_a_task() -> None:
    """The task is kept; the phone gets its order when it is back (PHONE-012, PHONE-030)."""
    made = world("phone")
    made.do(told(1.0))
    made.run_until_ready("phone", "t", 1.0)
    made.do(reported("t", PhoneReportStatus.RUNNING))
    made.do(PhoneSlept(4.0, "phone", "c1"))
    assert made.said("/presence")[-1]["running"] == [{"task_id": "t", "attempt": 1}]
    made.published.clear()
    made.do(told(10.0, connection_id="c2"))
    order = made.order("phone")
    assert (order["task"]["task_id"], order["task"]["remaining_s"]) == ("t", 51.0)


def test_one_task_at_a_time_in_order() -> None:
    """A phone gets one task at a time, in the order of their starts (PHONE-031)."""
    made = world("phone")
    made.do(told(1.0))
    for name in ("t1", "t2", "t3"):
        made.do(start(name))
    phases = [made.phase("phone", name) for name in ("t1", "t2", "t3")]
    assert phases == [Phase.PREPARING, Phase.QUEUED, Phase.QUEUED]
    made.do(stop("t1"))
    assert made.phase("phone", "t2") is Phase.PREPARING


def test_a_task_whose_time_is_over_gets_no_turn() -> None:
    """Its deadline is due; the next one is taken (PHONE-035)."""
    made = world("phone")
    made.do(start("t1", remaining_s=5.0))
    made.do(start("t2"))
    made.do(told(7.0))
    assert made.phase("phone", "t1") is Phase.QUEUED
    assert made.phase("phone", "t2") is Phase.PREPARING


def test_standby_begins_nothing_and_lets_go_on() -> None:
    """What has not begun waits, what runs goes on (PHONE-021)."""
    idle = Reading(on_power=False, battery=40.0)
    made = world("phone")
    made.do(told(1.0, reading=idle))
    made.do(start("t"))
    assert made.phase("phone", "t") is Phase.QUEUED
    made.do(told(2.0))
    made.do(Prepared(2.0, "phone", "t", 1, IMAGE, ()))
    assert made.order("phone")["task"]["task_id"] == "t"
    made.do(told(2.5, reading=idle))
    assert "task" not in made.order("phone")
    made.do(told(3.0))
    made.do(reported("t", PhoneReportStatus.RUNNING))
    assert made.order("phone")["task"]["task_id"] == "t"
    standing = made.get(LINK, "phone").sent
    made.do(told(4.0, reading=idle, order_id=standing.order_id))
    assert made.get(LINK, "phone").sent == standing


def test_a_low_battery_pauses_what_runs() -> None:
    """The order says to rest, and to go on when there is enough again (PHONE-021, PHONE-022)."""
    made = world("phone")
    made.do(told(1.0))
    made.run_until_ready("phone", "t", 1.0)
    made.do(reported("t", PhoneReportStatus.RUNNING))
    made.do(told(5.0, reading=Reading(battery=19.0)))
    order = made.order("phone")
    assert (order["pause"], order["task"]["task_id"]) == ("low_battery", "t")
    made.do(told(6.0, reading=Reading(battery=24.0)))
    assert made.get(LINK, "phone").sent.pause == "low_battery"
    made.do(told(7.0, reading=Reading(battery=25.0)))
    order = made.order("phone")
    assert "pause" not in order
    assert order["task"]["task_id"] == "t"


def test_readings_from_elsewhere_count() -> None:
    """What another program knows of the phone decides as well (PHONE-024)."""
    made = world("phone")
    made.do(told(1.0, reading=Reading()))
    made.do(start("t"))
    assert made.phase("phone", "t") is Phase.QUEUED
    made.do(ReadingCame(2.0, "phone", Reading(on_power=True)))
    assert made.phase("phone", "t") is Phase.PREPARING


def test_old_readings_are_unknown() -> None:
    """After 15 minutes without a reading nothing begins (PHONE-023)."""
    made = world("phone")
    made.do(told(0.0))
    made.do(told(890.0, reading=Reading()))
    made.do(Tick(899.0))
    assert made.get(LINK, "phone").verdict.readiness.begins
    made.do(told(900.0, reading=Reading()))
    assert made.said("phones/state")[-1]["phones"][0]["readiness"] == "standby"


def test_an_order_is_repeated_until_it_is_followed() -> None:
    """A state that names another order is answered with the one that stands (PHONE-012)."""
    made = world("phone")
    made.do(told(1.0))
    first = made.order("phone")
    made.do(told(2.0))
    assert made.order("phone") == first
    made.do(told(3.0, order_id=first["order_id"]))
    assert made.said(ORDER) == []


def test_news_of_another_attempt_is_answered_with_the_order() -> None:
    """So a phone that works on something old drops it (PHONE-013)."""
    made = world("phone")
    made.do(told(1.0))
    made.said(ORDER)
    made.do(reported("old", PhoneReportStatus.RUNNING))
    assert "task" not in made.order("phone")


def test_a_report_before_any_state_gets_an_order_too() -> None:
    """After the bridge's restart a report may come first (PHONE-013)."""
    made = world("phone")
    made.do(reported("old", PhoneReportStatus.SUCCEEDED))
    assert "task" not in made.order("phone")


def test_orders_expire_and_are_not_retained() -> None:
    """An order that nobody took in half a minute is nobody's (PHONE-003, PHONE-012)."""
    made = world("phone")
    decision = made.do(told(1.0))
    (order,) = [each for each in decision.effects if getattr(each, "topic", "").endswith(ORDER)]
    assert (order.expiry_s, order.retain) == (30.0, False)


def test_telemetry_is_the_proplets() -> None:
    """Each state of a phone becomes telemetry, with its readiness (PHONE-039)."""
    made = world("phone")
    made.do(told(1.0, reading=CHARGING))
    (message,) = made.said("proplets/phone/telemetry")
    assert (message["battery"], message["on_power"]) == (80.0, True)
    assert (message["readiness"], message["running"]) == ("eligible", 0)
    assert "load" not in message


def test_after_a_reconnect_everything_is_said_again() -> None:
    """Card, list, presence; a phone that is awake gets its order again (PHONE-036, PHONE-060)."""
    made = world("phone")
    made.do(told(1.0))
    made.do(Disconnected(2.0))
    made.published.clear()
    made.do(told(3.0))
    assert made.published == []
    made.do(Connected(4.0, 2))
    topics = {each.topic for each in made.published}
    assert topics == {
        "phones/bridge", "phones/state", "proplets/phone/presence", "ios/phone/down/order",
    }  # fmt: skip


def test_a_task_that_ends_while_its_order_is_repeated() -> None:
    """An order whose task was stopped in the same breath names none (PHONE-012)."""
    made = world("phone")
    made.do(told(1.0))
    made.run_until_ready("phone", "t", 1.0)
    made.do(stop("t"))
    made.do(start("t", attempt=2, at=6.0))
    made.do(told(7.0))
    assert "task" not in made.order("phone")


def test_silence_of_a_phone_that_is_not_paired() -> None:
    """Whoever was not paired is not heard (PHONE-050)."""
    made = world()
    for event in (told(1.0), start("t"), reported("t", PhoneReportStatus.RUNNING)):
        decision = made.do(event)
        assert ("event.ignored", "unknown_phone") in notes(decision)
        assert decision.puts == {}


def test_the_page_names_every_phase() -> None:
    """The specification's table of a task has each phase and no other (PHONE-030)."""
    page = (Path(__file__).parents[2] / "specs" / "phone.md").read_text()
    table = page.split("| a task is | when |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [str(each) for each in Phase]
