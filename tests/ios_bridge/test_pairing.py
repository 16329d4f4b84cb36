"""Invitations, passwords, revocation; lists and limits of many phones."""

from roost.chassis.core import TimerFired
from roost.chassis.effects import Publish
from roost.ios_bridge.core import bridge, pairing
from roost.ios_bridge.core.draft import INVITE, LINK, PHONE, TASK
from roost.ios_bridge.core.effects import Answer, Cut
from roost.ios_bridge.core.events import (
    EntryAsked,
    InviteArrived,
    OperatorRefused,
    PairAsked,
    RevokeArrived,
    Tick,
)
from roost.protocol.phone.messages import InvitePhone, PhoneReportStatus
from roost.wire.refusal import MALFORMED

from .world import SHA, notes, reported, start, stop, told, world

TOKEN, SECRET = "b" * 64, "c" * 64


def invite(device: str = "phone", token: str = TOKEN, **more: float) -> InvitePhone:
    """Return an invitation."""
    return InvitePhone(invite_id=f"i-{device}", token_sha256=token, device=device, **more)


def answers(decision: object) -> list[Answer]:
    """Return what a decision answers over HTTP."""
    return [each for each in decision.effects if isinstance(each, Answer)]  # type: ignore[attr-defined]


def test_a_token_is_good_once() -> None:
    """The first who shows it becomes the phone; nobody else does (PHONE-051)."""
    made = world()
    made.do(InviteArrived(0.0, invite()))
    assert made.said("phones/state")[-1]["invites"] == [{"invite_id": "i-phone", "device": "phone"}]
    decision = made.do(PairAsked(1.0, "q1", TOKEN, SECRET))
    assert answers(decision) == [Answer("q1", "phone")]
    assert made.get(PHONE, "phone").secret_sha256 == SECRET
    decision = made.do(PairAsked(2.0, "q2", TOKEN, SECRET))
    assert answers(decision) == [Answer("q2", "", "unknown_token")]
    assert ("pairing.refused", "unknown_token") in notes(decision)
    assert made.said("phones/state")[-1]["phones"][0]["presence"] == "asleep"


def test_a_token_is_good_for_a_short_time() -> None:
    """It expires as it says, and after an hour at the latest (PHONE-051)."""
    made = world()
    made.do(InviteArrived(0.0, invite(expires_s=10.0)))
    assert answers(made.do(PairAsked(10.0, "q", TOKEN, SECRET)))[0].refusal == "unknown_token"
    made.do(InviteArrived(0.0, invite(expires_s=604_800.0)))
    made.do(Tick(3599.0))
    assert made.all(INVITE) != {}
    made.do(Tick(3600.0))
    assert made.all(INVITE) == {}


def test_a_wrong_token_uses_up_nothing() -> None:
    """Guessing does not spoil an invitation (PHONE-051)."""
    made = world()
    made.do(InviteArrived(0.0, invite()))
    made.do(PairAsked(1.0, "q1", "d" * 64, SECRET))
    assert answers(made.do(PairAsked(2.0, "q2", TOKEN, SECRET))) == [Answer("q2", "phone")]


def test_a_new_invitation_of_a_device_replaces_the_old_one() -> None:
    """Two tokens for one device would be two phones (PHONE-051)."""
    made = world()
    made.do(InviteArrived(0.0, invite()))
    again = InvitePhone(invite_id="other", token_sha256="d" * 64, device="phone")
    made.do(InviteArrived(1.0, again))
    assert list(made.all(INVITE)) == ["other"]


def test_invitations_that_are_refused_are_shown() -> None:
    """A device that is a phone already, and too many at once (PHONE-052)."""
    made = world("phone")
    made.do(InviteArrived(1.0, invite()))
    assert made.said("phones/state")[-1]["refusals"] == {"device_taken": 1}
    for number in range(pairing.MAX_INVITES + 2):
        made.do(InviteArrived(1.0, invite(f"p{number}", f"{number:064x}")))
    assert made.said("phones/state")[-1]["refusals"] == {"device_taken": 1, "too_many_invites": 2}
    made.do(OperatorRefused(2.0, MALFORMED, "no JSON"))
    assert made.said("phones/state")[-1]["last_refusal"].startswith("malformed (101): no JSON")


def test_only_digests_are_kept() -> None:
    """Neither token nor password is in any state or message (PHONE-050)."""
    made = world("phone")
    made.do(told(1.0))
    assert made.get(PHONE, "phone").secret_sha256 == SHA
    assert not [each for each in made.published if SHA.encode() in each.payload]


