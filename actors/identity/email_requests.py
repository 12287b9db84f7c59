"""Email requests: what anybody may ask to be mailed to an address, put on the queue before anybody looks whose it is.

So asking costs the same and is answered alike for every address, and what was acknowledged outlives the process. An
address is kept until it has been looked up: a moment, or an hour at most while nothing can.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from callboard.actors.identity.email_verification import resend_verification
from callboard.actors.identity.password_reset import send_reset
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Backoff, Job, JobKind, Outcome, Priority, on_job
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Actor, Request, on

CONCURRENCY = 32  # in one worker: most of them wait for a commit together
MAX_WAITING = 10_000  # nobody fills the table while nobody works at it
TTL_S = 3600.0  # whoever has not been answered by then has asked again

ANSWERS: dict[str, Callable[[Any, Signer, str], Awaitable[None]]] = {
    "reset_password": send_reset,
    "verify_email": resend_verification,
}


class RequestEmail(Request[None], frozen=True):
    """Have a letter mailed to an address, if it has an account that is to get it; the reply comes before anybody looks.

    Once there is a reply the letter is sure to come. Raises Problem(SERVER_OVERLOADED) when too many wait.
    """

    letter: Literal["reset_password", "verify_email"]
    email: str


class EmailRequest(msgspec.Struct, frozen=True):
    """The same as a job. The address may be anybody's: it is in no log, no list, and no row for longer than TTL_S."""

    letter: Literal["reset_password", "verify_email"]
    email: str


EMAIL_REQUEST = JobKind(
    "email_request",
    EmailRequest,
    priority=Priority.SECURITY,
    slots=2,
    max_waiting=MAX_WAITING,
    max_attempts=100,  # its deadline ends it, and leaves nothing: a dead letter would keep the address for a month
    backoff=Backoff(base_s=1.0, cap_s=60.0),
    timeout_s=20.0,
    secret=frozenset({"email"}),
)


class EmailRequests(Actor[RequestEmail]):
    """Puts requests on the queue."""

    concurrency = CONCURRENCY

    def __init__(self, database: Database, jobs: JobQueue) -> None:
        self.database = database
        self.jobs = jobs

    @on(RequestEmail)
    async def request(self, message: RequestEmail) -> None:
        """The same statements for every address."""
        request = EmailRequest(message.letter, message.email)
        await self.jobs.submit(self.database, request, deadline_s=TTL_S, admitted=True)


class EmailRequestWorker(Actor[Job[EmailRequest]]):
    """Looks up whose the addresses are, and has their letters sent."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    @on_job
    async def answer(self, job: Job[EmailRequest]) -> Outcome:
        """The end of the request, the secret and the request for its mail are one transaction."""
        request = job.payload
        async with job.finish() as connection:
            await ANSWERS[request.letter](connection, self.signer, request.email)
        return None
