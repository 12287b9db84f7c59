"""The SMTP client against a server that refuses, stalls or hangs up in each phase."""

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.certificates import server_context
from kit.smtp_script import HANG_UP, ScriptedSmtpServer

from callboard.actors.delivery.smtp_client import SmtpClient
from callboard.actors.delivery.smtp_errors import Fault, Phase, SmtpError
from callboard.actors.delivery.smtp_settings import SmtpSettings, SmtpTimeouts, Tls
from callboard.ops.embedded.data_directory import free_ports

# Each limit by itself: a phase that took another's would not end in its test.
LONG_S = 600.0
LONG = SmtpTimeouts(*[LONG_S] * 8)
SHORT_S = 0.05
CONTENT = b"Subject: x\r\n\r\nHello\r\n.\r\n..two\r\n"

STALLS = [
    ("greeting", Phase.GREETING, "greeting_s"),
    ("EHLO", Phase.EHLO, "command_s"),
    ("MAIL", Phase.MAIL, "command_s"),
    ("RCPT", Phase.RCPT, "command_s"),
    ("DATA", Phase.DATA, "data_s"),
    ("body", Phase.FINAL, "final_s"),
]


def client(script: ScriptedSmtpServer, timeouts: SmtpTimeouts = LONG, **more: Any) -> SmtpClient:
    settings = {"host": "127.0.0.1", "port": script.port, "tls": Tls.NONE} | more
    return SmtpClient(SmtpSettings(**settings), timeouts)


async def send(sender: SmtpClient, recipient: str = "ada@example.org", content: bytes = CONTENT) -> None:
    await sender.send(sender="b@example.org", recipient=recipient, content=content)


async def failure(sender: SmtpClient, **more: Any) -> SmtpError:
    with pytest.raises(SmtpError) as caught:
        await send(sender, **more)
    return caught.value


def limited(name: str) -> SmtpTimeouts:
    """All limits long but one."""
    return SmtpTimeouts(**{each: SHORT_S if each == name else LONG_S for each in SmtpTimeouts.__struct_fields__})


async def test_a_mail_arrives_as_it_is() -> None:
    async with ScriptedSmtpServer().listening() as script:
        await send(client(script))
    assert script.bodies == [b"Subject: x\r\n\r\nHello\r\n..\r\n...two\r\n.\r\n"]
    assert script.commands[0].startswith("EHLO ")
    assert script.commands[1:4] == ["MAIL FROM:<b@example.org>", "RCPT TO:<ada@example.org>", "DATA"]


@pytest.mark.parametrize("answer", ["250 kept", "251 kept", "200", "250-kept\n250 and more"])
async def test_every_reply_of_the_two_hundreds_says_that_the_mail_was_taken(answer: str) -> None:
    async with ScriptedSmtpServer(body=answer).listening() as script:
        await send(client(script))
    assert len(script.bodies) == 1


@pytest.mark.parametrize("limit", ["٣", "-1", "0", "", "9" * 30, "10 20"])
async def test_a_size_that_is_no_number_limits_nothing(limit: str) -> None:
    async with ScriptedSmtpServer(EHLO=f"250-here\n250 SIZE {limit}").listening() as script:
        await send(client(script))
    assert len(script.bodies) == 1


@pytest.mark.parametrize("word", ["EHLO", "MAIL", "body"])
async def test_a_reply_that_never_ends_is_cut_off(word: str) -> None:
    async with ScriptedSmtpServer(**{word: "\n".join(["250-more"] * 200_000)}).listening() as script:
        assert (await failure(client(script))).fault is Fault.GARBLED


async def test_a_large_mail_leaves_in_blocks_and_whole() -> None:
    content = b"Subject: x\r\n\r\n" + b"".join(b"%d %s\r\n" % (n, b"." * 70) for n in range(20_000))
    async with ScriptedSmtpServer().listening() as script:
        await send(client(script), content=content)
    assert script.bodies == [content + b".\r\n"]


@pytest.mark.parametrize(("word", "phase", "limit"), STALLS)
async def test_a_stall_ends_by_the_limit_of_its_phase(word: str, phase: Phase, limit: str) -> None:
    async with ScriptedSmtpServer(**{word: None}).listening() as script:
        error = await failure(client(script, limited(limit)))
    assert (error.phase, error.fault) == (phase, Fault.TIMEOUT)


@pytest.mark.parametrize(("word", "phase", "_limit"), STALLS)
async def test_a_closed_connection_is_told_by_its_phase(word: str, phase: Phase, _limit: str) -> None:
    async with ScriptedSmtpServer(**{word: HANG_UP}).listening() as script:
        error = await failure(client(script))
    assert (error.phase, error.fault) == (phase, Fault.CLOSED)


