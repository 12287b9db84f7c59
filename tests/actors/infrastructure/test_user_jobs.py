"""Users' jobs: an import by line, with its progress, faults, cancellation and retry."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from kit.domain import Domain, refused

from callboard.actors.errors import SERVER_OVERLOADED
from callboard.actors.identity.errors import AUTH_STEP_UP_REQUIRED
from callboard.actors.identity.user_import import ImportedUser
from callboard.actors.identity.user_import_job import IMPORT_USERS, StartUserImport
from callboard.actors.infrastructure.errors import JOBS_NOT_FOUND, JOBS_NOT_RETRIED, JOBS_OVER, QUOTA_RATE
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.line_import import (
    BATCH,
    MAX_FAULTS,
    MAX_LINES,
    Applied,
    Line,
    LineImport,
    Owner,
    UnreadableError,
    read_lines,
)
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.user_jobs import (
    CancelUserJob,
    Form,
    GetUserJob,
    RetryUserJob,
    StartImport,
    UserJob,
    UserJobs,
)


def jsonl(*entries: Any) -> bytes:
    return b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in entries)


def accounts(count: int) -> bytes:
    return jsonl(*({"email": f"u{n}@import.example", "full_name": f"User {n}"} for n in range(count)))


async def start(
    domain: Domain, who: Principal, content: bytes, kind: str = "import_users", form: Form = "jsonl"
) -> UUID:
    job = await domain.user_jobs.ask(StartImport(uuid4(), kind, who.user_id, form, content))
    assert (job.state, job.done, job.total) == ("waiting", 0, None)
    return job.job_id


async def read(domain: Domain, who: Principal, job_id: UUID) -> UserJob:
    return await domain.user_jobs.ask(GetUserJob(job_id, who))


async def imported(domain: Domain) -> int:
    return int(await domain.value("select count(*) from users where email like '%@import.example'"))


async def test_articles_become_drafts_of_their_editor_and_each_bad_line_is_named(domain: Domain) -> None:
    editor = await domain.person(Role.EDITOR)
    content = jsonl(
        {"title": "One", "body": "<b>b</b>"},
        b"{",
        {"title": "Two", "language": "german"},
        {"title": "", "body": "b"},
        {"title": "Three", "category_id": str(uuid4())},
        {"body": "b"},
        b"",
        {"title": "Four", "colour": 1},
    )
    job_id = await start(domain, editor, content, "import_content")
    await domain.work()
    job = await read(domain, editor, job_id)
    assert (job.state, job.done, job.total) == ("done", 7, 7)
    assert job.counts == {"made": 2, "refused": 5}
    assert sorted((fault.line, fault.field) for fault in job.faults) == [
        (2, ""),
        (4, "title"),
        (5, "category_id"),
        (6, ""),
        (8, ""),
    ]
    drafts = await domain.rows("select title, status, author_id, body_html from content order by title")
    assert [(row["title"], row["status"]) for row in drafts] == [("One", "draft"), ("Two", "draft")]
    assert {row["author_id"] for row in drafts} == {editor.user_id}
    assert len(await domain.events("content.created")) == 2
    changes = await domain.events("job.changed")
    assert [(topic, event["state"]) for topic, _, event in changes] == [
        ("processing.v1", "waiting"),
        ("processing.v1", "done"),
    ]
    assert await domain.value("select count(*) from user_job_inputs") == 0


async def test_a_text_of_several_lines_is_one_field_of_csv(domain: Domain) -> None:
    editor = await domain.person(Role.EDITOR)
    content = b'\xef\xbb\xbftitle,body\r\nOne,"a\r\nb ""c"""\r\nTwo,\r\nThree,x,y\r\n'
    job_id = await start(domain, editor, content, "import_content", "csv")
    await domain.work()
    job = await read(domain, editor, job_id)
    assert job.counts == {"made": 2, "refused": 1}
    assert [(fault.line, fault.message) for fault in job.faults] == [(5, "has 3 fields, and 2 columns")]
    assert await domain.value("select body from content where title = 'One'") == 'a\r\nb "c"'


CATEGORY = "insert into categories (slug, name) values ('design', 'Design') returning category_id"


