"""`python -m roost.cli.broker.serve FILE.toml` runs the embedded broker until a signal ends it."""

from __future__ import annotations

import importlib
import logging
import sys


def main() -> None:
    """Serve the configuration named by the first argument until a signal comes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Its tracing spans arrive as ERROR records, one for every packet; of connections only the
    # errors are news.
    for chatter in ("rumqttd", "tracing"):
        logging.getLogger(chatter).setLevel(logging.CRITICAL)
    connections = logging.getLogger("rumqttd.server.broker")
    connections.setLevel(logging.ERROR)
    connections.addFilter(lambda record: "error=" in record.getMessage())
    native = importlib.import_module("iotcore.iotcore")
    broker = native.IotCoreBroker(config_path=sys.argv[1])
    broker.check_ports()
    broker.run_forever()


if __name__ == "__main__":
    main()
