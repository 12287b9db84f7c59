"""A session of one's own, for a lease and for LISTEN, ends with a refusal whatever befalls it."""

import pytest
from kit.domain import refused

from callboard.actors.errors import SERVER_UNAVAILABLE
from callboard.actors.infrastructure.database import Database
from callboard.ops.embedded.postgres import Postgres

SLOW = "select pg_sleep(1)"  # longer than its session lets a statement run


async def test_whatever_ends_a_session_of_ones_own_is_the_cause_of_a_refusal(postgres: Postgres) -> None:
    database = Database(postgres.url)
    for statement, cause, why in (
        (SLOW, "QueryCanceledError", "the statement took too long"),
        ("select pg_terminate_backend(pg_backend_pid())", "", "the connection is lost"),
    ):
        with refused(SERVER_UNAVAILABLE) as caught:
            async with database.session("tests", timeout_s=5, statement_timeout_s=0.05) as connection:
                await connection.execute(statement)
        assert cause in type(caught.value.__cause__).__name__
        assert why in str(caught.value)
        assert connection.is_closed()
    with refused(SERVER_UNAVAILABLE) as caught:
        async with Database("postgresql://127.0.0.1:1/none").session("tests", timeout_s=5, statement_timeout_s=1):
            pytest.fail("there is no server")
    assert isinstance(caught.value.__cause__, OSError)
