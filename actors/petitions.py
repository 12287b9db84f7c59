"""Petitions: what anybody may ask to be mailed to an address, written down before anybody looks whose it is.

So asking costs the same and is answered alike for every address, and what was acknowledged outlives the process. An
address is kept until a clerk has looked it up: a moment, or an hour at most while PostgreSQL or the clerks are away.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import aiosql

from callboard.actors.addresses import resend_verification
from callboard.actors.database import Database
from callboard.actors.errors import SERVER_OVERLOADED, Problem
from callboard.actors.recovery import send_reset
from callboard.actors.tokens import Signer
from callboard.runtime import (
    Actor,
    ActorStoppedError,
    Context,
    MailboxFullError,
    Ref,
    Request,
    current_context,
    on,
    use_context,
)

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("petitions.sql"), "asyncpg")

AT_ONCE = 32  # in one worker: most of them wait for a commit together
LOOK_EVERY_S = 1.0
LEASE_S = 5.0  # how long a claim holds: several times what one takes
MAX_WAITING = 10_000  # nobody fills the table while no clerk gets to it
TTL_S = 3600.0  # who has not been answered by then has asked again

ANSWERS: dict[str, Callable[[Any, Signer, str], Awaitable[None]]] = {
    "reset_password": send_reset,
    "verify_email": resend_verification,
}


class AskForLetter(Request[None], frozen=True):
    """Have a letter mailed to an address, if it has an account that is to get it; the reply comes before anybody looks.

    Once there is a reply the letter is sure to come. Raises Problem(SERVER_OVERLOADED) when too many wait.
    """

    letter: Literal["reset_password", "verify_email"]
    email: str


class TakeUp(Request[int], frozen=True):
    """Answer all petitions that are due; the reply is how many were."""


class Petitions(Actor[AskForLetter]):
    """Writes petitions down, and wakes the clerk of this process."""

    concurrency = AT_ONCE

    def __init__(self, database: Database, clerk: Ref[TakeUp]) -> None:
        self.database = database
        self.clerk = clerk

    @on(AskForLetter)
    async def ask(self, message: AskForLetter) -> None:
        """One statement, its own transaction."""
        context = current_context()
        async with self.database.acquire() as connection:
            added = await QUERIES.add_petition(
                connection,
                letter=message.letter,
                email=message.email,
                traceparent=context.traceparent if context else None,
                most=MAX_WAITING,
            )
        if not added:
            raise Problem(SERVER_OVERLOADED, retry_after_s=1)
        # Without its context: the asker's deadline is not the work's.
        with use_context(Context()), suppress(MailboxFullError, ActorStoppedError):
            self.clerk.tell_nowait(TakeUp())


class Clerk(Actor[TakeUp]):
    """Looks up whose the addresses are, and has their letters sent.

    A petition whose clerk died is taken up by any other, in this process or another, when the claim has lapsed; one
    that cannot be answered is tried again each time, and holds up no other.
    """

    def __init__(self, database: Database, signer: Signer) -> None:
        self.database = database
        self.signer = signer

    async def on_start(self) -> None:
        """Look after what an earlier process has left, and what other processes write down."""
        self.every(LOOK_EVERY_S, TakeUp())

    @on(TakeUp)
    async def take_up(self, _message: TakeUp) -> int:
        """One after the other, the oldest first."""
        taken = 0
        while not self.database.away.is_set():
            async with self.database.acquire() as connection:
                claimed = await QUERIES.claim_petition(connection, lease_s=LEASE_S, ttl_s=TTL_S)
            if claimed is None:
                break
            with use_context(Context(claimed["traceparent"])):
                await self._answer(claimed["petition_id"])
            taken += 1
        return taken

    async def _answer(self, petition_id: UUID) -> None:
        """The end of the petition, the secret and the request for its mail are one transaction."""
        async with self.database.transaction() as connection:
            petition = await QUERIES.take_petition(connection, petition_id=petition_id)
            if petition is not None:
                await ANSWERS[petition["letter"]](connection, self.signer, petition["email"])
