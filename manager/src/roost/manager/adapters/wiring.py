"""Puts the manager together."""

from roost.chassis.service import Background, Context, Wiring
from roost.manager.adapters.connection import Login
from roost.manager.adapters.decode import CONTROL, decode
from roost.manager.adapters.forwarder import Forwarder
from roost.manager.adapters.launches import LaunchSubscriptions
from roost.manager.adapters.workloads import WorkloadsFolder
from roost.manager.bindings import Bindings
from roost.manager.core.events import ApplyBindings, BindingsRead, ForwardDropped, ReadBindings
from roost.manager.core.manager import ManagerCore
from roost.manager.settings import ManagerSettings


class _Beside(Background):
    """Hands the bindings to the core, and runs the forwarder beside it."""

    def __init__(self, context: Context, bindings: Bindings, forwarder: Forwarder) -> None:
        self._context, self._bindings, self._forwarder = context, bindings, forwarder

    def start(self) -> None:
        self._context.post(BindingsRead(self._context.clock(), self._bindings))
        self._forwarder.start()

    def stop(self) -> None:
        self._forwarder.stop()


def login(settings: ManagerSettings) -> Login:
    """Return user name and password of the forwarding connection: one user per connection."""
    username = settings.forwarder_username
    if username is None and settings.username is not None:
        username = f"{settings.username}-fwd"
    secret = settings.forwarder_password or settings.password
    return Login(username, secret.get_secret_value() if secret else None)


def build(context: Context, settings: ManagerSettings, bindings: Bindings) -> Wiring:
    """Return the manager's parts."""
    forwarder = Forwarder(
        settings,
        login(settings),
        rng=context.rng,
        dropped=lambda name, why: context.post(ForwardDropped(context.clock(), name, why)),
        # Looked up when it is needed: the process sets it after this.
        fatal=lambda reason: context.session.on_fatal(reason),  # noqa: PLW0108
    )
    # Before anything connects: what waits in a session must find its rule, or it is dropped.
    forwarder.apply([(rule.source, rule.to) for rule in bindings.forwards])
    topics = [rule.topic for rule in bindings.launches]
    launches = LaunchSubscriptions(context.session, context.take_orders, topics)
    folder = WorkloadsFolder(settings.workloads, bindings, launches, forwarder, context.clock)
    control = [topic.filter for topic in CONTROL if not topic.retained]
    return Wiring(
        core=ManagerCore(),
        decode=decode,
        subscriptions=[*(topic.filter for topic in CONTROL), *topics],
        orders=[*control, *topics],
        performers={ReadBindings: folder.read, ApplyBindings: folder.apply},
        background=(_Beside(context, bindings, forwarder),),
    )
