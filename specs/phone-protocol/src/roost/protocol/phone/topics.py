"""The topic table of the phone protocol: the only place with its topic strings."""

from typing import Final

from roost.protocol.phone.messages import (
    BridgeCard,
    InvitePhone,
    PhoneAsleep,
    PhoneOrder,
    PhoneReport,
    PhonesState,
    PhoneState,
    RevokePhone,
)
from roost.wire.topic import Topic

OPERATOR, BRIDGE, PHONE, ANYONE = "operator", "bridge", "phone", "anyone"

STATE: Final = Topic(
    "ios/{device}/up/state",
    PhoneState,
    (PHONE,),
    (BRIDGE,),
    retained=False,
    about="How a phone is, every 10 s while it is awake and at each change.",
)
REPORT: Final = Topic(
    "ios/{device}/up/report",
    PhoneReport,
    (PHONE,),
    (BRIDGE,),
    retained=False,
    about="News of the attempt that the order names.",
)
ASLEEP: Final = Topic(
    "ios/{device}/up/asleep",
    PhoneAsleep,
    (PHONE,),
    (BRIDGE,),
    retained=False,
    about="A connection ends; also its last will, delayed by 15 s.",
)
ORDER: Final = Topic(
    "ios/{device}/down/order",
    PhoneOrder,
    (BRIDGE,),
    (PHONE,),
    retained=False,
    about="All that the phone shall do now.",
)
INVITE: Final = Topic(
    "phones/invite",
    InvitePhone,
    (OPERATOR,),
    (BRIDGE,),
    retained=False,
    about="Let whoever has a token become a device, once.",
)
REVOKE: Final = Topic(
    "phones/{device}/revoke",
    RevokePhone,
    (OPERATOR,),
    (BRIDGE,),
    retained=False,
    about="Forget a device; an empty payload will do.",
)
PHONES: Final = Topic(
    "phones/state",
    PhonesState,
    (BRIDGE,),
    (ANYONE,),
    retained=True,
    about="All phones of the bridge, and open invitations.",
)
CARD: Final = Topic(
    "phones/bridge",
    BridgeCard,
    (BRIDGE,),
    (ANYONE,),
    retained=True,
    about="Whether the bridge is there and where, and its last will.",
)

TOPICS: Final = (STATE, REPORT, ASLEEP, ORDER, INVITE, REVOKE, PHONES, CARD)
