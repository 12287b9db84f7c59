"""Two mail servers: the second gets what the first cannot take, and never a second copy."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from kit.domain import Domain
from kit.mail_post import Post
from kit.smtp_script import HANG_UP, ScriptedSmtpServer
from prometheus_client import generate_latest

from callboard.actors.errors import Problem

Answers = dict[str, Any]
GONE = {"greeting": HANG_UP}


@asynccontextmanager
async def two_servers(
    domain: Domain, first: Answers, second: Answers
) -> AsyncIterator[tuple[Post, ScriptedSmtpServer, ScriptedSmtpServer]]:
    async with AsyncExitStack() as stack:
        scripts = [
            await stack.enter_async_context(ScriptedSmtpServer(**answers).listening()) for answers in (first, second)
        ]
        yield Post(domain, *(script.port for script in scripts)), scripts[0], scripts[1]


@pytest.mark.parametrize(
    "answers",
    [
        GONE,
        {"greeting": "421 busy"},
        {"EHLO": "554 no"},
        {"MAIL": "450 later"},
        {"MAIL": "530 5.7.0 log in"},
        {"RCPT": HANG_UP},
        {"DATA": None},
    ],
    ids=str,
)
async def test_a_mail_that_the_first_server_cannot_take_goes_by_the_second(domain: Domain, answers: Answers) -> None:
    async with two_servers(domain, answers, {}) as (post, first, second):
        mail_id = await post.ready()
        await post.send(mail_id)
        row = await post.row(mail_id)
        assert (row["status"], row["relay"]) == ("sent", post.servers[1].settings.name)
        assert (len(first.bodies), len(second.bodies)) == (0, 1)
        page = generate_latest(post.metrics.registry).decode()
        assert 'result="passed_on"} 1.0' in page
        assert 'callboard_mails_total{reason="accepted",result="sent"} 1.0' in page


@pytest.mark.parametrize("answers", [{"RCPT": "550 no"}, {"RCPT": "451 greylisted"}, {"body": "421 busy"}], ids=str)
async def test_a_mail_that_the_first_server_has_judged_goes_not_by_the_second(domain: Domain, answers: Answers) -> None:
    async with two_servers(domain, answers, {}) as (post, _, second):
        await post.send(await post.ready())
        assert second.connections == 0


async def test_a_server_that_is_away_is_left_alone_while_the_other_sends(domain: Domain) -> None:
    async with two_servers(domain, GONE, {}) as (post, first, second):
        for _ in range(5):
            await post.send(await post.ready())
        assert (first.connections, len(second.bodies)) == (1, 5)
        with pytest.raises(Problem, match=r"server 0, \d s ago: away: greeting"):
            await post.servers[0].monitor.check()
        await post.servers[1].monitor.check()
        first.answers["greeting"] = "220 here"
        post.servers[0].breaker._open_until = 0.0  # its second has passed
        for _ in range(4):
            await post.send(await post.ready())
        assert (len(first.bodies), len(second.bodies)) == (4, 5)
        await post.servers[0].monitor.check()


async def test_while_both_servers_are_away_a_mail_waits_and_spends_no_attempt(domain: Domain) -> None:
    async with two_servers(domain, GONE, {"EHLO": "421 busy"}) as (post, first, second):
        mail_id = await post.ready()
        for _ in range(4):
            await post.send(mail_id)
            row = await post.row(mail_id)
            assert (row["status"], row["attempts"]) == ("queued", 0)
            await post.due()
        assert first.connections == second.connections == 4
        second.answers["EHLO"] = "250 here"
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "sent"


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (GONE, {"RCPT": "451 greylisted"}, "delayed: RCPT: 451 greylisted"),
        (GONE, {"RCPT": "550 no"}, "refused: RCPT: 550 no"),
        ({"MAIL": "450 later"}, GONE, "failed: MAIL: 450 later"),
        (GONE, {"EHLO": "554 no"}, "away: greeting: connection closed"),
        (GONE, {"body": HANG_UP}, "unknown: final dot: connection closed"),
    ],
)
async def test_the_failure_that_says_most_of_the_mail_decides(
    domain: Domain, first: Answers, second: Answers, error: str
) -> None:
    async with two_servers(domain, first, second) as (post, _, _):
        mail_id = await post.ready()
        await post.send(mail_id)
        assert (await post.row(mail_id))["error"].startswith(error)


# Copies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [None, HANG_UP, "gibberish"])
@pytest.mark.parametrize("then", [GONE, {"MAIL": "450 later"}, {"body": HANG_UP}], ids=str)
async def test_a_mail_whose_outcome_is_unknown_never_goes_by_another_server(
    domain: Domain, ending: str | None, then: Answers
) -> None:
    async with two_servers(domain, {"body": ending}, {}) as (post, first, second):
        mail_id = await post.ready()
        await post.send(mail_id)
        assert (await post.row(mail_id))["copies"] == 1
        first.answers |= then
        for _ in range(6):
            await post.due()
            await post.send(mail_id)
        assert second.connections == 0
        assert len(first.bodies) <= 3


async def test_a_copy_of_a_process_that_was_killed_at_the_dot_is_followed_by_none_of_another_server(
    domain: Domain,
) -> None:
    async with two_servers(domain, {}, {}) as (post, first, second):
        mail_id = await post.ready()
        await domain.rows(
            "update mails set copies = 1, copied_at = now() - interval '1 h', relay = $1",
            post.servers[1].settings.name,
        )
        await post.send(mail_id)
        row = await post.row(mail_id)
        assert (row["status"], row["copies"], first.connections, len(second.bodies)) == ("sent", 2, 0, 1)


async def test_a_mail_that_a_server_of_earlier_settings_may_have_is_sent_again_by_those_of_today(
    domain: Domain,
) -> None:
    """Nobody will ever confirm the earlier copy; all copies together stay bounded."""
    async with two_servers(domain, {"body": HANG_UP}, {"body": HANG_UP}) as (post, first, second):
        mail_id = await post.ready()
        await domain.execute("update mails set copies = 1, copied_at = now() - interval '1 h', relay = 'old:25'")
        for _ in range(6):
            await post.send(mail_id)
            await post.due()
        assert (await post.row(mail_id))["copies"] == 3
        assert (len(first.bodies), len(second.bodies)) == (2, 0)


async def test_a_refused_copy_is_none(domain: Domain) -> None:
    async with two_servers(domain, {"body": "451 later"}, {}) as (post, first, second):
        mail_id = await post.ready()
        for _ in range(5):
            await post.send(mail_id)
            assert (await post.row(mail_id))["copies"] == 0
            await post.due()
        first.answers |= GONE
        await post.send(mail_id)  # it has no copy anywhere, so the second server may have it
        assert (await post.row(mail_id))["status"] == "sent"
        assert len(second.bodies) == 1