async def test_articles_come_with_tags_and_the_category_by_its_slug_or_id(domain: Domain) -> None:
    editor = await domain.person(Role.EDITOR)
    category_id = await domain.value(CATEGORY)
    lines = jsonl(
        {"title": "One", "tags": ["Engines", "engines", "a, b"], "category": "DESIGN"},
        {"title": "Two", "category": str(category_id)},
        {"title": "Three", "category": "nothing"},
        {"title": "Four", "category": str(uuid4())},
        {"title": "Five", "tags": ["x" * 51]},
        {"title": "Six", "tags": [str(number) for number in range(11)]},
    )
    job_id = await start(domain, editor, lines, "import_content")
    await domain.work()
    job = await read(domain, editor, job_id)
    assert (job.counts["made"], [(fault.line, fault.field) for fault in job.faults if fault.line < 5]) == (
        2,
        [(3, "category"), (4, "category_id")],
    )
    assert sorted(fault.line for fault in job.faults) == [3, 4, 5, 6]
    table = b'title,category,tags\r\nSeven,design,"engines, Made up"\r\nEight,,\r\n'
    job_id = await start(domain, editor, table, "import_content", "csv")
    await domain.work()
    assert (await read(domain, editor, job_id)).counts == {"made": 2}
    made = await domain.rows("select title, category_id, tags from content order by title")
    assert [(row["title"], row["category_id"], row["tags"]) for row in made] == [
        ("Eight", None, []),
        ("One", category_id, ["engines", "a, b"]),
        ("Seven", category_id, ["engines", "made up"]),
        ("Two", category_id, []),
    ]


@pytest.mark.parametrize(
    ("content", "form", "error"),
    [
        (b"\xff", "jsonl", "not UTF-8"),
        (b"title\n\xff", "csv", "not UTF-8"),
        (b"titel,body\n", "csv", "first line"),
        (b"body\nx\n", "csv", "first line"),
        (b"title,title\nx,y\n", "csv", "first line"),
        (b"\n", "csv", "first line"),
        (b'title\n"x\n', "csv", "Line 2 is not CSV"),
        (b"{}\n" * (MAX_LINES + 1), "jsonl", "10000 are the maximum"),
    ],
)
async def test_an_input_that_cannot_be_read_fails_its_job_with_the_reason(
    domain: Domain, content: bytes, form: Form, error: str
) -> None:
    editor = await domain.person(Role.EDITOR)
    job_id = await start(domain, editor, content, "import_content", form)
    await domain.work()
    job = await read(domain, editor, job_id)
    assert job.state == "failed"
    assert error in job.error


async def test_accounts_are_created_once_and_those_that_are_there_are_counted(domain: Domain) -> None:
    admin = await domain.person(Role.ADMIN)
    await domain.person(email="u3@import.example")
    job_id = await start(domain, admin, accounts(2 * BATCH + 7))
    await domain.work()
    job = await read(domain, admin, job_id)
    assert (job.state, job.counts) == ("done", {"made": 2 * BATCH + 6, "there_already": 1})
    assert await imported(domain) == 2 * BATCH + 7
    entries = await domain.rows("select actor_id from audit_log where action = 'user.imported'")
    assert [row["actor_id"] for row in entries] == [admin.user_id] * 3


async def test_faults_are_counted_and_the_first_hundred_are_kept(domain: Domain) -> None:
    admin = await domain.person(Role.ADMIN)
    job_id = await start(domain, admin, b"x\n" * (MAX_FAULTS + 20))
    await domain.work()
    job = await read(domain, admin, job_id)
    assert job.counts == {"refused": MAX_FAULTS + 20}
    assert [fault.line for fault in job.faults] == list(range(1, MAX_FAULTS + 1))


async def test_only_its_user_and_admins_see_a_job(domain: Domain) -> None:
    editor, other, admin = [await domain.person(role) for role in (Role.EDITOR, Role.EDITOR, Role.ADMIN)]
    job_id = await start(domain, editor, b"{}", "import_content")
    assert (await read(domain, admin, job_id)).job_id == job_id
    for question in (GetUserJob, CancelUserJob, RetryUserJob):
        with refused(JOBS_NOT_FOUND):
            await domain.user_jobs.ask(question(job_id, other))
        with refused(JOBS_NOT_FOUND):
            await domain.user_jobs.ask(question(uuid4(), admin))


async def test_the_same_id_again_is_the_same_job_and_anothers_is_not_found(domain: Domain) -> None:
    editor, other = await domain.person(Role.EDITOR), await domain.person(Role.EDITOR)
    job_id = uuid4()
    question = StartImport(job_id, "import_content", editor.user_id, "jsonl", b'{"title":"a"}')
    await asyncio.gather(*(domain.user_jobs.ask(question) for _ in range(4)))
    assert await domain.value("select count(*) from jobs") == 1
    with refused(JOBS_NOT_FOUND):
        await domain.user_jobs.ask(StartImport(job_id, "import_content", other.user_id, "jsonl", b"{}"))


