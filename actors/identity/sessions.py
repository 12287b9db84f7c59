"""Sessions: the principal of an access token, the rotation of refresh tokens, and the end of sessions.

A session is a row in PostgreSQL and a family of refresh tokens, of which one is valid at a time (RFC 9700, 4.14.2).
"""

import logging
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.identity.audit_actions import (
    LOGIN_SUCCEEDED,
    REFRESH_TOKEN_REUSED,
    SESSION_REVOKED,
    SESSIONS_REVOKED,
)
from callboard.actors.identity.errors import (
    AUTH_INVALID_CREDENTIALS,
    AUTH_REFRESH_INVALID,
    AUTH_SESSION_ENDED,
    AUTH_STEP_UP_REQUIRED,
)
from callboard.actors.identity.known_devices import network_of
from callboard.actors.identity.session_cache import Authenticate, SessionCache
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.token_signer import Signer, fingerprint, refresh_token
from callboard.runtime import Actor, Message, Request, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = PersonalData(
    "sessions",
    {"sessions": ("user_id", "device", "ip"), "refresh_tokens": ("refresh_hash", "child_hash", "session_id")},
    QUERIES.export_sessions,
    QUERIES.erase_sessions,
)
NETWORKS = PersonalData(
    "networks", {"known_networks": ("user_id", "network")}, QUERIES.export_networks, QUERIES.erase_networks
)

SESSION_TTL_S = 30 * 24 * 3600  # from the last refresh
GRACE_S = 300  # a refresh token is accepted for this time after its session's expiry
REUSE_S = 10  # and again for this time after it was spent: two tabs, or a lost response
MAX_SESSIONS = 100  # of a user; one more ends the least recently used
NOTE_EVERY_S = 30.0
STEP_UP_S = 300.0  # how long a confirmed password allows a change of address, a deletion or an export

log = logging.getLogger(__name__)


class LoginResult(msgspec.Struct, frozen=True):
    """A session's tokens, shown once, and its user. `expires_in` is the access token's lifetime in seconds.

    A login gives its device a token, which identifies it at the next login: see known_devices.
    """

    access_token: str
    refresh_token: str
    expires_in: int
    user_id: UUID
    email: str
    full_name: str
    device_token: str | None = None

    def __repr__(self) -> str:
        """Without the tokens."""
        return f"Login(user_id={self.user_id})"


class OpenSession(Request[LoginResult], frozen=True):
    """Open a session after the password was checked, and remember the network.

    Raises Problem(AUTH_INVALID_CREDENTIALS) if the password has changed since `password_changed_at`.
    """

    user_id: UUID
    password_changed_at: datetime
    device: str
    ip: str | None


class RefreshSession(Request[LoginResult], frozen=True):
    """Spend a refresh token for its child and a new access token.

    If it was spent within the last REUSE_S seconds, it gives the same child; later, it ends the session. Raises
    Problem(AUTH_REFRESH_INVALID), the same for every invalid token.
    """

    token: str
    ip: str | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return "RefreshSession(...)"


class Session(msgspec.Struct, frozen=True):
    """An active session as its owner sees it; `used_at` is exact to about a minute."""

    session_id: UUID
    device: str
    ip: str | None
    created_at: datetime
    used_at: datetime
    expires_at: datetime


class ListSessions(Request[list[Session]], frozen=True):
    """List a user's active sessions, most recently used first; MAX_SESSIONS at most."""

    user_id: UUID


class RevokeSession(Request[bool], frozen=True):
    """End one of a user's sessions, in force at the reply; it says whether the session was active and the user's."""

    user_id: UUID
    session_id: UUID


class EndSessions(Request[None], frozen=True):
    """End all of a user's sessions, in force at the reply."""

    user_id: UUID


class InvalidateUser(Request[None], frozen=True):
    """Invalidate the cached data of a user in every process: their sessions or their account have changed.

    Ask after the commit of the change; the reply says that it is in force.
    """

    user_id: UUID


class RequireStepUp(Request[None], frozen=True):
    """Check that a session has confirmed its password lately, for an act of another department.

    Raises Problem(AUTH_STEP_UP_REQUIRED, AUTH_SESSION_ENDED).
    """

    user_id: UUID
    session_id: UUID


class RecordUses(Message, frozen=True):
    """Record which sessions have been used."""


