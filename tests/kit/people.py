"""People of a running system, made in its database: an account, a session and its token cost no mail and no hashing."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg

from callboard.actors.infrastructure.token_signer import Signer
from kit.domain import CHEAP_HASH

# A good request to any route of uploads.
TUS = {
    "Tus-Resumable": "1.0.0",
    "Upload-Length": "1",
    "Upload-Offset": "0",
    "Content-Type": "application/offset+octet-stream",
    "X-HTTP-Method-Override": "PATCH",
}


class Person(NamedTuple):
    """Who may ask: with a token that is good, one that has expired, and one of a session that has ended."""

    role: str
    user_id: UUID
    email: str
    session_id: UUID
    token: str = ""
    expired: str = ""
    ended: str = ""


class UserFactory:
    """Makes people and what is theirs, in the system that says these facts."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._url = facts["DATABASE_URL"]
        self._signer = Signer(facts["JWT_SECRET_KEY"], issuer="callboard", access_ttl_s=900)

    def person(self, role: str) -> Person:
        """Somebody new, whose password is the tests' `PASSWORD` of `domain`."""
        user_id, session_id, ended_id = uuid4(), uuid4(), uuid4()
        email = f"{role}-{user_id.hex[:12]}@example.org"
        account = (
            "insert into users (user_id, email, password_hash, full_name, role, is_verified) "
            "values ($1, $2, $3, 'Some One', $4, true)"
        )
        session = (
            "insert into sessions (session_id, user_id, expires_at, ended_at) "
            "values ($1, $2, now() + interval '1 day', $3)"
        )
        self.execute(
            (account, user_id, email, CHEAP_HASH, role),
            ("insert into user_profiles (user_id) values ($1)", user_id),
            (session, session_id, user_id, None),
            (session, ended_id, user_id, datetime.now(UTC)),
        )
        return Person(
            role,
            user_id,
            email,
            session_id,
            self._token(user_id, email, session_id),
            self._token(user_id, email, session_id, age=timedelta(days=1)),
            self._token(user_id, email, ended_id),
        )

    def draft(self, author: Person, *, is_deleted: bool = False) -> UUID:
        """A draft of theirs."""
        content_id = uuid4()
        statement = (
            "insert into content (content_id, author_id, title, body, body_html, deleted_at) "
            "values ($1, $2, 'a', 'b', 'b', case when $3 then now() end)"
        )
        self.execute((statement, content_id, author.user_id, is_deleted))
        return content_id

    def comment(self, owner: Person, content_id: UUID | None = None) -> UUID:
        """A comment of theirs on an article, or on somebody's published one."""
        comment_id = uuid4()
        if content_id is None:
            content_id = self.draft(self.person("member"))
            publish = "update content set status = 'published', published_at = now() where content_id = $1"
            self.execute((publish, content_id))
        add = "insert into comments (comment_id, content_id, author_id, body, body_html) values ($1, $2, $3, 'a', 'a')"
        self.execute((add, comment_id, content_id, owner.user_id))
        return comment_id

    def upload(self, owner: Person, *, is_complete: bool = False) -> UUID:
        """An upload of theirs, of one byte that has not come, or is lost."""
        upload_id = uuid4()
        statement = (
            "insert into uploads (upload_id, user_id, kind, size, reserved, received, media_type, completed_at, "
            "expires_at) values ($1, $2, 'whole', 1, 1, $3::int, 'image/png', "
            "case when $3 = 1 then now() end, case when $3 = 0 then now() + interval '1 day' end)"
        )
        self.execute((statement, upload_id, owner.user_id, int(is_complete)))
        return upload_id

    def category(self) -> str:
        """The slug of a category."""
        slug = uuid4().hex
        self.execute(("insert into categories (slug, name) values ($1, $1)", slug))
        return slug

    def job(self, owner: Person, state: str) -> UUID:
        """An import of theirs, whose input is gone."""
        job_id = uuid4()
        statement = "insert into user_jobs (job_id, kind, user_id, state) values ($1, 'import_content', $2, $3)"
        self.execute((statement, job_id, owner.user_id, state))
        return job_id

    def _token(self, user_id: UUID, email: str, session_id: UUID, age: timedelta = timedelta()) -> str:
        now = datetime.now(UTC) - age
        return self._signer.issue(user_id=user_id, email=email, session_id=session_id, token_id=uuid4(), now=now)

    def execute(self, *statements: tuple[Any, ...]) -> None:
        """Run statements, each with its arguments."""

        async def run() -> None:
            connection = await asyncpg.connect(self._url)
            try:
                for statement, *arguments in statements:
                    await connection.execute(statement, *arguments)
            finally:
                await connection.close()

        asyncio.run(run())
