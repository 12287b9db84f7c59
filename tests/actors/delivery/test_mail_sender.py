"""The sender against servers that refuse, stall or hang up: the fate of each mail, and how it is seen."""

import asyncio
import email
import threading
from typing import Any

import msgspec
import pytest
from kit.domain import Domain
from kit.mail_post import QUICK, Post, misbehaving
from kit.smtp_script import HANG_UP
from prometheus_client import generate_latest

from callboard.actors.delivery import mail_sender, mail_writer
from callboard.actors.delivery.smtp_client import SmtpClient
from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.job_kinds import Job
from callboard.ops.embedded.data_directory import free_ports
from callboard.ops.embedded.mail_catcher import Catcher

# The wire -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["x\r\nBcc: all@example.org", "x\nX-Evil: 1", "x\r\n\r\nbody", "\x85x\u2028Bcc: a"])
async def test_a_subject_begins_no_header(domain: Domain, subject: str) -> None:
    async with misbehaving(domain) as (post, script):
        await post.send(await post.ready(subject=subject))
        (body,) = script.bodies
        parsed = email.message_from_bytes(body)
        names = ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version")
        assert set(parsed) == {*names} | {name for name in parsed if name.startswith("Content-")}
        assert [line for line in script.commands if line.startswith("RCPT")] == ["RCPT TO:<ada@example.org>"]


@pytest.mark.parametrize(
    "to",
    [
        "a@example.org\r\nBcc: b@example.org",
        "a@example.org\n",
        "root,b@example.org",
        "<a@example.org>",
        "a b@example.org",
    ],
)
async def test_a_recipient_is_one_address_or_the_mail_is_dead(domain: Domain, to: str) -> None:
    async with misbehaving(domain) as (post, script):
        mail_id = await post.ready(to)
        await post.send(mail_id)
        recipients = [line for line in script.commands if line.startswith("RCPT")]
        assert len(recipients) <= 1
        assert all("Bcc" not in email.message_from_bytes(body) for body in script.bodies)
        assert (await post.row(mail_id))["status"] in ("dead", "sent")
        assert not any("<root>" in line or "<b@example.org>" in line for line in recipients)


@pytest.mark.parametrize(
    "answers", [{"MAIL": "450 later"}, {"RCPT": HANG_UP}, {"DATA": None}, {"MAIL": "220 what"}], ids=str
)
async def test_a_server_that_fails_is_tried_three_times_each_after_twice_the_wait(
    domain: Domain, answers: dict[str, str | None]
) -> None:
    async with misbehaving(domain, **answers) as (post, _):
        mail_id = await post.ready()
        for attempt in (1, 2):
            await post.send(mail_id, processes=2)
            row = await post.row(mail_id)
            assert (row["status"], row["attempts"]) == ("queued", attempt)
            assert 2**attempt - 1 < row["due_s"] <= 2**attempt
            assert row["error"].startswith("failed: ")
            await post.send(mail_id)  # before its time: nothing
            assert (await post.row(mail_id))["attempts"] == attempt
            await post.due()
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "dead"


@pytest.mark.parametrize("where", ["RCPT", "DATA", "body"])
async def test_a_greylisted_mail_is_delayed_by_minutes_and_spends_no_attempt(domain: Domain, where: str) -> None:
    async with misbehaving(domain, **{where: "451 come back later"}) as (post, script):
        mail_id = await post.ready()
        for _ in range(5):
            await post.send(mail_id)
            row = await post.row(mail_id)
            assert (row["status"], row["attempts"]) == ("queued", 0)
            assert 59 < row["due_s"] <= 72  # a fifth of jitter
            await post.due()
        script.answers[where] = "354 go" if where == "DATA" else "250 ok"
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "sent"


@pytest.mark.parametrize("ending", [None, HANG_UP, "gibberish", "150 hm", "354 go on"])
async def test_a_mail_whose_outcome_is_unknown_has_spent_an_attempt_and_is_not_sent_at_once_again(
    domain: Domain, ending: str | None
) -> None:
    async with misbehaving(domain, body=ending) as (post, script):
        mail_id = await post.ready()
        for attempt, delay_s in ((1, 60), (2, 120)):
            await post.send(mail_id, processes=2)
            row = await post.row(mail_id)
            assert (row["status"], row["attempts"]) == ("queued", attempt)
            assert delay_s - 1 < row["due_s"] <= delay_s
            await post.send(mail_id)
            assert len(script.bodies) == attempt
            await post.due()
        await post.send(mail_id)
        await post.due()
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "dead"
        ids = {email.message_from_bytes(body)["Message-ID"] for body in script.bodies}
        assert (len(script.bodies), ids) == (3, {f"<{mail_id}@example.org>"})