SessionMessage = (
    OpenSession
    | RefreshSession
    | Authenticate
    | ListSessions
    | RevokeSession
    | EndSessions
    | InvalidateUser
    | RequireStepUp
    | RecordUses
)


def key_of(message: Any) -> Hashable:
    """Return the routing key of a message: the user, or the token if only that is known."""
    return message.token if isinstance(message, RefreshSession) else message.user_id


async def end_sessions(connection: Any, user_id: UUID, keep: UUID | None = None) -> None:
    """End a user's sessions, except `keep`, in the caller's transaction; send `InvalidateUser` after its commit.

    Make the change that ends them (a new password, a deactivated account) earlier in the same transaction. Then a
    simultaneous login either waits for the commit or is ended here.
    """
    await QUERIES.end_sessions(connection, user_id=user_id, keep=keep)


async def require_step_up(connection: Any, session_id: UUID | None, within_s: float) -> None:
    """Raise Problem(AUTH_STEP_UP_REQUIRED) unless the session has confirmed the password within the last seconds, and
    AUTH_SESSION_ENDED if it has ended meanwhile.

    None stands for an operator at a command line, who has no session and needs none.
    """
    if session_id is None:
        return
    is_proved = await QUERIES.is_proved(connection, session_id=session_id, within_s=within_s)
    if not is_proved:
        raise Problem(AUTH_SESSION_ENDED if is_proved is None else AUTH_STEP_UP_REQUIRED)


