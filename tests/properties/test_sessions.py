"""Sessions against a model: whatever happens, in two processes, with Redis or without, a token is accepted if and only
if the model says so.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from kit.domain import PASSWORD, Domain
from kit.property_examples import examples
from kit.running import Up

from callboard.actors.errors import AUTH_TOKEN_EXPIRED, ErrorCode, Problem
from callboard.actors.identity.authentication import LogIn
from callboard.actors.identity.errors import AUTH_REFRESH_INVALID, AUTH_SESSION_ENDED
from callboard.actors.identity.password_reset import ChangePassword, ResetPassword
from callboard.actors.identity.session_cache import Authentication
from callboard.actors.identity.sessions import (
    GRACE_S,
    REUSE_S,
    SESSION_TTL_S,
    EndSessions,
    LoginResult,
    OpenSession,
    RefreshSession,
    RevokeSession,
)
from callboard.actors.identity.user_generations import SETTLING_S
from callboard.actors.identity.users import ChangeUser, DeleteUser
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.redis import RedisClient
from callboard.ops import schema
from callboard.runtime import Ref, Request

T = TypeVar("T")

WHERE = st.integers(0, 1)
WHICH = st.integers(0, 1000)
MARGIN_S = 4  # an example takes real time too: so near to a limit nothing is claimed
MOST = 6
ACCESS_TTL_S = 900  # as `Domain` has it
MOMENTS_S = (1, 1, 20, 20, 60, ACCESS_TTL_S - 60, ACCESS_TTL_S)
LIVES_S = (SESSION_TTL_S - 100, SESSION_TTL_S + 100, SESSION_TTL_S + GRACE_S + 100)


class World:
    """Two processes on one database and one Redis, on a loop of their own; a person for each example."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._runner = asyncio.Runner()
        self._stop = asyncio.Event()
        self.database = Database(database_url, size=8)
        self.processes: list[Domain] = []
        ready = asyncio.Event()
        self._host = self._runner.get_loop().create_task(self._play(redis_url, ready))
        self.run(ready.wait())

    async def _play(self, redis_url: str, ready: asyncio.Event) -> None:
        await self.database.connect()
        self.processes = [Domain(self.database, RedisClient(redis_url)) for _ in range(2)]
        async with AsyncExitStack() as stack:
            for process in self.processes:
                await stack.enter_async_context(process.playing(guarded=False))
            ready.set()
            await self._stop.wait()
        self.database.disconnect()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(what)

    def close(self) -> None:
        self._stop.set()

        async def ended() -> None:
            await self._host

        self.run(ended())
        self._runner.close()


@dataclass
class Family:
    """A session as the model knows it: when its last token expires, and when its earlier ones were spent."""

    user_id: UUID
    session_id: UUID
    expires_at: float
    tokens: list[str]
    access: tuple[str, float]  # the newest access token, and when it was given
    spent_at: dict[str, float] = field(default_factory=dict)
    lives: bool = True


async def answered(ask: Awaitable[T]) -> T | ErrorCode:
    """What an ask is answered, or the code of its refusal."""
    try:
        return await ask
    except Problem as problem:
        return problem.code


def readable(process: Domain, family: Family) -> ErrorCode | None:
    """What a process finds wrong with a family's newest access token, before it looks for its session."""
    try:
        process.signer.read(family.access[0])
    except Problem as problem:
        return problem.code
    return None