@pytest.mark.parametrize(("word", "phase", "_limit"), STALLS)
@pytest.mark.parametrize("answer", ["421 busy", "450 later", "451 4.7.1 greylisted", "550 no"])
async def test_a_refusal_has_its_phase_and_code(word: str, phase: Phase, _limit: str, answer: str) -> None:
    async with ScriptedSmtpServer(**{word: answer}, HELO=answer).listening() as script:
        error = await failure(client(script))
    assert (error.phase, error.fault, error.code, error.text) == (phase, Fault.REPLY, int(answer[:3]), answer[4:])


@pytest.mark.parametrize("word", ["greeting", "MAIL", "body"])
@pytest.mark.parametrize("answer", ["HTTP/1.1 400 Bad Request", "hello?", "x" * 40_000])
async def test_what_is_no_smtp_is_told_as_such(word: str, answer: str) -> None:
    async with ScriptedSmtpServer(**{word: answer}).listening() as script:
        assert (await failure(client(script))).fault is Fault.GARBLED


async def test_a_slow_answer_to_the_final_dot_is_waited_for() -> None:
    async with ScriptedSmtpServer(body=None).listening() as script:
        sending = asyncio.create_task(send(client(script, LONG)))
        while not script.bodies:  # noqa: ASYNC110 - the script's side of the wire
            await asyncio.sleep(0.005)
        done, _ = await asyncio.wait((sending,), timeout=0.2)
        assert not done
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


async def test_all_phases_before_the_final_dot_are_bounded_together() -> None:
    async with ScriptedSmtpServer(RCPT=None).listening() as script:
        error = await failure(client(script, limited("before_dot_s")))
        assert (error.phase, error.fault) == (Phase.RCPT, Fault.TIMEOUT)


async def test_the_wait_for_the_final_dot_is_not_cut_by_the_bound_before_it() -> None:
    timeouts = SmtpTimeouts(**{**dict.fromkeys(SmtpTimeouts.__struct_fields__, LONG_S), "before_dot_s": 5.0})
    assert timeouts.whole_s == 605.0
    assert SmtpTimeouts() == SmtpTimeouts(30, 300, 300, 120, 180, 600, 900, 10)  # RFC 5321, 4.5.3.2


async def test_nobody_listens() -> None:
    script = ScriptedSmtpServer()
    (script.port,) = free_ports(1)
    error = await failure(client(script))
    assert (error.phase, error.fault) == (Phase.CONNECT, Fault.UNREACHABLE)
    assert (await failure(client(script, host="nowhere.invalid"))).fault is Fault.UNREACHABLE


async def test_a_mail_that_was_taken_waits_for_no_goodbye() -> None:
    async with ScriptedSmtpServer(QUIT=None).listening() as script:
        await send(client(script))
        assert len(script.bodies) == 1


async def test_no_connection_is_left_open() -> None:
    async with ScriptedSmtpServer(RCPT="550 no").listening() as script:
        for _ in range(3):
            await failure(client(script))
        assert script.connections == 3


async def test_a_bare_line_break_never_leaves() -> None:
    async with ScriptedSmtpServer().listening() as script:
        for content in (b"a\rb\r\n", b"a\nb\r\n", b"a\r\n.\nb\r\n", b"a\r\r\n"):
            assert (await failure(client(script), content=content)).fault is Fault.INVALID
    assert script.bodies == []


async def test_a_server_without_ehlo_is_asked_with_helo() -> None:
    async with ScriptedSmtpServer(EHLO="502 what").listening() as script:
        await send(client(script))
    assert [line.split()[0] for line in script.commands[:2]] == ["EHLO", "HELO"]


async def test_a_mail_larger_than_the_server_says_is_not_begun() -> None:
    async with ScriptedSmtpServer(EHLO="250-here\n250 SIZE 20").listening() as script:
        error = await failure(client(script))
        assert (error.phase, error.fault) == (Phase.MAIL, Fault.TOO_LARGE)
        assert "DATA" not in script.commands
        script.answers["EHLO"] = "250-here\n250 SIZE 1000"
        await send(client(script))
    assert f"MAIL FROM:<b@example.org> SIZE={len(CONTENT)}" in script.commands


# Addresses of other scripts -----------------------------------------------------------------------------------------


async def test_a_name_that_is_not_ascii_needs_smtputf8() -> None:
    async with ScriptedSmtpServer().listening() as script:
        error = await failure(client(script), recipient="jürgen@example.org")
        assert (error.phase, error.fault) == (Phase.RCPT, Fault.INVALID)
        assert "SMTPUTF8" in str(error)
        assert script.bodies == []
        script.answers["EHLO"] = "250-here\n250-8BITMIME\n250 SMTPUTF8"
        await send(client(script), recipient="jürgen@example.org")
    said = [line for line in script.commands if line.split()[0] in ("MAIL", "RCPT")]
    assert said == ["MAIL FROM:<b@example.org> SMTPUTF8 BODY=8BITMIME", "RCPT TO:<jürgen@example.org>"]


