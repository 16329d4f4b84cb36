"""`python -m roost.cli.broker.serve FILE.toml` runs the embedded broker until a signal ends it."""

from __future__ import annotations

import importlib
import logging
import sys


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record tells of a broken connection; who only looks at the port is no news."""
    text = record.getMessage()
    return "error=" in text and "connect packet" not in text


def main() -> None:
    """Serve the configuration named by the first argument until a signal comes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Its tracing spans arrive as ERROR records, one for every packet; of connections only the
    # errors are news.
    for chatter in ("rumqttd", "tracing"):
        logging.getLogger(chatter).setLevel(logging.CRITICAL)
    connections = logging.getLogger("rumqttd.server.broker")
    connections.setLevel(logging.ERROR)
    connections.addFilter(is_news)
    native = importlib.import_module("iotcore.iotcore")
    broker = native.IotCoreBroker(config_path=sys.argv[1])
    broker.check_ports()
    broker.run_forever()


if __name__ == "__main__":
    main()
