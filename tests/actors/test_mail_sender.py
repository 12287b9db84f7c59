"""The sender against servers that refuse, stall or hang up: the fate of each mail, and how it is seen."""

import email
from typing import Any

import pytest
from domain import Domain
from mail_post import Post, misbehaving
from prometheus_client import generate_latest
from smtp_script import HANG_UP

from callboard.actors.errors import Problem
from callboard.ops.embedded.catcher import Catcher
from callboard.ops.embedded.place import free_ports

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


async def test_two_copies_of_a_mail_can_be_known_by_their_message_id(domain: Domain) -> None:
    async with misbehaving(domain) as (post, script):
        mail_id = await post.ready()
        for _ in range(2):
            await post.send(mail_id)
            await domain.execute(
                'update mails set status = \'queued\', due_at = now(), data = \'{"subject":"","text":"","html":""}\''
            )
        ids = [email.message_from_bytes(body)["Message-ID"] for body in script.bodies]
        assert ids == [f"<{mail_id}@example.org>"] * 2


@pytest.mark.parametrize(
    "answers", [{"MAIL": "450 later"}, {"RCPT": HANG_UP}, {"DATA": None}, {"MAIL": "220 what"}], ids=str
)
async def test_a_server_that_fails_is_tried_three_times_each_after_twice_the_wait(
    domain: Domain, answers: dict[str, str | None]
) -> None:
    async with misbehaving(domain, **answers) as (post, _):
        mail_id = await post.ready()
        for attempt in (1, 2):
            await post.send(mail_id, orders=4)
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
    async with misbehaving(domain, **{where: "451 4.7.1 greylisted"}) as (post, script):
        mail_id = await post.ready()
        for _ in range(5):
            await post.send(mail_id)
            row = await post.row(mail_id)
            assert (row["status"], row["attempts"]) == ("queued", 0)
            assert 59 < row["due_s"] <= 60
            await post.due()
        script.answers[where] = "354 go" if where == "DATA" else "250 ok"
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "sent"


@pytest.mark.parametrize("ending", [None, HANG_UP, "gibberish"])
async def test_a_mail_whose_outcome_is_unknown_has_spent_an_attempt_and_is_not_sent_at_once_again(
    domain: Domain, ending: str | None
) -> None:
    async with misbehaving(domain, body=ending) as (post, script):
        mail_id = await post.ready()
        for attempt, delay_s in ((1, 60), (2, 120)):
            await post.send(mail_id, orders=4)
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
            assert 0 < row["due_s"] <= 1
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
        said = [record.getMessage() for record in caplog.records if record.name.startswith("callboard.actors.mail")]
        assert [line.split(";")[0] for line in said] == [
            "a mail was not sent (refused): RCPT: 550 5.1.1 <(address)> unknown",
            "a mail was not sent (delayed): RCPT: 451 later",
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
        assert "the mail server takes mail again" in caplog.text


async def test_a_refused_recipient_is_no_trouble_with_the_server(domain: Domain) -> None:
    async with misbehaving(domain, RCPT="550 no such user") as (post, _):
        await post.send(await post.ready())
        await post.monitor.check()


async def test_a_mail_whose_sender_crashes_each_time_is_dead_after_the_attempts_allowed(
    post: Post, catcher: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail_id = await post.ready()

    async def crash(**_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(post.client, "send", crash)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await post.send(mail_id)
            await post.due()
    await post.send(mail_id)
    assert (await post.row(mail_id))["status"] == "dead"
    assert catcher.mails() == []
