"""The model server's process: ``python -m roost.model_server``."""

import itertools
import sys

from roost.chassis.service import Context, Wiring, load_settings, serve
from roost.model_server.adapters.decode import SUBSCRIPTIONS, Decode
from roost.model_server.adapters.files import Files
from roost.model_server.adapters.performers import OWNER, Performers
from roost.model_server.core.shelf import Shelf
from roost.model_server.settings import ModelServerSettings


def build(settings: ModelServerSettings, context: Context) -> Wiring:
    """Put the model server's parts together."""
    process, count = f"{context.rng.getrandbits(64):016x}", itertools.count()
    files = Files(settings.state_dir, lambda: f"{process}-{next(count)}")
    performers = Performers(context.session, context.fetcher, files, context.clock)
    return Wiring(
        core=Shelf(settings.keep_versions),
        decode=Decode(files),
        subscriptions=[row.filter for row in SUBSCRIPTIONS],
        orders=[row.filter for row in SUBSCRIPTIONS if not row.retained],
        performers=performers.table(),
    )


def main() -> int:
    """Run the model server until it is told to end."""
    settings = load_settings(ModelServerSettings)
    return serve(OWNER, settings, lambda context: build(settings, context))


if __name__ == "__main__":
    sys.exit(main())
