"""Logs: structlog events named ``noun.verb_past``, for people or as JSON lines."""

import contextlib
import logging
import sys
from typing import Any, Final

import structlog

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(service: str, level: str, log_format: str) -> None:
    """Set the process's logs up; lines go to standard error and name the service."""
    renderer: Any = structlog.processors.JSONRenderer()
    exception_text = [structlog.processors.format_exc_info]
    if log_format == "console":
        exception_text = []
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            # Plain: a traceback with local variables would show private data.
            exception_formatter=structlog.dev.plain_traceback,
        )

    def name_service(_logger: Any, _method: str, event: Any) -> Any:
        event.setdefault("service", service)
        return event

    structlog.configure(
        processors=[
            name_service,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *exception_text,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=True,
    )


class _StandardError:
    """Writes lines to whatever standard error is now; it may be replaced while loggers live."""

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):  # a log on a full disk ends nobody
            print(message, file=sys.stderr, flush=True)  # noqa: T201 - this is where logs go

    debug = info = warning = error = critical = exception = msg


def get_logger(**bound: Any) -> Any:
    """Return a logger with these fields bound."""
    return structlog.get_logger(**bound)
