"""The mail writer: from a row of `mails` to the bytes on the wire, with every fact read from PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import anyio.to_thread
import msgspec

from callboard.actors.delivery.email_templates import (
    ContentEmail,
    EmailTemplate,
    Facts,
    NotificationDigest,
    SecretLink,
    read_template,
)
from callboard.actors.delivery.mail_message import OutgoingMail, RenderedEmail, encode_mail
from callboard.actors.delivery.mail_queue import QUERIES, READY
from callboard.actors.delivery.mail_templates import MailTemplates
from callboard.actors.delivery.notification_preferences import UnsubscribeLinks
from callboard.actors.delivery.notifications import QUERIES as NOTIFICATIONS
from callboard.actors.infrastructure.notification_kinds import DIGEST
from callboard.actors.infrastructure.token_signer import Signer

LARGE = 16_384  # characters; a longer text of a producer would block the event loop for up to 0.3 s


class UnwritableError(Exception):
    """A mail that can never be written; the message says why, and contains no address."""


class MailWriter:
    """Writes mails. `sender` is the mailbox in From, and `link_url` the base URL of every link.

    The mails of a kind of notifications that users may switch off carry a link for it.
    """

    def __init__(
        self,
        signer: Signer,
        sender: str,
        link_url: str,
        links: UnsubscribeLinks,
        templates: MailTemplates,
    ) -> None:
        self.signer = signer
        self.sender = sender
        self.link_url = link_url.rstrip("/")
        self.kinds = links.kinds
        self.links = links
        self.templates = templates
        # The kind that a mail's template belongs to; besides digests no other mail can be switched off.
        self._kind_of = {kind.letter: kind.name for kind in self.kinds.values() if kind.letter}

    async def write(self, connection: Any, mail: Any, sent_at: datetime) -> OutgoingMail:
        """Return the mail on the wire. Raises UnwritableError for any fault of it."""
        try:
            data = msgspec.json.decode(mail["data"], type=dict[str, str])
            unsubscribe_url = None
            if mail["letter"] == READY:
                email = RenderedEmail(data["subject"], data["text"], data["html"] or None)
            else:
                user_id = UUID(data.pop("user_id"))
                template = read_template(mail["letter"], data)
                kind = self._kind_of.get(mail["letter"])
                notifications: Sequence[Any] = ()
                if isinstance(template, NotificationDigest):
                    notifications = await self._notifications(connection, user_id, template.digest_id)
                    kind = _kind_of_digest(template.digest_id, notifications)
                facts = await self._facts(connection, mail, template, user_id, notifications)
                email = self.templates.render(mail["letter"], template, facts)
                if kind is not None:
                    unsubscribe_url = self.links.unsubscribe_url(user_id, kind)
            encode = partial(
                encode_mail,
                email,
                sender=self.sender,
                recipient=mail["recipient"],
                mail_id=mail["mail_id"],
                sent_at=sent_at,
                unsubscribe_url=unsubscribe_url,
            )
            large = len(email.text) + len(email.html or "") > LARGE
            return await anyio.to_thread.run_sync(encode) if large else encode()
        except (ValueError, LookupError) as error:  # msgspec's and the templates' errors are ValueErrors too
            raise UnwritableError(f"{type(error).__name__}: {error}"[:500]) from error

    async def _facts(
        self, connection: Any, mail: Any, template: EmailTemplate, user_id: UUID, notifications: Sequence[Any]
    ) -> Facts:
        """Load the facts for one of our mails. Raises UnwritableError."""
        token, title, note = None, "", ""
        if isinstance(template, SecretLink):
            token = await self._secret(connection, mail, template.token_id)
        elif isinstance(template, ContentEmail):
            article = await QUERIES.article(
                connection,
                content_id=template.content_id,
                transition_id=template.transition_id,
                author_id=user_id,
            )
            if article is None:
                raise UnwritableError("the article does not exist, or is not the recipient's")
            title, note = article["title"], article["note"] or ""
        reader = await QUERIES.reader(connection, user_id=user_id, recipient=mail["recipient"])
        full_name, languages = (None, ()) if reader is None else (reader["full_name"], tuple(reader["languages"]))
        described = tuple(
            self.kinds[row["kind"]].describe(msgspec.json.decode(row["data"]), languages) for row in notifications
        )
        return Facts(self.link_url, full_name, token, title, note, described, languages)

    async def _notifications(self, connection: Any, user_id: UUID, digest_id: UUID) -> Sequence[Any]:
        """Return the rows of a digest whose kinds are declared. Raises UnwritableError if none is left."""
        rows = NOTIFICATIONS.digest(connection, digest_id=digest_id, user_id=user_id)
        found = [row async for row in rows if row["kind"] in self.kinds]
        if not found:
            raise UnwritableError("the digest has no notifications any more")
        return found

    async def _secret(self, connection: Any, mail: Any, token_id: UUID) -> str:
        """Return the secret of a token, after a check of its owner: a writer of the topic must not get another's
        secret.
        """
        owner = await QUERIES.token_owner(connection, token_id=token_id, purpose=mail["letter"])
        if owner is None or owner["email"] != mail["recipient"]:
            raise UnwritableError("the mail's token is not the recipient's")
        token = self.signer.mail_token_of(token_id, owner["token_hash"])
        if token is None:
            raise UnwritableError("the mail's token was made with a key that has been removed")
        return token


def _kind_of_digest(digest_id: UUID, notifications: Sequence[Any]) -> str:
    """Return the kind that a digest's link ends: a notification that is mailed at once is a digest of its own id."""
    is_single = notifications[0]["notification_id"] == digest_id
    return str(notifications[0]["kind"]) if is_single else DIGEST
