"""Logs: one JSON object a line, with its trace; and the runtime's lifecycle events as log lines.

A line has `timestamp`, `level`, `logger` and `message`; within a trace `trace_id` and `span_id`; and of `extra=` its
`user_id`, `email`, `action`, `duration_ms` and `context` (`ip_address`, `user_agent`), and in the audit log `actor`,
`actor_id` and `detail`. Redaction is its last step, so that no caller can forget it.
"""

import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import msgspec

from callboard.actors.errors import ErrorKind, Problem
from callboard.ops.redaction import redact, redact_text
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
# Of `extra`, in this order.
FIELDS = ("trace_id", "user_id", "email", "action", "duration_ms", "context", "actor", "actor_id", "detail")
LIBRARIES = ("aiokafka", "faust", "mode", "callboard.streams.faust_transport")


class JsonFormatter(logging.Formatter):
    """One line: the fields above, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter. A message whose arguments do not fit is logged unformatted."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - whatever a caller has passed, the line is written
            message = f"{record.msg} (its arguments do not fit: {type(error).__name__})"
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact_text(message),
        }
        context = current_context()
        if context is not None and context.traceparent:
            _, line["trace_id"], line["span_id"], *_ = context.traceparent.split("-")
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                line[name] = redact(value)
        if record.exc_info:
            line["exception"] = redact_text(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


def configure(
    level: str, path: Path | None = None, *, debug: bool = False, file_bytes: int = 10 << 20, files: int = 5
) -> None:
    """Log to stderr, or to a file, which is renamed when it is full: `path.1` is the newest of `files` older ones.
    See `set_level`.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if path is not None:
        handler = RotatingFileHandler(path, maxBytes=file_bytes, backupCount=files, encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    logging.raiseExceptions = False  # a line that cannot be written is lost: it must not cause two more
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    set_level(level, debug=debug)


def set_level(level: str, *, debug: bool = False) -> None:
    """Log our lines from this level on; libraries log warnings and errors only, unless `debug`."""
    logging.getLogger().setLevel(logging.INFO if debug else logging.WARNING)
    logging.getLogger("callboard").setLevel(logging.DEBUG if debug else level.upper())
    logging.getLogger("callboard.audit").setLevel(logging.INFO)  # security events, at any level of the other logs
    # Each reports an unavailable broker again and again; we log it once. Faust's loggers include those of our
    # subclasses.
    for noisy in LIBRARIES:
        logging.getLogger(noisy).setLevel(logging.INFO if debug else logging.CRITICAL)


def silence(*libraries: str) -> None:
    """Write nothing of these: a command has one line for its error."""
    for library in libraries:
        logging.getLogger(library).addHandler(logging.NullHandler())


def warn(warnings: Iterable[str]) -> None:
    """Log settings that are probably mistakes."""
    for warning in warnings:
        logging.getLogger("callboard.config").warning("%s", warning)


def watch(event: Lifecycle) -> None:
    """Log the tree's events for operators. Messages are named by type: their fields may be secret."""
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
        case Refused(error=Problem(code=code)) if code.kind is ErrorKind.UNAVAILABLE:
            # A server is unavailable, which is logged once; periodic work finds it so each second.
            log.debug("%s put off %s: %s", event.actor, type(event.message).__name__, code.name)
        case Refused():
            log.warning("%s refused %s: %s", event.actor, type(event.message).__name__, described(event.error))
        case _:
            log.debug("%s %s", event.actor, type(event).__name__.lower())
