"""An SMTP server that misbehaves as a script says."""

import asyncio


class Script:
    """What a misbehaving server answers, by the command's first word; None is no answer at all."""

    def __init__(self, **answers: str | None) -> None:
        self.answers = {
            "EHLO": "250 here",
            "MAIL": "250 ok",
            "RCPT": "250 ok",
            "DATA": "354 go",
            "QUIT": "221 bye",
            "RSET": "250 ok",
        }
        self.answers |= {"greeting": "220 here", "body": "250 kept"} | answers  # type: ignore[dict-item]
        self.commands: list[str] = []
        self.bodies: list[bytes] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._say(writer, "greeting")
            while line := await reader.readline():
                word = line.decode().split()[0].upper()
                self.commands.append(line.decode().strip())
                await self._say(writer, word)
                if word == "DATA" and self.answers["DATA"] == "354 go":
                    self.bodies.append(await reader.readuntil(b"\r\n.\r\n"))
                    await self._say(writer, "body")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, word: str) -> None:
        if answer := self.answers.get(word):
            writer.write(answer.encode() + b"\r\n")
            await writer.drain()
