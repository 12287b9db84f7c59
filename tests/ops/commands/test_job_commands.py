"""The queue for operators: by HTTP and by the command line, on a running product; and its metrics."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from kit.commands import run_command
from kit.running import Answer, Command, Up, one_up, request
from prometheus_client import generate_latest

from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_monitor import JobDepths, KindDepth
from callboard.ops.job_metrics import JobCollector
from callboard.ops.metrics import Metrics

TOKEN = "a-token-for-operators"
DEAD = (
    "insert into dead_jobs (job_id, kind, version, priority, attempts, postponed, max_attempts, unique_active, "
    "payload, reason, error, created_at) values (nextval('job_leases') + 1000000, 'retention', 1, 2, 3, 0, 3, false, "
    "'{\"rule\": \"sessions\"}', 'broken', 'broken', now()) returning job_id"
)
WAITING = (
    "insert into jobs (kind, priority, run_at, max_attempts, payload) "
    "values ('retention', 2, now() + interval '1 hour', 3, '{\"rule\": \"sessions\"}') returning job_id"
)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with one_up({"OPS_TOKEN": TOKEN, "OPS_WRONG_TOKENS_PER_MINUTE": "1000000"}) as held:
        yield held


@pytest.fixture(scope="module")
def admin(up: Up) -> str:
    """A token of the API's; at the operator plane it is nobody's."""
    return up.people()[0]


def rows(up: Up, query: str, *arguments: Any) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(up.facts["DATABASE_URL"])
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    return asyncio.run(run())


def made(up: Up, statement: str) -> int:
    """A job that no process starts by itself, or a dead letter; its id."""
    return int(rows(up, statement)[0]["job_id"])


def change(up: Up, path: str, body: Any, token: str = TOKEN, method: str = "PATCH") -> Answer:
    return request(method, f"{up.operators}/ops/v1{path}", token=token, body=body)


def audited(up: Up, since: int) -> list[tuple[str, str, Any]]:
    """What the audit log has gained: the action, who, and what of."""
    found = rows(up, "select action, actor, detail from audit_log where audit_id > $1 order by audit_id", since)
    return [(row["action"], row["actor"], json.loads(row["detail"])) for row in found]


def last_audit(up: Up) -> int:
    return int(rows(up, "select coalesce(max(audit_id), 0) as id from audit_log")[0]["id"])


def test_the_commands_work_on_the_running_servers(up: Up) -> None:
    def jobs(*arguments: str, status: int = 0) -> str:
        said = run_command("jobs", *arguments, up=up)
        assert said.status == status, said.errors
        return said.output

    apart = Command("jobs", "pause", "retention", "--data-dir", str(up.data))  # with its own imports
    assert apart.wait() == 0, apart.errors
    jobs("run", "retention")
    (line,) = jobs("list", "--kind", "retention", "--json").splitlines()
    assert json.loads(line)["state"] == "waiting"
    jobs("cancel", "9999999", status=1)
    jobs("resume", "retention")


# How the thing is made, the path, the change, what it answers, and its line in the audit log.
CHANGES: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "cancel": (WAITING, "/jobs/{id}", {"action": "cancel"}, "cancelled", "job.cancelled"),
    "retry now": (WAITING, "/jobs/{id}", {"action": "retry"}, "retried", "job.changed"),
    "priority": (WAITING, "/jobs/{id}", {"priority": "security"}, "changed", "job.changed"),
    "replay": (DEAD, "/jobs/{id}", {"action": "replay"}, "replayed", "job.replayed"),
    "discard": (DEAD, "/jobs/{id}", {"action": "discard"}, "discarded", "job.discarded"),
    "pause": ("", "/job-kinds/export", {"paused": True}, "", "job.kind_changed"),
    "resume": ("", "/job-kinds/export", {"paused": False}, "", "job.kind_changed"),
    "limit": ("", "/job-kinds/export", {"max_running": 3}, "", "job.kind_changed"),
    "no limit of the operator's": ("", "/job-kinds/export", {"max_running": None}, "", "job.kind_changed"),
    "disable": ("", "/schedules/retention", {"enabled": False}, "", "job.schedule_changed"),
    "enable": ("", "/schedules/retention", {"enabled": True}, "", "job.schedule_changed"),
    "run": ("", "/schedules/retention", {"run": True}, "", "job.schedule_changed"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_over_http_needs_the_operators_token_is_made_once_and_has_a_line_in_the_audit_log(
    up: Up, admin: str, name: str
) -> None:
    statement, path, body, result, action = CHANGES[name]
    path = path.format(id=made(up, statement) if statement else 0)
    since = last_audit(up)
    for token in ("", admin, TOKEN[:-1]):
        assert change(up, path, body, token).status == 401
    assert [each for each in audited(up, since) if each[0].startswith("job.")] == []
    answer = change(up, path, body)
    assert answer.status == 200, answer
    assert not result or answer.data["result"] == result
    ours = [each for each in audited(up, since) if each[0].startswith("job.")]
    assert [(each[0], each[1]) for each in ours] == [(action, "operator")]


def test_what_was_changed_is_so(up: Up) -> None:
    waiting, dead = made(up, WAITING), made(up, DEAD)
    change(up, f"/jobs/{waiting}", {"priority": "security"})
    assert up.look(f"/ops/v1/jobs/{waiting}")["priority"] == "security"
    change(up, f"/jobs/{waiting}", {"action": "cancel"})
    assert rows(up, "select from jobs where job_id = $1", waiting) == []
    new = change(up, f"/jobs/{dead}", {"action": "replay"}).data["job_id"]
    assert up.look(f"/ops/v1/jobs/{dead}")["replayed_as"] == new
    for setting, value in (("paused", True), ("max_running", 2), ("paused", False), ("max_running", 0)):
        (kind,) = change(up, "/job-kinds/export", {setting: value}).data
        assert kind[setting] == value
    (schedule,) = change(up, "/schedules/retention", {"enabled": False}).data
    assert (schedule["enabled"], schedule.get("next_due")) == (False, None)
    change(up, "/schedules/retention", {"enabled": True})
    letters = [made(up, DEAD), made(up, DEAD)]
    body = {"kind": "retention", "reason": "broken", "most": 10}
    assert change(up, "/dead-jobs/replay", body, method="POST").data["replayed"] >= len(letters)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/jobs/99999999", {"action": "cancel"}, 404),
        ("/jobs/9999999999999999999", {"action": "cancel"}, 404),
        ("/jobs/-1", {"action": "retry"}, 404),
        ("/jobs/1", {}, 400),
        ("/jobs/1", {"action": "retry", "priority": "bulk"}, 400),
        ("/jobs/1", {"action": "explode"}, 400),
        ("/jobs/1", {"priority": 0}, 400),
        ("/job-kinds/nothing", {"paused": True}, 404),
        ("/job-kinds/export", {"max_running": -1}, 400),
        ("/job-kinds/export", {"max_running": 2**40}, 400),
        ("/schedules/nothing", {"run": True}, 404),
    ],
)
def test_what_is_not_there_or_makes_no_sense_is_refused_and_changes_nothing(
    up: Up, path: str, body: Any, status: int
) -> None:
    since = last_audit(up)
    assert change(up, path, body).status == status
    assert [each for each in audited(up, since) if each[0].startswith("job.")] == []


def test_a_discarded_letter_is_not_replayed_and_a_running_job_is_not_retried(up: Up) -> None:
    dead = made(up, DEAD)
    assert change(up, f"/jobs/{dead}", {"action": "discard"}).status == 200
    assert change(up, f"/jobs/{dead}", {"action": "replay"}).code == "JOBS_NOT_DEAD_003"
    running = made(up, WAITING)
    rows(
        up,
        "update jobs set state = 'running', lease_id = nextval('job_leases'), lease_until = now() + interval '1 hour' "
        "where job_id = $1",
        running,
    )
    assert change(up, f"/jobs/{running}", {"action": "retry"}).code == "JOBS_NOT_WAITING_002"
    assert change(up, f"/jobs/{running}", {"action": "cancel"}).data["result"] == "requested"
    rows(up, "delete from jobs where job_id = $1", running)


def test_schedules_and_kinds_are_listed(up: Up) -> None:
    schedules = {each["name"]: each["cron"] for each in up.look("/ops/v1/schedules", TOKEN)}
    assert schedules.items() >= {("retention", "0 * * * *"), ("close_hours", "0 * * * *")}
    kinds = {each["kind"] for each in up.look("/ops/v1/job-kinds", TOKEN)}
    assert {"email_request", "export", "mail", "retention"} <= kinds


async def test_ready_names_the_kind_whose_oldest_due_job_is_over_its_alarm_and_no_other() -> None:
    depths = JobDepths()
    depths.alarms = {"mail": 60.0, "export": 600.0}
    depths.kinds = {"mail": KindDepth(oldest_s=59.0), "export": KindDepth(oldest_s=599.0)}
    await depths.check()
    depths.kinds = {"mail": KindDepth(oldest_s=61.0), "other": KindDepth(oldest_s=601.0, unclaimed=True)}
    with pytest.raises(Problem) as caught:
        await depths.check()
    assert caught.value.code is SERVER_UNAVAILABLE
    assert caught.value.message == "jobs wait: mail for 61 s, other for 601 s"


def test_metrics_have_every_kind_and_no_ids() -> None:
    counts, depths = JobCounts(), JobDepths()
    counts.add("mail", "attempts", 3)
    counts.end("mail", "done", 2)
    counts.spend("mail", "waited", 0.5)
    depths.kinds = {"mail": KindDepth(waiting=10_001, oldest_s=4.5), "old": KindDepth(waiting=2, unclaimed=True)}
    depths.retention = {"sessions": 7.0}
    metrics = Metrics()
    metrics.registry.register(JobCollector(counts, depths))
    page = generate_latest(metrics.registry).decode()
    for line in (
        'callboard_job_attempts_total{kind="mail"} 3.0',
        'callboard_job_outcomes_total{kind="mail",outcome="done"} 2.0',
        'callboard_job_waited_seconds_total{kind="mail"} 0.5',
        'callboard_jobs_waiting{kind="mail"} 10001.0',
        'callboard_jobs_oldest_seconds{kind="mail"} 4.5',
        'callboard_jobs_unclaimed{kind="old"} 2.0',
        'callboard_retention_oldest_seconds{rule="sessions"} 7.0',
    ):
        assert line in page
