"""The manager's process: ``python -m roost.manager``."""

import sys

from roost.chassis.service import EXIT_USAGE, load_settings, serve
from roost.manager.adapters.wiring import build
from roost.manager.bindings import BindingsInvalid, load
from roost.manager.settings import ManagerSettings


def main() -> int:
    """Run the manager until SIGTERM; return the exit code."""
    settings = load_settings(ManagerSettings)
    try:
        bindings = load(settings.workloads)
    except BindingsInvalid as error:
        sys.stderr.write(f"The workload bindings are refused:\n{error}\n")
        return EXIT_USAGE
    return serve("manager", settings, lambda context: build(context, settings, bindings))


if __name__ == "__main__":
    sys.exit(main())