class Sessions(Actor[SessionMessage]):
    """The session manager, keyed by user. Its workers share the session cache of the process.

    A change is in force in every process at the reply. If Redis is unavailable, nothing is cached, and PostgreSQL is
    asked each time. A process that alone has lost Redis still ends sessions at once for itself; the others may accept
    an ended session for at most MAX_AGE_S more.
    """

    def __init__(
        self,
        database: Database,
        session_cache: SessionCache,
        signer: Signer,
        now: Callable[[], datetime],
        *,
        step_up_s: float = STEP_UP_S,
    ) -> None:
        self.database = database
        self.session_cache = session_cache
        self.generations = session_cache.generations
        self.signer = signer
        self.now = now
        self.step_up_s = step_up_s

    async def on_start(self) -> None:
        """Record the sessions in use at intervals, outside of requests."""
        self.every(NOTE_EVERY_S, RecordUses())

    @on(Authenticate)
    async def authenticate(self, message: Authenticate) -> Principal:
        """Return the principal. Its role is the current one, not that of the token."""
        generation = await self.generations.read(message.user_id)
        known = self.session_cache.get(message.user_id, message.session_id, generation)
        return known or await self._read(message, generation)

    async def _read(self, message: Authenticate, generation: bytes | None) -> Principal:
        """Ask PostgreSQL, and cache a valid session if its generation was known before the question."""
        self.session_cache.evict(message.session_id)
        asked_at = self.generations.clock()
        async with self.database.acquire() as connection:
            row = await QUERIES.living_session(connection, session_id=message.session_id, user_id=message.user_id)
        if row is None:
            raise Problem(AUTH_SESSION_ENDED)
        identity = Principal(row["user_id"], row["session_id"], row["email"], Role(row["role"]))
        if generation is not None:
            self.session_cache.put(identity, generation, asked_at, row["left_s"])
        self.session_cache.note(message.session_id)
        return identity

    @on(RequireStepUp)
    async def step_up(self, message: RequireStepUp) -> None:
        """Ask PostgreSQL: the time of the password is not cached."""
        async with self.database.acquire() as connection:
            await require_step_up(connection, message.session_id, self.step_up_s)

    @on(OpenSession)
    @retried
    async def open(self, message: OpenSession) -> LoginResult:
        """Open a session. Only the hash of the refresh token is stored."""
        session_id, refresh = uuid4(), refresh_token()
        entry, tell = audit.draft(LOGIN_SUCCEEDED, of=message.user_id, by=message.user_id, session_id=session_id)
        async with self.database.acquire() as connection:
            user = await QUERIES.open_session(
                connection,
                session_id=session_id,
                user_id=message.user_id,
                password_changed_at=message.password_changed_at,
                device=message.device[:400],
                ip=message.ip,
                network=network_of(message.ip),
                ttl_s=SESSION_TTL_S,
                refresh_hash=fingerprint(refresh),
                most=MAX_SESSIONS,
                entry=entry,
            )
            if user is None:
                raise Problem(AUTH_INVALID_CREDENTIALS)
            connection.on_commit(tell)
        if user["surplus"]:
            await self.generations.bump(message.user_id)
        return self._login(user, refresh)

    def _login(self, user: Any, refresh: str) -> LoginResult:
        access = self.signer.issue(
            user_id=user["user_id"],
            email=user["email"],
            session_id=user["session_id"],
            token_id=uuid4(),
            now=self.now(),
        )
        return LoginResult(access, refresh, self.signer.access_ttl_s, user["user_id"], user["email"], user["full_name"])

    @on(RefreshSession)
    @retried
    async def refresh(self, message: RefreshSession) -> LoginResult:
        """Rotate a refresh token. The holder of the lock on the session's row decides; all others see its decision."""
        token_hash = fingerprint(message.token)
        async with self.database.transaction() as connection:
            session_id = await QUERIES.session_of(connection, refresh_hash=token_hash)
            user = session_id and await QUERIES.lock_session(connection, session_id=session_id, grace_s=GRACE_S)
            if not user:
                raise Problem(AUTH_REFRESH_INVALID)
            token = await QUERIES.read_token(connection, refresh_hash=token_hash, reuse_s=REUSE_S)
            stolen = token["spent"] and not token["again"]
            if stolen:
                await QUERIES.end_session(connection, session_id=session_id, user_id=user["user_id"])
                await audit.record(connection, REFRESH_TOKEN_REUSED, of=user["user_id"], session_id=session_id)
            elif not token["spent"]:
                await self._rotate(connection, session_id, message)
        if stolen:
            await self.generations.bump(user["user_id"])
            log.warning("a spent refresh token came again; session %s has been ended", session_id)
            raise Problem(AUTH_REFRESH_INVALID)
        child = self.signer.derive_refresh_token(message.token, token["child_hash"])
        if token["spent"] and fingerprint(child) != token["child_hash"]:  # made under a key that no longer exists
            raise Problem(AUTH_REFRESH_INVALID)
        return self._login(user, child)

    async def _rotate(self, connection: Any, session_id: UUID, message: RefreshSession) -> None:
        token_hash, child_hash = (
            fingerprint(message.token),
            fingerprint(self.signer.derive_refresh_token(message.token)),
        )
        await QUERIES.spend_token(connection, refresh_hash=token_hash, child_hash=child_hash)
        await QUERIES.add_refresh_token(connection, refresh_hash=child_hash, session_id=session_id)
        await QUERIES.prolong_session(connection, session_id=session_id, ip=message.ip, ttl_s=SESSION_TTL_S)

    @on(ListSessions)
    async def list_active(self, message: ListSessions) -> list[Session]:
        """Read all of them: there are few."""
        async with self.database.acquire() as connection:
            rows = QUERIES.living_sessions(connection, user_id=message.user_id, most=MAX_SESSIONS)
            return [Session(**row) async for row in rows]

    @on(RevokeSession)
    @retried
    async def end(self, message: RevokeSession) -> bool:
        """Invalidate even if it had ended: an earlier attempt may have failed before it could."""
        async with self.database.transaction() as connection:
            ended = await QUERIES.end_session(connection, session_id=message.session_id, user_id=message.user_id)
            if ended is not None:
                await audit.record(connection, SESSION_REVOKED, of=message.user_id, session_id=message.session_id)
        await self.generations.bump(message.user_id)
        return bool(ended)

    @on(EndSessions)
    @retried
    async def end_all(self, message: EndSessions) -> None:
        """End all in one statement."""
        async with self.database.transaction() as connection:
            await end_sessions(connection, message.user_id)
            await audit.record(connection, SESSIONS_REVOKED, of=message.user_id)
        await self.generations.bump(message.user_id)

    @on(InvalidateUser)
    async def invalidate(self, message: InvalidateUser) -> None:
        """Evict a user from the cache: its entries are of an earlier generation."""
        await self.generations.bump(message.user_id)

    @on(RecordUses)
    async def record_uses(self, _message: RecordUses) -> None:
        """Record at most once a minute for each session, however many processes have seen it used."""
        used, self.session_cache.used = self.session_cache.used, set()
        if used and not self.database.unavailable.is_set():
            async with self.database.acquire() as connection:
                await QUERIES.note_uses(connection, session_ids=list(used))