# Encryption and login -----------------------------------------------------------------------------------------------


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return server_context(tmp_path)


@pytest.fixture
def trusted(contexts: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Clients trust the server of this test."""
    monkeypatch.setattr(ssl, "create_default_context", lambda: contexts[1])
    return contexts[0]


async def test_starttls_encrypts_before_anything_is_said_of_the_mail(trusted: ssl.SSLContext) -> None:
    script = ScriptedSmtpServer(EHLO="250-here\n250 STARTTLS", STARTTLS="220 go")
    script.tls = trusted
    async with script.listening():
        await send(client(script, tls=Tls.STARTTLS))
    assert [line.split()[0] for line in script.commands[:4]] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


async def test_what_was_said_before_the_encryption_is_not_taken_for_said_in_it(trusted: ssl.SSLContext) -> None:
    async with ScriptedSmtpServer(
        EHLO="250-here\n250 STARTTLS", STARTTLS="220 go\n250-evil\n250 AUTH PLAIN"
    ).listening() as script:
        script.tls = trusted
        error = await failure(client(script, tls=Tls.STARTTLS, username="ada", password="sesame"))
    assert (error.phase, error.fault) == (Phase.AUTH, Fault.UNSUPPORTED)
    assert not [command for command in script.commands if command.startswith(("AUTH", "MAIL"))]


async def test_implicit_tls_encrypts_from_the_first_byte(trusted: ssl.SSLContext) -> None:
    async with ScriptedSmtpServer().listening(trusted) as script:
        await send(client(script, tls=Tls.IMPLICIT))
    assert len(script.bodies) == 1


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
async def test_a_certificate_that_is_not_trusted_is_refused(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], tls: Tls
) -> None:
    script = ScriptedSmtpServer(EHLO="250-here\n250 STARTTLS", STARTTLS="220 go")
    script.tls = contexts[0]
    async with script.listening(contexts[0] if tls is Tls.IMPLICIT else None):
        error = await failure(client(script, tls=tls))
    assert error.fault is Fault.TLS
    assert "certificate" in str(error)
    assert not any(line.startswith("MAIL") for line in script.commands)


async def test_a_server_that_speaks_no_tls_at_once_is_told_as_such() -> None:
    async with ScriptedSmtpServer().listening() as script:
        assert (await failure(client(script, tls=Tls.IMPLICIT))).fault is Fault.TLS


async def test_starttls_that_is_not_offered_is_not_done_without() -> None:
    async with ScriptedSmtpServer().listening() as script:
        error = await failure(client(script, tls=Tls.STARTTLS))
    assert (error.phase, error.fault) == (Phase.TLS, Fault.UNSUPPORTED)
    assert "STARTTLS" in str(error)
    assert [line.split()[0] for line in script.commands] in (["EHLO"], ["EHLO", "QUIT"])


async def test_a_login_is_done_and_a_refused_one_shows_no_password() -> None:
    async with ScriptedSmtpServer(EHLO="250-here\n250 AUTH PLAIN", AUTH="235 ok").listening() as script:
        await send(client(script, username="board", password="hunter2"))
        said = base64.b64encode(b"\0board\0hunter2").decode()
        assert f"AUTH PLAIN {said}" in script.commands
        script.answers["AUTH"] = "535 5.7.8 no"
        error = await failure(client(script, username="board", password="hunter2"))
    assert (error.phase, error.code) == (Phase.AUTH, 535)
    assert "hunter2" not in f"{error} {error!r}"


async def test_a_login_that_is_not_offered_is_told() -> None:
    async with ScriptedSmtpServer().listening() as script:
        error = await failure(client(script, username="board", password="hunter2"))
    assert (error.phase, error.fault) == (Phase.AUTH, Fault.UNSUPPORTED)


# Words --------------------------------------------------------------------------------------------------------------


async def test_an_error_holds_no_address() -> None:
    async with ScriptedSmtpServer(
        RCPT="550 5.1.1 <ada@example.org>: unknown; jürgen@bücher.example too"
    ).listening() as script:
        error = await failure(client(script))
    assert str(error) == "RCPT: 550 5.1.1 <(address)>: unknown; (address) too"


@given(st.text(max_size=300), st.sampled_from(Phase), st.sampled_from(Fault))
def test_an_error_is_one_short_line_whatever_the_server_says(text: str, phase: Phase, fault: Fault) -> None:
    said = str(SmtpError(phase, fault, 550, f"{text} ada@example.org {text}"))
    assert "ada@example.org" not in said
    assert said.isprintable() or "\u200c" in said or "\u200d" in said or not said.isascii()
    assert len(said) < 260
    assert "\n" not in said
    assert "\r" not in said


def test_the_settings_show_no_password() -> None:
    assert "hidden" not in repr(SmtpSettings("h", 25, "user", "hidden"))
