"""The embedded SMTP server: it delivers nothing, stores the mails that it receives, and shows them.

A mail is a file, synced to disk before the reply to its sender: an acknowledged mail survives SIGKILL. Two mails of the
same Message-ID are two mails here, so that a mail sent twice is seen twice.
"""

import asyncio
import functools
import io
import itertools
import os
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email import errors as mail_errors
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message as Parsed
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import msgspec

from callboard.ops.embedded.binaries import wheel_folder
from callboard.ops.embedded.data_directory import DataDirectory
from callboard.ops.embedded.errors import EmbeddedError

NAME = "mail"
MAILS_KEPT = 1_000
BYTES_KEPT = 64 << 20
MAIL_LIMIT_BYTES = 10 << 20
IDLE_TIMEOUT_S = 60.0
STOP_GRACE_S = 2.0
ENVELOPE = b"X-Callboard-Recipient: "


class Mail(msgspec.Struct, frozen=True):
    """A caught mail. `to` is the envelope's recipients, with ", " between them; `html` is empty for plain mail."""

    to: str
    subject: str
    text: str
    html: str
    received_at: datetime


class _Kept(msgspec.Struct, frozen=True):
    path: Path
    size: int
    mail: Mail


class Catcher:
    """An SMTP server on `port`, on the running loop. It keeps the newest 1,000 mails, or 64 MB of them."""

    name = NAME

    def __init__(self, data_directory: DataDirectory, port: int, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        if wheel_folder("aiosmtpd") is None:
            raise EmbeddedError("no embedded SMTP server: install callboard[embedded]")
        self.url = f"127.0.0.1:{port}"
        self._port = port
        self._folder = data_directory.folder(NAME)
        self._clock_ns = clock_ns
        self._kept: deque[_Kept] = deque()
        self._last_stamp = 0
        self._server: asyncio.Server | None = None
        self._sessions: set[Any] = set()
        self._keeping: set[asyncio.Task[str]] = set()
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Read the stored mails and listen. Raises EmbeddedError if the port is in use."""
        if not self._kept:
            self._kept = deque(await anyio.to_thread.run_sync(_load, self._folder))
            self._last_stamp = _stamp(self._kept[-1].path) if self._kept else 0
        self._stopped = asyncio.Event()
        # The protocol alone: aiosmtpd's own controllers bring a thread and a loop of theirs.
        protocol = functools.partial(
            import_module("aiosmtpd.smtp").SMTP,
            self,
            data_size_limit=MAIL_LIMIT_BYTES,
            enable_SMTPUTF8=True,
            hostname="callboard.localhost",
            ident="Callboard mail catcher",
            timeout=IDLE_TIMEOUT_S,
        )

        def session() -> Any:
            self._sessions = {each for each in self._sessions if each.transport is not None}
            self._sessions.add(made := protocol(loop=asyncio.get_running_loop()))
            return made

        try:
            self._server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", self._port)
        except OSError as error:
            raise EmbeddedError(f"the mail catcher cannot listen on {self.url}: {error.strerror}") from error

    async def exited(self) -> str:
        """Wait until it is stopped: it has no process that could end by itself."""
        await self._stopped.wait()
        return "was stopped"

    async def stop(self) -> None:
        """Stop listening and close the connections. Acknowledged mails are on disk."""
        if self._server is not None:
            self._server.close()
            self._server = None
            for each in self._sessions:
                if each.transport is not None:
                    each.transport.abort()
            self._sessions.clear()
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=STOP_GRACE_S)
        self._stopped.set()

    def mails(self) -> list[Mail]:
        """Return the stored mails, newest first."""
        return [each.mail for each in reversed(self._kept)]

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Called by aiosmtpd for each mail. The reply goes to the sender when this returns."""
        self._last_stamp = stamp = max(self._last_stamp + 1, self._clock_ns())
        path = self._folder / f"{stamp:020d}.eml"
        # A separate task, since a sender that disconnects cancels this one: a mail on disk must be shown, too.
        keeping = asyncio.create_task(self._keep(path, envelope.rcpt_tos, envelope.content))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        return await asyncio.shield(keeping)

    async def _keep(self, path: Path, recipients: list[str], content: bytes) -> str:
        try:
            kept = await anyio.to_thread.run_sync(_write, path, recipients, content)
        except OSError as error:
            return f"451 4.3.0 the mail could not be stored: {error.strerror}"
        self._insert(kept)
        return "250 2.0.0 kept"

    def _insert(self, kept: _Kept) -> None:
        """Add a mail in order of arrival, which differs from the order of disk writes."""
        later = []
        while self._kept and self._kept[-1].path > kept.path:
            later.append(self._kept.pop())
        self._kept.append(kept)
        self._kept.extend(reversed(later))
        for old in _trim(self._kept):
            old.path.unlink(missing_ok=True)


def _trim(kept: deque[_Kept]) -> list[_Kept]:
    """Remove the oldest mails above the limits."""
    gone = []
    held = sum(each.size for each in kept)
    while len(kept) > MAILS_KEPT or held > BYTES_KEPT:
        gone.append(old := kept.popleft())
        held -= old.size
    return gone


def _write(path: Path, recipients: list[str], content: bytes) -> _Kept:
    """Write a mail so that it is complete and durable, or not there at all."""
    envelope = b"".join(ENVELOPE + each.encode("utf-8", "surrogateescape") + b"\r\n" for each in recipients)
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        file.write(envelope + content)
        file.flush()
        os.fsync(file.fileno())
    half.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return _read(path, envelope + content)


def _load(folder: Path) -> list[_Kept]:
    """Return the mails in the folder, oldest first; unfinished files of a killed process are removed."""
    for half in folder.glob("*.half"):
        half.unlink()
    kept = deque(_read(path, path.read_bytes()) for path in sorted(folder.glob("*.eml"))[-MAILS_KEPT:])
    _trim(kept)
    return list(kept)


def _stamp(path: Path) -> int:
    return int(path.stem)


def _read(path: Path, raw: bytes) -> _Kept:
    lines = itertools.takewhile(lambda line: line.startswith(ENVELOPE), io.BytesIO(raw))
    recipients = [line.removeprefix(ENVELOPE).strip() for line in lines]
    # The compatible policy: the modern one raises on some malformed headers, and this must show any mail.
    parsed = message_from_bytes(raw)
    received_at = datetime.fromtimestamp(_stamp(path) / 1e9, tz=UTC)
    mail = Mail(
        to=", ".join(each.decode("utf-8", "replace") for each in recipients),
        subject=_subject(parsed),
        text=_body(parsed, "text/plain"),
        html=_body(parsed, "text/html"),
        received_at=received_at,
    )
    return _Kept(path, len(raw), mail)


def _subject(parsed: Parsed) -> str:
    raw = str(parsed.get("Subject", ""))
    try:
        return str(make_header(decode_header(raw))).replace("\r\n", "").replace("\n", "")
    except (LookupError, UnicodeError, mail_errors.HeaderParseError):
        return raw


def _body(parsed: Parsed, content_type: str) -> str:
    """Return the first part of this type that is no attachment, decoded as well as possible; empty if there is none."""
    for part in parsed.walk():
        if part.get_content_type() != content_type or part.get_content_disposition() == "attachment":
            continue
        payload = part.get_payload(decode=True)
        if not isinstance(payload, bytes):
            continue
        try:
            return payload.decode(part.get_content_charset("utf-8"), "replace")
        except LookupError:
            return payload.decode("utf-8", "replace")
    return ""
