"""The SMTP client: one mail over one connection, with a time limit for each phase (RFC 5321, 4.5.3.2).

An error names the phase in which it happened. Until the final dot is written, the server cannot have accepted the mail.
After it, only a reply tells the outcome: without one it is unknown.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar

import aiosmtplib
import msgspec
from aiosmtplib import SMTP, SMTPStatus

from callboard.actors.delivery.mail_text import without_addresses

BLOCK_BYTES = 64 << 10
FLUSH_PAUSE_S = 0.02
MAX_ADDRESSES = 4  # the server's addresses that are tried in turn
NOT_IMPLEMENTED = (500, 502)
ACCEPTED = 2  # the first digit of a reply decides its meaning, with any other digits (RFC 5321, 4.3.2)
_DOT_AT_START = re.compile(rb"(?m)^\.")
_BARE_LINE_BREAK = re.compile(rb"\r(?!\n)|(?<!\r)\n")

T = TypeVar("T")


class Tls(StrEnum):
    """How the connection is encrypted: after STARTTLS, from its first byte, or not at all."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    NONE = "none"


def parse_tls(text: str) -> Tls:
    """Parse the setting SMTP_TLS; true and false are values of the earlier SMTP_STARTTLS. Raises ValueError."""
    word = text.strip().lower()
    former = {"true": Tls.STARTTLS, "false": Tls.NONE}
    if word not in former and word not in tuple(Tls):
        raise ValueError("must be starttls, implicit or none")
    return former.get(word) or Tls(word)


