"""Logs: a JSON object a line, with the trace it belongs to; and the runtime's lifecycle events as log lines."""

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from callboard.runtime import (
    Blocked,
    Crashed,
    DeadLettered,
    Escalated,
    Lifecycle,
    Overflowed,
    Refused,
    Restarted,
    current_context,
    described,
)

log = logging.getLogger("callboard.tree")


class JsonFormatter(logging.Formatter):
    """One line: time, level, logger, message, trace, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        context = current_context()
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if context is not None and context.traceparent:
            line["traceparent"] = context.traceparent
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(level: str, path: Path | None = None) -> None:
    """Log to stderr, or to a file. Libraries speak only of what is wrong."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr) if path is None else logging.FileHandler(path)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("callboard").setLevel(level.upper())
    # Each reports a broker that is away again and again; we say it once. Faust logs in the name of our subclasses too.
    for noisy in ("aiokafka", "faust", "mode", "callboard.streams.driver"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def watch(event: Lifecycle) -> None:
    """Log what an operator wants to know of the tree. Messages are named by type: their fields may be secret."""
    match event:
        case Crashed():
            what = f" on {event.message}" if event.message else ""
            log.error("%s crashed%s: %s", event.actor, what, described(event.error), exc_info=event.error)
        case Escalated():
            log.error("%s gave up: %s", event.actor, described(event.error))
        case Blocked():
            took = event.milliseconds
            log.warning(
                "%s held up the event loop for %d ms on %s, at %s", event.actor, took, event.message, event.where
            )
        case Restarted():
            log.warning("%s restarted, %d times so far", event.actor, event.restarts)
        case DeadLettered() | Overflowed():
            log.warning("%s: %s of %s", event.actor, type(event).__name__.lower(), type(event.message).__name__)
        case Refused():
            log.warning("%s refused %s: %s", event.actor, type(event.message).__name__, described(event.error))
        case _:
            log.debug("%s %s", event.actor, type(event).__name__.lower())
