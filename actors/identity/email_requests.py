"""Email requests: anybody may request a mail to an address; the request is queued before the address is looked up.

So a request costs the same and gets the same response for every address, and an acknowledged request survives the
process. The address is stored until it is looked up: for a moment, or for an hour at most during an outage.
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
MAX_WAITING = 10_000  # the limit of waiting requests, which bounds the table during an outage
TTL_S = 3600.0  # the user has repeated the request by then

ANSWERS: dict[str, Callable[[Any, Signer, str], Awaitable[None]]] = {
    "reset_password": send_reset,
    "verify_email": resend_verification,
}


class RequestEmail(Request[None], frozen=True):
    """Request a mail to an address, sent if the address has a suitable account; the reply comes before the lookup.

    After the reply the mail is certain to be sent. Raises Problem(SERVER_OVERLOADED) if too many requests wait.
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
    max_attempts=100,  # it ends at its deadline without a dead letter, which would keep the address for a month
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
        """Every address takes the same statements."""
        request = EmailRequest(message.letter, message.email)
        await self.jobs.submit(self.database, request, deadline_s=TTL_S, admitted=True)


class EmailRequestWorker(Actor[Job[EmailRequest]]):
    """Looks up the accounts of addresses, and requests their mails."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    @on_job
    async def answer(self, job: Job[EmailRequest]) -> Outcome:
        """End the request, add the secret and request its mail, in one transaction."""
        request = job.payload
        async with job.finish() as connection:
            await ANSWERS[request.letter](connection, self.signer, request.email)
        return None
