"""The SMTP client against a server that is not ours: aiosmtpd, with TLS and a login."""

import asyncio
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from kit.certificates import server_context

from callboard.actors.delivery.smtp_client import SmtpClient
from callboard.actors.delivery.smtp_errors import Phase, SmtpError
from callboard.actors.delivery.smtp_settings import SmtpSettings, Tls

LOGIN = LoginPassword(b"ada", b"Quiet-Wings-7")
CONTENT = b"Subject: x\r\n\r\nHello\r\n.\r\n..two\r\n"


class Kept:
    """The mails that the server has taken: recipient, text, whether by TLS and a login."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, bytes, bool]] = []

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if address.startswith("nobody"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - the same
        secure = server.transport.get_extra_info("cipher") is not None
        self.mails.append((envelope.rcpt_tos[0], envelope.content, secure and session.authenticated))
        return "250 kept"


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
async def test_mails_arrive_over_tls_with_a_login_on_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: Tls, mechanism: str
) -> None:
    context, trusting = server_context(tmp_path)
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    kept, implicit = Kept(), tls is Tls.IMPLICIT
    made: list[SMTP] = []
    protocol = partial(
        *(SMTP, kept),
        enable_SMTPUTF8=True,
        tls_context=None if implicit else context,
        require_starttls=not implicit,
        auth_require_tls=not implicit,  # it does not count TLS from the first byte
        auth_required=True,
        auth_exclude_mechanism={"PLAIN", "LOGIN"} - {mechanism},
        authenticator=lambda *given: AuthResult(success=given[-1] == LOGIN, handled=False),
        loop=asyncio.get_running_loop(),
    )

    def session() -> SMTP:
        made.append(protocol())
        return made[-1]

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, ssl=context if implicit else None)
    settings = SmtpSettings(
        host="127.0.0.1", port=server.sockets[0].getsockname()[1], tls=tls, username="ada", password="Quiet-Wings-7"
    )
    client = SmtpClient(settings)
    try:
        async with asyncio.timeout(30):
            await client.send(sender="b@example.org", recipient="bo@example.org", content=CONTENT)
            with pytest.raises(SmtpError, match="no such user"):
                await client.send(sender="b@example.org", recipient="nobody@example.org", content=CONTENT)
            await client.send(sender="b@example.org", recipient="jürgen@example.org", content=CONTENT)
            assert len(made) == 1
            client.use(msgspec.structs.replace(settings, password="wrong"))
            with pytest.raises(SmtpError) as refused:
                await client.send(sender="b@example.org", recipient="bo@example.org", content=CONTENT)
    finally:
        client.close()
        server.close()
        for each in made:
            if each.transport is not None:
                each.transport.abort()
    assert kept.mails == [(to, CONTENT, True) for to in ("bo@example.org", "jürgen@example.org")]
    assert (refused.value.phase, refused.value.code) == (Phase.AUTH, 535)
