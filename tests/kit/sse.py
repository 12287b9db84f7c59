"""A client of server-sent events on a socket of its own: it reads the chunks, and says whether the end was one."""

import json
import socket
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit


class Event(NamedTuple):
    """One event. A heartbeat is an event without a name."""

    name: str
    event_id: str
    data: Any


class EventClient:
    """One connection. `timeout_s` is a limit of waiting, and no promise."""

    opened: ClassVar[set["EventClient"]] = set()  # a test closes what it has left open

    def __init__(self, url: str, token: str, last_event_id: str = "", timeout_s: float = 60.0, **headers: str) -> None:
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname, where.port), timeout=timeout_s)
        self._file = self._socket.makefile("rb")
        self.opened.add(self)
        lines = [f"GET {where.path} HTTP/1.1", f"Host: {where.netloc}", f"Authorization: Bearer {token}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if last_event_id:
            lines.append(f"Last-Event-ID: {last_event_id}")
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.status = int(self._file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value
        self.retry_ms = 0
        self.last_event_id = last_event_id
        self._text = ""
        self.is_whole = False  # whether the last chunk has come

    def next(self) -> Event | None:
        """The next event; None at the end, whole or not."""
        while "\n\n" not in self._text:
            piece = self._chunk()
            if piece is None:
                return None
            self._text += piece
        text, _, self._text = self._text.partition("\n\n")
        fields = dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)
        self.retry_ms = int(fields.get("retry", self.retry_ms))
        self.last_event_id = fields.get("id", self.last_event_id)
        return Event(fields.get("event", ""), fields.get("id", ""), json.loads(fields.get("data", "null")))

    def notification(self) -> dict[str, Any]:
        """The next notification."""
        while (event := self.next()) is not None:
            if event.name == "notification":
                found: dict[str, Any] = event.data
                return found
        raise AssertionError("the stream has ended")

    def read_to_the_end(self) -> list[Event]:
        """What still comes until the server closes."""
        found = []
        while (event := self.next()) is not None:
            found.append(event)
        return found

    def close(self) -> None:
        """Leave without a word."""
        self._file.close()
        self._socket.close()
        self.opened.discard(self)

    def _chunk(self) -> str | None:
        try:
            size = self._file.readline()
            if not size:
                return None
            content = self._file.read(int(size, 16) + 2)[:-2]
        except ConnectionError:
            return None
        self.is_whole = int(size, 16) == 0
        return None if self.is_whole else content.decode()