@pytest.mark.parametrize(
    ("where", "answer"),
    [
        ("MAIL", "550 no"),
        ("RCPT", "550 no such user"),
        ("RCPT", "501 bad address"),
        ("DATA", "554 no"),
        ("body", "552 no"),
    ],
)
async def test_what_will_never_pass_is_dead_at_once(domain: Domain, where: str, answer: str) -> None:
    async with misbehaving(domain, **{where: answer}) as (post, _):
        mail_id = await post.ready()
        await post.send(mail_id)
        row = await post.row(mail_id)
        assert row["status"] == "dead"
        assert answer[4:] in row["error"]


@pytest.mark.parametrize(
    "answers",
    [{"greeting": "421 busy"}, {"MAIL": "421 busy"}, {"RCPT": "421 busy"}, {"body": "421 busy"}]
    + [{"greeting": "554 no mail here"}, {"MAIL": "530 5.7.0 log in first"}]
    + [{where: ending} for where in ("greeting", "EHLO") for ending in (None, HANG_UP)],
    ids=str,
)
async def test_a_server_that_is_away_or_refuses_us_is_no_attempt_and_the_mail_waits(
    domain: Domain, answers: dict[str, str | None]
) -> None:
    async with misbehaving(domain, **answers) as (post, _):
        mail_id = await post.ready()
        for _ in range(4):
            await post.send(mail_id)
            row = await post.row(mail_id)
            assert (row["status"], row["attempts"]) == ("queued", 0)
            assert 0 < row["due_s"] <= 1.2
            await post.due()
        with pytest.raises(Problem):
            await post.monitor.check()


@pytest.mark.parametrize("ending", [None, "500 what"])
async def test_a_mail_that_was_taken_is_sent_however_the_server_parts(domain: Domain, ending: str | None) -> None:
    async with misbehaving(domain, QUIT=ending) as (post, script):
        mail_id = await post.ready()
        for _ in range(2):
            await post.send(mail_id)
            assert (await post.row(mail_id))["status"] == "sent"
            await post.due()
        assert len(script.bodies) == 1


async def test_a_server_that_is_not_there_keeps_the_mail_queued(domain: Domain) -> None:
    post = Post(domain, free_ports(1)[0])
    mail_id = await post.ready()
    for _ in range(5):
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "queued"
        await post.due()
    assert (await post.row(mail_id))["attempts"] == 0


