"""An SMTP server that misbehaves as a script says."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HANG_UP = "hang up"
LIMIT_BYTES = 4 << 20


class ScriptedSmtpServer:
    """The answers of a misbehaving server, by the command's first word.

    None is no answer at all, HANG_UP closes the connection instead, and a tuple is one answer after the other, of which
    the last stays. `content` is what it does while the mail's text comes: it reads it, or None: no more, or HANG_UP.
    `body` is the answer to the final dot. Several lines of one answer have "\\n" between them.
    """

    def __init__(self, **answers: str | tuple[str | None, ...] | None) -> None:
        self.answers: dict[str, str | tuple[str | None, ...] | None] = {
            "greeting": "220 here",
            "EHLO": "250 here",
            "HELO": "250 here",
            "MAIL": "250 ok",
            "RCPT": "250 ok",
            "DATA": "354 go",
            "content": "",
            "body": "250 kept",
            "QUIT": "221 bye",
            "RSET": "250 ok",
            **answers,
        }
        self.tls: ssl.SSLContext | None = None  # what STARTTLS begins with
        self.silent: asyncio.StreamWriter | None = None  # the last connection that got no answer
        self.commands: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.over = asyncio.Event()
        self.port = 0

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["ScriptedSmtpServer"]:
        """Serve on a free port of the loopback."""
        server = await asyncio.start_server(self.talk, "127.0.0.1", 0, ssl=tls, limit=LIMIT_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.over.set()
            server.close()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.open += 1
        try:
            await self._say(writer, "greeting")
            while line := await reader.readline():
                word = (line.decode("utf-8", "replace").split() or [""])[0].upper()
                self.commands.append(line.decode("utf-8", "replace").strip())
                said = await self._say(writer, word)
                if word == "STARTTLS" and said is not None and self.tls is not None:
                    await writer.start_tls(self.tls)
                if word == "DATA" and said is not None and said.startswith("354"):
                    if await self._say(writer, "content") is None:
                        writer.transport.pause_reading()  # type: ignore[attr-defined] - a socket's transport has it
                        await self.over.wait()
                        raise ConnectionAbortedError
                    self.bodies.append(await reader.readuntil(b"\r\n.\r\n"))
                    await self._say(writer, "body")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, word: str) -> str | None:
        answer = self.answers.get(word, "500 what")
        if isinstance(answer, tuple):
            self.answers[word] = answer[1:] if len(answer) > 1 else answer
            answer = answer[0]
        if answer == HANG_UP:
            raise ConnectionAbortedError
        if answer is None:
            self.silent = writer
        if answer:
            writer.write(answer.replace("\n", "\r\n").encode() + b"\r\n")
            await writer.drain()
        return answer

    async def reply(self, answer: str) -> None:
        """Answer at last where there was silence."""
        assert self.silent is not None
        self.silent.write(answer.encode() + b"\r\n")
        await self.silent.drain()
