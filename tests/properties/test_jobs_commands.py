"""`callboard jobs`, each action, on a queue of its own."""

import json

import pytest
from kit.jobs import NOTE, Process, effect

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.errors import JOBS_KIND_UNKNOWN, JOBS_NOT_DEAD, JOBS_NOT_FOUND
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.ops.cli import CommandError, parser
from callboard.ops.commands import job_commands


async def test_every_action_does_and_says_what_it_has_done(database: Database) -> None:
    process = Process(database, (NOTE, effect))
    admin = JobAdmin(database, process.queue)

    async def run(*words: str) -> str:
        return await job_commands._act(admin, parser().parse_args(["jobs", *words]))

    first, second = await process.put("one", "two", delay_s=3600.0)
    assert len((await run("list", "--json")).splitlines()) == 2
    assert "waiting" in await run("list", "--kind", "note", "--after", str(first))
    await run("priority", str(first), "security")
    assert json.loads(await run("show", str(first)))["priority"] == "security"
    assert await run("retry", str(first)) == "done"
    assert await run("cancel", str(second)) == "cancelled"
    for words in (("pause", "note"), ("limit", "note", "3"), ("limit", "note", "-1"), ("resume", "note")):
        assert await run(*words) == "done"
    assert "note" in await run("kinds")
    await process.execute(
        "insert into schedules (name, kind, payload, cron) values ('nightly', 'note', '{}', '0 1 * * *')"
    )
    for words in (("disable", "nightly"), ("enable", "nightly"), ("run", "nightly")):
        assert await run(*words) == "done"
    assert "nightly" in await run("schedules")
    actions = {row["action"] for row in await process.rows("select action from audit_log")}
    assert actions == {"job.changed", "job.cancelled", "job.kind_changed", "job.schedule_changed"}
    by = {row["actor"] for row in await process.rows("select actor from audit_log")}
    assert by == {"operator"}
    for words, code in (
        (("show", "99"), JOBS_NOT_FOUND),
        (("cancel", "99"), JOBS_NOT_FOUND),
        (("replay", "99"), JOBS_NOT_FOUND),
        (("pause", "no"), JOBS_KIND_UNKNOWN),
    ):
        with pytest.raises(Problem) as caught:
            await run(*words)
        assert caught.value.code is code
    with pytest.raises(CommandError):
        await run("replay")


async def test_dead_letters_are_replayed_by_kind_at_a_rate(database: Database) -> None:
    process = Process(database, (NOTE, effect))
    admin = JobAdmin(database, process.queue)
    await process.execute(
        "insert into dead_jobs (job_id, kind, version, priority, attempts, postponed, max_attempts, unique_active, "
        "payload, reason, error, created_at) "
        "select n, 'note', 1, 1, 3, 0, 3, false, '{}', 'broken', 'broken', now() from generate_series(1, 5) n"
    )
    options = parser().parse_args(["jobs", "replay", "--kind", "note", "--reason", "broken", "--per-second", "1"])
    assert await job_commands._act(admin, options) == "5 replayed"
    spread = await process.value("select extract(epoch from max(run_at) - min(run_at))::float8 from jobs")
    assert 3.5 < spread < 10
    assert await job_commands._act(admin, options) == "0 replayed"
    with pytest.raises(Problem) as caught:
        await admin.discard(1)
    assert caught.value.code is JOBS_NOT_DEAD


@pytest.mark.parametrize(
    "words",
    [
        ("show", "0"),
        ("show", str(2**63)),
        ("show", "x"),
        ("cancel", "-1"),
        ("list", "--limit", "-1"),
        ("list", "--limit", str(10**12)),
        ("list", "--after", str(2**64)),
        ("list", "--kind", "\udcff"),
        ("list", "--state", "done"),
        ("limit", "note", "-2"),
        ("limit", "note", str(2**31)),
        ("replay", "--kind", "note", "--most", "-1"),
        ("replay", "--kind", "note", "--per-second", "nan"),
        ("replay", "--kind", "note", "--per-second", "0"),
        ("replay", "--kind", "note", "--since", "2026-01-31"),
        ("replay", "--kind", "note", "--since", "0001-01-01T00:00:00+14:00"),
        ("priority", "1", "urgent"),
    ],
)
def test_an_odd_argument_is_refused_by_name_before_anything_is_asked(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["jobs", *words])
    assert caught.value.code == 2
    assert "error: argument" in capsys.readouterr().err


async def test_what_others_have_written_into_a_job_paints_no_terminal(database: Database) -> None:
    process = Process(database, (NOTE, effect))
    admin = JobAdmin(database, process.queue)
    await process.put("\x1b[2J\x9b31m\u202e", delay_s=3600.0)
    await process.execute("update jobs set last_error = E'550 \\x1b[2J \\u009b31m \\u202e'")
    (job_id,) = [row["job_id"] for row in await process.rows("select job_id from jobs")]
    for words in (("list",), ("list", "--json"), ("show", str(job_id))):
        said = await job_commands._act(admin, parser().parse_args(["jobs", *words]))
        assert "".join(said.split("\n")).isprintable()
        assert "550" in said


async def test_a_schedule_that_cannot_be_read_is_listed_without_its_next_time(database: Database) -> None:
    process = Process(database, (NOTE, effect))
    await process.execute(
        "insert into schedules (name, kind, payload, cron) values ('bad', 'note', '{}', 'nonsense'), "
        "('good', 'note', '{}', '0 1 * * *')"
    )
    shown = {each.name: each.next_due for each in await JobAdmin(database, process.queue).schedules()}
    assert shown["bad"] is None
    assert shown["good"] is not None
