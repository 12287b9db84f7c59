"""Dead letters on the running system: from Kafka to `callboard dlq` and the operator plane."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from kit.commands import run_command
from kit.running import Answer, Command, Up, request, until

HEADERS = [("ce_id", b"1"), ("ce_source", b"/t"), ("ce_type", b"activity.recorded"), ("ce_specversion", b"1.0")]
DEAD_JOB = (
    "insert into dead_jobs (job_id, kind, version, priority, attempts, postponed, max_attempts, unique_active, "
    "payload, reason, error, created_at) values (nextval('job_leases') + 2000000, 'retention', 1, 2, 3, 0, 3, false, "
    "'{\"rule\": \"sessions\"}', $1, 'broken', now()) returning job_id"
)


def dlq(up: Up, *words: str, status: int = 0) -> str:
    said = run_command("dlq", *words, up=up)
    assert said.status == status, said.errors
    return said.output if status == 0 else said.errors


def rows(up: Up, query: str, *arguments: Any) -> list[Any]:
    async def run() -> list[Any]:
        connection = await asyncpg.connect(up.facts["DATABASE_URL"])
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    return asyncio.run(run())


def change(up: Up, action: str, body: Any) -> Answer:
    return request("POST", f"{up.operators}/ops/v1/dead-letters/{action}", body=body)


@pytest.fixture
def poison(up: Up) -> dict[str, Any]:
    """The letter of a record that no consumer can read."""
    key = uuid4().hex
    shown = up.look("/ops/v1/config")

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=shown["KAFKA_BROKERS"]) as producer:
            topic = f"{shown['TOPIC_PREFIX']}.activity.v1"
            await producer.send_and_wait(topic, value=b'{"metric": 7}', key=key.encode(), headers=HEADERS)

    asyncio.run(send())
    return until("the letter", lambda: found(up, key))


def found(up: Up, key: str) -> Any:
    listed = up.look("/ops/v1/dead-letters?limit=100&source=record&name=activity.v1")
    return next((each for each in listed if each["key"] == key), None)


def test_a_poison_record_is_listed_shown_replayed_until_it_is_dropped_and_all_is_audited(
    up: Up, poison: dict[str, Any]
) -> None:
    letter_id = poison["id"]
    apart = Command("dlq", "list", "--reason", "invalid", "--json", "--data-dir", str(up.data))  # with its own imports
    assert apart.wait() == 0, apart.errors
    listed = [json.loads(line) for line in apart.output.splitlines()]
    assert letter_id in [each["id"] for each in listed]
    assert letter_id in dlq(up, "list", "--source", "record")
    shown = dlq(up, "show", letter_id)
    for line in ('value: {"metric": 7}', "header ce_source: /t", "topic: activity.v1", "event_id: 1", "replays: 0"):
        assert line in shown
    assert dlq(up, "replay", letter_id) == "1 replayed\n"
    again = until("it is dead again", lambda: (each := found(up, poison["key"])) and each["replays"] == 1 and each)
    assert (again["id"], again["reason"], again["attempts"]) == (letter_id, "invalid", 2)
    assert change(up, "drop", {"ids": [letter_id]}).data == {"found": 1, "changed": 1}
    assert request("GET", f"{up.operators}/ops/v1/dead-letters/{letter_id}").code == "DEAD_LETTERS_NOT_FOUND_001"
    assert "There is no such dead letter" in dlq(up, "replay", letter_id, status=1)
    query = "select action, actor, user_agent from audit_log where detail->>'id' = $1 order by audit_id"
    audited = rows(up, query, letter_id.partition(":")[2])
    assert [(row["action"], row["actor"]) for row in audited] == [
        ("dead_letter.replayed", "operator"),
        ("dead_letter.dropped", "operator"),
    ]
    assert audited[0]["user_agent"].startswith("callboard, uid ")


def test_jobs_are_replayed_and_dropped_by_filter_and_by_id(up: Up) -> None:
    reason = f"broken {uuid4().hex}"
    ids = [f"job:{rows(up, DEAD_JOB, reason)[0]['job_id']}" for _ in range(4)]
    chosen = {"source": "job", "name": "retention", "reason": reason}
    assert change(up, "replay", {**chosen, "most": 1, "per_second": 100.0}).data == {"found": 1, "changed": 1}
    assert [each["state"] for each in (up.look(f"/ops/v1/dead-letters/{ids[0]}"),)] == ["replayed"]
    assert change(up, "replay", {"ids": ids[:2]}).data == {"found": 2, "changed": 1}
    assert dlq(up, "drop", "--source", "job", "--reason", reason, "--json") == '{"found":2,"changed":2}\n'
    assert dlq(up, "replay", *ids) == "0 replayed; 4 did not wait any more\n"
    states = [each["state"] for each in up.look(f"/ops/v1/dead-letters?reason={reason.replace(' ', '%20')}&all=true")]
    assert states == ["dropped", "dropped", "replayed", "replayed"]


def test_one_letter_is_replayed_and_another_dropped_by_their_paths(up: Up) -> None:
    reason = f"broken {uuid4().hex}"
    first, second = (f"{up.operators}/ops/v1/dead-letters/job:{rows(up, DEAD_JOB, reason)[0]['job_id']}" for _ in "ab")
    for method, url, state in (("POST", f"{first}/replay", "replayed"), ("DELETE", second, "dropped")):
        assert [request(method, url).data for _ in "ab"] == [{"found": 1, "changed": 1}, {"found": 1, "changed": 0}]
        assert request("GET", url.removesuffix("/replay")).data["state"] == state
        unknown = url.replace("job:", "job:9")
        assert request(method, unknown).code == "DEAD_LETTERS_NOT_FOUND_001"


@pytest.mark.parametrize("path", ["dead-letters", "dead-jobs"])
def test_a_time_without_a_zone_is_refused(up: Up, path: str) -> None:
    asked = f"{up.operators}/ops/v1/{path}?since=2026-01-01T00:00:00"
    assert [request("GET", f"{asked}{zone}").status for zone in ("", "Z")] == [400, 200]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "mail"},
        {"ids": []},
        {"ids": ["job:1"], "source": "job"},
        {"source": "mail"},
        {"source": "job", "most": 0},
        {"source": "job", "most": 10_000},
        {"source": "job", "per_second": 0},
        {"source": "job", "per_second": 5e-324},
        {"source": "job", "since": "yesterday"},
        {"ids": ["job:1"] * 1000},
    ],
    ids=str,
)
def test_a_change_without_a_clear_selection_is_refused(up: Up, body: Any) -> None:
    assert change(up, "replay", body).status == 400


@pytest.mark.parametrize("words", [("replay",), ("drop",), ("replay", "job:1", "--source", "job")], ids=str)
def test_a_command_without_a_clear_selection_is_refused(up: Up, words: tuple[str, ...]) -> None:
    assert "give either ids, or a filter with --source" in dlq(up, *words, status=2)
