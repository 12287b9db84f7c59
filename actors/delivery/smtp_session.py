"""One connection to an SMTP server, from the greeting to QUIT, for one mail after the other."""

import asyncio
import re
import socket
import ssl
from typing import TypeVar

import aiosmtplib
from aiosmtplib import SMTP, SMTPStatus

from callboard.actors.delivery.smtp_errors import Phase, TooLargeError
from callboard.actors.delivery.smtp_settings import SmtpSettings, SmtpTimeouts, Tls

BLOCK_BYTES = 64 << 10
FLUSH_PAUSE_S = 0.02
MAX_ADDRESSES = 4  # the server's addresses that are tried in turn
NOT_IMPLEMENTED = (500, 502)
ACCEPTED = 2  # the first digit of a reply decides its meaning, with any other digits (RFC 5321, 4.3.2)
_DOT_AT_START = re.compile(rb"(?m)^\.")

T = TypeVar("T")


class SmtpSession:
    """One connection; `phase` is its current phase, and `mails` the number of mails that it has carried.

    Its methods raise the errors of the library and the system; `smtp_errors.FAILURES` lists them.
    """

    def __init__(self, settings: SmtpSettings, timeouts: SmtpTimeouts, tls_context: ssl.SSLContext | None) -> None:
        self.phase = Phase.CONNECT
        self.mails = 0
        self.opened_at = asyncio.get_running_loop().time()
        self._settings = settings
        self._timeouts = timeouts
        self._tls_context = tls_context
        self._client: SMTP | None = None
        self._socket: socket.socket | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the server has not closed the connection, as far as we know."""
        protocol = None if self._client is None else self._client.protocol
        return protocol is not None and protocol.is_connected

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

    async def reset(self) -> None:
        """Begin the next mail on a kept connection: RSET ends what is left of the last one, and shows that the server
        is still there.
        """
        self.phase = Phase.RESET
        await _present(self._client).rset(timeout=self._timeouts.reset_s)

    async def address(self, sender: str, recipient: str, size: int) -> None:
        """Send the envelope: the sender and the one recipient."""
        client = _present(self._client)
        self.phase = Phase.MAIL
        self.mails += 1
        options: list[str] = []
        limit = client.esmtp_extensions.get("size", "")
        if client.supports_extension("size"):
            options.append(f"SIZE={size}")
            if limit.isascii() and limit.isdecimal() and 0 < int(limit) < size:
                raise TooLargeError(f"{size} bytes, and the server takes {limit}")
        if not (sender.isascii() and recipient.isascii()):
            if not client.supports_extension("smtputf8"):
                self.phase = Phase.RCPT
                raise ValueError("the recipient's name is not ASCII, and the server does not offer SMTPUTF8")
            options.append("SMTPUTF8")
            if client.supports_extension("8bitmime"):
                options.append("BODY=8BITMIME")
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
        """Write the final dot and wait for the reply. If the connection has ended before, the phase is still BODY."""
        protocol = _present(_present(self._client).protocol)
        if not protocol.is_connected:
            raise ConnectionResetError("the connection was closed")
        self.phase = Phase.FINAL
        protocol.write(b".\r\n")
        reply = await protocol.read_response(timeout=self._timeouts.final_s)
        if reply.code // 100 != ACCEPTED:
            raise aiosmtplib.SMTPDataError(reply.code, reply.message)

    def close(self) -> None:
        """Send QUIT if the server listens to commands, and close. It waits for nothing."""
        client, kept = self._client, False
        if client is not None:
            protocol, kept = client.protocol, client.transport is not None
            if protocol is not None and protocol.is_connected and self.phase is not Phase.BODY:
                protocol.write(b"QUIT\r\n")
            client.close()
        if self._socket is not None and not kept:  # else its transport closes once QUIT is sent
            self._socket.close()


def _present(value: T | None) -> T:
    if value is None:
        raise ConnectionResetError("the connection was closed")
    return value


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
