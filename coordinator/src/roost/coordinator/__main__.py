"""The coordinator's process: ``python -m roost.coordinator``."""

import itertools
import sys

from roost.chassis.service import Context, Wiring, load_settings, serve
from roost.coordinator.adapters.decode import SUBSCRIPTIONS, Decode
from roost.coordinator.adapters.models import Models
from roost.coordinator.adapters.performers import Performers
from roost.coordinator.adapters.spool import Spool
from roost.coordinator.core.desk import Desk
from roost.coordinator.core.facts import Keep
from roost.coordinator.settings import CoordinatorSettings


def build(settings: CoordinatorSettings, context: Context) -> Wiring:
    """Put the coordinator's parts together."""
    process, count = f"{context.rng.getrandbits(64):016x}", itertools.count()
    folder, clock = settings.state_dir, context.clock
    spool = Spool(folder / "spool", lambda: f"{process}-{next(count)}", clock)
    models = Models(folder / "models", clock)
    keep = Keep(settings.keep_rounds, settings.keep_updates, settings.outcome_expiry_s)
    performers = Performers(context.session, context.fetcher, spool, models, context.clock)
    return Wiring(
        core=Desk(keep),
        decode=Decode(spool),
        subscriptions=[row.filter for row in SUBSCRIPTIONS],
        orders=[row.filter for row in SUBSCRIPTIONS if not row.retained],
        performers=performers.table(),
        before_commit=spool.settle,
    )


def main() -> int:
    """Run the coordinator until it is told to end."""
    settings = load_settings(CoordinatorSettings)
    return serve("coordinator", settings, lambda context: build(settings, context))


if __name__ == "__main__":
    sys.exit(main())
