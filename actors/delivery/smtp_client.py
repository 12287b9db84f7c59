"""The SMTP client: sends one mail after the other to one server, over a connection that it keeps between mails.

An error names the phase in which it happened. Until the final dot is written, the server cannot have accepted the mail.
After it, only a reply tells the outcome: without one it is unknown.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable

from callboard.actors.delivery.smtp_errors import FAILURES, Fault, Phase, SmtpError, smtp_error
from callboard.actors.delivery.smtp_session import SmtpSession
from callboard.actors.delivery.smtp_settings import (
    DEFAULT_LIMITS,
    RFC_TIMEOUTS,
    ConnectionLimits,
    SmtpSettings,
    SmtpTimeouts,
    Tls,
)

SERVICE_CLOSING = 421
REFUSALS = (4, 5)  # the first digits of a refusal, after which the session goes on
SESSION = frozenset({Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.TLS, Phase.AUTH, Phase.RESET})
_BARE_LINE_BREAK = re.compile(rb"\r(?!\n)|(?<!\r)\n")


async def _at_once() -> None:
    """Do nothing before the final dot."""


class SmtpClient:
    """Sends mails to one server, one at a time; a worker has a client of its own.

    The connection is kept for the next mail, within its limits. RSET precedes each further mail. If the server has
    closed a kept connection, or does not answer on it, a new one is opened in the same attempt.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        timeouts: SmtpTimeouts = RFC_TIMEOUTS,
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> None:
        self.settings = settings
        self.timeouts = timeouts
        self.limits = limits
        self._tls_context: ssl.SSLContext | None = None
        self._kept: SmtpSession | None = None
        self._timer: asyncio.TimerHandle | None = None

    def use(self, settings: SmtpSettings) -> None:
        """Take these settings from the next mail on; a connection that was made with others is closed."""
        if settings != self.settings:
            self.close()
            self.settings, self._tls_context = settings, None

    async def send(
        self, *, sender: str, recipient: str, content: bytes, before_dot: Callable[[], Awaitable[None]] = _at_once
    ) -> None:
        """Deliver one mail to one recipient; `content` has CRLF line ends. Raises SmtpError.

        `before_dot` is awaited when everything but the final dot has been sent: if it raises, the server has not
        accepted the mail.
        """
        if self._tls_context is None and self.settings.tls is not Tls.NONE:
            self._tls_context = await asyncio.to_thread(ssl.create_default_context)
        if _BARE_LINE_BREAK.search(content):
            raise SmtpError(Phase.MAIL, Fault.INVALID, text="a bare CR or LF")
        session = self._take()
        try:
            deadline = asyncio.get_running_loop().time() + self.timeouts.before_dot_s
            if session is not None:
                try:
                    await self._upload(session, deadline, sender, recipient, content)
                except SmtpError as error:
                    if not _is_stale(error):
                        raise
                    session.close()
                    session = None
            if session is None:
                session = SmtpSession(self.settings, self.timeouts, self._tls_context)
                await self._upload(session, deadline, sender, recipient, content)
            await before_dot()
            await self._finish(session)
        except SmtpError as error:
            self._keep(session, usable=_goes_on(error))
            raise
        except BaseException:
            self._keep(session, usable=False)
            raise
        self._keep(session)

    async def _upload(self, session: SmtpSession, deadline: float, sender: str, recipient: str, content: bytes) -> None:
        """Send everything but the final dot. Raises SmtpError."""
        try:
            async with asyncio.timeout_at(deadline):
                await (session.reset() if session.is_connected else session.open())
                await session.address(sender, recipient, len(content))
                await session.transfer(content)
        except FAILURES as error:
            raise smtp_error(session.phase, error) from error

    async def _finish(self, session: SmtpSession) -> None:
        try:
            await session.finish()
        except FAILURES as error:
            raise smtp_error(session.phase, error) from error

    # The kept connection ---------------------------------------------------------------------------------------------

    def _take(self) -> SmtpSession | None:
        """Return the kept connection; None if there is none that the server has left open."""
        session, self._kept = self._kept, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if session is not None and not session.is_connected:
            session.close()
            return None
        return session

    def _keep(self, session: SmtpSession | None, *, usable: bool = True) -> None:
        """Keep a connection for the next mail, or close it."""
        if session is None:
            return
        loop = asyncio.get_running_loop()
        left_s = min(self.limits.idle_s, session.opened_at + self.limits.age_s - loop.time())
        if usable and session.is_connected and session.mails < self.limits.mails and left_s > 0:
            self._kept = session
            self._timer = loop.call_later(left_s, self.close)
        else:
            session.close()

    def close(self) -> None:
        """Close the kept connection."""
        session = self._take()
        if session is not None:
            session.close()


def _is_stale(error: SmtpError) -> bool:
    """Whether a kept connection had ended, which says nothing about the mail: an idle server closes it, or says 421 or
    4.4.2 first; after its final dot it is too late to say so.
    """
    if error.phase is Phase.FINAL:
        return False
    timed_out = error.fault is Fault.REPLY and error.text.startswith("4.4.2")
    return error.phase is Phase.RESET or error.fault is Fault.CLOSED or error.code == SERVICE_CLOSING or timed_out


def _goes_on(error: SmtpError) -> bool:
    """Whether the server refused the mail and expects the next command."""
    if error.fault is not Fault.REPLY or error.phase in SESSION or error.code == SERVICE_CLOSING:
        return error.fault in (Fault.TOO_LARGE, Fault.INVALID)
    return (error.code or 0) // 100 in REFUSALS
