"""``python -m roost.proplet``: one proplet as one process, configured by the environment."""

import sys
import uuid

from roost.chassis.effects import Publish
from roost.chassis.service import Context, Wiring, load_settings, serve
from roost.proplet.adapters.decode import decode, own_presence, subscriptions
from roost.proplet.adapters.device import PROTOCOLS, resources, runtimes
from roost.proplet.adapters.executor import Executor
from roost.proplet.adapters.folders import TaskFolders
from roost.proplet.adapters.images import ImageStore
from roost.proplet.adapters.mounts import find
from roost.proplet.adapters.mqtt import MqttTransport
from roost.proplet.adapters.oci import Registry
from roost.proplet.adapters.outputs import Outputs
from roost.proplet.adapters.sampler import Sampler
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest, Sweep
from roost.proplet.core.proplet import PropletCore
from roost.proplet.guest import ModuleCache
from roost.proplet.settings import PropletSettings
from roost.protocol.task import topics
from roost.protocol.task.messages import Presence, PresenceStatus

_MB = 1024 * 1024
_SPARE_WORKERS = 4


def card(settings: PropletSettings, boot_id: str) -> Presence:
    """Return this proplet's presence, as far as it never changes."""
    return Presence(
        proplet_id=settings.proplet_id,
        status=PresenceStatus.ONLINE,
        boot_id=boot_id,
        labels=settings.labels,
        resources=resources(),
        runtimes=runtimes(),
        protocols=PROTOCOLS,
        mounts=tuple(find(settings.data_dir)),
    )


def goodbye(online: Presence) -> Publish:
    """Return the presence that says offline: the last will, and a clean end's last word."""
    offline = online.model_copy(update={"status": PresenceStatus.OFFLINE})
    topic = topics.PRESENCE.format(proplet_id=online.proplet_id)
    return Publish(topic, offline.encode(), retain=True, durable=False)


def build(settings: PropletSettings, online: Presence, context: Context) -> Wiring:
    """Put a proplet's parts together."""
    transport = MqttTransport(context.session, context.fetcher)
    folders = TaskFolders(settings.state_dir / "tasks")
    timeout_s, max_bytes = settings.fetch_timeout_s, settings.images_max_mb * _MB
    registry = Registry(timeout_s, max_bytes, frozenset(settings.http_registries))
    images = ImageStore(
        settings.images, transport, registry, timeout_s, max_bytes, settings.file_images
    )
    modules = ModuleCache(settings.images, max_bytes)
    for cache in (images, modules):
        cache.sweep(shared=settings.images_dir is not None)
    executor = Executor(
        folders=folders,
        images=images,
        modules=modules,
        transport=transport,
        mounts=lambda: find(settings.data_dir),
        clock=context.clock,
        post=context.post,
        timeout_s=timeout_s,
    )
    outputs = Outputs(settings.proplet_id, folders, transport, context.clock)
    found = tuple(folders.all())
    sampler = Sampler(
        context.session,
        settings.proplet_id,
        goodbye(online),
        settings.telemetry_s,
        running=lambda: executor.running,
        mounts=lambda: find(settings.data_dir),
        clock=context.clock,
        post=context.post,
    )
    orders = subscriptions(settings.proplet_id)
    return Wiring(
        core=PropletCore(online, settings.slots),
        decode=decode,
        subscriptions=[*orders, own_presence(settings.proplet_id)],
        orders=orders,
        performers={
            Execute: executor.execute,
            StopGuest: executor.stop,
            SendOutputs: outputs.send,
            Discard: outputs.discard,
            Sweep: lambda effect: outputs.sweep(effect, found),
        },
        workers=2 * settings.slots + _SPARE_WORKERS,
        background=(sampler,),
    )


def main() -> int:
    """Run a proplet until it is told to end."""
    settings = load_settings(PropletSettings)
    online = card(settings, uuid.uuid4().hex)
    return serve(
        "proplet",
        settings,
        lambda context: build(settings, online, context),
        client_id=settings.proplet_id,
        will=goodbye(online),
    )


if __name__ == "__main__":
    sys.exit(main())