async def test_an_import_of_accounts_needs_a_password_given_lately(domain: Domain) -> None:
    admin = await domain.person(Role.ADMIN)
    await domain.rows(
        "insert into sessions (session_id, user_id, expires_at, proved_at) "
        "values ($1, $2, now() + interval '1 day', now() - interval '1 day')",
        admin.session_id,
        admin.user_id,
    )
    question = StartUserImport(
        StartImport(uuid4(), "import_users", admin.user_id, "jsonl", accounts(1)), admin.session_id
    )
    with refused(AUTH_STEP_UP_REQUIRED):
        await domain.user_imports.ask(question)
    await domain.execute("update sessions set proved_at = now()")
    assert (await domain.user_imports.ask(question)).state == "waiting"


# Ends ----------------------------------------------------------------------------------------------------------------


async def test_a_job_that_is_cancelled_before_it_starts_does_nothing_and_can_be_retried(domain: Domain) -> None:
    admin = await domain.person(Role.ADMIN)
    job_id = await start(domain, admin, accounts(3))
    with refused(JOBS_NOT_RETRIED):
        await domain.user_jobs.ask(RetryUserJob(job_id, admin))
    assert (await domain.user_jobs.ask(CancelUserJob(job_id, admin))).state == "cancelled"
    with refused(JOBS_OVER):
        await domain.user_jobs.ask(CancelUserJob(job_id, admin))
    await domain.work()
    assert (await imported(domain), (await read(domain, admin, job_id)).state) == (0, "cancelled")
    assert (await domain.user_jobs.ask(RetryUserJob(job_id, admin))).state == "waiting"
    await domain.work()
    assert (await imported(domain), (await read(domain, admin, job_id)).state) == (3, "done")
    for question, code in ((CancelUserJob, JOBS_OVER), (RetryUserJob, JOBS_NOT_RETRIED)):
        with refused(code):
            await domain.user_jobs.ask(question(job_id, admin))


async def test_of_cancellations_and_retries_at_once_one_wins(domain: Domain) -> None:
    admin = await domain.person(Role.ADMIN)
    job_id = await start(domain, admin, accounts(3))
    for question in (CancelUserJob, RetryUserJob):
        asks = (domain.user_jobs.ask(question(job_id, admin)) for _ in range(6))
        results = await asyncio.gather(*asks, return_exceptions=True)
        assert sum(isinstance(each, UserJob) for each in results) == 1
    await domain.work()
    assert (await read(domain, admin, job_id)).state == "done"


