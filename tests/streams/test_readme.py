"""The examples of the page for producers, run as they stand on a running system; kcat's is read as it would be sent."""

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kit.people import UserFactory
from kit.running import Up

from callboard.actors.analytics.events import ActivityRecorded
from callboard.http.api.cloud_events import BINARY
from callboard.ops.departments import OURS, declared_by
from callboard.streams.cloudevents import Record, decode
from callboard.streams.event_parts import BATCH, STRUCTURED
from callboard.streams.signatures import EventSigner
from callboard.streams.topics import TOPICS

PAGE = (Path(__file__).parents[2] / "streams" / "README.md").read_text(encoding="utf-8")
EVENTS = tuple(declared_by(OURS).events)
CARRIED = [topic for event in EVENTS for topic in event.topics]
LIVES = {None: "ever", 3600: "1 h", 300: "5 min", 1800: "30 min", 6 * 3600: "6 h"}
BY_HTTP = PAGE.partition("## Over HTTP\n")[2].partition("\n## ")[0]
BY_KAFKA = PAGE.partition("## A producer\n")[2].partition("\n## ")[0]


def example(language: str, section: str = BY_HTTP) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def environment(up: Up) -> dict[str, str]:
    """A key that may send what the examples send."""
    admin = UserFactory(up.facts).person("admin")
    given = {"name": f"Page {secrets.token_hex(6)}", "types": ["activity.recorded"], "sources": ["/my-site"]}
    key = up.call("POST", "/producer-keys", token=admin.token, body=given).data["key"]
    return os.environ | {"API": up.api, "KEY": key}


def run(environment: dict[str, str], *command: str) -> str:
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_curl_sends_an_event_and_a_batch(environment: dict[str, str]) -> None:
    said = run(environment, "bash", "-euc", example("sh"))
    assert said.count('"accepted"') == 3


def test_python_sends_an_event(environment: dict[str, str]) -> None:
    assert run(environment, sys.executable, "-c", example("python")).startswith("202 ")


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java here")
def test_java_sends_an_event(environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "Producer.java"
    program.write_text(example("java"), encoding="utf-8")
    assert run(environment, "java", "-XX:TieredStopAtLevel=1", str(program)).startswith("202 ")


def test_kcats_record_is_an_event() -> None:
    value, _, command = example("sh", BY_KAFKA).partition("|\n")
    words = shlex.split(command.replace("\\\n", " "))
    headers = [words[at + 1].partition("=") for at, word in enumerate(words) if word == "-H"]
    sent = tuple((name, text.encode()) for name, _, text in headers)
    topic = words[words.index("-t") + 1].removeprefix("callboard.")
    body = shlex.split(value)[1].encode()
    event = decode(Record(topic, 0, 0, datetime.now(UTC), b"a", body, sent), EventSigner(["a secret"])).event
    assert isinstance(event, ActivityRecorded)
    assert words[words.index("-k") + 1] == event.subject_id


def test_the_page_names_every_media_type_that_is_read() -> None:
    assert [kind for kind in (BINARY, STRUCTURED, BATCH) if f"`{kind}`" not in BY_HTTP] == []


def test_the_page_has_each_topic_with_its_key_and_deadline() -> None:
    rows = dict(
        re.findall(
            r"^\| `([\w.]+)` \| ([^|]+\|[^|]+\|[^|]+\|[^|]+) \|$", PAGE.partition("## The envelope")[0], re.MULTILINE
        )
    )
    ours = [topic for topic in TOPICS.values() if topic.name in rows or topic in CARRIED]
    assert {topic.name for topic in ours} == rows.keys()
    for topic in ours:
        key, _, life, may = (cell.strip() for cell in rows[topic.name].split("|"))
        assert key == topic.key
        assert life == LIVES[topic.deadline_s]
        is_open = any(topic in event.topics and event.open_to_producers for event in EVENTS)
        assert may == ("write" if is_open else "read")
