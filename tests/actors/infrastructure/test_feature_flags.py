"""Feature flags: in force at once where they are set, soon elsewhere, and as they were while PostgreSQL is away."""

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from kit.domain import Domain, refused

from callboard.actors.errors import SERVER_UNAVAILABLE
from callboard.actors.identity.errors import USERS_NOT_FOUND
from callboard.actors.infrastructure import feature_flags as module
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.errors import FLAGS_FULL, FLAGS_NOT_FOUND
from callboard.actors.infrastructure.feature_flags import (
    FlagKeeper,
    FlagName,
    FlagSnapshot,
    GetFlag,
    ReadFlags,
    SetFlag,
)
from callboard.actors.infrastructure.postgres_errors import NO_ANSWER
from callboard.runtime import Props, System, supervisor, worker

INTERVAL_S = module.INTERVAL_S  # as it is outside of these tests
UI, MAINTENANCE = FlagName.NEW_UI, FlagName.MAINTENANCE


class Watched(FlagSnapshot):
    """Says when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.held = asyncio.Event()

    def replace(self, on: Mapping[str, bool], overrides: Mapping[tuple[str, UUID], bool]) -> None:
        super().replace(on, overrides)
        self.held.set()


@asynccontextmanager
async def process(database: Database) -> Any:
    """The flags of a process that looks at PostgreSQL when it is told to, and otherwise each hour."""
    flags = Watched()
    keeper = worker("flags", Props(FlagKeeper, database, flags))
    async with System(supervisor("root", keeper)):
        async with asyncio.timeout(5):
            await flags.held.wait()
        yield keeper, flags


@pytest.fixture(autouse=True)
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 3600.0)


async def looked(keeper: Any) -> None:
    """Have it look, and wait until it has."""
    await keeper.tell(ReadFlags())
    await keeper.ask(GetFlag(UI))


async def test_every_flag_that_is_declared_is_known_and_off_but_the_strict_limits(database: Database) -> None:
    async with process(database) as (keeper, flags):
        for name in FlagName:
            assert flags.is_enabled(name) == (name is FlagName.STRICT_LIMITS)
            assert (await keeper.ask(GetFlag(name))).is_on == flags.is_enabled(name)
        with refused(FLAGS_NOT_FOUND):
            await keeper.ask(GetFlag("polls.anonymous"))
        with pytest.raises(KeyError):
            flags.is_enabled("polls.anonymous")


@pytest.mark.parametrize("name", ["", "Maintenance", "a b", "x" * 101, "maintenance_mode\n"])
async def test_the_database_takes_no_flag_whose_name_is_none(database: Database, name: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        async with database.acquire() as connection:
            await connection.execute("insert into feature_flags (name) values ($1)", name)


async def test_a_flag_is_in_force_with_the_answer_and_elsewhere_at_the_next_look(database: Database) -> None:
    async with process(database) as (keeper, flags), process(database) as (other, elsewhere):
        answer = await keeper.ask(SetFlag(MAINTENANCE, is_on=True))
        assert (answer.is_on, flags.is_enabled(MAINTENANCE), flags.is_enabled(UI)) == (True, True, False)
        assert not elsewhere.is_enabled(MAINTENANCE)
        await looked(other)
        assert elsewhere.is_enabled(MAINTENANCE)
        assert (await other.ask(GetFlag(MAINTENANCE))).is_on
        await other.ask(SetFlag(MAINTENANCE, is_on=False))
        await looked(keeper)
        assert not flags.is_enabled(MAINTENANCE)


async def test_a_process_looks_by_itself(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with process(database) as (keeper, _):
        monkeypatch.setattr(module, "INTERVAL_S", 0.01)
        async with process(database) as (_, elsewhere):
            elsewhere.held.clear()
            await keeper.ask(SetFlag(UI, is_on=True))
            async with asyncio.timeout(5):
                await elsewhere.held.wait()
            assert elsewhere.is_enabled(UI)
    assert INTERVAL_S <= 1.0


async def test_a_user_may_have_a_flag_otherwise_than_all_others(domain: Domain) -> None:
    user, someone = (await domain.person()).user_id, uuid4()
    async with process(domain.database) as (keeper, flags), process(domain.database) as (other, elsewhere):
        answer = await keeper.ask(SetFlag(UI, is_on=True, user_id=user))
        assert (answer.is_on, answer.override, answer.overrides) == (False, True, 1)
        await looked(other)
        for each in (flags, elsewhere):
            assert (each.is_enabled(UI), each.is_enabled(UI, user), each.is_enabled(UI, someone)) == (
                False,
                True,
                False,
            )
            assert not each.is_enabled(MAINTENANCE, user)
        await keeper.ask(SetFlag(UI, is_on=True))
        await keeper.ask(SetFlag(UI, is_on=False, user_id=user))
        assert (flags.is_enabled(UI), flags.is_enabled(UI, user), flags.is_enabled(UI, someone)) == (True, False, True)
        answer = await keeper.ask(SetFlag(UI, is_on=None, user_id=user))
        assert (answer.is_on, answer.override, answer.overrides) == (True, None, 0)
        assert flags.is_enabled(UI, user)
        await looked(other)
        assert elsewhere.is_enabled(UI, user)


async def test_what_is_not_there_is_said(database: Database) -> None:
    async with process(database) as (keeper, flags):
        with refused(FLAGS_NOT_FOUND):
            await keeper.ask(GetFlag("enable_everything"))
        with refused(FLAGS_NOT_FOUND):
            await keeper.ask(SetFlag("enable_everything", is_on=True))
        with refused(USERS_NOT_FOUND):
            await keeper.ask(SetFlag(UI, is_on=True, user_id=uuid4()))
        assert not flags.is_enabled(UI)


async def test_a_deleted_user_has_no_flag_of_their_own(domain: Domain) -> None:
    person = await domain.person()
    await domain.execute("update users set deleted_at = now()")
    async with process(domain.database) as (keeper, _flags):
        with refused(USERS_NOT_FOUND):
            await keeper.ask(SetFlag(UI, is_on=True, user_id=person.user_id))
        assert (await keeper.ask(SetFlag(UI, None, person.user_id))).overrides == 0


async def test_overrides_are_bounded(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OVERRIDES", 2)
    users = [(await domain.person()).user_id for _ in range(3)]
    async with process(domain.database) as (keeper, _):
        for user in users[:2]:
            await keeper.ask(SetFlag(UI, is_on=True, user_id=user))
        with refused(FLAGS_FULL):
            await keeper.ask(SetFlag(UI, is_on=True, user_id=users[2]))
        await keeper.ask(SetFlag(UI, is_on=False, user_id=users[0]))
        await keeper.ask(SetFlag(UI, is_on=None, user_id=users[0]))
        assert (await keeper.ask(SetFlag(UI, is_on=True, user_id=users[2]))).overrides == 2


async def test_without_postgresql_the_last_known_goes_on_to_hold(database: Database) -> None:
    own = Database(database.url)
    await own.connect()
    async with process(own) as (keeper, flags):
        await keeper.ask(SetFlag(UI, is_on=True))
        own.server.mark_unavailable(NO_ANSWER, TimeoutError())
        await keeper.tell(ReadFlags())
        with refused(SERVER_UNAVAILABLE):
            await keeper.ask(SetFlag(UI, is_on=False))
        assert flags.is_enabled(UI)
        assert keeper.tally().failed == 0  # it is not worth a word each second: the guard says that PostgreSQL is away
    own.disconnect()
