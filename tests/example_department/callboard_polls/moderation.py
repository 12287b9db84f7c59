"""The service of others that judges the questions of polls."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

import msgspec
from msgspec import Struct

from callboard.actors.errors import SERVER_UNAVAILABLE, ErrorCode, ErrorKind, Problem
from callboard.actors.infrastructure.outside_client import OutsideClient

POLLS_REFUSED = ErrorCode("POLLS_REFUSED_001", ErrorKind.INVALID, "The question is not allowed.")
Judge = Callable[[str], Awaitable[None]]


class Verdict(Struct, frozen=True):
    """The service's answer."""

    is_allowed: bool


async def approve(_question: str) -> None:
    """Allow every question: there is no service."""


class Moderator:
    """Asks the service. A verdict holds for a minute, and for an hour if the service does not answer."""

    def __init__(self, service: OutsideClient) -> None:
        self._service = service

    async def judge(self, question: str) -> None:
        """Raise Problem(POLLS_REFUSED) for a question that is not allowed, SERVER_UNAVAILABLE without a verdict."""
        answer = await self._service.get(f"/verdicts?text={quote(question)}")
        try:
            verdict = msgspec.json.decode(answer.body, type=Verdict)
        except msgspec.MsgspecError as error:
            raise Problem(SERVER_UNAVAILABLE) from error
        if not verdict.is_allowed:
            raise Problem(POLLS_REFUSED)
