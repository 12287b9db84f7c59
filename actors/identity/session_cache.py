"""A cache of valid sessions in each process, read before the session manager is asked.

Only valid sessions are cached, each with its user's generation: every process refuses an ended session from the next
request on.
"""

from collections.abc import Generator
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.identity.user_generations import MAX_AGE_S, UserGenerations
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Ref, Request

MAX_CACHED = 32_768  # sessions, each about 1 kB


class Authenticate(Request[Principal], frozen=True):
    """Find the user of this session. Raises Problem(AUTH_SESSION_ENDED)."""

    user_id: UUID
    session_id: UUID


class CachedSession(msgspec.Struct, frozen=True):
    """A session that was valid in this generation; it may be served from the cache until `until`, in the
    clock's time.
    """

    identity: Principal
    generation: bytes
    until: float


class SessionCache:
    """The cache of a process. The session manager writes it, and the HTTP server reads it.

    `used` are sessions seen in use, for the session manager to record.
    """

    def __init__(self, generations: UserGenerations) -> None:
        self.generations = generations
        self.used: set[UUID] = set()
        self._known: dict[UUID, CachedSession] = {}

    def get(self, user_id: UUID, session_id: UUID, generation: bytes | None) -> Principal | None:
        """Return the cached principal; None if there is none for this generation of the user."""
        known = self._known.get(session_id)
        if (
            known is None
            or generation is None
            or known.generation != generation
            or self.generations.clock() >= known.until
            or known.identity.user_id != user_id
        ):
            return None
        self.note(session_id)
        return known.identity

    def put(self, identity: Principal, generation: bytes, asked_at: float, left_s: float) -> None:
        """Cache the principal that PostgreSQL returned for a question of `asked_at`; the session has `left_s` seconds
        left.
        """
        self._known.pop(identity.session_id, None)
        self._known[identity.session_id] = CachedSession(identity, generation, asked_at + min(MAX_AGE_S, left_s))
        if len(self._known) > MAX_CACHED:
            del self._known[next(iter(self._known))]

    def evict(self, session_id: UUID) -> None:
        """Evict the session: it must be read anew."""
        self._known.pop(session_id, None)

    def note(self, session_id: UUID) -> None:
        """Note that the session is in use."""
        if len(self.used) < MAX_CACHED:
            self.used.add(session_id)


class Authentication:
    """A lookup of the user of a session: started at once, awaited for its result.

    So its Redis command shares a round trip with the request's other commands. Raises the errors of Authenticate.
    """

    __slots__ = ("_generation", "_session_cache", "_sessions", "_who")

    def __init__(self, session_cache: SessionCache, sessions: Ref[Any], user_id: UUID, session_id: UUID) -> None:
        self._session_cache = session_cache
        self._sessions: Ref[Authenticate] = sessions
        self._who = user_id, session_id
        self._generation = session_cache.generations.read(user_id)

    def __await__(self) -> Generator[Any, None, Principal]:
        """Answer from the cache, or by the session manager."""
        generation = yield from self._generation.__await__()
        identity = self._session_cache.get(*self._who, generation)
        if identity is None:
            identity = yield from self._sessions.ask(Authenticate(*self._who)).__await__()
        return identity