class Phase(StrEnum):
    """The steps of a delivery, in their order. FINAL is the wait for the reply to the final dot."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "EHLO"
    TLS = "TLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "body"
    FINAL = "final dot"


class Fault(StrEnum):
    """The kinds of failure."""

    REPLY = "reply"  # the server refused; `code` is its reply
    TIMEOUT = "timeout"
    CLOSED = "connection closed"
    UNREACHABLE = "unreachable"
    GARBLED = "not SMTP"
    TLS = "TLS failed"
    UNSUPPORTED = "not offered"
    TOO_LARGE = "too large"
    INVALID = "cannot be sent"


class SmtpSettings(msgspec.Struct, frozen=True):
    """The server that relays our mail; `sender` is the mailbox in From, with or without a name."""

    host: str
    port: int
    sender: str
    username: str | None = None
    password: str | None = None
    tls: Tls = Tls.STARTTLS

    def __repr__(self) -> str:
        """Without the password."""
        return f"SmtpSettings({self.host}:{self.port})"


class SmtpTimeouts(msgspec.Struct, frozen=True):
    """Time limits in seconds; the defaults are the minimum of RFC 5321.

    `before_dot_s` limits all phases before the final dot together: a server that answers each command slowly cannot
    hold a sender for longer.
    """

    connect_s: float = 30.0
    greeting_s: float = 300.0
    command_s: float = 300.0
    data_s: float = 120.0
    block_s: float = 180.0
    final_s: float = 600.0
    before_dot_s: float = 900.0

    @property
    def whole_s(self) -> float:
        """Return the longest time that one delivery takes."""
        return self.before_dot_s + self.final_s


RFC_TIMEOUTS = SmtpTimeouts()


class SmtpError(Exception):
    """The server did not accept a mail, or the outcome is unknown. The message holds no address: servers quote the
    recipient.
    """

    def __init__(self, phase: Phase, fault: Fault, code: int | None = None, text: str = "") -> None:
        self.phase = phase
        self.fault = fault
        self.code = code
        self.text = without_addresses(text)[:200]
        said = " ".join(str(part) for part in (code, self.text) if part)
        super().__init__(f"{phase}: {said}" if fault is Fault.REPLY else f"{phase}: {fault} {said}".strip())


async def _at_once() -> None:
    """Do nothing before the final dot."""


class SmtpClient:
    """Sends mails to one server. Each `send` has its own connection, so clients may be shared."""

    def __init__(self, settings: SmtpSettings, timeouts: SmtpTimeouts = RFC_TIMEOUTS) -> None:
        self.settings = settings
        self.timeouts = timeouts
        self._tls_context: ssl.SSLContext | None = None

    async def send(
        self, *, sender: str, recipient: str, content: bytes, before_dot: Callable[[], Awaitable[None]] = _at_once
    ) -> None:
        """Deliver one mail to one recipient; `content` has CRLF line ends. Raises SmtpError.

        `before_dot` is awaited when everything but the final dot has been sent: if it raises, the server has not
        accepted the mail. `send` returns as soon as the server has accepted the mail, and does not wait for the reply
        to QUIT.
        """
        if self._tls_context is None and self.settings.tls is not Tls.NONE:
            self._tls_context = await asyncio.to_thread(ssl.create_default_context)
        session = _Session(self.settings, self.timeouts, self._tls_context)
        try:
            if _BARE_LINE_BREAK.search(content):
                raise ValueError("a bare CR or LF")  # noqa: TRY301 - becomes the error of its phase below
            async with asyncio.timeout(self.timeouts.before_dot_s):
                await session.open()
                await session.address(sender, recipient, len(content))
                await session.transfer(content)
            await before_dot()
            await session.finish()
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise _smtp_error(session.phase, error) from error
        finally:
            session.close()


class _Session:
    """One connection; `phase` is its current phase."""

    def __init__(self, settings: SmtpSettings, timeouts: SmtpTimeouts, tls_context: ssl.SSLContext | None) -> None:
        self.phase = Phase.CONNECT
        self._settings = settings
        self._timeouts = timeouts
        self._tls_context = tls_context
        self._client: SMTP | None = None
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        """Connect, greet, encrypt and authenticate, as the settings say."""
        settings, timeouts = self._settings, self._timeouts
        self._socket = connected = await _connect(settings.host, settings.port, timeouts.connect_s)
        self._client = client = SMTP(
            hostname=settings.host,
            sock=connected,
            local_hostname=_own_name(connected),
            timeout=timeouts.command_s,
            use_tls=settings.tls is Tls.IMPLICIT,
            start_tls=False,
            tls_context=self._tls_context,
        )
        self.phase = Phase.GREETING
        await client.connect(timeout=timeouts.greeting_s)
        await self._greet(client)
        if settings.tls is Tls.STARTTLS:
            self.phase = Phase.TLS
            if not client.supports_extension("starttls"):
                raise aiosmtplib.SMTPNotSupported("STARTTLS, and SMTP_TLS asks for it")
            await client.starttls()
            await self._greet(client)
        if settings.username is not None:
            self.phase = Phase.AUTH
            if not client.supports_extension("auth"):
                raise aiosmtplib.SMTPNotSupported("AUTH, and SMTP_USERNAME asks for it")
            await client.login(settings.username, settings.password or "")

    async def _greet(self, client: SMTP) -> None:
        self.phase = Phase.EHLO
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if error.code not in NOT_IMPLEMENTED:
                raise
            await client.helo()

    async def address(self, sender: str, recipient: str, size: int) -> None:
        """Send the envelope: the sender and the one recipient."""
        client = _present(self._client)
        self.phase = Phase.MAIL
        options: list[str] = []
        limit = client.esmtp_extensions.get("size", "")
        if client.supports_extension("size"):
            options.append(f"SIZE={size}")
            if limit.isascii() and limit.isdecimal() and 0 < int(limit) < size:
                raise _TooLargeError(f"{size} bytes, and the server takes {limit}")
        if not (sender.isascii() and recipient.isascii()):
            if not client.supports_extension("smtputf8"):
                self.phase = Phase.RCPT
                raise ValueError("the recipient's name is not ASCII, and the server does not offer SMTPUTF8")
            options += ["SMTPUTF8", "BODY=8BITMIME"]
        await client.mail(sender, options=options, encoding="utf-8")
        self.phase = Phase.RCPT
        await client.rcpt(recipient, encoding="utf-8")

    async def transfer(self, content: bytes) -> None:
        """Send everything but the final dot; each block has its own time limit."""
        client, timeouts = _present(self._client), self._timeouts
        self.phase = Phase.DATA
        reply = await client.execute_command(b"DATA", timeout=timeouts.data_s)
        if reply.code != SMTPStatus.start_input:
            raise aiosmtplib.SMTPDataError(reply.code, reply.message)
        self.phase = Phase.BODY
        stuffed = _DOT_AT_START.sub(b"..", content)
        if not stuffed.endswith(b"\r\n"):
            stuffed += b"\r\n"
        for start in range(0, len(stuffed), BLOCK_BYTES):
            async with asyncio.timeout(timeouts.block_s):
                await self._write(stuffed[start : start + BLOCK_BYTES])

    async def _write(self, block: bytes) -> None:
        protocol = _present(_present(self._client).protocol)
        protocol.write(block)
        # The library has no public way to wait for a write. Most blocks leave at once.
        pause_s = 0.0
        while isinstance(protocol.transport, asyncio.WriteTransport) and protocol.transport.get_write_buffer_size():
            await asyncio.sleep(pause_s)
            pause_s = FLUSH_PAUSE_S
        if not protocol.is_connected:
            raise ConnectionResetError("the connection was closed")

    async def finish(self) -> None:
        """Write the final dot and wait for the reply."""
        protocol = _present(_present(self._client).protocol)
        self.phase = Phase.FINAL
        protocol.write(b".\r\n")
        reply = await protocol.read_response(timeout=self._timeouts.final_s)
        if reply.code // 100 != ACCEPTED:
            raise aiosmtplib.SMTPDataError(reply.code, reply.message)

    def close(self) -> None:
        """Send QUIT if the server still listens, and close. It waits for nothing."""
        client, kept = self._client, False
        if client is not None:
            protocol, kept = client.protocol, client.transport is not None
            if protocol is not None and protocol.is_connected:
                protocol.write(b"QUIT\r\n")
            client.close()
        if self._socket is not None and not kept:  # else its transport closes once QUIT is sent
            self._socket.close()


class _TooLargeError(ValueError):
    """The server accepts no mail of this size."""


def _present(value: T | None) -> T:
    if value is None:
        raise ConnectionResetError("the connection was closed")
    return value


def _smtp_error(phase: Phase, error: Exception) -> SmtpError:
    """Return the error of a phase for an exception of the library or the system."""
    text = str(error)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        if error.code == SMTPStatus.invalid_response:
            return SmtpError(phase, Fault.GARBLED, text=error.message)
        return SmtpError(phase, Fault.REPLY, error.code, error.message)
    cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else error
    fault = Fault.INVALID
    if isinstance(cause, ssl.SSLError):
        fault, text = Fault.TLS, str(cause)
    elif isinstance(error, TimeoutError):
        fault, text = Fault.TIMEOUT, ""
    elif isinstance(error, _TooLargeError):
        fault = Fault.TOO_LARGE
    elif isinstance(error, OSError):
        fault = Fault.UNREACHABLE if phase is Phase.CONNECT else Fault.CLOSED
    elif isinstance(error, aiosmtplib.SMTPException):
        fault = Fault.UNSUPPORTED
    return SmtpError(phase, fault, text=text)


async def _connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to the first of the host's addresses that answers. Raises OSError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found[:MAX_ADDRESSES]:
        attempt = socket.socket(family, kind, protocol)
        try:
            attempt.setblocking(False)
            async with asyncio.timeout(timeout_s):
                await loop.sock_connect(attempt, address)
        except OSError as error:
            attempt.close()
            failure = error
        except BaseException:
            attempt.close()
            raise
        else:
            return attempt
    raise failure


def _own_name(connected: socket.socket) -> str:
    """Return the name for EHLO: this machine's full name, or an address literal (RFC 5321, 4.1.4)."""
    name = socket.gethostname()
    if "." in name and re.fullmatch(r"[A-Za-z0-9.-]+", name):
        return name
    address = str(connected.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