def test_who_comes_in() -> None:
    """The right password of a phone, and nothing else (PHONE-050)."""
    made = world("phone")
    asked = {
        None: EntryAsked(1.0, "q", "phone", SHA),
        "unknown_phone": EntryAsked(1.0, "q", "phone", SECRET),
    }
    for refusal, question in asked.items():
        assert answers(made.do(question)) == [Answer("q", "phone", refusal)]
    assert answers(made.do(EntryAsked(1.0, "q", "x", SHA))) == [Answer("q", "x", "unknown_phone")]


def test_what_may_be_handed_in() -> None:
    """The outputs of the attempt that the phone works on, and no others (PHONE-042)."""
    made = world("phone")
    made.do(told(1.0))
    made.run_until_ready("phone", "t", 1.0)

    def ask(*output: object) -> str | None:
        question = EntryAsked(2.0, "q", "phone", SHA, output)  # type: ignore[arg-type]
        return answers(made.do(question))[0].refusal

    assert ask("t", 1, "f") is None
    for wrong in (("t", 2, "f"), ("t", 1, "g"), ("u", 1, "f")):
        assert ask(*wrong) == "not_wanted"
    made.do(reported("t", PhoneReportStatus.SUCCEEDED))
    assert ask("t", 1, "f") == "not_wanted"
    made.do(stop("t"))
    assert ask("t", 1, "f") == "not_wanted"


def test_revoking_a_phone() -> None:
    """Its tasks fail, its topics are cleared, its connection is cut, it is gone (PHONE-053)."""
    made = world("phone", "other")
    made.do(told(1.0))
    made.do(start("t1"))
    made.do(start("t2"))
    made.do(stop("t2"))
    made.do(start("o", device="other"))
    made.published.clear()
    decision = made.do(RevokeArrived(6.0, "phone"))
    (report,) = made.said("phone/tasks/t1/report")
    assert (report["reason"], "revoked" in report["message"]) == ("internal", True)
    cleared = {each.topic for each in made.published if each.retain and not each.payload}
    assert cleared == {"proplets/phone/presence", "proplets/phone/telemetry"}
    assert Cut("phone") in decision.effects
    assert list(made.all(TASK)) == ["other/o"]
    assert made.get(PHONE, "phone") is None
    assert made.get(LINK, "phone") is None
    assert made.said("phones/state")[-1]["phones"][0]["device"] == "other"
    made.do(RevokeArrived(7.0, "phone"))
    assert made.said("phones/state")[-1]["refusals"] == {"unknown_phone": 1}


def test_a_timer_of_a_phone_that_is_gone() -> None:
    """A timer that was due when its phone was revoked does nothing (PHONE-053)."""
    made = world()
    decision = made.do(TimerFired(9.0, "deadline/phone/t"))
    assert (decision.puts, notes(decision)) == ({}, {("event.ignored", "deadline")})


def test_a_restart_takes_phones_for_asleep() -> None:
    """Phones and tasks outlive the process; who is awake says so itself (PHONE-036)."""
    made = world("phone", "other")
    made.do(told(1.0))
    made.run_until_ready("phone", "t", 1.0)
    made.restart(10.0)
    assert made.said("phone/presence")[-1]["status"] == "asleep"
    made.published.clear()
    made.do(told(11.0))
    assert made.order("phone")["task"]["task_id"] == "t"


def test_two_phones_may_hold_attempts_of_one_task() -> None:
    """They do not get in each other's way (PHONE-034)."""
    made = world("a", "b")
    made.do(told(1.0, device="a"))
    made.do(told(1.0, device="b"))
    made.do(start("t", attempt=1, device="a"))
    made.do(start("t", attempt=2, device="b"))
    made.do(stop("t", attempt=1, device="a"))
    assert (made.phase("a", "t"), made.phase("b", "t")) == ("stopped", "preparing")


def test_a_phone_holds_so_many_tasks_and_no_more() -> None:
    """One more fails at once with a reason (PHONE-030)."""
    made = world("phone")
    for number in range(bridge.MAX_HELD):
        made.do(start(f"t{number}"))
    made.published.clear()
    decision = made.do(start("more"))
    assert ("start.ignored", "full") in notes(decision)
    assert made.said("more/report")[-1]["reason"] == "internal"
    assert made.phase("phone", "more") is None
    made.do(start("t0", attempt=2))
    assert isinstance(made.published[0], Publish)
