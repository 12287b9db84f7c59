"""The queue for operators: by HTTP and by the command line, on a running product; and its metrics."""

import json
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from running import Command, Up, one_up

from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_monitor import JobDepths, KindDepth
from callboard.ops.job_metrics import JobCollector
from callboard.ops.metrics import Metrics


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with one_up() as held:
        yield held


def test_schedules_and_kinds_are_listed_and_changed_over_http(up: Up) -> None:
    (schedule,) = up.look("/ops/v1/schedules")
    assert (schedule["name"], schedule["cron"], schedule["enabled"]) == ("retention", "0 * * * *", True)
    kinds = {each["kind"] for each in up.look("/ops/v1/job-kinds")}
    assert {"email_request", "export", "retention"} <= kinds


def test_the_commands_work_on_the_running_servers(up: Up) -> None:
    def jobs(*arguments: str, status: int = 0) -> str:
        command = Command("jobs", *arguments, "--data-dir", str(up.data))
        assert command.wait() == status, command.errors
        return command.output

    jobs("pause", "retention")
    jobs("run", "retention")
    (line,) = jobs("list", "--kind", "retention", "--json").splitlines()
    assert json.loads(line)["state"] == "waiting"
    jobs("cancel", "9999999", status=1)


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
