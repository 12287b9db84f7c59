"""Connections to a mail server: kept between mails, bounded, and opened again when the server has closed them."""

import asyncio
from typing import Any

import pytest
from kit.smtp_script import HANG_UP, ScriptedSmtpServer

from callboard.actors.delivery import smtp_client
from callboard.actors.delivery.mail_message import OutgoingMail
from callboard.actors.delivery.mail_monitor import MailMonitor
from callboard.actors.delivery.mail_servers import MailRoute, MailServer
from callboard.actors.delivery.smtp_client import SmtpClient
from callboard.actors.delivery.smtp_errors import Fault, Phase, SmtpError
from callboard.actors.delivery.smtp_session import SmtpSession
from callboard.actors.delivery.smtp_settings import ConnectionLimits, SmtpSettings, SmtpTimeouts, Tls

LONG = SmtpTimeouts(*[600.0] * 7, reset_s=0.05)
CONTENT = b"Subject: x\r\n\r\nHello\r\n"


def client(script: ScriptedSmtpServer, **limits: Any) -> SmtpClient:
    return SmtpClient(SmtpSettings("127.0.0.1", script.port, tls=Tls.NONE), LONG, ConnectionLimits(**limits))


async def send(sender: SmtpClient, **more: Any) -> None:
    await sender.send(sender="b@example.org", recipient="ada@example.org", content=CONTENT, **more)


def words(script: ScriptedSmtpServer) -> list[str]:
    return [line.split()[0] for line in script.commands]


async def all_closed(script: ScriptedSmtpServer) -> None:
    async with asyncio.timeout(10):
        while script.open:  # noqa: ASYNC110 - the script's side of the wire
            await asyncio.sleep(0.005)


async def test_mails_share_a_connection_with_a_reset_between_them() -> None:
    async with ScriptedSmtpServer().listening() as script:
        sender = client(script)
        for _ in range(3):
            await send(sender)
        mail = ["MAIL", "RCPT", "DATA"]
        assert words(script) == ["EHLO", *mail, "RSET", *mail, "RSET", *mail]
        assert (script.connections, len(script.bodies)) == (1, 3)
        sender.close()
        await all_closed(script)


async def test_new_settings_are_used_from_the_next_mail_on_and_the_old_connection_is_closed() -> None:
    async with ScriptedSmtpServer().listening() as first, ScriptedSmtpServer().listening() as second:
        server = MailServer(SmtpSettings("127.0.0.1", first.port, tls=Tls.NONE), MailMonitor(), timeouts=LONG)
        route, mail = MailRoute([server]), OutgoingMail("b@example.org", "ada@example.org", CONTENT)
        await route.send(mail, _go_on)
        server.settings = SmtpSettings("127.0.0.1", second.port, tls=Tls.NONE)
        await route.send(mail, _go_on)
        await all_closed(first)
        assert (len(first.bodies), len(second.bodies)) == (1, 1)
        route.close()


async def _go_on(_server: str) -> None:
    """Nothing is noted before the final dot."""


async def test_a_connection_carries_no_more_mails_than_it_may() -> None:
    async with ScriptedSmtpServer().listening() as script:
        sender = client(script, mails=2)
        for _ in range(5):
            await send(sender)
        assert (script.connections, len(script.bodies)) == (3, 5)
        sender.close()


async def test_a_connection_without_mails_and_an_old_one_are_closed() -> None:
    for limits in ({"idle_s": 0.01}, {"age_s": 0.05}, {"age_s": 0.0}):
        async with ScriptedSmtpServer().listening() as script:
            sender = client(script, **limits)
            await send(sender)
            await all_closed(script)
            await send(sender)
            assert (script.connections, len(script.bodies)) == (2, 2)
            sender.close()


@pytest.mark.parametrize("answer", [HANG_UP, None, "421 4.4.2 idle for too long", "500 what", "gibberish"])
async def test_a_kept_connection_that_the_server_has_given_up_is_opened_again(answer: str | None) -> None:
    async with ScriptedSmtpServer(RSET=answer).listening() as script:
        sender = client(script)
        await send(sender)
        await send(sender)
        assert (script.connections, len(script.bodies)) == (2, 2)
        sender.close()


async def test_a_kept_connection_that_the_server_has_closed_costs_no_command() -> None:
    async with ScriptedSmtpServer(body=("250 kept", HANG_UP, "250 kept")).listening() as script:
        sender = client(script)
        await send(sender)
        with pytest.raises(SmtpError):
            await send(sender)
        await all_closed(script)
        await send(sender)
        assert words(script).count("RSET") == 1


