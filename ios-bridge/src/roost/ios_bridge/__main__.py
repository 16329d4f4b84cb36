"""``python -m roost.ios_bridge``: the bridge as one process, configured by the environment."""

import sys
import uuid
from typing import Final

from roost.chassis.effects import Publish
from roost.chassis.service import Context, Wiring, load_settings, serve
from roost.ios_bridge.adapters.background import Ticker, WebServer, bind
from roost.ios_bridge.adapters.decode import decode, orders, subscriptions
from roost.ios_bridge.adapters.files import Shelf, Tray
from roost.ios_bridge.adapters.mqtt import MqttTransport
from roost.ios_bridge.adapters.outputs import Outputs
from roost.ios_bridge.adapters.pipe import Pipes
from roost.ios_bridge.adapters.prepare import Preparer
from roost.ios_bridge.adapters.questions import Questions
from roost.ios_bridge.adapters.web import Web
from roost.ios_bridge.core.bridge import BridgeCore
from roost.ios_bridge.core.effects import Answer, Cut, Discard, Prepare, SendOutputs
from roost.ios_bridge.settings import BridgeSettings
from roost.protocol.phone import topics
from roost.protocol.phone.messages import BridgeCard, BridgeStatus

NAME: Final = "ios-bridge"
_MB: Final = 1024 * 1024
_WORKERS: Final = 16


def goodbye(card: BridgeCard) -> Publish:
    """Return the card that says offline: the last will, and a clean end's last word."""
    offline = card.model_copy(update={"status": BridgeStatus.OFFLINE})
    return Publish(topics.CARD.template, offline.encode(), retain=True, durable=False)


def build(settings: BridgeSettings, boot_id: str, context: Context) -> Wiring:
    """Put the bridge's parts together."""
    listening = bind(settings)
    url = settings.url(listening.getsockname()[1])
    card = BridgeCard(status=BridgeStatus.ONLINE, boot_id=boot_id, url=url)
    transport = MqttTransport(context.session, context.fetcher)
    shelf = Shelf(settings.state_dir / "files", settings.files_max_mb * _MB)
    tray = Tray(settings.state_dir / "outputs")
    shelf.sweep()
    tray.sweep()
    questions = Questions(context.post, boot_id)
    password = settings.phone_password
    secret = None if password is None else password.get_secret_value()
    pipes = Pipes(settings, questions, context.clock, (settings.phone_username, secret))
    web = Web(
        questions,
        context.post,
        context.clock,
        shelf,
        tray,
        pipes,
        settings.topic_prefix,
        settings.output_max_mb * _MB,
    )
    preparer = Preparer(
        shelf, transport, context.clock, settings.fetch_timeout_s, settings.file_images
    )
    outputs = Outputs(tray, transport, context.clock)
    return Wiring(
        core=BridgeCore(card),
        decode=decode,
        subscriptions=subscriptions(owntracks=settings.owntracks),
        orders=orders(),
        performers={
            Prepare: preparer.prepare,
            SendOutputs: outputs.send,
            Discard: outputs.discard,
            Cut: lambda effect: pipes.cut(effect.device),
            Answer: questions.answer,
        },
        workers=_WORKERS,
        background=(
            WebServer(web.application(), settings, listening),
            Ticker(context.session, goodbye(card), context.clock, context.post),
        ),
    )


def main() -> int:
    """Run the bridge until it is told to end."""
    settings = load_settings(BridgeSettings)
    boot_id = uuid.uuid4().hex
    card = BridgeCard(status=BridgeStatus.ONLINE, boot_id=boot_id)
    return serve(
        NAME, settings, lambda context: build(settings, boot_id, context), will=goodbye(card)
    )


if __name__ == "__main__":
    sys.exit(main())