async def test_a_large_mail_of_a_producer_is_written_off_the_loop(
    post: Post, catcher: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    encode = mail_writer.encode_mail

    def noting(*values: Any, **named: Any) -> Any:
        threads.append(threading.current_thread().name)
        return encode(*values, **named)

    monkeypatch.setattr(mail_writer, "encode_mail", noting)
    await post.send(await post.ready(text="small"))
    await post.send(await post.ready(text="é" * 60_000))
    assert [name == threading.main_thread().name for name in threads] == [True, False]
    assert catcher.mails()[0].text.strip() == "é" * 60_000


# What operators see -------------------------------------------------------------------------------------------------


async def test_each_new_reason_is_one_line_and_each_result_is_counted(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    async with misbehaving(domain, RCPT="550 5.1.1 <ada@example.org> unknown") as (post, script):
        for _ in range(3):
            await post.send(await post.ready())
        script.answers["RCPT"] = "451 later"
        await post.send(await post.ready())
        script.answers["RCPT"] = "250 ok"
        await post.send(await post.ready())
        said = [record.getMessage() for record in caplog.records if "delivery.mail_" in record.name]
        assert [line.split(";")[0] for line in said] == [
            "a mail was not sent by the server 0 (refused): RCPT: 550 5.1.1 <(address)> unknown",
            "a mail was not sent by the server 0 (delayed): RCPT: 451 later",
        ]
        page = generate_latest(post.metrics.registry).decode()
    for result, reason, count in (("dead", "refused", 3), ("delayed", "delayed", 1), ("sent", "accepted", 1)):
        assert f'callboard_mails_total{{reason="{reason}",result="{result}"}} {count}.0' in page


async def test_trouble_with_the_server_shows_in_the_check_until_a_mail_is_taken(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    async with misbehaving(domain, greeting="554 go away") as (post, script):
        await post.monitor.check()
        mail_id = await post.ready()
        await post.send(mail_id)
        with pytest.raises(Problem, match="misconfigured: greeting: 554 go away"):
            await post.monitor.check()
        script.answers["greeting"] = "220 here"
        await post.due()
        await post.send(mail_id)
        await post.monitor.check()
        assert "the server 0 accepts mail again" in caplog.text


async def test_a_refused_recipient_is_no_trouble_with_the_server(domain: Domain) -> None:
    async with misbehaving(domain, RCPT="550 no such user") as (post, _):
        await post.send(await post.ready())
        await post.monitor.check()


async def test_a_mail_whose_sender_crashes_each_time_is_dead_after_the_attempts_allowed(
    post: Post, catcher: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail_id = await post.ready()

    async def crash(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(SmtpClient, "send", crash)
    for _ in range(3):
        await post.send(mail_id)
        await post.due()
    row = await post.row(mail_id)
    assert (row["status"], row["due_s"]) == ("dead", None)
    assert "ZeroDivisionError" in row["error"]
    assert catcher.mails() == []


@pytest.mark.parametrize("answers", [{"RCPT": "550 no"}, {"body": HANG_UP}], ids=str)
async def test_a_dead_mail_that_is_replayed_is_sent(domain: Domain, answers: dict[str, str]) -> None:
    async with misbehaving(domain, **answers) as (post, script):
        mail_id = await post.ready()
        for _ in range(4):
            await post.send(mail_id)
            await post.due()
        assert (await post.row(mail_id))["status"] == "dead"
        (dead_id,) = [row["job_id"] for row in await domain.rows("select job_id from dead_jobs")]
        copies = len(script.bodies)
        script.answers |= {"RCPT": "250 ok", "body": "250 ok"}
        await JobAdmin(domain.database, post.jobs).replay(dead_id)
        await post.send()
        assert (await post.row(mail_id))["status"] == "sent"
        assert len(script.bodies) == copies + 1


# The final dot ------------------------------------------------------------------------------------------------------


async def test_a_copy_is_counted_before_the_final_dot_and_only_for_the_holder_of_the_job(domain: Domain) -> None:
    async with misbehaving(domain, body=None) as (post, script):
        post.server.timeouts = msgspec.structs.replace(QUICK, final_s=600.0)
        mail_id = await post.ready()
        async with post.working():
            while not script.bodies:  # noqa: ASYNC110 - the script's side of the wire
                await asyncio.sleep(0.01)
            assert (await post.row(mail_id))["copies"] == 1
        # The process has stopped while it waited for the reply: another does not send at once, and spends no attempt.
        await post.send(mail_id)
        row = await post.row(mail_id)
        assert (row["status"], row["job_attempts"], len(script.bodies)) == ("queued", 0, 1)
        assert 50 < row["due_s"] <= 72
        post.server.timeouts = QUICK
        for copies in (2, 3):
            await post.due()
            await post.send(mail_id)
            assert len(script.bodies) == copies
        await post.due()
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "dead"
        assert len(script.bodies) == 3


async def test_who_has_lost_the_lease_does_not_write_the_final_dot(
    domain: Domain, catcher: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = Post(domain, catcher._port)
    mail_id = await post.ready()
    send = SmtpClient.send

    async def lose_first(client: SmtpClient, **options: Any) -> None:
        await domain.execute("update jobs set lease_id = lease_id + 1000000")  # what another process does meanwhile
        await send(client, **options)

    monkeypatch.setattr(SmtpClient, "send", lose_first)
    async with post.working():
        async with asyncio.timeout(10):
            while not post.counts.outcomes["mail"]["stale"]:  # noqa: ASYNC110 - the worker's count
                await asyncio.sleep(0.01)
    assert catcher.mails() == []
    assert (await post.row(mail_id))["copies"] == 0


async def test_a_slow_final_dot_is_one_copy_whatever_the_deadline(domain: Domain) -> None:
    async with misbehaving(domain, body=None) as (post, script):
        post.server.timeouts = msgspec.structs.replace(QUICK, final_s=600.0)
        mail_id = await post.ready()
        await domain.execute("update jobs set deadline = clock_timestamp() + interval '0.5 s'")
        late = "select clock_timestamp() > deadline from jobs"
        async with post.working(), asyncio.timeout(20):
            while not script.bodies or not await domain.value(late):  # noqa: ASYNC110 - the wire, and PostgreSQL's clock
                await asyncio.sleep(0.01)
            await script.reply("250 kept at last")
            while (await post.row(mail_id))["status"] != "sent":  # noqa: ASYNC110 - its truth is in PostgreSQL
                await asyncio.sleep(0.01)
        assert len(script.bodies) == 1


async def test_a_mail_that_was_accepted_while_the_database_was_away_is_noted_when_it_is_back(
    post: Post, catcher: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, failures = Job.finish, [Problem(SERVER_UNAVAILABLE), Problem(SERVER_UNAVAILABLE)]
    monkeypatch.setattr(mail_sender, "AGAIN_S", 0.01)

    def failing(job: Job[Any]) -> Any:
        if failures:
            raise failures.pop()
        return finish(job)

    monkeypatch.setattr(Job, "finish", failing)
    mail_id = await post.ready()
    await post.send(mail_id)
    assert (await post.row(mail_id))["status"] == "sent"
    assert len(catcher.mails()) == 1