async def test_a_running_job_that_is_cancelled_does_no_further_step_and_goes_on_there_when_it_is_retried(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = await domain.person(Role.ADMIN)
    job_id = await start(domain, admin, accounts(3 * BATCH))
    batches = 0

    async def before(_owner: Owner, _lines: Sequence[Line[ImportedUser]]) -> Applied:
        nonlocal batches
        batches += 1
        if batches == 2:
            await domain.user_jobs.ask(CancelUserJob(job_id, admin))
        return Applied()

    module = "callboard.actors.identity.user_import_job.LineImport"
    monkeypatch.setattr(module, partial(LineImport, before=before))
    await domain.work()
    job = await read(domain, admin, job_id)
    assert (job.state, job.done, job.counts) == ("cancelled", BATCH, {"made": BATCH})
    assert await imported(domain) == BATCH
    await domain.user_jobs.ask(RetryUserJob(job_id, admin))
    await domain.work()
    job = await read(domain, admin, job_id)
    assert (job.state, job.done, job.counts) == ("done", 3 * BATCH, {"made": 3 * BATCH})


async def test_a_job_that_an_operator_takes_out_of_the_queue_is_cancelled_and_can_be_retried(domain: Domain) -> None:
    admin = await domain.person(Role.ADMIN)
    job_id = await start(domain, admin, accounts(1))
    queue_id = await domain.value("select queue_id from user_jobs")
    await JobAdmin(domain.database, domain.jobs).cancel(queue_id)
    assert (await read(domain, admin, job_id)).state == "cancelled"
    await domain.user_jobs.ask(RetryUserJob(job_id, admin))
    await domain.work()
    assert (await read(domain, admin, job_id)).state == "done"


async def test_a_job_that_dies_has_failed_without_a_word_of_its_error_and_a_replay_goes_on(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = await domain.person(Role.ADMIN)
    job_id = await start(domain, admin, accounts(1))
    await domain.execute("update jobs set max_attempts = 1")
    with monkeypatch.context() as patch:
        patch.setattr("callboard.actors.identity.user_import_job.create_accounts", None)
        await domain.work()
    job = await read(domain, admin, job_id)
    assert (job.state, job.error) == ("failed", "It has failed after several attempts.")
    dead = await domain.value("select job_id from dead_jobs")
    await JobAdmin(domain.database, domain.jobs).replay(dead)
    await domain.work()
    assert (await read(domain, admin, job_id)).state == "done"


async def test_who_has_lost_the_right_to_import_imports_nothing(domain: Domain) -> None:
    admin = await domain.person(Role.ADMIN)
    job_id = await start(domain, admin, accounts(3))
    await domain.execute("update users set role = 'editor' where role = 'admin'")
    await domain.work()
    job = await read(domain, admin, job_id)
    assert (job.state, job.error, await imported(domain)) == ("failed", "You may not do this any more.", 0)


async def test_too_many_jobs_that_wait_are_refused(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = await domain.person(Role.EDITOR)
    few = msgspec.structs.replace(IMPORT_USERS, max_waiting=1)
    monkeypatch.setitem(domain.jobs.kinds, "import_users", few)
    await start(domain, editor, b"{}")
    domain.jobs._rooms.clear()
    with refused(SERVER_OVERLOADED):
        await start(domain, editor, b"{}")


async def test_cancelled_imports_count_against_the_hour_and_repeated_and_refused_ones_do_not(domain: Domain) -> None:
    editor, other = await domain.person(Role.EDITOR), await domain.person(Role.EDITOR)
    imports = UserJobs(domain.database, domain.jobs, imports_per_hour=3)
    asked = [StartImport(uuid4(), "import_content", editor.user_id, "jsonl", b"{}") for _ in range(4)]
    for question in asked[:3]:
        for _ in range(2):
            await imports.start(question)
        await imports.cancel(CancelUserJob(question.job_id, editor))
    for _ in range(2):
        with refused(QUOTA_RATE):
            await imports.start(asked[3])
    assert await domain.value("select count(*) from user_job_inputs") == 3
    await imports.start(StartImport(uuid4(), "import_content", other.user_id, "jsonl", b"{}"))


@pytest.mark.parametrize(
    ("form", "line", "field"),
    [
        ("jsonl", '{"email":"a@example.org","full_name":"Ao","\\u0065mail":"b@example.org"}', "email"),
        ("csv", "a@example.org,Ao,1767225600", "created_at"),
        ("csv", "a@example.org,Ao,1e9", "created_at"),
        ("csv", "a@example.org,Ao,2026-01-01T00:00:00", "created_at"),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused_by_its_field(form: Form, line: str, field: str) -> None:
    header = "email,full_name,created_at\n" if form == "csv" else ""
    (read,) = read_lines(f"{header}{line}\n".encode(), form, ImportedUser)
    assert read.fault is not None
    assert read.fault.field == field


async def test_no_account_is_of_the_future(domain: Domain) -> None:
    admin = await domain.person(Role.ADMIN)
    times = ("2020-01-01T00:00:00Z", "9990-01-01T00:00:00Z", (datetime.now(UTC) + timedelta(days=2)).isoformat())
    people = [
        {"email": f"u{n}@import.example", "full_name": "Ao Bo", "created_at": time} for n, time in enumerate(times)
    ]
    job_id = await start(domain, admin, jsonl(*people))
    await domain.work()
    job = await read(domain, admin, job_id)
    assert (job.counts, [(fault.line, fault.field) for fault in job.faults]) == (
        {"made": 1, "refused": 2},
        [(2, "created_at"), (3, "created_at")],
    )


def test_lines_are_numbered_as_an_editor_shows_them() -> None:
    lines = read_lines(b'\n{"email":"a@example.org","full_name":"Ao"}\r\n\n[]', "jsonl", ImportedUser)
    assert [(line.number, line.value is None) for line in lines] == [(2, False), (4, True)]
    with pytest.raises(UnreadableError):
        read_lines(b"\xff", "jsonl", ImportedUser)