class Model(RuleBasedStateMachine):
    """One person's sessions."""

    world: World

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.families: list[Family] = []
        self.register()

    def register(self) -> None:
        self.is_active = True
        self.is_deleted = False
        self.password = PASSWORD
        self.person: Principal = self.world.run(self.world.processes[0].person())

    def told(self, what: Coroutine[Any, Any, T]) -> T | Problem:
        async def go() -> T | Problem:
            try:
                return await what
            except Problem as problem:
                return problem

        return self.world.run(go())

    def ask(self, ref: Ref[Any], message: Request[T]) -> T | Problem:
        async def go() -> T:
            return await ref.ask(message)

        return self.told(go())

    def family(self, which: int) -> Family:
        return self.families[which % len(self.families)]

    def unsure(self, age_s: float, limit_s: float) -> bool:
        return abs(age_s - limit_s) <= MARGIN_S

    # What happens ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.is_active or not self.families)
    @rule(where=WHERE, hashed=st.sampled_from((*(False,) * 7, True)))
    def log_in(self, where: int, *, hashed: bool) -> None:
        """Only now and then with the password: checking it is dear."""
        domain = self.world.processes[where]
        if hashed and not self.is_deleted:
            login = self.ask(domain.logins, LogIn(self.person.email, self.password, "a browser", None))
        else:
            login = self.told(self._open(domain))
        assert isinstance(login, LoginResult) == self.is_active
        if isinstance(login, LoginResult):
            session_id = domain.signer.read(login.access_token).session_id
            family = Family(
                self.person.user_id,
                session_id,
                self.now + SESSION_TTL_S,
                [login.refresh_token],
                (login.access_token, self.now),
            )
            self.families = [*self.families, family][-MOST:]

    async def _open(self, domain: Domain) -> LoginResult:
        """What a login does once the password has been checked."""
        query = "select password_changed_at from users where user_id = $1"
        changed_at: datetime = await domain.value(query, self.person.user_id)
        return await domain.sessions.ask(OpenSession(self.person.user_id, changed_at, "a browser", None))

    @precondition(lambda self: self.families)
    @rule(where=WHERE, which=WHICH, back=st.sampled_from((0, 0, 1, 1, 2)))
    def refresh(self, where: int, which: int, back: int) -> None:
        """With the newest token, or with one that was spent."""
        family = self.family(which)
        token = family.tokens[-1 - min(back, len(family.tokens) - 1)]
        spent_at = family.spent_at.get(token)
        if self.unsure(self.now, family.expires_at + GRACE_S):
            return
        if spent_at is not None and self.unsure(self.now - spent_at, REUSE_S):
            return
        answer = self.ask(self.world.processes[where].sessions, RefreshSession(token))
        good = family.lives and self.now < family.expires_at + GRACE_S
        if not good:
            assert isinstance(answer, Problem), "a token of an ended session was taken"
        elif spent_at is None:
            assert isinstance(answer, LoginResult)
            family.spent_at[token] = self.now
            family.tokens.append(answer.refresh_token)
            family.access = (answer.access_token, self.now)
            family.expires_at = self.now + SESSION_TTL_S
        elif self.now - spent_at < REUSE_S:
            assert isinstance(answer, LoginResult)
            assert answer.refresh_token == family.tokens[family.tokens.index(token) + 1]
        else:
            assert isinstance(answer, Problem), "a spent token was taken late"
            family.lives = False
        assert isinstance(answer, LoginResult) or answer.code is AUTH_REFRESH_INVALID

    @precondition(lambda self: self.families)
    @rule(where=WHERE, which=WHICH)
    def log_out(self, where: int, which: int) -> None:
        family = self.family(which)
        order = RevokeSession(family.user_id, family.session_id)
        self.ask(self.world.processes[where].sessions, order)
        family.lives = False

    @precondition(lambda self: self.is_active and len(self.families) > 1)
    @rule(where=WHERE, which=WHICH, way=st.sampled_from(("log out", "change", "reset", "deactivate", "delete")))
    def end_many(self, where: int, which: int, way: str) -> None:
        """One rule for these, or sessions would not live long enough for anything else to happen to them."""
        domain, kept = self.world.processes[where], None
        if way == "log out":
            self.ask(domain.sessions, EndSessions(self.person.user_id))
        elif way == "change":
            kept = self.family(which)
            self._change_password(domain, kept)
        elif way == "reset":
            self._reset_password(domain)
        elif way == "delete":
            assert self.ask(domain.users, DeleteUser(self.person.user_id)) is None
            self.is_active, self.is_deleted = False, True
        else:
            self.ask(domain.users, ChangeUser(self.person.user_id, is_active=False))
            self.is_active = False
        for family in self.families:
            family.lives = family.lives and family is kept

    @precondition(lambda self: self.is_deleted)
    @rule()
    def come_again(self) -> None:
        """As somebody new; what the deleted one had stays ended."""
        self.register()

    @precondition(lambda self: not self.is_active and not self.is_deleted)
    @rule(where=WHERE)
    def activate(self, where: int) -> None:
        self.ask(self.world.processes[where].users, ChangeUser(self.person.user_id, is_active=True))
        self.is_active = True

    def _change_password(self, domain: Domain, kept: Family) -> None:
        new = f"Quiet-{secrets.token_hex(4)}-Wings-7"
        order = ChangePassword(self.person.user_id, kept.session_id, self.password, new)
        assert self.ask(domain.password_reset, order) is None
        self.password = new

    def _reset_password(self, domain: Domain) -> None:
        new = f"Quiet-{secrets.token_hex(4)}-Wings-7"

        async def go() -> None:
            await domain.execute("delete from mail_tokens")
            await domain.answered("reset_password", self.person.email)
            await domain.password_reset.ask(ResetPassword(await domain.mail_token(self.person.user_id), new))

        assert self.told(go()) is None
        self.password = new

    @rule(seconds=st.sampled_from((*MOMENTS_S, *LIVES_S)))
    def pass_time(self, seconds: int) -> None:
        one, two = self.world.processes
        self.world.run(one.pass_time(seconds))
        two.passed_s = one.passed_s
        self.now += seconds

    @rule()
    def lose_redis(self) -> None:
        for process in self.world.processes:
            process.cache.mark_unavailable(ConnectionError())

    @precondition(lambda self: all(process.cache.unavailable.is_set() for process in self.world.processes))
    @rule(first=WHERE, which=WHICH, ends=st.booleans())
    def find_redis(self, first: int, which: int, *, ends: bool) -> None:
        """One process finds it before the other, which may end a session meanwhile."""
        assert self.world.run(self.world.processes[first].cache.probe())
        if ends and self.families:
            self.accepted_if_and_only_if_the_model_says_so()
            self.log_out(1 - first, which)
            self.accepted_if_and_only_if_the_model_says_so()
        assert self.world.run(self.world.processes[1 - first].cache.probe())

    # What must hold --------------------------------------------------------------------------------------------------

    @invariant()
    def accepted_if_and_only_if_the_model_says_so(self) -> None:
        async def look() -> list[tuple[Family, int, object, ErrorCode | None]]:
            seen = []
            for family in self.families:
                for number, process in enumerate(self.world.processes):
                    caller = Authentication(process.session_cache, process.sessions, family.user_id, family.session_id)
                    seen.append((family, number, await answered(caller), readable(process, family)))
            return seen

        for family, number, answer, read in self.world.run(look()):
            if not self.unsure(self.now, family.expires_at):
                good = family.lives and self.now < family.expires_at
                expected = isinstance(answer, Principal) if good else answer is AUTH_SESSION_ENDED
                assert expected, f"process {number} answers {answer} for {family} at {self.now}"
            age_s = self.now - family.access[1]
            if not self.unsure(age_s, ACCESS_TTL_S):
                assert (read is AUTH_TOKEN_EXPIRED) == (age_s > ACCESS_TTL_S), f"process {number} reads {read}"

    def teardown(self) -> None:
        """The next example finds Redis trusted again."""

        async def find() -> None:
            for process in self.world.processes:
                await process.cache.probe()
                process.passed_s += SETTLING_S

        self.world.run(find())


@pytest.fixture
def world(up: Up) -> Iterator[World]:
    """On a database and a Redis of its own."""
    name = f"model_{secrets.token_hex(4)}"
    url = up.facts["DATABASE_URL"].rpartition("/")[0] + f"/{name}"

    async def make() -> None:
        connection = await asyncpg.connect(up.facts["DATABASE_URL"])
        try:
            await connection.execute(f"create database {name}")
        finally:
            await connection.close()
        await schema.install(url)

    asyncio.run(make())
    world = World(url, up.facts["REDIS_URL"].rpartition("/")[0] + "/9")
    try:
        yield world
    finally:
        world.close()


@pytest.mark.timeout(120)
def test_a_token_is_accepted_if_and_only_if_the_model_says_so(world: World) -> None:
    Model.world = world
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=examples(25), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
