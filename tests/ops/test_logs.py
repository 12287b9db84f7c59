"""Logs: a JSON object a line, with the trace, and never a message's fields."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from kit.logging_state import kept_logging
from kit.running import PASSWORD, Up

from callboard.ops import logs
from callboard.runtime import (
    Blocked,
    Context,
    Crashed,
    DeadLettered,
    Escalated,
    Message,
    Overflowed,
    Refused,
    Restarted,
    Started,
    use_context,
)

SECRET = "s3cret-of-a-user"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Deliver(Message, frozen=True):
    token: str


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the logger of the package writes, as `configure` has it written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logger = logging.getLogger("callboard")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.propagate = propagate


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_whatever_the_message_holds(written: io.StringIO) -> None:
    logging.getLogger("callboard.test").warning('a "quoted"\nline %s', "of two")
    (line,) = lines(written)
    assert line["message"] == 'a "quoted"\nline of two'
    assert (line["level"], line["logger"]) == ("WARNING", "callboard.test")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
    assert "trace_id" not in line


def test_a_line_has_the_trace_it_belongs_to(written: io.StringIO) -> None:
    with use_context(Context(traceparent=TRACE)):
        logging.getLogger("callboard.test").info("here")
    (line,) = lines(written)
    assert (line["trace_id"], line["span_id"]) == tuple(TRACE.split("-")[1:3])


def test_a_line_has_the_fields_that_it_is_given_and_no_others(written: io.StringIO) -> None:
    context = {"ip_address": "192.0.2.1", "user_agent": "curl/8"}
    extra = {
        "user_id": UUID(int=7),
        "email": "user@example.com",
        "action": "login",
        "duration_ms": 1.5,
        "context": context,
    }
    logging.getLogger("callboard.test").info("logged in", extra=extra | {"else": 1})
    (line,) = lines(written)
    assert line.pop("timestamp")
    assert line == {
        "level": "INFO",
        "logger": "callboard.test",
        "message": "logged in",
        "user_id": str(UUID(int=7)),
        "email": "u***@example.com",
        "action": "login",
        "duration_ms": 1.5,
        "context": context,
    }


def test_an_exception_is_a_field_of_its_line(written: io.StringIO) -> None:
    try:
        int("why")
    except ValueError:
        logging.getLogger("callboard.test").exception("it failed")
    (line,) = lines(written)
    assert "ValueError: invalid literal" in line["exception"]


@pytest.mark.parametrize(
    ("event", "level", "said"),
    [
        (Crashed("callboard/mail/0", "Deliver", OSError("away")), "error", "callboard/mail/0 crashed on Deliver"),
        (Escalated("callboard/mail", OSError("away")), "error", "callboard/mail gave up"),
        (Restarted("callboard/mail/0", 2), "warning", "callboard/mail/0 restarted, 2 times so far"),
        (DeadLettered("callboard/mail/0", Deliver(SECRET)), "warning", "deadlettered of Deliver"),
        (Overflowed("callboard/mail/0", Deliver(SECRET)), "warning", "overflowed of Deliver"),
        (Refused("callboard/mail/0", Deliver(SECRET), ValueError("no")), "warning", "refused Deliver"),
        (
            Blocked("callboard/mail/0", "Deliver", 150, "mail.py:7"),
            "warning",
            "callboard/mail/0 held up the event loop for 150 ms on Deliver, at mail.py:7",
        ),
        (Started("callboard/mail/0"), "debug", "callboard/mail/0 started"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_trees_events_are_lines_that_name_messages_by_type_alone(
    written: io.StringIO, event: Any, level: str, said: str
) -> None:
    logs.watch(event)
    (line,) = lines(written)
    assert line["level"] == level.upper()
    assert said in line["message"]
    assert SECRET not in written.getvalue()


def test_configuration_writes_to_a_file_or_to_stderr_and_keeps_libraries_quiet(tmp_path: Path) -> None:
    with kept_logging():
        logs.configure("info", tmp_path / "log")
        logging.getLogger("callboard.x").info("kept")
        logging.getLogger("callboard.x").debug("dropped")
        logging.getLogger("aiohttp").info("dropped")
        logging.getLogger("aiokafka").error("dropped")
        logging.getLogger("some.library").warning("kept")
        assert [json.loads(line)["message"] for line in (tmp_path / "log").read_text().splitlines()] == ["kept"] * 2
        logs.configure("error")
        (handler,) = logging.getLogger().handlers
        assert isinstance(handler, logging.StreamHandler)
        assert handler.stream is sys.stderr


def test_nothing_of_a_user_stands_in_the_log_of_a_running_system(up: Up) -> None:
    account = up.join()
    up.call("POST", "/auth/login", body={"email": account["email"], "password": PASSWORD + "x"})
    up.call("POST", "/content", token=account["token"], body={"title": "x", "body": SECRET})
    said = (up.data / "logs" / "callboard.log").read_text()
    assert up.log()
    for private in (PASSWORD, account["token"], account["email"], SECRET):
        assert private not in said
    assert all({"timestamp", "level", "logger", "message"} <= line.keys() for line in up.log())
