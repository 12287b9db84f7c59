"""Sessions: who a token speaks for, in one process and in several, with Redis and without; and how sessions end."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from kit.domain import Domain, log_in, refused, whoami

from callboard.actors.identity import session_cache, sessions
from callboard.actors.identity.errors import AUTH_SESSION_ENDED
from callboard.actors.identity.session_cache import Authenticate, Authentication
from callboard.actors.identity.sessions import (
    MAX_SESSIONS,
    EndSessions,
    InvalidateUser,
    ListSessions,
    LoginResult,
    RecordUses,
    RevokeSession,
    Sessions,
)
from callboard.actors.identity.user_generations import MAX_AGE_S, MAX_PENDING, SETTLING_S, UserGenerations
from callboard.actors.identity.users import ChangeUser
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.redis import RedisClient
from callboard.ops.embedded.data_directory import DataDirectory, free_ports
from callboard.ops.embedded.valkey import Valkey

BEHIND_OUR_BACK = "update sessions set ended_at = now()"  # nobody is told


async def test_a_new_role_is_in_force_at_the_next_request(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    assert (await whoami(domain, login)).role is Role.MEMBER
    await domain.users.ask(ChangeUser(user.user_id, role=Role.EDITOR))
    assert (await whoami(domain, login)).role is Role.EDITOR


async def test_a_deactivated_account_is_out_at_the_next_request_and_has_to_log_in_again(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await whoami(domain, login)
    await domain.users.ask(ChangeUser(user.user_id, is_active=False))
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)
    await domain.users.ask(ChangeUser(user.user_id, is_active=True))
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)
    await whoami(domain, await log_in(domain))


@pytest.mark.parametrize(
    "end",
    [
        "update sessions set ended_at = now()",
        "update sessions set expires_at = now()",
        "delete from sessions",
        "update users set deleted_at = now()",
    ],
)
async def test_an_ended_session_speaks_for_nobody(domain: Domain, end: str) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await domain.execute(end)
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)


async def test_a_session_speaks_only_for_its_own_user(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    other = await domain.person()
    session_id = (await whoami(domain, await log_in(domain))).session_id
    for user_id, session in ((other.user_id, session_id), (uuid4(), session_id), (other.user_id, uuid4())):
        with refused(AUTH_SESSION_ENDED):
            await Authentication(domain.session_cache, domain.sessions, user_id, session)


# What is remembered --------------------------------------------------------------------------------------------------


async def test_a_session_is_remembered_until_it_is_told_or_half_a_minute_has_gone(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await whoami(domain, login)
    await domain.execute(BEHIND_OUR_BACK)
    await whoami(domain, login)  # this is what makes the memory one
    domain.passed_s += MAX_AGE_S - 1
    await whoami(domain, login)
    domain.passed_s += 1
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)
    login = await log_in(domain)
    await whoami(domain, login)
    await domain.execute(BEHIND_OUR_BACK)
    await domain.sessions.ask(InvalidateUser(user.user_id))
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)


async def test_a_session_is_not_remembered_past_its_end(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await domain.execute("update sessions set expires_at = now() + interval '10 seconds'")
    await whoami(domain, login)
    await domain.pass_time(10)
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)


@pytest.mark.parametrize("way", ["the session", "all sessions", "the account"])
@pytest.mark.parametrize("ended_here", [True, False])
async def test_what_ends_in_one_process_is_refused_by_every_process_from_the_next_request_on(
    domain: Domain, other: Domain, way: str, *, ended_here: bool
) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    session_id = (await whoami(domain, login)).session_id
    await whoami(other, login)
    ends = domain if ended_here else other
    if way == "the session":
        assert await ends.sessions.ask(RevokeSession(user.user_id, session_id))
    elif way == "all sessions":
        await ends.sessions.ask(EndSessions(user.user_id))
    else:
        await ends.users.ask(ChangeUser(user.user_id, is_active=False))
    for process in (domain, other):
        with refused(AUTH_SESSION_ENDED):
            await whoami(process, login)


async def test_what_was_read_before_the_end_is_not_remembered_after_it(
    domain: Domain, other: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    session_id = domain.signer.read(login.access_token).session_id
    read = sessions.QUERIES.living_session

    async def read_and_be_slow(*args: Any, **given: Any) -> Any:
        monkeypatch.setattr(sessions.QUERIES, "living_session", read)
        row = await read(*args, **given)
        await other.sessions.ask(RevokeSession(user.user_id, session_id))
        return row

    monkeypatch.setattr(sessions.QUERIES, "living_session", read_and_be_slow)
    await whoami(domain, login)  # asked before the end, so this may be a yes
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)


async def test_memory_is_bounded(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_cache, "MAX_CACHED", 3)
    manager = Sessions(domain.database, domain.session_cache, domain.signer, domain.now)
    user = await domain.person(email="ada@example.org")
    for login in [await log_in(domain) for _ in range(5)]:
        session_id = domain.signer.read(login.access_token).session_id
        await manager.authenticate(Authenticate(user.user_id, session_id))
    memory = domain.session_cache
    assert len(memory._known) == len(memory.used) == 3
    assert session_id in memory._known


# Without Redis -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def processes(database: Database, url: str) -> AsyncIterator[tuple[Domain, Domain]]:
    """Two that find Redis again when the test says so."""
    one, two = Domain(database, RedisClient(url)), Domain(database, RedisClient(url))
    async with one.playing(guarded=False), two.playing(guarded=False):
        yield one, two


async def mark_unavailable(domain: Domain) -> None:
    """The process finds Redis away."""
    domain.cache.mark_unavailable(ConnectionError())


async def test_without_redis_the_end_of_a_session_is_in_force_at_once_and_so_after_its_return(
    database: Database, data: DataDirectory
) -> None:
    server = Valkey(data, free_ports(1)[0])
    await server.start()
    async with processes(database, server.url) as (one, two):
        user = await one.person(email="ada@example.org")
        logins = [await log_in(one) for _ in range(3)]
        for login in logins:
            await whoami(one, login)
            await whoami(two, login)
        await server._server.stop(signal.SIGKILL, 5)
        await end(one, user.user_id, logins[0])
        for process in (one, two):
            with refused(AUTH_SESSION_ENDED):
                await whoami(process, logins[0])
            await whoami(process, logins[1])
        await end(two, user.user_id, logins[1])
        await server.start()
        for process in (one, two):
            assert await process.cache.probe()
        for process in (one, two):
            for login in logins[:2]:
                with refused(AUTH_SESSION_ENDED):
                    await whoami(process, login)
            await whoami(process, logins[2])
    await server.stop()


async def end(domain: Domain, user_id: Any, login: LoginResult) -> None:
    await domain.sessions.ask(RevokeSession(user_id, domain.signer.read(login.access_token).session_id))


async def test_who_alone_has_lost_redis_owes_the_end_and_tells_it_before_anything_else(
    database: Database, cache: RedisClient, valkey: Valkey
) -> None:
    await cache.close()
    async with processes(database, valkey.url) as (one, two):
        user = await one.person(email="ada@example.org")
        login = await log_in(one)
        for _ in range(2):  # the first makes its connection, and remembers nothing yet
            await whoami(two, login)
        await mark_unavailable(one)
        await end(one, user.user_id, login)
        with refused(AUTH_SESSION_ENDED):
            await whoami(one, login)
        await whoami(two, login)  # it cannot know: this is what the half minute is for
        assert await one.cache.probe()
        with refused(AUTH_SESSION_ENDED):
            await whoami(two, login)


async def test_what_was_remembered_before_redis_was_away_is_forgotten(
    database: Database, cache: RedisClient, valkey: Valkey
) -> None:
    await cache.close()
    async with processes(database, valkey.url) as (one, _):
        await one.person(email="ada@example.org")
        login = await log_in(one)
        await whoami(one, login)
        await mark_unavailable(one)
        await one.cache.probe()
        one.passed_s += SETTLING_S  # and so long after it nothing is remembered either
        await one.execute(BEHIND_OUR_BACK)
        with refused(AUTH_SESSION_ENDED):
            await whoami(one, login)


async def test_for_a_moment_after_its_return_redis_is_not_trusted(
    database: Database, cache: RedisClient, valkey: Valkey
) -> None:
    """The other process comes back later, and still owes what ended meanwhile."""
    await cache.close()
    async with processes(database, valkey.url) as (one, two):
        user = await one.person(email="ada@example.org")
        login = await log_in(one)
        await mark_unavailable(one)
        await mark_unavailable(two)
        await two.cache.probe()
        await whoami(two, login)
        await end(one, user.user_id, login)
        with refused(AUTH_SESSION_ENDED):
            await whoami(two, login)


async def test_a_redis_that_comes_back_with_epochs_of_yesterday_revives_nothing(domain: Domain, other: Domain) -> None:
    """Nobody asked it while it was away: that another server answers shows by the new connection alone."""
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await whoami(domain, login)
    key = f"production:{{callboard}}:user:{user.user_id}:epoch"
    yesterday = await other.cache.send("GET", key)
    await domain.execute(BEHIND_OUR_BACK)
    await other.generations.bump(user.user_id)
    await other.cache.send("SET", key, yesterday)
    await domain.cache._line.disconnect()
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)
    assert not domain.cache.unavailable.is_set()


async def test_an_epoch_that_redis_has_lost_is_begun_anew(domain: Domain, other: Domain, cache: RedisClient) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await whoami(domain, login)
    await cache.send("FLUSHDB")
    await domain.execute(BEHIND_OUR_BACK)
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)
    seen = [await process.generations.read(user.user_id) for process in (domain, other) * 2]
    assert len({(generation or b"").split()[-1] for generation in seen[2:]}) == 1


async def test_what_is_owed_is_bounded_and_old_debts_need_no_telling(cache: RedisClient) -> None:
    now = [0.0]
    generations = UserGenerations(cache, lambda: now[0])
    cache.unavailable.set()
    users = [uuid4() for _ in range(MAX_PENDING + 5)]
    for user_id in users:
        await generations.bump(user_id)
    assert len(generations._pending) == MAX_PENDING
    assert users[-1] in generations._pending
    now[0] = MAX_AGE_S
    await generations.bump(users[0])
    assert await cache.probe()
    assert not generations._pending
    assert len(await cache.send("KEYS", "*:epoch")) == 1
    await cache.close()


# One's sessions ------------------------------------------------------------------------------------------------------


async def test_ones_living_sessions_are_listed_the_last_used_first(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    await domain.person(email="grace@example.org")
    await log_in(domain, "grace@example.org")
    logins = [await log_in(domain) for _ in range(4)]
    ids = [domain.signer.read(login.access_token).session_id for login in logins]
    await domain.sessions.ask(RevokeSession(user.user_id, ids[0]))
    await domain.rows("update sessions set expires_at = now() where session_id = $1", ids[1])
    await domain.rows("update sessions set used_at = now() + interval '1 second' where session_id = $1", ids[2])
    listed = await domain.sessions.ask(ListSessions(user.user_id))
    assert [each.session_id for each in listed] == [ids[2], ids[3]]
    assert (listed[0].device, listed[0].ip) == ("a browser", "127.0.0.1")


async def test_only_ones_own_living_session_can_be_ended_and_only_once(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    stranger = await domain.person()
    login = await log_in(domain)
    session_id = (await whoami(domain, login)).session_id
    assert not await domain.sessions.ask(RevokeSession(stranger.user_id, session_id))
    assert not await domain.sessions.ask(RevokeSession(user.user_id, uuid4()))
    await whoami(domain, login)
    assert await domain.sessions.ask(RevokeSession(user.user_id, session_id))
    assert not await domain.sessions.ask(RevokeSession(user.user_id, session_id))


async def test_a_session_too_many_ends_the_one_that_was_not_used_for_longest(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    oldest = await log_in(domain)
    await whoami(domain, oldest)
    await domain.execute("update sessions set used_at = now() - interval '1 hour'")
    await domain.rows(
        "insert into sessions (user_id, expires_at) select $1, now() + interval '1 day' from generate_series(2, $2)",
        user.user_id,
        MAX_SESSIONS,
    )
    await whoami(domain, oldest)
    newest = await log_in(domain)
    assert await domain.value("select count(*) from sessions where ended_at is null") == MAX_SESSIONS
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, oldest)
    await whoami(domain, newest)


async def test_uses_are_noted_together_and_once_a_minute_at_most(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    manager = Sessions(domain.database, domain.session_cache, domain.signer, domain.now)
    used, idle = [domain.signer.read((await log_in(domain)).access_token).session_id for _ in range(2)]

    async def note() -> dict[Any, Any]:
        await manager.record_uses(RecordUses())
        return {row["session_id"]: row["used_at"] for row in await domain.rows("select * from sessions")}

    async def use_and_note() -> dict[Any, Any]:
        await manager.authenticate(Authenticate(user.user_id, used))
        return await note()

    before = await use_and_note()
    await domain.pass_time(61)
    older = await note()
    assert older == {key: value for key, value in older.items() if value < before[key]}  # nothing was used, nor noted
    later = await use_and_note()
    assert later[used] > before[used]
    assert later[idle] == older[idle]
    assert await use_and_note() == later


async def test_noting_uses_does_not_wait_for_who_holds_a_session(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    manager = Sessions(domain.database, domain.session_cache, domain.signer, domain.now)
    session_id = domain.signer.read((await log_in(domain)).access_token).session_id
    await domain.pass_time(61)
    await manager.authenticate(Authenticate(user.user_id, session_id))
    async with domain.database.transaction() as connection:
        await connection.execute("select 1 from sessions for update")
        async with asyncio.timeout(1):
            await manager.record_uses(RecordUses())
