"""A mail queue whose mails a test hands out itself, and the senders of several processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from domain import Domain, consume, envelope
from smtp_script import Script

from callboard.actors import mail as module
from callboard.actors.mail import MailSender, Postbox, SendMail
from callboard.actors.mail_monitor import MailMonitor
from callboard.actors.mail_producers import MailProducers, parse_mail_producers
from callboard.actors.smtp_client import SmtpClient, SmtpSettings, SmtpTimeouts, Tls
from callboard.ops.metrics import Metrics
from callboard.runtime import pool
from callboard.streams.events import LetterRequested, MailRequested

PRODUCERS = MailProducers(parse_mail_producers("/tests 1000000/day *"))
URL = "https://board.example"
SENDER = "Callboard <board@example.org>"


QUICK = SmtpTimeouts(*[0.1] * 6, before_dot_s=5.0)  # each phase by itself


class Post:
    """Workers that all claim from one queue, and the server that they send to."""

    def __init__(self, domain: Domain, port: int, timeouts: SmtpTimeouts = QUICK) -> None:
        self.domain = domain
        self.metrics = Metrics()
        self.monitor = MailMonitor(self.metrics.count_mail)
        self.client = SmtpClient(SmtpSettings("127.0.0.1", port, SENDER, tls=Tls.NONE), timeouts)
        self.senders = [MailSender(domain.database, domain.signer, self.client, URL, self.monitor) for _ in range(5)]
        self.postbox = Postbox(domain.database, pool("nobody", MailSender, size=1), PRODUCERS)
        self.postbox._hand_out = lambda _: None  # type: ignore[method-assign] - these tests hand out themselves

    async def queue(self, event: Any, **facts: Any) -> UUID:
        """Have a mail queued as the streams would, and give its id."""
        asked = envelope(event, **facts)
        await self.postbox.consume(consume(asked))
        return module._mail_id(asked)

    async def ready(self, to: str = "ada@example.org", subject: str = "Hello", text: str = "A text") -> UUID:
        return await self.queue(MailRequested(to, subject, text))

    async def send(self, mail_id: UUID, orders: int = 1) -> None:
        """So many orders for one mail at once, among five workers."""
        await asyncio.gather(*(self.senders[n % 5].send(SendMail(mail_id)) for n in range(orders)))

    async def row(self, mail_id: UUID) -> dict[str, Any]:
        query = "select *, extract(epoch from due_at - now())::float8 as due_s from mails where mail_id = $1"
        (row,) = await self.domain.rows(query, mail_id)
        return row

    async def due(self) -> None:
        """Let the time pass that something is waited for."""
        await self.domain.execute(
            "update mails set due_at = now() - interval '1 s' where status in ('queued','sending')"
        )


@asynccontextmanager
async def misbehaving(domain: Domain, **answers: str | None) -> AsyncIterator[tuple[Post, Script]]:
    async with Script(**answers).listening() as script:
        yield Post(domain, script.port), script


async def verification(post: Post, domain: Domain, user_id: UUID, token_of: UUID | None = None) -> UUID:
    query = "select token_id from mail_tokens where user_id = $1"
    token_id = await domain.value(query, token_of or user_id)
    return await post.queue(LetterRequested("verify_email", user_id, {"token_id": str(token_id)}))