@pytest.mark.parametrize("word", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", ["421 busy", "451 4.4.2 timeout waiting for data", HANG_UP])
async def test_a_server_that_ends_a_kept_connection_before_the_dot_gets_the_mail_over_a_new_one(
    word: str, answer: str
) -> None:
    good = ScriptedSmtpServer().answers[word]
    async with ScriptedSmtpServer(**{word: (good, answer, good)}).listening() as script:
        sender = client(script)
        await send(sender)
        await send(sender)
        assert (script.connections, len(script.bodies)) == (2, 2)
        sender.close()


@pytest.mark.parametrize("answer", ["421 busy", HANG_UP])
async def test_a_new_connection_that_ends_is_a_failure(answer: str) -> None:
    async with ScriptedSmtpServer(MAIL=answer).listening() as script:
        with pytest.raises(SmtpError):
            await send(client(script))
        assert script.connections == 1


@pytest.mark.parametrize("answer", ["421 busy", "451 4.4.2 timeout", HANG_UP, "gibberish"])
async def test_after_the_final_dot_no_connection_is_opened_again(answer: str) -> None:
    async with ScriptedSmtpServer(body=("250 kept", answer)).listening() as script:
        sender = client(script)
        await send(sender)
        with pytest.raises(SmtpError) as caught:
            await send(sender)
        assert caught.value.phase is Phase.FINAL
        assert (script.connections, len(script.bodies)) == (1, 2)
        sender.close()


@pytest.mark.parametrize(
    ("word", "answer"), [("MAIL", "550 no"), ("RCPT", "451 later"), ("DATA", "554 no"), ("body", "552 no")]
)
async def test_a_refused_mail_leaves_nothing_behind_on_its_connection(word: str, answer: str) -> None:
    good = ScriptedSmtpServer().answers[word]
    async with ScriptedSmtpServer(**{word: (answer, good)}).listening() as script:
        sender = client(script)
        with pytest.raises(SmtpError):
            await send(sender)
        await send(sender)
        assert script.connections == 1
        assert words(script)[-5:].count("RSET") == 1
        sender.close()


@pytest.mark.parametrize("answer", ["250 what", "354 what", "150 what"])
async def test_a_reply_that_is_neither_yes_nor_no_ends_the_connection(answer: str) -> None:
    for word in ("MAIL", "DATA", "body"):
        if (word, answer[0]) in (("MAIL", "2"), ("DATA", "3"), ("body", "2")):
            continue
        async with ScriptedSmtpServer(**{word: answer}).listening() as script:
            with pytest.raises(SmtpError):
                await send(client(script))
            await all_closed(script)


async def test_a_mail_that_is_given_up_before_its_dot_is_not_kept_by_the_server() -> None:
    async with ScriptedSmtpServer().listening() as script:
        sender = client(script)

        async def give_up() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await send(sender, before_dot=give_up)
        await all_closed(script)
        assert script.bodies == []
        assert "QUIT" not in words(script)
        await send(sender)
        assert (script.connections, len(script.bodies)) == (2, 1)
        sender.close()


async def test_a_connection_that_ends_before_the_dot_is_no_unknown_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[SmtpSession] = []

    class Recorded(SmtpSession):
        def __init__(self, *values: Any) -> None:
            super().__init__(*values)
            sessions.append(self)

    async def until_closed() -> None:
        while sessions[0].is_connected:  # noqa: ASYNC110 - the transport has no event for it
            await asyncio.sleep(0.001)

    monkeypatch.setattr(smtp_client, "SmtpSession", Recorded)
    async with ScriptedSmtpServer(content=HANG_UP).listening() as script:
        with pytest.raises(SmtpError) as caught:
            await send(client(script), before_dot=until_closed)
    assert (caught.value.phase, caught.value.fault) == (Phase.BODY, Fault.CLOSED)


# What a server offers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", ["", "8BITMIME", "SMTPUTF8", "8BITMIME SMTPUTF8", "PIPELINING CHUNKING DSN SIZE"])
@pytest.mark.parametrize("recipient", ["ada@example.org", "jürgen@example.org"])
async def test_only_what_the_server_offers_is_asked_for(offers: str, recipient: str) -> None:
    lines = ["250-here", *(f"250-{each}" for each in offers.split()), "250 HELP"]
    async with ScriptedSmtpServer(EHLO="\n".join(lines)).listening() as script:
        sender = client(script)
        sending = sender.send(sender="b@example.org", recipient=recipient, content=CONTENT)
        if recipient.isascii() or "SMTPUTF8" in offers:
            await sending
            (mail,) = [line for line in script.commands if line.startswith("MAIL")]
            asked = {each.partition("=")[2] if each.startswith("BODY") else each for each in mail.split()[2:]}
            expected = set() if recipient.isascii() else {*offers.split()}
            assert {each for each in asked if not each.startswith("SIZE")} == expected
        else:
            with pytest.raises(SmtpError) as caught:
                await sending
            assert caught.value.fault is Fault.INVALID
            assert not any(line.startswith("MAIL") for line in script.commands)
        sender.close()
